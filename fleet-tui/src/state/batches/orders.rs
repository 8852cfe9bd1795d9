//! What can be done about a batch: pausing at once, because it can go on; everything else after a
//! question that says how many devices it is about.

use fleet_core::api::{BatchState, BatchView, MemberState};
use fleet_core::command::Command as DeviceCommand;
use fleet_core::id::Uid;
use fleet_core::untrusted::Untrusted;

use super::{Known, counted, devices, is_over, pace};
use crate::effect::BatchChange;
use crate::state::Desk;
use crate::state::deed::{self, Last};
use crate::state::popup::{Command, Confirm, Lock, Menu, MenuItem, Popup};

/// The changes, in the order of a menu, each with its letter there.
const CHANGES: [(BatchChange, char); 4] = [
    (BatchChange::Pause, 'p'),
    (BatchChange::Continue, 'c'),
    (BatchChange::Cancel, 'k'),
    (BatchChange::Retry, 'r'),
];

impl BatchChange {
    fn label(self) -> &'static str {
        match self {
            Self::Pause => "pause",
            Self::Continue => "continue…",
            Self::Cancel => "cancel the rest…",
            Self::Retry => "retry failed…",
        }
    }

    fn summary(self) -> &'static str {
        match self {
            Self::Pause => "no further device begins",
            Self::Continue => "it goes on; what has failed so far counts no more",
            Self::Cancel => "what has not begun is called off",
            Self::Retry => "the same again for those that failed",
        }
    }

    /// What takes it back.
    pub(super) fn undone_by(self, id: Uid, words: &str) -> Last {
        match self {
            Self::Pause => Last::Batch { id, change: Self::Continue },
            Self::Continue => Last::Batch { id, change: Self::Pause },
            Self::Cancel => Last::Final(format!("what was called off of {words} is called off")),
            Self::Retry => Last::Begun(id),
        }
    }

    /// What was done, as it is told.
    pub(super) fn past(self) -> &'static str {
        match self {
            Self::Pause => "is paused",
            Self::Continue => "goes on",
            Self::Cancel => "is cancelled: what had not begun is called off",
            Self::Retry => "has begun anew as a batch of its own",
        }
    }
}

/// How many devices of a batch are in some states.
pub(super) fn count(view: &BatchView, states: &[MemberState]) -> usize {
    states.iter().filter_map(|state| view.counts.get(state)).sum()
}

fn failures(view: &BatchView) -> usize {
    count(view, &[MemberState::Failed, MemberState::Unknown])
}

/// Why a batch cannot be changed so, if it cannot.
fn why_not(change: BatchChange, view: &BatchView) -> Option<String> {
    let is_it = match change {
        BatchChange::Pause => view.state == BatchState::Running,
        BatchChange::Continue => view.state == BatchState::Paused,
        BatchChange::Cancel => !is_over(view),
        BatchChange::Retry => failures(view) > 0,
    };
    if is_it {
        return None;
    }
    Some(match change {
        BatchChange::Retry => "no device of it has failed".to_owned(),
        BatchChange::Continue if !is_over(view) => "it is not paused".to_owned(),
        _ => format!("it is {} already", view.state.word()),
    })
}

/// What can still be done about a batch that was begun, in words.
pub(super) fn left(known: &Known) -> String {
    let Known { view, words, .. } = known;
    if view.state == BatchState::Paused {
        return format!("{words}: in 4, C has it go on and K calls off the rest");
    }
    if !is_over(view) {
        return format!("{words}: in 4, P pauses it and K calls off the rest");
    }
    let back = match view.command {
        None => ": D in a device's Config sets that one back",
        Some(_) => "",
    };
    let again = match failures(view) {
        0 => String::new(),
        count => format!("; in 4, R retries {} that failed", devices(count)),
    };
    format!("{words} is over{back}{again}")
}

/// What can be done about a batch.
pub(super) fn menu(known: &Known, desk: &Desk) -> Menu {
    let item = |(change, key): (BatchChange, char)| {
        let why_not = desk.why_not_change().map(str::to_owned);
        let why_not = why_not.or_else(|| self::why_not(change, &known.view));
        MenuItem {
            key,
            text: change.label().to_owned(),
            command: why_not.is_none().then_some(Command::AskBatch(known.view.id, change)),
            detail: why_not.unwrap_or_else(|| change.summary().to_owned()),
        }
    };
    Menu::new(known.words.clone(), CHANGES.map(item).to_vec())
}

/// Asks whether a batch is to be changed so; what can be taken back is done at once.
pub(super) fn ask(change: BatchChange, known: &Known, desk: &mut Desk) -> Option<Command> {
    let reason = desk.why_not_change().map(str::to_owned);
    if let Some(reason) = reason.or_else(|| why_not(change, &known.view)) {
        desk.warn(format!("not done: {reason}"));
        return None;
    }
    let id = known.view.id;
    let command = match change {
        BatchChange::Retry => Command::RetryBatch(id, failures(&known.view)),
        change => Command::ChangeBatch(id, change),
    };
    if change == BatchChange::Pause {
        return Some(command);
    }
    Some(Command::Popup(Box::new(Popup::Confirm(confirm(change, known, command, desk)))))
}

fn confirm(change: BatchChange, known: &Known, command: Command, desk: &Desk) -> Confirm {
    let view = &known.view;
    let (count, name, effect, undo) = match change {
        BatchChange::Pause | BatchChange::Continue => (
            count(view, &[MemberState::Waiting]),
            "the number of devices that wait",
            "devices that wait begin again; what has failed so far counts no more",
            "P pauses it again; none for devices that have begun",
        ),
        BatchChange::Cancel => (
            count(view, &[MemberState::Waiting]),
            "the number of devices that wait",
            "devices that have not begun are called off; those that are at it go on",
            "none",
        ),
        BatchChange::Retry => (
            failures(view),
            "the number of devices that failed",
            "the same again for the devices that failed, as a batch of its own",
            "none for devices that have begun",
        ),
    };
    let verb = match change {
        BatchChange::Pause | BatchChange::Continue => "go on with",
        BatchChange::Cancel => "call off",
        BatchChange::Retry => "retry",
    };
    let devices = if count == 1 { "device" } else { "devices" };
    let begins = change != BatchChange::Cancel;
    let lock = if count > 1 || (begins && count > 0 && is_grave(view)) {
        Lock::Typed { text: count.to_string(), name }
    } else {
        Lock::Yes
    };
    let verb = format!("{verb} {count} {devices}");
    let mut title = verb.clone();
    if let Some(first) = title.get_mut(..1) {
        first.make_ascii_uppercase();
    }
    let mut confirm = Confirm::new(title, verb, lock, command)
        .changing()
        .line("server", deed::server(desk))
        .line("batch", format!("{} {}", known.words, view.id))
        .line("effect", effect)
        .line("devices", format!("of {}: {}", view.total, counted(view)));
    if begins {
        confirm = confirm.line("how", pace(view.canary, view.window, view.max_fail));
    }
    confirm.line("undo", undo)
}

/// Whether what it does stops whole machines, or may be anything.
fn is_grave(view: &BatchView) -> bool {
    let word = view.command.as_ref().map(Untrusted::raw);
    word.is_some_and(|word| [DeviceCommand::Reboot.word(), "exec"].contains(&word))
}
