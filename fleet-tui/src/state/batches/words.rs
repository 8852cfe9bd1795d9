//! What is known of a batch, in words and numbers.

use fleet_core::api::{BatchState, BatchView, MemberState};
use fleet_core::command::Command as DeviceCommand;
use fleet_core::untrusted::{Untrusted, escaped};

use super::orders::count;
use crate::event::Notice;
use crate::state::popup::{Command, Menu, MenuItem};

/// Characters of what a batch does.
const WORDS_CHARS_MAX: usize = 200;

/// What is known of a batch. What may be long is kept as the words that are shown.
#[derive(Clone, Debug, PartialEq)]
pub struct Known {
    /// The batch, without arguments and configuration.
    pub view: BatchView,
    /// What it does, safe to show.
    pub words: String,
}

impl Known {
    pub(super) fn new(mut view: BatchView) -> Self {
        let words = words(&view);
        view.args = Vec::new();
        view.config = None;
        Self { view, words }
    }
}

/// Whether nobody can have it go on any more.
pub fn is_over(view: &BatchView) -> bool {
    matches!(view.state, BatchState::Done | BatchState::Cancelled)
}

/// Whether something of it is to come: devices that are at it go on when the rest is called off.
pub fn goes_on(view: &BatchView) -> bool {
    !is_over(view) || count(view, &[MemberState::Running, MemberState::Waiting]) > 0
}

/// How many of its devices are done, for better or worse; how many failed; how many are left.
pub fn progress(view: &BatchView) -> [usize; 3] {
    let failed = count(view, &[MemberState::Failed, MemberState::Unknown]);
    let over = view.counts.iter().filter(|(state, _)| state.is_over());
    let over: usize = over.map(|(_, count)| count).sum();
    [over, failed, view.total.saturating_sub(over)]
}

/// How many devices have come how far.
pub fn counted(view: &BatchView) -> String {
    let counts = view.counts.iter().filter(|(_, count)| **count > 0);
    let counts: Vec<_> = counts.map(|(state, count)| format!("{count} {}", state.word())).collect();
    counts.join(", ")
}

/// How many begin when, and what stops that: `5 first, then 20 at once; pauses at 5 failures`.
pub fn pace(canary: usize, window: usize, max_fail: usize) -> String {
    let canary = match canary {
        0 => String::new(),
        canary => format!("{canary} first, then "),
    };
    let failures = if max_fail == 1 { "failure" } else { "failures" };
    format!("{canary}{window} at once; pauses at {max_fail} {failures}")
}

/// So many devices, in words.
pub fn devices(count: usize) -> String {
    if count == 1 { "1 device".to_owned() } else { format!("{count} devices") }
}

/// What a batch does, safe to show.
fn words(view: &BatchView) -> String {
    let words = match (&view.command, &view.config) {
        (Some(word), _) => {
            let args: Vec<String> = view.args.iter().map(|arg| arg.raw().to_owned()).collect();
            match DeviceCommand::read(word.raw(), &args) {
                Ok(command) => command.to_string(),
                // What only a later release knows.
                Err(_) => escaped(&[&[word.raw().to_owned()], &*args].concat().join(" ")),
            }
        }
        (None, Some(patch)) => format!("configuration {}", Untrusted::new(patch.to_string())),
        (None, None) => String::new(),
    };
    match words.char_indices().nth(WORDS_CHARS_MAX) {
        Some((end, _)) => format!("{}…", &words[..end]),
        None => words,
    }
}

/// What whoever began a batch should hear of it.
pub(super) fn news(known: &Known) -> Option<Notice> {
    let view = &known.view;
    let what = format!("{} on {}", known.words, devices(view.total));
    let [_, failed, _] = progress(view);
    match view.state {
        BatchState::Paused => Some(Notice {
            text: format!("{what} paused: {}; 4 shows it", view.why),
            is_error: true,
        }),
        BatchState::Done => {
            let succeeded = count(view, &[MemberState::Succeeded]);
            let is_error = failed > 0 || succeeded == 0;
            let more = if is_error { "; 4 shows why" } else { "" };
            Some(Notice { text: format!("{what}: {}{more}", counted(view)), is_error })
        }
        BatchState::Cancelled => {
            let text = format!("{what} was cancelled: {}", counted(view));
            Some(Notice { text, is_error: false })
        }
        BatchState::Running | BatchState::Later(_) => None,
    }
}

pub(super) fn copied(key: char, text: &'static str, copied: String) -> MenuItem {
    let command = Some(Command::Copy(text, copied.clone()));
    MenuItem { key, text: text.to_owned(), detail: copied, command }
}

/// What can be copied of a batch.
pub(super) fn copy_menu(known: &Known) -> Menu {
    let view = &known.view;
    let mut items = vec![
        copied('i', "batch id", view.id.to_string()),
        copied('w', "what it does", known.words.clone()),
        copied('n', "counts", format!("of {}: {}", view.total, counted(view))),
        copied('c', "command for the shell", format!("fleets batch show {}", view.id)),
    ];
    if let Some(filter) = &view.filter {
        items.push(copied('f', "filter", filter.to_string()));
    }
    Menu::new(format!("Copy of batch {}", view.id), items)
}
