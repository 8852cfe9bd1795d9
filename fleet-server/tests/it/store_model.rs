//! Telemetry against a model that fits on a page: whatever is appended, pruned and reopened, a
//! query finds what the model holds.

use std::collections::BTreeMap;

use fleet_core::id::Uid;
use fleet_core::metric::Sample;
use fleet_core::time::Timestamp;
use fleet_server::store::{DeviceStore as _, Outcome, Query, RedbStore, TelemetryStore as _, Tier};
use proptest::prelude::*;

use crate::store_disk::Disk;
use crate::store_kit::{device, query, report, time};

#[derive(Clone, Debug)]
enum Step {
    Append(Vec<Sent>),
    Prune(i64),
    Seal,
    Reopen,
}

#[derive(Clone, Debug)]
struct Sent {
    device: usize,
    stream: Option<(u8, u64)>,
    at: i64,
}

#[derive(Default)]
struct Model {
    /// By device and time, the value that came last.
    points: BTreeMap<(usize, i64), u32>,
    /// What is older is hidden.
    floor: i64,
    cursors: BTreeMap<(usize, u8), u64>,
    missed: BTreeMap<usize, u64>,
}

impl Model {
    fn append(&mut self, sent: &Sent, value: u32) -> Outcome {
        if let Some((stream, seq)) = sent.stream {
            let last = self.cursors.entry((sent.device, stream)).or_default();
            if seq <= *last {
                return Outcome::Duplicate;
            }
            *self.missed.entry(sent.device).or_default() += seq - *last - 1;
            *last = seq;
        }
        self.points.insert((sent.device, sent.at), value);
        Outcome::Stored
    }

    fn prune(&mut self, before: i64) {
        self.floor = self.floor.max(before);
    }

    /// Newest first.
    fn points(&self, device: usize, from: i64, to: i64) -> Vec<(i64, u32)> {
        let times = from.max(self.floor)..=to;
        let of_device = |(of, at): &(usize, i64)| *of == device && times.contains(at);
        let points = self.points.iter().filter(|(key, _)| of_device(key));
        points.rev().map(|((_, at), value)| (*at, *value)).collect()
    }

    /// The newest time; that of a device's last report is known after the report is gone.
    fn newest(&self, device: usize) -> Option<i64> {
        self.points.keys().filter(|(of, _)| *of == device).map(|(_, at)| *at).max()
    }
}

const DEVICES: usize = 3;

fn sent() -> impl Strategy<Value = Sent> {
    let stream = proptest::option::weighted(0.8, (0_u8..3, 0_u64..12));
    (0..DEVICES, stream, 0_i64..20).prop_map(|(device, stream, at)| Sent { device, stream, at })
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => proptest::collection::vec(sent(), 1..6).prop_map(Step::Append),
        1 => (0_i64..20).prop_map(Step::Prune),
        2 => Just(Step::Seal),
        1 => Just(Step::Reopen),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(48) })]

    #[test]
    fn queries_find_what_the_model_holds(
        steps in proptest::collection::vec(step(), 1..40),
        range in (0_i64..20, 0_i64..20),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(run(steps, range))?;
    }
}

async fn run(steps: Vec<Step>, (from, to): (i64, i64)) -> Result<(), TestCaseError> {
    let disk = Disk::new();
    let mut store = disk.store();
    let mut model = Model::default();
    let mut devices = Vec::new();
    for (name, key) in [("one", 1), ("two", 2), ("three", 3)] {
        let device = device(name, key);
        devices.push(device.uid);
        store.device_insert(device).await.unwrap();
    }
    let mut value = 0;
    for step in steps {
        match step {
            Step::Append(batch) => {
                let (mut reports, mut expected) = (Vec::new(), Vec::new());
                for sent in batch {
                    value += 1;
                    let device = devices[sent.device];
                    reports.push(report(device, sent.stream, sent.at, f64::from(value)));
                    expected.push(model.append(&sent, value));
                }
                prop_assert_eq!(store.append(reports).await.unwrap(), expected);
            }
            Step::Prune(before) => {
                store.prune(Tier::Raw, time(before)).await.unwrap();
                model.prune(before);
            }
            Step::Seal => store.seal().await.unwrap(),
            Step::Reopen => {
                drop(store);
                store = disk.store();
            }
        }
    }
    check(&store, &model, &devices, from, to).await
}

async fn check(
    store: &RedbStore,
    model: &Model,
    devices: &[Uid],
    from: i64,
    to: i64,
) -> Result<(), TestCaseError> {
    for (index, uid) in devices.iter().enumerate() {
        let query = Query { from: time(from), to: time(to), ..query(*uid, "cpu_usage") };
        let points = store.query(query.clone()).await.unwrap();
        let found: Vec<_> =
            points.iter().map(|point| (point.at.millis(), point.value as u32)).collect();
        prop_assert_eq!(&found, &model.points(index, from, to));
        let newest = store.query(Query { limit: 2, ..query }).await.unwrap();
        prop_assert_eq!(&newest[..], &points[..points.len().min(2)]);
        prop_assert_eq!(
            scanned(store, *uid, from, to).await,
            found.into_iter().rev().collect::<Vec<_>>()
        );

        let latest = store.latest(*uid).await.unwrap().map(|report| report.at_millis);
        prop_assert_eq!(latest, model.newest(index));
        let missed = store.device_get(*uid).await.unwrap().unwrap().missed_reports;
        prop_assert_eq!(missed, model.missed.get(&index).copied().unwrap_or_default());
    }
    Ok(())
}

/// The values of a scan, with their times.
async fn scanned(store: &RedbStore, uid: Uid, from: i64, to: i64) -> Vec<(i64, u32)> {
    let (tell, told) = std::sync::mpsc::channel();
    let visit = move |at: Timestamp, samples: Vec<Sample>| {
        let cpu = samples.iter().find(|sample| sample.name == "cpu_usage").unwrap();
        tell.send((at.millis(), cpu.value as u32)).unwrap();
    };
    store.scan(uid, time(from), time(to), Box::new(visit)).await.unwrap();
    told.into_iter().collect()
}
