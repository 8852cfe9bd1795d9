//! The log's files, held for a copy of them while it goes on.
//!
//! Only the newest file is written to. Reading it beside the writer may find a frame half written,
//! and frames behind that as whole; nothing of those was durable when the copy began, so it ends
//! at the first that is not whole. What does not read before that is damage, and is copied as it is.

use std::io;
use std::sync::Arc;

use fleet_core::disk::DiskFile;
use fleet_core::frames::{self, Found};

use super::Wal;
use super::format::{self, Lsn, Payload};

/// The files of one moment. The owner of the log lets none of them go while they are being opened.
pub(in crate::series) struct HeldLog {
    /// Those that nothing is written to any more, oldest first.
    pub(in crate::series) finished: Vec<(String, Arc<dyn DiskFile>)>,
    /// The one that is written to.
    pub(in crate::series) newest: Option<(String, Arc<dyn DiskFile>)>,
    /// The last record that was durable.
    durable: Lsn,
}

impl Wal {
    /// Opens all files as they are now.
    pub(in crate::series) fn hold(&self) -> io::Result<HeldLog> {
        // First this, so that the files have all of it.
        let durable = self.durable_to();
        let mut finished = Vec::new();
        for first in self.shared.files.firsts() {
            let name = format::file_name(first);
            finished.push((name.clone(), self.shared.disk.open(&name)?));
        }
        let newest = finished.pop();
        Ok(HeldLog { finished, newest, durable })
    }
}

impl HeldLog {
    /// How much of the newest file's bytes are whole, or older than the copy.
    pub(in crate::series) fn whole(&self, bytes: &[u8]) -> usize {
        let mut last = Lsn(0);
        for found in frames::read(bytes) {
            match found {
                Found::Frame { payload, .. } => match format::read_payload(payload) {
                    Payload::FileStart(start) => last = start.first.before(),
                    Payload::Group { first, count, .. } => {
                        last = first.after(count.into()).before();
                    }
                    Payload::Newer(_) | Payload::Unknown => {}
                },
                Found::Damage { at, .. } | Found::Torn { at } if last >= self.durable => return at,
                Found::Torn { at } if frames::is_blank(&bytes[at..]) => return at,
                Found::Damage { .. } | Found::Torn { .. } => {}
            }
        }
        bytes.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::series::wal::format::Group;

    fn file(groups: &[(u64, u64)]) -> Vec<u8> {
        let mut file = Vec::new();
        for (first, count) in groups {
            let mut group = Group::new(Lsn(*first), Vec::new());
            for _ in 0..*count {
                group.push(|out| out.extend(b"record")).unwrap();
            }
            file.extend(group.seal(0));
        }
        file
    }

    fn whole(bytes: &[u8], durable: u64) -> usize {
        HeldLog { finished: Vec::new(), newest: None, durable: Lsn(durable) }.whole(bytes)
    }

    #[test]
    fn a_copy_ends_at_the_first_frame_that_was_being_written() {
        let (one, two) = (file(&[(1, 2)]).len(), file(&[(1, 2), (3, 1)]).len());
        let all = file(&[(1, 2), (3, 1), (4, 3)]);
        assert_eq!(whole(&all, 2), all.len());
        let mut half = all.clone();
        half[two - 1] ^= 1;
        assert_eq!(whole(&half, 2), one, "the next was not durable, whatever is behind it");
        assert_eq!(whole(&half, 3), half.len(), "what was durable is damaged, and said to be so");
        let mut room = all.clone();
        room.extend([0; 5_000]);
        assert_eq!(whole(&room, 6), all.len());
        assert_eq!(whole(&all[..all.len() - 1], 3), two);
        assert_eq!(whole(&[], 0), 0);
    }
}
