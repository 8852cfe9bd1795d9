//! What waits for the server, and what was lost on the way, as `info` and `status` show it.

use std::fmt::Write as _;

use fleet_core::api::{Holes, QueueView};

use super::line;

/// The lines about it; none if there is nothing to tell.
pub(super) fn lines(queue: &QueueView) -> String {
    let mut text = String::new();
    if queue.waiting > 0 {
        let mut waiting = format!("{} reports wait", queue.waiting);
        if let Some(secs) = queue.oldest_secs {
            write!(waiting, ", the oldest for {}", age(secs)).expect("a String takes all text");
        }
        let kibibytes = queue.bytes.div_ceil(1024);
        write!(waiting, ", {kibibytes} KiB on the disk").expect("a String takes all text");
        text.push_str(&line("Queue", waiting));
    }
    let Holes { quota, damaged, power_cut } = queue.holes;
    let lost = [
        (quota, "for want of room"),
        (damaged, "by damage of the disk"),
        (power_cut, "in power cuts"),
    ];
    let lost = lost.iter().filter(|(count, _)| *count > 0);
    let lost: Vec<String> = lost.map(|(count, why)| format!("{count} reports {why}")).collect();
    if !lost.is_empty() {
        text.push_str(&line("Lost", lost.join(", ")));
    }
    if queue.unclean_ends > 0 {
        let ends = format!("{}, each may have cost up to 5 s of reports", queue.unclean_ends);
        text.push_str(&line("Unclean ends", ends));
    }
    if let Some(error) = &queue.disk_error {
        text.push_str(&line("Disk", format!("{}; reports are held in memory", error.raw())));
    }
    text
}

/// A time as a person reads it, in its two largest units.
fn age(secs: u64) -> String {
    let (days, hours, minutes) = (secs / 86_400, secs / 3_600 % 24, secs / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{secs} s"),
        (0, 0, _) => format!("{minutes} min {} s", secs % 60),
        (0, _, _) => format!("{hours} h {minutes} min"),
        (_, _, _) => format!("{days} d {hours} h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_and_what_was_lost_is_told() {
        assert_eq!(lines(&QueueView::default()), "");
        let queue = QueueView {
            waiting: 3,
            dropped: 7,
            oldest_secs: Some(90_000),
            bytes: 1_025,
            holes: Holes { quota: 7, damaged: 0, power_cut: 1 },
            unclean_ends: 2,
            disk_error: Some("No space left\n".into()),
        };
        assert_eq!(
            lines(&queue),
            "Queue        3 reports wait, the oldest for 1 d 1 h, 2 KiB on the disk\n\
             Lost         7 reports for want of room, 1 reports in power cuts\n\
             Unclean ends 2, each may have cost up to 5 s of reports\n\
             Disk         No space left\\u{a}; reports are held in memory\n"
        );
    }

    #[test]
    fn ages_have_two_units() {
        for (secs, text) in [(59, "59 s"), (61, "1 min 1 s"), (3_660, "1 h 1 min")] {
            assert_eq!(age(secs), text);
        }
    }
}
