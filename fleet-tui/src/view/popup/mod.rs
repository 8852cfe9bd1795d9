//! What lies over a screen.

mod columns;
mod confirm;
mod facts;
mod form;
mod help;
mod key_form;
mod menu;
mod new_key;
mod notices;
mod outcome;
mod palette;
mod window;

use super::Canvas;
use crate::state::App;
use crate::state::popup::Popup;

/// Paints a popup over what is there.
pub(super) fn paint(popup: &Popup, app: &App, canvas: &mut Canvas<'_>) {
    // The cursor is the popup's, and nothing scrolls under it.
    canvas.painted = super::Painted::default();
    let desk = &app.desk;
    match popup {
        Popup::Menu(menu) => menu::paint(menu, desk, canvas),
        Popup::Columns(columns) => columns::paint(columns, desk, canvas),
        Popup::Confirm(confirm) => confirm::paint(confirm, desk, canvas),
        Popup::Facts(facts) => facts::paint(facts, desk, canvas),
        Popup::Form(form) => form::paint(form, desk, canvas),
        Popup::KeyForm(form) => key_form::paint(form, desk, canvas),
        Popup::NewKey(new) => new_key::paint(new, desk, canvas),
        Popup::Help(help) => help::paint(help, desk, canvas),
        Popup::Notices(notices) => notices::paint(notices, desk, canvas),
        Popup::Outcome(outcome) => outcome::paint(outcome, desk, canvas),
        Popup::Palette(palette) => palette::paint(palette, desk, canvas),
    }
}
