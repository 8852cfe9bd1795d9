//! Lines of a device's log, as they come. They come only while somebody looks at them; which ones is
//! for the server and the device to choose, so that no others are sent.
//!
//! While the pane follows, the newest line is in sight. Whoever goes up reads: then nothing moves,
//! and what arrives below is counted.

mod filter;

use std::collections::VecDeque;
use std::time::Duration;

use fleet_core::api::{LogEntries, LogMessage};
use fleet_core::id::Uid;
use fleet_core::operator::log_seam::{Came, LogSeam};
use fleet_core::operator::logs::{LogQuery, left_out};
use fleet_core::time::Timestamp;
use fleet_core::wire::Severity;
use ratatui::layout::Rect;

use crate::cells;
use crate::effect::LogAsk;
use crate::event::LogNews;
use crate::keys::Action;
use crate::state::filter_line::FilterLine;
use crate::state::popup::{Command, Menu, MenuItem};
use crate::state::{Desk, list};
pub use filter::LogFilter;

/// Lines that are kept.
const LINES_MAX: usize = 5_000;
/// Bytes of them.
const BYTES_MAX: usize = 8 * 1024 * 1024;
/// Lines of the past that are asked for.
const PAST: usize = 200;
/// Until a stream that broke off is asked for anew.
const RETRY: Duration = Duration::from_secs(5);
/// Cells before a line's text: its time, how bad it is.
pub const TEXT_AT: u16 = 19;

/// What stands in the pane, safe to show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Row {
    /// A line.
    Line(Line),
    /// Lines are missing here, or may be.
    Gap(String),
}

/// A line, safe to show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// When, by the device's clock.
    pub at: Timestamp,
    /// How bad it is.
    pub level: Severity,
    /// What it says.
    pub text: String,
}

impl Row {
    /// What it says.
    pub fn text(&self) -> &str {
        match self {
            Self::Line(line) => &line.text,
            Self::Gap(text) => text,
        }
    }
}

/// How it stands with the stream of lines.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Stage {
    /// Nobody looks.
    #[default]
    Off,
    /// The server is asked.
    Opening,
    /// Lines come.
    Open,
    /// The device is away; it goes on when that comes back.
    Away,
    /// Nothing more comes, and why.
    Over(String),
    /// It broke off, and is asked for anew.
    Failed(String),
}

/// Lines of a device's log.
#[derive(Debug)]
pub struct Logs {
    rows: VecDeque<Row>,
    bytes: usize,
    /// Which lines.
    pub filter: FilterLine<LogFilter>,
    /// Left out on their way here, because there were too many.
    pub dropped: u64,
    /// Let go of here.
    pub gone: u64,
    /// Arrived since somebody went up to read.
    pub unseen: usize,
    /// Whether the newest line stays in sight.
    pub is_following: bool,
    /// How it stands with the stream.
    pub stage: Stage,
    top: usize,
    /// What is asked for now.
    ask: Option<LogAsk>,
    /// By which filter.
    asked: Option<LogFilter>,
    /// By which filter the lines came that are kept.
    kept: Option<LogFilter>,
    retry_at: Duration,
    /// Where one stream goes on behind another.
    seam: LogSeam,
}

impl Default for Logs {
    fn default() -> Self {
        Self {
            rows: VecDeque::new(),
            bytes: 0,
            filter: FilterLine::default(),
            dropped: 0,
            gone: 0,
            unseen: 0,
            is_following: true,
            stage: Stage::Off,
            top: 0,
            ask: None,
            asked: None,
            kept: None,
            retry_at: Duration::ZERO,
            seam: LogSeam::default(),
        }
    }
}

impl Logs {
    /// The lines and gaps from the first in sight on.
    pub fn in_sight(&self) -> impl Iterator<Item = &Row> {
        self.rows.iter().skip(self.top)
    }

    /// How many are kept.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether none is kept.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The first one in sight.
    pub fn top(&self) -> usize {
        self.top
    }

    /// What the server is asked for now.
    pub fn ask(&self) -> Option<&LogAsk> {
        self.ask.as_ref()
    }

    /// The level and the source that hold, and what must be in the lines. What is being typed does
    /// not hold yet.
    pub fn wanted(&self) -> &LogFilter {
        let before = self.kept.as_ref().filter(|_| self.filter.is_typing());
        before.unwrap_or_else(|| self.filter.filter())
    }

    /// Begins and ends the stream, and keeps the newest line in sight.
    pub(super) fn settle(&mut self, device: Uid, is_shown: bool, area: Rect, desk: &mut Desk) {
        if !is_shown {
            (self.ask, self.stage, self.asked) = (None, Stage::Off, None);
            return;
        }
        let is_settled = !self.filter.is_typing();
        let now = desk.now.since_start;
        if desk.link.is_live() && is_settled {
            let wanted = self.filter.filter().clone();
            if self.asked.as_ref() != Some(&wanted) {
                if self.kept.as_ref() != Some(&wanted) {
                    self.clear();
                    self.kept = Some(wanted.clone());
                }
                self.open(device, wanted, desk);
            } else if matches!(self.stage, Stage::Failed(_)) && now >= self.retry_at {
                self.open(device, wanted, desk);
            }
        }
        let last = self.last_top(area);
        self.top = if self.is_following { last } else { self.top.min(last) };
    }

    fn clear(&mut self) {
        self.rows.clear();
        self.seam = LogSeam::default();
        (self.bytes, self.dropped, self.gone, self.unseen) = (0, 0, 0, 0);
        self.is_following = true;
    }

    fn open(&mut self, device: Uid, wanted: LogFilter, desk: &mut Desk) {
        let since = self.seam.since();
        self.seam.begin();
        let LogFilter { unit, level, grep } = wanted.clone();
        let grep = Some(grep).filter(|grep| !grep.is_empty());
        let query = LogQuery { unit, since, level, grep, limit: Some(PAST) };
        self.ask = Some(LogAsk { number: desk.next_number(), device, query });
        self.stage = Stage::Opening;
        self.asked = Some(wanted);
    }

    /// Notes that the link was down: the stream is asked for anew.
    pub(super) fn lose(&mut self) {
        (self.ask, self.asked) = (None, None);
    }

    /// Takes news of a stream.
    pub fn take(&mut self, number: u64, news: LogNews, now: Duration) {
        if self.ask.as_ref().is_none_or(|ask| ask.number != number) {
            return;
        }
        match news {
            LogNews::Message(LogMessage::Hello(hello)) => self.connected(hello.connected),
            LogNews::Message(LogMessage::Link(link)) => self.connected(link.connected),
            LogNews::Message(LogMessage::Lines(entries)) => {
                self.take_lines(&entries);
            }
            LogNews::Message(LogMessage::Over(over)) => {
                self.stage = Stage::Over(over.reason.to_string());
            }
            LogNews::Message(LogMessage::Ping(_)) => {}
            LogNews::Ended(reason) => {
                if !matches!(self.stage, Stage::Over(_)) {
                    self.stage = Stage::Failed(reason);
                    self.retry_at = now.saturating_add(RETRY);
                }
            }
        }
    }

    fn connected(&mut self, is_connected: bool) {
        self.stage = if is_connected { Stage::Open } else { Stage::Away };
    }

    fn take_lines(&mut self, LogEntries { lines, dropped }: &LogEntries) {
        self.dropped = self.dropped.saturating_add(*dropped);
        match dropped {
            // The device was away, and the last line before that has not come again.
            0 if lines.is_empty() => self.push(Row::Gap(GAP.to_owned())),
            0 => {}
            _ => self.push(Row::Gap(left_out(*dropped))),
        }
        for entry in lines {
            match self.seam.take(entry) {
                Came::Again => continue,
                Came::Apart => self.push(Row::Gap(GAP.to_owned())),
                Came::Next => {}
            }
            let text = cells::shown_line(entry.text.raw());
            self.push(Row::Line(Line { at: entry.timestamp, level: entry.level, text }));
        }
    }

    fn push(&mut self, row: Row) {
        self.bytes += row.text().len();
        if !self.is_following && matches!(row, Row::Line(_)) {
            self.unseen += 1;
        }
        self.rows.push_back(row);
        while self.rows.len() > LINES_MAX || self.bytes > BYTES_MAX {
            let Some(oldest) = self.rows.pop_front() else { break };
            self.bytes -= oldest.text().len();
            self.gone += u64::from(matches!(oldest, Row::Line(_)));
            self.top = self.top.saturating_sub(1);
        }
    }

    /// The first line in sight when the last one is.
    fn last_top(&self, area: Rect) -> usize {
        let width = usize::from(area.width.saturating_sub(TEXT_AT)).max(1);
        let mut room = usize::from(area.height);
        let mut top = self.rows.len();
        for row in self.rows.iter().rev() {
            let rows = cells::cut(row.text(), width).len();
            if rows > room && top < self.rows.len() {
                break;
            }
            room = room.saturating_sub(rows);
            top -= 1;
            if room == 0 {
                break;
            }
        }
        top
    }

    /// Scrolls; at the end it follows again.
    pub(super) fn scroll(&mut self, action: Action, area: Rect) {
        let last = self.last_top(area);
        let height = usize::from(area.height);
        let Some(top) = list::moved(action, self.top, last + 1, height) else { return };
        self.top = top;
        self.follow(top >= last);
    }

    /// Follows the newest line, or stays where it is.
    pub(super) fn follow(&mut self, is_following: bool) {
        self.is_following = is_following;
        if is_following {
            self.unseen = 0;
        }
    }

    /// Which lines to choose from.
    pub(super) fn menu(&self) -> Menu {
        let wanted = self.wanted();
        let item = |key, text: &str, detail: &str, change| MenuItem {
            key,
            text: text.to_owned(),
            detail: detail.to_owned(),
            command: Some(Command::Logs(change)),
        };
        let with = |change: &dyn Fn(&mut LogFilter)| {
            let mut filter = wanted.clone();
            change(&mut filter);
            filter.to_string()
        };
        let agents = with(&|filter| filter.unit = None);
        let mut items = vec![
            item('a', "the agent's own", "what fleetd does there", agents),
            item('u', "a unit's…", "/ and unit=nginx", with(&|filter| filter.unit = None) + UNIT),
        ];
        for (key, level) in [
            ('e', Severity::Error),
            ('w', Severity::Warn),
            ('i', Severity::Info),
            ('d', Severity::Debug),
        ] {
            let text = format!("from {level} on");
            items.push(item(key, &text, "", with(&|filter| filter.level = Some(level))));
        }
        let all = with(&|filter| filter.level = None);
        items.push(item('t', "all of them", "every step", all));
        Menu::new("Lines of the log", items)
    }

    /// Chooses other lines; one that wants a unit is left open to type it.
    pub(super) fn choose(&mut self, text: &str, desk: &mut Desk) {
        if text.ends_with(UNIT) {
            self.filter.begin();
            self.filter.paste(UNIT);
        } else if let Err(error) = self.filter.set(text) {
            desk.warn(error);
        }
    }

    /// The lines in sight, for the clipboard.
    pub(super) fn copied(&self, height: usize) -> String {
        let row = |row: &Row| match row {
            Row::Line(line) => format!("{} {} {}", line.at, line.level, line.text),
            Row::Gap(text) => text.clone(),
        };
        self.in_sight().take(height).map(row).collect::<Vec<_>>().join("\n")
    }
}

/// What stands where lines may be missing, and nobody knows how many.
const GAP: &str = "lines may be missing here";
/// What the name of a unit is typed behind.
const UNIT: &str = " unit=";

#[cfg(test)]
mod tests;
