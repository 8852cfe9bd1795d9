//! One command: all that is known of it, and what its program wrote. While it lies open it follows
//! the command to its end.

use std::time::Duration;

use crossterm::event::{KeyCode, KeyEvent};
use fleet_core::api::{CommandState, CommandView};
use fleet_core::id::Uid;
use fleet_core::untrusted::Untrusted;

use super::{Command, PopupEnd, leaves};
use crate::cells::{cut, second, shown_line, wrapped};
use crate::effect::{Change, Request};
use crate::event::{Answer, Failed};
use crate::keys::{self, Scope};
use crate::layout;
use crate::state::deed::{self, Step};
use crate::state::{Desk, list};

/// Between two looks at a command that is not over: the stream tells of its end only.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// The same after a look that failed.
const RETRY_INTERVAL: Duration = Duration::from_secs(5);
/// Cells of a label with the blanks after it.
pub const LABEL_WIDTH: usize = 10;

/// One command.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// What it is about, safe to show.
    pub title: String,
    /// Its number; none before the server has given it.
    id: Option<Uid>,
    /// What the server is asked for, before it has a number.
    awaited: Option<(Uid, Change)>,
    view: Option<Box<CommandView>>,
    /// Why nothing newer is known.
    error: Option<String>,
    /// Whether what the program wrote has come.
    is_whole: bool,
    is_asked: bool,
    /// When the server was asked last.
    asked_at: Option<Duration>,
    /// The first line in sight.
    pub top: usize,
    lines: Vec<Line>,
    width: u16,
}

/// A line, safe to show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Line {
    /// How far it is, and why.
    State(CommandState, String),
    /// A label, empty where one goes on, and words.
    Fact(&'static str, String),
    /// What stands above what the program wrote.
    Head(String),
    /// What the program wrote.
    Output(String),
    /// What went wrong here.
    Error(String),
}

impl Outcome {
    /// Of a command that the server is being asked for.
    pub fn awaited(title: String, step: &Step) -> Self {
        Self { awaited: Some((step.uid, step.change.clone())), ..Self::empty(title) }
    }

    /// Of a command that the server knows.
    pub fn of(view: CommandView) -> Self {
        let title = format!("{} on {}", deed::view_words(&view), view.device_id);
        Self { id: Some(view.id), view: Some(Box::new(view)), ..Self::empty(title) }
    }

    fn empty(title: String) -> Self {
        Self {
            title,
            id: None,
            awaited: None,
            view: None,
            error: None,
            is_whole: false,
            is_asked: false,
            asked_at: None,
            top: 0,
            lines: Vec::new(),
            width: 0,
        }
    }

    /// Whether it is about the command with this number.
    pub fn is_of(&self, id: Uid) -> bool {
        self.id == Some(id)
    }

    /// The command, as far as it is known.
    pub fn view(&self) -> Option<&CommandView> {
        self.view.as_deref()
    }

    /// Everything there is to say.
    pub fn lines(&self) -> &[Line] {
        &self.lines
    }

    /// Whether it can be taken back.
    pub fn can_be_taken_back(&self) -> bool {
        let state = self.view().map(|view| view.state);
        matches!(state, Some(CommandState::Queued | CommandState::Sent))
    }

    /// Brings the lines up to date, and asks for what is missing.
    pub fn settle(&mut self, desk: &mut Desk) {
        let area = layout::help(desk.size);
        if self.width != area.width {
            self.width = area.width;
            self.write();
        }
        self.top = self.top.min(self.lines.len().saturating_sub(area.height.into()));
        let Some(id) = self.id else { return };
        let is_over = self.view().is_some_and(|view| view.state.is_over());
        if (is_over && self.is_whole) || self.is_asked || !desk.link.is_live() {
            return;
        }
        let pause = if self.error.is_some() { RETRY_INTERVAL } else { LOOK_INTERVAL };
        let now = desk.now.since_start;
        if self.asked_at.is_none_or(|at| now.saturating_sub(at) >= pause) {
            self.is_asked = true;
            self.asked_at = Some(now);
            desk.ask(Request::Command(id));
        }
    }

    /// Notes that an answer may never come.
    pub fn reconnected(&mut self) {
        self.is_asked = false;
        self.asked_at = None;
    }

    /// Takes the answer to what was asked for by a deed.
    pub fn given(&mut self, uid: Uid, change: &Change, answer: &Result<Answer, Failed>) {
        let is_it = self.awaited.as_ref().is_some_and(|it| it.0 == uid && it.1 == *change);
        let is_taken_back = matches!(change, Change::TakeBack(id) if self.id == Some(*id));
        if !is_it && !is_taken_back {
            return;
        }
        match answer {
            Ok(Answer::Command(view)) => {
                self.awaited = None;
                self.id = Some(view.id);
                self.view = Some(view.clone());
                self.is_whole = false;
                self.asked_at = None;
                self.error = None;
            }
            Ok(_) => {}
            Err(failed) => self.error = Some(failed.text.clone()),
        }
        self.write();
    }

    /// Takes the answer to a look.
    pub fn answered(&mut self, id: Uid, answer: Result<Answer, Failed>) {
        if self.id != Some(id) {
            return;
        }
        self.is_asked = false;
        match answer {
            Ok(Answer::Command(view)) => {
                let is_news = !self.is_whole || self.view.as_ref() != Some(&view);
                self.view = Some(view);
                self.is_whole = true;
                if is_news || self.error.take().is_some() {
                    self.write();
                }
            }
            Ok(_) => {}
            Err(failed) => {
                self.error = Some(failed.text);
                self.write();
            }
        }
    }

    pub(super) fn press(&mut self, key: &KeyEvent, desk: &mut Desk) -> PopupEnd {
        match key.code {
            KeyCode::Char('K') => {
                let view = self.view.clone();
                match view.and_then(|view| deed::take_back(&view, desk)) {
                    Some(Command::Do(plan)) => {
                        // It stays open: one wants to see whether that worked.
                        deed::carry_out(plan, desk);
                        PopupEnd::Stay
                    }
                    Some(command) => PopupEnd::Run(command),
                    None => PopupEnd::Stay,
                }
            }
            KeyCode::Char('y') => {
                if let Some((what, text)) = self.copied() {
                    desk.copy(what, text);
                }
                PopupEnd::Stay
            }
            KeyCode::Left => PopupEnd::Close,
            _ if leaves(key) => PopupEnd::Close,
            _ => {
                if let Some(action) = keys::lookup(Scope::Device, key) {
                    let room = usize::from(layout::help(desk.size).height);
                    let tops = (self.lines.len() + 1).saturating_sub(room);
                    self.top = list::moved(action, self.top, tops, room).unwrap_or(self.top);
                }
                PopupEnd::Stay
            }
        }
    }

    /// What the program wrote, or else how to find the command from a shell.
    fn copied(&self) -> Option<(&'static str, String)> {
        let view = self.view()?;
        match view.output.as_ref().filter(|output| !output.raw().is_empty()) {
            Some(output) => {
                let lines: Vec<String> = output.raw().lines().map(shown_line).collect();
                Some(("output", lines.join("\n")))
            }
            None => Some(("command for the shell", format!("fleets command show {}", view.id))),
        }
    }

    /// Writes the lines.
    fn write(&mut self) {
        let width = usize::from(self.width);
        let mut lines = Vec::new();
        if let Some(error) = &self.error {
            lines.extend(wrapped(error, width).into_iter().map(Line::Error));
        }
        match &self.view {
            None if self.error.is_none() => {
                lines.push(Line::Fact("", "asking the server …".to_owned()));
            }
            None => {}
            Some(view) => known(view, self.is_whole, width, &mut lines),
        }
        self.lines = lines;
    }
}

/// All that is known of a command.
fn known(view: &CommandView, is_whole: bool, width: usize, lines: &mut Vec<Line>) {
    let room = width.saturating_sub(LABEL_WIDTH);
    let state = |text| Line::State(view.state, text);
    lines.extend(wrapped(&view.why.to_string(), room).into_iter().take(1).map(state));
    let mut fact = |label: &'static str, text: String| {
        for (place, text) in wrapped(&text, room).into_iter().enumerate() {
            lines.push(Line::Fact(if place == 0 { label } else { "" }, text));
        }
    };
    let why = wrapped(&view.why.to_string(), room);
    if why.len() > 1 {
        fact("", why[1..].join(" "));
    }
    if view.state.is_over() {
        fact("over", second(view.state_at));
    } else {
        fact("since", second(view.state_at));
    }
    fact("command", deed::view_words(view));
    fact("given", format!("{} by {}", second(view.created_at), view.author));
    fact("until", format!("{}; then it is too late to begin", second(view.expires_at)));
    if let Some(code) = view.exit_code {
        fact("exit code", code.to_string());
    }
    fact("number", view.id.to_string());
    let output = view.output.as_ref().map(Untrusted::raw).filter(|text| !text.is_empty());
    let head = match output {
        Some(text) => {
            let count = text.lines().count();
            let lines = if count == 1 { "line" } else { "lines" };
            let left_out = match view.output_left_out {
                0 => String::new(),
                bytes => format!(", {bytes} more bytes were not kept"),
            };
            format!("output: {count} {lines}{left_out}")
        }
        None if !is_whole => "output: asking the server …".to_owned(),
        None if view.state.is_over() => "no output".to_owned(),
        None => "no output yet".to_owned(),
    };
    lines.push(Line::Fact("", String::new()));
    lines.push(Line::Head(head));
    for line in output.into_iter().flat_map(str::lines) {
        lines.extend(
            cut(&shown_line(line), width).into_iter().map(|cut| Line::Output(cut.to_owned())),
        );
    }
}
