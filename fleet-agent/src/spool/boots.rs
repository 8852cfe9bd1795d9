//! How old a record is, across restarts of the machine.
//!
//! Within one boot the clock that does not jump tells it. A record from an earlier boot has its
//! wall time alone, as good as the device's clock was then and is now:
//!
//! - A clock that was set in the course of a boot, as on devices without a battery, is right at
//!   its end, so a record's time is reckoned back from the last record of its boot.
//! - A clock that stands before what the device has recorded already, or before there was any
//!   FleetD, is not set, and neither is one of years ago. Then all that is known is that the
//!   record is older than this boot, and how the records lay before; that is what is said, so
//!   times stay in order and near the truth by as much as the device was switched off.
//!
//! The server takes a time as it is told if it fits with the age and with the server's own clock,
//! else its own clock less the age.

use std::collections::VecDeque;

use fleet_core::time::Timestamp;

use super::segment::Stamp;

/// Boots that are told apart; of more the oldest have their records' own times alone.
const BOOTS_MAX: usize = 16;
/// The first of January 2025. No clock that is set stands before it.
const CLOCK_MIN: i64 = 1_735_689_600_000;
/// A year. No record is believed to be older.
const AGE_MILLIS_MAX: u64 = 365 * 24 * 3600 * 1000;

/// Now, by both of the device's clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// The wall clock.
    pub wall: Timestamp,
    /// Since the boot, in milliseconds.
    pub up_millis: u64,
}

/// What is known of this boot and those before it.
#[derive(Clone, Debug)]
pub(super) struct Boots {
    this: [u8; 16],
    earlier: VecDeque<Boot>,
}

#[derive(Clone, Copy, Debug)]
struct Boot {
    id: [u8; 16],
    /// Of its last record.
    at_millis: i64,
    up_millis: u64,
}

impl Boots {
    pub(super) fn new(this: [u8; 16]) -> Self {
        Self { this, earlier: VecDeque::new() }
    }

    /// When something is collected now.
    pub(super) fn stamp(&self, at: Timestamp, up_millis: u64) -> Stamp {
        Stamp { at_millis: at.millis(), boot: self.this, up_millis }
    }

    pub(super) fn is_this(&self, stamp: &Stamp) -> bool {
        stamp.boot == self.this
    }

    /// Takes note of a record that was found, in the order of their numbers.
    pub(super) fn found(&mut self, stamp: &Stamp) {
        if self.is_this(stamp) {
            return;
        }
        let Stamp { at_millis, boot: id, up_millis } = *stamp;
        match self.earlier.iter_mut().find(|boot| boot.id == id) {
            Some(boot) if boot.up_millis <= up_millis => {
                *boot = Boot { id, at_millis, up_millis };
            }
            Some(_) => {}
            None => {
                self.earlier.push_back(Boot { id, at_millis, up_millis });
                if self.earlier.len() > BOOTS_MAX {
                    self.earlier.pop_front();
                }
            }
        }
    }

    /// Whether the clock stands before what was recorded in earlier boots, so that it will jump
    /// once it is set.
    pub(super) fn clock_is_behind(&self, now: Moment) -> bool {
        let recorded = self.earlier.iter().map(|boot| boot.at_millis).max();
        now.wall.millis() < recorded.unwrap_or(CLOCK_MIN).max(CLOCK_MIN)
    }

    /// When something was collected, and how long ago, both in milliseconds.
    pub(super) fn tell(&self, stamp: &Stamp, now: Moment) -> (i64, u64) {
        if self.is_this(stamp) {
            return (stamp.at_millis, now.up_millis.saturating_sub(stamp.up_millis));
        }
        let known = self.earlier.iter().position(|boot| boot.id == stamp.boot);
        let later = self.earlier.range(known.map_or(0, |position| position + 1)..);
        let later = later.fold(0_u64, |sum, boot| sum.saturating_add(boot.up_millis));
        let own = known.map(|position| self.earlier[position]);
        let before_last = own.map_or(0, |boot| boot.up_millis.saturating_sub(stamp.up_millis));
        let at = own.map_or(stamp.at_millis, |boot| {
            boot.at_millis.saturating_sub(i64::try_from(before_last).unwrap_or(i64::MAX))
        });
        let at_least = now.up_millis.saturating_add(later).saturating_add(before_last);
        let by_wall = u64::try_from(now.wall.millis().saturating_sub(at)).unwrap_or(0);
        let believed = self.was_set(known, at)
            && !self.clock_is_behind(now)
            && (at_least..=AGE_MILLIS_MAX).contains(&by_wall);
        (at, if believed { by_wall } else { at_least.min(AGE_MILLIS_MAX) })
    }

    /// Whether a boot's clock was set at its end, as far as that can be told.
    fn was_set(&self, boot: Option<usize>, at_millis: i64) -> bool {
        let Some(position) = boot else { return at_millis >= CLOCK_MIN };
        let end = self.earlier[position].at_millis;
        let before = self.earlier.range(..position).map(|boot| boot.at_millis).max();
        end >= before.unwrap_or(CLOCK_MIN).max(CLOCK_MIN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3_600_000;
    /// Some day after the clocks' beginning.
    const DAY: i64 = CLOCK_MIN + 1_000 * HOUR;

    fn stamp(boot: u8, at_millis: i64, up_millis: i64) -> Stamp {
        Stamp { at_millis, boot: [boot; 16], up_millis: up_millis as u64 }
    }

    fn now(wall: i64, up_millis: i64) -> Moment {
        Moment { wall: Timestamp::from_millis(wall), up_millis: up_millis as u64 }
    }

    fn boots(found: &[Stamp]) -> Boots {
        let mut boots = Boots::new([9; 16]);
        for stamp in found {
            boots.found(stamp);
        }
        boots
    }

    #[test]
    fn within_a_boot_the_clock_that_does_not_jump_counts() {
        let boots = boots(&[]);
        let told = boots.tell(&stamp(9, 5, 1_000), now(DAY, 4_000));
        assert_eq!(told, (5, 3_000));
        assert_eq!(boots.tell(&stamp(9, 5, 1_000), now(DAY, 900)).1, 0);
    }

    #[test]
    fn a_record_from_an_earlier_boot_has_its_wall_time() {
        let old = stamp(1, DAY, HOUR);
        let boots = boots(&[old]);
        let now = now(DAY + 30 * HOUR, HOUR);
        assert!(!boots.clock_is_behind(now));
        assert_eq!(boots.tell(&old, now), (DAY, 30 * HOUR as u64));
    }

    #[test]
    fn a_clock_that_was_set_late_is_set_back_to_the_start_of_its_boot() {
        let [first, last] = [stamp(1, 60_000, 60_000), stamp(1, DAY, HOUR)];
        let boots = boots(&[first, last]);
        let told = boots.tell(&first, now(DAY + 2 * HOUR, HOUR));
        assert_eq!(told, (DAY - HOUR + 60_000, (3 * HOUR - 60_000) as u64));
    }

    #[test]
    fn a_clock_that_was_never_set_makes_no_absurd_age() {
        // Three boots in 1970, the second and third as long as the clock shows.
        let found = [stamp(1, 60_000, 60_000), stamp(1, HOUR, HOUR), stamp(2, HOUR, HOUR)];
        let boots = boots(&found);
        let ages = |now| found.map(|stamp| boots.tell(&stamp, now).1 as i64);
        let up = 10_000;
        let expected = [up + 2 * HOUR - 60_000, up + HOUR, up];
        assert_eq!(ages(now(DAY, up)), expected);
        assert_eq!(ages(now(up, up)), expected, "neither is it set now");
        assert!(boots.clock_is_behind(now(up, up)));
    }

    #[test]
    fn a_clock_that_went_back_is_not_believed() {
        // The second boot began at the day when its system was built.
        let found = [stamp(1, DAY, HOUR), stamp(2, DAY - 500 * HOUR, HOUR)];
        let boots = boots(&found);
        assert_eq!(boots.tell(&found[1], now(DAY + 9 * HOUR, 1_000)).1, 1_000);
        assert_eq!(boots.tell(&found[0], now(DAY + 9 * HOUR, 1_000)).1, 9 * HOUR as u64);
        // Now it is this boot that began there.
        let behind = now(DAY - 500 * HOUR, 1_000);
        assert!(boots.clock_is_behind(behind));
        assert_eq!(boots.tell(&found[0], behind), (DAY, 1_000 + HOUR as u64));
    }

    #[test]
    fn whatever_is_told_is_bounded() {
        let odd = [i64::MIN, i64::MAX, 0, -1, DAY];
        let mut found: Vec<Stamp> = (10..50).map(|boot| stamp(boot, DAY, HOUR)).collect();
        found.extend(odd.map(|at| stamp(50, at, at)));
        let boots = boots(&found);
        assert_eq!(boots.earlier.len(), BOOTS_MAX);
        for stamp in &found {
            for (wall, up) in odd.iter().flat_map(|wall| odd.map(|up| (*wall, up))) {
                assert!(boots.tell(stamp, now(wall, up)).1 <= AGE_MILLIS_MAX);
            }
        }
    }
}
