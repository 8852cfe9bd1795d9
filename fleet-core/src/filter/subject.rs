//! The devices that filters and sort keys look at: whole ones, and rows of the live index.

use std::borrow::Cow;

use serde_json::Value;

use super::{ConfigState, Subject, why};
use crate::api::{Device, DeviceStatus, IndexRow};
use crate::field::Field;
use crate::time::Timestamp;
use crate::untrusted::Untrusted;

impl<T: Subject + ?Sized> Subject for &T {
    fn text(&self, field: Field) -> Option<Cow<'_, str>> {
        (**self).text(field)
    }

    fn status(&self) -> DeviceStatus {
        (**self).status()
    }

    fn number(&self, field: Field) -> Option<f64> {
        (**self).number(field)
    }

    fn time(&self, field: Field) -> Option<Timestamp> {
        (**self).time(field)
    }

    fn metadata(&self, name: &str) -> Option<&Value> {
        (**self).metadata(name)
    }

    fn entries(&self) -> Box<dyn Iterator<Item = &str> + '_> {
        (**self).entries()
    }
}

impl Subject for Device {
    fn text(&self, field: Field) -> Option<Cow<'_, str>> {
        let facts = &self.facts;
        let error = self.config_error.as_ref();
        let config = self
            .config_state
            .unwrap_or_else(|| ConfigState::of(self.config_version, self.config_reported, error));
        match field {
            Field::Status => Some(self.status.word().into()),
            Field::Device => Some(self.id.as_str().into()),
            // A device that nobody gave a name goes by its id.
            Field::Name if self.name.raw() == self.id.as_str() => None,
            Field::Name => outside(&self.name),
            Field::Type => outside(&self.device_type),
            Field::Version => outside(&self.version),
            Field::Config => Some(config.word().into()),
            Field::Why => {
                why(self.status, Some(&self.why), error, config, self.double.is_some()).map(raw)
            }
            Field::Address => facts.addresses.first().and_then(outside),
            Field::Hostname => outside(&facts.hostname),
            Field::Model => outside(&facts.model),
            Field::Os => outside(&facts.os),
            Field::Arch => outside(&facts.arch),
            Field::Fingerprint => self.fingerprint.map(|key| key.to_string().into()),
            Field::Uid => Some(self.uid.to_string().into()),
            Field::Cpu | Field::Memory | Field::Disk | Field::Temperature => None,
            Field::Seen | Field::Added | Field::Tags | Field::Metadata => None,
        }
    }

    fn status(&self) -> DeviceStatus {
        self.status
    }

    fn number(&self, field: Field) -> Option<f64> {
        let metric = match field {
            Field::Cpu => "cpu_usage",
            Field::Memory => "memory_usage",
            Field::Disk => "disk_usage",
            Field::Temperature => "temperature_celsius",
            _ => return None,
        };
        // What an absent device measured last is not how it is.
        let latest = self.latest.as_ref().filter(|_| self.status.is_heard())?;
        latest.metrics.get(metric).copied()
    }

    fn time(&self, field: Field) -> Option<Timestamp> {
        match field {
            Field::Seen => self.last_seen,
            Field::Added => Some(self.created_at),
            _ => None,
        }
    }

    fn metadata(&self, name: &str) -> Option<&Value> {
        self.metadata.get(name)
    }

    fn entries(&self) -> Box<dyn Iterator<Item = &str> + '_> {
        Box::new(self.metadata.keys().map(String::as_str))
    }
}

impl Subject for IndexRow {
    fn text(&self, field: Field) -> Option<Cow<'_, str>> {
        let error = self.config_error.as_ref();
        let config = self
            .config_state
            .unwrap_or_else(|| ConfigState::of(self.config_version, self.config_reported, error));
        match field {
            Field::Status => Some(self.status.word().into()),
            Field::Device => Some(self.id.as_str().into()),
            Field::Name => {
                self.name.as_ref().filter(|name| name.raw() != self.id.as_str()).and_then(outside)
            }
            Field::Type => outside(&self.device_type),
            Field::Version => outside(&self.version),
            Field::Config => Some(config.word().into()),
            Field::Why => {
                why(self.status, self.why.as_ref(), error, config, self.why.is_some()).map(raw)
            }
            Field::Address => self.address.as_ref().and_then(outside),
            Field::Hostname => outside(&self.hostname),
            Field::Model => outside(&self.model),
            Field::Os => outside(&self.os),
            Field::Arch => outside(&self.arch),
            Field::Fingerprint => self.fingerprint.map(|key| key.to_string().into()),
            Field::Uid => Some(self.uid.to_string().into()),
            Field::Cpu | Field::Memory | Field::Disk | Field::Temperature => None,
            Field::Seen | Field::Added | Field::Tags | Field::Metadata => None,
        }
    }

    fn status(&self) -> DeviceStatus {
        self.status
    }

    /// Nothing: the index does not tell what changes with every report.
    fn number(&self, _field: Field) -> Option<f64> {
        None
    }

    fn time(&self, field: Field) -> Option<Timestamp> {
        match field {
            Field::Seen => self.last_seen,
            Field::Added => Some(self.created_at),
            _ => None,
        }
    }

    fn metadata(&self, name: &str) -> Option<&Value> {
        self.metadata.get(name)
    }

    fn entries(&self) -> Box<dyn Iterator<Item = &str> + '_> {
        Box::new(self.metadata.keys().map(String::as_str))
    }
}

/// A text from outside; an empty one is none.
fn outside(text: &Untrusted) -> Option<Cow<'_, str>> {
    Some(text.raw()).filter(|text| !text.is_empty()).map(Cow::Borrowed)
}

fn raw(text: Cow<'_, Untrusted>) -> Cow<'_, str> {
    match text {
        Cow::Borrowed(text) => Cow::Borrowed(text.raw()),
        Cow::Owned(text) => Cow::Owned(text.into_raw()),
    }
}
