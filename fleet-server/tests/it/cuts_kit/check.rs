//! Comparing a store with what must be in it.

use std::collections::BTreeMap;

use fleet_core::time::Timestamp;
use fleet_server::store::{
    Admission, CurvesAsked, Device, DeviceStore as _, Event, EventStore as _, KeyStore as _,
    MetaStore as _, Outcome, Query, RedbStore, StoreHealth, TelemetryStore as _,
};

use super::{Known, Owner, STEP, Stands, value_of, words};
use crate::store_kit::{key, query, report, time};

impl Owner {
    /// Compares the store with what is known, and takes from it what was not.
    pub(super) async fn check(&mut self, store: &RedbStore) -> Result<(), String> {
        let health = store.health();
        if health != StoreHealth::Healthy {
            return Err(format!("after a power cut it is {health:?}"));
        }
        self.check_devices(store).await?;
        self.check_commands(store).await?;
        self.check_keys(store).await?;
        self.check_events(store).await?;
        self.check_floor(store).await?;
        for at in 0..self.devices.len() {
            if self.devices[at].stands == Stands::There {
                self.check_reports(store, at).await?;
            }
        }
        match store.health() {
            StoreHealth::Healthy => Ok(()),
            health @ StoreHealth::Degraded(_) => Err(format!("after reading it is {health:?}")),
        }
    }

    async fn check_devices(&mut self, store: &RedbStore) -> Result<(), String> {
        let purging = self.purging;
        for known in &mut self.devices {
            let name = known.device.id.clone();
            let found = store.device_get(known.device.uid).await.map_err(words)?;
            let Some(found) = found else {
                match known.stands {
                    Stands::Coming => {}
                    Stands::Deleted if purging => {}
                    stands => return Err(format!("lost {name}, which is {stands:?}")),
                }
                continue;
            };
            let is_deleted = found.state == Admission::Deleted;
            match known.stands {
                Stands::Coming => known.stands = Stands::There,
                Stands::Going if is_deleted => known.stands = Stands::Deleted,
                Stands::Going => known.stands = Stands::There,
                Stands::There if is_deleted => return Err(format!("nobody deleted {name}")),
                Stands::Deleted if !is_deleted => return Err(format!("{name} is undeleted")),
                Stands::There | Stands::Deleted => {}
            }
            let seen = found.last_seen.map(Timestamp::millis);
            if seen.is_some() && seen == known.touching {
                known.touched = seen;
            }
            known.touching = None;
            if known.stands == Stands::There {
                let device = Device { last_seen: known.touched.map(time), ..known.device.clone() };
                if found != device {
                    return Err(format!("lost a change: {found:?} is not {device:?}"));
                }
            }
        }
        self.devices.retain(|known| known.stands != Stands::Coming);
        let listed = store.device_list().await.map_err(words)?;
        let there = self.devices.iter().filter(|known| known.stands == Stands::There).count();
        if listed.len() != there {
            return Err(format!("{} devices are listed, and {there} are there", listed.len()));
        }
        Ok(())
    }

    async fn check_keys(&mut self, store: &RedbStore) -> Result<(), String> {
        let found = store.key_list().await.map_err(words)?;
        let found: BTreeMap<_, _> = found.into_iter().map(|key| (key.id.clone(), key)).collect();
        if let Some(more) = found.keys().find(|id| !self.keys.contains_key(*id)) {
            return Err(format!("nobody made the key {more}"));
        }
        self.keys.retain(|id, is_sure| *is_sure || found.contains_key(id));
        for (id, is_sure) in &mut self.keys {
            if found.get(id) != Some(&key(id)) {
                return Err(format!("lost the key {id}"));
            }
            *is_sure = true;
        }
        Ok(())
    }

    async fn check_events(&mut self, store: &RedbStore) -> Result<(), String> {
        let found = store.event_after(0, usize::MAX).await.map_err(words)?;
        let numbers = found.iter().map(|(number, _)| *number);
        if !numbers.eq(1..=found.len() as u64) {
            return Err("the events' numbers have gaps".to_owned());
        }
        let found: Vec<Event> = found.into_iter().map(|(_, event)| event).collect();
        if found.len() > self.events.len() {
            self.events.extend(self.unsure_event.take());
        }
        self.unsure_event = None;
        if found == self.events {
            return Ok(());
        }
        Err(format!("{} events of {} are there, or others", found.len(), self.events.len()))
    }

    async fn check_floor(&mut self, store: &RedbStore) -> Result<(), String> {
        let stats = store.stats().await.map_err(words)?;
        let floor = stats.tiers[0].floor.map_or(i64::MIN, Timestamp::millis);
        if floor < self.floor || floor > self.floor_asked {
            let (least, most) = (self.floor, self.floor_asked);
            return Err(format!("the floor {floor} is not from {least} to {most}"));
        }
        self.floor = floor;
        Ok(())
    }

    /// The reports of a device: those that were acknowledged, and of the others what was found.
    async fn check_reports(&mut self, store: &RedbStore, at: usize) -> Result<(), String> {
        let known = &mut self.devices[at];
        let (uid, name) = (known.device.uid, known.device.id.clone());
        for (metric, labels, more) in [
            ("cpu_usage", None, 0.0),
            ("core_usage", Some("0"), 0.0),
            ("core_usage", Some("1"), 1.0),
        ] {
            let labels = labels.map(|core| ("core".to_owned(), core.to_owned()));
            let asked = Query {
                limit: usize::MAX,
                labels: labels.into_iter().collect(),
                ..query(uid, metric)
            };
            let points = store.query(asked).await.map_err(words)?;
            let mut found = BTreeMap::new();
            for point in points {
                let at = point.at.millis();
                if point.value.to_bits() != (value_of(at) + more).to_bits() {
                    return Err(format!("{name} never sent {} at {at}", point.value));
                }
                if found.insert(at, point.value).is_some() {
                    return Err(format!("{name} has two values at {at}"));
                }
            }
            // Of all series the first says which reports are there.
            known.unsure.retain(|unsure| {
                let at = unsure.at.millis();
                let is_found = found.contains_key(&at);
                if is_found {
                    known.stored.insert(at, value_of(at));
                    self.seen.found += 1;
                }
                !is_found
            });
            let floor = self.floor;
            let lost: Vec<i64> = known
                .stored
                .range(floor..)
                .map(|(at, _)| *at)
                .filter(|at| !found.contains_key(at))
                .collect();
            if !lost.is_empty() {
                return Err(format!("lost {metric} of {name} at {lost:?}"));
            }
            if let Some(at) = found.keys().find(|at| !known.stored.contains_key(at) || **at < floor)
            {
                return Err(format!("{metric} of {name} at {at} should not be there"));
            }
        }
        let newest = store.latest(uid).await.map_err(words)?.map(|report| report.at_millis);
        if newest != known.stored.keys().next_back().copied() {
            return Err(format!("lost the newest report of {name}: it is {newest:?}"));
        }
        if !self.prunes {
            check_curve(store, known).await?;
        }
        Ok(())
    }

    /// Sends again what a cut left unanswered, as agents and senders do, and finishes purges.
    pub(super) async fn settle(&mut self, store: &RedbStore) -> Result<(), String> {
        if self.devices.iter().any(|known| known.stands == Stands::Deleted) {
            self.purge(store).await.map_err(words)?;
        }
        self.purging = false;
        for at in 0..self.devices.len() {
            let known = &mut self.devices[at];
            let (name, uid, stream, seq) =
                (known.device.id.clone(), known.device.uid, known.stream, known.seq);
            let unsure = std::mem::take(&mut known.unsure);
            self.seen.unfound += unsure.len() as u64;
            let mut again = unsure.clone();
            // What came through is not counted again.
            let first = unsure.iter().find_map(|report| report.stream).map_or(seq + 1, |it| it.1);
            for old in (1..first).rev().take(3) {
                again.push(report(uid, Some((stream[0], old)), self.now, -1.0));
            }
            let outcomes = store.append(again).await.map_err(words)?;
            let (new, old) = outcomes.split_at(unsure.len());
            if new.iter().any(|outcome| *outcome != Outcome::Stored) {
                return Err(format!("lost what {name} sent again: {new:?}"));
            }
            if old.iter().any(|outcome| *outcome != Outcome::Duplicate) {
                return Err(format!("what {name} sent twice is there twice: {old:?}"));
            }
            for report in unsure {
                let moment = report.at.millis();
                self.devices[at].stored.insert(moment, value_of(moment));
            }
            let missed = store.device_get(uid).await.map_err(words)?.map(|it| it.missed_reports);
            if missed != Some(0) {
                return Err(format!("lost reports of {name}: it missed {missed:?}"));
            }
        }
        self.check_rows(store).await
    }

    /// Counts rows, since a value that is stored twice looks like one to whoever reads it.
    async fn check_rows(&self, store: &RedbStore) -> Result<(), String> {
        let rows = store.stats().await.map_err(words)?.raw_rows();
        let count = |floor: i64| {
            self.devices.iter().map(|known| known.stored.range(floor..).count() as u64).sum::<u64>()
        };
        let (least, most) = (count(self.floor), count(i64::MIN));
        let least = if self.rows_are_known { most } else { least };
        let most = most + self.seen.repeated;
        if (least..=most).contains(&rows) {
            return Ok(());
        }
        Err(format!("there are {rows} rows where {least} to {most} should be"))
    }
}

/// Compares a curve of all that a device ever sent, of which most is kept coarsely only.
async fn check_curve(store: &RedbStore, known: &Known) -> Result<(), String> {
    let asked = CurvesAsked {
        device: known.device.uid,
        metrics: vec!["cpu_usage".to_owned()],
        from: time(0),
        to: time(i64::MAX),
        step_millis: STEP,
    };
    let drawn = store.curves(asked).await.map_err(words)?;
    let steps = drawn.curves.iter().flat_map(|curve| &curve.steps);
    let found: BTreeMap<i64, _> =
        steps.map(|(step, stat)| (*step, (stat.min, stat.max, stat.count))).collect();
    let mut expected: BTreeMap<i64, (f64, f64, f64)> = BTreeMap::new();
    for (at, value) in &known.stored {
        let step = expected.entry(at.div_euclid(STEP)).or_insert((*value, *value, 0.0));
        *step = (step.0.min(*value), step.1.max(*value), step.2 + 1.0);
    }
    if found == expected {
        return Ok(());
    }
    Err(format!("lost a curve, or doubled it: {found:?} is not {expected:?}"))
}
