//! Devices that wait for a word, and after them those that were turned away.
//!
//! As in the fleet's table the cursor and the marks are devices, not row numbers.

use std::collections::BTreeSet;

use crossterm::event::{KeyCode, KeyEvent};
use fleet_core::api::DeviceStatus;
use fleet_core::field::{Field, SortKey};
use fleet_core::filter::{self, Filter};
use fleet_core::id::Uid;

use super::data::Row;
use super::deed::{self, Chosen};
use super::popup::{Command, Menu, MenuItem, Popup};
use super::{Desk, Screen, list};
use crate::keys::Action;
use crate::layout;
use crate::state::filter_line::{FilterLine, Typed};

/// What the rows can be sorted by.
const SORTABLE: [Field; 5] =
    [Field::Added, Field::Device, Field::Type, Field::Hostname, Field::Address];

/// Devices that wait for a word.
#[derive(Debug)]
pub struct PendingScreen {
    order: Vec<Uid>,
    cursor: Option<Uid>,
    place: usize,
    /// The first row in sight.
    pub top: usize,
    marks: BTreeSet<Uid>,
    /// Where a range of marks begins.
    pub range_from: Option<Uid>,
    /// What the rows are sorted by; those that were turned away come last all the same.
    pub sort: SortKey,
    /// What is shown of them.
    pub filter: FilterLine<Filter>,
}

impl Default for PendingScreen {
    fn default() -> Self {
        Self {
            order: Vec::new(),
            cursor: None,
            place: 0,
            top: 0,
            marks: BTreeSet::new(),
            range_from: None,
            // Who has waited longest comes first, and new ones come at the end.
            sort: SortKey { field: Field::Added, is_descending: true },
            filter: FilterLine::default(),
        }
    }
}

/// Whether a device belongs here.
fn belongs(row: &Row) -> bool {
    matches!(row.index.status, DeviceStatus::Pending | DeviceStatus::Rejected)
}

impl PendingScreen {
    /// The devices, in order.
    pub fn order(&self) -> &[Uid] {
        &self.order
    }

    /// The device at the cursor.
    pub fn cursor(&self) -> Option<Uid> {
        self.cursor
    }

    /// Whether a device is marked.
    pub fn is_marked(&self, uid: Uid) -> bool {
        self.marks.contains(&uid)
    }

    /// How many are marked, and how many of those the filter hides.
    pub fn marked(&self) -> (usize, usize) {
        let hidden = self.marks.iter().filter(|uid| !self.order.contains(uid)).count();
        (self.marks.len(), hidden)
    }

    /// Brings the list up to date.
    pub fn settle(&mut self, desk: &Desk) {
        if desk.screen() != Screen::Pending {
            return;
        }
        let now = desk.link.server_time(desk.now.wall);
        let shown = |row: &&Row| belongs(row) && self.filter.filter().matches(*row, now);
        let mut rows: Vec<&Row> = desk.data.rows().filter(shown).collect();
        let is_rejected = |row: &Row| row.index.status == DeviceStatus::Rejected;
        rows.sort_by(|a, b| {
            is_rejected(a).cmp(&is_rejected(b)).then_with(|| filter::compare(self.sort, *a, *b))
        });
        self.order = rows.iter().map(|row| row.index.uid).collect();
        // A mark is for a decision; once that is made it is of no use.
        if desk.data.is_complete {
            self.marks.retain(|uid| desk.data.device(*uid).is_some_and(belongs));
        }
        let place = self.cursor.and_then(|uid| self.order.iter().position(|other| *other == uid));
        match place {
            Some(place) => self.put_cursor(place),
            // It may be among those that the server has not told of yet.
            None if self.cursor.is_some() && !desk.data.is_complete => {}
            None => self.put_cursor(self.place),
        }
        let height = usize::from(layout::pending(desk.size).rows.height);
        self.top = list::follow(self.top, self.place, self.order.len(), height);
    }

    fn put_cursor(&mut self, place: usize) {
        self.place = place.min(self.order.len().saturating_sub(1));
        self.cursor = self.order.get(self.place).copied();
    }

    /// Does what a key asked for.
    pub fn act(&mut self, action: Action, desk: &mut Desk) -> Option<Command> {
        let height = usize::from(layout::pending(desk.size).rows.height);
        if let Some(place) = list::moved(action, self.place, self.order.len(), height) {
            self.put_cursor(place);
            return None;
        }
        match action {
            Action::Open => return self.cursor.map(Command::Open),
            Action::Back => self.back(desk),
            Action::Mark => {
                if let Some(uid) = self.cursor {
                    self.turn(uid);
                    self.put_cursor(self.place + 1);
                }
            }
            Action::MarkRange => self.mark_range(),
            Action::MarkAll => self.marks.extend(self.order.iter().copied()),
            Action::MarkInvert => {
                for uid in self.order.clone() {
                    self.turn(uid);
                }
            }
            Action::Filter => self.filter.begin(),
            Action::Sort => desk.popup = Some(Popup::Menu(self.sort_menu())),
            Action::Reverse => self.sort.is_descending = !self.sort.is_descending,
            Action::Actions => desk.popup = self.actions_menu(desk).map(Popup::Menu),
            Action::Copy => desk.popup = self.copy_menu(desk).map(Popup::Menu),
            _ => {}
        }
        None
    }

    /// Back by one layer: the range, the filter, the marks.
    fn back(&mut self, desk: &mut Desk) {
        if self.range_from.take().is_some() {
            return;
        }
        if !self.filter.text().is_empty() {
            self.set_filter("", desk);
        } else if !self.marks.is_empty() {
            self.marks.clear();
        } else {
            desk.go_back();
        }
    }

    fn turn(&mut self, uid: Uid) {
        if !self.marks.remove(&uid) {
            self.marks.insert(uid);
        }
    }

    fn mark_range(&mut self) {
        let Some(from) = self.range_from.take() else {
            self.range_from = self.cursor;
            return;
        };
        if let Some(from) = self.order.iter().position(|uid| *uid == from) {
            let range = from.min(self.place)..=from.max(self.place);
            self.marks.extend(self.order.get(range).unwrap_or_default());
        }
    }

    /// Shows the list through another filter.
    pub fn set_filter(&mut self, text: &str, desk: &mut Desk) {
        if let Err(error) = self.filter.set(text) {
            desk.warn(error.to_string());
        }
    }

    /// Sorts by something else.
    pub fn set_sort(&mut self, sort: SortKey) {
        self.sort = sort;
    }

    /// Takes a key while something is typed. False if nothing is.
    pub fn types(&mut self, key: &KeyEvent) -> bool {
        match self.filter.press(key) {
            Typed::Nothing => return false,
            Typed::Filter | Typed::Line => {}
            Typed::Ignored => match key.code {
                KeyCode::Down => self.put_cursor(self.place + 1),
                KeyCode::Up => self.put_cursor(self.place.saturating_sub(1)),
                _ => {}
            },
        }
        true
    }

    /// Takes pasted text while something is typed.
    pub fn paste(&mut self, text: &str) -> bool {
        self.filter.paste(text) != Typed::Nothing
    }

    /// What can be done with the marked devices, or with the one at the cursor.
    pub(super) fn actions_menu(&self, desk: &Desk) -> Option<Menu> {
        let are_marked = !self.marks.is_empty();
        let devices: Vec<Uid> = if are_marked {
            self.marks.iter().copied().collect()
        } else {
            self.cursor.into_iter().collect()
        };
        let (_, hidden) = self.marked();
        (!devices.is_empty()).then(|| deed::menu(Chosen { devices, are_marked, hidden }, desk))
    }

    fn copy_menu(&self, desk: &Desk) -> Option<Menu> {
        let index = &desk.data.device(self.cursor?)?.index;
        let mut items = Vec::new();
        let mut item = |key, text: &'static str, copied: String| {
            let detail = copied.clone();
            let command = Some(Command::Copy(text, copied));
            items.push(MenuItem { key, text: text.to_owned(), detail, command });
        };
        item('i', "device id", index.id.to_string());
        if let Some(fingerprint) = index.fingerprint {
            item('f', "fingerprint", fingerprint.to_string());
        }
        if let Some(address) = &index.address {
            item('a', "address", address.to_string());
        }
        item('c', "command for the shell", format!("fleets devices accept {}", index.id));
        Some(Menu::new(format!("Copy of {}", index.id), items))
    }

    fn sort_menu(&self) -> Menu {
        let item = |(letter, field): (char, Field)| {
            let is_now = field == self.sort.field;
            let is_descending =
                if is_now { !self.sort.is_descending } else { field == Field::Added };
            let spec = field.spec();
            let detail = if is_now {
                format!("{} · now, turns round", spec.help)
            } else {
                spec.help.to_owned()
            };
            let command = Some(Command::Sort(SortKey { field, is_descending }));
            MenuItem { key: letter, text: spec.title.to_owned(), detail, command }
        };
        Menu::new("Sort by", ('a'..).zip(SORTABLE).map(item).collect())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use fleet_core::api::{IndexPage, StreamMessage};

    use super::*;
    use crate::effect::{Change, Effect, Request};
    use crate::sample;
    use crate::state::App;
    use crate::testing::{app_with, device, press};

    fn waiting() -> App {
        let statuses = [DeviceStatus::Pending, DeviceStatus::Rejected, DeviceStatus::Online];
        let mut rows: Vec<_> = (0..)
            .zip(statuses)
            .map(|(slot, status)| device(slot, &format!("d{slot}"), status))
            .collect();
        rows.push(device(3, "d3", DeviceStatus::Pending));
        rows[3].created_at = rows[0].created_at.minus(Duration::from_secs(60));
        app_with(rows)
    }

    #[test]
    fn who_waits_longest_is_first_and_who_was_turned_away_last() {
        let mut app = waiting();
        press(&mut app, "7");
        assert_eq!(app.pending.order(), [3, 0, 1].map(sample::uid));
        press(&mut app, "S");
        assert_eq!(app.pending.order(), [0, 3, 1].map(sample::uid));
    }

    #[test]
    fn marks_and_cursor_stay_with_their_devices() {
        let mut app = waiting();
        press(&mut app, "7 j Space");
        assert!(app.pending.is_marked(sample::uid(0)));
        assert_eq!(app.pending.cursor(), Some(sample::uid(1)));
        press(&mut app, "/ d 3 Enter");
        assert_eq!((app.pending.order(), app.pending.marked()), (&[sample::uid(3)][..], (1, 1)));
        let rows = vec![device(0, "d0", DeviceStatus::Online)];
        sample::say(
            &mut app,
            StreamMessage::Index(IndexPage { rows, gone: vec![], complete: true }),
        );
        assert_eq!(app.pending.marked(), (0, 0), "it waits no longer");
    }

    #[test]
    fn marks_and_cursor_outlive_another_run_of_the_server() {
        let mut app = waiting();
        press(&mut app, "7 Space j");
        let rows: Vec<_> = app.desk.data.rows().map(|row| row.index.clone()).collect();
        let (cursor, first) = (app.pending.cursor(), rows[0].clone());
        sample::say(&mut app, StreamMessage::Hello(sample::hello(4)));
        for (rows, complete) in [(vec![first], false), (rows, true)] {
            let page = IndexPage { rows, gone: vec![], complete };
            sample::say(&mut app, StreamMessage::Index(page));
        }
        assert_eq!((app.pending.marked(), app.pending.cursor()), ((1, 0), cursor));
    }

    #[test]
    fn the_marked_ones_are_accepted_after_a_question() {
        let mut app = waiting();
        let effects = press(&mut app, "7 Space Space x a 2 Enter");
        let change = |effect: &Effect| match effect {
            Effect::Ask(Request::Change(uid, change)) => Some((*uid, change.clone())),
            _ => None,
        };
        let mut changes: Vec<_> = effects.iter().filter_map(change).collect();
        changes.sort_by_key(|(uid, _)| *uid);
        assert_eq!(changes, [0, 3].map(|slot| (sample::uid(slot), Change::Accept)));
    }
}
