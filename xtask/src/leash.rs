//! A program on a leash: the kernel kills it when the process that started it ends, however that
//! ends.
//!
//! `std::process::Command` cannot ask for that without `unsafe`, so children are started as
//! `xtask leash PID PROGRAM ARGS…`: the leash ties itself, and becomes the program.

use std::ffi::{OsStr, OsString};
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use anyhow::anyhow;
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{SigSet, Signal};
use nix::unistd::getppid;

/// The command that runs `program` on a leash held by the thread that starts it.
///
/// `/proc/self/exe` is this very program, also after a build has replaced its file.
pub fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new("/proc/self/exe");
    command.args(["leash", &std::process::id().to_string(), "--"]).arg(program);
    command
}

/// Ties this process to `parent` and becomes the program; returns only when that fails.
pub fn hold(parent: i32, command: &[OsString]) -> anyhow::Error {
    let Some((program, args)) = command.split_first() else {
        return anyhow!("no program to run");
    };
    match tie(parent) {
        Ok(()) => {
            let error = Command::new(program).args(args).exec();
            anyhow::Error::new(error).context(format!("cannot run {}", program.display()))
        }
        Err(error) => error,
    }
}

fn tie(parent: i32) -> anyhow::Result<()> {
    set_pdeathsig(Signal::SIGKILL)?;
    // The parent may have ended before the line above.
    if getppid().as_raw() != parent {
        return Err(anyhow!("process {parent} has ended"));
    }
    // The parent reads its signals from a descriptor; a program expects them delivered.
    SigSet::all().thread_unblock()?;
    Ok(())
}
