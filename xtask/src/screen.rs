//! A fleet as a table: once for a pipe, refreshed in place on a terminal.
//!
//! The terminal is left as it was found, however the view ends.

use std::io::{self, IsTerminal as _, Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::time::Duration;

use fleet_core::api::{Device, DeviceStatus};
use fleet_core::time::Timestamp;
use nix::sys::termios::{LocalFlags, SetArg, Termios, tcgetattr, tcsetattr};

use crate::interrupt::{Interrupt, Interrupted, Woken};

/// Pause between two pictures.
const REFRESH: Duration = Duration::from_secs(1);
/// Rows of a picture that are not devices.
const OTHER_ROWS: usize = 5;
const BAR_CELLS: usize = 8;

/// Whether there is a person at a terminal.
pub fn is_live() -> bool {
    io::stdin().is_terminal() && io::stdout().is_terminal()
}

/// The table as lines. `now` is what ages are counted from.
pub fn table(devices: &[Device], now: Timestamp, colour: bool) -> Vec<String> {
    let mut lines = vec![format!(
        "{:<22} {:<12} {:<9} {:>15} {:>15} {:>15} {:>6} {:>10}",
        "ID", "TYPE", "STATUS", "CPU", "MEMORY", "DISK", "LOAD", "LAST SEEN"
    )];
    let mut sorted: Vec<&Device> = devices.iter().collect();
    sorted.sort_by_key(|device| (device.status == DeviceStatus::Online, &device.id));
    lines.extend(sorted.into_iter().map(|device| row(device, now, colour)));
    lines
}

fn row(device: &Device, now: Timestamp, colour: bool) -> String {
    let value = |name| device.latest.as_ref()?.metrics.get(name).copied();
    let status = format!("{:<9}", device.status.word());
    let status = match (colour, device.status) {
        (false, _) => status,
        (true, DeviceStatus::Online) => format!("\x1b[32m{status}\x1b[0m"),
        (true, _) => format!("\x1b[33m{status}\x1b[0m"),
    };
    format!(
        "{:<22} {:<12} {status} {} {} {} {:>6} {:>10}",
        device.id.as_str(),
        device.device_type,
        percent(value("cpu_usage")),
        percent(value("memory_usage")),
        percent(value("disk_usage")),
        value("load_1").map_or("-".into(), |load| format!("{load:.2}")),
        device.last_seen.map_or("never".into(), |seen| age(seen, now)),
    )
}

/// A bar and the number; a value that is missing is not drawn as zero.
fn percent(value: Option<f64>) -> String {
    let Some(value) = value else { return format!("{:>15}", "-") };
    let cells = (value.clamp(0.0, 100.0) / 100.0 * BAR_CELLS as f64).round() as usize;
    let bar = "█".repeat(cells) + &"░".repeat(BAR_CELLS - cells);
    format!("{bar} {value:>5.1}%")
}

fn age(seen: Timestamp, now: Timestamp) -> String {
    let secs = now.millis().saturating_sub(seen.millis()).max(0) / 1000;
    format!("{secs}s ago")
}

/// Shows `picture` anew every second until `q` or Ctrl-C, both of which are a good end.
pub fn show(
    interrupt: &Interrupt,
    mut picture: impl FnMut() -> anyhow::Result<Vec<String>>,
) -> anyhow::Result<()> {
    let _screen = Screen::open()?;
    let shown = (|| {
        loop {
            draw(&picture()?)?;
            if interrupt.wait(REFRESH, Some(io::stdin().as_fd()))? == Woken::Readable {
                let mut keys = [0; 64];
                let count = io::stdin().read(&mut keys)?;
                // Nothing to read means that the terminal has gone.
                if count == 0 || keys[..count].contains(&b'q') {
                    return Ok(());
                }
            }
        }
    })();
    match shown {
        Err(error) if anyhow::Error::is::<Interrupted>(&error) => Ok(()),
        other => other,
    }
}

fn draw(lines: &[String]) -> io::Result<()> {
    let rows = terminal_size::terminal_size().map_or(24, |(_, rows)| usize::from(rows.0));
    let room = rows.saturating_sub(1).max(OTHER_ROWS);
    let mut out = String::from("\x1b[H");
    for line in lines.iter().take(room) {
        out.push_str(line);
        out.push_str("\x1b[K\r\n");
    }
    if lines.len() > room {
        out = out + "… " + &(lines.len() - room).to_string() + " more rows\x1b[K";
    }
    out.push_str("\x1b[J");
    let mut stdout = io::stdout().lock();
    stdout.write_all(out.as_bytes())?;
    stdout.flush()
}

/// The alternate screen, without echo, until dropped.
struct Screen {
    before: Termios,
}

impl Screen {
    fn open() -> anyhow::Result<Self> {
        let before = tcgetattr(io::stdin())?;
        let mut quiet = before.clone();
        // Signals stay on: Ctrl-C is one.
        quiet.local_flags.remove(LocalFlags::ICANON | LocalFlags::ECHO);
        tcsetattr(io::stdin(), SetArg::TCSANOW, &quiet)?;
        let screen = Self { before };
        io::stdout().write_all(b"\x1b[?1049h\x1b[?25l\x1b[?7l")?;
        Ok(screen)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // Both fail only when the terminal has gone.
        let _ = io::stdout().write_all(b"\x1b[?7h\x1b[?25h\x1b[?1049l");
        let _ = io::stdout().flush();
        let _ = tcsetattr(io::stdin(), SetArg::TCSANOW, &self.before);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_value_is_not_zero() {
        assert!(percent(Some(0.0)).contains("0.0%"));
        assert_eq!(percent(None).trim(), "-");
        assert_eq!(percent(Some(250.0)).chars().filter(|c| *c == '█').count(), BAR_CELLS);
    }
}
