//! Devices in redb: the record, what changes with every report, and who has an id or a key.

use async_trait::async_trait;
use fleet_core::id::{DeviceId, Uid};
use fleet_core::identity::PublicKey;
use fleet_core::time::Timestamp;
use redb::{ReadableTable, Table};

use super::RedbStore;
use super::deleted;
use super::events;
use super::grants::void_grants;
use super::revoked::{device_ended, keys_replaced};
use super::row::{DeviceRow, SeenRow, UidRow, device_rows};
use super::tables::{
    Bytes, DEVICE_IDS, DEVICE_KEYS, DEVICES, DEVICES_SEEN, DOUBLES, Fault, Reading, View, Writing,
    seal,
};
use crate::store::{Admission, Change, Conflict, Device, DeviceStore, Directory, StoreError, Tell};

/// Rows that one commit removes, so that others need not wait long.
const PURGE_ROWS_MAX: usize = 5_000;

#[async_trait]
impl DeviceStore for RedbStore {
    fn directory(&self) -> &Directory {
        &self.directory
    }

    async fn device_get(&self, uid: Uid) -> Result<Option<Device>, StoreError> {
        let found = self.read_few(move |txn| DeviceTables::reading(txn)?.load(uid)).await?;
        Ok(found.map(|device| self.told(device)))
    }

    async fn device_find(&self, id: &DeviceId) -> Result<Option<Device>, StoreError> {
        let id = id.clone();
        let find = move |txn: &Reading<'_>| {
            let bytes = id.as_str().as_bytes();
            DeviceTables::reading(txn)?.find(&txn.open(&DEVICE_IDS)?, bytes, |row| row.has_id(&id))
        };
        Ok(self.read_few(find).await?.map(|device| self.told(device)))
    }

    async fn device_by_key(&self, key: PublicKey) -> Result<Option<Device>, StoreError> {
        let find = move |txn: &Reading<'_>| {
            let index = txn.open(&DEVICE_KEYS)?;
            DeviceTables::reading(txn)?.find(&index, &key.bytes(), |row| row.has_key(key))
        };
        Ok(self.read_few(find).await?.map(|device| self.told(device)))
    }

    async fn device_list(&self) -> Result<Vec<Device>, StoreError> {
        let list = |txn: &Reading<'_>| {
            let tables = DeviceTables::reading(txn)?;
            let mut listed = Vec::new();
            for entry in tables.devices.all()? {
                let (key, row) = entry?;
                if row.is_deleted() {
                    continue;
                }
                match tables.assemble(uid_of(&key), row) {
                    Ok(device) => listed.push(device),
                    Err(Fault::Refused(_)) => {} // damaged, and noted as such
                    Err(fault) => return Err(fault),
                }
            }
            Ok(listed)
        };
        Ok(self.read(list).await?.into_iter().map(|device| self.told(device)).collect())
    }

    async fn device_insert(&self, device: Device) -> Result<(), StoreError> {
        let inserted = device.clone();
        self.write(move |txn| insert(txn, device.clone())).await?;
        self.noted(inserted).await;
        Ok(())
    }

    async fn device_update_told(
        &self,
        uid: Uid,
        change: Change,
        tell: Tell<Device>,
    ) -> Result<Device, StoreError> {
        let update = move |txn: &Writing<'_>| {
            let device = update(txn, uid, change)?;
            if matches!(device.state, Admission::Rejected | Admission::Revoked) {
                void_grants(txn, device.keys())?;
            }
            events::tell(txn, tell(&device))?;
            Ok(device)
        };
        let device = self.write(update).await?;
        self.noted(device.clone()).await;
        Ok(self.told(device))
    }

    async fn device_delete(&self, uid: Uid, at: Timestamp) -> Result<(), StoreError> {
        let delete = deletion(at);
        let delete = move |txn: &Writing<'_>| {
            deleted::note(txn, uid)?;
            let device = update(txn, uid, delete)?;
            void_grants(txn, device.keys())?;
            Ok(device)
        };
        let deleted = self.write(delete).await?;
        self.noted(deleted).await;
        Ok(())
    }

    async fn device_forget(&self, uid: Uid) -> Result<(), StoreError> {
        // No operator's word against the device, so its grants hold.
        let delete = deletion(Timestamp::default());
        let deleted = self.write(move |txn| update(txn, uid, delete)).await?;
        self.noted(deleted).await;
        self.forget_series(uid).await?;
        while !self.write(move |txn| purge_some(txn, uid)).await? {}
        Ok(())
    }

    async fn device_purge(&self, before: Timestamp) -> Result<u64, StoreError> {
        let doomed = self
            .read(move |txn| {
                let devices = txn.open(&DEVICES)?;
                let rows = devices.all()?.filter(|entry| match entry {
                    Ok((_, row)) => row.is_deleted() && row.state_at() < before,
                    Err(_) => true,
                });
                rows.map(|entry| Ok(uid_of(&entry?.0))).collect::<Result<Vec<_>, Fault>>()
            })
            .await?;
        let mut count = 0;
        for uid in doomed {
            if self.write(move |txn| deleted::give_up(txn, uid)).await? {
                self.forget_series(uid).await?;
                while !self.write(move |txn| purge_some(txn, uid)).await? {}
                count += 1;
            }
        }
        Ok(count)
    }

    async fn device_touch(&self, seen: Vec<(Uid, Timestamp)>) -> Result<(), StoreError> {
        let weight = seen.len();
        self.write_heavy(weight, move |txn| {
            let mut tables = DeviceTables::writing(txn)?;
            for (uid, at) in seen {
                if tables.is_live(uid)? {
                    let mut row = tables.seen_or_anew(uid)?;
                    row.last_seen_millis = Some(at.millis());
                    tables.seen.put(&uid.bytes(), &row)?;
                }
            }
            Ok(())
        })
        .await
    }
}

/// Adds a device, or changes nothing.
pub(super) fn insert(txn: &Writing<'_>, device: Device) -> Result<(), Fault> {
    let mut tables = DeviceTables::writing(txn)?;
    if tables.devices.contains(&device.uid.bytes())? {
        return Err(Conflict::Exists("device").into());
    }
    let mut names = Names::open(txn)?;
    names.require_free(&tables, &device)?;
    let uid = device.uid;
    tables.store(device.clone())?;
    if device.state == Admission::Deleted { Ok(()) } else { names.take(uid, &device) }
}

impl RedbStore {
    /// Tells those in memory what is stored of a device now; as far as that cannot be read, what was
    /// stored last.
    pub(super) async fn noted(&self, changed: Device) {
        let _turn = self.turn.lock().await;
        let uid = changed.uid;
        let stored = self.read_few(move |txn| DeviceTables::reading(txn)?.load(uid)).await;
        let device = stored.ok().flatten().unwrap_or(changed);
        self.directory.note(uid, &device);
        if device.state == Admission::Deleted {
            self.series.device_ended(uid);
        } else {
            self.series.device_began(uid);
        }
    }

    /// Removes a device's telemetry.
    async fn forget_series(&self, uid: Uid) -> Result<(), StoreError> {
        self.look(move |series| series.forget(uid)).await
    }

    /// The device with what the telemetry engine counts of it.
    pub(super) fn told(&self, device: Device) -> Device {
        let missed = device.missed_reports.saturating_add(self.series.missed(device.uid));
        Device { missed_reports: missed, ..device }
    }
}

/// The two tables that make a device.
pub(super) struct DeviceTables<'a, D, S> {
    devices: View<'a, DeviceRow, D>,
    seen: View<'a, SeenRow, S>,
}

type ReadTable = redb::ReadOnlyTable<Bytes, Bytes>;
type WriteTable<'a> = Table<'a, Bytes, Bytes>;

impl<'a> DeviceTables<'a, ReadTable, ReadTable> {
    pub(super) fn reading(txn: &Reading<'a>) -> Result<Self, Fault> {
        Ok(Self { devices: txn.open(&DEVICES)?, seen: txn.open(&DEVICES_SEEN)? })
    }
}

impl<D: ReadableTable<Bytes, Bytes>, S: ReadableTable<Bytes, Bytes>> DeviceTables<'_, D, S> {
    pub(super) fn load(&self, uid: Uid) -> Result<Option<Device>, Fault> {
        match self.devices.get(&uid.bytes())? {
            Some(row) => self.assemble(uid, row).map(Some),
            None => Ok(None),
        }
    }

    fn assemble(&self, uid: Uid, row: DeviceRow) -> Result<Device, Fault> {
        let seen = self.seen.get(&uid.bytes())?.unwrap_or_default();
        Ok(self.devices.sound(&uid.bytes(), row.into_device(uid, seen))?)
    }

    /// The device that an index names.
    fn find<I: ReadableTable<Bytes, Bytes>>(
        &self,
        index: &View<'_, UidRow, I>,
        key: &[u8],
        is_it: impl Fn(&DeviceRow) -> bool,
    ) -> Result<Option<Device>, Fault> {
        match self.owner(index, key, is_it)? {
            Some(uid) => self.load(uid),
            None => Ok(None),
        }
    }

    /// Whom an index names. Where the index is damaged, the devices themselves are asked.
    fn owner<I: ReadableTable<Bytes, Bytes>>(
        &self,
        index: &View<'_, UidRow, I>,
        key: &[u8],
        is_it: impl Fn(&DeviceRow) -> bool,
    ) -> Result<Option<Uid>, Fault> {
        match index.get(key) {
            Ok(row) => Ok(row.map(|row| Uid::from_bytes(row.uid))),
            Err(Fault::Refused(StoreError::Damaged { .. })) => {
                for entry in self.devices.all()? {
                    let (key, row) = entry?;
                    if !row.is_deleted() && is_it(&row) {
                        return Ok(Some(uid_of(&key)));
                    }
                }
                Ok(None)
            }
            Err(fault) => Err(fault),
        }
    }

    /// Whether a device is there and not deleted.
    pub(super) fn is_live(&self, uid: Uid) -> Result<bool, Fault> {
        is_live(&self.devices, uid)
    }

    /// All devices, and whether each is there and not deleted.
    pub(super) fn all(&self) -> Result<Vec<(Uid, bool)>, Fault> {
        let keys = self.devices.keys(&[], &[u8::MAX; 16])?;
        keys.map(|key| {
            let uid = uid_of(&key?);
            Ok((uid, self.is_live(uid)?))
        })
        .collect()
    }

    /// Whether a device is there, deleted or not.
    pub(super) fn exists(&self, uid: Uid) -> Result<bool, Fault> {
        self.devices.contains(&uid.bytes())
    }

    /// What was noted with the last report. A damaged note is begun anew: it is no reason to
    /// refuse what a device sends.
    fn seen_or_anew(&self, uid: Uid) -> Result<SeenRow, Fault> {
        match self.seen.get(&uid.bytes()) {
            Ok(row) => Ok(row.unwrap_or_default()),
            Err(Fault::Refused(StoreError::Damaged { .. })) => Ok(SeenRow::default()),
            Err(fault) => Err(fault),
        }
    }
}

impl<'a> DeviceTables<'a, WriteTable<'a>, WriteTable<'a>> {
    pub(super) fn writing(txn: &Writing<'a>) -> Result<Self, Fault> {
        Ok(Self { devices: txn.open(&DEVICES)?, seen: txn.open(&DEVICES_SEEN)? })
    }

    pub(super) fn store(&mut self, device: Device) -> Result<(), Fault> {
        let key = device.uid.bytes();
        let (row, seen) = device_rows(device);
        let value = seal(&key, &row, "device")?;
        self.devices.put_sealed(&key, &value)?;
        self.seen.put(&key, &seen)
    }
}

/// The devices that are not deleted, for memory.
pub(super) fn directory(txn: &Reading<'_>) -> Result<Directory, Fault> {
    let tables = DeviceTables::reading(txn)?;
    let directory = Directory::default();
    for entry in tables.devices.all()? {
        let (key, row) = entry?;
        let uid = uid_of(&key);
        match tables.assemble(uid, row) {
            Ok(device) => directory.note(uid, &device),
            Err(Fault::Refused(_)) => {} // damaged, and noted as such
            Err(fault) => return Err(fault),
        }
    }
    Ok(directory)
}

fn is_live<T: ReadableTable<Bytes, Bytes>>(
    devices: &View<'_, DeviceRow, T>,
    uid: Uid,
) -> Result<bool, Fault> {
    match devices.get(&uid.bytes()) {
        Ok(row) => Ok(row.is_some_and(|row| !row.is_deleted())),
        // It is there, but nobody can say more; what it sends is kept.
        Err(Fault::Refused(StoreError::Damaged { .. })) => Ok(true),
        Err(fault) => Err(fault),
    }
}

/// Refuses unless the device is there and not deleted.
pub(super) fn require_live(txn: &Writing<'_>, uid: Uid) -> Result<(), Fault> {
    if is_live(&txn.open(&DEVICES)?, uid)? {
        Ok(())
    } else {
        Err(StoreError::Missing("device").into())
    }
}

fn deletion(at: Timestamp) -> Change {
    Box::new(move |device| {
        device.state = Admission::Deleted;
        device.state_reason = String::new();
        device.state_at = at;
        Ok(())
    })
}

fn update(txn: &Writing<'_>, uid: Uid, change: Change) -> Result<Device, Fault> {
    let mut tables = DeviceTables::writing(txn)?;
    let before = tables.load(uid)?.ok_or(StoreError::Missing("device"))?;
    if before.state == Admission::Deleted {
        return Err(StoreError::Missing("device").into());
    }
    let mut after = before.clone();
    change(&mut after).map_err(StoreError::from)?;
    after.uid = before.uid;
    after.created_at = before.created_at;
    let mut names = Names::open(txn)?;
    let kept = after.state != Admission::Deleted;
    if kept {
        names.require_free(&tables, &after)?;
    }
    tables.store(after.clone())?;
    names.release(&before)?;
    if kept {
        names.take(uid, &after)?;
    }
    if after.state == Admission::Revoked && before.state != Admission::Revoked {
        txn.ends([device_ended(&after, false)]);
    }
    if before.state == Admission::Revoked && !kept {
        txn.ends([device_ended(&before, true)]);
    }
    if before.key != after.key {
        txn.ends(keys_replaced(&after));
    }
    Ok(after)
}

/// Who has an id or a key, among devices that are not deleted.
pub(super) struct Names<'a> {
    ids: View<'a, UidRow, WriteTable<'a>>,
    keys: View<'a, UidRow, WriteTable<'a>>,
}

impl<'a> Names<'a> {
    pub(super) fn open(txn: &Writing<'a>) -> Result<Self, Fault> {
        Ok(Self { ids: txn.open(&DEVICE_IDS)?, keys: txn.open(&DEVICE_KEYS)? })
    }

    pub(super) fn require_free<D: ReadableTable<Bytes, Bytes>, S: ReadableTable<Bytes, Bytes>>(
        &self,
        tables: &DeviceTables<'_, D, S>,
        device: &Device,
    ) -> Result<(), Fault> {
        self.require_free_but_for(tables, device, &[])
    }

    /// The same where others are about to give way.
    pub(super) fn require_free_but_for<
        D: ReadableTable<Bytes, Bytes>,
        S: ReadableTable<Bytes, Bytes>,
    >(
        &self,
        tables: &DeviceTables<'_, D, S>,
        device: &Device,
        others: &[Device],
    ) -> Result<(), Fault> {
        let Device { uid, id, .. } = device;
        let is_in_the_way =
            |owner: Uid| owner != *uid && others.iter().all(|other| other.uid != owner);
        let owner = tables.owner(&self.ids, id.as_str().as_bytes(), |row| row.has_id(id))?;
        if owner.is_some_and(is_in_the_way) {
            return Err(Conflict::DeviceId(id.clone()).into());
        }
        for key in device.keys() {
            let owner = tables.owner(&self.keys, &key.bytes(), |row| row.has_key(key))?;
            if owner.is_some_and(is_in_the_way) {
                return Err(Conflict::DeviceKey.into());
            }
        }
        Ok(())
    }

    /// The device that waits with a key to be let in, as one that is to be forgotten.
    pub(super) fn stranger<D: ReadableTable<Bytes, Bytes>, S: ReadableTable<Bytes, Bytes>>(
        &self,
        tables: &DeviceTables<'_, D, S>,
        key: PublicKey,
    ) -> Result<Option<Device>, Fault> {
        let found = self.holder(tables, key)?;
        let Some(mut device) = found.filter(|device| device.state == Admission::Pending) else {
            return Ok(None);
        };
        deletion(Timestamp::default())(&mut device).map_err(StoreError::from)?;
        Ok(Some(device))
    }

    /// The device that has a key, shall have it, or had it.
    pub(super) fn holder<D: ReadableTable<Bytes, Bytes>, S: ReadableTable<Bytes, Bytes>>(
        &self,
        tables: &DeviceTables<'_, D, S>,
        key: PublicKey,
    ) -> Result<Option<Device>, Fault> {
        tables.find(&self.keys, &key.bytes(), |row| row.has_key(key))
    }

    pub(super) fn take(&mut self, uid: Uid, device: &Device) -> Result<(), Fault> {
        let row = UidRow { uid: uid.bytes() };
        self.ids.put(device.id.as_str().as_bytes(), &row)?;
        for key in device.keys() {
            self.keys.put(&key.bytes(), &row)?;
        }
        Ok(())
    }

    pub(super) fn release(&mut self, device: &Device) -> Result<(), Fault> {
        self.ids.remove(device.id.as_str().as_bytes())?;
        for key in device.keys() {
            self.keys.remove(&key.bytes())?;
        }
        Ok(())
    }
}

/// Removes some of a deleted device's rows, itself last. Returns whether it is gone.
fn purge_some(txn: &Writing<'_>, uid: Uid) -> Result<bool, Fault> {
    let from = uid.bytes();
    let mut room = PURGE_ROWS_MAX;
    room -= super::configs::purge(txn, uid, room)?;
    room -= super::commands::purge(txn, uid, room)?;
    if room == 0 {
        return Ok(false);
    }
    txn.open(&DOUBLES)?.remove(&from)?;
    txn.open(&DEVICES_SEEN)?.remove(&from)?;
    txn.open(&DEVICES)?.remove(&from)?;
    Ok(true)
}

/// After every key that begins with a device's uid.
pub(super) fn all_of(uid: Uid) -> [u8; 48] {
    let mut key = [u8::MAX; 48];
    key[..16].copy_from_slice(&uid.bytes());
    key
}

/// The uid that a key begins with.
pub(super) fn uid_of(key: &[u8]) -> Uid {
    let mut uid = [0; 16];
    for (to, from) in uid.iter_mut().zip(key) {
        *to = *from;
    }
    Uid::from_bytes(uid)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::store::{MetaStore as _, OtherKeys, StoreHealth};

    pub(in crate::store::redb) fn device(id: &str, key: u8) -> Device {
        Device {
            uid: Uid::new(),
            id: id.parse().unwrap(),
            key: Some(PublicKey::from_bytes([key; 32])),
            name: None,
            state: Admission::Active,
            state_reason: String::new(),
            state_at: Timestamp::default(),
            facts: fleet_core::wire::Facts::default(),
            metadata: std::collections::BTreeMap::new(),
            created_at: Timestamp::default(),
            last_seen: None,
            missed_reports: 0,
            other_keys: OtherKeys::default(),
            reported: None,
        }
    }

    #[tokio::test]
    async fn a_damaged_index_misleads_nobody_and_is_mended_by_the_next_change() {
        let store = RedbStore::in_memory();
        let (one, two) = (device("one", 1), device("two", 2));
        store.device_insert(one.clone()).await.unwrap();
        store.device_insert(two).await.unwrap();
        let damage = |txn: &Writing<'_>| {
            txn.open(&DEVICE_IDS)?.put_sealed(b"one", b"junk")?;
            txn.open(&DEVICE_KEYS)?.put_sealed(&[1; 32], b"junk")
        };
        store.write(damage).await.unwrap();

        assert_eq!(store.device_find(&one.id).await.unwrap(), Some(one.clone()));
        let key = PublicKey::from_bytes([1; 32]);
        assert_eq!(store.device_by_key(key).await.unwrap(), Some(one.clone()));
        let health = "2 stored values in device_ids, device_keys are damaged";
        assert_eq!(store.health(), StoreHealth::Degraded(health.to_owned()));
        let taken = store.device_insert(device("one", 3)).await.unwrap_err();
        assert!(matches!(taken, StoreError::Conflict(Conflict::DeviceId(_))), "{taken:?}");
        let taken = store.device_insert(device("three", 1)).await.unwrap_err();
        assert!(matches!(taken, StoreError::Conflict(Conflict::DeviceKey)), "{taken:?}");

        store.device_update(one.uid, Box::new(|_| Ok(()))).await.unwrap();
        let entry = store.read(|txn| txn.open(&DEVICE_IDS)?.get(b"one")).await.unwrap();
        assert_eq!(entry, Some(UidRow { uid: one.uid.bytes() }));
    }

    #[tokio::test]
    async fn a_damaged_device_is_left_out_and_the_rest_listed() {
        let store = RedbStore::in_memory();
        let (one, two) = (device("one", 1), device("two", 2));
        store.device_insert(one.clone()).await.unwrap();
        store.device_insert(two.clone()).await.unwrap();
        let uid = one.uid.bytes();
        store.write(move |txn| txn.open(&DEVICES)?.put_sealed(&uid, b"junk")).await.unwrap();

        assert_eq!(store.device_list().await.unwrap(), [two]);
        let damaged = store.device_get(one.uid).await.unwrap_err();
        assert!(matches!(damaged, StoreError::Damaged { table: "devices", .. }), "{damaged:?}");
        let health = StoreHealth::Degraded("1 stored value in devices is damaged".to_owned());
        assert_eq!(store.health(), health);
    }
}
