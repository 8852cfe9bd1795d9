//! `fleets logs`: lines of a device's log, the last ones or as they come.
//!
//! Lines go to stdout, oldest first; what is said about them goes to stderr.

use std::process::ExitCode;

use fleet_core::api::LogEntry;
use fleet_core::cli::args::Moment;
use fleet_core::cli::choice::ServerChoice;
use fleet_core::cli::failure::Failure;
use fleet_core::cli::listed::{FormatArgs, Listed, Reader};
use fleet_core::cli::output::Output;
use fleet_core::cli::session::{self, TimeLimit};
use fleet_core::cli::table::{Cell, Column};
use fleet_core::command::UnitName;
use fleet_core::limits::{LOG_LINES_DEFAULT, LOG_LINES_MAX};
use fleet_core::operator::exit::Exit;
use fleet_core::operator::logs::LogQuery;
use fleet_core::time::{Clock as _, SystemClock};
use fleet_core::wire::Severity;
use serde::Serialize;

use super::log_follow::{self, tell_dropped};

/// Which lines of which device.
#[derive(Debug, clap::Args)]
pub(super) struct LogsArgs {
    /// The device, by id or uid
    device: String,
    /// Of this unit of systemd's, such as nginx; the agent's own lines unless given
    #[arg(long, short = 'u', value_parser = unit)]
    unit: Option<String>,
    /// Go on with the lines to come, until interrupted
    #[arg(long, short = 'f')]
    follow: bool,
    /// Of the past not before this time by the device's clock, or this long ago: 2024-01-15T10:30:00Z
    /// or 10m
    #[arg(long, value_name = "TIME")]
    since: Option<Moment>,
    /// Only lines with this text in them
    #[arg(long, value_name = "TEXT")]
    grep: Option<String>,
    /// Only lines that are so bad at least: error, warn, info, debug or trace
    #[arg(long, value_name = "LEVEL")]
    level: Option<Severity>,
    /// Lines of the past at most
    #[arg(long, short = 'n', default_value_t = LOG_LINES_DEFAULT, value_parser = lines, value_name = "N")]
    lines: usize,
    #[command(flatten)]
    server: ServerChoice,
    #[command(flatten)]
    limit: TimeLimit,
    #[command(flatten)]
    format: FormatArgs,
}

/// Runs the command.
pub(super) fn run(args: LogsArgs) -> ExitCode {
    let (format, limit) = (args.format, args.limit);
    session::run(format, Some(limit), async |output| logs(&args, output).await)
}

async fn logs(args: &LogsArgs, output: &mut Output<'_>) -> Result<Exit, Failure> {
    let client = args.server.client(output)?;
    if args.follow {
        return log_follow::follow(&args.device, args.query(), &client, output).await;
    }
    let answer = client.logs(&args.device, &args.query()).await?;
    if let Some(seen) = answer.seen {
        let device = &args.device;
        output.note(&format!("{device} is not connected; these lines were seen until {seen}"))?;
    }
    tell_dropped(answer.dropped, output)?;
    let lines: Vec<Line> = answer.lines.into_iter().map(Line).collect();
    if output.format.is_table() {
        for line in &lines {
            line.tell(output)?;
        }
    } else {
        output.list(&lines)?;
    }
    if lines.is_empty() {
        return Err(Failure::new(Exit::NothingFound, "no such lines"));
    }
    Ok(Exit::Done)
}

impl LogsArgs {
    fn query(&self) -> LogQuery {
        let now = SystemClock.now();
        LogQuery {
            unit: self.unit.clone(),
            since: self.since.map(|moment| moment.resolve(now)),
            level: self.level,
            grep: self.grep.clone().filter(|text| !text.is_empty()),
            limit: Some(self.lines),
        }
    }
}

fn unit(text: &str) -> Result<String, String> {
    let unit: UnitName = text.parse().map_err(|error| format!("{error}"))?;
    Ok(unit.to_string())
}

fn lines(text: &str) -> Result<usize, String> {
    let count = text.parse().ok().filter(|count| (1..=LOG_LINES_MAX).contains(count));
    count.ok_or_else(|| format!("must be a number from 1 to {LOG_LINES_MAX}"))
}

/// A line of a log.
#[derive(Debug, Serialize)]
#[serde(transparent)]
pub(super) struct Line(pub(super) LogEntry);

impl Line {
    /// Tells it by itself. For a person it is not cut, as a cell of a table would be.
    pub(super) fn tell(&self, output: &mut Output<'_>) -> Result<(), Failure> {
        if !output.format.is_table() {
            output.list(std::slice::from_ref(self))?;
            // Columns have their titles once.
            output.leave_titles_out();
            return Ok(());
        }
        let Self(LogEntry { timestamp, unit, level, text }) = self;
        let level = level.word().to_ascii_uppercase();
        // Tabs move cursors, and nobody wants to see that they would.
        let text = text.raw().replace('\t', "    ");
        Ok(output.line(&format!("{timestamp:<24} {level:<5} {}: {text}", unit.raw()))?)
    }
}

impl Listed for Line {
    const COLUMNS: &'static [Column] = &[
        Column::new("TIMESTAMP", 24),
        Column::new("LEVEL", 5),
        Column::new("UNIT", 20),
        Column::new("TEXT", 40),
    ];

    fn cells(&self, _: Reader) -> Vec<Cell> {
        let Self(LogEntry { timestamp, unit, level, text }) = self;
        vec![Cell::new(timestamp), Cell::new(level), Cell::new(unit), Cell::new(text)]
    }

    fn name(&self) -> String {
        self.0.text.to_string()
    }
}

#[cfg(test)]
mod tests {
    use clap::{Parser as _, ValueEnum as _};
    use fleet_core::cli::listed::Format;
    use fleet_core::cli::output::Terminal;
    use fleet_core::cli::testing::{HOSTILE, assert_harmless, written};
    use fleet_core::time::Timestamp;

    use super::*;

    #[derive(clap::Parser)]
    struct Call {
        #[command(flatten)]
        args: LogsArgs,
    }

    fn query(words: &[&str]) -> Result<LogQuery, String> {
        let call = Call::try_parse_from([&["logs", "a"], words].concat());
        call.map(|call| call.args.query()).map_err(|error| error.to_string())
    }

    #[test]
    fn words_are_a_query() {
        let found = query(&["-u", "nginx", "--grep", "a b", "--level", "warn", "-n", "5"]).unwrap();
        let expected = LogQuery {
            unit: Some("nginx.service".to_owned()),
            since: None,
            level: Some(Severity::Warn),
            grep: Some("a b".to_owned()),
            limit: Some(5),
        };
        assert_eq!(found, expected);
        assert_eq!(query(&[]).unwrap().limit, Some(LOG_LINES_DEFAULT));
        for (words, told) in [
            (&["-u", "a/b"][..], "not the name of a systemd unit"),
            (&["--level", "fatal"], "must be error, warn, info, debug or trace"),
            (&["-n", "0"], "must be a number from 1 to 1000"),
            (&["--since", "yesterday"], "must be a time like"),
        ] {
            let refusal = query(words).unwrap_err();
            assert!(refusal.contains(told), "{refusal}");
        }
    }

    fn line(text: &str) -> Line {
        Line(LogEntry {
            timestamp: Timestamp::from_millis(1_705_314_600_123),
            unit: "nginx.service".into(),
            level: Severity::Warn,
            text: text.into(),
        })
    }

    #[test]
    fn titles_come_once_however_many_lines_do() {
        let (mut output, out, _) = written(Format::Csv, Terminal::default());
        line("a").tell(&mut output).unwrap();
        line("b").tell(&mut output).unwrap();
        let rows =
            ["a", "b"].map(|text| format!("2024-01-15T10:30:00.123Z,warn,nginx.service,{text}\n"));
        assert_eq!(out.text(), format!("timestamp,level,unit,text\n{}", rows.concat()));
    }

    #[test]
    fn a_line_is_whole_for_a_person_and_json_for_a_program() {
        let long = "x".repeat(4000);
        let (mut output, out, _) = written(Format::Table, Terminal::default());
        line(&format!("a\tb {long}")).tell(&mut output).unwrap();
        let shown = format!("2024-01-15T10:30:00.123Z WARN  nginx.service: a    b {long}\n");
        assert_eq!(out.text(), shown);
        let (mut output, out, _) = written(Format::Jsonl, Terminal::default());
        line("a\tb").tell(&mut output).unwrap();
        let shown = r#"{"timestamp":"2024-01-15T10:30:00.123Z","unit":"nginx.service","level":"warn","text":"a\tb"}"#;
        assert_eq!(out.text(), format!("{shown}\n"));
    }

    #[test]
    fn hostile_lines_do_no_harm() {
        for format in Format::value_variants() {
            let terminal = Terminal { stdout: true, colour: true, ..Terminal::default() };
            let (mut output, out, err) = written(*format, terminal);
            for text in HOSTILE {
                line(text).tell(&mut output).unwrap();
                output.list(&[line(text)]).unwrap();
            }
            drop(output);
            assert_harmless(&out.text());
            assert_harmless(&err.text());
        }
    }
}
