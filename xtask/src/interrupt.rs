//! Ctrl-C, SIGTERM and SIGHUP as something to wait for, so that every way out passes the owners
//! that clean up.

use std::fmt;
use std::io;
use std::os::fd::AsFd as _;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

/// The signals that ask this process to end.
pub struct Interrupt {
    signals: SignalFd,
}

/// Somebody asked this process to end.
#[derive(Debug)]
pub struct Interrupted;

impl fmt::Display for Interrupted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("interrupted")
    }
}

impl std::error::Error for Interrupted {}

impl Interrupt {
    /// Takes the signals over. Call before the first thread starts: threads inherit the mask.
    pub fn catch() -> io::Result<Self> {
        let mut set = SigSet::empty();
        for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
            set.add(signal);
        }
        set.thread_block()?;
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        Ok(Self { signals: SignalFd::with_flags(&set, flags)? })
    }

    /// Waits for `timeout`, or until a signal comes.
    pub fn pause(&self, timeout: Duration) -> anyhow::Result<()> {
        let mut fds = [PollFd::new(self.signals.as_fd(), PollFlags::POLLIN)];
        let millis = u16::try_from(timeout.as_millis()).unwrap_or(u16::MAX);
        match poll(&mut fds, PollTimeout::from(millis)) {
            Ok(_) => {}
            Err(Errno::EINTR) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
        if self.signals.read_signal()?.is_some() {
            return Err(Interrupted.into());
        }
        Ok(())
    }

    /// Looks every `pause` until `found` gives something, at most for `bound`; `None` is a
    /// time-out.
    pub fn until<T>(
        &self,
        bound: Duration,
        pause: Duration,
        mut found: impl FnMut() -> anyhow::Result<Option<T>>,
    ) -> anyhow::Result<Option<T>> {
        let end = Instant::now() + bound;
        loop {
            if let Some(value) = found()? {
                return Ok(Some(value));
            }
            if Instant::now() >= end {
                return Ok(None);
            }
            self.pause(pause)?;
        }
    }
}
