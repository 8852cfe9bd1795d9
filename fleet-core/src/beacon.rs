//! What a device announces about itself, as the TXT record of its mDNS service.
//!
//! [`Beacon`] is what an agent says. [`Heard`] is what a browser reads out of it: every key may be
//! absent or nonsense, unknown keys are ignored, and nothing of it is proven until the device
//! has shown over TLS that it holds the key whose fingerprint it gives.
//!
//! | key | meaning |
//! |---|---|
//! | `id` | the device's id |
//! | `v` | the agent's release |
//! | `caps` | capabilities, with commas between |
//! | `fp` | the fingerprint of the device's key |
//! | `st` | `unclaimed`, `claimed` or `closed` |
//! | `cm` | what a claimer must prove: `open`, `code`, `key` or `disabled` |
//! | `sv` | the server it belongs to, once it is claimed |

use crate::api::{ClaimMode, DeviceState};
use crate::id::DeviceId;
use crate::identity::{Fingerprint, ServerIdentity};
use crate::mdns::{Instance, Service};
use crate::untrusted::Untrusted;

/// The DNS-SD service type.
pub const SERVICE_TYPE: &str = "_fleetd._tcp";
/// The agent's port unless configured.
pub const AGENT_PORT: u16 = 6789;

/// Bytes of an instance name, being one DNS label.
const INSTANCE_BYTES_MAX: usize = 63;
/// Capabilities that are said or read.
const CAPABILITIES_MAX: usize = 32;

/// What an agent announces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Beacon {
    /// The device's id.
    pub id: DeviceId,
    /// The agent's release.
    pub version: String,
    /// What the agent can do, each a short word.
    pub capabilities: Vec<String>,
    /// The device's key.
    pub fingerprint: Fingerprint,
    /// How far it has come.
    pub state: DeviceState,
    /// What a claimer must prove.
    pub claim: ClaimMode,
    /// The server it belongs to.
    pub server: Option<ServerIdentity>,
}

impl Beacon {
    /// The TXT record's attributes.
    pub fn txt(&self) -> Vec<(String, String)> {
        let capabilities =
            self.capabilities.iter().take(CAPABILITIES_MAX).map(String::as_str).collect::<Vec<_>>();
        let mut txt = vec![
            ("id", self.id.to_string()),
            ("v", self.version.clone()),
            ("caps", capabilities.join(",")),
            ("fp", self.fingerprint.to_string()),
            ("st", self.state.word().to_owned()),
            ("cm", self.claim.word().to_owned()),
        ];
        txt.extend(self.server.map(|server| ("sv", server.to_string())));
        txt.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
    }

    /// The service to announce, on a host of this name.
    pub fn service(&self, host: &str, port: u16) -> Service {
        Service {
            instance: instance_name(&self.id),
            service_type: SERVICE_TYPE.to_owned(),
            host: host.to_owned(),
            host_alternative: format!("{host}-{}", self.fingerprint.short()),
            port,
            txt: self.txt(),
        }
    }
}

/// What a browser reads out of a TXT record.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Heard {
    /// The id it gives, if that is one.
    pub id: Option<DeviceId>,
    /// The agent's release.
    pub version: Option<Untrusted>,
    /// What the agent says it can do.
    pub capabilities: Vec<Untrusted>,
    /// The key it says it has.
    pub fingerprint: Option<Fingerprint>,
    /// How far it has come.
    pub state: Option<DeviceState>,
    /// What a claimer must prove.
    pub claim: Option<ClaimMode>,
    /// The server it says it belongs to.
    pub server: Option<ServerIdentity>,
}

impl Heard {
    /// Reads what an instance says. Of a key that comes twice, the first counts (RFC 6763 §6.4).
    pub fn read(instance: &Instance) -> Self {
        let value = |wanted: &str| {
            let of_key =
                |(key, _): &&(Untrusted, Untrusted)| key.raw().eq_ignore_ascii_case(wanted);
            instance.txt.iter().find(of_key).map(|(_, value)| value.raw())
        };
        let capabilities = value("caps").unwrap_or_default().split(',');
        let capabilities = capabilities.filter(|word| !word.is_empty()).take(CAPABILITIES_MAX);
        Self {
            id: value("id").and_then(|id| id.parse().ok()),
            version: value("v").map(Untrusted::from),
            capabilities: capabilities.map(Untrusted::from).collect(),
            fingerprint: value("fp").and_then(|fingerprint| fingerprint.parse().ok()),
            state: value("st").and_then(|word| {
                let states = [DeviceState::Unclaimed, DeviceState::Claimed, DeviceState::Closed];
                states.into_iter().find(|state| state.word() == word)
            }),
            claim: value("cm")
                .and_then(|word| ClaimMode::ALL.into_iter().find(|mode| mode.word() == word)),
            server: value("sv").and_then(|server| server.parse().ok()),
        }
    }
}

/// The instance name of a device: `fleetd-rpi4-001`. A long id is cut; TXT has it whole.
pub fn instance_name(id: &DeviceId) -> String {
    // Ids are ASCII, so every place is a character's end.
    let mut name = format!("fleetd-{id}");
    name.truncate(INSTANCE_BYTES_MAX);
    name
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::PrivateKey;

    fn beacon() -> Beacon {
        let key = PrivateKey::from_seed(&[7; 32]).public();
        Beacon {
            id: "rpi4-001".parse().unwrap(),
            version: "0.1.0".to_owned(),
            capabilities: vec!["telemetry".to_owned(), "config".to_owned()],
            fingerprint: key.fingerprint(),
            state: DeviceState::Claimed,
            claim: ClaimMode::Open,
            server: Some(key.identity()),
        }
    }

    fn instance(txt: &[(&str, &str)]) -> Instance {
        Instance {
            key: 0,
            name: "fleetd-rpi4-001".into(),
            host: "rpi4.local".into(),
            port: AGENT_PORT,
            txt: txt.iter().map(|&(key, value)| (key.into(), value.into())).collect(),
            addresses: Vec::new(),
        }
    }

    #[test]
    fn what_is_said_is_heard() {
        let beacon = beacon();
        let said = beacon.txt();
        let txt: Vec<_> = said.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        assert_eq!(
            txt.iter().map(|(key, _)| *key).collect::<Vec<_>>(),
            ["id", "v", "caps", "fp", "st", "cm", "sv"]
        );
        let heard = Heard::read(&instance(&txt));
        assert_eq!(heard.id, Some(beacon.id));
        assert_eq!(heard.version, Some("0.1.0".into()));
        assert_eq!(heard.capabilities, ["telemetry".into(), "config".into()]);
        assert_eq!(heard.fingerprint, Some(beacon.fingerprint));
        assert_eq!(heard.state, Some(DeviceState::Claimed));
        assert_eq!(heard.claim, Some(ClaimMode::Open));
        assert_eq!(heard.server, beacon.server);
    }

    #[test]
    fn nonsense_is_as_good_as_nothing() {
        let nonsense =
            [("id", "../etc"), ("fp", "x"), ("st", "mine"), ("cm", "OPEN"), ("sv", ""), ("zz", "")];
        assert_eq!(Heard::read(&instance(&nonsense)), Heard::default());
        assert_eq!(Heard::read(&instance(&[])), Heard::default());
        let twice = [("ID", "first"), ("id", "second")];
        assert_eq!(Heard::read(&instance(&twice)).id, "first".parse().ok());
    }

    #[test]
    fn the_longest_id_still_makes_a_label() {
        let id: DeviceId = "x".repeat(63).parse().unwrap();
        assert_eq!(instance_name(&id).len(), INSTANCE_BYTES_MAX);
        assert_eq!(instance_name(&beacon().id), "fleetd-rpi4-001");
    }

    #[test]
    fn the_service_has_a_second_name_for_its_host() {
        let service = beacon().service("rpi4", 7000);
        assert_eq!(service.host_alternative, format!("rpi4-{}", beacon().fingerprint.short()));
        assert_eq!((service.instance.as_str(), service.port), ("fleetd-rpi4-001", 7000));
    }
}
