//! The one door to stdout and stderr: results to the first, everything else to the second.
//!
//! Whatever goes through here is made safe to show, whoever wrote it; the only escape sequences
//! that come out are the colours of [`Tone`](crate::glyph::Tone). Every format comes from the same rows.

use std::io::{self, IsTerminal as _, Write};

use serde::Serialize;
use unicode_width::UnicodeWidthStr as _;

use super::failure::{Failure, Told};
use super::listed::{Format, FormatArgs, Listed, Reader};
use super::table::{self, Cell, Column, Layout};
use crate::limits::ERROR_CHARS_MAX;
use crate::operator::exit::Exit;
use crate::time::{Clock as _, SystemClock};
use crate::untrusted::{escaped_json, write_escaped};

/// Characters of one line of text.
const LINE_CHARS_MAX: usize = 8 * 1024;

/// What the three standard streams are connected to.
#[derive(Clone, Copy, Debug, Default)]
pub struct Terminal {
    /// Standard input comes from one.
    pub stdin: bool,
    /// Standard output goes to one.
    pub stdout: bool,
    /// Standard error goes to one.
    pub stderr: bool,
    /// It moves no cursor.
    pub dumb: bool,
    /// Standard output may have colours.
    pub colour: bool,
    /// Columns of stdout's terminal.
    pub columns: Option<usize>,
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
    pub fn can_ask(self) -> bool {
        self.stdin && self.stderr
    }
}

/// Where a command writes.
pub struct Output<'a> {
    /// How results are written.
    pub format: Format,
    /// What is at the other end.
    pub terminal: Terminal,
    /// Whether columns have titles.
    titles: bool,
    out: Box<dyn Write + Send + 'a>,
    err: Box<dyn Write + Send + 'a>,
    /// A question stands at the end of an open line.
    asking: bool,
    /// Columns of the line that says how far things are.
    progress: usize,
    /// What goes on when this command is stopped, and how to find it again.
    goes_on: Option<String>,
}

impl<'a> Output<'a> {
    /// The process's own streams.
    pub fn of_process(format: FormatArgs) -> Self {
        Self::new(format, Terminal::of_process(), io::stdout(), io::stderr())
    }

    /// Other streams.
    pub fn new(
        format: FormatArgs,
        terminal: Terminal,
        out: impl Write + Send + 'a,
        err: impl Write + Send + 'a,
    ) -> Self {
        Self {
            format: format.format(),
            terminal,
            titles: format.has_titles(),
            out: Box::new(out),
            err: Box::new(err),
            asking: false,
            progress: 0,
            goes_on: None,
        }
    }

    /// From now on columns have no titles: they have been told.
    pub fn leave_titles_out(&mut self) {
        self.titles = false;
    }

    /// One line of a result.
    pub fn line(&mut self, text: &str) -> io::Result<()> {
        self.progress("")?;
        self.out.write_all(safe_line(text, LINE_CHARS_MAX).as_bytes())?;
        self.out.flush()
    }

    /// One line beside the result.
    pub fn note(&mut self, text: &str) -> io::Result<()> {
        self.progress("")?;
        self.err.write_all(safe_line(text, LINE_CHARS_MAX).as_bytes())
    }

    /// How far things are, in place of what was said of it before; no text takes it away. Only a
    /// person at a terminal sees it.
    pub fn progress(&mut self, text: &str) -> io::Result<()> {
        if !self.terminal.stderr || self.terminal.dumb || (text.is_empty() && self.progress == 0) {
            return Ok(());
        }
        let line = safe_line(text, LINE_CHARS_MAX);
        let line = line.trim_end_matches('\n');
        let (before, width) = (self.progress, line.width());
        let rest = " ".repeat(before.saturating_sub(width));
        self.progress = width;
        let back = if text.is_empty() { "\r" } else { "" };
        self.err.write_all(format!("\r{line}{rest}{back}").as_bytes())?;
        self.err.flush()
    }

    /// A question; the answer comes on the same line.
    pub fn ask(&mut self, text: &str) -> io::Result<()> {
        let line = safe_line(text, LINE_CHARS_MAX);
        self.err.write_all(line.trim_end_matches('\n').as_bytes())?;
        self.asking = true;
        self.err.flush()
    }

    /// The question's line has ended with an answer.
    pub fn answered(&mut self) {
        self.asking = false;
    }

    /// Whether a question still waits for its answer.
    pub fn is_asking(&self) -> bool {
        self.asking
    }

    /// Text of another program: for a person made safe line by line, for a program as it is.
    pub fn text(&mut self, text: &str) -> io::Result<()> {
        self.progress("")?;
        if !self.terminal.stdout {
            return self.write(text);
        }
        for line in text.lines() {
            // Tabs move cursors, and nobody wants to see that they would.
            self.line(&line.replace('\t', "    "))?;
        }
        Ok(())
    }

    /// Notes what goes on without this command from now on, for whoever stops it.
    pub fn set_going_on(&mut self, hint: impl Into<String>) {
        self.goes_on = Some(hint.into());
    }

    /// What goes on without this command.
    pub fn going_on(&self) -> Option<&str> {
        self.goes_on.as_deref()
    }

    /// A list in the chosen format.
    pub fn list<T: Listed>(&mut self, items: &[T]) -> io::Result<()> {
        self.rows(T::COLUMNS, items, T::cells, T::name)
    }

    /// A list with the columns that somebody asked for, by their places, whatever the terminal's
    /// width; with those that it has unless told otherwise, if none was.
    pub fn list_under<T: Listed>(&mut self, chosen: &[usize], items: &[T]) -> io::Result<()> {
        if chosen.is_empty() {
            return self.list(items);
        }
        let columns = chosen.iter().filter_map(|place| T::COLUMNS.get(*place));
        let columns: Vec<_> = columns.map(|column| column.kept()).collect();
        let cells = |item: &T, reader| {
            let cells = item.cells(reader);
            chosen.iter().filter_map(|place| cells.get(*place).cloned()).collect()
        };
        self.rows(&columns, items, cells, T::name)
    }

    /// A list whose columns were chosen for this time.
    pub fn rows<T: Serialize>(
        &mut self,
        columns: &[Column],
        items: &[T],
        cells: impl Fn(&T, Reader) -> Vec<Cell>,
        name: impl Fn(&T) -> String,
    ) -> io::Result<()> {
        let rows = |reader| items.iter().map(|item| cells(item, reader)).collect::<Vec<_>>();
        let text = match self.format {
            Format::Table | Format::Wide if items.is_empty() => String::new(),
            Format::Table | Format::Wide => self.table(columns, &rows(self.reader())),
            Format::Json => json_text(&items)?,
            Format::Jsonl => items.iter().map(json_line).collect::<io::Result<_>>()?,
            Format::Csv => table::csv(columns, &rows(Reader::Program), self.titles),
            Format::Name => {
                items.iter().map(|item| safe_line(&name(item), LINE_CHARS_MAX)).collect()
            }
        };
        self.write(&text)
    }

    /// One thing: in a table a line for each of its cells that holds something.
    pub fn one<T: Listed>(&mut self, item: &T) -> io::Result<()> {
        match self.format {
            Format::Table | Format::Wide => {
                let reader = Reader::Person { now: SystemClock.now(), narrow: false };
                let text = details(T::COLUMNS, item.cells(reader), self.terminal.colour);
                self.write(&text)
            }
            Format::Json => self.write(&json_text(item)?),
            Format::Jsonl | Format::Csv | Format::Name => self.list(std::slice::from_ref(item)),
        }
    }

    /// The line of titles above rows that are yet to come.
    pub fn live_titles<T: Listed>(&mut self) -> io::Result<()> {
        if !self.titles {
            return Ok(());
        }
        let layout = Layout::usual(T::COLUMNS, self.room());
        self.write(&layout.titles(T::COLUMNS))
    }

    /// One row, as soon as it is known.
    pub fn live_row<T: Listed>(&mut self, item: &T) -> io::Result<()> {
        let layout = Layout::usual(T::COLUMNS, self.room());
        self.write(&layout.row(&item.cells(self.reader()), self.terminal.colour))
    }

    /// Says why a command failed, and what would help.
    pub fn fail(&mut self, failure: &Failure) -> io::Result<()> {
        let Failure::Told(told) = failure else { return Ok(()) };
        if std::mem::take(&mut self.asking) {
            self.err.write_all(b"\n")?;
        }
        self.progress("")?;
        if matches!(self.format, Format::Json | Format::Jsonl) {
            let error = ErrorObject { error: told };
            return self.err.write_all(json_line(&error)?.as_bytes());
        }
        let message = format!("error: {}", told.message);
        self.err.write_all(safe_line(&message, ERROR_CHARS_MAX).as_bytes())?;
        for line in &told.picture {
            self.note(line)?;
        }
        if let Some(hint) = &told.hint {
            self.note(&format!("hint: {hint}"))?;
        }
        if let Some(request_id) = told.request_id.as_ref().filter(|_| told.exit == Exit::Failed) {
            self.note(&format!("the server's log knows it as request {request_id}"))?;
        }
        Ok(())
    }

    fn table(&self, columns: &[Column], rows: &[Vec<Cell>]) -> String {
        let layout = Layout::fitted(columns, rows, self.room());
        let titles = self.titles.then(|| layout.titles(columns));
        let lines = rows.iter().map(|row| layout.row(row, self.terminal.colour));
        titles.into_iter().chain(lines).collect()
    }

    fn reader(&self) -> Reader {
        let narrow = self.terminal.stdout && self.format != Format::Wide;
        Reader::Person { now: SystemClock.now(), narrow }
    }

    /// Columns of the terminal that a table has to fit into.
    fn room(&self) -> Option<usize> {
        self.terminal.columns.filter(|_| self.format != Format::Wide)
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
mod tests {
    use clap::ValueEnum as _;
    use serde_json::json;

    use super::*;
    use crate::cli::testing::{HOSTILE, assert_harmless, written};
    use crate::time::Timestamp;

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
                output.text(text).unwrap();
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
    fn text_of_another_program_is_safe_for_people_and_whole_for_programs() {
        let text = "a\tb\n\u{1b}[2J\nno end";
        let (mut output, out, _) = written(Format::Table, Terminal::default());
        output.text(text).unwrap();
        assert_eq!(out.text(), text);
        let terminal = Terminal { stdout: true, ..Terminal::default() };
        let (mut output, out, _) = written(Format::Table, terminal);
        output.text(text).unwrap();
        assert_eq!(out.text(), "a    b\n\\u{1b}[2J\nno end\n");
    }

    #[test]
    fn progress_is_one_line_that_gives_way_to_all_others() {
        let terminal = Terminal { stderr: true, ..Terminal::default() };
        let (mut output, _, err) = written(Format::Table, terminal);
        output.progress("").unwrap();
        output.progress("half\u{1b}").unwrap();
        output.progress("all").unwrap();
        output.note("done").unwrap();
        output.progress("more").unwrap();
        output.fail(&Failure::new(Exit::Failed, "no")).unwrap();
        let gone = |columns| format!("\r{}\r", " ".repeat(columns));
        let expected = ["\rhalf\\u{1b}\rall", &" ".repeat(7), &gone(3), "done\n\rmore", &gone(4)];
        assert_eq!(err.text(), expected.concat() + "error: no\n");
        for terminal in [Terminal::default(), Terminal { dumb: true, ..terminal }] {
            let (mut output, _, err) = written(Format::Table, terminal);
            output.progress("half").unwrap();
            assert_eq!(err.text(), "");
        }
    }

    #[test]
    fn a_failure_is_a_sentence_or_an_object() {
        let failure = Failure::new(Exit::NotAllowed, "the server refused").hint("ask somebody");
        let (mut output, out, err) = written(Format::Table, Terminal::default());
        output.fail(&failure).unwrap();
        assert_eq!(err.text(), "error: the server refused\nhint: ask somebody\n");
        let (mut output, _, err) = written(Format::Table, Terminal::default());
        output.fail(&Failure::usage("a value is missing").picture(["  cpu>", "     ^"])).unwrap();
        assert_eq!(err.text(), "error: a value is missing\n  cpu>\n     ^\n");
        let (mut output, json_out, json_err) = written(Format::Json, Terminal::default());
        output.fail(&failure).unwrap();
        let told: serde_json::Value = serde_json::from_str(&json_err.text()).unwrap();
        assert_eq!(told["error"]["code"], "not_allowed");
        assert_eq!(told["error"]["hint"], "ask somebody");
        assert_eq!(out.text() + &json_out.text(), "");
    }
}
