//! How keys are spoken of. All of it is safe to show.

use std::collections::HashMap;
use std::time::Duration;

use fleet_core::api::role::words;
use fleet_core::api::{ADMIN_LABEL, KeyView, Me, Role};
use fleet_core::secret::KeyKind;
use fleet_core::time::Timestamp;

use crate::cells::{ago, second, until};

/// What a key is for; its id if nobody said that.
pub fn label(key: &KeyView) -> String {
    if key.label.raw().is_empty() { key.id.clone() } else { key.label.to_string() }
}

/// A key by what it is for and its id.
pub fn name(key: &KeyView) -> String {
    if key.label.raw().is_empty() { key.id.clone() } else { format!("{} ({})", key.label, key.id) }
}

/// What keys are for, by their ids.
pub(super) type Labels = HashMap<String, String>;

/// Who made a key; another key by what that one is for, if it is one of these.
pub(super) fn author(key: &KeyView, labels: &Labels) -> String {
    let Some(author) = &key.created_by else { return String::new() };
    match author.raw().strip_prefix("operator:") {
        Some(id) => labels.get(id).cloned().unwrap_or_else(|| fleet_core::untrusted::escaped(id)),
        None if author.raw() == "server" => "the server".to_owned(),
        None => author.to_string(),
    }
}

/// Whom or what a key is for.
pub fn reach(key: &KeyView) -> String {
    match (key.kind, &key.scope, &key.device_id, key.uses_left) {
        (KeyKind::Operator, Some(scope), ..) => scope.to_string(),
        (KeyKind::Operator, None, ..) => "all devices".to_owned(),
        (KeyKind::Device, _, Some(id), _) => id.to_string(),
        (KeyKind::Device, _, None, _) => "a device that is gone".to_owned(),
        (KeyKind::Enrol, _, _, Some(1)) => "1 use left".to_owned(),
        (KeyKind::Enrol, _, _, Some(left)) => format!("{left} uses left"),
        (KeyKind::Enrol, _, _, None) => "any number".to_owned(),
    }
}

/// What whoever holds such a key may do.
pub fn may(kind: KeyKind, role: Option<Role>) -> &'static str {
    match (kind, role) {
        (KeyKind::Enrol, _) => "let devices in, and nothing else",
        (KeyKind::Device, _) => "post telemetry of one device, and nothing else",
        (KeyKind::Operator, Some(Role::Viewer)) => "look",
        (KeyKind::Operator, Some(Role::Admin)) => "run the server, keys included",
        (KeyKind::Operator, _) => "work with devices",
    }
}

/// All that is known of a key, one of these, for whoever is signed in.
pub(super) fn facts(
    key: &KeyView,
    all: &[KeyView],
    labels: &Labels,
    me: Option<&Me>,
    now: Timestamp,
) -> Vec<(&'static str, String)> {
    let mut facts = vec![("state", state(key, now))];
    if me.is_some_and(|me| me.id == key.id) {
        facts.push(("", "this console is signed in with it".to_owned()));
    }
    facts.push(("label", if key.label.raw().is_empty() { "none" } else { "" }.to_owned()));
    if let Some((_, text)) = facts.last_mut().filter(|(_, text)| text.is_empty()) {
        *text = key.label.to_string();
    }
    facts.push(("id", key.id.clone()));
    let role = key.role.map(|role| format!(", role {role}")).unwrap_or_default();
    facts.push(("kind", format!("{}{role}: may {}", key.kind, may(key.kind, key.role))));
    if key.kind == KeyKind::Operator {
        let rights = match key.role {
            Some(Role::Admin) => "all, as an admin".to_owned(),
            _ if key.rights.is_empty() => "none besides".to_owned(),
            _ => words(&key.rights),
        };
        facts.push(("rights", rights));
    }
    facts.push((if key.kind == KeyKind::Operator { "scope" } else { "for" }, reach(key)));
    let by = match author(key, labels) {
        by if by.is_empty() => "by whom was not kept".to_owned(),
        by => format!("by {by}"),
    };
    let made = format!("{}, {}, {by}", second(key.created_at), ago(key.created_at, now));
    facts.push(("made", made));
    facts.push(("expires", expires(key, now)));
    let used = match key.last_used {
        Some(at) => {
            let from = key.last_used_from.map(|from| format!(" from {from}")).unwrap_or_default();
            format!("{}, {}{from}", second(at), ago(at, now))
        }
        None => "never, as far as was noted".to_owned(),
    };
    facts.push(("last used", used));
    let other = |id: &String| {
        let known = all.iter().find(|other| other.id == *id);
        known.map_or_else(|| id.clone(), name)
    };
    if let Some(id) = &key.succeeds {
        facts.push(("before", format!("in place of {}", other(id))));
    }
    if let Some(id) = &key.succeeded_by {
        facts.push(("after", format!("its successor is {}", other(id))));
    }
    if key.label.raw() == ADMIN_LABEL {
        facts.push(("", "the server's own, in admin.key beside its database".to_owned()));
    }
    facts
}

/// What is known of the key that this console is signed in with.
pub fn own(me: &Me, now: Timestamp) -> Vec<(&'static str, String)> {
    let role = me.role.map(|role| format!(", role {role}")).unwrap_or_default();
    let label = if me.label.raw().is_empty() { "none".to_owned() } else { me.label.to_string() };
    let rights = if me.rights.is_empty() { "none besides".to_owned() } else { words(&me.rights) };
    let scope = me.scope.as_ref().map_or_else(|| "all devices".to_owned(), ToString::to_string);
    let expires = match me.expires_at {
        Some(at) => format!("{}, {}", second(at), until(at, now)),
        None => "never".to_owned(),
    };
    vec![
        ("label", label),
        ("id", me.id.clone()),
        ("kind", format!("{}{role}: may {}", me.kind, may(me.kind, me.role))),
        ("rights", rights),
        ("scope", scope),
        ("expires", expires),
    ]
}

fn state(key: &KeyView, now: Timestamp) -> String {
    let state = key.state(now).word();
    match key.revoked_at {
        Some(at) => format!("{state} {}, {}", second(at), ago(at, now)),
        None => state.to_owned(),
    }
}

/// When a key ends, in full.
pub(super) fn expires(key: &KeyView, now: Timestamp) -> String {
    match key.expires_at {
        Some(at) => format!("{}, {}", second(at), until(at, now)),
        None => "never".to_owned(),
    }
}

/// What becomes of a key that has a successor.
pub(super) fn after(old: &str, overlap: Duration, end: Timestamp, is_own: bool) -> String {
    let own = "This console is signed in with it";
    match (overlap.is_zero(), is_own) {
        (true, false) => format!("{old} has ended."),
        (true, true) => format!("{old} has ended. {own} and is denied from now on."),
        (false, false) => format!("{old} goes on until {} and then ends.", second(end)),
        (false, true) => {
            format!("{old} goes on until {} and then ends. {own} until then.", second(end))
        }
    }
}
