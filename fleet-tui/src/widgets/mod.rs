//! Things that several screens paint.
//!
//! Each is a function into a part of a buffer, with the theme and what the terminal can do. None
//! remembers anything, and each paints what fits, down to nothing.

pub mod bar;
pub mod chart;
pub mod field;
pub mod panel;
pub mod scrollbar;
pub mod spark;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use ratatui::buffer::Buffer;
    use ratatui::layout::{Position, Rect};

    use super::*;
    use crate::terminal::caps::Caps;
    use crate::testing::ascii;
    use crate::theme::{Role, Theme, ThemeName};

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn nothing_is_painted_beside_its_area(
            (x, y, width, height) in (0_u16..30, 0_u16..12, 0_u16..50, 0_u16..20),
            value: f64,
            (len, first) in (any::<usize>(), any::<usize>()),
            is_ascii: bool,
        ) {
            let caps = if is_ascii { ascii() } else { Caps::default() };
            let theme = Theme::new(ThemeName::Default, &caps);
            let area = Rect::new(x, y, width, height);
            let mut buffer = Buffer::empty(Rect::new(0, 0, 30, 12));
            let past = [Some(value), None, Some(f64::MAX), Some(f64::MIN)];
            bar::paint(area, &mut buffer, &theme, &caps, value, Role::Ok);
            spark::paint(area, &mut buffer, &theme, &caps, &past, value, Role::Ok);
            scrollbar::paint(area, &mut buffer, &theme, &caps, len, first);
            panel::paint(area, &mut buffer, &theme, &caps, ("title", "note"), Role::Muted);
            for (index, cell) in buffer.content.iter().enumerate() {
                let at = Position::new(index as u16 % 30, index as u16 / 30);
                prop_assert!(area.contains(at) || cell.symbol() == " ");
            }
        }
    }
}
