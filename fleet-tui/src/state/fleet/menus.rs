//! The fleet's menus: sorting, columns, copying, exporting, and what can be done with devices.

use fleet_core::field::{Field, SortKey};
use fleet_core::filter::Subject as _;

use super::FleetScreen;
use crate::cells;
use crate::effect::Effect;
use crate::state::Desk;
use crate::state::data::Row;
use crate::state::deed::{self, Chosen};
use crate::state::popup::{Command, Menu, MenuItem, Popup};

impl FleetScreen {
    /// The columns to sort by; the one that is, again, turns the order round.
    pub(super) fn sort_menu(&self) -> Menu {
        let letters = letters(sortable());
        let item = |(field, key): (Field, char)| {
            let spec = field.spec();
            let is_now = field == self.sort.field;
            let is_descending = if is_now {
                !self.sort.is_descending
            } else {
                // Of numbers the highest are of interest.
                spec.is_number() && field != Field::Seen && field != Field::Added
            };
            let command = Command::Sort(SortKey { field, is_descending });
            let detail = if is_now {
                format!("{} · now, turns round", spec.help)
            } else {
                spec.help.to_owned()
            };
            MenuItem { key, text: spec.title.to_owned(), detail, command: Some(command) }
        };
        let mut menu = Menu::new("Sort by", sortable().zip(letters).map(item).collect());
        menu.cursor = sortable().position(|field| field == self.sort.field).unwrap_or_default();
        menu
    }

    /// What can be copied of the device at the cursor.
    pub(super) fn copy_menu(&self, desk: &Desk) -> Option<Menu> {
        let row = desk.data.device(self.cursor?)?;
        let index = &row.index;
        let mut items = Vec::new();
        let mut item = |key, text: &'static str, copied: String| {
            let detail = copied.lines().next().unwrap_or_default().replace('\t', "  ");
            let command = Some(Command::Copy(text, copied));
            items.push(MenuItem { key, text: text.to_owned(), detail, command });
        };
        item('i', "device id", index.id.to_string());
        if let Some(name) = &index.name {
            item('n', "name", name.to_string());
        }
        if let Some(address) = &index.address {
            item('a', "address", address.to_string());
        }
        if let Some(fingerprint) = index.fingerprint {
            item('f', "fingerprint", fingerprint.to_string());
        }
        item('r', "row, with tabs", self.row_text(row, desk, "\t"));
        item('c', "command for the shell", format!("fleets devices get {}", index.id));
        Some(Menu::new(format!("Copy of {}", index.id), items))
    }

    /// What can be done with the marked devices, or with the one at the cursor.
    pub(in crate::state) fn actions_menu(&self, desk: &Desk) -> Option<Menu> {
        let devices = self.chosen();
        if devices.is_empty() {
            return None;
        }
        let (marked, hidden) = self.marked(desk);
        Some(deed::menu(Chosen { devices, are_marked: marked > 0, hidden }, desk))
    }

    /// The columns to choose from.
    pub(super) fn columns_popup(&self) -> Popup {
        Popup::Columns(crate::state::popup::Columns::new(&self.columns))
    }

    /// Writes the rows that the filter shows, all of them, as CSV.
    pub(super) fn export(&self, desk: &mut Desk) {
        let titles: Vec<_> = self.columns.iter().map(|field| field.spec().name).collect();
        let mut contents = titles.join(",") + "\n";
        for row in self.order.iter().filter_map(|slot| desk.data.row(*slot)) {
            let now = desk.link.server_time(desk.now.wall);
            let fields = self.columns.iter().map(|field| {
                let text = if *field == Field::Seen {
                    row.time(*field).map(|time| time.to_string()).unwrap_or_default()
                } else {
                    cells::text(row, *field, now)
                };
                cells::csv_field(&text)
            });
            contents.push_str(&fields.collect::<Vec<_>>().join(","));
            contents.push('\n');
        }
        desk.wish(Effect::Export { stem: "fleet", extension: "csv", contents });
    }

    fn row_text(&self, row: &Row, desk: &Desk, gap: &str) -> String {
        let now = desk.link.server_time(desk.now.wall);
        let cells = self.columns.iter().map(|field| cells::text(row, *field, now));
        cells.collect::<Vec<_>>().join(gap)
    }
}

/// The fields that make sense to sort by.
fn sortable() -> impl Iterator<Item = Field> {
    Field::all().filter(|field| !matches!(field, Field::Metadata | Field::Uid | Field::Fingerprint))
}

/// A letter for each field: the first of its name that none before it has.
fn letters(fields: impl Iterator<Item = Field>) -> Vec<char> {
    let mut letters = Vec::new();
    for field in fields {
        let free = |letter: &char| !letters.contains(letter);
        let letter = field.spec().name.chars().chain('a'..='z').find(free);
        letters.push(letter.unwrap_or(' '));
    }
    letters
}
