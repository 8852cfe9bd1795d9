//! The one door to stdout and stderr: results to the first, everything else to the second.
//!
//! Whatever goes through here is made safe to show, whoever wrote it; the only escape sequences
//! that come out are the colours of [`Tone`](super::table::Tone). Every format comes from the same rows.

use std::io::{self, IsTerminal as _, Write};

use fleet_core::limits::ERROR_CHARS_MAX;
use fleet_core::operator::exit::Exit;
use fleet_core::time::{Clock as _, SystemClock};
use fleet_core::untrusted::{escaped_json, write_escaped};
use serde::Serialize;

use super::failure::{Failure, Told};
use super::listed::{Format, Listed, Reader};
use super::table::{self, Cell, Column, Layout};

/// Characters of one line of text.
const LINE_CHARS_MAX: usize = 8 * 1024;

/// What the three standard streams are connected to.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Terminal {
    pub(super) stdin: bool,
    pub(super) stdout: bool,
    pub(super) stderr: bool,
    /// It moves no cursor.
    pub(super) dumb: bool,
    pub(super) colour: bool,
    /// Columns of stdout's terminal.
    pub(super) columns: Option<usize>,
}

impl Terminal {
    fn of_process() -> Self {
        let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let stdout = io::stdout().is_terminal();
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        Self {
            stdin: io::stdin().is_terminal(),
            stdout,
            stderr: io::stderr().is_terminal(),
            dumb,
            colour: stdout && !dumb && !set("NO_COLOR"),
            columns: terminal_size::terminal_size_of(io::stdout())
                .map(|(width, _)| usize::from(width.0))
                .filter(|columns| *columns > 0),
        }
    }

    /// Whether a person is there to be asked.
    pub(super) fn can_ask(self) -> bool {
        self.stdin && self.stderr
    }
}

/// Where a command writes.
pub(super) struct Output<'a> {
    pub(super) format: Format,
    pub(super) terminal: Terminal,
    out: Box<dyn Write + Send + 'a>,
    err: Box<dyn Write + Send + 'a>,
    /// A question stands at the end of an open line.
    asking: bool,
}

impl<'a> Output<'a> {
    /// The process's own streams.
    pub(super) fn of_process(format: Format) -> Self {
        Self::new(format, Terminal::of_process(), io::stdout(), io::stderr())
    }

    /// Other streams.
    pub(super) fn new(
        format: Format,
        terminal: Terminal,
        out: impl Write + Send + 'a,
        err: impl Write + Send + 'a,
    ) -> Self {
        Self { format, terminal, out: Box::new(out), err: Box::new(err), asking: false }
    }

    /// One line of a result.
    pub(super) fn line(&mut self, text: &str) -> io::Result<()> {
        self.out.write_all(safe_line(text, LINE_CHARS_MAX).as_bytes())?;
        self.out.flush()
    }

    /// One line beside the result.
    pub(super) fn note(&mut self, text: &str) -> io::Result<()> {
        self.err.write_all(safe_line(text, LINE_CHARS_MAX).as_bytes())
    }

    /// A question; the answer comes on the same line.
    pub(super) fn ask(&mut self, text: &str) -> io::Result<()> {
        let line = safe_line(text, LINE_CHARS_MAX);
        self.err.write_all(line.trim_end_matches('\n').as_bytes())?;
        self.asking = true;
        self.err.flush()
    }

    /// The question's line has ended with an answer.
    pub(super) fn answered(&mut self) {
        self.asking = false;
    }

    /// Whether a question still waits for its answer.
    pub(super) fn is_asking(&self) -> bool {
        self.asking
    }

    /// A list in the chosen format.
    pub(super) fn list<T: Listed>(&mut self, items: &[T]) -> io::Result<()> {
        let text = match self.format {
            Format::Table if items.is_empty() => String::new(),
            Format::Table => self.table(items),
            Format::Json => json_text(&items)?,
            Format::Jsonl => items.iter().map(json_line).collect::<io::Result<_>>()?,
            Format::Csv => table::csv(T::COLUMNS, &cells(items, Reader::Program)),
            Format::Name => {
                items.iter().map(|item| safe_line(&item.name(), LINE_CHARS_MAX)).collect()
            }
        };
        self.write(&text)
    }

    /// One thing: in a table a line for each of its cells that holds something.
    pub(super) fn one<T: Listed>(&mut self, item: &T) -> io::Result<()> {
        match self.format {
            Format::Table => {
                let text = details(T::COLUMNS, item.cells(self.reader()), self.terminal.colour);
                self.write(&text)
            }
            Format::Json => self.write(&json_text(item)?),
            Format::Jsonl | Format::Csv | Format::Name => self.list(std::slice::from_ref(item)),
        }
    }

    /// The line of titles above rows that are yet to come.
    pub(super) fn live_titles<T: Listed>(&mut self) -> io::Result<()> {
        let layout = Layout::usual(T::COLUMNS, self.terminal.columns);
        self.write(&layout.titles(T::COLUMNS))
    }

    /// One row, as soon as it is known.
    pub(super) fn live_row<T: Listed>(&mut self, item: &T) -> io::Result<()> {
        let layout = Layout::usual(T::COLUMNS, self.terminal.columns);
        self.write(&layout.row(&item.cells(self.reader()), self.terminal.colour))
    }

    /// Says why a command failed, and what would help.
    pub(super) fn fail(&mut self, failure: &Failure) -> io::Result<()> {
        let Failure::Told(told) = failure else { return Ok(()) };
        if std::mem::take(&mut self.asking) {
            self.err.write_all(b"\n")?;
        }
        if matches!(self.format, Format::Json | Format::Jsonl) {
            let error = ErrorObject { error: told };
            return self.err.write_all(json_line(&error)?.as_bytes());
        }
        let message = format!("error: {}", told.message);
        self.err.write_all(safe_line(&message, ERROR_CHARS_MAX).as_bytes())?;
        if let Some(hint) = &told.hint {
            self.note(&format!("hint: {hint}"))?;
        }
        if let Some(request_id) = told.request_id.as_ref().filter(|_| told.exit == Exit::Failed) {
            self.note(&format!("the server's log knows it as request {request_id}"))?;
        }
        Ok(())
    }

    fn table<T: Listed>(&self, items: &[T]) -> String {
        let rows = cells(items, self.reader());
        let layout = Layout::fitted(T::COLUMNS, &rows, self.terminal.columns);
        let lines = rows.iter().map(|row| layout.row(row, self.terminal.colour));
        std::iter::once(layout.titles(T::COLUMNS)).chain(lines).collect()
    }

    fn reader(&self) -> Reader {
        Reader::Person { now: SystemClock.now(), narrow: self.terminal.stdout }
    }

    fn write(&mut self, text: &str) -> io::Result<()> {
        self.out.write_all(text.as_bytes())?;
        self.out.flush()
    }
}

/// `{"error":{"code":…,"message":…,"hint":…,"request_id":…}}`.
#[derive(Serialize)]
struct ErrorObject<'a> {
    error: &'a Told,
}

fn cells<T: Listed>(items: &[T], reader: Reader) -> Vec<Vec<Cell>> {
    items.iter().map(|item| item.cells(reader)).collect()
}

fn details(columns: &[Column], cells: Vec<Cell>, colour: bool) -> String {
    let pair = [Column::new("", 0), Column::new("", 0)];
    let rows: Vec<Vec<Cell>> = columns
        .iter()
        .zip(cells)
        .filter(|(_, cell)| !cell.is_empty())
        .map(|(column, cell)| vec![Cell::new(format!("{}:", column.label())), cell])
        .collect();
    let layout = Layout::fitted(&pair, &rows, None);
    rows.iter().map(|row| layout.row(row, colour)).collect()
}

fn json_text<T: Serialize + ?Sized>(value: &T) -> io::Result<String> {
    Ok(escaped_json(&serde_json::to_string_pretty(value)?) + "\n")
}

fn json_line<T: Serialize>(value: &T) -> io::Result<String> {
    Ok(escaped_json(&serde_json::to_string(value)?) + "\n")
}

fn safe_line(text: &str, chars_max: usize) -> String {
    let mut line = String::with_capacity(text.len() + 1);
    write_escaped(&mut line, text, chars_max).expect("writing to a String cannot fail");
    line.push('\n');
    line
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::{Arc, Mutex, PoisonError};

    use clap::ValueEnum as _;
    use fleet_core::time::Timestamp;
    use serde_json::json;

    use super::*;
    use crate::cli::table::Column;

    /// A stream that can be read afterwards.
    #[derive(Clone, Default)]
    pub(crate) struct Written(Arc<Mutex<Vec<u8>>>);

    impl Written {
        pub(crate) fn text(&self) -> String {
            let bytes = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
            String::from_utf8(bytes).unwrap()
        }
    }

    impl Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).extend(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// An output to read afterwards: its stdout and its stderr.
    pub(crate) fn written(
        format: Format,
        terminal: Terminal,
    ) -> (Output<'static>, Written, Written) {
        let (out, err) = (Written::default(), Written::default());
        (Output::new(format, terminal, out.clone(), err.clone()), out, err)
    }

    /// All that a hostile device or server might send.
    pub(crate) const HOSTILE: &[&str] = &[
        "\u{1b}[2J\u{1b}]0;owned\u{7}",
        "a\u{9b}31m\u{90}q\u{9c}",
        "\r\nforged line\n",
        "\u{202e}gnp.exe\u{2066}x\u{200b}",
        "\u{0}\u{8}\u{7f}\u{b}\u{c}\t",
        "=cmd|' /C calc'!A0",
        "a,\"b\"\n;c",
        "\u{e0041}\u{feff}\u{2028}",
    ];

    /// Fails if a text would do more to a terminal than show itself in our colours.
    pub(crate) fn assert_harmless(text: &str) {
        let mut plain = text.to_owned();
        for code in ["\u{1b}[31m", "\u{1b}[32m", "\u{1b}[33m", "\u{1b}[0m"] {
            plain = plain.replace(code, "");
        }
        let shown = plain.replace('\n', "");
        let mut safe = String::new();
        write_escaped(&mut safe, &shown, usize::MAX).unwrap();
        assert_eq!(shown, safe);
    }

    #[derive(Serialize)]
    struct Thing {
        name: String,
    }

    impl Listed for Thing {
        const COLUMNS: &'static [Column] = &[Column::new("NAME", 10), Column::new("SEEN", 4)];

        fn cells(&self, reader: Reader) -> Vec<Cell> {
            let seen = Timestamp::from_millis(1_705_314_600_000);
            vec![Cell::new(&self.name), reader.time(Some(seen))]
        }

        fn name(&self) -> String {
            self.name.clone()
        }
    }

    fn listed(format: Format) -> String {
        let (mut output, out, _) = written(format, Terminal::default());
        output.list(&[Thing { name: "a".to_owned() }, Thing { name: "=b".to_owned() }]).unwrap();
        drop(output);
        out.text()
    }

    #[test]
    fn the_same_rows_in_every_format() {
        let time = "2024-01-15T10:30:00Z";
        let table = listed(Format::Table);
        assert!(table.starts_with("NAME  SEEN\na     "), "{table}");
        assert!(table.ends_with("d ago\n"), "{table}");
        assert_eq!(listed(Format::Csv), format!("name,seen\na,{time}\n\"'=b\",{time}\n"));
        assert_eq!(listed(Format::Jsonl), "{\"name\":\"a\"}\n{\"name\":\"=b\"}\n");
        assert_eq!(listed(Format::Name), "a\n=b\n");
        let json: serde_json::Value = serde_json::from_str(&listed(Format::Json)).unwrap();
        assert_eq!(json, json!([{"name": "a"}, {"name": "=b"}]));
    }

    #[test]
    fn nothing_hostile_comes_out_of_any_format() {
        let things: Vec<_> =
            HOSTILE.iter().map(|text| Thing { name: (*text).to_owned() }).collect();
        for format in Format::value_variants() {
            let terminal = Terminal { stdout: true, colour: true, ..Terminal::default() };
            let (mut output, out, err) = written(*format, terminal);
            output.list(&things).unwrap();
            for (thing, text) in things.iter().zip(HOSTILE) {
                output.one(thing).unwrap();
                output.live_row(thing).unwrap();
                output.line(text).unwrap();
                output.note(text).unwrap();
                output.ask(text).unwrap();
                output.fail(&Failure::new(Exit::Failed, *text).hint(*text)).unwrap();
            }
            drop(output);
            assert_harmless(&out.text());
            assert_harmless(&err.text());
            if *format == Format::Jsonl {
                let first = out.text().lines().next().unwrap().to_owned();
                let read: serde_json::Value = serde_json::from_str(&first).unwrap();
                assert_eq!(read["name"], HOSTILE[0], "escaping changes no meaning");
            }
        }
    }

    #[test]
    fn a_failure_at_a_question_begins_a_line_of_its_own() {
        let (mut output, _, err) = written(Format::Table, Terminal::default());
        output.ask("Which? ").unwrap();
        output.fail(&Failure::interrupted_at_question()).unwrap();
        assert_eq!(err.text(), "Which? \nerror: interrupted; nothing was sent\n");
    }

    #[test]
    fn a_failure_is_a_sentence_or_an_object() {
        let failure = Failure::new(Exit::NotAllowed, "the server refused").hint("ask somebody");
        let (mut output, out, err) = written(Format::Table, Terminal::default());
        output.fail(&failure).unwrap();
        assert_eq!(err.text(), "error: the server refused\nhint: ask somebody\n");
        let (mut output, json_out, json_err) = written(Format::Json, Terminal::default());
        output.fail(&failure).unwrap();
        let told: serde_json::Value = serde_json::from_str(&json_err.text()).unwrap();
        assert_eq!(told["error"]["code"], "not_allowed");
        assert_eq!(told["error"]["hint"], "ask somebody");
        assert_eq!(out.text() + &json_out.text(), "");
    }
}
