//! A share as a bar: `███▎··`, or `###---` where only ASCII is safe.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

use crate::terminal::caps::Caps;
use crate::theme::{Role, Theme};

/// The left eighths of a cell.
const EIGHTHS: [char; 7] = ['▏', '▎', '▍', '▌', '▋', '▊', '▉'];

/// Paints the share of a whole, from 0 to 1, over the first row of an area. What is no number is
/// not painted.
pub fn paint(area: Rect, buffer: &mut Buffer, theme: &Theme, caps: &Caps, share: f64, role: Role) {
    let area = area.intersection(buffer.area);
    if area.is_empty() || share.is_nan() {
        return;
    }
    let parts = if caps.is_ascii() { 1 } else { 8 };
    let filled = (share.clamp(0.0, 1.0) * f64::from(area.width) * f64::from(parts)).round() as u32;
    // Something is never shown as nothing.
    let filled = if share > 0.0 { filled.max(1) } else { filled };
    let (full, rest) =
        (if caps.is_ascii() { '#' } else { '█' }, if caps.is_ascii() { '-' } else { '·' });
    for column in 0..area.width {
        let here = filled.saturating_sub(u32::from(column) * parts).min(parts) as usize;
        let (sign, role) = match here {
            0 => (rest, Role::Muted),
            _ if here == parts as usize => (full, role),
            _ => (EIGHTHS[here - 1], role),
        };
        let cell = &mut buffer[(area.x + column, area.y)];
        cell.set_char(sign).set_style(theme.style(role));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{ascii, painted};

    fn bar(share: f64, width: u16, caps: Caps) -> String {
        painted(width, 1, |area, buffer| {
            let theme = Theme::new(crate::theme::ThemeName::Default, &caps);
            paint(area, buffer, &theme, &caps, share, Role::Ok);
        })
    }

    #[test]
    fn shares_in_eighths_and_in_signs() {
        for (share, eighths, signs) in [
            (0.0, "·····", "-----"),
            (0.001, "▏····", "#----"),
            (0.5, "██▌··", "###--"),
            (0.525, "██▋··", "###--"),
            (0.98, "████▉", "#####"),
            (1.0, "█████", "#####"),
            (7.0, "█████", "#####"),
            (-1.0, "·····", "-----"),
            (f64::NAN, "     ", "     "),
        ] {
            assert_eq!(bar(share, 5, Caps::default()), eighths, "{share}");
            assert_eq!(bar(share, 5, ascii()), signs, "{share}");
        }
    }
}
