//! Values in files that a power cut at any step leaves whole, as they were or as they became, on a
//! disk that tests can break.

use std::io;

use fleet_core::codec::{self, CodecError, Coded};
use fleet_core::disk::{self, Disk};
use zeroize::Zeroizing;

/// Bytes of a file that are read; no value has more.
const READ_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// Reads a value, if there is one.
pub(crate) fn load<T: Coded>(disk: &dyn Disk, name: &str) -> io::Result<Option<T>> {
    let file = match disk.open(name) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file?,
    };
    if file.bytes()? > READ_BYTES_MAX {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    let contents = Zeroizing::new(disk::read_all(file.as_ref())?);
    codec::open(name.as_bytes(), &contents).map(Some).map_err(damaged)
}

/// Keeps a value. After an error the disk has this one or the one before.
pub(crate) fn save<T: Coded>(disk: &dyn Disk, name: &str, value: &T) -> io::Result<()> {
    let bytes = Zeroizing::new(codec::seal(name.as_bytes(), value).map_err(io::Error::other)?);
    let new = &beside(name);
    let file = match disk.open(new) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => disk.create(new)?,
        file => file?,
    };
    file.truncate(0)?;
    file.write_at(&bytes, 0)?;
    file.sync()?;
    disk.rename(new, name)?;
    disk.sync()
}

/// Removes a value. Says whether there was anything of it.
pub(crate) fn clear(disk: &dyn Disk, name: &str) -> io::Result<bool> {
    let mut was_there = false;
    for name in [name, &beside(name)] {
        match disk.remove(name) {
            Ok(()) => was_there = true,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    if was_there {
        disk.sync()?;
    }
    Ok(was_there)
}

/// Whether an error means that a value is not as it was written.
pub(crate) fn is_damage(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::InvalidData
}

fn damaged(error: CodecError) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

/// The file that is to take a file's place.
fn beside(name: &str) -> String {
    format!("{name}.new")
}
