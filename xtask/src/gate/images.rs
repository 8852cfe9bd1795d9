//! The step `images`: what `cargo xtask dist` makes for containers, built and run by a real engine.
//!
//! As in the step `packages`, the programs are those that tests use: what is tried is the way into an
//! image, and the life in a container.

use std::fs;

use anyhow::Context as _;

use super::steps::{self, succeed};
use crate::cargo::target_folder;
use crate::{dist, packages};

pub(super) fn run() -> anyhow::Result<()> {
    let unshare = steps::containers()?;
    for packages in [packages::DIST, packages::IMAGES] {
        steps::ensure(packages)?;
    }
    let suite = steps::built_suite()?;
    // The commands of the document are run in this folder, where `target/dist` is what they mean.
    let folder = target_folder().join("images");
    if folder.exists() {
        fs::remove_dir_all(&folder).context("cannot remove the last images")?;
    }
    dist::contexts_for_tests(&folder.join("target/dist"))?;
    let mut suite = super::namespaces::within(unshare, &suite);
    suite.env("FLEETD_TEST_IMAGES", folder);
    succeed(suite.args(["--ignored", "images::"]))
}
