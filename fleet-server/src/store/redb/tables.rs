//! Every table, its key layout, and typed views of them.
//!
//! A value goes in sealed and comes out checked: a damaged one is an error for that value alone,
//! noted in the [`DamageLog`], and is passed over where rows are listed.
//!
//! | table | key | value |
//! |---|---|---|
//! | `meta` | a word | schema, server's key |
//! | `devices` | uid | device, without what changes with every report |
//! | `devices_seen` | uid | last seen, missed reports |
//! | `devices_deleted` | uid | how a deleted device stood, while it can be had back |
//! | `device_ids` | id | uid, of devices that are not deleted |
//! | `device_keys` | key | uid, of devices that are not deleted |
//! | `keys` | id | key record |
//! | `key_origins` | id | who made the key, and in place of which one |
//! | `grants` | uid | grant record |
//! | `grant_keys` | device key, grant uid | grant uid |
//! | `configs` | device uid, version | configuration |
//! | `config_owns` | device uid, version | what of it is the device's own, if not all |
//! | `config_layers` | layer, 0, version | configuration that devices share |
//! | `commands` | id | command, without what its program wrote |
//! | `command_outputs` | id | what its program wrote |
//! | `commands_of` | device uid, id | id |
//! | `commands_open` | device uid, id | id, of commands that are not over |
//! | `commands_due` | time, id | id, of commands that are not over |
//! | `commands_over` | id | device uid, of commands that are over |
//! | `batches` | id | batch, with how many of its members have come how far |
//! | `batches_open` | id | id, of batches of which something is to come |
//! | `batch_members` | batch id, place | a device of a batch |
//! | `batch_steps` | command id; or device uid, version | the member that was given it |
//! | `telemetry` | a word | whose files of telemetry belong to it, what is too old |
//! | `series` | number | a series' name |
//! | `chunks` | device uid, tier, last time, segment, place | where a chunk of values lies |
//! | `segments` | number | what a file of chunks holds |
//! | `heads` | device uid | how far its telemetry is sealed, newest values |
//! | `sessions` | hash | session record |
//! | `events` | number, device uid | event |
//! | `preauths` | fingerprint | what a device with this key is let in as |
//! | `doubles` | device uid | what speaks for two devices with its key |
//! | `audit` | number | audit record |
//! | `audit_open` | number | when, of intents without an outcome |
//! | `audit_points` | 0; or 1, number | place in the audit record that was signed: its start, heads |
//!
//! Numbers in keys are big-endian, so that keys sort as their numbers do.

use std::cell::{Cell, RefCell};
use std::marker::PhantomData;
use std::rc::Rc;

use fleet_core::codec::{self, CodecError, Coded};
use redb::{
    ReadOnlyTable, ReadTransaction, ReadableTable, StorageError, Table, TableDefinition,
    TableError, WriteTransaction,
};

use super::damage::DamageLog;
use super::row::{
    AuditOpenRow, AuditPointRow, AuditRow, BatchRow, ChunkRow, CommandOutputRow, CommandRow,
    ConfigRow, DeletedRow, DeviceRow, DoubleRow, EventRow, FirstKeyRow, GrantRow, GroupRow,
    HeadRow, KeyOriginRow, KeyRow, MemberRow, OwnConfigRow, PlaceRow, PreauthRow, SchemaRow,
    SeenRow, SegmentRow, SeriesRow, ServerKeyRow, SessionRow, TelemetryRow, UidRow,
};
use crate::store::revoked::Ended;
use crate::store::{Conflict, StoreError};

pub(super) const SCHEMA: Sealed<SchemaRow> = Sealed::new("meta");
pub(super) const SERVER_KEY: Sealed<ServerKeyRow> = Sealed::new("meta");
pub(super) const REVOKED_GROUP: Sealed<GroupRow> = Sealed::new("meta");
pub(super) const DEVICES: Sealed<DeviceRow> = Sealed::new("devices");
pub(super) const DEVICES_SEEN: Sealed<SeenRow> = Sealed::new("devices_seen");
pub(super) const DEVICES_DELETED: Sealed<DeletedRow> = Sealed::new("devices_deleted");
pub(super) const DEVICE_IDS: Sealed<UidRow> = Sealed::new("device_ids");
pub(super) const DEVICE_KEYS: Sealed<UidRow> = Sealed::new("device_keys");
pub(super) const KEYS: Sealed<KeyRow> = Sealed::new("keys");
/// The keys of a database from before they had roles.
pub(super) const FIRST_KEYS: Sealed<FirstKeyRow> = Sealed::new("keys");
pub(super) const KEY_ORIGINS: Sealed<KeyOriginRow> = Sealed::new("key_origins");
pub(super) const GRANTS: Sealed<GrantRow> = Sealed::new("grants");
pub(super) const GRANT_KEYS: Sealed<UidRow> = Sealed::new("grant_keys");
pub(super) const CONFIGS: Sealed<ConfigRow> = Sealed::new("configs");
pub(super) const CONFIG_OWNS: Sealed<OwnConfigRow> = Sealed::new("config_owns");
pub(super) const CONFIG_LAYERS: Sealed<ConfigRow> = Sealed::new("config_layers");
pub(super) const COMMANDS: Sealed<CommandRow> = Sealed::new("commands");
pub(super) const COMMAND_OUTPUTS: Sealed<CommandOutputRow> = Sealed::new("command_outputs");
pub(super) const COMMANDS_OF: Sealed<UidRow> = Sealed::new("commands_of");
pub(super) const COMMANDS_OPEN: Sealed<UidRow> = Sealed::new("commands_open");
pub(super) const COMMANDS_DUE: Sealed<UidRow> = Sealed::new("commands_due");
pub(super) const COMMANDS_OVER: Sealed<UidRow> = Sealed::new("commands_over");
pub(super) const BATCHES: Sealed<BatchRow> = Sealed::new("batches");
pub(super) const BATCHES_OPEN: Sealed<UidRow> = Sealed::new("batches_open");
pub(super) const BATCH_MEMBERS: Sealed<MemberRow> = Sealed::new("batch_members");
pub(super) const BATCH_STEPS: Sealed<PlaceRow> = Sealed::new("batch_steps");
pub(super) const TELEMETRY: Sealed<TelemetryRow> = Sealed::new("telemetry");
pub(super) const SERIES: Sealed<SeriesRow> = Sealed::new("series");
pub(super) const CHUNKS: Sealed<ChunkRow> = Sealed::new("chunks");
pub(super) const SEGMENTS: Sealed<SegmentRow> = Sealed::new("segments");
pub(super) const HEADS: Sealed<HeadRow> = Sealed::new("heads");
pub(super) const SESSIONS: Sealed<SessionRow> = Sealed::new("sessions");
pub(super) const EVENTS: Sealed<EventRow> = Sealed::new("events");
pub(super) const PREAUTHS: Sealed<PreauthRow> = Sealed::new("preauths");
pub(super) const DOUBLES: Sealed<DoubleRow> = Sealed::new("doubles");
pub(super) const AUDIT: Sealed<AuditRow> = Sealed::new("audit");
pub(super) const AUDIT_OPEN: Sealed<AuditOpenRow> = Sealed::new("audit_open");
pub(super) const AUDIT_POINTS: Sealed<AuditPointRow> = Sealed::new("audit_points");

/// Makes every table, so that a reader never meets a missing one.
pub(super) fn create_all(txn: &Writing<'_>) -> Result<(), Fault> {
    txn.open(&SCHEMA)?;
    txn.open(&DEVICES)?;
    txn.open(&DEVICES_SEEN)?;
    txn.open(&DEVICES_DELETED)?;
    txn.open(&DEVICE_IDS)?;
    txn.open(&DEVICE_KEYS)?;
    txn.open(&KEYS)?;
    txn.open(&KEY_ORIGINS)?;
    txn.open(&GRANTS)?;
    txn.open(&GRANT_KEYS)?;
    txn.open(&CONFIGS)?;
    txn.open(&CONFIG_OWNS)?;
    txn.open(&CONFIG_LAYERS)?;
    txn.open(&COMMANDS)?;
    txn.open(&COMMAND_OUTPUTS)?;
    txn.open(&COMMANDS_OF)?;
    txn.open(&COMMANDS_OPEN)?;
    txn.open(&COMMANDS_DUE)?;
    txn.open(&COMMANDS_OVER)?;
    txn.open(&BATCHES)?;
    txn.open(&BATCHES_OPEN)?;
    txn.open(&BATCH_MEMBERS)?;
    txn.open(&BATCH_STEPS)?;
    txn.open(&TELEMETRY)?;
    txn.open(&SERIES)?;
    txn.open(&CHUNKS)?;
    txn.open(&SEGMENTS)?;
    txn.open(&HEADS)?;
    txn.open(&SESSIONS)?;
    txn.open(&EVENTS)?;
    txn.open(&DOUBLES)?;
    txn.open(&PREAUTHS)?;
    txn.open(&AUDIT)?;
    txn.open(&AUDIT_OPEN)?;
    txn.open(&AUDIT_POINTS)?;
    Ok(())
}

pub(super) type Bytes = &'static [u8];

/// A table whose values are sealed rows of one kind.
pub(super) struct Sealed<R> {
    name: &'static str,
    row: PhantomData<fn() -> R>,
}

impl<R: Coded> Sealed<R> {
    const fn new(name: &'static str) -> Self {
        Self { name, row: PhantomData }
    }

    pub(super) fn name(&self) -> &'static str {
        self.name
    }

    fn definition(&self) -> TableDefinition<'static, Bytes, Bytes> {
        TableDefinition::new(self.name)
    }
}

/// A snapshot to read from.
pub(super) struct Reading<'a> {
    pub(super) txn: &'a ReadTransaction,
    pub(super) damage: &'a DamageLog,
}

impl<'a> Reading<'a> {
    pub(super) fn open<R: Coded>(
        &self,
        table: &Sealed<R>,
    ) -> Result<View<'a, R, ReadOnlyTable<Bytes, Bytes>>, Fault> {
        Ok(View::new(
            table.name,
            self.txn.open_table(table.definition())?,
            self.damage,
            Rc::default(),
        ))
    }
}

/// The transaction that a group of changes shares.
pub(super) struct Writing<'a> {
    pub(super) txn: &'a WriteTransaction,
    pub(super) damage: &'a DamageLog,
    /// The number of the newest event, if events were added.
    pub(super) newest_event: Cell<Option<u64>>,
    /// What was ended for good, which is on its list before the database has it.
    pub(super) ended: RefCell<Vec<Ended>>,
    /// How many rows were put and removed.
    changes: Rc<Cell<u64>>,
}

impl<'a> Writing<'a> {
    pub(super) fn new(txn: &'a WriteTransaction, damage: &'a DamageLog) -> Self {
        let (ended, changes) = (RefCell::default(), Rc::default());
        Self { txn, damage, newest_event: Cell::new(None), ended, changes }
    }

    /// How many rows were put and removed so far.
    pub(super) fn changes(&self) -> u64 {
        self.changes.get()
    }

    pub(super) fn open<R: Coded>(
        &self,
        table: &Sealed<R>,
    ) -> Result<View<'a, R, Table<'a, Bytes, Bytes>>, Fault> {
        let (opened, changes) = (self.txn.open_table(table.definition())?, self.changes.clone());
        Ok(View::new(table.name, opened, self.damage, changes))
    }

    /// Notes that something is ended for good by what was just written.
    pub(super) fn ends(&self, ended: impl IntoIterator<Item = Ended>) {
        self.ended.borrow_mut().extend(ended);
    }
}

/// An open table.
pub(super) struct View<'a, R, T> {
    name: &'static str,
    table: T,
    damage: &'a DamageLog,
    changes: Rc<Cell<u64>>,
    row: PhantomData<fn() -> R>,
}

impl<'a, R, T> View<'a, R, T> {
    fn new(name: &'static str, table: T, damage: &'a DamageLog, changes: Rc<Cell<u64>>) -> Self {
        Self { name, table, damage, changes, row: PhantomData }
    }
}

impl<R: Coded, T: ReadableTable<Bytes, Bytes>> View<'_, R, T> {
    /// The row under a key; [`StoreError::Damaged`] if it is not what was written.
    pub(super) fn get(&self, key: &[u8]) -> Result<Option<R>, Fault> {
        let Some(value) = self.table.get(key)? else { return Ok(None) };
        Ok(Some(self.unseal(key, value.value())?))
    }

    /// Whether there is a value under a key, damaged or not.
    pub(super) fn contains(&self, key: &[u8]) -> Result<bool, Fault> {
        Ok(self.table.get(key)?.is_some())
    }

    /// The undamaged rows with keys from one to another, both included, in either direction.
    pub(super) fn rows(
        &self,
        from: &[u8],
        to: &[u8],
    ) -> Result<impl DoubleEndedIterator<Item = Result<(Vec<u8>, R), Fault>> + '_, Fault> {
        Ok(self.table.range::<&[u8]>(from..=to)?.filter_map(move |entry| match entry {
            Ok((key, value)) => {
                let row = self.unseal(key.value(), value.value()).ok()?;
                Some(Ok((key.value().to_vec(), row)))
            }
            Err(error) => Some(Err(error.into())),
        }))
    }

    /// All undamaged rows, by key.
    pub(super) fn all(
        &self,
    ) -> Result<impl DoubleEndedIterator<Item = Result<(Vec<u8>, R), Fault>> + '_, Fault> {
        self.from(&[])
    }

    /// The undamaged rows from a key on.
    pub(super) fn from(
        &self,
        key: &[u8],
    ) -> Result<impl DoubleEndedIterator<Item = Result<(Vec<u8>, R), Fault>> + '_, Fault> {
        self.rows(key, &[u8::MAX; KEY_BYTES_MAX])
    }

    /// The keys from one to another, both included, whatever their values.
    pub(super) fn keys(
        &self,
        from: &[u8],
        to: &[u8],
    ) -> Result<impl DoubleEndedIterator<Item = Result<Vec<u8>, Fault>> + '_, Fault> {
        let entries = self.table.range::<&[u8]>(from..=to)?;
        Ok(entries.map(|entry| Ok(entry?.0.value().to_vec())))
    }

    /// How many values there are.
    pub(super) fn count(&self) -> Result<u64, Fault> {
        Ok(self.table.len()?)
    }

    /// One more than the last number that is a key, where keys are numbers of four bytes.
    pub(super) fn end(&self) -> Result<u32, Fault> {
        let last = self.keys(&[], &[u8::MAX; 4])?.next_back().transpose()?;
        let number = last.and_then(|key| Some(u32::from_be_bytes(key.try_into().ok()?)));
        Ok(number.map_or(0, |number| number + 1))
    }

    /// What a row stores, if the row is sound in itself.
    pub(super) fn sound<V>(
        &self,
        key: &[u8],
        value: Result<V, CodecError>,
    ) -> Result<V, StoreError> {
        value.map_err(|source| self.damage.note(self.name, key, source))
    }

    fn unseal(&self, key: &[u8], value: &[u8]) -> Result<R, StoreError> {
        self.sound(key, codec::open(key, value))
    }
}

impl<R: Coded> View<'_, R, Table<'_, Bytes, Bytes>> {
    /// Puts a row that is known to be small.
    pub(super) fn put(&mut self, key: &[u8], row: &R) -> Result<(), Fault> {
        self.put_sealed(key, &seal(key, row, self.name)?)
    }

    /// Puts what [`seal`] made for the same key.
    pub(super) fn put_sealed(&mut self, key: &[u8], value: &[u8]) -> Result<(), Fault> {
        self.changes.update(|count| count + 1);
        self.table.insert(key, value)?;
        Ok(())
    }

    pub(super) fn remove(&mut self, key: &[u8]) -> Result<(), Fault> {
        self.changes.update(|count| count + 1);
        self.table.remove(key)?;
        Ok(())
    }

    /// Removes up to `max` values with keys from one to another, both included. Returns how many.
    pub(super) fn remove_range(
        &mut self,
        from: &[u8],
        to: &[u8],
        max: usize,
    ) -> Result<usize, Fault> {
        let keys: Vec<Vec<u8>> = self.keys(from, to)?.take(max).collect::<Result<_, _>>()?;
        for key in &keys {
            self.remove(key)?;
        }
        Ok(keys.len())
    }
}

/// A row as bytes for the store, made before anything is written, so that one too large leaves
/// nothing behind.
pub(super) fn seal<R: Coded>(
    key: &[u8],
    row: &R,
    what: &'static str,
) -> Result<Vec<u8>, StoreError> {
    // Rows hold nothing that bincode cannot write, so only their size can be wrong.
    codec::seal(key, row).map_err(|_| StoreError::TooLarge(what))
}

/// No key is longer.
const KEY_BYTES_MAX: usize = 65;

/// What ends a piece of work: a refusal, which concerns it alone, or the database's failure, which
/// concerns everybody.
pub(super) enum Fault {
    Refused(StoreError),
    Storage(redb::Error),
}

impl From<StoreError> for Fault {
    fn from(error: StoreError) -> Self {
        Self::Refused(error)
    }
}

impl From<Conflict> for Fault {
    fn from(conflict: Conflict) -> Self {
        Self::Refused(conflict.into())
    }
}

impl From<StorageError> for Fault {
    fn from(error: StorageError) -> Self {
        Self::Storage(error.into())
    }
}

impl From<TableError> for Fault {
    fn from(error: TableError) -> Self {
        Self::Storage(error.into())
    }
}
