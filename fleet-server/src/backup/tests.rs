//! A store that does all it can to what is being copied.

use std::collections::BTreeSet;
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::Path;
use std::sync::mpsc;
use std::sync::{Arc, Mutex};

use fleet_core::id::Uid;
use fleet_core::metric::Sample;
use fleet_core::time::Timestamp;
use fleet_core::wire::Facts;

use super::format::Encoder;
use super::*;
use crate::keyring::Keyring;
use crate::store::{
    Admission, BackupStore as _, Device, DeviceStore as _, Incoming, MetaStore as _, OtherKeys,
    Part, RedbStore, StoreHealth, TelemetryStore as _, Tier,
};

const BEGAN: i64 = 1_705_000_000_000;
/// Reports that are acknowledged before the backup begins: enough for chunks, and for the log.
const BEFORE: u64 = 3_000;
/// And while it is taken.
const MEANWHILE: u64 = 3_000;
/// Text that makes the log long, so that it begins new files.
const LABEL: usize = 200;

async fn add_device(store: &RedbStore) -> Uid {
    let at = Timestamp::from_millis(BEGAN);
    let uid = Uid::new();
    let device = Device {
        uid,
        id: "a".parse().unwrap(),
        key: None,
        name: None,
        state: Admission::Active,
        state_reason: String::new(),
        state_at: at,
        facts: Facts::default(),
        metadata: std::collections::BTreeMap::new(),
        created_at: at,
        last_seen: None,
        missed_reports: 0,
        other_keys: OtherKeys::default(),
        reported: None,
    };
    store.device_insert(device).await.unwrap();
    uid
}

/// Stores reports, whose values are their numbers, and waits until they are acknowledged.
async fn report(store: &RedbStore, device: Uid, numbers: std::ops::RangeInclusive<u64>) {
    let incoming = |number: u64| Incoming {
        device,
        stream: Some(([1; 16], number)),
        at: Timestamp::from_millis(BEGAN + number as i64),
        samples: vec![Sample::new(&"m".repeat(LABEL), number as f64)],
    };
    for some in numbers.collect::<Vec<_>>().chunks(500) {
        store.append(some.iter().map(|number| incoming(*number)).collect()).await.unwrap();
    }
}

/// All values of a device, as they are found.
async fn values(store: &RedbStore, device: Uid) -> Vec<u64> {
    let found = Arc::new(Mutex::new(Vec::new()));
    let into = found.clone();
    let visit = Box::new(move |_, samples: Vec<Sample>| {
        into.lock().unwrap().extend(samples.iter().map(|sample| sample.value as u64));
    });
    let (from, to) = (Timestamp::from_millis(0), Timestamp::from_millis(BEGAN * 2));
    store.scan(device, from, to, visit).await.unwrap();
    let found = found.lock().unwrap();
    found.clone()
}

/// Does what blocks, where that may be.
fn working<T>(work: impl FnOnce() -> T) -> T {
    tokio::task::block_in_place(work)
}

fn telemetry_files(folder: &Path) -> BTreeSet<String> {
    let names = fs::read_dir(folder.join("telemetry")).unwrap();
    names.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_sealed_pruned_and_compacted_meanwhile_is_in_a_backup_all_the_same() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path().join("data");
    let database = folder.join("fleet.db");
    let store = Arc::new(RedbStore::open(&database).unwrap());
    let keyring = Keyring::read(&database, None).unwrap();
    keyring.complete(store.as_ref(), Timestamp::from_millis(BEGAN)).await.unwrap();
    let device = add_device(&store).await;
    report(&store, device, 1..=BEFORE - 100).await;
    store.seal().await.unwrap();
    report(&store, device, BEFORE - 99..=BEFORE).await;

    // The copy stops at its first piece until everything has been done to what it copies.
    let file = place.path().join("one.backup");
    let server = store.server_key().await.unwrap().unwrap();
    let begin = Begin {
        at_millis: BEGAN,
        release: "1.0.0".to_owned(),
        database: "fleet.db".to_owned(),
        server: server.identity().to_string(),
    };
    let mut encoder = Encoder::default();
    let mut out = OpenOptions::new().create_new(true).write(true).open(&file).unwrap();
    out.write_all(&encoder.begin(&begin).unwrap()).unwrap();
    let key = crate::keyring::sealed(&database, server.identity()).unwrap();
    out.write_all(&encoder.key(&key)).unwrap();
    let (stands, copy_stands) = mpsc::channel();
    let (go_on, may_go_on) = mpsc::channel();
    let mut is_first = true;
    let take = move |part: Part<'_>| {
        if std::mem::take(&mut is_first) {
            stands.send(()).unwrap();
            may_go_on.recv().unwrap();
        }
        out.write_all(&encoder.part(part)).unwrap();
        true
    };
    let copying = {
        let store = store.clone();
        async move { store.copy(Box::new(take)).await.unwrap() }
    };
    let before = telemetry_files(&folder);
    let disturbing = async {
        tokio::task::spawn_blocking(move || copy_stands.recv().unwrap()).await.unwrap();
        report(&store, device, BEFORE + 1..=BEFORE + MEANWHILE).await;
        store.seal().await.unwrap();
        for tier in Tier::ALL {
            let end = BEGAN + (BEFORE + MEANWHILE) as i64 + 1;
            store.prune(tier, Timestamp::from_millis(end)).await.unwrap();
        }
        store.compact().await.unwrap();
        report(&store, device, BEFORE + MEANWHILE + 1..=BEFORE + MEANWHILE + 10).await;
        let after = telemetry_files(&folder);
        let chunks = before.iter().find(|name| name.starts_with("chunks-")).unwrap();
        assert!(!after.contains(chunks), "what was copied is gone: {before:?} {after:?}");
        go_on.send(()).unwrap();
    };
    tokio::join!(copying, disturbing);
    assert_eq!(values(&store, device).await.len(), 10, "what was pruned is gone");

    let verified = working(|| verify(&file, place.path())).unwrap();
    assert!(verified.telemetry.reports >= BEFORE, "{verified:?}");
    let target = place.path().join("new/fleet.db");
    assert_eq!(working(|| restore(&file, &target, None)).unwrap(), verified);
    let restored = RedbStore::open_existing(&target).unwrap();
    assert_eq!(restored.health(), StoreHealth::Healthy);
    let found = values(&restored, device).await;
    // Each once; of what came meanwhile as much as the log's end had by then.
    assert!(found.len() as u64 >= BEFORE, "{}", found.len());
    assert!(found.iter().copied().eq(1..=found.len() as u64), "{found:?}");
    // It goes on where it stood: what was sent counts as sent, and what is new is new.
    let next = found.len() as u64;
    report(&restored, device, next..=next + 1).await;
    assert_eq!(values(&restored, device).await.len() as u64, next + 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_what_was_damaged_all_the_rest_is_restored() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path().join("data");
    let database = folder.join("fleet.db");
    let now = Timestamp::from_millis(BEGAN);
    {
        let store = RedbStore::open(&database).unwrap();
        let keyring = Keyring::read(&database, None).unwrap();
        keyring.complete(&store, now).await.unwrap();
        let device = add_device(&store).await;
        report(&store, device, 1..=1_000).await;
        store.seal().await.unwrap();
    }
    let chunks = telemetry_files(&folder).into_iter().find(|name| name.starts_with("chunks-"));
    let path = folder.join("telemetry").join(chunks.unwrap());
    let mut bytes = fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&path, bytes).unwrap();

    let store = RedbStore::open_existing(&database).unwrap();
    let (sender, mut receiver) = tokio::sync::mpsc::channel::<bytes::Bytes>(4);
    let file = place.path().join("bad.backup");
    let mut out = fs::File::create_new(&file).unwrap();
    let writing = async {
        while let Some(piece) = receiver.recv().await {
            out.write_all(&piece).unwrap();
        }
    };
    let (copied, ()) = tokio::join!(copy(&store, &database, now, sender), writing);
    copied.unwrap();
    // As a file it is whole; what is in it is not.
    read_through(&file).unwrap();
    let verified = working(|| verify(&file, place.path())).unwrap();
    assert!(verified.damage.unwrap().contains("damaged"));
    let target = place.path().join("new/fleet.db");
    let restored = working(|| restore(&file, &target, None)).unwrap();
    assert!(restored.damage.unwrap().contains("damaged"));
    let store = RedbStore::open_existing(&target).unwrap();
    assert_eq!(store.device_list().await.unwrap().len(), 1);
}
