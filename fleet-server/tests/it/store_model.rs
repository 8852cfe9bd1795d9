//! Telemetry against a model that fits on a page: whatever is appended, pruned and reopened, a
//! query finds what the model holds.

use std::collections::BTreeMap;

use fleet_core::id::Uid;
use fleet_server::store::{DeviceStore as _, Outcome, Query, RedbStore, TelemetryStore as _};
use proptest::prelude::*;

use crate::store_disk::Disk;
use crate::store_kit::{device, query, report, time};

#[derive(Clone, Debug)]
enum Step {
    Append(Vec<Sent>),
    Prune(i64),
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
    /// By device and time, the values.
    points: BTreeMap<(usize, i64), Vec<u32>>,
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
        self.points.entry((sent.device, sent.at)).or_default().push(value);
        Outcome::Stored
    }

    fn prune(&mut self, before: i64) -> usize {
        let total = |model: &Self| model.points.values().map(Vec::len).sum::<usize>();
        let held = total(self);
        self.points.retain(|(_, at), _| *at >= before);
        held - total(self)
    }

    /// Newest first; of one time, in the order of the values.
    fn points(&self, device: usize, from: i64, to: i64) -> Vec<(i64, u32)> {
        let of_device =
            self.points.iter().filter(|((of, at), _)| *of == device && (from..=to).contains(at));
        let mut points: Vec<_> =
            of_device.flat_map(|((_, at), values)| values.iter().map(|v| (*at, *v))).collect();
        points.sort_by_key(|(at, value)| (-at, *value));
        points
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
                let pruned = store.prune(time(before)).await.unwrap();
                prop_assert_eq!(pruned, model.prune(before) as u64);
            }
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
        let points = store.query(query).await.unwrap();
        let times: Vec<_> = points.iter().map(|point| point.at).collect();
        prop_assert!(times.is_sorted_by(|a, b| a >= b));
        let mut found: Vec<_> =
            points.iter().map(|point| (point.at.millis(), point.value as u32)).collect();
        found.sort_by_key(|(at, value)| (-at, *value));
        prop_assert_eq!(found, model.points(index, from, to));

        let latest = store.latest(*uid).await.unwrap().map(|report| report.at_millis);
        prop_assert_eq!(latest, model.points(index, 0, 20).first().map(|(at, _)| *at));
        let missed = store.device_get(*uid).await.unwrap().unwrap().missed_reports;
        prop_assert_eq!(missed, model.missed.get(&index).copied().unwrap_or_default());
    }
    Ok(())
}
