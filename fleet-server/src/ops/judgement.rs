//! What a device's silence says about it: pure functions of times.

use std::time::Duration;

use fleet_core::api::DeviceStatus;
use fleet_core::limits::{
    LOST_AFTER, OFFLINE_AFTER_MIN, TELEMETRY_INTERVAL_DEFAULT, TELEMETRY_INTERVAL_MAX,
};
use fleet_core::time::Timestamp;

/// A report may be this much later than its interval before it counts as missing.
const GRACE_MIN: Duration = Duration::from_secs(5);
/// The least step of a timestamp.
const TICK: Duration = Duration::from_millis(1);

/// How an active device is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Judgement {
    pub(crate) status: DeviceStatus,
    /// When this ends, unless the device is heard before.
    pub(crate) until: Option<Timestamp>,
    silence: Option<Duration>,
    interval: Duration,
    /// It begins anew, as it was told.
    is_expected: bool,
}

/// A time in which nobody listened, so that silence in it says nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Deaf {
    pub(crate) from: Timestamp,
    pub(crate) to: Timestamp,
}

/// How an active device is doing. One that begins anew, because it was told to, is expected back by
/// a time, and is not offline before.
pub(crate) fn judge(
    now: Timestamp,
    last_seen: Option<Timestamp>,
    interval: Duration,
    deaf: Option<Deaf>,
    back_by: Option<Timestamp>,
) -> Judgement {
    let silence = last_seen.map(|seen| now.since(seen));
    let back_by = back_by.filter(|back_by| now < *back_by);
    let is_expected = back_by.is_some();
    let said = |status, until| Judgement { status, until, silence, interval, is_expected };
    let Some(last_seen) = last_seen else { return said(DeviceStatus::Offline, None) };
    let from = silent_from(last_seen, interval, deaf);
    let counted = now.since(from);
    let ends = Ends::of(interval);
    if counted >= ends.offline {
        said(DeviceStatus::Lost, None)
    } else if counted > ends.online {
        let offline_from = back_by.unwrap_or(from).max(from.plus(ends.late));
        let lost_from = from.plus(ends.offline);
        if now < offline_from {
            said(DeviceStatus::Late, Some(offline_from.min(lost_from)))
        } else {
            said(DeviceStatus::Offline, Some(lost_from))
        }
    } else {
        said(DeviceStatus::Online, Some(from.plus(ends.online + TICK)))
    }
}

/// From when silence counts. What was online when we went deaf has its whole interval from when we
/// listen again; what was not has what it had left.
fn silent_from(last_seen: Timestamp, interval: Duration, deaf: Option<Deaf>) -> Timestamp {
    let Some(deaf) = deaf.filter(|deaf| last_seen <= deaf.from) else { return last_seen };
    if deaf.from.since(last_seen) <= Ends::of(interval).online {
        deaf.to
    } else {
        last_seen.plus(deaf.to.since(deaf.from))
    }
}

/// How long a silence may be before a status ends.
struct Ends {
    online: Duration,
    late: Duration,
    offline: Duration,
}

impl Ends {
    fn of(interval: Duration) -> Self {
        let late = (interval * 3).max(OFFLINE_AFTER_MIN);
        let online = interval + (interval / 4).max(GRACE_MIN);
        Self { online, late, offline: LOST_AFTER.max(late) }
    }
}

impl Judgement {
    /// Why, at this moment.
    pub(crate) fn why(&self) -> String {
        let expected = format!("expected every {}", short(self.interval));
        match (self.silence, self.status) {
            (None, _) => format!("no report yet, {expected}"),
            (Some(silence), DeviceStatus::Online) => {
                format!("last heard from {} ago, {expected}", short(silence))
            }
            (Some(silence), _) if self.is_expected => {
                format!("no report for {}: it begins anew, as it was told", short(silence))
            }
            (Some(silence), _) => format!("no report for {}, {expected}", short(silence)),
        }
    }

    /// Why, in words that stay true as time passes; none while it is online.
    pub(crate) fn lasting_why(&self) -> Option<String> {
        let expected = format!("expected every {}", short(self.interval));
        match (self.silence, self.status) {
            (_, DeviceStatus::Online) => None,
            (Some(_), _) if self.is_expected => Some("it begins anew, as it was told".to_owned()),
            (None, _) => Some(format!("no report yet, {expected}")),
            (Some(_), _) => Some(format!("no reports, {expected}")),
        }
    }
}

/// The time between a device's reports, as it says; one that says nothing has the usual one.
pub(crate) fn interval(interval_secs: u32) -> Duration {
    match interval_secs {
        0 => TELEMETRY_INTERVAL_DEFAULT,
        secs => Duration::from_secs(secs.into()).min(TELEMETRY_INTERVAL_MAX),
    }
}

/// A duration in a unit that keeps it short.
pub(crate) fn short(duration: Duration) -> String {
    let secs = duration.as_secs();
    match secs {
        0..120 => format!("{secs}s"),
        120..7_200 => format!("{}m", secs / 60),
        7_200..172_800 => format!("{}h", secs / 3_600),
        _ => format!("{}d", secs / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn at(secs: u64) -> Timestamp {
        Timestamp::from_millis(10_000_000_000).plus(Duration::from_secs(secs))
    }

    #[test]
    fn silence_is_judged_by_the_devices_own_interval() {
        let now = Timestamp::from_millis(10_000_000_000);
        for (interval, silence, status, why) in [
            (60, 3, DeviceStatus::Online, "last heard from 3s ago, expected every 60s"),
            (60, 75, DeviceStatus::Online, "last heard from 75s ago, expected every 60s"),
            (60, 76, DeviceStatus::Late, "no report for 76s, expected every 60s"),
            (60, 180, DeviceStatus::Offline, "no report for 3m, expected every 60s"),
            (1, 7, DeviceStatus::Late, "no report for 7s, expected every 1s"),
            (1, 89, DeviceStatus::Late, "no report for 89s, expected every 1s"),
            (1, 90, DeviceStatus::Offline, "no report for 90s, expected every 1s"),
            (3600, 10_000, DeviceStatus::Late, "no report for 2h, expected every 60m"),
            (60, 30 * 86_400, DeviceStatus::Lost, "no report for 30d, expected every 60s"),
        ] {
            let seen = now.minus(Duration::from_secs(silence));
            let found = judge(now, Some(seen), Duration::from_secs(interval), None, None);
            assert_eq!((found.status, found.why()), (status, why.to_owned()));
        }
        assert_eq!(judge(now, None, MINUTE, None, None).status, DeviceStatus::Offline);
        // A clock that was set back makes nobody late.
        let ahead = judge(now, Some(now.plus(MINUTE)), MINUTE, None, None);
        assert_eq!(ahead.status, DeviceStatus::Online);
    }

    #[test]
    fn a_device_that_begins_anew_is_expected_back() {
        let judged =
            |now, back_by| judge(at(now), Some(at(1_000)), MINUTE, None, Some(at(back_by)));
        for (now, back_by, status) in [
            (1_075, 1_300, DeviceStatus::Online),
            (1_076, 1_300, DeviceStatus::Late),
            (1_299, 1_300, DeviceStatus::Late),
            (1_300, 1_300, DeviceStatus::Offline),
            (1_100, 1_050, DeviceStatus::Late),
            (1_180, 1_050, DeviceStatus::Offline),
        ] {
            assert_eq!(judged(now, back_by).status, status, "{now}, back by {back_by}");
        }
        assert_eq!(judged(1_250, 1_300).why(), "no report for 4m: it begins anew, as it was told");
        assert_eq!(judged(1_100, 1_050).why(), "no report for 100s, expected every 60s");
    }

    #[test]
    fn silence_while_nobody_listened_says_nothing() {
        let deaf = Some(Deaf { from: at(1_000), to: at(9_000) });
        for (seen, now, status) in [
            // Online as we went: a whole interval to come back.
            (940, 9_075, DeviceStatus::Online),
            (940, 9_076, DeviceStatus::Late),
            (940, 9_180, DeviceStatus::Offline),
            // Late or offline as we went: it stays so, and goes on from there.
            (900, 9_000, DeviceStatus::Late),
            (900, 9_079, DeviceStatus::Late),
            (900, 9_080, DeviceStatus::Offline),
            (100, 9_000, DeviceStatus::Offline),
            // Heard since.
            (9_001, 9_077, DeviceStatus::Late),
        ] {
            let found = judge(at(now), Some(at(seen)), MINUTE, deaf, None);
            assert_eq!(found.status, status, "seen at {seen}, judged at {now}");
        }
    }

    proptest! {
        #[test]
        fn a_status_holds_until_it_says_and_no_longer(
            seen in 0_u64..100_000, silence in 0_u64..5_000_000, interval in 1_u64..90_000,
            deaf in proptest::option::of((0_u64..100_000, 0_u64..100_000)),
            back_by in proptest::option::of(0_u64..5_000_000),
        ) {
            let deaf = deaf.map(|(from, long)| Deaf { from: at(from), to: at(from + long) });
            let interval = Duration::from_secs(interval);
            let judge = |now| judge(now, Some(at(seen)), interval, deaf, back_by.map(at));
            let now = at(seen + silence);
            let found = judge(now);
            if let Some(until) = found.until {
                prop_assert!(until > now);
                prop_assert_eq!(judge(until.minus(TICK)).status, found.status);
                prop_assert_ne!(judge(until).status, found.status);
            } else {
                prop_assert_eq!(found.status, DeviceStatus::Lost);
            }
        }
    }
}
