//! What is typed, pasted and clicked, and the size of the window, until the terminal has gone.
//!
//! A thread reads; it waits for bytes and for the end at once, so that neither a terminal that has
//! gone nor half a key keeps anything from ending.

use std::io;
use std::os::fd::AsFd as _;
use std::thread;

use crossterm::event::{KeyEvent, MouseEvent};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::read;
use ratatui::layout::Size;
use tokio::sync::{mpsc, watch};

use super::decode::Decoder;
use super::watch::Condition;

/// Bytes of a pasted text; the rest of it is dropped.
pub const PASTE_BYTES_MAX: usize = 64 * 1024;
/// Inputs that wait to be taken; then the terminal has to wait.
const INPUTS_MAX: usize = 256;
const READ_BYTES: usize = 4 * 1024;

/// Something that the person at the terminal did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// Pressed a key, or kept it pressed.
    Key(KeyEvent),
    /// Pasted a text, which is not keys.
    Paste(String),
    /// Used the mouse.
    Mouse(MouseEvent),
    /// Changed the window's size.
    Resize(Size),
    /// Went: the terminal is no more.
    Gone,
}

/// The terminal's input. Reading ends when this is dropped.
#[derive(Debug)]
pub struct Inputs {
    read: mpsc::Receiver<Input>,
    condition: watch::Receiver<Condition>,
    resizes: u64,
    // The reader hears it close.
    _stop: io::PipeWriter,
}

impl Inputs {
    /// Starts to read.
    pub(super) fn start(condition: watch::Receiver<Condition>) -> io::Result<Self> {
        let (stopped, stop) = io::pipe()?;
        let (sender, read) = mpsc::channel(INPUTS_MAX);
        thread::Builder::new().name("input".into()).spawn(move || {
            // The terminal has gone, or nobody listens: either way the channel closes.
            let _ = run(&stopped, &sender);
        })?;
        Ok(Self { read, condition, resizes: 0, _stop: stop })
    }

    /// The next input. After [`Input::Gone`] there is nothing else. Nothing is lost when this is not
    /// waited for.
    pub async fn next(&mut self) -> Input {
        loop {
            let condition = *self.condition.borrow_and_update();
            if condition.is_gone {
                return Input::Gone;
            }
            if condition.resizes != self.resizes {
                self.resizes = condition.resizes;
                if let Ok((columns, rows)) = crossterm::terminal::size() {
                    return Input::Resize(Size::new(columns, rows));
                }
            }
            tokio::select! {
                biased;
                changed = self.condition.changed() => if changed.is_err() {
                    return Input::Gone;
                },
                input = self.read.recv() => return input.unwrap_or(Input::Gone),
            }
        }
    }
}

/// Reads until the terminal has gone, `stopped` closes, or nobody listens.
fn run(stopped: &io::PipeReader, inputs: &mpsc::Sender<Input>) -> io::Result<()> {
    let stdin = io::stdin();
    let mut decoder = Decoder::default();
    let mut bytes = [0; READ_BYTES];
    loop {
        let timeout = decoder.patience().map_or(PollTimeout::NONE, |patience| {
            PollTimeout::try_from(patience).unwrap_or(PollTimeout::ZERO)
        });
        let mut fds = [
            PollFd::new(stdin.as_fd(), PollFlags::POLLIN),
            PollFd::new(stopped.as_fd(), PollFlags::POLLIN),
        ];
        let found = match poll(&mut fds, timeout) {
            Ok(0) => decoder.settle(),
            Ok(_) if fds[1].any() != Some(false) => return Ok(()),
            Ok(_) => match read(&stdin, &mut bytes) {
                Ok(0) => return Ok(()),
                Ok(count) => decoder.push(&bytes[..count]),
                Err(Errno::EINTR | Errno::EAGAIN) => continue,
                Err(error) => return Err(error.into()),
            },
            Err(Errno::EINTR) => continue,
            Err(error) => return Err(error.into()),
        };
        for input in found {
            if inputs.blocking_send(input).is_err() {
                return Ok(());
            }
        }
    }
}
