//! What lies over a screen and takes the keys while it does.

mod columns;
mod confirm;
mod facts;
mod form;
mod help;
mod key_form;
mod menu;
mod new_key;
mod notices;
mod outcome;
mod palette;

use std::time::Duration;

use crossterm::event::{KeyCode, KeyEvent};
use fleet_core::api::BatchRequest;
use fleet_core::field::{Field, SortKey};
use fleet_core::id::Uid;

use super::Desk;
use super::api_keys::{KeyChange, KeySort};
use super::deed::{Chosen, Deed, Plan};
use super::discover::Order;
use crate::effect::BatchChange;
use crate::keys::{self, Action, Scope};
use crate::theme::ThemeName;
pub use columns::Columns;
pub use confirm::{Confirm, Focus, Lock};
pub use facts::{FACTS_LABEL_WIDTH, FACTS_WIDTH, Facts};
pub use form::Form;
pub use help::{Help, help};
pub use key_form::{KeyForm, KeyPlace};
pub use menu::{Menu, MenuItem};
pub use new_key::NewKey;
pub use notices::Notices;
pub use outcome::{LABEL_WIDTH, Line, Outcome};
pub use palette::{Entry, Palette, VERBS, palette};

/// What a menu, a dialog or the palette can ask for.
#[derive(Clone, Debug)]
pub enum Command {
    /// As if its key had been pressed.
    Act(Action),
    /// Open a device.
    Open(Uid),
    /// Leave the screen.
    Back,
    /// Show the fleet through a filter.
    Filter(String),
    /// Show the screen's list through a filter.
    Narrow(String),
    /// Sort the list.
    Sort(SortKey),
    /// Show these columns of the fleet.
    Columns(Vec<Field>),
    /// Copy a text; the first words say what it is.
    Copy(&'static str, String),
    /// Leave this server for the one of a context.
    Context(String),
    /// Look like this.
    Theme(ThemeName),
    /// Ask how and whether something is to be done with these devices.
    Begin(Deed, Chosen),
    /// Do it: somebody has agreed.
    Do(Plan),
    /// Show another popup.
    Popup(Box<Popup>),
    /// Configure these devices that were seen on the network.
    Provision(Order),
    /// Open a batch.
    OpenBatch(Uid),
    /// Open a device where one sees what it is to do, at a command if there is one.
    OpenDoing {
        /// Which device.
        device: Uid,
        /// Which command.
        command: Option<Uid>,
        /// Whether it is about its configuration.
        is_config: bool,
    },
    /// Have other lines of the open device's log come.
    Logs(String),
    /// Open a device at its log, with lines to choose.
    ShowLogs {
        /// Which device.
        device: Uid,
        /// Which lines, as they are typed.
        lines: String,
    },
    /// Ask whether a device's configuration is to be as it was at a version.
    GoBack {
        /// Which device.
        device: Uid,
        /// Which version.
        to: u64,
    },
    /// Show the devices of the open batch that are in some states, or all.
    ShowMembers(Option<usize>),
    /// Begin a batch: somebody has agreed.
    BeginBatch(Box<BatchRequest>),
    /// Say what can still be done about a batch that was begun here.
    TellLeft(Uid),
    /// Ask whether a batch is to go another way.
    AskBatch(Uid, BatchChange),
    /// Have it do so: somebody has agreed.
    ChangeBatch(Uid, BatchChange),
    /// Do the same again to so many devices of it that failed: somebody has agreed.
    RetryBatch(Uid, usize),
    /// Sort the keys to the server.
    SortKeys(KeySort),
    /// Ask for what becomes of the key with this id.
    BeginKey(String, KeyChange),
    /// End the key with this id: somebody has agreed.
    RevokeKey(String),
    /// The end.
    Quit,
}

/// What becomes of a popup after a key.
#[derive(Debug)]
pub enum PopupEnd {
    /// It stays.
    Stay,
    /// It goes.
    Close,
    /// It goes, and this is done.
    Run(Command),
}

/// What lies over a screen.
#[derive(Clone, Debug)]
pub enum Popup {
    /// Things to choose from.
    Menu(Menu),
    /// The columns of the fleet's table.
    Columns(Columns),
    /// A question that takes a deliberate answer.
    Confirm(Confirm),
    /// All that is known of something.
    Facts(Facts),
    /// A line to fill in.
    Form(Form),
    /// The keys, the filters, the glyphs.
    Help(Help),
    /// What a new key is to be.
    KeyForm(KeyForm),
    /// A key in full, this once.
    NewKey(NewKey),
    /// What was said.
    Notices(Notices),
    /// One command and what came of it.
    Outcome(Outcome),
    /// Commands by name.
    Palette(Palette),
}

/// Asks whether to quit, although something may still be under way here, or be lost with what is
/// shown.
pub fn quit(under_way: Option<String>, lost: Option<&str>, over: Option<Popup>) -> Popup {
    let question = Confirm::new("Quit?", "quit", Lock::Yes, Command::Quit).over(over);
    let question = match under_way {
        None => question.line("", "Nothing on the server stops."),
        Some(job) => question
            .line("", "What runs on the server goes on there.")
            .line("", format!("Not finished here: {job}. The others would be left.")),
    };
    Popup::Confirm(match lost {
        None => question,
        Some(words) => question.line("", words),
    })
}

impl Popup {
    /// Takes a key.
    pub fn press(&mut self, key: &KeyEvent, desk: &mut Desk) -> PopupEnd {
        match self {
            Self::Menu(menu) => menu.press(key, desk),
            Self::Columns(columns) => columns.press(key, desk),
            Self::Confirm(confirm) => confirm.press(key, desk),
            Self::Facts(facts) => facts.press(key, desk),
            Self::Form(form) => form.press(key, desk),
            Self::KeyForm(form) => form.press(key, desk),
            Self::NewKey(new) => new.press(key, desk),
            Self::Help(help) => help.press(key, desk),
            Self::Notices(notices) => notices.press(key, desk),
            Self::Outcome(outcome) => outcome.press(key, desk),
            Self::Palette(palette) => palette.press(key, desk),
        }
    }

    /// Whether it is a new key, or lies over one.
    pub fn shows_key(&self) -> bool {
        match self {
            Self::NewKey(_) => true,
            Self::Confirm(confirm) => confirm.lies_over().is_some_and(Self::shows_key),
            _ => false,
        }
    }

    /// What is there when this has closed.
    pub fn uncovered(self, now: Duration) -> Option<Self> {
        let Self::Confirm(confirm) = self else { return None };
        let mut popup = confirm.covered();
        if let Some(Self::NewKey(new)) = &mut popup {
            new.shown_again(now);
        }
        popup
    }

    /// Takes pasted text. False if there is no place for it.
    pub fn paste(&mut self, text: &str, desk: &Desk) -> bool {
        match self {
            Self::Confirm(confirm) => confirm.paste(text),
            Self::Form(form) => form.paste(text),
            Self::KeyForm(form) => form.paste(text),
            Self::Palette(palette) => palette.paste(text, desk),
            Self::Menu(_)
            | Self::Columns(_)
            | Self::Facts(_)
            | Self::Help(_)
            | Self::NewKey(_)
            | Self::Notices(_)
            | Self::Outcome(_) => false,
        }
    }
}

/// Where a key moves a cursor in a list that a popup shows.
fn moved(key: &KeyEvent, cursor: usize, len: usize, height: usize) -> Option<usize> {
    let action = keys::lookup(Scope::Fleet, key)?;
    super::list::moved(action, cursor, len, height)
}

/// Whether a key leaves a popup in which nothing is typed.
fn leaves(key: &KeyEvent) -> bool {
    matches!(key.code, KeyCode::Esc | KeyCode::Char('q'))
}
