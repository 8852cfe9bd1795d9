//! Running a suite in namespaces of its own, as root or as an ordinary user.
//!
//! In there the suite is root over its own network, mounts and processes. The process namespace
//! ends all that it left running; a fresh `/run` and `/dev/shm` keep its names off the machine.

use std::process::{Command, Stdio};

use nix::unistd::geteuid;

use super::NotRun;
use crate::cargo::root;

const NAMESPACES: [&str; 7] =
    ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"];
const AS_USER: [&str; 2] = ["--user", "--map-root-user"];
/// `/run` is where `ip` keeps the names of network namespaces, and daemons their sockets;
/// `/dev/shm` is where faketime keeps clocks, under process ids that each namespace counts anew.
const SETUP: &str = "mount -t tmpfs tmpfs /run && mount -t tmpfs tmpfs /dev/shm && exec \"$@\"";
/// An ordinary user's `PATH` may lack the folders of `ip` and `avahi-daemon`.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Tests at one time, whatever the number of processors.
const THREADS: &str = "4";

/// The command that enters new namespaces here, or why none does.
pub(super) fn unshare() -> anyhow::Result<Vec<&'static str>> {
    let mut words = NAMESPACES.to_vec();
    if !geteuid().is_root() {
        words.extend(AS_USER);
    }
    let tried = within(words.clone(), "true").stdin(Stdio::null()).output();
    match tried {
        Ok(output) if output.status.success() => Ok(words),
        Ok(output) => {
            let why = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            Err(NotRun(format!("no namespaces here: {why}")).into())
        }
        Err(error) => Err(NotRun(format!("cannot run unshare: {error}")).into()),
    }
}

/// The command that runs `program` in new namespaces.
pub(super) fn within(unshare: Vec<&str>, program: &str) -> Command {
    let (first, rest) = unshare.split_first().expect("unshare is a command");
    let mut command = Command::new(first);
    command.args(rest).args(["--", "sh", "-c", SETUP, "sh", program]);
    command.current_dir(root().join("xtask")).env("PATH", PATH);
    // The tests mostly wait for one another's programs.
    command.env("RUST_TEST_THREADS", THREADS);
    command
}
