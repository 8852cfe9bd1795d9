//! Ending in the database what its list says was ended ([`crate::store::revoked`]), and bringing the
//! list up to what the database knows.
//!
//! Both know all that was ended, unless the database was put back from a backup or failed before it
//! had a change that the list has, or the list was removed or is of a release that had none.
//!
//! What is ended so is told in the same commit, as events and in the audit record.

use std::sync::{Arc, PoisonError};

use fleet_core::api::AuditEntry;
use fleet_core::id::{DeviceId, Uid};
use fleet_core::identity::PublicKey;
use fleet_core::time::Timestamp;
use fleet_core::wire::Facts;
use redb::ReadableTable;

use super::devices::{DeviceTables, Names};
use super::grants::void_grants;
use super::row::KeyRow;
use super::tables::{Bytes, DEVICES_DELETED, Fault, KEY_ORIGINS, KEYS, View, Writing};
use super::{RedbStore, Shared};
use crate::store::revoked::{Damage, Ended, List, Revoked, RevokedError, Subject};
use crate::store::{
    Admission, Conflict, Device, Event, KeyRecord, OpenError, OtherKeys, StoreError,
};

/// What was ended in the database, since the list says so.
#[derive(Clone, Debug, Default)]
pub(crate) struct Settled {
    /// Keys that let nobody in any more, or not for as long.
    pub(crate) keys: Vec<KeyRecord>,
    /// Devices that are out again.
    pub(crate) devices: Vec<Device>,
    /// Devices that have the key again that they had last.
    pub(crate) rekeyed: Vec<Device>,
    /// Where the list was damaged, if it was: the database had all that stood there.
    pub(crate) damaged_at: Option<usize>,
}

/// What is said of that.
#[derive(Debug, Default)]
pub(crate) struct Words {
    pub(crate) events: Vec<Event>,
    pub(crate) records: Vec<AuditEntry>,
}

/// Whoever finds the words.
pub(crate) type Telling = Box<dyn Fn(&Settled) -> Words + Send + Sync>;

impl RedbStore {
    /// Sees to it that what was ended once is ended. Called before anybody is let in.
    pub(crate) async fn settle_revoked(&self, telling: Telling) -> Result<Settled, OpenError> {
        let shared = Arc::clone(&self.shared);
        // The first start of this store counts.
        let _ = shared.telling.set(telling);
        let weight = shared.revoked.list().len().max(1);
        let work = move |txn: &Writing<'_>| {
            if let Err(unsound) = judge(txn, &shared)? {
                return Ok(Err(unsound));
            }
            let damaged_at = shared.revoked.damage().map(|damage| damage.at);
            let (settled, news) = settle(txn, &shared, damaged_at)?;
            let (server, known) = (super::meta::owner(txn)?, super::meta::group(txn)?);
            match shared.revoked.add(server, known, news) {
                Ok(group) => super::meta::note_group(txn, group)?,
                // The database knows it all, so nobody comes in; the next change tries again.
                Err(_) => tracing::warn!("what was revoked is not noted beside the database"),
            }
            Ok(Ok(settled))
        };
        let done = self.write_heavy(weight, work).await.map_err(OpenError::Settle)?;
        let settled = done.map_err(OpenError::Revoked)?;
        self.note_settled(&settled).await;
        Ok(settled)
    }

    /// Waits until something was ended because a change was on the list and the database failed
    /// before it had it. There is one who waits.
    pub(crate) async fn settled_anew(&self) -> Settled {
        loop {
            let settled = {
                let mut due = self.shared.settled.lock().unwrap_or_else(PoisonError::into_inner);
                due.pop_front()
            };
            if let Some(settled) = settled {
                self.note_settled(&settled).await;
                return settled;
            }
            self.shared.has_settled.notified().await;
        }
    }

    async fn note_settled(&self, settled: &Settled) {
        for device in settled.devices.iter().chain(&settled.rekeyed) {
            self.noted(device.clone()).await;
        }
    }
}

/// Whether the list is this server's, and the database as new as what is missing in it.
fn judge(txn: &Writing<'_>, shared: &Shared) -> Result<Result<(), RevokedError>, Fault> {
    if let (Some(server), Some(owner)) = (super::meta::owner(txn)?, shared.revoked.owner())
        && server != owner
    {
        return Ok(Err(RevokedError::OtherServer));
    }
    judge_damage(txn, shared.revoked.damage())
}

fn judge_damage(
    txn: &Writing<'_>,
    damage: Option<Damage>,
) -> Result<Result<(), RevokedError>, Fault> {
    match damage {
        Some(damage) if super::meta::group(txn)? < damage.group => {
            Ok(Err(RevokedError::Damaged(damage.at)))
        }
        Some(_) | None => Ok(Ok(())),
    }
}

/// Ends in the database what the list names, and tells of it. Returns that, and what the list does
/// not have yet.
pub(super) fn settle(
    txn: &Writing<'_>,
    shared: &Shared,
    damaged_at: Option<usize>,
) -> Result<(Settled, Vec<Ended>), Fault> {
    let list = shared.revoked.list();
    let keys = end_keys(txn, &list)?;
    let mut news = keys_ended(txn, &list)?;
    let (mut out, mut rekeyed) = (Vec::new(), Vec::new());
    {
        let (tables, names) = (DeviceTables::writing(txn)?, Names::open(txn)?);
        let mut devices = Devices { tables, names, txn };
        for ended in list.entries() {
            match ended {
                Ended::Device { .. } => out.extend(devices.put_out(ended)?),
                Ended::DeviceKeys { uid, key, former } => {
                    rekeyed.extend(devices.rekey(Uid::from_bytes(*uid), *key, former)?);
                }
                Ended::Key { .. } | Ended::KeyLife { .. } => {}
            }
        }
        news.extend(devices.ended(&list)?);
    }
    let settled = Settled { keys, devices: out, rekeyed, damaged_at };
    if let Some(telling) = shared.telling.get() {
        let Words { events, records } = telling(&settled);
        super::events::tell(txn, events)?;
        super::audit::tell(txn, records)?;
    }
    Ok((settled, news))
}

/// What is in the database; nothing if it is damaged, which is then noted.
fn sound<T>(found: Result<Option<T>, Fault>) -> Result<Option<T>, Fault> {
    match found {
        Err(Fault::Refused(StoreError::Damaged { .. })) => Ok(None),
        found => found,
    }
}

fn key<T: ReadableTable<Bytes, Bytes>>(
    keys: &View<'_, KeyRow, T>,
    id: &str,
) -> Result<Option<KeyRecord>, Fault> {
    Ok(sound(keys.get(id.as_bytes()))?.map(|row| row.into_key(id.to_owned())))
}

/// Ends the keys that were ended, the last one that works too.
fn end_keys(txn: &Writing<'_>, list: &List) -> Result<Vec<KeyRecord>, Fault> {
    let mut keys = txn.open(&KEYS)?;
    let mut changed = Vec::new();
    for ended in list.entries() {
        let (Ended::Key { id, at_millis } | Ended::KeyLife { id, at_millis }) = ended else {
            continue;
        };
        let Some(mut found) = key(&keys, id)? else { continue };
        let (at, before) = (Timestamp::from_millis(*at_millis), found.clone());
        if matches!(ended, Ended::Key { .. }) {
            found.revoked_at.get_or_insert(at);
        } else {
            found.expires_at = Some(found.expires_at.map_or(at, |end| end.min(at)));
        }
        if found != before {
            keys.put(id.as_bytes(), &found.clone().into())?;
            changed.push(found);
        }
    }
    Ok(changed)
}

/// Keys that are revoked, or that have a successor, and that the list does not have.
fn keys_ended(txn: &Writing<'_>, list: &List) -> Result<Vec<Ended>, Fault> {
    let keys = txn.open(&KEYS)?;
    let mut news = Vec::new();
    for entry in keys.all()? {
        let (id, row) = entry?;
        let key = row.into_key(String::from_utf8_lossy(&id).into_owned());
        if let Some(at) = key.revoked_at {
            news.push(Ended::Key { id: key.id, at_millis: at.millis() });
        }
    }
    for entry in txn.open(&KEY_ORIGINS)?.all()? {
        let Some(id) = entry?.1.into_origin().succeeds else { continue };
        if let Some(end) = key(&keys, &id)?.and_then(|key| key.expires_at) {
            news.push(Ended::KeyLife { id, at_millis: end.millis() });
        }
    }
    news.retain(|ended| list.get(&ended.subject()).is_none());
    Ok(news)
}

/// What the list keeps of a device that is out.
pub(super) fn device_ended(device: &Device, is_deleted: bool) -> Ended {
    Ended::Device {
        uid: device.uid.bytes(),
        id: device.id.to_string(),
        keys: device.keys().map(PublicKey::bytes).collect(),
        at_millis: device.state_at.millis(),
        reason: Ended::reason(&device.state_reason),
        is_deleted,
    }
}

/// What the list keeps of a device that had other keys before.
pub(super) fn keys_replaced(device: &Device) -> Option<Ended> {
    let former = &device.other_keys.former;
    Some(Ended::DeviceKeys {
        uid: device.uid.bytes(),
        key: device.key?.bytes(),
        former: former.iter().map(|key| key.bytes()).collect(),
    })
    .filter(|_| !former.is_empty())
}

/// A device that somebody has back, as the list says that it is: that may know more than a database
/// from an older backup.
pub(super) fn as_listed(list: &Revoked, mut device: Device) -> Device {
    let uid = device.uid.bytes();
    if let Some(Ended::Device { at_millis, reason, is_deleted: false, .. }) =
        list.get(&Subject::Device(uid))
        && device.state != Admission::Revoked
    {
        device.state = Admission::Revoked;
        (device.state_reason, device.state_at) = (reason, Timestamp::from_millis(at_millis));
    }
    if let Some(Ended::DeviceKeys { key, former, .. }) = list.get(&Subject::DeviceKeys(uid)) {
        let former: Vec<_> = former.into_iter().map(PublicKey::from_bytes).collect();
        if device.key.is_some_and(|key| former.contains(&key)) {
            device.key = Some(PublicKey::from_bytes(key));
            device.other_keys = OtherKeys { next: None, former };
        }
    }
    device
}

struct Devices<'a, D, S> {
    tables: DeviceTables<'a, D, S>,
    names: Names<'a>,
    txn: &'a Writing<'a>,
}

type Table<'a> = redb::Table<'a, Bytes, Bytes>;

impl<'a> Devices<'a, Table<'a>, Table<'a>> {
    /// Puts a device out, whoever it was when the backup was taken: itself, one with its key, or
    /// nobody, so that nothing that is lying about lets it in.
    fn put_out(&mut self, ended: &Ended) -> Result<Vec<Device>, Fault> {
        let Ended::Device { uid, id, keys, at_millis, reason, is_deleted } = ended else {
            return Ok(Vec::new());
        };
        let (uid, at) = (Uid::from_bytes(*uid), Timestamp::from_millis(*at_millis));
        let out = |device: Device| Device {
            state: Admission::Revoked,
            state_reason: reason.clone(),
            state_at: at,
            ..device
        };
        if self.tables.exists(uid)? {
            let Some(device) = sound(self.tables.load(uid))? else { return Ok(Vec::new()) };
            if matches!(device.state, Admission::Revoked | Admission::Deleted) {
                return Ok(Vec::new());
            }
            return self.store_out(out(device)).map(|device| vec![device]);
        }
        let keys: Vec<PublicKey> = keys.iter().map(|key| PublicKey::from_bytes(*key)).collect();
        let (mut changed, mut is_known) = (Vec::new(), false);
        for key in &keys {
            let Some(holder) = sound(self.names.holder(&self.tables, *key))? else { continue };
            is_known = true;
            // Who came with this key afterwards was let in knowingly.
            if holder.state != Admission::Revoked && holder.created_at < at {
                changed.push(self.store_out(out(holder))?);
            }
        }
        if !is_known && !is_deleted {
            changed.extend(self.insert_out(uid, id, &keys, out)?);
        }
        Ok(changed)
    }

    fn store_out(&mut self, device: Device) -> Result<Device, Fault> {
        self.tables.store(device.clone())?;
        void_grants(self.txn, device.keys())?;
        Ok(device)
    }

    /// Adds a device that is out, under its id or, if that is another's, a marked one.
    fn insert_out(
        &mut self,
        uid: Uid,
        id: &str,
        keys: &[PublicKey],
        out: impl Fn(Device) -> Device,
    ) -> Result<Option<Device>, Fault> {
        let Some((key, former)) = keys.split_first() else { return Ok(None) };
        let Ok(id) = id.parse::<DeviceId>() else { return Ok(None) };
        let marks = [key.fingerprint().to_string(), uid.ending().to_string()];
        let ids = [id.clone()].into_iter().chain(marks.iter().map(|mark| id.in_conflict(mark)));
        for id in ids {
            let device = out(Device {
                uid,
                id,
                key: Some(*key),
                name: None,
                state: Admission::Revoked,
                state_reason: String::new(),
                state_at: Timestamp::default(),
                facts: Facts::default(),
                metadata: std::collections::BTreeMap::new(),
                created_at: Timestamp::default(),
                last_seen: None,
                missed_reports: 0,
                other_keys: OtherKeys { next: None, former: former.to_vec() },
                reported: None,
            });
            let device = Device { created_at: device.state_at, ..device };
            match self.names.require_free(&self.tables, &device) {
                Ok(()) => {
                    self.names.take(uid, &device)?;
                    return self.store_out(device).map(Some);
                }
                Err(Fault::Refused(StoreError::Conflict(Conflict::DeviceId(_)))) => {}
                // A device that cannot be read has it, and so nobody comes in with it.
                Err(Fault::Refused(StoreError::Conflict(Conflict::DeviceKey))) => break,
                Err(fault) => return Err(fault),
            }
        }
        tracing::warn!(%id, "a revoked device is not in the database, since its names or keys are taken");
        Ok(None)
    }

    /// Gives a device the key that it had last, in place of one that it had before.
    fn rekey(
        &mut self,
        uid: Uid,
        key: [u8; 32],
        former: &[[u8; 32]],
    ) -> Result<Option<Device>, Fault> {
        let former: Vec<_> = former.iter().map(|key| PublicKey::from_bytes(*key)).collect();
        let Some(before) = sound(self.tables.load(uid))? else { return Ok(None) };
        let is_older = before.key.is_some_and(|key| former.contains(&key));
        if !is_older || before.state == Admission::Deleted {
            return Ok(None);
        }
        self.names.release(&before)?;
        let key = Some(PublicKey::from_bytes(key));
        let other_keys = OtherKeys { next: None, former };
        let mut after = Device { key, other_keys, ..before };
        match self.names.require_free(&self.tables, &after) {
            Ok(()) => {}
            // Its old key must be good for nothing all the same.
            Err(Fault::Refused(StoreError::Conflict(_))) => {
                (after.key, after.other_keys) = (None, OtherKeys::default());
            }
            Err(fault) => return Err(fault),
        }
        self.tables.store(after.clone())?;
        self.names.take(uid, &after)?;
        Ok(Some(after))
    }

    /// What of devices was ended and the list does not have.
    fn ended(&self, list: &List) -> Result<Vec<Ended>, Fault> {
        let deleted = self.txn.open(&DEVICES_DELETED)?;
        let mut news = Vec::new();
        for (uid, _) in self.tables.all()? {
            let Some(device) = sound(self.tables.load(uid))? else { continue };
            let is_deleted = device.state == Admission::Deleted;
            // How it stood before it was deleted.
            let was = if is_deleted { sound(deleted.get(&uid.bytes()))? } else { None };
            let stood = match was {
                Some(was) => was.restore(device),
                None => device,
            };
            let is_listed = match list.get(&Subject::Device(uid.bytes())) {
                // That it was deleted is on the list, and failed.
                Some(Ended::Device { is_deleted: is_gone, .. }) => is_deleted || !is_gone,
                _ => false,
            };
            if stood.state == Admission::Revoked && !is_listed {
                news.push(device_ended(&stood, is_deleted));
            }
            let Some(replaced) = keys_replaced(&stood) else { continue };
            let listed = list.get(&replaced.subject());
            let joined = match listed {
                Some(listed) => listed.clone().join(replaced),
                None => replaced,
            };
            news.extend(Some(joined).filter(|joined| Some(joined) != listed));
        }
        Ok(news)
    }
}

#[cfg(test)]
mod tests;
