//! Lines of logs, for as long as the server asks for them: the agent's own, and those that systemd's
//! journal has of a unit.
//!
//! ```text
//! own log, journalctl ─ line ─▶ filter ─▶ queue, one an ask ─ a few at a time ─▶ link
//! ```
//!
//! Nothing runs while nobody asks, and what runs ends with its ask and with the link. What the
//! device's owner does not let its server read by the command `logs` is not read here either. Lines
//! are filtered before they are queued; a queue that is full drops its oldest, and counts them. What
//! is sent has a rate, and waits until the server has taken what was sent before, so that reports and
//! commands never stand behind lines.

#[cfg(any(test, fuzzing))]
pub(crate) mod check;
mod entry;
mod filter;
mod journald;
mod own;
mod queue;

use std::sync::Arc;
use std::time::Duration;

use fleet_core::command::{Command, UnitName};
use fleet_core::limits::{LOG_ASKS_MAX, LOG_LINES_MAX, LOG_NEWS_LINES_MAX};
use fleet_core::net::shutdown::Tasks;
use fleet_core::wire::{LogAsk, LogEnd, LogNews, LogSource};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};

use crate::config::CommandPolicy;
use crate::log_tail::LogTail;
use crate::sys::SysRoot;
use filter::Filter;
use queue::Queue;

/// Bytes of lines that are sent at once.
const NEWS_BYTES_MAX: usize = 32 * 1024;
/// Bytes of lines that are sent in a second, and lines.
const BYTES_A_SECOND_MAX: usize = 256 * 1024;
const LINES_A_SECOND_MAX: usize = 1_000;

/// Where lines come from, and who may read them.
#[derive(Debug)]
pub struct LogSources {
    /// Where the machine's programs are.
    pub root: SysRoot,
    /// What the device's owner lets its server do.
    pub policy: CommandPolicy,
    /// What the agent logged.
    pub own: LogTail,
}

/// What the server asks for on one link.
pub(crate) struct Asks {
    sources: Arc<LogSources>,
    tasks: Tasks,
    open: Vec<Open>,
    /// There may be something to send.
    bell: Arc<Notify>,
    /// When the next lines may be sent.
    due: Instant,
    /// Whether the server has not taken yet what was sent last.
    is_under_way: bool,
}

/// An ask that is being answered; what runs for it ends with it.
struct Open {
    ask: u64,
    queue: Arc<Queue>,
    task: JoinHandle<()>,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Asks {
    pub(crate) fn new(sources: Arc<LogSources>, tasks: Tasks) -> Self {
        let bell = Arc::new(Notify::new());
        Self { sources, tasks, open: Vec::new(), bell, due: Instant::now(), is_under_way: false }
    }

    /// Begins to answer. What is not answered is told why, to be sent at once.
    pub(crate) fn begin(&mut self, ask: LogAsk) -> Option<LogNews> {
        let number = ask.ask;
        if self.open.iter().any(|open| open.ask == number) {
            return None;
        }
        let end = match self.check(&ask) {
            Ok(unit) => {
                let queue = Arc::new(Queue::new(self.bell.clone()));
                let answer = answer(self.sources.clone(), ask, unit, queue.clone());
                let task = self.tasks.spawn("log lines", answer);
                self.open.push(Open { ask: number, queue, task });
                return None;
            }
            Err(end) => end,
        };
        Some(LogNews { ask: number, dropped: 0, lines: Vec::new(), end: Some(end) })
    }

    /// The unit that is meant, if there is room and the policy lets the server read it.
    fn check(&self, ask: &LogAsk) -> Result<Option<UnitName>, LogEnd> {
        let unit = match &ask.source {
            LogSource::Agent => None,
            LogSource::Unit(name) => {
                let unit: UnitName =
                    name.parse().map_err(|error| LogEnd::Failed(format!("{error}")))?;
                Some(unit)
            }
        };
        let command = Command::Logs { unit: unit.clone(), lines: ask.past };
        self.sources.policy.permits(&command).map_err(LogEnd::Refused)?;
        if self.open.len() >= LOG_ASKS_MAX {
            let problem = format!("this device answers {LOG_ASKS_MAX} asks for lines at one time");
            return Err(LogEnd::Failed(problem));
        }
        Ok(unit)
    }

    /// Stops answering.
    pub(crate) fn end(&mut self, ask: u64) {
        self.open.retain(|open| open.ask != ask);
    }

    /// Stops answering all of them.
    pub(crate) fn clear(&mut self) {
        self.open.clear();
        self.is_under_way = false;
    }

    /// Takes note that the server has taken what was sent last.
    pub(crate) fn noted(&mut self) {
        self.is_under_way = false;
    }

    /// Waits until there is something to send and it may be sent. May be dropped while it waits.
    pub(crate) async fn ready(&self) {
        if self.is_under_way {
            return std::future::pending().await;
        }
        sleep_until(self.due).await;
        while !self.open.iter().any(|open| open.queue.has_news()) {
            self.bell.notified().await;
        }
    }

    /// What to send now. Each ask has its turn.
    pub(crate) fn take(&mut self) -> Option<LogNews> {
        let at = self.open.iter().position(|open| open.queue.has_news())?;
        let open = self.open.remove(at);
        let (dropped, lines, end) = open.queue.take(LOG_NEWS_LINES_MAX, NEWS_BYTES_MAX);
        let news = LogNews { ask: open.ask, dropped, lines, end };
        if news.end.is_none() {
            self.open.push(open);
        }
        let bytes: usize = news.lines.iter().map(fleet_core::wire::LogLine::bytes).sum();
        let seconds = (bytes as f64 / BYTES_A_SECOND_MAX as f64)
            .max(news.lines.len() as f64 / LINES_A_SECOND_MAX as f64);
        self.due = Instant::now() + Duration::from_secs_f64(seconds);
        self.is_under_way = true;
        Some(news)
    }
}

/// Fills an ask's queue to its end.
async fn answer(sources: Arc<LogSources>, ask: LogAsk, unit: Option<UnitName>, queue: Arc<Queue>) {
    let filter = Filter::of(&ask);
    let wish = Wish { filter, past: (ask.past as usize).min(LOG_LINES_MAX), follow: ask.follow };
    let end = match unit {
        None => own::read(&sources.own, &wish, &queue).await,
        Some(unit) => journald::read(&sources.root, &unit, &wish, &queue).await,
    };
    queue.close(end);
}

/// Which lines, for whoever reads a source.
struct Wish {
    filter: Filter,
    /// How many of the past.
    past: usize,
    /// Whether those to come, too.
    follow: bool,
}
