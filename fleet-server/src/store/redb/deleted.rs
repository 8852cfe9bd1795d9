//! Deleted devices in redb: beside a device's own row, which says that it is deleted, how it stood.

use std::sync::Arc;

use async_trait::async_trait;
use fleet_core::id::Uid;

use super::RedbStore;
use super::devices::{DeviceTables, Names, uid_of};
use super::revoked::{as_listed, device_ended};
use super::row::DeletedRow;
use super::tables::{DEVICES_DELETED, Fault, Writing};
use crate::store::revoked::Revoked;
use crate::store::{Admission, Deleted, DeletedStore, Device, Restored, StoreError};

#[async_trait]
impl DeletedStore for RedbStore {
    async fn deleted_list(&self) -> Result<Vec<Deleted>, StoreError> {
        self.read(|txn| {
            let tables = DeviceTables::reading(txn)?;
            let mut listed = Vec::new();
            for entry in txn.open(&DEVICES_DELETED)?.all()? {
                let (key, was) = entry?;
                match tables.load(uid_of(&key)) {
                    Ok(Some(device)) => {
                        let at = device.state_at;
                        listed.push(Deleted { device: was.restore(device), at });
                    }
                    Ok(None) | Err(Fault::Refused(_)) => {} // damaged, and noted as such
                    Err(fault) => return Err(fault),
                }
            }
            Ok(listed)
        })
        .await
    }

    async fn deleted_restore(&self, uid: Uid) -> Result<Restored, StoreError> {
        let shared = Arc::clone(&self.shared);
        let (device, gave_way) = self.write(move |txn| restore(txn, &shared.revoked, uid)).await?;
        for stranger in &gave_way {
            self.noted(stranger.clone()).await;
        }
        self.noted(device.clone()).await;
        Ok(Restored { device: self.told(device), gave_way })
    }
}

/// Notes how a device stands that is about to be deleted.
pub(super) fn note(txn: &Writing<'_>, uid: Uid) -> Result<(), Fault> {
    let device = DeviceTables::writing(txn)?.load(uid)?;
    match device.filter(|device| device.state != Admission::Deleted) {
        Some(device) => txn.open(&DEVICES_DELETED)?.put(&uid.bytes(), &DeletedRow::of(&device)),
        None => Err(StoreError::Missing("device").into()),
    }
}

/// Sees to it that nobody has a device back whose data is about to go. False if somebody has.
pub(super) fn give_up(txn: &Writing<'_>, uid: Uid) -> Result<bool, Fault> {
    if DeviceTables::writing(txn)?.is_live(uid)? {
        return Ok(false);
    }
    txn.open(&DEVICES_DELETED)?.remove(&uid.bytes())?;
    Ok(true)
}

fn restore(txn: &Writing<'_>, list: &Revoked, uid: Uid) -> Result<(Device, Vec<Device>), Fault> {
    let mut deleted = txn.open(&DEVICES_DELETED)?;
    let was = deleted.get(&uid.bytes())?.ok_or(StoreError::Missing("deleted device"))?;
    let mut tables = DeviceTables::writing(txn)?;
    let device = tables.load(uid)?.ok_or(StoreError::Missing("deleted device"))?;
    let device = as_listed(list, was.restore(device));
    let mut names = Names::open(txn)?;
    let mut gave_way: Vec<Device> = Vec::new();
    for key in device.keys() {
        let stranger = names.stranger(&tables, key)?;
        gave_way.extend(stranger.filter(|found| gave_way.iter().all(|it| it.uid != found.uid)));
    }
    names.require_free_but_for(&tables, &device, &gave_way)?;
    deleted.remove(&uid.bytes())?;
    for stranger in &gave_way {
        tables.store(stranger.clone())?;
        names.release(stranger)?;
    }
    tables.store(device.clone())?;
    names.take(uid, &device)?;
    if device.state == Admission::Revoked {
        txn.ends([device_ended(&device, false)]);
    }
    Ok((device, gave_way))
}

#[cfg(test)]
mod tests {
    use fleet_core::time::Timestamp;

    use super::super::devices::tests::device;
    use super::super::writer::tests::together;
    use super::*;
    use crate::store::{DeviceStore as _, MetaStore as _, StoreHealth};

    #[tokio::test]
    async fn what_refuses_to_be_had_back_is_lost_in_no_group() {
        let store = RedbStore::in_memory();
        let (one, namesake) = (device("one", 1), device("one", 2));
        let stranger = Device { state: Admission::Pending, ..device("stranger", 1) };
        store.device_insert(one.clone()).await.unwrap();
        store.device_delete(one.uid, Timestamp::from_millis(100)).await.unwrap();
        store.device_insert(namesake.clone()).await.unwrap();
        store.device_insert(stranger.clone()).await.unwrap();
        let seen = Timestamp::from_millis(5);
        let touch = store.device_touch(vec![(namesake.uid, seen)]);
        let (refused, touched) = together(&store, store.deleted_restore(one.uid), touch).await;
        assert!(matches!(refused, Err(StoreError::Conflict(_))), "{refused:?}");
        touched.unwrap();
        assert_eq!(store.device_get(namesake.uid).await.unwrap().unwrap().last_seen, Some(seen));
        assert_eq!(store.device_by_key(one.key.unwrap()).await.unwrap(), Some(stranger));
        store.device_delete(namesake.uid, Timestamp::from_millis(101)).await.unwrap();
        assert_eq!(store.deleted_restore(one.uid).await.unwrap().device, one);
        assert_eq!(store.health(), StoreHealth::Healthy);
    }
}
