//! The way to the device's server, and how the link to it stands.

use fleet_core::api::AgentInfo;
use fleet_core::doctor::Check;
use fleet_core::doctor::reach::{self, Wanted};
use fleet_core::net::authorities::Authorities;

use super::AGAIN;
use super::own::Own;
use crate::cli::status::Verdict;
use crate::state::membership::Expected;

const TARGET: &str = "server";
const LINK: &str = "link";
/// What to do at another server than the device's own.
const OTHER: &str = "correct api_endpoint in /etc/fleetd/config.yaml, or, to leave the old server: \
                     sudo fleetd reset";

/// Looks at the server of this device.
pub(super) async fn checks(own: &Own) -> Vec<Check> {
    let target = match &own.target {
        Ok(Some(target)) => target,
        Ok(None) => {
            let text = "none: the device waits to be claimed";
            let check = Check::warning(TARGET, text).fix("on the server: fleets configure");
            return vec![check, link(own.answer.as_ref())];
        }
        Err(error) => {
            let check = Check::skipped(TARGET, error.as_str()).fix(AGAIN);
            return vec![check, link(own.answer.as_ref())];
        }
    };
    let whom = match target.server {
        Expected::FirstContact => "whoever answers there first".to_owned(),
        Expected::Key(_) | Expected::Identity(_) => {
            target.server.identity().map_or_else(String::new, |identity| identity.to_string())
        }
    };
    let mut checks = Vec::new();
    let ca_file = own.settings.as_ref().and_then(|settings| settings.ca_file.clone());
    let mut best: Option<Vec<Check>> = None;
    for url in &target.urls {
        let steps = reach::steps(&Wanted {
            url,
            pin: target.server.pin(),
            authorities: Authorities::of(ca_file.clone()),
            other_fix: OTHER.to_owned(),
        })
        .await;
        let is_good = !steps.iter().any(Check::has_failed);
        if is_good || best.is_none() {
            checks = vec![Check::ok(TARGET, format!("{whom} at {url}"))];
            best = Some(steps);
        }
        if is_good {
            break;
        }
    }
    checks.extend(best.unwrap_or_default());
    checks.push(link(own.answer.as_ref()));
    checks
}

/// How the agent says that it stands.
fn link(info: Option<&AgentInfo>) -> Check {
    let Some(info) = info else { return Check::skipped(LINK, "the agent does not say") };
    let link = &info.link;
    let reason = link.last_error.as_ref().map(|error| format!(": {error}")).unwrap_or_default();
    let says = format!("{} since {}{reason}", link.state.word(), link.since);
    let id = &info.device_id;
    match Verdict::of(info) {
        Verdict::Ok => Check::ok(LINK, says),
        Verdict::Unclaimed => {
            Check::warning(LINK, says).fix(format!("on the server: fleets configure --device {id}"))
        }
        Verdict::Degraded => {
            Check::warning(LINK, says).fix(format!("on the server: fleets devices accept {id}"))
        }
        Verdict::Unreachable => {
            Check::failed(LINK, says).fix("on the server: fleets doctor; here: fleetd status")
        }
    }
}
