//! Log lines on stderr: one event, one line, whatever the event contains.
//!
//! The formatter below us prints some values raw, so escapes and line breaks are taken out of
//! every finished line here, once, for all.

use std::io::{self, Write};
use std::str::FromStr;

use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::MakeWriter;

use crate::untrusted::write_escaped;

/// Characters of one log line.
const LINE_CHARS_MAX: usize = 8 * 1024;

/// How much to log: `error`, `warn`, `info`, `debug` or `trace`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogLevel(LevelFilter);

impl LogLevel {
    /// What `--debug` means.
    pub const DEBUG: Self = Self(LevelFilter::DEBUG);
    /// The level unless told otherwise.
    pub const INFO: Self = Self(LevelFilter::INFO);
    /// Only what went wrong.
    pub const WARN: Self = Self(LevelFilter::WARN);
}

impl FromStr for LogLevel {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self(match text.trim().to_ascii_lowercase().as_str() {
            "error" => LevelFilter::ERROR,
            "warn" | "warning" => LevelFilter::WARN,
            "info" => LevelFilter::INFO,
            "debug" => LevelFilter::DEBUG,
            "trace" => LevelFilter::TRACE,
            _ => return Err("must be error, warn, info, debug or trace"),
        }))
    }
}

/// Begins to log. Only the first call of a process counts.
pub fn start(level: LogLevel) {
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(level.0)
        .with_ansi(false)
        .with_target(false)
        .with_writer(OneLine)
        .finish();
    // A second start, as in a test that runs two programs in one process, changes nothing.
    drop(tracing::subscriber::set_global_default(subscriber));
}

struct OneLine;

struct Line;

impl<'a> MakeWriter<'a> for OneLine {
    type Writer = Line;

    fn make_writer(&'a self) -> Line {
        Line
    }
}

impl Write for Line {
    /// Called once an event, with the whole line.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        io::stderr().lock().write_all(one_line(bytes).as_bytes())?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().lock().flush()
    }
}

fn one_line(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let mut line = String::with_capacity(text.len() + 1);
    write_escaped(&mut line, text.trim_end_matches('\n'), LINE_CHARS_MAX)
        .expect("writing to a String cannot fail");
    line.push('\n');
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_cannot_forge_a_line_or_move_a_cursor() {
        assert_eq!(one_line(b"a\nINFO forged\x1b[2J\n"), "a\\u{a}INFO forged\\u{1b}[2J\n");
    }
}
