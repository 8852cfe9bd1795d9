//! `fleets logs --follow`: lines as they come, also when the server was away meanwhile.
//!
//! A server that is away is asked again and again; its answer goes on behind the last line.

use std::time::Duration;

use fleet_core::Chain;
use fleet_core::api::{LogEntries, LogMessage, LogOver, LogOverKind};
use fleet_core::cli::failure::Failure;
use fleet_core::cli::listed::Format;
use fleet_core::cli::output::Output;
use fleet_core::limits::LOG_LINES_MAX;
use fleet_core::net::backoff::{self, Backoff};
use fleet_core::operator::client::{Client, ClientError};
use fleet_core::operator::exit::Exit;
use fleet_core::operator::log_seam::{Came, LogSeam};
use fleet_core::operator::logs::{LogQuery, LogStream, left_out};
use tokio::time::sleep;

use super::logs::Line;

/// The longest wait for a server that is away.
const WAIT_MAX: Duration = Duration::from_secs(15);

/// Tells lines as they come, until somebody stops it. Each is whole by itself in every format.
pub(super) async fn follow(
    device: &str,
    query: LogQuery,
    client: &Client,
    output: &mut Output<'_>,
) -> Result<Exit, Failure> {
    if output.format == Format::Json {
        output.format = Format::Jsonl;
    }
    let (seam, backoff) = (LogSeam::default(), Backoff::within(WAIT_MAX));
    let mut follower = Follower { device, query, seam, backoff };
    let mut stream = client.logs_follow(device, &follower.query).await?;
    follower.seam.begin();
    loop {
        let lost = follower.read(&mut stream, output).await?;
        output.note(&format!("the server is away: {}; this waits for it", why(lost.as_ref())))?;
        stream = follower.reopen(client).await?;
        output.note("the server is back; lines go on")?;
    }
}

/// Why the server is away, in words that do not name it once more.
fn why(lost: Option<&ClientError>) -> String {
    match lost {
        None => "it ended the stream".to_owned(),
        Some(ClientError::Connect { source, .. } | ClientError::Exchange { source, .. }) => {
            Chain(source).to_string()
        }
        Some(error) => Chain(error).to_string(),
    }
}

/// Who reads lines of a device, of one stream after the other.
struct Follower<'a> {
    device: &'a str,
    query: LogQuery,
    seam: LogSeam,
    /// Grows until a stream brings something.
    backoff: Backoff,
}

impl Follower<'_> {
    /// Tells what comes until the server is away; why, where that is known.
    async fn read(
        &mut self,
        stream: &mut LogStream,
        output: &mut Output<'_>,
    ) -> Result<Option<ClientError>, Failure> {
        let device = self.device;
        loop {
            let message = match stream.next().await {
                Ok(Some(message)) => message,
                Ok(None) => return Ok(None),
                Err(error) if error.is_passing() => return Ok(Some(error)),
                Err(error) => return Err(error.into()),
            };
            if !matches!(message, LogMessage::Hello(_)) {
                self.backoff.reset();
            }
            match message {
                LogMessage::Hello(hello) if !hello.connected => {
                    output.note(&format!("{device} is not connected; this waits for it"))?;
                }
                LogMessage::Lines(entries) => self.tell(entries, output)?,
                LogMessage::Link(link) if link.connected => {
                    output.note(&format!("{device} is connected; its lines go on"))?;
                }
                LogMessage::Link(_) => {
                    output
                        .note(&format!("{device} is not connected any more; this waits for it"))?;
                }
                LogMessage::Over(over) => return Err(ended(device, &over)),
                LogMessage::Hello(_) | LogMessage::Ping(_) => {}
            }
        }
    }

    /// Asks until the server answers, for what was written since the last line.
    async fn reopen(&mut self, client: &Client) -> Result<LogStream, Failure> {
        if let Some(since) = self.seam.since() {
            self.query.since = Some(since);
        }
        self.query.limit = Some(LOG_LINES_MAX);
        self.seam.begin();
        loop {
            sleep(self.backoff.next_wait(backoff::random())).await;
            match client.logs_follow(self.device, &self.query).await {
                Ok(stream) => return Ok(stream),
                Err(error) if error.is_passing() => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn tell(&mut self, entries: LogEntries, output: &mut Output<'_>) -> Result<(), Failure> {
        let LogEntries { lines, dropped } = entries;
        if lines.is_empty() && dropped == 0 {
            // The device was away, and the last line before that has not come again.
            output.note("lines may be missing here, from while the device was away")?;
        }
        tell_dropped(dropped, output)?;
        for line in lines {
            match self.seam.take(&line) {
                Came::Again => continue,
                Came::Apart => {
                    output.note("lines may be missing here, from while the server was away")?;
                }
                Came::Next => {}
            }
            Line(line).tell(output)?;
        }
        Ok(())
    }
}

pub(super) fn tell_dropped(count: u64, output: &mut Output<'_>) -> Result<(), Failure> {
    if count > 0 {
        output.note(&left_out(count))?;
    }
    Ok(())
}

fn ended(device: &str, over: &LogOver) -> Failure {
    let exit = match over.kind {
        LogOverKind::Access => Exit::NotAllowed,
        LogOverKind::Refused | LogOverKind::Failed | LogOverKind::Gone | LogOverKind::Later => {
            Exit::Failed
        }
    };
    Failure::new(exit, format!("{device}: {}", over.reason))
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum as _;
    use fleet_core::api::LogEntry;
    use fleet_core::cli::output::Terminal;
    use fleet_core::cli::testing::{HOSTILE, assert_harmless, written};
    use fleet_core::time::Timestamp;
    use fleet_core::wire::Severity;

    use super::*;

    fn line(at: i64, text: &str) -> LogEntry {
        LogEntry {
            timestamp: Timestamp::from_millis(at),
            unit: "agent".into(),
            level: Severity::Info,
            text: text.into(),
        }
    }

    fn follower() -> Follower<'static> {
        let (mut seam, backoff) = (LogSeam::default(), Backoff::within(WAIT_MAX));
        seam.begin();
        Follower { device: "a", query: LogQuery::default(), seam, backoff }
    }

    #[test]
    fn what_is_missing_is_told_beside_the_lines() {
        let told = |lines: Vec<LogEntry>, dropped| {
            let (mut output, out, err) = written(Format::Jsonl, Terminal::default());
            follower().tell(LogEntries { lines, dropped }, &mut output).unwrap();
            (out.text().lines().count(), err.text())
        };
        let (count, said) = told(Vec::new(), 0);
        assert!(count == 0 && said.contains("lines may be missing here"), "{said}");
        let (count, said) = told(vec![line(1, "a")], 2);
        assert!(count == 1 && said.contains("2 lines are left out here"), "{said}");
        assert_eq!(told(vec![line(1, "a")], 0), (1, String::new()));
    }

    #[test]
    fn another_stream_goes_on_behind_the_last_line() {
        for (first, gap) in [(line(1, "a"), false), (line(5, "e"), true)] {
            let (mut output, out, err) = written(Format::Name, Terminal::default());
            let mut follower = follower();
            let mut tell = |follower: &mut Follower<'_>, lines| {
                follower.tell(LogEntries { lines, dropped: 0 }, &mut output).unwrap();
            };
            tell(&mut follower, vec![line(1, "a")]);
            follower.seam.begin();
            tell(&mut follower, vec![first, line(6, "f")]);
            let expected = if gap { "a\ne\nf\n" } else { "a\nf\n" };
            assert_eq!(out.text(), expected);
            assert_eq!(err.text().contains("from while the server was away"), gap);
        }
    }

    #[test]
    fn hostile_reasons_do_no_harm() {
        for format in Format::value_variants() {
            let (mut output, _, err) = written(*format, Terminal::default());
            for text in HOSTILE {
                let over = LogOver { kind: LogOverKind::Failed, reason: (*text).into() };
                output.fail(&ended("a", &over)).unwrap();
            }
            assert_harmless(&err.text());
        }
    }
}
