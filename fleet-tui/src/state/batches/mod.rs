//! Batches: the same thing done to many devices, by the server. The list has those first that are
//! not over, and of them those that want somebody; one of them can be opened.
//!
//! What somebody has begun here is told when it pauses and when it ends, wherever one is then.

mod filter;
mod members;
mod one;
mod orders;
mod words;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crossterm::event::KeyEvent;
use fleet_core::api::{BatchRequest, BatchState, BatchView, EventView};
use fleet_core::id::Uid;
use fleet_core::limits::{BATCHES_MAX, BATCHES_OPEN_MAX};

use super::deed::Last;
use super::filter_line::FilterLine;
use super::popup::{Command, Popup};
use super::{Desk, Screen, list};
use crate::effect::{BatchChange, Request};
use crate::event::{Answer, Failed};
use crate::keys::Action;
use crate::layout;
pub use filter::BatchFilter;
pub use members::{Kind, Members};
pub use one::OneBatch;
pub use words::{Known, counted, devices, goes_on, is_over, pace, progress};
use words::{copied, copy_menu, news};

/// Batches that are asked for at one time.
const PAGE: usize = 200;
/// The newest batches, which are looked at when something happened to one.
const LOOK_ROWS: usize = 50;
/// Batches that go on and are looked at one by one at one time; further ones have their turn.
const LOOKS_MAX: usize = 8;
/// Between two looks.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// The same after a look that failed.
const RETRY_INTERVAL: Duration = Duration::from_secs(5);
/// How long a batch in which devices have failed stands before others that are over.
const FRESH: Duration = Duration::from_secs(24 * 3_600);

/// Batches.
#[derive(Debug)]
pub struct BatchesScreen {
    /// By number, which is by age.
    kept: BTreeMap<Uid, Known>,
    order: Vec<Uid>,
    cursor: Option<Uid>,
    place: usize,
    /// The first row in sight.
    pub top: usize,
    /// What is shown of them.
    pub filter: FilterLine<BatchFilter>,
    /// Why nothing newer is known.
    pub failure: Option<String>,
    /// The batch that was opened last.
    pub open: Option<OneBatch>,
    /// Those that were begun here and are not over.
    own: BTreeSet<Uid>,
    load: Load,
    /// Whether there is news that was not looked at.
    is_due: bool,
    /// Whether a list is waited for.
    is_asked: bool,
    /// Those of which an answer is waited for.
    looked_at: BTreeSet<Uid>,
    /// Which of those that go on is looked at next.
    turn: usize,
    asked_at: Option<Duration>,
    is_stale: bool,
}

/// How far batches are loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Load {
    /// The newest ones at most.
    Nothing,
    /// As far down as this one; the next page was asked for.
    Before(Option<Uid>),
    /// All that the server has.
    All,
}

impl Default for BatchesScreen {
    fn default() -> Self {
        Self {
            kept: BTreeMap::new(),
            order: Vec::new(),
            cursor: None,
            place: 0,
            top: 0,
            filter: FilterLine::default(),
            failure: None,
            open: None,
            own: BTreeSet::new(),
            load: Load::Nothing,
            is_due: false,
            is_asked: false,
            looked_at: BTreeSet::new(),
            turn: 0,
            asked_at: None,
            is_stale: false,
        }
    }
}

impl BatchesScreen {
    /// The batches that are shown, in order.
    pub fn order(&self) -> &[Uid] {
        &self.order
    }

    /// A batch.
    pub fn known(&self, id: Uid) -> Option<&Known> {
        self.kept.get(&id)
    }

    /// The batch at the cursor.
    pub fn at_cursor(&self) -> Option<&Known> {
        self.kept.get(&self.cursor?)
    }

    /// How many are kept, shown or not.
    pub fn kept(&self) -> usize {
        self.kept.len()
    }

    /// Whether further ones are on their way.
    pub fn is_loading(&self) -> bool {
        self.load != Load::All
    }

    /// How many are known not to be over.
    pub fn going_on(&self) -> usize {
        self.kept.values().filter(|known| goes_on(&known.view)).count()
    }

    /// Brings the rows up to date, and asks for what is missing.
    pub fn settle(&mut self, desk: &mut Desk) {
        let is_shown = desk.screen() == Screen::Batches;
        if is_shown {
            self.reorder(desk);
            let height = usize::from(layout::batches(desk.size).rows.height);
            self.top = list::follow(self.top, self.place, self.order.len(), height);
        }
        if desk.screen() == Screen::Batch
            && let Some(open) = &mut self.open
        {
            open.settle(self.kept.get(&open.id).map(|known| &known.view), desk);
        }
        if !desk.link.is_live() || self.is_asked {
            return;
        }
        let pause = if self.failure.is_some() { RETRY_INTERVAL } else { LOOK_INTERVAL };
        let now = desk.now.since_start;
        if self.asked_at.is_some_and(|at| now.saturating_sub(at) < pause) {
            return;
        }
        if is_shown && self.load == Load::Nothing {
            self.load = Load::Before(None);
            self.ask(Request::Batches { before: None, limit: PAGE }, desk);
        } else if self.is_due {
            self.is_due = false;
            self.ask(Request::Batches { before: None, limit: LOOK_ROWS }, desk);
        } else if is_shown {
            self.look(desk);
        }
    }

    /// Looks at some of those that go on, at each in its turn.
    fn look(&mut self, desk: &mut Desk) {
        let goes_on = |id: &&Uid| self.kept.get(id).is_some_and(|known| goes_on(&known.view));
        let going_on: Vec<Uid> = self.order.iter().filter(goes_on).copied().collect();
        if going_on.is_empty() {
            return;
        }
        self.asked_at = Some(desk.now.since_start);
        for id in going_on.iter().cycle().skip(self.turn).take(LOOKS_MAX.min(going_on.len())) {
            if self.looked_at.insert(*id) {
                desk.ask(Request::Batch(*id));
            }
        }
        self.turn = (self.turn + LOOKS_MAX) % going_on.len();
    }

    fn ask(&mut self, request: Request, desk: &mut Desk) {
        self.is_asked = true;
        self.asked_at = Some(desk.now.since_start);
        desk.ask(request);
    }

    /// Notes that the link was down: what happened to batches was missed.
    pub fn reconnected(&mut self, desk: &mut Desk) {
        for id in &self.own {
            desk.ask(Request::Batch(*id));
        }
        self.load = Load::Nothing;
        self.is_due = true;
        self.is_asked = false;
        self.looked_at.clear();
        self.asked_at = None;
        if let Some(open) = &mut self.open {
            open.lose();
        }
    }

    /// Notes that something happened to a batch.
    pub fn happened(&mut self, event: &EventView, desk: &mut Desk) {
        if !event.kind.is("batch") {
            return;
        }
        self.is_due = true;
        // One that was begun here may be older than those that are looked at then.
        if let Some(id) = id_of(event).filter(|id| self.own.contains(id)) {
            desk.ask(Request::Batch(id));
        }
    }

    /// Takes batches.
    pub fn answered(
        &mut self,
        before: Option<Uid>,
        limit: usize,
        answer: Result<Answer, Failed>,
        desk: &mut Desk,
    ) {
        self.is_asked = false;
        let is_page = limit == PAGE && self.load == Load::Before(before);
        let views = match answer {
            Ok(Answer::Batches(views)) => views,
            Ok(_) => Vec::new(),
            Err(failed) => {
                self.failure = Some(failed.text);
                if is_page {
                    self.load = Load::Nothing;
                }
                return;
            }
        };
        self.failure = None;
        let (oldest, is_last) = (views.last().map(|view| view.id), views.len() < limit);
        if is_page {
            self.forget_gone(before, &views, is_last);
        }
        for view in views {
            self.keep(view, desk);
        }
        if !is_page {
            return;
        }
        if is_last {
            self.load = Load::All;
        } else {
            self.load = Load::Before(oldest);
            self.ask(Request::Batches { before: oldest, limit: PAGE }, desk);
        }
    }

    /// Takes one batch.
    pub fn answered_one(&mut self, id: Uid, answer: Result<Answer, Failed>, desk: &mut Desk) {
        if let Some(open) = self.open.as_mut().filter(|open| open.id == id) {
            open.looked(&answer);
        }
        self.looked_at.remove(&id);
        match answer {
            Ok(Answer::Batch(view)) => self.keep(*view, desk),
            Ok(_) => {}
            Err(failed) => {
                // It may be one that the server has let go of.
                self.failure = Some(failed.text);
                self.load = Load::Nothing;
            }
        }
    }

    /// Takes devices of a batch.
    pub fn answered_members(&mut self, request: &Request, answer: Result<Answer, Failed>) {
        if let Request::Members { batch, states, after, .. } = request
            && let Some(open) = self.open.as_mut().filter(|open| open.id == *batch)
        {
            open.answered(states, after.as_ref(), answer);
        }
    }

    /// What the server has let go of is not kept here either.
    fn forget_gone(&mut self, before: Option<Uid>, page: &[BatchView], is_last: bool) {
        let ids: BTreeSet<Uid> = page.iter().map(|view| view.id).collect();
        let (oldest, newest) = (ids.first().copied(), ids.last().copied());
        let is_in_page = |id: &Uid| {
            let is_below = before.map_or(newest.is_some_and(|newest| *id <= newest), |it| *id < it);
            is_below && (is_last || oldest.is_some_and(|oldest| *id >= oldest))
        };
        self.kept.retain(|id, _| !is_in_page(id) || ids.contains(id));
    }

    fn keep(&mut self, view: BatchView, desk: &mut Desk) {
        let before = self.kept.get(&view.id).map(|known| known.view.state);
        let known = Known::new(view);
        if self.own.contains(&known.view.id) && before != Some(known.view.state) {
            if let Some(notice) = news(&known) {
                desk.tell(notice);
            }
            if is_over(&known.view) {
                self.own.remove(&known.view.id);
            }
        }
        self.kept.insert(known.view.id, known);
        while self.kept.len() as u64 > BATCHES_MAX {
            self.kept.pop_first();
        }
        self.is_stale = true;
    }

    fn reorder(&mut self, desk: &Desk) {
        if std::mem::take(&mut self.is_stale) {
            let now = desk.link.server_time(desk.now.wall);
            let tried: BTreeSet<Uid> =
                self.kept.values().filter_map(|known| known.view.retry_of).collect();
            let shown = self.kept.values().filter(|known| self.filter.filter().matches(known));
            let mut rows: Vec<(u8, Reverse<Uid>)> = shown
                .map(|Known { view, .. }| {
                    let is_fresh = now.since(view.state_at) < FRESH && !tried.contains(&view.id);
                    (rank(view, is_fresh), Reverse(view.id))
                })
                .collect();
            rows.sort_unstable();
            self.order = rows.into_iter().map(|(_, Reverse(id))| id).collect();
        }
        let place = self.cursor.and_then(|id| self.order.iter().position(|other| *other == id));
        self.place = place.unwrap_or(self.place).min(self.order.len().saturating_sub(1));
        self.cursor = self.order.get(self.place).copied();
    }

    fn put_cursor(&mut self, place: usize) {
        self.place = place.min(self.order.len().saturating_sub(1));
        self.cursor = self.order.get(self.place).copied();
    }

    /// Does what a key asked for, in the list.
    pub fn act(&mut self, action: Action, desk: &mut Desk) -> Option<Command> {
        let height = usize::from(layout::batches(desk.size).rows.height);
        if let Some(place) = list::moved(action, self.place, self.order.len(), height) {
            self.put_cursor(place);
            return None;
        }
        match action {
            Action::Open => return self.cursor.map(Command::OpenBatch),
            Action::Back if !self.filter.text().is_empty() => self.set_filter(""),
            Action::Back => {
                desk.go_back();
            }
            Action::Filter => self.filter.begin(),
            Action::Copy => {
                desk.popup = self.at_cursor().map(|known| Popup::Menu(copy_menu(known)));
            }
            other => return self.whole(other, self.cursor, desk),
        }
        None
    }

    /// Does what a key asked for, in the batch that is open.
    pub fn act_on_open(&mut self, action: Action, desk: &mut Desk) -> Option<Command> {
        let open = self.open.as_mut()?;
        if open.moves(action, desk) {
            return None;
        }
        let known = self.kept.get(&open.id);
        match action {
            Action::Open => {
                let member = open.at_cursor()?;
                let (device, command) = (member.uid, member.command_id);
                let is_config = member.config_version.is_some();
                return Some(Command::OpenDoing { device, command, is_config });
            }
            Action::Back if !open.shows_all() => open.show(None),
            Action::Back => {
                desk.go_back();
            }
            Action::Views => desk.popup = Some(Popup::Menu(open.views_menu())),
            Action::Copy => {
                let mut menu = copy_menu(known?);
                if let Some(member) = open.at_cursor() {
                    menu.items.push(copied('d', "device id", member.device_id.to_string()));
                    menu.items.push(copied('y', "why", member.why.to_string()));
                    let id = member.command_id.map(|id| format!("fleets command show {id}"));
                    menu.items.extend(id.map(|text| copied('m', "its command", text)));
                }
                desk.popup = Some(Popup::Menu(menu));
            }
            other => {
                let id = open.id;
                return self.whole(other, Some(id), desk);
            }
        }
        None
    }

    /// What concerns a whole batch.
    fn whole(&self, action: Action, id: Option<Uid>, desk: &mut Desk) -> Option<Command> {
        let change = match action {
            Action::Pause => BatchChange::Pause,
            Action::Continue => BatchChange::Continue,
            Action::CancelRest => BatchChange::Cancel,
            Action::RetryFailed => BatchChange::Retry,
            Action::Actions => {
                let known = self.kept.get(&id?)?;
                desk.popup = Some(Popup::Menu(orders::menu(known, desk)));
                return None;
            }
            _ => return None,
        };
        self.ask_change(id?, change, desk)
    }

    /// Asks whether a batch is to be changed so.
    pub fn ask_change(&self, id: Uid, change: BatchChange, desk: &mut Desk) -> Option<Command> {
        orders::ask(change, self.kept.get(&id)?, desk)
    }

    /// Says what can still be done about a batch that was begun here, since nothing takes it back.
    pub fn tell_left(&self, id: Uid, desk: &mut Desk) {
        match self.kept.get(&id) {
            Some(known) => desk.say(format!("undo: none; {}", orders::left(known))),
            None => desk.say("undo: none; 4 shows all batches"),
        }
    }

    /// Takes what came of a change.
    pub fn changed(
        &mut self,
        id: Uid,
        change: BatchChange,
        answer: Result<Answer, Failed>,
        desk: &mut Desk,
    ) -> Option<Command> {
        let view = match answer {
            Ok(Answer::Batch(view)) => *view,
            Ok(_) => return None,
            Err(failed) => {
                desk.warn(with_request(&failed));
                self.is_due = true;
                return None;
            }
        };
        let new = view.id;
        // What somebody does here is told now, and not as news again.
        let is_own = self.own.remove(&new);
        self.keep(view, desk);
        let known = self.kept.get(&new)?;
        if change == BatchChange::Retry || (is_own && !is_over(&known.view)) {
            self.follow(new);
        }
        let words = self.kept.get(&new).map(|known| known.words.clone()).unwrap_or_default();
        desk.say(format!("{words} {}", change.past()));
        desk.last = change.undone_by(new, &words);
        if change != BatchChange::Retry {
            return None;
        }
        self.cursor = Some(new);
        let is_seen =
            desk.screen() == Screen::Batch && self.open.as_ref().is_some_and(|open| open.id == id);
        is_seen.then_some(Command::OpenBatch(new))
    }

    /// Begins a batch that somebody has agreed to.
    pub fn begin(&mut self, request: Box<BatchRequest>, desk: &mut Desk) {
        if let Some(reason) = desk.why_not_change() {
            desk.warn(format!("not done: {reason}"));
            return;
        }
        desk.say("asking the server …");
        desk.ask(Request::BeginBatch(request));
    }

    /// Takes what came of that.
    pub fn begun(&mut self, answer: Result<Answer, Failed>, desk: &mut Desk) {
        match answer {
            Ok(Answer::Batch(view)) => {
                let id = view.id;
                let known = Known::new(*view.clone());
                let devices = devices(known.view.total);
                desk.say(format!("{} on {devices} has begun: 4 shows how far it is", known.words));
                desk.last = Last::Begun(id);
                self.follow(id);
                self.keep(*view, desk);
                self.cursor = Some(id);
            }
            Ok(_) => {}
            Err(failed) => {
                desk.warn(format!("not begun: {}", with_request(&failed)));
                self.is_due = true;
            }
        }
    }

    fn follow(&mut self, id: Uid) {
        if (self.own.len() as u64) < BATCHES_OPEN_MAX {
            self.own.insert(id);
        }
    }

    /// Opens a batch.
    pub fn go(&mut self, id: Uid, desk: &mut Desk) {
        if self.open.as_ref().is_none_or(|open| open.id != id) {
            self.open = Some(OneBatch::new(id));
        }
        self.cursor = Some(id);
        desk.go(Screen::Batch);
    }

    /// Shows the devices in some states, or all.
    pub fn show_members(&mut self, only: Option<usize>) {
        if let Some(open) = &mut self.open {
            open.show(only);
        }
    }

    /// Shows the list through another filter.
    pub fn set_filter(&mut self, text: &str) {
        // Words are always read.
        let _ = self.filter.set(text);
        self.is_stale = true;
    }

    /// Takes a key while something is typed. False if nothing is.
    pub fn types(&mut self, key: &KeyEvent) -> bool {
        self.filter.types(key, &mut self.is_stale)
    }

    /// Takes pasted text while something is typed.
    pub fn paste(&mut self, text: &str) -> bool {
        self.filter.takes(text, &mut self.is_stale)
    }
}

/// The batch that an event is about: its text begins with the number.
pub fn id_of(event: &EventView) -> Option<Uid> {
    event.text.raw().split(' ').next()?.parse().ok().filter(|_| event.kind.is("batch"))
}

/// Where a batch stands: what wants somebody, what goes on, what went wrong lately, the rest.
fn rank(view: &BatchView, is_fresh: bool) -> u8 {
    let [_, failed, _] = progress(view);
    let has_failed = failed > 0;
    match view.state {
        BatchState::Paused => 0,
        _ if goes_on(view) && has_failed => 1,
        _ if goes_on(view) => 2,
        _ if has_failed && is_fresh => 3,
        _ => 4,
    }
}

fn with_request(failed: &Failed) -> String {
    match &failed.request_id {
        Some(request) => format!("{} (request {request})", failed.text),
        None => failed.text.clone(),
    }
}

#[cfg(test)]
mod tests;
