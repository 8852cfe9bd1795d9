//! What can be done to devices from here: each is asked for in a menu, agreed to in a dialog that
//! names the devices, and then done device by device; what came of each is told.
//!
//! Which devices it is about is settled when the dialog opens. What changes afterwards, in the
//! marks or in the fleet, changes nothing about it.

mod ask;
mod batch;
mod command;
mod follow;
mod job;
mod undo;
mod words;

use fleet_core::api::{DeviceStatus, IndexRow, Right};
use fleet_core::id::{DeviceId, Uid};

use super::Desk;
use super::data::Row;
use super::popup::{Command, Confirm, Form, Lock, Menu, MenuItem, Popup};
use crate::effect::Change;
pub use ask::plan;
pub use batch::{previewed, written};
pub use command::{preview, take_back, unit_lines, view_words};
pub use follow::{Followed, happened, looked, reconnected};
pub use job::{Job, answered, carry_out};
pub use undo::{Back, Last, undo};
pub use words::server;

/// More devices than this are grave whatever is done to them.
const GRAVE_COUNT: usize = 100;
/// Devices that a dialog names.
const SAMPLE_LEN: usize = 5;

/// Something that can be done to devices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deed {
    /// Let it in.
    Accept,
    /// Turn it away.
    Reject,
    /// Give it a longer name.
    Rename,
    /// Note entries of metadata.
    Note,
    /// Tag it.
    Tag,
    /// Have it report more or less often.
    Interval,
    /// Put it out for good.
    Revoke,
    /// Remove it.
    Delete,
    /// Have it report now.
    Collect,
    /// See the last lines of its agent's log.
    Logs,
    /// See those of a unit.
    UnitLogs,
    /// Have its agent begin anew.
    Restart,
    /// Have a service begin anew.
    Service,
    /// Have the machine begin anew.
    Reboot,
    /// Have it run a program.
    Exec,
    /// Have it make itself a new key.
    RotateKey,
    /// Take back a command that it has not begun.
    TakeBack,
    /// Give it a configuration that it had before.
    GoBack,
    /// Have it back that was removed.
    Restore,
}

/// The devices that something is to be done to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Chosen {
    /// Which.
    pub devices: Vec<Uid>,
    /// Whether they were marked, and not just the one at the cursor.
    pub are_marked: bool,
    /// How many of them the filter hides.
    pub hidden: usize,
}

impl From<Vec<Uid>> for Chosen {
    fn from(devices: Vec<Uid>) -> Self {
        Self { devices, are_marked: false, hidden: 0 }
    }
}

/// What is done when somebody agrees.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// What it is.
    pub deed: Deed,
    /// What was typed for it, safe to show.
    pub typed: String,
    /// What is done to which device.
    pub steps: Vec<Step>,
}

/// What is done to one device.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// The device.
    pub uid: Uid,
    /// What it was called when this was planned.
    pub id: DeviceId,
    /// What is done to it.
    pub change: Change,
}

impl Deed {
    /// Everything that a menu offers, in its order.
    pub const ALL: [Self; 16] = [
        Self::Accept,
        Self::Reject,
        Self::Collect,
        Self::Logs,
        Self::UnitLogs,
        Self::Restart,
        Self::Service,
        Self::Reboot,
        Self::Exec,
        Self::RotateKey,
        Self::Rename,
        Self::Tag,
        Self::Note,
        Self::Interval,
        Self::Revoke,
        Self::Delete,
    ];

    fn applies(self, row: &IndexRow) -> bool {
        use DeviceStatus::{Late, Lost, Offline, Online, Pending, Rejected, Revoked};
        let status = row.status;
        match self {
            Self::Accept => matches!(status, Pending | Rejected),
            Self::Reject => status == Pending,
            Self::Revoke => status != Revoked,
            Self::Interval | Self::GoBack => matches!(status, Online | Late | Offline | Lost),
            Self::Rename
            | Self::Note
            | Self::Tag
            | Self::Delete
            | Self::TakeBack
            | Self::Restore => true,
            Self::Collect
            | Self::Logs
            | Self::UnitLogs
            | Self::Restart
            | Self::Service
            | Self::Reboot
            | Self::Exec
            | Self::RotateKey => command::why_not(row).is_none(),
        }
    }

    /// Whether it takes away access, or stops the whole machine, or may do anything.
    fn is_grave(self) -> bool {
        matches!(self, Self::Revoke | Self::Delete | Self::Reboot | Self::Exec)
    }

    /// Whether it only concerns what is noted of a device.
    fn is_note(self) -> bool {
        matches!(self, Self::Rename | Self::Note | Self::Tag)
    }

    /// What is asked of the server, where nothing has to be typed first.
    fn change(self) -> Option<Change> {
        match self {
            Self::Accept => Some(Change::Accept),
            Self::Reject => Some(Change::Reject),
            Self::Revoke => Some(Change::Revoke),
            Self::Delete => Some(Change::Delete),
            Self::Restore => Some(Change::Restore),
            Self::Rename
            | Self::Note
            | Self::Tag
            | Self::Interval
            | Self::TakeBack
            | Self::GoBack => None,
            Self::Collect
            | Self::Logs
            | Self::UnitLogs
            | Self::Restart
            | Self::Service
            | Self::Reboot
            | Self::Exec
            | Self::RotateKey => self.command().map(|command| self.given(command)),
        }
    }

    /// The right that it takes.
    fn right(self) -> Option<Right> {
        match self {
            Self::Exec => Some(Right::Exec),
            Self::Delete | Self::Restore => Some(Right::Delete),
            Self::Accept
            | Self::Reject
            | Self::Rename
            | Self::Note
            | Self::Tag
            | Self::Interval
            | Self::Revoke
            | Self::Collect
            | Self::Logs
            | Self::UnitLogs
            | Self::Restart
            | Self::Service
            | Self::Reboot
            | Self::RotateKey
            | Self::TakeBack
            | Self::GoBack => None,
        }
    }

    /// Why it cannot be done to these, if so.
    fn why_not(self, chosen: &Chosen, desk: &Desk) -> Option<&'static str> {
        if let Some(reason) = self.right().and_then(|right| desk.why_not_by_right(right)) {
            return Some(reason);
        }
        if self == Self::Accept
            && let Some(reason) = desk.why_not_bring_in()
        {
            return Some(reason);
        }
        if chosen.devices.len() > 1 {
            match self {
                Self::Rename => return Some("a name is given to one device at a time"),
                Self::Logs | Self::UnitLogs => {
                    return Some("logs are shown of one device at a time");
                }
                _ => {}
            }
        }
        if rows(self, chosen, desk).next().is_some() {
            return None;
        }
        let only = match chosen.devices.as_slice() {
            [uid] => desk.data.device(*uid),
            _ => None,
        };
        Some(match self {
            Self::Accept => "only what waits or was rejected can be accepted",
            Self::Reject => "only what waits can be rejected",
            Self::Revoke => "revoked already",
            Self::Interval | Self::GoBack => "only devices of the fleet take a configuration",
            Self::Rename
            | Self::Note
            | Self::Tag
            | Self::Delete
            | Self::TakeBack
            | Self::Restore => "gone from the fleet",
            Self::Collect
            | Self::Logs
            | Self::UnitLogs
            | Self::Restart
            | Self::Service
            | Self::Reboot
            | Self::Exec
            | Self::RotateKey => only
                .and_then(|row| command::why_not(&row.index))
                .unwrap_or("only devices of the fleet with an agent take commands"),
        })
    }
}

/// What can be done with these devices.
pub fn menu(chosen: impl Into<Chosen>, desk: &Desk) -> Menu {
    let chosen = chosen.into();
    let item = |deed: Deed| {
        let count = rows(deed, &chosen, desk).count();
        let why_not = desk.why_not_change().or_else(|| deed.why_not(&chosen, desk));
        let some = if why_not.is_none() && count < chosen.devices.len() {
            format!(" {count} of {}", chosen.devices.len())
        } else {
            String::new()
        };
        let is_asked = deed.command().is_none() || !deed.is_look() || chosen.devices.len() > 1;
        // A log is read without a command too, line by line as it comes.
        if desk.only_looks()
            && let Some(item) = command::reading(deed, &chosen, desk)
        {
            return item;
        }
        MenuItem {
            key: deed.key(),
            text: format!("{}{some}{}", deed.label(), if is_asked { "…" } else { "" }),
            detail: why_not.unwrap_or(deed.summary()).to_owned(),
            command: why_not.is_none().then(|| Command::Begin(deed, chosen.clone())),
        }
    };
    let mut menu = Menu::new(words::subject(&chosen, desk), Deed::ALL.map(item).to_vec());
    let first = menu.items.iter().position(|item| item.command.is_some());
    menu.cursor = first.unwrap_or_default();
    menu
}

/// Asks how and whether it is to be done.
pub fn begin(deed: Deed, chosen: Chosen, desk: &mut Desk) {
    if let Some(reason) = desk.why_not_change().or_else(|| deed.why_not(&chosen, desk)) {
        desk.warn(format!("not done: {reason}"));
        return;
    }
    let Some(change) = deed.change() else {
        desk.popup = Some(Popup::Form(ask::form(deed, chosen, desk)));
        return;
    };
    let steps = rows(deed, &chosen, desk).map(|row| step(row, change.clone())).collect();
    let plan = Plan { deed, typed: String::new(), steps };
    if plan.is_light() {
        carry_out(plan, desk);
    } else {
        desk.popup = Some(Popup::Confirm(question(plan, &chosen, desk)));
    }
}

/// What is done with what was typed: at once if it is light, and after a question otherwise.
pub fn settle(form: &Form, desk: &mut Desk) -> Result<Command, String> {
    typed(form.deed, &form.chosen, form.field.text(), desk)
}

/// The same with a text that was typed elsewhere.
pub fn typed(deed: Deed, chosen: &Chosen, text: &str, desk: &mut Desk) -> Result<Command, String> {
    let plan = plan(deed, chosen, text, desk)?;
    if plan.is_light() {
        return match desk.why_not_change() {
            Some(reason) => Err(reason.to_owned()),
            None => Ok(Command::Do(plan)),
        };
    }
    let confirm = question(plan, chosen, desk);
    Ok(Command::Popup(Box::new(Popup::Confirm(confirm))))
}

/// Those of the chosen devices that it can be done to.
fn rows<'a>(deed: Deed, chosen: &'a Chosen, desk: &'a Desk) -> impl Iterator<Item = &'a Row> {
    let known = chosen.devices.iter().filter_map(|uid| desk.data.device(*uid));
    known.filter(move |row| deed.applies(&row.index))
}

fn step(row: &Row, change: Change) -> Step {
    Step { uid: row.index.uid, id: row.index.id.clone(), change }
}

impl Plan {
    /// Whether nobody has to be asked: one device, which knows nothing of it or goes on with its
    /// work meanwhile.
    fn is_light(&self) -> bool {
        let is_light = self.deed.is_note() || self.deed.is_look();
        is_light && self.steps.len() == 1
    }
}

/// Asks whether a device's configuration is to be as it was at a version; `words` say what that
/// changes.
pub fn go_back(row: &Row, (from, to): (u64, u64), words: &str, desk: &mut Desk) -> Command {
    let typed = format!("r{to} again: {words}");
    let steps = vec![step(row, Change::GoBack { to, from })];
    let plan = Plan { deed: Deed::GoBack, typed, steps };
    let chosen = Chosen::from(vec![row.index.uid]);
    Command::Popup(Box::new(Popup::Confirm(question(plan, &chosen, desk))))
}

/// The question whether to do it: by the server as a batch, or one by one from here.
fn question(plan: Plan, chosen: &Chosen, desk: &mut Desk) -> Confirm {
    match batch::request(&plan) {
        Some(request) => batch::question(plan, request, chosen, desk),
        None => confirm(plan, chosen, desk),
    }
}

/// The question, with everything that one should know before.
fn confirm(plan: Plan, chosen: &Chosen, desk: &Desk) -> Confirm {
    let (deed, count) = (plan.deed, plan.steps.len());
    let subject = match plan.steps.as_slice() {
        [step] => step.id.to_string(),
        _ => format!("{count} devices"),
    };
    let title = format!("{} {subject}", words::capital(deed.verb()));
    let verb = format!("{} {subject}", deed.verb());
    let facts = words::facts(&plan, chosen, desk);
    let lock = lock(&plan);
    let mut confirm = Confirm::new(title, verb, lock, Command::Do(plan)).changing();
    confirm.lines = facts;
    confirm
}

/// The graver, the more there is to type.
fn lock(plan: &Plan) -> Lock {
    match plan.steps.as_slice() {
        [step] if plan.deed.is_grave() => {
            Lock::Typed { text: step.id.to_string(), name: "the device's id" }
        }
        [_] => Lock::Yes,
        // The devices know nothing of it, and it can be set back.
        steps if plan.deed.is_note() && steps.len() <= GRAVE_COUNT => Lock::Yes,
        steps => Lock::Typed { text: steps.len().to_string(), name: "the number of devices" },
    }
}

#[cfg(test)]
mod batch_tests;
#[cfg(test)]
mod command_tests;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod undo_tests;
