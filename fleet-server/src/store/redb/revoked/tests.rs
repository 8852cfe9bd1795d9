//! The list and the database are brought together, and neither forgets what the other knows.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

use fleet_core::api::{AuditAction, EventKind, Might, Rights, Role};
use fleet_core::disk::sim::SimDisk;
use fleet_core::secret::KeyKind;
use redb::StorageBackend;
use redb::backends::InMemoryBackend;

use super::super::devices::tests::device;
use super::super::tables::DEVICES;
use super::*;
use crate::store::{
    AuditQuery, AuditStore as _, DeletedStore as _, DeviceStore as _, EventStore as _, KeyOrigin,
    KeyStore as _, MetaStore as _,
};

fn time(millis: i64) -> Timestamp {
    Timestamp::from_millis(millis)
}

fn key_record(id: &str) -> KeyRecord {
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
        might: Might { role: Role::Viewer, rights: Rights::new() },
        scope: None,
        origin: None,
    }
}

fn successor(id: &str, of: &str) -> KeyRecord {
    let origin = KeyOrigin { author: "ada".to_owned(), succeeds: Some(of.to_owned()) };
    KeyRecord { origin: Some(origin), ..key_record(id) }
}

/// A store in memory that has what a disk has as its list.
fn with_list(disk: &SimDisk) -> RedbStore {
    RedbStore::open_in(InMemoryBackend::new, Arc::new(disk.clone())).unwrap()
}

const SERVER: [u8; 32] = [7; 32];

#[tokio::test]
async fn t36_a_list_with_something_missing_is_relied_on_by_a_database_that_has_it() {
    let disk = SimDisk::new(1);
    let store = with_list(&disk);
    store.claim_server_key(PublicKey::from_bytes(SERVER)).await.unwrap();
    store.settle_revoked(telling()).await.unwrap();
    let has = async || store.write(crate::store::redb::meta::group).await.unwrap();
    let before = has().await;
    for id in ["one", "two", "three"] {
        store.key_insert(key_record(id)).await.unwrap();
        store.key_revoke(id, time(3)).await.unwrap();
    }
    assert_eq!(has().await, before + 3);
    for (missing, is_refused) in [(before, false), (before + 3, false), (before + 4, true)] {
        let judged = store.write(move |txn| {
            Ok(judge_damage(txn, Some(Damage { at: 5, group: missing }))?.is_err())
        });
        assert_eq!(judged.await.unwrap(), is_refused, "{missing}");
    }
}

#[tokio::test]
async fn t36_whoever_was_revoked_since_is_had_back_as_revoked() {
    let disk = SimDisk::new(1);
    let store = with_list(&disk);
    store.claim_server_key(PublicKey::from_bytes(SERVER)).await.unwrap();
    let rekeyed = Device { key: Some(PublicKey::from_bytes([8; 32])), ..device("two", 2) };
    let was = Device { other_keys: OtherKeys::default(), ..device("two", 2) };
    for it in [&device("one", 1), &was] {
        store.device_insert(it.clone()).await.unwrap();
        store.device_delete(it.uid, time(9)).await.unwrap();
    }
    let one =
        store.deleted_list().await.unwrap().into_iter().find(|it| it.device.id.as_str() == "one");
    let one = one.unwrap().device;
    // As if the database was from before that.
    let out = Device { state: Admission::Revoked, state_at: time(20), ..one.clone() };
    let two =
        store.deleted_list().await.unwrap().into_iter().find(|it| it.device.id.as_str() == "two");
    let two = two.unwrap().device;
    let former = vec![two.key.unwrap().bytes()];
    let key = rekeyed.key.unwrap();
    let keys = Ended::DeviceKeys { uid: two.uid.bytes(), key: key.bytes(), former };
    let list = vec![device_ended(&out, false), keys];
    store.shared.revoked.add(Some(PublicKey::from_bytes(SERVER)), 0, list).unwrap();
    let back = store.deleted_restore(one.uid).await.unwrap().device;
    assert_eq!((back.state, back.state_at), (Admission::Revoked, time(20)));
    assert_eq!(store.deleted_restore(two.uid).await.unwrap().device.key, Some(key));
}

#[tokio::test]
async fn t36_a_list_that_was_lost_has_all_again_that_the_database_knows() {
    let store = RedbStore::in_memory();
    store.key_insert(key_record("revoked")).await.unwrap();
    store.key_revoke("revoked", time(3)).await.unwrap();
    store.key_insert(key_record("rotated")).await.unwrap();
    store.key_succeed("rotated", successor("next", "rotated"), time(2), time(9)).await.unwrap();
    let short = KeyRecord { expires_at: Some(time(5)), ..key_record("short") };
    store.key_insert(short).await.unwrap();
    let news = store.write(|txn| keys_ended(txn, &List::default())).await.unwrap();
    let expected = [
        Ended::Key { id: "revoked".to_owned(), at_millis: 3 },
        Ended::KeyLife { id: "rotated".to_owned(), at_millis: 9 },
    ];
    assert_eq!(news, expected);
    let known = store.shared.revoked.list();
    assert_eq!(store.write(move |txn| keys_ended(txn, &known)).await.unwrap(), []);
}

fn telling() -> Telling {
    Box::new(|settled| {
        let keys = settled.keys.iter();
        let devices = settled.devices.iter().map(|device| device.id.to_string());
        let events = keys.map(|key| key.id.clone()).chain(devices).map(|text| Event {
            at: time(7),
            kind: EventKind::KeyRevoked,
            actor: "server".to_owned(),
            device: None,
            text,
        });
        let events: Vec<Event> = events.collect();
        let records = events.iter().map(|event| {
            let targets = vec![event.text.clone()];
            crate::ops::audit::own_entry(AuditAction::KeyRevoke, targets, time(7))
        });
        Words { records: records.collect(), events }
    })
}

/// What was told as events and in the audit record.
async fn told(store: &RedbStore) -> (Vec<String>, Vec<String>) {
    let events = store.event_after(0, 99).await.unwrap();
    let all = AuditQuery {
        actor: None,
        action: None,
        targets: Vec::new(),
        since: time(0),
        until: time(i64::MAX),
        before: u64::MAX,
        limit: 99,
    };
    let records = store.audit_list(all).await.unwrap().into_iter().rev();
    let records = records.map(|record| record.entry.targets[0].raw().to_owned());
    (events.into_iter().map(|(_, event)| event.text).collect(), records.collect())
}

#[tokio::test]
async fn t36_a_key_of_a_device_that_cannot_be_read_does_not_stop_the_start() {
    let store = RedbStore::in_memory();
    let (one, thief) = (device("one", 1), device("thief", 2));
    store.device_insert(one.clone()).await.unwrap();
    let uid = one.uid.bytes();
    store.write(move |txn| txn.open(&DEVICES)?.put_sealed(&uid, b"junk")).await.unwrap();
    let revoked = &store.shared.revoked;
    let server = Some(PublicKey::from_bytes(SERVER));
    // Whoever was revoked had the key that the damaged one has now.
    let with_its_key = Device { uid: Uid::new(), id: "uno".parse().unwrap(), ..one };
    let ended = [&with_its_key, &thief].map(|device| device_ended(device, false));
    revoked.add(server, 0, ended.to_vec()).unwrap();
    let settled = store.settle_revoked(telling()).await.unwrap();
    let ids: Vec<_> = settled.devices.iter().map(|device| device.id.to_string()).collect();
    assert_eq!(ids, ["thief"]);
    let thief = ["thief".to_owned()].to_vec();
    assert_eq!(told(&store).await, (thief.clone(), thief));
    // Nothing of it is news to the next start.
    assert!(store.settle_revoked(telling()).await.unwrap().devices.is_empty());
    assert_eq!(told(&store).await.0.len(), 1);
}

/// A file in memory that fails when told to.
#[derive(Clone, Debug)]
struct Flaky(Arc<(InMemoryBackend, AtomicBool)>);

impl Flaky {
    fn fails(&self, fails: bool) {
        self.0.1.store(fails, Ordering::SeqCst);
    }
}

impl StorageBackend for Flaky {
    fn len(&self) -> io::Result<u64> {
        self.0.0.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.0.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.0.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.0.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        if self.0.1.load(Ordering::SeqCst) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.0.0.write(offset, data)
    }
}

#[tokio::test]
async fn t36_what_is_on_the_list_and_failed_is_ended_as_soon_as_that_can_be_and_told() {
    let file = Flaky(Arc::new((InMemoryBackend::new(), AtomicBool::new(false))));
    let opened = file.clone();
    let disk = SimDisk::new(1);
    let store = RedbStore::open_in(move || opened.clone(), Arc::new(disk.clone())).unwrap();
    store.claim_server_key(PublicKey::from_bytes(SERVER)).await.unwrap();
    store.settle_revoked(telling()).await.unwrap();
    let one = device("one", 1);
    store.device_insert(one.clone()).await.unwrap();
    for id in ["revoked", "rotated", "unlisted"] {
        store.key_insert(key_record(id)).await.unwrap();
    }

    // The list has it, and the database does not take it.
    file.fails(true);
    store.key_revoke("revoked", time(3)).await.unwrap_err();
    let next = successor("next", "rotated");
    assert!(store.key_succeed("rotated", next, time(2), time(9)).await.is_err());
    file.fails(false);
    let settled = store.settled_anew().await;
    assert_eq!(settled.keys.first().map(|key| key.id.as_str()), Some("revoked"));
    assert_eq!(store.key_get("revoked").await.unwrap().unwrap().revoked_at, Some(time(3)));

    let revoke = |device: &mut Device| {
        (device.state, device.state_at) = (Admission::Revoked, time(5));
        Ok(())
    };
    // Neither takes it, and then the list does.
    disk.limit(Some(0));
    store.device_update(one.uid, Box::new(revoke)).await.unwrap_err();
    let refused = store.key_revoke("unlisted", time(6)).await;
    assert!(refused.is_err(), "{refused:?}");
    let health = || async { store.device_touch(Vec::new()).await.is_ok() };
    while !health().await {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    assert_eq!(store.directory().state(one.uid), Some(Admission::Active));
    disk.limit(None);
    store.device_touch(Vec::new()).await.unwrap();
    let settled = store.settled_anew().await;
    assert_eq!(settled.devices.first().map(|device| device.uid), Some(one.uid));
    assert_eq!(store.directory().state(one.uid), Some(Admission::Revoked));
    let (events, records) = told(&store).await;
    assert_eq!(events, records);
    for said in ["revoked", "one"] {
        assert_eq!(events.iter().filter(|text| *text == said).count(), 1, "{events:?}");
    }
}
