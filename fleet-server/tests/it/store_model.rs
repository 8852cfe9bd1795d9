//! Telemetry against a model that fits on a page: whatever is appended, late or twice, sealed,
//! rolled up, pruned, compacted and reopened, each question finds what the model holds.

use std::collections::BTreeMap;
use std::time::Duration;

use fleet_core::id::Uid;
use fleet_core::metric::{Report, Sample};
use fleet_core::time::Timestamp;
use fleet_server::store::{
    CurvesAsked, DeviceStore as _, Incoming, Keep, MetaStore as _, NewestValue, Query, RedbStore,
    StoreHealth, TelemetryStore as _, Tier, Top,
};
use proptest::prelude::*;
use proptest::sample::select;

use crate::model_kit::{
    HOUR, LABELS, MINUTE, Model, Reports, SERIES, Sent, Stats, sample, series_of,
};
use crate::store_disk::Disk;
use crate::store_kit::{device, query, time};

/// Scenarios unless `FLEETD_TEST_MODELS` says otherwise.
const MODELS: u32 = 64;
const DEVICES: usize = 2;
/// Values are of so many hours.
const HOURS: i64 = 16;
/// Times within an hour, few, so that values meet: also at the ends of the steps of all tiers.
const OFFSETS: [i64; 7] = [0, 1, MINUTE - 1, MINUTE, 10 * MINUTE, 30 * MINUTE, HOUR - 1];
const METRICS: [&str; 3] = ["cpu_usage", "load1", "core_usage"];

#[derive(Clone, Debug)]
enum Step {
    Append(Vec<Sent>),
    /// As many reports of a device, from a time on, one each so many milliseconds. The series of
    /// every other one are different ones.
    Flood {
        first: Sent,
        every: i64,
        count: i64,
    },
    Seal,
    Reopen,
    /// Keeps raw values for so many hours, and what is coarser longer.
    Keep {
        now: i64,
        raw: i64,
    },
    /// Removes everything from before a time.
    Prune(i64),
    Compact,
    Ask(Asked),
}

/// What is asked for.
#[derive(Clone, Debug)]
struct Asked {
    metric: &'static str,
    labels: &'static [(&'static str, &'static str)],
    from: i64,
    to: i64,
    limit: usize,
    step: i64,
    is_least: bool,
}

fn at() -> impl Strategy<Value = i64> {
    (0..HOURS, select(&OFFSETS[..])).prop_map(|(hour, offset)| hour * HOUR + offset)
}

/// Metrics come and go; mostly all are there.
fn series() -> impl Strategy<Value = u8> {
    prop_oneof![3 => Just(u8::MAX), 2 => any::<u8>(), 1 => (0..8).prop_map(|bit| 1_u8 << bit)]
}

fn sent() -> impl Strategy<Value = Sent> {
    let stream = proptest::option::weighted(0.5, (0_u8..3, 0_u64..12));
    (0..DEVICES, stream, at(), series()).prop_map(|(device, stream, at, series)| Sent {
        device,
        stream,
        at,
        series,
    })
}

fn flood() -> impl Strategy<Value = Step> {
    let every = select(vec![0, 1, MINUTE / 6, MINUTE, 10 * MINUTE]);
    // Some are so long that they are sealed by themselves, and as several chunks.
    let count = prop_oneof![9 => 10_i64..120, 1 => 300_i64..800];
    (sent(), every, count).prop_map(|(first, every, count)| Step::Flood {
        first: Sent { stream: None, ..first },
        every,
        count,
    })
}

fn asked() -> impl Strategy<Value = Asked> {
    let step = select(vec![1_000, MINUTE, 2 * MINUTE, 20 * MINUTE, HOUR, 2 * HOUR, 5 * HOUR]);
    let to = prop_oneof![(1..=HOURS).prop_map(|hour| hour * HOUR - 1), Just(i64::MAX)];
    let limit = prop_oneof![0_usize..12, 0_usize..200];
    (select(&METRICS[..]), select(&LABELS[..]), 0..HOURS, to, limit, step, any::<bool>()).prop_map(
        |(metric, labels, from, to, limit, step, is_least)| {
            let from = from * HOUR;
            Asked { metric, labels, from, to, limit, step, is_least }
        },
    )
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => proptest::collection::vec(sent(), 1..6).prop_map(Step::Append),
        2 => flood(),
        6 => Just(Step::Seal),
        2 => Just(Step::Reopen),
        6 => (0..3 * HOURS, 2_i64..12).prop_map(|(now, raw)| Step::Keep { now, raw }),
        1 => at().prop_map(Step::Prune),
        2 => Just(Step::Compact),
        4 => asked().prop_map(Step::Ask),
    ]
}

fn models() -> u32 {
    std::env::var("FLEETD_TEST_MODELS")
        .map_or(MODELS, |text| text.parse().expect("FLEETD_TEST_MODELS is a number"))
}

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::with_cases(models())
    })]

    #[test]
    fn every_question_finds_what_the_model_holds(
        steps in proptest::collection::vec(step(), 1..40),
        asked in asked(),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async move {
            let mut run = Run::begin().await;
            for step in steps {
                run.take(step).await?;
            }
            run.ask(&asked).await?;
            run.reopen();
            run.ask(&asked).await
        })?;
    }
}

/// A store, and what it should hold.
struct Run {
    disk: Disk,
    store: Option<RedbStore>,
    model: Model,
    devices: Vec<Uid>,
    value: f64,
}

impl Run {
    async fn begin() -> Self {
        let disk = Disk::new();
        let (store, mut devices) = (disk.store(), Vec::new());
        for key in 1..=DEVICES as u8 {
            let device = device(&format!("device-{key}"), key);
            devices.push(device.uid);
            store.device_insert(device).await.unwrap();
        }
        Self { disk, store: Some(store), model: Model::default(), devices, value: 0.0 }
    }

    fn store(&self) -> &RedbStore {
        self.store.as_ref().unwrap()
    }

    fn reopen(&mut self) {
        // One that is open holds on to its files.
        self.store = None;
        self.store = Some(self.disk.store());
    }

    async fn take(&mut self, step: Step) -> Result<(), TestCaseError> {
        match step {
            Step::Append(batch) => self.append(batch).await?,
            Step::Flood { first, every, count } => {
                let report = |number: i64| Sent {
                    at: first.at + number * every,
                    series: if number % 2 == 0 { u8::MAX } else { first.series },
                    ..first.clone()
                };
                self.append((0..count).map(report).collect()).await?;
            }
            Step::Seal => self.store().seal().await.unwrap(),
            Step::Reopen => self.reopen(),
            Step::Keep { now, raw } => {
                let ages = [raw, 2 * raw, 4 * raw, 100 * HOURS];
                for (tier, age) in Tier::ALL.into_iter().zip(ages) {
                    self.model.prune(tier, (now - age) * HOUR);
                }
                let ages = ages.map(|hours| Duration::from_secs(hours as u64 * 3_600));
                let keep = Keep { ages, ..Keep::default() };
                self.store().keep(keep, time(now * HOUR)).await.unwrap();
            }
            Step::Prune(before) => {
                for tier in Tier::ALL {
                    self.store().prune(tier, time(before)).await.unwrap();
                    self.model.prune(tier, before);
                }
            }
            Step::Compact => _ = self.store().compact().await.unwrap(),
            Step::Ask(asked) => self.ask(&asked).await?,
        }
        Ok(())
    }

    async fn append(&mut self, mut batch: Vec<Sent>) -> Result<(), TestCaseError> {
        let (mut reports, mut expected) = (Vec::new(), Vec::new());
        for sent in &mut batch {
            expected.push(self.model.append(sent, self.value));
            let own = (0..SERIES.len()).filter(|series| sent.series & 1 << series != 0);
            reports.push(Incoming {
                device: self.devices[sent.device],
                stream: sent.stream.map(|(stream, seq)| ([stream; 16], seq)),
                at: time(sent.at),
                samples: own.map(|series| sample(series, self.value + series as f64)).collect(),
            });
            self.value += SERIES.len() as f64;
        }
        prop_assert_eq!(self.store().append(reports).await.unwrap(), expected);
        Ok(())
    }

    /// Asks everything.
    async fn ask(&self, asked: &Asked) -> Result<(), TestCaseError> {
        for (device, uid) in self.devices.iter().enumerate() {
            self.ask_points(asked, device, *uid).await?;
            self.ask_reports(asked, device, *uid).await?;
            self.ask_newest(device, *uid).await?;
            self.ask_curves(asked, device, *uid).await?;
            let missed = self.store().device_get(*uid).await.unwrap().unwrap().missed_reports;
            prop_assert_eq!(missed, self.model.missed(device));
        }
        self.ask_all_newest().await?;
        self.ask_top(asked).await?;
        prop_assert_eq!(self.store().health(), StoreHealth::Healthy);
        Ok(())
    }

    async fn ask_points(
        &self,
        asked: &Asked,
        device: usize,
        uid: Uid,
    ) -> Result<(), TestCaseError> {
        let labels = asked.labels.iter().map(|(name, value)| ((*name).into(), (*value).into()));
        let query = Query {
            labels: labels.collect(),
            from: time(asked.from),
            to: time(asked.to),
            limit: usize::MAX,
            ..query(uid, asked.metric)
        };
        let points = self.store().query(query.clone()).await.unwrap();
        prop_assert!(points.is_sorted_by(|one, next| one.at >= next.at));
        let mut found = Vec::new();
        for point in &points {
            let name = self.store().names().name(point.series).unwrap();
            found.push((point.at.millis(), series_of(&name.metric, &name.labels), point.value));
        }
        found.sort_by_key(|(at, series, _)| (-at, *series));
        let times = (asked.from, asked.to);
        prop_assert_eq!(&found, &self.model.points(device, asked.metric, asked.labels, times));
        let limited = self.store().query(Query { limit: asked.limit, ..query }).await.unwrap();
        prop_assert_eq!(&limited[..], &points[..points.len().min(asked.limit)]);
        Ok(())
    }

    async fn ask_reports(
        &self,
        asked: &Asked,
        device: usize,
        uid: Uid,
    ) -> Result<(), TestCaseError> {
        let (tell, told) = std::sync::mpsc::channel();
        let visit = move |at: Timestamp, samples: Vec<Sample>| {
            tell.send((at.millis(), by_series(samples))).unwrap();
        };
        let (from, to) = (asked.from, asked.to);
        self.store().scan(uid, time(from), time(to), Box::new(visit)).await.unwrap();
        let told: Vec<_> = told.into_iter().collect();
        prop_assert!(told.is_sorted_by(|(one, _), (next, _)| one < next), "{told:?}");
        prop_assert_eq!(
            told.into_iter().collect::<Reports>(),
            self.model.reports(device, (from, to))
        );
        Ok(())
    }

    async fn ask_newest(&self, device: usize, uid: Uid) -> Result<(), TestCaseError> {
        let newest = self.store().newest_of(uid).into_iter().map(|newest| {
            let series = series_of(&newest.name.metric, &newest.name.labels);
            (series, (newest.at.millis(), newest.value))
        });
        prop_assert_eq!(newest.collect::<BTreeMap<_, _>>(), self.model.newest(device));
        let latest = self.store().latest(uid).await.unwrap().map(at_and_values);
        prop_assert_eq!(latest, self.model.latest(device));
        Ok(())
    }

    async fn ask_all_newest(&self) -> Result<(), TestCaseError> {
        let all = self.store().latest_all().await.unwrap();
        let all = all.into_iter().map(|(uid, report)| (uid, at_and_values(report)));
        let latest = |(device, uid): (usize, &Uid)| Some((*uid, self.model.latest(device)?));
        let expected = self.devices.iter().enumerate().filter_map(latest);
        prop_assert_eq!(all.collect::<BTreeMap<_, _>>(), expected.collect::<BTreeMap<_, _>>());

        let metrics = [METRICS[2], "none", METRICS[0]];
        let mut found = BTreeMap::new();
        let mut newest = Vec::new();
        let overview = self.store().overview(&metrics.map(str::to_owned));
        let mut visit = |uid, values: &[NewestValue]| {
            newest.extend(values.iter().map(|value| (uid, *value)));
        };
        let middle = overview.devices() / 2;
        overview.show(0..middle, &mut visit);
        overview.show(middle..overview.devices(), &mut visit);
        for (uid, newest) in newest {
            let name = self.store().names().name(newest.series).unwrap();
            prop_assert_eq!(metrics[newest.metric], &*name.metric);
            let series = series_of(&name.metric, &name.labels);
            let before = found.insert((uid, series), (newest.at.millis(), newest.value));
            prop_assert_eq!(before, None, "twice");
        }
        let mut expected = BTreeMap::new();
        for (device, uid) in self.devices.iter().enumerate() {
            let newest = self.model.newest(device).into_iter();
            let newest = newest.filter(|(series, _)| metrics.contains(&SERIES[*series].0));
            expected.extend(newest.map(|(series, newest)| ((*uid, series), newest)));
        }
        prop_assert_eq!(found, expected);
        Ok(())
    }

    async fn ask_top(&self, asked: &Asked) -> Result<(), TestCaseError> {
        let top = Top {
            metric: asked.metric.to_owned(),
            from: time(asked.from),
            to: time(asked.to),
            is_least: asked.is_least,
            limit: asked.limit % (DEVICES + 1),
        };
        let mut means = BTreeMap::new();
        for (device, uid) in self.devices.iter().enumerate() {
            let mean = self.model.mean(device, asked.metric, (asked.from, asked.to));
            means.extend(mean.map(|mean| (*uid, mean)));
        }
        let mut expected: Vec<f64> = means.values().copied().collect();
        expected.sort_by(f64::total_cmp);
        if !asked.is_least {
            expected.reverse();
        }
        expected.truncate(top.limit);
        let found = self.store().top(top).await.unwrap();
        prop_assert!(found.iter().all(|(uid, mean)| means.remove(uid) == Some(*mean)), "{found:?}");
        // Of equal ones any may be first.
        prop_assert_eq!(found.into_iter().map(|(_, mean)| mean).collect::<Vec<_>>(), expected);
        Ok(())
    }

    /// Curves of whole hours, from a time on that is not pruned in the middle of one.
    async fn ask_curves(
        &self,
        asked: &Asked,
        device: usize,
        uid: Uid,
    ) -> Result<(), TestCaseError> {
        let tier = self.tier_of(asked);
        // Rows that are longer than a step, or begin in one and end in another, blur the steps.
        let (step, tier) = match tier.step_millis() {
            0 => (asked.step, tier),
            row if asked.step % row == 0 => (asked.step, tier),
            _ => (2 * HOUR, Tier::Hour),
        };
        let metrics = METRICS.map(str::to_owned).to_vec();
        let (from, to) = (time(asked.from), time(asked.to));
        let curves = CurvesAsked { device: uid, metrics, from, to, step_millis: step };
        let drawn = self.store().curves(curves).await.unwrap();
        let floor = asked.from.max(self.model.floor(tier));
        let first = if tier == Tier::Raw { floor } else { (floor + HOUR - 1) / HOUR * HOUR };
        let is_whole = |at: i64| first == floor || at * step >= first;
        let mut found: BTreeMap<(usize, i64), Stats> = BTreeMap::new();
        for curve in &drawn.curves {
            prop_assert_eq!(METRICS[curve.metric], &*curve.name.metric);
            let series = series_of(&curve.name.metric, &curve.name.labels);
            for (at, stat) in curve.steps.iter().filter(|(at, _)| is_whole(*at)) {
                let before =
                    found.insert((series, *at), (stat.min, stat.max, stat.sum, stat.count));
                prop_assert_eq!(before, None, "twice");
            }
        }
        let mut expected = self.model.steps(device, (first, asked.to), step);
        expected.retain(|(_, at), _| is_whole(*at));
        prop_assert_eq!(found, expected, "{:?} of {:?}", asked, tier);
        Ok(())
    }

    /// Of which values curves are made.
    fn tier_of(&self, asked: &Asked) -> Tier {
        let fits = |tier: &Tier| tier.step_millis() * 2 <= asked.step;
        let tier = Tier::ALL.into_iter().rev().find(fits).unwrap_or(Tier::Raw);
        let has = |tier: &Tier| self.model.floor(*tier) <= asked.from;
        Tier::ALL.into_iter().find(|coarser| *coarser >= tier && has(coarser)).unwrap_or(Tier::Hour)
    }
}

fn by_series(samples: Vec<Sample>) -> BTreeMap<usize, f64> {
    let series = |sample: &Sample| series_of(&sample.name, &sample.labels);
    samples.iter().map(|sample| (series(sample), sample.value)).collect()
}

fn at_and_values(report: Report) -> (i64, BTreeMap<usize, f64>) {
    (report.at_millis, by_series(report.samples))
}
