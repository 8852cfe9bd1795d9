//! What the store does when its disk, its file or its caller fails it.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fleet_core::disk::Disk as _;
use fleet_core::disk::sim::{Fault, SimDisk};
use fleet_core::id::Uid;
use fleet_core::identity::PublicKey;
use fleet_server::store::{
    ConfigStore as _, Device, DeviceStore as _, KeyStore as _, MetaStore as _, OpenError, Outcome,
    RedbStore, StoreError, StoreHealth, TelemetryStore as _, Tier, Top,
};
use redb::{Database, ReadableTable as _, TableDefinition};

use crate::store_disk::Disk;
use crate::store_kit::{config, device, healthy, key, query, report, time, wait_for};

#[tokio::test]
async fn waiting_changes_share_commits() {
    let folder = tempfile::tempdir().unwrap();
    let store = RedbStore::open(&folder.path().join("fleet.redb")).unwrap();
    let one = device("one", 1);
    store.device_insert(one.clone()).await.unwrap();
    let before = store.commits();
    let touches = (1..=200).map(|n| store.device_touch(vec![(one.uid, time(n))]));
    for done in futures_util::future::join_all(touches).await {
        done.unwrap();
    }
    let commits = store.commits() - before;
    assert!((1..100).contains(&commits), "{commits} commits for 200 changes");
}

#[tokio::test]
async fn a_refusal_costs_no_commit() {
    let store = Disk::new().store();
    store.claim_server_key(PublicKey::from_bytes([1; 32])).await.unwrap();
    let before = store.commits();
    store.claim_server_key(PublicKey::from_bytes([2; 32])).await.unwrap_err();
    assert_eq!(store.commits(), before);
}

/// What a log can meet.
const FAULTS: [Fault; 2] = [Fault::Write, Fault::Sync];

/// Appends one report after another until one is not acknowledged; how many were.
async fn append_until_failure(store: &RedbStore, device: Uid, from: u64) -> u64 {
    for seq in from..from + 200 {
        let at = i64::try_from(seq).unwrap();
        match store.append(vec![report(device, Some((1, seq)), at, at as f64)]).await {
            Ok(outcomes) => assert_eq!(outcomes, [Outcome::Stored]),
            Err(StoreError::Unavailable(_)) => return seq - 1,
            Err(error) => panic!("{error:?}"),
        }
    }
    panic!("the disk should have failed");
}

async fn assert_all_there(store: &RedbStore, device: Uid, acknowledged: u64) {
    let points = store.query(query(device, "cpu_usage")).await.unwrap();
    let mut times: Vec<_> =
        points.iter().map(|point| u64::try_from(point.at.millis()).unwrap()).collect();
    times.reverse();
    let expected: Vec<_> = (1..=acknowledged).collect();
    let (kept, more) = times.split_at(expected.len().min(times.len()));
    assert_eq!(kept, expected);
    // What was being written when the disk failed may be there; nothing else may.
    assert!(more.is_empty() || more == [acknowledged + 1], "{more:?}");
}

#[tokio::test]
async fn after_any_failing_write_the_store_recovers_and_has_all_it_acknowledged() {
    for (number, fault) in (0..80).chain((80..190).step_by(13)).zip(FAULTS.into_iter().cycle()) {
        let disk = Disk::new();
        let store = disk.store();
        let one = device("one", 1);
        store.device_insert(one.clone()).await.unwrap();
        disk.telemetry().fail(fault, number);
        let acknowledged = append_until_failure(&store, one.uid, 1).await;

        healthy(|| store.health()).await;
        assert_all_there(&store, one.uid, acknowledged).await;
        let next = acknowledged + 1;
        let at = i64::try_from(next).unwrap();
        let retried = store.append(vec![report(one.uid, Some((1, next)), at, 1.0)]).await;
        retried.unwrap_or_else(|error| panic!("{fault:?} {number}: {error:?}"));
        drop(store);
        assert_all_there(&disk.store(), one.uid, next).await;
    }
}

/// Also where the last write of a commit fails and all of it is there all the same.
#[tokio::test]
async fn whatever_fails_while_telemetry_is_sealed_no_report_is_lost_or_there_twice() {
    let mut failed = 0;
    for number in 0..60 {
        for is_database in [true, false] {
            let disk = Disk::new();
            let store = disk.store();
            let one = device("one", 1);
            store.device_insert(one.clone()).await.unwrap();
            for seq in 1..=40 {
                let at = i64::try_from(seq).unwrap();
                store.append(vec![report(one.uid, Some((1, seq)), at, 1.0)]).await.unwrap();
            }
            if is_database {
                disk.fail_after(number);
            } else {
                disk.telemetry().fail(FAULTS[number as usize % 2], number.into());
            }
            failed += usize::from(store.seal().await.is_err());
            disk.repair();
            disk.telemetry().repair();
            let end = Instant::now() + Duration::from_secs(20);
            while let Err(error) = store.seal().await {
                assert!(Instant::now() < end, "{error:?}");
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            healthy(|| store.health()).await;
            let place = format!("{number} {is_database}");
            assert_all_there(&store, one.uid, 40).await;
            assert_eq!(store.stats().await.unwrap().raw_rows(), 40, "{place}");
            drop(store);
            let store = disk.store();
            assert_all_there(&store, one.uid, 40).await;
            assert_eq!(store.stats().await.unwrap().raw_rows(), 40, "{place}");
            let files = disk.telemetry().names().unwrap();
            let chunks = files.iter().filter(|name| name.starts_with("chunks-")).count();
            assert_eq!(chunks, 1, "{place}: {files:?}");
        }
    }
    assert!(failed > 10, "{failed} of the attempts failed");
}

#[tokio::test]
async fn while_the_disk_is_full_changes_are_refused_and_recovery_needs_no_help() {
    let disk = Disk::new();
    let store = disk.store();
    let one = device("one", 1);
    store.device_insert(one.clone()).await.unwrap();
    disk.fail_after(0);
    for _ in 0..20 {
        let refused = store.device_touch(vec![(one.uid, time(1))]).await;
        assert!(matches!(refused, Err(StoreError::Unavailable(_))), "{refused:?}");
    }
    disk.repair();
    healthy(|| store.health()).await;
    store.device_touch(vec![(one.uid, time(2))]).await.unwrap();
    let seen = store.device_get(one.uid).await.unwrap().unwrap().last_seen;
    assert_eq!(seen, Some(time(2)));
}

#[tokio::test]
async fn t36_nothing_is_revoked_that_its_list_does_not_have() {
    let disk = Disk::new();
    let store = disk.store();
    store.claim_server_key(PublicKey::from_bytes([1; 32])).await.unwrap();
    let listed = |id: &str| {
        let list = disk.telemetry().contents("revoked.log").unwrap_or_default();
        list.windows(id.len()).any(|found| found == id.as_bytes())
    };
    for id in ["first", "second"] {
        store.key_insert(key(id)).await.unwrap();
        let bytes = disk.telemetry().contents("revoked.log").unwrap().len();
        disk.telemetry().limit(Some(bytes));
        let refused = store.key_revoke(id, time(9)).await;
        assert!(matches!(refused, Err(StoreError::Unavailable(_))), "{refused:?}");
        healthy(|| store.health()).await;
        store.device_touch(Vec::new()).await.unwrap();
        assert_eq!(store.key_get(id).await.unwrap().unwrap().revoked_at, None);
        disk.telemetry().limit(None);
        store.key_revoke(id, time(9)).await.unwrap();
        assert!(listed(id));
        assert_eq!(store.key_get(id).await.unwrap().unwrap().revoked_at, Some(time(9)));
    }
    // And the list is first: what the database did not take any more is on it, and the database has
    // it once it takes anything again. So it has what the list did not take at the first attempt.
    for fault in [None, Some(Fault::Sync), Some(Fault::Write), Some(Fault::ShortWrite)] {
        let id = format!("{fault:?}");
        store.key_insert(key(&id)).await.unwrap();
        match fault {
            Some(fault) => disk.telemetry().fail(fault, 0),
            None => disk.fail_after(0),
        }
        let refused = store.key_revoke(&id, time(9)).await;
        assert!(matches!(refused, Err(StoreError::Unavailable(_))), "{id}: {refused:?}");
        disk.repair();
        healthy(|| store.health()).await;
        store.device_touch(Vec::new()).await.unwrap();
        assert!(listed(&id));
        assert_eq!(store.key_get(&id).await.unwrap().unwrap().revoked_at, Some(time(9)), "{id}");
    }
}

/// Random bits that are the same every time.
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z ^ (z >> 31)
    }
}

/// Appends, cuts the power somewhere in between, and says whether all acknowledged data is there.
async fn survives_power_cut(disk: &Disk, dice: &mut Dice) -> bool {
    let store = disk.store();
    let one = device("one", 1);
    store.device_insert(one.clone()).await.unwrap();
    let fault = FAULTS[usize::try_from(dice.roll() % 2).unwrap()];
    disk.telemetry().fail(fault, dice.roll() % 60);
    let acknowledged = append_until_failure(&store, one.uid, 1).await;
    let left = disk.after_power_cut(|| dice.roll().is_multiple_of(2));
    disk.repair();
    drop(store);
    let Ok(store) = left.open() else { return false };
    let there = store.latest(one.uid).await;
    there.is_ok_and(|report| {
        let newest = report.map_or(0, |report| report.at_millis);
        u64::try_from(newest).is_ok_and(|newest| newest >= acknowledged)
    })
}

#[tokio::test]
async fn a_power_cut_loses_nothing_acknowledged() {
    let mut dice = Dice(1);
    for round in 0..100 {
        assert!(survives_power_cut(&Disk::new(), &mut dice).await, "round {round}");
    }
}

#[tokio::test]
async fn a_disk_that_lies_about_syncing_is_caught() {
    let mut dice = Dice(1);
    let mut lost = 0;
    for _ in 0..20 {
        lost += u32::from(!survives_power_cut(&Disk::lying(), &mut dice).await);
    }
    assert!(lost > 0, "the test above would not notice a loss");
}

#[tokio::test]
async fn a_callers_panic_is_contained() {
    let store = Disk::new().store();
    let one = device("one", 1);
    store.device_insert(one.clone()).await.unwrap();
    let panics = store.device_update(one.uid, Box::new(|_| panic!("a defect"))).await;
    assert!(matches!(panics, Err(StoreError::Unavailable(_))));
    healthy(|| store.health()).await;
    let renamed = store.device_update(
        one.uid,
        Box::new(|device| {
            device.name = None;
            Ok(())
        }),
    );
    assert_eq!(renamed.await.unwrap(), Device { name: None, ..one });
}

#[tokio::test]
async fn a_flipped_bit_never_becomes_a_wrong_value() {
    const MARK: &str = "a document that is easy to find on the disk";
    for position in 0..MARK.len() {
        let disk = Disk::new();
        let store = disk.store();
        let one = device("one", 1);
        store.device_insert(one.clone()).await.unwrap();
        store.config_append(one.uid, None, config("first")).await.unwrap();
        store.config_append(one.uid, None, config(MARK)).await.unwrap();
        drop(store);
        assert!(disk.count(MARK.as_bytes()) > 0);
        disk.flip(MARK.as_bytes(), position, (position % 8).try_into().unwrap());

        let store = disk.store();
        let damaged = store.config_get(one.uid, 2).await;
        assert!(
            matches!(damaged, Err(StoreError::Damaged { table: "configs", .. })),
            "{damaged:?}"
        );
        assert_eq!(store.config_get(one.uid, 1).await.unwrap().unwrap().version, 1);
        assert_eq!(store.config_list(one.uid, None, 9).await.unwrap().len(), 1);
        assert_eq!(
            store.health(),
            StoreHealth::Degraded("1 stored value in configs is damaged".to_owned())
        );
        // A damaged version still counts: the next one does not take its number.
        let next = store.config_append(one.uid, Some(2), config("third")).await.unwrap();
        assert_eq!(next.version, 3);
    }
}

/// Flips a bit in every row of a table, past all checks of the database itself.
fn spoil(path: &Path, table: &str) {
    let table = TableDefinition::<&[u8], &[u8]>::new(table);
    let database = Database::open(path).unwrap();
    let txn = database.begin_write().unwrap();
    {
        let mut table = txn.open_table(table).unwrap();
        let rows: Vec<(Vec<u8>, Vec<u8>)> = table
            .iter()
            .unwrap()
            .map(|row| row.map(|(key, row)| (key.value().to_vec(), row.value().to_vec())).unwrap())
            .collect();
        assert!(!rows.is_empty());
        for (key, mut row) in rows {
            row[0] ^= 1;
            table.insert(key.as_slice(), row.as_slice()).unwrap();
        }
    }
    txn.commit().unwrap();
}

#[tokio::test]
async fn telemetry_outlives_what_the_index_says_beside_the_chunks() {
    for table in ["segments", "heads"] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("fleet.redb");
        let store = RedbStore::open(&path).unwrap();
        let one = device("one", 1);
        store.device_insert(one.clone()).await.unwrap();
        for at in 1..4 {
            store.append(vec![report(one.uid, None, at, 1.0)]).await.unwrap();
        }
        store.seal().await.unwrap();
        drop(store);
        spoil(&path, table);

        let points = async |store: &RedbStore| {
            let points = store.query(query(one.uid, "cpu_usage")).await.unwrap();
            points.iter().map(|point| point.at.millis()).collect::<Vec<_>>()
        };
        let top = async |store: &RedbStore| {
            let metric = "cpu_usage".to_owned();
            let top = Top { metric, from: time(2), to: time(9), is_least: false, limit: 1 };
            store.top(top).await.unwrap()
        };
        let store = RedbStore::open(&path).unwrap();
        assert_eq!(points(&store).await, [3, 2, 1], "{table}");
        assert_eq!(top(&store).await, [(one.uid, 1.0)], "{table}");
        assert!(matches!(store.health(), StoreHealth::Degraded(_)), "{table}");
        store.append(vec![report(one.uid, None, 4, 1.0)]).await.unwrap();
        store.seal().await.unwrap();
        drop(store);
        let store = RedbStore::open(&path).unwrap();
        assert_eq!(points(&store).await, [4, 3, 2, 1], "{table}");
        // Where nobody knows how far it was sealed, what the log still has lies in chunks twice.
        let rows = if table == "heads" { 7 } else { 4 };
        assert_eq!(store.stats().await.unwrap().raw_rows(), rows, "{table}");
        assert_eq!(store.prune(Tier::Raw, time(9)).await.unwrap(), rows, "{table}");
        assert_eq!(store.stats().await.unwrap().raw_rows(), 0, "{table}");
    }
}

#[tokio::test]
async fn random_flips_anywhere_are_errors_or_harmless() {
    let original = Disk::new();
    let store = original.store();
    let devices: Vec<_> = (1..=5).map(|n| device(&format!("device-{n}"), n)).collect();
    for device in &devices {
        store.device_insert(device.clone()).await.unwrap();
        store.append(vec![report(device.uid, Some((1, 1)), 10, 1.0)]).await.unwrap();
    }
    drop(store);
    let mut dice = Dice(7);
    for _ in 0..120 {
        let disk = original.after_power_cut(|| true);
        disk.flip_any(dice.roll());
        let Ok(store) = disk.open() else { continue };
        for device in &devices {
            if let Ok(Some(found)) = store.device_get(device.uid).await {
                assert_eq!(&found, device);
            }
            if let Ok(Some(found)) = store.device_find(&device.id).await {
                assert_eq!(&found, device);
            }
            if let Ok(Some(found)) = store.latest(device.uid).await {
                let sent = report(device.uid, Some((1, 1)), 10, 1.0);
                assert_eq!((found.at_millis, found.samples), (10, sent.samples));
            }
        }
    }
}

#[tokio::test]
async fn a_second_server_is_refused_with_its_sentence() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("fleet.redb");
    let first = RedbStore::open(&path).unwrap();
    let refused = refusal(&path);
    assert!(matches!(refused, OpenError::InUse(_)), "{refused:?}");
    let sentence = format!("the database {} is in use by another fleets server", path.display());
    assert_eq!(refused.to_string(), sentence);
    drop(first);
    RedbStore::open(&path).unwrap();
}

#[tokio::test]
async fn the_telemetry_of_another_database_is_refused_and_left_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("fleet.redb");
    let store = RedbStore::open(&path).unwrap();
    let one = device("one", 1);
    store.device_insert(one.clone()).await.unwrap();
    store.append(vec![report(one.uid, Some((1, 1)), 10, 1.0)]).await.unwrap();
    store.seal().await.unwrap();
    drop(store);
    let files = || {
        let files = fs::read_dir(folder.path().join("telemetry")).unwrap();
        let mut names: Vec<_> = files.map(|file| file.unwrap().file_name()).collect();
        names.sort();
        names
    };
    let before = files();
    fs::rename(&path, folder.path().join("away")).unwrap();
    let refused = refusal(&path);
    assert!(matches!(refused, OpenError::Telemetry(_)), "{refused:?}");
    let chain = fleet_core::Chain(&refused).to_string();
    assert!(chain.contains("belongs to another"), "{chain}");
    assert_eq!(files(), before);
    fs::rename(folder.path().join("away"), &path).unwrap();
    let store = RedbStore::open(&path).unwrap();
    assert_eq!(store.query(query(one.uid, "cpu_usage")).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_new_database_is_for_its_owner_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state/server/fleet.redb");
    drop(RedbStore::open(&path).unwrap());
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&path), 0o600);
    assert_eq!(mode(path.parent().unwrap()), 0o700);
}

#[tokio::test]
async fn other_files_are_refused_and_left_as_they_are() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("fleet.redb");
    let text = b"not a database at all\n".to_vec();
    for contents in [text.clone(), text.repeat(1_000), vec![0; 100_000], vec![7]] {
        fs::write(&path, &contents).unwrap();
        let refused = refusal(&path);
        assert!(matches!(refused, OpenError::NotADatabase(_)), "{refused:?}");
        assert_eq!(fs::read(&path).unwrap(), contents);
    }
}

#[tokio::test]
async fn an_emptied_database_is_not_begun_anew() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("fleet.redb");
    fs::write(&path, "").unwrap();
    let refused = refusal(&path);
    assert!(matches!(refused, OpenError::Empty(_)), "{refused:?}");
    assert_eq!(fs::metadata(&path).unwrap().len(), 0);
}

#[tokio::test]
async fn what_a_first_start_left_that_was_cut_off_is_in_nobodys_way() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("fleet.redb");
    for left in [&b""[..], b"redb, or the half of it", &[0; 10_000]] {
        fs::write(folder.path().join("fleet.redb.new"), left).unwrap();
        let store = RedbStore::open(&path).unwrap();
        store.device_insert(device("one", 1)).await.unwrap();
        drop(store);
        assert!(!folder.path().join("fleet.redb.new").exists());
        assert_eq!(RedbStore::open(&path).unwrap().device_list().await.unwrap().len(), 1);
        fs::remove_dir_all(folder.path()).unwrap();
        fs::create_dir(folder.path()).unwrap();
    }
    // Where a link leads to.
    std::os::unix::fs::symlink(folder.path().join("elsewhere"), &path).unwrap();
    drop(RedbStore::open(&path).unwrap());
    assert!(folder.path().join("elsewhere").is_file());
    RedbStore::open(&path).unwrap();
}

#[tokio::test]
async fn a_truncated_database_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("fleet.redb");
    let store = RedbStore::open(&path).unwrap();
    store.device_insert(device("one", 1)).await.unwrap();
    drop(store);
    let whole = fs::read(&path).unwrap();
    for len in [10, 100, 320, 4_096, 5_000, 8_192, 20_000, whole.len() / 2, whole.len() - 1] {
        fs::write(&path, &whole[..len]).unwrap();
        let refused = refusal(&path);
        let expected = matches!(refused, OpenError::Damaged { .. } | OpenError::NotADatabase(_));
        assert!(expected, "{len} of {} bytes: {refused:?}", whole.len());
    }
}

#[tokio::test]
async fn places_that_cannot_hold_a_database_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("file"), "").unwrap();
    let refused = refusal(&folder.path().join("file/fleet.redb"));
    assert!(matches!(refused, OpenError::Folder { .. }), "{refused:?}");
    let refused = refusal(folder.path());
    assert!(matches!(refused, OpenError::Io { .. }), "{refused:?}");
}

#[tokio::test]
async fn a_failed_database_is_not_replaced_by_an_empty_one() {
    // Each opening finds an empty disk, as if the file had been removed.
    let store = RedbStore::open_in(Disk::new, Arc::new(SimDisk::new(1))).unwrap();
    let one = device("one", 1);
    store.device_insert(one.clone()).await.unwrap();
    let panics = store.device_update(one.uid, Box::new(|_| panic!("a defect"))).await;
    assert!(panics.is_err());
    wait_for(
        || store.health(),
        "a failed reopening",
        |health| match health {
            StoreHealth::Healthy => false,
            StoreHealth::Degraded(reason) => reason.contains("could not be reopened"),
        },
    )
    .await;
    let listed = store.device_list().await;
    assert!(matches!(listed, Err(StoreError::Unavailable(_))), "{listed:?}");
}

#[tokio::test]
async fn what_was_queued_is_done_before_the_store_closes() {
    let disk = Disk::new();
    let store = Arc::new(disk.store());
    let devices: Vec<_> = (1..=50).map(|n| device(&format!("device-{n}"), n)).collect();
    let inserts: Vec<_> = devices
        .iter()
        .map(|device| {
            let (store, device) = (Arc::clone(&store), device.clone());
            async move { store.device_insert(device).await }
        })
        .collect();
    for done in futures_util::future::join_all(inserts).await {
        done.unwrap();
    }
    drop(store);
    assert_eq!(disk.store().device_list().await.unwrap(), devices);
}

fn refusal(path: &Path) -> OpenError {
    match RedbStore::open(path) {
        Ok(_) => panic!("{} should not open", path.display()),
        Err(error) => error,
    }
}
