//! What is said of what was ended anew, since the list of what was revoked names it and the database did
//! not know: it is from an older backup, or failed when it was to be told.

use fleet_core::api::{AuditAction, AuditKind, EventKind};
use fleet_core::time::Timestamp;

use super::Actor;
use super::audit::{self, Deed};
use super::events::NewEvent;
use crate::store::revoked::REVOKED_FILE;
use crate::store::{Device, Settled, Words};

const WHY: &str = "the list of what was revoked says so, which is newer than the database";

/// What is written down in the commit that ends it.
pub(crate) fn words(settled: &Settled, now: Timestamp) -> Words {
    Words {
        events: events(settled).into_iter().map(|event| event.at(now)).collect(),
        records: deeds(settled)
            .into_iter()
            .map(|deed| deed.entry(AuditKind::Single, now))
            .collect(),
    }
}

/// Lines for whoever starts the server.
pub(crate) fn notes(settled: &Settled) -> Vec<String> {
    let Settled { keys, devices, rekeyed, damaged_at } = settled;
    let mut notes = Vec::new();
    let count = keys.len() + devices.len() + rekeyed.len();
    if count > 0 {
        notes.push(format!(
            "the database is older than {REVOKED_FILE}: ended {} keys and {} devices anew, and gave \
             {} devices the keys that they had last",
            keys.len(),
            devices.len(),
            rekeyed.len()
        ));
    }
    notes.extend(damaged_at.map(damage));
    notes
}

/// The same for the record.
fn deeds(settled: &Settled) -> Vec<Deed> {
    let device = |action| {
        move |device: &Device| {
            let targets = vec![device.id.to_string(), device.uid.to_string()];
            audit::own(action, targets, WHY.to_owned())
        }
    };
    let key = |id: &String| audit::own(AuditAction::KeyRevoke, vec![id.clone()], WHY.to_owned());
    let keys = settled.keys.iter().map(|record| key(&record.id));
    let devices = settled.devices.iter().map(device(AuditAction::DeviceRevoke));
    let rekeyed = settled.rekeyed.iter().map(device(AuditAction::DeviceRekey));
    keys.chain(devices).chain(rekeyed).collect()
}

/// The same as events.
fn events(settled: &Settled) -> Vec<NewEvent> {
    let own = |kind, text| NewEvent { kind, actor: Actor::Server.to_string(), device: None, text };
    let device = |kind| move |device: &Device| NewEvent::about(device, kind, Actor::Server, WHY);
    let keys = settled.keys.iter().map(|record| {
        own(EventKind::KeyRevoked, format!("key {} ({}): {WHY}", record.id, record.label))
    });
    let devices = settled.devices.iter().map(device(EventKind::DeviceRevoked));
    let rekeyed = settled.rekeyed.iter().map(device(EventKind::DeviceRekeyed));
    let damaged = settled.damaged_at.map(|at| own(EventKind::DbDamaged, damage(at)));
    keys.chain(devices).chain(rekeyed).chain(damaged).collect()
}

fn damage(at: usize) -> String {
    format!(
        "{REVOKED_FILE} was damaged at byte {at}; the database knew what stood there, and it was \
         written anew"
    )
}
