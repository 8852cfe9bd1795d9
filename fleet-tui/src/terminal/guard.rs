//! The terminal is taken over, and given back exactly as it was: at the end, in a panic of any
//! thread or task, when a signal ends the program, and while it is suspended.
//!
//! Whose the terminal is at the moment is one flag for the process. Every write passes it, so nothing
//! is painted over the shell by a task that has not heard of the end yet.

use std::fs::File;
use std::io::{self, IsTerminal as _, Write};
use std::os::fd::AsFd as _;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};
use std::thread;
use std::time::{Duration, Instant};

use fleet_core::untrusted::write_escaped;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal as Unix, kill};
use nix::sys::termios::{FlushArg, SetArg, Termios, cfmakeraw, tcflush, tcgetattr, tcsetattr};
use nix::unistd::Pid;
use tokio::sync::watch;

use super::caps::Caps;
use super::input::Inputs;
use super::watch::{Condition, Signals, Watch};
use super::{job, panic};

/// Alternate screen, no cursor, pasted text marked as such.
const TAKE: &str = "\x1b[?1049h\x1b[?25l\x1b[?2004h";
const MOUSE_ON: &str = "\x1b[?1000h\x1b[?1006h";
const MOUSE_OFF: &str = "\x1b[?1000l\x1b[?1006l";
/// Everything that this program ever sets, also what a frame may have left half done.
const GIVE_BACK: &str = "\x1b[?2026l\x1b[?1000l\x1b[?1006l\x1b[?2004l\x1b[?1004l\x1b[r\x1b[0m\x1b[?25h\
                         \x1b[?1049l";
/// The terminal keeps its title aside, and takes it back.
const TITLE_PUSH: &str = "\x1b[22;2t";
const TITLE_POP: &str = "\x1b[23;2t";
const TITLE_CHARS_MAX: usize = 80;
/// How long the end waits for a write that does not end, and for a terminal that takes nothing.
const GIVE_BACK_PATIENCE: Duration = Duration::from_millis(200);
/// How long a stop may take to reach every thread.
const STOP_PATIENCE: Duration = Duration::from_secs(1);
const RETRY: Duration = Duration::from_millis(5);

/// Whose the terminal is. Locked while something is written.
static GATE: Mutex<Gate> = Mutex::new(Gate { is_ours: false, has_mouse: false, has_title: false });
/// How the terminal was. Never locked for long.
static BEFORE: Mutex<Option<Termios>> = Mutex::new(None);

struct Gate {
    is_ours: bool,
    has_mouse: bool,
    has_title: bool,
}

/// Why the terminal was not taken. Nothing has been changed then.
#[derive(Debug, thiserror::Error)]
pub enum TerminalError {
    /// Not a terminal.
    #[error("standard {0} is not a terminal; `fleets devices list` prints the fleet without one")]
    NotATerminal(&'static str),
    /// It cannot move its cursor.
    #[error(
        "this terminal cannot move its cursor (TERM is {0}); `fleets devices list` prints the fleet \
         without that"
    )]
    Dumb(&'static str),
    /// It refused.
    #[error("cannot take over the terminal")]
    Refused(#[source] io::Error),
}

impl TerminalError {
    /// What the program ends with: wrong use.
    pub const EXIT_CODE: u8 = 2;
}

/// Why the program did not stop and come back.
#[derive(Debug, thiserror::Error)]
pub enum SuspendError {
    /// It goes on as if nothing had been asked for.
    #[error("there is no shell here that could call the console back")]
    NoShell,
    /// It is not to be had any more.
    #[error("cannot take over the terminal again")]
    Terminal(#[source] io::Error),
}

/// The terminal, taken over.
pub struct Taken {
    /// Gives it back when dropped.
    pub guard: Guard,
    /// Where frames go.
    pub output: Output,
    /// What is typed.
    pub inputs: Inputs,
    /// What the system wants.
    pub signals: Signals,
}

/// Gives the terminal back when dropped.
pub struct Guard {
    has_title: bool,
    condition: watch::Receiver<Condition>,
    // Ends with the guard.
    _watch: Watch,
}

impl Guard {
    /// Takes the terminal over. Reports of panics go into `report_folder`, and from here on every
    /// panic ends the program, because a console without its task looks alive and is not.
    pub fn take(caps: &Caps, report_folder: PathBuf) -> Result<Taken, TerminalError> {
        for (name, is_terminal) in
            [("input", io::stdin().is_terminal()), ("output", io::stdout().is_terminal())]
        {
            if !is_terminal {
                return Err(TerminalError::NotATerminal(name));
            }
        }
        if caps.is_dumb {
            let is_set = std::env::var_os("TERM").is_some_and(|term| !term.is_empty());
            return Err(TerminalError::Dumb(if is_set { "dumb" } else { "not set" }));
        }
        Self::seize(caps.has_title, report_folder).map_err(TerminalError::Refused)
    }

    fn seize(has_title: bool, report_folder: PathBuf) -> io::Result<Taken> {
        let file = File::from(io::stdout().as_fd().try_clone_to_owned()?);
        *lock(&BEFORE) = Some(tcgetattr(io::stdin())?);
        panic::install(report_folder);
        let (watch, signals, condition) = Watch::start()?;
        // From here on the drop of the guard mends what fails.
        let guard = Self { has_title, condition: condition.clone(), _watch: watch };
        guard.retake()?;
        let inputs = Inputs::start(condition)?;
        Ok(Taken { guard, output: Output { file }, inputs, signals })
    }

    /// Takes the terminal over again, after a stop that came from outside or after a program that
    /// used it. The screen must be painted anew then.
    pub fn retake(&self) -> io::Result<()> {
        let mut raw = lock(&BEFORE).clone().ok_or(io::ErrorKind::NotFound)?;
        cfmakeraw(&mut raw);
        set_modes(&raw)?;
        let mut gate = lock(&GATE);
        gate.is_ours = true;
        let mouse = if gate.has_mouse { MOUSE_ON } else { "" };
        write_terminal(&format!("{TAKE}{mouse}"))
    }

    /// Gives the terminal back, stops, and takes it over again when somebody calls the program to
    /// the front. Everything that was started with it stops too. The screen must be painted anew.
    pub fn suspend(&self) -> Result<(), SuspendError> {
        if !job::has_shell() {
            return Err(SuspendError::NoShell);
        }
        self.stop().map_err(SuspendError::Terminal)
    }

    fn stop(&self) -> io::Result<()> {
        let before = self.condition.borrow().continues;
        give_back();
        kill(Pid::from_raw(0), Unix::SIGSTOP)?;
        // The stop may begin with another thread. The clock goes on meanwhile, so this ends at the
        // latest right after it.
        let deadline = Instant::now() + STOP_PATIENCE;
        while self.condition.borrow().continues == before && Instant::now() < deadline {
            thread::sleep(RETRY);
        }
        self.retake()
    }

    /// Sets the terminal's title, where it has one.
    pub fn set_title(&self, title: &str) -> io::Result<()> {
        let mut gate = lock(&GATE);
        if !self.has_title || !gate.is_ours {
            return Ok(());
        }
        let mut text = if gate.has_title { String::new() } else { TITLE_PUSH.to_owned() };
        gate.has_title = true;
        text.push_str("\x1b]2;");
        write_escaped(&mut text, title, TITLE_CHARS_MAX).map_err(io::Error::other)?;
        text.push_str("\x1b\\");
        write_terminal(&text)
    }

    /// Whether clicks and the wheel are ours rather than the terminal's.
    pub fn set_mouse(&self, is_wanted: bool) -> io::Result<()> {
        let mut gate = lock(&GATE);
        gate.has_mouse = is_wanted;
        if !gate.is_ours {
            return Ok(());
        }
        write_terminal(if is_wanted { MOUSE_ON } else { MOUSE_OFF })
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        give_back();
    }
}

/// The way to the terminal, without a buffer: one write is one write. It is closed while the terminal
/// is not ours.
#[derive(Debug)]
pub struct Output {
    file: File,
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let gate = lock(&GATE);
        if !gate.is_ours {
            return Err(io::Error::new(io::ErrorKind::BrokenPipe, "the terminal was given back"));
        }
        loop {
            match self.file.write(bytes) {
                // Somebody who shares the terminal has asked for this.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    is_writable(&self.file, PollTimeout::NONE)?;
                }
                other => return other,
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Gives the terminal back, if it is ours. Does not wait for long, whatever state it is in.
pub(super) fn give_back() {
    if let Some(mut gate) = lock_soon(&GATE) {
        if !gate.is_ours {
            return;
        }
        gate.is_ours = false;
        let title = if std::mem::take(&mut gate.has_title) { TITLE_POP } else { "" };
        let patience = PollTimeout::try_from(GIVE_BACK_PATIENCE).unwrap_or(PollTimeout::ZERO);
        if is_writable(&io::stdout(), patience).unwrap_or(false) {
            // It fails only when the terminal has gone.
            let _ = write_terminal(&format!("{GIVE_BACK}{title}"));
        }
    }
    // What was typed for this program is not for the shell.
    let _ = tcflush(io::stdin(), FlushArg::TCIFLUSH);
    if let Some(before) = lock(&BEFORE).as_ref() {
        let _ = set_modes(before);
    }
}

fn set_modes(modes: &Termios) -> io::Result<()> {
    loop {
        match tcsetattr(io::stdin(), SetArg::TCSANOW, modes) {
            // A program in the background is stopped here and comes back when it is called.
            Err(Errno::EINTR) => {}
            other => return other.map_err(Into::into),
        }
    }
}

/// Writes past every buffer; only with the gate locked.
fn write_terminal(text: &str) -> io::Result<()> {
    let mut rest = text.as_bytes();
    while !rest.is_empty() {
        match nix::unistd::write(io::stdout(), rest) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => rest = &rest[count..],
            Err(Errno::EINTR) => {}
            Err(Errno::EAGAIN) => {
                is_writable(&io::stdout(), PollTimeout::NONE)?;
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

fn is_writable(file: &impl std::os::fd::AsFd, timeout: PollTimeout) -> io::Result<bool> {
    let mut fds = [PollFd::new(file.as_fd(), PollFlags::POLLOUT)];
    match poll(&mut fds, timeout) {
        Ok(count) => Ok(count > 0),
        Err(Errno::EINTR) => Ok(true),
        Err(error) => Err(error.into()),
    }
}

/// A panic with the lock held leaves nothing half done.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn lock_soon<T>(mutex: &Mutex<T>) -> Option<MutexGuard<'_, T>> {
    let deadline = Instant::now() + GIVE_BACK_PATIENCE;
    loop {
        match mutex.try_lock() {
            Ok(guard) => return Some(guard),
            Err(TryLockError::Poisoned(poisoned)) => return Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) if Instant::now() >= deadline => return None,
            Err(TryLockError::WouldBlock) => thread::sleep(RETRY),
        }
    }
}
