//! What tests of anything painted need: a buffer to paint into, and the buffer as text.

use std::fmt::Write as _;

use ratatui::buffer::{Buffer, Cell};
use ratatui::layout::Rect;
use ratatui::style::{Color, Modifier};
use unicode_width::UnicodeWidthStr as _;

use crate::terminal::caps::{Caps, GlyphLevel, GraphLevel};

/// A terminal that has only ASCII.
pub(crate) fn ascii() -> Caps {
    Caps { glyphs: GlyphLevel::Ascii, graphs: GraphLevel::Ascii, ..Caps::default() }
}

/// The text of what was painted into an area of this size, one line for each row.
pub(crate) fn painted(width: u16, height: u16, paint: impl FnOnce(Rect, &mut Buffer)) -> String {
    let mut buffer = Buffer::empty(Rect::new(0, 0, width, height));
    paint(buffer.area, &mut buffer);
    let rows: Vec<String> = (0..height).map(|y| row_text(&buffer, y)).collect();
    rows.join("\n")
}

/// A buffer for a snapshot: the text of each row between bars, and behind it the styles of its cells,
/// as `from..to style`. Without them a lost highlight would go unseen.
pub(crate) fn picture(buffer: &Buffer) -> String {
    let mut picture = String::new();
    for y in 0..buffer.area.height {
        let text = row_text(buffer, y);
        let styles = row_styles(buffer, y);
        writeln!(picture, "│{text}│{styles}").expect("writing to a String cannot fail");
    }
    picture
}

fn row(buffer: &Buffer, y: u16) -> &[Cell] {
    let width = usize::from(buffer.area.width);
    &buffer.content[usize::from(y) * width..][..width]
}

fn row_text(buffer: &Buffer, y: u16) -> String {
    let mut text = String::new();
    let mut covered = 0;
    for cell in row(buffer, y) {
        if covered == 0 {
            text.push_str(cell.symbol());
            covered = cell.symbol().width().max(1);
        }
        covered -= 1;
    }
    text
}

fn row_styles(buffer: &Buffer, y: u16) -> String {
    let mut styles = String::new();
    let mut start = 0;
    for run in row(buffer, y).chunk_by(|a, b| style(a) == style(b)) {
        let end = start + run.len();
        let style = style(&run[0]);
        if !style.is_empty() {
            write!(styles, "  {start}..{end} {style}").expect("writing to a String cannot fail");
        }
        start = end;
    }
    styles
}

/// A cell's style in words; nothing if it has none.
fn style(cell: &Cell) -> String {
    let mut words = Vec::new();
    if cell.fg != Color::Reset {
        words.push(cell.fg.to_string().to_lowercase());
    }
    if cell.bg != Color::Reset {
        words.push(format!("on-{}", cell.bg.to_string().to_lowercase()));
    }
    words.extend(cell.modifier.iter_names().map(|(name, _)| name.to_lowercase()));
    if cell.modifier == Modifier::empty() && words.is_empty() {
        return String::new();
    }
    words.join("+")
}

#[cfg(test)]
mod tests {
    use ratatui::style::Style;

    use super::*;

    #[test]
    fn a_picture_tells_text_and_styles() {
        let mut buffer = Buffer::empty(Rect::new(0, 0, 8, 2));
        buffer.set_string(0, 0, "世x", Style::new().red().bold());
        buffer.set_style(Rect::new(5, 0, 3, 1), Style::new().reversed());
        assert_eq!(
            picture(&buffer),
            "│世x     │  0..1 red+bold  2..3 red+bold  5..8 reversed\n│        │\n"
        );
    }
}
