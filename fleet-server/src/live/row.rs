//! A device's row of the index, made of its record.

use fleet_core::api::{ConfigState, IndexRow};
use fleet_core::identity::PublicKey;
use fleet_core::untrusted::Untrusted;

use crate::ops::configs::Latest;
use crate::ops::devices::{metadata, or_other};
use crate::ops::status::Standing;
use crate::store::Device;

/// A device's row.
pub(super) fn row(slot: u32, device: Device, standing: Standing, latest: &Latest) -> IndexRow {
    let (config_state, config_drift) = (latest.state(&device), latest.has_drifted(&device));
    let config_version = latest.version;
    let facts = device.facts;
    let name = device.name.or(facts.name).filter(|name| !name.is_empty());
    let reported = device.reported;
    IndexRow {
        slot,
        uid: device.uid,
        id: device.id,
        name: name.map(Untrusted::new),
        device_type: or_other(&facts.device_type),
        version: facts.version.into(),
        status: standing.status,
        why: standing.lasting_why.map(Untrusted::new),
        last_seen: standing.last_seen,
        created_at: device.created_at,
        fingerprint: device.key.map(PublicKey::fingerprint),
        config_version,
        config_reported: reported.as_ref().map(|reported| reported.version),
        config_error: reported
            .filter(|reported| reported.version == config_version)
            .and_then(|reported| reported.error)
            .map(Untrusted::new),
        config_state: Some(config_state).filter(|state| *state != ConfigState::None),
        config_drift,
        interval_secs: facts.interval_secs,
        hostname: facts.hostname.into(),
        model: facts.model.into(),
        os: facts.os.into(),
        arch: facts.arch.into(),
        address: facts.addresses.into_iter().next().map(Untrusted::new),
        metadata: metadata(device.metadata),
    }
}
