//! `fleetd reset`: makes the device nobody's again. A running agent does it itself, told by a
//! signal, which only its own user and root can send; without one the files are removed here.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use fleet_core::api::{AgentInfo, ClaimMode, LinkState};
use fleet_core::untrusted::Untrusted;
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::local::{self, Answered};
use super::{FAILED, Failure, Place, print};
use crate::config::Config;
use crate::journal;
use crate::new_key;
use crate::paths;
use crate::probation;
use crate::queue;
use crate::running::Running;
use crate::spool;
use crate::state::folder::{Folder, StateError};
use crate::state::{guard, membership};
use crate::sys::SysRoot;

/// How long a running agent may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// Between looks at it.
const LOOK: Duration = Duration::from_millis(50);

pub(super) fn run(place: &Place) -> Result<u8, Failure> {
    let folders = local::folders(place);
    let said = match local::ask(&folders)? {
        Some(answered) => of_running(&folders, &answered)?,
        None => of_files(folders)?,
    };
    print(&format!("{said}\n{}", way_back(place).unwrap_or_default()))
}

fn of_running(
    folders: &[Folder],
    Answered { running, info }: &Answered,
) -> Result<String, Failure> {
    let Some(before) = info.resets else {
        return Err(failure(format!(
            "the running agent (process {}) is of another release; restart it first",
            running.pid
        )));
    };
    signal(folders, running)?;
    let deadline = Instant::now() + PATIENCE;
    loop {
        let now = local::ask(folders)?;
        if now.is_some_and(|now| now.info.resets.is_some_and(|count| count != before)) {
            return Ok(outcome(info));
        }
        if Instant::now() >= deadline {
            return Err(failure(format!(
                "the agent (process {}) has not forgotten its server; its log says why",
                running.pid
            )));
        }
        std::thread::sleep(LOOK);
    }
}

fn outcome(before: &AgentInfo) -> String {
    let had = before.server.is_some() || before.link.state != LinkState::Unclaimed;
    let forgot =
        if had { "This device has forgotten its server" } else { "This device had no server" };
    match before.claim {
        ClaimMode::Disabled => format!("{forgot}. Its policy takes no claims."),
        ClaimMode::Open => format!("{forgot}. It can be claimed anew."),
        ClaimMode::Code => {
            format!("{forgot}. It can be claimed with a new code, which fleetd info shows.")
        }
        ClaimMode::Key => format!("{forgot}. It can be claimed with its owner's claim key."),
    }
}

/// Sends the signal to the process that wrote the note, and to nobody whom that process's user
/// could not have signalled: the note's number may be anything.
fn signal(folders: &[Folder], running: &Running) -> Result<(), Failure> {
    let owner = |path: &Path| fs::metadata(path).map(|metadata| metadata.uid()).ok();
    let process = owner(&Path::new("/proc").join(running.pid.to_string()));
    let noted = |folder: &Folder| {
        Running::find(folder).ok().flatten().as_ref() == Some(running)
            && process.is_some()
            && owner(&folder.path().join(crate::running::FILE)) == process
    };
    let pid = i32::try_from(running.pid).ok().filter(|_| folders.iter().any(noted));
    let Some(pid) = pid else {
        return Err(failure(format!("process {} is not this device's agent", running.pid)));
    };
    kill(Pid::from_raw(pid), Signal::SIGUSR1).map_err(|errno| match errno {
        Errno::EPERM => {
            failure(format!("the agent (process {pid}) is another user's; run: sudo fleetd reset"))
        }
        errno => anyhow::Error::from(errno).context("cannot signal the agent").into(),
    })
}

fn of_files(folders: Vec<Folder>) -> Result<String, Failure> {
    let none = || Ok("This device had no server.".to_owned());
    let Some(folder) = folders.into_iter().find(|folder| folder.path().exists()) else {
        return none();
    };
    let _lock = match folder.lock() {
        Err(StateError::InUse { .. }) => {
            return Err(failure("the agent is just starting or stopping; try again".to_owned()));
        }
        Err(StateError::Folder { path, source })
            if source.kind() == io::ErrorKind::PermissionDenied =>
        {
            let path = path.display();
            return Err(failure(format!("{path} is another user's; run: sudo fleetd reset")));
        }
        other => other?,
    };
    let spool = folder.path().join(queue::FOLDER);
    spool::erase(&spool).with_context(|| format!("cannot empty {}", spool.display()))?;
    let journal = folder.path().join(journal::FOLDER);
    journal::erase(&journal).with_context(|| format!("cannot empty {}", journal.display()))?;
    new_key::erase(folder.path())
        .with_context(|| format!("cannot change {}", folder.path().display()))?;
    let configuration = folder.path().join(probation::FOLDER);
    let configured = probation::erase(&configuration)
        .with_context(|| format!("cannot empty {}", configuration.display()))?;
    let had_server = membership::erase(&folder)?;
    guard::erase(&folder)?;
    if had_server || configured {
        Ok("This device has forgotten its server. Start its agent to have it claimed anew."
            .to_owned())
    } else {
        none()
    }
}

/// A server that the device's own file names is not forgotten by this.
fn way_back(place: &Place) -> Option<String> {
    let root = place.sysroot.clone().map_or_else(SysRoot::real, SysRoot::at);
    let file = place.config.clone().unwrap_or_else(|| paths::config_file(&root));
    let config = Config::load(&file, place.config.is_some()).ok()?.config;
    let server = Untrusted::new(config.api_endpoint?);
    let file = file.display();
    Some(format!(
        "{file} names the server {server}, so it will go back there; remove api_endpoint to free it.\n"
    ))
}

fn failure(sentence: String) -> Failure {
    Failure { code: FAILED, error: anyhow::Error::msg(sentence) }
}
