//! One device: its curves, its configuration, what it is to do, what it is and what happened to it.
//!
//! The screen keeps the device's last row, so that a device that leaves the fleet while somebody
//! looks at it leaves its picture behind.

#[cfg(test)]
mod command_tests;
pub mod commands;
pub mod config;
pub mod curve;
pub mod facts;
mod fetched;
pub mod graphs;
pub mod history;
pub mod logs;
mod menus;
pub mod metric;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
pub mod versions;

use crossterm::event::KeyEvent;
use fleet_core::api::{ConfigView, Device, EventView, LiveReport, StreamView, Watch};
use fleet_core::field::Field;
use fleet_core::filter::Subject as _;
use fleet_core::id::Uid;
use ratatui::layout::Rect;

use super::data::Row;
use super::filter_line::Typed;
use super::popup::{Command, Outcome, Popup};
use super::{Desk, Screen, deed, list};
use crate::effect::Request;
use crate::event::{Answer, Failed};
use crate::keys::Action;
use crate::layout::{self, DeviceParts, Pane};
use commands::Commands;
use config::{ConfigKey, ConfigLine};
use facts::Fact;
use fetched::Fetched;
use graphs::{Graphs, Window};
use history::History;
use logs::Logs;
use metric::{Graph, Metric};
use versions::Versions;

/// One device.
#[derive(Debug)]
pub struct DeviceScreen {
    /// Which.
    pub uid: Uid,
    /// Its row, the last one if it has left the fleet.
    row: Option<Row>,
    /// Whether it has left the fleet.
    pub is_gone: bool,
    /// Its curves.
    pub graphs: Graphs,
    config: Fetched<ConfigView>,
    /// The versions that it had.
    pub versions: Versions,
    /// The configuration key by key.
    config_keys: Vec<ConfigKey>,
    record: Fetched<Device>,
    /// What it was to do.
    pub commands: Commands,
    /// What happened to it.
    pub history: History,
    /// Lines of its log.
    pub logs: Logs,
    /// The pane that keys are for.
    pub focus: Pane,
    /// Whether that pane has the whole screen.
    pub is_full: bool,
    /// The graph that is large.
    pub large: Graph,
    /// The first line of each pane of text.
    tops: [usize; Pane::ALL.len()],
    was_shown: bool,
}

impl DeviceScreen {
    /// A device of which nothing is known beyond its row.
    pub fn new(uid: Uid) -> Self {
        Self {
            uid,
            row: None,
            is_gone: false,
            graphs: Graphs::default(),
            config: Fetched::default(),
            versions: Versions::default(),
            config_keys: Vec::new(),
            record: Fetched::default(),
            commands: Commands::default(),
            history: History::default(),
            logs: Logs::default(),
            focus: Pane::default(),
            is_full: false,
            large: Graph::default(),
            tops: Default::default(),
            was_shown: false,
        }
    }

    /// Its row; the last one if it has left the fleet.
    pub fn row(&self) -> Option<&Row> {
        self.row.as_ref()
    }

    /// Its configuration, and why that is not known.
    pub fn config(&self) -> (Option<&ConfigView>, Option<&str>) {
        (self.config.value(), self.config.error())
    }

    /// What there is to say of its configuration.
    pub fn config_lines(&self, desk: &Desk) -> Vec<ConfigLine> {
        let now = desk.link.server_time(desk.now.wall);
        let lines = |view| config::lines(view, &self.config_keys, &self.versions, now);
        self.config.value().map(lines).unwrap_or_default()
    }

    /// Compares anew what it shall have with what it has.
    fn compare(&mut self) {
        let interval = self.row.as_ref().map(|row| row.index.interval_secs);
        let keys = |view| config::keys(view, &self.versions, interval);
        self.config_keys = self.config.value().map(keys).unwrap_or_default();
    }

    /// Asks whether its configuration is to be as it was at a version.
    pub fn go_back(&self, device: Uid, to: u64, desk: &mut Desk) -> Option<Command> {
        let view = self.config.value().filter(|_| device == self.uid)?;
        let words = versions::told_back(view, self.versions.document(to)?)?;
        Some(deed::go_back(self.row.as_ref()?, (view.version, to), &words, desk))
    }

    /// The versions of its configuration to choose from.
    fn offer_versions(&self, desk: &mut Desk) {
        let now = desk.link.server_time(desk.now.wall);
        let view = self.config.value();
        let menu = view.and_then(|view| self.versions.menu(self.uid, view, now));
        match menu.filter(|menu| !menu.items.is_empty()) {
            Some(menu) => desk.popup = Some(Popup::Menu(menu)),
            None if view.is_some_and(|view| view.version == 0) => {
                desk.say("it was never given a configuration");
            }
            None => desk.say("its versions are not known yet"),
        }
    }

    /// Everything that is known of it.
    pub fn facts(&self, desk: &Desk) -> Vec<Fact> {
        let now = desk.link.server_time(desk.now.wall);
        let facts = |row: &Row| facts::facts(row, self.record.value(), now);
        self.row.as_ref().map(facts).unwrap_or_default()
    }

    /// Its record, once that has come.
    pub fn record(&self) -> Option<&Device> {
        self.record.value()
    }

    /// The first line of a pane of text that is in sight.
    pub fn top(&self, pane: Pane) -> usize {
        self.tops[pane as usize]
    }

    /// Where things are.
    pub fn parts(&self, desk: &Desk) -> DeviceParts {
        layout::device(desk.size, self.focus, self.is_full, self.has_trouble(desk))
    }

    /// Whether a line says what is wrong.
    fn has_trouble(&self, desk: &Desk) -> bool {
        let why = self.row.as_ref().and_then(|row| row.text(Field::Why));
        self.is_gone || why.is_some() || desk.link.wants_banner(desk.now.since_start)
    }

    /// Brings what is derived up to date, and asks for what is missing.
    pub fn settle(&mut self, desk: &mut Desk) {
        self.look_up(desk);
        let is_shown = desk.screen() == Screen::Device;
        if is_shown && !self.was_shown {
            // Nothing came while nobody looked.
            self.reconnected();
        }
        self.was_shown = is_shown;
        let area = self.log_area(desk);
        let sees_logs = is_shown && self.focus == Pane::Logs && !self.is_gone;
        self.logs.settle(self.uid, sees_logs, area, desk);
        if !is_shown {
            return;
        }
        self.settle_tops(desk);
        if self.is_gone || !desk.link.is_live() {
            return;
        }
        self.graphs.tick(desk.link.server_time(desk.now.wall));
        if let Some(request) = self.graphs.question(self.uid, desk.now.since_start) {
            desk.ask(request);
        }
        if self.config.begin() {
            desk.ask(Request::Config(self.uid));
        }
        if self.versions.begin(self.config.value()) {
            desk.ask(Request::Versions { device: self.uid, limit: versions::PAGE });
        }
        if self.record.begin() {
            desk.ask(Request::Device(self.uid));
        }
        let is_heard = self.row.as_ref().is_some_and(|row| row.index.status.is_heard());
        if !self.graphs.is_frozen && self.commands.begin(is_heard, desk.now.since_start) {
            desk.ask(Request::Commands(self.uid));
        }
        let sees_last = self.last_in_sight(Pane::History, desk) >= self.history.len();
        if !self.graphs.is_frozen
            && let Some(request) = self.history.question(self.uid, sees_last)
        {
            desk.ask(request);
        }
    }

    /// Finds the device's row.
    fn look_up(&mut self, desk: &Desk) {
        match desk.data.device(self.uid) {
            Some(row) => {
                let is_new = self.row.as_ref().is_none_or(|known| known.index != row.index);
                if is_new {
                    // A change of the row is a sign of a change of what else there is.
                    self.config.outdate();
                    self.record.outdate();
                }
                let is_news = self.row.as_ref().is_none_or(|known| known.values != row.values);
                if is_new || is_news {
                    self.row = Some(row.clone());
                }
                if is_new {
                    self.compare();
                }
                self.is_gone = false;
            }
            None => self.is_gone = desk.data.is_complete,
        }
    }

    /// Keeps lines in sight when there are fewer, or when there is more room.
    fn settle_tops(&mut self, desk: &Desk) {
        for pane in Pane::ALL {
            let room = self.rows(pane, desk);
            let most = self.lines(pane, desk).saturating_sub(room);
            self.tops[pane as usize] = self.tops[pane as usize].min(most);
        }
        let (top, room) = (self.top(Pane::Commands), self.rows(Pane::Commands, desk));
        let (cursor, len) = (self.commands.place(), self.commands.list().len());
        self.tops[Pane::Commands as usize] = list::follow(top, cursor, len, room);
    }

    /// How many lines a pane of text has.
    fn lines(&self, pane: Pane, desk: &Desk) -> usize {
        match pane {
            Pane::Graphs | Pane::Logs => 0,
            Pane::Config => self.config_lines(desk).len(),
            Pane::Commands => self.commands.list().len(),
            Pane::History => self.history.len(),
            Pane::Facts => self.facts(desk).len(),
        }
    }

    /// How many lines a pane of text has room for.
    fn rows(&self, pane: Pane, desk: &Desk) -> usize {
        let area = self.parts(desk).pane(pane).unwrap_or_default();
        usize::from(area.height.saturating_sub(2))
    }

    /// Where lines of its log are.
    fn log_area(&self, desk: &Desk) -> Rect {
        let area = self.parts(desk).pane(Pane::Logs).unwrap_or_default();
        Rect { width: area.width.saturating_sub(2), height: area.height.saturating_sub(2), ..area }
    }

    fn last_in_sight(&self, pane: Pane, desk: &Desk) -> usize {
        self.top(pane) + self.rows(pane, desk)
    }

    /// Does what a key asked for.
    pub fn act(&mut self, action: Action, desk: &mut Desk) -> Option<Command> {
        match action {
            Action::Back => self.back(desk),
            Action::Full if self.focus == Pane::Commands && self.commands.at_cursor().is_some() => {
                let view = self.commands.at_cursor().cloned();
                desk.popup = view.map(|view| Popup::Outcome(Outcome::of(view)));
            }
            Action::Full => self.is_full = !self.is_full,
            Action::TakeBack => return self.take_back(desk),
            Action::NextPane => self.walk(1),
            Action::PreviousPane => self.walk(Pane::ALL.len() - 1),
            Action::Range => self.graphs.next_span(),
            Action::PanBack => self.pan_back(desk),
            Action::PanOn => self.graphs.pan_on(),
            Action::ZoomIn if !self.graphs.zoom_in() => desk.say("5m is the shortest range"),
            Action::ZoomOut if !self.graphs.zoom_out() => desk.say("7d is the longest range"),
            Action::CursorBack => self.graphs.move_cursor(true),
            Action::CursorOn => self.graphs.move_cursor(false),
            Action::LiveEdge => self.go_live(),
            Action::Freeze if self.graphs.is_frozen => self.go_live(),
            Action::Freeze => self.graphs.freeze(),
            Action::Copy => desk.popup = self.copy_menu(desk).map(Popup::Menu),
            Action::Actions => self.offer_deeds(desk),
            Action::Versions => self.offer_versions(desk),
            Action::Filter | Action::Views | Action::Follow if self.focus != Pane::Logs => {
                desk.say("that is for Logs: Tab goes there");
            }
            Action::Filter => self.logs.filter.begin(),
            Action::Views => desk.popup = Some(Popup::Menu(self.logs.menu())),
            Action::Follow => self.logs.follow(!self.logs.is_following),
            other => self.scroll(other, desk),
        }
        None
    }

    /// Back by one layer: the cursor, the whole screen for one pane, the screen.
    fn back(&mut self, desk: &mut Desk) {
        if self.graphs.drop_cursor() {
            return;
        }
        if self.is_full {
            self.is_full = false;
        } else {
            desk.go_back();
        }
    }

    /// Takes back the command at the cursor; only where one sees which that is.
    fn take_back(&mut self, desk: &mut Desk) -> Option<Command> {
        if self.focus != Pane::Commands {
            desk.say("Tab to Commands, then to the one to take back");
            return None;
        }
        let Some(view) = self.commands.at_cursor() else {
            desk.say("there is no command to take back");
            return None;
        };
        deed::take_back(&view.clone(), desk)
    }

    fn walk(&mut self, by: usize) {
        self.focus = Pane::ALL[(self.focus as usize + by) % Pane::ALL.len()];
    }

    fn pan_back(&mut self, desk: &mut Desk) {
        let first = self.row.as_ref().map(|row| row.index.created_at);
        if first.is_some_and(|first| self.graphs.window().from < first) {
            desk.say("nothing was measured before: the device was not in the fleet yet");
        } else {
            self.graphs.pan_back();
        }
    }

    fn go_live(&mut self) {
        if self.graphs.is_frozen {
            // What happened meanwhile was not taken.
            self.history.lose();
            self.commands.lose();
        }
        self.graphs.go_live();
    }

    fn offer_deeds(&mut self, desk: &mut Desk) {
        if self.is_gone {
            desk.say("the device is not in the fleet any more");
        } else {
            desk.popup = Some(Popup::Menu(deed::menu(vec![self.uid], desk)));
        }
    }

    /// Scrolls a pane of text; among graphs, chooses the large one or moves the cursor to an end.
    fn scroll(&mut self, action: Action, desk: &Desk) {
        if self.focus == Pane::Graphs {
            match action {
                Action::Down | Action::Up => {
                    let shown = self.graphs.shown();
                    let large = shown.iter().position(|graph| *graph == self.large);
                    let large = list::moved(action, large.unwrap_or_default(), shown.len(), 1);
                    self.large =
                        large.and_then(|large| shown.get(large).copied()).unwrap_or_default();
                }
                Action::First | Action::Last => {
                    self.graphs.cursor_to_edge(action == Action::First);
                }
                _ => {}
            }
            return;
        }
        if self.focus == Pane::Logs {
            self.logs.scroll(action, self.log_area(desk));
            return;
        }
        let room = self.rows(self.focus, desk);
        if self.focus == Pane::Commands {
            self.commands.act(action, room);
            return;
        }
        let tops = (self.lines(self.focus, desk) + 1).saturating_sub(room);
        let top = &mut self.tops[self.focus as usize];
        *top = list::moved(action, *top, tops, room).unwrap_or(*top);
    }

    /// What the server is to send while this is shown.
    pub fn wants(&self, desk: &Desk) -> StreamView {
        let slot = desk.data.slot(self.uid);
        let Some(slot) = slot.filter(|_| !self.graphs.is_frozen) else {
            return StreamView::default();
        };
        let metrics = || Metric::all().map(|metric| metric.name().to_owned()).collect();
        let watch = self.graphs.is_live().then(|| Watch { slot, metrics: metrics() });
        StreamView { rows: vec![slot], all: false, watch }
    }

    /// Takes a live report.
    pub fn reported(&mut self, report: LiveReport, desk: &Desk) {
        if self.was_shown && desk.data.slot(self.uid) == Some(report.slot) {
            self.graphs.reported(&report);
        }
    }

    /// Takes an event, of any device.
    pub fn happened(&mut self, event: &EventView) {
        if event.uid == Some(self.uid) && !self.graphs.is_frozen {
            self.history.happened(event);
            if event.kind.is("command") {
                self.commands.outdate();
            }
        }
    }

    /// Shows what it is to do, with the cursor at a command if one is named; or its configuration.
    pub fn show_doing(&mut self, command: Option<Uid>, is_config: bool) {
        self.focus = if is_config { Pane::Config } else { Pane::Commands };
        if let Some(id) = command {
            self.commands.choose(id);
        }
    }

    /// Notes that a device has got a command, or need not do one.
    pub fn ordered(&mut self, device: Uid) {
        if device == self.uid {
            self.commands.outdate();
        }
    }

    /// Notes that the link was down: reports were missed.
    pub fn reconnected(&mut self) {
        self.graphs.lose();
        self.config.lose();
        self.versions.lose();
        self.record.lose();
        self.commands.lose();
        self.history.lose();
        self.logs.lose();
    }

    /// Has other lines of its log come.
    pub fn choose_lines(&mut self, text: &str, desk: &mut Desk) {
        self.focus = Pane::Logs;
        self.logs.choose(text, desk);
    }

    /// Whether the lines of its log are being filtered, so that keys are letters.
    pub fn is_typing(&self) -> bool {
        self.logs.filter.is_typing()
    }

    /// Takes a key while something is typed. False if nothing is.
    pub fn types(&mut self, key: &KeyEvent) -> bool {
        self.logs.filter.press(key) != Typed::Nothing
    }

    /// Takes pasted text while something is typed.
    pub fn paste(&mut self, text: &str) -> bool {
        self.logs.filter.paste(text) != Typed::Nothing
    }

    /// Takes an answer, which may be about a device that was shown before.
    pub fn answered(&mut self, request: &Request, answer: Result<Answer, Failed>, desk: &mut Desk) {
        let now = desk.now.since_start;
        match request {
            Request::Series { device, from, to, step, .. } if *device == self.uid => {
                let window = Window { from: *from, to: *to, step: *step };
                let answer = answer.and_then(|answer| match answer {
                    Answer::Series(reply) => Ok(reply),
                    _ => Err(odd()),
                });
                self.graphs.answered(window, answer, now);
            }
            Request::Config(device) if *device == self.uid => {
                self.config.take(answer.and_then(|answer| match answer {
                    Answer::Config(view) => Ok(*view),
                    _ => Err(odd()),
                }));
                self.compare();
            }
            Request::Versions { device, .. } if *device == self.uid => {
                self.versions.take(answer.and_then(|answer| match answer {
                    Answer::Versions(versions) => Ok(versions),
                    _ => Err(odd()),
                }));
                self.compare();
            }
            Request::Device(device) if *device == self.uid => {
                self.record.take(answer.and_then(|answer| match answer {
                    Answer::Device(device) => Ok(*device),
                    _ => Err(odd()),
                }));
            }
            Request::Commands(device) if *device == self.uid => {
                self.commands.take(answer.and_then(|answer| match answer {
                    Answer::Commands(views) => Ok(views),
                    _ => Err(odd()),
                }));
            }
            Request::Events { device: Some(device), before } if *device == self.uid => {
                let answer = answer.and_then(|answer| match answer {
                    Answer::Events(events) => Ok(events),
                    _ => Err(odd()),
                });
                self.history.answered(*before, answer);
            }
            _ => {}
        }
    }
}

/// An answer of a kind that does not fit its question.
fn odd() -> Failed {
    Failed {
        text: "the answer is one to another question".to_owned(),
        request_id: None,
        field: None,
    }
}
