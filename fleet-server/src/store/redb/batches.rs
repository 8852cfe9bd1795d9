//! Batches in redb: key = id; their members: key = id, place.
//!
//! One table says which batches are not over, another one which member a command or a version of a
//! configuration belongs to. A member and its batch's counts are always changed together.

use async_trait::async_trait;
use fleet_core::api::{BatchState, MemberState};
use fleet_core::id::Uid;
use fleet_core::limits::{BATCHES_MAX, BATCHES_OPEN_MAX, COMMANDS_MAX};
use fleet_core::time::Timestamp;
use redb::{ReadableTable, Table};

use super::RedbStore;
use super::row::{BatchRow, MemberRow, PlaceRow, UidRow};
use super::tables::{
    BATCH_MEMBERS, BATCH_STEPS, BATCHES, BATCHES_OPEN, Bytes, COMMANDS, Fault, View, Writing, seal,
};
use super::{commands, configs, events};
use crate::store::{
    BatchChange, BatchRecord, BatchStore, Begun, CommandRecord, Conflict, MemberChange,
    MemberQuery, MemberRecord, Members, Place, Refusal, Step, StoreError, Tell,
};

/// Members that one commit removes, so that others need not wait long.
const TRIM_ROWS_MAX: usize = 1_000;

#[async_trait]
impl BatchStore for RedbStore {
    async fn batch_insert(
        &self,
        batch: BatchRecord,
        members: Vec<MemberRecord>,
    ) -> Result<BatchRecord, StoreError> {
        let weight = members.len();
        self.write_heavy(weight, move |txn| insert(txn, batch, &members)).await
    }

    async fn batch_get(&self, id: Uid) -> Result<Option<BatchRecord>, StoreError> {
        self.read_few(move |txn| load(&txn.open(&BATCHES)?, id)).await
    }

    async fn batch_list(
        &self,
        before: Option<Uid>,
        limit: usize,
    ) -> Result<Vec<BatchRecord>, StoreError> {
        self.read(move |txn| {
            let batches = txn.open(&BATCHES)?;
            let last = before.map_or(LAST, Uid::bytes);
            let mut found = Vec::new();
            for entry in batches.rows(&[], &last)?.rev() {
                let (key, row) = entry?;
                let id = id_of(&key);
                if found.len() == limit {
                    break;
                }
                if before != Some(id)
                    && let Ok(batch) = batches.sound(&key, row.into_batch(id))
                {
                    found.push(batch);
                }
            }
            Ok(found)
        })
        .await
    }

    async fn batch_open(&self) -> Result<Vec<BatchRecord>, StoreError> {
        self.read(move |txn| {
            let (batches, open) = (txn.open(&BATCHES)?, txn.open(&BATCHES_OPEN)?);
            let mut found = Vec::new();
            for key in open.keys(&[], &LAST)? {
                match load(&batches, id_of(&key?)) {
                    Ok(batch) => found.extend(batch),
                    // Health says so; the others go on.
                    Err(Fault::Refused(StoreError::Damaged { .. })) => {}
                    Err(fault) => return Err(fault),
                }
            }
            Ok(found)
        })
        .await
    }

    async fn batch_change(&self, id: Uid, change: BatchChange) -> Result<BatchRecord, StoreError> {
        self.write(move |txn| {
            let mut tables = Tables::open(txn)?;
            let before = tables.batch(id)?;
            let mut after = before.clone();
            change(&mut after).map_err(StoreError::from)?;
            (after.id, after.total, after.counts) = (before.id, before.total, before.counts);
            if after != before {
                tables.put_batch(&after)?;
            }
            Ok(after)
        })
        .await
    }

    async fn batch_members(
        &self,
        query: MemberQuery,
    ) -> Result<Vec<(u32, MemberRecord)>, StoreError> {
        self.read(move |txn| {
            let members = txn.open(&BATCH_MEMBERS)?;
            let mut found = Vec::new();
            for entry in members.rows(&key(query.batch, 0), &key(query.batch, u32::MAX))? {
                if found.len() == query.limit {
                    break;
                }
                let (key, row) = entry?;
                let Ok(member) = members.sound(&key, row.into_member()) else { continue };
                let is_asked_for = (query.states.is_empty()
                    || query.states.contains(&member.state))
                    && query.after.as_ref().is_none_or(|after| member.device_id > *after);
                if is_asked_for {
                    found.push((ordinal(&key), member));
                }
            }
            Ok(found)
        })
        .await
    }

    async fn batch_begin(
        &self,
        batch: Uid,
        at: Timestamp,
        steps: Vec<(u32, Step)>,
        tell: Tell<Begun>,
    ) -> Result<Members<Begun>, StoreError> {
        let weight = steps.len();
        self.write_heavy(weight, move |txn| begin(txn, batch, at, steps, &tell)).await
    }

    async fn batch_members_change(
        &self,
        batch: Uid,
        changes: Vec<(u32, MemberChange)>,
    ) -> Result<Members<MemberRecord>, StoreError> {
        let weight = changes.len();
        self.write_heavy(weight, move |txn| {
            let mut tables = Tables::open(txn)?;
            let mut batch = tables.batch(batch)?;
            let before = batch.counts;
            let mut members = Vec::with_capacity(changes.len());
            for (ordinal, change) in changes {
                let place = Place { batch: batch.id, ordinal };
                members.push((ordinal, alone(tables.change_member(&mut batch, place, change))?));
            }
            if batch.counts != before {
                tables.put_batch(&batch)?;
            }
            Ok(Members { batch, members })
        })
        .await
    }

    async fn batch_commands(
        &self,
        commands: Vec<Uid>,
    ) -> Result<Vec<(Place, CommandRecord)>, StoreError> {
        self.read(move |txn| {
            let (steps, records) = (txn.open(&BATCH_STEPS)?, txn.open(&COMMANDS)?);
            let mut found = Vec::new();
            for id in commands {
                let place = alone(steps.get(&id.bytes()))?.ok().flatten();
                let Some(place) = place.map(|row| row.place()) else { continue };
                found.extend(commands::sound(&records, id)?.map(|command| (place, command)));
            }
            Ok(found)
        })
        .await
    }

    async fn batch_of_config(
        &self,
        device: Uid,
        version: u64,
        limit: usize,
    ) -> Result<Vec<Place>, StoreError> {
        self.read(move |txn| {
            let steps = txn.open(&BATCH_STEPS)?;
            let last = Place { batch: Uid::from_bytes([u8::MAX; 16]), ordinal: u32::MAX };
            let first = Place { batch: Uid::from_bytes([0; 16]), ordinal: 0 };
            let (first, last) = (config_key(device, 0, first), config_key(device, version, last));
            let rows = steps.rows(&first, &last)?;
            let of_configs = |entry: &Result<(Vec<u8>, PlaceRow), Fault>| {
                entry.as_ref().map_or(true, |(key, _)| key.len() == CONFIG_KEY_BYTES)
            };
            let rows = rows.rev().filter(of_configs).take(limit);
            rows.map(|entry| Ok(entry?.1.place())).collect()
        })
        .await
    }

    async fn batch_trim(&self) -> Result<bool, StoreError> {
        // Looked for often, and seldom found: without a commit.
        let count = self.read(|txn| txn.open(&BATCHES)?.count()).await?;
        if count <= BATCHES_MAX {
            return Ok(false);
        }
        self.write(|txn| trim(txn, BATCHES_MAX)).await
    }
}

fn insert(
    txn: &Writing<'_>,
    batch: BatchRecord,
    members: &[MemberRecord],
) -> Result<BatchRecord, Fault> {
    let mut tables = Tables::open(txn)?;
    if tables.batches.contains(&batch.id.bytes())? {
        return Err(Conflict::Exists("batch").into());
    }
    if tables.open.count()? >= BATCHES_OPEN_MAX {
        return Err(Conflict::BatchesOpen(BATCHES_OPEN_MAX).into());
    }
    let total = u32::try_from(members.len()).map_err(|_| StoreError::TooLarge("batch"))?;
    let batch = BatchRecord { total, counts: crate::store::Counts::of(members), ..batch };
    // Everything is checked before anything is written.
    let sealed = (0..).zip(members).map(|(ordinal, member)| {
        let key = key(batch.id, ordinal);
        Ok((key, seal(&key, &MemberRow::from(member), "batch's member")?))
    });
    let sealed = sealed.collect::<Result<Vec<_>, StoreError>>()?;
    tables.put_batch(&batch)?;
    for (key, value) in sealed {
        tables.members.put_sealed(&key, &value)?;
    }
    Ok(batch)
}

/// Has members begin. What is refused of one concerns it alone, and leaves nothing behind.
fn begin(
    txn: &Writing<'_>,
    batch: Uid,
    at: Timestamp,
    steps: Vec<(u32, Step)>,
    tell: &Tell<Begun>,
) -> Result<Members<Begun>, Fault> {
    let mut tables = Tables::open(txn)?;
    let mut batch = tables.batch(batch)?;
    if batch.state != BatchState::Running {
        return Err(StoreError::from(Refusal("the batch is not running".to_owned())).into());
    }
    let (mut given, mut members) = (commands::Plan::open(txn)?, Vec::with_capacity(steps.len()));
    for (ordinal, step) in steps {
        let place = Place { batch: batch.id, ordinal };
        let begun = tables.waiting(place).and_then(|mut member| {
            member.state = MemberState::Running;
            (member.state_at, member.begun_at) = (at, Some(at));
            begin_one(txn, &mut given, member, step)
        });
        members.push((ordinal, alone(begun)?));
    }
    let begun = members.iter().filter_map(|(_, begun)| begun.as_ref().ok());
    let told: Vec<_> = begun.flat_map(tell).collect();
    given.carry_out(COMMANDS_MAX, || events::tell(txn, told))?;
    for (ordinal, begun) in &members {
        let (place, Ok(begun)) = (Place { batch: batch.id, ordinal: *ordinal }, begun) else {
            continue;
        };
        let (member, at) = (&begun.member, PlaceRow::from(place));
        if let Some(command) = member.command {
            tables.steps.put(&command.bytes(), &at)?;
        }
        if let Some(version) = member.version {
            tables.steps.put(&config_key(member.device, version, place), &at)?;
        }
        tables.put_member(&mut batch, place, MemberState::Waiting, member)?;
    }
    tables.put_batch(&batch)?;
    Ok(Members { batch, members })
}

fn begin_one(
    txn: &Writing<'_>,
    given: &mut commands::Plan<'_>,
    mut member: MemberRecord,
    step: Step,
) -> Result<Begun, Fault> {
    let (mut command, mut config) = (None, None);
    match step {
        Step::Command(record) => {
            member.command = Some(record.id);
            member.why = format!("was given the command {}", record.id);
            command = Some(given.add(txn, *record)?);
        }
        Step::Config { expected, config: Some(new) } => {
            let stored = configs::append(txn, member.device, Some(expected), new)?;
            member.version = Some(stored.version);
            member.why = format!("was given version {} of its configuration", stored.version);
            config = Some(stored);
        }
        Step::Config { expected, config: None } => {
            configs::require_latest(txn, member.device, expected)?;
            member.version = Some(expected);
            member.why = format!("has version {expected} of its configuration, which says so");
        }
    }
    Ok(Begun { member, command, config })
}

/// Of a group, what is refused of one concerns that one; only the database's failure ends it.
fn alone<T>(outcome: Result<T, Fault>) -> Result<Result<T, StoreError>, Fault> {
    match outcome {
        Ok(value) => Ok(Ok(value)),
        Err(Fault::Refused(error)) => Ok(Err(error)),
        Err(fault) => Err(fault),
    }
}

/// Removes some of what is kept beyond `kept` batches, the oldest that are over first.
fn trim(txn: &Writing<'_>, kept: u64) -> Result<bool, Fault> {
    let mut tables = Tables::open(txn)?;
    if tables.batches.count()? <= kept {
        return Ok(false);
    }
    let mut oldest = None;
    for key in tables.batches.keys(&[], &LAST)? {
        let key = key?;
        if !tables.open.contains(&key)? {
            oldest = Some(key);
            break;
        }
    }
    let Some(batch) = oldest else { return Ok(false) };
    let id = id_of(&batch);
    let keys = tables.members.keys(&key(id, 0), &key(id, u32::MAX))?.take(TRIM_ROWS_MAX);
    let keys = keys.collect::<Result<Vec<_>, Fault>>()?;
    for key in &keys {
        match tables.members.get(key) {
            Ok(Some(row)) => {
                if let Some(command) = row.command() {
                    tables.steps.remove(&command.bytes())?;
                }
                if let Some((device, version)) = row.version() {
                    let place = Place { batch: id, ordinal: ordinal(key) };
                    tables.steps.remove(&config_key(device, version, place))?;
                }
            }
            // What it was given leads nowhere from now on.
            Ok(None) | Err(Fault::Refused(StoreError::Damaged { .. })) => {}
            Err(fault) => return Err(fault),
        }
        tables.members.remove(key)?;
    }
    if keys.len() < TRIM_ROWS_MAX {
        tables.batches.remove(&batch)?;
    }
    Ok(true)
}

/// The tables of batches, to write.
struct Tables<'a> {
    batches: View<'a, BatchRow, WriteTable<'a>>,
    open: View<'a, UidRow, WriteTable<'a>>,
    members: View<'a, MemberRow, WriteTable<'a>>,
    steps: View<'a, PlaceRow, WriteTable<'a>>,
}

type WriteTable<'a> = Table<'a, Bytes, Bytes>;

impl<'a> Tables<'a> {
    fn open(txn: &Writing<'a>) -> Result<Self, Fault> {
        Ok(Self {
            batches: txn.open(&BATCHES)?,
            open: txn.open(&BATCHES_OPEN)?,
            members: txn.open(&BATCH_MEMBERS)?,
            steps: txn.open(&BATCH_STEPS)?,
        })
    }

    fn batch(&self, id: Uid) -> Result<BatchRecord, Fault> {
        Ok(load(&self.batches, id)?.ok_or(StoreError::Missing("batch"))?)
    }

    fn member(&self, place: Place) -> Result<MemberRecord, Fault> {
        let key = key(place.batch, place.ordinal);
        let row = self.members.get(&key)?.ok_or(StoreError::Missing("batch's member"))?;
        Ok(self.members.sound(&key, row.into_member())?)
    }

    /// A member that waits.
    fn waiting(&self, place: Place) -> Result<MemberRecord, Fault> {
        let member = self.member(place)?;
        if member.state != MemberState::Waiting {
            let refusal = Refusal("the device has begun already".to_owned());
            return Err(StoreError::from(refusal).into());
        }
        Ok(member)
    }

    /// Changes a member, and its batch's counts, which are put later.
    fn change_member(
        &mut self,
        batch: &mut BatchRecord,
        place: Place,
        change: MemberChange,
    ) -> Result<MemberRecord, Fault> {
        let before = self.member(place)?;
        let mut after = before.clone();
        change(&mut after);
        (after.device, after.command, after.version) =
            (before.device, before.command, before.version);
        if after != before {
            self.put_member(batch, place, before.state, &after)?;
        }
        Ok(after)
    }

    fn put_batch(&mut self, batch: &BatchRecord) -> Result<(), Fault> {
        let key = batch.id.bytes();
        let value = seal(&key, &BatchRow::from(batch), "batch")?;
        if batch.is_open() {
            self.open.put(&key, &UidRow { uid: key })?;
        } else {
            self.open.remove(&key)?;
        }
        self.batches.put_sealed(&key, &value)
    }

    /// Puts a member that was in another state, which its batch's counts then know.
    fn put_member(
        &mut self,
        batch: &mut BatchRecord,
        place: Place,
        before: MemberState,
        member: &MemberRecord,
    ) -> Result<(), Fault> {
        let key = key(place.batch, place.ordinal);
        let value = seal(&key, &MemberRow::from(member), "batch's member")?;
        if before != member.state {
            batch.counts.moved(before, member.state);
            // Of what is unknown the device may still speak; all else is told.
            if let Some(version) = member.version
                && member.state.is_over()
                && member.state != MemberState::Unknown
            {
                self.steps.remove(&config_key(member.device, version, place))?;
            }
        }
        self.members.put_sealed(&key, &value)
    }
}

fn load<T: ReadableTable<Bytes, Bytes>>(
    batches: &View<'_, BatchRow, T>,
    id: Uid,
) -> Result<Option<BatchRecord>, Fault> {
    let key = id.bytes();
    let Some(row) = batches.get(&key)? else { return Ok(None) };
    Ok(Some(batches.sound(&key, row.into_batch(id))?))
}

const LAST: [u8; 16] = [u8::MAX; 16];
/// Keys of commands are shorter.
const CONFIG_KEY_BYTES: usize = 44;

fn key(batch: Uid, ordinal: u32) -> [u8; 20] {
    let mut key = [0; 20];
    key[..16].copy_from_slice(&batch.bytes());
    key[16..].copy_from_slice(&ordinal.to_be_bytes());
    key
}

/// More than one batch may give a device the same version, where there is nothing to change.
fn config_key(device: Uid, version: u64, place: Place) -> [u8; CONFIG_KEY_BYTES] {
    let mut key = [0; CONFIG_KEY_BYTES];
    key[..16].copy_from_slice(&device.bytes());
    key[16..24].copy_from_slice(&version.to_be_bytes());
    key[24..].copy_from_slice(&self::key(place.batch, place.ordinal));
    key
}

fn ordinal(key: &[u8]) -> u32 {
    key.last_chunk().map_or(0, |bytes| u32::from_be_bytes(*bytes))
}

/// The id that a key is.
fn id_of(key: &[u8]) -> Uid {
    Uid::from_bytes(key.first_chunk().copied().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use fleet_core::api::WhenOffline;

    use super::super::tables::Reading;
    use super::*;
    use crate::store::{Action, Counts};

    fn batch(state: BatchState) -> BatchRecord {
        BatchRecord {
            id: Uid::new(),
            action: Action::Config("{}".to_owned()),
            state,
            why: String::new(),
            state_at: Timestamp::default(),
            filter: None,
            total: 0,
            counts: Counts::default(),
            forgiven: 0,
            window: 1,
            canary: 0,
            max_fail: 1,
            timeout: Duration::ZERO,
            offline: WhenOffline::Queue,
            expires_at: Timestamp::default(),
            author: String::new(),
            created_at: Timestamp::default(),
            reason: None,
            retry_of: None,
        }
    }

    fn members(count: usize) -> Vec<MemberRecord> {
        let member = |_| MemberRecord {
            device: Uid::new(),
            device_id: "a".parse().unwrap(),
            state: MemberState::Succeeded,
            why: String::new(),
            state_at: Timestamp::default(),
            begun_at: None,
            command: None,
            version: None,
        };
        (0..count).map(member).collect()
    }

    async fn counts(store: &RedbStore) -> [u64; 3] {
        let count = |txn: &Reading<'_>| {
            Ok([
                txn.open(&BATCHES)?.count()?,
                txn.open(&BATCHES_OPEN)?.count()?,
                txn.open(&BATCH_MEMBERS)?.count()?,
            ])
        };
        store.read(count).await.unwrap()
    }

    #[tokio::test]
    async fn the_oldest_that_are_over_give_way_a_piece_at_a_time() {
        let store = RedbStore::in_memory();
        let open = store.batch_insert(batch(BatchState::Paused), members(1)).await.unwrap();
        let large = TRIM_ROWS_MAX + 1;
        store.batch_insert(batch(BatchState::Done), members(large)).await.unwrap();
        let last = store.batch_insert(batch(BatchState::Done), members(2)).await.unwrap();
        assert_eq!(counts(&store).await, [3, 1, large as u64 + 3]);
        let trim_to = async |kept| store.write(move |txn| trim(txn, kept)).await.unwrap();
        assert!(!trim_to(3).await);
        assert!(trim_to(2).await);
        assert_eq!(counts(&store).await, [3, 1, 4], "a piece at a time");
        assert!(trim_to(2).await);
        assert!(!trim_to(2).await);
        assert_eq!(counts(&store).await, [2, 1, 3]);
        assert!(trim_to(1).await);
        // What is not over gives way to nothing.
        assert!(!trim_to(0).await);
        assert_eq!(counts(&store).await, [1, 1, 1]);
        assert_eq!(store.batch_get(open.id).await.unwrap(), Some(open));
        assert_eq!(store.batch_get(last.id).await.unwrap(), None);
    }

    #[tokio::test]
    async fn a_damaged_batch_is_left_out_and_is_in_nobodys_way() {
        let store = RedbStore::in_memory();
        let bad = store.batch_insert(batch(BatchState::Running), members(1)).await.unwrap();
        let good = store.batch_insert(batch(BatchState::Running), members(1)).await.unwrap();
        let key = bad.id.bytes();
        store.write(move |txn| txn.open(&BATCHES)?.put_sealed(&key, b"junk")).await.unwrap();
        let ids = |found: Vec<BatchRecord>| found.iter().map(|it| it.id).collect::<Vec<_>>();
        assert_eq!(ids(store.batch_list(None, 9).await.unwrap()), [good.id]);
        assert_eq!(ids(store.batch_open().await.unwrap()), [good.id]);
        let damaged = store.batch_change(bad.id, Box::new(|_| Ok(()))).await.unwrap_err();
        assert!(matches!(damaged, StoreError::Damaged { table: "batches", .. }), "{damaged:?}");
    }
}
