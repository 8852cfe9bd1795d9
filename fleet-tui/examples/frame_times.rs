//! Measures the console's own part of every frame and prints it as JSON: from the state to bytes, at
//! 200×60, with a small fleet and a large one. `cargo xtask bench` runs it.
//!
//! It counts the processor's time, so that a busy machine does not count.

use std::io::{self, Write as _};
use std::time::Duration;

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use fleet_core::api::{StreamMessage, ValueRow, Values};
use fleet_tui::event::{Event, LinkEvent};
use fleet_tui::frames::Frames;
use fleet_tui::sample;
use fleet_tui::state::App;
use fleet_tui::terminal::caps::Caps;
use fleet_tui::theme::{Theme, ThemeName};
use fleet_tui::view::Look;
use nix::time::{ClockId, clock_gettime};
use ratatui::layout::Size;
use serde_json::json;

const SIZE: Size = Size { width: 200, height: 60 };
const FEW: u32 = 1_000;
const MANY: u32 = 10_000;
/// Frames of one figure, after those that warm everything up.
const FRAMES: u32 = 1_000;
const WARM_UP: u32 = 100;
/// What is typed as a filter, again and again: words, fields and numbers.
const FILTER: &str = "pump status=online cpu>20 ";
const FILTERS: usize = 20;

fn main() -> io::Result<()> {
    let few = frames(FEW)?;
    let many = frames(MANY)?;
    let keystrokes = keystrokes()?;
    let figures = json!({
        "frame_p99_secs": many.as_secs_f64(),
        "frame_ratio": many.as_secs_f64() / few.as_secs_f64(),
        "keystroke_p99_secs": keystrokes.as_secs_f64(),
    });
    writeln!(io::stdout(), "{figures}")
}

/// A console whose terminal takes everything at once.
struct Console {
    app: App,
    frames: Frames<io::Sink>,
    look: Look,
    now: Duration,
}

impl Console {
    fn new(devices: u32) -> Self {
        let caps = Caps::default();
        let look = Look { theme: Theme::new(ThemeName::Default, &caps), caps };
        let frames = Frames::new(io::sink(), SIZE);
        Self { app: sample::app(devices, SIZE), frames, look, now: Duration::ZERO }
    }

    /// How long it takes from something that happens to the bytes that show it.
    fn take(&mut self, event: Event) -> io::Result<Duration> {
        let started = worked()?;
        self.app.apply(sample::moment(self.now), event);
        self.frames.show(&self.app, &self.look)?;
        Ok(worked()?.saturating_sub(started))
    }
}

/// The frames of a fleet in which every row in sight has a new value each time.
fn frames(devices: u32) -> io::Result<Duration> {
    let mut console = Console::new(devices);
    let mut times = Vec::new();
    for frame in 0..WARM_UP + FRAMES {
        console.now += Duration::from_millis(100);
        let in_sight = console.app.fleet.wants(&console.app.desk).rows;
        let rows = in_sight.into_iter().map(|slot| values(slot, frame)).collect();
        let message = StreamMessage::Values(Values { rows, past: Vec::new() });
        let took = console.take(Event::Link(LinkEvent::Message(Box::new(message))))?;
        if frame >= WARM_UP {
            times.push(took);
        }
    }
    Ok(p99(times))
}

fn values(slot: u32, frame: u32) -> ValueRow {
    let ValueRow(slot, seen, cpu, memory, disk, temperature) = sample::values(slot);
    let moved = |value: u8| (value + u8::try_from(frame % 10).unwrap_or_default()).min(100);
    ValueRow(slot, seen, cpu.map(moved), memory.map(moved), disk, temperature)
}

/// The keys of a filter that is typed into a large fleet.
fn keystrokes() -> io::Result<Duration> {
    let mut console = Console::new(MANY);
    let key = |code| Event::Key(KeyEvent::new(code, KeyModifiers::NONE));
    let mut times = Vec::new();
    for _ in 0..FILTERS {
        console.take(key(KeyCode::Char('/')))?;
        for letter in FILTER.chars() {
            console.now += Duration::from_millis(100);
            times.push(console.take(key(KeyCode::Char(letter)))?);
        }
        console.take(key(KeyCode::Esc))?;
    }
    Ok(p99(times))
}

/// The processor's time of this thread so far.
fn worked() -> io::Result<Duration> {
    Ok(clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)?.into())
}

fn p99(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[(times.len() * 99).div_ceil(100) - 1]
}
