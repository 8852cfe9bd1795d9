//! Keys to the server: who may come in, and with what. Those come first that have just ended or end
//! soon, then those that work, and behind them those that do not.
//!
//! What a key says in full is shown once, when it is made, in [`crate::state::popup::NewKey`], and is
//! not kept here.

mod ask;
mod filter;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
mod words;

use std::time::Duration;

use crossterm::event::KeyEvent;
use fleet_core::api::{EventView, KeyState, KeyView, Role};
use fleet_core::secret::ApiKey;
use fleet_core::time::Timestamp;
use fleet_core::untrusted::escaped;

use super::filter_line::FilterLine;
use super::popup::{Command, Facts, Menu, MenuItem, NewKey, Popup};
use super::{Desk, Screen, list};
use crate::effect::Request;
use crate::event::{Answer, Failed, Notice};
use crate::keys::Action;
use crate::layout;
pub use filter::KeyFilter;
use words::{Labels, author};
pub use words::{label, may, name, own, reach};

/// Between two looks at the keys while they are shown: nothing tells that one was used.
const LOOK_INTERVAL: Duration = Duration::from_secs(15);
/// Between two looks of which the first has failed, or when something has happened to a key.
const RETRY_INTERVAL: Duration = Duration::from_secs(5);
/// A key that ends within this time wants somebody, and so does one that ended no longer ago.
const NEAR: Duration = Duration::from_secs(14 * 86_400);
/// Between two times at which the order is looked at although nothing is new: keys end by themselves.
const ORDER_INTERVAL: Duration = Duration::from_secs(30);

/// What the rows can be sorted by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KeySort {
    /// What wants somebody, then what ends first.
    #[default]
    Ends,
    /// What they are for.
    Label,
    /// How much they may do, the most first.
    Role,
    /// When they were made, the newest first.
    Created,
    /// When they were last used, the latest first.
    Used,
}

impl KeySort {
    const ALL: [Self; 5] = [Self::Ends, Self::Label, Self::Role, Self::Created, Self::Used];

    /// Its name.
    pub fn word(self) -> &'static str {
        match self {
            Self::Ends => "what ends first",
            Self::Label => "label",
            Self::Role => "role",
            Self::Created => "when made",
            Self::Used => "when last used",
        }
    }
}

/// Keys to the server.
#[derive(Debug, Default)]
pub struct KeysScreen {
    kept: Vec<KeyView>,
    /// What those are for: each key may have been made with any other one.
    labels: Labels,
    /// Places of the rows in `kept`.
    order: Vec<usize>,
    /// The id of the key at the cursor.
    cursor: Option<String>,
    /// The id of a new key that the cursor goes to as soon as it is listed.
    wanted: Option<String>,
    place: usize,
    /// The first row in sight.
    pub top: usize,
    /// What the rows are sorted by.
    pub sort: KeySort,
    /// Whether the other way round.
    pub is_reversed: bool,
    /// What is shown of them.
    pub filter: FilterLine<KeyFilter>,
    /// Why nothing newer is known.
    pub failure: Option<String>,
    /// Whether the keys have come.
    pub is_loaded: bool,
    is_asked: bool,
    asked_at: Option<Duration>,
    /// Whether there is news that was not looked at.
    is_due: bool,
    is_stale: bool,
    ordered_at: Option<Duration>,
}

/// Why somebody should look at a key's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It is far away, or nobody needs to care.
    Quiet,
    /// It is near.
    Near,
    /// It was not long ago.
    Past,
}

/// Whether a key's end is near, or was not long ago. That of a key with a successor is meant so.
pub fn end(key: &KeyView, now: Timestamp) -> End {
    let Some(expires_at) = key.expires_at else { return End::Quiet };
    let is_near =
        if expires_at > now { expires_at.since(now) < NEAR } else { now.since(expires_at) < NEAR };
    match key.state(now) {
        _ if !is_near || key.succeeded_by.is_some() => End::Quiet,
        KeyState::Active => End::Near,
        KeyState::Expired => End::Past,
        KeyState::Rotating | KeyState::UsedUp | KeyState::Revoked => End::Quiet,
    }
}

impl KeysScreen {
    /// The keys that are shown, in order, from the first in sight on.
    pub fn in_sight(&self) -> impl Iterator<Item = &KeyView> {
        self.order.iter().skip(self.top).filter_map(|place| self.kept.get(*place))
    }

    /// How many are shown.
    pub fn len(&self) -> usize {
        self.order.len()
    }

    /// Whether none is shown.
    pub fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    /// All that are known, shown or not.
    pub fn kept(&self) -> &[KeyView] {
        &self.kept
    }

    /// Who made a key.
    pub fn author(&self, key: &KeyView) -> String {
        author(key, &self.labels)
    }

    /// The key at the cursor.
    pub fn at_cursor(&self) -> Option<&KeyView> {
        self.order.get(self.place).and_then(|place| self.kept.get(*place))
    }

    /// Brings the rows up to date, and asks for what is missing.
    pub fn settle(&mut self, desk: &mut Desk) {
        if desk.screen() != Screen::Keys || desk.why_not_keys().is_some() {
            return;
        }
        let now = desk.now.since_start;
        let is_old = self.ordered_at.is_none_or(|at| now.saturating_sub(at) >= ORDER_INTERVAL);
        if std::mem::take(&mut self.is_stale) || is_old {
            self.ordered_at = Some(now);
            self.reorder(desk);
        }
        self.top = list::follow(self.top, self.place, self.order.len(), rows_height(desk));
        // Every question by a key that may not ask is one more refusal in the server's record.
        if self.is_asked || !desk.link.is_live() || desk.me.is_none() {
            return;
        }
        let is_hasty = self.failure.is_some() || self.is_due;
        let pause = if is_hasty { RETRY_INTERVAL } else { LOOK_INTERVAL };
        if self.asked_at.is_none_or(|at| now.saturating_sub(at) >= pause) {
            (self.is_asked, self.is_due, self.asked_at) = (true, false, Some(now));
            desk.ask(Request::Keys);
        }
    }

    /// Has the keys asked for as soon as can be: something was done to them here.
    fn look_now(&mut self) {
        self.asked_at = None;
    }

    /// Notes that the link was down: an answer may never come.
    pub fn reconnected(&mut self) {
        self.is_asked = false;
        self.look_now();
    }

    /// Notes that something happened to a key.
    pub fn happened(&mut self, event: &EventView) {
        self.is_due |= event.kind.is("key");
    }

    /// Takes the keys.
    pub fn answered(&mut self, answer: Result<Answer, Failed>) {
        self.is_asked = false;
        match answer {
            Ok(Answer::Keys(keys)) => {
                self.labels = keys.iter().map(|key| (key.id.clone(), label(key))).collect();
                self.kept = keys;
                (self.failure, self.is_loaded, self.is_stale) = (None, true, true);
            }
            Ok(_) => {}
            Err(failed) => self.failure = Some(failed.text),
        }
    }

    /// Takes a key that was made here, or why none was.
    pub fn made(&mut self, request: &Request, answer: Result<Answer, Failed>, desk: &mut Desk) {
        desk.awaited_key = None;
        self.look_now();
        match answer {
            Ok(Answer::NewKey(key)) => self.show(request, *key, desk),
            Ok(_) => {}
            Err(failed) => {
                if let Some(Popup::KeyForm(form)) = &mut desk.popup
                    && form.awaits(request)
                {
                    form.fail(failed);
                } else {
                    desk.warn(format!("no key was made: {}", failed.text));
                }
            }
        }
    }

    /// Shows a new key, whatever is shown now: nobody can show it again.
    fn show(&mut self, request: &Request, key: ApiKey, desk: &mut Desk) {
        let now = desk.now.since_start;
        let new = match request {
            Request::RotateKey { id, overlap } => {
                let old = self.kept.iter().find(|key| key.id == *id);
                let what = old.map_or_else(|| id.clone(), name);
                let end = desk.link.server_time(desk.now.wall).plus(*overlap);
                let end = old.and_then(|old| old.expires_at).map_or(end, |before| before.min(end));
                let is_own = desk.me.as_ref().is_some_and(|me| me.id == *id);
                let after = words::after(&what, *overlap, end, is_own);
                NewKey::new(key, format!("The successor of {what}"), Some(after), now)
            }
            Request::MakeKey(wish) if !wish.label.is_empty() => {
                NewKey::new(key, format!("The new key {}", escaped(&wish.label)), None, now)
            }
            _ => NewKey::new(key, "The new key".to_owned(), None, now),
        };
        if matches!(request, Request::MakeKey(_)) {
            self.wanted = Some(new.key().id().to_owned());
        }
        let text = format!("made the {} key {}", new.key().kind(), new.key().id());
        desk.note(Notice { text, is_error: false });
        desk.popup = Some(Popup::NewKey(new));
    }

    /// Takes word of a key that was to be ended.
    pub fn revoked(&mut self, id: &str, answer: Result<Answer, Failed>, desk: &mut Desk) {
        self.look_now();
        let key = self.kept.iter().find(|key| key.id == id);
        let name = key.map_or_else(|| id.to_owned(), name);
        match answer {
            Ok(_) => desk.say(format!("revoked {name}")),
            Err(failed) => desk.warn(format!("not revoked: {name}: {}", failed.text)),
        }
    }

    fn reorder(&mut self, desk: &Desk) {
        let now = desk.link.server_time(desk.now.wall);
        let mut rows: Vec<(usize, &KeyView)> = self
            .kept
            .iter()
            .enumerate()
            .filter(|(_, key)| self.filter.filter().matches(key, &self.labels, now))
            .collect();
        rows.sort_by(|(_, a), (_, b)| {
            let by_rank = rank(a, now).cmp(&rank(b, now));
            let by_name = || (label(a), &a.id).cmp(&(label(b), &b.id));
            match self.sort {
                KeySort::Ends => by_rank,
                KeySort::Label => std::cmp::Ordering::Equal,
                KeySort::Role => (b.role, b.kind).cmp(&(a.role, a.kind)),
                KeySort::Created => b.created_at.cmp(&a.created_at),
                KeySort::Used => b.last_used.cmp(&a.last_used),
            }
            .then_with(by_name)
        });
        if self.is_reversed {
            rows.reverse();
        }
        self.order = rows.into_iter().map(|(place, _)| place).collect();
        // A list that was asked for before it was made does not have it.
        if let Some(new) = self.wanted.take_if(|id| self.kept.iter().any(|key| key.id == *id)) {
            self.cursor = Some(new);
        }
        let kept = |place: &usize| self.kept.get(*place).map(|key| key.id.as_str());
        let cursor = self.cursor.as_deref();
        let place = self.order.iter().position(|place| cursor.is_some() && kept(place) == cursor);
        self.put_cursor(place.unwrap_or(self.place));
    }

    fn put_cursor(&mut self, place: usize) {
        self.place = place.min(self.order.len().saturating_sub(1));
        self.cursor = self.at_cursor().map(|key| key.id.clone());
    }

    /// Does what a key asked for.
    pub fn act(&mut self, action: Action, desk: &mut Desk) -> Option<Command> {
        if let Some(place) = list::moved(action, self.place, self.order.len(), rows_height(desk)) {
            self.wanted = None;
            self.put_cursor(place);
            return None;
        }
        match action {
            Action::Open => desk.popup = self.facts(desk).map(Popup::Facts),
            Action::Back if self.filter.text().is_empty() => {
                desk.go_back();
            }
            Action::Back => self.set_filter(""),
            Action::Filter => self.filter.begin(),
            Action::Sort => desk.popup = Some(Popup::Menu(self.sort_menu())),
            Action::Reverse => {
                self.is_reversed = !self.is_reversed;
                self.is_stale = true;
            }
            Action::Actions => desk.popup = Some(Popup::Menu(self.actions_menu(desk))),
            Action::NewKey => return ask::new_key(desk),
            Action::Copy => desk.popup = self.copy_menu().map(Popup::Menu),
            _ => {}
        }
        None
    }

    /// Sorts by something else.
    pub fn set_sort(&mut self, sort: KeySort) {
        self.is_reversed = sort == self.sort && !self.is_reversed;
        self.sort = sort;
        self.is_stale = true;
    }

    /// Shows other keys.
    pub fn set_filter(&mut self, text: &str) {
        let Ok(()) = self.filter.set(text);
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

    /// What can be done with the key at the cursor, and that another one can be made.
    pub(super) fn actions_menu(&self, desk: &Desk) -> Menu {
        ask::menu(self.at_cursor(), desk)
    }

    /// Asks for what becomes of a key.
    pub fn begin(&self, id: &str, change: KeyChange, desk: &mut Desk) -> Option<Command> {
        let key = self.kept.iter().find(|key| key.id == id)?;
        ask::begin(key, change, desk)
    }

    /// All that is known of the key at the cursor; of the one in use where no others are seen.
    fn facts(&self, desk: &Desk) -> Option<Facts> {
        let key = self.at_cursor()?;
        let now = desk.link.server_time(desk.now.wall);
        let facts = words::facts(key, &self.kept, &self.labels, desk.me.as_ref(), now);
        Some(Facts::new(name(key), facts))
    }

    fn copy_menu(&self) -> Option<Menu> {
        let key = self.at_cursor()?;
        let mut items = Vec::new();
        let mut item = |key, text: &'static str, copied: String| {
            let detail = copied.clone();
            let command = Some(Command::Copy(text, copied));
            items.push(MenuItem { key, text: text.to_owned(), detail, command });
        };
        item('i', "key id", key.id.clone());
        if !key.label.raw().is_empty() {
            item('l', "label", key.label.to_string());
        }
        if let Some(scope) = &key.scope {
            item('s', "scope", scope.to_string());
        }
        if let Some(address) = key.last_used_from {
            item('a', "address of its last use", address.to_string());
        }
        item('c', "command for the shell", "fleets keys list -o wide".to_owned());
        Some(Menu::new(format!("Copy of {}", name(key)), items))
    }

    fn sort_menu(&self) -> Menu {
        let item = |(letter, sort): (char, KeySort)| MenuItem {
            key: letter,
            text: sort.word().to_owned(),
            detail: if sort == self.sort { "now, turns round" } else { "" }.to_owned(),
            command: Some(Command::SortKeys(sort)),
        };
        Menu::new("Sort by", ('a'..).zip(KeySort::ALL).map(item).collect())
    }
}

/// What becomes of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyChange {
    /// Another one takes its place.
    Rotate,
    /// It ends for good.
    Revoke,
}

/// Where a key stands among others: what ended not long ago, what ends soon, what works, what does not;
/// of each the one that ends first, or has ended last.
fn rank(key: &KeyView, now: Timestamp) -> (u8, i64) {
    let far = i64::MAX;
    let ends = key.expires_at.map_or(far, Timestamp::millis);
    match key.state(now) {
        _ if end(key, now) == End::Past => (0, -ends),
        _ if end(key, now) == End::Near => (1, ends),
        KeyState::Rotating => (1, ends),
        KeyState::Active => (2, ends),
        KeyState::UsedUp => (3, far),
        KeyState::Expired => (4, -ends),
        KeyState::Revoked => (5, key.revoked_at.map_or(far, |at| -at.millis())),
    }
}

/// Whether whoever asks may see keys at all.
pub(super) fn sees_keys(role: Option<Role>) -> bool {
    role == Some(Role::Admin)
}

/// How many rows are in sight.
fn rows_height(desk: &Desk) -> usize {
    usize::from(layout::api_keys(desk.size).rows.height)
}
