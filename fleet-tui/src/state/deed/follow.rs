//! What becomes of the commands that were given here: each end is told, of many together how many
//! ended how. The stream tells of ends; after the link was down the server is asked.

use std::collections::{BTreeMap, HashMap, VecDeque};

use fleet_core::api::{CommandState, CommandView, EventKind, EventView};
use fleet_core::id::{DeviceId, Uid};
use fleet_core::untrusted::escaped;

use super::view_words;
use crate::effect::Request;
use crate::event::{Answer, Failed, Notice};
use crate::state::Desk;
use crate::state::popup::Popup;

/// Commands that are followed; of further ones is told that they were given.
const FOLLOWED_MAX: usize = 10_000;
/// Ends that are remembered while answers are on their way: a device may be faster than those.
const EARLY_MAX: usize = 256;
/// Bad ends that are told one by one; the others are counted.
const FAILURES_TOLD_MAX: usize = 100;

/// The commands that were given here and are not over.
#[derive(Debug, Default)]
pub struct Followed {
    open: HashMap<Uid, Own>,
    runs: BTreeMap<u64, Run>,
    early: VecDeque<EventView>,
    last_run: u64,
}

#[derive(Debug)]
struct Own {
    run: u64,
    device: DeviceId,
    words: String,
}

/// What was agreed to at one time.
#[derive(Debug)]
struct Run {
    /// Devices that were agreed to.
    total: usize,
    /// Commands that are followed, over or not.
    given: usize,
    /// Commands that there was no room to follow.
    left_out: usize,
    ended: BTreeMap<CommandState, usize>,
    failed: usize,
    words: String,
    /// Whether no more will be given.
    is_all: bool,
}

impl Run {
    fn ended(&self) -> usize {
        self.ended.values().sum()
    }

    /// `restart on 3 devices: 2 succeeded, 1 failed`.
    fn counts(&self) -> String {
        let counts: Vec<String> =
            self.ended.iter().map(|(state, count)| format!("{count} {}", state.word())).collect();
        let open = self.given - self.ended();
        let open = (open > 0).then(|| format!("{open} not over"));
        let left_out = (self.left_out > 0).then(|| format!("{} not followed", self.left_out));
        let counts: Vec<String> = counts.into_iter().chain(open).chain(left_out).collect();
        let devices = if self.given == 1 { "device" } else { "devices" };
        format!("{} on {} {devices}: {}", self.words, self.given, counts.join(", "))
    }
}

impl Followed {
    /// Begins to follow what somebody has just agreed to.
    pub(super) fn begin(&mut self, words: String, total: usize) -> u64 {
        self.last_run += 1;
        let (ended, is_all) = (BTreeMap::new(), false);
        let (given, left_out, failed) = (0, 0, 0);
        let run = Run { total, given, left_out, ended, failed, words, is_all };
        self.runs.insert(self.last_run, run);
        self.last_run
    }

    /// Stops to follow a command of whose end is told already.
    pub(super) fn forget(&mut self, id: Uid) {
        if let Some(own) = self.open.remove(&id)
            && let Some(run) = self.runs.get_mut(&own.run)
        {
            run.given -= 1;
            if run.is_all && run.ended() == run.given {
                self.runs.remove(&own.run);
            }
        }
    }
}

/// Follows a command that the server has taken.
pub(super) fn taken(run: u64, view: &CommandView, desk: &mut Desk) {
    let followed = &mut desk.followed;
    if followed.open.contains_key(&view.id) {
        return;
    }
    let Some(it) = followed.runs.get_mut(&run) else { return };
    if followed.open.len() >= FOLLOWED_MAX {
        it.left_out += 1;
        return;
    }
    it.given += 1;
    let own = Own { run, device: view.device_id.clone(), words: view_words(view) };
    followed.open.insert(view.id, own);
    let early = followed.early.iter().position(|event| id_of(event) == Some(view.id));
    if view.state.is_over() {
        end(view.id, view.state, &view.why.to_string(), desk);
    } else if let Some(event) = early.and_then(|place| desk.followed.early.remove(place)) {
        happened(&event, desk);
    }
}

/// Whether the end of all that was given of a run was told already.
pub(super) fn is_over(run: u64, desk: &Desk) -> bool {
    let run = desk.followed.runs.get(&run);
    run.is_some_and(|run| run.given > 0 && run.ended() == run.given && run.total == 1)
}

/// Notes that nothing more will be given of a run.
pub(super) fn all_given(run: u64, desk: &mut Desk) {
    if let Some(run) = desk.followed.runs.get_mut(&run) {
        run.is_all = true;
    }
    desk.followed.early.clear();
    finish(run, desk);
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
    if !desk.followed.open.is_empty() {
        desk.ask(Request::Commands(None));
    }
}

/// Takes the newest commands of all devices.
pub fn caught_up(answer: Result<Answer, Failed>, desk: &mut Desk) {
    match answer {
        Ok(Answer::Commands(views)) => {
            let is_news = |view: &&CommandView| {
                view.state.is_over() && desk.followed.open.contains_key(&view.id)
            };
            let ended: Vec<_> = views.iter().filter(is_news).cloned().collect();
            for view in ended {
                end(view.id, view.state, &view.why.to_string(), desk);
            }
        }
        Ok(_) => {}
        Err(failed) => {
            let text = format!("what became of commands meanwhile is not known: {}", failed.text);
            desk.note(Notice { text, is_error: true });
        }
    }
}

/// A command is over.
fn end(id: Uid, state: CommandState, why: &str, desk: &mut Desk) {
    let Some(own) = desk.followed.open.remove(&id) else { return };
    let Some(run) = desk.followed.runs.get_mut(&own.run) else { return };
    *run.ended.entry(state).or_default() += 1;
    let is_error = !matches!(state, CommandState::Succeeded | CommandState::Cancelled);
    run.failed += usize::from(is_error);
    let (is_alone, is_told) = (run.total == 1, run.failed <= FAILURES_TOLD_MAX);
    let why = if state == CommandState::Succeeded || why.is_empty() {
        String::new()
    } else {
        format!(": {why}")
    };
    let text = format!("{} on {}: {}{why}", own.words, own.device, state.word());
    let notice = Notice { text, is_error };
    let is_read = matches!(&desk.popup, Some(Popup::Outcome(outcome)) if outcome.is_of(id));
    if is_alone && is_read {
        // It stands there; what is said beside would only have to be dismissed.
        desk.note(notice);
    } else if is_alone {
        desk.tell(notice);
    } else if is_error && is_told {
        desk.note(notice);
    }
    finish(own.run, desk);
}

/// Tells how far a run is, or how it ended.
fn finish(number: u64, desk: &mut Desk) {
    let Some(run) = desk.followed.runs.get(&number) else { return };
    let is_over = run.is_all && run.ended() == run.given;
    let notice = Notice {
        text: if run.failed > 0 {
            format!("{}; why stands in :messages", run.counts())
        } else {
            run.counts()
        },
        is_error: run.failed > 0,
    };
    let is_alone = run.total == 1;
    if is_over {
        let has_any = run.given > 0;
        desk.followed.runs.remove(&number);
        if !is_alone && has_any {
            desk.tell(notice);
        }
    } else if !is_alone && run.is_all && run.ended() > 0 {
        // Worth the line above the keys, but not to be remembered.
        desk.notice = Some((Notice { is_error: false, ..notice }, desk.now.since_start));
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
