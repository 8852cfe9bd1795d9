//! The step `packages`: what `cargo xtask dist` packs, looked at with Debian's own tools, and then
//! installed, upgraded and purged on machines with a system of their own.
//!
//! The programs are those that tests use, which are there already: what is tried is how they are
//! packed and how they live under systemd, not how they were built.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail, ensure};

use super::NotRun;
use super::steps::{self, succeed};
use crate::cargo::target_folder;
use crate::{dist, packages};

/// Packages that a small system of Debian has besides those without which there is none.
const INCLUDED: &str = "curl,dbus,systemd-sysv";
/// What the machine itself is like.
const RELEASE: &str = "/etc/os-release";

pub(super) fn run() -> anyhow::Result<()> {
    let unshare = steps::containers()?;
    for packages in [packages::DIST, packages::PACKAGES] {
        steps::ensure(packages)?;
    }
    let system = system()?;
    let suite = steps::built_suite()?;

    let version = env!("CARGO_PKG_VERSION");
    let folder = target_folder().join("packages");
    if folder.exists() {
        fs::remove_dir_all(&folder).context("cannot remove the last packages")?;
    }
    dist::pack_for_tests(&format!("{version}~before"), &folder.join("old"))?;
    dist::pack_for_tests(version, &folder.join("new"))?;
    look_at(&folder.join("new"))?;

    let mut suite = super::namespaces::within(unshare, &suite);
    suite.env("FLEETD_TEST_SYSTEM", system).env("FLEETD_TEST_PACKAGES", folder);
    // They wait for machines more than they work.
    succeed(suite.args(["--ignored", "packages::", "--test-threads", "3"]))
}

/// The folder of a small system of this machine's release of Debian, whose libraries our programs
/// are linked to. It is made once, and kept among what was built.
fn system() -> anyhow::Result<PathBuf> {
    let release = fs::read_to_string(RELEASE).unwrap_or_default();
    let said = |name: &str| {
        let value = release.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        value.unwrap_or_default().trim_matches('"').to_owned()
    };
    if said("ID") != "debian" {
        return Err(NotRun("Debian's packages are tried on Debian only".into()).into());
    }
    let suite = said("VERSION_CODENAME");
    // Another list is another system. A comma in a path would end an option of a mount.
    let name = format!("{suite}-{}", INCLUDED.replace(',', "-"));
    let folder = target_folder().join("systems").join(name);
    if folder.exists() {
        return Ok(folder);
    }
    let draft = folder.with_extension("part");
    if draft.exists() {
        fs::remove_dir_all(&draft).context("cannot remove half a system")?;
    }
    fs::create_dir_all(&draft)?;
    let mut make = Command::new("debootstrap");
    make.args(["--variant=minbase", &format!("--include={INCLUDED}"), &suite]).arg(&draft);
    let log = fs::File::create(folder.with_extension("log"))?;
    let made = make.stdout(log.try_clone()?).stderr(log).stdin(Stdio::null()).status();
    if !made.context("cannot run debootstrap")?.success() {
        let log = fs::read_to_string(folder.with_extension("log"))?;
        let why = log.lines().last().unwrap_or_default();
        return Err(NotRun(format!("debootstrap makes no system: {why}")).into());
    }
    fs::rename(&draft, &folder)?;
    Ok(folder)
}

/// Looks at packages, and at what is in them.
fn look_at(packages: &Path) -> anyhow::Result<()> {
    let debs = files(packages)?;
    let mut lintian = Command::new("lintian");
    lintian.args(["--allow-root", "--fail-on", "error,warning", "--tag-display-limit", "0"]);
    succeed(lintian.args(&debs))?;
    let unpacked = tempfile::tempdir()?;
    for deb in &debs {
        succeed(Command::new("dpkg-deb").arg("--extract").arg(deb).arg(unpacked.path()))?;
    }
    let below = |folder: &str| files(&unpacked.path().join(folder));
    for page in below("usr/share/man/man1")? {
        let mut man = Command::new("man");
        man.args(["--warnings", "--encoding=UTF-8", "--local-file", "-Tutf8", "--ditroff"]);
        man.arg(&page).env("LC_ALL", "C.UTF-8").env("MANROFFSEQ", "").env("MANWIDTH", "80");
        says_nothing(&mut man, &page)?;
    }
    for (shell, folder) in [
        ("bash", "usr/share/bash-completion/completions"),
        ("zsh", "usr/share/zsh/vendor-completions"),
        ("fish", "usr/share/fish/vendor_completions.d"),
    ] {
        for completion in below(folder)? {
            says_nothing(Command::new(shell).arg("-n").arg(&completion), &completion)?;
        }
    }
    Ok(())
}

/// Runs what complains on stderr, about a file.
fn says_nothing(command: &mut Command, file: &Path) -> anyhow::Result<()> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.stdin(Stdio::null()).output();
    let output = output.with_context(|| format!("cannot run {program}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() || !said.trim().is_empty() {
        bail!("{}: {}", file.display(), said.trim());
    }
    Ok(())
}

/// The files of a folder, of which there are some.
fn files(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let read = fs::read_dir(folder).with_context(|| folder.display().to_string())?;
    let mut files: Vec<PathBuf> =
        read.map(|entry| Ok(entry?.path())).collect::<anyhow::Result<_>>()?;
    ensure!(!files.is_empty(), "there is nothing in {}", folder.display());
    files.sort();
    Ok(files)
}
