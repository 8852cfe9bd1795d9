//! What a spool stands on: a folder, the space that is free there, names for streams.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fleet_core::disk::{Disk, Folder};
use nix::sys::statvfs::statvfs;

use super::{ledger, recover, segment};

/// What a spool stands on.
pub trait Ground: Send {
    /// Its folder, which is made if need be.
    fn disk(&mut self) -> io::Result<Arc<dyn Disk>>;

    /// Bytes that are free there.
    fn free(&mut self) -> io::Result<u64>;

    /// A name for a new stream that no other has.
    fn stream(&mut self) -> Result<[u8; 16], getrandom::Error>;
}

/// A folder of this machine.
pub struct OnFolder(pub PathBuf);

impl Ground for OnFolder {
    fn disk(&mut self) -> io::Result<Arc<dyn Disk>> {
        Ok(Arc::new(Folder::open(&self.0)?))
    }

    fn free(&mut self) -> io::Result<u64> {
        let room = statvfs(&self.0)?;
        Ok(wide(room.blocks_available()).saturating_mul(wide(room.fragment_size())))
    }

    fn stream(&mut self) -> Result<[u8; 16], getrandom::Error> {
        let mut id = [0; 16];
        getrandom::fill(&mut id)?;
        Ok(id)
    }
}

/// A number that has 32 bits on some machines.
fn wide(number: impl Into<u64>) -> u64 {
    number.into()
}

/// Removes a spool that no agent uses. Files that are not the spool's stay; says whether there were
/// any that are.
pub fn erase(path: &Path) -> io::Result<bool> {
    if !path.is_dir() {
        return Ok(false);
    }
    let folder = Folder::open(path)?;
    let is_ours = |name: &String| {
        let is_segment = segment::Name::parse(name).is_some() || name == recover::NEW_FILE;
        is_segment || ledger::is_ours(name)
    };
    let names: Vec<String> = folder.names()?.into_iter().filter(is_ours).collect();
    names.iter().try_for_each(|name| folder.remove(name))?;
    folder.sync()?;
    Ok(!names.is_empty())
}
