//! What a new key is to be: of which kind, for whom, with what role, rights and scope, until when; or
//! how long a key goes on beside its successor.
//!
//! The server says what does not do, and where; that is shown at its place.

use std::time::Duration;

use crossterm::event::{KeyCode, KeyEvent};
use fleet_core::api::{KeyCreate, KeyView, OPERATOR_LIFE, OVERLAP_DEFAULT, Right, Rights, Role};
use fleet_core::cli::args::duration;
use fleet_core::filter::{Filter, Words};
use fleet_core::secret::KeyKind;

use super::PopupEnd;
use crate::effect::Request;
use crate::event::Failed;
use crate::state::Desk;
use crate::state::api_keys;
use crate::widgets::field::{Field, FieldOutcome};

/// Characters of a label that can be typed; the server says how many it takes.
const LABEL_CHARS_MAX: usize = 120;
/// Characters of a scope that can be typed.
const SCOPE_CHARS_MAX: usize = 500;
/// Characters of a device's id that can be typed.
const DEVICE_CHARS_MAX: usize = 128;
/// Characters of a number or a span of time that can be typed.
const SHORT_CHARS_MAX: usize = 20;
/// The kinds, in their order.
const KINDS: [KeyKind; 3] = [KeyKind::Operator, KeyKind::Enrol, KeyKind::Device];
/// What stands for a key that has no end.
const NEVER: &str = "never";

/// A part of the form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyPlace {
    /// What it lets its holder do at most.
    Kind,
    /// What it is for, for people.
    Label,
    /// The device of a device key.
    Device,
    /// An operator key's role.
    Role,
    /// Its rights.
    Rights,
    /// The devices that it is for.
    Scope,
    /// How many devices an enrolment key lets in.
    Uses,
    /// When it ends.
    Expires,
    /// How long the old key goes on.
    Overlap,
    /// The button.
    Button,
}

/// What a new key is to be.
#[derive(Clone, Debug)]
pub struct KeyForm {
    /// The key that gets a successor: its id and its name. Without one, a key is made anew.
    pub old: Option<(String, String)>,
    /// Whether that is the one that this console is signed in with.
    pub is_own: bool,
    /// Its kind.
    pub kind: KeyKind,
    /// Its label.
    pub label: Field,
    /// The device that a device key is for.
    pub device: Field,
    /// An operator key's role.
    pub role: Role,
    /// The rights that it gets, unless the role has them all.
    pub rights: Rights,
    /// The right that the cursor is on.
    pub right: usize,
    /// The devices that it is for, as a filter.
    pub scope: Field,
    /// How many devices an enrolment key lets in.
    pub uses: Field,
    /// When it ends.
    pub expires: Field,
    /// How long the old key goes on.
    pub overlap: Field,
    /// Where keys go.
    pub place: KeyPlace,
    /// What does not do, safe to show, and where, if that is one of the places.
    pub error: Option<(Option<KeyPlace>, String)>,
    /// What the server is asked for.
    awaited: Option<Box<Request>>,
}

impl KeyForm {
    /// A form for a key of an operator.
    pub fn new() -> Self {
        Self {
            old: None,
            is_own: false,
            kind: KeyKind::Operator,
            label: Field::new(LABEL_CHARS_MAX),
            device: Field::new(DEVICE_CHARS_MAX),
            role: Role::Operator,
            rights: Rights::new(),
            right: 0,
            scope: Field::new(SCOPE_CHARS_MAX),
            uses: Field::new(SHORT_CHARS_MAX).with("1"),
            expires: Field::new(SHORT_CHARS_MAX).with(&life(KeyKind::Operator)),
            overlap: Field::new(SHORT_CHARS_MAX).with(&hours(OVERLAP_DEFAULT)),
            place: KeyPlace::Label,
            error: None,
            awaited: None,
        }
    }

    /// A form for a key's successor.
    pub fn successor(key: &KeyView, is_own: bool) -> Self {
        let old = Some((key.id.clone(), api_keys::name(key)));
        Self { old, is_own, kind: key.kind, place: KeyPlace::Overlap, ..Self::new() }
    }

    /// The places that there are now, in their order.
    pub fn places(&self) -> &'static [KeyPlace] {
        use KeyPlace::{Button, Device, Expires, Kind, Label, Overlap, Rights, Role, Scope, Uses};
        match self.kind {
            _ if self.old.is_some() => &[Overlap, Button],
            KeyKind::Operator => &[Kind, Label, Role, Rights, Scope, Expires, Button],
            KeyKind::Enrol => &[Kind, Label, Uses, Expires, Button],
            KeyKind::Device => &[Kind, Device, Label, Expires, Button],
        }
    }

    /// The rights that can be given: a role may have none, and an admin has all.
    pub fn can_have(&self, right: Right) -> bool {
        self.role != Role::Admin && self.role.takes(right)
    }

    /// Whether the server is being asked.
    pub fn is_asking(&self) -> bool {
        self.awaited.is_some()
    }

    /// Whether it waits for the answer to this.
    pub fn awaits(&self, request: &Request) -> bool {
        self.awaited.as_deref() == Some(request)
    }

    /// Takes the server's no, at the place that it is about.
    pub fn fail(&mut self, failed: Failed) {
        self.awaited = None;
        let place = failed.field.as_deref().and_then(|field| self.place_of(field));
        let text = match (place, failed.field) {
            (None, Some(field)) => format!("{field}: {}", failed.text),
            (_, _) => failed.text,
        };
        self.place = place.unwrap_or(self.place);
        self.error = Some((place, text));
    }

    /// The place of a part of the request, as the server names it.
    fn place_of(&self, field: &str) -> Option<KeyPlace> {
        let place = match field {
            "kind" => KeyPlace::Kind,
            "label" => KeyPlace::Label,
            "device_id" => KeyPlace::Device,
            "role" => KeyPlace::Role,
            "rights" => KeyPlace::Rights,
            "scope" => KeyPlace::Scope,
            "uses" => KeyPlace::Uses,
            "expires_in_secs" | "never_expires" => KeyPlace::Expires,
            "overlap_secs" => KeyPlace::Overlap,
            _ => return None,
        };
        self.places().contains(&place).then_some(place)
    }

    pub(super) fn press(&mut self, key: &KeyEvent, desk: &mut Desk) -> PopupEnd {
        if key.code == KeyCode::Esc {
            if self.is_asking() {
                desk.say("the key is shown as soon as the server has made it");
            }
            return PopupEnd::Close;
        }
        if self.is_asking() {
            return PopupEnd::Stay;
        }
        match (key.code, self.place) {
            (KeyCode::Enter, KeyPlace::Button) => self.submit(desk),
            (KeyCode::Tab | KeyCode::Enter | KeyCode::Down, _) => self.walk(1),
            (KeyCode::BackTab | KeyCode::Up, _) => self.walk(-1),
            (KeyCode::Left, KeyPlace::Kind | KeyPlace::Role | KeyPlace::Rights) => self.choose(-1),
            (KeyCode::Right, KeyPlace::Kind | KeyPlace::Role | KeyPlace::Rights) => self.choose(1),
            (KeyCode::Char(' '), KeyPlace::Kind | KeyPlace::Role) => self.choose(1),
            (KeyCode::Char(' '), KeyPlace::Rights) => self.turn(),
            _ => self.edit(key),
        }
        PopupEnd::Stay
    }

    pub(super) fn paste(&mut self, text: &str) -> bool {
        if self.is_asking() {
            return false;
        }
        let Some(field) = self.field() else { return false };
        field.insert(text);
        self.error = None;
        true
    }

    /// Goes to another place; at the ends it stays.
    fn walk(&mut self, by: isize) {
        let places = self.places();
        let at = places.iter().position(|place| *place == self.place).unwrap_or_default();
        let to = at.saturating_add_signed(by).min(places.len() - 1);
        self.place = places.get(to).copied().unwrap_or(self.place);
    }

    fn choose(&mut self, by: isize) {
        self.error = None;
        match self.place {
            KeyPlace::Kind => {
                let usual = life(self.kind);
                self.kind = turned(&KINDS, self.kind, by);
                // What somebody typed stays.
                if self.expires.text() == usual {
                    self.expires.set(&life(self.kind));
                }
            }
            KeyPlace::Role => {
                self.role = turned(&Role::ALL, self.role, by);
                let role = self.role;
                self.rights.retain(|right| role.takes(*right));
            }
            KeyPlace::Rights => {
                self.right = self.right.saturating_add_signed(by).min(Right::ALL.len() - 1);
            }
            _ => {}
        }
    }

    /// Gives or takes the right at the cursor.
    fn turn(&mut self) {
        let Some(right) = Right::ALL.get(self.right).copied() else { return };
        self.error = None;
        if self.role == Role::Admin {
            self.error = Some((Some(KeyPlace::Rights), "an admin has all of them".to_owned()));
        } else if !self.role.takes(right) {
            let text = format!("a {} cannot have the right {right}", self.role);
            self.error = Some((Some(KeyPlace::Rights), text));
        } else if !self.rights.remove(&right) {
            self.rights.insert(right);
        }
    }

    fn edit(&mut self, key: &KeyEvent) {
        let edited = self.field().map(|field| field.key(*key));
        if edited == Some(FieldOutcome::Edited) {
            self.error = None;
        }
    }

    fn field(&mut self) -> Option<&mut Field> {
        match self.place {
            KeyPlace::Label => Some(&mut self.label),
            KeyPlace::Device => Some(&mut self.device),
            KeyPlace::Scope => Some(&mut self.scope),
            KeyPlace::Uses => Some(&mut self.uses),
            KeyPlace::Expires => Some(&mut self.expires),
            KeyPlace::Overlap => Some(&mut self.overlap),
            KeyPlace::Kind | KeyPlace::Role | KeyPlace::Rights | KeyPlace::Button => None,
        }
    }

    /// Asks the server, if everything can be read and nothing else is under way.
    fn submit(&mut self, desk: &mut Desk) {
        self.error = None;
        let reason = desk.why_not_change_keys().map(str::to_owned);
        let busy = desk.awaited_key.as_ref().map(|_| "another key is being made".to_owned());
        if let Some(reason) = reason.or(busy) {
            self.error = Some((None, format!("not now: {reason}")));
            return;
        }
        match self.request() {
            Ok(request) => {
                self.awaited = Some(Box::new(request.clone()));
                desk.awaited_key = Some(request.clone());
                desk.ask(request);
            }
            Err((place, text)) => {
                self.place = place;
                self.error = Some((Some(place), text));
            }
        }
    }

    fn request(&self) -> Result<Request, (KeyPlace, String)> {
        let at = |place: KeyPlace| move |text: String| (place, text);
        if let Some((id, _)) = &self.old {
            let overlap = span(self.overlap.text()).map_err(at(KeyPlace::Overlap))?;
            return Ok(Request::RotateKey { id: id.clone(), overlap });
        }
        let is_operator = self.kind == KeyKind::Operator;
        let ends = ends(self.expires.text()).map_err(at(KeyPlace::Expires))?;
        let device = self.device.text().trim();
        if self.kind == KeyKind::Device && device.is_empty() {
            return Err((KeyPlace::Device, "say which device it is for: its id".to_owned()));
        }
        let uses = match self.kind {
            KeyKind::Enrol => Some(uses(self.uses.text()).map_err(at(KeyPlace::Uses))?),
            KeyKind::Operator | KeyKind::Device => None,
        };
        let scope = self.scope.text().trim();
        let scope = Some(scope).filter(|scope| is_operator && !scope.is_empty());
        if let Some(scope) = scope {
            Filter::parse(scope, Words::Refused)
                .map_err(|error| (KeyPlace::Scope, error.to_string()))?;
        }
        Ok(Request::MakeKey(Box::new(KeyCreate {
            kind: self.kind,
            label: self.label.text().trim().to_owned(),
            uses,
            expires_in_secs: ends.map(|life| life.as_secs()),
            never_expires: is_operator && ends.is_none(),
            role: is_operator.then_some(self.role),
            rights: if is_operator { self.rights.clone() } else { Rights::new() },
            scope: scope.map(str::to_owned),
            device_id: (self.kind == KeyKind::Device).then(|| device.to_owned()),
            install_url: false,
        })))
    }
}

impl Default for KeyForm {
    fn default() -> Self {
        Self::new()
    }
}

/// How long a key of a kind lasts unless told otherwise, as it is typed.
fn life(kind: KeyKind) -> String {
    match kind {
        KeyKind::Operator => format!("{}d", OPERATOR_LIFE.as_secs() / 86_400),
        KeyKind::Enrol | KeyKind::Device => NEVER.to_owned(),
    }
}

fn hours(span: Duration) -> String {
    format!("{}h", span.as_secs() / 3_600)
}

fn span(text: &str) -> Result<Duration, String> {
    duration(text.trim()).map_err(|error| error.to_string())
}

/// How long a key lasts; nothing if without end.
fn ends(text: &str) -> Result<Option<Duration>, String> {
    if text.trim() == NEVER {
        return Ok(None);
    }
    span(text).map(Some).map_err(|error| format!("{error}, or {NEVER}"))
}

fn uses(text: &str) -> Result<u32, String> {
    match text.trim().parse() {
        Ok(0) | Err(_) => Err("say how many devices it lets in: 1 or more".to_owned()),
        Ok(uses) => Ok(uses),
    }
}

/// The next one, or the one before; after the last comes the first.
fn turned<T: Copy + PartialEq>(all: &[T], now: T, by: isize) -> T {
    let at = all.iter().position(|one| *one == now).unwrap_or_default();
    let to = (at + all.len()).saturating_add_signed(by) % all.len().max(1);
    all.get(to).copied().unwrap_or(now)
}
