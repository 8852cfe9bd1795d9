//! What the ledger says: entries, and what they come to.

use std::collections::{BTreeMap, VecDeque};

use bincode::{Decode, Encode};
use fleet_core::api::Holes;
use fleet_core::codec::{self, Coded};
use fleet_core::frames;

use super::segment::StreamId;

/// Holes that are told apart; of more only the counts are kept.
pub(super) const HOLES_MAX: usize = 512;
/// Streams of which it is known how far the server has them, or that they may have been sent.
const STREAMS_MAX: usize = 64;

/// Why there is no record for a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub(super) enum Reason {
    /// There was no room for it.
    Quota,
    /// The disk did not give back what was on it.
    Damaged,
    /// The power went, or the agent was killed, before it was sure to be on the disk.
    PowerCut,
}

/// Numbers without records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub(super) struct Hole {
    pub(super) stream: StreamId,
    pub(super) from: u64,
    pub(super) to: u64,
    /// How many records were lost; other numbers between are with the server.
    pub(super) count: u64,
    pub(super) reason: Reason,
}

impl Hole {
    /// Numbers all of whose records were lost.
    pub(super) fn all(stream: StreamId, from: u64, to: u64, reason: Reason) -> Self {
        Self { stream, from, to, count: (to + 1).saturating_sub(from), reason }
    }
}

/// An entry of the ledger.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(super) enum Entry {
    /// What all before comes to.
    Totals {
        quota: u64,
        damaged: u64,
        power_cut: u64,
        unclean_ends: u64,
    },
    Hole(Hole),
    /// The server has all of a stream up to this number.
    Acked {
        stream: StreamId,
        seq: u64,
    },
    /// The agent ended without saying so.
    UncleanEnd,
    /// So many streams were begun.
    Begun {
        generation: u32,
    },
    /// A stream may have been sent.
    Sent {
        stream: StreamId,
    },
}

impl Coded for Entry {
    const TAG: u8 = 47;
    const VERSION: u8 = 1;
}

/// What the ledger says.
#[derive(Clone, Default)]
pub(super) struct Notes {
    pub(super) totals: Holes,
    /// How often the agent ended without saying so.
    pub(super) unclean_ends: u64,
    pub(super) generation: u32,
    holes: VecDeque<Hole>,
    acked: BTreeMap<StreamId, u64>,
    sent: VecDeque<StreamId>,
}

impl Notes {
    /// How far the server is known to have a stream.
    pub(super) fn acked(&self, stream: &StreamId) -> u64 {
        self.acked.get(stream).copied().unwrap_or(0)
    }

    /// Numbers of a stream without records.
    pub(super) fn holes_of(&self, stream: &StreamId) -> Vec<(u64, u64)> {
        let holes = self.holes.iter().filter(|hole| hole.stream == *stream);
        holes.map(|hole| (hole.from, hole.to)).collect()
    }

    /// Whether these numbers of a stream were dropped together because there was no room.
    pub(super) fn was_dropped(&self, stream: &StreamId, from: u64, to: u64) -> bool {
        self.holes.iter().any(|hole| {
            (hole.stream, hole.reason) == (*stream, Reason::Quota)
                && hole.from <= from
                && to <= hole.to
        })
    }

    /// Whether a stream may have been sent.
    pub(super) fn was_sent(&self, stream: &StreamId) -> bool {
        self.sent.contains(stream)
    }

    /// Takes note of an entry.
    pub(super) fn take(&mut self, entry: &Entry) {
        match entry {
            Entry::Totals { quota, damaged, power_cut, unclean_ends } => {
                self.totals = Holes { quota: *quota, damaged: *damaged, power_cut: *power_cut };
                self.unclean_ends = *unclean_ends;
            }
            Entry::Hole(hole) => {
                let total = match hole.reason {
                    Reason::Quota => &mut self.totals.quota,
                    Reason::Damaged => &mut self.totals.damaged,
                    Reason::PowerCut => &mut self.totals.power_cut,
                };
                *total = total.saturating_add(hole.count);
                self.add(*hole);
            }
            Entry::Acked { stream, seq } => {
                if self.acked.len() < STREAMS_MAX || self.acked.contains_key(stream) {
                    let acked = self.acked.entry(*stream).or_default();
                    *acked = (*acked).max(*seq);
                }
            }
            Entry::UncleanEnd => self.unclean_ends = self.unclean_ends.saturating_add(1),
            Entry::Begun { generation } => self.generation = self.generation.max(*generation),
            Entry::Sent { stream } => {
                self.sent.retain(|known| known != stream);
                if self.sent.len() == STREAMS_MAX {
                    self.sent.pop_front();
                }
                self.sent.push_back(*stream);
            }
        }
    }

    /// Adds what other notes say.
    pub(super) fn join(&mut self, other: Self) {
        let Self { totals, unclean_ends, generation, holes, acked, sent } = other;
        self.totals.quota = self.totals.quota.saturating_add(totals.quota);
        self.totals.damaged = self.totals.damaged.saturating_add(totals.damaged);
        self.totals.power_cut = self.totals.power_cut.saturating_add(totals.power_cut);
        self.unclean_ends = self.unclean_ends.saturating_add(unclean_ends);
        self.generation = self.generation.max(generation);
        for hole in holes {
            self.add(hole);
        }
        self.acked.extend(acked);
        self.sent.extend(sent);
    }

    /// Forgets all but which streams were sent: a power cut may bring files of theirs back.
    pub(super) fn forget(&mut self) {
        let (generation, sent) = (self.generation, std::mem::take(&mut self.sent));
        *self = Self { generation, sent, ..Self::default() };
    }

    /// Forgets how far the server has streams that are gone.
    pub(super) fn forget_others(&mut self, is_there: impl Fn(&StreamId) -> bool) {
        self.acked.retain(|stream, _| is_there(stream));
    }

    /// Holes right after each other are one.
    fn add(&mut self, hole: Hole) {
        if let Some(last) = self.holes.back_mut()
            && (last.stream, last.reason) == (hole.stream, hole.reason)
            && last.to.checked_add(1) == Some(hole.from)
        {
            last.to = hole.to;
            last.count = last.count.saturating_add(hole.count);
            return;
        }
        if self.holes.len() == HOLES_MAX {
            self.holes.pop_front();
        }
        self.holes.push_back(hole);
    }

    /// All of it, as a file.
    pub(super) fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        // Also those of streams that are gone: a power cut may bring files of theirs back.
        for hole in &self.holes {
            put(&mut bytes, &Entry::Hole(*hole));
        }
        for (stream, seq) in &self.acked {
            put(&mut bytes, &Entry::Acked { stream: *stream, seq: *seq });
        }
        for stream in &self.sent {
            put(&mut bytes, &Entry::Sent { stream: *stream });
        }
        put(&mut bytes, &Entry::Begun { generation: self.generation });
        // These come last, because they hold all that is counted before.
        let Holes { quota, damaged, power_cut } = self.totals;
        let unclean_ends = self.unclean_ends;
        put(&mut bytes, &Entry::Totals { quota, damaged, power_cut, unclean_ends });
        bytes
    }
}

/// Appends an entry in its frame.
pub(super) fn put(out: &mut Vec<u8>, entry: &Entry) {
    let payload = codec::encode(entry).expect("an entry is small");
    frames::put(out, |out| out.extend(payload));
}
