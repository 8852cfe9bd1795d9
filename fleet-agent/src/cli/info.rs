//! `fleetd info`: who this device is, whether its agent runs or not. Who may read the agent's folder
//! is shown the code by which the device can be claimed, too.

use std::io;
use std::time::Duration;

use fleet_core::api::{AgentInfo, ClaimMode, DeviceState};
use fleet_core::identity::Fingerprint;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::local::{self, Answered};
use super::{FAILED, Failure, OutputArgs, Place, line, print, waiting};
use crate::config::Config;
use crate::identity::Identity;
use crate::link::FactsSource;
use crate::paths;
use crate::state::folder::{Folder, StateError};
use crate::state::guard::{self, TRIES_MAX};
use crate::state::membership::Membership;
use crate::sys::SysRoot;
use crate::sys::host::DeviceType;

/// What `info` tells, wherever it comes from.
struct Known {
    device_id: String,
    asked_id: Option<String>,
    fingerprint: Fingerprint,
    state: String,
    server: Option<String>,
    /// `running`, `stopped` or `silent`.
    agent_state: &'static str,
    agent: String,
    answer: Option<AgentInfo>,
}

pub(super) fn run(place: &Place, output: OutputArgs) -> Result<u8, Failure> {
    let folders = local::folders(place);
    let known = match local::ask(&folders) {
        Ok(Some(answered)) => Known::from_answer(answered),
        Ok(None) => Known::from_disk(&folders, "stopped", "not running".to_owned())?,
        // An agent that hangs takes nothing from what its files say.
        Err(Failure { error, .. }) => {
            Known::from_disk(&folders, "silent", fleet_core::Chain(error.as_ref()).to_string())?
        }
    };
    let code = claim_code(&folders, &known)?;
    let root = place.sysroot.clone().map_or_else(SysRoot::real, SysRoot::at);
    let device_type = device_type(place, &root);
    let facts = FactsSource { root, device_type, name: None };
    let facts = facts.read(std::time::Duration::ZERO);
    if output.json {
        let mut value = known.json();
        value["facts"] = json!(facts);
        if let ClaimCode::Known(code) = &code {
            value["claim_code"] = json!(code.as_str());
        }
        return print(&format!("{}\n", fleet_core::untrusted::escaped_json(&value.to_string())));
    }
    let mut text = known.lines(&code);
    for (name, value) in [
        ("Hostname", facts.hostname),
        ("Type", facts.device_type),
        ("Model", facts.model),
        ("System", facts.os),
        ("Kernel", format!("{} {}", facts.kernel, facts.arch)),
        ("Addresses", facts.addresses.join(", ")),
    ] {
        if !value.is_empty() {
            text.push_str(&line(name, value));
        }
    }
    print(&text)
}

/// The code by which the device can be claimed.
enum ClaimCode {
    /// There is none.
    None,
    /// There may be one, and this user may not know it.
    Hidden,
    Known(Zeroizing<String>),
}

fn claim_code(folders: &[Folder], known: &Known) -> Result<ClaimCode, Failure> {
    let goes_by_code = known.answer.as_ref().is_none_or(|info| info.claim == ClaimMode::Code);
    if known.server.is_some() || !goes_by_code {
        return Ok(ClaimCode::None);
    }
    for folder in folders {
        match guard::load_code(folder) {
            Ok(Some(code)) => return Ok(ClaimCode::Known(code.reveal())),
            Ok(None) => {}
            Err(StateError::Read { source, .. })
                if source.kind() == io::ErrorKind::PermissionDenied =>
            {
                return Ok(ClaimCode::Hidden);
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(ClaimCode::None)
}

/// What the owner says that the device is. A file that cannot be read, as by an ordinary user,
/// costs no more than that.
fn device_type(place: &Place, root: &SysRoot) -> Option<DeviceType> {
    let explicit = place.config.is_some();
    let file = place.config.clone().unwrap_or_else(|| paths::config_file(root));
    match Config::load(&file, explicit) {
        Ok(loaded) => loaded.config.device_type,
        Err(error) => {
            tracing::warn!(error = %fleet_core::Chain(&error), "doing without the configuration");
            None
        }
    }
}

impl Known {
    fn from_answer(Answered { running, info }: Answered) -> Self {
        Self {
            device_id: info.device_id.to_string(),
            asked_id: info.asked_id.as_ref().map(ToString::to_string),
            fingerprint: info.fingerprint,
            state: state(&info),
            server: info.server.map(|server| server.to_string()),
            agent_state: "running",
            agent: format!("running (process {}, port {})", running.pid, running.port),
            answer: Some(info),
        }
    }

    fn from_disk(
        folders: &[Folder],
        agent_state: &'static str,
        agent: String,
    ) -> Result<Self, Failure> {
        for folder in folders {
            let Some(identity) = Identity::load(folder)? else { continue };
            let membership = Membership::open(folder.clone(), None)?;
            let given = membership.device_id();
            let asked = given.as_ref().is_some_and(|given| *given != identity.id);
            let server = membership.server().map(|server| server.to_string());
            let state =
                if server.is_some() { DeviceState::Claimed } else { DeviceState::Unclaimed };
            return Ok(Self {
                device_id: given.as_ref().unwrap_or(&identity.id).to_string(),
                asked_id: asked.then(|| identity.id.to_string()),
                fingerprint: identity.fingerprint(),
                state: state.word().to_owned(),
                server,
                agent_state,
                agent,
                answer: None,
            });
        }
        Err(Failure {
            code: FAILED,
            error: anyhow::anyhow!(
                "this device has no identity yet; its agent makes one when it first runs"
            ),
        })
    }

    fn lines(&self, code: &ClaimCode) -> String {
        let mut text = line("Device ID", &self.device_id);
        if let Some(asked) = &self.asked_id {
            let knows = format!("asked for {asked}; its server knows it as {}", self.device_id);
            text.push_str(&line("", knows));
        }
        text.push_str(&line("Fingerprint", self.fingerprint.to_string()));
        text.push_str(&line("Version", fleet_core::VERSION));
        text.push_str(&line("Agent", &self.agent));
        text.push_str(&line("State", &self.state));
        match code {
            ClaimCode::None => {}
            ClaimCode::Hidden => {
                text.push_str(&line("Claim code", "for root alone: sudo fleetd info"));
            }
            ClaimCode::Known(code) => text.push_str(&line("Claim code", code.as_str())),
        }
        text.push_str(&line("Server", self.server.as_deref().unwrap_or("none")));
        if let Some(answer) = &self.answer {
            let link = format!("{} since {}", answer.link.state.word(), answer.link.since);
            text.push_str(&line("Link", link));
            text.push_str(&waiting::lines(&answer.queue));
        }
        text
    }

    fn json(&self) -> Value {
        match &self.answer {
            Some(answer) => {
                let mut value = json!(answer);
                value["agent"] = json!(self.agent_state);
                value
            }
            None => json!({
                "device_id": self.device_id,
                "asked_id": self.asked_id,
                "fingerprint": self.fingerprint,
                "version": fleet_core::VERSION,
                "state": self.state,
                "server": self.server,
                "agent": self.agent_state,
            }),
        }
    }
}

/// How many tries are left, once one was wrong.
fn tries(info: &AgentInfo) -> String {
    match info.claim_tries_left {
        Some(left) if left < TRIES_MAX => format!("; {left} of {TRIES_MAX} tries left"),
        _ => String::new(),
    }
}

fn state(info: &AgentInfo) -> String {
    match info.state {
        DeviceState::Unclaimed => match (info.claim_seconds_asleep, info.claim) {
            (Some(secs), _) => {
                let left = guard::minutes(Duration::from_secs(secs));
                format!("unclaimed; takes no claims for {left}, after {TRIES_MAX} wrong ones")
            }
            (None, ClaimMode::Code) => {
                format!("unclaimed; can be claimed with its code{}", tries(info))
            }
            (None, ClaimMode::Key) => {
                format!("unclaimed; can be claimed with its owner's claim key{}", tries(info))
            }
            (None, ClaimMode::Open | ClaimMode::Disabled) => {
                let minutes = info.claim_seconds_left.div_ceil(60);
                format!("unclaimed; can be claimed for {} h {} min", minutes / 60, minutes % 60)
            }
        },
        DeviceState::Claimed => "claimed".to_owned(),
        DeviceState::Closed => "unclaimed, and takes no claims".to_owned(),
    }
}
