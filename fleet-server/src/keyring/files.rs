//! Small files that only their owner may read: whole or not there at all, whatever happens.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;

use zeroize::Zeroizing;

use super::KeyringError;

/// Bytes of a key file.
const BYTES_MAX: u64 = 4096;

/// A file's bytes, if it exists.
pub(super) fn read(path: &Path) -> Result<Option<Zeroizing<Vec<u8>>>, KeyringError> {
    let read = || {
        // With room for all of it and a byte: one that grows leaves copies behind.
        let mut bytes = Zeroizing::new(Vec::with_capacity(BYTES_MAX as usize + 1));
        File::open(path)?.take(BYTES_MAX).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    match read() {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if io::Error::kind(&error) == io::ErrorKind::NotFound => Ok(None),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            Err(KeyringError::NotOurs(path.to_owned()))
        }
        Err(source) => Err(KeyringError::File { action: "read", path: path.to_owned(), source }),
    }
}

/// Writes a file for its owner only. A crash leaves either nothing or all of it.
pub(super) fn write(path: &Path, bytes: &[u8]) -> Result<(), KeyringError> {
    let write = || {
        let folder = path.parent().unwrap_or(Path::new("/"));
        DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        let draft = path.with_extension("key.new");
        // A draft that a crash left behind may have other permissions.
        match fs::remove_file(&draft) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&draft, path)?;
        File::open(folder)?.sync_all()
    };
    write().map_err(|source| KeyringError::File { action: "write", path: path.to_owned(), source })
}
