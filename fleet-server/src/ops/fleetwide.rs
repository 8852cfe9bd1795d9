//! Questions about what many devices measured: the newest values, the greatest, and steps of time
//! of each device, or of devices that have something in common.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use fleet_core::api::{GroupPoint, TopDevice};
use fleet_core::field::{Field, SortKey};
use fleet_core::filter::{Filter, Subject};
use fleet_core::id::{DeviceId, Uid};
use fleet_core::limits::{SERIES_STEPS_MAX, TELEMETRY_ROWS_MAX};
use fleet_core::metric::MetricName;
use fleet_core::time::Timestamp;
use fleet_core::untrusted::Untrusted;

use super::devices::find_listed;
use super::{Access, Devices, OpsError, Telemetry};
use crate::labels;
use crate::store::{Curve, CurvesAsked, NewestValue, Stat, Tier, Top};

/// The time that steps cover unless told otherwise.
const SPAN_DEFAULT: Duration = Duration::from_secs(3_600);

/// Parts that a large fleet is looked at in, and the devices that are worth one.
const PARTS_MAX: usize = 4;
const PART_DEVICES_MIN: usize = 1_000;

/// What becomes of the values of a step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Aggregate {
    #[default]
    Avg,
    Min,
    Max,
    Sum,
    Count,
}

impl std::str::FromStr for Aggregate {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "avg" | "mean" => Ok(Self::Avg),
            "min" => Ok(Self::Min),
            "max" => Ok(Self::Max),
            "sum" => Ok(Self::Sum),
            "count" => Ok(Self::Count),
            _ => Err("must be avg, min, max, sum or count"),
        }
    }
}

impl Aggregate {
    pub(crate) fn of(self, stat: &Stat) -> f64 {
        match self {
            Self::Avg => stat.mean(),
            Self::Min => stat.min,
            Self::Max => stat.max,
            Self::Sum => stat.sum,
            Self::Count => stat.count,
        }
    }
}

/// Which steps are asked for.
#[derive(Debug)]
pub(crate) struct StepsAsked {
    pub(crate) whose: WhoseSteps,
    pub(crate) metric: MetricName,
    pub(crate) from: Option<Timestamp>,
    pub(crate) to: Option<Timestamp>,
    pub(crate) step: Duration,
    pub(crate) aggregate: Aggregate,
    pub(crate) limit: usize,
}

/// Of which devices.
#[derive(Debug)]
pub(crate) enum WhoseSteps {
    Device(String),
    Filter(Filter),
}

/// The steps of one curve of a device.
struct DeviceSteps {
    device: DeviceId,
    curve: Curve,
}

/// Steps of a metric. What a curve's steps have in common is kept once.
pub(crate) struct StepPoints {
    pub(crate) metric: String,
    pub(crate) aggregate: Aggregate,
    /// Whose, and with which labels.
    pub(crate) curves: Vec<(DeviceId, Untrusted)>,
    pub(crate) steps: Vec<StepPoint>,
}

/// A step of a curve.
pub(crate) struct StepPoint {
    /// The curve's place.
    pub(crate) curve: usize,
    /// When it begins.
    pub(crate) at: Timestamp,
    pub(crate) stat: Stat,
}

impl StepPoints {
    fn new(asked: &StepsAsked, curves: Vec<DeviceSteps>, steps: Vec<(i64, usize, Stat)>) -> Self {
        let curve = |DeviceSteps { device, curve }: DeviceSteps| {
            (device, Untrusted::new(labels::object(&curve.name.labels)))
        };
        let step_millis = step_millis(asked);
        let step = |(step, curve, stat): (i64, usize, Stat)| StepPoint {
            curve,
            at: begin(step, step_millis),
            stat,
        };
        Self {
            metric: asked.metric.to_string(),
            aggregate: asked.aggregate,
            curves: curves.into_iter().map(curve).collect(),
            steps: steps.into_iter().map(step).collect(),
        }
    }
}

impl Telemetry {
    /// Shows the newest values of some metrics of each device. A large fleet keeps a thread busy for
    /// some milliseconds, so it is looked at in parts, side by side: each is shown to what `begin`
    /// makes for so many devices. Returns these in the order of the parts.
    pub(crate) async fn latest<S: Send + 'static>(
        &self,
        access: &Access,
        metrics: &[String],
        begin: impl Fn(usize) -> S,
        show: impl Fn(&mut S, &DeviceId, &[NewestValue]) + Send + Sync + 'static,
    ) -> Result<Vec<S>, OpsError> {
        let turn = self.lookers.clone().acquire_owned().await.map_err(|_| OpsError::Defect)?;
        let store = self.world.store.clone();
        let members = access.members(store.directory());
        let overview = store.overview(metrics);
        let parts = parts(overview.devices());
        let look = Arc::new((overview, show, members, turn));
        let looking = parts.map(|part| {
            let (look, store, mut state) = (look.clone(), store.clone(), begin(part.len()));
            tokio::task::spawn_blocking(move || {
                let (overview, show, members, _turn) = &*look;
                let (ids, mut next) = (store.directory().ids(), part.start);
                overview.show(part, &mut |uid, values| {
                    if members.as_ref().is_some_and(|members| !members.contains(&uid)) {
                        return;
                    }
                    if let Some(id) = ids.following(&mut next, uid) {
                        show(&mut state, id, values);
                    }
                });
                drop(ids);
                state
            })
        });
        // All have begun before the first is waited for.
        let looking: Vec<_> = looking.collect();
        let mut looked = Vec::with_capacity(looking.len());
        for part in looking {
            looked.push(part.await.map_err(|_| OpsError::Defect)?);
        }
        Ok(looked)
    }

    /// The devices with the greatest, or least, mean of a metric over a time.
    pub(crate) async fn top(&self, access: &Access, top: Top) -> Result<Vec<TopDevice>, OpsError> {
        let limit = top.limit;
        let members = access.members(self.world.store.directory());
        // All in their order, and of those the scope's.
        let limit_of_all = if members.is_some() { usize::MAX } else { limit };
        let mut found = self.world.store.top(Top { limit: limit_of_all, ..top }).await?;
        if let Some(members) = &members {
            found.retain(|(uid, _)| members.contains(uid));
            found.truncate(limit);
        }
        let ids = self.world.store.directory().ids();
        let device = |(uid, value)| Some(TopDevice { device_id: ids.of(uid)?.clone(), value });
        Ok(found.into_iter().filter_map(device).collect())
    }

    /// Steps of a metric, newest first, and how fine the values are that they were made of.
    pub(crate) async fn steps(
        &self,
        access: &Access,
        devices: &Devices,
        asked: &StepsAsked,
    ) -> Result<(StepPoints, Tier), OpsError> {
        let whose = self.whose(access, devices, asked).await?;
        let (curves, tier) = self.curves_of(&whose, asked, &mut StepsLeft::default()).await?;
        let mut steps = Vec::new();
        for (place, DeviceSteps { curve, .. }) in curves.iter().enumerate() {
            // No more than so many of one curve can be among the newest of all.
            let newest = curve.steps.iter().rev().take(asked.limit);
            steps.extend(newest.map(|(step, stat)| (*step, place, *stat)));
        }
        steps.sort_by(|a, b| {
            b.0.cmp(&a.0).then_with(|| curves[a.1].device.cmp(&curves[b.1].device))
        });
        steps.truncate(asked.limit);
        Ok((StepPoints::new(asked, curves, steps), tier))
    }

    /// Steps of a metric over devices that have a field in common, newest first.
    pub(crate) async fn grouped(
        &self,
        access: &Access,
        devices: &Devices,
        asked: &StepsAsked,
        group_by: &str,
    ) -> Result<(Vec<GroupPoint>, Tier), OpsError> {
        self.grouped_within(access, devices, asked, group_by, StepsLeft::default()).await
    }

    async fn grouped_within(
        &self,
        access: &Access,
        devices: &Devices,
        asked: &StepsAsked,
        group_by: &str,
        mut left: StepsLeft,
    ) -> Result<(Vec<GroupPoint>, Tier), OpsError> {
        let groups = self.groups(access, devices, asked, group_by).await?;
        let mut cells: BTreeMap<(i64, String), Stat> = BTreeMap::new();
        let mut tier = Tier::Raw;
        for (group, whose) in groups {
            let (curves, of) = self.curves_of(&whose, asked, &mut left).await?;
            tier = tier.max(of);
            for (step, stat) in curves.iter().flat_map(|steps| &steps.curve.steps) {
                let cell = cells.entry((*step, group.clone()));
                cell.and_modify(|known| *known = known.with(*stat)).or_insert(*stat);
            }
        }
        let newest = cells.into_iter().rev().take(asked.limit);
        let point = |((step, group), stat): ((i64, String), Stat)| GroupPoint {
            group: Untrusted::new(group),
            timestamp: begin(step, step_millis(asked)),
            metric_name: asked.metric.to_string(),
            value: asked.aggregate.of(&stat),
            min: stat.min,
            max: stat.max,
            mean: stat.mean(),
            count: stat.count,
        };
        Ok((newest.map(point).collect(), tier))
    }

    /// The devices by what they have in common; those that have no such field are left out.
    async fn groups(
        &self,
        access: &Access,
        devices: &Devices,
        asked: &StepsAsked,
        group_by: &str,
    ) -> Result<BTreeMap<String, Vec<(Uid, DeviceId)>>, OpsError> {
        let WhoseSteps::Filter(filter) = &asked.whose else {
            return Err(OpsError::invalid("group_by", "takes a filter, not one device"));
        };
        let mut groups: BTreeMap<String, Vec<(Uid, DeviceId)>> = BTreeMap::new();
        for view in devices.select(access, filter, SortKey::default()).await? {
            let group = match Field::named(group_by) {
                Some(Field::Status) => Some(view.status.word().to_owned()),
                Some(field) => view.text(field).map(std::borrow::Cow::into_owned),
                None => Subject::metadata(&view, group_by).map(|value| match value {
                    serde_json::Value::String(text) => text.clone(),
                    other => other.to_string(),
                }),
            };
            if let Some(group) = group {
                groups.entry(group).or_default().push((view.uid, view.id));
            }
        }
        if groups.is_empty() {
            return Err(OpsError::invalid(
                "group_by",
                "no device that was asked for has that field",
            ));
        }
        Ok(groups)
    }

    async fn whose(
        &self,
        access: &Access,
        devices: &Devices,
        asked: &StepsAsked,
    ) -> Result<Vec<(Uid, DeviceId)>, OpsError> {
        Ok(match &asked.whose {
            WhoseSteps::Device(name) => {
                vec![find_listed(&self.world, access, name)?]
            }
            WhoseSteps::Filter(filter) => {
                let views = devices.select(access, filter, SortKey::default()).await?;
                views.into_iter().map(|view| (view.uid, view.id)).collect()
            }
        })
    }

    async fn curves_of(
        &self,
        devices: &[(Uid, DeviceId)],
        asked: &StepsAsked,
        left: &mut StepsLeft,
    ) -> Result<(Vec<DeviceSteps>, Tier), OpsError> {
        let to = asked.to.unwrap_or_else(|| self.world.now());
        let from = asked.from.unwrap_or(to.minus(SPAN_DEFAULT));
        let step_millis = step_millis(asked);
        check_steps(from, to, step_millis)?;
        let (mut found, mut tier) = (Vec::new(), Tier::Raw);
        for (device, id) in devices {
            let question = CurvesAsked {
                device: *device,
                metrics: vec![asked.metric.to_string()],
                from,
                to,
                step_millis,
            };
            let drawn = self.world.store.curves(question).await?;
            tier = tier.max(drawn.resolution);
            for curve in drawn.curves {
                left.take(curve.steps.len())?;
                found.push(DeviceSteps { device: id.clone(), curve });
            }
        }
        Ok((found, tier))
    }
}

/// Steps of all devices that are held while an answer is made.
const STEPS_MAX: usize = 200 * TELEMETRY_ROWS_MAX;

/// How many more steps an answer may be made of, over all its devices and groups.
struct StepsLeft(usize);

impl Default for StepsLeft {
    fn default() -> Self {
        Self(STEPS_MAX)
    }
}

impl StepsLeft {
    fn take(&mut self, steps: usize) -> Result<(), OpsError> {
        let problem = || format!("makes more than {STEPS_MAX} steps of all devices together");
        let left = self.0.checked_sub(steps);
        self.0 = left.ok_or_else(|| OpsError::invalid("step", problem()))?;
        Ok(())
    }
}

fn check_steps(from: Timestamp, to: Timestamp, step_millis: i64) -> Result<(), OpsError> {
    if from > to {
        return Err(OpsError::invalid("from", "is after the end"));
    }
    let steps = to.since(from).as_millis() / u128::from(step_millis.unsigned_abs()) + 1;
    if steps > SERIES_STEPS_MAX as u128 {
        let problem =
            format!("makes {steps} steps and there may be {SERIES_STEPS_MAX}: ask for longer ones");
        return Err(OpsError::invalid("step", problem));
    }
    Ok(())
}

fn step_millis(asked: &StepsAsked) -> i64 {
    i64::try_from(asked.step.as_millis()).unwrap_or(i64::MAX).max(1)
}

fn begin(step: i64, step_millis: i64) -> Timestamp {
    Timestamp::from_millis(step.saturating_mul(step_millis))
}

/// So many devices in parts of about one size.
fn parts(devices: usize) -> impl Iterator<Item = Range<usize>> {
    let parts = (devices / PART_DEVICES_MIN).clamp(1, PARTS_MAX);
    (0..parts).map(move |part| part * devices / parts..(part + 1) * devices / parts)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use fleet_core::identity::PrivateKey;
    use fleet_core::metric::Sample;
    use fleet_core::time::SystemClock;
    use tokio::sync::Semaphore;

    use super::*;
    use crate::ops::configs::Layers;
    use crate::ops::senders::Senders;
    use crate::ops::{Audit, Events, Presence, World};
    use crate::store::{Admission, Device, Incoming, OtherKeys, RedbStore, Store};
    use crate::watched::Watched;

    const MINUTE: i64 = 60_000;

    fn device(name: &str) -> Device {
        Device {
            uid: Uid::new(),
            id: name.parse().unwrap(),
            key: None,
            name: None,
            state: Admission::Active,
            state_reason: String::new(),
            state_at: Timestamp::default(),
            facts: fleet_core::wire::Facts::default(),
            metadata: BTreeMap::new(),
            created_at: Timestamp::default(),
            last_seen: None,
            missed_reports: 0,
            other_keys: OtherKeys::default(),
            reported: None,
        }
    }

    async fn fleet(names: &[&str], steps: i64) -> (Telemetry, Devices) {
        let store: Arc<dyn Store> = Arc::new(RedbStore::in_memory());
        for name in names {
            let device = device(name);
            let report = |step: i64| Incoming {
                device: device.uid,
                stream: None,
                at: Timestamp::from_millis(step * MINUTE),
                samples: vec![Sample::new("cpu", 1.0)],
            };
            store.device_insert(device.clone()).await.unwrap();
            store.append((0..steps).map(report).collect()).await.unwrap();
        }
        let world = World { store, clock: Arc::new(SystemClock) };
        let (hub, presence) = (Arc::default(), Arc::new(Presence::default()));
        let events = Arc::new(Events::new(world.clone()));
        let audit = Arc::new(Audit::new(world.clone(), Arc::new(PrivateKey::from_seed(&[1; 32]))));
        let telemetry = Telemetry {
            world: world.clone(),
            presence: presence.clone(),
            watched: Arc::new(Watched::new(Arc::clone(&hub))),
            senders: Senders::new(world.clone(), Arc::clone(&hub), events.clone(), audit),
            templates: Arc::default(),
            meters: Arc::default(),
            lookers: Arc::new(Semaphore::new(1)),
        };
        let layers = Arc::new(Layers::new(world.clone()));
        let devices = Devices { world, presence, versions: Arc::default(), layers, hub, events };
        (telemetry, devices)
    }

    #[tokio::test]
    async fn steps_are_counted_over_all_groups() {
        let (telemetry, devices) = fleet(&["a", "b", "c"], 10).await;
        let asked = StepsAsked {
            whose: WhoseSteps::Filter(Filter::default()),
            metric: "cpu".parse().unwrap(),
            from: Some(Timestamp::from_millis(0)),
            to: Some(Timestamp::from_millis(20 * MINUTE)),
            step: Duration::from_secs(60),
            aggregate: Aggregate::default(),
            limit: 1,
        };
        let access = Access::server();
        let grouped =
            |most| telemetry.grouped_within(&access, &devices, &asked, "id", StepsLeft(most));
        assert_eq!(grouped(30).await.unwrap().0.len(), 1);
        let refused = grouped(29).await.unwrap_err();
        assert!(matches!(refused, OpsError::Invalid { .. }), "{refused}");
    }
}
