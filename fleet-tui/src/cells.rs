//! What stands in a table's cells: the words of a device's fields, in the fleet's table, in copies and
//! in exports.

use std::time::Duration;

use fleet_core::field::{Field, Kind};
use fleet_core::filter::Subject as _;
use fleet_core::glyph::{self, Tone};
use fleet_core::time::Timestamp;
use fleet_core::untrusted::{escaped, write_escaped};
use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

use crate::state::data::Row;

/// A device that was heard within this time was heard now.
const NOW: Duration = Duration::from_secs(10);
/// Cells that a tab goes on to.
const TAB: usize = 8;

/// A field's words, safe to show; empty where there is nothing to say.
pub fn text(row: &Row, field: Field, now: Timestamp) -> String {
    match field.spec().kind {
        Kind::Percent => row.number(field).map(|value| format!("{value:.0}%")).unwrap_or_default(),
        Kind::Celsius => row.number(field).map(|value| format!("{value:.0}°")).unwrap_or_default(),
        Kind::Age => row.time(field).map(|time| age(now.since(time))).unwrap_or_default(),
        Kind::Status => row.index.status.word().to_owned(),
        Kind::Text | Kind::Version | Kind::Words => {
            row.text(field).map(|text| escaped(&text)).unwrap_or_default()
        }
    }
}

/// How a field's words are to be taken.
pub fn tone(row: &Row, field: Field) -> Tone {
    match field {
        Field::Status => glyph::Glyph::of(row.index.status).spec().tone,
        Field::Cpu | Field::Memory | Field::Disk => {
            row.number(field).map(glyph::level).unwrap_or_default()
        }
        Field::Why if row.index.config_error.is_some() => Tone::Warn,
        _ => Tone::Plain,
    }
}

/// How long ago something was, in at most four characters where that is possible.
pub fn age(ago: Duration) -> String {
    let secs = ago.as_secs();
    match secs {
        _ if ago < NOW => "now".to_owned(),
        0..60 => format!("{}s", secs / 10 * 10),
        60..3_600 => format!("{}m", secs / 60),
        3_600..172_800 => format!("{}h", secs / 3_600),
        _ => format!("{}d", secs / 86_400),
    }
}

/// How long ago something was, in words: `3h ago`, `just now`.
pub fn ago(at: Timestamp, now: Timestamp) -> String {
    match age(now.since(at)).as_str() {
        "now" => "just now".to_owned(),
        age => format!("{age} ago"),
    }
}

/// How far off a time is, ahead or behind: `in 12d`, `3h ago`, `now`.
pub fn until(at: Timestamp, now: Timestamp) -> String {
    let (away, is_ahead) = if at > now { (at.since(now), true) } else { (now.since(at), false) };
    match (age(away), is_ahead) {
        (away, _) if away == "now" => away,
        (away, true) => format!("in {away}"),
        (away, false) => format!("{away} ago"),
    }
}

/// A time to the second, as people write one.
pub fn second(at: Timestamp) -> String {
    let text = at.to_string();
    text.get(..19).map_or(text.clone(), |text| format!("{}Z", text.replace('T', " ")))
}

/// A text in lines of at most `width` cells, broken between words where that is possible.
pub fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    let (mut used, width) = (0, width.max(1));
    for word in text.split(' ') {
        let gap = usize::from(used > 0);
        if used > 0 && used + gap + word.width() > width {
            lines.push(String::new());
            used = 0;
        } else if used > 0 {
            push(&mut lines, ' ');
            used += 1;
        }
        for c in word.chars() {
            let cells = c.width().unwrap_or_default();
            if used > 0 && used + cells > width {
                lines.push(String::new());
                used = 0;
            }
            push(&mut lines, c);
            used += cells;
        }
    }
    lines
}

fn push(lines: &mut [String], c: char) {
    if let Some(line) = lines.last_mut() {
        line.push(c);
    }
}

/// A line in lines of at most `width` cells, at least one. Its blanks stay: they may make columns.
/// They are parts of the line and no copies, which nobody would wipe where the line is a secret.
pub fn cut(line: &str, width: usize) -> Vec<&str> {
    let (mut lines, mut from, mut used) = (Vec::new(), 0, 0);
    for (at, c) in line.char_indices() {
        let cells = c.width().unwrap_or_default();
        if used > 0 && used + cells > width {
            lines.extend(line.get(from..at));
            (from, used) = (at, 0);
        }
        used += cells;
    }
    lines.extend(line.get(from..));
    lines
}

/// A line of what a program wrote, safe to show; tabs are blanks, so that columns stay.
pub fn shown_line(line: &str) -> String {
    let mut text = String::new();
    for (place, part) in line.split('\t').enumerate() {
        if place > 0 {
            text.push_str(&" ".repeat(TAB - text.width() % TAB));
        }
        write_escaped(&mut text, part, usize::MAX).expect("writing to a String cannot fail");
    }
    text
}

/// A field of CSV that no spreadsheet takes for a formula.
pub fn csv_field(text: &str) -> String {
    let is_formula = text.starts_with(['=', '+', '-', '@']) && text.parse::<f64>().is_err();
    if !is_formula && !text.contains([',', '"', '\r', '\n']) {
        return text.to_owned();
    }
    let quote = if is_formula { "'" } else { "" };
    format!("\"{quote}{}\"", text.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_break_between_words() {
        for (text, width, lines) in [
            ("one two three", 8, vec!["one two", "three"]),
            ("onetwothree", 4, vec!["onet", "woth", "ree"]),
            ("a onetwo", 4, vec!["a", "onet", "wo"]),
            ("", 4, vec![""]),
            ("世界", 3, vec!["世", "界"]),
            ("ab", 0, vec!["a", "b"]),
        ] {
            assert_eq!(wrapped(text, width), lines, "{text} in {width}");
        }
    }

    #[test]
    fn lines_that_are_cut_keep_all_their_characters() {
        for (text, width, lines) in [
            ("one  two", 4, vec!["one ", " two"]),
            ("世界x", 3, vec!["世", "界x"]),
            ("e\u{301}e\u{301}", 1, vec!["e\u{301}", "e\u{301}"]),
            ("", 4, vec![""]),
            ("ab", 0, vec!["a", "b"]),
        ] {
            assert_eq!(cut(text, width), lines, "{text} in {width}");
        }
    }

    #[test]
    fn what_was_a_moment_ago_was_just_now() {
        let now = Timestamp::from_millis(1_787_493_802_000);
        let secs = |count| now.minus(Duration::from_secs(count));
        assert_eq!([ago(secs(9), now), ago(secs(10), now)], ["just now", "10s ago"]);
        assert_eq!(ago(now.plus(Duration::from_secs(60)), now), "just now");
    }

    #[test]
    fn times_ahead_and_behind_are_told_apart() {
        let now = Timestamp::from_millis(1_787_493_802_000);
        let hours = |count: u64| Duration::from_secs(count * 3_600);
        assert_eq!(until(now.plus(hours(24 * 90)), now), "in 90d");
        assert_eq!(until(now.minus(hours(3)), now), "3h ago");
        assert_eq!(
            (until(now, now), until(now.plus(Duration::from_secs(5)), now)),
            ("now".to_owned(), "now".to_owned())
        );
    }

    #[test]
    fn ages_are_short_and_move_seldom() {
        for (secs, shown) in [
            (0, "now"),
            (9, "now"),
            (10, "10s"),
            (59, "50s"),
            (60, "1m"),
            (7_199, "1h"),
            (172_800, "2d"),
        ] {
            assert_eq!(age(Duration::from_secs(secs)), shown);
        }
    }
}
