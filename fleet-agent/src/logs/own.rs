//! The agent's own lines, out of memory.

use std::collections::VecDeque;

use fleet_core::wire::LogEnd;

use super::Wish;
use super::queue::Queue;
use crate::log_tail::LogTail;

/// Reads the last lines, and then those to come.
pub(super) async fn read(tail: &LogTail, wish: &Wish, queue: &Queue) -> LogEnd {
    let mut news = tail.subscribe();
    let (lines, _, mut seen) = tail.after(0);
    let wanted: VecDeque<_> = lines.into_iter().filter(|line| wish.filter.takes(line)).collect();
    let older = wanted.len().saturating_sub(wish.past);
    for line in wanted.into_iter().skip(older) {
        queue.push_past(line).await;
    }
    if !wish.follow {
        return LogEnd::Complete;
    }
    loop {
        // Looked at before the lines are: what comes meanwhile ends the wait.
        news.mark_unchanged();
        let (lines, gone, count) = tail.after(seen);
        seen = count;
        queue.drop_some(gone);
        for line in lines.into_iter().filter(|line| wish.filter.takes_new(line)) {
            queue.push(line);
        }
        if news.changed().await.is_err() {
            return LogEnd::Failed("the agent's log has ended".to_owned());
        }
    }
}
