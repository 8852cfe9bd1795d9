//! Things to choose from, each with its letter, in a box in the middle.

use ratatui::buffer::Buffer;
use ratatui::layout::{Position, Rect};
use unicode_width::UnicodeWidthStr as _;

use super::panel::{self, cut};
use super::scrollbar;
use crate::terminal::caps::Caps;
use crate::theme::{Role, Theme};

/// A menu.
#[derive(Clone, Copy, Debug)]
pub struct Menu<'a> {
    /// What it is about.
    pub title: &'a str,
    /// The things.
    pub items: &'a [Item<'a>],
    /// Where the cursor is.
    pub cursor: usize,
}

/// One of the things of a menu.
#[derive(Clone, Copy, Debug)]
pub struct Item<'a> {
    /// The letter that chooses it; a blank for none.
    pub key: char,
    /// What it is called.
    pub text: &'a str,
    /// More about it.
    pub detail: &'a str,
    /// Whether it can be chosen.
    pub is_enabled: bool,
}

/// Columns of the box that are not text: its lines, the letter, and what is between.
const OTHER_COLUMNS: usize = 8;
/// Room around the box.
const MARGIN: u16 = 2;

/// Paints a menu over the middle of an area; returns where the terminal's cursor belongs.
pub fn paint(
    menu: &Menu<'_>,
    within: Rect,
    buffer: &mut Buffer,
    theme: &Theme,
    caps: &Caps,
) -> Option<Position> {
    let texts = menu.items.iter().map(|item| shown_width(item.text)).max().unwrap_or(0);
    let details = menu.items.iter().map(|item| shown_width(item.detail)).max().unwrap_or(0);
    let columns = (texts + details + OTHER_COLUMNS).max(shown_width(menu.title) + OTHER_COLUMNS);
    let rows = menu.items.len() + 2;
    let area = centred(within.intersection(buffer.area), columns, rows);
    let inside = panel::paint(area, buffer, theme, caps, (menu.title, ""), Role::Accent);
    if inside.is_empty() {
        return None;
    }
    let height = usize::from(inside.height);
    let cursor = menu.cursor.min(menu.items.len().saturating_sub(1));
    let first = (cursor + 1).saturating_sub(height);
    for (item, y) in menu.items[first.min(menu.items.len())..].iter().zip(inside.y..inside.bottom())
    {
        let row = Rect { y, height: 1, ..inside };
        row_of(item, texts, row, buffer, *theme, *caps);
    }
    let y = inside.y + (cursor - first) as u16;
    let bar = Rect { x: area.right() - 1, width: 1, ..inside };
    scrollbar::paint(bar, buffer, theme, caps, menu.items.len(), first);
    if menu.items.is_empty() {
        return None;
    }
    buffer.set_style(Rect { y, height: 1, ..inside }, theme.style(Role::Select));
    Some(Position::new(inside.x, y))
}

fn row_of(item: &Item<'_>, texts: usize, row: Rect, buffer: &mut Buffer, theme: Theme, caps: Caps) {
    let role = |role| theme.style(if item.is_enabled { role } else { Role::Muted });
    let mut put = |column: usize, text: &str, style| {
        let room = usize::from(row.width).saturating_sub(column);
        if room > 0 {
            buffer.set_string(row.x + column as u16, row.y, cut(text, room, caps), style);
        }
    };
    put(1, item.key.encode_utf8(&mut [0; 4]), role(Role::Accent));
    put(3, item.text, role(Role::Plain));
    put(texts + 5, item.detail, theme.style(Role::Muted));
}

fn shown_width(text: &str) -> usize {
    fleet_core::untrusted::escaped(text).width()
}

/// An area of this size in the middle of another, as far as it fits.
pub(super) fn centred(within: Rect, columns: usize, rows: usize) -> Rect {
    let side = |wanted: usize, room: u16| u16::try_from(wanted).unwrap_or(u16::MAX).min(room);
    let room = if within.width > 2 * MARGIN { within.width - 2 * MARGIN } else { within.width };
    let (width, height) = (side(columns, room), side(rows, within.height));
    Rect {
        x: within.x + (within.width - width) / 2,
        y: within.y + (within.height - height) / 2,
        width,
        height,
    }
}

#[cfg(test)]
mod tests {
    use insta::assert_snapshot;
    use proptest::prelude::*;

    use super::*;
    use crate::testing::{ascii, picture};
    use crate::theme::ThemeName;

    fn item<'a>(key: char, text: &'a str, detail: &'a str) -> Item<'a> {
        Item { key, text, detail, is_enabled: !detail.starts_with("not ") }
    }

    fn shown(
        menu: &Menu<'_>,
        (width, height): (u16, u16),
        caps: Caps,
    ) -> (String, Option<Position>) {
        let mut buffer = Buffer::empty(Rect::new(0, 0, width, height));
        let theme = Theme::new(ThemeName::Default, &caps);
        let cursor = paint(menu, buffer.area, &mut buffer, &theme, &caps);
        (picture(&buffer), cursor)
    }

    #[test]
    fn a_menu_in_the_middle() {
        let items = [
            item('r', "reboot", ""),
            item('c', "configure…", "3 devices"),
            item('d', "delete\x1b[2J", "not while it is online"),
        ];
        let menu = Menu { title: "pump-eu-0317", items: &items, cursor: 1 };
        let (text, cursor) = shown(&menu, (60, 9), Caps::default());
        assert_snapshot!("menu", text);
        assert_eq!(cursor, Some(Position::new(8, 4)));
    }

    #[test]
    fn a_long_menu_scrolls_with_its_cursor() {
        let items: Vec<Item<'_>> = ('a'..='z').map(|key| item(key, "thing", "")).collect();
        let menu = Menu { title: "Things", items: &items, cursor: 25 };
        let (text, cursor) = shown(&menu, (24, 7), ascii());
        assert!(text.contains("z thing") && !text.contains("a thing"), "{text}");
        assert_eq!(cursor.map(|at| at.y), Some(5));
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn any_menu_in_any_room(
            texts in prop::collection::vec("\\PC{0,20}", 0..12),
            cursor in 0_usize..20,
            size in (0_u16..40, 0_u16..14),
        ) {
            let items: Vec<Item<'_>> = texts.iter().map(|text| item('x', text, text)).collect();
            let (_, at) = shown(&Menu { title: "t", items: &items, cursor }, size, Caps::default());
            prop_assert!(at.is_none_or(|at| at.x < size.0 && at.y < size.1));
        }
    }
}
