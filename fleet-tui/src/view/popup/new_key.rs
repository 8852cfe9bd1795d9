//! A key that was just made, in full: the one time that it is shown.

use fleet_core::glyph::Glyph;
use ratatui::layout::{Position, Rect};

use super::window;
use crate::cells::{cut, wrapped};
use crate::layout;
use crate::state::Desk;
use crate::state::popup::NewKey;
use crate::theme::Role;
use crate::view::Canvas;

/// Cells of the inside at least, where there is room.
const WIDTH: u16 = 76;

pub(super) fn paint(new: &NewKey, desk: &Desk, canvas: &mut Canvas<'_>) {
    let available = layout::Frame::new(desk.size).body.width.saturating_sub(window::FRAME_WIDTH);
    let text = new.key().reveal();
    // In one line where there is room, so that a terminal can mark it as one.
    let wanted = window::cells(&text).max(WIDTH);
    let width = usize::from(wanted.min(available));
    let key = cut(&text, width);
    let mut words = vec![format!(
        "The {} key {}. It is shown this once: nobody can show it again, the server keeps only its \
         hash. Keep it in a file that only you can read.",
        new.key().kind(),
        new.key().id()
    )];
    words.extend(new.after.clone());
    let words: Vec<String> = words.iter().flat_map(|words| wrapped(words, width)).collect();
    let height = u16::try_from(key.len() + words.len() + 4).unwrap_or(u16::MAX);
    let inside = window::open((wanted, height), &new.what, desk, canvas);
    let mut rows = inside.rows();
    let mut next = || rows.next().unwrap_or(Rect { height: 0, ..inside });
    for text in &key {
        let row = next();
        canvas.put(row.x, row.y, row.right(), text, Role::Head);
    }
    next();
    for text in &words {
        let row = next();
        canvas.put(row.x, row.y, row.right(), text, Role::Plain);
    }
    let row = Rect { y: inside.bottom().saturating_sub(2), height: 1, ..inside };
    let (text, role) = if new.is_leaving {
        ("Not copied: Esc once more, and it is gone for good.".to_owned(), Role::Crit)
    } else if new.is_copied {
        (format!("{} copied (OSC 52)", canvas.glyph(Glyph::Done)), Role::Ok)
    } else {
        (String::new(), Role::Plain)
    };
    canvas.put(row.x, row.y, row.right(), &text, role);
    let takes_keys = new.takes_keys(desk.now.since_start);
    let foot = if takes_keys { "y copy · Esc close and forget" } else { "keys hold in a moment" };
    window::foot(inside, foot, canvas);
    canvas.painted.cursor = Some(Position::new(inside.x, inside.y));
}
