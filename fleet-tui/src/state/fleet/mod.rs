//! The fleet's table: which rows, in which order, where the cursor is, what is marked.
//!
//! The cursor and the marks are devices, not row numbers: they stay with their devices whatever is
//! filtered and sorted. Rows do not move while somebody is at the keys.

use std::collections::BTreeSet;
use std::time::Duration;

use crossterm::event::{KeyCode, KeyEvent};
use fleet_core::api::StreamView;
use fleet_core::field::{Field, SortKey};
use fleet_core::filter::{self, Filter, FilterError};
use fleet_core::id::Uid;
use fleet_core::limits::VIEW_ROWS_MAX;

use super::data::{Revision, Row};
use super::popup::{Command, Popup};
use super::{Desk, list};
use crate::keys::Action;
use crate::layout;
use crate::state::filter_line::{FilterLine, Typed};
use crate::widgets::field;

mod menus;
mod order;
#[cfg(test)]
mod tests;

/// Rows do not move for so long after a key.
const STILL_AFTER_KEY: Duration = Duration::from_millis(1500);
/// How long after a key the values may come that another order needs.
const VALUES_COME: Duration = Duration::from_millis(800);
/// How often rows move at most, when they are sorted or filtered by what changes fast.
const FAST_ORDER_INTERVAL: Duration = Duration::from_secs(2);

/// The fleet's table.
#[derive(Debug)]
pub struct FleetScreen {
    filter: FilterLine<Filter>,
    /// What the rows are sorted by.
    pub sort: SortKey,
    /// The columns.
    pub columns: Vec<Field>,
    /// The slots of the rows, in order.
    order: Vec<u32>,
    cursor: Option<Uid>,
    /// Where the cursor's row is, or was when its device left.
    place: usize,
    /// The first row in sight.
    pub top: usize,
    marks: BTreeSet<Uid>,
    /// The index that the marks were last compared with.
    marks_seen: u64,
    /// Where a range of marks begins.
    pub range_from: Option<Uid>,
    /// Whether the picture is held still.
    pub is_frozen: bool,
    still_until: Duration,
    /// Whether the last key asked for another order, and until when the values for it may come.
    is_asked: bool,
    asked_until: Duration,
    ordered: Option<Ordered>,
    advice: Advice,
    wants_advice: bool,
}

/// What to say to somebody whose filter shows nothing. Safe to show.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Advice {
    /// A field in it that no device has.
    pub missing: Option<String>,
    /// A term that may have been meant.
    pub suggestion: Option<String>,
}

/// From what the order of rows was made.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Ordered {
    revision: Revision,
    at: Duration,
}

impl Default for FleetScreen {
    fn default() -> Self {
        Self {
            filter: FilterLine::default(),
            sort: SortKey::default(),
            columns: Field::usual(),
            order: Vec::new(),
            cursor: None,
            place: 0,
            top: 0,
            marks: BTreeSet::new(),
            marks_seen: 0,
            range_from: None,
            is_frozen: false,
            still_until: Duration::ZERO,
            is_asked: false,
            asked_until: Duration::ZERO,
            ordered: None,
            advice: Advice::default(),
            wants_advice: false,
        }
    }
}

impl FleetScreen {
    /// The rows' slots, in order.
    pub fn order(&self) -> &[u32] {
        &self.order
    }

    /// Where the cursor is in the order.
    pub fn place(&self) -> usize {
        self.place
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
    pub fn marked(&self, desk: &Desk) -> (usize, usize) {
        let now = desk.link.server_time(desk.now.wall);
        let is_hidden = |uid: &&Uid| {
            desk.data.device(**uid).is_none_or(|row| !self.filter.filter().matches(row, now))
        };
        (self.marks.len(), self.marks.iter().filter(is_hidden).count())
    }

    /// The filter's text; while it is typed, what stands there now.
    pub fn filter_text(&self) -> &str {
        self.filter.text()
    }

    /// The line in which the filter is typed, while it is.
    pub fn filter_field(&self) -> Option<&field::Field> {
        self.filter.field()
    }

    /// What is wrong with the filter that is being typed.
    pub fn filter_error(&self) -> Option<&FilterError> {
        self.filter.error()
    }

    /// What to say of a filter that shows nothing.
    pub fn advice(&self) -> &Advice {
        &self.advice
    }

    /// The devices that an action is about: the marked ones, or else the one at the cursor.
    pub fn chosen(&self) -> Vec<Uid> {
        if self.marks.is_empty() {
            self.cursor.into_iter().collect()
        } else {
            self.marks.iter().copied().collect()
        }
    }

    /// The rows in sight, with the place of the first.
    pub fn in_sight<'a>(&'a self, desk: &Desk) -> &'a [u32] {
        let end = (self.top + rows_height(desk)).min(self.order.len());
        self.order.get(self.top..end).unwrap_or_default()
    }

    /// Notes that somebody is at the keys.
    pub fn touched(&mut self, now: Duration) {
        self.still_until = now + STILL_AFTER_KEY;
        self.asked_until = now + VALUES_COME;
        self.is_asked = false;
    }

    /// Brings the order and the cursor up to date, when rows may move.
    pub fn settle(&mut self, desk: &Desk) {
        let now = desk.now.since_start;
        self.forget_gone(desk);
        if self.may_reorder(desk, now) {
            self.reorder(desk);
        }
        // It goes through all devices several times: not for each key that is typed.
        if self.wants_advice && (!self.filter.is_typing() || now >= self.still_until) {
            self.wants_advice = false;
            let (text, rows) = (self.filter_text(), desk.data.rows());
            let missing = filter::missing(text, rows.clone());
            let suggestion = filter::suggestion(text, rows).map(|suggestion| suggestion.term);
            self.advice = Advice { missing, suggestion };
        }
        self.find_cursor(desk);
        self.top = list::follow(self.top, self.place, self.order.len(), rows_height(desk));
    }

    /// Takes the marks off devices that have left the fleet, once all of those that are in it are
    /// known.
    fn forget_gone(&mut self, desk: &Desk) {
        if !desk.data.is_complete || self.marks_seen == desk.data.revision.index {
            return;
        }
        self.marks_seen = desk.data.revision.index;
        self.marks.retain(|uid| desk.data.device(*uid).is_some());
        self.range_from = self.range_from.filter(|uid| desk.data.device(*uid).is_some());
    }

    fn may_reorder(&self, desk: &Desk, now: Duration) -> bool {
        let Some(ordered) = self.ordered else { return true };
        let is_fast = self.uses_values();
        if ordered.revision.run != desk.data.revision.run {
            return true;
        }
        let is_old = ordered.revision.index != desk.data.revision.index
            || (is_fast && ordered.revision.values != desk.data.revision.values);
        if !is_old || self.is_frozen {
            return false;
        }
        // Nothing is under anybody's fingers yet, or they asked for it.
        let is_first = !desk.data.is_complete || self.order.is_empty();
        let is_asked = is_fast && self.is_asked && now < self.asked_until;
        let interval = if is_fast { FAST_ORDER_INTERVAL } else { Duration::ZERO };
        is_first || is_asked || (now >= self.still_until && now >= ordered.at + interval)
    }

    fn reorder(&mut self, desk: &Desk) {
        let now = desk.link.server_time(desk.now.wall);
        let filter = self.filter.filter();
        let shown = |row: &&Row| filter.matches(*row, now);
        self.order = order::sorted(desk.data.rows().filter(shown), self.sort);
        self.ordered = Some(Ordered { revision: desk.data.revision, at: desk.now.since_start });
        self.advice = Advice::default();
        self.wants_advice = self.order.is_empty() && desk.data.is_complete;
    }

    /// Orders the rows again although somebody is at the keys: it was asked for. If it takes values
    /// that are yet to come, also once they are there, unless another key was pressed.
    fn reorder_now(&mut self) {
        self.ordered = None;
        self.is_asked = true;
    }

    /// Finds the cursor's row again; if its device is gone, the row in its place has the cursor.
    fn find_cursor(&mut self, desk: &Desk) {
        let at = |place: usize| {
            let row = self.order.get(place).and_then(|slot| desk.data.row(*slot));
            row.map(|row| row.index.uid)
        };
        if self.cursor.is_some() && at(self.place) == self.cursor {
            return;
        }
        let slot = self.cursor.and_then(|uid| desk.data.slot(uid));
        let place = slot.and_then(|slot| self.order.iter().position(|other| *other == slot));
        match place {
            Some(place) => self.place = place,
            // It may be among those that the server has not told of yet.
            None if self.cursor.is_some() && !desk.data.is_complete => {}
            None => {
                self.place = self.place.min(self.order.len().saturating_sub(1));
                self.cursor = at(self.place);
            }
        }
    }

    fn put_cursor(&mut self, place: usize, desk: &Desk) {
        self.place = place.min(self.order.len().saturating_sub(1));
        let row = self.order.get(self.place).and_then(|slot| desk.data.row(*slot));
        self.cursor = row.map(|row| row.index.uid);
    }

    /// Does what a key asked for, if that is the table's own.
    pub fn act(&mut self, action: Action, desk: &mut Desk) -> Option<Command> {
        if let Some(place) = list::moved(action, self.place, self.order.len(), rows_height(desk)) {
            self.put_cursor(place, desk);
            return None;
        }
        match action {
            Action::Open => return self.cursor.map(Command::Open),
            Action::Back => self.back(desk),
            Action::Mark => self.mark(desk),
            Action::MarkRange => self.mark_range(desk),
            Action::MarkAll => self.mark_all(desk),
            Action::MarkInvert => self.mark_invert(desk),
            Action::Filter => self.filter.begin(),
            Action::Reverse => {
                self.sort.is_descending = !self.sort.is_descending;
                self.reorder_now();
            }
            Action::NextProblem => self.next_problem(desk, true),
            Action::PreviousProblem => self.next_problem(desk, false),
            Action::Freeze => self.is_frozen = !self.is_frozen,
            Action::Sort => desk.popup = Some(Popup::Menu(self.sort_menu())),
            Action::Columns => desk.popup = Some(self.columns_popup()),
            Action::Copy => desk.popup = self.copy_menu(desk).map(Popup::Menu),
            Action::Actions => desk.popup = self.actions_menu(desk).map(Popup::Menu),
            Action::Export => self.export(desk),
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

    /// Shows the fleet through another filter.
    pub fn set_filter(&mut self, text: &str, desk: &mut Desk) {
        match self.filter.set(text) {
            Ok(()) => self.reorder_now(),
            Err(error) => desk.warn(error.to_string()),
        }
    }

    /// Sorts by something else.
    pub fn set_sort(&mut self, sort: SortKey) {
        self.sort = sort;
        self.reorder_now();
    }

    /// Shows other columns.
    pub fn set_columns(&mut self, columns: Vec<Field>) {
        self.columns = columns;
    }

    /// Takes a key while the filter is typed. False if it is not.
    pub fn types(&mut self, key: &KeyEvent, desk: &Desk) -> bool {
        match self.filter.press(key) {
            Typed::Nothing => return false,
            Typed::Filter => self.reorder_now(),
            Typed::Line => {}
            Typed::Ignored => {
                let action = match key.code {
                    KeyCode::Down => Action::Down,
                    KeyCode::Up => Action::Up,
                    _ => return true,
                };
                let moved = list::moved(action, self.place, self.order.len(), rows_height(desk));
                self.put_cursor(moved.unwrap_or_default(), desk);
            }
        }
        true
    }

    /// Takes pasted text while the filter is typed. False if it is not.
    pub fn paste(&mut self, text: &str) -> bool {
        let typed = self.filter.paste(text);
        if typed == Typed::Filter {
            self.reorder_now();
        }
        typed != Typed::Nothing
    }

    fn mark(&mut self, desk: &Desk) {
        let Some(uid) = self.cursor else { return };
        if !self.marks.remove(&uid) {
            self.marks.insert(uid);
        }
        self.put_cursor(self.place + 1, desk);
    }

    fn mark_range(&mut self, desk: &Desk) {
        let Some(from) = self.range_from.take() else {
            self.range_from = self.cursor;
            return;
        };
        let place = |uid: Uid| {
            let slot = desk.data.slot(uid)?;
            self.order.iter().position(|other| *other == slot)
        };
        let (Some(from), to) = (place(from), self.place) else { return };
        let rows = self.order.get(from.min(to)..=from.max(to)).unwrap_or_default();
        let uids = rows.iter().filter_map(|slot| desk.data.row(*slot)).map(|row| row.index.uid);
        self.marks.extend(uids);
    }

    fn mark_all(&mut self, desk: &Desk) {
        let rows = self.order.iter().filter_map(|slot| desk.data.row(*slot));
        self.marks.extend(rows.map(|row| row.index.uid));
    }

    fn mark_invert(&mut self, desk: &Desk) {
        for row in self.order.iter().filter_map(|slot| desk.data.row(*slot)) {
            let uid = row.index.uid;
            if !self.marks.remove(&uid) {
                self.marks.insert(uid);
            }
        }
    }

    fn next_problem(&mut self, desk: &mut Desk, is_down: bool) {
        let is_problem = |place: &usize| {
            let row = self.order.get(*place).and_then(|slot| desk.data.row(*slot));
            row.is_some_and(Row::is_problem)
        };
        let found = if is_down {
            (self.place + 1..self.order.len()).find(is_problem)
        } else {
            (0..self.place).rev().find(is_problem)
        };
        match found {
            Some(place) => self.put_cursor(place, desk),
            None => desk.say(if is_down { "no further problem below" } else { "none above" }),
        }
    }

    /// Whether rows depend on what changes fast.
    fn uses_values(&self) -> bool {
        self.sort.field.spec().is_fast || self.filter.filter().uses_fast()
    }

    /// What the server is to send while this is shown.
    pub fn wants(&self, desk: &Desk) -> StreamView {
        if self.is_frozen {
            return StreamView::default();
        }
        let rows = self.in_sight(desk).iter().copied().take(VIEW_ROWS_MAX);
        StreamView { rows: rows.collect(), all: self.uses_values(), watch: None }
    }

    /// Whether problems wait above what is in sight.
    pub fn problems_above(&self, desk: &Desk) -> usize {
        let above = self.order.get(..self.top).unwrap_or_default();
        above.iter().filter(|slot| desk.data.row(**slot).is_some_and(Row::is_problem)).count()
    }
}

/// How many rows the table has in sight.
fn rows_height(desk: &Desk) -> usize {
    usize::from(layout::fleet_rows(desk.size).height)
}
