//! The fields of a device: the one list from which filters take their words, tables their columns,
//! and sorting its keys, in the console, the command line and the page.

use std::fmt;
use std::str::FromStr;

/// A field of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "each is its line in the list below")]
pub enum Field {
    Status,
    Device,
    Name,
    Type,
    Cpu,
    Memory,
    Disk,
    Temperature,
    Seen,
    Version,
    Config,
    Why,
    Tags,
    Metadata,
    Address,
    Hostname,
    Model,
    Os,
    Arch,
    Fingerprint,
    Added,
    Uid,
}

/// What a field holds, and so how it is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Words, compared without regard to case.
    Text,
    /// Numbers with dots, compared number by number: `1.10` is more than `1.9`.
    Version,
    /// How a device is doing; sorted by urgency.
    Status,
    /// Percents from 0 to 100.
    Percent,
    /// Degrees Celsius.
    Celsius,
    /// How long ago something was: `last_seen>10m` is longer ago than ten minutes.
    Age,
    /// Several words, any of which may match.
    Words,
}

/// One line of the list.
#[derive(Clone, Copy, Debug)]
pub struct FieldSpec {
    /// The field.
    pub field: Field,
    /// Its name in filters, in `--columns` and `--sort`.
    pub name: &'static str,
    /// Other names that filters take.
    pub aliases: &'static [&'static str],
    /// What stands above its column.
    pub title: &'static str,
    /// What it holds.
    pub kind: Kind,
    /// Whether it changes with every report, so that only what is looked at is kept up to date.
    pub is_fast: bool,
    /// Whether a table shows it unless told otherwise.
    pub is_usual: bool,
    /// On a narrow screen the column with the highest number goes first; zero never.
    pub spare: u8,
    /// The column's width where rows come one by one, and the least that makes sense.
    pub width: u16,
    /// What it is, for help.
    pub help: &'static str,
}

impl FieldSpec {
    /// Whether its column lines up on the right.
    pub fn is_number(&self) -> bool {
        matches!(self.kind, Kind::Percent | Kind::Celsius | Kind::Age)
    }
}

#[rustfmt::skip]
const FIELDS: [FieldSpec; 22] = {
    use Kind::{Age, Celsius, Percent, Status, Text, Version, Words};
    #[expect(clippy::too_many_arguments, reason = "a line of the list has as many columns")]
    const fn spec(
        field: Field, name: &'static str, aliases: &'static [&'static str], title: &'static str, kind: Kind,
        is_fast: bool, is_usual: bool, spare: u8, width: u16, help: &'static str,
    ) -> FieldSpec {
        FieldSpec { field, name, aliases, title, kind, is_fast, is_usual, spare, width, help }
    }
    [
        spec(Field::Status, "status", &["state"], "STATUS", Status, false, true, 0, 9, "online, late, offline, lost, pending, rejected or revoked"),
        spec(Field::Device, "device", &["id", "device_id"], "DEVICE", Text, false, true, 0, 16, "the device's id"),
        spec(Field::Type, "type", &["device_type"], "TYPE", Text, false, true, 7, 11, "raspberrypi, jetson, beaglebone, x86, arm, container, other"),
        spec(Field::Cpu, "cpu", &["cpu_usage"], "CPU", Percent, true, true, 1, 4, "processor use"),
        spec(Field::Memory, "mem", &["memory", "memory_usage"], "MEM", Percent, true, true, 1, 4, "memory use"),
        spec(Field::Disk, "disk", &["disk_usage"], "DISK", Percent, true, true, 1, 4, "disk use"),
        spec(Field::Temperature, "temp", &["temperature"], "TEMP", Celsius, true, false, 5, 5, "the hottest sensor"),
        spec(Field::Seen, "last_seen", &["seen"], "SEEN", Age, true, true, 2, 5, "how long ago the server heard of it"),
        spec(Field::Version, "version", &["agent"], "VERSION", Version, false, true, 3, 8, "the agent's release"),
        spec(Field::Config, "config", &[], "CONFIG", Text, false, false, 6, 8, "none, waiting, sent, trying, applied, refused or reverted"),
        spec(Field::Why, "why", &[], "WHY", Text, false, true, 4, 20, "why it is so, or what is wrong with its configuration"),
        spec(Field::Tags, "tag", &["tags"], "TAGS", Words, false, true, 8, 12, "the words in the metadata entry tags; written tag:canary"),
        spec(Field::Name, "name", &[], "NAME", Text, false, false, 8, 16, "a longer name that somebody gave"),
        spec(Field::Metadata, "metadata", &[], "METADATA", Words, false, false, 9, 20, "what operators noted; each entry is a field: site=lyon"),
        spec(Field::Address, "address", &["ip"], "ADDRESS", Text, false, false, 9, 15, "its first own address"),
        spec(Field::Hostname, "hostname", &["host"], "HOST", Text, false, false, 9, 16, "the host's name"),
        spec(Field::Model, "model", &[], "MODEL", Text, false, false, 9, 20, "the exact board"),
        spec(Field::Os, "os", &[], "OS", Text, false, false, 9, 20, "the operating system"),
        spec(Field::Arch, "arch", &[], "ARCH", Text, false, false, 9, 8, "the processor's architecture"),
        spec(Field::Fingerprint, "fingerprint", &["fp"], "FINGERPRINT", Text, false, false, 9, 16, "the device's key"),
        spec(Field::Added, "added", &["created"], "ADDED", Age, false, false, 9, 5, "how long ago the server first heard of it"),
        spec(Field::Uid, "uid", &[], "UID", Text, false, false, 9, 36, "the server's own name for it"),
    ]
};

impl Field {
    /// Every field, in the order of columns.
    pub fn all() -> impl Iterator<Item = Self> {
        FIELDS.iter().map(|spec| spec.field)
    }

    /// The columns that a table has unless told otherwise.
    pub fn usual() -> Vec<Self> {
        FIELDS.iter().filter(|spec| spec.is_usual).map(|spec| spec.field).collect()
    }

    /// Its line in the list.
    pub fn spec(self) -> &'static FieldSpec {
        FIELDS.iter().find(|spec| spec.field == self).expect("every field has a line")
    }

    /// Whether it says what a device is, and not how it is doing: what somebody wrote down of it,
    /// or what it is made of. A scope of a key is made of such fields.
    pub fn is_lasting(self) -> bool {
        match self {
            Self::Device
            | Self::Name
            | Self::Type
            | Self::Version
            | Self::Tags
            | Self::Metadata
            | Self::Hostname
            | Self::Model
            | Self::Os
            | Self::Arch
            | Self::Fingerprint
            | Self::Uid => true,
            Self::Status
            | Self::Cpu
            | Self::Memory
            | Self::Disk
            | Self::Temperature
            | Self::Seen
            | Self::Config
            | Self::Why
            | Self::Address
            | Self::Added => false,
        }
    }

    /// The field of a name or alias.
    pub fn named(name: &str) -> Option<Self> {
        let is_named = |spec: &&FieldSpec| spec.name == name || spec.aliases.contains(&name);
        FIELDS.iter().find(is_named).map(|spec| spec.field)
    }
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.spec().name)
    }
}

/// A word that names no field.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("there is no such field; known are {}", names())]
pub struct FieldError;

fn names() -> String {
    FIELDS.iter().map(|spec| spec.name).collect::<Vec<_>>().join(", ")
}

impl FromStr for Field {
    type Err = FieldError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::named(text).ok_or(FieldError)
    }
}

/// What rows are sorted by: `cpu`, or `-cpu` for the highest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SortKey {
    /// The field.
    pub field: Field,
    /// The highest first.
    pub is_descending: bool,
}

impl Default for SortKey {
    /// Problems first.
    fn default() -> Self {
        Self { field: Field::Status, is_descending: false }
    }
}

impl fmt::Display for SortKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", if self.is_descending { "-" } else { "" }, self.field)
    }
}

impl FromStr for SortKey {
    type Err = FieldError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (field, is_descending) = match text.strip_prefix('-') {
            Some(field) => (field, true),
            None => (text, false),
        };
        Ok(Self { field: field.parse()?, is_descending })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_name_means_one_field() {
        let mut seen = BTreeSet::new();
        for spec in &FIELDS {
            assert_eq!(spec.field.spec().name, spec.name);
            for name in spec.aliases.iter().chain([&spec.name]) {
                assert!(seen.insert(*name), "{name} twice");
                assert_eq!(name.parse(), Ok(spec.field));
            }
            assert!(usize::from(spec.width) >= spec.title.len(), "{}", spec.name);
        }
        assert_eq!(Field::all().count(), FIELDS.len());
    }

    #[test]
    fn sort_keys_come_back_as_they_went() {
        for text in ["status", "-cpu", "last_seen"] {
            assert_eq!(text.parse::<SortKey>().map(|key| key.to_string()), Ok(text.to_owned()));
        }
        assert!("--cpu".parse::<SortKey>().is_err() && "".parse::<SortKey>().is_err());
    }
}
