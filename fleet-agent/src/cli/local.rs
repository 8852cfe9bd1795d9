//! This machine's agent as other commands see it: by what it says while it runs, else by what it
//! left on the disk.

use fleet_core::api::AgentInfo;
use tokio::runtime::Builder;

use super::{Failure, Place};
use crate::paths;
use crate::running::{AskError, Running};
use crate::state::folder::Folder;

/// An agent that answered.
pub(super) struct Answered {
    pub(super) running: Running,
    pub(super) info: AgentInfo,
}

/// The folders where an agent may be.
pub(super) fn folders(place: &Place) -> Vec<Folder> {
    match &place.data_dir {
        Some(dir) => vec![Folder::new(dir)],
        None => paths::data_dirs().into_iter().map(Folder::new).collect(),
    }
}

/// The running agent's answer; nothing if none runs.
pub(super) fn ask(folders: &[Folder]) -> Result<Option<Answered>, Failure> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let mut silent: Option<AskError> = None;
    for folder in folders {
        let Some(running) = Running::find(folder)? else { continue };
        match runtime.block_on(Box::pin(running.ask())) {
            Ok(info) => return Ok(Some(Answered { running, info })),
            Err(error) if is_alive(running.pid) => silent = Some(error),
            Err(_) => {}
        }
    }
    silent.map_or(Ok(None), |error| Err(error.into()))
}

/// A process that was killed and is not waited for yet still has its number, but does nothing.
fn is_alive(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The name, in parentheses, may contain any character.
    let state = stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next());
    state.is_some_and(|state| !matches!(state, 'Z' | 'X'))
}
