//! Values that came again after theirs were rolled up, and why they are counted once all the same.
//!
//! A coarser row does not say of which milliseconds it was made. So where a raw value that is not
//! rolled up meets one of its series and millisecond that is, the hour is made anew of raw values,
//! and its coarser rows count no more; an hour is a whole number of steps of every tier. Who reads
//! does so for one answer. Who rolls up puts what was made anew in the place of the rows.
//!
//! That goes for hours of which all raw values are there: those that begin above the floor, and of
//! which nothing is damaged. In others, what comes again is counted beside what was there.

use std::collections::BTreeSet;
use std::panic::resume_unwind;
use std::thread;

use super::catalog::{ChunkRef, Tier};
use super::chunk::{Chunk, ChunkError};
use super::engine::Shared;
use super::points::{Points, Wanted};
use super::query::{Source, add_chunk, read_chunk};
use crate::store::StoreError;

/// Sources that are worth a thread of their own, and threads at most that one answer takes.
const PART_MIN: usize = 8;
const HANDS_MAX: usize = 4;
/// As long as the longest step.
const HOUR: i64 = Tier::Hour.step_millis();

/// Hours that are made anew, by their number from 1970 on.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Hours(BTreeSet<i64>);

impl Hours {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a time is in one of them.
    pub(super) fn has(&self, at: i64) -> bool {
        !self.is_empty() && self.0.contains(&hour_of(at))
    }

    /// Whether some of a chunk's time may be.
    pub(super) fn touch(&self, chunk: &ChunkRef) -> bool {
        self.0.range(hours_of(chunk)).next().is_some()
    }

    /// From the beginning of the first to the end of the last.
    pub(super) fn span(&self) -> Option<(i64, i64)> {
        Some((beginning(*self.0.first()?), end(*self.0.last()?)))
    }

    fn leave_out(&mut self, chunk: &ChunkRef) {
        let hours = hours_of(chunk);
        self.0.retain(|hour| !hours.contains(hour));
    }
}

/// The time widened to whole hours.
pub(super) fn whole_hours(from: i64, to: i64) -> (i64, i64) {
    (beginning(hour_of(from)), end(hour_of(to)))
}

fn hour_of(at: i64) -> i64 {
    at.div_euclid(HOUR)
}

fn hours_of(chunk: &ChunkRef) -> std::ops::RangeInclusive<i64> {
    hour_of(chunk.first_at)..=hour_of(chunk.last_at)
}

fn beginning(hour: i64) -> i64 {
    hour.saturating_mul(HOUR)
}

fn end(hour: i64) -> i64 {
    beginning(hour).saturating_add(HOUR - 1)
}

/// Values, and chunks that cannot be read.
type Added<'a> = (Points, Vec<&'a ChunkRef>);

/// Looks at a chunk that is read.
pub(super) type See<'a> = &'a mut dyn FnMut(&Chunk<'_>) -> Result<(), ChunkError>;

/// Raw values of a device, to be put together.
pub(super) struct Gathering<'a> {
    pub(super) shared: &'a Shared,
    pub(super) wanted: &'a Wanted,
    /// From and to.
    pub(super) times: (i64, i64),
    /// Where raw values lie, in the order in which they came. Of chunks that are rolled up, only
    /// what is in hours that are made anew is taken.
    pub(super) sources: &'a [Source<'a>],
    /// Before when raw values may be gone; looked up after the sources were.
    pub(super) floor: i64,
}

impl Gathering<'_> {
    /// The values that no coarser row counts, with those of `tail`, which came last; and the hours
    /// of which that is all.
    pub(super) fn gather(
        &self,
        tail: &mut Points,
        mut see: Option<See<'_>>,
    ) -> Result<(Points, Hours), StoreError> {
        let (mut points, _) = self.add(&Hours::default(), &mut see)?;
        points.extend(tail);
        let mut hours = self.came_again(&mut points)?;
        while !hours.is_empty() {
            let (mut anew, unreadable) = self.add(&hours, &mut see)?;
            if unreadable.is_empty() {
                anew.extend(tail);
                return Ok((anew, hours));
            }
            for chunk in unreadable {
                hours.leave_out(chunk);
            }
        }
        Ok((points, hours))
    }

    /// The values of all that is not rolled up, and of some hours of what is. What of those hours
    /// cannot be read is told.
    fn add(&self, hours: &Hours, see: &mut Option<See<'_>>) -> Result<Added<'_>, StoreError> {
        let counts = |source: &&Source<'_>| rolled(source).is_none_or(|chunk| hours.touch(chunk));
        let sources: Vec<&Source<'_>> = self.sources.iter().filter(counts).collect();
        if let Some(see) = see {
            return self.add_part(&sources, hours, see);
        }
        // Nobody has to see them in their order.
        let read =
            |part: &[usize]| self.add_part(&sources[part[0]..part[1]], hours, &mut |_| Ok(()));
        let mut parts = side_by_side(&bounds(sources.len(), hands()), &read).into_iter();
        let (mut points, mut unreadable) = parts.next().unwrap_or_else(|| Ok(Added::default()))?;
        for part in parts {
            let (mut later, more) = part?;
            points.extend(&mut later);
            unreadable.extend(more);
        }
        Ok((points, unreadable))
    }

    fn add_part<'a>(
        &'a self,
        sources: &[&'a Source<'a>],
        hours: &Hours,
        see: See<'_>,
    ) -> Result<Added<'a>, StoreError> {
        let (mut points, mut unreadable) = Added::default();
        for source in sources {
            let rolled = rolled(source);
            let read = source.read(self.shared, &mut |chunk| {
                see(chunk)?;
                match rolled {
                    None => self.add_chunk(chunk, &mut points),
                    Some(_) => self.add_hours(chunk, hours, &mut points),
                }
            });
            if let Err(unread) = read {
                self.shared.pass_over(unread)?;
                unreadable.extend(rolled);
            }
        }
        Ok((points, unreadable))
    }

    fn add_chunk(&self, chunk: &Chunk<'_>, points: &mut Points) -> Result<(), ChunkError> {
        add_chunk(chunk, self.wanted, self.times.0, self.times.1, points)
    }

    fn add_hours(
        &self,
        chunk: &Chunk<'_>,
        hours: &Hours,
        points: &mut Points,
    ) -> Result<(), ChunkError> {
        let mut all = Points::default();
        self.add_chunk(chunk, &mut all)?;
        for (place, values) in all.values() {
            let curve = points.curve(place);
            let of_hours = values.iter().filter(|(at, _)| hours.has(*at));
            of_hours.for_each(|(at, value)| curve.add(at, value));
        }
        Ok(())
    }

    /// The hours in which values meet rolled ones of their series and millisecond.
    fn came_again(&self, new: &mut Points) -> Result<Hours, StoreError> {
        let new: Vec<(usize, &[i64])> =
            new.values().map(|(place, values)| (place, values.times)).collect();
        let first = new.iter().filter_map(|(_, times)| times.first().copied()).min();
        let last = new.iter().filter_map(|(_, times)| times.last().copied()).max();
        let mut hours = Hours::default();
        let (Some(first), Some(last)) = (first, last) else { return Ok(hours) };
        let has_all = |at: i64| beginning(hour_of(at)) >= self.floor;
        // Mostly nothing is left: what is not rolled up is newer than what is.
        let meets = |chunk: &&ChunkRef| {
            chunk.first_at <= last
                && chunk.last_at >= first
                && has_all(chunk.last_at)
                && new.iter().any(|(_, times)| has_any(times, chunk))
        };
        for chunk in self.sources.iter().filter_map(rolled).filter(meets) {
            let mut old = Points::default();
            if let Err(unread) =
                read_chunk(self.shared, chunk, &mut |chunk| self.add_chunk(chunk, &mut old))
            {
                self.shared.pass_over(unread)?;
                continue;
            }
            for (place, old) in old.values() {
                let Ok(found) = new.binary_search_by_key(&place, |(place, _)| *place) else {
                    continue;
                };
                let is_new = |at: &i64| new[found].1.binary_search(at).is_ok();
                let again = old.times.iter().filter(|at| has_all(**at) && is_new(at));
                hours.0.extend(again.map(|at| hour_of(*at)));
            }
        }
        Ok(hours)
    }
}

/// How many threads read side by side.
fn hands() -> usize {
    thread::available_parallelism().map_or(1, Into::into).min(HANDS_MAX)
}

/// Where the parts begin and end that so many sources are read in.
fn bounds(sources: usize, hands: usize) -> Vec<usize> {
    let parts = (sources / PART_MIN).clamp(1, hands.max(1));
    (0..=parts).map(|part| sources * part / parts).collect()
}

/// Reads the parts between some bounds, all but the first on threads of their own.
fn side_by_side<T: Send>(bounds: &[usize], read: &(impl Fn(&[usize]) -> T + Sync)) -> Vec<T> {
    let mut parts = bounds.windows(2);
    let Some(first) = parts.next() else { return Vec::new() };
    thread::scope(|scope| {
        let begin = |part| (part, thread::Builder::new().spawn_scoped(scope, move || read(part)));
        let others: Vec<_> = parts.map(begin).collect();
        let mut all = vec![read(first)];
        all.extend(others.into_iter().map(|(part, begun)| match begun {
            Ok(thread) => thread.join().unwrap_or_else(|panic| resume_unwind(panic)),
            // The system gives no more threads.
            Err(_) => read(part),
        }));
        all
    })
}

/// The chunk, if it is one that is rolled up.
fn rolled<'a>(source: &Source<'a>) -> Option<&'a ChunkRef> {
    match source {
        Source::Chunk(chunk) if chunk.is_rolled => Some(chunk),
        Source::Chunk(_) | Source::Block(_) => None,
    }
}

/// Whether some of the times are within a chunk's.
fn has_any(times: &[i64], chunk: &ChunkRef) -> bool {
    let next = times.partition_point(|at| *at < chunk.first_at);
    times.get(next).is_some_and(|at| *at <= chunk.last_at)
}

#[cfg(test)]
mod tests {
    use fleet_core::id::Uid;

    use super::*;

    fn chunk(first_at: i64, last_at: i64) -> ChunkRef {
        let (device, tier, is_rolled) = (Uid::new(), Tier::Raw, true);
        let (segment, offset, bytes, rows) = (1, 0, 1, 2);
        ChunkRef { device, tier, first_at, last_at, segment, offset, bytes, rows, is_rolled }
    }

    #[test]
    fn hours_begin_and_end_where_steps_of_all_tiers_do() {
        assert!(Tier::ALL.iter().skip(1).all(|tier| HOUR % tier.step_millis() == 0));
        assert_eq!(whole_hours(0, 0), (0, HOUR - 1));
        assert_eq!(whole_hours(-1, HOUR), (-HOUR, 2 * HOUR - 1));
        assert_eq!(whole_hours(i64::MIN, i64::MAX), (i64::MIN, i64::MAX));
        let mut hours = Hours(BTreeSet::from([-1, 3]));
        assert_eq!(hours.span(), Some((-HOUR, 4 * HOUR - 1)));
        assert_eq!(
            [-HOUR - 1, -1, 0, 3 * HOUR].map(|at| hours.has(at)),
            [false, true, false, true]
        );
        assert!(hours.touch(&chunk(0, 3 * HOUR)) && !hours.touch(&chunk(0, 3 * HOUR - 1)));
        hours.leave_out(&chunk(0, 9 * HOUR));
        assert_eq!(hours, Hours(BTreeSet::from([-1])));
    }

    #[test]
    fn many_are_read_in_parts_in_their_order() {
        for (sources, hands, parts) in [
            (0, 2, 1),
            (PART_MIN * 2 - 1, 2, 1),
            (PART_MIN * 2, 2, 2),
            (PART_MIN * 2, 1, 1),
            (PART_MIN * 9, 4, 4),
        ] {
            let bounds = bounds(sources, hands);
            let read: Vec<Vec<usize>> =
                side_by_side(&bounds, &|part: &[usize]| (part[0]..part[1]).collect());
            assert_eq!(read.len(), parts, "{sources} by {hands}");
            assert!(read.concat().into_iter().eq(0..sources), "{read:?}");
        }
    }

    #[test]
    fn a_chunk_meets_values_within_its_time_only() {
        let times = [10, 20];
        let meets = |first, last| has_any(&times, &chunk(first, last));
        assert!(meets(0, 10) && meets(20, 30) && meets(12, 20) && meets(0, 99));
        assert!(!meets(0, 9) && !meets(11, 19) && !meets(21, 99));
    }
}
