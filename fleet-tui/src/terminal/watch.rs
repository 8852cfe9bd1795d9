//! A thread that watches over the others: for signals, and for a terminal that has gone.
//!
//! Whoever reads a terminal that is gone may spin, and whoever writes to one that is stuck may wait
//! for ever. This thread does neither, so the program ends when it should: by itself if it can, from
//! here if it does not in time.

use std::io;
use std::process::exit;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tokio::runtime;
use tokio::signal::unix::{Signal as Stream, SignalKind, signal};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use super::guard::give_back;

/// Between two looks whether the terminal is still there.
const LOOK: Duration = Duration::from_millis(250);
/// How long the program may take to end after its terminal has gone.
const GONE_GRACE: Duration = Duration::from_millis(500);
/// How long it may take after it was told to end.
const END_GRACE: Duration = Duration::from_secs(2);
/// Signals that wait to be heard; further ones say nothing new.
const SIGNALS_MAX: usize = 16;

/// How the terminal is.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Condition {
    /// Nobody is there any more.
    pub(super) is_gone: bool,
    /// How often its size may have changed.
    pub(super) resizes: u64,
    /// How often the program went on after a stop.
    pub(super) continues: u64,
}

/// What the system wants. That the window has another size comes with the input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// End.
    Terminate,
    /// End, said a person.
    Interrupt,
    /// The terminal goes away.
    Hangup,
    /// Make room for the shell.
    Suspend,
    /// Go on after a stop.
    Continue,
}

impl Signal {
    /// What a program ends with that ends for this reason; none if it is no reason.
    pub fn exit_code(self) -> Option<u8> {
        match self {
            Self::Hangup => Some(129),
            Self::Interrupt => Some(130),
            Self::Terminate => Some(143),
            Self::Suspend | Self::Continue => None,
        }
    }
}

/// Signals, one after the other.
#[derive(Debug)]
pub struct Signals(mpsc::Receiver<Signal>);

impl Signals {
    /// The next one; none when the terminal was given back.
    pub async fn next(&mut self) -> Option<Signal> {
        self.0.recv().await
    }
}

/// The thread; it ends when this is dropped.
pub(super) struct Watch {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Watch {
    /// Starts to watch.
    pub(super) fn start() -> io::Result<(Self, Signals, watch::Receiver<Condition>)> {
        let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
        let (signals, heard) = mpsc::channel(SIGNALS_MAX);
        let (condition, seen) = watch::channel(Condition::default());
        let (stop, stopped) = oneshot::channel();
        let watcher = {
            // The streams belong to this runtime.
            let _entered = runtime.enter();
            Watcher { streams: Streams::open()?, signals, condition, deadline: None }
        };
        let thread = thread::Builder::new().name("terminal".into()).spawn(move || {
            runtime.block_on(watcher.run(stopped));
        })?;
        Ok((Self { stop: Some(stop), thread: Some(thread) }, Signals(heard), seen))
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // It has nothing to tell, and a panic in it has ended the program.
            let _ = thread.join();
        }
    }
}

struct Watcher {
    streams: Streams,
    signals: mpsc::Sender<Signal>,
    condition: watch::Sender<Condition>,
    /// When the program ends from here, and with what.
    deadline: Option<(Instant, u8)>,
}

impl Watcher {
    async fn run(mut self, mut stopped: oneshot::Receiver<()>) {
        let mut look = interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let deadline = self.deadline;
            tokio::select! {
                _ = &mut stopped => return,
                signal = self.streams.next() => match signal {
                    Some(signal) => self.hear(signal),
                    None => self.condition.send_modify(|condition| condition.resizes += 1),
                },
                _ = look.tick() => self.look(),
                code = reached(deadline) => {
                    give_back();
                    exit(code.into());
                }
            }
        }
    }

    fn hear(&mut self, signal: Signal) {
        if let Some(code) = signal.exit_code() {
            self.end_within(END_GRACE, code);
        }
        if signal == Signal::Hangup {
            self.leave();
        }
        if signal == Signal::Continue {
            self.condition.send_modify(|condition| condition.continues += 1);
            // A terminal that goes away wakes its programs too, and there is nothing to go on with.
            self.look();
            if self.condition.borrow().is_gone {
                return;
            }
        }
        // A full queue has enough reasons in it.
        let _ = self.signals.try_send(signal);
    }

    fn look(&mut self) {
        if !self.condition.borrow().is_gone && is_gone() {
            self.leave();
            let _ = self.signals.try_send(Signal::Hangup);
        }
    }

    fn leave(&mut self) {
        self.condition.send_modify(|condition| condition.is_gone = true);
        self.end_within(GONE_GRACE, 129);
    }

    fn end_within(&mut self, grace: Duration, code: u8) {
        let at = Instant::now() + grace;
        if self.deadline.is_none_or(|(deadline, _)| at < deadline) {
            self.deadline = Some((at, code));
        }
    }
}

async fn reached(deadline: Option<(Instant, u8)>) -> u8 {
    match deadline {
        Some((at, code)) => {
            sleep_until(at).await;
            code
        }
        None => std::future::pending().await,
    }
}

/// Whether nobody is on the other side of the terminal any more.
fn is_gone() -> bool {
    let stdin = io::stdin();
    let mut fds = [PollFd::new(std::os::fd::AsFd::as_fd(&stdin), PollFlags::empty())];
    let away = PollFlags::POLLHUP | PollFlags::POLLERR | PollFlags::POLLNVAL;
    poll(&mut fds, PollTimeout::ZERO).is_ok()
        && fds[0].revents().is_some_and(|events| events.intersects(away))
}

/// The system's signals.
struct Streams {
    terminate: Stream,
    quit: Stream,
    interrupt: Stream,
    hangup: Stream,
    suspend: Stream,
    go_on: Stream,
    resize: Stream,
}

impl Streams {
    fn open() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            quit: signal(SignalKind::quit())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
            suspend: signal(SignalKind::from_raw(nix::libc::SIGTSTP))?,
            go_on: signal(SignalKind::from_raw(nix::libc::SIGCONT))?,
            resize: signal(SignalKind::window_change())?,
        })
    }

    /// The next signal; none for another size of the window.
    async fn next(&mut self) -> Option<Signal> {
        Some(tokio::select! {
            _ = self.terminate.recv() => Signal::Terminate,
            _ = self.quit.recv() => Signal::Terminate,
            _ = self.interrupt.recv() => Signal::Interrupt,
            _ = self.hangup.recv() => Signal::Hangup,
            _ = self.suspend.recv() => Signal::Suspend,
            _ = self.go_on.recv() => Signal::Continue,
            _ = self.resize.recv() => return None,
        })
    }
}
