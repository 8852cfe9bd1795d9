//! What help says, in lines of a given width: for the state, which scrolls, and for the view, which
//! paints. All of it comes from the lists that the program itself works by.

use std::ops::Range;

use fleet_core::field::Field;
use fleet_core::filter;
use fleet_core::glyph::{Glyph, GlyphSpec};
use ratatui::layout::Size;

use crate::cells::wrapped;
use crate::keys::{self, Binding, Scope, Section};
use crate::state::popup::VERBS;

/// Cells of a column's keys.
const KEYS_WIDTH: u16 = 10;
/// Cells of an example's text.
const EXAMPLE_WIDTH: u16 = 15;
/// A column of keys that is narrower than this is hard to read.
const COLUMN_WIDTH_MIN: u16 = 38;
/// Cells between columns.
const GAP: u16 = 2;

/// A line.
pub type Line = Vec<Piece>;

/// Lines that stay together: a thing and what it means.
type Lines = Vec<Line>;
/// Things below a heading, which stays with the first of them.
type Block = Vec<Lines>;

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

/// Everything that help says on a screen, for an area of this size that scrolls.
pub fn lines(scope: Scope, area: Size) -> Vec<Line> {
    let width = area.width;
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
    let mut lines = side_by_side(blocks, count.into(), area);
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

fn keys_block(title: &str, scope: Scope, section: Section, width: u16) -> Block {
    let mut things = Vec::new();
    let own = |binding: &&Binding| binding.scopes.contains(&scope);
    let is_here = |binding: &&Binding| binding.section == section && binding.holds(scope);
    let here = || keys::bindings().iter().filter(is_here);
    for binding in here().filter(own).chain(here().filter(|binding| !own(binding))) {
        // Where a screen gives a key a meaning of its own, that one holds.
        let holds = |key: &&&str| keys::holder(scope, key) == Some(binding.action);
        let keys: Vec<&str> = binding.keys.iter().filter(holds).copied().collect();
        if !keys.is_empty() {
            things.push(entry(&keys.join(" "), binding.help, KEYS_WIDTH, width));
        }
    }
    block(title, things)
}

fn filters(width: u16) -> Block {
    let mut things =
        vec![entry("pump", "letters in this order in id, name or tags", EXAMPLE_WIDTH, width)];
    for (example, meaning) in filter::HELP {
        things.push(entry(example, meaning, EXAMPLE_WIDTH, width));
    }
    let names: Vec<&str> = Field::all().map(|field| field.spec().name).collect();
    let names = wrapped(&format!("fields: {}", names.join(" ")), width.into());
    things.push(names.into_iter().map(|text| vec![piece(0, text, Kind::Text)]).collect());
    block("FILTER  / here, --filter in scripts", things)
}

fn commands(width: u16) -> Block {
    let mut things = Vec::new();
    for verb in VERBS {
        let example = format!(":{} {}", verb.name, verb.argument);
        things.push(entry(example.trim_end(), verb.help, EXAMPLE_WIDTH, width));
    }
    things.push(entry(":…", "whatever a key does, by its name", EXAMPLE_WIDTH, width));
    block("COMMANDS  :", things)
}

/// A heading, things, and a gap to what follows.
fn block(title: &str, mut things: Block) -> Block {
    if let Some(first) = things.first_mut() {
        first.insert(0, vec![piece(0, title, Kind::Head)]);
    }
    things.push(vec![Line::new()]);
    things
}

/// Something to press or to type, and what it means beside it.
fn entry(key: &str, meaning: &str, key_width: u16, width: u16) -> Lines {
    let key_width = key_width.min(width / 2);
    let meaning = wrapped(meaning, width.saturating_sub(key_width).max(1).into());
    let mut meaning = meaning.into_iter().map(|text| piece(key_width, text, Kind::Text));
    let fits = unicode_width::UnicodeWidthStr::width(key) < usize::from(key_width);
    let mut first = vec![piece(0, key, Kind::Key)];
    if fits {
        first.extend(meaning.next());
    }
    let mut lines = vec![first];
    lines.extend(meaning.map(|piece| vec![piece]));
    lines
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

/// Puts blocks below one another into columns, a screenful after the other; the columns of the last
/// one are about as long as one another. A column ends between two things, never within one or
/// behind a heading.
fn side_by_side(blocks: Vec<Block>, count: usize, area: Size) -> Vec<Line> {
    let things: Vec<Lines> = blocks.into_iter().flatten().collect();
    let step = area.width / u16::try_from(count).unwrap_or(u16::MAX).max(1);
    let (mut rest, mut lines) = (things.as_slice(), Vec::new());
    loop {
        let columns = columns(rest, area.height.into());
        let Some(next) = columns.get(count) else { break };
        let screenful = lines.len() + usize::from(area.height);
        lines.extend(abreast(rest, &columns[..count], step));
        lines.resize(screenful.max(lines.len()), Line::new());
        rest = &rest[next.start..];
    }
    lines.extend(abreast(rest, &balanced(rest, count), step));
    lines.push(Line::new());
    lines
}

/// Which things each column has, when none is longer than `height` unless a single thing is.
fn columns(things: &[Lines], height: usize) -> Vec<Range<usize>> {
    let mut columns: Vec<Range<usize>> = Vec::new();
    let mut room = 0;
    for (place, thing) in things.iter().enumerate() {
        match columns.last_mut() {
            Some(column) if thing.len() <= room => column.end = place + 1,
            // A gap at the head of a column parts nothing.
            _ if thing.iter().all(Line::is_empty) => continue,
            _ => {
                columns.push(place..place + 1);
                room = height;
            }
        }
        room = room.saturating_sub(thing.len());
    }
    columns
}

/// So many columns at most, as short as they can be.
fn balanced(things: &[Lines], count: usize) -> Vec<Range<usize>> {
    let all: usize = things.iter().map(Vec::len).sum();
    let mut height = all.div_ceil(count);
    loop {
        // At the latest one column has room for everything.
        let columns = columns(things, height);
        if columns.len() <= count {
            return columns;
        }
        height += 1;
    }
}

/// Columns beside one another, one every so many cells.
fn abreast(things: &[Lines], columns: &[Range<usize>], step: u16) -> Vec<Line> {
    let columns: Vec<Lines> =
        columns.iter().map(|column| things[column.clone()].concat()).collect();
    let height = columns.iter().map(Vec::len).max().unwrap_or_default();
    let mut lines = vec![Line::new(); height];
    for (place, column) in (0..).zip(columns) {
        let x = place * step;
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
            let text = text(&lines(scope, Size::new(400, 30))).replace("  ", " ");
            for binding in keys::bindings().iter().filter(|binding| binding.holds(scope)) {
                if binding.keys.iter().any(|key| keys::holder(scope, key) == Some(binding.action)) {
                    assert!(text.contains(binding.help), "{:?} on {scope:?}", binding.action);
                }
            }
        }
    }

    #[test]
    fn columns_are_about_as_long_as_one_another() {
        for scope in SCREENS {
            for (width, count) in [(76, 2), (116, 3)] {
                let mut ends = vec![0; usize::from(count)];
                let lines = lines(scope, Size::new(width, 1_000));
                let is_glyphs = |line: &Line| line.iter().any(|piece| piece.text == "GLYPHS");
                let above = lines.iter().position(is_glyphs).unwrap();
                for (y, line) in lines[..above].iter().enumerate() {
                    for piece in line {
                        ends[usize::from(piece.x / (width / count))] = y;
                    }
                }
                let longest = ends.iter().max().unwrap();
                assert!(ends.iter().all(|end| longest - end <= 8), "{scope:?} {ends:?}");
            }
        }
    }

    #[test]
    fn the_keys_come_first_and_together() {
        for (area, screenfuls) in [(Size::new(116, 28), 1), (Size::new(76, 17), 2)] {
            let lines = lines(Scope::Fleet, area);
            let first = text(&lines[..usize::from(area.height) * screenfuls]);
            for heading in ["MOVE", "SELECT & ACT", "VIEW", "suspend"] {
                assert!(first.contains(heading), "{heading} is not on {area}");
            }
        }
    }

    proptest! {
        #[test]
        fn it_fits_any_size(width in 20..300_u16, height in 1..60_u16) {
            for scope in SCREENS {
                for line in lines(scope, Size::new(width, height)) {
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
