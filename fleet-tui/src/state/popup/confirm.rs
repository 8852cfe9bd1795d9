//! A question that takes a deliberate answer. Nothing is agreed to by the key that opened it, nor
//! by Enter alone: Cancel has the focus, and what is grave wants a number or a name typed.

use crossterm::event::{KeyCode, KeyEvent};

use super::{Command, Popup, PopupEnd};
use crate::effect::Request;
use crate::state::Desk;
use crate::state::deed::Deed;
use crate::widgets::field::Field;

/// Characters of an answer that can be typed.
const ANSWER_CHARS_MAX: usize = 80;

/// A question.
#[derive(Clone, Debug)]
pub struct Confirm {
    /// What is asked.
    pub title: String,
    /// What to know before: a label, empty for those that go on, and words that are safe to show.
    pub lines: Vec<(&'static str, String)>,
    /// The button that agrees.
    pub verb: String,
    /// What it takes to agree.
    pub lock: Lock,
    /// Which button has the focus.
    pub focus: Focus,
    /// The answer, where one is typed.
    pub answer: Field,
    /// Whether it changes something on the server, so that it is refused while nothing can be.
    pub changes: bool,
    /// What would be done to devices, if that is what it is about.
    pub deed: Option<Deed>,
    /// What has to be known before anybody can agree.
    awaited: Option<Box<Request>>,
    /// Why that is not to be known.
    problem: Option<String>,
    command: Command,
    /// What it lies over, which is there again when the answer is no.
    over: Option<Box<Popup>>,
}

/// What it takes to agree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lock {
    /// The key `y`, or the button.
    Yes,
    /// This text, typed.
    Typed {
        /// What to type.
        text: String,
        /// What that is, as the question calls it.
        name: &'static str,
    },
}

/// A button.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Focus {
    /// The one that does nothing.
    Cancel,
    /// The one that agrees.
    Agree,
}

impl Confirm {
    /// A question that does `command` when it is agreed to.
    pub fn new(
        title: impl Into<String>,
        verb: impl Into<String>,
        lock: Lock,
        command: Command,
    ) -> Self {
        Self {
            title: title.into(),
            lines: Vec::new(),
            verb: verb.into(),
            lock,
            focus: Focus::Cancel,
            answer: Field::new(ANSWER_CHARS_MAX),
            changes: false,
            deed: None,
            awaited: None,
            problem: None,
            command,
            over: None,
        }
    }

    /// The question with one more thing to know.
    #[must_use]
    pub fn line(mut self, label: &'static str, text: impl Into<String>) -> Self {
        self.lines.push((label, text.into()));
        self
    }

    /// The question as one whose answer changes something on the server.
    #[must_use]
    pub fn changing(self) -> Self {
        Self { changes: true, ..self }
    }

    /// The question as one that nobody can agree to before this is answered.
    #[must_use]
    pub fn awaiting(self, request: Request) -> Self {
        Self { awaited: Some(Box::new(request)), ..self }
    }

    /// The question as one that lies over something.
    #[must_use]
    pub fn over(self, popup: Option<Popup>) -> Self {
        Self { over: popup.map(Box::new), ..self }
    }

    /// What it lies over.
    pub(super) fn lies_over(&self) -> Option<&Popup> {
        self.over.as_deref()
    }

    /// What is there again when the answer is no.
    pub(super) fn covered(self) -> Option<Popup> {
        self.over.map(|popup| *popup)
    }

    /// Whether it asks whether to quit.
    pub fn asks_to_quit(&self) -> bool {
        matches!(self.command, Command::Quit)
    }

    /// Whether it waits for the answer to this.
    pub fn awaits(&self, request: &Request) -> bool {
        self.awaited.as_deref() == Some(request)
    }

    /// Notes why that is not to be known, so that nobody can agree.
    pub fn fail(&mut self, problem: String) {
        self.problem = Some(problem);
    }

    /// Takes the place of a question that waited; what was typed meanwhile stays.
    pub fn answer(&mut self, asked: Self) {
        let answer = std::mem::replace(&mut self.answer, Field::new(ANSWER_CHARS_MAX));
        *self = Self { answer, ..asked };
        self.focus =
            if self.is_unlocked() && self.lock != Lock::Yes { Focus::Agree } else { Focus::Cancel };
    }

    /// Whether what had to be typed stands there, and all is known.
    pub fn is_unlocked(&self) -> bool {
        if self.awaited.is_some() {
            return false;
        }
        match &self.lock {
            Lock::Yes => true,
            Lock::Typed { text, .. } => self.answer.text().trim() == text,
        }
    }

    /// Why nothing can be agreed to now, if so.
    pub fn why_not(&self, desk: &Desk) -> Option<&str> {
        let reason = desk.why_not_change().filter(|_| self.changes);
        let waits = self.awaited.as_ref().map(|_| "the server is asked what that would be …");
        reason.or(self.problem.as_deref()).or(waits)
    }

    pub(super) fn press(&mut self, key: &KeyEvent, desk: &mut Desk) -> PopupEnd {
        match (key.code, &self.lock) {
            (KeyCode::Esc, _) => PopupEnd::Close,
            (KeyCode::Tab | KeyCode::BackTab, _) | (KeyCode::Left | KeyCode::Right, Lock::Yes) => {
                self.focus = match self.focus {
                    Focus::Cancel => Focus::Agree,
                    Focus::Agree => Focus::Cancel,
                };
                PopupEnd::Stay
            }
            (KeyCode::Enter, Lock::Yes) if self.focus == Focus::Cancel => PopupEnd::Close,
            (KeyCode::Enter, Lock::Typed { .. }) if self.is_cancelled() => PopupEnd::Close,
            (KeyCode::Enter, _) => self.agree(desk),
            (KeyCode::Char('y'), Lock::Yes) if key.modifiers.is_empty() => self.agree(desk),
            (KeyCode::Char('n' | 'q'), Lock::Yes) => PopupEnd::Close,
            (_, Lock::Yes) => PopupEnd::Stay,
            (_, Lock::Typed { .. }) => {
                self.answer.key(*key);
                // What is typed can only be meant for the button that it unlocks.
                self.focus = if self.is_unlocked() { Focus::Agree } else { Focus::Cancel };
                PopupEnd::Stay
            }
        }
    }

    pub(super) fn paste(&mut self, text: &str) -> bool {
        let takes = self.lock != Lock::Yes;
        if takes {
            self.answer.insert(text);
            self.focus = if self.is_unlocked() { Focus::Agree } else { Focus::Cancel };
        }
        takes
    }

    /// Whether somebody went to Cancel after everything was typed.
    fn is_cancelled(&self) -> bool {
        self.is_unlocked() && self.focus == Focus::Cancel
    }

    fn agree(&mut self, desk: &mut Desk) -> PopupEnd {
        if !self.is_unlocked() {
            return PopupEnd::Stay;
        }
        match self.why_not(desk).map(str::to_owned) {
            Some(reason) => {
                desk.warn(format!("not done: {reason}"));
                PopupEnd::Stay
            }
            None => PopupEnd::Run(self.command.clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{app, key, live_app};

    fn typed() -> Confirm {
        let lock = Lock::Typed { text: "214".to_owned(), name: "the number of devices" };
        Confirm::new("Accept 214 devices", "accept 214", lock, Command::Back).changing()
    }

    fn end(confirm: &mut Confirm, keys: &str, desk: &mut Desk) -> PopupEnd {
        let mut end = PopupEnd::Stay;
        for name in keys.split(' ') {
            end = confirm.press(&key(name), desk);
        }
        end
    }

    #[test]
    fn enter_alone_agrees_to_nothing() {
        let mut desk = live_app().desk;
        let mut yes = Confirm::new("Quit?", "quit", Lock::Yes, Command::Quit);
        assert!(matches!(end(&mut yes.clone(), "Enter", &mut desk), PopupEnd::Close));
        assert!(matches!(end(&mut yes.clone(), "x", &mut desk), PopupEnd::Stay));
        assert!(matches!(end(&mut yes.clone(), "^y", &mut desk), PopupEnd::Stay));
        assert!(matches!(end(&mut yes.clone(), "y", &mut desk), PopupEnd::Run(Command::Quit)));
        assert!(matches!(end(&mut yes, "Tab Enter", &mut desk), PopupEnd::Run(Command::Quit)));
    }

    #[test]
    fn a_number_has_to_match() {
        let mut desk = live_app().desk;
        for (keys, is_done) in [
            ("Enter", false),
            ("y", false),
            ("2 1 Enter", false),
            ("2 1 4 5 Enter", false),
            ("2 1 4 Enter", true),
        ] {
            let found = end(&mut typed(), keys, &mut desk);
            assert_eq!(matches!(found, PopupEnd::Run(Command::Back)), is_done, "{keys}");
        }
        assert!(matches!(end(&mut typed(), "2 1 4 Tab Enter", &mut desk), PopupEnd::Close));
    }

    #[test]
    fn nothing_is_changed_while_the_server_is_away() {
        let mut desk = app().desk;
        let mut confirm = typed();
        assert!(matches!(end(&mut confirm, "2 1 4 Enter", &mut desk), PopupEnd::Stay));
        assert!(
            desk.notice
                .as_ref()
                .is_some_and(|(notice, _)| notice.text.contains("the server is away"))
        );
    }
}
