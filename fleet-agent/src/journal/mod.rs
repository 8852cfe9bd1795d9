//! The journal: what the device was told to do and how far it has come, so that no order has its
//! effect twice, whatever comes twice and whenever the power goes.
//!
//! # What is promised
//!
//! - What [`Journal::accept`], [`Journal::begin`] and [`Journal::finish`] have returned for without
//!   an error is on the disk. What they returned an error for may be; nobody acts on it.
//! - A command that is over stays over, and is known for at least 14 days from then. Clocks that are
//!   set do not shorten that: the device's and the server's must both say that it is long ago.
//! - What the disk loses leads to no second effect. See below.
//!
//! # On the disk
//!
//! One file of rows, which grows by a row for each step and is synced with each. It is written anew,
//! smaller and under another name at first, when the agent starts and when it has doubled. What
//! another run wrote may be in the kernel's memory alone and have failed to be synced, so it is
//! believed only once it was written anew. The same after an error.
//!
//! # When rows are lost
//!
//! A row that was cut off by a power cut was not relied on, and is dropped. Other damage, and what
//! cannot be told from it, means that steps were lost, and nobody knows of which commands. Then the
//! device is careful:
//!
//! - A command that is not over may have been begun without a trace. It is not done; what became of
//!   it is unknown, and its server is told so.
//! - An order that the journal does not know may be one that it knew. It is taken for new only if it
//!   must have been made after the damage was found, by its number, which has the time in it, or by
//!   how long it is good for; both are compared with the server's clock at the first order after
//!   that. For others see [`Journal::may_have_had`].

mod book;
mod row;
#[cfg(test)]
mod tests;

use std::io;
use std::path::Path;
use std::sync::Arc;

use fleet_core::disk::{Disk, DiskFile, Folder};
use fleet_core::limits::COMMANDS_PER_DEVICE_MAX;
use fleet_core::wire::{CommandResult, Outcome};

use book::Book;
use row::Row;

pub use book::{Entry, Stage};
pub use row::{About, Begun, CommandId, Doubt, Over, Words};

/// The journal's folder in the agent's own.
pub const FOLDER: &str = "journal";
/// Commands that are remembered.
pub const ENTRIES_MAX: usize = 10_000;
/// Commands that are not over, or whose result the server does not have.
pub const LIVE_MAX: usize = COMMANDS_PER_DEVICE_MAX;

/// The file, and the one that is to take its place.
const FILE: &str = "journal";
const NEW_FILE: &str = "journal.new";
/// Bytes of the file before it is written anew, if it is not larger without what is superfluous.
const BYTES_MIN: u64 = 256 * 1024;
/// Bytes of a file that are read; no journal has more.
const READ_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// What is said of commands that may have been done without a trace.
pub const LOST: &str =
    "a part of this device's journal was lost, so it cannot tell whether this was done";

/// What the device was told to do, and how far it has come.
pub struct Journal {
    disk: Arc<dyn Disk>,
    book: Book,
    /// The file to append to. Without one the next step writes all of it anew.
    file: Option<OpenFile>,
}

struct OpenFile {
    file: Arc<dyn DiskFile>,
    end: u64,
    /// How large it may grow.
    bytes_max: u64,
}

impl Journal {
    /// Reads what earlier runs of the agent left.
    pub fn open(disk: Arc<dyn Disk>, wall_millis: i64) -> io::Result<Self> {
        let mut journal = Self { disk, book: Book::default(), file: None };
        let Some(bytes) = journal.contents()? else { return Ok(journal) };
        let is_damaged = row::read(&bytes, |row| journal.book.take(row));
        let is_cut = bytes.len() as u64 >= READ_BYTES_MAX;
        if is_damaged || is_cut {
            tracing::error!("a part of the journal of commands was lost; see what is unknown now");
            journal.lost(wall_millis);
        }
        journal.book.prune(wall_millis);
        journal.write_anew(None)?;
        Ok(journal)
    }

    /// A command.
    pub fn entry(&self, id: &CommandId) -> Option<&Entry> {
        self.book.entry(id)
    }

    /// All commands, in the order in which they came.
    pub fn entries(&self) -> Vec<&Entry> {
        self.book.entries()
    }

    /// How many their server waits for.
    pub fn live(&self) -> usize {
        self.book.live()
    }

    /// The server's clock, when an order last told it.
    pub fn server_millis(&self) -> Option<i64> {
        self.book.server_millis()
    }

    /// Whether another command can be remembered. None is forgotten early to make room for it.
    pub fn has_room(&mut self, wall_millis: i64) -> bool {
        if self.book.len() >= ENTRIES_MAX {
            self.book.prune(wall_millis);
        }
        self.book.len() < ENTRIES_MAX
    }

    /// Whether a command that is not known may be one whose rows were lost. The first order after
    /// that tells how late it is by the server's clock.
    pub fn may_have_had(&mut self, about: &About, wall_millis: i64) -> io::Result<bool> {
        let Some(mut doubt) = self.book.doubt else { return Ok(false) };
        match (doubt.since_millis, about.came_millis) {
            (None, Some(came)) => {
                doubt.since_millis = Some(came);
                self.append(Row::Doubt(Some(doubt)), wall_millis)?;
            }
            (Some(since), Some(came)) if book::outlasts(since, came) => {
                self.append(Row::Doubt(None), wall_millis)?;
                return Ok(false);
            }
            (Some(_), _) | (None, None) => {}
        }
        Ok(book::may_be_lost(doubt, about))
    }

    /// An order is taken: from here on it will be done, or it is known why not.
    pub fn accept(&mut self, about: About, words: Words) -> io::Result<()> {
        let wall_millis = words.taken_millis;
        self.append(Row::Accepted { about, words }, wall_millis)
    }

    /// A command is about to be done.
    pub fn begin(&mut self, about: About, begun: Begun, wall_millis: i64) -> io::Result<()> {
        self.append(Row::Running { about, begun }, wall_millis)
    }

    /// A command is over.
    pub fn finish(
        &mut self,
        about: About,
        result: CommandResult,
        wall_millis: i64,
    ) -> io::Result<()> {
        let over = Over { at_millis: wall_millis, result, noted: false };
        self.append(Row::Done { about, over }, wall_millis)
    }

    /// The server has a result. Nothing is lost if the disk does not take that.
    pub fn note(&mut self, id: CommandId, wall_millis: i64) -> io::Result<()> {
        let is_news = self
            .entry(&id)
            .is_some_and(|entry| matches!(&entry.stage, Stage::Done(over) if !over.noted));
        if is_news { self.append(Row::Noted { id }, wall_millis) } else { Ok(()) }
    }

    /// Forgets everything, for another server.
    pub fn clear(&mut self) -> io::Result<()> {
        self.book = Book::default();
        self.file = None;
        clear(self.disk.as_ref()).map(drop)
    }

    /// What is not over may have been begun, and what is not known may have been known.
    fn lost(&mut self, wall_millis: i64) {
        let open = self.entries().into_iter().filter(|e| !matches!(e.stage, Stage::Done(_)));
        let open: Vec<About> = open.map(|entry| entry.about.clone()).collect();
        for about in open {
            let result = CommandResult {
                outcome: Outcome::Unknown,
                detail: LOST.to_owned(),
                exit_code: None,
                output: Vec::new(),
                left_out_bytes: 0,
            };
            let over = Over { at_millis: wall_millis, result, noted: false };
            self.book.take(Row::Done { about, over });
        }
        self.book.doubt = Some(Doubt::default());
    }

    fn append(&mut self, row: Row, wall_millis: i64) -> io::Result<()> {
        let mut bytes = Vec::new();
        row::put(&mut bytes, &row).map_err(io::Error::other)?;
        // Until it has succeeded nothing is known of the file's end.
        match self.file.take().filter(|open| open.end + bytes.len() as u64 <= open.bytes_max) {
            Some(mut open) => {
                open.file.write_at(&bytes, open.end)?;
                open.file.sync()?;
                open.end += bytes.len() as u64;
                self.file = Some(open);
            }
            None => {
                self.book.prune(wall_millis);
                self.write_anew(Some(&row))?;
            }
        }
        self.book.take(row);
        Ok(())
    }

    /// Puts a file with all that is known, and one row more, in the file's place.
    fn write_anew(&mut self, more: Option<&Row>) -> io::Result<()> {
        let mut bytes = Vec::new();
        for row in self.book.rows().iter().chain(more) {
            row::put(&mut bytes, row).map_err(io::Error::other)?;
        }
        let file = match self.disk.open(NEW_FILE) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.disk.create(NEW_FILE)?,
            file => file?,
        };
        file.truncate(0)?;
        file.write_at(&bytes, 0)?;
        file.sync()?;
        self.disk.rename(NEW_FILE, FILE)?;
        self.disk.sync()?;
        let end = bytes.len() as u64;
        self.file = Some(OpenFile { file, end, bytes_max: BYTES_MIN.max(2 * end) });
        Ok(())
    }

    fn contents(&self) -> io::Result<Option<Vec<u8>>> {
        let file = match self.disk.open(FILE) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file?,
        };
        let bytes = file.bytes()?.min(READ_BYTES_MAX);
        let mut contents = vec![0; usize::try_from(bytes).map_err(io::Error::other)?];
        file.read_at(&mut contents, 0)?;
        Ok(Some(contents))
    }
}

/// Removes the journal of an agent that does not run. Says whether there was one.
pub fn erase(path: &Path) -> io::Result<bool> {
    if !path.is_dir() {
        return Ok(false);
    }
    clear(&Folder::open(path)?)
}

/// Removes a journal's files, whatever is in them.
pub(crate) fn clear(disk: &dyn Disk) -> io::Result<bool> {
    let is_ours = |name: &String| [FILE, NEW_FILE].contains(&name.as_str());
    let names: Vec<String> = disk.names()?.into_iter().filter(is_ours).collect();
    names.iter().try_for_each(|name| disk.remove(name))?;
    if !names.is_empty() {
        disk.sync()?;
    }
    Ok(!names.is_empty())
}
