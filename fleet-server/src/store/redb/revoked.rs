//! Ending in the database what its list says was ended ([`crate::store::revoked`]), and bringing the
//! list up to what the database knows.
//!
//! Both know all that was ended, unless the database was put back from a backup, or the list was
//! removed or is of a release that had none.

use fleet_core::id::{DeviceId, Uid};
use fleet_core::identity::PublicKey;
use fleet_core::time::Timestamp;
use fleet_core::wire::Facts;
use redb::ReadableTable;

use super::RedbStore;
use super::devices::{DeviceTables, Names};
use super::grants::void_grants;
use super::row::KeyRow;
use super::tables::{Bytes, DEVICES_DELETED, Fault, KEYS, View, Writing};
use crate::store::revoked::{Damage, Ended, List, RevokedError, Subject};
use crate::store::{Admission, Conflict, Device, KeyRecord, OpenError, OtherKeys, StoreError};

/// What was ended in the database, since the list says so.
#[derive(Debug, Default)]
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

impl RedbStore {
    /// Sees to it that what was ended once is ended. Called before anybody is let in.
    pub(crate) async fn settle_revoked(&self) -> Result<Settled, OpenError> {
        let revoked = &self.shared.revoked;
        let (list, damage) = (revoked.list(), revoked.damage());
        let damaged_at = damage.as_ref().map(|damage| damage.at);
        let weight = list.len().max(1);
        let work = move |txn: &Writing<'_>| settle(txn, &list, damage.as_ref());
        let done = self.write_heavy(weight, work).await.map_err(OpenError::Settle)?;
        let (settled, news, server) = done.map_err(OpenError::Revoked)?;
        for device in settled.devices.iter().chain(&settled.rekeyed) {
            self.noted(device.clone()).await;
        }
        if let Err(error) = revoked.add(server, news) {
            // The database knows it all, so nobody comes in; the next change tries again.
            tracing::warn!(%error, "what was revoked is not noted beside the database");
        }
        Ok(Settled { damaged_at, ..settled })
    }
}

/// What was ended in the database, what the list does not have yet, and whose both are.
type Done = (Settled, Vec<Ended>, Option<PublicKey>);

fn settle(
    txn: &Writing<'_>,
    list: &List,
    damage: Option<&Damage>,
) -> Result<Result<Done, RevokedError>, Fault> {
    let server = super::meta::owner(txn)?;
    if let (Some(server), Some(owner)) = (server, list.server)
        && server.bytes() != owner
    {
        return Ok(Err(RevokedError::OtherServer));
    }
    if let Some(damage) = damage
        && !knows_any(txn, &damage.behind)?
    {
        return Ok(Err(RevokedError::Damaged(damage.at)));
    }
    let mut settled = Settled { keys: end_keys(txn, list)?, ..Settled::default() };
    let mut news = keys_ended(txn, list)?;
    let mut devices =
        Devices { tables: DeviceTables::writing(txn)?, names: Names::open(txn)?, txn };
    for ended in list.entries() {
        match ended {
            Ended::Device { .. } => settled.devices.extend(devices.put_out(ended)?),
            Ended::DeviceKeys { uid, key, former } => {
                settled.rekeyed.extend(devices.rekey(Uid::from_bytes(*uid), *key, former)?);
            }
            Ended::Key { .. } | Ended::KeyLife { .. } => {}
        }
    }
    news.extend(devices.ended(list)?);
    Ok(Ok((settled, news, server)))
}

/// What is in the database; nothing if it is damaged, which is then noted.
fn sound<T>(found: Result<Option<T>, Fault>) -> Result<Option<T>, Fault> {
    match found {
        Err(Fault::Refused(StoreError::Damaged { .. })) => Ok(None),
        found => found,
    }
}

/// Whether the database has any of these, and so is not older than they are.
fn knows_any(txn: &Writing<'_>, ended: &[Ended]) -> Result<bool, Fault> {
    let keys = txn.open(&KEYS)?;
    let tables = DeviceTables::writing(txn)?;
    for ended in ended {
        let is_known = match ended {
            Ended::Key { id, .. } => {
                key(&keys, id)?.is_some_and(|found| found.revoked_at.is_some())
            }
            Ended::KeyLife { id, at_millis } => key(&keys, id)?.is_some_and(|found| {
                found.expires_at.is_some_and(|end| end.millis() <= *at_millis)
            }),
            Ended::Device { uid, .. } => {
                let device = sound(tables.load(Uid::from_bytes(*uid)))?;
                device.is_some_and(|it| matches!(it.state, Admission::Revoked | Admission::Deleted))
            }
            Ended::DeviceKeys { uid, key, .. } => {
                let device = sound(tables.load(Uid::from_bytes(*uid)))?;
                let (now, key) = (|it: &Device| it.key, PublicKey::from_bytes(*key));
                device
                    .is_some_and(|it| now(&it) == Some(key) || it.other_keys.former.contains(&key))
            }
        };
        if is_known {
            return Ok(true);
        }
    }
    Ok(false)
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

/// Revoked keys that the list does not have.
fn keys_ended(txn: &Writing<'_>, list: &List) -> Result<Vec<Ended>, Fault> {
    let mut news = Vec::new();
    for entry in txn.open(&KEYS)?.all()? {
        let (id, row) = entry?;
        let key = row.into_key(String::from_utf8_lossy(&id).into_owned());
        if let Some(at) = key.revoked_at
            && list.get(&Subject::Key(key.id.clone())).is_none()
        {
            news.push(Ended::Key { id: key.id, at_millis: at.millis() });
        }
    }
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
                Err(fault) => return Err(fault),
            }
        }
        tracing::warn!(%id, "a revoked device is not in the database, since all its names are taken");
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
            if stood.state == Admission::Revoked
                && list.get(&Subject::Device(uid.bytes())).is_none()
            {
                news.push(device_ended(&stood, is_deleted));
            }
            let listed = list.get(&Subject::DeviceKeys(uid.bytes()));
            news.extend(keys_replaced(&stood).filter(|replaced| Some(replaced) != listed));
        }
        Ok(news)
    }
}
