//! The agent on this device: its settings, its folder and key, whether it runs, and its port.

use std::io;
use std::path::Path;
use std::sync::Arc;

use fleet_core::api::AgentInfo;
use fleet_core::doctor::host::{self, Protocol, holders};
use fleet_core::doctor::{Check, Outcome};
use fleet_core::identity::Fingerprint;

use super::{AGAIN, port_words, words};
use crate::cli::{Place, local};
use crate::identity::Identity;
use crate::paths;
use crate::settings::{Overrides, Settings};
use crate::state::folder::{Folder, StateError};
use crate::state::membership::{Membership, Target};
use crate::sys::SysRoot;

const SETTINGS: &str = "settings";
const KEY: &str = "key";
const AGENT: &str = "agent";
const PORT: &str = "agent port";
const ROOM_FIX: &str = "df -h; spool: {mebibytes: N} in /etc/fleetd/config.yaml bounds what waits";
const START: &str = "sudo systemctl start fleetd-agent";
/// Nobody else may change what is in the data folder.
const WRITERS: u32 = 0o022;

/// What is known of this device's agent.
pub(super) struct Own {
    pub(super) checks: Vec<Check>,
    pub(super) interfaces: Vec<String>,
    pub(super) fingerprint: Option<Fingerprint>,
    /// What the agent says, if it runs.
    pub(super) answer: Option<AgentInfo>,
    /// The server that it dials; why that is not known else.
    pub(super) target: Result<Option<Arc<Target>>, String>,
    pub(super) settings: Option<Settings>,
}

/// Looks at all of it.
pub(super) fn look(place: &Place) -> Own {
    let (check, settings) = settings(place);
    let folders = local::folders(place);
    let folder = folder(&folders);
    let mut checks = vec![check];
    checks.push(host::folder(folder.path(), WRITERS, AGAIN));
    checks.push(host::room(nearest(folder.path()), ROOM_FIX));
    let (check, fingerprint) = key(&folder);
    checks.push(check);
    let (check, port, answer) = agent(&folders);
    let is_known = check.outcome != Outcome::NotApplicable;
    checks.push(check);
    let usual = settings.as_ref().map_or(fleet_core::beacon::AGENT_PORT, |settings| settings.port);
    checks.push(if is_known {
        self::port(port.unwrap_or(usual), answer.is_some())
    } else {
        Check::skipped(PORT, "only root may ask whose it is").fix(AGAIN)
    });
    let provisioned = settings.as_ref().and_then(|settings| settings.provisioned.clone());
    let target = Membership::open(folder, provisioned).map(|own| own.target());
    Own {
        checks,
        interfaces: settings.as_ref().map(|own| own.interfaces.clone()).unwrap_or_default(),
        fingerprint: answer.as_ref().map(|info| info.fingerprint).or(fingerprint),
        answer,
        target: target.map_err(|error| words(&error)),
        settings,
    }
}

fn settings(place: &Place) -> (Check, Option<Settings>) {
    let root = place.sysroot.clone().map_or_else(SysRoot::real, SysRoot::at);
    let file = place.config.clone().unwrap_or_else(|| paths::config_file(&root));
    let overrides = Overrides {
        config: place.config.clone(),
        data_dir: place.data_dir.clone(),
        sysroot: place.sysroot.clone(),
        ..Overrides::default()
    };
    let shown = file.display();
    match Settings::resolve(overrides) {
        Ok(settings) => {
            let config = if file.exists() {
                shown.to_string()
            } else {
                format!("there is no {shown}: all is as usual")
            };
            let policy = paths::policy_file(&root);
            let word = if policy.exists() { "by" } else { "without" };
            let claims = settings.policy.claim.mode().word();
            let policy = format!("claims are {claims} {word} {}", policy.display());
            (Check::ok(SETTINGS, format!("{config}; {policy}")), Some(settings))
        }
        Err(error) if is_not_allowed(&error) => {
            (Check::skipped(SETTINGS, words(&error)).fix(AGAIN), None)
        }
        Err(error) => {
            let said = words(&error);
            let policy = paths::policy_file(&root).display().to_string();
            let shown = if said.contains(&policy) { policy } else { shown.to_string() };
            let check = Check::failed(SETTINGS, said);
            (check.fix(format!("sudoedit {shown}; sudo systemctl restart fleetd-agent")), None)
        }
    }
}

/// The folder of the agent that runs or ran here, else the one that it would make.
fn folder(folders: &[Folder]) -> Folder {
    let found = folders.iter().find(|folder| folder.path().exists()).or_else(|| folders.first());
    found.cloned().unwrap_or_else(|| Folder::new(paths::data_dir()))
}

/// The first folder above that is there.
fn nearest(path: &Path) -> &Path {
    path.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"))
}

fn key(folder: &Folder) -> (Check, Option<Fingerprint>) {
    match Identity::load(folder) {
        Ok(Some(identity)) => {
            let fingerprint = identity.fingerprint();
            (Check::ok(KEY, format!("{} has {fingerprint}", identity.id)), Some(fingerprint))
        }
        Ok(None) => {
            let check = Check::warning(KEY, "there is none yet; the agent makes one at its start");
            (check.fix(START), None)
        }
        Err(StateError::Read { source, .. })
            if source.kind() == std::io::ErrorKind::PermissionDenied =>
        {
            (Check::skipped(KEY, "only root may read it").fix(AGAIN), None)
        }
        Err(error) => {
            let path = folder.path().display();
            let check = Check::failed(KEY, words(&error));
            (check.fix(format!("restore it from a backup, or: sudo mv {path} {path}.old")), None)
        }
    }
}

/// Whether it runs, at which port, and what it says.
fn agent(folders: &[Folder]) -> (Check, Option<u16>, Option<AgentInfo>) {
    match local::ask(folders) {
        Ok(Some(answered)) => {
            let (pid, port) = (answered.running.pid, answered.running.port);
            let check = Check::ok(AGENT, format!("it runs (process {pid}) and answers"));
            (check, Some(port), Some(answered.info))
        }
        Ok(None) => {
            let check = Check::failed(AGENT, "it is not running");
            (check.fix(format!("{START}, or: sudo fleetd agent")), None, None)
        }
        Err(failure) if is_not_allowed(failure.error.as_ref()) => {
            (Check::skipped(AGENT, "only root may ask it").fix(AGAIN), None, None)
        }
        Err(failure) => {
            let check = Check::failed(AGENT, words(failure.error.as_ref()));
            (check.fix("sudo systemctl restart fleetd-agent"), None, None)
        }
    }
}

fn is_not_allowed(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        if error
            .downcast_ref::<io::Error>()
            .is_some_and(|error| error.kind() == io::ErrorKind::PermissionDenied)
        {
            return true;
        }
        next = error.source();
    }
    false
}

/// Whether the agent has its port, or could have it.
fn port(port: u16, runs: bool) -> Check {
    let found = holders(Protocol::Tcp, port);
    let who: Vec<String> = found.iter().map(host::Holder::words).collect();
    let says = format!("{}: {}", port_words(port), who.join(", "));
    match (found.is_empty(), runs) {
        (true, _) => Check::ok(PORT, format!("{} is free", port_words(port))),
        (false, true) => Check::ok(PORT, says),
        (false, false) => Check::failed(PORT, format!("{says} has it")).fix(format!(
            "sudo ss -tlpn sport = :{port}; end that program, or: fleetd agent --port N"
        )),
    }
}
