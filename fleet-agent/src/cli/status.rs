//! `fleetd status`: how the device stands, in one line, one reason and one exit code.

use fleet_core::api::{AgentInfo, ClaimMode, LinkState};

use super::local;
use super::{FAILED, Failure, OutputArgs, Place, UNCLAIMED, UNREACHABLE, line, print, waiting};

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
enum Verdict {
    Ok,
    Degraded,
    Unclaimed,
    Unreachable,
}

impl Verdict {
    fn of(info: &AgentInfo) -> Self {
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
    if info.claim == ClaimMode::Disabled && info.server.is_none() {
        text.push_str(&line("Claims", "disabled by policy.yaml"));
    }
    text.push_str(&waiting::lines(&info.queue));
    text
}
