//! Commands in redb: key = id.
//!
//! What its program wrote lies apart. Four tables say where to look: a device's commands, those that
//! are not over, when those are due, and those that are over and may give way. What counts there
//! are the keys; a value is only who a key is about.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};

use async_trait::async_trait;
use fleet_core::api::CommandState;
use fleet_core::id::Uid;
use fleet_core::limits::{COMMANDS_MAX, COMMANDS_PER_DEVICE_MAX};
use fleet_core::time::Timestamp;
use redb::{ReadableTable, Table};

use super::RedbStore;
use super::devices::require_live;
use super::events;
use super::row::{CommandOutputRow, CommandRow, UidRow};
use super::tables::{
    Bytes, COMMAND_OUTPUTS, COMMANDS, COMMANDS_DUE, COMMANDS_OF, COMMANDS_OPEN, COMMANDS_OVER,
    Fault, View, Writing, seal,
};
use crate::store::{
    CommandChange, CommandQuery, CommandRecord, CommandStore, Conflict, Inserted, StoreError, Tell,
};

/// Commands that one commit removes beyond as many as it adds, so that others need not wait long.
const TRIM_ROWS_MAX: usize = 1_000;

#[async_trait]
impl CommandStore for RedbStore {
    async fn command_insert(
        &self,
        commands: Vec<CommandRecord>,
        tell: Tell<Inserted>,
    ) -> Result<Vec<Inserted>, StoreError> {
        let weight = commands.len();
        self.write_heavy(weight, move |txn| {
            let mut plan = Plan::open(txn)?;
            let inserted = commands.into_iter().map(|command| plan.add(txn, command));
            let inserted = inserted.collect::<Result<Vec<_>, Fault>>()?;
            let new = inserted.iter().filter(|inserted| inserted.is_new);
            let told = new.flat_map(tell).collect();
            plan.carry_out(COMMANDS_MAX, || events::tell(txn, told))?;
            Ok(inserted)
        })
        .await
    }

    async fn command_get(&self, id: Uid) -> Result<Option<CommandRecord>, StoreError> {
        self.read_few(move |txn| {
            let Some(stored) = load(&txn.open(&COMMANDS)?, id)? else { return Ok(None) };
            let output = txn.open(&COMMAND_OUTPUTS)?.get(&id.bytes())?;
            let output = output.map(|row| row.output);
            Ok(Some(CommandRecord { output, ..stored.command }))
        })
        .await
    }

    async fn command_list(&self, query: CommandQuery) -> Result<Vec<CommandRecord>, StoreError> {
        self.read(move |txn| {
            let commands = txn.open(&COMMANDS)?;
            let last = query.before.map_or(LAST, Uid::bytes);
            match query.device {
                Some(device) => {
                    let index = txn.open(&COMMANDS_OF)?;
                    let keys = index.keys(&pair(device, FIRST), &pair(device, last))?;
                    select(&commands, keys.rev(), &query)
                }
                None => select(&commands, commands.keys(&[], &last)?.rev(), &query),
            }
        })
        .await
    }

    async fn command_open(&self, device: Uid) -> Result<Vec<CommandRecord>, StoreError> {
        self.read_few(move |txn| {
            let open = open_of(&txn.open(&COMMANDS)?, &txn.open(&COMMANDS_OPEN)?, device)?;
            Ok(open.into_iter().map(|stored| stored.command).collect())
        })
        .await
    }

    async fn command_change(
        &self,
        id: Uid,
        change: CommandChange,
    ) -> Result<CommandRecord, StoreError> {
        self.write(move |txn| {
            let mut tables = Tables::open(txn)?;
            let stored = load(&tables.commands, id)?.ok_or(StoreError::Missing("command"))?;
            let before = stored.command;
            let mut after = before.clone();
            let told = change(&mut after).map_err(StoreError::from)?;
            (after.id, after.device) = (before.id, before.device);
            let put = (after != before).then(|| Put::new(&after)).transpose()?;
            events::tell(txn, told.into_iter().collect())?;
            if let Some(put) = put {
                tables.put(Was::There { due_at: stored.due_at }, put)?;
            }
            Ok(after)
        })
        .await
    }

    async fn command_due(
        &self,
        now: Timestamp,
        limit: usize,
    ) -> Result<Vec<CommandRecord>, StoreError> {
        self.read(move |txn| {
            let (commands, due) = (txn.open(&COMMANDS)?, txn.open(&COMMANDS_DUE)?);
            let mut found = Vec::new();
            for key in due.keys(&[], &due_key(now, LAST))? {
                if found.len() == limit {
                    break;
                }
                found.extend(sound(&commands, id_of(&key?))?);
            }
            Ok(found)
        })
        .await
    }
}

/// New commands on their way into the tables: everything is checked before anything is written.
pub(super) struct Plan<'a> {
    tables: Tables<'a>,
    changed: BTreeMap<Uid, Planned>,
    /// The devices' commands that are not over then.
    open: HashMap<Uid, Vec<Stored>>,
}

/// A command as it is to be.
struct Planned {
    command: CommandRecord,
    put: Put,
    was: Was,
}

impl<'a> Plan<'a> {
    pub(super) fn open(txn: &Writing<'a>) -> Result<Self, Fault> {
        let tables = Tables::open(txn)?;
        Ok(Self { tables, changed: BTreeMap::new(), open: HashMap::new() })
    }

    /// Plans to add a command. One that is refused changes nothing.
    pub(super) fn add(
        &mut self,
        txn: &Writing<'_>,
        command: CommandRecord,
    ) -> Result<Inserted, Fault> {
        let known = match self.changed.get(&command.id) {
            Some(planned) => Some(planned.command.clone()),
            None => load(&self.tables.commands, command.id)?.map(|stored| stored.command),
        };
        match known {
            Some(known) if known.is_like(&command) => {
                return Ok(Inserted { command: known, is_new: false, superseded: Vec::new() });
            }
            Some(_) => return Err(Conflict::Exists("command").into()),
            None => require_live(txn, command.device)?,
        }
        let put = Put::new(&command)?;
        let open = match self.open.entry(command.device) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => {
                let tables = &self.tables;
                entry.insert(open_of(&tables.commands, &tables.open, command.device)?)
            }
        };
        let makes_way = |older: &Stored| {
            command.command.is_superseded_by_its_like()
                && older.command.state == CommandState::Queued
                && older.command.is_like(&command)
        };
        if open.iter().filter(|older| !makes_way(older)).count() >= COMMANDS_PER_DEVICE_MAX {
            return Err(Conflict::CommandsOpen(COMMANDS_PER_DEVICE_MAX).into());
        }
        let mut superseded = Vec::new();
        for Stored { command: mut older, due_at } in open.extract_if(.., |older| makes_way(older)) {
            older.give_way(&command);
            let was = match self.changed.get(&older.id) {
                Some(planned) => planned.was,
                None => Was::There { due_at },
            };
            let planned = Planned { command: older.clone(), put: Put::new(&older)?, was };
            self.changed.insert(older.id, planned);
            superseded.push(older);
        }
        // It is not in the table of what is due yet.
        open.push(Stored { command: command.clone(), due_at: None });
        let planned = Planned { command: command.clone(), put, was: Was::Absent };
        self.changed.insert(command.id, planned);
        Ok(Inserted { command, is_new: true, superseded })
    }

    /// Writes what is planned, right after `first`, and removes the oldest that are over beyond
    /// `kept`.
    pub(super) fn carry_out(
        mut self,
        kept: u64,
        first: impl FnOnce() -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        let added = self.changed.values().filter(|planned| planned.was == Was::Absent).count();
        if self.tables.open.count()? + added as u64 > kept {
            return Err(Conflict::CommandsFull(kept).into());
        }
        first()?;
        for planned in self.changed.into_values() {
            self.tables.put(planned.was, planned.put)?;
        }
        let surplus = self.tables.commands.count()?.saturating_sub(kept);
        let surplus = usize::try_from(surplus).unwrap_or(usize::MAX);
        self.tables.trim(surplus.min(added.saturating_add(TRIM_ROWS_MAX)))
    }
}

/// The tables of commands, to write.
struct Tables<'a> {
    commands: View<'a, CommandRow, WriteTable<'a>>,
    outputs: View<'a, CommandOutputRow, WriteTable<'a>>,
    of: View<'a, UidRow, WriteTable<'a>>,
    open: View<'a, UidRow, WriteTable<'a>>,
    due: View<'a, UidRow, WriteTable<'a>>,
    over: View<'a, UidRow, WriteTable<'a>>,
}

type WriteTable<'a> = Table<'a, Bytes, Bytes>;

impl<'a> Tables<'a> {
    fn open(txn: &Writing<'a>) -> Result<Self, Fault> {
        Ok(Self {
            commands: txn.open(&COMMANDS)?,
            outputs: txn.open(&COMMAND_OUTPUTS)?,
            of: txn.open(&COMMANDS_OF)?,
            open: txn.open(&COMMANDS_OPEN)?,
            due: txn.open(&COMMANDS_DUE)?,
            over: txn.open(&COMMANDS_OVER)?,
        })
    }

    /// Puts a command. Of the other tables it changes what is to be another than it was.
    fn put(&mut self, was: Was, put: Put) -> Result<(), Fault> {
        let Put { id, device, due_at: next_due_at, value, output } = put;
        let (key, key_of) = (id.bytes(), pair(device, id.bytes()));
        let about_id = UidRow { uid: key };
        let (is_there, due_at) = match was {
            Was::Absent => (false, None),
            Was::There { due_at } => (true, due_at),
        };
        if !is_there {
            self.of.put(&key_of, &about_id)?;
        }
        if due_at != next_due_at {
            if let Some(due_at) = due_at {
                self.due.remove(&due_key(due_at, key))?;
            }
            if let Some(due_at) = next_due_at {
                self.due.put(&due_key(due_at, key), &about_id)?;
            }
        }
        match (due_at, next_due_at) {
            (None, Some(_)) => {
                self.open.put(&key_of, &about_id)?;
                self.over.remove(&key)?;
            }
            (Some(_), None) => self.open.remove(&key_of)?,
            (Some(_), Some(_)) | (None, None) => {}
        }
        if next_due_at.is_none() && (due_at.is_some() || !is_there) {
            self.over.put(&key, &UidRow { uid: device.bytes() })?;
        }
        self.commands.put_sealed(&key, &value)?;
        match output {
            Some(output) => self.outputs.put_sealed(&key, &output),
            None => Ok(()),
        }
    }

    /// Removes so many that are over, oldest first.
    fn trim(&mut self, count: usize) -> Result<(), Fault> {
        let oldest = self.over.keys(&[], &LAST)?.take(count);
        for key in oldest.collect::<Result<Vec<_>, Fault>>()? {
            let id = id_of(&key);
            // Where it is not told whose it was, its place in that device's list leads nowhere.
            if let Some(row) = readable(self.over.get(&key))? {
                self.of.remove(&pair(Uid::from_bytes(row.uid), id.bytes()))?;
            }
            self.remove(id)?;
        }
        Ok(())
    }

    /// Removes a command that is in no device's list any more.
    fn remove(&mut self, id: Uid) -> Result<(), Fault> {
        let key = id.bytes();
        match self.commands.get(&key) {
            Ok(Some(row)) => {
                self.open.remove(&pair(row.device(), key))?;
                if let Some(due_at) = row.due_at() {
                    self.due.remove(&due_key(due_at, key))?;
                }
            }
            Err(Fault::Refused(StoreError::Damaged { .. })) => {
                // It does not say when it is due, but whatever ends with its id is its own.
                let is_its = |key: &Vec<u8>| id_of(key) == id;
                let found = self
                    .due
                    .keys(&[], &[u8::MAX; 24])?
                    .find(|key| key.as_ref().map_or(true, is_its));
                if let Some(due) = found.transpose()? {
                    self.due.remove(&due)?;
                }
            }
            Ok(None) => {}
            Err(fault) => return Err(fault),
        }
        self.over.remove(&key)?;
        self.outputs.remove(&key)?;
        self.commands.remove(&key)
    }
}

/// Removes up to `max` of a device's commands. Returns how many.
pub(super) fn purge(txn: &Writing<'_>, device: Uid, max: usize) -> Result<usize, Fault> {
    let mut tables = Tables::open(txn)?;
    let keys = tables.of.keys(&pair(device, FIRST), &pair(device, LAST))?.take(max);
    let keys = keys.collect::<Result<Vec<_>, Fault>>()?;
    for key in &keys {
        tables.remove(id_of(key))?;
        tables.open.remove(key)?;
        tables.of.remove(key)?;
    }
    Ok(keys.len())
}

/// How a command stands in the tables.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Was {
    Absent,
    /// With the time when it is due, unless it is over.
    There {
        due_at: Option<Timestamp>,
    },
}

/// A command as it is put, made before anything is written.
struct Put {
    id: Uid,
    device: Uid,
    due_at: Option<Timestamp>,
    value: Vec<u8>,
    output: Option<Vec<u8>>,
}

impl Put {
    fn new(command: &CommandRecord) -> Result<Self, StoreError> {
        let key = command.id.bytes();
        let row = CommandRow::from(command);
        let output = command.output.clone().map(|output| CommandOutputRow { output });
        Ok(Self {
            id: command.id,
            device: command.device,
            due_at: row.due_at(),
            value: seal(&key, &row, "command")?,
            output: output.map(|row| seal(&key, &row, "command's output")).transpose()?,
        })
    }
}

/// A command as it is stored, and when it is due as it was written.
struct Stored {
    command: CommandRecord,
    due_at: Option<Timestamp>,
}

fn load<T: ReadableTable<Bytes, Bytes>>(
    commands: &View<'_, CommandRow, T>,
    id: Uid,
) -> Result<Option<Stored>, Fault> {
    let key = id.bytes();
    let Some(row) = commands.get(&key)? else { return Ok(None) };
    let due_at = row.due_at();
    Ok(Some(Stored { command: commands.sound(&key, row.into_command(id))?, due_at }))
}

/// The command with an id; nothing if it is damaged, which is then noted.
pub(super) fn sound<T: ReadableTable<Bytes, Bytes>>(
    commands: &View<'_, CommandRow, T>,
    id: Uid,
) -> Result<Option<CommandRecord>, Fault> {
    Ok(readable(load(commands, id))?.map(|stored| stored.command))
}

/// What was found; nothing if that is damaged.
fn readable<T>(found: Result<Option<T>, Fault>) -> Result<Option<T>, Fault> {
    match found {
        Err(Fault::Refused(StoreError::Damaged { .. })) => Ok(None),
        found => found,
    }
}

fn open_of<C: ReadableTable<Bytes, Bytes>, O: ReadableTable<Bytes, Bytes>>(
    commands: &View<'_, CommandRow, C>,
    open: &View<'_, UidRow, O>,
    device: Uid,
) -> Result<Vec<Stored>, Fault> {
    let mut found = Vec::new();
    for key in open.keys(&pair(device, FIRST), &pair(device, LAST))? {
        found.extend(readable(load(commands, id_of(&key?)))?);
    }
    Ok(found)
}

/// Those of some commands that are asked for.
fn select<T: ReadableTable<Bytes, Bytes>>(
    commands: &View<'_, CommandRow, T>,
    keys: impl Iterator<Item = Result<Vec<u8>, Fault>>,
    query: &CommandQuery,
) -> Result<Vec<CommandRecord>, Fault> {
    let mut found = Vec::new();
    for key in keys {
        if found.len() == query.limit {
            break;
        }
        let id = id_of(&key?);
        if query.names(id) {
            found.extend(sound(commands, id)?.filter(|command| query.wants(command)));
        }
    }
    Ok(found)
}

type Id = [u8; 16];

const FIRST: Id = [0; 16];
const LAST: Id = [u8::MAX; 16];

fn pair(device: Uid, id: Id) -> [u8; 32] {
    let mut key = [0; 32];
    key[..16].copy_from_slice(&device.bytes());
    key[16..].copy_from_slice(&id);
    key
}

fn due_key(due_at: Timestamp, id: Id) -> [u8; 24] {
    let mut key = [0; 24];
    // No time is before 1970.
    key[..8].copy_from_slice(&due_at.millis().to_be_bytes());
    key[8..].copy_from_slice(&id);
    key
}

/// The id that a key ends with.
fn id_of(key: &[u8]) -> Uid {
    Uid::from_bytes(key.last_chunk().copied().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use fleet_core::id::DeviceId;

    use super::super::tables::Reading;
    use super::*;
    use crate::store::{
        Admission, Device, DeviceStore as _, MetaStore as _, OtherKeys, StoreHealth,
    };

    async fn with_device() -> (RedbStore, Device) {
        let store = RedbStore::in_memory();
        let device = Device {
            uid: Uid::new(),
            id: "a".parse().unwrap(),
            key: None,
            name: None,
            state: Admission::Active,
            state_reason: String::new(),
            state_at: Timestamp::default(),
            facts: fleet_core::wire::Facts::default(),
            metadata: BTreeMap::new(),
            created_at: Timestamp::default(),
            last_seen: None,
            missed_reports: 0,
            other_keys: OtherKeys::default(),
            reported: None,
        };
        store.device_insert(device.clone()).await.unwrap();
        (store, device)
    }

    fn command(device: &Device, state: CommandState) -> CommandRecord {
        let device_id: DeviceId = device.id.clone();
        CommandRecord {
            id: Uid::new(),
            device: device.uid,
            device_id,
            command: "exec a".parse().unwrap(),
            author: String::new(),
            created_at: Timestamp::default(),
            expires_at: Timestamp::from_millis(5),
            timeout: Duration::ZERO,
            state,
            why: String::new(),
            state_at: Timestamp::default(),
            cancel_asked_by: None,
            sent_at: None,
            accepted_at: None,
            exit_code: None,
            output: Some(b"out".to_vec()),
            output_left_out: 0,
        }
    }

    async fn listed(store: &RedbStore) -> Vec<Uid> {
        let query = CommandQuery { limit: 99, ..CommandQuery::default() };
        let mut found: Vec<_> =
            store.command_list(query).await.unwrap().iter().map(|command| command.id).collect();
        found.reverse();
        found
    }

    /// How many values each table of commands has.
    async fn counts(store: &RedbStore) -> [u64; 6] {
        let count = |txn: &Reading<'_>| {
            Ok([
                txn.open(&COMMANDS)?.count()?,
                txn.open(&COMMAND_OUTPUTS)?.count()?,
                txn.open(&COMMANDS_OF)?.count()?,
                txn.open(&COMMANDS_OPEN)?.count()?,
                txn.open(&COMMANDS_DUE)?.count()?,
                txn.open(&COMMANDS_OVER)?.count()?,
            ])
        };
        store.read(count).await.unwrap()
    }

    #[tokio::test]
    async fn the_oldest_that_are_over_give_way() {
        let (store, device) = with_device().await;
        let add = |states: &[CommandState], kept| {
            let commands: Vec<_> = states.iter().map(|state| command(&device, *state)).collect();
            let ids: Vec<_> = commands.iter().map(|command| command.id).collect();
            let write = store.write(move |txn| {
                let mut plan = Plan::open(txn)?;
                for command in commands {
                    plan.add(txn, command)?;
                }
                plan.carry_out(kept, || Ok(()))
            });
            async move { write.await.map(|()| ids) }
        };
        let (open, over) = (CommandState::Queued, CommandState::Failed);
        let first = add(&[open, over, over, open], 5).await.unwrap();
        assert_eq!(counts(&store).await, [4, 4, 4, 2, 2, 2]);
        let second = add(&[open, over], 5).await.unwrap();
        let kept = [first[0], first[2], first[3], second[0], second[1]];
        assert_eq!(listed(&store).await, kept);
        assert_eq!(counts(&store).await, [5, 5, 5, 3, 3, 2]);
        let third = add(&[open, open], 5).await.unwrap();
        assert_eq!(listed(&store).await, [first[0], first[3], second[0], third[0], third[1]]);
        // What is still to be done gives way to nothing.
        let full = add(&[open], 5).await.unwrap_err();
        assert!(matches!(full, StoreError::Conflict(Conflict::CommandsFull(5))), "{full:?}");
        assert_eq!(counts(&store).await, [5, 5, 5, 5, 5, 0]);
        store.device_delete(device.uid, Timestamp::default()).await.unwrap();
        store.device_purge(Timestamp::from_millis(1)).await.unwrap();
        assert_eq!(counts(&store).await, [0; 6]);
    }

    #[tokio::test]
    async fn a_damaged_command_is_left_out_and_is_in_nobodys_way() {
        let (store, device) = with_device().await;
        let [bad, good] = [(); 2].map(|()| command(&device, CommandState::Queued));
        let add = |added| store.command_insert(added, Box::new(|_| Vec::new()));
        add(vec![bad.clone(), good.clone()]).await.unwrap();
        let key = bad.id.bytes();
        store.write(move |txn| txn.open(&COMMANDS)?.put_sealed(&key, b"junk")).await.unwrap();
        assert_eq!(listed(&store).await, [good.id]);
        assert_eq!(store.command_open(device.uid).await.unwrap().len(), 1);
        let due = store.command_due(Timestamp::from_millis(9), 9).await.unwrap();
        assert_eq!(due.iter().map(|command| command.id).collect::<Vec<_>>(), [good.id]);
        let damaged = store.command_change(bad.id, Box::new(|_| Ok(None))).await.unwrap_err();
        assert!(matches!(damaged, StoreError::Damaged { table: "commands", .. }), "{damaged:?}");
        add(vec![command(&device, CommandState::Queued)]).await.unwrap();
        let health = "1 stored value in commands is damaged";
        assert_eq!(store.health(), StoreHealth::Degraded(health.to_owned()));
        store.device_delete(device.uid, Timestamp::default()).await.unwrap();
        store.device_purge(Timestamp::from_millis(1)).await.unwrap();
        assert_eq!(counts(&store).await, [0; 6]);
    }
}
