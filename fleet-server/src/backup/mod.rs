//! Backups: a server's whole state in one file, taken while it goes on, and put back elsewhere.
//!
//! ```text
//! store ─▶ copy ─▶ pieces ─▶ (a server's reply, or straight on) ─▶ place;   unpack ─▶ a new folder
//! ```
//!
//! # What is in one
//!
//! The rows of all tables as they were at one moment, in one read transaction of the database; the
//! files of telemetry that this moment needs; and `srv.key`, the server's own key, sealed as it
//! lies beside the database. A server that is started on what is restored therefore is the same
//! server to its devices and to whoever holds a key.
//!
//! `secret.key`, which opens `srv.key`, is not in it, and neither is `admin.key`: the file alone
//! makes nobody the server, and lets nobody in. So a copy of `secret.key` (or what `--secret-key`
//! was given) must be kept elsewhere; without it the devices have to be claimed anew. A server that
//! finds no `admin.key` makes a new one and ends the old. Sessions of browsers are left out, too.
//! What is in it all the same deserves care: all that devices measured, all names and
//! configurations, and hashes of keys. It is made for its owner alone (0600).
//!
//! # Why it is consistent
//!
//! The engine is kept from adding and removing chunks while the read transaction begins and its
//! files are opened ([`crate::series::backup`]); taking in reports is not kept from anything. So
//! the index that is copied, the files of chunks and the log belong to one moment:
//!
//! - A report that was acknowledged before was safe in the log. If it was sealed since, the index
//!   of that moment names its chunk, and the chunk's file is held, up to where the index knows. If
//!   not, the log's file that has it is held. Files may be removed meanwhile, by pruning or
//!   compacting or because the log moves on: who has a file open keeps it.
//! - Nothing is there twice, because the index says up to which record of the log a device's values
//!   lie in chunks, and opening a store passes over those, as it does after a crash. A restored
//!   store is what a power cut at that moment would have left.
//! - A report that was acknowledged while the backup was being taken may or may not be in it; so
//!   may a device's last words that were not sealed, with whichever devices there were at that
//!   moment. A report of a device that joined after it is passed over.
//!
//! What devices handed over after that moment they do not send again.
//!
//! # The file
//!
//! Frames ([`fleet_core::frames`]), each with a checksum, its number, and one piece. The last says
//! how many rows and bytes there were, so one that is cut, damaged, or pieced together otherwise is
//! not taken for a whole one. Checksums find accidents; whoever may write the file may change it.

mod copy;
mod format;
#[cfg(test)]
mod tests;
mod unpack;

pub(crate) use copy::copy;
pub(crate) use format::{BackupError, Begin, Contents, read_through};
pub(crate) use unpack::{Restored, UnpackError, restore, verify};
