//! The whole of the console: it hands each event to whom it concerns.

mod heard;

use crossterm::event::KeyEvent;
use fleet_core::api::StreamView;
use fleet_core::id::Uid;
use ratatui::layout::Size;

use super::api_keys::KeysScreen;
use super::batches::BatchesScreen;
use super::device::DeviceScreen;
use super::discover::DiscoverScreen;
use super::discover::form::FormPlace;
use super::events::EventsScreen;
use super::fleet::FleetScreen;
use super::pending::PendingScreen;
use super::popup::{self, Command, Notices, Popup, PopupEnd};
use super::{Desk, Screen, Settings, deed, who};
use crate::effect::{Effect, LogAsk, Request};
use crate::event::{Event, Moment};
use crate::keys::{self, Action};
use crate::layout::DiscoverPane;

/// Rows that one turn of the wheel moves.
const WHEEL_ROWS: usize = 3;

/// The console.
#[derive(Debug)]
pub struct App {
    /// What all screens work on.
    pub desk: Desk,
    /// All devices.
    pub fleet: FleetScreen,
    /// The device that was opened last.
    pub device: Option<DeviceScreen>,
    /// Finding and configuring devices.
    pub discover: DiscoverScreen,
    /// Devices that wait for a word.
    pub pending: PendingScreen,
    /// What happened.
    pub events: EventsScreen,
    /// What is done to many devices.
    pub batches: BatchesScreen,
    /// Keys to the server.
    pub keys: KeysScreen,
    /// What the server was last told that is looked at.
    looked: Option<StreamView>,
    /// The lines of a log that it was last asked for.
    lines: Option<LogAsk>,
}

impl App {
    /// A console before anything happened.
    pub fn new(settings: Settings, size: Size) -> Self {
        Self {
            desk: Desk::new(settings, size),
            fleet: FleetScreen::default(),
            device: None,
            discover: DiscoverScreen::default(),
            pending: PendingScreen::default(),
            events: EventsScreen::default(),
            batches: BatchesScreen::default(),
            keys: KeysScreen::default(),
            looked: None,
            lines: None,
        }
    }

    /// Begins with a filter.
    pub fn begin(&mut self, now: Moment, filter: &str) -> Vec<Effect> {
        self.desk.now = now;
        self.fleet.set_filter(filter, &mut self.desk);
        self.desk.take_effects()
    }

    /// Takes an event; returns what is to be done.
    pub fn apply(&mut self, now: Moment, event: Event) -> Vec<Effect> {
        self.desk.now = now;
        match event {
            Event::Key(key) => self.press(&key),
            Event::Paste(text) => self.paste(&text),
            Event::Wheel { is_up } => self.wheel(is_up),
            Event::Resize(size) => self.desk.size = size,
            Event::Tick => self.desk.tidy_notice(),
            Event::Link(event) => self.linked(event),
            Event::Answer(request, answer) => self.answered(request, answer),
            Event::Sightings(sightings) => self.discover.saw(sightings),
            Event::Searching(interfaces) => self.discover.searching(interfaces),
            Event::BrowseFailed(reason) => self.discover.browse_failed(reason),
            Event::Provisioning(news) => self.discover.provisioning(news, &mut self.desk),
            Event::Log(number, news) => {
                let now = self.desk.now.since_start;
                if let Some(device) = &mut self.device {
                    device.logs.take(number, news, now);
                }
            }
            Event::Told(notice) => self.desk.tell(notice),
        }
        self.settle();
        self.desk.take_effects()
    }

    /// Brings what is derived up to date: orders of rows, and what the server is told to send.
    fn settle(&mut self) {
        who::settle(&mut self.desk);
        self.fleet.settle(&self.desk);
        self.pending.settle(&self.desk);
        self.events.settle(&mut self.desk);
        self.batches.settle(&mut self.desk);
        self.keys.settle(&mut self.desk);
        if let Some(device) = &mut self.device {
            device.settle(&mut self.desk);
        }
        self.discover.settle(&mut self.desk);
        if let Some(Popup::Outcome(mut outcome)) = self.desk.popup.take_if(is_outcome) {
            outcome.settle(&mut self.desk);
            self.desk.popup = Some(Popup::Outcome(outcome));
        }
        self.look();
        self.look_at_lines();
    }

    fn press(&mut self, key: &KeyEvent) {
        self.fleet.touched(self.desk.now.since_start);
        let action = keys::lookup(self.desk.screen().scope(), key);
        // What concerns the whole program holds over popups too, and while something is typed.
        if let Some(action @ (Action::Quit | Action::Suspend | Action::Redraw)) = action {
            return self.act(action);
        }
        if let Some(mut popup) = self.desk.popup.take() {
            match popup.press(key, &mut self.desk) {
                // A popup may have been put in its place meanwhile.
                PopupEnd::Stay => self.desk.popup = self.desk.popup.take().or(Some(popup)),
                PopupEnd::Close => {
                    let under = popup.uncovered(self.desk.now.since_start);
                    self.desk.popup = self.desk.popup.take().or(under);
                }
                PopupEnd::Run(command) => self.run(command),
            }
            return;
        }
        if self.types(key) {
            return;
        }
        match action {
            Some(action) => self.act(action),
            None => self.desk.say("? shows the keys"),
        }
    }

    /// A turn of the wheel moves through a list as its keys do; over a popup it does nothing.
    fn wheel(&mut self, is_up: bool) {
        if self.desk.popup.is_none() {
            for _ in 0..WHEEL_ROWS {
                self.act_on_screen(if is_up { Action::Up } else { Action::Down });
            }
        }
    }

    /// Whether a filter is being typed, so that keys are letters.
    pub fn is_typing(&self) -> bool {
        match self.desk.screen() {
            Screen::Fleet => self.fleet.filter_field().is_some(),
            Screen::Discover => self.discover.typing.is_some(),
            Screen::Pending => self.pending.filter.is_typing(),
            Screen::Events => self.events.filter.is_typing(),
            Screen::Batches => self.batches.filter.is_typing(),
            Screen::Keys => self.keys.filter.is_typing(),
            Screen::Device => self.device.as_ref().is_some_and(DeviceScreen::is_typing),
            Screen::Batch => false,
        }
    }

    /// Where in a form on the screen keys go, if they go into one.
    pub fn form_place(&self) -> Option<FormPlace> {
        let is_shown = self.desk.screen() == Screen::Discover;
        let place = self.discover.form.place;
        (is_shown && self.discover.pane == DiscoverPane::Form).then_some(place)
    }

    /// Whether the key went into a line that is being typed on the screen.
    fn types(&mut self, key: &KeyEvent) -> bool {
        match self.desk.screen() {
            Screen::Fleet => self.fleet.types(key, &self.desk),
            Screen::Discover => self.discover.types(key, &mut self.desk),
            Screen::Pending => self.pending.types(key),
            Screen::Events => self.events.types(key),
            Screen::Batches => self.batches.types(key),
            Screen::Keys => self.keys.types(key),
            Screen::Device => self.device.as_mut().is_some_and(|device| device.types(key)),
            Screen::Batch => false,
        }
    }

    /// Pasted text goes into a line that is being typed, and nowhere else: it never presses keys.
    fn paste(&mut self, text: &str) {
        let taken = match self.desk.popup.take() {
            Some(mut popup) => {
                let taken = popup.paste(text, &self.desk);
                self.desk.popup = Some(popup);
                taken
            }
            None => match self.desk.screen() {
                Screen::Fleet => self.fleet.paste(text),
                Screen::Discover => self.discover.paste(text),
                Screen::Pending => self.pending.paste(text),
                Screen::Events => self.events.paste(text),
                Screen::Batches => self.batches.paste(text),
                Screen::Keys => self.keys.paste(text),
                Screen::Device => self.device.as_mut().is_some_and(|device| device.paste(text)),
                Screen::Batch => false,
            },
        };
        if !taken {
            self.desk.say("the pasted text was dropped: nothing here takes text");
        }
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Fleet => self.desk.go(Screen::Fleet),
            Action::Discover => self.go_discover(),
            Action::Events => self.go_events(),
            Action::Pending => self.desk.go(Screen::Pending),
            Action::Batches => self.desk.go(Screen::Batches),
            Action::Keys => self.desk.go(Screen::Keys),
            Action::Quit => self.quit(),
            Action::Suspend => self.desk.wish(Effect::Suspend),
            Action::Redraw => self.desk.wish(Effect::Redraw),
            Action::Undo => {
                if let Some(command) = deed::undo(&mut self.desk) {
                    self.run(command);
                }
            }
            Action::Mouse => self.mouse(),
            Action::Theme => self.desk.theme = self.desk.theme.next(),
            Action::Help => self.desk.popup = Some(popup::help(self.desk.screen().scope())),
            Action::Messages => self.desk.popup = Some(Popup::Notices(Notices::default())),
            Action::Palette => self.desk.popup = Some(popup::palette(self)),
            Action::Previous => self.desk.go_to_previous(),
            Action::Leave => self.leave(),
            Action::Resync if self.desk.screen() != Screen::Discover => {
                self.desk.wish(Effect::Reconnect);
            }
            Action::Back if self.desk.notice.as_ref().is_some_and(|(n, _)| n.is_error) => {
                self.desk.notice = None;
            }
            own => self.act_on_screen(own),
        }
    }

    fn mouse(&mut self) {
        self.desk.has_mouse = !self.desk.has_mouse;
        self.desk.wish(Effect::Mouse(self.desk.has_mouse));
        self.desk.say(if self.desk.has_mouse {
            "the wheel scrolls here; with Shift held the terminal selects text"
        } else {
            "the mouse is the terminal's own again"
        });
    }

    fn act_on_screen(&mut self, action: Action) {
        let desk = &mut self.desk;
        let command = match desk.screen() {
            Screen::Fleet => self.fleet.act(action, desk),
            Screen::Device => self.device.as_mut().and_then(|device| device.act(action, desk)),
            Screen::Discover => self.discover.act(action, desk),
            Screen::Pending => self.pending.act(action, desk),
            Screen::Events => self.events.act(action, desk),
            Screen::Batches => self.batches.act(action, desk),
            Screen::Batch => self.batches.act_on_open(action, desk),
            Screen::Keys => self.keys.act(action, desk),
        };
        if let Some(command) = command {
            self.run(command);
        }
    }

    /// Does what a key, a menu or the palette asked for.
    pub fn run(&mut self, command: Command) {
        match command {
            Command::Act(action) => self.act(action),
            Command::Open(uid) => self.open(uid),
            Command::Back => self.leave(),
            Command::Filter(text) => {
                self.desk.go(Screen::Fleet);
                self.fleet.set_filter(&text, &mut self.desk);
            }
            Command::Narrow(text) => self.narrow(&text),
            Command::Sort(key) if self.desk.screen() == Screen::Pending => {
                self.pending.set_sort(key);
            }
            Command::Sort(key) if self.desk.screen() == Screen::Discover => {
                self.discover.set_sort(key, &self.desk);
            }
            Command::Sort(key) => self.fleet.set_sort(key),
            Command::Theme(name) => self.desk.theme = name,
            Command::Columns(columns) => self.fleet.set_columns(columns),
            Command::Copy(what, text) => self.desk.copy(what, text),
            Command::Context(name) => match self.under_way() {
                None => self.desk.wish(Effect::Switch(name)),
                Some(job) => {
                    self.desk.warn(format!("not now: something is still under way here ({job})"));
                }
            },
            Command::Begin(deed, chosen) => deed::begin(deed, chosen, &mut self.desk),
            Command::Do(plan) => deed::carry_out(plan, &mut self.desk),
            Command::Popup(popup) => self.desk.popup = Some(*popup),
            Command::Provision(order) => self.discover.provision(order, &mut self.desk),
            Command::OpenBatch(id) => self.batches.go(id, &mut self.desk),
            Command::OpenDoing { device, command, is_config } => {
                self.open(device);
                if let Some(screen) = self.device.as_mut().filter(|it| it.uid == device) {
                    screen.show_doing(command, is_config);
                }
            }
            Command::GoBack { device, to } => {
                let desk = &mut self.desk;
                let command = self.device.as_ref().and_then(|it| it.go_back(device, to, desk));
                if let Some(command) = command {
                    self.run(command);
                }
            }
            Command::ShowLogs { device, lines } => {
                self.open(device);
                if let Some(screen) = self.device.as_mut().filter(|it| it.uid == device) {
                    screen.choose_lines(&lines, &mut self.desk);
                }
            }
            Command::Logs(text) => {
                if let Some(device) = &mut self.device {
                    device.choose_lines(&text, &mut self.desk);
                }
            }
            Command::ShowMembers(only) => self.batches.show_members(only),
            Command::BeginBatch(request) => self.batches.begin(request, &mut self.desk),
            Command::AskBatch(id, change) => {
                if let Some(command) = self.batches.ask_change(id, change, &mut self.desk) {
                    self.run(command);
                }
            }
            Command::TellLeft(id) => self.batches.tell_left(id, &mut self.desk),
            Command::ChangeBatch(id, change) => self.desk.ask(Request::ChangeBatch(id, change)),
            Command::RetryBatch(id, count) => self.desk.ask(Request::RetryBatch(id, count)),
            Command::SortKeys(sort) => self.keys.set_sort(sort),
            Command::BeginKey(id, change) => {
                if let Some(command) = self.keys.begin(&id, change, &mut self.desk) {
                    self.run(command);
                }
            }
            Command::RevokeKey(id) => self.desk.ask(Request::RevokeKey(id)),
            Command::Quit => self.desk.wish(Effect::Quit),
        }
    }

    /// Shows the screen's list through a filter.
    fn narrow(&mut self, text: &str) {
        match self.desk.screen() {
            Screen::Fleet => self.fleet.set_filter(text, &mut self.desk),
            Screen::Pending => self.pending.set_filter(text, &mut self.desk),
            Screen::Events => self.events.set_filter(text, &mut self.desk),
            Screen::Discover => self.discover.set_filter(text),
            Screen::Batches => self.batches.set_filter(text),
            Screen::Keys => self.keys.set_filter(text),
            Screen::Device | Screen::Batch => self.desk.say("nothing to filter here"),
        }
    }

    /// Opens a device.
    pub fn open(&mut self, uid: Uid) {
        if self.desk.data.device(uid).is_none() {
            self.desk.say("that device is not in the fleet any more");
            return;
        }
        if self.device.as_ref().is_none_or(|device| device.uid != uid) {
            self.device = Some(DeviceScreen::new(uid));
        }
        self.desk.go(Screen::Device);
    }

    /// What would be left half done, or be lost, without this console.
    fn under_way(&self) -> Option<String> {
        let key = self.desk.awaited_key.as_ref().map(|_| "a key is being made".to_owned());
        self.jobs().or(key)
    }

    /// What would be left half done if this console ended now.
    fn jobs(&self) -> Option<String> {
        let run = &self.discover.run;
        let tally = run.tally();
        let provisioning = || format!("{} of {} configured", tally.done(), tally.all);
        let job = self.desk.job.as_ref().map(deed::Job::progress);
        job.or_else(|| run.is_under_way().then(provisioning))
    }

    /// What nobody could ever see again if this console ended now.
    fn lost(&self) -> Option<&'static str> {
        match &self.desk.popup {
            Some(popup) if popup.shows_key() => {
                Some("The key that is shown here is gone for good then.")
            }
            _ if self.desk.awaited_key.is_some() => {
                Some("A key is being made: nobody would ever see what it says.")
            }
            _ => None,
        }
    }

    fn leave(&mut self) {
        if !self.desk.go_back() {
            self.desk.popup = Some(popup::quit(self.jobs(), self.lost(), None));
        }
    }

    /// Quits without a question, unless that would lose a key.
    fn quit(&mut self) {
        let is_asked = |popup: &Popup| matches!(popup, Popup::Confirm(it) if it.asks_to_quit());
        match self.lost() {
            None => self.desk.wish(Effect::Quit),
            Some(_) if self.desk.popup.as_ref().is_some_and(is_asked) => {}
            lost => {
                let over = self.desk.popup.take();
                self.desk.popup = Some(popup::quit(self.jobs(), lost, over));
            }
        }
    }

    fn go_discover(&mut self) {
        self.desk.go(Screen::Discover);
        self.discover.entered();
    }

    fn go_events(&mut self) {
        self.desk.go(Screen::Events);
        self.events.entered(&mut self.desk);
    }

    /// Has lines of a log come while they are looked at, and no longer.
    fn look_at_lines(&mut self) {
        let is_shown = self.desk.screen() == Screen::Device;
        let ask = self.device.as_ref().and_then(|device| device.logs.ask()).filter(|_| is_shown);
        if self.lines.as_ref() != ask {
            self.lines = ask.cloned();
            self.desk.wish(Effect::Logs(self.lines.clone()));
        }
    }

    /// Tells the server what is looked at, when that is something else than before.
    fn look(&mut self) {
        if !self.desk.link.is_live() {
            return;
        }
        let mut view = match self.desk.screen() {
            Screen::Fleet => self.fleet.wants(&self.desk),
            Screen::Device
            | Screen::Discover
            | Screen::Pending
            | Screen::Events
            | Screen::Batches
            | Screen::Batch
            | Screen::Keys => StreamView::default(),
        };
        if self.desk.screen() == Screen::Device
            && let Some(device) = &self.device
        {
            view = device.wants(&self.desk);
        }
        if self.looked.as_ref() != Some(&view) {
            self.looked = Some(view.clone());
            self.desk.wish(Effect::Look(view));
        }
    }
}

fn is_outcome(popup: &mut Popup) -> bool {
    matches!(popup, Popup::Outcome(_))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{live_app, press};

    #[test]
    fn what_concerns_the_whole_program_holds_everywhere() {
        for open in ["1", "/ x", "7 /", "6 /", "8 /", ": x", "?", "q", "s"] {
            for (key, effect) in
                [("^c", Effect::Quit), ("^z", Effect::Suspend), ("^l", Effect::Redraw)]
            {
                let mut app = live_app();
                press(&mut app, open);
                let wished = format!("{:?}", press(&mut app, key));
                assert!(wished.contains(&format!("{effect:?}")), "{key} after {open}: {wished}");
            }
        }
    }
}
