//! What of a device does not change with how it is doing: what scopes of keys look at.

use std::borrow::Cow;
use std::collections::BTreeMap;

use fleet_core::api::DeviceStatus;
use fleet_core::field::Field;
use fleet_core::filter::Subject;
use fleet_core::identity::PublicKey;
use fleet_core::time::Timestamp;
use serde_json::Value;

use super::Device;

/// What a device is.
#[derive(Clone, Debug, PartialEq)]
pub struct Profile {
    id: String,
    uid: String,
    name: Option<String>,
    device_type: String,
    version: String,
    hostname: String,
    model: String,
    os: String,
    arch: String,
    fingerprint: Option<String>,
    metadata: BTreeMap<String, Value>,
}

impl Profile {
    /// What a device is, by its record.
    pub fn of(device: &Device) -> Self {
        let facts = &device.facts;
        let name = device.name.as_ref().or(facts.name.as_ref());
        let id = device.id.to_string();
        let read = |(name, value): (&String, &String)| {
            let value = serde_json::from_str(value).unwrap_or_else(|_| value.as_str().into());
            (name.clone(), value)
        };
        Self {
            uid: device.uid.to_string(),
            // As everywhere, a device that nobody gave a name goes by its id.
            name: name.filter(|name| **name != id).cloned(),
            id,
            device_type: if facts.device_type.is_empty() {
                "other".to_owned()
            } else {
                facts.device_type.clone()
            },
            version: facts.version.clone(),
            hostname: facts.hostname.clone(),
            model: facts.model.clone(),
            os: facts.os.clone(),
            arch: facts.arch.clone(),
            fingerprint: device.key.map(|key| PublicKey::fingerprint(key).to_string()),
            metadata: device.metadata.iter().map(read).collect(),
        }
    }
}

impl Subject for Profile {
    fn text(&self, field: Field) -> Option<Cow<'_, str>> {
        let text = match field {
            Field::Device => &self.id,
            Field::Uid => &self.uid,
            Field::Name => self.name.as_ref()?,
            Field::Type => &self.device_type,
            Field::Version => &self.version,
            Field::Hostname => &self.hostname,
            Field::Model => &self.model,
            Field::Os => &self.os,
            Field::Arch => &self.arch,
            Field::Fingerprint => self.fingerprint.as_ref()?,
            // Scopes ask for none of these.
            Field::Status
            | Field::Cpu
            | Field::Memory
            | Field::Disk
            | Field::Temperature
            | Field::Seen
            | Field::Config
            | Field::Why
            | Field::Tags
            | Field::Metadata
            | Field::Address
            | Field::Added => return None,
        };
        Some(text.as_str()).filter(|text| !text.is_empty()).map(Cow::Borrowed)
    }

    fn status(&self) -> DeviceStatus {
        DeviceStatus::Pending
    }

    fn number(&self, _field: Field) -> Option<f64> {
        None
    }

    fn time(&self, _field: Field) -> Option<Timestamp> {
        None
    }

    fn metadata(&self, name: &str) -> Option<&Value> {
        self.metadata.get(name)
    }

    fn entries(&self) -> Box<dyn Iterator<Item = &str> + '_> {
        Box::new(self.metadata.keys().map(String::as_str))
    }
}
