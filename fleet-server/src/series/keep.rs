//! What is kept and what goes: ages, floors, devices that are gone, and how much there is.

use std::collections::BTreeMap;
use std::str::FromStr;
use std::time::Duration;

use fleet_core::Chain;
use fleet_core::id::Uid;
use fleet_core::time::{Timestamp, parse_duration};

use super::again::whole_hours;
use super::catalog::{Change, ChunkRef, SegmentInfo, Tier, Unrolled};
use super::engine::{Engine, Shared};
use super::query::{damage_of, is_damage};
use super::segments::{Ends, Place, Segments};
use crate::store::{Failure, StoreError, TelemetryStats, TierStats};

/// The shortest age that may be asked for.
const KEPT_MIN: Duration = Duration::from_secs(3_600);
/// Chunks that one commit removes, so that others need not wait long.
const CHUNKS_AT_ONCE: usize = 2_000;

/// For how long each tier is kept, and how much of each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keep {
    /// By tier, finest first. The first limit that is reached wins.
    pub ages: [Duration; 4],
    /// Bytes of the chunks of each tier.
    pub bytes_max: u64,
}

impl Default for Keep {
    fn default() -> Self {
        const DAY: Duration = Duration::from_secs(86_400);
        Self { ages: [DAY * 2, DAY * 14, DAY * 90, DAY * 730], bytes_max: 1 << 30 }
    }
}

/// Reads `raw=48h,1m=14d,10m=90d,1h=730d,size=1GiB`; what is left out is as usual.
impl FromStr for Keep {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut keep = Self::default();
        for entry in text.split(',').map(str::trim).filter(|entry| !entry.is_empty()) {
            let (name, value) = entry.split_once('=').ok_or_else(|| format!("{entry} has no ="))?;
            if name == "size" {
                keep.bytes_max = size(value)
                    .ok_or_else(|| format!("{value} is not a size like 500MiB or 2GiB"))?;
                continue;
            }
            let tier = Tier::ALL.into_iter().find(|tier| tier.word() == name);
            let tier = tier.ok_or_else(|| format!("{name} is none of raw, 1m, 10m, 1h, size"))?;
            let age = parse_duration(value)
                .map_err(|_| format!("{value} is not an age like 48h or 14d"))?;
            if age < KEPT_MIN {
                return Err(format!("{entry} is less than an hour"));
            }
            keep.ages[usize::from(tier.number())] = age;
        }
        match Tier::ALL.windows(2).zip(keep.ages.windows(2)).find(|(_, ages)| ages[0] > ages[1]) {
            Some((tiers, _)) => {
                Err(format!("{} is kept for less long than {}", tiers[1].word(), tiers[0].word()))
            }
            None => Ok(keep),
        }
    }
}

fn size(text: &str) -> Option<u64> {
    const UNITS: [(&str, u32); 3] = [("MiB", 20), ("GiB", 30), ("TiB", 40)];
    let (count, shift) =
        UNITS.into_iter().find_map(|(unit, shift)| Some((text.strip_suffix(unit)?, shift)))?;
    count.trim().parse::<u64>().ok()?.checked_mul(1 << shift)
}

impl Keep {
    /// Before when a tier's values are too old.
    fn end(&self, tier: Tier, now: Timestamp) -> Timestamp {
        now.minus(self.ages[usize::from(tier.number())])
    }

    /// Before when a tier's values are rolled up: at half their age, and not for every hour anew,
    /// so that there is something to roll up.
    fn rolled(&self, tier: Tier, now: Timestamp) -> i64 {
        let age = self.ages[usize::from(tier.number())];
        let grain = i64::try_from((age / 8).as_millis()).unwrap_or(i64::MAX).max(1);
        now.minus(age / 2).millis().div_euclid(grain) * grain
    }
}

impl Engine {
    /// Rolls up and prunes.
    pub(crate) fn keep(&self, keep: &Keep, now: Timestamp) -> Result<u64, StoreError> {
        // What fails for one tier, or some devices of it, is no reason to keep everything else.
        let (mut freed, mut failed) = (0, None);
        let mut note = |done: Result<(), StoreError>| {
            if let Err(error) = done {
                failed.get_or_insert(error);
            }
        };
        for tier in Tier::ALL {
            note(self.roll(tier, keep.rolled(tier, now)).map(drop));
            let end = self.too_much(tier, keep.bytes_max)?.max(Some(keep.end(tier, now)));
            if let Some(end) = end {
                note(match tier {
                    Tier::Raw => self.roll_raw(end.millis()),
                    _ => self.roll(tier, end.millis()).map(drop),
                });
                // Nothing goes that the next tier does not have.
                note(self.prune_kept(tier, end).map(|rows| freed += rows));
            }
        }
        failed.map_or(Ok(freed), Err)
    }

    /// Rolls up all raw values of the hours that begin before a time, wherever they lie: once raw
    /// values of an hour are gone, those that came again for them would count beside them.
    fn roll_raw(&self, end: i64) -> Result<(), StoreError> {
        let last = end.saturating_sub(1);
        let before = whole_hours(last, last).1.saturating_add(1);
        if let Err(error) = self.seal_before(before) {
            // It is tried again, and what is too old must go also while nothing can be sealed.
            tracing::warn!(error = %Chain(&error), "old telemetry in memory was not sealed");
        }
        self.roll_begun(Tier::Raw, before).map(drop)
    }

    /// Before when chunks must go so that no more than so many bytes of a tier are left.
    fn too_much(&self, tier: Tier, bytes_max: u64) -> Result<Option<Timestamp>, StoreError> {
        let segments = self.shared.catalog.segments()?;
        let own = segments.iter().filter(|segment| segment.tier == tier);
        let mut surplus =
            own.map(|segment| segment.live_bytes).sum::<u64>().saturating_sub(bytes_max);
        if surplus == 0 {
            return Ok(None);
        }
        let all = self.shared.catalog.chunks_before(tier, Unrolled::All, i64::MAX, usize::MAX)?;
        let mut chunks: Vec<(i64, u32)> =
            all.iter().map(|chunk| (chunk.last_at, chunk.bytes)).collect();
        chunks.sort_unstable();
        for (last_at, bytes) in chunks {
            surplus = surplus.saturating_sub(bytes.into());
            if surplus == 0 {
                return Ok(Some(Timestamp::from_millis(last_at.saturating_add(1))));
            }
        }
        Ok(None)
    }

    /// Hides a tier's values from before a time, and removes the chunks that have no others.
    /// Returns how many rows those had.
    pub(crate) fn prune(&self, tier: Tier, before: Timestamp) -> Result<u64, StoreError> {
        self.prune_of(tier, before, Unrolled::All)
    }

    /// The same, but what no coarser tier has stays until one has it: it may have come late.
    fn prune_kept(&self, tier: Tier, before: Timestamp) -> Result<u64, StoreError> {
        let is_last = tier.coarser().is_none();
        self.prune_of(tier, before, if is_last { Unrolled::All } else { Unrolled::Without })
    }

    fn prune_of(&self, tier: Tier, before: Timestamp, which: Unrolled) -> Result<u64, StoreError> {
        let shared = &self.shared;
        shared.raise_floor(tier, before.millis())?;
        let mut rows = 0;
        loop {
            let (from, most) = (before.millis(), CHUNKS_AT_ONCE);
            let mut ends = shared.ends();
            let old = shared.catalog.chunks_before(tier, which, from, most)?;
            if old.is_empty() {
                return Ok(rows);
            }
            rows += old.iter().map(|chunk| u64::from(chunk.rows)).sum::<u64>();
            shared.remove_chunks(&mut ends, old, Vec::new())?;
        }
    }

    /// Moves chunks out of files that are mostly of chunks nobody wants any more, so that those can
    /// go. Returns how many bytes that freed.
    pub(crate) fn compact(&self) -> Result<u64, StoreError> {
        let shared = &self.shared;
        let (mut freed, mut failed) = (0, None);
        for segment in shared.catalog.segments()? {
            if segment.live_bytes * 2 < segment.bytes {
                match shared.move_out(segment.number) {
                    Ok(bytes) => freed += bytes,
                    // The others may do.
                    Err(error) => _ = failed.get_or_insert(error),
                }
            }
        }
        failed.map_or(Ok(freed), Err)
    }

    /// Removes all that is kept of a device.
    pub(crate) fn forget(&self, uid: Uid) -> Result<(), StoreError> {
        // First, so that whoever seals from now on passes it over. What others add or move until
        // then is found, because chunks are listed while nobody does.
        self.device_is_gone(uid);
        let tiers = Tier::ALL.map(|tier| (tier, Unrolled::All));
        loop {
            let mut ends = self.shared.ends();
            let mut found = self.shared.catalog.chunks(uid, &tiers, i64::MIN, i64::MAX)?.chunks;
            let is_rest = found.len() <= CHUNKS_AT_ONCE;
            found.truncate(CHUNKS_AT_ONCE);
            let forgotten = if is_rest { vec![uid] } else { Vec::new() };
            self.shared.remove_chunks(&mut ends, found, forgotten)?;
            if is_rest {
                return Ok(());
            }
        }
    }

    /// How much there is.
    pub(crate) fn stats(&self) -> Result<TelemetryStats, StoreError> {
        let shared = &self.shared;
        // So that what is being sealed is counted once.
        let _sealing = shared.ends();
        let unsealed =
            shared.devices().values().map(|device| device.head().unsealed_rows() as u64).sum();
        let segments = shared.catalog.segments()?;
        let floors = shared.floors();
        let tier = |tier: Tier| {
            let own = || segments.iter().filter(move |segment| segment.tier == tier);
            let sum = |of: fn(&SegmentInfo) -> u64| own().map(of).sum();
            TierStats {
                tier: tier.word(),
                chunks: sum(|segment| segment.live_chunks),
                rows: sum(|segment| segment.live_rows),
                bytes: sum(|segment| segment.live_bytes),
                file_bytes: sum(|segment| segment.bytes),
                floor: Some(floors.of(tier))
                    .filter(|floor| *floor > i64::MIN)
                    .map(Timestamp::from_millis),
            }
        };
        Ok(TelemetryStats {
            unsealed_rows: unsealed,
            series: shared.names.len() as u64,
            log_bytes: shared.wal().map_or(0, |wal| wal.bytes()),
            tiers: Tier::ALL.map(tier).to_vec(),
        })
    }
}

impl Shared {
    /// Raises a tier's floor; what is below is hidden when this returns.
    fn raise_floor(&self, tier: Tier, floor: i64) -> Result<(), StoreError> {
        // Held over the commit: of two who raise floors, none takes back what the other did.
        let mut known = self.floors_to_raise();
        if floor <= known.of(tier) {
            return Ok(());
        }
        let mut floors = *known;
        floors.raise(tier, floor);
        self.catalog.commit(Change { floors: Some(floors), ..Change::default() })?;
        *known = floors;
        Ok(())
    }

    /// Moves the chunks of a file to the ends of others. What is damaged stays, with its file.
    fn move_out(&self, segment: u64) -> Result<u64, StoreError> {
        let mut ends = self.ends();
        Segments::leave(&mut ends, segment);
        let mut change = Change::default();
        let mut bytes = 0;
        for chunk in self.with_followers(self.catalog.chunks_in(segment)?)? {
            let moved = self
                .segments
                .read(&chunk)
                .and_then(|contents| self.segments.append(&mut ends, chunk.tier, &contents));
            match moved {
                Ok(Place { segment, offset, bytes }) => {
                    change.added.push(ChunkRef { segment, offset, bytes, ..chunk });
                    change.removed.push(chunk);
                }
                Err(error) if is_damage(error.kind()) => {
                    self.note_damage(damage_of(&chunk, &error));
                }
                Err(error) => {
                    Segments::abandon(&mut ends);
                    return Err(Failure::Storage(error.into()).into());
                }
            }
        }
        let safe = Segments::sync(&mut ends);
        let dead = safe
            .map_err(|error| StoreError::from(Failure::Storage(error.into())))
            .and_then(|()| self.catalog.commit(change))
            .inspect_err(|_| Segments::abandon(&mut ends))?;
        for number in dead {
            bytes += self.segments.bytes(number);
            self.remove_segments(&mut ends, &[number]);
        }
        Ok(bytes)
    }

    /// Chunks that are to be moved to the ends of files, in the order in which they came. Of one
    /// millisecond the value in the later chunk holds; so what came after one of them and is of its
    /// time, mostly nothing, must be moved behind it.
    fn with_followers(&self, moved: Vec<ChunkRef>) -> Result<Vec<ChunkRef>, StoreError> {
        let place = |chunk: &ChunkRef| (chunk.segment, chunk.offset);
        let mut all: BTreeMap<(u64, u64), ChunkRef> = BTreeMap::new();
        let mut next = moved;
        while let Some(chunk) = next.pop() {
            if all.insert(place(&chunk), chunk).is_none() && chunk.tier == Tier::Raw {
                let (tiers, from, to) =
                    ([(Tier::Raw, Unrolled::All)], chunk.first_at, chunk.last_at);
                let found = self.catalog.chunks(chunk.device, &tiers, from, to)?.chunks;
                next.extend(found.into_iter().filter(|other| place(other) > place(&chunk)));
            }
        }
        Ok(all.into_values().collect())
    }

    /// Removes chunks from the index, and then files in which nothing is wanted.
    pub(super) fn remove_chunks(
        &self,
        ends: &mut Ends,
        removed: Vec<ChunkRef>,
        forgotten: Vec<Uid>,
    ) -> Result<(), StoreError> {
        let dead = self.catalog.commit(Change { removed, forgotten, ..Change::default() })?;
        self.remove_segments(ends, &dead);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_out_is_as_usual_and_mistakes_are_named() {
        const DAY: Duration = Duration::from_secs(86_400);
        let keep: Keep = "raw=24h, 1h=365d,size=2GiB".parse().unwrap();
        assert_eq!(keep.ages, [DAY, DAY * 14, DAY * 90, DAY * 365]);
        assert_eq!(keep.bytes_max, 2 << 30);
        assert_eq!("".parse(), Ok(Keep::default()));
        for (text, problem) in [
            ("raw", "raw has no ="),
            ("2m=4d", "2m is none of raw, 1m, 10m, 1h, size"),
            ("raw=soon", "soon is not an age like 48h or 14d"),
            ("raw=99999999999d", "99999999999d is not an age like 48h or 14d"),
            ("raw=5m", "raw=5m is less than an hour"),
            ("size=2", "2 is not a size like 500MiB or 2GiB"),
            ("raw=30d", "1m is kept for less long than raw"),
        ] {
            assert_eq!(text.parse::<Keep>().unwrap_err(), problem);
        }
    }

    #[test]
    fn rolling_up_goes_on_in_steps() {
        let keep = Keep::default();
        let hours = |hours: i64| keep.rolled(Tier::Raw, Timestamp::from_millis(hours * 3_600_000));
        assert_eq!([hours(48), hours(53), hours(54)].map(|at| at / 3_600_000), [24, 24, 30]);
    }
}
