//! The files below `/usr` of a package, for machines without dpkg, and the checksums of all files.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, ensure};

use super::moment::Moment;
use super::sets::Set;
use super::tree::Tree;
use super::{Plan, succeed};

/// The file of checksums, as `sha256sum --check` reads it.
const SUMS: &str = "SHA256SUMS";

/// Where units are in a tree, and what they name their programs there and here.
const UNITS: &str = "usr/lib/systemd/system";
const PACKAGED: &str = "/usr/bin/";
const UNPACKED: &str = "/usr/local/bin/";

/// Packs a tree, last of all; what is in the tarball goes below `/usr/local`.
pub(super) fn pack(
    set: &Set,
    tree: &Tree,
    plan: &Plan<'_>,
    moment: &Moment,
    folder: &Path,
) -> anyhow::Result<PathBuf> {
    for (_, place) in set.files.iter().filter(|(_, place)| place.starts_with(UNITS)) {
        let text = std::fs::read_to_string(tree.path().join(place))?;
        tree.text(place, &text.replace(PACKAGED, UNPACKED))?;
    }
    let name = format!("{}-{}-{}", set.package, plan.version, plan.target);
    let file = folder.join(format!("{name}.tar.gz"));
    let mut tar = Command::new("tar");
    tar.args(["--create", "--sort=name", "--owner=0", "--group=0", "--numeric-owner"]);
    tar.args(["--format=gnu", "--use-compress-program=gzip -9 --no-name"]);
    tar.arg(format!("--mtime=@{}", moment.epoch)).arg(format!("--transform=s,^usr,{name},"));
    tar.arg("--file").arg(&file).arg("--directory").arg(tree.path()).arg("usr");
    succeed(&mut tar)?;
    Ok(file)
}

/// Writes the checksums of files of a folder.
pub(super) fn sums(files: &[PathBuf], folder: &Path) -> anyhow::Result<PathBuf> {
    let mut sums = Command::new("sha256sum");
    sums.current_dir(folder).args(files.iter().filter_map(|file| file.file_name()));
    let text = super::output(&mut sums)?;
    ensure!(text.lines().count() == files.len(), "sha256sum left files out");
    let file = folder.join(SUMS);
    std::fs::write(&file, text).context("cannot write the checksums")?;
    Ok(file)
}
