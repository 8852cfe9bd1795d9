//! `cargo xtask dist`: what a release consists of, in `target/dist/`. Packages for Debian, and for
//! all others the same files as tarballs, with their checksums; and what container images are made of.
//!
//! A package is a tree of files that is laid out here, and that `dpkg-deb` packs. That needs nothing
//! but Debian's own tools and takes seconds, so packages for tests come about in the same way, of
//! programs that were built faster ([`pack`]).

mod deb;
mod image;
mod manual;
mod moment;
mod sets;
mod tarball;
mod tree;

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context as _, bail, ensure};

use crate::cargo::{Programs, cargo, root, target_folder};
use crate::packages;

use manual::Manual;
use moment::Moment;
use sets::{SETS, Set};
use tree::Tree;

/// Flags of `cargo xtask dist`.
#[derive(clap::Args)]
pub struct Args {
    /// The kind of machine to build for, by rustc's name for it; this one's unless given
    #[arg(long, value_name = "TRIPLE")]
    target: Option<String>,
    /// The version of packages and tarballs; that of the programs unless given
    #[arg(long)]
    version: Option<String>,
}

/// What to pack.
pub struct Plan<'a> {
    /// The programs, built.
    pub programs: &'a Programs,
    /// The kind of machine that they are for, by rustc's name for it.
    pub target: &'a str,
    /// As which version.
    pub version: &'a str,
    /// Whether it is for others: as small as can be, and as tarballs too.
    pub is_release: bool,
}

/// Writes the document of all settings into the repository; the same is a test's to compare.
pub fn write_settings() -> anyhow::Result<ExitCode> {
    let path = root().join("docs/configuration.md");
    let text = Manual::write()?.settings()?;
    fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(ExitCode::SUCCESS)
}

/// Builds a release.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    packages::ensure(packages::DIST)?;
    let moment = Moment::of_the_source()?;
    let version = args.version.as_deref().unwrap_or(env!("CARGO_PKG_VERSION"));
    check(version)?;
    let programs = build(args.target.as_deref(), &moment)?;
    let target = args.target.clone().map_or_else(host, Ok)?;
    let folder = target_folder().join("dist");
    if folder.exists() {
        fs::remove_dir_all(&folder).context("cannot remove what was built before")?;
    }
    let plan = Plan { programs: &programs, target: &target, version, is_release: true };
    let files = pack(&plan, &moment, &folder, |_| true)?;
    let sums = tarball::sums(&files, &folder)?;
    let mut made = [files.clone(), vec![sums]].concat();
    if target == host()? {
        made.extend(image::contexts(&plan, &moment, &files, &folder.join("docker"))?);
    } else {
        writeln!(io::stderr(), "no images: the libraries of {target} are not on this machine")?;
    }
    let mut out = io::stdout().lock();
    for file in made {
        writeln!(out, "{}", file.display())?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Packages of the programs that tests use, as any version.
pub fn pack_for_tests(version: &str, folder: &Path) -> anyhow::Result<()> {
    let (programs, target) = (Programs::of("dev"), host()?);
    let plan = Plan { programs: &programs, target: &target, version, is_release: false };
    pack(&plan, &Moment::of_the_source()?, folder, |_| true).map(drop)
}

/// What images are made of, with the programs that tests use.
pub fn contexts_for_tests(folder: &Path) -> anyhow::Result<()> {
    let (programs, target, moment) = (Programs::of("dev"), host()?, Moment::of_the_source()?);
    let version = env!("CARGO_PKG_VERSION");
    let plan = Plan { programs: &programs, target: &target, version, is_release: false };
    let is_carried = |set: &Set| image::carries(set.package);
    let packages = pack(&plan, &moment, &folder.join("packages"), is_carried)?;
    image::contexts(&plan, &moment, &packages, &folder.join("docker")).map(drop)
}

/// Packs each set of programs that is wanted, and says into which files.
fn pack(
    plan: &Plan<'_>,
    moment: &Moment,
    folder: &Path,
    is_wanted: impl Fn(&Set) -> bool,
) -> anyhow::Result<Vec<PathBuf>> {
    fs::create_dir_all(folder)?;
    let manual = Manual::write()?;
    let mut files = Vec::new();
    for set in SETS.iter().filter(|set| is_wanted(set)) {
        let tree = lay(set, plan, moment, &manual)
            .with_context(|| format!("cannot lay out {}", set.package))?;
        if let Some((package, place)) = set.carries {
            carry(&files, package, place, &tree)?;
        }
        files.push(deb::pack(set, &tree, plan, moment, folder)?);
        if plan.is_release {
            files.push(tarball::pack(set, &tree, plan, moment, folder)?);
        }
    }
    Ok(files)
}

/// Adds a package that was packed before to a tree.
fn carry(packed: &[PathBuf], package: &str, place: &str, tree: &Tree) -> anyhow::Result<()> {
    let start = format!("{package}_");
    let found = packed.iter().find_map(|file| {
        let name = file.file_name()?.to_str()?;
        let is_it = name.starts_with(&start) && file.extension().is_some_and(|end| end == "deb");
        is_it.then_some((file, name))
    });
    let (file, name) = found.with_context(|| format!("{package} is packed later"))?;
    tree.copy(file, &format!("{place}/{name}"))
}

/// The files of a set, as they will lie on a machine.
fn lay(set: &Set, plan: &Plan<'_>, moment: &Moment, manual: &Manual) -> anyhow::Result<Tree> {
    let mut tree = Tree::new()?;
    tree.program(&format!("usr/bin/{}", set.program), (set.built)(plan.programs))?;
    manual.lay(set.program, &mut tree)?;
    for (from, to) in set.files {
        tree.copy(&root().join("packaging").join(from), to)?;
    }
    if !set.files.is_empty() {
        tree.folder("etc/fleetd")?;
    }
    let documents = format!("usr/share/doc/{}", set.package);
    tree.text(&format!("{documents}/copyright"), &deb::copyright()?)?;
    tree.packed(&format!("{documents}/changelog.gz"), &deb::changelog(set, plan, moment))?;
    Ok(tree)
}

/// Builds the programs as others get them.
fn build(target: Option<&str>, moment: &Moment) -> anyhow::Result<Programs> {
    let profiles =
        [("release", &["fleet-server", "fleet-tui"][..]), ("agent", &["fleet-agent"][..])];
    for (profile, packages) in profiles {
        let mut command = cargo();
        command.args(["build", "--locked", "--bins", "--profile", profile]);
        command.args(packages.iter().flat_map(|package| ["--package", package]));
        command.args(target.iter().flat_map(|target| ["--target", target]));
        moment.tell(&mut command);
        succeed(&mut command)?;
    }
    let folder = target_folder().join(target.unwrap_or_default());
    let programs = Programs {
        fleets: folder.join("release/fleets"),
        fleetd: folder.join("agent/fleetd"),
        console: folder.join("release/fleet-tui"),
    };
    if target.is_none() {
        let said = output(Command::new(&programs.fleets).arg("--version"))?;
        let wanted = format!("(commit {}, built {})", moment.commit, moment.date);
        ensure!(said.contains(&wanted), "fleets --version says {said:?}, and not {wanted:?}");
    }
    Ok(programs)
}

/// The kind of machine that rustc runs on.
fn host() -> anyhow::Result<String> {
    let said = output(Command::new("rustc").arg("-vV").current_dir(root()))?;
    let host = said.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host.context("rustc does not say what it runs on")?.to_owned())
}

/// What becomes a part of names of files, and what Debian takes.
fn check(version: &str) -> anyhow::Result<()> {
    let is_fine = version.starts_with(|first: char| first.is_ascii_digit())
        && version.chars().all(|c| c.is_ascii_alphanumeric() || ".+~-".contains(c));
    if !is_fine {
        bail!("{version:?} is no version: digits first, then letters, digits, and . + ~ -");
    }
    Ok(())
}

/// Runs a command, which says by itself what is wrong.
fn succeed(command: &mut Command) -> anyhow::Result<()> {
    let name = command.get_program().to_string_lossy().into_owned();
    let status = command.status().with_context(|| format!("cannot run {name}"))?;
    ensure!(status.success(), "{name} failed ({status})");
    Ok(())
}

/// What a command writes.
fn output(command: &mut Command) -> anyhow::Result<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.output().with_context(|| format!("cannot run {name}"))?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{name} failed ({}): {}", output.status, errors.trim());
    String::from_utf8(output.stdout).with_context(|| format!("{name} wrote no text"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_what_debian_takes_and_leads_nowhere() {
        for version in ["0.1.0", "0.1.0~rc1", "1.2.3-4+b1"] {
            assert!(check(version).is_ok(), "{version}");
        }
        for version in ["", "v1", "../1", "1/2", "1 2"] {
            assert!(check(version).is_err(), "{version}");
        }
    }
}
