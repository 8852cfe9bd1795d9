//! The thread that writes what waits, and syncs it.

use std::sync::Arc;
use std::thread;

use fleet_core::disk::DiskFile;

use super::files::{self, LogFile};
use super::format::{self, FileStart, Group, Lsn};
use super::queue::Waiting;
use super::{Failure, Shared};

/// Room that is made at the end of a file for frames to come, by writing zeros behind one that
/// does not fit into what there is. Syncing is faster and cheaper where the file need not grow.
const ROOM_BYTES: u64 = 256 * 1024;
/// Larger frames are written without making room: few would fit into it.
const ROOM_FRAME_BYTES_MAX: u64 = ROOM_BYTES / 4;

/// Writes until the queue is closed and empty, or the disk fails.
pub(super) fn run(shared: &Shared) {
    let _end = End(shared);
    let mut current = None;
    let written = write_all(shared, &mut current);
    if let Err(failure) = written.and_then(|()| current.map_or(Ok(()), Current::finish)) {
        shared.fail(&Arc::new(failure));
    }
}

fn write_all(shared: &Shared, current: &mut Option<Current>) -> Result<(), Failure> {
    loop {
        // Whoever is ready to add to the next group may do so first, and shares its sync. If nobody
        // is, this returns at once.
        thread::yield_now();
        let Some(mut waiting) = shared.queue.take() else { return Ok(()) };
        let _writing = shared.underway.begin();
        write(shared, current, &mut waiting)?;
        shared.progress.publish(waiting.group.end().before());
        shared.queue.done(waiting);
    }
}

/// However the thread ends, nobody waits for it any longer.
struct End<'a>(&'a Shared);

impl Drop for End<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.fail(&Arc::new(Failure::Ended));
        }
    }
}

/// The file that is written to.
struct Current {
    name: String,
    file: Arc<dyn DiskFile>,
    /// Where its last frame ends.
    end: u64,
    /// Its length.
    bytes: u64,
}

impl Current {
    fn write(&mut self, group: &mut Group) -> Result<(), Failure> {
        let frame = group.bytes() as u64;
        let end = self.end + frame;
        let makes_room = end > self.bytes && frame <= ROOM_FRAME_BYTES_MAX;
        let room = if makes_room { ROOM_BYTES } else { 0 };
        let failed = |doing| Failure::at(doing, &self.name);
        self.file.write_at(group.seal(room as usize), self.end).map_err(failed("writing"))?;
        self.file.sync().map_err(failed("syncing"))?;
        self.end = end;
        self.bytes = self.bytes.max(end + room);
        Ok(())
    }

    /// Gives back the room that was not used. Whether that survives does not matter.
    fn finish(self) -> Result<(), Failure> {
        self.file.truncate(self.end).map_err(Failure::at("truncating", &self.name))
    }
}

fn write(
    shared: &Shared,
    current: &mut Option<Current>,
    waiting: &mut Waiting,
) -> Result<(), Failure> {
    let Waiting { group, begins_file, .. } = waiting;
    if *begins_file {
        if let Some(finished) = current.take() {
            shared.files.grow(group.first, finished.end);
            finished.finish()?;
        }
        *current = Some(create(shared, group.first)?);
    }
    let current = current.as_mut().expect("the first record of all begins a file");
    current.write(group)?;
    shared.files.grow(group.end(), current.bytes);
    Ok(())
}

/// Makes a file. It gets its name when its first frame is sure, in place of a file of that name
/// that has no records; and it gets records when its name is sure.
fn create(shared: &Shared, first: Lsn) -> Result<Current, Failure> {
    let disk = shared.disk.as_ref();
    let (name, new_name) = (format::file_name(first), format::new_name(first));
    let follows = shared.files.end_before(first);
    let start = FileStart { store: shared.store, first, follows }.frame();
    let file = disk.create(&new_name).map_err(Failure::at("creating", &new_name))?;
    file.write_at(&start, 0).map_err(Failure::at("writing", &new_name))?;
    file.sync().map_err(Failure::at("syncing", &new_name))?;
    if shared.files.newest().is_some_and(|newest| newest.first == first && newest.is_damaged) {
        files::keep_damaged(disk, first).map_err(Failure::at("putting aside", &name))?;
    }
    disk.rename(&new_name, &name).map_err(Failure::at("renaming", &new_name))?;
    disk.sync().map_err(Failure::at("syncing the folder of", &name))?;
    let bytes = start.len() as u64;
    shared.files.add(LogFile { first, end: first, bytes, is_damaged: false });
    Ok(Current { name, file, end: bytes, bytes })
}
