//! What can be copied of a device.

use fleet_core::untrusted::escaped_json;

use super::DeviceScreen;
use crate::layout::Pane;
use crate::state::Desk;
use crate::state::popup::{Command, Menu, MenuItem};

impl DeviceScreen {
    /// What can be copied.
    pub(super) fn copy_menu(&self, desk: &Desk) -> Option<Menu> {
        let index = &self.row()?.index;
        let mut items = Vec::new();
        let mut item = |key, text: &'static str, copied: String| {
            let detail = copied.lines().next().unwrap_or_default().to_owned();
            let command = Some(Command::Copy(text, copied));
            items.push(MenuItem { key, text: text.to_owned(), detail, command });
        };
        item('i', "device id", index.id.to_string());
        if let Some(address) = &index.address {
            item('a', "address", address.to_string());
        }
        if let Some(fingerprint) = index.fingerprint {
            item('f', "fingerprint", fingerprint.to_string());
        }
        item('u', "uid", index.uid.to_string());
        item('j', "facts as JSON", self.json());
        if self.focus == Pane::Logs {
            let height = usize::from(self.log_area(desk).height);
            item('l', "lines in sight", self.logs.copied(height));
        }
        item('c', "command for the shell", format!("fleets devices get {}", index.id));
        Some(Menu::new(format!("Copy of {}", index.id), items))
    }

    /// All that is known, in the API's own shape.
    fn json(&self) -> String {
        let json = match (self.record(), self.row()) {
            (Some(record), _) => serde_json::to_string_pretty(record),
            (None, Some(row)) => serde_json::to_string_pretty(&row.index),
            (None, None) => return String::new(),
        };
        json.map(|json| escaped_json(&json)).unwrap_or_default()
    }
}
