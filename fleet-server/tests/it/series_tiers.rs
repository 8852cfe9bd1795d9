//! Coarser tiers: what is rolled up, pruned and compacted still says what it said.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::ScopedJoinHandle;
use std::time::Duration;

use fleet_core::disk::Disk as _;
use fleet_core::disk::sim::Fault;
use fleet_core::id::Uid;
use fleet_core::metric::Sample;
use fleet_core::time::Timestamp;
use fleet_server::store::{
    CurvesAsked, DeviceStore as _, Incoming, Keep, MetaStore as _, RedbStore, StoreHealth,
    TelemetryStore as _, Tier, Top,
};

use crate::store_disk::Disk;
use crate::store_kit::{device, query, time};

const MINUTE: i64 = 60_000;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;
/// The steps in which everything is asked for: of coarse values as of fine ones.
const STEP: i64 = 2 * HOUR;

/// Minimum, maximum, mean and count by step.
type Steps = BTreeMap<i64, (f64, f64, f64, f64)>;

/// What was stored, by time.
#[derive(Default)]
struct Model(BTreeMap<i64, f64>);

impl Model {
    fn steps(&self, from: i64) -> Steps {
        let mut values: BTreeMap<i64, Vec<f64>> = BTreeMap::new();
        for (at, value) in self.0.range(from..) {
            values.entry(at.div_euclid(STEP)).or_default().push(*value);
        }
        let stat = |values: &Vec<f64>| {
            let sum: f64 = values.iter().sum();
            let (least, most) = (f64::min, f64::max);
            let end = |pick: fn(f64, f64) -> f64| values.iter().copied().reduce(pick).unwrap();
            (end(least), end(most), sum / values.len() as f64, values.len() as f64)
        };
        values.iter().map(|(step, values)| (*step, stat(values))).collect()
    }
}

async fn append(store: &RedbStore, model: &mut Model, uid: Uid, times: impl Iterator<Item = i64>) {
    append_more(store, model, uid, times, 0.0).await;
}

/// The same with greater values.
async fn append_more(
    store: &RedbStore,
    model: &mut Model,
    uid: Uid,
    times: impl Iterator<Item = i64>,
    more: f64,
) {
    let mut reports = Vec::new();
    for at in times {
        let value = more + (at / MINUTE % 997) as f64 / 100.0;
        model.0.insert(at, value);
        let samples = vec![Sample::new("cpu_usage", value), Sample::new("load1", 1.0)];
        reports.push(Incoming { device: uid, stream: None, at: time(at), samples });
    }
    store.append(reports).await.unwrap();
    store.seal().await.unwrap();
}

/// The steps that the store finds, and of what it made them.
async fn steps(store: &RedbStore, uid: Uid, from: i64) -> (Steps, Tier) {
    let asked = CurvesAsked {
        device: uid,
        metrics: vec!["cpu_usage".to_owned()],
        from: time(from),
        to: time(i64::MAX),
        step_millis: STEP,
    };
    let drawn = store.curves(asked).await.unwrap();
    let steps = drawn.curves.iter().flat_map(|curve| &curve.steps);
    let steps = steps.map(|(step, stat)| (*step, (stat.min, stat.max, stat.mean(), stat.count)));
    (steps.collect(), drawn.resolution)
}

#[track_caller]
fn assert_alike(found: &Steps, expected: &Steps) {
    assert_eq!(found.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
    for (step, (min, max, mean, count)) in found {
        let wanted = &expected[step];
        assert_eq!((min, max, count), (&wanted.0, &wanted.1, &wanted.3), "step {step}");
        assert!((mean - wanted.2).abs() < 1e-9, "step {step}: {mean} is not {}", wanted.2);
    }
}

#[tokio::test]
async fn what_is_kept_coarsely_says_the_same() {
    let disk = Disk::new();
    let store = disk.store();
    let one = device("one", 1);
    let (uid, mut model) = (one.uid, Model::default());
    store.device_insert(one).await.unwrap();
    for day in 0..4 {
        let times = (0..24 * 12).map(move |n| day * DAY + n * 5 * MINUTE);
        append(&store, &mut model, uid, times).await;
    }
    let (before, of) = steps(&store, uid, 0).await;
    assert_alike(&before, &model.steps(0));
    assert_eq!(of, Tier::Raw);

    let now = time(4 * DAY);
    assert!(store.keep(Keep::default(), now).await.unwrap() > 0, "two days of raw values go");
    let (after, of) = steps(&store, uid, 0).await;
    assert_alike(&after, &model.steps(0));
    assert_eq!(of, Tier::Minute);
    let raw = store.query(query(uid, "cpu_usage")).await.unwrap();
    assert_eq!(raw.last().unwrap().at, time(2 * DAY));

    // Values that come late are counted beside those that are rolled up, also after a restart.
    append(&store, &mut model, uid, (0..50).map(|n| 3 * DAY + 1 - n * 7 * MINUTE)).await;
    append(&store, &mut model, uid, std::iter::once(2 * DAY + 7)).await;
    drop(store);
    let store = disk.store();
    for _ in 0..2 {
        assert_alike(&steps(&store, uid, 2 * DAY).await.0, &model.steps(2 * DAY));
        store.keep(Keep::default(), now.plus(Duration::from_secs(6 * 3_600))).await.unwrap();
    }
    assert_alike(&steps(&store, uid, 0).await.0, &model.steps(0));

    // Months later only the coarser tiers are left, then only the coarsest.
    for (days, tier) in [(40, Tier::TenMinutes), (300, Tier::Hour)] {
        store.keep(Keep::default(), time(days * DAY)).await.unwrap();
        let (steps, of) = steps(&store, uid, 0).await;
        assert_alike(&steps, &model.steps(0));
        assert_eq!(of, tier, "after {days} days");
    }
    store.keep(Keep::default(), time(800 * DAY)).await.unwrap();
    assert_eq!(steps(&store, uid, 0).await.0, Steps::new());
    let tiers = store.stats().await.unwrap().tiers;
    assert!(tiers.iter().all(|tier| (tier.rows, tier.file_bytes) == (0, 0)), "{tiers:?}");
}

#[tokio::test]
async fn the_oldest_goes_where_there_is_too_much() {
    let store = Disk::new().store();
    let one = device("one", 1);
    let (uid, mut model) = (one.uid, Model::default());
    store.device_insert(one).await.unwrap();
    for hour in 0..20 {
        append(&store, &mut model, uid, (0..60).map(move |n| hour * HOUR + n * MINUTE)).await;
    }
    let bytes = |stats: fleet_server::store::TelemetryStats| stats.tiers[0].bytes;
    let all = bytes(store.stats().await.unwrap());
    let keep = Keep { bytes_max: all / 2, ..Keep::default() };
    store.keep(keep, time(20 * HOUR)).await.unwrap();
    let left = bytes(store.stats().await.unwrap());
    assert!(left <= all / 2 && left > all / 4, "{left} of {all}");
    let oldest = store.query(query(uid, "cpu_usage")).await.unwrap().last().unwrap().at;
    assert!(oldest > time(9 * HOUR) && oldest < time(12 * HOUR), "{oldest}");
    assert_alike(&steps(&store, uid, 0).await.0, &model.steps(0));
}

#[tokio::test]
async fn room_of_what_is_gone_is_freed_and_the_rest_stays() {
    let disk = Disk::new();
    let store = disk.store();
    let (one, two) = (device("one", 1), device("two", 2));
    let mut models = (Model::default(), Model::default());
    for device in [&one, &two] {
        store.device_insert(device.clone()).await.unwrap();
    }
    for hour in 0..10 {
        append(&store, &mut models.0, one.uid, (0..360).map(move |n| hour * HOUR + n * 10_000))
            .await;
    }
    append(&store, &mut models.1, two.uid, (0..10).map(|n| n * HOUR)).await;
    store.device_delete(one.uid, Timestamp::from_millis(1)).await.unwrap();
    store.device_purge(time(2)).await.unwrap();
    let raw = |stats: fleet_server::store::TelemetryStats| stats.tiers[0].clone();
    let before = raw(store.stats().await.unwrap());
    assert!(before.file_bytes > 2 * before.bytes, "{before:?}");
    let freed = store.compact().await.unwrap();
    let after = raw(store.stats().await.unwrap());
    assert!(freed > 0 && after.file_bytes < before.file_bytes, "{freed} {after:?}");
    drop(store);
    assert_alike(&steps(&disk.store(), two.uid, 0).await.0, &models.1.steps(0));
    assert_eq!(disk.store().compact().await.unwrap(), 0, "there is no more to free");
}

/// Rolls up all that is older than an hour, keeps raw values for so many, and the rest.
fn keep(raw: i64) -> Keep {
    let hours = [raw, 100_000, 200_000, 300_000].map(|hours| hours as u64 * 3_600);
    Keep { ages: hours.map(Duration::from_secs), ..Keep::default() }
}

/// Bytes of coarser chunks that nobody wants any more.
async fn rewritten(store: &RedbStore) -> u64 {
    let tiers = store.stats().await.unwrap().tiers;
    let live = tiers.iter().skip(1).filter(|tier| tier.chunks > 0);
    live.map(|tier| tier.file_bytes - tier.bytes).sum::<u64>()
}

#[tokio::test]
async fn what_comes_again_after_it_was_rolled_up_is_counted_once() {
    let disk = Disk::new();
    let mut store = disk.store();
    let one = device("one", 1);
    let (uid, mut model) = (one.uid, Model::default());
    store.device_insert(one).await.unwrap();
    let times = || (0..30 * 12).map(|n| n * 5 * MINUTE);
    append(&store, &mut model, uid, times()).await;
    // Into all tiers.
    let coarse =
        Keep { ages: [48, 49, 50, 100_000].map(|h| Duration::from_secs(h * 3_600)), ..keep(0) };
    store.keep(coarse.clone(), time(60 * HOUR)).await.unwrap();
    let chunks = store.stats().await.unwrap().tiers;
    assert!(chunks[0].rows > 0 && chunks[3].rows > 0, "{chunks:?}");

    // What is new among it is added; nothing is written anew.
    let before = rewritten(&store).await;
    append(&store, &mut model, uid, (13 * 12..14 * 12).map(|n| n * 5 * MINUTE + 7)).await;
    assert_alike(&steps(&store, uid, 0).await.0, &model.steps(0));
    store.keep(coarse.clone(), time(60 * HOUR)).await.unwrap();
    assert_alike(&steps(&store, uid, 0).await.0, &model.steps(0));
    assert_eq!(rewritten(&store).await, before);

    // The same again, and other values in the place of some; before and after they are rolled up.
    append(&store, &mut model, uid, times().skip(13 * 12)).await;
    append_more(&store, &mut model, uid, (15 * 12..16 * 12).map(|n| n * 5 * MINUTE), 3.5).await;
    for _ in 0..3 {
        assert_alike(&steps(&store, uid, 0).await.0, &model.steps(0));
        store.keep(coarse.clone(), time(60 * HOUR)).await.unwrap();
        drop(store);
        store = disk.store();
    }
    assert!(rewritten(&store).await > before);
    store.keep(keep(1), time(100 * HOUR)).await.unwrap();
    assert_eq!(store.stats().await.unwrap().tiers[0].rows, 0, "raw values are gone");
    assert_alike(&steps(&store, uid, 0).await.0, &model.steps(0));
}

#[tokio::test]
async fn what_came_again_is_rolled_up_before_the_first_is_gone() {
    let store = Disk::new().store();
    let one = device("one", 1);
    let (uid, mut model) = (one.uid, Model::default());
    store.device_insert(one).await.unwrap();
    append(&store, &mut model, uid, (0..12).map(|n| n * 5 * MINUTE)).await;
    store.keep(keep(10), time(9 * HOUR)).await.unwrap();
    // A chunk that ends when it is not rolled up yet, and values that are in memory only.
    append_more(&store, &mut model, uid, [5 * MINUTE, 20 * HOUR].into_iter(), 1.0).await;
    let samples = vec![Sample::new("cpu_usage", 50.0)];
    let again = Incoming { device: uid, stream: None, at: time(10 * MINUTE), samples };
    model.0.insert(10 * MINUTE, 50.0);
    store.append(vec![again]).await.unwrap();
    store.keep(keep(10), time(20 * HOUR)).await.unwrap();
    assert_alike(&steps(&store, uid, 0).await.0, &model.steps(0));
}

#[tokio::test]
async fn more_than_is_rolled_up_at_once_is_counted_once_too() {
    let store = Disk::new().store();
    let one = device("one", 1);
    let (uid, mut model) = (one.uid, Model::default());
    store.device_insert(one).await.unwrap();
    // Each a chunk of its own, and half of them come again.
    for number in (0..180).chain(90..180).chain(0..30) {
        append(&store, &mut model, uid, std::iter::once(number * 10 * MINUTE)).await;
    }
    store.keep(keep(100), time(90 * HOUR)).await.unwrap();
    assert_eq!(store.stats().await.unwrap().tiers[0].chunks, 300);
    assert_alike(&steps(&store, uid, 0).await.0, &model.steps(0));
}

#[tokio::test]
async fn what_came_later_holds_after_compaction() {
    let disk = Disk::new();
    let store = disk.store();
    let (one, two) = (device("one", 1), device("two", 2));
    let (uid, other, mut model) = (one.uid, two.uid, Model::default());
    for device in [one, two] {
        store.device_insert(device).await.unwrap();
    }
    append(&store, &mut model, uid, (0..9).map(|n| n * MINUTE)).await;
    append(&store, &mut Model::default(), other, (0..900).map(|n| n * MINUTE)).await;
    // After a failure it goes on in another file.
    let samples = vec![Sample::new("cpu_usage", 77.0)];
    let again = Incoming { device: uid, stream: None, at: time(4 * MINUTE), samples };
    store.append(vec![again]).await.unwrap();
    model.0.insert(4 * MINUTE, 77.0);
    disk.telemetry().fail(Fault::Sync, 0);
    store.seal().await.unwrap_err();
    disk.telemetry().repair();
    store.seal().await.unwrap();
    assert_alike(&steps(&store, uid, 0).await.0, &model.steps(0));
    // The first file is mostly of a device that goes.
    store.device_delete(other, time(1)).await.unwrap();
    store.device_purge(time(2)).await.unwrap();
    assert!(store.compact().await.unwrap() > 0);
    assert_alike(&steps(&store, uid, 0).await.0, &model.steps(0));
}

/// An hour of values in two chunks, rolled up.
async fn rolled_hour(disk: &Disk) -> (RedbStore, Uid, Model) {
    let store = disk.store();
    let one = device("one", 1);
    let (uid, mut model) = (one.uid, Model::default());
    store.device_insert(one).await.unwrap();
    append(&store, &mut model, uid, (0..6).map(|n| n * 5 * MINUTE)).await;
    append(&store, &mut model, uid, (6..12).map(|n| n * 5 * MINUTE)).await;
    store.keep(keep(10), time(9 * HOUR)).await.unwrap();
    (store, uid, model)
}

/// Sends a value of the hour again, which is counted beside what was there: nothing is lost.
async fn assert_counted_beside(store: &RedbStore, uid: Uid, mut model: Model, at: i64) {
    append(store, &mut model, uid, std::iter::once(at)).await;
    for _ in 0..2 {
        let (found, _) = steps(store, uid, 0).await;
        let (min, max, _, count) = model.steps(0)[&0];
        assert_eq!((found[&0].0, found[&0].1, found[&0].3), (min, max, count + 1.0));
        store.keep(keep(10), time(9 * HOUR)).await.unwrap();
    }
}

#[tokio::test]
async fn an_hour_is_not_made_anew_of_what_is_damaged() {
    let disk = Disk::new();
    let (store, uid, model) = rolled_hour(&disk).await;
    drop(store);
    // The last byte of raw values, of the second half hour.
    let raw = "chunks-0000000000000001";
    assert!(disk.telemetry().rot(raw, |bytes| *bytes.last_mut().unwrap() ^= 1));
    let store = disk.store();
    assert_counted_beside(&store, uid, model, 0).await;
    assert!(matches!(store.health(), StoreHealth::Degraded(_)), "that is told");
}

#[tokio::test]
async fn an_hour_is_not_made_anew_of_what_is_left() {
    let (store, uid, model) = rolled_hour(&Disk::new()).await;
    assert_eq!(store.prune(Tier::Raw, time(30 * MINUTE)).await.unwrap(), 6);
    assert_counted_beside(&store, uid, model, 45 * MINUTE).await;
    assert_eq!(store.health(), StoreHealth::Healthy);
}

#[tokio::test]
async fn a_file_that_goes_while_somebody_reads_it_is_read_to_its_end() {
    let disk = Disk::new();
    let store = disk.store();
    let (one, two) = (device("one", 1), device("two", 2));
    let (uid, other, mut model) = (one.uid, two.uid, Model::default());
    for device in [one, two] {
        store.device_insert(device).await.unwrap();
    }
    append(&store, &mut Model::default(), other, (0..2_000).map(|n| n * MINUTE)).await;
    append(&store, &mut model, uid, (0..9).map(|n| n * MINUTE)).await;
    append(&store, &mut model, uid, (9..18).map(|n| n * MINUTE)).await;
    let (begun, go_on) = (std::sync::mpsc::channel(), std::sync::mpsc::channel());
    let (tell, told) = std::sync::mpsc::channel();
    let visit = move |at: Timestamp, _| {
        tell.send(at.millis()).unwrap();
        if at == time(0) {
            begun.0.send(()).unwrap();
            go_on.1.recv().unwrap();
        }
    };
    let move_it = async {
        tokio::task::spawn_blocking(move || begun.1.recv().unwrap()).await.unwrap();
        store.device_delete(other, time(1)).await.unwrap();
        store.device_purge(time(2)).await.unwrap();
        assert!(store.compact().await.unwrap() > 0);
        go_on.0.send(()).unwrap();
    };
    let (scanned, ()) =
        tokio::join!(store.scan(uid, time(0), time(i64::MAX), Box::new(visit)), move_it);
    scanned.unwrap();
    assert_eq!(told.into_iter().collect::<Vec<_>>(), model.0.into_keys().collect::<Vec<_>>());
    assert_eq!(store.health(), StoreHealth::Healthy);
}

/// Reads in all ways what a device has, and says how many values that were.
async fn read_all(store: &RedbStore, uid: Uid) -> [usize; 4] {
    let points = store.query(query(uid, "cpu_usage")).await.unwrap().len();
    let (tell, told) = std::sync::mpsc::channel();
    let visit = move |_, samples: Vec<Sample>| tell.send(samples.len()).unwrap();
    store.scan(uid, time(0), time(i64::MAX), Box::new(visit)).await.unwrap();
    let drawn = steps(store, uid, 0).await.0.values().map(|(_, _, _, count)| *count as usize).sum();
    let top = Top {
        metric: "cpu_usage".to_owned(),
        from: time(0),
        to: time(i64::MAX),
        is_least: true,
        limit: 9,
    };
    let found = store.top(top).await.unwrap().iter().filter(|(device, _)| *device == uid).count();
    [points, told.into_iter().sum(), drawn, found]
}

#[test]
fn whoever_reads_while_files_go_finds_all() {
    let (disk, runtime) = (Disk::new(), tokio::runtime::Runtime::new().unwrap());
    let store = disk.store();
    let (one, two) = (device("one", 1), device("two", 2));
    let (uid, other, mut model) = (one.uid, two.uid, Model::default());
    runtime.block_on(async {
        store.device_insert(one).await.unwrap();
        append(&store, &mut model, uid, (0..90).map(|n| n * MINUTE)).await;
    });
    let is_over = AtomicBool::new(false);
    let read = || {
        while !is_over.load(Ordering::Relaxed) {
            assert_eq!(runtime.block_on(read_all(&store, uid)), [90, 180, 90, 1]);
        }
    };
    // What another device leaves behind makes its file be given up.
    let compact = async || {
        store.device_insert(two.clone()).await.unwrap();
        append(&store, &mut Model::default(), other, (0..200).map(|n| n * MINUTE)).await;
        store.device_delete(other, time(1)).await.unwrap();
        store.device_purge(time(2)).await.unwrap();
        u64::from(store.compact().await.unwrap() > 0)
    };
    std::thread::scope(|threads| {
        let readers = [threads.spawn(read), threads.spawn(read)];
        let mut compacted = 0;
        while compacted < 40 && !readers.iter().any(ScopedJoinHandle::is_finished) {
            compacted += runtime.block_on(compact());
        }
        is_over.store(true, Ordering::Relaxed);
    });
    assert_eq!(store.health(), StoreHealth::Healthy);
    let files = disk.telemetry().names().unwrap();
    assert_eq!(files.iter().filter(|name| name.starts_with("chunks-")).count(), 1, "{files:?}");
}
