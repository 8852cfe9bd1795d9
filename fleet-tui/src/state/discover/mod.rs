//! Finding devices on the local networks, and configuring them.
//!
//! The search runs while the screen is shown; what it found stays. What can be configured comes
//! first; of it, and of the rest, new ones come at the end. The cursor is a device and stays with it.
//! Only what can be configured can be marked. What somebody agreed to in a dialog is what is done:
//! the devices, the URL and the tags are settled when it opens.

pub mod form;
mod marks;
mod menus;
pub mod run;
pub mod seen;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use crossterm::event::{KeyCode, KeyEvent};
use fleet_core::api::{ClaimMode, DeviceStatus, DeviceUpdate, DiscoverOutcome};
use fleet_core::claim::ClaimCode;
use fleet_core::field::SortKey;
use fleet_core::id::{DeviceId, Uid};
use fleet_core::identity::Fingerprint;
use fleet_core::mdns::Interface;
use fleet_core::net::url::ServerUrl;
use fleet_core::operator::browse::Sighting;
use fleet_core::operator::claim::Target;
use fleet_core::operator::standing::{Standing, unconfirmed};
use serde_json::json;

use super::data::Row;
use super::popup::{Command, Popup};
use super::{Desk, Screen, list};
use crate::effect::{Change, Effect, Request};
use crate::event::Provisioning;
use crate::keys::Action;
use crate::layout::{self, DiscoverPane, DiscoverParts};
use crate::widgets::field::{Field, FieldOutcome};
use form::{Form, FormOutcome};
use run::{Run, RunRow};
use seen::{Name, Seen, SeenList};

/// Characters of a filter that can be typed.
const FILTER_CHARS_MAX: usize = 200;

/// Finding and configuring devices.
#[derive(Debug, Default)]
pub struct DiscoverScreen {
    /// How the search is.
    pub search: Search,
    /// On which interfaces it is made, as far as that is known.
    pub interfaces: Option<Vec<Interface>>,
    /// What was seen.
    pub seen: SeenList,
    /// The places of the rows that the filter shows.
    shown: Vec<usize>,
    cursor: Option<Name>,
    /// Whether somebody has pressed a key here; until then the cursor is on the first row.
    is_touched: bool,
    place: usize,
    /// The first row in sight.
    pub top: usize,
    /// Of each key that is marked, under which id: nobody else can slip in under it.
    marks: BTreeMap<Fingerprint, DeviceId>,
    /// Where a range of marks begins.
    pub range_from: Option<Name>,
    filter: String,
    /// The line in which the filter is typed, while it is.
    pub typing: Option<Field>,
    sort: SortKey,
    /// What devices are configured with.
    pub form: Form,
    /// The last run.
    pub run: Run,
    /// The part of the screen that keys are for.
    pub pane: DiscoverPane,
    new_devices: usize,
    /// Of which revisions the rows and the fleet were brought together.
    joined: Option<(u64, u64)>,
    /// In which revision of the fleet devices that are to be tagged were looked for.
    tagged: Option<u64>,
}

/// How the search is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Search {
    /// Nobody looks.
    #[default]
    Off,
    /// It goes on, since then.
    On(Duration),
    /// It does not work, for this reason.
    Failed(String),
}

/// What somebody was asked about: everything that is done when he agrees.
#[derive(Clone, Debug)]
pub struct Order {
    /// The devices.
    pub targets: Vec<Target>,
    /// Where they shall find the server; where the console does if absent.
    pub server_url: Option<ServerUrl>,
    /// Their tags.
    pub tags: Vec<String>,
    /// The claim code of the one that asks for it.
    pub code: Option<ClaimCode>,
}

impl DiscoverScreen {
    /// How many devices could be configured.
    pub fn new_devices(&self) -> usize {
        self.new_devices
    }

    /// The rows that the filter shows.
    pub fn shown(&self) -> impl ExactSizeIterator<Item = &Seen> {
        self.shown.iter().map(|place| &self.seen.rows()[*place])
    }

    /// The device at the cursor.
    pub fn at_cursor(&self) -> Option<&Seen> {
        self.seen.rows().get(*self.shown.get(self.place)?)
    }

    /// Where the cursor is among the rows that the filter shows.
    pub fn place(&self) -> usize {
        self.place
    }

    /// The filter's text; while it is typed, what stands there now.
    pub fn filter_text(&self) -> &str {
        self.typing.as_ref().map_or(&self.filter, |field| field.text())
    }

    /// The device of the fleet that has the key of a device that was seen.
    pub fn known<'a>(&self, seen: &Seen, desk: &'a Desk) -> Option<&'a Row> {
        self.seen.known(seen, &desk.data)
    }

    /// Why a device cannot be configured, and what would help, if so.
    pub fn why_not(&self, seen: &Seen, desk: &Desk) -> Option<String> {
        if seen.is_gone() {
            return Some("it is not announced any more".to_owned());
        }
        let standing = seen.standing(desk.settings.identity);
        if standing == Standing::Ours {
            let known = self.known(seen, desk).map(|row| &row.index);
            return Some(match unconfirmed(known.map(|index| (&index.id, index.status))) {
                Some(missing) => format!("{}: {}", missing.reason, missing.hint),
                None => "it is in the fleet already: Enter opens it".to_owned(),
            });
        }
        let no = standing.why_not()?;
        Some(match no.hint {
            Some(hint) => format!("{}: {hint}", no.reason),
            None => no.reason,
        })
    }

    /// The parts of the screen as they are now.
    pub fn parts(&self, desk: &Desk) -> DiscoverParts {
        let has_banner = desk.link.wants_banner(desk.now.since_start);
        layout::discover(desk.size, self.pane, !self.run.is_empty(), has_banner)
    }

    /// Looks again if that did not work.
    pub fn entered(&mut self) {
        if matches!(self.search, Search::Failed(_)) {
            self.search = Search::Off;
        }
    }

    /// Takes what the network shows.
    pub fn saw(&mut self, sightings: Vec<Sighting>) {
        self.seen.take(sightings);
    }

    /// Notes where the search is made.
    pub fn searching(&mut self, interfaces: Vec<Interface>) {
        self.interfaces = Some(interfaces);
    }

    /// Notes that nobody can look.
    pub fn browse_failed(&mut self, reason: String) {
        if self.search != Search::Off {
            self.search = Search::Failed(reason);
        }
    }

    /// Takes news of a device that is being configured.
    pub fn provisioning(&mut self, news: Provisioning, desk: &mut Desk) {
        let was_under_way = self.run.is_under_way();
        self.run.take(news, desk.now.since_start);
        if was_under_way && !self.run.is_under_way() {
            if self.pane != DiscoverPane::Run {
                self.run.show_failure();
            }
            let tally = self.run.tally();
            let mut words = vec![format!("{} of {} configured", tally.configured, tally.all)];
            for (count, word) in [(tally.pending, "pending"), (tally.failed, "failed")] {
                if count > 0 {
                    words.push(format!("{count} {word}"));
                }
            }
            desk.say(words.join(", "));
        }
    }

    /// Configures devices: somebody has agreed.
    pub fn provision(&mut self, order: Order, desk: &mut Desk) {
        if let Some(reason) = desk.why_not_bring_in() {
            desk.warn(format!("not done: {reason}"));
            return;
        }
        let mut order = order;
        let targets = std::mem::take(&mut order.targets);
        let targets = self.run.begin(targets, &order.tags, desk.now.since_start);
        for target in &targets {
            self.marks.remove(&target.fingerprint);
        }
        // The list goes on being worked with; the run is where its first failure will be.
        if !targets.is_empty() {
            if self.pane == DiscoverPane::Form {
                self.pane = DiscoverPane::List;
            }
            let Order { server_url, code, .. } = order;
            if code.is_some() {
                self.form.code.clear();
            }
            desk.wish(Effect::Provision { targets, server_url, code });
        }
    }

    /// Brings the search and the lists up to date.
    pub fn settle(&mut self, desk: &mut Desk) {
        self.settle_search(desk);
        self.form.prefill(&desk.settings.server);
        if let Search::On(since) = self.search {
            let marks = &self.marks;
            let is_marked = |seen: &Seen| {
                seen.target().is_some_and(|target| marks.contains_key(&target.fingerprint))
            };
            self.seen.tidy(desk.now.since_start, since, is_marked);
        }
        let present = (self.seen.revision, desk.data.revision.index);
        if self.joined != Some(present) {
            self.seen.join(&desk.data);
            self.joined = Some(present);
        }
        self.tag(desk);
        if desk.screen() != Screen::Discover {
            self.count_new(desk);
            return;
        }
        self.prune_marks(desk);
        self.count_new(desk);
        let ours = desk.settings.identity;
        // In another order those that come later are at the end.
        if self.sort == SortKey::default() {
            self.seen.raise(ours);
        }
        self.shown = self.seen.matching(&words(self.filter_text()), ours, &desk.data);
        self.find_cursor();
        self.form.ask_for_code(asks_for_code(&self.chosen(desk)));
        let parts = self.parts(desk);
        let height = usize::from(parts.rows.height);
        self.top = list::follow(self.top, self.place, self.shown.len(), height);
        let run = &mut self.run;
        run.cursor = run.cursor.min(run.rows().len().saturating_sub(1));
        let height = usize::from(parts.run_rows.height);
        run.top = list::follow(run.top, run.cursor, run.rows().len(), height);
    }

    /// Counts what could be configured. Who is online in the fleet only has not said so here yet.
    fn count_new(&mut self, desk: &Desk) {
        let ours = desk.settings.identity;
        let is_online = |seen: &Seen| {
            let known = self.known(seen, desk);
            known.is_some_and(|row| row.index.status == DeviceStatus::Online)
        };
        let new = self.seen.rows().iter().filter(|seen| seen.is_new(ours) && !is_online(seen));
        self.new_devices = new.count();
    }

    fn settle_search(&mut self, desk: &mut Desk) {
        match (desk.screen() == Screen::Discover, &self.search) {
            (true, Search::Off) => {
                self.search = Search::On(desk.now.since_start);
                desk.wish(Effect::Browse(true));
                if self.sort == SortKey::default() {
                    self.seen.regroup(desk.settings.identity);
                }
            }
            (false, Search::On(_)) => {
                self.search = Search::Off;
                desk.wish(Effect::Browse(false));
            }
            _ => {}
        }
    }

    /// Finds the cursor's row again; if its device is gone, the row in its place has the cursor.
    fn find_cursor(&mut self) {
        let is_it = |place: &usize| Some(&self.seen.rows()[*place].name) == self.cursor.as_ref();
        let found = self.shown.iter().position(is_it).filter(|_| self.is_touched);
        self.put_cursor(found.unwrap_or(self.place));
    }

    fn put_cursor(&mut self, place: usize) {
        self.place = place.min(self.shown.len().saturating_sub(1));
        self.cursor = self.at_cursor().map(|seen| seen.name.clone());
    }

    /// Has the server note the tags of devices that have come into the fleet.
    fn tag(&mut self, desk: &mut Desk) {
        let is_due = |row: &RunRow| {
            !row.tags.is_empty() && row.status() == Some(DiscoverOutcome::Configured)
        };
        let revision = desk.data.revision.index;
        if desk.why_not_change().is_some() || !self.run.rows().iter().any(is_due) {
            self.tagged = None;
            return;
        }
        // Who is not in the fleet's list yet is looked for when that has changed.
        if self.tagged == Some(revision) {
            return;
        }
        self.tagged = Some(revision);
        let keys = desk.data.rows().filter_map(|row| Some((row.index.fingerprint?, row.index.uid)));
        let uids: HashMap<Fingerprint, Uid> = keys.collect();
        for row in self.run.rows_mut().filter(|row| is_due(row)) {
            if let Some(uid) = uids.get(&row.target.fingerprint) {
                let metadata = Some(json!({ "tags": std::mem::take(&mut row.tags) }));
                let update = DeviceUpdate { metadata, ..DeviceUpdate::default() };
                desk.ask(Request::Change(*uid, Change::Update(update)));
            }
        }
    }

    /// Does what a key asked for.
    pub fn act(&mut self, action: Action, desk: &mut Desk) -> Option<Command> {
        self.is_touched = true;
        if self.moves(action, desk) {
            return None;
        }
        match action {
            Action::Open => return self.open(desk),
            Action::Back => self.back(desk),
            Action::NextPane => self.walk(true),
            Action::PreviousPane => self.walk(false),
            Action::Mark => self.mark(desk),
            Action::MarkRange => self.mark_range(desk),
            Action::MarkAll => self.mark_all(desk),
            Action::Filter => {
                self.pane = DiscoverPane::List;
                self.typing = Some(Field::new(FILTER_CHARS_MAX).with(&self.filter));
            }
            Action::Sort => desk.popup = Some(Popup::Menu(self.sort_menu())),
            Action::Reverse => {
                let is_descending = !self.sort.is_descending;
                self.set_sort(SortKey { is_descending, ..self.sort }, desk);
            }
            Action::Actions => desk.popup = Some(Popup::Menu(self.actions_menu(desk))),
            Action::Copy => desk.popup = self.copy_menu(desk).map(Popup::Menu),
            Action::Retry => match self.retry(desk) {
                Ok(popup) => desk.popup = Some(popup),
                Err(reason) => desk.say(reason),
            },
            Action::Resync => {
                // Whoever looks already is told to begin anew.
                desk.wish(Effect::Browse(false));
                self.search = Search::Off;
            }
            _ => {}
        }
        None
    }

    fn moves(&mut self, action: Action, desk: &Desk) -> bool {
        let parts = self.parts(desk);
        let height = |rows: ratatui::layout::Rect| usize::from(rows.height);
        match self.pane {
            DiscoverPane::List => {
                let len = self.shown.len();
                let moved = list::moved(action, self.place, len, height(parts.rows));
                if let Some(place) = moved {
                    self.put_cursor(place);
                }
                moved.is_some()
            }
            DiscoverPane::Run => {
                let len = self.run.rows().len();
                let moved = list::moved(action, self.run.cursor, len, height(parts.run_rows));
                self.run.cursor = moved.unwrap_or(self.run.cursor);
                moved.is_some()
            }
            DiscoverPane::Form => false,
        }
    }

    fn walk(&mut self, is_forward: bool) {
        use DiscoverPane::{Form, List, Run};
        let has_run = !self.run.is_empty();
        self.pane = match (self.pane, is_forward) {
            (List, true) | (Run, false) => Form,
            (Form, true) | (List, false) if has_run => Run,
            (Form, _) | (Run, true) => List,
            (List, false) => Form,
        };
        if self.pane == Form {
            self.form.place =
                if is_forward { form::FormPlace::Url } else { form::FormPlace::Button };
        }
    }

    fn open(&mut self, desk: &mut Desk) -> Option<Command> {
        let fingerprint = match self.pane {
            DiscoverPane::Form => {
                self.ask(desk);
                return None;
            }
            DiscoverPane::List => self.at_cursor()?.sighting.device.fingerprint,
            DiscoverPane::Run => self.run.at_cursor().map(|row| row.target.fingerprint),
        };
        let is_it = |row: &&Row| fingerprint.is_some() && row.index.fingerprint == fingerprint;
        let known = desk.data.rows().find(is_it).map(|row| row.index.uid);
        if known.is_none() {
            desk.say("it is not in the fleet: Space marks it, x configures it");
        }
        known.map(Command::Open)
    }

    /// Asks whether the chosen devices are to be configured, or says why they cannot be.
    fn ask(&self, desk: &mut Desk) {
        match self.confirm(self.chosen(desk), desk) {
            Ok(popup) => desk.popup = Some(popup),
            Err(reason) => desk.say(reason),
        }
    }

    /// Back by one layer: the pane, the range, the filter, the marks.
    fn back(&mut self, desk: &mut Desk) {
        if self.pane != DiscoverPane::List {
            self.pane = DiscoverPane::List;
        } else if self.range_from.take().is_some() {
        } else if !self.filter.is_empty() {
            self.filter.clear();
        } else if !self.marks.is_empty() {
            self.marks.clear();
        } else {
            desk.go_back();
        }
    }

    /// Shows the list through a filter.
    pub fn set_filter(&mut self, text: &str) {
        text.trim().clone_into(&mut self.filter);
        self.typing = None;
    }

    /// Sorts the rows as they are now.
    pub fn set_sort(&mut self, sort: SortKey, desk: &Desk) {
        self.sort = sort;
        self.seen.sort(sort.field, sort.is_descending, desk.settings.identity, &desk.data);
    }

    /// Takes a key while something is typed. False if nothing is.
    pub fn types(&mut self, key: &KeyEvent, desk: &mut Desk) -> bool {
        if self.pane == DiscoverPane::Form {
            match self.form.press(key) {
                FormOutcome::Taken => {}
                FormOutcome::Ignored => return false,
                FormOutcome::Pressed => self.ask(desk),
                FormOutcome::Left => self.pane = DiscoverPane::List,
            }
            return true;
        }
        let Some(field) = &mut self.typing else { return false };
        match key.code {
            KeyCode::Enter => {
                let text = field.text().to_owned();
                self.set_filter(&text);
            }
            KeyCode::Esc => self.typing = None,
            KeyCode::Down => self.put_cursor(self.place + 1),
            KeyCode::Up => self.put_cursor(self.place.saturating_sub(1)),
            _ => return field.key(*key) != FieldOutcome::Ignored,
        }
        true
    }

    /// Takes pasted text while something is typed.
    pub fn paste(&mut self, text: &str) -> bool {
        match (&mut self.typing, self.pane) {
            (Some(field), _) => {
                field.insert(text);
                true
            }
            (None, DiscoverPane::Form) => self.form.paste(text),
            (None, DiscoverPane::List | DiscoverPane::Run) => false,
        }
    }
}

/// The one device that is chosen, if it asks for its code.
fn asks_for_code(chosen: &[Target]) -> Option<Fingerprint> {
    let [target] = chosen else { return None };
    (target.claim == Some(ClaimMode::Code)).then_some(target.fingerprint)
}

/// The words of a filter, in lower case.
fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_lowercase).collect()
}
