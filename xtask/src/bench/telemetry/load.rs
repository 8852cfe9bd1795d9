//! Reports sent as fast as they are taken: every connection sends its next request when the last
//! one was answered, and never before.

use std::os::fd::AsFd as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::data::{LINE_BYTES, Reports, Set};
use super::http::Connection;
use super::peers::Peer;

/// Where both servers take lines.
const WRITE: &str = "/write";
/// What they answer when they have them.
const STORED: u16 = 204;
/// How long no connection at all may hear an answer.
const SILENCE_MAX: u16 = 60_000;
/// Between two looks whether all is sent.
const LOOK_EVERY: Duration = Duration::from_millis(2);

/// How reports are sent.
#[derive(Clone, Copy)]
pub(super) struct Shape {
    /// Threads, each with devices of its own, so that no device's reports overtake each other.
    senders: u32,
    /// Connections of each.
    connections: usize,
    /// Reports of a request.
    reports: usize,
}

impl Shape {
    /// As a gateway sends that collects what a whole fleet reports.
    pub(super) const BULK: Self = Self { senders: 4, connections: 1, reports: 1000 };
    /// As devices send that know nothing but HTTP.
    pub(super) const SINGLE: Self = Self { senders: 1, connections: 64, reports: 1 };
}

/// Sends the reports of a set, whose last moment is `end`; says how long that took until the last
/// answer.
pub(super) fn send(peer: &Peer<'_>, set: Set, end: i64, shape: Shape) -> anyhow::Result<Duration> {
    let mut senders = Vec::new();
    for number in 0..shape.senders {
        let first = |number| set.devices * number / shape.senders;
        let reports = Reports::new(first(number)..first(number + 1), set, end);
        let connections = (0..shape.connections).map(|_| peer.connect());
        let connections = connections.collect::<anyhow::Result<_>>()?;
        senders.push(Sender { reports, connections, count: shape.reports });
    }
    let stop = AtomicBool::new(false);
    let started = Instant::now();
    thread::scope(|scope| {
        let threads: Vec<_> = senders
            .into_iter()
            .map(|sender| {
                let stop = &stop;
                scope.spawn(move || sender.run(stop).map(|()| started.elapsed()))
            })
            .collect();
        let mut waited = Ok(());
        while waited.is_ok() && !threads.iter().all(thread::ScopedJoinHandle::is_finished) {
            waited = peer.interrupt().pause(LOOK_EVERY);
        }
        stop.store(true, Ordering::Relaxed);
        waited?;
        let mut took = Duration::ZERO;
        for thread in threads {
            let sent = thread.join().ok().context("a sender panicked")?;
            took = took.max(sent?);
        }
        Ok(took)
    })
}

/// A thread's part of the load.
struct Sender {
    reports: Reports,
    connections: Vec<Connection>,
    count: usize,
}

impl Sender {
    fn run(mut self, stop: &AtomicBool) -> anyhow::Result<()> {
        let mut lines = Vec::with_capacity(self.count * LINE_BYTES);
        let mut idle: Vec<usize> = (0..self.connections.len()).collect();
        let mut busy = Vec::new();
        loop {
            while let Some(number) = idle.pop() {
                lines.clear();
                let is_over = stop.load(Ordering::Relaxed);
                if is_over || self.reports.render(self.count, &mut lines) == 0 {
                    idle.clear();
                } else {
                    self.connections[number].post(WRITE, &lines)?;
                    busy.push(number);
                }
            }
            if busy.is_empty() {
                return Ok(());
            }
            for number in self.answered(&busy)? {
                self.connections[number].expect(STORED)?;
                busy.retain(|other| *other != number);
                idle.push(number);
            }
        }
    }

    /// Those of the connections that have an answer; waits for the first.
    fn answered(&self, busy: &[usize]) -> anyhow::Result<Vec<usize>> {
        let fd = |number: &usize| PollFd::new(self.connections[*number].as_fd(), PollFlags::POLLIN);
        let mut fds: Vec<_> = busy.iter().map(fd).collect();
        match poll(&mut fds, PollTimeout::from(SILENCE_MAX)) {
            Ok(0) => bail!("no answer within {} s", SILENCE_MAX / 1000),
            Ok(_) => {}
            Err(Errno::EINTR) => return Ok(Vec::new()),
            Err(error) => return Err(error.into()),
        }
        let ready = busy.iter().zip(&fds).filter(|(_, fd)| fd.any().unwrap_or(true));
        Ok(ready.map(|(number, _)| *number).collect())
    }
}
