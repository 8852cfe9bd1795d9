//! What filters, sort keys and suggestions find in a small fleet.

use std::cmp::Ordering;

use serde_json::{Value, json};

use crate::api::{Device, DeviceStatus, IndexRow};
use crate::field::{Field, SortKey};
use crate::filter::{Filter, Subject, Suggestion, Words, compare, missing, suggestion, urgency};
use crate::time::Timestamp;

const NOW: &str = "2024-01-15T10:30:00Z";

pub(super) fn now() -> Timestamp {
    NOW.parse().unwrap()
}

/// A device with what matters here; the rest is as it often is.
pub(super) fn device(id: &str, status: &str, changes: Value) -> Device {
    let mut device = json!({
        "id": id, "name": id, "type": "raspberrypi", "version": "1.4.2", "status": status,
        "last_seen": NOW, "why": "no report for 5m, expected every 60s",
        "uid": "018d0000-0000-7000-8000-000000000000", "fingerprint": null, "metadata": {},
        "created_at": "2024-01-14T10:30:00Z",
        "facts": {"hostname": "", "model": "Raspberry Pi 4 Model B", "os": "Debian 12",
            "kernel": "6.1", "arch": "aarch64", "cores": 4, "memory_bytes": null,
            "addresses": ["10.0.0.1"], "interval_secs": 60},
        "missed_reports": 0, "config_version": 0, "config_reported": null, "latest": null
    });
    for (key, value) in changes.as_object().unwrap() {
        device[key] = value.clone();
    }
    serde_json::from_value(device).unwrap()
}

fn fleet() -> Vec<Device> {
    let latest = |metrics: Value| json!({"timestamp": NOW, "metrics": metrics});
    vec![
        device(
            "pi-1",
            "online",
            json!({
                "name": "Water Pump", "version": "1.10.0", "config_version": 3, "config_reported": 3,
                "metadata": {"site": "Lyon", "tags": ["eu-west", "canary"], "rack": 9, "spare": true},
                "latest": latest(json!({"cpu_usage": 95.5, "memory_usage": 40.0,
                    "temperature_celsius": 71.5})),
            }),
        ),
        device(
            "pi-2",
            "late",
            json!({
                "last_seen": "2024-01-15T10:15:00Z", "config_version": 3, "config_reported": 2,
                "metadata": {"site": "nice", "tags": "eu-west, test", "rack": "10", "status": "x"},
                "latest": latest(json!({"cpu_usage": 12.0})),
            }),
        ),
        device(
            "jet-3",
            "lost",
            json!({
                "type": "jetson", "last_seen": null, "version": "", "config_version": 3,
                "config_reported": 3, "config_error": "no such metric",
                "metadata": {"site": ["Lyon", "spare parts"], "note": {"a": "b"}, "rack": "front"},
            }),
        ),
        device(
            "pi-4",
            "online",
            json!({
                "version": "1.9.0-rc1", "config_version": 3, "config_reported": 3,
                "config_error": "no such metric",
            }),
        ),
    ]
}

#[track_caller]
fn found(text: &str) -> String {
    let filter = Filter::parse(text, Words::Fuzzy).unwrap_or_else(|error| panic!("{error}"));
    let fleet = fleet();
    let ids = fleet.iter().filter(|device| filter.matches(device, now()));
    ids.map(|device| device.id.as_str()).collect::<Vec<_>>().join(" ")
}

#[test]
fn a_filter_finds_what_it_asks_for() {
    for (text, ids) in [
        ("", "pi-1 pi-2 jet-3 pi-4"),
        ("status=online", "pi-1 pi-4"),
        ("status!=online", "pi-2 jet-3"),
        ("STATUS in (Late,LOST)", "pi-2 jet-3"),
        ("status~l", "pi-1 pi-2 jet-3 pi-4"),
        ("status=l*", "pi-2 jet-3"),
        ("type=jetson or id=PI-1", "pi-1 jet-3"),
        ("device~^pi", "pi-1 pi-2 pi-4"),
        ("device>pi-1", "pi-2 pi-4"),
        ("model~\"pi ? model\"", "pi-1 pi-2 jet-3 pi-4"),
        ("model=\"raspberry*b\"", "pi-1 pi-2 jet-3 pi-4"),
        // A name that is only the id is none.
        ("has name", "pi-1"),
        ("name~pi-2", ""),
        // Releases.
        // A candidate comes before its release.
        ("version<1.9", "pi-2 pi-4"),
        ("version<1.10", "pi-2 pi-4"),
        ("version=1.10", "pi-1"),
        ("version=1.*", "pi-1 pi-2 pi-4"),
        ("not version<1.9", "pi-1 jet-3"),
        // Numbers and ages.
        ("cpu>90", "pi-1"),
        ("cpu<90", "pi-2"),
        ("cpu!=12", "pi-1 jet-3 pi-4"),
        ("cpu in (12,13)", "pi-2"),
        ("has mem", "pi-1"),
        ("temp>=71.5", "pi-1"),
        ("disk>0", ""),
        ("last_seen>10m", "pi-2"),
        ("last_seen<=0s", "pi-1 pi-4"),
        ("not last_seen<1h", "jet-3"),
        ("added>=1d", "pi-1 pi-2 jet-3 pi-4"),
        ("has last_seen", "pi-1 pi-2 pi-4"),
        // Metadata.
        ("site=lyon", "pi-1 jet-3"),
        ("site!=lyon", "pi-2 pi-4"),
        ("Site=lyon", ""),
        ("site in (nice,\"spare parts\")", "pi-2 jet-3"),
        ("site~ic", "pi-2"),
        ("has site !site=nice", "pi-1 jet-3"),
        ("rack=9", "pi-1"),
        ("rack>9", "pi-2 jet-3"),
        ("rack<10.5", "pi-1 pi-2"),
        ("rack~1", "pi-2"),
        ("rack=f*", "jet-3"),
        ("spare=true", "pi-1"),
        ("metadata.status=x", "pi-2"),
        ("has note", "jet-3"),
        ("note~b", ""),
        ("note!=b", "pi-1 pi-2 jet-3 pi-4"),
        // Tags.
        ("tag:eu-west", "pi-1 pi-2"),
        ("tag:eu-west !tag:TEST", "pi-1"),
        ("tag!=test", "pi-1 jet-3 pi-4"),
        ("tag~eu", "pi-1 pi-2"),
        ("tag in (test,canary)", "pi-1 pi-2"),
        ("has tag", "pi-1 pi-2"),
        // What several fields say together.
        ("config=applied", "pi-1"),
        ("config=waiting", "pi-2"),
        ("config=refused", "jet-3 pi-4"),
        ("why~metric", "pi-4"),
        ("has why", "pi-2 jet-3 pi-4"),
        // Words.
        ("wtrpmp", "pi-1"),
        ("PI2", "pi-2"),
        ("cnry", "pi-1"),
        ("jet or test", "pi-2 jet-3"),
        ("arch=aarch64 address=10.0.* !hostname~x", "pi-1 pi-2 jet-3 pi-4"),
    ] {
        assert_eq!(found(text), ids, "{text}");
    }
}

fn index_row(device: &Device) -> IndexRow {
    let name = Some(device.name.clone()).filter(|name| name.raw() != device.id.as_str());
    let online = device.status == DeviceStatus::Online;
    IndexRow {
        slot: 0,
        uid: device.uid,
        id: device.id.clone(),
        name,
        device_type: device.device_type.clone(),
        version: device.version.clone(),
        status: device.status,
        why: (!online).then(|| device.why.clone()),
        last_seen: device.last_seen,
        created_at: device.created_at,
        fingerprint: device.fingerprint,
        config_version: device.config_version,
        config_reported: device.config_reported,
        config_error: device.config_error.clone(),
        config_state: device.config_state,
        config_drift: device.config_drift,
        interval_secs: device.facts.interval_secs,
        hostname: device.facts.hostname.clone(),
        model: device.facts.model.clone(),
        os: device.facts.os.clone(),
        arch: device.facts.arch.clone(),
        address: device.facts.addresses.first().cloned(),
        metadata: device.metadata.clone(),
    }
}

#[test]
fn a_row_of_the_index_says_what_its_device_says() {
    for device in fleet() {
        let row = index_row(&device);
        assert_eq!(Subject::status(&row), device.status);
        for field in Field::all() {
            assert_eq!(row.text(field), device.text(field), "{} {field}", device.id);
            assert_eq!(row.time(field), device.time(field), "{} {field}", device.id);
            assert_eq!(row.number(field), None);
        }
    }
}

#[test]
fn sort_keys_put_missing_values_last() {
    for (key, ids) in [
        ("status", "jet-3 pi-2 pi-1 pi-4"),
        ("-status", "pi-1 pi-4 pi-2 jet-3"),
        ("device", "jet-3 pi-1 pi-2 pi-4"),
        ("-device", "pi-4 pi-2 pi-1 jet-3"),
        ("cpu", "pi-2 pi-1 jet-3 pi-4"),
        ("-cpu", "pi-1 pi-2 jet-3 pi-4"),
        ("last_seen", "pi-1 pi-4 pi-2 jet-3"),
        ("-last_seen", "pi-2 pi-1 pi-4 jet-3"),
        ("version", "pi-2 pi-4 pi-1 jet-3"),
        ("-version", "pi-1 pi-4 pi-2 jet-3"),
        ("tag", "pi-1 pi-2 jet-3 pi-4"),
        ("-tag", "pi-2 pi-1 jet-3 pi-4"),
        ("name", "pi-1 jet-3 pi-2 pi-4"),
        ("metadata", "jet-3 pi-1 pi-2 pi-4"),
    ] {
        let key: SortKey = key.parse().unwrap();
        let mut fleet = fleet();
        fleet.sort_by(|a, b| compare(key, a, b));
        let sorted: Vec<_> = fleet.iter().map(|device| device.id.as_str()).collect();
        assert_eq!(sorted.join(" "), ids, "{key}");
    }
}

#[test]
fn every_key_is_an_order() {
    let fleet = fleet();
    for field in Field::all() {
        for is_descending in [false, true] {
            let order = |a, b| compare(SortKey { field, is_descending }, a, b);
            for a in &fleet {
                assert_eq!(order(a, a), Ordering::Equal);
                for b in &fleet {
                    assert_eq!(order(a, b), order(b, a).reverse(), "{field} {} {}", a.id, b.id);
                }
            }
        }
    }
}

#[test]
fn problems_come_first() {
    let order = ["lost", "offline", "late", "pending", "online", "rejected", "revoked"];
    let rank = |word: &&str| urgency(device("a", word, json!({})).status);
    assert!(order.iter().map(rank).is_sorted_by(|one, next| one < next));
}

#[test]
fn an_empty_result_comes_with_what_was_meant() {
    let fleet = fleet();
    for (text, meant) in [
        ("tag:eu-wset", Some(("tag:eu-west", "tag:eu-west"))),
        ("cpu>1 (type=jetsom or x=1)", Some(("type=jetson", "cpu>1 and (type=jetson or x=1)"))),
        ("site in (paris,lion)", Some(("site in (paris,Lyon)", "site in (paris,Lyon)"))),
        ("site=\"spare part\"", Some(("site=\"spare parts\"", "site=\"spare parts\""))),
        ("staus=offline", Some(("status=offline", "status=offline"))),
        ("staus=nothing", None),
        ("sitte=lyon", Some(("site=lyon", "site=lyon"))),
        ("Site in (lyon,nice)", Some(("site in (lyon,nice)", "site in (lyon,nice)"))),
        ("cpuu>90", Some(("cpu>90", "cpu>90"))),
        ("cpuu~90", None),
        ("has rak", Some(("has rack", "has rack"))),
        ("gpu_model=x", None),
        // Words and numbers that are right, though nobody has them.
        ("status=offline config=none tag:mars", None),
        ("rack=11", None),
        ("tag:eu-west status=revoked", None),
        ("tag:mars", None),
        ("not tag:eu-wset", None),
        ("tag:eu-ws*", None),
        ("tag~eu-wset", None),
        ("cpu=", None),
        ("pmup", None),
    ] {
        let meant = meant
            .map(|(term, filter)| Suggestion { term: term.to_owned(), filter: filter.to_owned() });
        assert_eq!(suggestion(text, fleet.iter()), meant, "{text}");
    }
}

#[test]
fn a_field_that_no_device_has_is_named() {
    let fleet = fleet();
    for (text, name) in [
        ("sitte=lyon", Some("sitte")),
        ("status=offline (has rak or rack>10)", Some("rak")),
        ("metadata.\"odd name\"=1", Some("metadata.\"odd name\"")),
        ("site=paris", None),
        ("cpu>99 status=lost", None),
        ("not sitte=lyon status=revoked", None),
        ("pump", None),
        ("cpu=", None),
    ] {
        assert_eq!(missing(text, fleet.iter()).as_deref(), name, "{text}");
    }
    // Also one of those that every device could have.
    assert_eq!(missing("temp>50", fleet[1..].iter()).as_deref(), Some("temp"));
}
