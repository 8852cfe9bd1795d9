//! Reports that wait for the server: numbered without gaps, oldest first, bounded in number and
//! bytes. When there is no room the oldest give way, and the gap in the numbers says so.
//!
//! A report leaves the queue when the server says that it is on its disk, not when it was sent.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use bincode::{Decode, Encode};
use fleet_core::api::QueueView;
use fleet_core::codec::{self, CodecError, Coded};
use fleet_core::limits::{CODEC_BYTES_MAX, FRAME_REPORTS_MAX};
use fleet_core::metric::Sample;
use fleet_core::time::Timestamp;
use fleet_core::wire::{QueuedReport, Samples};
use tokio::sync::Notify;

/// Reports that wait at most.
const REPORTS_MAX: usize = 10_000;
/// Bytes of all reports that wait.
const BYTES_MAX: usize = 4 * 1024 * 1024;
/// Bytes of reports in one frame; a single larger report still gets one of its own.
const FRAME_BYTES: usize = 128 * 1024;
/// What a report costs besides its samples: its number, times and headers.
const OVERHEAD_BYTES: usize = 64;
/// Bytes of one report's samples. A larger one would fit in no frame and keep all others waiting.
const PACKED_BYTES_MAX: usize = CODEC_BYTES_MAX - OVERHEAD_BYTES;

/// Samples as they wait: packed, because on a small device most of a report's memory would be
/// the headers of its strings.
#[derive(Encode, Decode)]
struct Packed {
    samples: Vec<Sample>,
}

impl Coded for Packed {
    const TAG: u8 = 44;
    const VERSION: u8 = 1;
}

/// The queue between the collectors and the link.
pub struct Queue {
    limits: Limits,
    inner: Mutex<Inner>,
    pushed: Notify,
}

#[derive(Clone, Copy)]
struct Limits {
    reports: usize,
    bytes: usize,
}

struct Inner {
    stream: [u8; 16],
    next_seq: u64,
    waiting: VecDeque<Waiting>,
    bytes: usize,
    dropped: u64,
}

struct Waiting {
    seq: u64,
    at: Timestamp,
    collected: Instant,
    packed: Box<[u8]>,
}

impl Waiting {
    fn bytes(&self) -> usize {
        self.packed.len() + OVERHEAD_BYTES
    }
}

/// A report that the server has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Acknowledged {
    /// Its number.
    pub seq: u64,
    /// When it was collected.
    pub at: Timestamp,
}

impl Queue {
    /// An empty one, with a stream of its own.
    pub fn new() -> Result<Self, getrandom::Error> {
        Self::with_limits(Limits { reports: REPORTS_MAX, bytes: BYTES_MAX })
    }

    fn with_limits(limits: Limits) -> Result<Self, getrandom::Error> {
        let mut stream = [0; 16];
        getrandom::fill(&mut stream)?;
        let inner = Inner { stream, next_seq: 1, waiting: VecDeque::new(), bytes: 0, dropped: 0 };
        Ok(Self { limits, inner: Mutex::new(inner), pushed: Notify::new() })
    }

    /// Adds what was collected at one time.
    pub fn push(
        &self,
        at: Timestamp,
        collected: Instant,
        samples: Vec<Sample>,
    ) -> Result<(), CodecError> {
        let packed = codec::encode(&Packed { samples })?.into_boxed_slice();
        if packed.len() > PACKED_BYTES_MAX {
            return Err(CodecError::TooLarge);
        }
        let mut inner = self.lock();
        let report = Waiting { seq: inner.next_seq, at, collected, packed };
        inner.next_seq += 1;
        inner.bytes += report.bytes();
        inner.waiting.push_back(report);
        inner.make_room(self.limits);
        drop(inner);
        self.pushed.notify_one();
        Ok(())
    }

    /// Lets go of everything, for another server, which counts from one.
    pub fn begin_anew(&self) -> Result<(), getrandom::Error> {
        let mut stream = [0; 16];
        let filled = getrandom::fill(&mut stream);
        let mut inner = self.lock();
        inner.waiting.clear();
        inner.bytes = 0;
        filled?;
        inner.stream = stream;
        inner.next_seq = 1;
        Ok(())
    }

    /// Waits until something was added since the last wait ended.
    pub async fn pushed(&self) {
        self.pushed.notified().await;
    }

    /// The oldest reports with larger numbers than `seq`, as many as make a good frame.
    pub fn after(&self, seq: u64) -> Option<Samples> {
        let inner = self.lock();
        let first = inner.waiting.partition_point(|report| report.seq <= seq);
        let mut bytes = 0;
        let mut reports = Vec::new();
        for report in inner.waiting.range(first..).take(FRAME_REPORTS_MAX) {
            bytes += report.bytes();
            if bytes > FRAME_BYTES && !reports.is_empty() {
                break;
            }
            reports.push(report.unpack());
        }
        (!reports.is_empty()).then_some(Samples { stream: inner.stream, reports })
    }

    /// Lets go of what the server has, and says what that was.
    pub fn acknowledge(&self, stream: [u8; 16], seq: u64) -> Vec<Acknowledged> {
        let mut inner = self.lock();
        if stream != inner.stream {
            return Vec::new();
        }
        let count = inner.waiting.partition_point(|report| report.seq <= seq);
        let taken: Vec<Waiting> = inner.waiting.drain(..count).collect();
        inner.bytes -= taken.iter().map(Waiting::bytes).sum::<usize>();
        taken.iter().map(|report| Acknowledged { seq: report.seq, at: report.at }).collect()
    }

    /// How much waits.
    pub fn view(&self) -> QueueView {
        let inner = self.lock();
        QueueView { waiting: inner.waiting.len() as u64, dropped: inner.dropped }
    }

    /// No code that holds the lock can leave the numbers wrong by a panic.
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// The newest report always stays.
    fn make_room(&mut self, limits: Limits) {
        while self.waiting.len() > limits.reports
            || (self.bytes > limits.bytes && self.waiting.len() > 1)
        {
            let Some(oldest) = self.waiting.pop_front() else { return };
            self.bytes -= oldest.bytes();
            self.dropped += 1;
        }
    }
}

impl Waiting {
    fn unpack(&self) -> QueuedReport {
        let Packed { samples } =
            codec::decode(&self.packed).expect("what this process packed can be unpacked");
        let age_millis = u64::try_from(self.collected.elapsed().as_millis()).unwrap_or(u64::MAX);
        QueuedReport { seq: self.seq, at_millis: self.at.millis(), age_millis, samples }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn push(queue: &Queue, value: u32) {
        let at = Timestamp::from_millis(i64::from(value));
        let samples = vec![Sample::new("cpu_usage", f64::from(value))];
        queue.push(at, Instant::now(), samples).unwrap();
    }

    fn waiting(queue: &Queue) -> Vec<u64> {
        let samples = queue.after(0);
        samples.iter().flat_map(|samples| &samples.reports).map(|report| report.seq).collect()
    }

    #[test]
    fn reports_wait_until_the_server_has_them() {
        let queue = Queue::new().unwrap();
        assert_eq!(queue.after(0), None);
        (1..=5).for_each(|value| push(&queue, value));
        let sent = queue.after(0).unwrap();
        assert_eq!(waiting(&queue), [1, 2, 3, 4, 5]);
        assert_eq!(sent.reports[2].samples, [Sample::new("cpu_usage", 3.0)]);
        assert_eq!(queue.after(4).unwrap().reports.len(), 1);

        assert_eq!(queue.acknowledge([9; 16], 5), []);
        let taken = queue.acknowledge(sent.stream, 2);
        let acknowledged = |seq| Acknowledged { seq, at: Timestamp::from_millis(seq as i64) };
        assert_eq!(taken, [acknowledged(1), acknowledged(2)]);
        assert_eq!(waiting(&queue), [3, 4, 5]);
        assert_eq!(queue.view(), QueueView { waiting: 3, dropped: 0 });
    }

    #[test]
    fn the_oldest_give_way_and_the_numbers_show_it() {
        let queue = Queue::with_limits(Limits { reports: 3, bytes: BYTES_MAX }).unwrap();
        (1..=5).for_each(|value| push(&queue, value));
        assert_eq!(waiting(&queue), [3, 4, 5]);
        assert_eq!(queue.view(), QueueView { waiting: 3, dropped: 2 });

        let one = codec::encode(&Packed { samples: vec![Sample::new("cpu_usage", 1.0)] }).unwrap();
        let bytes = 2 * (one.len() + OVERHEAD_BYTES);
        let queue = Queue::with_limits(Limits { reports: 100, bytes }).unwrap();
        (1..=5).for_each(|value| push(&queue, value));
        assert_eq!(waiting(&queue), [4, 5]);
        queue.acknowledge(queue.after(0).unwrap().stream, 5);
        assert_eq!(queue.lock().bytes, 0);
    }

    #[test]
    fn a_frame_is_bounded() {
        let queue = Queue::new().unwrap();
        (0..1_000).for_each(|value| push(&queue, value));
        assert_eq!(queue.after(0).unwrap().reports.len(), FRAME_REPORTS_MAX);
        let many = |count| vec![Sample::new("cpu_usage", 1.0); count];
        let queue = Queue::new().unwrap();
        for _ in 0..10 {
            queue.push(Timestamp::from_millis(0), Instant::now(), many(2_000)).unwrap();
        }
        let reports = queue.after(0).unwrap().reports.len();
        assert!((2..10).contains(&reports), "{reports}");
    }
    #[test]
    fn what_is_taken_fits_in_a_frame() {
        use fleet_core::wire::ToServer;

        let mut taken = 0;
        for spare in (0..2 * OVERHEAD_BYTES).step_by(4) {
            let queue = Queue::new().unwrap();
            let samples = vec![Sample::new(&"n".repeat(CODEC_BYTES_MAX - spare), 1.0)];
            if queue.push(Timestamp::from_millis(i64::MAX), Instant::now(), samples).is_ok() {
                taken += 1;
                codec::encode(&ToServer::Samples(queue.after(0).unwrap())).unwrap();
            }
        }
        assert!(taken > 0, "some are small enough");
    }
}
