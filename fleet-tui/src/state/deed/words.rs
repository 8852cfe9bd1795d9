//! How deeds are spoken of: in menus, in dialogs, and when they are done.

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
        }
    }

    /// What it is called in the menu.
    pub fn label(self) -> &'static str {
        match self {
            Self::Tag => "tags",
            Self::Note => "metadata",
            Self::Interval => "report interval",
            Self::Accept | Self::Reject | Self::Rename | Self::Revoke | Self::Delete => self.verb(),
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
            Self::Interval => "configured",
            Self::Revoke => "revoked",
            Self::Delete => "deleted",
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
        }
    }

    fn undo(self) -> &'static str {
        match self {
            Self::Accept => "none but to revoke",
            Self::Reject => "accept lets it in later",
            Self::Rename | Self::Tag | Self::Note | Self::Interval => "set it back",
            Self::Revoke => "none; once deleted it may ask anew",
            Self::Delete => "none",
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
    let mut lines = vec![("server", server(desk)), ("effect", effect(plan))];
    sample(plan, desk, &mut lines);
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
fn server(desk: &Desk) -> String {
    let context = desk.settings.context.as_ref().map(ToString::to_string);
    let key = desk.link.server.as_ref().map(|server| format!("key {}", server.key));
    let parts = [context, Some(desk.settings.server.clone()), key];
    parts.into_iter().flatten().collect::<Vec<_>>().join(" · ")
}

fn effect(plan: &Plan) -> String {
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
