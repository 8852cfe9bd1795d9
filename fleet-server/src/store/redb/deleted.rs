//! Deleted devices in redb: beside a device's own row, which says that it is deleted, how it stood.

use async_trait::async_trait;
use fleet_core::id::Uid;

use super::RedbStore;
use super::devices::{DeviceTables, Names, uid_of};
use super::revoked::device_ended;
use super::row::DeletedRow;
use super::tables::{DEVICES_DELETED, Fault, Writing};
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
        let (device, gave_way) = self.write(move |txn| restore(txn, uid)).await?;
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

fn restore(txn: &Writing<'_>, uid: Uid) -> Result<(Device, Vec<Device>), Fault> {
    let key = uid.bytes();
    let mut deleted = txn.open(&DEVICES_DELETED)?;
    let was = deleted.get(&key)?.ok_or(StoreError::Missing("deleted device"))?;
    deleted.remove(&key)?;
    let mut tables = DeviceTables::writing(txn)?;
    let device = tables.load(uid)?.ok_or(StoreError::Missing("deleted device"))?;
    let device = was.restore(device);
    let mut names = Names::open(txn)?;
    let mut gave_way = Vec::new();
    for key in device.keys() {
        if let Some(stranger) = names.stranger(&tables, key)? {
            tables.store(stranger.clone())?;
            names.release(&stranger)?;
            gave_way.push(stranger);
        }
    }
    names.require_free(&tables, &device)?;
    tables.store(device.clone())?;
    names.take(uid, &device)?;
    if device.state == Admission::Revoked {
        txn.ends([device_ended(&device, false)]);
    }
    Ok((device, gave_way))
}
