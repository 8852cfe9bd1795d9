//! What help says, in lines of a given width: for the state, which scrolls, and for the view, which
//! paints. All of it comes from the lists that the program itself works by.

use fleet_core::field::Field;
use fleet_core::filter;
use fleet_core::glyph::{Glyph, GlyphSpec};

use crate::cells::wrapped;
use crate::keys::{self, Binding, Scope, Section};
use crate::state::popup::VERBS;

/// Cells of a column's keys.
const KEYS_WIDTH: u16 = 14;
/// Cells of an example's text.
const EXAMPLE_WIDTH: u16 = 17;
/// A column of keys that is narrower than this is hard to read.
const COLUMN_WIDTH_MIN: u16 = 38;
/// Cells between columns.
const GAP: u16 = 2;

/// A line.
pub type Line = Vec<Piece>;

/// A piece of a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Where it begins.
    pub x: u16,
    /// Its words.
    pub text: String,
    /// What it is.
    pub kind: Kind,
}

/// What a piece is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A heading.
    Head,
    /// Something to press or to type.
    Key,
    /// What it means.
    Text,
    /// A glyph, painted as the terminal can.
    Glyph(Glyph),
}

/// Everything that help says on a screen.
pub fn lines(scope: Scope, width: u16) -> Vec<Line> {
    let count = (width / COLUMN_WIDTH_MIN).clamp(1, 3);
    let column_width = (width / count).saturating_sub(GAP);
    let keys = |title, section| keys_block(title, scope, section, column_width);
    let blocks = vec![
        keys("MOVE", Section::Move),
        keys("SELECT & ACT", Section::Act),
        keys("VIEW", Section::View),
        filters(column_width),
        commands(column_width),
    ];
    let mut lines = side_by_side(blocks, count, width);
    lines.extend(glyphs(width));
    for sentence in [
        "Nothing that changes a device is on one key: x, a letter, then a dialog that names the devices and the server.",
        "Quitting stops nothing on the server.",
    ] {
        let sentence = wrapped(sentence, width.into());
        lines.extend(sentence.into_iter().map(|text| vec![piece(0, text, Kind::Text)]));
    }
    lines
}

/// What a key does on a screen, in one line.
pub fn about(scope: Scope, key: &crossterm::event::KeyEvent) -> String {
    let Some(name) = keys::name(key) else { return "that key does nothing".to_owned() };
    let binding = keys::lookup(scope, key).and_then(|action| keys::binding(scope, action));
    match binding {
        Some(binding) => format!("{name}  {}", binding.help),
        None => format!("{name}  does nothing here"),
    }
}

fn piece(x: u16, text: impl Into<String>, kind: Kind) -> Piece {
    Piece { x, text: text.into(), kind }
}

fn keys_block(title: &str, scope: Scope, section: Section, width: u16) -> Vec<Line> {
    let mut lines = vec![vec![piece(0, title, Kind::Head)]];
    let own = |binding: &&Binding| binding.scopes.contains(&scope);
    let is_here = |binding: &&Binding| binding.section == section && binding.holds(scope);
    let here = || keys::bindings().iter().filter(is_here);
    for binding in here().filter(own).chain(here().filter(|binding| !own(binding))) {
        // Where a screen gives a key a meaning of its own, that one holds.
        let holds = |key: &&&str| keys::holder(scope, key) == Some(binding.action);
        let keys: Vec<&str> = binding.keys.iter().filter(holds).copied().collect();
        if !keys.is_empty() {
            entry(&keys.join(" "), binding.help, KEYS_WIDTH, width, &mut lines);
        }
    }
    lines.push(Line::new());
    lines
}

fn filters(width: u16) -> Vec<Line> {
    let mut lines = vec![vec![piece(0, "FILTER  / here, --filter in scripts", Kind::Head)]];
    entry("pump", "letters in this order in id, name or tags", EXAMPLE_WIDTH, width, &mut lines);
    for (example, meaning) in filter::HELP {
        entry(example, meaning, EXAMPLE_WIDTH, width, &mut lines);
    }
    let names: Vec<&str> = Field::all().map(|field| field.spec().name).collect();
    for text in wrapped(&format!("fields: {}", names.join(" ")), width.into()) {
        lines.push(vec![piece(0, text, Kind::Text)]);
    }
    lines.push(Line::new());
    lines
}

fn commands(width: u16) -> Vec<Line> {
    let mut lines = vec![vec![piece(0, "COMMANDS  :", Kind::Head)]];
    for verb in VERBS {
        let example = format!(":{} {}", verb.name, verb.argument);
        entry(example.trim_end(), verb.help, EXAMPLE_WIDTH, width, &mut lines);
    }
    entry(":…", "whatever a key does, by its name", EXAMPLE_WIDTH, width, &mut lines);
    lines.push(Line::new());
    lines
}

/// Something to press or to type, and what it means beside it.
fn entry(key: &str, meaning: &str, key_width: u16, width: u16, lines: &mut Vec<Line>) {
    let key_width = key_width.min(width / 2);
    let meaning = wrapped(meaning, width.saturating_sub(key_width).max(1).into());
    let mut meaning = meaning.into_iter().map(|text| piece(key_width, text, Kind::Text));
    let fits = unicode_width::UnicodeWidthStr::width(key) < usize::from(key_width);
    let mut first = vec![piece(0, key, Kind::Key)];
    if fits {
        first.extend(meaning.next());
    }
    lines.push(first);
    lines.extend(meaning.map(|piece| vec![piece]));
}

fn glyphs(width: u16) -> Vec<Line> {
    let mut lines = vec![vec![piece(0, "GLYPHS", Kind::Head)]];
    let (mut line, mut x) = (Line::new(), 0);
    let mut seen = Vec::new();
    for GlyphSpec { glyph, meaning, .. } in Glyph::all().filter(|spec| !spec.meaning.is_empty()) {
        if seen.contains(meaning) {
            continue;
        }
        seen.push(*meaning);
        let end = x + 2 + u16::try_from(meaning.len()).unwrap_or(u16::MAX);
        if end > width && !line.is_empty() {
            lines.push(std::mem::take(&mut line));
            x = 0;
        }
        line.push(piece(x, "", Kind::Glyph(*glyph)));
        line.push(piece(x + 2, *meaning, Kind::Text));
        x += 4 + u16::try_from(meaning.len()).unwrap_or(u16::MAX);
    }
    lines.push(line);
    lines.push(Line::new());
    lines
}

/// Puts each block below the shortest column so far.
fn side_by_side(blocks: Vec<Vec<Line>>, count: u16, width: u16) -> Vec<Line> {
    let mut columns: Vec<Vec<Line>> = vec![Vec::new(); usize::from(count)];
    for block in blocks {
        if let Some(column) = columns.iter_mut().min_by_key(|column| column.len()) {
            column.extend(block);
        }
    }
    let height = columns.iter().map(Vec::len).max().unwrap_or_default();
    let mut lines = vec![Line::new(); height];
    for (place, column) in (0..).zip(columns) {
        let x = place * (width / count);
        for (line, pieces) in lines.iter_mut().zip(column) {
            line.extend(pieces.into_iter().map(|piece| Piece { x: piece.x + x, ..piece }));
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::keys::SCREENS;

    fn text(lines: &[Line]) -> String {
        lines.iter().flatten().map(|piece| piece.text.as_str()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn everything_that_a_key_does_is_told() {
        for scope in SCREENS {
            let text = text(&lines(scope, 400)).replace("  ", " ");
            for binding in keys::bindings().iter().filter(|binding| binding.holds(scope)) {
                if binding.keys.iter().any(|key| keys::holder(scope, key) == Some(binding.action)) {
                    assert!(text.contains(binding.help), "{:?} on {scope:?}", binding.action);
                }
            }
        }
    }

    proptest! {
        #[test]
        fn it_fits_any_width(width in 20..300_u16) {
            for scope in SCREENS {
                for line in lines(scope, width) {
                    for pair in line.windows(2) {
                        let end = usize::from(pair[0].x) + unicode_width::UnicodeWidthStr::width(pair[0].text.as_str());
                        // Only an example too long for its column may reach over, never onto something.
                        prop_assert!(end <= usize::from(pair[1].x), "{pair:?}");
                    }
                }
            }
        }
    }
}
