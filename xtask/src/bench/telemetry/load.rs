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

/// A set on its way to a server.
pub(super) struct Senders {
    parts: Vec<Reports>,
    shape: Shape,
}

/// A thread's part of the load.
struct Sender<'a> {
    reports: &'a mut Reports,
    connections: Vec<Connection>,
    count: usize,
    until: i64,
}

/// What was sent.
pub(super) struct Sent {
    pub(super) reports: u64,
    /// Until the last answer.
    pub(super) took: Duration,
}

impl Senders {
    /// A set whose last moment is `end`, nothing of it sent yet.
    pub(super) fn new(set: Set, end: i64, shape: Shape) -> Self {
        let first = |number| set.devices * number / shape.senders;
        let part = |number| Reports::new(first(number)..first(number + 1), set, end);
        Self { parts: (0..shape.senders).map(part).collect(), shape }
    }

    /// Sends what is left up to the moment `until`.
    pub(super) fn send(&mut self, peer: &Peer<'_>, until: i64) -> anyhow::Result<Sent> {
        let Shape { connections, reports: count, .. } = self.shape;
        let connect = || (0..connections).map(|_| peer.connect()).collect::<anyhow::Result<_>>();
        let sender = |reports| Ok(Sender { reports, connections: connect()?, count, until });
        let senders: Vec<_> = self.parts.iter_mut().map(sender).collect::<anyhow::Result<_>>()?;
        let stop = AtomicBool::new(false);
        let started = Instant::now();
        thread::scope(|scope| {
            let stop = &stop;
            let start = |sender| {
                let run = move |sender: Sender<'_>| {
                    let sent = sender.run(stop);
                    // A load with a part missing is of no use.
                    stop.fetch_or(sent.is_err(), Ordering::Relaxed);
                    Ok((sent?, started.elapsed()))
                };
                scope.spawn(move || run(sender))
            };
            let threads: Vec<_> = senders.into_iter().map(start).collect();
            let mut waited = Ok(());
            while waited.is_ok() && !threads.iter().all(thread::ScopedJoinHandle::is_finished) {
                waited = peer.interrupt().pause(LOOK_EVERY);
            }
            stop.store(true, Ordering::Relaxed);
            waited?;
            let mut all = Sent { reports: 0, took: Duration::ZERO };
            for thread in threads {
                let joined: anyhow::Result<_> = thread.join().ok().context("a sender panicked")?;
                let (sent, took) = joined?;
                all.reports += sent;
                all.took = all.took.max(took);
            }
            Ok(all)
        })
    }
}

impl Sender<'_> {
    /// Says how many reports were taken.
    fn run(mut self, stop: &AtomicBool) -> anyhow::Result<u64> {
        let mut lines = Vec::with_capacity(self.count * LINE_BYTES);
        let mut idle: Vec<usize> = (0..self.connections.len()).collect();
        let mut busy = Vec::new();
        let mut sent = 0;
        loop {
            while let Some(number) = idle.pop() {
                lines.clear();
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                match self.reports.render(self.count, self.until, &mut lines) {
                    0 => break,
                    rendered => sent += rendered as u64,
                }
                self.connections[number].post(WRITE, &lines)?;
                busy.push(number);
            }
            if busy.is_empty() {
                return Ok(sent);
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
