//! Whether a shell waits that could call this program to the front again after a stop.
//!
//! A program that a login or a multiplexer started directly has none; stopped, it would stay so, and
//! the terminal with it.

use std::fs;

use nix::unistd::{Pid, getpgid, getpgrp, getppid, getsid};

/// Programs between the shell and this one that are looked at, such as `sudo` and `env`.
const BETWEEN_MAX: usize = 64;

/// Whether somebody in this session, outside of this program's group, started that group.
pub(super) fn has_shell() -> bool {
    let (Ok(session), group) = (getsid(None), getpgrp()) else { return false };
    let mut parent = Some(getppid());
    for _ in 0..BETWEEN_MAX {
        // Number 0 is nobody that can be seen from here.
        let Some(pid) = parent.filter(|pid| pid.as_raw() > 0) else { return false };
        if getsid(Some(pid)) != Ok(session) {
            return false;
        }
        if getpgid(Some(pid)) != Ok(group) {
            return true;
        }
        parent = parent_of(pid);
    }
    false
}

fn parent_of(pid: Pid) -> Option<Pid> {
    parent_in(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// The parent in a line of `/proc/PID/stat`, in which the program's name can be anything.
fn parent_in(stat: &str) -> Option<Pid> {
    let (_, after) = stat.rsplit_once(')')?;
    after.split_whitespace().nth(1)?.parse().ok().map(Pid::from_raw)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parent_is_read_whatever_a_program_is_called() {
        for (stat, parent) in [
            ("12 (bash) S 7 12 12 34816", Some(7)),
            ("12 (a) S 1) R 7 12", Some(7)),
            ("12 (bash) S", None),
            ("", None),
        ] {
            assert_eq!(parent_in(stat).map(Pid::as_raw), parent, "{stat}");
        }
        assert_eq!(parent_of(Pid::this()), Some(getppid()));
    }
}
