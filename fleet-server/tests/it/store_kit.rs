//! What the store's tests share: sample records, and waiting.

use std::time::{Duration, Instant};

use fleet_core::api::{Might, Rights, Role};
use fleet_core::id::{DeviceId, Uid};
use fleet_core::identity::PublicKey;
use fleet_core::metric::Sample;
use fleet_core::secret::KeyKind;
use fleet_core::time::Timestamp;
use fleet_core::wire::Facts;
use fleet_server::store::{
    Admission, Device, GrantRecord, Incoming, KeyRecord, NewConfig, OtherKeys, Query, StoreHealth,
    Tell,
};

pub(crate) fn time(millis: i64) -> Timestamp {
    Timestamp::from_millis(millis)
}

pub(crate) fn id(text: &str) -> DeviceId {
    text.parse().unwrap()
}

pub(crate) fn device(name: &str, key: u8) -> Device {
    Device {
        uid: Uid::new(),
        id: id(name),
        key: Some(PublicKey::from_bytes([key; 32])),
        name: Some("Küche".to_owned()),
        state: Admission::Active,
        state_reason: "accepted".to_owned(),
        state_at: time(1),
        facts: Facts {
            hostname: name.to_owned(),
            cores: 4,
            memory_bytes: Some(1 << 30),
            addresses: vec!["10.0.0.2".to_owned()],
            ..Facts::default()
        },
        metadata: [("rack".to_owned(), "7".to_owned())].into(),
        created_at: time(1),
        last_seen: None,
        missed_reports: 0,
        other_keys: OtherKeys::default(),
        reported: None,
    }
}

pub(crate) fn key(id: &str) -> KeyRecord {
    KeyRecord {
        id: id.to_owned(),
        kind: KeyKind::Enrol,
        hash: [9; 32],
        label: "line 3".to_owned(),
        device: None,
        uses_left: None,
        created_at: time(1),
        expires_at: None,
        revoked_at: None,
        last_used: None,
        last_used_from: None,
        might: Might { role: Role::Admin, rights: Rights::new() },
        scope: None,
        origin: None,
    }
}

pub(crate) fn grant(key: u8, expires: i64) -> GrantRecord {
    GrantRecord {
        uid: Uid::new(),
        device_key: PublicKey::from_bytes([key; 32]),
        device_id: id("rpi4-001"),
        created_by: "ada".to_owned(),
        created_at: time(1),
        expires_at: time(expires),
        device: None,
    }
}

pub(crate) fn config(document: &str) -> NewConfig {
    NewConfig {
        document: document.to_owned(),
        own: None,
        author: "ada".to_owned(),
        at: time(5),
        comment: None,
        server_url: Some("http://10.0.0.1:8080".to_owned()),
    }
}

pub(crate) fn report(device: Uid, stream: Option<(u8, u64)>, at: i64, value: f64) -> Incoming {
    Incoming {
        device,
        stream: stream.map(|(stream, seq)| ([stream; 16], seq)),
        at: time(at),
        samples: vec![
            Sample::new("cpu_usage", value),
            Sample::labelled("core_usage", "core", "0", value),
            Sample::labelled("core_usage", "core", "1", value + 1.0),
        ],
    }
}

pub(crate) fn query(device: Uid, metric: &str) -> Query {
    Query {
        device,
        metric: metric.to_owned(),
        labels: Vec::new(),
        from: time(0),
        to: time(i64::MAX),
        limit: 1_000,
    }
}

/// Nothing is told.
pub(crate) fn silent<T>() -> Tell<T> {
    Box::new(|_| Vec::new())
}

/// Waits until the store's health is as described, with a bound.
pub(crate) async fn wait_for(
    health: impl Fn() -> StoreHealth,
    what: &str,
    reached: impl Fn(&StoreHealth) -> bool,
) {
    let end = Instant::now() + Duration::from_secs(20);
    while !reached(&health()) {
        assert!(Instant::now() < end, "waited for {what}, and it is {:?}", health());
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// Waits until the store is healthy again.
pub(crate) async fn healthy(health: impl Fn() -> StoreHealth) {
    wait_for(health, "a healthy store", |health| *health == StoreHealth::Healthy).await;
}
