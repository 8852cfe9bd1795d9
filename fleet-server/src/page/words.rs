//! Numbers, times and states as a page says them.

use std::fmt::Display;
use std::time::Duration;

use fleet_core::api::DeviceStatus;
use fleet_core::glyph::{Glyph, Tone};
use fleet_core::time::Timestamp;

use super::html::Html;

/// Stands between groups of digits, and between a number and its unit: narrow, and no break.
const THIN_SPACE: char = '\u{202f}';

/// A count, in groups of three digits.
pub(super) fn count(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (position, digit) in digits.chars().enumerate() {
        if position > 0 && (digits.len() - position).is_multiple_of(3) {
            text.push(THIN_SPACE);
        }
        text.push(digit);
    }
    text
}

/// A count and what is counted.
pub(super) fn counted(number: usize, one: &str, more: &str) -> String {
    format!("{} {}", count(number), if number == 1 { one } else { more })
}

/// A percentage, as exactly as anybody needs.
pub(super) fn percent(value: f64) -> String {
    format!("{value:.0}{THIN_SPACE}%")
}

/// Bytes in a unit that keeps them short.
pub(super) fn bytes(value: f64) -> String {
    let mut value = value;
    for unit in ["B", "KiB", "MiB", "GiB", "TiB"] {
        if value < 1000.0 {
            let digits = usize::from(value < 10.0 && unit != "B");
            return format!("{value:.digits$}{THIN_SPACE}{unit}");
        }
        value /= 1024.0;
    }
    format!("{value:.1}{THIN_SPACE}PiB")
}

/// How long something took or is ago.
pub(super) fn age(duration: Duration) -> String {
    let secs = duration.as_secs();
    match secs {
        0..120 => format!("{secs}s"),
        120..7_200 => format!("{}m", secs / 60),
        7_200..172_800 => format!("{}h", secs / 3_600),
        _ => format!("{}d", secs / 86_400),
    }
}

/// How long ago something was, with the time itself behind it.
pub(super) fn ago(html: &mut Html, at: Timestamp, now: Timestamp) {
    html.raw("<time datetime=\"").text(at).raw("\">").text(age(now.since(at))).raw("</time>");
}

/// A state: its glyph for the eye, its word for everybody.
pub(super) fn status(html: &mut Html, status: DeviceStatus) {
    marked(html, Glyph::of(status), status.word());
}

/// A word with its glyph. Programs that read a page aloud say the word alone.
pub(super) fn marked(html: &mut Html, glyph: Glyph, word: impl Display) {
    html.raw("<i class=\"").raw(tone(glyph.spec().tone)).raw("\" aria-hidden=\"true\">");
    html.text(glyph.spec().unicode).raw("</i> ").text(word);
}

/// The class of a tone.
pub(super) fn tone(tone: Tone) -> &'static str {
    match tone {
        Tone::Plain => "plain",
        Tone::Good => "good",
        Tone::Warn => "warn",
        Tone::Bad => "bad",
        Tone::Busy => "busy",
        Tone::Muted => "muted",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short_and_grouped() {
        for (number, text) in [(0, "0"), (999, "999"), (1000, "1\u{202f}000")] {
            assert_eq!(count(number), text);
        }
        assert_eq!(count(10_000_000), "10\u{202f}000\u{202f}000");
        assert_eq!(counted(1, "device", "devices"), "1 device");
        for (value, text) in [
            (0.0, "0\u{202f}B"),
            (1023.0, "1.0\u{202f}KiB"),
            (5_000.0, "4.9\u{202f}KiB"),
            (8_589_934_592.0, "8.0\u{202f}GiB"),
            (1e18, "888.2\u{202f}PiB"),
        ] {
            assert_eq!(bytes(value), text);
        }
        for (secs, text) in [(0, "0s"), (119, "119s"), (120, "2m"), (7_200, "2h"), (172_800, "2d")]
        {
            assert_eq!(age(Duration::from_secs(secs)), text);
        }
    }
}
