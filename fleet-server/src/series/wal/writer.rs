//! The thread that writes what waits, and syncs it.

use std::sync::Arc;

use fleet_core::disk::DiskFile;

use super::files::{self, LogFile};
use super::format::{self, FileStart, Lsn};
use super::queue::Waiting;
use super::{Failure, Shared};

/// Writes until the queue is closed and empty, or the disk fails.
pub(super) fn run(shared: &Shared) {
    let _end = End(shared);
    let mut current = None;
    while let Some(mut waiting) = shared.queue.take() {
        match write(shared, &mut current, &mut waiting) {
            Ok(()) => {
                shared.progress.publish(waiting.group.end().before());
                shared.queue.done(waiting);
            }
            Err(failure) => {
                shared.fail(&Arc::new(failure));
                break;
            }
        }
    }
}

/// However the thread ends, nobody waits for it any longer.
struct End<'a>(&'a Shared);

impl Drop for End<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.fail(&Arc::new(Failure::Ended));
        }
    }
}

/// The file that is written to.
struct Current {
    name: String,
    file: Arc<dyn DiskFile>,
    bytes: u64,
}

fn write(
    shared: &Shared,
    current: &mut Option<Current>,
    waiting: &mut Waiting,
) -> Result<(), Failure> {
    let Waiting { group, begins_file, .. } = waiting;
    let current = match current {
        Some(current) if !*begins_file => current,
        _ => current.insert(create(shared, group.first)?),
    };
    let frame = group.seal();
    let failed = |doing| Failure::at(doing, &current.name);
    current.file.write_at(frame, current.bytes).map_err(failed("writing"))?;
    current.file.sync().map_err(failed("syncing"))?;
    current.bytes += frame.len() as u64;
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
    Ok(Current { name, file, bytes })
}
