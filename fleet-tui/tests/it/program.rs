//! The smallest program on the terminal: it shows what happens, and can be made to fail.
//!
//! It is this suite's own executable, started again for one test that is this program. Keys: `q` quit,
//! `p` panic, `t` panic in a task, `w` wait for ever without listening, `^Z` suspend. Anything else is
//! shown.

use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::{Command, exit};
use std::thread;

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use fleet_core::Chain;
use fleet_core::net::shutdown::Tasks;
use fleet_tui::terminal::caps::{Caps, CapsOptions};
use fleet_tui::terminal::guard::{Guard, Output, SuspendError, Taken, TerminalError};
use fleet_tui::terminal::input::Input;
use fleet_tui::terminal::present::Screen;
use fleet_tui::terminal::watch::Signal;
use fleet_tui::theme::{Role, Theme, ThemeName};
use ratatui::buffer::Buffer;
use ratatui::layout::{Position, Rect, Size};
use tokio::runtime;

/// Where reports of panics go; set only for the program.
pub(crate) const REPORTS: &str = "FLEET_TUI_TEST_REPORTS";
/// Lines that are shown.
const LINES_MAX: usize = 10;

/// The program, to be started.
pub(crate) fn command() -> Command {
    let mut command = Command::new(std::env::current_exe().expect("this suite"));
    command.args(["--exact", "program::is_started_by_other_tests", "--nocapture"]);
    command
}

/// Not a test: the program, when another test starts it.
#[test]
fn is_started_by_other_tests() {
    let Some(reports) = std::env::var_os(REPORTS) else { return };
    let code = run(reports.into()).unwrap_or_else(|error| {
        // Where not even this can be written, nobody reads it.
        let _ = writeln!(io::stderr(), "{}", Chain(error.as_ref()));
        if error.is::<TerminalError>() { TerminalError::EXIT_CODE } else { 1 }
    });
    exit(code.into());
}

fn run(reports: PathBuf) -> Result<u8, Box<dyn std::error::Error>> {
    let caps = Caps::from_env(&|name| std::env::var_os(name), &CapsOptions::default());
    let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
    let taken = Guard::take(&caps, reports)?;
    Ok(runtime.block_on(show(taken, Theme::new(ThemeName::Default, &caps)))?)
}

async fn show(taken: Taken, theme: Theme) -> io::Result<u8> {
    let Taken { guard, output, mut inputs, mut signals } = taken;
    let (columns, rows) = crossterm::terminal::size()?;
    let mut screen = Screen::new(output, Size::new(columns, rows));
    let mut lines = vec!["ready".to_owned()];
    guard.set_title("terminal example")?;
    loop {
        let picture = picture(screen.size(), &lines, theme);
        screen.present(&picture, Some(Position::ORIGIN), None)?;
        tokio::select! {
            input = inputs.next() => match input {
                Input::Key(key) if is(key, 'q') => return Ok(0),
                Input::Key(key) if is(key, 'p') => panic!("asked for"),
                Input::Key(key) if is(key, 't') => fail_in_a_task(),
                Input::Key(key) if is(key, 'w') => loop { thread::park() },
                Input::Key(key) if key == KeyEvent::new(KeyCode::Char('z'), KeyModifiers::CONTROL) => {
                    lines.push(suspend(&guard, &mut screen)?);
                }
                Input::Key(key) => lines.push(format!("key {:?}", key.code)),
                Input::Paste(text) => lines.push(format!("pasted {} bytes", text.len())),
                Input::Mouse(mouse) => lines.push(format!("mouse {:?}", mouse.kind)),
                Input::Resize(size) => {
                    screen.resize(size);
                    lines.push(format!("size {}x{}", size.width, size.height));
                }
                Input::Gone => return Ok(129),
            },
            signal = signals.next() => match signal {
                Some(Signal::Suspend) => lines.push(suspend(&guard, &mut screen)?),
                Some(Signal::Continue) => {
                    guard.retake()?;
                    screen.invalidate();
                    lines.push("continued".to_owned());
                }
                Some(signal) => return Ok(signal.exit_code().unwrap_or(1)),
                None => return Ok(1),
            },
        }
        if lines.len() > LINES_MAX {
            lines.remove(0);
        }
    }
}

fn suspend(guard: &Guard, screen: &mut Screen<Output>) -> io::Result<String> {
    match guard.suspend() {
        Ok(()) => {
            screen.invalidate();
            Ok("back".to_owned())
        }
        Err(SuspendError::NoShell) => Ok("not suspended".to_owned()),
        Err(SuspendError::Terminal(error)) => Err(error),
    }
}

fn is(key: KeyEvent, letter: char) -> bool {
    key == KeyEvent::new(KeyCode::Char(letter), KeyModifiers::NONE)
}

fn fail_in_a_task() {
    drop(Tasks::default().spawn("failing", async { panic!("asked for in a task") }));
}

/// The lines, the last one as if a cursor were on it.
fn picture(size: Size, lines: &[String], theme: Theme) -> Buffer {
    let mut buffer = Buffer::empty(Rect::from((Position::ORIGIN, size)));
    let lines = &lines[lines.len().saturating_sub(size.height.into())..];
    for (y, line) in (0..size.height).zip(lines) {
        let is_last = usize::from(y) + 1 == lines.len();
        let role = if is_last { Role::Select } else { Role::Plain };
        buffer.set_string(0, y, line, theme.style(role));
    }
    buffer
}
