//! A program that this one started: logged into a file, ended with its owner.
//!
//! Ending is TERM, a grace, KILL, and always a reap. Each child is its own process group, so that
//! Ctrl-C reaches only this process, which then ends its children in order.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{self, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::interrupt::Interrupt;
use crate::leash;

/// How long a child may take to end when asked.
const GRACE: Duration = Duration::from_secs(5);
const REAP_EVERY: Duration = Duration::from_millis(5);
/// Between two looks whether a program that people use has ended.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// Ticks of `/proc/PID/stat` in a second: part of the kernel's ABI.
const TICKS: f64 = 100.0;
/// Log lines that a failure shows.
const TAIL_LINES: usize = 15;

/// A running program.
pub struct Child {
    name: String,
    process: process::Child,
    log: PathBuf,
    started: Instant,
}

/// What a program that has ended left behind.
pub struct Finished {
    /// How it ended.
    pub status: ExitStatus,
    /// All it wrote to its standard output.
    pub stdout: Vec<u8>,
    /// All it wrote to its standard error.
    pub stderr: String,
}

impl Finished {
    /// The exit code; `None` after a signal.
    pub fn code(&self) -> Option<i32> {
        self.status.code()
    }
}

/// A command that takes nothing from the environment that could make FleetD's programs behave
/// otherwise than asked, without input and in a group of its own.
pub fn command(program: impl AsRef<OsStr>) -> process::Command {
    let mut command = plain(program);
    apart(&mut command);
    command
}

/// The same with this process' input and in its group, as whoever has the terminal needs it.
pub fn plain(program: impl AsRef<OsStr>) -> process::Command {
    let mut command = leash::command(program);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("FLEETD_") {
            command.env_remove(name);
        }
    }
    command
}

/// Takes the input from a command, and puts it into a group of its own.
pub fn apart(command: &mut process::Command) -> &mut process::Command {
    command.stdin(Stdio::null()).process_group(0)
}

impl Child {
    /// Starts a [`command`]; what it writes goes to the file `log`.
    pub fn start(
        name: impl Into<String>,
        command: &mut process::Command,
        log: &Path,
    ) -> anyhow::Result<Self> {
        let name = name.into();
        let file = File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
        let process = command
            .stdout(file.try_clone()?)
            .stderr(file)
            .spawn()
            .with_context(|| format!("cannot start {name}"))?;
        Ok(Self { name, process, log: log.to_owned(), started: Instant::now() })
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// How long it has run.
    pub fn age(&self) -> Duration {
        self.started.elapsed()
    }

    /// Fails, with its last words, if it has ended.
    pub fn check(&mut self) -> anyhow::Result<()> {
        match self.process.try_wait()? {
            None => Ok(()),
            Some(status) => bail!("{} ended by itself ({status}){}", self.name, self.last_words()),
        }
    }

    /// The end of its log, to be put behind a sentence.
    pub fn last_words(&self) -> String {
        let text = fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        let tail = &lines[lines.len().saturating_sub(TAIL_LINES)..];
        if tail.is_empty() {
            return "; it logged nothing".to_owned();
        }
        format!("; the end of its log:\n  | {}", tail.join("\n  | "))
    }

    /// Asks it to end, without waiting.
    pub fn terminate(&self) {
        // It may have ended already, which is what is wanted.
        let _ = kill(Pid::from_raw(self.process.id().cast_signed()), Signal::SIGTERM);
    }

    /// Asks it to end and waits; fails, with its last words, if it takes longer than this.
    pub fn end_within(&mut self, bound: Duration) -> anyhow::Result<()> {
        self.terminate();
        if self.reaped_within(bound) {
            return Ok(());
        }
        bail!("{} did not end within {} s{}", self.name, bound.as_secs(), self.last_words())
    }

    /// Kills it, which it cannot prepare for.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        self.check()?;
        self.process.kill()?;
        self.process.wait()?;
        Ok(())
    }

    /// Ends it, by force if it does not end by itself.
    pub fn end(&mut self) {
        if self.reaped_within(Duration::ZERO) {
            return;
        }
        self.terminate();
        if !self.reaped_within(GRACE) {
            // Both fail only when it is gone.
            let _ = self.process.kill();
            let _ = self.process.wait();
        }
    }

    fn reaped_within(&mut self, bound: Duration) -> bool {
        let end = Instant::now() + bound;
        loop {
            match self.process.try_wait() {
                Ok(Some(_)) => return true,
                Ok(None) if Instant::now() < end => thread::sleep(REAP_EVERY),
                Ok(None) | Err(_) => return false,
            }
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.end();
    }
}

/// Runs a [`plain`] command on this process' terminal, as long as it likes.
pub fn converse(
    name: &str,
    command: &mut process::Command,
    interrupt: &Interrupt,
) -> anyhow::Result<ExitStatus> {
    let process = command.spawn().with_context(|| format!("cannot start {name}"))?;
    let mut child =
        Child { name: name.to_owned(), process, log: PathBuf::new(), started: Instant::now() };
    loop {
        if let Some(status) = child.process.try_wait()? {
            return Ok(status);
        }
        interrupt.pause(LOOK_EVERY)?;
    }
}

/// Runs a [`command`] to its end, at most for `bound`. Its output passes through files in `dir`,
/// so nothing it writes can block it.
pub fn finish(
    name: &str,
    command: &mut process::Command,
    dir: &Path,
    bound: Duration,
    interrupt: &Interrupt,
) -> anyhow::Result<Finished> {
    let stdout = tempfile::NamedTempFile::new_in(dir)?;
    let stderr = tempfile::NamedTempFile::new_in(dir)?;
    let process = command
        .stdout(stdout.reopen()?)
        .stderr(stderr.reopen()?)
        .spawn()
        .with_context(|| format!("cannot start {name}"))?;
    let log = stderr.path().to_owned();
    let mut child = Child { name: name.to_owned(), process, log, started: Instant::now() };
    let ended = interrupt.until(bound, REAP_EVERY, || Ok(child.process.try_wait()?))?;
    let Some(status) = ended else {
        bail!("{name} did not end within {} s{}", bound.as_secs(), child.last_words());
    };
    let stderr = fs::read(stderr.path())?;
    Ok(Finished {
        status,
        stdout: fs::read(stdout.path())?,
        stderr: String::from_utf8_lossy(&stderr).into_owned(),
    })
}

/// Processor seconds that a process has used, its threads' and the kernel's for it.
pub fn cpu_secs(pid: u32) -> anyhow::Result<f64> {
    let path = format!("/proc/{pid}/stat");
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    // The name before the last bracket may hold anything; utime and stime are the 12th and 13th
    // word behind it.
    let behind = text.rsplit_once(')').map(|(_, behind)| behind).unwrap_or_default();
    let ticks = behind.split_whitespace().skip(11).take(2).map(str::parse::<f64>);
    let ticks: Vec<f64> = ticks.collect::<Result<_, _>>().with_context(|| path.clone())?;
    if ticks.len() != 2 {
        bail!("{path} is too short");
    }
    Ok(ticks.iter().sum::<f64>() / TICKS)
}

/// A line such as `Pss:  4096 kB` of a file of `/proc/PID`.
pub fn kib_of(pid: u32, file: &str, field: &str) -> anyhow::Result<f64> {
    let path = format!("/proc/{pid}/{file}");
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    let line = text.lines().find_map(|line| line.strip_prefix(field));
    let number = line.and_then(|rest| rest.split_whitespace().next()?.parse().ok());
    number.with_context(|| format!("{path} has no {field}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processor_time_grows_with_work() {
        let before = cpu_secs(process::id()).unwrap();
        let started = Instant::now();
        while cpu_secs(process::id()).unwrap() < before + 0.05 {
            assert!(started.elapsed() < Duration::from_secs(30), "it does not grow");
        }
    }
}
