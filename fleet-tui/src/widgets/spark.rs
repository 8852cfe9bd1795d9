//! The past of a value in one row, the newest on the right: `▂▃▄▆▇`.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

use crate::terminal::caps::Caps;
use crate::theme::{Role, Theme};

const EIGHTHS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
/// The same in ASCII, as far as there is anything alike.
const SIGNS: [char; 4] = ['_', '.', '-', '^'];

/// Paints as many of the newest values as there are columns in the first row of an area. Where
/// nothing was measured nothing is painted.
pub fn paint(
    area: Rect,
    buffer: &mut Buffer,
    theme: &Theme,
    caps: &Caps,
    past: &[Option<f64>],
    highest: f64,
    role: Role,
) {
    let area = area.intersection(buffer.area);
    if area.is_empty() || highest.is_nan() || highest <= 0.0 {
        return;
    }
    let signs: &[char] = if caps.is_ascii() { &SIGNS } else { &EIGHTHS };
    let style = theme.style(role);
    for (column, value) in (0..area.width).rev().zip(past.iter().rev()) {
        let Some(value) = value.filter(|value| !value.is_nan()) else { continue };
        let at = (value / highest).clamp(0.0, 1.0) * (signs.len() - 1) as f64;
        let cell = &mut buffer[(area.x + column, area.y)];
        cell.set_char(signs[at.round() as usize]).set_style(style);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{ascii, painted};

    fn spark(past: &[Option<f64>], width: u16, caps: Caps) -> String {
        painted(width, 1, |area, buffer| {
            let theme = Theme::new(crate::theme::ThemeName::Default, &caps);
            paint(area, buffer, &theme, &caps, past, 100.0, Role::Ok);
        })
    }

    #[test]
    fn the_newest_is_on_the_right_and_gaps_stay() {
        let past = [Some(0.0), Some(50.0), None, Some(100.0), Some(300.0), Some(f64::NAN)];
        assert_eq!(spark(&past, 8, Caps::default()), "  ▁▅ ██ ");
        assert_eq!(spark(&past, 3, Caps::default()), "██ ");
        assert_eq!(spark(&past, 8, ascii()), "  _- ^^ ");
        assert_eq!(spark(&[], 3, Caps::default()), "   ");
    }
}
