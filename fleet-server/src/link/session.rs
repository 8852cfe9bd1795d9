//! A device's session. What the device says goes to `ops`; what changes about the device is looked
//! up when the hub's bell rings, never carried by the bell.
//!
//! A report is acknowledged after the store has it on disk and not before. While the store works,
//! nothing more is read, so a fast device waits in its own queue and not in our memory.

use std::time::Duration;

use fleet_core::Chain;
use fleet_core::api::CommandState;
use fleet_core::codec;
use fleet_core::id::Uid;
use fleet_core::net::socket::{Incoming, SocketError};
use fleet_core::wire::{NewKey, Progress, Standing, ToAgent, ToServer};
use futures_util::FutureExt as _;
use tokio::time::{Instant, sleep_until, timeout};

use super::{LinkError, Links, Socket};
use crate::door::Visit;
use crate::hub::Seat;
use crate::logs;
use crate::ops::OpsError;
use crate::ops::commands::is_taken_back;
use crate::store::StoreError;

/// Agents ping every 30 s; three missing pings are a dead link.
const SILENCE_MAX: Duration = Duration::from_secs(90);

/// How long a device reports every second unless it is asked again, and how often it is.
const WATCH: Duration = Duration::from_secs(15);
const WATCH_AGAIN: Duration = Duration::from_secs(10);

/// How long the end of a link that was replaced may take to show that it is there.
const ANSWER: Duration = Duration::from_secs(5);
/// How long after it spoke of a configuration that it tries a device may have two links at once: the
/// way to another place of the server is looked for while the first one is kept.
const SCOUTING: Duration = Duration::from_secs(300);

/// Between looks whether a full disk has room again.
const ROOM_AGAIN: Duration = Duration::from_secs(5);

struct Session<'a> {
    links: &'a Links,
    visit: &'a Visit,
    socket: Socket,
    uid: Uid,
    /// What the device was told about how it stands.
    told: Option<Standing>,
    /// The configuration that the device says it has, and the one it was sent.
    config_reported: u64,
    config_sent: u64,
    /// Whether the device's place in the hub is this session's.
    has_seat: bool,
    /// The commands that are not over and that the device was told of: to do them, or that they are
    /// taken back.
    commands: Vec<(Uid, bool)>,
    /// Lines of its logs that are wanted, while it has its seat.
    lines: Option<logs::Link>,
    /// When to ask the device again to report every second; none while nobody watches it.
    watch_due: Option<Instant>,
    /// When the device spoke of a configuration that it tries.
    tried: Option<Instant>,
    /// When to look whether there is room for the reports that could not be stored.
    room_due: Option<Instant>,
}

/// What a device said.
enum Said {
    Frame(ToServer),
    Ping,
    Pong,
    Closed,
}

impl Said {
    fn read(incoming: Incoming) -> Result<Self, LinkError> {
        Ok(match incoming {
            Incoming::Closed(_) => Self::Closed,
            Incoming::Ping => Self::Ping,
            Incoming::Pong(_) => Self::Pong,
            Incoming::Frame(bytes) => {
                Self::Frame(codec::decode(&bytes).map_err(SocketError::Frame)?)
            }
        })
    }

    /// Whether it is news of the command that a frame has news of.
    fn is_of_the_same(&self, frame: &ToServer) -> bool {
        match (self, frame) {
            (Self::Frame(ToServer::Command(later)), ToServer::Command(news)) => later.id == news.id,
            _ => false,
        }
    }
}

/// Whether a frame is news of a command that is not over.
fn is_on_the_way(frame: &ToServer) -> bool {
    match frame {
        ToServer::Command(news) => !matches!(news.progress, Progress::Done(_)),
        ToServer::Facts(_)
        | ToServer::Samples(_)
        | ToServer::ConfigReported(_)
        | ToServer::ConfigTrial(_)
        | ToServer::NewKey(_)
        | ToServer::Logs(_) => false,
    }
}

/// Whether the session goes on.
enum Next {
    GoOn,
    End(&'static str),
}

/// Runs a session to its end; returns why it ended.
pub(super) async fn run(
    links: &Links,
    visit: &Visit,
    socket: Socket,
    uid: Uid,
) -> Result<&'static str, LinkError> {
    let mut session = Session {
        links,
        visit,
        socket,
        uid,
        told: None,
        config_reported: 0,
        config_sent: 0,
        has_seat: false,
        commands: Vec::new(),
        lines: None,
        watch_due: None,
        tried: None,
        room_due: None,
    };
    links.ops.presence.heard(uid, links.ops.world.now());
    let reason = loop {
        // It has its place before it is told that it belongs to the fleet.
        if session.is_let_in().await? {
            let seat = links.hub.sit(uid, visit.remote().ip());
            break session.converse(&seat).await?;
        }
        // A device that was turned away is told so, and does not take the place of one that was not.
        if let Next::End(reason) = session.look().await? {
            break reason;
        }
    };
    session.socket.close(reason).await;
    Ok(reason)
}

impl Session<'_> {
    /// Whether the device belongs to the fleet, or may do so one day.
    async fn is_let_in(&mut self) -> Result<bool, LinkError> {
        let standing = self.links.ops.enrolment.standing(self.uid).await?;
        Ok(matches!(standing, Some(Standing::Active { .. } | Standing::Pending { .. })))
    }

    async fn converse(&mut self, seat: &Seat) -> Result<&'static str, LinkError> {
        self.has_seat = true;
        self.lines = Some(self.links.logs.link(self.uid));
        let mut next = self.look().await?;
        let mut deadline = Instant::now() + SILENCE_MAX;
        loop {
            if let Next::End(reason) = next {
                return Ok(reason);
            }
            next = tokio::select! {
                incoming = self.socket.receive() => {
                    deadline = Instant::now() + SILENCE_MAX;
                    self.hear(incoming?).await?
                }
                () = seat.woken() => self.look().await?,
                () = until(self.watch_due) => {
                    self.ask_to_report().await?;
                    Next::GoOn
                }
                () = until(self.room_due) => self.look_for_room(),
                () = seat.replaced() => {
                    self.was_replaced(seat).await;
                    Next::End("a newer link of this device has come")
                }
                () = self.links.tasks.stopping() => Next::End("the server is shutting down"),
                () = sleep_until(deadline) => Next::End("the device has been silent for too long"),
            };
        }
    }

    /// Tells of a link whose end is still there though a newer one has come. A device that came anew has
    /// let go of its old link.
    async fn was_replaced(&mut self, seat: &Seat) {
        self.lines = None;
        let is_active = matches!(self.told, Some(Standing::Active { .. }));
        let may_scout = self.tried.is_some_and(|at| at.elapsed() < SCOUTING);
        if !is_active || may_scout {
            return;
        }
        let tasks = &self.links.tasks;
        let answers = tokio::select! {
            answers = timeout(ANSWER, self.answers()) => answers.unwrap_or(false),
            () = tasks.stopping() => false,
        };
        if answers && let Some(newer) = seat.replaced_from() {
            let older = self.visit.remote().ip();
            self.links.ops.doubles.overlapped(self.uid, older, newer).await;
        }
    }

    /// Whether the other end answers a ping of now.
    async fn answers(&mut self) -> bool {
        let mut payload = vec![0; 8];
        if getrandom::fill(&mut payload).is_err()
            || self.socket.ping(payload.clone()).await.is_err()
        {
            return false;
        }
        loop {
            match self.socket.receive().await {
                Ok(Incoming::Pong(pong)) if *pong == *payload => return true,
                // What is not acknowledged comes again by the newer link, if it is one device.
                Ok(Incoming::Frame(_) | Incoming::Ping | Incoming::Pong(_)) => {}
                Ok(Incoming::Closed(_)) | Err(_) => return false,
            }
        }
    }

    /// Looks how the device stands and what it should be, and tells it what is new.
    async fn look(&mut self) -> Result<Next, LinkError> {
        let Some(standing) = self.links.ops.enrolment.standing(self.uid).await? else {
            return Ok(Next::End("the device was deleted"));
        };
        if self.told.as_ref() != Some(&standing) {
            self.socket.send(&ToAgent::Standing(standing.clone())).await?;
        }
        let next = match &standing {
            Standing::Rejected { .. } => Next::End("the device was rejected"),
            Standing::Revoked { .. } => Next::End("the device was revoked"),
            Standing::Pending { .. } => Next::GoOn,
            Standing::Active { .. } => {
                self.visit.welcome();
                if !matches!(self.told, Some(Standing::Active { .. })) {
                    let configs = &self.links.ops.configs;
                    if let Err(error) = configs.settle(self.uid).await {
                        // It is tried again, and no reason to lose touch.
                        tracing::warn!(uid = %self.uid, error = %Chain(&error), "a configuration is not settled");
                        configs.layers.look_at(self.uid, None);
                    }
                    self.config_reported = configs.reported_version(self.uid).await?;
                }
                self.push_config().await?;
                self.push_commands().await?;
                self.look_who_watches().await?;
                self.ask_for_lines().await?;
                Next::GoOn
            }
        };
        self.told = Some(standing);
        Ok(next)
    }

    async fn hear(&mut self, incoming: Incoming) -> Result<Next, LinkError> {
        let mut said = Said::read(incoming)?;
        loop {
            self.heard();
            let frame = match said {
                Said::Closed => return Ok(Next::End("the device left")),
                Said::Pong => return Ok(Next::GoOn),
                Said::Ping => {
                    self.send_again().await?;
                    return Ok(Next::GoOn);
                }
                Said::Frame(frame) => frame,
            };
            // A device that is quick says that it accepts a command, is at it and has done it all at
            // once. To note the last of it is enough.
            let later =
                if is_on_the_way(&frame) { self.socket.receive().now_or_never() } else { None };
            let Some(later) = later else { return self.act(frame).await };
            let later = later.map_err(LinkError::from).and_then(Said::read);
            if !later.as_ref().is_ok_and(|later| later.is_of_the_same(&frame))
                && let next @ Next::End(_) = self.act(frame).await?
            {
                return Ok(next);
            }
            said = later?;
        }
    }

    fn heard(&self) {
        self.links.ops.presence.heard(self.uid, self.links.ops.world.now());
    }

    async fn act(&mut self, frame: ToServer) -> Result<Next, LinkError> {
        let ops = &self.links.ops;
        let is_active = matches!(self.told, Some(Standing::Active { .. }));
        match frame {
            ToServer::Facts(facts) => ops.enrolment.facts(self.uid, *facts).await?,
            ToServer::Samples(samples) if is_active => {
                let stream = samples.stream;
                ops.doubles.reported(self.uid, &samples, self.visit.remote().ip()).await;
                match ops.telemetry.ingest(self.uid, samples).await {
                    Ok(seq) => self.socket.send(&ToAgent::Ack { stream, seq }).await?,
                    // Not acknowledged either; and a full disk is no reason to lose touch.
                    Err(OpsError::Store(StoreError::NoRoom(_))) => {
                        self.room_due.get_or_insert_with(|| Instant::now() + ROOM_AGAIN);
                        tracing::debug!(uid = %self.uid, "reports were not stored for want of room");
                    }
                    Err(error) => {
                        // Not acknowledged, so the device keeps them and brings them again.
                        tracing::warn!(uid = %self.uid, error = %Chain(&error), "reports were not stored");
                        return Ok(Next::End(why_not(&error)));
                    }
                }
            }
            ToServer::ConfigReported(word) if is_active => {
                self.config_reported = word.version;
                ops.configs.reported(self.uid, word).await?;
                self.push_config().await?;
            }
            ToServer::ConfigTrial(word) if is_active => {
                self.tried = Some(Instant::now());
                self.config_reported = word.version;
                ops.configs.tried(self.uid, word).await?;
                self.push_config().await?;
            }
            ToServer::Command(news) if is_active => {
                let id = news.id;
                if ops.commands.heard(self.uid, news).await? {
                    self.socket.send(&ToAgent::CommandNoted { id }).await?;
                }
            }
            ToServer::Logs(news) if is_active => {
                let ask = news.ask;
                if let Some(lines) = &self.lines {
                    lines.heard(news, ops.world.now());
                }
                self.socket.send(&ToAgent::LogsNoted { ask }).await?;
            }
            ToServer::NewKey(offer) if is_active => self.take_key(&offer).await?,
            ToServer::Samples(_)
            | ToServer::ConfigReported(_)
            | ToServer::ConfigTrial(_)
            | ToServer::Command(_)
            | ToServer::NewKey(_)
            | ToServer::Logs(_) => {
                tracing::debug!(uid = %self.uid, "a device that is not active sent data, not kept");
            }
        }
        Ok(Next::GoOn)
    }

    /// Notes a new key of the device before it is told so, or says why not.
    async fn take_key(&mut self, offer: &NewKey) -> Result<(), LinkError> {
        let ops = &self.links.ops;
        let open = ops.commands.open(self.uid).await?;
        let refused = ops.enrolment.offered(self.uid, offer, &open).await?.err();
        if let Some(why) = &refused {
            tracing::warn!(uid = %self.uid, why, "a new key was not taken");
        }
        let device_pub = offer.device_pub;
        Ok(self.socket.send(&ToAgent::NewKeyNoted { device_pub, refused }).await?)
    }

    /// Sends the latest configuration, unless the device has it or it is on its way.
    async fn push_config(&mut self) -> Result<(), LinkError> {
        let known = self.config_reported.max(self.config_sent);
        if let Some(push) = self.links.ops.configs.push_after(self.uid, known).await? {
            self.config_sent = push.version;
            self.socket.send(&ToAgent::Config(push)).await?;
            self.links.ops.configs.sent(self.uid, self.config_sent);
        }
        Ok(())
    }

    /// Sends what the device has said nothing of since its last ping: it may have had no room to take
    /// note of it.
    async fn send_again(&mut self) -> Result<(), LinkError> {
        if self.commands.is_empty() {
            return Ok(());
        }
        let open = self.links.ops.commands.open(self.uid).await?;
        let is_unheard = |id: Uid| {
            let command = open.iter().find(|command| command.id == id);
            command.is_some_and(|command| command.state == CommandState::Sent)
        };
        self.commands.retain(|(id, _)| !is_unheard(*id));
        self.push_commands().await
    }

    /// Sends what the device has to do and was not told in this session, also what an earlier one
    /// was told: it answers for what it knows.
    async fn push_commands(&mut self) -> Result<(), LinkError> {
        if !self.has_seat {
            return Ok(());
        }
        let ops = &self.links.ops.commands;
        let open = ops.open(self.uid).await?;
        self.commands.retain(|(id, _)| open.iter().any(|command| command.id == *id));
        for command in open {
            let told = (command.id, is_taken_back(&command));
            if self.commands.contains(&told) {
                continue;
            }
            let frame = match told {
                (id, true) => Some(ToAgent::CancelCommand { id: id.bytes() }),
                (_, false) => ops.order(command).await?,
            };
            if let Some(frame) = frame {
                self.commands.push(told);
                self.socket.send(&frame).await?;
            }
        }
        if self.commands.is_empty() {
            // Most devices have nothing to do, and there are many.
            self.commands = Vec::new();
        }
        Ok(())
    }

    /// Begins to ask for reports every second, or ends it.
    async fn look_who_watches(&mut self) -> Result<(), LinkError> {
        match (self.links.watched.is_watched(self.uid), self.watch_due) {
            (true, None) => self.ask_to_report().await,
            (false, Some(_)) => {
                self.watch_due = None;
                Ok(self.socket.send(&ToAgent::Watch { secs: 0 }).await?)
            }
            (true, Some(_)) | (false, None) => Ok(()),
        }
    }

    /// Asks for the lines that somebody wants to read, and takes back what nobody does.
    async fn ask_for_lines(&mut self) -> Result<(), LinkError> {
        let frames = self.lines.as_ref().map(logs::Link::frames).unwrap_or_default();
        for frame in frames {
            self.socket.send(&frame).await?;
        }
        Ok(())
    }

    /// A device that comes anew brings at once what could not be stored.
    fn look_for_room(&mut self) -> Next {
        if self.links.ops.world.store.shortage().is_none() {
            return Next::End("the server has room for reports again");
        }
        self.room_due = Some(Instant::now() + ROOM_AGAIN);
        Next::GoOn
    }

    async fn ask_to_report(&mut self) -> Result<(), LinkError> {
        self.watch_due = Some(Instant::now() + WATCH_AGAIN);
        let secs = u16::try_from(WATCH.as_secs()).expect("a quarter of a minute fits");
        Ok(self.socket.send(&ToAgent::Watch { secs }).await?)
    }
}

/// What a device is told when its reports were not stored. Some will be when it brings them again,
/// some never.
fn why_not(error: &OpsError) -> &'static str {
    match error {
        OpsError::Store(StoreError::Busy) => {
            "more reports are on their way than the server takes in at once"
        }
        OpsError::Invalid { .. }
        | OpsError::TooLarge(_)
        | OpsError::Store(StoreError::TooLarge(_)) => "the server takes no reports like these",
        OpsError::NotFound(_)
        | OpsError::Conflict(_)
        | OpsError::Stale { .. }
        | OpsError::Forbidden(_)
        | OpsError::Defect
        | OpsError::Store(_) => "the server cannot store reports now",
    }
}

/// Waits for a moment, or for ever.
async fn until(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => std::future::pending().await,
    }
}
