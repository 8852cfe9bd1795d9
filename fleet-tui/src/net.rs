//! The link to the server: one stream, opened again and again until the console ends, and the view
//! that steers it.

use std::sync::Arc;
use std::time::Duration;

use fleet_core::Chain;
use fleet_core::api::{StreamMessage, StreamView};
use fleet_core::id::Uid;
use fleet_core::net::backoff;
use fleet_core::operator::client::{Client, ClientError};
use fleet_core::operator::exit::Exit;
use fleet_core::operator::stream::EventStream;
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until};

use crate::event::{Event, LinkEvent};

/// Spans before the next attempt; the last one for all further ones.
const WAITS: [Duration; 6] = [
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(4),
    Duration::from_secs(8),
    Duration::from_secs(15),
];
/// The span before the next attempt with a key that was refused. It seldom becomes good by itself,
/// and a server shuts out addresses that bring bad keys, with everybody who works from there.
const WAIT_DENIED: Duration = Duration::from_secs(300);
/// A connection that ends before it is so old counts as one more failed attempt.
const SETTLED: Duration = Duration::from_secs(10);
/// A wait is up to this part longer or shorter, so that many consoles do not come back at once.
const JITTER: f64 = 0.3;
/// What is looked at is told when it has been the same for so long: scrolling is not worth a
/// request for each row.
const VIEW_STILL: Duration = Duration::from_millis(100);

/// The link's half in a task of its own.
pub struct Link {
    /// The server.
    pub client: Client,
    /// Where its news go.
    pub events: mpsc::Sender<Event>,
    /// What is looked at.
    pub view: watch::Receiver<StreamView>,
    /// Rung when somebody wants an attempt now.
    pub retry: Arc<Notify>,
}

/// The console is gone; nobody is left to tell.
struct Gone;

/// Why a connection ended.
enum Ended {
    /// Somebody asked for everything anew.
    Asked,
    /// The server closed it.
    Closed,
    /// It failed.
    Failed(ClientError),
}

impl Link {
    /// Keeps the link up, as well as that can be done, until the console ends.
    pub async fn run(mut self) {
        let mut attempts = 0;
        let mut since = None;
        while self.connect(&mut attempts, &mut since).await.is_ok() {}
    }

    /// One connection, from the attempt to the wait after its end.
    async fn connect(
        &mut self,
        attempts: &mut usize,
        since: &mut Option<String>,
    ) -> Result<(), Gone> {
        self.tell(LinkEvent::Connecting).await?;
        let begun = Instant::now();
        let ended = match self.client.stream(since.as_deref()).await {
            Ok(stream) => self.follow(stream, since).await?,
            Err(error) => Ended::Failed(error),
        };
        if begun.elapsed() >= SETTLED {
            *attempts = 0;
        }
        let error = match ended {
            Ended::Asked => {
                *since = None;
                return Ok(());
            }
            Ended::Closed => None,
            Ended::Failed(error) => Some(error),
        };
        let is_denied = error.as_ref().is_some_and(|error| error.exit() == Exit::NotAllowed);
        let wait = wait(*attempts, is_denied, backoff::random());
        *attempts += 1;
        let reason =
            error.as_ref().map_or_else(|| "the server ended the stream".to_owned(), reason);
        tracing::info!(reason, "the link is down");
        self.tell(LinkEvent::Down { reason, retry_in: Some(wait), is_denied }).await?;
        tokio::select! {
            () = sleep(wait) => {}
            () = self.retry.notified() => {}
            () = self.events.closed() => return Err(Gone),
        }
        Ok(())
    }

    /// Hands on what the server says and tells it what is looked at; returns why that ended.
    async fn follow(
        &mut self,
        mut stream: EventStream,
        since: &mut Option<String>,
    ) -> Result<Ended, Gone> {
        let mut name: Option<Uid> = None;
        let mut view_due: Option<Instant> = None;
        self.view.mark_unchanged();
        loop {
            let due = view_due.unwrap_or_else(Instant::now);
            tokio::select! {
                arrived = stream.next() => {
                    let arrived = match arrived {
                        Ok(Some(arrived)) => arrived,
                        Ok(None) => return Ok(Ended::Closed),
                        Err(error) => return Ok(Ended::Failed(error)),
                    };
                    *since = arrived.id.or_else(|| since.take());
                    if let StreamMessage::Hello(hello) = &arrived.message {
                        name = Some(hello.stream);
                    }
                    self.tell(LinkEvent::Message(Box::new(arrived.message))).await?;
                }
                changed = self.view.changed() => {
                    changed.map_err(|_| Gone)?;
                    view_due = view_due.or_else(|| Some(Instant::now() + VIEW_STILL));
                }
                () = sleep_until(due), if view_due.is_some() => {
                    view_due = None;
                    let view = self.view.borrow_and_update().clone();
                    if let Some(name) = name
                        && let Err(error) = self.client.stream_view(name, &view).await
                    {
                        return Ok(Ended::Failed(error));
                    }
                }
                () = self.retry.notified() => return Ok(Ended::Asked),
                () = self.events.closed() => return Err(Gone),
            }
        }
    }

    async fn tell(&self, event: LinkEvent) -> Result<(), Gone> {
        self.events.send(Event::Link(event)).await.map_err(|_| Gone)
    }
}

/// The wait after so many failures. `random` is any number, all values equally likely.
fn wait(attempts: usize, is_denied: bool, random: u32) -> Duration {
    let span = if is_denied { WAIT_DENIED } else { WAITS[attempts.min(WAITS.len() - 1)] };
    let part = f64::from(random) / f64::from(u32::MAX);
    span.mul_f64(1.0 - JITTER + 2.0 * JITTER * part)
}

/// Why the link is down, in words.
fn reason(error: &ClientError) -> String {
    match error {
        ClientError::Refused { status, .. } if status.as_u16() == 404 => {
            "the server is older than this console: it has no live stream".to_owned()
        }
        ClientError::Connect { source, .. } | ClientError::Exchange { source, .. } => {
            Chain(source).to_string()
        }
        error => Chain(error).to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_a_limit_and_are_spread() {
        let middle = u32::MAX / 2;
        let millis: Vec<_> =
            (0..8).map(|n| wait(n, false, middle).as_millis().div_ceil(10) * 10).collect();
        assert_eq!(millis, [500, 1_000, 2_000, 4_000, 8_000, 15_000, 15_000, 15_000]);
        assert!(wait(5, false, 0) < Duration::from_secs(11));
        assert!(wait(5, false, u32::MAX) > Duration::from_secs(19));
    }

    #[test]
    fn consoles_with_a_bad_key_do_not_shut_their_whole_address_out() {
        // A server takes fewer than ten bad keys a minute from one address.
        let attempts_a_minute = |consoles: f64| consoles * 60.0 / wait(0, true, 0).as_secs_f64();
        assert!(attempts_a_minute(20.0) < 10.0);
    }
}
