//! The smallest program on the terminal: it shows what happens, and can be made to fail.
//!
//! `terminal FOLDER [--deaf]`, where reports of panics go into the folder and a deaf program does not
//! hear SIGHUP. Keys: `q` quit, `p` panic, `t` panic in a task, `w` wait for ever without listening,
//! `^Z` suspend. Anything else is shown.

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;
use std::thread;

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use fleet_core::Chain;
use fleet_core::net::shutdown::Tasks;
use fleet_tui::terminal::caps::{Caps, CapsOptions};
use fleet_tui::terminal::guard::{Guard, Taken, TerminalError};
use fleet_tui::terminal::input::Input;
use fleet_tui::terminal::present::Screen;
use fleet_tui::terminal::watch::Signal;
use fleet_tui::theme::{Role, Theme, ThemeName};
use nix::sys::signal::{SigSet, Signal as Unix};
use ratatui::buffer::Buffer;
use ratatui::layout::{Position, Rect, Size};
use tokio::runtime;

/// Lines that are shown.
const LINES_MAX: usize = 10;

fn main() -> ExitCode {
    match run() {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            let is_use = error.downcast_ref::<TerminalError>().is_some();
            let text = Chain(error.as_ref()).to_string();
            // Where not even this can be written, nobody reads it.
            let _ = io::Write::write_all(&mut io::stderr(), format!("{text}\n").as_bytes());
            ExitCode::from(if is_use { TerminalError::EXIT_CODE } else { 1 })
        }
    }
}

fn run() -> Result<u8, Box<dyn std::error::Error>> {
    let mut arguments = std::env::args_os().skip(1);
    let folder = PathBuf::from(arguments.next().ok_or("a folder for reports is needed")?);
    if arguments.next().is_some_and(|argument| argument == "--deaf") {
        // Before there are threads, which inherit it.
        SigSet::from(Unix::SIGHUP).thread_block()?;
    }
    let caps = Caps::from_env(&|name| std::env::var_os(name), &CapsOptions::default());
    let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
    let taken = Guard::take(&caps, folder)?;
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
                    guard.suspend()?;
                    screen.invalidate();
                    lines.push("back".to_owned());
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
                Some(Signal::Suspend) => {
                    guard.suspend()?;
                    screen.invalidate();
                }
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
