//! `fleetd reset`: makes the device nobody's again. Only while no agent runs, since a running one
//! would go on as before.

use super::{FAILED, Failure, Place, local, print};
use crate::running::Running;
use crate::state::applied::APPLIED_FILE;
use crate::state::folder::{Folder, StateError};
use crate::state::membership::CLAIM_FILE;

pub(super) fn run(place: &Place) -> Result<u8, Failure> {
    let mut folders = local::folders(place).into_iter();
    let Some(folder) = folders.find(|folder| folder.path().exists()) else { return had_none() };
    let _lock = match folder.lock() {
        Err(StateError::InUse { .. }) => return Err(in_use(&folder)),
        other => other?,
    };
    let applied = folder.remove(APPLIED_FILE)?;
    if folder.remove(CLAIM_FILE)? || applied {
        print("This device has forgotten its server. Start its agent to have it claimed anew.\n")
    } else {
        had_none()
    }
}

fn had_none() -> Result<u8, Failure> {
    print("This device had no server.\n")
}

fn in_use(folder: &Folder) -> Failure {
    let running = Running::find(folder).ok().flatten();
    let process = running.map_or_else(String::new, |running| format!(" (process {})", running.pid));
    Failure {
        code: FAILED,
        error: anyhow::anyhow!(
            "the agent is running{process}; stop it first, as with: systemctl stop fleetd-agent"
        ),
    }
}
