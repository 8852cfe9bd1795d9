//! What was ended for good, in a file of its own beside the database.
//!
//! A database that is put back from an older backup knows nothing of what was revoked later. This
//! list does: it is never put back, only added to, and a server that starts ends in its database
//! what the list names ([`super::redb`]). So whoever was put out stays out.
//!
//! ```text
//! frame = { whose it is }                       first
//! frame = { a key | a device | a device's keys }, one for each thing that was ended, in order
//! ```
//!
//! A frame is on the disk before the database has the change, and so before anybody hears that it was
//! made. What a power cut leaves of the last one was therefore promised to nobody. Damage elsewhere
//! hides something that was: whether that matters the database tells, see [`Damage`].
//!
//! Once the newest frame is on the disk it is written behind itself again. So if it goes bad it is not
//! taken for what a power cut left, and what it says is still known.
//!
//! What could not be written is written to the same place again with the next change: on a full disk
//! there is room for this file behind its end ([`super::redb`]), and none for another.

use std::io;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bincode::{Decode, Encode};
use fleet_core::codec::{self, CodecError, Coded};
use fleet_core::disk::{self, Disk, DiskFile};
use fleet_core::frames::{self, Found};
use fleet_core::identity::PublicKey;
use indexmap::IndexMap;

/// The list's file, in the database's folder.
pub(crate) const REVOKED_FILE: &str = "revoked.log";
/// Where it is written anew.
const DRAFT_FILE: &str = "revoked.log.new";
/// Things on the list: all the keys that a server keeps, and a large fleet several times over. The
/// oldest go beyond that, so a backup from before them must not be older than they are.
const ENTRIES_MAX: usize = 65_536;
/// Frames that the file may have beyond the things that they are about, before it is written anew.
const SPARE_FRAMES_MAX: usize = 4_096;
/// Bytes of a frame: a device with all the keys that it may have had, and the longest reason.
const FRAME_BYTES_MAX: usize = 2048;
/// Bytes of a file: so many of the largest frames, with those of one group of changes to spare.
const FILE_BYTES_MAX: u64 = ((ENTRIES_MAX + 2 * SPARE_FRAMES_MAX) * FRAME_BYTES_MAX) as u64;
/// Characters of the reason that is kept with a device.
const REASON_CHARS_MAX: usize = 200;

/// Something that was ended.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(crate) enum Ended {
    /// A key was revoked.
    Key {
        /// Its id.
        id: String,
        /// When.
        at_millis: i64,
    },
    /// A key ends earlier than it would have, since it has a successor.
    KeyLife {
        /// Its id.
        id: String,
        /// When it ends.
        at_millis: i64,
    },
    /// A device was revoked.
    Device {
        /// Its number.
        uid: [u8; 16],
        /// What it was called.
        id: String,
        /// Its keys, the one that it had first.
        keys: Vec<[u8; 32]>,
        /// When.
        at_millis: i64,
        /// Why.
        reason: String,
        /// Whether it was deleted since, so that who has its key may ask anew.
        is_deleted: bool,
    },
    /// A device has another key, and those that it had are of no use.
    DeviceKeys {
        /// Its number.
        uid: [u8; 16],
        /// The key that it has.
        key: [u8; 32],
        /// Those that it had.
        former: Vec<[u8; 32]>,
    },
}

impl Coded for Ended {
    const TAG: u8 = 94;
    const VERSION: u8 = 1;
}

/// Whose list it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
struct Head {
    server: [u8; 32],
}

impl Coded for Head {
    const TAG: u8 = 93;
    const VERSION: u8 = 1;
}

/// What an entry is about; the last one about it counts.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Subject {
    Key(String),
    KeyLife(String),
    Device([u8; 16]),
    DeviceKeys([u8; 16]),
}

impl Ended {
    pub(crate) fn subject(&self) -> Subject {
        match self {
            Self::Key { id, .. } => Subject::Key(id.clone()),
            Self::KeyLife { id, .. } => Subject::KeyLife(id.clone()),
            Self::Device { uid, .. } => Subject::Device(*uid),
            Self::DeviceKeys { uid, .. } => Subject::DeviceKeys(*uid),
        }
    }

    /// What holds if two lists have both of these about the same thing.
    fn join(self, other: Self) -> Self {
        match (self, other) {
            (Self::Key { id, at_millis: one }, Self::Key { at_millis: two, .. }) => {
                Self::Key { id, at_millis: one.min(two) }
            }
            (Self::KeyLife { id, at_millis: one }, Self::KeyLife { at_millis: two, .. }) => {
                Self::KeyLife { id, at_millis: one.min(two) }
            }
            (
                Self::Device { uid, id, keys, at_millis: one, reason, is_deleted },
                Self::Device { at_millis: two, is_deleted: is_gone, .. },
            ) => {
                let (at_millis, is_deleted) = (one.max(two), is_deleted || is_gone);
                Self::Device { uid, id, keys, at_millis, reason, is_deleted }
            }
            (
                Self::DeviceKeys { uid, key, former },
                Self::DeviceKeys { key: other, former: others, .. },
            ) => {
                let is_newer =
                    others.contains(&key) || (key == other && others.len() > former.len());
                let (key, former) = if is_newer { (other, others) } else { (key, former) };
                Self::DeviceKeys { uid, key, former }
            }
            // Never of the same subject.
            (one, _) => one,
        }
    }

    /// The reason as it is kept.
    pub(crate) fn reason(text: &str) -> String {
        text.chars().take(REASON_CHARS_MAX).collect()
    }
}

/// Why a list cannot be read, or not be relied on.
#[derive(Debug, thiserror::Error)]
pub enum RevokedError {
    /// The file.
    #[error("it cannot be read")]
    Io(#[from] io::Error),
    /// Something else.
    #[error("it is no list of what was revoked")]
    Foreign,
    /// From a later release.
    #[error("a later release has written it")]
    Newer,
    /// Of another server.
    #[error("it is of another server")]
    OtherServer,
    /// Something is missing in it, and nothing else knows what.
    #[error(
        "it is damaged at byte {0}, and the database is older than that: nobody knows who was \
         revoked there"
    )]
    Damaged(usize),
}

/// Bytes in the middle of a list that are no entries any more. They hide something that was ended.
/// Who knows any of the entries behind them is newer than what is hidden, and knows that too.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Damage {
    /// Where the last of it is.
    pub(crate) at: usize,
    /// What stands behind that.
    pub(crate) behind: Vec<Ended>,
}

/// What was ended, each thing once, in the order in which it was.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct List {
    /// Whose it is.
    server: Option<[u8; 32]>,
    entries: IndexMap<Subject, Ended>,
}

impl List {
    /// Reads a file's bytes: the list, how many whole frames there are, where the last of them lies,
    /// and what is missing among them.
    fn read(bytes: &[u8]) -> Result<(Self, usize, Range<usize>, Option<Damage>), RevokedError> {
        let mut list = Self::default();
        let (mut count, mut last) = (0, 0..0);
        let mut damage: Option<Damage> = None;
        for found in frames::read(bytes) {
            match found {
                Found::Frame { at, payload } => {
                    count += 1;
                    last = at..at + frames::HEADER_BYTES + payload.len();
                    if at == 0 {
                        list.server = Some(read::<Head>(payload)?.server);
                        continue;
                    }
                    let ended = read::<Ended>(payload)?;
                    if let Some(damage) = &mut damage {
                        damage.behind.push(ended.clone());
                    }
                    list.put(ended);
                }
                Found::Damage { at, .. } => damage = Some(Damage { at, behind: Vec::new() }),
                // It is made with its first frame in it.
                Found::Torn { at: 0 } => return Err(RevokedError::Foreign),
                Found::Torn { .. } => {}
            }
        }
        if count == 0 { Err(RevokedError::Foreign) } else { Ok((list, count, last, damage)) }
    }

    /// Reads the list in a folder, if there is one; one with something missing is refused.
    pub(crate) fn read_in(folder: &dyn Disk) -> Result<Option<Self>, RevokedError> {
        let Some(bytes) = contents(folder)? else { return Ok(None) };
        match Self::read(&bytes)? {
            (list, _, _, None) => Ok(Some(list)),
            (.., Some(damage)) => Err(RevokedError::Damaged(damage.at)),
        }
    }

    /// Adds something, as the newest.
    pub(crate) fn put(&mut self, ended: Ended) {
        let subject = ended.subject();
        self.entries.shift_remove(&subject);
        self.entries.insert(subject, ended);
    }

    /// Adds all of another list, older or newer: of what both have an entry, whoever is out stays out.
    pub(crate) fn merge(&mut self, other: Self) {
        self.server = self.owner().map(PublicKey::bytes).or(other.server);
        for (subject, ended) in other.entries {
            let ended = match self.entries.get(&subject) {
                Some(known) => known.clone().join(ended),
                None => ended,
            };
            if self.entries.get(&subject) != Some(&ended) {
                self.put(ended);
            }
        }
    }

    /// Whose it is, if anything is on it: one with nothing on it is anybody's.
    pub(crate) fn owner(&self) -> Option<PublicKey> {
        self.server.filter(|_| !self.entries.is_empty()).map(PublicKey::from_bytes)
    }

    pub(crate) fn get(&self, subject: &Subject) -> Option<&Ended> {
        self.entries.get(subject)
    }

    pub(crate) fn entries(&self) -> impl Iterator<Item = &Ended> {
        self.entries.values()
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Lets go of the oldest beyond a bound.
    fn trim(&mut self) {
        let over = self.entries.len().saturating_sub(ENTRIES_MAX);
        self.entries.drain(..over);
    }

    /// The file's bytes; none if it is nobody's list.
    pub(crate) fn encode(&self) -> io::Result<Vec<u8>> {
        let Some(server) = self.server else { return Ok(Vec::new()) };
        let mut bytes = frame(&Head { server })?;
        let mut last = Vec::new();
        for ended in self.entries.values() {
            last = frame(ended)?;
            bytes.extend(&last);
        }
        bytes.extend(last);
        Ok(bytes)
    }

    /// Writes the list into a folder, in place of one that is there.
    pub(crate) fn write(&self, folder: &dyn Disk) -> io::Result<Option<Arc<dyn DiskFile>>> {
        let bytes = self.encode()?;
        if bytes.is_empty() {
            return Ok(None);
        }
        match folder.remove(DRAFT_FILE) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        let file = folder.create(DRAFT_FILE)?;
        file.write_at(&bytes, 0)?;
        file.sync()?;
        folder.rename(DRAFT_FILE, REVOKED_FILE)?;
        folder.sync()?;
        Ok(Some(file))
    }
}

fn frame<T: Coded>(value: &T) -> io::Result<Vec<u8>> {
    let payload = codec::encode(value).map_err(io::Error::other)?;
    let mut bytes = Vec::new();
    frames::put(&mut bytes, |out| out.extend(payload));
    Ok(bytes)
}

fn read<T: Coded>(payload: &[u8]) -> Result<T, RevokedError> {
    codec::decode(payload).map_err(|error| match error {
        CodecError::Unknown { tag, .. } if tag == T::TAG => RevokedError::Newer,
        _ => RevokedError::Foreign,
    })
}

fn contents(folder: &dyn Disk) -> Result<Option<Vec<u8>>, RevokedError> {
    let file = match folder.open(REVOKED_FILE) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    if file.bytes()? > FILE_BYTES_MAX {
        return Err(RevokedError::Foreign);
    }
    Ok(Some(disk::read_all(file.as_ref())?))
}

/// The list that a store keeps, in memory and in its file.
pub(crate) struct Revoked {
    folder: Arc<dyn Disk>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    list: List,
    damage: Option<Damage>,
    /// The file to which the next frame goes; none if there is none, or it is damaged.
    file: Option<Arc<dyn DiskFile>>,
    /// Where that is: behind all that is surely on the disk.
    end: u64,
    /// What goes there: the last frame before it once more, and what could not be written.
    tail: Vec<u8>,
    /// The newest frame.
    last: Vec<u8>,
    /// Whether something on the list is perhaps not in the file.
    is_behind: bool,
    frames: usize,
}

impl Revoked {
    /// Reads the list in a folder, or begins one. Writes nothing.
    pub(crate) fn open(folder: Arc<dyn Disk>) -> Result<Self, RevokedError> {
        let Some(bytes) = contents(folder.as_ref())? else {
            return Ok(Self { folder, state: Mutex::default() });
        };
        let (list, frames, last, damage) = List::read(&bytes)?;
        // What a power cut left of another frame is written over.
        let file = if damage.is_none() { Some(folder.open(REVOKED_FILE)?) } else { None };
        let end = last.end as u64;
        let last = if last.start == 0 { Vec::new() } else { bytes[last].to_vec() };
        let state =
            State { list, damage, file, end, tail: last.clone(), last, is_behind: false, frames };
        Ok(Self { folder, state: Mutex::new(state) })
    }

    /// Adds what was ended; it is on the disk when this returns. After an error it may or may not be,
    /// and the next call writes it again. Without a server there is nobody's list to write.
    pub(crate) fn add(&self, server: Option<PublicKey>, ended: Vec<Ended>) -> io::Result<()> {
        let mut state = self.lock();
        let server = server.map(PublicKey::bytes);
        if state.list.owner().is_none() && server.is_some() && server != state.list.server {
            (state.list.server, state.file) = (server, None);
        }
        let news: Vec<Ended> =
            ended.into_iter().filter(|it| state.list.get(&it.subject()) != Some(it)).collect();
        if news.is_empty() && state.file.is_some() && !state.is_behind {
            return Ok(());
        }
        let added = state.add(self.folder.as_ref(), news);
        state.is_behind = added.is_err();
        if let Err(error) = &added {
            tracing::error!(%error, "{REVOKED_FILE} cannot be written");
        }
        added
    }

    /// Whose it is, if anything is on it.
    pub(crate) fn owner(&self) -> Option<PublicKey> {
        self.lock().list.owner()
    }

    /// The list as it is.
    pub(crate) fn list(&self) -> List {
        self.lock().list.clone()
    }

    /// What is missing in the file.
    pub(crate) fn damage(&self) -> Option<Damage> {
        self.lock().damage.clone()
    }

    /// When a key was revoked, if it was.
    pub(crate) fn key_ended(&self, id: &str) -> Option<i64> {
        match self.lock().list.get(&Subject::Key(id.to_owned())) {
            Some(Ended::Key { at_millis, .. }) => Some(*at_millis),
            _ => None,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn add(&mut self, folder: &dyn Disk, news: Vec<Ended>) -> io::Result<()> {
        for ended in news {
            self.last = frame(&ended)?;
            self.tail.extend(&self.last);
            self.frames += 1;
            self.list.put(ended);
        }
        self.list.trim();
        let has_room = self.frames <= self.list.len() + SPARE_FRAMES_MAX;
        if let Some(file) = self.file.clone().filter(|_| has_room) {
            file.write_at(&self.tail, self.end)?;
            file.sync()?;
            self.end += self.tail.len() as u64;
            self.tail.clone_from(&self.last);
            self.frames += 1;
            // It is on the disk already, so nobody waits for this one to get there.
            if let Err(error) = file.write_at(&self.tail, self.end) {
                tracing::debug!(%error, "the newest entry of {REVOKED_FILE} is there once");
            }
            return Ok(());
        }
        self.file = self.list.write(folder)?;
        self.frames = self.list.len() + 2;
        self.end = self.file.as_ref().map_or(Ok(0), |file| file.bytes())?;
        self.tail.clear();
        self.damage = None;
        Ok(())
    }
}

/// The door of the fuzz target `revoked`: any bytes are no list, or one that is read as itself again.
#[cfg(any(test, fuzzing))]
pub(crate) fn list_of_any_bytes(bytes: &[u8]) {
    let Ok((list, frames, last, damage)) = List::read(bytes) else { return };
    // A first frame that is damaged is none, and so whose the list is is not known.
    let heads = usize::from(list.server.is_some());
    assert!(last.end <= bytes.len() && list.len() + heads <= frames);
    assert!(damage.is_none_or(|damage| damage.at < bytes.len()));
    if list.server.is_some() {
        let written = list.encode().expect("what was read is small enough");
        let (again, _, last, damage) = List::read(&written).expect("what was written is read");
        assert_eq!((again, last.end, damage), (list, written.len(), None));
    }
}

#[cfg(test)]
mod tests;
