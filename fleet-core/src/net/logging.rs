//! Log lines on stderr, in a file, or both: one event, one line, whatever the event contains.
//!
//! The formatter below us prints some values raw, so escapes and line breaks are taken out of
//! every finished line here, once, for all.

use std::io::{self, Write};
use std::path::Path;
use std::str::FromStr;
use std::sync::{Mutex, PoisonError};

use tracing::{Level, Metadata};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::MakeWriter;

use super::log_file::{LogFile, Readers};
use crate::untrusted::write_escaped;
use crate::wire::Severity;

/// Characters of one log line.
const LINE_CHARS_MAX: usize = 8 * 1024;
/// Bytes of the log file of a server or an agent. One full file is kept beside it.
const FILE_BYTES_MAX: u64 = 8 * 1024 * 1024;
/// The same for a console.
const CONSOLE_BYTES_MAX: u64 = 1024 * 1024;

/// The target of events whose words are on a standard stream already: only a log file gets them.
pub const SAID: &str = "said";

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

/// Begins to log on stderr. Only the first call of a process counts.
pub fn start(level: LogLevel) {
    Log::at(level).begin();
}

/// Begins to log into a file, made with its folder for this user only. For programs whose terminal
/// is taken. Only the first call of a process counts.
pub fn start_in_file(level: LogLevel, path: &Path) -> io::Result<()> {
    let mut file = LogFile::new(path, Readers::Owner, CONSOLE_BYTES_MAX);
    file.open()?;
    let mut log = Log::at(level);
    log.lines = Lines { has_stderr: false, hear: None, file: Some(Mutex::new(Kept::of(file))) };
    log.begin();
    Ok(())
}

/// The log of a program that runs for long: on stderr, and wherever else it is wanted.
pub struct Log {
    level: LogLevel,
    lines: Lines,
}

impl Log {
    /// So much of it.
    pub fn at(level: LogLevel) -> Self {
        Self { level, lines: Lines { has_stderr: true, hear: None, file: None } }
    }

    /// Shows each line to somebody else too, with how bad it is. Whoever that is must not log.
    #[must_use]
    pub fn heard_by(mut self, hear: impl Fn(Severity, &str) + Send + Sync + 'static) -> Self {
        self.lines.hear = Some(Box::new(hear));
        self
    }

    /// Writes each line to a file too, which its folder's group may read. One that cannot be written
    /// is told once, on stderr, and tried again with each line.
    #[must_use]
    pub fn also_in(mut self, path: Option<&Path>) -> Self {
        self.lines.file = path
            .map(|path| Mutex::new(Kept::of(LogFile::new(path, Readers::Group, FILE_BYTES_MAX))));
        self
    }

    /// Begins. Only the first time counts in a process.
    pub fn begin(self) {
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(self.level.0)
            .with_ansi(false)
            .with_target(false)
            .with_writer(self.lines)
            // It would tell stderr, and panic if that cannot be written either.
            .log_internal_errors(false)
            .finish();
        // A second start, as in a test that runs two programs in one process, changes nothing.
        drop(tracing::subscriber::set_global_default(subscriber));
    }
}

/// Whoever is shown each line.
type Hear = Box<dyn Fn(Severity, &str) + Send + Sync>;

/// Where lines go.
struct Lines {
    has_stderr: bool,
    hear: Option<Hear>,
    file: Option<Mutex<Kept>>,
}

/// A file of lines, and whether the last one got there.
struct Kept {
    file: LogFile,
    has_failed: bool,
}

impl Kept {
    fn of(file: LogFile) -> Self {
        Self { file, has_failed: false }
    }

    /// Writes a line; what is to be told of it, if that is news.
    fn write(&mut self, line: &str) -> Option<String> {
        let written = self.file.write(line);
        let had_failed = std::mem::replace(&mut self.has_failed, written.is_err());
        let path = self.file.path().display();
        match written {
            Err(error) if !had_failed => Some(format!(
                "warning: the log file {path} cannot be written: {error}; lines get there once it can"
            )),
            Ok(()) if had_failed => Some(format!("the log file {path} is written again")),
            _ => None,
        }
    }
}

struct Line<'a> {
    lines: &'a Lines,
    severity: Severity,
    /// Whether the file alone gets it.
    is_said: bool,
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Line<'a> {
        Line { lines: self, severity: Severity::Info, is_said: false }
    }

    fn make_writer_for(&'a self, metadata: &Metadata<'_>) -> Line<'a> {
        let is_said = metadata.target() == SAID;
        Line { lines: self, severity: severity(*metadata.level()), is_said }
    }
}

impl Write for Line<'_> {
    /// Called once an event, with the whole line.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let line = one_line(bytes);
        let Lines { has_stderr, hear, file } = self.lines;
        let news = file
            .as_ref()
            .and_then(|file| file.lock().unwrap_or_else(PoisonError::into_inner).write(&line));
        if let Some(news) = news.filter(|_| *has_stderr) {
            io::stderr().lock().write_all(one_line(news.as_bytes()).as_bytes())?;
        }
        if self.is_said {
            return Ok(bytes.len());
        }
        if let Some(hear) = hear {
            hear(self.severity, &line);
        }
        if *has_stderr {
            io::stderr().lock().write_all(line.as_bytes())?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.lines.has_stderr { io::stderr().lock().flush() } else { Ok(()) }
    }
}

fn severity(level: Level) -> Severity {
    match level {
        Level::ERROR => Severity::Error,
        Level::WARN => Severity::Warn,
        Level::INFO => Severity::Info,
        Level::DEBUG => Severity::Debug,
        Level::TRACE => Severity::Trace,
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
    fn a_file_that_cannot_be_written_is_told_once_and_once_that_it_can() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("logs/server.log");
        std::fs::write(folder.path().join("logs"), "in the way").unwrap();
        let mut kept = Kept::of(LogFile::new(&path, Readers::Group, 100));
        assert!(kept.write("one\n").is_some_and(|news| news.contains("server.log cannot be")));
        assert_eq!(kept.write("two\n"), None);
        std::fs::remove_file(folder.path().join("logs")).unwrap();
        assert!(kept.write("three\n").is_some_and(|news| news.ends_with("is written again")));
        assert_eq!(kept.write("four\n"), None);
        assert_eq!(std::fs::read_to_string(path).unwrap(), "three\nfour\n");
    }

    #[test]
    fn t21_an_event_cannot_forge_a_line_or_move_a_cursor() {
        assert_eq!(one_line(b"a\nINFO forged\x1b[2J\n"), "a\\u{a}INFO forged\\u{1b}[2J\n");
    }
}
