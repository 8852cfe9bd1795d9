//! What is typed, pasted and clicked, one after the other, until the terminal has gone.

use crossterm::event::{Event, EventStream, KeyEvent, KeyEventKind, MouseEvent};
use futures_util::StreamExt as _;
use ratatui::layout::Size;
use tokio::sync::watch;

/// Bytes of a pasted text; the rest of it is dropped.
pub const PASTE_BYTES_MAX: usize = 64 * 1024;

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

/// The terminal's input.
#[derive(Debug)]
pub struct Inputs {
    events: EventStream,
    gone: watch::Receiver<bool>,
}

impl Inputs {
    pub(super) fn new(gone: watch::Receiver<bool>) -> Self {
        Self { events: EventStream::new(), gone }
    }

    /// The next input. After [`Input::Gone`] there is nothing else. Nothing is lost when this is not
    /// waited for.
    pub async fn next(&mut self) -> Input {
        loop {
            // A terminal that has gone must not be read: that may never end.
            let event = tokio::select! {
                biased;
                _ = self.gone.wait_for(|gone| *gone) => return Input::Gone,
                event = self.events.next() => event,
            };
            match event {
                Some(Ok(event)) => {
                    if let Some(input) = of(event) {
                        return input;
                    }
                }
                Some(Err(_)) | None => return Input::Gone,
            }
        }
    }
}

/// What an event means here, if anything.
fn of(event: Event) -> Option<Input> {
    match event {
        Event::Key(key) if key.kind == KeyEventKind::Release => None,
        Event::Key(key) => Some(Input::Key(KeyEvent { kind: KeyEventKind::Press, ..key })),
        Event::Paste(text) => Some(Input::Paste(cut(text))),
        Event::Mouse(mouse) => Some(Input::Mouse(mouse)),
        Event::Resize(columns, rows) => Some(Input::Resize(Size::new(columns, rows))),
        Event::FocusGained | Event::FocusLost => None,
    }
}

fn cut(mut text: String) -> String {
    if text.len() > PASTE_BYTES_MAX {
        let end = (0..=PASTE_BYTES_MAX).rev().find(|at| text.is_char_boundary(*at));
        text.truncate(end.unwrap_or(0));
    }
    text
}

#[cfg(test)]
mod tests {
    use crossterm::event::{KeyCode, KeyModifiers};

    use super::*;

    #[test]
    fn a_key_counts_when_it_goes_down_and_while_it_is() {
        let key = |kind| KeyEvent::new_with_kind(KeyCode::Char('x'), KeyModifiers::NONE, kind);
        let pressed = Some(Input::Key(key(KeyEventKind::Press)));
        assert_eq!(of(Event::Key(key(KeyEventKind::Press))), pressed);
        assert_eq!(of(Event::Key(key(KeyEventKind::Repeat))), pressed);
        assert_eq!(of(Event::Key(key(KeyEventKind::Release))), None);
    }

    #[test]
    fn a_long_paste_is_cut_between_characters() {
        let text = format!("x{}", "ä".repeat(PASTE_BYTES_MAX));
        let Some(Input::Paste(pasted)) = of(Event::Paste(text)) else { panic!("no paste") };
        assert_eq!(pasted.len(), PASTE_BYTES_MAX - 1);
    }
}
