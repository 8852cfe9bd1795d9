//! What happened: the newest events first, older ones as one goes down to them.
//!
//! While the list follows, the cursor is at the newest. Whoever goes down reads: then nothing moves
//! under the cursor, and what arrives above is counted.

mod filter;

use std::collections::BTreeMap;
use std::time::Duration;

use crossterm::event::KeyEvent;
use fleet_core::api::EventView;
use fleet_core::time::Timestamp;

use super::batches::id_of;
use super::popup::{Command, Menu, MenuItem, Popup};
use super::{Desk, Screen, list};
use crate::cells;
use crate::effect::{Effect, Request};
use crate::event::{Answer, Failed};
use crate::keys::Action;
use crate::layout;
use crate::state::filter_line::FilterLine;
pub use filter::EventFilter;

/// Events that are kept here; the server has more.
const EVENTS_MAX: usize = 5_000;
/// Older events are asked for when no more than so many rows are left below the cursor.
const ROWS_LEFT: usize = 50;

/// How far back events are shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Range {
    /// All.
    #[default]
    All,
    /// An hour.
    Hour,
    /// A day.
    Day,
    /// A week.
    Week,
}

impl Range {
    /// Every range, in the order in which a key goes through them.
    pub const ALL: [Self; 4] = [Self::All, Self::Hour, Self::Day, Self::Week];

    /// Its word.
    pub fn word(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Hour => "1h",
            Self::Day => "24h",
            Self::Week => "7d",
        }
    }

    fn span(self) -> Option<Duration> {
        let hours = match self {
            Self::All => return None,
            Self::Hour => 1,
            Self::Day => 24,
            Self::Week => 7 * 24,
        };
        Some(Duration::from_secs(hours * 3600))
    }

    fn next(self) -> Self {
        let at = Self::ALL.iter().position(|range| *range == self).unwrap_or_default();
        Self::ALL[(at + 1) % Self::ALL.len()]
    }
}

/// What happened.
#[derive(Debug)]
pub struct EventsScreen {
    /// By number.
    kept: BTreeMap<u64, EventView>,
    /// The numbers of the rows, newest first.
    order: Vec<u64>,
    cursor: Option<u64>,
    place: usize,
    /// The first row in sight.
    pub top: usize,
    /// How far back events are shown.
    pub range: Range,
    /// What is shown of them.
    pub filter: FilterLine<EventFilter>,
    /// Whether the cursor stays at the newest.
    pub is_following: bool,
    /// Whether the picture is held still.
    pub is_frozen: bool,
    /// Arrived since somebody went down to read.
    pub unseen: usize,
    /// Let go of because there were too many.
    pub dropped: usize,
    /// Why the last page did not come.
    pub failure: Option<String>,
    load: Load,
    /// Whether the rows are those that they should be.
    is_stale: bool,
}

/// How far the events are loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Load {
    /// Nothing was asked for yet, or something may be missing at the newest end.
    Nothing,
    /// A page was asked for; `before` is nothing for the newest page.
    Asked { before: Option<u64> },
    /// There may be older ones.
    Some,
    /// The oldest is here.
    All,
}

impl Default for EventsScreen {
    fn default() -> Self {
        Self {
            kept: BTreeMap::new(),
            order: Vec::new(),
            cursor: None,
            place: 0,
            top: 0,
            range: Range::default(),
            filter: FilterLine::default(),
            is_following: true,
            is_frozen: false,
            unseen: 0,
            dropped: 0,
            failure: None,
            load: Load::Nothing,
            is_stale: false,
        }
    }
}

impl EventsScreen {
    /// The events that are shown, newest first, from the first in sight on.
    pub fn in_sight(&self, height: usize) -> impl Iterator<Item = &EventView> {
        self.order.iter().skip(self.top).take(height).filter_map(|seq| self.kept.get(seq))
    }

    /// How many are shown.
    pub fn len(&self) -> usize {
        self.order.len()
    }

    /// Whether none is shown.
    pub fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    /// How many are kept, shown or not.
    pub fn kept(&self) -> usize {
        self.kept.len()
    }

    /// Whether a page is on its way.
    pub fn is_loading(&self) -> bool {
        matches!(self.load, Load::Asked { .. } | Load::Nothing)
    }

    /// Whether the server has no older ones.
    pub fn has_all(&self) -> bool {
        self.load == Load::All && self.dropped == 0
    }

    /// The event at the cursor.
    pub fn at_cursor(&self) -> Option<&EventView> {
        self.kept.get(&self.cursor?)
    }

    /// Asks for what is missing.
    pub fn entered(&mut self, desk: &mut Desk) {
        if self.load == Load::Nothing {
            self.ask(None, desk);
        }
    }

    /// Notes that the link was down: events were missed. A page that was on its way may be lost.
    pub fn reconnected(&mut self, desk: &mut Desk) {
        self.load = Load::Nothing;
        if desk.screen() == Screen::Events {
            self.ask(None, desk);
        }
    }

    /// Takes a new event.
    pub fn happened(&mut self, event: EventView) {
        let is_new = self.kept.last_key_value().is_none_or(|(newest, _)| event.seq > *newest);
        if is_new && !self.is_following && self.filter.filter().matches(&event) {
            self.unseen += 1;
        }
        self.keep(event);
    }

    /// Takes older events, or the newest.
    pub fn answered(
        &mut self,
        before: Option<u64>,
        answer: Result<Answer, Failed>,
        _desk: &mut Desk,
    ) {
        if self.load != (Load::Asked { before }) {
            return;
        }
        let events = match answer {
            Ok(Answer::Events(events)) => events,
            Ok(_) => Vec::new(),
            Err(failed) => {
                self.failure = Some(failed.text);
                self.load = if before.is_none() { Load::Nothing } else { Load::Some };
                return;
            }
        };
        self.failure = None;
        self.load = if events.is_empty() { Load::All } else { Load::Some };
        if before.is_none() {
            self.forget_before_gap(&events);
        }
        for event in events {
            self.keep(event);
        }
    }

    /// If the newest page does not reach down to what is known, there is a gap: what lies below it
    /// is loaded again when somebody gets there.
    fn forget_before_gap(&mut self, page: &[EventView]) {
        let Some(oldest) = page.iter().map(|event| event.seq).min() else { return };
        let known = self.kept.range(..oldest).next_back().map(|(seq, _)| *seq);
        if known.is_some_and(|known| known + 1 < oldest) {
            self.kept = self.kept.split_off(&oldest);
        }
    }

    fn keep(&mut self, event: EventView) {
        self.kept.insert(event.seq, event);
        while self.kept.len() > EVENTS_MAX {
            self.kept.pop_first();
            self.dropped += 1;
        }
        self.is_stale = true;
    }

    fn ask(&mut self, before: Option<u64>, desk: &mut Desk) {
        self.load = Load::Asked { before };
        desk.ask(Request::Events { device: None, before });
    }

    /// Brings the rows up to date, and asks for older ones when the end is near.
    pub fn settle(&mut self, desk: &mut Desk) {
        if desk.screen() != Screen::Events {
            return;
        }
        let since = self.since(desk);
        let oldest = self.order.last().and_then(|seq| self.kept.get(seq));
        let is_past =
            oldest.is_some_and(|event| since.is_some_and(|since| event.timestamp < since));
        if (self.is_stale || is_past) && !self.is_frozen {
            self.reorder(since);
        }
        let height = rows_height(desk);
        self.top = list::follow(self.top, self.place, self.order.len(), height);
        let rows_left = self.order.len().saturating_sub(self.place.max(self.top + height));
        if rows_left < ROWS_LEFT && self.has_older(since) && desk.link.is_live() && !self.is_frozen
        {
            let before = self.kept.first_key_value().map(|(seq, _)| *seq);
            self.ask(before, desk);
        }
    }

    /// Whether older events may be there that would be shown, and room for them.
    fn has_older(&self, since: Option<Timestamp>) -> bool {
        let oldest = self.kept.first_key_value().map(|(_, event)| event.timestamp);
        let is_in_range = oldest.is_none_or(|oldest| since.is_none_or(|since| oldest >= since));
        // After a failure somebody has to ask again.
        self.load == Load::Some
            && self.failure.is_none()
            && self.kept.len() < EVENTS_MAX
            && is_in_range
    }

    fn since(&self, desk: &Desk) -> Option<Timestamp> {
        let now = desk.link.server_time(desk.now.wall);
        self.range.span().map(|span| now.minus(span))
    }

    fn reorder(&mut self, since: Option<Timestamp>) {
        let shown = |event: &&EventView| {
            since.is_none_or(|since| event.timestamp >= since)
                && self.filter.filter().matches(event)
        };
        let events = self.kept.values().rev().filter(shown);
        self.order = events.map(|event| event.seq).collect();
        self.is_stale = false;
        if self.is_following {
            self.put_cursor(0);
            return;
        }
        // The row at the cursor stays where it is on the screen.
        let before = self.place;
        let cursor = self.cursor.unwrap_or(u64::MAX);
        let place = self.order.partition_point(|seq| *seq > cursor);
        self.put_cursor(place);
        self.top = (self.top + self.place).saturating_sub(before);
    }

    fn put_cursor(&mut self, place: usize) {
        self.place = place.min(self.order.len().saturating_sub(1));
        self.cursor = self.order.get(self.place).copied();
    }

    fn follow(&mut self, is_following: bool) {
        self.is_following = is_following;
        if is_following {
            self.unseen = 0;
            self.put_cursor(0);
            self.is_stale = true;
        }
    }

    /// Does what a key asked for.
    pub fn act(&mut self, action: Action, desk: &mut Desk) -> Option<Command> {
        if let Some(place) = list::moved(action, self.place, self.order.len(), rows_height(desk)) {
            self.failure = None;
            self.put_cursor(place);
            let is_at_newest = self.place == 0;
            if self.is_following != is_at_newest {
                self.follow(is_at_newest);
            }
            return None;
        }
        match action {
            Action::Open => return self.open(desk),
            Action::Back => self.back(desk),
            Action::Follow => self.follow(!self.is_following),
            Action::Freeze => {
                self.is_frozen = !self.is_frozen;
                self.is_stale = true;
            }
            Action::Range => {
                self.range = self.range.next();
                self.is_stale = true;
            }
            Action::Filter => self.filter.begin(),
            Action::Copy => desk.popup = self.copy_menu().map(Popup::Menu),
            Action::Export => self.export(desk),
            _ => {}
        }
        None
    }

    fn open(&self, desk: &mut Desk) -> Option<Command> {
        let event = self.at_cursor()?;
        if let Some(id) = id_of(event) {
            return Some(Command::OpenBatch(id));
        }
        if event.uid.is_none() {
            desk.say("this is not about a device");
        }
        event.uid.map(Command::Open)
    }

    /// Back by one layer: the filter, the range, what was scrolled.
    fn back(&mut self, desk: &mut Desk) {
        if !self.filter.text().is_empty() {
            self.set_filter("", desk);
        } else if self.is_following {
            desk.go_back();
        } else {
            self.follow(true);
        }
    }

    /// Shows other events.
    pub fn set_filter(&mut self, text: &str, desk: &mut Desk) {
        match self.filter.set(text) {
            Ok(()) => self.is_stale = true,
            Err(error) => desk.warn(error),
        }
    }

    /// Takes a key while something is typed. False if nothing is.
    pub fn types(&mut self, key: &KeyEvent) -> bool {
        self.filter.types(key, &mut self.is_stale)
    }

    /// Takes pasted text while something is typed.
    pub fn paste(&mut self, text: &str) -> bool {
        self.filter.takes(text, &mut self.is_stale)
    }

    fn copy_menu(&self) -> Option<Menu> {
        let event = self.at_cursor()?;
        let mut items = Vec::new();
        let mut item = |key, text: &'static str, copied: String| {
            let command = Some(Command::Copy(text, copied.clone()));
            items.push(MenuItem { key, text: text.to_owned(), detail: copied, command });
        };
        item('w', "words", event.text.to_string());
        item('r', "row, with tabs", cells_of(event).join("\t"));
        if let Some(id) = &event.device_id {
            item('i', "device id", id.to_string());
        }
        if let Ok(json) = serde_json::to_string(event) {
            item('j', "JSON", fleet_core::untrusted::escaped_json(&json));
        }
        Some(Menu::new(format!("Copy of event {}", event.seq), items))
    }

    /// Writes the events that are shown, all of them, as CSV.
    fn export(&self, desk: &mut Desk) {
        let mut contents = "time,actor,kind,device,what\n".to_owned();
        for event in self.order.iter().filter_map(|seq| self.kept.get(seq)) {
            let fields = cells_of(event).map(|text| cells::csv_field(&text));
            contents.push_str(&fields.join(","));
            contents.push('\n');
        }
        desk.wish(Effect::Export { stem: "events", extension: "csv", contents });
    }
}

/// An event's time, actor, kind, device and words, safe to show.
fn cells_of(event: &EventView) -> [String; 5] {
    let device = event.device_id.as_ref().map(ToString::to_string).unwrap_or_default();
    let (time, actor) = (event.timestamp.to_string(), event.actor.to_string());
    [time, actor, event.kind.word().to_owned(), device, event.text.to_string()]
}

/// How many rows are in sight.
fn rows_height(desk: &Desk) -> usize {
    usize::from(layout::events(desk.size).rows.height)
}

#[cfg(test)]
mod tests;
