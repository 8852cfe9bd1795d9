//! Container images: for each a folder that `docker build` makes one of without asking anybody for
//! anything, since all that is in the image lies there.
//!
//! An image starts from nothing. It has its programs, the libraries that these name and the loader that
//! brings both together, whom the system knows, and whose word counts for a proxy's certificate.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail, ensure};

use super::moment::Moment;
use super::tree::Tree;
use super::{Plan, deb, output, succeed};
use crate::cargo::{Programs, root};

/// Where programs look for authorities.
const AUTHORITIES: &str = "etc/ssl/certs/ca-certificates.crt";
/// Those that Debian hands on from Mozilla; the builder's own are no others' business.
const MOZILLA: &str = "/usr/share/ca-certificates/mozilla";
/// The packages whose files are in each image, and whose terms have to be there, too, as Debian has
/// them.
const AUTHORITIES_PACKAGE: &str = "ca-certificates";

/// A program's name, and where it is once it is built.
type Program = (&'static str, fn(&Programs) -> &Path);

/// An image.
struct Image {
    /// The folder's name, and that of its Dockerfile.
    name: &'static str,
    title: &'static str,
    /// What can be run in it.
    programs: &'static [Program],
    /// The package that it brings along for others, and the folder for that.
    carries: Option<(&'static str, &'static str)>,
}

const IMAGES: [Image; 2] = [
    Image {
        name: "server",
        title: "FleetD server",
        programs: &[("fleets", |programs| &programs.fleets)],
        carries: Some(("fleetd", "usr/share/fleetd/packages")),
    },
    Image {
        name: "agent",
        title: "FleetD agent",
        programs: &[("fleetd", |programs| &programs.fleetd)],
        carries: None,
    },
];

/// Whether any image brings a package along.
pub(super) fn carries(package: &str) -> bool {
    IMAGES.iter().any(|image| image.carries.is_some_and(|(carried, _)| carried == package))
}

/// Makes the folders of all images, and says where they are.
pub(super) fn contexts(
    plan: &Plan<'_>,
    moment: &Moment,
    packed: &[PathBuf],
    folder: &Path,
) -> anyhow::Result<Vec<PathBuf>> {
    let made = IMAGES.iter().map(|image| {
        let place = folder.join(image.name);
        context(image, plan, moment, packed, &place)
            .with_context(|| format!("cannot make the image {}", image.name))?;
        Ok(place)
    });
    made.collect()
}

fn context(
    image: &Image,
    plan: &Plan<'_>,
    moment: &Moment,
    packed: &[PathBuf],
    place: &Path,
) -> anyhow::Result<()> {
    let tree = Tree::new()?;
    let mut libraries = BTreeSet::new();
    for (name, built) in image.programs {
        let program = format!("usr/bin/{name}");
        tree.program(&program, built(plan.programs))?;
        libraries.extend(linked(&tree.path().join(&program))?);
    }
    let mut packages = BTreeSet::from([AUTHORITIES_PACKAGE.to_owned()]);
    for library in &libraries {
        tree.library(library)?;
        packages.insert(package_of(library)?);
    }
    let packaging = root().join("packaging/docker");
    for list in ["passwd", "group"] {
        tree.copy(&packaging.join(list), &format!("etc/{list}"))?;
    }
    tree.text(AUTHORITIES, &authorities()?)?;
    tree.text("usr/share/doc/fleetd/copyright", &deb::copyright()?)?;
    for package in packages {
        let terms = format!("usr/share/doc/{package}/copyright");
        tree.copy(&Path::new("/").join(&terms), &terms)?;
    }
    if let Some((package, place)) = image.carries {
        super::carry(packed, package, place, &tree)?;
    }
    tree.folder("data")?;
    tree.scratch("tmp")?;

    fs::create_dir_all(place)?;
    let recipe = fs::read_to_string(packaging.join(format!("{}.Dockerfile", image.name)))?;
    fs::write(place.join("Dockerfile"), recipe + &labels(image, plan, moment)?)?;
    let mut copy = Command::new("cp");
    copy.args(["--recursive", "--preserve=mode"]).arg(tree.path()).arg(place.join("root"));
    succeed(&mut copy)?;
    // So that the same commit makes the same image.
    let mut times = Command::new("find");
    times.arg(place.join("root")).args(["-exec", "touch", "--no-dereference", "--date"]);
    succeed(times.arg(format!("@{}", moment.epoch)).args(["{}", "+"]))
}

/// The libraries that a program is linked to, and its loader, by their places. The loader itself says
/// which, so it has to be this machine's.
fn linked(program: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let said = output(Command::new("ldd").arg(program).env("LC_ALL", "C"))?;
    let mut found = Vec::new();
    for line in said.lines() {
        let line = line.trim();
        let (name, place) = match line.split_once(" => ") {
            Some((name, place)) => (name, place),
            None => (line, line),
        };
        let path = place.split(" (").next().unwrap_or_default();
        if path.starts_with('/') {
            found.push(PathBuf::from(path));
        } else if !name.starts_with("linux-vdso") {
            bail!("{} needs {name}, which is nowhere here", program.display());
        }
    }
    ensure!(!found.is_empty(), "{} is linked to nothing", program.display());
    Ok(found)
}

/// Debian's package that has a file.
fn package_of(file: &Path) -> anyhow::Result<String> {
    let said = output(Command::new("dpkg-query").arg("--search").arg(file))?;
    let package = said.split([':', ',']).next().unwrap_or_default();
    ensure!(!package.is_empty(), "no package has {}", file.display());
    Ok(package.to_owned())
}

/// The authorities, one after the other.
fn authorities() -> anyhow::Result<String> {
    let read = fs::read_dir(MOZILLA).with_context(|| MOZILLA.to_owned())?;
    let mut files = read.map(|file| Ok(file?.path())).collect::<anyhow::Result<Vec<_>>>()?;
    files.sort();
    let mut text = String::new();
    for file in files {
        text += fs::read_to_string(&file).with_context(|| file.display().to_string())?.trim_end();
        text.push('\n');
    }
    ensure!(text.contains("BEGIN CERTIFICATE"), "there are no authorities in {MOZILLA}");
    Ok(text)
}

/// What the image says of itself: <https://specs.opencontainers.org/image-spec/annotations/>.
fn labels(image: &Image, plan: &Plan<'_>, moment: &Moment) -> anyhow::Result<String> {
    let mut text = String::from("\n");
    for (name, value) in [
        ("title", image.title),
        ("version", plan.version),
        ("revision", &moment.commit),
        ("licenses", env!("CARGO_PKG_LICENSE")),
        ("source", env!("CARGO_PKG_REPOSITORY")),
    ] {
        writeln!(text, "LABEL org.opencontainers.image.{name}=\"{value}\"")?;
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_programs_libraries_are_found_and_whose_they_are() {
        let libraries = linked(&std::env::current_exe().unwrap()).unwrap();
        let has = |name: &str| libraries.iter().any(|path| path.to_string_lossy().contains(name));
        assert!(has("libc.so.6") && has("ld-linux"), "{libraries:?}");
        assert!(!has("vdso"), "{libraries:?}");
        linked(Path::new("/etc/passwd")).unwrap_err();
    }
}
