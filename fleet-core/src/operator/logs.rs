//! Lines of a device's log, once or as they come.

use std::time::Duration;

use hyper::HeaderMap;

use super::client::{Ask, Client};
use super::error::ClientError;
use super::stream::Events;
use crate::api::{LOGS_DROPPED, LOGS_SEEN, LogEntry, LogMessage, Route};
use crate::time::Timestamp;
use crate::wire::Severity;

/// Which lines to ask for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogQuery {
    /// Of this unit of systemd's; the agent's own if absent.
    pub unit: Option<String>,
    /// Of the past not before, by the device's clock.
    pub since: Option<Timestamp>,
    /// How bad at least.
    pub level: Option<Severity>,
    /// What must be in them.
    pub grep: Option<String>,
    /// Lines of the past at most; the server's default if absent.
    pub limit: Option<usize>,
}

/// Lines that were asked for once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogAnswer {
    /// The lines, oldest first.
    pub lines: Vec<LogEntry>,
    /// How many are left out.
    pub dropped: u64,
    /// When they were seen, if the device is not connected and the server remembers them.
    pub seen: Option<Timestamp>,
}

/// That so many lines are left out at a place: on their way here there were too many, or the device
/// could not read them.
pub fn left_out(count: u64) -> String {
    let lines = if count == 1 { "1 line is" } else { &format!("{count} lines are") };
    format!("{lines} left out here: too many at once, or not to be read")
}

/// An open stream of lines.
pub struct LogStream(Events);

/// How long lines of a slow device may take. The server gives what has come earlier than that.
const LINES_MAX: Duration = Duration::from_secs(70);

impl Client {
    /// The last lines of a device's log.
    pub async fn logs(&self, device: &str, query: &LogQuery) -> Result<LogAnswer, ClientError> {
        let route = Route::DeviceLogs(device.to_owned());
        let answer = self.exchange(&route, query.ask().patient(LINES_MAX)).await?;
        let lines = serde_json::from_slice(&answer.body)
            .map_err(|source| ClientError::Answer { route: Box::new(route), source })?;
        let dropped = number(&answer.headers, LOGS_DROPPED).unwrap_or_default();
        let seen = text(&answer.headers, LOGS_SEEN).and_then(|text| text.parse().ok());
        Ok(LogAnswer { lines, dropped, seen })
    }

    /// The last lines of a device's log, and those to come.
    pub async fn logs_follow(
        &self,
        device: &str,
        query: &LogQuery,
    ) -> Result<LogStream, ClientError> {
        let mut ask = query.ask();
        ask.query("follow", "true");
        let route = Route::DeviceLogs(device.to_owned());
        self.events(route, ask).await.map(LogStream)
    }
}

impl LogStream {
    /// The next message; nothing once the server has closed the stream. May be dropped at any moment
    /// and called again.
    pub async fn next(&mut self) -> Result<Option<LogMessage>, ClientError> {
        self.0.next(LogMessage::read).await.map(|arrived| arrived.map(|(_, message)| message))
    }
}

impl LogQuery {
    fn ask(&self) -> Ask {
        let mut ask = Ask::default();
        ask.query_some("unit", self.unit.as_ref());
        ask.query_some("since", self.since);
        ask.query_some("level", self.level);
        ask.query_some("grep", self.grep.as_ref());
        ask.query_some("limit", self.limit);
        ask
    }
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

fn number(headers: &HeaderMap, name: &str) -> Option<u64> {
    text(headers, name)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::PrivateKey;
    use crate::operator::exit::Exit;
    use crate::operator::pretend::Pretend;
    use crate::secret::{ApiKey, KeyKind};

    async fn pretend(status: u16, body: &'static str) -> (Pretend, Client) {
        let key = PrivateKey::from_seed(&[7; 32]);
        let pretend = Pretend::start(&key, move |_| (status, body.to_owned())).await;
        let key = ApiKey::generate(KeyKind::Operator, key.public().identity()).unwrap();
        let client = Client::new(pretend.url(), key).unwrap();
        (pretend, client)
    }

    fn query() -> LogQuery {
        LogQuery {
            unit: Some("nginx".to_owned()),
            since: Some(Timestamp::from_millis(1_705_314_600_000)),
            level: Some(Severity::Warn),
            grep: Some("a b".to_owned()),
            limit: Some(3),
        }
    }

    const ASKED: &str = "GET /api/v1/devices/a/logs?unit=nginx&since=2024-01-15T10%3A30%3A00Z\
                         &level=warn&grep=a%20b&limit=3";

    #[tokio::test]
    async fn lines_are_asked_for_once() {
        let (pretend, client) = pretend(200, "[]").await;
        let answer = client.logs("a", &query()).await.unwrap();
        assert_eq!(answer, LogAnswer { lines: Vec::new(), dropped: 0, seen: None });
        assert_eq!(pretend.asked()[0].line, ASKED);
        let (_pretend, client) = self::pretend(504, "").await;
        assert_eq!(client.logs("a", &query()).await.unwrap_err().exit(), Exit::TimedOut);
    }

    #[tokio::test]
    async fn lines_come_until_the_server_closes() {
        let (pretend, client) =
            pretend(200, "event: link\ndata: {\"connected\":false}\n\nevent: later\ndata: 1\n\n")
                .await;
        let mut stream = client.logs_follow("a", &query()).await.unwrap();
        assert!(matches!(stream.next().await.unwrap(), Some(LogMessage::Link(_))));
        assert_eq!(stream.next().await.unwrap(), None);
        let asked = &pretend.asked()[0];
        assert_eq!(asked.line, format!("{ASKED}&follow=true"));
        assert_eq!(asked.headers["accept"], "text/event-stream");
    }
}
