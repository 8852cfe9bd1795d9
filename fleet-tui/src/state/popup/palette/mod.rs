//! Commands by name. What is typed is completed as one types; what cannot be read stays as it is,
//! with what is wrong beside it.

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use fleet_core::field::{Field, SortKey};
use fleet_core::filter::{Filter, Words};
use fleet_core::untrusted::{Untrusted, escaped};

use super::{Command, Menu, MenuItem, Popup, PopupEnd, help};
use crate::keys::{self, Scope};
use crate::state::deed::Deed;
use crate::state::{App, Desk, Screen, deed};
use crate::theme::ThemeName;
use crate::widgets::field::{self, FieldOutcome};

/// Characters of a command.
const COMMAND_CHARS_MAX: usize = 500;
/// Completions that are listed.
const ENTRIES_MAX: usize = 50;

/// A command that is not just a key's.
#[derive(Clone, Copy, Debug)]
pub struct Verb {
    /// Its name.
    pub name: &'static str,
    /// What follows it, in capitals as in the manual; empty if nothing does.
    pub argument: &'static str,
    /// What it does.
    pub help: &'static str,
}

/// The commands that are not just a key's.
pub const VERBS: [Verb; 11] = [
    Verb { name: "device", argument: "ID", help: "open a device" },
    Verb { name: "fleet", argument: "FILTER", help: "the fleet through a filter" },
    Verb { name: "filter", argument: "FILTER", help: "filter what is shown" },
    Verb { name: "sort", argument: "KEY", help: "sort; -cpu has the highest first" },
    Verb {
        name: "restart",
        argument: "SERVICE",
        help: "restart a service; without one, the agent",
    },
    Verb { name: "logs", argument: "UNIT", help: "the log of a unit; without one, the agent's" },
    Verb { name: "exec", argument: "PROGRAM", help: "run a program on devices" },
    Verb {
        name: "batch",
        argument: "COMMAND",
        help: "have devices do it; before it canary=5 window=20 max-fail=5 offline=skip",
    },
    Verb { name: "context", argument: "NAME", help: "go to another server" },
    Verb { name: "theme", argument: "NAME", help: "look different" },
    Verb { name: "q", argument: "", help: "quit; nothing on the server stops" },
];

/// A line to type a command in, and what it may become.
#[derive(Clone, Debug)]
pub struct Palette {
    /// The line.
    pub field: field::Field,
    /// What it may become, the best first.
    pub entries: Vec<Entry>,
    /// How many more there are.
    pub more: usize,
    /// Which of them Enter takes.
    pub cursor: usize,
    /// What is wrong with the line.
    pub error: Option<String>,
    scope: Scope,
    /// What can be done with the chosen devices.
    deeds: Option<Menu>,
    /// How far back in the commands of before.
    back: usize,
}

/// Something that the line may become.
#[derive(Clone, Debug)]
pub struct Entry {
    /// What Tab makes of the line, safe to show.
    pub text: String,
    /// What it does.
    pub detail: String,
    /// The key that does the same.
    pub key: &'static str,
    /// What Enter does; nothing if more has to be typed, or if it cannot be done now.
    pub command: Option<Command>,
}

/// Commands by name.
pub fn palette(app: &App) -> Popup {
    let desk = &app.desk;
    let deeds = match desk.screen() {
        Screen::Fleet => app.fleet.actions_menu(desk),
        Screen::Pending => app.pending.actions_menu(desk),
        Screen::Device => app.device.as_ref().map(|device| deed::menu(vec![device.uid], desk)),
        Screen::Discover => Some(app.discover.actions_menu(desk)),
        Screen::Keys => Some(app.keys.actions_menu(desk)),
        Screen::Events | Screen::Batches | Screen::Batch => None,
    };
    let mut palette = Palette {
        field: field::Field::new(COMMAND_CHARS_MAX),
        entries: Vec::new(),
        more: 0,
        cursor: 0,
        error: None,
        scope: desk.screen().scope(),
        deeds,
        back: 0,
    };
    palette.complete(desk);
    Popup::Palette(palette)
}

impl Palette {
    pub(super) fn press(&mut self, key: &KeyEvent, desk: &mut Desk) -> PopupEnd {
        let is_control = key.modifiers.contains(KeyModifiers::CONTROL);
        match key.code {
            KeyCode::Esc => return PopupEnd::Close,
            KeyCode::Enter => return self.run(desk),
            KeyCode::Tab => {
                if let Some(entry) = self.entries.get(self.cursor) {
                    // What tells that there is more to say is no part of a name.
                    self.field.set(entry.text.trim_end_matches('…'));
                    self.complete(desk);
                }
            }
            KeyCode::Down => self.down(desk),
            KeyCode::Up => self.up(desk),
            KeyCode::Char('n') if is_control => self.down(desk),
            KeyCode::Char('p') if is_control => self.up(desk),
            KeyCode::Backspace if self.field.is_empty() => return PopupEnd::Close,
            _ => {
                if self.field.key(*key) == FieldOutcome::Edited {
                    self.back = 0;
                    self.complete(desk);
                }
            }
        }
        PopupEnd::Stay
    }

    pub(super) fn paste(&mut self, text: &str, desk: &Desk) -> bool {
        self.field.insert(text);
        self.complete(desk);
        true
    }

    fn down(&mut self, desk: &Desk) {
        if self.back > 0 {
            self.recall(self.back - 1, desk);
        } else {
            self.cursor = (self.cursor + 1).min(self.entries.len().saturating_sub(1));
        }
    }

    /// Above the first completion are the commands of before.
    fn up(&mut self, desk: &Desk) {
        if self.cursor > 0 {
            self.cursor -= 1;
        } else {
            self.recall((self.back + 1).min(desk.commands.len()), desk);
        }
    }

    fn recall(&mut self, back: usize, desk: &Desk) {
        let text = desk.commands.iter().nth_back(back.wrapping_sub(1));
        if back > 0 && text.is_none() {
            return;
        }
        self.back = back;
        self.field.set(text.map(String::as_str).unwrap_or_default());
        self.complete(desk);
    }

    /// Does what the line says, or else what stands at the cursor; keeps the line if it says
    /// nothing that is known.
    fn run(&mut self, desk: &mut Desk) -> PopupEnd {
        let text = self.field.text().trim().to_owned();
        let read = if self.cursor == 0 { self.read(&text, desk) } else { None };
        let command = match read {
            Some(Ok(command)) => Some(command),
            Some(Err(error)) => {
                self.error = Some(error);
                return PopupEnd::Stay;
            }
            None => match self.entries.get(self.cursor) {
                Some(Entry { text, command: None, .. }) if text.ends_with(' ') => {
                    let text = text.clone();
                    self.field.set(&text);
                    self.complete(desk);
                    return PopupEnd::Stay;
                }
                Some(Entry { command: None, detail, .. }) => {
                    self.error = Some(detail.clone());
                    return PopupEnd::Stay;
                }
                Some(entry) => entry.command.clone(),
                None => None,
            },
        };
        let Some(command) = command else {
            self.error = Some(format!("there is no command {}", escaped(&text)));
            return PopupEnd::Stay;
        };
        if !text.is_empty() {
            desk.remember(&text);
        }
        PopupEnd::Run(command)
    }

    /// What a whole line says; nothing if it does not begin with a known word.
    fn read(&self, line: &str, desk: &mut Desk) -> Option<Result<Command, String>> {
        let word =
            line.split_once(' ').and_then(|(word, rest)| Some((verb(word, self.scope)?, rest)));
        match self.deed(line) {
            Some((deed, argument)) => Some(self.begin(deed, argument, desk)),
            None if word.is_some_and(|(word, rest)| word == "batch" && !rest.trim().is_empty()) => {
                word.map(|(_, rest)| self.batch(rest.trim(), desk))
            }
            None => read(line, self.scope, desk),
        }
    }

    /// What is to be done to devices, if the line says that, and with what.
    fn deed<'a>(&self, line: &'a str) -> Option<(Deed, &'a str)> {
        let (word, argument) = line.split_once(' ')?;
        let deed = deed_of(verb(word, self.scope)?)?;
        Some((deed, argument.trim())).filter(|(_, argument)| !argument.is_empty())
    }

    /// Goes on with a batch that was written out, for the chosen devices.
    fn batch(&self, text: &str, desk: &mut Desk) -> Result<Command, String> {
        let commands = self.deeds.iter().flat_map(|menu| &menu.items).map(|item| &item.command);
        let chosen = commands.flatten().find_map(|command| match command {
            Command::Begin(_, chosen) => Some(chosen.clone()),
            _ => None,
        });
        match desk.why_not_change() {
            Some(reason) => Err(reason.to_owned()),
            None => deed::written(text, &chosen.ok_or("there is no device to do it")?, desk),
        }
    }

    /// Goes on as if that had been typed into the form of a deed.
    fn begin(&self, deed: Deed, argument: &str, desk: &mut Desk) -> Result<Command, String> {
        let items = self.deeds.iter().flat_map(|menu| &menu.items);
        match items.into_iter().find(|item| item.key == deed.key()) {
            Some(MenuItem { command: Some(Command::Begin(deed, chosen)), .. }) => {
                deed::typed(*deed, chosen, argument, desk)
            }
            Some(MenuItem { command: Some(Command::ShowLogs { device, .. }), .. }) => {
                Ok(Command::ShowLogs { device: *device, lines: deed::unit_lines(argument) })
            }
            Some(item) => Err(item.detail.clone()),
            None => Err("there is no device to do it".to_owned()),
        }
    }

    /// What the line may become.
    fn complete(&mut self, desk: &Desk) {
        self.cursor = 0;
        self.error = None;
        let line = self.field.text().trim_start();
        let mut found = match line.split_once(' ') {
            Some(_) if self.deed(line).is_some() => {
                self.deed(line).map(preview).into_iter().collect()
            }
            Some((word, argument)) => match verb(word, self.scope) {
                Some(verb) => arguments(verb, argument.trim(), self.scope, desk),
                None => Vec::new(),
            },
            None => Vec::new(),
        };
        // What begins like a verb may also be meant as the name of something else.
        if !line.split_once(' ').is_some_and(|(word, _)| is_verb(word)) {
            found.extend(ranked(self.all(), line));
        }
        self.more = found.len().saturating_sub(ENTRIES_MAX);
        found.truncate(ENTRIES_MAX);
        self.entries = found;
    }

    /// Everything that can be said without an argument, and the verbs that take one.
    fn all(&self) -> Vec<Entry> {
        let verb = |verb: Verb| {
            let command = bare(verb.name);
            let blank = if command.is_none() { " " } else { "" };
            Entry {
                text: format!("{}{blank}", verb.name),
                detail: verb.help.to_owned(),
                key: "",
                command,
            }
        };
        let deed = |item: &MenuItem| Entry {
            text: item.text.clone(),
            detail: item.detail.clone(),
            key: "",
            command: item.command.clone(),
        };
        let action = |binding: &keys::Binding| Entry {
            text: format!(
                "{}{}",
                binding.action.words(),
                if binding.action.asks() { "…" } else { "" }
            ),
            detail: binding.help.to_owned(),
            key: binding.key(),
            command: Some(Command::Act(binding.action)),
        };
        // Those of deeds are among the deeds.
        let is_own = |verb: &Verb| takes(verb.name, self.scope) && deed_of(verb.name).is_none();
        let verbs = VERBS.into_iter().filter(is_own).map(verb);
        let deeds = self.deeds.iter().flat_map(|menu| &menu.items).map(deed);
        let actions =
            keys::bindings().iter().filter(|binding| binding.holds(self.scope)).map(action);
        verbs.chain(deeds).chain(actions).collect()
    }
}

/// The deed that a verb with its argument is.
fn deed_of(verb: &str) -> Option<Deed> {
    match verb {
        "restart" => Some(Deed::Service),
        "logs" => Some(Deed::UnitLogs),
        "exec" => Some(Deed::Exec),
        _ => None,
    }
}

/// A deed as far as it is typed, and what will be sent.
fn preview((deed, argument): (Deed, &str)) -> Entry {
    let detail = deed::preview(deed, argument);
    let detail = detail.unwrap_or_else(|| "not read yet".to_owned());
    let name = VERBS.iter().find(|verb| deed_of(verb.name) == Some(deed));
    let name = name.map_or("", |verb| verb.name);
    Entry { text: format!("{name} {argument}"), detail, key: "", command: None }
}

fn is_verb(word: &str) -> bool {
    VERBS.iter().any(|verb| verb.name == word && !verb.argument.is_empty())
}

/// The verb that takes an argument and is called so, or begins so as no other one does here.
fn verb(word: &str, scope: Scope) -> Option<&'static str> {
    let names = || VERBS.iter().filter(|verb| !verb.argument.is_empty()).map(|verb| verb.name);
    let mut begun = names().filter(|name| name.starts_with(word) && takes(name, scope));
    let only = begun.next().filter(|_| !word.is_empty() && begun.next().is_none());
    names().find(|name| *name == word).or(only)
}

/// Whether a verb makes sense on a screen.
fn takes(verb: &str, scope: Scope) -> bool {
    match verb {
        "filter" => {
            matches!(
                scope,
                Scope::Fleet
                    | Scope::Discover
                    | Scope::Pending
                    | Scope::Events
                    | Scope::Batches
                    | Scope::Keys
            )
        }
        "sort" => matches!(scope, Scope::Fleet | Scope::Pending),
        "restart" | "logs" | "exec" | "batch" => matches!(scope, Scope::Fleet | Scope::Device),
        _ => true,
    }
}

/// A verb that needs nothing more.
fn bare(verb: &str) -> Option<Command> {
    match verb {
        "q" => Some(Command::Quit),
        _ => None,
    }
}

/// What a whole line says; nothing if it does not begin with a known word.
fn read(line: &str, scope: Scope, desk: &Desk) -> Option<Result<Command, String>> {
    let (verb, argument) = line.split_once(' ').unwrap_or((line, ""));
    let argument = argument.trim();
    if argument.is_empty() {
        let named =
            |binding: &&keys::Binding| binding.holds(scope) && binding.action.words() == line;
        return match line {
            // The whole help, not only its key's line.
            "help" => Some(Ok(Command::Popup(Box::new(help(scope))))),
            line => bare(line)
                .or_else(|| {
                    keys::bindings().iter().find(named).map(|binding| Command::Act(binding.action))
                })
                .map(Ok),
        };
    }
    let verb = self::verb(verb, scope).filter(|verb| takes(verb, scope))?;
    Some(match verb {
        "device" => {
            let row = desk.data.rows().find(|row| row.index.id.as_str() == argument);
            match row {
                Some(row) => Ok(Command::Open(row.index.uid)),
                // The best that was found for it may be meant.
                None if !arguments(verb, argument, scope, desk).is_empty() => return None,
                None => Err(format!("there is no device {}", escaped(argument))),
            }
        }
        "fleet" => filter(argument).map(Command::Filter),
        // Some lists have a language of their own, which their screen reads.
        "filter" if has_own_filter(scope) => Ok(Command::Narrow(argument.to_owned())),
        "filter" => filter(argument).map(Command::Narrow),
        "sort" => argument
            .parse()
            .map(Command::Sort)
            .map_err(|_| format!("there is no field {}", escaped(argument))),
        "context" => {
            let is_it = |context: &&Untrusted| context.raw() == argument;
            match desk.settings.contexts.iter().find(is_it) {
                Some(context) => Ok(Command::Context(context.raw().to_owned())),
                None => Err(format!("there is no context {}", escaped(argument))),
            }
        }
        _ => match ThemeName::ALL.into_iter().find(|name| name.word() == argument) {
            Some(name) => Ok(Command::Theme(name)),
            None => Err(format!("there is no theme {}", escaped(argument))),
        },
    })
}

/// A line with a filter in it, as far as that is typed: what it will do, or what is wrong with it.
fn filtering(verb: &'static str, argument: &str, scope: Scope) -> Entry {
    let text = format!("{verb} {argument}");
    let help = VERBS.iter().find(|known| known.name == verb).map_or("", |known| known.help);
    let read = match (verb, scope) {
        _ if argument.is_empty() => Ok(None),
        ("fleet", _) => filter(argument).map(|filter| Some(Command::Filter(filter))),
        (_, scope) if has_own_filter(scope) => Ok(Some(Command::Narrow(argument.to_owned()))),
        _ => filter(argument).map(|filter| Some(Command::Narrow(filter))),
    };
    match read {
        Ok(command) => Entry { text, detail: help.to_owned(), key: "", command },
        Err(error) => Entry { text, detail: error, key: "", command: None },
    }
}

/// Whether a screen's list has a language of its own to filter by.
fn has_own_filter(scope: Scope) -> bool {
    matches!(scope, Scope::Events | Scope::Discover | Scope::Batches | Scope::Keys)
}

fn filter(text: &str) -> Result<String, String> {
    match Filter::parse(text, Words::Fuzzy) {
        Ok(_) => Ok(text.to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

/// What may follow a verb.
fn arguments(verb: &'static str, argument: &str, scope: Scope, desk: &Desk) -> Vec<Entry> {
    let entry = |argument: String, detail: String, command: Command| Entry {
        text: format!("{verb} {argument}"),
        detail,
        key: "",
        command: Some(command),
    };
    let entries: Vec<Entry> = match verb {
        "device" => {
            let rows = desk.data.rows().map(|row| &row.index);
            let mut found: Vec<_> =
                rows.filter_map(|row| Some((rank(row.id.as_str(), argument)?, row))).collect();
            found.sort_by(|a, b| (a.0, &a.1.id).cmp(&(b.0, &b.1.id)));
            let row = |(_, row): (u32, &fleet_core::api::IndexRow)| {
                let detail = format!("{} {}", row.status.word(), row.device_type);
                entry(row.id.to_string(), detail, Command::Open(row.uid))
            };
            return found.into_iter().map(row).collect();
        }
        "fleet" | "filter" => return vec![filtering(verb, argument, scope)],
        "sort" if takes(verb, scope) => {
            let keys = Field::all().flat_map(|field| {
                [false, true].map(|is_descending| SortKey { field, is_descending })
            });
            let plain = keys.filter(|key| !matches!(key.field, Field::Metadata));
            plain
                .map(|key| {
                    entry(key.to_string(), key.field.spec().help.to_owned(), Command::Sort(key))
                })
                .collect()
        }
        "context" => {
            let context = |context: &Untrusted| {
                entry(
                    context.to_string(),
                    "go there".to_owned(),
                    Command::Context(context.raw().to_owned()),
                )
            };
            desk.settings.contexts.iter().map(context).collect()
        }
        "theme" => {
            let theme = |name: ThemeName| {
                let now = if name == desk.theme { "now" } else { "" };
                entry(name.word().to_owned(), now.to_owned(), Command::Theme(name))
            };
            ThemeName::ALL.into_iter().map(theme).collect()
        }
        _ => Vec::new(),
    };
    ranked(entries, &format!("{verb} {argument}"))
}

/// Those that fit, the best first.
fn ranked(entries: Vec<Entry>, line: &str) -> Vec<Entry> {
    let mut found: Vec<(u32, Entry)> =
        entries.into_iter().filter_map(|entry| Some((rank(&entry.text, line)?, entry))).collect();
    found.sort_by_key(|(rank, _)| *rank);
    found.into_iter().map(|(_, entry)| entry).collect()
}

/// How well a text fits what was typed, the least the best: as it begins, then within it, then its
/// letters in this order.
fn rank(text: &str, typed: &str) -> Option<u32> {
    let text = text.trim_end_matches([' ', '…']).to_ascii_lowercase();
    let typed = typed.trim().to_ascii_lowercase();
    let length = u32::try_from(text.len()).unwrap_or(u32::MAX).min(999);
    if typed.is_empty() {
        return Some(0);
    }
    if text == typed {
        return Some(0);
    }
    match text.find(&typed) {
        Some(0) => return Some(1_000 + length),
        Some(_) => return Some(2_000 + length),
        None => {}
    }
    let mut letters = text.chars();
    typed.chars().all(|wanted| letters.any(|letter| letter == wanted)).then_some(3_000 + length)
}

#[cfg(test)]
mod tests;
