//! The conversation on an open link: reports, what became of commands and lines of logs up,
//! configurations, commands and the device's standing down, pings in between.
//!
//! One frame of new reports is under way at a time, and one of those of before. That bounds what
//! the server must hold, makes a server that cannot write slow its devices down instead of filling
//! its memory, and lets no new report wait for old ones.

use std::time::Duration;

use bytes::Bytes;
use fleet_core::api::LinkState;
use fleet_core::codec;
use fleet_core::identity::PublicKey;
use fleet_core::net::socket::{Incoming, SocketError};
use fleet_core::net::url::ServerUrl;
use fleet_core::untrusted::Untrusted;
use fleet_core::wire::{Facts, Standing, ToAgent, ToServer};
use tokio::time::{Instant, sleep_until, timeout_at};

use super::dial::{LinkError, Opened, Socket};
use super::{Calls, Link};
use crate::logs::Asks;
use crate::probation::{Linked, Probation};
use crate::spool::Lane;

/// Between pings.
const PING: Duration = Duration::from_secs(30);
/// How long the server may take to answer one.
const PONG: Duration = Duration::from_secs(15);
/// How long the server may take to store a frame before it is sent again.
const STORED: Duration = Duration::from_secs(60);
/// Between looks at what the device is.
const FACTS: Duration = Duration::from_secs(600);
/// How long the last reports may take when the agent stops.
const FLUSH: Duration = Duration::from_secs(2);

/// In which order reports are looked for.
const LANES: [Lane; 2] = [Lane::Live, Lane::Backlog];

/// Why a conversation ended, if not by an error.
pub(super) enum End {
    /// The agent stops.
    Stopping,
    /// A new claim may have opened a door.
    Claimed,
    /// The device's owner wants another server, or none.
    Forgotten,
    /// There is a link to another place of the server, or the device goes back to the one before.
    Elsewhere,
    /// The server does not want the device.
    Dismissed,
}

/// A conversation.
pub(super) struct Session<'a> {
    link: &'a Link,
    probation: &'a Probation,
    socket: Socket,
    server: PublicKey,
    /// Where the link leads.
    url: ServerUrl,
    /// The server's name for the device, while that belongs to the fleet.
    active: Option<[u8; 16]>,
    facts: Facts,
    facts_due: Instant,
    /// The lines that the server wants.
    asks: Asks,
    /// The reports under way, if there are any, by their lane.
    sent: [Option<Sent>; LANES.len()],
    ping_due: Instant,
    pinged: Option<Ping>,
    pings: u64,
}

struct Sent {
    stream: [u8; 16],
    /// The largest number among them.
    last: u64,
    at: Instant,
}

struct Ping {
    payload: Bytes,
    at: Instant,
}

impl<'a> Session<'a> {
    /// Begins where the hello ended.
    pub(super) fn new(
        link: &'a Link,
        probation: &'a Probation,
        opened: Opened,
        facts: Facts,
    ) -> (Self, Standing) {
        let now = Instant::now();
        let session = Self {
            link,
            probation,
            socket: opened.socket,
            server: opened.server,
            url: opened.url,
            active: None,
            facts,
            facts_due: now + FACTS,
            asks: Asks::new(link.logs.clone(), link.tasks.clone()),
            sent: [None, None],
            ping_due: now,
            pinged: None,
            pings: 0,
        };
        (session, opened.standing)
    }

    /// Talks until either end closes.
    pub(super) async fn run(
        mut self,
        standing: Standing,
        calls: &mut Calls,
    ) -> Result<End, LinkError> {
        let mut end = self.stand(standing).await?;
        let mut plan = self.link.telemetry.subscribe();
        while end.is_none() {
            let pong_due = self.pinged.as_ref().map(|ping| ping.at + PONG);
            let stored_due = self.sent.iter().flatten().map(|sent| sent.at + STORED).min();
            tokio::select! {
                incoming = self.socket.receive() => end = self.hear(incoming?).await?,
                () = self.link.queue.pushed(), if self.may_send() => self.send_reports().await?,
                () = self.link.commands.told(), if self.active.is_some() => self.send_news().await?,
                () = self.link.new_keys.told(), if self.active.is_some() => self.send_new_key().await?,
                () = self.asks.ready(), if self.active.is_some() => self.send_lines().await?,
                () = self.probation.told(), if self.active.is_some() => self.send_config_word().await?,
                () = sleep_until(self.ping_due) => self.ping().await?,
                () = until(pong_due) => return Err(LinkError::Silent),
                () = until(stored_due) => self.send_again().await?,
                () = sleep_until(self.facts_due) => self.send_facts().await?,
                _ = plan.changed() => self.send_facts().await?,
                () = calls.resets.come() => end = Some(End::Forgotten),
                () = calls.scout.come() => end = Some(End::Elsewhere),
                _ = calls.places.changed() => end = self.look_where_it_leads(calls),
                _ = calls.claims.changed(), if self.active.is_none() => end = Some(End::Claimed),
                () = self.link.tasks.stopping() => end = Some(End::Stopping),
            }
        }
        let end = end.expect("the loop ends with an end");
        if matches!(end, End::Stopping) {
            self.flush().await?;
        }
        self.socket.close("the agent leaves").await;
        Ok(end)
    }

    async fn hear(&mut self, incoming: Incoming) -> Result<Option<End>, LinkError> {
        match incoming {
            Incoming::Frame(bytes) => match codec::decode(&bytes).map_err(SocketError::from)? {
                ToAgent::Standing(standing) => return self.stand(standing).await,
                ToAgent::Ack { stream, seq } => self.acknowledged(stream, seq).await?,
                ToAgent::Watch { secs } => {
                    self.link.telemetry.watch(Duration::from_secs(secs.into()));
                }
                ToAgent::Config(push) => {
                    let Some(uid) = self.active else { return Ok(None) };
                    let now = std::time::Instant::now();
                    if let Some(word) = self.probation.take(push, uid, self.server, now) {
                        self.socket.send(&word).await?;
                    }
                }
                ToAgent::Command(order) => {
                    let Some(uid) = self.takes_orders() else { return Ok(None) };
                    if order.is_signed(uid, self.server) {
                        self.link.commands.order(*order);
                        self.send_news().await?;
                    } else {
                        tracing::warn!(
                            "dropped a command that the server did not sign for this device"
                        );
                    }
                }
                ToAgent::CancelCommand { id } if self.takes_orders().is_some() => {
                    self.link.commands.cancel(id);
                    self.send_news().await?;
                }
                ToAgent::CommandNoted { id } if self.takes_orders().is_some() => {
                    self.link.commands.noted(id);
                }
                ToAgent::Logs(ask) if self.takes_orders().is_some() => {
                    if let Some(news) = self.asks.begin(*ask) {
                        self.socket.send(&ToServer::Logs(news)).await?;
                    }
                }
                ToAgent::LogsEnd { ask } => self.asks.end(ask),
                ToAgent::LogsNoted { .. } => self.asks.noted(),
                ToAgent::NewKeyNoted { device_pub, refused } if self.takes_orders().is_some() => {
                    self.link.new_keys.noted(device_pub, refused);
                }
                ToAgent::CancelCommand { .. }
                | ToAgent::CommandNoted { .. }
                | ToAgent::Logs(_)
                | ToAgent::NewKeyNoted { .. } => {}
            },
            Incoming::Pong(payload) => self.ponged(&payload),
            Incoming::Ping => {}
            Incoming::Closed(reason) => {
                return Err(LinkError::Closed(reason.unwrap_or_else(|| "without a word".into())));
            }
        }
        Ok(None)
    }

    async fn stand(&mut self, standing: Standing) -> Result<Option<End>, LinkError> {
        let status = &self.link.status;
        let (state, reason) = match standing {
            Standing::Active { uid, device_id } => {
                self.named(&device_id);
                let device_id = Untrusted::new(device_id);
                tracing::info!(%device_id, server = %self.server.identity(), "connected");
                status.set(LinkState::Connected);
                if self.active.replace(uid).is_none() {
                    self.link.queue.serve(self.server.identity());
                    self.link.queue.connected();
                }
                self.probation.linked(Some(self.place()));
                if self.takes_orders().is_some() {
                    self.link.commands.serve(self.server.identity());
                    self.link.commands.connected();
                }
                self.socket.send(&self.probation.word(self.server)).await?;
                self.send_news().await?;
                self.send_new_key().await?;
                self.send_reports().await?;
                return Ok(None);
            }
            Standing::Pending { reason } => (LinkState::Pending, reason),
            Standing::Rejected { reason } => (LinkState::Rejected, reason),
            Standing::Revoked { reason } => (LinkState::Revoked, reason),
        };
        if self.active.take().is_some() {
            self.sent = [None, None];
            self.asks.clear();
            self.probation.linked(None);
            self.link.queue.disconnected();
            self.link.commands.disconnected();
        }
        let reason = Untrusted::new(reason);
        tracing::warn!(state = state.word(), %reason, "the device is not in the fleet");
        status.failed(state, reason);
        Ok((state != LinkState::Pending).then_some(End::Dismissed))
    }

    /// Whether the link leads where a configuration that is tried says.
    fn place(&self) -> Linked {
        let own = || self.link.device.membership.own_urls();
        let tried = self.probation.places().borrow().tried.clone();
        let is_there = tried.is_some_and(|tried| tried.urls(own).contains(&self.url));
        if is_there { Linked::There } else { Linked::Elsewhere }
    }

    /// Looks whether the link still leads where the server is looked for.
    fn look_where_it_leads(&self, calls: &mut Calls) -> Option<End> {
        self.link.prefer(&mut calls.places);
        let place = self.place();
        if self.active.is_some() {
            self.probation.linked(Some(place));
        }
        let target = self.link.device.membership.target()?;
        let is_right = place == Linked::There || target.urls.contains(&self.url);
        (!is_right).then_some(End::Elsewhere)
    }

    /// What the server calls the device is what it goes by, everywhere. Where that cannot be kept
    /// the link is no worse.
    fn named(&self, device_id: &str) {
        let kept = match device_id.parse() {
            Ok(id) => self.link.device.membership.named(self.server, &id),
            Err(error) => {
                return tracing::warn!(%error, "the server calls this device by what is no id");
            }
        };
        if let Err(error) = kept {
            tracing::warn!(error = %fleet_core::Chain(&error), "cannot keep the id that the server gave");
        }
    }

    /// The server's own name for the device, if the device does what this server says. One that was
    /// just forgotten may not have heard of it.
    fn takes_orders(&self) -> Option<[u8; 16]> {
        let server = self.link.device.membership.server();
        self.active.filter(|_| server == Some(self.server.identity()))
    }

    /// Says all that there is to say of commands. What does not arrive is said again on the next
    /// link.
    async fn send_news(&mut self) -> Result<(), LinkError> {
        while self.active.is_some()
            && let Some(news) = self.link.commands.news()
        {
            self.socket.send(&ToServer::Command(news)).await?;
        }
        Ok(())
    }

    /// Offers the server the key that is to take the place of the device's own.
    async fn send_new_key(&mut self) -> Result<(), LinkError> {
        let Some(uid) = self.takes_orders() else { return Ok(()) };
        let own = &self.link.device.identity.key;
        if let Some(offer) = self.link.new_keys.offer(uid, self.server, own) {
            self.socket.send(&ToServer::NewKey(Box::new(offer))).await?;
        }
        Ok(())
    }

    /// Sends some of the lines that are wanted, behind all that matters more.
    async fn send_lines(&mut self) -> Result<(), LinkError> {
        self.send_news().await?;
        self.send_reports().await?;
        if let Some(news) = self.asks.take() {
            self.socket.send(&ToServer::Logs(news)).await?;
        }
        Ok(())
    }

    fn may_send(&self) -> bool {
        self.active.is_some() && self.sent.iter().any(Option::is_none)
    }

    async fn send_reports(&mut self) -> Result<(), LinkError> {
        if self.active.is_none() {
            return Ok(());
        }
        for (lane, sent) in LANES.into_iter().zip(&mut self.sent) {
            if sent.is_some() {
                continue;
            }
            let Some(samples) = self.link.queue.take(lane) else { continue };
            let stream = samples.stream;
            let last = samples.reports.last().map_or(0, |report| report.seq);
            self.socket.send(&ToServer::Samples(samples)).await?;
            *sent = Some(Sent { stream, last, at: Instant::now() });
        }
        Ok(())
    }

    async fn send_again(&mut self) -> Result<(), LinkError> {
        tracing::warn!("the server has not stored the last reports, sending them again");
        self.sent = [None, None];
        self.send_reports().await
    }

    async fn acknowledged(&mut self, stream: [u8; 16], seq: u64) -> Result<(), LinkError> {
        // What was not sent cannot have been stored.
        let under_way =
            |sent: &&mut Option<Sent>| sent.as_ref().is_some_and(|sent| sent.stream == stream);
        let Some(sent) = self.sent.iter_mut().find(under_way) else { return Ok(()) };
        let last = sent.as_ref().map_or(0, |sent| sent.last);
        for report in self.link.queue.acknowledge(stream, seq.min(last)) {
            tracing::debug!(seq = report.seq, at = report.at_millis, "acknowledged");
        }
        if seq >= last {
            *sent = None;
        }
        self.probation.acknowledged(self.server, stream, seq.min(last));
        self.send_reports().await
    }

    async fn send_config_word(&mut self) -> Result<(), LinkError> {
        Ok(self.socket.send(&self.probation.word(self.server)).await?)
    }

    async fn send_facts(&mut self) -> Result<(), LinkError> {
        self.facts_due = Instant::now() + FACTS;
        let facts = self.link.facts.read(self.link.telemetry.interval());
        if facts != self.facts {
            self.facts = facts.clone();
            self.socket.send(&ToServer::Facts(Box::new(facts))).await?;
        }
        Ok(())
    }

    async fn ping(&mut self) -> Result<(), LinkError> {
        self.pings += 1;
        let payload = Bytes::copy_from_slice(&self.pings.to_le_bytes());
        self.socket.ping(payload.to_vec()).await?;
        let at = Instant::now();
        self.ping_due = at + PING;
        self.pinged = Some(Ping { payload, at });
        Ok(())
    }

    fn ponged(&mut self, payload: &Bytes) {
        if let Some(ping) = self.pinged.take_if(|ping| ping.payload == *payload) {
            self.link.latency.set(ping.at.elapsed());
        }
    }

    /// Sends what waits, as far as the server takes it soon.
    async fn flush(&mut self) -> Result<(), LinkError> {
        let deadline = Instant::now() + FLUSH;
        self.send_news().await?;
        self.send_reports().await?;
        while self.sent.iter().any(Option::is_some) {
            let Ok(incoming) = timeout_at(deadline, self.socket.receive()).await else { break };
            if self.hear(incoming?).await?.is_some() {
                break;
            }
        }
        Ok(())
    }
}

/// Waits for a moment, or for ever.
async fn until(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => std::future::pending().await,
    }
}
