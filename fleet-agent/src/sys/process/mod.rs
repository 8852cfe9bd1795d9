//! The one door through which other programs are run.
//!
//! A program gets its arguments as they are, without a shell; no input; a bare environment; and a
//! process group of its own, which ends with it. What it left running there ends when it does, when
//! its time is over, and when the agent stops. What leaves its group, as daemons do, is not held
//! back, and neither is anything if the agent is killed.

mod flow;
mod orphans;

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Component, Path, PathBuf};
use std::pin::pin;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe;
use tokio::process::{Child, Command};
use tokio::time::{sleep, timeout};

use super::SysRoot;
pub use flow::{Flowing, flow};
pub use orphans::Orphans;

/// Where programs are looked for.
const FOLDERS: [&str; 4] = ["/usr/bin", "/bin", "/usr/sbin", "/sbin"];
/// Bytes that are read at once.
const READ_BYTES: usize = 8 * 1024;
/// How long what is left in the pipe may take, once the program has ended.
const LEFTOVER: Duration = Duration::from_millis(500);

/// The bits of a file's mode that let somebody run it.
const EXECUTABLE: u32 = 0o111;

/// How a program may run.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// For how long.
    pub time: Duration,
    /// How long it is given to end by itself after that.
    pub grace: Duration,
    /// How many bytes of what it writes are kept.
    pub output_bytes_max: usize,
    /// Which of them.
    pub keep: Keep,
}

/// Which part of an output is kept, if it is too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// Its beginning.
    First,
    /// Its end.
    Last,
}

/// How a program ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// By itself.
    Exited(ExitStatus),
    /// Its time was over.
    TimedOut,
    /// The agent stops.
    Stopped,
}

/// What came of a program.
#[derive(Debug)]
pub struct Ran {
    /// How it ended.
    pub ending: Ending,
    /// What it wrote, in the order in which it did.
    pub output: Output,
}

/// What a program wrote.
#[derive(Debug, PartialEq, Eq)]
pub struct Output {
    /// As much as is kept.
    pub bytes: Vec<u8>,
    /// How much is not.
    pub left_out_bytes: u64,
    bytes_max: usize,
    keep: Keep,
}

impl Output {
    /// An empty one.
    pub fn new(bytes_max: usize, keep: Keep) -> Self {
        Self { bytes: Vec::new(), left_out_bytes: 0, bytes_max, keep }
    }

    /// Adds what was written next.
    pub fn push(&mut self, bytes: &[u8]) {
        let kept = match self.keep {
            Keep::First => &bytes[..bytes.len().min(self.bytes_max - self.bytes.len())],
            Keep::Last => &bytes[bytes.len().saturating_sub(self.bytes_max)..],
        };
        self.left_out_bytes += (bytes.len() - kept.len()) as u64;
        self.bytes.extend(kept);
        let too_many = self.bytes.len().saturating_sub(self.bytes_max);
        self.bytes.drain(..too_many);
        self.left_out_bytes += too_many as u64;
    }
}

/// A program by its name, or by its place, which begins with `/` and does not lead back up.
pub fn find(root: &SysRoot, name: &str) -> Option<PathBuf> {
    let is_program = |path: &PathBuf| {
        fs::metadata(path).is_ok_and(|file| file.is_file() && file.mode() & EXECUTABLE != 0)
    };
    if name.contains('/') {
        let leads_up = Path::new(name).components().any(|part| part == Component::ParentDir);
        return Some(root.path(name))
            .filter(|_| name.starts_with('/') && !leads_up)
            .filter(is_program);
    }
    FOLDERS.iter().map(|folder| root.path(folder).join(name)).find(is_program)
}

/// Runs a program that [`find`] found, under the name that it was asked for by, until it ends, its
/// time is over, or `stop` is. If nobody waits for this any more, its group is killed.
pub async fn run(
    root: &SysRoot,
    program: &Path,
    argv: &[String],
    bounds: Bounds,
    stop: impl Future<Output = ()>,
) -> io::Result<Ran> {
    let (reader, writer) = io::pipe()?;
    let mut command = command(root, program, argv)?;
    command.stdout(writer.try_clone()?).stderr(writer);
    let mut child = command.spawn()?;
    // Its ends of the pipe, or the other end would never be at its own.
    drop(command);
    let mut group = Group::of(&child);
    let mut pipe = pipe::Receiver::from_owned_fd(reader.into())?;
    let mut output = Output::new(bounds.output_bytes_max, bounds.keep);

    let ending = {
        let ended = ended(&mut child, &mut pipe, &mut output);
        tokio::select! {
            status = ended => Ending::Exited(status?),
            () = sleep(bounds.time) => Ending::TimedOut,
            () = stop => Ending::Stopped,
        }
    };
    if !matches!(ending, Ending::Exited(_)) {
        group.signal(Signal::SIGTERM);
        let ended = ended(&mut child, &mut pipe, &mut output);
        // One that does not end by itself is killed next.
        let _ended = timeout(bounds.grace, ended).await;
    }
    group.kill();
    // What hangs in the kernel, as on a dead network disk, is not waited for; it is reaped later.
    let _reaped = timeout(LEFTOVER, child.wait()).await;
    // Nobody of its group writes any more.
    let _emptied = timeout(LEFTOVER, drain(&mut pipe, &mut output)).await;
    Ok(Ran { ending, output })
}

/// Puts this program, or what has taken its place, in this process's place. Returns only if that
/// fails.
pub fn become_program(program: &Path, args: impl Iterator<Item = OsString>) -> io::Error {
    std::process::Command::new(program).args(args).exec()
}

/// How a status reads.
pub fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("ended with code {code}"),
        (None, Some(signal)) => format!("was ended by signal {signal}"),
        (None, None) => "ended in an unknown way".to_owned(),
    }
}

/// A program under the name that it was asked for by, with nothing of this process' own.
#[expect(clippy::disallowed_methods, reason = "this is the door")]
fn command(root: &SysRoot, program: &Path, argv: &[String]) -> io::Result<Command> {
    let mut command = Command::new(program);
    let [name, args @ ..] = argv else { return Err(io::ErrorKind::InvalidInput.into()) };
    command.arg0(name).args(args).current_dir(root.path("")).process_group(0).kill_on_drop(true);
    command.env_clear().env("PATH", search_path(root)).env("LANG", "C.UTF-8").env("HOME", "/");
    command.stdin(Stdio::null());
    Ok(command)
}

fn search_path(root: &SysRoot) -> OsString {
    let folders = FOLDERS.map(|folder| root.path(folder).into_os_string());
    folders.join(OsStr::new(":"))
}

/// Waits for a program's end, and takes in what it writes meanwhile.
async fn ended(
    child: &mut Child,
    pipe: &mut pipe::Receiver,
    output: &mut Output,
) -> io::Result<ExitStatus> {
    let mut status = pin!(child.wait());
    let mut drained = pin!(drain(pipe, output));
    tokio::select! {
        status = &mut status => status,
        () = &mut drained => status.await,
    }
}

/// Takes in what is written until nobody can write any more.
async fn drain(pipe: &mut pipe::Receiver, output: &mut Output) {
    let mut buffer = vec![0; READ_BYTES];
    // A pipe that cannot be read is as good as one that is closed.
    while let Ok(bytes @ 1..) = pipe.read(&mut buffer).await {
        output.push(&buffer[..bytes]);
    }
}

/// A program's process group, which is killed when it is let go of. Its number is nobody else's
/// before its last process is waited for.
struct Group {
    group: Option<Pid>,
    program: Option<Pid>,
}

impl Group {
    fn of(child: &Child) -> Self {
        let id = child.id().and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw);
        id.into_iter().for_each(orphans::hold);
        Self { group: id, program: id }
    }

    fn signal(&self, signal: Signal) {
        // One that has ended already is what is wanted.
        let _gone = self.group.map(|group| killpg(group, signal));
    }

    fn kill(&mut self) {
        self.signal(Signal::SIGKILL);
        self.group = None;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.kill();
        self.program.into_iter().for_each(orphans::let_go);
    }
}
