//! The agent's own folder, `/var/lib/fleetd-agent` on a device: one agent at a time, and files
//! that a crash at any moment leaves whole, either as they were or as they became.
//!
//! What is stored is sealed: a damaged file is an error with its name, never another identity or
//! another server.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use fleet_core::codec::{self, CodecError, Coded};
use zeroize::Zeroizing;

/// Bytes of one stored file.
const FILE_BYTES_MAX: u64 = 2 * 1024 * 1024;
/// The file whose lock tells that an agent is running.
const LOCK: &str = "lock";
/// Files that only the agent may read.
const PRIVATE: u32 = 0o600;
/// Files that any user's `fleetd status` may read.
const PUBLIC: u32 = 0o644;

/// A folder of stored values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Folder(PathBuf);

/// Held while an agent uses a folder; the kernel lets it go with the process.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

/// Why the folder is of no use.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// It cannot be made or entered.
    #[error("cannot use the data folder {}", path.display())]
    Folder {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another agent uses it.
    #[error("another agent is using the data folder {}", path.display())]
    InUse {
        /// Where.
        path: PathBuf,
    },
    /// A file in it cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file in it cannot be written.
    #[error("cannot write {}", path.display())]
    Write {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file in it is not as it was written.
    #[error("cannot understand {}", path.display())]
    Damaged {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        source: CodecError,
    },
    /// The device's key is not as it was written.
    #[error(
        "cannot understand the device's key {}; restore it from a backup, or move it away to give \
         the device a new identity",
        path.display()
    )]
    DamagedKey {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        source: CodecError,
    },
}

impl Folder {
    /// A folder, whether it exists or not.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Makes the folder if need be, and takes it for this process.
    pub fn lock(&self) -> Result<Lock, StateError> {
        let unusable = |source| StateError::Folder { path: self.0.clone(), source };
        DirBuilder::new().recursive(true).mode(0o755).create(&self.0).map_err(unusable)?;
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(PRIVATE)
            .open(self.0.join(LOCK))
            .map_err(unusable)?;
        match file.try_lock() {
            Ok(()) => Ok(Lock { _file: file }),
            Err(TryLockError::WouldBlock) => Err(StateError::InUse { path: self.0.clone() }),
            Err(TryLockError::Error(source)) => Err(unusable(source)),
        }
    }

    /// Keeps a value that nobody else may read.
    pub fn store<T: Coded>(&self, name: &str, value: &T) -> Result<(), StateError> {
        let damaged = |source| StateError::Damaged { path: self.0.join(name), source };
        let sealed = Zeroizing::new(codec::seal(name.as_bytes(), value).map_err(damaged)?);
        self.write(name, &sealed, PRIVATE)
    }

    /// The value that [`Folder::store`] kept, if there is one.
    pub fn load<T: Coded>(&self, name: &str) -> Result<Option<T>, StateError> {
        let Some(sealed) = self.read(name)? else { return Ok(None) };
        let damaged = |source| StateError::Damaged { path: self.0.join(name), source };
        codec::open(name.as_bytes(), &sealed).map(Some).map_err(damaged)
    }

    /// Keeps a text that every user may read.
    pub fn publish(&self, name: &str, text: &str) -> Result<(), StateError> {
        self.write(name, text.as_bytes(), PUBLIC)
    }

    /// A file's bytes, if there is one.
    pub fn read(&self, name: &str) -> Result<Option<Zeroizing<Vec<u8>>>, StateError> {
        let path = self.0.join(name);
        match read_bounded(&path) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(StateError::Read { path, source }),
        }
    }

    /// Forgets a file; says whether there was one.
    pub fn remove(&self, name: &str) -> Result<bool, StateError> {
        let path = self.0.join(name);
        match fs::remove_file(&path).and_then(|()| self.sync()) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(source) => Err(StateError::Write { path, source }),
        }
    }

    fn write(&self, name: &str, bytes: &[u8], mode: u32) -> Result<(), StateError> {
        self.prepare(name, bytes, mode)
            .and_then(|prepared| fs::rename(prepared, self.0.join(name)))
            .and_then(|()| self.sync())
            .map_err(|source| StateError::Write { path: self.0.join(name), source })
    }

    /// The new contents, complete and on the disk, beside the old ones.
    fn prepare(&self, name: &str, bytes: &[u8], mode: u32) -> io::Result<PathBuf> {
        let path = self.0.join(format!(".{name}.new"));
        // What a crash left here may have other permissions.
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&path)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        Ok(path)
    }

    /// Makes names durable: a rename is only in memory until its folder is written.
    fn sync(&self) -> io::Result<()> {
        File::open(&self.0)?.sync_all()
    }
}

fn read_bounded(path: &Path) -> io::Result<Zeroizing<Vec<u8>>> {
    let file = File::open(path)?;
    // With room for all of it and some: one that grows leaves copies behind.
    let room = file.metadata()?.len().min(FILE_BYTES_MAX) + 64;
    let mut bytes = Zeroizing::new(Vec::with_capacity(room as usize));
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use bincode::{Decode, Encode};

    use super::*;

    #[derive(Debug, PartialEq, Encode, Decode)]
    struct Note(String);

    impl Coded for Note {
        const TAG: u8 = 250;
        const VERSION: u8 = 1;
    }

    fn folder() -> (tempfile::TempDir, Folder) {
        let parent = tempfile::tempdir().unwrap();
        let folder = Folder::new(parent.path().join("fleetd/agent"));
        (parent, folder)
    }

    #[test]
    fn one_agent_at_a_time() {
        let (_parent, folder) = folder();
        let lock = folder.lock().unwrap();
        assert!(matches!(folder.lock(), Err(StateError::InUse { .. })));
        drop(lock);
        folder.lock().unwrap();
    }

    #[test]
    fn a_crash_leaves_the_old_or_the_new_never_a_mix() {
        let (_parent, folder) = folder();
        let _lock = folder.lock().unwrap();
        folder.store("note", &Note("old".to_owned())).unwrap();
        let new = codec::seal(b"note", &Note("new".to_owned())).unwrap();
        for written in 0..=new.len() {
            // The power fails while the new file is being written, or just before the rename.
            folder.prepare("note", &new[..written], PRIVATE).unwrap();
            assert_eq!(folder.load("note").unwrap(), Some(Note("old".to_owned())));
        }
        folder.store("note", &Note("new".to_owned())).unwrap();
        assert_eq!(folder.load("note").unwrap(), Some(Note("new".to_owned())));
        assert!(folder.remove("note").unwrap() && !folder.remove("note").unwrap());
        assert_eq!(folder.load::<Note>("note").unwrap(), None);
    }

    #[test]
    fn a_damaged_or_misplaced_file_is_no_value() {
        let (_parent, folder) = folder();
        let _lock = folder.lock().unwrap();
        folder.store("note", &Note("text".to_owned())).unwrap();
        let path = folder.path().join("note");
        fs::copy(&path, folder.path().join("other")).unwrap();
        assert!(matches!(folder.load::<Note>("other"), Err(StateError::Damaged { .. })));
        let mut bytes = fs::read(&path).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        fs::write(&path, bytes).unwrap();
        assert!(matches!(folder.load::<Note>("note"), Err(StateError::Damaged { .. })));
        File::create(&path).unwrap().set_len(1 << 40).unwrap();
        assert!(matches!(folder.load::<Note>("note"), Err(StateError::Read { .. })));
    }

    #[test]
    fn only_the_owner_reads_what_is_stored() {
        let (_parent, folder) = folder();
        let _lock = folder.lock().unwrap();
        folder.store("note", &Note(String::new())).unwrap();
        folder.publish("agent.json", "{}").unwrap();
        let mode = |name| fs::metadata(folder.path().join(name)).unwrap().permissions().mode();
        assert_eq!(mode("note") & 0o777, 0o600);
        assert_eq!(mode("agent.json") & 0o044, 0o044);
    }
}
