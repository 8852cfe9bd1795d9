//! What the store's tests share: sample records, and a disk that can be watched and broken.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use std::{fmt, io};

use fleet_core::id::{DeviceId, Uid};
use fleet_core::identity::PublicKey;
use fleet_core::metric::Sample;
use fleet_core::secret::KeyKind;
use fleet_core::time::Timestamp;
use fleet_core::wire::Facts;
use fleet_server::store::{
    Admission, Device, GrantRecord, Incoming, KeyRecord, NewConfig, Query, RedbStore, StoreHealth,
};
use redb::StorageBackend;

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

/// A disk in memory. Its copies are the same disk, so a store can be reopened on it.
#[derive(Clone, Default)]
pub(crate) struct Disk {
    bytes: Arc<Mutex<Vec<u8>>>,
    /// Writes and syncs until they fail; negative: never.
    countdown: Arc<AtomicI64>,
    /// Once the countdown ran out, everything that writes fails until this is cleared.
    broken: Arc<AtomicBool>,
}

impl Disk {
    pub(crate) fn new() -> Self {
        let disk = Self::default();
        disk.countdown.store(-1, Ordering::SeqCst);
        disk
    }

    pub(crate) fn store(&self) -> RedbStore {
        let disk = self.clone();
        RedbStore::open_in(move || disk.clone()).unwrap()
    }

    pub(crate) fn fail_after(&self, writes: i64) {
        self.countdown.store(writes, Ordering::SeqCst);
    }

    pub(crate) fn repair(&self) {
        self.countdown.store(-1, Ordering::SeqCst);
        self.broken.store(false, Ordering::SeqCst);
    }

    pub(crate) fn is_broken(&self) -> bool {
        self.broken.load(Ordering::SeqCst)
    }

    pub(crate) fn change(&self, change: impl FnOnce(&mut Vec<u8>)) {
        change(&mut self.bytes.lock().unwrap());
    }

    fn spend(&self) -> io::Result<()> {
        let before = self.countdown.load(Ordering::SeqCst);
        if before > 0 {
            self.countdown.store(before - 1, Ordering::SeqCst);
        } else if before == 0 {
            self.broken.store(true, Ordering::SeqCst);
        }
        if self.is_broken() { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }
}

impl fmt::Debug for Disk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Disk")
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.bytes.lock().unwrap().len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let bytes = self.bytes.lock().unwrap();
        let from = usize::try_from(offset).unwrap();
        let read = bytes.get(from..from + out.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        out.copy_from_slice(read);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.spend()?;
        self.bytes.lock().unwrap().resize(usize::try_from(len).unwrap(), 0);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.spend()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.spend()?;
        let mut bytes = self.bytes.lock().unwrap();
        let from = usize::try_from(offset).unwrap();
        bytes[from..from + data.len()].copy_from_slice(data);
        Ok(())
    }
}

/// Waits until the store is healthy again.
pub(crate) async fn healthy(health: impl Fn() -> StoreHealth) {
    let end = Instant::now() + Duration::from_secs(20);
    while health() != StoreHealth::Healthy {
        assert!(Instant::now() < end, "waited for a healthy store: {:?}", health());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
