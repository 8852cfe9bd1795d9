//! Where in a long list its visible part is.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

use crate::terminal::caps::Caps;
use crate::theme::{Role, Theme};

/// Paints the place of the rows from `first` on in a list of `len` rows, of which one in each row of
/// the area is seen. A list that is seen as a whole has no bar.
pub fn paint(
    area: Rect,
    buffer: &mut Buffer,
    theme: &Theme,
    caps: &Caps,
    len: usize,
    first: usize,
) {
    let area = area.intersection(buffer.area);
    let rows = usize::from(area.height);
    if area.is_empty() || len <= rows {
        return;
    }
    let (start, thumb) = thumb(rows, len, first);
    let (full, track) = if caps.is_ascii() { ('#', '|') } else { ('█', '│') };
    for row in 0..rows {
        let is_thumb = (start..start + thumb).contains(&row);
        let cell = &mut buffer[(area.x, area.y + row as u16)];
        cell.set_char(if is_thumb { full } else { track }).set_style(theme.style(Role::Muted));
    }
}

/// The first row of the thumb and how many it has. It touches an end only if the list is there.
fn thumb(rows: usize, len: usize, first: usize) -> (usize, usize) {
    let thumb = (rows * rows / len).max(1);
    let (room, hidden) = (rows - thumb, len - rows);
    let first = first.min(hidden);
    let start = match first {
        0 => 0,
        _ if first == hidden => room,
        _ if room < 2 => room / 2,
        _ => ((room as u128 * first as u128 / hidden as u128) as usize).clamp(1, room - 1),
    };
    (start, thumb)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::painted;

    fn bar(rows: u16, len: usize, first: usize) -> String {
        painted(1, rows, |area, buffer| {
            let caps = Caps::default();
            let theme = Theme::new(crate::theme::ThemeName::Default, &caps);
            paint(area, buffer, &theme, &caps, len, first);
        })
        .replace('\n', "")
    }

    #[test]
    fn it_shows_where_the_list_is() {
        assert_eq!(bar(5, 5, 0), "     ");
        assert_eq!(bar(5, 10, 0), "██│││");
        assert_eq!(bar(5, 10, 5), "│││██");
        assert_eq!(bar(5, 10_000, 0), "█││││");
        assert_eq!(bar(5, 10_000, 1), "│█│││");
        assert_eq!(bar(5, 10_000, 9_994), "│││█│");
        assert_eq!(bar(5, 10_000, 9_995), "││││█");
        assert_eq!(bar(5, 10_000, usize::MAX), "││││█");
    }

    proptest! {
        #[test]
        fn the_thumb_stays_on_its_track(rows in 1_usize..100, more in 1_usize..100_000, first: usize) {
            let (start, thumb) = thumb(rows, rows + more, first);
            prop_assert!(thumb >= 1 && start + thumb <= rows);
        }
    }
}
