//! What lies over a screen.

use super::Canvas;
use crate::state::App;
use crate::state::popup::Popup;

/// Paints a popup over what is there.
pub(super) fn paint(popup: &Popup, _app: &App, _canvas: &mut Canvas<'_>) {
    match popup {
        Popup::Menu(_) | Popup::Columns(_) => {}
    }
}
