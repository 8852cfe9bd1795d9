//! The workspace, and cargo run in it.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};

/// The folder of the workspace.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies in the workspace")
}

/// What cargo tells a program that it runs about that program's own package. A build script that
/// looks at it would find it changed, and all that depends on that would be built anew.
const OWN_PACKAGE: [&str; 2] = ["CARGO_MANIFEST_", "CARGO_PKG_"];

/// The same cargo that runs this program.
pub fn cargo() -> Command {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
    let mut command = Command::new(cargo);
    command.current_dir(root());
    for (name, _) in std::env::vars_os() {
        let name_bytes = name.as_encoded_bytes();
        if OWN_PACKAGE.iter().any(|prefix| name_bytes.starts_with(prefix.as_bytes())) {
            command.env_remove(name);
        }
    }
    command
}

/// FleetD's programs, built.
#[derive(Clone, Debug)]
pub struct Programs {
    /// The server and the operator's command line.
    pub fleets: PathBuf,
    /// The agent.
    pub fleetd: PathBuf,
    /// The operator's console.
    pub console: PathBuf,
}

impl Programs {
    /// The programs as cargo leaves them for a profile (`dev`, `release`, `agent`).
    pub fn of(profile: &str) -> Self {
        let folder = target_folder().join(if profile == "dev" { "debug" } else { profile });
        Self {
            fleets: folder.join("fleets"),
            fleetd: folder.join("fleetd"),
            console: folder.join("fleet-tui"),
        }
    }

    /// Builds the programs for looking at: with the whole workspace, as `cargo build` and the gate
    /// do, so that what one of them built serves the others. cargo reports on stderr.
    pub fn build_dev() -> anyhow::Result<Self> {
        succeed(cargo().args(["build", "--workspace", "--all-features", "--bins"]))?;
        Ok(Self::of("dev"))
    }
}

/// Builds the binaries of some packages with a profile.
pub fn build(packages: &[&str], profile: &str) -> anyhow::Result<()> {
    let mut command = cargo();
    command.args(["build", "--bins", "--profile", profile]);
    for package in packages {
        command.args(["--package", package]);
    }
    succeed(&mut command)
}

/// Builds an example of a package as a release is built, and says where it lies.
pub fn build_example(package: &str, example: &str) -> anyhow::Result<PathBuf> {
    succeed(cargo().args(["build", "--release", "--package", package, "--example", example]))?;
    Ok(target_folder().join("release/examples").join(example))
}

fn succeed(command: &mut Command) -> anyhow::Result<()> {
    let status = command.status().context("cannot run cargo")?;
    if !status.success() {
        bail!("cargo build failed ({status})");
    }
    Ok(())
}

/// Where cargo puts what it builds: this program lies in `<target>/<profile>/`.
pub fn target_folder() -> PathBuf {
    let set = std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    root().join(set.unwrap_or_else(|| PathBuf::from("target")))
}
