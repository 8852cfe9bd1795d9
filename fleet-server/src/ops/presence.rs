//! Who was heard when, and what they said last.
//!
//! [`Presence`] holds what the devices' links say from moment to moment; it is rebuilt from the
//! store at the start and written back now and then, so a crash loses seconds of "last seen" and
//! nothing else. When the server's clock is set, what was heard moves with it: how long ago that was
//! does not change by it.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use fleet_core::id::Uid;
use fleet_core::metric::Report;
use fleet_core::time::{Clock, Timestamp};

use super::judgement::{self, Deaf, Judgement};
use super::vitals::{Numbers, Vitals};
use crate::bell::Bell;
use crate::store::DoubleRecord;

/// A clock that goes another way than time by more than this was set.
const JUMP_MIN: Duration = Duration::from_secs(3);

/// What the server heard of its devices.
#[derive(Default)]
pub(crate) struct Presence {
    state: Mutex<State>,
    /// The server's clock, to see whether it is set.
    clock: Option<Arc<dyn Clock>>,
    /// The time before the server's start in which it heard nobody.
    deaf: Option<Deaf>,
    /// Rings for a device that is heard though somebody waits for it.
    returned: Bell,
}

#[derive(Default)]
struct State {
    devices: HashMap<Uid, Known>,
    unwritten: HashSet<Uid>,
    /// Devices that seem to be there twice.
    doubles: HashMap<Uid, DoubleRecord>,
    awaited: HashSet<Uid>,
    /// The server's clock at the last look, and how long the server had run then.
    looked: Option<(Timestamp, Duration)>,
    /// Grows whenever something is heard.
    change: u64,
}

#[derive(Default)]
struct Known {
    last_seen: Option<Timestamp>,
    /// The time of the device's own newest report.
    own: Option<Timestamp>,
    /// By how many seconds its clock is ahead of ours, if that is too far to go by it.
    skew_secs: Option<i64>,
    vitals: Vitals,
    /// The command by which it begins anew, if it does, and when it is expected back.
    back_by: Option<(Uid, Timestamp)>,
    /// Reports since the server's start.
    reports: u64,
    /// The state's `change` as something was last heard of this device.
    change: u64,
}

/// A device's newest numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reading {
    pub(crate) last_seen: Option<Timestamp>,
    pub(crate) numbers: Numbers,
    /// Reports since the server's start.
    pub(crate) reports: u64,
    /// Grows whenever something is heard of the device.
    pub(crate) change: u64,
}

impl Presence {
    /// Starts from what the store remembers. Only others speak for the devices in `keyless`. In the
    /// time that `deaf` names nobody could be heard.
    pub(crate) fn rebuilt(
        seen: impl IntoIterator<Item = (Uid, Timestamp)>,
        latest: Vec<(Uid, Report)>,
        keyless: &HashSet<Uid>,
        deaf: Option<Deaf>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let mut devices: HashMap<Uid, Known> = HashMap::new();
        for (uid, at) in seen {
            devices.entry(uid).or_default().last_seen = Some(at);
        }
        for (uid, report) in latest {
            let known = devices.entry(uid).or_default();
            if !keyless.contains(&uid) {
                known.own = Some(Timestamp::from_millis(report.at_millis));
            }
            known.vitals = Vitals::restored(&report.samples);
        }
        let state = State { devices, ..State::default() };
        Self { state: Mutex::new(state), clock: Some(clock), deaf, returned: Bell::default() }
    }

    /// Notes that a device was heard.
    pub(crate) fn heard(&self, uid: Uid, at: Timestamp) {
        let mut state = self.lock();
        self.follow_clock(&mut state);
        state.touched(uid).last_seen = Some(at);
        state.unwritten.insert(uid);
        if state.awaited.remove(&uid) {
            self.returned.ring(uid);
        }
    }

    /// Notes a device's own report, if it is newer than what is known.
    pub(crate) fn reported(&self, uid: Uid, at: Timestamp, numbers: Numbers) {
        let mut state = self.lock();
        let known = state.touched(uid);
        if known.own.is_none_or(|own| own <= at) {
            known.own = Some(at);
            known.vitals.report(numbers);
            known.reports += 1;
        }
    }

    /// Notes how far a device's clock is off, as its newest report says.
    pub(crate) fn set_skew(&self, uid: Uid, skew_secs: Option<i64>) {
        let mut state = self.lock();
        match state.devices.get_mut(&uid) {
            Some(known) => known.skew_secs = skew_secs,
            None if skew_secs.is_some() => state.touched(uid).skew_secs = skew_secs,
            None => {}
        }
    }

    /// By how many seconds a device's clock is ahead of ours, if that is too far to go by it.
    pub(crate) fn skew_secs(&self, uid: Uid) -> Option<i64> {
        self.lock().devices.get(&uid)?.skew_secs
    }

    /// Notes what a third party posted for a device: it joins the device's newest report until its
    /// next one, and makes that report neither newer nor emptier.
    pub(crate) fn posted(&self, uid: Uid, at: Timestamp, numbers: Numbers) {
        let mut state = self.lock();
        let known = state.touched(uid);
        if known.own.is_none_or(|own| own <= at) {
            known.vitals.join(numbers);
            known.reports += 1;
        }
    }

    /// When a device was last heard.
    pub(crate) fn last_seen(&self, uid: Uid) -> Option<Timestamp> {
        let mut state = self.lock();
        self.follow_clock(&mut state);
        state.devices.get(&uid)?.last_seen
    }

    /// The time of a device's own newest report.
    pub(crate) fn own(&self, uid: Uid) -> Option<Timestamp> {
        self.lock().devices.get(&uid)?.own
    }

    /// A device begins anew, as a command has told it, and is expected back by a time.
    pub(crate) fn expect_back(&self, uid: Uid, command: Uid, by: Timestamp) {
        if let Some(known) = self.lock().devices.get_mut(&uid) {
            known.back_by = Some((command, by));
        }
    }

    /// The command is over; whether the device was expected back because of it.
    pub(crate) fn expect_no_more(&self, uid: Uid, command: Uid) -> bool {
        let mut state = self.lock();
        let Some(known) = state.devices.get_mut(&uid) else { return false };
        known.back_by.take_if(|(by, _)| *by == command).is_some()
    }

    /// When a device is expected back that begins anew.
    pub(crate) fn back_by(&self, uid: Uid) -> Option<Timestamp> {
        Some(self.lock().devices.get(&uid)?.back_by?.1)
    }

    /// What speaks for two devices with a device's key.
    pub(crate) fn double(&self, uid: Uid) -> Option<DoubleRecord> {
        self.lock().doubles.get(&uid).copied()
    }

    /// Notes what does.
    pub(crate) fn set_double(&self, uid: Uid, double: DoubleRecord) {
        self.lock().doubles.insert(uid, double);
    }

    /// How an active device is doing that was last heard at a time.
    pub(crate) fn judge(
        &self,
        uid: Uid,
        now: Timestamp,
        last_seen: Option<Timestamp>,
        interval: Duration,
    ) -> Judgement {
        judgement::judge(now, last_seen, interval, self.deaf, self.back_by(uid))
    }

    /// When the server went deaf before its start, and when it began to listen again.
    pub(crate) fn deaf(&self) -> Option<Deaf> {
        self.deaf
    }

    /// From now on [`Presence::returned`] tells when the device is heard; or no more.
    pub(crate) fn await_return(&self, uid: Uid, is_awaited: bool) {
        let mut state = self.lock();
        if is_awaited {
            state.awaited.insert(uid);
        } else {
            state.awaited.remove(&uid);
        }
    }

    /// Waits for awaited devices that are heard, each told once.
    pub(crate) async fn returned(&self) -> Vec<Uid> {
        self.returned.rung().await
    }

    /// A number that grows with whatever is heard.
    pub(crate) fn change(&self) -> u64 {
        self.lock().change
    }

    /// Devices' newest numbers.
    pub(crate) fn readings(&self, uids: impl Iterator<Item = Uid>) -> Vec<Option<Reading>> {
        let state = self.lock();
        uids.map(|uid| state.devices.get(&uid).map(Known::reading)).collect()
    }

    /// The newest numbers of all devices that were heard after a change.
    pub(crate) fn readings_after(&self, change: Option<u64>) -> Vec<(Uid, Reading)> {
        let state = self.lock();
        let changed = state.devices.iter().filter(|(_, known)| Some(known.change) > change);
        changed.map(|(uid, known)| (*uid, known.reading())).collect()
    }

    /// A device's last CPU values, oldest first.
    pub(crate) fn past(&self, uid: Uid) -> Vec<u8> {
        self.lock().devices.get(&uid).map(|known| known.vitals.past()).unwrap_or_default()
    }

    /// Forgets a device.
    pub(crate) fn forget(&self, uid: Uid) {
        let mut state = self.lock();
        state.devices.remove(&uid);
        state.unwritten.remove(&uid);
        state.awaited.remove(&uid);
    }

    /// What was heard since the last call, for the store.
    pub(crate) fn take_unwritten(&self) -> Vec<(Uid, Timestamp)> {
        let mut state = self.lock();
        let uids = std::mem::take(&mut state.unwritten);
        uids.into_iter()
            .filter_map(|uid| Some((uid, state.devices.get(&uid)?.last_seen?)))
            .collect()
    }

    /// Puts back what the store did not take.
    pub(crate) fn put_back(&self, seen: &[(Uid, Timestamp)]) {
        let mut state = self.lock();
        for (uid, _) in seen {
            if state.devices.contains_key(uid) {
                state.unwritten.insert(*uid);
            }
        }
    }

    /// Moves what was heard with the server's clock, if that was set since the last look.
    fn follow_clock(&self, state: &mut State) {
        let Some(clock) = &self.clock else { return };
        let Some(running) = clock.running() else { return };
        let now = clock.now();
        let Some((wall, ran)) = state.looked.replace((now, running)) else { return };
        let expected = wall.plus(running.saturating_sub(ran));
        if now.since(expected).max(expected.since(now)) > JUMP_MIN {
            let jump_secs = (now.millis() - expected.millis()) / 1000;
            tracing::warn!(jump_secs, "the clock was set: what was heard is as long ago as before");
            state.moved(expected, now);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// The clock shows another time than expected.
    fn moved(&mut self, expected: Timestamp, now: Timestamp) {
        let moved = |at: Timestamp| at.plus(now.since(expected)).minus(expected.since(now));
        self.change += 1;
        for known in self.devices.values_mut() {
            known.last_seen = known.last_seen.map(moved);
            if let Some((_, back_by)) = &mut known.back_by {
                *back_by = moved(*back_by);
            }
            known.change = self.change;
        }
    }

    /// A device of which something is heard now.
    fn touched(&mut self, uid: Uid) -> &mut Known {
        self.change += 1;
        let known = self.devices.entry(uid).or_default();
        known.change = self.change;
        known
    }
}

impl Known {
    fn reading(&self) -> Reading {
        let Self { last_seen, reports, change, .. } = *self;
        Reading { last_seen, numbers: self.vitals.numbers, reports, change }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    fn cpu(value: u8) -> Numbers {
        Numbers { cpu: Some(value), ..Numbers::default() }
    }

    struct Hands(Mutex<(i64, u64)>);

    impl Clock for Hands {
        fn now(&self) -> Timestamp {
            Timestamp::from_millis(self.0.lock().unwrap().0)
        }

        fn running(&self) -> Option<Duration> {
            Some(Duration::from_millis(self.0.lock().unwrap().1))
        }
    }

    #[test]
    fn a_clock_that_is_set_makes_nobody_silent_and_nobody_heard() {
        const HOUR: i64 = 3_600_000;
        let hands = Arc::new(Hands(Mutex::new((10 * HOUR, 1_000))));
        let set = |millis, running| *hands.0.lock().unwrap() = (millis, running);
        let presence = Presence { clock: Some(hands.clone()), ..Presence::default() };
        let uid = Uid::new();
        presence.heard(uid, hands.now());
        let ago = || hands.now().since(presence.last_seen(uid).unwrap()).as_secs();
        set(10 * HOUR + 20_000, 21_000);
        assert_eq!(ago(), 20, "time passes");
        set(11 * HOUR + 21_000, 22_000);
        assert_eq!(ago(), 21);
        set(9 * HOUR, 23_000);
        assert_eq!(ago(), 22);
        set(9 * HOUR + 500, 23_000);
        assert_eq!(ago(), 22, "a little does not matter");
    }

    #[test]
    fn who_posts_does_not_drown_the_device() {
        let presence = Presence::default();
        let uid = Uid::new();
        let at = Timestamp::from_millis;
        let now = || {
            let reading = presence.readings([uid].into_iter())[0].unwrap();
            (presence.own(uid), reading.numbers.cpu, reading.numbers.disk)
        };
        let disk = Numbers { disk: Some(7), ..Numbers::default() };
        presence.posted(uid, at(1_000), disk);
        assert_eq!(now(), (None, None, Some(7)));
        presence.reported(uid, at(50), cpu(1));
        assert_eq!(now(), (Some(at(50)), Some(1), None), "its own report replaces all");
        presence.posted(uid, at(49), disk);
        assert_eq!(now(), (Some(at(50)), Some(1), None), "older");
        presence.posted(uid, at(60), disk);
        assert_eq!(now(), (Some(at(50)), Some(1), Some(7)));
        presence.reported(uid, at(40), cpu(9));
        assert_eq!(now(), (Some(at(50)), Some(1), Some(7)), "older");
    }

    #[test]
    fn what_the_store_did_not_take_is_tried_again() {
        let presence = Presence::default();
        let (uid, at) = (Uid::new(), Timestamp::from_millis(5));
        presence.heard(uid, at);
        let seen = presence.take_unwritten();
        assert_eq!(seen, [(uid, at)]);
        assert_eq!(presence.take_unwritten(), []);
        presence.put_back(&seen);
        assert_eq!(presence.take_unwritten(), [(uid, at)]);
        presence.forget(uid);
        presence.put_back(&seen);
        assert_eq!(presence.take_unwritten(), []);
    }

    #[test]
    fn readings_are_those_heard_after_a_change() {
        let presence = Presence::default();
        let (one, other) = (Uid::new(), Uid::new());
        let at = Timestamp::from_millis(5);
        presence.heard(one, at);
        presence.reported(other, at, cpu(7));
        assert_eq!(presence.readings_after(None).len(), 2);
        let seen = presence.change();
        assert!(presence.readings_after(Some(seen)).is_empty());
        presence.reported(one, at, cpu(8));
        let changed = presence.readings_after(Some(seen));
        assert_eq!(changed.len(), 1);
        assert_eq!((changed[0].0, changed[0].1.numbers.cpu), (one, Some(8)));
        assert_eq!(presence.past(one), [8]);
        let readings = presence.readings([Uid::new(), other].into_iter());
        assert_eq!(readings[0], None);
        assert_eq!(readings[1].and_then(|reading| reading.numbers.cpu), Some(7));
    }

    #[tokio::test]
    async fn a_return_is_told_once_and_only_if_it_is_awaited() {
        let presence = Presence::default();
        let (uid, at) = (Uid::new(), Timestamp::from_millis(5));
        presence.heard(uid, at);
        assert!(presence.returned().now_or_never().is_none());
        presence.await_return(uid, true);
        presence.heard(uid, at);
        presence.heard(uid, at);
        assert_eq!(presence.returned().await, [uid]);
        presence.await_return(uid, true);
        presence.await_return(uid, false);
        presence.heard(uid, at);
        assert!(presence.returned().now_or_never().is_none());
    }
}
