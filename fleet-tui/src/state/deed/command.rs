//! Deeds that are commands: what each has a device do, how long that waits for it, and whether a
//! device takes commands at all.

use std::time::Duration;

use fleet_core::api::{CommandState, CommandView, DeviceStatus, IndexRow};
use fleet_core::command::{Command, UnitName};
use fleet_core::limits::COMMAND_EXPIRY_DEFAULT;
use fleet_core::untrusted::{Untrusted, escaped};

use super::{Chosen, Deed, Plan, Step, confirm};
use crate::effect::Change;
use crate::state::Desk;
use crate::state::popup::{self, MenuItem, Popup};

/// How long what somebody wants to look at waits for a device that is away.
const EXPIRES_LOOK: Duration = Duration::from_secs(600);
/// Lines of a log.
const LOG_LINES: u32 = 100;

impl Deed {
    /// What a device is to do, where nothing has to be typed first.
    pub(super) fn command(self) -> Option<Command> {
        match self {
            Self::Collect => Some(Command::Collect),
            Self::Logs => Some(Command::Logs { unit: None, lines: LOG_LINES }),
            Self::Restart => Some(Command::Restart),
            Self::Reboot => Some(Command::Reboot),
            Self::RotateKey => Some(Command::RotateKey),
            _ => None,
        }
    }

    /// A command, and how long it waits for a device that is away.
    pub(super) fn given(self, command: Command) -> Change {
        let expires_in = if self.is_look() { EXPIRES_LOOK } else { COMMAND_EXPIRY_DEFAULT };
        Change::Command { command, expires_in }
    }

    /// Whether a device only tells something, and goes on with its work meanwhile.
    pub(super) fn is_look(self) -> bool {
        matches!(self, Self::Collect | Self::Logs | Self::UnitLogs)
    }

    /// Whether it has a device do something.
    pub(super) fn command_given(self) -> bool {
        matches!(
            self,
            Self::Collect
                | Self::Logs
                | Self::UnitLogs
                | Self::Restart
                | Self::Service
                | Self::Reboot
                | Self::Exec
                | Self::RotateKey
        )
    }

    /// Whether somebody asks for it to read what comes of it.
    pub(super) fn is_read(self) -> bool {
        matches!(self, Self::Logs | Self::UnitLogs | Self::Exec)
    }
}

impl Step {
    /// The command that is given, and how long it waits.
    pub(super) fn command(&self) -> Option<(&Command, Duration)> {
        match &self.change {
            Change::Command { command, expires_in } => Some((command, *expires_in)),
            _ => None,
        }
    }
}

/// Why a device takes no commands, if so. That it is away is no reason: a command waits for it.
pub(super) fn why_not(row: &IndexRow) -> Option<&'static str> {
    use DeviceStatus::{Late, Later, Lost, Offline, Online, Pending, Rejected, Revoked};
    match row.status {
        Pending => Some("accept it first: what waits takes no commands"),
        Rejected | Revoked => Some("only devices of the fleet take commands"),
        Online | Late | Offline | Lost | Later(_) if row.fingerprint.is_none() => {
            Some("a third party reports for it: no agent is there to do it")
        }
        Online | Late | Offline | Lost | Later(_) => None,
    }
}

/// How somebody who may only look reads a device's log: in the pane of its screen, where lines come
/// as they are written. Nothing if it is about something else.
pub(super) fn reading(deed: Deed, chosen: &Chosen, desk: &Desk) -> Option<MenuItem> {
    let lines = match deed {
        Deed::Logs => String::new(),
        Deed::UnitLogs => unit_lines(""),
        _ => return None,
    };
    let away = (!desk.link.is_live()).then_some("the server is away");
    let why_not = away.or_else(|| deed.why_not(chosen, desk));
    let device = chosen.devices.first().filter(|_| why_not.is_none());
    Some(MenuItem {
        key: deed.key(),
        text: deed.label().to_owned(),
        detail: why_not.unwrap_or("its lines, as they come").to_owned(),
        command: device.map(|device| popup::Command::ShowLogs { device: *device, lines }),
    })
}

/// The lines of a unit's log, as they are chosen in a device's screen.
pub fn unit_lines(unit: &str) -> String {
    format!(" unit={unit}")
}

/// The command that was typed.
pub(super) fn read(deed: Deed, text: &str) -> Result<Command, String> {
    let text = text.trim();
    let unit = || {
        if text.is_empty() {
            return Err("say which: nginx".to_owned());
        }
        text.parse::<UnitName>().map_err(|error| error.to_string())
    };
    match deed {
        Deed::Service => unit().map(Command::RestartService),
        Deed::UnitLogs => unit().map(|unit| Command::Logs { unit: Some(unit), lines: LOG_LINES }),
        _ if text.is_empty() => Err("say which program: uptime -p".to_owned()),
        _ => format!("exec {text}").parse().map_err(|error| format!("{error}")),
    }
}

/// What is sent of what is typed so far, safe to show: each argument by itself.
pub fn preview(deed: Deed, text: &str) -> Option<String> {
    if !matches!(deed, Deed::Service | Deed::UnitLogs | Deed::Exec) || text.trim().is_empty() {
        return None;
    }
    read(deed, text).ok().map(|command| format!("sent as {}", spelled(&command)))
}

/// A command with each argument by itself, safe to show.
pub(super) fn spelled(command: &Command) -> String {
    match command {
        Command::Exec(argv) => {
            let argv: Vec<String> =
                argv.iter().map(|arg| format!("{:?}", Untrusted::from(arg.as_str()))).collect();
            format!("exec [{}]", argv.join(", "))
        }
        other => other.to_string(),
    }
}

/// The words of a command that a server tells of, safe to show.
pub fn view_words(view: &CommandView) -> String {
    let args: Vec<String> = view.args.iter().map(|arg| arg.raw().to_owned()).collect();
    match Command::read(view.command.raw(), &args) {
        Ok(command) => command.to_string(),
        // What only a later release knows.
        Err(_) => escaped(&[&[view.command.raw().to_owned()], &*args].concat().join(" ")),
    }
}

/// Takes a command back: at once while it only waits at the server, after a question when it is on
/// its way.
pub fn take_back(view: &CommandView, desk: &mut Desk) -> Option<popup::Command> {
    let too_late = match view.state {
        CommandState::Queued | CommandState::Sent => None,
        CommandState::Accepted | CommandState::Running => Some("the device has begun".to_owned()),
        state => Some(format!("it is over: {}", state.word())),
    };
    if let Some(reason) = too_late {
        desk.say(format!("it cannot be taken back: {reason}"));
        return None;
    }
    let change = Change::TakeBack(view.id);
    let step = Step { uid: view.uid, id: view.device_id.clone(), change };
    let plan = Plan { deed: Deed::TakeBack, typed: view_words(view), steps: vec![step] };
    if view.state == CommandState::Queued {
        return Some(popup::Command::Do(plan));
    }
    let chosen = Chosen::from(vec![view.uid]);
    Some(popup::Command::Popup(Box::new(Popup::Confirm(confirm(plan, &chosen, desk)))))
}
