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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use fleet_core::api::DeviceStatus;
    use fleet_core::field::Field;
    use fleet_core::filter::Subject as _;
    use fleet_core::id::Uid;
    use fleet_core::time::Timestamp;
    use fleet_core::wire::Facts;

    use super::*;
    use crate::store::{Admission, OtherKeys, Profile};

    fn device(name: Option<&str>, facts: Facts) -> Device {
        let at = Timestamp::from_millis(0);
        Device {
            uid: Uid::from_bytes([1; 16]),
            id: "rpi4-001".parse().unwrap(),
            key: Some(PublicKey::from_bytes([2; 32])),
            name: name.map(str::to_owned),
            state: Admission::Active,
            state_reason: String::new(),
            state_at: at,
            facts,
            metadata: [("site".to_owned(), "\"a\"".to_owned()), ("raw".to_owned(), "b".to_owned())]
                .into(),
            created_at: at,
            last_seen: None,
            missed_reports: 0,
            other_keys: OtherKeys::default(),
            reported: None,
        }
    }

    /// A scope finds in a list what it finds in the index: whoever may see a device sees its row.
    #[test]
    fn what_a_device_is_reads_the_same_in_its_row_and_for_scopes() {
        let text = |word: &str| word.to_owned();
        let facts = Facts {
            hostname: text("h"),
            device_type: text("arm"),
            model: text("m"),
            os: text("o"),
            arch: text("a"),
            version: text("1.0"),
            name: Some(text("own")),
            ..Facts::default()
        };
        for device in [
            device(Some("Pump"), facts.clone()),
            device(None, facts),
            device(Some("rpi4-001"), Facts::default()),
            device(None, Facts::default()),
        ] {
            let profile = Profile::of(&device);
            let standing = Standing {
                status: DeviceStatus::Online,
                why: String::new(),
                lasting_why: None,
                last_seen: None,
                until: None,
            };
            let row = row(0, device, standing, &Latest::default());
            for field in Field::all().filter(|field| field.is_lasting()) {
                assert_eq!(profile.text(field), row.text(field), "{field}");
            }
            let entries = |subject: &dyn fleet_core::filter::Subject| {
                let entry = |name: &str| (name.to_owned(), subject.metadata(name).cloned());
                subject.entries().map(entry).collect::<BTreeMap<_, _>>()
            };
            assert_eq!(entries(&profile), entries(&row));
        }
    }
}
