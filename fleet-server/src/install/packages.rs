//! The agent's packages that this server hands out: `fleetd_VERSION_ARCHITECTURE.deb` in one folder,
//! where the server's own package puts one and an operator may put others.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use fleet_core::filter::version;
use nix::fcntl::OFlag;
use ring::digest;

/// Where the server's package puts the agent's.
pub(crate) const FOLDER: &str = "/usr/share/fleetd/packages";

/// Files that are looked at.
const FILES_MAX: usize = 1_000;
/// Bytes of a package.
const PACKAGE_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// The folder, and what is known of its files.
pub(crate) struct Packages {
    folder: PathBuf,
    /// Hashing takes a moment, and files seldom change.
    hashed: Mutex<BTreeMap<PathBuf, (Stamp, Hash)>>,
}

type Hash = [u8; 32];
/// What tells that a file is another one than before.
type Stamp = (u64, u64, i64, i64);

/// A package, as it is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Package {
    /// Its file's name.
    pub(crate) name: String,
    /// What Debian calls the processor that it is for.
    pub(crate) architecture: String,
    version: String,
    path: PathBuf,
    /// The hash of its content.
    pub(crate) sha256: Hash,
}

/// Why there is no package. Each is one sentence for an operator.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PackagesError {
    #[error("cannot read {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{} has no package of the agent: put fleetd_VERSION_ARCHITECTURE.deb there", .0.display())]
    None(PathBuf),
}

impl Packages {
    /// Of a folder.
    pub(crate) fn new(folder: PathBuf) -> Self {
        Self { folder, hashed: Mutex::default() }
    }

    /// The newest package for each kind of processor, by its name. Reads files.
    pub(crate) fn newest(&self) -> Result<Vec<Package>, PackagesError> {
        let failed = |source| PackagesError::Read { path: self.folder.clone(), source };
        let none = || PackagesError::None(self.folder.clone());
        let entries = match fs::read_dir(&self.folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(none()),
            entries => entries.map_err(failed)?,
        };
        let mut newest: BTreeMap<String, (String, String)> = BTreeMap::new();
        for entry in entries.take(FILES_MAX) {
            let name = entry.map_err(failed)?.file_name();
            let Some((version, architecture)) = name.to_str().and_then(parts) else { continue };
            let (version, name) = (version.to_owned(), name.to_string_lossy().into_owned());
            let known = newest.entry(architecture.to_owned()).or_default();
            if known.1.is_empty() || version::order(&known.0, &version) == Ordering::Less {
                *known = (version, name);
            }
        }
        let packages = newest.into_iter().map(|(architecture, (version, name))| {
            let path = self.folder.join(&name);
            let sha256 = self
                .hash(&path)
                .map_err(|source| PackagesError::Read { path: path.clone(), source })?;
            Ok(Package { name, architecture, version, path, sha256 })
        });
        let packages = packages.collect::<Result<Vec<_>, _>>()?;
        if packages.is_empty() { Err(none()) } else { Ok(packages) }
    }

    fn hash(&self, path: &Path) -> io::Result<Hash> {
        let mut file = open(path)?;
        let found = file.metadata()?;
        let stamp = (found.ino(), found.len(), found.ctime(), found.ctime_nsec());
        let known = || self.hashed.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, hash)) = known().get(path).filter(|(seen, _)| *seen == stamp) {
            return Ok(*hash);
        }
        let hash = sha256(&mut file)?;
        let mut known = known();
        // Files that are gone take no room for long.
        known.retain(|path, _| path.exists());
        known.insert(path.to_owned(), (stamp, hash));
        Ok(hash)
    }
}

impl Package {
    /// Its file.
    pub(crate) fn open(&self) -> io::Result<File> {
        open(&self.path)
    }
}

fn sha256(file: &mut File) -> io::Result<Hash> {
    let mut context = digest::Context::new(&digest::SHA256);
    let mut part = vec![0; 64 * 1024];
    loop {
        match file.read(&mut part)? {
            0 => break,
            count => context.update(&part[..count]),
        }
    }
    let mut hash = Hash::default();
    hash.copy_from_slice(context.finish().as_ref());
    Ok(hash)
}

/// A regular file of a size that a package may have, and nothing that waits when it is opened.
fn open(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new().read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(path)?;
    let found = file.metadata()?;
    if !found.is_file() || found.len() > PACKAGE_BYTES_MAX {
        return Err(io::Error::other("it is no file, or too large for a package"));
    }
    Ok(file)
}

/// Version and architecture, as the name of a package has them.
fn parts(name: &str) -> Option<(&str, &str)> {
    let (version, architecture) =
        name.strip_prefix("fleetd_")?.strip_suffix(".deb")?.split_once('_')?;
    let plain = |text: &str, more: &str| {
        !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || more.contains(c))
    };
    (plain(version, ".+~-") && plain(architecture, "-")).then_some((version, architecture))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_package_for_each_processor_is_found_with_its_hash() {
        let folder = tempfile::tempdir().unwrap();
        let packages = Packages::new(folder.path().to_owned());
        assert!(packages.newest().unwrap_err().to_string().contains("has no package"));
        for name in [
            "fleetd_0.9.0_amd64.deb",
            "fleetd_0.10.0_amd64.deb",
            "fleetd_0.9.0_arm64.deb",
            "fleetd_0.9.0_.deb",
            "fleetd_0.9.0_arm64;reboot.deb",
            "fleet-server_1.0.0_amd64.deb",
            "notes.txt",
        ] {
            fs::write(folder.path().join(name), name).unwrap();
        }
        let newest = packages.newest().unwrap();
        let names: Vec<_> = newest.iter().map(|package| package.name.as_str()).collect();
        assert_eq!(names, ["fleetd_0.10.0_amd64.deb", "fleetd_0.9.0_arm64.deb"]);
        let hash = newest[0].sha256;
        let expected = digest::digest(&digest::SHA256, b"fleetd_0.10.0_amd64.deb");
        assert_eq!(hash, expected.as_ref());
        assert_eq!(packages.newest().unwrap(), newest);
        fs::write(folder.path().join("fleetd_0.10.0_amd64.deb"), "another").unwrap();
        assert_ne!(packages.newest().unwrap()[0].sha256, hash);
    }

    #[test]
    fn what_is_no_file_is_no_package() {
        let folder = tempfile::tempdir().unwrap();
        nix::unistd::mkfifo(
            &folder.path().join("fleetd_1_amd64.deb"),
            nix::sys::stat::Mode::S_IRWXU,
        )
        .unwrap();
        let error = Packages::new(folder.path().to_owned()).newest().unwrap_err();
        assert!(error.to_string().contains("cannot read"), "{error}");
    }
}
