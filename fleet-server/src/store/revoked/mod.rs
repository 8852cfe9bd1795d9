//! What was ended for good, in a file of its own beside the database.
//!
//! A database that is put back from an older backup knows nothing of what was revoked later. This
//! list does: it is never put back, only added to, and a server that starts ends in its database
//! what the list names ([`super::redb`]). So whoever was put out stays out.
//!
//! ```text
//! frame = { whose it is }                       first
//! frame = { from, to, what group `from` ended, what group `to` ended }     one for each group of changes
//! ```
//!
//! Groups are numbered. A frame is on the disk before the database has the group, and so before anybody
//! hears that it was made. What a power cut leaves of the last one was therefore promised to nobody, and
//! as a group is one frame, all of it is there or nothing. The database keeps the number of the newest
//! group that it has. So where groups are missing in the file it is known whether they are in the
//! database, see [`Damage`].
//!
//! Each frame has the group before its own once more, and once the newest frame is on the disk it is
//! written behind itself again. So one that goes bad hides nothing, and the newest is not taken for what
//! a power cut left.
//!
//! What could not be written is written to the same place again with the next change: on a full disk
//! there is room for this file behind its end ([`super::redb`]), and none for another.

#[cfg(any(test, fuzzing))]
pub(crate) mod check;

use std::io;
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
/// Things on the list: a device and its keys for each of a large fleet, and twice as many keys as a
/// server keeps, since one may have ended before it was revoked. The oldest go beyond that, so a
/// backup from before them must not be older than they are.
const ENTRIES_MAX: usize = 131_072;
/// Entries that the file may have beyond those on the list, before it is written anew.
const SPARE_ENTRIES_MAX: usize = 8_192;
/// Things of one group. Larger changes are several.
const GROUP_MAX: usize = 64;
/// Bytes of an entry: a device with all the keys that it may have had, and the longest reason.
const ENTRY_BYTES_MAX: usize = 2048;
/// Bytes of a file: so many of the largest entries.
const FILE_BYTES_MAX: u64 = ((ENTRIES_MAX + 2 * SPARE_ENTRIES_MAX) * ENTRY_BYTES_MAX) as u64;
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

/// What was ended together.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
struct Group {
    /// The first group that this is about: the one before it, which it has once more; or none, with
    /// which a list begins that was written anew.
    from: u64,
    /// Its number.
    to: u64,
    /// What the one before it ended.
    before: Vec<Ended>,
    /// What it ended itself.
    ended: Vec<Ended>,
}

impl Coded for Group {
    const TAG: u8 = 95;
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
    pub(crate) fn join(self, other: Self) -> Self {
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
                let (at_millis, is_deleted) = (one.max(two), is_deleted && is_gone);
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

/// Bytes of a list that are no frames any more, and the groups that are missing for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Damage {
    /// Where they are; or where the list goes on, if something is missing.
    pub(crate) at: usize,
    /// The last group that is missing: a database that has it has all of them. None is, mostly: that
    /// is 0, as each stands there twice.
    pub(crate) group: u64,
}

/// What was ended, each thing once, in the order in which it was.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct List {
    /// Whose it is.
    server: Option<[u8; 32]>,
    /// The number of its newest group.
    group: u64,
    entries: IndexMap<Subject, Ended>,
}

/// What a file is found to have.
#[derive(Debug, Default)]
struct Contents {
    list: List,
    /// What its newest group ended.
    last: Vec<Ended>,
    /// Where its last whole frame ends.
    end: usize,
    /// How many entries it has.
    written: usize,
    damage: Option<Damage>,
}

impl List {
    /// Reads a file's bytes.
    fn read(bytes: &[u8]) -> Result<Contents, RevokedError> {
        let mut found = Contents::default();
        for frame in frames::read(bytes) {
            match frame {
                Found::Frame { at, payload } => {
                    found.end = at + frames::HEADER_BYTES + payload.len();
                    if at == 0 {
                        found.list.server = Some(read::<Head>(payload)?.server);
                    } else {
                        let group = found.group(payload)?;
                        found.take(at, group);
                    }
                }
                Found::Damage { at, .. } => {
                    found.damage.get_or_insert(Damage { at, group: 0 });
                }
                // It is made with its first frame in it.
                Found::Torn { at: 0 } => return Err(RevokedError::Foreign),
                Found::Torn { .. } => {}
            }
        }
        if found.end == 0 { Err(RevokedError::Foreign) } else { Ok(found) }
    }

    /// Reads the list in a folder, if there is one; one with something missing is refused.
    pub(crate) fn read_in(folder: &dyn Disk) -> Result<Option<Self>, RevokedError> {
        let Some(bytes) = contents(folder)? else { return Ok(None) };
        match Self::read(&bytes)? {
            Contents { damage: Some(Damage { at, group: 1.. }), .. } => {
                Err(RevokedError::Damaged(at))
            }
            Contents { list, .. } => Ok(Some(list)),
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
        self.group = self.group.max(other.group);
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

    /// The file's bytes, in groups of their own, and the last of their numbers; none if it is
    /// nobody's list.
    pub(crate) fn encode(&self) -> io::Result<(Vec<u8>, u64)> {
        let Some(server) = self.server else { return Ok((Vec::new(), self.group)) };
        let mut bytes = frame(&Head { server })?;
        let entries: Vec<&Ended> = self.entries.values().collect();
        // One at least, so that it is known from where on they are numbered.
        let groups = entries.chunks(GROUP_MAX).chain(entries.is_empty().then_some(&[][..]));
        let (mut to, mut last) = (self.group, Vec::new());
        for (place, ended) in groups.enumerate() {
            to = to.saturating_add(1);
            let ended = ended.iter().map(|ended| (*ended).clone()).collect();
            let from = if place == 0 { 0 } else { to };
            last = frame(&Group { from, to, before: Vec::new(), ended })?;
            bytes.extend(&last);
        }
        bytes.extend(last);
        Ok((bytes, to))
    }

    /// Writes the list into a folder, in place of one that is there.
    pub(crate) fn write(&self, folder: &dyn Disk) -> io::Result<()> {
        let (bytes, _) = self.encode()?;
        if bytes.is_empty() {
            return Ok(());
        }
        write_draft(folder, &bytes)?;
        publish_draft(folder)
    }
}

impl Contents {
    /// Reads a frame: a group, or one entry as before groups had numbers.
    fn group(&self, payload: &[u8]) -> Result<Group, RevokedError> {
        match (read::<Group>(payload), read::<Ended>(payload)) {
            (Err(RevokedError::Foreign), Ok(ended)) => Ok(Group {
                // What is missing before it has no number, and so no database has it for certain.
                from: if self.damage.is_some() { u64::MAX } else { 0 },
                to: self.list.group.saturating_add(1),
                before: Vec::new(),
                ended: vec![ended],
            }),
            (group, _) => group,
        }
    }

    fn take(&mut self, at: usize, group: Group) {
        let list = &mut self.list;
        if group.from > list.group.saturating_add(1) {
            self.damage = Some(Damage { at, group: group.from - 1 });
        }
        self.written += group.before.len() + group.ended.len();
        for ended in group.before.into_iter().chain(group.ended.iter().cloned()) {
            list.put(ended);
        }
        list.group = list.group.max(group.to);
        self.last = group.ended;
    }
}

fn write_draft(folder: &dyn Disk, bytes: &[u8]) -> io::Result<Arc<dyn DiskFile>> {
    let remove = || match folder.remove(DRAFT_FILE) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    };
    remove()?;
    let file = folder.create(DRAFT_FILE)?;
    match file.write_at(bytes, 0).and_then(|()| file.sync()) {
        Ok(()) => Ok(file),
        // What there is of it takes room that others may need.
        Err(error) => remove().and(Err(error)),
    }
}

fn publish_draft(folder: &dyn Disk) -> io::Result<()> {
    folder.rename(DRAFT_FILE, REVOKED_FILE)?;
    folder.sync()
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
    /// The file; none if there is none yet, or nobody knows which one has its name.
    file: Option<Arc<dyn DiskFile>>,
    /// Where the next frame goes: behind all that is surely on the disk.
    end: u64,
    /// What is on the list, and perhaps not in the file.
    pending: IndexMap<Subject, Ended>,
    /// What the newest group in the file ended.
    last: Vec<Ended>,
    written: usize,
}

impl Revoked {
    /// Reads the list in a folder, or begins one. Writes nothing.
    pub(crate) fn open(folder: Arc<dyn Disk>) -> Result<Self, RevokedError> {
        let Some(bytes) = contents(folder.as_ref())? else {
            return Ok(Self { folder, state: Mutex::default() });
        };
        let Contents { list, last, end, written, damage } = List::read(&bytes)?;
        // What a power cut left of another frame is written over.
        let (file, end) = (Some(folder.open(REVOKED_FILE)?), end as u64);
        let pending = IndexMap::new();
        let state = State { list, damage, file, end, pending, last, written };
        Ok(Self { folder, state: Mutex::new(state) })
    }

    /// Adds what was ended; it is on the disk when this returns, and this is the number of its group.
    /// After an error it may or may not be, and the next call writes it again. Groups that the
    /// database has are not numbered again. Without a server there is nobody's list to write.
    pub(crate) fn add(
        &self,
        server: Option<PublicKey>,
        known: u64,
        ended: Vec<Ended>,
    ) -> io::Result<u64> {
        let mut state = self.lock();
        let server = server.map(PublicKey::bytes);
        if state.list.owner().is_none() && server.is_some() && server != state.list.server {
            (state.list.server, state.file) = (server, None);
        }
        // The end of the file was lost, and what the database has of it is about to come again.
        let is_short = known > state.list.group;
        state.list.group = state.list.group.max(known);
        let news: Vec<Ended> =
            ended.into_iter().filter(|it| state.list.get(&it.subject()) != Some(it)).collect();
        let added = state.add(self.folder.as_ref(), news, is_short);
        if let Err(error) = &added {
            tracing::error!(%error, "{REVOKED_FILE} cannot be written");
        }
        added.map(|()| state.list.group)
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
        self.lock().damage
    }

    /// What it says of something.
    pub(crate) fn get(&self, subject: &Subject) -> Option<Ended> {
        self.lock().list.get(subject).cloned()
    }

    /// When a key was revoked, if it was.
    pub(crate) fn key_ended(&self, id: &str) -> Option<i64> {
        match self.get(&Subject::Key(id.to_owned())) {
            Some(Ended::Key { at_millis, .. }) => Some(at_millis),
            _ => None,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn add(&mut self, folder: &dyn Disk, news: Vec<Ended>, is_short: bool) -> io::Result<()> {
        for ended in news {
            self.pending.insert(ended.subject(), ended.clone());
            self.list.put(ended);
        }
        self.list.trim();
        let is_large =
            self.pending.len() > GROUP_MAX || self.written > self.list.len() + SPARE_ENTRIES_MAX;
        if self.file.is_none() || self.damage.is_some() || is_short || is_large {
            let done = self.write_anew(folder);
            // Where there is no room for another file there may be some for this one.
            if done.is_ok() || self.file.is_none() {
                return done;
            }
        }
        match self.file.clone() {
            Some(file) => self.append(file.as_ref()),
            None => Ok(()),
        }
    }

    fn write_anew(&mut self, folder: &dyn Disk) -> io::Result<()> {
        let (bytes, group) = self.list.encode()?;
        if bytes.is_empty() {
            return Ok(());
        }
        let file = write_draft(folder, &bytes)?;
        self.file = None;
        publish_draft(folder)?;
        let Contents { last, end, written, .. } = List::read(&bytes).map_err(io::Error::other)?;
        (self.list.group, self.last, self.end, self.written) = (group, last, end as u64, written);
        (self.file, self.damage) = (Some(file), None);
        self.pending.clear();
        Ok(())
    }

    /// Writes what is pending behind the rest, a group at a time.
    fn append(&mut self, file: &dyn DiskFile) -> io::Result<()> {
        while !self.pending.is_empty() {
            let ended: Vec<Ended> = self.pending.values().take(GROUP_MAX).cloned().collect();
            let (from, count) = (self.list.group, ended.len());
            let group =
                Group { from, to: from.saturating_add(1), before: self.last.clone(), ended };
            let bytes = frame(&group)?;
            let end = self.end + bytes.len() as u64;
            if end > FILE_BYTES_MAX {
                return Err(io::Error::new(io::ErrorKind::FileTooLarge, "it has too much in it"));
            }
            file.write_at(&bytes, self.end)?;
            file.sync()?;
            self.written += group.before.len() + count;
            (self.end, self.list.group, self.last) = (end, group.to, group.ended);
            self.pending.drain(..count);
            // It is on the disk already, so nobody waits for this one to get there.
            if let Err(error) = file.write_at(&bytes, end) {
                tracing::debug!(%error, "the newest entry of {REVOKED_FILE} is there once");
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
