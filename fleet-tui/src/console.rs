//! The console's loop: events in, one after the other; frames out, when there is something new and
//! not more often than the way to the terminal can take.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossterm::event::MouseEventKind;
use fleet_core::api::StreamView;
use fleet_core::mdns;
use fleet_core::net::shutdown::Tasks;
use fleet_core::operator::client::Client;
use fleet_core::time::{Clock as _, SystemClock};
use ratatui::layout::Size;
use ratatui::style::Color;
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::{MissedTickBehavior, interval, sleep_until};

use crate::clipboard;
use crate::effect::Effect;
use crate::event::{Event, Moment, Notice};
use crate::frames::Frames;
use crate::net::Link;
use crate::pace::Pace;
use crate::perform::Performer;
use crate::state::{App, Settings};
use crate::terminal::caps::Caps;
use crate::terminal::guard::{Guard, Output, SuspendError, Taken, TerminalError};
use crate::terminal::input::{Input, Inputs};
use crate::terminal::present::Presented;
use crate::terminal::watch::{Signal, Signals};
use crate::theme::{Theme, ThemeName};
use crate::view::{self, Look};

/// Events that wait to be taken; whoever brings more waits.
const EVENTS_MAX: usize = 1_024;
/// How long events are taken before a frame has its turn.
const TAKE_FOR: Duration = Duration::from_millis(4);
/// Between ticks.
const TICK: Duration = Duration::from_millis(250);
/// How long tasks may take to end.
const END: Duration = Duration::from_millis(200);

/// How a console begins.
pub struct Options {
    /// The server.
    pub place: Place,
    /// The server of another context, by its name; or why there is none.
    pub contexts: Contexts,
    /// A filter to begin with.
    pub filter: Option<String>,
    /// Where to look for devices.
    pub interfaces: mdns::Options,
    /// What the terminal can show.
    pub caps: Caps,
    /// The theme to begin with.
    pub theme: ThemeName,
    /// Between frames that nobody's key asked for; by the terminal's pace if absent.
    pub refresh: Option<Duration>,
    /// Where reports of panics go.
    pub report_folder: PathBuf,
}

/// Finds the server of a context by the context's name.
pub type Contexts = Box<dyn Fn(&str) -> Result<Place, String> + Send>;

/// A server, as the console needs it.
pub struct Place {
    /// The way there.
    pub client: Client,
    /// What the state knows of it.
    pub settings: Settings,
    /// Its colour.
    pub colour: Option<Color>,
}

/// Runs a console to its end; returns what the program ends with.
pub async fn run(options: Options) -> Result<u8, TerminalError> {
    let Taken { guard, output, inputs, signals } =
        Guard::take(&options.caps, options.report_folder.clone())?;
    let size = terminal_size();
    let mut console = Console::new(options, guard, output, size);
    console.begin();
    let code = console.converse(inputs, signals).await;
    let _late = console.tasks.finish(END).await;
    Ok(code)
}

struct Console {
    options: Options,
    app: App,
    guard: Guard,
    frames: Frames<Output>,
    started: Instant,
    pace: Pace,
    is_dirty: bool,
    title: String,
    sender: mpsc::Sender<Event>,
    events: mpsc::Receiver<Event>,
    performer: Performer,
    view: watch::Sender<StreamView>,
    retry: Arc<Notify>,
    tasks: Tasks,
    end: Option<u8>,
}

impl Console {
    fn new(options: Options, guard: Guard, output: Output, size: Size) -> Self {
        let (sender, events) = mpsc::channel(EVENTS_MAX);
        let tasks = Tasks::default();
        let performer = Performer::new(
            options.place.client.clone(),
            sender.clone(),
            options.interfaces.clone(),
            tasks.clone(),
        );
        let pace = Pace::new(options.caps.is_remote, options.refresh);
        let mut app = App::new(options.place.settings.clone(), size);
        app.desk.theme = options.theme;
        Self {
            app,
            guard,
            frames: Frames::new(output, size),
            started: Instant::now(),
            pace,
            is_dirty: true,
            title: String::new(),
            sender,
            events,
            performer,
            view: watch::Sender::default(),
            retry: Arc::default(),
            tasks,
            end: None,
            options,
        }
    }

    fn begin(&mut self) {
        let link = Link {
            client: self.options.place.client.clone(),
            events: self.sender.clone(),
            view: self.view.subscribe(),
            retry: self.retry.clone(),
        };
        self.tasks.spawn("link", link.run());
        if let Some(filter) = self.options.filter.take() {
            let effects = self.app.begin(self.moment(), &filter);
            self.perform(effects);
        }
    }

    async fn converse(&mut self, mut inputs: Inputs, mut signals: Signals) -> u8 {
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            let due = self.pace.next_frame(self.is_dirty);
            tokio::select! {
                biased;
                signal = signals.next() => match signal {
                    Some(signal) => self.obey(signal),
                    None => return 0,
                },
                input = inputs.next() => self.take_input(input),
                () = sleep_until(due.into()), if self.is_dirty => self.show(),
                event = self.events.recv() => match event {
                    Some(event) => self.take_all(event),
                    None => return 0,
                },
                _ = ticks.tick() => self.take(Event::Tick),
            }
            if let Some(code) = self.end {
                return code;
            }
        }
    }

    /// Takes an event and those that wait behind it, for a while.
    fn take_all(&mut self, first: Event) {
        let begun = Instant::now();
        self.take(first);
        while begun.elapsed() < TAKE_FOR
            && let Ok(event) = self.events.try_recv()
        {
            self.take(event);
        }
    }

    fn take(&mut self, event: Event) {
        let effects = self.app.apply(self.moment(), event);
        self.perform(effects);
        self.is_dirty = true;
    }

    fn take_input(&mut self, input: Input) {
        self.pace.hurry();
        match input {
            Input::Key(key) => self.take(Event::Key(key)),
            Input::Paste(text) => self.take(Event::Paste(text)),
            Input::Resize(size) => self.resize(size),
            Input::Mouse(mouse) => match mouse.kind {
                MouseEventKind::ScrollUp => self.take(Event::Wheel { is_up: true }),
                MouseEventKind::ScrollDown => self.take(Event::Wheel { is_up: false }),
                _ => {}
            },
            Input::Gone => self.end = Signal::Hangup.exit_code(),
        }
    }

    fn resize(&mut self, size: Size) {
        self.frames.resize(size);
        self.take(Event::Resize(size));
    }

    fn obey(&mut self, signal: Signal) {
        match signal {
            Signal::Suspend => self.suspend(),
            Signal::Continue => {
                if self.guard.retake().is_err() {
                    self.end = Signal::Hangup.exit_code();
                }
                self.repaint();
            }
            Signal::Terminate | Signal::Interrupt | Signal::Hangup => self.end = signal.exit_code(),
        }
    }

    fn suspend(&mut self) {
        match self.guard.suspend() {
            Ok(()) => {}
            Err(error @ SuspendError::NoShell) => {
                let text = format!("not suspended: {error}");
                return self.take(Event::Told(Notice { text, is_error: false }));
            }
            Err(SuspendError::Terminal(error)) => {
                tracing::warn!(%error, "the terminal was not to be had after a stop");
                self.end = Signal::Hangup.exit_code();
            }
        }
        let size = terminal_size();
        if size != self.frames.size() {
            self.resize(size);
        }
        self.repaint();
    }

    /// Paints every cell anew.
    fn repaint(&mut self) {
        self.frames.invalidate();
        self.is_dirty = true;
        self.pace.hurry();
    }

    fn show(&mut self) {
        self.is_dirty = false;
        let theme = self.theme();
        let look = Look { theme, caps: self.options.caps };
        match self.frames.show(&self.app, &look) {
            Ok(presented) => self.pace.presented(presented),
            Err(error) => {
                tracing::warn!(%error, "a frame was not written");
                self.is_dirty = true;
                // The next attempt has its time too, or a terminal that has gone is written to
                // without a pause until somebody notices.
                self.pace.presented(Presented::default());
            }
        }
        self.retitle();
    }

    fn theme(&self) -> Theme {
        Theme::new(self.app.desk.theme, &self.options.caps).with_context(self.options.place.colour)
    }

    fn retitle(&mut self) {
        let title = view::title(&self.app);
        if title != self.title {
            // Without a terminal the input says so soon enough.
            let _ = self.guard.set_title(&title);
            self.title = title;
        }
    }

    fn perform(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Look(view) => {
                    self.view.send_replace(view);
                }
                Effect::Ask(request) => self.performer.ask(request),
                Effect::Browse(is_wanted) => self.performer.browse(is_wanted),
                Effect::Provision { targets, server_url, code } => {
                    self.performer.provision(targets, server_url, code);
                }
                Effect::Copy(text) => self.copy(&text),
                Effect::CopyKey(key) => self.copy(&key.reveal()),
                Effect::Export { stem, extension, contents } => {
                    let now = SystemClock.now();
                    self.performer.export(stem, extension, contents, now);
                }
                Effect::Logs(ask) => self.performer.logs(ask),
                Effect::Reconnect => self.retry.notify_one(),
                Effect::Switch(context) => self.switch(&context),
                Effect::Redraw => self.repaint(),
                Effect::Mouse(is_wanted) => {
                    // Without a terminal the input says so soon enough.
                    let _ = self.guard.set_mouse(is_wanted);
                }
                Effect::Suspend => self.suspend(),
                Effect::Quit => self.end = Some(0),
            }
        }
    }

    fn copy(&mut self, text: &str) {
        use std::io::Write as _;
        let written = clipboard::sequence(text, self.options.caps.multiplexer)
            .map_err(|error| error.to_string())
            .and_then(|bytes| {
                self.frames.out().write_all(&bytes).map_err(|error| error.to_string())
            });
        if let Err(error) = written {
            let notice = Notice { text: format!("not copied: {error}"), is_error: true };
            self.take(Event::Told(notice));
        }
    }

    /// Leaves this server for another one: everything of this one ends.
    fn switch(&mut self, context: &str) {
        match (self.options.contexts)(context) {
            Ok(place) => {
                self.tasks.stop();
                self.tasks = Tasks::default();
                (self.sender, self.events) = mpsc::channel(EVENTS_MAX);
                self.performer = Performer::new(
                    place.client.clone(),
                    self.sender.clone(),
                    self.options.interfaces.clone(),
                    self.tasks.clone(),
                );
                self.view = watch::Sender::default();
                let theme = self.app.desk.theme;
                self.app = App::new(place.settings.clone(), self.frames.size());
                self.options.place = place;
                let _ = self.guard.set_mouse(false);
                self.app.desk.theme = theme;
                self.begin();
                self.repaint();
            }
            Err(text) => self.take(Event::Told(Notice { text, is_error: true })),
        }
    }

    fn moment(&self) -> Moment {
        Moment { wall: SystemClock.now(), since_start: self.started.elapsed() }
    }
}

fn terminal_size() -> Size {
    let (width, height) = crossterm::terminal::size().unwrap_or((80, 24));
    Size { width, height }
}
