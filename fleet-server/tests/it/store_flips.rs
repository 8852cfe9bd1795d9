//! Bits that flip in the files of telemetry while nobody looks: what is read is right, or absent
//! and told of.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use fleet_core::disk::Disk as _;
use fleet_core::disk::sim::{Dice, SimDisk};
use fleet_core::id::Uid;
use fleet_core::time::Timestamp;
use fleet_server::store::{
    CurvesAsked, DeviceStore as _, Keep, MetaStore as _, Query, RedbStore, StoreHealth,
    TelemetryStore as _,
};

use crate::cuts_kit::DatabaseFile;
use crate::store_kit::{device, query, report, time};

/// Flips unless `FLEETD_TEST_FLIPS` says otherwise.
const FLIPS: u64 = 150;
const DEVICES: u8 = 3;
/// Reports of each device that are in the log alone, and those that are in chunks.
const LOGGED: i64 = 150;
const SEALED: i64 = 200;
const BETWEEN: i64 = 60_000;
/// The steps in which curves are compared.
const STEP: i64 = 3_600_000;

/// A store with values in the log, in chunks, and rolled up, that nobody has open.
struct Closed {
    files: Vec<(String, Vec<u8>)>,
    devices: Vec<Uid>,
}

impl Closed {
    async fn make() -> Self {
        let disk = SimDisk::new(1);
        let store = open(&disk).unwrap();
        let mut devices = Vec::new();
        for number in 1..=DEVICES {
            let new = device(&format!("device-{number}"), number);
            devices.push(new.uid);
            store.device_insert(new).await.unwrap();
        }
        for count in 0..SEALED + LOGGED {
            if [SEALED / 2, SEALED].contains(&count) {
                store.seal().await.unwrap();
                store.keep(keep(), time(count * BETWEEN)).await.unwrap();
            }
            if count == SEALED {
                // What comes again makes an hour be written anew in coarser chunks.
                for (uid, at) in devices.iter().flat_map(|uid| (70..90).map(move |at| (uid, at))) {
                    let value = value_of(*uid, at * BETWEEN);
                    store.append(vec![report(*uid, None, at * BETWEEN, value)]).await.unwrap();
                }
                store.seal().await.unwrap();
                store.keep(keep(), time(count * BETWEEN)).await.unwrap();
                let minutes = &store.stats().await.unwrap().tiers[1];
                assert!(minutes.file_bytes > minutes.bytes + 100, "{minutes:?}");
            }
            for uid in &devices {
                let at = count * BETWEEN;
                let seq = u64::try_from(count + 1).unwrap();
                let sent = report(*uid, Some((1, seq)), at, value_of(*uid, at));
                store.append(vec![sent]).await.unwrap();
            }
        }
        drop(store);
        let contents = |name: String| Some((name.clone(), disk.contents(&name)?));
        let files = disk.names().unwrap().into_iter().filter_map(contents).collect();
        Self { files, devices }
    }

    /// A copy with one bit flipped in a file of a kind, and where that is.
    fn flipped(&self, kind: &str, dice: &mut Dice) -> (SimDisk, String) {
        let of_kind = self.files.iter().filter(|(name, _)| name.starts_with(kind));
        let bytes: usize = of_kind.clone().map(|(_, contents)| contents.len()).sum();
        let (mut place, bit) = (dice.below(bytes), dice.below(8));
        let (disk, mut flip) = (SimDisk::new(1), String::new());
        for (name, contents) in &self.files {
            let mut contents = contents.clone();
            if name.starts_with(kind) && flip.is_empty() {
                if place < contents.len() {
                    contents[place] ^= 1 << bit;
                    flip = format!("bit {bit} of byte {place} of {name}");
                } else {
                    place -= contents.len();
                }
            }
            let file = disk.create(name).unwrap();
            file.write_at(&contents, 0).unwrap();
            file.sync().unwrap();
        }
        disk.sync().unwrap();
        (disk, flip)
    }
}

fn open(disk: &SimDisk) -> Result<RedbStore, fleet_server::store::OpenError> {
    let (database, telemetry) = (disk.clone(), Arc::new(disk.clone()));
    RedbStore::open_in(move || DatabaseFile::open(&database, false), telemetry)
}

/// Rolls up what is older than an hour and a half, and hides nothing.
fn keep() -> Keep {
    let ages = [3, 100_000, 200_000, 300_000];
    Keep { ages: ages.map(|hours| Duration::from_secs(hours * 3_600)), ..Keep::default() }
}

/// What a device measures at a time.
fn value_of(uid: Uid, at: i64) -> f64 {
    f64::from(uid.bytes()[15]) + (at / BETWEEN * 31 % 9_973) as f64 / 100.0
}

/// Reads all that there is. True if everything is there; nothing of it is wrong.
async fn is_whole(store: &RedbStore, uid: Uid, is_last: bool) -> bool {
    let stats = store.stats().await.unwrap();
    let floor = stats.tiers[0].floor.map_or(i64::MIN, Timestamp::millis);
    let all: Vec<i64> = (0..SEALED + LOGGED).map(|count| count * BETWEEN).collect();
    let raw: Vec<i64> = all.iter().copied().filter(|at| *at >= floor).collect();
    let mut is_whole = true;
    for (metric, more) in [("cpu_usage", 0.0), ("core_usage", 0.0), ("core_usage", 1.0)] {
        let core = format!("{more}");
        let labels = (metric == "core_usage").then(|| ("core".to_owned(), core));
        let labels = labels.into_iter().collect();
        let asked = Query { limit: usize::MAX, labels, ..query(uid, metric) };
        let points = store.query(asked).await.unwrap();
        for point in &points {
            let sent = value_of(uid, point.at.millis()) + more;
            assert_eq!(point.value.to_bits(), sent.to_bits(), "{metric} at {}", point.at);
        }
        let mut found: Vec<i64> = points.iter().map(|point| point.at.millis()).collect();
        found.reverse();
        assert!(found.is_sorted_by(|one, next| one < next), "twice: {found:?}");
        assert!(found.iter().all(|at| raw.binary_search(at).is_ok()), "never sent: {found:?}");
        // The very last frame of a log may be what a crash left, so its loss has no message.
        let unsure = usize::from(is_last && found.last() != raw.last());
        is_whole &= found.len() + unsure == raw.len();
    }
    let newest = store.latest(uid).await.unwrap().unwrap();
    for sample in &newest.samples {
        let more = if sample.labels.iter().any(|(_, core)| core == "1") { 1.0 } else { 0.0 };
        let sent = value_of(uid, newest.at_millis) + more;
        assert_eq!(sample.value.to_bits(), sent.to_bits(), "{sample:?}");
    }
    is_whole & is_curve_whole(store, uid, &all, is_last).await
}

async fn is_curve_whole(store: &RedbStore, uid: Uid, all: &[i64], is_last: bool) -> bool {
    let mut expected: BTreeMap<i64, Vec<f64>> = BTreeMap::new();
    for at in all {
        expected.entry(at.div_euclid(STEP)).or_default().push(value_of(uid, *at));
    }
    let asked = CurvesAsked {
        device: uid,
        metrics: vec!["cpu_usage".to_owned()],
        from: time(0),
        to: time(i64::MAX),
        step_millis: STEP,
    };
    let drawn = store.curves(asked).await.unwrap();
    let mut count = 0.0;
    for (step, stat) in drawn.curves.iter().flat_map(|curve| &curve.steps) {
        let values = &expected[step];
        assert!(values.contains(&stat.min) && values.contains(&stat.max), "{step}: {stat:?}");
        assert!(stat.min <= stat.mean() && stat.mean() <= stat.max, "{step}: {stat:?}");
        assert!(stat.count <= values.len() as f64, "{step}: {stat:?}");
        count += stat.count;
    }
    let unsure = if is_last { 1.0 } else { 0.0 };
    count >= all.len() as f64 - unsure
}

#[tokio::test]
async fn flipped_bits_in_log_and_chunks_never_become_values() {
    let flips = std::env::var("FLEETD_TEST_FLIPS")
        .map_or(FLIPS, |text| text.parse().expect("FLEETD_TEST_FLIPS is a number"));
    let closed = Closed::make().await;
    let mut told = BTreeMap::new();
    for seed in 0..flips {
        let mut dice = Dice::new(seed);
        let kind = if dice.one_in(2) { "wal-" } else { "chunks-" };
        let (disk, flip) = closed.flipped(kind, &mut dice);
        let store = open(&disk).unwrap_or_else(|error| panic!("seed {seed}: {flip}: {error:?}"));
        if dice.one_in(2) {
            let now = time((SEALED + LOGGED) * BETWEEN);
            store.seal().await.unwrap();
            store.keep(keep(), now).await.unwrap();
            store.compact().await.unwrap();
        }
        let mut whole = true;
        for uid in &closed.devices {
            whole &= is_whole(&store, *uid, Some(uid) == closed.devices.last()).await;
        }
        let is_told = store.health() != StoreHealth::Healthy;
        assert!(whole || is_told, "seed {seed}: {flip} is not told of");
        *told.entry((kind, whole, is_told)).or_insert(0) += 1;
    }
    let lost = |kind| told.get(&(kind, false, true)).copied().unwrap_or(0);
    assert!(flips < FLIPS || (lost("wal-") > 10 && lost("chunks-") > 10), "{told:?}");
}
