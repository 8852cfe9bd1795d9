//! The door to files that must survive a power cut: logs, segments, spools.
//!
//! It offers what such files need and no more, so that a simulated disk can lose, tear and reorder
//! whatever was not made safe. What holds for each implementation:
//!
//! - Bytes are sure to survive once [`DiskFile::sync`] has returned without an error, and before
//!   that any part of them may or may not. After an error nothing is known of them, and calling
//!   it again proves nothing.
//! - A file's name is sure to survive, or a removal to hold, once [`Disk::sync`] has returned.

#[cfg(any(test, feature = "testing"))]
pub mod sim;

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A folder of files, without folders in it.
pub trait Disk: Send + Sync + 'static {
    /// The names of all files, in no order.
    fn names(&self) -> io::Result<Vec<String>>;

    /// Makes a file; an error if there is one of that name.
    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>>;

    /// Opens a file that is there.
    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>>;

    /// Removes a file. Whoever has it open keeps it.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// Gives a file another name, in place of any that had it.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Makes sure of names: those made, given and removed.
    fn sync(&self) -> io::Result<()>;
}

/// An open file.
pub trait DiskFile: Send + Sync {
    /// How long it is.
    fn bytes(&self) -> io::Result<u64>;

    /// Fills `buffer` from `offset`; an error if the file ends before.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()>;

    /// Writes all of `bytes` at `offset`.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;

    /// Makes it shorter, or longer with zeros.
    fn truncate(&self, bytes: u64) -> io::Result<()>;

    /// Makes sure of the contents and the length.
    fn sync(&self) -> io::Result<()>;
}

/// Reads a file as a whole.
pub fn read_all(file: &dyn DiskFile) -> io::Result<Vec<u8>> {
    let bytes = usize::try_from(file.bytes()?).map_err(io::Error::other)?;
    let mut contents = vec![0; bytes];
    file.read_at(&mut contents, 0)?;
    Ok(contents)
}

/// A folder of the machine.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    handle: File,
}

impl Folder {
    /// Opens a folder, or makes it for this user alone, with those above it.
    pub fn open(path: &Path) -> io::Result<Self> {
        if !path.is_dir() {
            DirBuilder::new().recursive(true).mode(0o700).create(path)?;
            if let Some(above) = path.parent().filter(|above| !above.as_os_str().is_empty()) {
                File::open(above)?.sync_all()?;
            }
        }
        Self::open_existing(path)
    }

    /// Opens a folder that is there.
    pub fn open_existing(path: &Path) -> io::Result<Self> {
        Ok(Self { path: path.to_owned(), handle: File::open(path)? })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn opened(&self, name: &str, options: &mut OpenOptions) -> io::Result<Arc<dyn DiskFile>> {
        let file = options.read(true).write(true).mode(0o600).open(self.path.join(name))?;
        Ok(Arc::new(file))
    }
}

impl Disk for Folder {
    fn names(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            let entry = entry?;
            if entry.file_type()?.is_file()
                && let Ok(name) = entry.file_name().into_string()
            {
                names.push(name);
            }
        }
        Ok(names)
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        self.opened(name, OpenOptions::new().create_new(true))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        self.opened(name, &mut OpenOptions::new())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.path.join(name))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.path.join(from), self.path.join(to))
    }

    fn sync(&self) -> io::Result<()> {
        self.handle.sync_all()
    }
}

impl DiskFile for File {
    fn bytes(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.read_exact_at(buffer, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.write_all_at(bytes, offset)
    }

    fn truncate(&self, bytes: u64) -> io::Result<()> {
        self.set_len(bytes)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_holds_files() {
        let place = tempfile::tempdir().unwrap();
        let folder = Folder::open(&place.path().join("a/b")).unwrap();
        let file = folder.create("one").unwrap();
        assert_eq!(folder.create("one").err().unwrap().kind(), io::ErrorKind::AlreadyExists);
        file.write_at(b"hello", 2).unwrap();
        file.sync().unwrap();
        folder.rename("one", "two").unwrap();
        folder.sync().unwrap();
        assert_eq!(folder.names().unwrap(), ["two"]);
        let file = folder.open("two").unwrap();
        assert_eq!(read_all(file.as_ref()).unwrap(), b"\0\0hello");
        file.truncate(3).unwrap();
        assert_eq!(read_all(file.as_ref()).unwrap(), b"\0\0h");
        assert!(file.read_at(&mut [0; 2], 2).is_err(), "past the end");
        folder.remove("two").unwrap();
        assert!(folder.open("two").is_err() && folder.names().unwrap().is_empty());
    }
}
