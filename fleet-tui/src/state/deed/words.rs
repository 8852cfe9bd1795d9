//! How deeds are spoken of: in menus, in dialogs, and when they are done.

use std::time::Duration;

use super::command::spelled;
use super::{Chosen, Deed, GRAVE_COUNT, Plan, SAMPLE_LEN, Step};
use crate::state::Desk;

impl Deed {
    /// Its letter in the menu.
    pub fn key(self) -> char {
        match self {
            Self::Accept => 'a',
            Self::Reject => 'r',
            Self::Rename => 'n',
            Self::Tag => 't',
            Self::Note => 'm',
            Self::Interval => 'i',
            Self::Revoke => 'v',
            Self::Delete => 'd',
            Self::Collect => 'c',
            Self::Logs => 'l',
            Self::UnitLogs => 'u',
            Self::Restart => 's',
            Self::Service => 'w',
            Self::Reboot => 'b',
            Self::Exec => 'e',
            Self::RotateKey => 'k',
            // No menu has it.
            Self::TakeBack => 'K',
            Self::GoBack => 'D',
            Self::Restore => 'U',
        }
    }

    /// What it is called in the menu.
    pub fn label(self) -> &'static str {
        match self {
            Self::Tag => "tags",
            Self::Note => "metadata",
            Self::Interval => "report interval",
            Self::Collect => "collect now",
            Self::Logs => "logs of the agent",
            Self::UnitLogs => "logs of a unit",
            Self::Restart => "restart agent",
            Self::Service => "restart a service",
            Self::Exec => "exec",
            Self::RotateKey => "rotate key",
            Self::Accept
            | Self::Reject
            | Self::Rename
            | Self::Revoke
            | Self::Delete
            | Self::Reboot
            | Self::TakeBack
            | Self::GoBack
            | Self::Restore => self.verb(),
        }
    }

    /// What is done.
    pub fn verb(self) -> &'static str {
        match self {
            Self::Accept => "accept",
            Self::Reject => "reject",
            Self::Rename => "name",
            Self::Tag => "tag",
            Self::Note => "note metadata of",
            Self::Interval => "set the interval of",
            Self::Revoke => "revoke",
            Self::Delete => "delete",
            Self::Collect => "collect from",
            Self::Logs => "show the agent's log of",
            Self::UnitLogs => "show a unit's log of",
            Self::Restart => "restart the agent of",
            Self::Service => "restart a service of",
            Self::Reboot => "reboot",
            Self::Exec => "run a program on",
            Self::RotateKey => "rotate the key of",
            Self::TakeBack => "take back a command of",
            Self::GoBack => "set back the configuration of",
            Self::Restore => "have back",
        }
    }

    /// What was done.
    pub fn past(self) -> &'static str {
        match self {
            Self::Accept => "accepted",
            Self::Reject => "rejected",
            Self::Rename => "named",
            Self::Tag => "tagged",
            Self::Note => "noted",
            Self::Interval | Self::GoBack => "configured",
            Self::Revoke => "revoked",
            Self::Delete => "deleted",
            Self::TakeBack => "taken back",
            Self::Restore => "back in the fleet",
            Self::Collect
            | Self::Logs
            | Self::UnitLogs
            | Self::Restart
            | Self::Service
            | Self::Reboot
            | Self::Exec
            | Self::RotateKey => "given",
        }
    }

    /// A line about it.
    pub(super) fn summary(self) -> &'static str {
        match self {
            Self::Accept => "let in what waits",
            Self::Reject => "turn away what waits",
            Self::Rename => "a longer name",
            Self::Tag => "words to find it by",
            Self::Note => "key=value",
            Self::Interval => "how often it reports",
            Self::Revoke => "refuse it for good",
            Self::Delete => "remove it from the fleet",
            Self::Collect => "a report at once",
            Self::Logs => "its last 100 lines",
            Self::UnitLogs => "the last 100 lines of a service",
            Self::Restart => "fleetd begins anew; the machine goes on",
            Self::Service => "systemd restarts it",
            Self::Reboot => "the machine begins anew",
            Self::Exec => "run a program, if the device's policy lets it",
            Self::RotateKey => "a new key takes the place of the old one",
            Self::TakeBack => "before the device begins",
            Self::GoBack => "as it was at a version",
            Self::Restore => "in the fleet again, as it was",
        }
    }

    /// Why what was done with it cannot be taken back by itself.
    pub(super) fn no_undo(self) -> &'static str {
        match self {
            Self::Interval | Self::GoBack => "there was no configuration before",
            Self::Accept => "whoever was let in is put out with revoke",
            Self::Reject => "whoever was turned away is let in with accept",
            Self::Revoke => "a key that was revoked stays so",
            Self::Delete => "what was deleted is had back with `fleets devices restore`",
            Self::Restore => "what is back is deleted anew",
            Self::TakeBack => "what was taken back is given anew",
            other => other.undo(),
        }
    }

    fn undo(self) -> &'static str {
        match self {
            Self::Collect
            | Self::Logs
            | Self::UnitLogs
            | Self::Restart
            | Self::Service
            | Self::Reboot
            | Self::Exec
            | Self::RotateKey => "none; until a device begins, K in its Commands takes it back",
            Self::TakeBack => "give it anew",
            Self::Accept => "none but to revoke",
            Self::Reject => "accept lets it in later",
            Self::Rename | Self::Tag | Self::Note | Self::Interval | Self::GoBack => {
                "u sets it back"
            }
            Self::Restore => "delete it again",
            Self::Revoke => "none; once deleted it may ask anew",
            Self::Delete => "u has it back, as it was, for 30 days",
        }
    }
}

/// Whom a menu is about.
pub(super) fn subject(chosen: &Chosen, desk: &Desk) -> String {
    let count = chosen.devices.len();
    match chosen.devices.as_slice() {
        [uid] => desk
            .data
            .device(*uid)
            .map_or_else(|| "1 device".to_owned(), |row| row.index.id.to_string()),
        _ if chosen.hidden > 0 => format!("{count} marked devices, {} hidden", chosen.hidden),
        _ => format!("{count} marked devices"),
    }
}

/// What a dialog says before somebody agrees.
pub(super) fn facts(plan: &Plan, chosen: &Chosen, desk: &Desk) -> Vec<(&'static str, String)> {
    let mut lines = vec![("server", server(desk))];
    let command = plan.steps.first().and_then(Step::command);
    if let Some((command, _)) = command {
        lines.push(("command", spelled(command)));
    }
    lines.push(("effect", effect(plan)));
    sample(plan, desk, &mut lines);
    if let Some((_, expires_in)) = command {
        lines.push(("until", until(plan, expires_in, desk)));
    }
    if chosen.are_marked {
        let hidden = match chosen.hidden {
            0 => String::new(),
            hidden => format!(", {hidden} of them hidden by the filter: included"),
        };
        lines.push(("marks", format!("{} marked{hidden}", chosen.devices.len())));
    }
    let left_out = chosen.devices.len().saturating_sub(plan.steps.len());
    if left_out > 0 {
        lines.push((
            "left out",
            format!("{left_out} that it does not apply to, or that it would not change"),
        ));
    }
    lines.push(("undo", plan.deed.undo().to_owned()));
    if plan.steps.len() > GRAVE_COUNT {
        lines.push(("", format!("More than {GRAVE_COUNT} devices: look twice.")));
    }
    lines
}

/// Where it is done, and as whom.
pub fn server(desk: &Desk) -> String {
    let context = desk.settings.context.as_ref().map(ToString::to_string);
    let key = desk.link.server.as_ref().map(|server| format!("key {}", server.key));
    let parts = [context, Some(desk.settings.server.clone()), key];
    parts.into_iter().flatten().collect::<Vec<_>>().join(" · ")
}

pub(super) fn effect(plan: &Plan) -> String {
    let typed = &plan.typed;
    match plan.deed {
        Deed::Accept => "let into the fleet from now on".to_owned(),
        Deed::Reject => "kept outside, may not report".to_owned(),
        Deed::Revoke => "link cut, key refused for good".to_owned(),
        Deed::Delete => "access ends now, data goes later; the agent may ask anew".to_owned(),
        Deed::Interval => format!("a report every {typed}; the rest of the configuration stays"),
        Deed::Tag if typed.is_empty() => "all tags are taken away".to_owned(),
        Deed::Tag => format!("tags {typed}"),
        Deed::Rename | Deed::Note => format!("{typed}; what is not named stays"),
        Deed::Collect => "a report is made and sent at once".to_owned(),
        Deed::Logs | Deed::UnitLogs => "the last lines of a log are read".to_owned(),
        Deed::Restart => "the agent begins anew; what else runs there goes on".to_owned(),
        Deed::Service => "the service begins anew, if the device's policy lets it".to_owned(),
        Deed::Reboot => "the whole machine begins anew; all that it does is interrupted".to_owned(),
        Deed::Exec => "a program is run, if the device's own policy lets it".to_owned(),
        Deed::Restore => "in the fleet again, with all that was kept of it".to_owned(),
        Deed::RotateKey => "the device makes a new key, and its old one is of no use".to_owned(),
        Deed::GoBack => format!("a new version that says what the old one said: {typed}"),
        Deed::TakeBack => format!("{typed}: the device is told to leave it, unless it has begun"),
    }
}

/// How long it waits, and for how many.
fn until(plan: &Plan, expires_in: Duration, desk: &Desk) -> String {
    let end = desk.link.server_time(desk.now.wall).plus(expires_in).to_string();
    let end = end.get(..16).map_or(end.clone(), |minute| format!("{}Z", minute.replace('T', " ")));
    let row = |step: &Step| desk.data.device(step.uid);
    let is_away = |step: &&Step| row(step).is_some_and(|row| !row.index.status.is_heard());
    let away = plan.steps.iter().filter(is_away).count();
    let span = span(expires_in);
    match (away, plan.steps.len()) {
        (0, _) => format!("{end}, {span}; then it is too late to begin"),
        (1, 1) => format!("{end}, {span}: the device is away, and gets it if it is back before"),
        (1, count) => {
            format!("{end}, {span}: 1 of {count} is away, and gets it if it is back before")
        }
        (away, count) => {
            format!("{end}, {span}: {away} of {count} are away, and get it if they are back before")
        }
    }
}

fn span(span: Duration) -> String {
    match span.as_secs() {
        secs @ 0..3_600 => format!("in {} minutes", secs / 60),
        secs => format!("in {} hours", secs / 3_600),
    }
}

/// Some of the devices; with what to compare where somebody asks to be let in.
fn sample(plan: &Plan, desk: &Desk, lines: &mut Vec<(&'static str, String)>) {
    let is_stranger = matches!(plan.deed, Deed::Accept | Deed::Reject);
    let shown = plan.steps.iter().take(SAMPLE_LEN);
    let mut label = "devices";
    if is_stranger {
        for step in shown {
            lines.push((label, stranger(step, desk)));
            label = "";
        }
    } else {
        let ids: Vec<_> = shown.map(|step| step.id.to_string()).collect();
        lines.push((label, ids.join(" ")));
        label = "";
    }
    let more = plan.steps.len().saturating_sub(SAMPLE_LEN);
    if more > 0 {
        lines.push((label, format!("and {more} more")));
    }
}

fn stranger(step: &Step, desk: &Desk) -> String {
    let row = desk.data.device(step.uid);
    let fingerprint = row.and_then(|row| row.index.fingerprint).map(|key| key.to_string());
    let fingerprint = fingerprint.unwrap_or_else(|| "no key".to_owned());
    let host = row.map(|row| row.index.hostname.to_string()).unwrap_or_default();
    let address = row.and_then(|row| row.index.address.as_ref()).map(ToString::to_string);
    format!("{}  {fingerprint}  {host} {}", step.id, address.unwrap_or_default())
}

/// A text with its first letter in capital.
pub(super) fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map(|first| first.to_uppercase().chain(chars).collect()).unwrap_or_default()
}
