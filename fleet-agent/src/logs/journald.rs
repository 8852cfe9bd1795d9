//! Lines of a unit, out of systemd's journal, by `journalctl`: once for the past, and then, if they are
//! wanted, for those to come, from where the past ended.

use std::collections::VecDeque;
use std::io;
use std::path::Path;
use std::time::Duration;

use fleet_core::command::UnitName;
use fleet_core::untrusted::Untrusted;
use fleet_core::wire::{LogEnd, LogLine, Severity};
use tokio::time::timeout;

use super::Wish;
use super::entry::{Entry, FIELDS, Lines, priority};
use super::queue::Queue;
use crate::sys::SysRoot;
use crate::sys::process::{self, Flowing};

const PROGRAM: &str = "journalctl";
/// Entries that are looked through for those with a text in them.
const LOOK_BACK: usize = 10_000;
/// How long looking at the past may take.
const PAST_TIME: Duration = Duration::from_secs(10);
/// Bytes of lines of the past; the oldest give way.
const PAST_BYTES_MAX: usize = 1024 * 1024;
/// Bytes that are read at once.
const READ_BYTES: usize = 16 * 1024;

/// Reads the last lines, and then those to come.
pub(super) async fn read(root: &SysRoot, unit: &UnitName, wish: &Wish, queue: &Queue) -> LogEnd {
    let Some(program) = process::find(root, PROGRAM) else {
        let problem = "there is no journalctl on this device, so nothing is known of its units; the \
                       agent's own lines can be read";
        return LogEnd::Failed(problem.to_owned());
    };
    let journal = Journal { root, program: &program, unit, wish };
    match journal.read(queue).await {
        Ok(()) => LogEnd::Complete,
        Err(problem) => LogEnd::Failed(problem),
    }
}

/// A unit's part of the journal.
struct Journal<'a> {
    root: &'a SysRoot,
    program: &'a Path,
    unit: &'a UnitName,
    wish: &'a Wish,
}

/// The last lines that are wanted.
#[derive(Default)]
struct Past {
    lines: VecDeque<LogLine>,
    bytes: usize,
    dropped: u64,
    /// Where the past ends, if there is any.
    cursor: Option<String>,
}

impl Journal<'_> {
    async fn read(&self, queue: &Queue) -> Result<(), String> {
        let past = timeout(PAST_TIME, self.past()).await;
        let secs = PAST_TIME.as_secs();
        let past = past.map_err(|_| format!("{PROGRAM} did not end within {secs} s"))??;
        queue.drop_some(past.dropped);
        for line in past.lines {
            queue.push_past(line).await;
        }
        if self.wish.follow {
            self.follow(past.cursor, queue).await?;
        }
        Ok(())
    }

    async fn past(&self) -> Result<Past, String> {
        // Who wants none of the past wants to know where it ends.
        let entries = self.wish.past.max(1);
        let entries = if self.wish.filter.grep.is_empty() { entries } else { LOOK_BACK };
        let mut flowing = self.start(&["-n", &entries.to_string()])?;
        let mut past = Past::default();
        self.entries(&mut flowing, |entry| match entry {
            Some(entry) => past.add(entry, self.unit, self.wish),
            None => past.dropped += 1,
        })
        .await?;
        ended(&mut flowing).await?;
        Ok(past)
    }

    async fn follow(&self, cursor: Option<String>, queue: &Queue) -> Result<(), String> {
        let after = cursor.map(|cursor| format!("--after-cursor={cursor}"));
        let args: Vec<&str> = ["-f", "--no-tail"].into_iter().chain(after.as_deref()).collect();
        let mut flowing = self.start(&args)?;
        self.entries(&mut flowing, |entry| match entry {
            Some(entry) => {
                let (lines, left_out) = entry.lines(self.unit);
                for line in lines.into_iter().filter(|line| self.wish.filter.takes_new(line)) {
                    queue.push(line);
                }
                queue.drop_some(left_out);
            }
            None => queue.drop_some(1),
        })
        .await?;
        ended(&mut flowing).await?;
        Err(format!("{PROGRAM} ended by itself"))
    }

    /// Time is not among what it filters by: with `--since` some releases give the first lines where the
    /// last were asked for, and take no cursor beside it.
    fn start(&self, args: &[&str]) -> Result<Flowing, String> {
        let filter = &self.wish.filter;
        let usual = ["--no-pager", "--quiet", "--all", "-o", "json", "-u", self.unit.as_str()];
        let mut argv: Vec<String> =
            [PROGRAM].iter().chain(&usual).chain(args).map(|&arg| arg.to_owned()).collect();
        argv.push(format!("--output-fields={FIELDS}"));
        if filter.level > Severity::Debug {
            argv.push(format!("--priority={}", priority(filter.level)));
        }
        process::flow(self.root, self.program, &argv).map_err(unreadable)
    }

    /// Hands out entries to the program's end; nothing for what is none, or too long.
    async fn entries(
        &self,
        flowing: &mut Flowing,
        mut take: impl FnMut(Option<Entry>),
    ) -> Result<(), String> {
        let (mut lines, mut buffer) = (Lines::default(), vec![0; READ_BYTES]);
        loop {
            let bytes = flowing.read(&mut buffer).await.map_err(unreadable)?;
            let Some(read) = buffer.get(..bytes).filter(|read| !read.is_empty()) else {
                return Ok(());
            };
            lines.feed(read, |line| take(line.and_then(Entry::read)));
        }
    }
}

impl Past {
    fn add(&mut self, mut entry: Entry, unit: &UnitName, wish: &Wish) {
        self.cursor = Some(std::mem::take(&mut entry.cursor.0)).filter(|cursor| !cursor.is_empty());
        let (lines, left_out) = entry.lines(unit);
        self.dropped += left_out;
        for line in lines.into_iter().filter(|line| wish.filter.takes(line)) {
            self.bytes += line.bytes();
            self.lines.push_back(line);
        }
        while self.lines.len() > wish.past || self.bytes > PAST_BYTES_MAX {
            let is_wanted = self.lines.len() <= wish.past;
            let Some(oldest) = self.lines.pop_front() else { break };
            self.bytes -= oldest.bytes();
            self.dropped += u64::from(is_wanted);
        }
    }
}

/// That it ended well; otherwise what it says of that.
async fn ended(flowing: &mut Flowing) -> Result<(), String> {
    let (status, said) = flowing.ended().await.map_err(unreadable)?;
    if status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&said).into_owned();
    let last = said.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("it says nothing");
    let (how, last) = (process::describe(status), Untrusted::from(last.trim()));
    Err(format!("{PROGRAM} {how}: {last}"))
}

fn unreadable(error: io::Error) -> String {
    format!("cannot run {PROGRAM}: {error}")
}
