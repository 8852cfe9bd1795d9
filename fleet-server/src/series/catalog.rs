//! The index of the engine, as it needs it: which chunks there are, and what is remembered of each
//! device. The database behind it commits each change as a whole or not at all.

use std::sync::Arc;

use fleet_core::id::Uid;

use super::head::Remembered;
use super::names::SeriesName;
use super::wal::Lsn;
use crate::store::StoreError;

/// How finely values are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Tier {
    /// As they came.
    Raw,
    /// Minimum, maximum, sum and count of a minute.
    Minute,
    /// Of ten minutes.
    TenMinutes,
    /// Of an hour.
    Hour,
}

impl Tier {
    /// All, finest first.
    pub const ALL: [Self; 4] = [Self::Raw, Self::Minute, Self::TenMinutes, Self::Hour];

    /// Its number on disk.
    pub(crate) fn number(self) -> u8 {
        self as u8
    }

    /// The tier with a number.
    pub(crate) fn of(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number)).copied()
    }

    /// Milliseconds that one of its rows stands for; 0 for raw values.
    pub const fn step_millis(self) -> i64 {
        match self {
            Self::Raw => 0,
            Self::Minute => 60_000,
            Self::TenMinutes => 600_000,
            Self::Hour => 3_600_000,
        }
    }

    /// Its name in replies.
    pub fn word(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Minute => "1m",
            Self::TenMinutes => "10m",
            Self::Hour => "1h",
        }
    }

    /// The next coarser one.
    pub(super) fn coarser(self) -> Option<Self> {
        Self::of(self.number() + 1)
    }
}

/// A chunk in a segment file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ChunkRef {
    pub(crate) device: Uid,
    pub(crate) tier: Tier,
    pub(crate) first_at: i64,
    pub(crate) last_at: i64,
    pub(crate) segment: u64,
    pub(crate) offset: u64,
    pub(crate) bytes: u32,
    pub(crate) rows: u32,
    /// Whether the next coarser tier holds what it holds.
    pub(crate) is_rolled: bool,
}

/// A segment file, as the index knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SegmentInfo {
    pub(crate) number: u64,
    pub(crate) tier: Tier,
    /// Up to where it is known.
    pub(crate) bytes: u64,
    /// Bytes of its chunks that are still wanted.
    pub(crate) live_bytes: u64,
    pub(crate) live_chunks: u64,
    pub(crate) live_rows: u64,
}

impl SegmentInfo {
    /// One with nothing in it.
    pub(crate) fn new(number: u64, tier: Tier) -> Self {
        Self { number, tier, bytes: 0, live_bytes: 0, live_chunks: 0, live_rows: 0 }
    }

    /// It reaches to the end of a chunk at least.
    pub(crate) fn reach(&mut self, chunk: &ChunkRef) {
        self.bytes = self.bytes.max(chunk.offset + u64::from(chunk.bytes));
    }

    /// A chunk of it is wanted.
    pub(crate) fn add(&mut self, chunk: &ChunkRef) {
        self.reach(chunk);
        self.live_bytes += u64::from(chunk.bytes);
        self.live_chunks += 1;
        self.live_rows += u64::from(chunk.rows);
    }

    /// It is not any more.
    pub(crate) fn remove(&mut self, chunk: &ChunkRef) {
        self.live_bytes = self.live_bytes.saturating_sub(chunk.bytes.into());
        self.live_chunks = self.live_chunks.saturating_sub(1);
        self.live_rows = self.live_rows.saturating_sub(chunk.rows.into());
    }
}

/// What the engine begins with.
#[derive(Default)]
pub(crate) struct Loaded {
    /// Names the files that belong to the index.
    pub(crate) store: [u8; 16],
    /// By number; none where the row is damaged.
    pub(crate) series: Vec<Option<SavedSeries>>,
    /// The devices, also those that were deleted and are not gone yet.
    pub(crate) devices: Vec<SavedDevice>,
    pub(crate) segments: Vec<SegmentInfo>,
    pub(crate) floors: Floors,
}

/// A device, as the index knows it.
pub(crate) struct SavedDevice {
    pub(crate) uid: Uid,
    /// Whether it may report.
    pub(crate) is_live: bool,
    /// Nothing if that cannot be read.
    pub(crate) remembered: Option<Remembered>,
}

/// A series' metric and labels.
pub(crate) type SavedSeries = (String, Vec<(String, String)>);

/// Before which times each tier shows nothing, in milliseconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Floors([i64; 4]);

impl Default for Floors {
    fn default() -> Self {
        Self([i64::MIN; 4])
    }
}

impl Floors {
    /// The floor of a tier.
    pub fn of(&self, tier: Tier) -> i64 {
        self.0[usize::from(tier.number())]
    }

    /// Raises a tier's floor; it never sinks.
    pub(crate) fn raise(&mut self, tier: Tier, floor: i64) {
        let known = &mut self.0[usize::from(tier.number())];
        *known = (*known).max(floor);
    }
}

/// One change of the index.
#[derive(Default)]
pub(crate) struct Change {
    /// The number of the first of these series, and they.
    pub(crate) first_series: usize,
    pub(crate) series: Vec<Arc<SeriesName>>,
    pub(crate) added: Vec<ChunkRef>,
    /// Chunks whose values the next coarser tier now holds.
    pub(crate) rolled: Vec<ChunkRef>,
    pub(crate) removed: Vec<ChunkRef>,
    pub(crate) remembered: Vec<(Uid, Remembered)>,
    /// Devices of which nothing is remembered any more.
    pub(crate) forgotten: Vec<Uid>,
    pub(crate) floors: Option<Floors>,
}

/// The chunks of a device that are asked for.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// The last record whose values lie in chunks.
    pub(crate) applied: Option<Lsn>,
    /// In the order in which they were written.
    pub(crate) chunks: Vec<ChunkRef>,
}

/// The index. Its methods block.
pub(crate) trait Catalog: Send + Sync + 'static {
    /// All that a start needs.
    fn load(&self) -> Result<Loaded, StoreError>;

    /// Makes a change, which is on the disk when this returns. Of devices that are gone by then
    /// nothing is added. Returns the segments in which nothing is wanted any more; the index has
    /// forgotten them.
    fn commit(&self, change: Change) -> Result<Vec<u64>, StoreError>;

    /// The chunks of a device's tier that touch a time, and how far it is sealed, of one moment.
    /// With `unrolled`, only those whose values no coarser tier has.
    fn chunks(
        &self,
        device: Uid,
        tiers: &[(Tier, Unrolled)],
        from: i64,
        to: i64,
    ) -> Result<Found, StoreError>;

    /// Chunks of a tier whose last time is before a moment, at most so many, not rolled ones if so
    /// asked.
    fn chunks_before(
        &self,
        tier: Tier,
        unrolled: Unrolled,
        before: i64,
        most: usize,
    ) -> Result<Vec<ChunkRef>, StoreError>;

    /// Chunks of a tier that have values from before a moment and are not rolled, at most so many.
    fn unrolled_before(
        &self,
        tier: Tier,
        before: i64,
        most: usize,
    ) -> Result<Vec<ChunkRef>, StoreError>;

    /// The chunks in a segment.
    fn chunks_in(&self, segment: u64) -> Result<Vec<ChunkRef>, StoreError>;

    /// The segments.
    fn segments(&self) -> Result<Vec<SegmentInfo>, StoreError>;
}

/// Whether chunks that a coarser tier holds too are left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unrolled {
    /// All chunks.
    All,
    /// Only those that are not rolled.
    Only,
    /// None of those.
    Without,
}
