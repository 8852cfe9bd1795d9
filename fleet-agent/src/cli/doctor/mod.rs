//! `fleetd doctor`: what is wrong with this device's agent and its way to the server, and what would
//! mend it.

mod own;
mod server;

use fleet_core::Chain;
use fleet_core::beacon::{AGENT_PORT, Heard};
use fleet_core::doctor::mdns::{self, Found};
use fleet_core::doctor::reach;
use fleet_core::doctor::{AFTER, Check, Report, WAY, environment, firewall, host, in_time};
use fleet_core::identity::Fingerprint;
use fleet_core::mdns::Options;
use tokio::runtime::Builder;

use super::{FAILED, Failure, OutputArgs, Place, UNREACHABLE, print};
use own::Own;

/// The agent's unit.
const UNIT: &str = "fleetd-agent";
/// The command for those who may look at all.
const AGAIN: &str = "sudo fleetd doctor";

pub(super) fn run(place: &Place, output: OutputArgs) -> Result<u8, Failure> {
    environment::enter()?;
    let own = own::look(place);
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let report = runtime.block_on(examine(own));
    // A name that is still being looked up is not waited for.
    runtime.shutdown_background();
    print(&if output.json { report.json()? } else { report.text() })?;
    Ok(match (report.has_failed(), report.is_unreachable()) {
        (false, _) => 0,
        (true, true) => UNREACHABLE,
        (true, false) => FAILED,
    })
}

async fn examine(own: Own) -> Report {
    let options = Options { interfaces: own.interfaces.clone(), ..Options::default() };
    let (found, walls, unit, journal, server) = tokio::join!(
        mdns::search(options),
        in_time(AFTER, "firewall", firewall::checks(&[firewall::MDNS, firewall::AGENT])),
        host::unit(UNIT),
        host::journal(UNIT),
        in_time(WAY, reach::IDENTITY, server::checks(&own)),
    );
    let is_expected = own.answer.is_some();
    let seen = announced(&found, own.fingerprint, is_expected);
    let mut discovery = found.checks;
    discovery.push(seen);
    discovery.extend(walls);
    let mut report = Report::default();
    report.add("This device", own.checks);
    report.add("Discovery", discovery);
    report.add("Server", server);
    let log = host::log_file("agent.log", "fleetd agent");
    report.add("Service", vec![unit, log, journal]);
    report
}

/// Whether what this device announces can be heard, by its key.
fn announced(found: &Found, own: Option<Fingerprint>, is_expected: bool) -> Check {
    const NAME: &str = "announced";
    let Some(own) = own else { return Check::skipped(NAME, "its key is not known here") };
    if !is_expected {
        return Check::skipped(NAME, "the agent does not say");
    }
    let heard =
        found.instances.iter().map(Heard::read).find(|heard| heard.fingerprint == Some(own));
    match heard {
        Some(heard) => {
            let id = heard.id.map_or_else(|| own.to_string(), |id| id.to_string());
            Check::ok(NAME, format!("{id} is heard"))
        }
        None => Check::failed(NAME, "nobody hears what this device announces")
            .fix("fleetd agent --debug; sudo ufw allow 5353/udp"),
    }
}

/// The port, in words.
fn port_words(port: u16) -> String {
    if port == AGENT_PORT {
        format!("port {port}")
    } else {
        format!("port {port}, of its own choice")
    }
}

/// An error in words.
fn words(error: &(dyn std::error::Error + 'static)) -> String {
    Chain(error).to_string()
}
