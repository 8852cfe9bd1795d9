//! Log lines on stderr or in a file: one event, one line, whatever the event contains.
//!
//! The formatter below us prints some values raw, so escapes and line breaks are taken out of
//! every finished line here, once, for all.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::{Mutex, PoisonError};

use tracing::{Level, Metadata};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::MakeWriter;

use crate::untrusted::write_escaped;
use crate::wire::Severity;

/// Characters of one log line.
const LINE_CHARS_MAX: usize = 8 * 1024;
/// Bytes of a file of log lines. One full file is kept beside it.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

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
    start_with(level, Lines::Stderr);
}

/// The same, and shows each line to somebody else too, with how bad it is. Whoever that is must not
/// log.
pub fn start_with_listener(level: LogLevel, hear: impl Fn(Severity, &str) + Send + Sync + 'static) {
    start_with(level, Lines::Heard(Box::new(hear)));
}

/// Begins to log into a file, made with its folder for this user only. For programs whose terminal
/// is taken. Only the first call of a process counts.
pub fn start_in_file(level: LogLevel, path: &Path) -> io::Result<()> {
    let file = LogFile::open(path, FILE_BYTES_MAX)?;
    start_with(level, Lines::File(Mutex::new(file)));
    Ok(())
}

fn start_with(level: LogLevel, lines: Lines) {
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(level.0)
        .with_ansi(false)
        .with_target(false)
        .with_writer(lines)
        // It would tell stderr, and panic if that cannot be written either.
        .log_internal_errors(false)
        .finish();
    // A second start, as in a test that runs two programs in one process, changes nothing.
    drop(tracing::subscriber::set_global_default(subscriber));
}

/// Whoever is shown each line.
type Hear = Box<dyn Fn(Severity, &str) + Send + Sync>;

/// Where lines go.
enum Lines {
    Stderr,
    Heard(Hear),
    File(Mutex<LogFile>),
}

struct Line<'a> {
    lines: &'a Lines,
    severity: Severity,
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Line<'a> {
        Line { lines: self, severity: Severity::Info }
    }

    fn make_writer_for(&'a self, metadata: &Metadata<'_>) -> Line<'a> {
        Line { lines: self, severity: severity(*metadata.level()) }
    }
}

impl Write for Line<'_> {
    /// Called once an event, with the whole line.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let line = one_line(bytes);
        match self.lines {
            Lines::Stderr => io::stderr().lock().write_all(line.as_bytes())?,
            Lines::Heard(hear) => {
                hear(self.severity, &line);
                io::stderr().lock().write_all(line.as_bytes())?;
            }
            Lines::File(file) => {
                file.lock().unwrap_or_else(PoisonError::into_inner).write(&line)?;
            }
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        match self.lines {
            Lines::Stderr | Lines::Heard(_) => io::stderr().lock().flush(),
            Lines::File(_) => Ok(()),
        }
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

/// A file of lines that does not grow without end: a full one is put aside, in place of the one
/// that was put aside before.
struct LogFile {
    path: PathBuf,
    bytes_max: u64,
    file: File,
    bytes: u64,
}

impl LogFile {
    fn open(path: &Path, bytes_max: u64) -> io::Result<Self> {
        let folder = path.parent().unwrap_or(Path::new("/"));
        DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        let file = OpenOptions::new().append(true).create(true).mode(0o600).open(path)?;
        let bytes = file.metadata()?.len();
        Ok(Self { path: path.to_owned(), bytes_max, file, bytes })
    }

    fn write(&mut self, line: &str) -> io::Result<()> {
        if self.bytes + line.len() as u64 > self.bytes_max && self.bytes > 0 {
            fs::rename(&self.path, self.path.with_extension("old"))?;
            *self = Self::open(&self.path, self.bytes_max)?;
        }
        self.file.write_all(line.as_bytes())?;
        self.bytes += line.len() as u64;
        Ok(())
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
    fn a_full_file_is_put_aside_and_the_one_before_it_goes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("made/console.log");
        let mut log = LogFile::open(&path, 20).unwrap();
        for line in ["one line\n", "two line\n", "three line\n", "a line longer than a file\n"] {
            log.write(line).unwrap();
        }
        let read = |path: &Path| fs::read_to_string(path).unwrap();
        assert_eq!(read(&path), "a line longer than a file\n");
        assert_eq!(read(&path.with_extension("old")), "three line\n");

        let mut again = LogFile::open(&path, 60).unwrap();
        again.write("more\n").unwrap();
        assert_eq!(read(&path), "a line longer than a file\nmore\n", "what was there counts");
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 2);
    }

    #[test]
    fn t21_an_event_cannot_forge_a_line_or_move_a_cursor() {
        assert_eq!(one_line(b"a\nINFO forged\x1b[2J\n"), "a\\u{a}INFO forged\\u{1b}[2J\n");
    }
}
