//! What lies over a screen and takes the keys while it does.

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use fleet_core::field::{Field, SortKey};
use fleet_core::id::Uid;
use fleet_core::identity::Fingerprint;

use super::deed::Deed;
use super::{App, Desk};
use crate::effect::Change;
use crate::keys::{Action, Scope};

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
    /// Sort the fleet.
    Sort(SortKey),
    /// Show these columns of the fleet.
    Columns(Vec<Field>),
    /// Copy a text; the first words say what it is.
    Copy(&'static str, String),
    /// Leave this server for the one of a context.
    Context(String),
    /// Ask how and whether something is to be done with these devices.
    Begin(Deed, Vec<Uid>),
    /// Do it: somebody has agreed.
    Do(Change, Vec<Uid>),
    /// Show another popup.
    Popup(Box<Popup>),
    /// Configure these devices that were seen on the network.
    Provision(Vec<Fingerprint>),
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
}

/// The columns of the fleet's table, to choose from.
#[derive(Clone, Debug)]
pub struct Columns {
    /// Those that are shown.
    pub shown: Vec<Field>,
}

impl Columns {
    /// The columns as they are.
    pub fn new(shown: &[Field]) -> Self {
        Self { shown: shown.to_vec() }
    }
}

/// The keys of a screen.
pub fn help(_scope: Scope) -> Popup {
    Popup::Menu(Menu::new("Help", Vec::new()))
}

/// Commands by name.
pub fn palette(_app: &App) -> Popup {
    Popup::Menu(Menu::new(":", Vec::new()))
}

/// Asks whether to quit.
pub fn quit() -> Popup {
    let command = Some(Command::Quit);
    let item = MenuItem { key: 'y', text: "quit".to_owned(), detail: String::new(), command };
    Popup::Menu(Menu::new("Quit? Nothing on the server stops.", vec![item]))
}

/// Things to choose from, each with a letter.
#[derive(Clone, Debug)]
pub struct Menu {
    /// What it is about.
    pub title: String,
    /// The things.
    pub items: Vec<MenuItem>,
    /// Where the cursor is.
    pub cursor: usize,
}

/// One of the things of a menu.
#[derive(Clone, Debug)]
pub struct MenuItem {
    /// The letter that chooses it.
    pub key: char,
    /// What it is called.
    pub text: String,
    /// More about it; why it cannot be chosen, if so.
    pub detail: String,
    /// What it does; nothing if it cannot be chosen now.
    pub command: Option<Command>,
}

impl Popup {
    /// Takes a key.
    pub fn press(&mut self, key: &KeyEvent, desk: &mut Desk) -> PopupEnd {
        match self {
            Self::Menu(menu) => menu.press(key, desk),
            Self::Columns(_) => PopupEnd::Close,
        }
    }

    /// Takes pasted text. False if there is no place for it.
    pub fn paste(&mut self, _text: &str) -> bool {
        match self {
            Self::Menu(_) | Self::Columns(_) => false,
        }
    }
}

impl Menu {
    /// A menu with the cursor on its first thing.
    pub fn new(title: impl Into<String>, items: Vec<MenuItem>) -> Self {
        Self { title: title.into(), items, cursor: 0 }
    }

    fn press(&mut self, key: &KeyEvent, desk: &mut Desk) -> PopupEnd {
        let ctrl = key.modifiers.contains(KeyModifiers::CONTROL);
        match key.code {
            KeyCode::Esc | KeyCode::Left => PopupEnd::Close,
            KeyCode::Char('c') if ctrl => PopupEnd::Run(Command::Quit),
            KeyCode::Down => self.step(1),
            KeyCode::Up => self.step(-1),
            KeyCode::Char('n') if ctrl => self.step(1),
            KeyCode::Char('p') if ctrl => self.step(-1),
            KeyCode::Enter => self.choose(self.cursor, desk),
            KeyCode::Char(letter) => match self.items.iter().position(|item| item.key == letter) {
                Some(place) => self.choose(place, desk),
                None => PopupEnd::Stay,
            },
            _ => PopupEnd::Stay,
        }
    }

    fn step(&mut self, by: isize) -> PopupEnd {
        let last = self.items.len().saturating_sub(1);
        self.cursor = self.cursor.saturating_add_signed(by).min(last);
        PopupEnd::Stay
    }

    fn choose(&mut self, place: usize, desk: &mut Desk) -> PopupEnd {
        let Some(item) = self.items.get(place) else { return PopupEnd::Stay };
        self.cursor = place;
        match &item.command {
            Some(command) => PopupEnd::Run(command.clone()),
            None => {
                desk.say(item.detail.clone());
                PopupEnd::Stay
            }
        }
    }
}
