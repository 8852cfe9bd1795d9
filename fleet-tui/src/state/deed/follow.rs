//! What becomes of the commands that were given here, each to one device: its end is told. The
//! stream tells of ends; after the link was down the server is asked. What many devices do is a
//! batch, which is followed as one.

use std::collections::{HashMap, VecDeque};

use fleet_core::api::{CommandState, CommandView, EventKind, EventView};
use fleet_core::id::{DeviceId, Uid};
use fleet_core::untrusted::escaped;

use super::view_words;
use crate::effect::Request;
use crate::event::Notice;
use crate::state::Desk;
use crate::state::popup::Popup;

/// Commands that are followed; of further ones is told that they were given.
const FOLLOWED_MAX: usize = 100;
/// Ends that are remembered while answers are on their way: a device may be faster than those.
const EARLY_MAX: usize = 256;

/// The commands that were given here and are not over.
#[derive(Debug, Default)]
pub struct Followed {
    open: HashMap<Uid, Own>,
    early: VecDeque<EventView>,
}

#[derive(Debug)]
struct Own {
    device: DeviceId,
    words: String,
}

impl Followed {
    /// Whether a command was given here and is not over.
    pub(super) fn is_open(&self, id: Uid) -> bool {
        self.open.contains_key(&id)
    }

    /// Stops to follow a command of whose end is told already.
    pub(super) fn forget(&mut self, id: Uid) {
        self.open.remove(&id);
    }
}

/// Follows a command that the server has taken; true if its end is told already.
pub(super) fn taken(view: &CommandView, desk: &mut Desk) -> bool {
    let followed = &mut desk.followed;
    if followed.open.len() >= FOLLOWED_MAX {
        return false;
    }
    let own = Own { device: view.device_id.clone(), words: view_words(view) };
    followed.open.insert(view.id, own);
    let early = followed.early.iter().position(|event| id_of(event) == Some(view.id));
    if let Some(event) = early.and_then(|place| followed.early.remove(place)) {
        happened(&event, desk);
    } else {
        looked(view, desk);
    }
    !desk.followed.open.contains_key(&view.id)
}

/// Notes that no answer is on its way any more.
pub(super) fn all_given(desk: &mut Desk) {
    desk.followed.early.clear();
}

/// Takes an event; the ends of commands that were given here are told.
pub fn happened(event: &EventView, desk: &mut Desk) {
    let (Some(state), Some(id)) = (state_of(event.kind), id_of(event)) else { return };
    let Some(own) = desk.followed.open.get(&id) else {
        if desk.job.is_some() {
            desk.followed.early.truncate(EARLY_MAX - 1);
            desk.followed.early.push_front(event.clone());
        }
        return;
    };
    let text = event.text.raw();
    let before = format!("{id} {}: ", own.words);
    // Words that are shown otherwise than they were written are told whole.
    let why = text.strip_prefix(&before).or(text.split_once(' ').map(|(_, rest)| rest));
    let why = escaped(why.unwrap_or_default());
    end(id, state, &why, desk);
}

/// Asks what happened while the link was down.
pub fn reconnected(desk: &mut Desk) {
    let open: Vec<Uid> = desk.followed.open.keys().copied().collect();
    for id in open {
        desk.ask(Request::Command(id));
    }
}

/// Takes what the server says of a command, whoever asked.
pub fn looked(view: &CommandView, desk: &mut Desk) {
    if view.state.is_over() {
        end(view.id, view.state, &view.why.to_string(), desk);
    }
}

/// A command is over.
fn end(id: Uid, state: CommandState, why: &str, desk: &mut Desk) {
    let Some(own) = desk.followed.open.remove(&id) else { return };
    let is_error = !matches!(state, CommandState::Succeeded | CommandState::Cancelled);
    let why = if state == CommandState::Succeeded || why.is_empty() {
        String::new()
    } else {
        format!(": {why}")
    };
    let text = format!("{} on {}: {}{why}", own.words, own.device, state.word());
    let notice = Notice { text, is_error };
    if matches!(&desk.popup, Some(Popup::Outcome(outcome)) if outcome.is_of(id)) {
        // It stands there; what is said beside would only have to be dismissed.
        desk.note(notice);
    } else {
        desk.tell(notice);
    }
}

/// The command that an event is about: its text begins with the number.
pub(super) fn id_of(event: &EventView) -> Option<Uid> {
    state_of(event.kind)?;
    event.text.raw().split(' ').next()?.parse().ok()
}

/// The end that a kind of events tells of.
fn state_of(kind: EventKind) -> Option<CommandState> {
    match kind {
        EventKind::CommandSucceeded => Some(CommandState::Succeeded),
        EventKind::CommandFailed => Some(CommandState::Failed),
        EventKind::CommandExpired => Some(CommandState::Expired),
        EventKind::CommandCancelled => Some(CommandState::Cancelled),
        EventKind::CommandUnknown => Some(CommandState::Unknown),
        _ => None,
    }
}
