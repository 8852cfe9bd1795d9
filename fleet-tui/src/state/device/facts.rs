//! Everything that is known of a device, line by line.

use fleet_core::api::Device;
use fleet_core::field::Field;
use fleet_core::filter::Subject as _;
use fleet_core::time::Timestamp;
use fleet_core::untrusted::{Untrusted, escaped};

use crate::cells;
use crate::state::data::Row;

/// Binary bytes of a gibibyte.
const GIB: f64 = 1_073_741_824.0;

/// Something that is known, safe to show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fact {
    /// What it is called.
    pub name: String,
    /// What it is.
    pub text: String,
}

/// What is known: from the row, and from the device's record once that has come.
pub fn facts(device_row: &Row, device: Option<&Device>, now: Timestamp) -> Vec<Fact> {
    let row = &device_row.index;
    let mut list = List::default();
    list.put("id", row.id.to_string());
    list.outside("name", row.name.as_ref());
    list.put("status", row.status.word().to_owned());
    list.put("why", row.text(Field::Why).map(|why| escaped(&why)).unwrap_or_default());
    list.outside("type", Some(&row.device_type));
    list.outside("model", Some(&row.model));
    list.outside("hostname", Some(&row.hostname));
    list.outside("os", Some(&row.os));
    list.outside("kernel", device.map(|device| &device.facts.kernel));
    list.outside("arch", Some(&row.arch));
    if let Some(facts) = device.map(|device| &device.facts) {
        list.put("cores", if facts.cores > 0 { facts.cores.to_string() } else { String::new() });
        let memory = facts.memory_bytes.map(|bytes| format!("{:.1} GiB", bytes as f64 / GIB));
        list.put("memory", memory.unwrap_or_default());
        for address in &facts.addresses {
            list.outside("address", Some(address));
        }
    } else {
        list.outside("address", row.address.as_ref());
    }
    list.outside("agent", Some(&row.version));
    list.put("reports", format!("every {} s", row.interval_secs));
    if let Some(device) = device.filter(|device| device.missed_reports > 0) {
        list.put("missed", format!("{} reports that its agent had to drop", device.missed_reports));
    }
    list.put("config", row.text(Field::Config).map(|text| escaped(&text)).unwrap_or_default());
    list.put("added", since(row.created_at, now));
    list.put("last seen", device_row.last_seen().map(|seen| since(seen, now)).unwrap_or_default());
    list.put("key", row.fingerprint.map(|key| key.to_string()).unwrap_or_default());
    list.put("uid", row.uid.to_string());
    let metadata = device.map_or(&row.metadata, |device| &device.metadata);
    if !metadata.is_empty() {
        list.put("metadata", format!("{} noted", metadata.len()));
    }
    for (name, value) in metadata {
        let text = value.as_str().map_or_else(|| value.to_string(), ToOwned::to_owned);
        list.put(&format!("  {}", escaped(name)), escaped(&text));
    }
    list.0
}

#[derive(Default)]
struct List(Vec<Fact>);

impl List {
    /// A line, unless there is nothing to say.
    fn put(&mut self, name: &str, text: String) {
        if !text.is_empty() {
            self.0.push(Fact { name: name.to_owned(), text });
        }
    }

    fn outside(&mut self, name: &str, text: Option<&Untrusted>) {
        self.put(name, text.map(ToString::to_string).unwrap_or_default());
    }
}

/// A time, and how long ago it was.
fn since(at: Timestamp, now: Timestamp) -> String {
    let whole = at.to_string();
    let whole = whole.get(..19).map_or(whole.clone(), |to_the_second| format!("{to_the_second}Z"));
    format!("{whole}, {}", cells::ago(at, now))
}
