//! Says on the local network that the device is there, and says so again when it was claimed or
//! can no longer be.
//!
//! A device without multicast still works: it is not found by itself, and that is all.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use fleet_core::beacon::Beacon;
use fleet_core::mdns::{Options, Responder};
use fleet_core::net::shutdown::Tasks;
use nix::net::if_::if_nametoindex;
use tokio::time::sleep;

use crate::state::Device;

/// What a server or an operator may ask of this agent.
const CAPABILITIES: [&str; 2] = ["telemetry", "config"];
/// Characters of the host's label; the mark that a second host of this name gets must fit behind.
const HOST_CHARS_MAX: usize = 56;
/// How long to wait before multicast is tried again.
const RETRY: Duration = Duration::from_secs(60);

/// Where and as what the device is announced.
#[derive(Clone, Debug)]
pub struct Announcement {
    /// The interfaces by name; none means all.
    pub interfaces: Vec<String>,
    /// The only address to announce, if the port listens on one only.
    pub address: Option<IpAddr>,
    /// The host's name.
    pub hostname: String,
    /// The agent's port.
    pub port: u16,
}

impl Announcement {
    /// Announces the device until the agent stops, then says goodbye.
    pub async fn run(self, device: Arc<Device>, tasks: Tasks) {
        self.tell_of_missing();
        let mut refused = false;
        loop {
            match self.start(&device) {
                Ok(responder) => match follow(responder, &device, &tasks).await {
                    Followed::Renamed => continue,
                    Followed::Stopping => return,
                },
                // Once is enough: a network that forbids multicast does so every minute.
                Err(error) if !refused => {
                    tracing::warn!(%error, "cannot announce this device by mDNS, trying on");
                    refused = true;
                }
                Err(error) => tracing::debug!(%error, "still cannot announce this device"),
            }
            tokio::select! {
                () = sleep(RETRY) => {}
                () = tasks.stopping() => return,
            }
        }
    }

    /// An interface may come later; a mistyped one never does.
    fn tell_of_missing(&self) {
        for interface in &self.interfaces {
            if if_nametoindex(interface.as_str()).is_err() {
                tracing::warn!(?interface, "there is no such interface to announce on yet");
            }
        }
    }

    fn start(&self, device: &Device) -> std::io::Result<Responder> {
        let options = Options { interfaces: self.interfaces.clone(), address: self.address };
        Responder::start(options, beacon(device).service(&host_label(&self.hostname), self.port))
    }
}

/// Why an announcement ended.
enum Followed {
    Renamed,
    Stopping,
}

async fn follow(responder: Responder, device: &Device, tasks: &Tasks) -> Followed {
    let mut targets = device.membership.subscribe();
    let mut said = beacon(device);
    let followed = loop {
        let window = device.window.left();
        tokio::select! {
            // The sender is in `device`, so there is no last change.
            _ = targets.changed() => {}
            () = sleep(window.unwrap_or_default()), if window.is_some_and(|left| !left.is_zero()) => {}
            () = tasks.stopping() => break Followed::Stopping,
        }
        let now = beacon(device);
        // The id is in the service's name, which is announced once.
        if now.id != said.id {
            break Followed::Renamed;
        }
        if now != said {
            tracing::debug!(state = now.state.word(), "announcing a new state");
            if let Err(error) = responder.set_txt(&now.txt()) {
                tracing::warn!(%error, "cannot announce the device's new state");
            }
            said = now;
        }
    };
    responder.stop().await;
    followed
}

fn beacon(device: &Device) -> Beacon {
    Beacon {
        id: device.id(),
        version: fleet_core::VERSION.to_owned(),
        capabilities: CAPABILITIES.map(str::to_owned).to_vec(),
        fingerprint: device.identity.fingerprint(),
        state: device.state(),
        claim: device.window.mode(),
        server: device.membership.server(),
    }
}

/// What stands before `.local`: the first label of the host's name, as far as DNS can have it.
fn host_label(hostname: &str) -> String {
    let first = hostname.split('.').next().unwrap_or_default();
    let plain = first.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' });
    let label: String = plain.take(HOST_CHARS_MAX).collect();
    let label = label.trim_matches('-');
    if label.is_empty() { "fleetd".to_owned() } else { label.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_known_by_its_first_label() {
        assert_eq!(host_label("raspberrypi"), "raspberrypi");
        assert_eq!(host_label("kiosk.example.com"), "kiosk");
        assert_eq!(host_label("my kiosk!"), "my-kiosk");
        assert_eq!(host_label("\u{2603}"), "fleetd");
        assert_eq!(host_label(&"h".repeat(256)).len(), HOST_CHARS_MAX);
    }
}
