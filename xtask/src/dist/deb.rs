//! A tree as a Debian package.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};

use super::moment::Moment;
use super::sets::Set;
use super::tree::Tree;
use super::{Plan, output};
use crate::cargo::root;

/// Who answers for the packages.
const MAINTAINER: &str = "The FleetD contributors <fleetd@example.org>";
const SCRIPTS: [&str; 3] = ["postinst", "prerm", "postrm"];

/// Packs a tree, and says into which file.
pub(super) fn pack(
    set: &Set,
    tree: &Tree,
    plan: &Plan<'_>,
    moment: &Moment,
    folder: &Path,
) -> anyhow::Result<PathBuf> {
    let architecture = architecture(plan.target)?;
    tree.text("DEBIAN/control", &control(set, tree, plan, architecture)?)?;
    tree.text("DEBIAN/md5sums", &sums(tree)?)?;
    if set.has_scripts {
        for script in SCRIPTS {
            let from = root().join(format!("packaging/debian/{}.{script}", set.package));
            tree.script(&format!("DEBIAN/{script}"), &from)?;
        }
    }
    let file = folder.join(format!("{}_{}_{architecture}.deb", set.package, plan.version));
    let mut pack = Command::new("dpkg-deb");
    pack.arg("--root-owner-group");
    pack.args(if plan.is_release { &["-Zxz"][..] } else { &["-Zgzip", "-z1"] });
    pack.arg("--build").arg(tree.path()).arg(&file);
    moment.tell(&mut pack);
    output(&mut pack)?;
    Ok(file)
}

/// Debian's name for a kind of machine.
fn architecture(target: &str) -> anyhow::Result<&'static str> {
    Ok(match target.split_once('-').map(|(machine, _)| machine) {
        Some("x86_64") => "amd64",
        Some("aarch64") => "arm64",
        Some("armv7") => "armhf",
        _ => bail!("Debian has no name for {target} here"),
    })
}

fn control(set: &Set, tree: &Tree, plan: &Plan<'_>, architecture: &str) -> anyhow::Result<String> {
    let size = output(Command::new("du").args(["-sk", "--apparent-size"]).arg(tree.path()))?;
    let size = size.split_whitespace().next().context("du says no size")?.to_owned();
    let mut depends = libraries(set, tree)?;
    depends.extend(set.depends.iter().map(ToString::to_string));
    let mut text = String::new();
    for (field, value) in [
        ("Package", set.package),
        ("Version", plan.version),
        ("Architecture", architecture),
        ("Maintainer", MAINTAINER),
        ("Installed-Size", &size),
        ("Depends", &depends.join(", ")),
        ("Section", "admin"),
        ("Priority", "optional"),
        ("Homepage", env!("CARGO_PKG_REPOSITORY")),
        ("Description", set.summary),
    ] {
        if !value.is_empty() {
            writeln!(text, "{field}: {value}")?;
        }
    }
    for line in set.description {
        writeln!(text, " {line}")?;
    }
    Ok(text)
}

/// The packages that have the libraries which the program is linked to, and since when these have
/// what it uses of them.
fn libraries(set: &Set, tree: &Tree) -> anyhow::Result<Vec<String>> {
    // It asks for a source package to stand in.
    let source = tempfile::tempdir()?;
    fs::create_dir(source.path().join("debian"))?;
    let control = format!("Source: fleetd\n\nPackage: {}\nArchitecture: any\n", set.package);
    fs::write(source.path().join("debian/control"), control)?;
    let program = tree.path().join("usr/bin").join(set.program);
    let mut asked = Command::new("dpkg-shlibdeps");
    asked.current_dir(source.path()).arg("-O").arg(format!("-e{}", program.display()));
    let said = output(&mut asked)?;
    let depends = said.lines().find_map(|line| line.strip_prefix("shlibs:Depends="));
    let depends = depends.unwrap_or_default().split(", ").filter(|package| !package.is_empty());
    Ok(depends.map(str::to_owned).collect())
}

/// A checksum of each file, as `dpkg --verify` wants them.
fn sums(tree: &Tree) -> anyhow::Result<String> {
    let find = "find usr -type f -print0 | LC_ALL=C sort -z | xargs -0 md5sum";
    output(Command::new("sh").args(["-c", find]).current_dir(tree.path()))
}

/// The licence in Debian's words.
pub(super) fn copyright() -> anyhow::Result<String> {
    let licence = fs::read_to_string(root().join("LICENSE")).context("cannot read LICENSE")?;
    let (head, terms) = licence.split_once("\n\n").context("LICENSE has no head")?;
    let holder = terms.lines().next().and_then(|line| line.strip_prefix("Copyright (c) "));
    let holder = holder.with_context(|| format!("{head} names nobody"))?;
    let mut text = format!(
        "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\n\
         Upstream-Name: FleetD\nSource: {}\n\nFiles: *\nCopyright: {holder}\nLicense: Expat\n",
        env!("CARGO_PKG_REPOSITORY")
    );
    for line in terms.lines().skip(1).skip_while(|line| line.is_empty()) {
        writeln!(text, " {}", if line.is_empty() { "." } else { line })?;
    }
    Ok(text)
}

/// What `apt changelog` shows: that there is this version, and where one reads what it brings.
pub(super) fn changelog(set: &Set, plan: &Plan<'_>, moment: &Moment) -> String {
    format!(
        "{} ({}) unstable; urgency=medium\n\n  * {}/blob/{}/CHANGELOG.md\n\n -- {MAINTAINER}  {}\n",
        set.package,
        plan.version,
        env!("CARGO_PKG_REPOSITORY"),
        moment.commit.trim_end_matches("-dirty"),
        moment.mail_date,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_licence_is_put_as_debian_wants_it() {
        let text = copyright().unwrap();
        assert!(text.contains("\nLicense: Expat\n Permission is hereby granted"), "{text}");
        assert!(text.lines().all(|line| !line.is_empty() || !text.ends_with("\n\n")));
    }

    #[test]
    fn machines_that_debian_does_not_name_are_refused() {
        assert_eq!(architecture("aarch64-unknown-linux-gnu").unwrap(), "arm64");
        assert!(architecture("riscv64gc-unknown-linux-gnu").is_err());
    }
}
