//! What can be done about keys, and what one should know before. No key ends on one key: that takes
//! the menu, a letter, and a dialog in which its id is typed.

use fleet_core::api::{ADMIN_LABEL, KeyState, KeyView};
use fleet_core::secret::KeyKind;

use super::KeyChange;
use super::words::{expires, may, name, reach};
use crate::cells::ago;
use crate::state::popup::{Command, Confirm, KeyForm, Lock, Menu, MenuItem, Popup};
use crate::state::{Desk, deed};

/// What can be done with a key, and that another one can be made.
pub(super) fn menu(key: Option<&KeyView>, desk: &Desk) -> Menu {
    let mut items = Vec::new();
    let mut item = |letter, text: &str, detail: &str, why_not: Option<&'static str>, command| {
        items.push(MenuItem {
            key: letter,
            text: text.to_owned(),
            detail: why_not.unwrap_or(detail).to_owned(),
            command: if why_not.is_none() { Some(command) } else { None },
        });
    };
    if let Some(key) = key {
        let begin = |change| Command::BeginKey(key.id.clone(), change);
        for (letter, text, detail, change) in [
            ('k', "rotate…", "a successor; the old one goes on for a while", KeyChange::Rotate),
            ('v', "revoke…", "end it for good", KeyChange::Revoke),
        ] {
            item(letter, text, detail, why_not(key, change, desk), begin(change));
        }
    }
    let make = Command::Act(crate::keys::Action::NewKey);
    item('n', "new key…", "for a person, a script, a device", desk.why_not_change_keys(), make);
    Menu::new(key.map_or_else(|| "Keys".to_owned(), name), items)
}

/// Why a key cannot be changed so, if so.
fn why_not(key: &KeyView, change: KeyChange, desk: &Desk) -> Option<&'static str> {
    let now = desk.link.server_time(desk.now.wall);
    desk.why_not_change_keys().or_else(|| match (change, key.state(now)) {
        (_, KeyState::Revoked) => Some("revoked already"),
        (KeyChange::Revoke, _) => None,
        (KeyChange::Rotate, _) if key.label.raw() == ADMIN_LABEL => {
            Some("the server's own: remove admin.key and start the server anew")
        }
        (KeyChange::Rotate, _) if key.kind == KeyKind::Enrol => {
            Some("an enrolment key has no successor: make another one")
        }
        (KeyChange::Rotate, KeyState::Expired) => {
            Some("expired: what works no more has no successor")
        }
        (KeyChange::Rotate, _) => None,
    })
}

/// Opens the form for another key.
pub(super) fn new_key(desk: &mut Desk) -> Option<Command> {
    if let Some(reason) = desk.why_not_change_keys() {
        desk.say(format!("no new key: {reason}"));
        return None;
    }
    Some(Command::Popup(Box::new(Popup::KeyForm(KeyForm::new()))))
}

/// Asks for what becomes of a key.
pub(super) fn begin(key: &KeyView, change: KeyChange, desk: &mut Desk) -> Option<Command> {
    if let Some(reason) = why_not(key, change, desk) {
        desk.warn(format!("not done: {reason}"));
        return None;
    }
    let is_own = desk.me.as_ref().is_some_and(|me| me.id == key.id);
    let popup = match change {
        KeyChange::Rotate => Popup::KeyForm(KeyForm::successor(key, is_own)),
        KeyChange::Revoke => Popup::Confirm(revoke(key, is_own, desk)),
    };
    Some(Command::Popup(Box::new(popup)))
}

fn revoke(key: &KeyView, is_own: bool, desk: &Desk) -> Confirm {
    let now = desk.link.server_time(desk.now.wall);
    let is_good = key.state(now).is_good();
    let lock = if is_good {
        Lock::Typed { text: key.id.clone(), name: "the key's id" }
    } else {
        Lock::Yes
    };
    let role = key.role.map(|role| format!(", {role}")).unwrap_or_default();
    let what = format!("{} key{role}: may {}", key.kind, may(key.kind, key.role));
    let used = match (key.last_used, key.last_used_from) {
        (Some(at), Some(from)) => format!("{} from {from}", ago(at, now)),
        (Some(at), None) => ago(at, now),
        (None, _) => "never, as far as was noted".to_owned(),
    };
    let effect = match key.kind {
        _ if !is_good => "it lets nobody in any more as it is; nobody can use it again",
        KeyKind::Operator => "refused at once; open streams and sessions end within 5 s",
        KeyKind::Enrol => "lets no more devices in; those that it let in stay",
        KeyKind::Device => "refused from now on; what it posted stays",
    };
    let verb = format!("revoke {}", key.id);
    let command = Command::RevokeKey(key.id.clone());
    let mut confirm = Confirm::new(format!("Revoke {}", name(key)), verb, lock, command)
        .changing()
        .line("server", deed::server(desk))
        .line("key", format!("{} · {}", name(key), what))
        .line("for", reach(key))
        .line("expires", expires(key, now))
        .line("last used", used)
        .line("effect", effect);
    if is_own {
        confirm = confirm.line(
            "YOU",
            "This console is signed in with this very key: it will be denied, and it takes \
             another key to come back.",
        );
    }
    confirm.line("undo", "none; make another key")
}
