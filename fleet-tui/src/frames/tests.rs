//! What frames of the real screens cost, in bytes: the console is used over slow lines.

use std::collections::BTreeMap;
use std::time::Duration;

use fleet_core::api::{LiveReport, LiveSample, Ping, StreamMessage, StreamView, ValueRow, Values};
use fleet_core::untrusted::Untrusted;

use super::Frames;
use crate::effect::Effect;
use crate::event::{Event, LinkEvent};
use crate::sample;
use crate::state::App;
use crate::state::device::testing::{self, SLOT};
use crate::terminal::caps::Caps;
use crate::testing::WIDE;
use crate::theme::{Theme, ThemeName};
use crate::view::Look;

const DEVICES: u32 = 10_000;
const FIRST_PAINT_BYTES_MAX: usize = 12 * 1024;
const SCROLL_BYTES_MAX: usize = 1024;
/// A fleet that reports every minute, and nobody touches a key.
const IDLE_BYTES_PER_SECOND_MAX: usize = 200;
/// A device that reports every second, with all its graphs.
const LIVE_BYTES_PER_SECOND_MAX: usize = 3 * 1024;

/// As often as the console looks at its clock.
const TICK: Duration = Duration::from_millis(250);
const SECOND: Duration = Duration::from_secs(1);
const PING: Duration = Duration::from_secs(10);
const REPORT_MILLIS: u128 = 60_000;

/// A console on a terminal that takes everything.
struct Terminal {
    app: App,
    frames: Frames<Vec<u8>>,
    view: StreamView,
}

impl Terminal {
    fn new(app: App) -> Self {
        let view = app.fleet.wants(&app.desk);
        Self { app, frames: Frames::new(Vec::new(), WIDE), view }
    }

    /// Lets something happen at a time, and shows it; returns what that cost.
    fn take(&mut self, at: Duration, event: Event) -> usize {
        let effects = self.app.apply(sample::moment(at), event);
        for effect in &effects {
            if let Effect::Look(view) = effect {
                self.view = view.clone();
            }
        }
        testing::answer_all(&mut self.app, effects);
        self.show()
    }

    fn hear(&mut self, at: Duration, message: StreamMessage) -> usize {
        self.take(at, Event::Link(LinkEvent::Message(Box::new(message))))
    }

    fn show(&mut self) -> usize {
        let caps = Caps::default();
        let look = Look { theme: Theme::new(ThemeName::Default, &caps), caps };
        let presented = self.frames.show(&self.app, &look).expect("a vector takes everything");
        let written = std::mem::take(self.frames.out()).len();
        assert_eq!(written, presented.bytes, "what a frame says of itself");
        written
    }
}

#[test]
fn the_first_frame_and_one_that_changes_nothing() {
    let mut terminal = Terminal::new(sample::app(DEVICES, WIDE));
    let first = terminal.show();
    assert!((1..=FIRST_PAINT_BYTES_MAX).contains(&first), "first frame: {first} bytes");
    assert_eq!(terminal.show(), 0, "nothing has changed");
}

#[test]
fn one_row_further() {
    let mut terminal = Terminal::new(sample::app(DEVICES, WIDE));
    terminal.show();
    let mut scrolled = 0;
    for (key, presses) in [("j", 60), ("k", 60)] {
        for _ in 0..presses {
            let top = terminal.app.fleet.top;
            let cost = terminal.take(Duration::ZERO, Event::Key(crate::testing::key(key)));
            assert!(cost <= SCROLL_BYTES_MAX, "{key}: {cost} bytes");
            scrolled += usize::from(terminal.app.fleet.top != top);
        }
    }
    assert!(scrolled > 40, "rows came and went: {scrolled}");
}

#[test]
fn five_minutes_of_a_fleet_that_is_well() {
    let duration = Duration::from_secs(300);
    let mut terminal = Terminal::new(sample::app(DEVICES, WIDE));
    terminal.show();
    assert!(terminal.view.rows.len() > 20, "rows in sight: {:?}", terminal.view.rows);
    let (mut cost, mut reports, mut now) = (0, 0, Duration::ZERO);
    while now < duration {
        let before = now;
        now += TICK;
        let rows: Vec<ValueRow> = terminal
            .view
            .rows
            .iter()
            .filter(|slot| is_due(**slot, before, now))
            .map(|slot| values(*slot, now))
            .collect();
        reports += rows.len();
        if !rows.is_empty() {
            let values = Values { rows, past: Vec::new() };
            cost += terminal.hear(now, StreamMessage::Values(values));
        }
        if now.as_millis().is_multiple_of(PING.as_millis()) {
            let ping = Ping { time: sample::moment(now).wall, skipped: 0 };
            cost += terminal.hear(now, StreamMessage::Ping(ping));
        }
        cost += terminal.take(now, Event::Tick);
    }
    assert!(reports > 100, "devices reported: {reports}");
    let rate = cost / duration.as_secs() as usize;
    assert!((1..=IDLE_BYTES_PER_SECOND_MAX).contains(&rate), "{rate} bytes per second");
}

#[test]
fn a_minute_of_a_device_that_is_watched() {
    let duration = Duration::from_secs(60);
    let mut terminal = Terminal::new(testing::answered(SLOT, WIDE));
    terminal.show();
    let (mut cost, mut now) = (0, Duration::ZERO);
    while now < duration {
        now += TICK;
        if now.as_millis().is_multiple_of(SECOND.as_millis()) {
            cost += terminal.hear(now, StreamMessage::Report(live(now)));
        }
        cost += terminal.take(now, Event::Tick);
    }
    let rate = cost / duration.as_secs() as usize;
    assert!((1..=LIVE_BYTES_PER_SECOND_MAX).contains(&rate), "{rate} bytes per second");
}

/// Whether a device's next report falls between two times; devices are spread over the minute.
fn is_due(slot: u32, from: Duration, to: Duration) -> bool {
    let phase = u128::from(slot.wrapping_mul(7_919)) % REPORT_MILLIS;
    let turn = |at: Duration| (at.as_millis() + REPORT_MILLIS - phase) / REPORT_MILLIS;
    turn(from) != turn(to)
}

/// What a device measures: its processor wanders, its memory a little, its disk not.
fn values(slot: u32, at: Duration) -> ValueRow {
    let minute = at.as_secs() / 60;
    let wander = |seed: u64, by: u64| {
        let mixed = (u64::from(slot) + 1).wrapping_mul(minute + 1).wrapping_mul(seed);
        u8::try_from((mixed >> 7) % by).unwrap_or_default()
    };
    let ValueRow(_, _, cpu, memory, disk, temperature) = sample::values(slot);
    let seen = sample::moment(at).wall.millis();
    let cpu = cpu.map(|cpu| cpu.saturating_add(wander(7_907, 8)).min(100));
    let memory = memory.map(|memory| memory.saturating_add(wander(6_997, 2)).min(100));
    ValueRow(slot, Some(seen), cpu, memory, disk, temperature)
}

/// A report of everything that the graphs show.
fn live(at: Duration) -> LiveReport {
    let secs = at.as_secs_f64();
    let wave = |length: f64| (secs / length).sin() + 1.0;
    let sample = |metric: &str, label: Option<(&str, &str)>, value| LiveSample {
        metric: metric.to_owned(),
        labels: label
            .map(|(name, value)| (name.to_owned(), Untrusted::from(value)))
            .into_iter()
            .collect::<BTreeMap<_, _>>(),
        value,
    };
    let (eth, disk) = (Some(("interface", "eth0")), Some(("device", "mmcblk0")));
    LiveReport {
        slot: SLOT,
        timestamp: sample::moment(at).wall,
        samples: vec![
            sample("cpu_usage", None, 10.0 + 40.0 * wave(5.0)),
            sample("memory_usage", None, 40.0 + 5.0 * wave(40.0)),
            sample("disk_usage", None, 64.0),
            sample("temperature_celsius", None, 45.0 + 10.0 * wave(8.0)),
            sample("network_receive_bytes_per_second", eth, 2e6 * wave(3.0)),
            sample("network_transmit_bytes_per_second", eth, 1e6 * wave(4.0)),
            sample("disk_read_bytes_per_second", disk, 2e6 * wave(2.0)),
            sample("disk_write_bytes_per_second", disk, 1e6 * wave(6.0)),
        ],
    }
}
