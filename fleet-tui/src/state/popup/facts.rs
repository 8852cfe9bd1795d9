//! All that is known of something: a label and words, line by line.

use crossterm::event::{KeyCode, KeyEvent};

use super::{PopupEnd, leaves};
use crate::cells::wrapped;
use crate::keys::{self, Scope};
use crate::layout;
use crate::state::{Desk, list};

/// Cells of the inside, where there is room.
pub const FACTS_WIDTH: u16 = 76;
/// Cells of a label with the blanks after it.
pub const FACTS_LABEL_WIDTH: u16 = 11;

/// All that is known of something.
#[derive(Clone, Debug)]
pub struct Facts {
    /// What it is about, safe to show.
    pub title: String,
    all: Vec<(&'static str, String)>,
    /// The first line in sight.
    pub top: usize,
}

impl Facts {
    /// Labels, empty where one goes on, and words that are safe to show.
    pub fn new(title: String, all: Vec<(&'static str, String)>) -> Self {
        Self { title, all, top: 0 }
    }

    /// The lines on a terminal of this width: labels and words.
    pub fn lines(&self, terminal: u16) -> Vec<(&'static str, String)> {
        // The frame and its blanks take four cells.
        let width = FACTS_WIDTH.min(terminal.saturating_sub(4)).saturating_sub(FACTS_LABEL_WIDTH);
        let mut lines = Vec::new();
        for (label, words) in &self.all {
            for (place, text) in wrapped(words, width.into()).into_iter().enumerate() {
                lines.push((if place == 0 { *label } else { "" }, text));
            }
        }
        lines
    }

    pub(super) fn press(&mut self, key: &KeyEvent, desk: &Desk) -> PopupEnd {
        match key.code {
            KeyCode::Enter | KeyCode::Left => PopupEnd::Close,
            _ if leaves(key) => PopupEnd::Close,
            _ => {
                if let Some(action) = keys::lookup(Scope::Fleet, key) {
                    let height = layout::popup_rows(desk.size);
                    let tops = (self.lines(desk.size.width).len() + 1).saturating_sub(height);
                    self.top = list::moved(action, self.top, tops, height).unwrap_or(self.top);
                }
                PopupEnd::Stay
            }
        }
    }
}
