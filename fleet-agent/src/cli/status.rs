//! `fleetd status`: how the device stands, in one line, one reason and one exit code.

use std::time::Duration;

use fleet_core::api::{AgentInfo, ClaimMode, LinkState};

use super::local;
use super::{FAILED, Failure, OutputArgs, Place, UNCLAIMED, UNREACHABLE, line, print, waiting};
use crate::state::guard::{self, TRIES_MAX};

pub(super) fn run(place: &Place, output: OutputArgs) -> Result<u8, Failure> {
    let Some(answered) = local::ask(&local::folders(place))? else {
        return Err(Failure {
            code: FAILED,
            error: anyhow::anyhow!("the agent is not running; start it with: fleetd agent"),
        });
    };
    let info = answered.info;
    let verdict = Verdict::of(&info);
    if output.json {
        let mut value = serde_json::json!(info);
        value["status"] = serde_json::json!(verdict.word());
        print(&format!("{}\n", fleet_core::untrusted::escaped_json(&value.to_string())))?;
    } else {
        print(&lines(&info, verdict))?;
    }
    Ok(verdict.code())
}

/// How a device stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Ok,
    Degraded,
    Unclaimed,
    Unreachable,
}

impl Verdict {
    pub(super) fn of(info: &AgentInfo) -> Self {
        match info.link.state {
            LinkState::Connected => Self::Ok,
            LinkState::Unclaimed => Self::Unclaimed,
            LinkState::Connecting if info.link.last_error.is_some() => Self::Unreachable,
            LinkState::Connecting
            | LinkState::Pending
            | LinkState::Rejected
            | LinkState::Revoked => Self::Degraded,
        }
    }

    fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Degraded => "degraded",
            Self::Unclaimed => "unclaimed",
            Self::Unreachable => "server unreachable",
        }
    }

    fn code(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::Degraded => FAILED,
            Self::Unclaimed => UNCLAIMED,
            Self::Unreachable => UNREACHABLE,
        }
    }
}

/// What a claimer needs, where that is more than to come in time.
fn claims(info: &AgentInfo) -> Option<String> {
    if let Some(secs) = info.claim_seconds_asleep {
        let left = guard::minutes(Duration::from_secs(secs));
        return Some(format!("none for {left}, after {TRIES_MAX} wrong ones"));
    }
    match info.claim {
        ClaimMode::Open => None,
        ClaimMode::Code => Some("with the code that sudo fleetd info shows".to_owned()),
        ClaimMode::Key => Some("with the claim key of the device's owner".to_owned()),
        ClaimMode::Disabled => Some("disabled by policy.yaml".to_owned()),
    }
}

fn lines(info: &AgentInfo, verdict: Verdict) -> String {
    let mut text = line("Status", verdict.word());
    text.push_str(&line("Device ID", info.device_id.to_string()));
    if let Some(server) = info.server {
        text.push_str(&line("Server", server.to_string()));
    }
    text.push_str(&line("Link", format!("{} since {}", info.link.state.word(), info.link.since)));
    if let Some(error) = &info.link.last_error {
        text.push_str(&line("Reason", error.raw()));
    }
    if let Some(at) = info.link.asks_again {
        text.push_str(&line("Asks again", at.to_string()));
    }
    if info.server.is_none()
        && let Some(claims) = claims(info)
    {
        text.push_str(&line("Claims", claims));
    }
    text.push_str(&waiting::lines(&info.queue));
    text
}
