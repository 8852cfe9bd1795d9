//! What the console knows and where its person is in it. [`App::apply`] takes one event after the
//! other and answers with what is to be done; nothing here reads a clock, a file or a socket, and
//! nothing here knows how anything looks.

pub mod api_keys;
pub mod app;
pub mod batches;
pub mod data;
pub mod deed;
pub mod device;
pub mod discover;
pub mod events;
pub mod filter_line;
pub mod fleet;
pub mod link;
pub mod list;
pub mod pending;
pub mod popup;
pub mod who;

use std::collections::VecDeque;
use std::time::Duration;

use fleet_core::api::{Me, Right, Role};
use fleet_core::identity::ServerIdentity;
use fleet_core::time::Timestamp;
use fleet_core::untrusted::Untrusted;
use ratatui::layout::{Rect, Size};

use crate::effect::{Effect, Request};
use crate::event::{Moment, Notice};
use crate::keys::Scope;
use crate::layout;
use crate::theme::ThemeName;
pub use app::App;
use data::Fleet;
use deed::{Followed, Job, Last};
use link::Link;
use popup::Popup;
use who::Who;

/// Notices that are remembered.
const NOTICES_MAX: usize = 200;
/// Commands that are remembered.
const COMMANDS_MAX: usize = 100;
/// Screens that `^o` goes back through.
const PLACES_MAX: usize = 50;
/// How long a notice that is no error is shown.
const NOTICE_SHOWN: Duration = Duration::from_secs(6);

/// A screen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Screen {
    /// All devices.
    Fleet,
    /// One of them.
    Device,
    /// Finding and configuring devices.
    Discover,
    /// Devices that wait for a word.
    Pending,
    /// What happened.
    Events,
    /// What is done to many devices.
    Batches,
    /// One of those, with its devices.
    Batch,
    /// Keys to the server.
    Keys,
}

impl Screen {
    /// The keys that hold there.
    pub fn scope(self) -> Scope {
        match self {
            Self::Fleet => Scope::Fleet,
            Self::Device => Scope::Device,
            Self::Discover => Scope::Discover,
            Self::Pending => Scope::Pending,
            Self::Events => Scope::Events,
            Self::Batches => Scope::Batches,
            Self::Batch => Scope::Batch,
            Self::Keys => Scope::Keys,
        }
    }
}

/// What the console was started with.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// The server's URL.
    pub server: String,
    /// The context, if one was chosen.
    pub context: Option<Untrusted>,
    /// Every context that there is.
    pub contexts: Vec<Untrusted>,
    /// Whether nothing may be changed from here.
    pub is_read_only: bool,
    /// The server's identity: what devices say of whose they are is compared with it.
    pub identity: Option<ServerIdentity>,
    /// Who sits here: `alice@jump1`.
    pub user: Untrusted,
}

/// What all screens work on.
#[derive(Debug)]
pub struct Desk {
    /// When the event that is being taken happened.
    pub now: Moment,
    /// The terminal's size.
    pub size: Size,
    /// What the console was started with.
    pub settings: Settings,
    /// The link to the server.
    pub link: Link,
    /// Whose key it is and what it may do, as soon as that is known.
    pub me: Option<Me>,
    /// How far asking for that has come.
    pub who: Who,
    /// The devices.
    pub data: Fleet,
    /// The screens from the fleet's down to the one that is shown. Never empty.
    places: Vec<Screen>,
    /// The screens that were shown before, the last one last.
    history: Vec<Screen>,
    /// What lies over the screen.
    pub popup: Option<Popup>,
    /// A word to the person, and since when.
    pub notice: Option<(Notice, Duration)>,
    /// The words of before and when they were said, newest last.
    pub notices: VecDeque<(Notice, Timestamp)>,
    /// What is being done with devices.
    pub job: Option<Job>,
    /// The commands that were given here and are not over.
    pub followed: Followed,
    /// What was done here last, as far as it can be taken back.
    pub last: Last,
    /// The key that the server is asked to make. Its answer has what nobody can ask for again.
    pub awaited_key: Option<Request>,
    /// Commands of before, newest last.
    pub commands: VecDeque<String>,
    /// The theme in use, as far as the terminal can show it.
    pub theme: ThemeName,
    /// Whether the wheel is ours rather than the terminal's.
    pub has_mouse: bool,
    /// The last number that was given to a question whose answers come one after the other.
    last_number: u64,
    /// What is to be done.
    effects: Vec<Effect>,
}

impl Desk {
    /// A desk before anything happened.
    pub fn new(settings: Settings, size: Size) -> Self {
        Self {
            now: Moment::default(),
            size,
            settings,
            link: Link::default(),
            me: None,
            who: Who::default(),
            data: Fleet::default(),
            places: vec![Screen::Fleet],
            history: Vec::new(),
            popup: None,
            notice: None,
            notices: VecDeque::new(),
            job: None,
            followed: Followed::default(),
            last: Last::default(),
            awaited_key: None,
            commands: VecDeque::new(),
            theme: ThemeName::default(),
            has_mouse: false,
            last_number: 0,
            effects: Vec::new(),
        }
    }

    /// The screen that is shown.
    pub fn screen(&self) -> Screen {
        self.places.last().copied().unwrap_or(Screen::Fleet)
    }

    /// Shows a screen. The way back from it leads to the fleet; from a device, to where it was
    /// opened.
    pub fn go(&mut self, screen: Screen) {
        if self.screen() == screen {
            return;
        }
        self.remember_place();
        match screen {
            Screen::Fleet => self.places.clear(),
            Screen::Device => self.places.retain(|place| *place != Screen::Device),
            Screen::Discover
            | Screen::Pending
            | Screen::Events
            | Screen::Batches
            | Screen::Keys => self.places.truncate(1),
            // The way back from one of them leads through all of them.
            Screen::Batch => {
                self.places.truncate(1);
                self.places.push(Screen::Batches);
            }
        }
        self.places.push(screen);
    }

    /// Shows the screen that was shown before this one, if there is one.
    pub fn go_to_previous(&mut self) {
        if let Some(screen) = self.history.pop() {
            self.go(screen);
            // Where one came from is not what one goes back to.
            self.history.pop();
        }
    }

    fn remember_place(&mut self) {
        if self.history.len() == PLACES_MAX {
            self.history.remove(0);
        }
        self.history.push(self.screen());
    }

    /// Goes back towards the fleet. False if that is shown already.
    pub fn go_back(&mut self) -> bool {
        let is_inside = self.places.len() > 1;
        if is_inside {
            self.remember_place();
            self.places.pop();
        }
        is_inside
    }

    /// Where the screen's own contents are.
    pub fn body(&self) -> Rect {
        layout::Frame::new(self.size).body
    }

    /// Asks the world for something.
    pub fn wish(&mut self, effect: Effect) {
        self.effects.push(effect);
    }

    /// Asks the server.
    pub fn ask(&mut self, request: Request) {
        self.effects.push(Effect::Ask(request));
    }

    /// A number that no question had before.
    pub fn next_number(&mut self) -> u64 {
        self.last_number += 1;
        self.last_number
    }

    /// Says something.
    pub fn say(&mut self, text: impl Into<String>) {
        self.tell(Notice { text: text.into(), is_error: false });
    }

    /// Says that something went wrong. It stays until it is dismissed.
    pub fn warn(&mut self, text: impl Into<String>) {
        self.tell(Notice { text: text.into(), is_error: true });
    }

    /// Says something that came as a whole.
    pub fn tell(&mut self, notice: Notice) {
        self.note(notice.clone());
        self.notice = Some((notice, self.now.since_start));
    }

    /// Puts a text into the clipboard of whoever sits at the terminal.
    pub fn copy(&mut self, what: &str, text: String) {
        self.wish(Effect::Copy(text));
        self.say(format!("copied {what} (OSC 52)"));
    }

    /// Remembers something that is not worth the line above the keys.
    pub fn note(&mut self, notice: Notice) {
        if self.notices.len() == NOTICES_MAX {
            self.notices.pop_front();
        }
        self.notices.push_back((notice, self.now.wall));
    }

    /// Remembers a command that was run.
    pub fn remember(&mut self, command: &str) {
        if self.commands.back().is_some_and(|last| last == command) {
            return;
        }
        if self.commands.len() == COMMANDS_MAX {
            self.commands.pop_front();
        }
        self.commands.push_back(command.to_owned());
    }

    /// Why nothing can be changed now, if so.
    pub fn why_not_change(&self) -> Option<&'static str> {
        if self.settings.is_read_only {
            Some("this console is read-only")
        } else if !self.link.is_live() {
            Some("the server is away; your marks and filter are kept")
        } else if self.me.as_ref().is_some_and(|me| me.role == Some(Role::Viewer)) {
            Some("the key only looks: it has the role viewer")
        } else {
            None
        }
    }

    /// Whether nothing can ever be changed from here, so that one can only look.
    pub fn only_looks(&self) -> bool {
        let is_viewer = self.me.as_ref().is_some_and(|me| me.role == Some(Role::Viewer));
        self.settings.is_read_only || is_viewer
    }

    /// Why the keys to the server are not to be seen, if so. Before it is known what the key may do
    /// nothing is against them, but nobody asks for them either.
    pub fn why_not_keys(&self) -> Option<&'static str> {
        let is_known = self.me.as_ref().filter(|me| !api_keys::sees_keys(me.role));
        is_known.map(|_| "the key does not see others: that takes the role admin")
    }

    /// Why no keys can be made or ended now, if so.
    pub fn why_not_change_keys(&self) -> Option<&'static str> {
        let is_unknown = self.me.is_none();
        let words = "what this console's key may do is not known yet";
        let reason = self.why_not_keys().or_else(|| self.why_not_change());
        reason.or(is_unknown.then_some(words))
    }

    /// Why something cannot be done that takes a right, if so.
    pub fn why_not_by_right(&self, right: Right) -> Option<&'static str> {
        if self.me.as_ref().is_none_or(|me| me.rights.contains(&right)) {
            return None;
        }
        Some(match right {
            Right::Exec => "the key has not the right exec",
            Right::Delete => "the key has not the right delete",
            Right::Export => "the key has not the right export",
        })
    }

    /// Why no devices can be brought in now, if so.
    pub fn why_not_bring_in(&self) -> Option<&'static str> {
        let has_scope = self.me.as_ref().is_some_and(|me| me.scope.is_some());
        let words = "the key is for some devices only, and brings none in";
        self.why_not_change().or(has_scope.then_some(words))
    }

    /// Takes away what has been shown for long enough.
    pub(crate) fn tidy_notice(&mut self) {
        let is_old = |(notice, since): &(Notice, Duration)| {
            !notice.is_error && self.now.since_start.saturating_sub(*since) >= NOTICE_SHOWN
        };
        if self.notice.as_ref().is_some_and(is_old) {
            self.notice = None;
        }
    }

    pub(crate) fn take_effects(&mut self) -> Vec<Effect> {
        std::mem::take(&mut self.effects)
    }
}
