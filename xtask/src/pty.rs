//! A program on a terminal of its own, for tests: its output goes into an emulator, keys come from
//! the test. What does not happen in time fails the test, with what was seen instead.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::num::NonZero;
use std::os::fd::AsFd as _;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::pty::{grantpt, posix_openpt, ptsname_r, unlockpt};
use nix::sys::signal::{Signal, kill};
use nix::sys::stat::Mode;
use nix::sys::termios::{Termios, tcgetattr};
use nix::unistd::{Pid, tcgetpgrp};

/// How long anything may take on a busy machine.
pub const SOON: Duration = Duration::from_secs(20);
/// Between two looks at something that makes no noise.
const LOOK: Duration = Duration::from_millis(5);
/// How long the reader waits before it looks whether it should end.
const READ: u16 = 20;

/// A terminal and the program on it, which is killed with it.
pub struct Pty {
    child: Child,
    keyboard: Option<File>,
    /// The program's side: it stays a terminal after the program has ended.
    terminal: File,
    shown: Arc<Mutex<Shown>>,
    reader: Option<JoinHandle<()>>,
    is_closing: Arc<AtomicBool>,
}

/// What came out.
pub struct Shown {
    /// The terminal's screen.
    pub emulator: vt100::Parser,
    /// Every byte, in order.
    pub bytes: Vec<u8>,
}

impl Pty {
    /// Starts a program as the leader of a session on a new terminal, with this environment alone.
    pub fn start(program: &Command, env: &[(&str, &OsStr)], (columns, rows): (u16, u16)) -> Self {
        let (keyboard, terminal) = open().expect("a new terminal");
        set_size(&terminal, (columns, rows));
        let side = || Stdio::from(terminal.try_clone().expect("a descriptor"));
        let child = Command::new("setsid")
            .arg("--ctty")
            .arg(program.get_program())
            .args(program.get_args())
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .envs(env.iter().copied())
            .stdin(side())
            .stdout(side())
            .stderr(side())
            .spawn()
            .expect("setsid, of util-linux");
        let side = |cells| NonZero::new(cells).expect("at least one cell");
        let emulator = vt100::Parser::new(side(rows), side(columns), 0);
        let shown = Arc::new(Mutex::new(Shown { emulator, bytes: Vec::new() }));
        let is_closing = Arc::new(AtomicBool::new(false));
        let reader = {
            let (shown, is_closing) = (shown.clone(), is_closing.clone());
            let screen = keyboard.try_clone().expect("a descriptor");
            thread::spawn(move || read(screen, &shown, &is_closing))
        };
        Self { child, keyboard: Some(keyboard), terminal, shown, reader: Some(reader), is_closing }
    }

    /// What is seen.
    pub fn text(&self) -> String {
        self.shown().emulator.screen().contents()
    }

    /// All that came out so far. Nothing more comes out while this is held.
    pub fn shown(&self) -> MutexGuard<'_, Shown> {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until a text is seen.
    #[track_caller]
    pub fn wait_for(&self, text: &str, bound: Duration) {
        self.wait_until(text, bound, |shown| shown.emulator.screen().contents().contains(text));
    }

    /// Waits until something is true of what came out; `what` names it.
    #[track_caller]
    pub fn wait_until(&self, what: &str, bound: Duration, is_so: impl Fn(&Shown) -> bool) {
        let seen = wait(bound, || is_so(&self.shown()).then_some(()));
        assert!(seen.is_some(), "not seen: {what}\n{}", self.text());
    }

    /// Presses keys, or whatever else these bytes are.
    pub fn press(&mut self, keys: &str) {
        let keyboard = self.keyboard.as_mut().expect("an open terminal");
        keyboard.write_all(keys.as_bytes()).expect("a terminal that takes keys");
    }

    /// Gives the terminal another size.
    pub fn resize(&mut self, (columns, rows): (u16, u16)) {
        let side = |cells| NonZero::new(cells).expect("at least one cell");
        self.shown().emulator.screen_mut().set_size(side(rows), side(columns));
        set_size(&self.terminal, (columns, rows));
    }

    /// How the terminal is set.
    pub fn modes(&self) -> Termios {
        tcgetattr(&self.terminal).expect("a terminal")
    }

    /// Sends the program a signal.
    pub fn signal(&self, signal: Signal) {
        kill(self.pid(), signal).expect("a program that was not waited for");
    }

    /// Waits until the program is stopped.
    #[track_caller]
    pub fn wait_until_stopped(&self) {
        let stat = PathBuf::from(format!("/proc/{}/stat", self.pid()));
        let stopped = wait(SOON, || {
            fs::read_to_string(&stat).is_ok_and(|stat| stat.contains(") T ")).then_some(())
        });
        assert!(stopped.is_some(), "not stopped\n{}", self.text());
    }

    /// Waits for the end of the program, and until all it wrote has come out.
    #[track_caller]
    pub fn wait_for_end(&mut self, bound: Duration) -> ExitStatus {
        let status = wait(bound, || self.child.try_wait().expect("a child"));
        let Some(status) = status else { panic!("it still runs\n{}", self.text()) };
        self.drain();
        status
    }

    /// How the program has ended, if it has; all it wrote has come out then.
    pub fn try_end(&mut self) -> Option<ExitStatus> {
        let status = self.child.try_wait().expect("a child")?;
        self.drain();
        Some(status)
    }

    /// Reads nothing any more, as a connection that is stuck.
    pub fn stick(&mut self) {
        self.is_closing.store(true, Ordering::SeqCst);
        if let Some(reader) = self.reader.take() {
            reader.join().expect("a reader that ends");
        }
    }

    /// Waits until the program waits for its terminal to take something.
    #[track_caller]
    pub fn wait_until_stuck(&self) {
        let is_full = || {
            let mut fds = [PollFd::new(self.terminal.as_fd(), PollFlags::POLLOUT)];
            (poll(&mut fds, PollTimeout::ZERO) == Ok(0)).then_some(())
        };
        assert!(wait(SOON, is_full).is_some(), "the terminal still takes something");
    }

    /// Takes the terminal away, as a lost connection does.
    pub fn close_terminal(&mut self) {
        self.stick();
        drop(self.keyboard.take());
    }

    /// Waits until nothing that was written is still on its way.
    fn drain(&self) {
        let (Some(screen), Some(_)) = (&self.keyboard, &self.reader) else { return };
        let drained = wait(SOON, || {
            let shown = self.shown();
            let mut fds = [PollFd::new(screen.as_fd(), PollFlags::POLLIN)];
            let is_empty = poll(&mut fds, PollTimeout::ZERO) == Ok(0);
            drop(shown);
            is_empty.then_some(())
        });
        assert!(drained.is_some(), "output without end");
    }

    /// The group that has the terminal: a shell's job, or the program itself.
    pub fn foreground(&self) -> Pid {
        let keyboard = self.keyboard.as_ref().expect("an open terminal");
        tcgetpgrp(keyboard).expect("a terminal that is somebody's")
    }

    /// The program's process.
    pub fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().cast_signed())
    }
}

impl Drop for Pty {
    fn drop(&mut self) {
        self.close_terminal();
        // Both fail only when it has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Both sides of a new terminal. No other program inherits them, or it would never be gone.
fn open() -> nix::Result<(File, File)> {
    let flags = OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    let keyboard = posix_openpt(flags)?;
    grantpt(&keyboard)?;
    unlockpt(&keyboard)?;
    let name = ptsname_r(&keyboard)?;
    let terminal = nix::fcntl::open(name.as_str(), flags, Mode::empty())?;
    let keyboard = keyboard.as_fd().try_clone_to_owned().expect("a descriptor");
    Ok((File::from(keyboard), File::from(terminal)))
}

fn set_size(terminal: &File, (columns, rows): (u16, u16)) {
    let status = Command::new("stty")
        .args(["rows", &rows.to_string(), "cols", &columns.to_string()])
        .stdin(terminal.try_clone().expect("a descriptor"))
        .status()
        .expect("stty, of coreutils");
    assert!(status.success());
}

/// Feeds the emulator until the terminal is closed. What is read is shown before the lock is free.
fn read(mut screen: File, shown: &Mutex<Shown>, is_closing: &AtomicBool) {
    let mut bytes = vec![0; 64 * 1024];
    while !is_closing.load(Ordering::SeqCst) {
        let mut fds = [PollFd::new(screen.as_fd(), PollFlags::POLLIN)];
        if poll(&mut fds, PollTimeout::from(READ)) != Ok(1) {
            continue;
        }
        let mut shown = shown.lock().unwrap_or_else(PoisonError::into_inner);
        let Ok(count) = screen.read(&mut bytes) else { return };
        shown.emulator.process(&bytes[..count]);
        shown.bytes.extend_from_slice(&bytes[..count]);
    }
}

/// Looks again and again until there is something, or not any longer.
fn wait<T>(bound: Duration, mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + bound;
    loop {
        if let Some(found) = look() {
            return Some(found);
        }
        if Instant::now() >= deadline {
            return None;
        }
        thread::sleep(LOOK);
    }
}
