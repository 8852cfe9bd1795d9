//! The link to the server: a state that can be seen, with its age.

use std::time::Duration;

use fleet_core::api::Hello;
use fleet_core::time::Timestamp;
use fleet_core::untrusted::Untrusted;

/// A link that is down for less than this is not worth a banner.
const BANNER_AFTER: Duration = Duration::from_secs(5);

/// A server gives a sign of life every ten seconds: one that does not is about to be given up.
const SILENT_AFTER: Duration = Duration::from_secs(12);

/// How the link is.
#[derive(Clone, Debug)]
pub struct Link {
    /// What it is doing.
    pub phase: Phase,
    /// What the server said of itself when it was last there.
    pub server: Option<ServerView>,
    /// When the server was last heard, by the clock that never jumps.
    pub heard: Option<Duration>,
    /// The same, by the wall.
    pub heard_at: Option<Timestamp>,
    /// Attempts since it was last up.
    pub attempts: u32,
    /// What is wrong with what the server stores, as it says.
    pub trouble: Option<Untrusted>,
    /// How far the server's clock is ahead of ours, in milliseconds.
    pub clock_ahead_millis: i64,
}

/// What a link is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Trying, for the first time or again.
    Connecting,
    /// The server speaks.
    Live,
    /// Waiting for the next attempt.
    Down {
        /// Why, in words.
        reason: String,
        /// Since when.
        since: Duration,
        /// When the next attempt is made.
        retry_at: Option<Duration>,
        /// Whether the server refuses the key or what it may do.
        is_denied: bool,
    },
}

/// What a server says of itself.
#[derive(Clone, Debug)]
pub struct ServerView {
    /// This run of it.
    pub instance: fleet_core::id::Uid,
    /// Its release.
    pub version: Untrusted,
    /// The key that we are there with.
    pub key: Untrusted,
}

impl Default for Link {
    fn default() -> Self {
        Self {
            phase: Phase::Connecting,
            server: None,
            heard: None,
            heard_at: None,
            attempts: 0,
            trouble: None,
            clock_ahead_millis: 0,
        }
    }
}

impl Link {
    /// Whether the server can be asked now.
    pub fn is_live(&self) -> bool {
        self.phase == Phase::Live
    }

    /// Notes a beginning.
    pub fn greeted(&mut self, hello: &Hello, now: super::Moment) {
        self.phase = Phase::Live;
        self.attempts = 0;
        // If something is wrong it is said anew.
        self.trouble = None;
        self.server = Some(ServerView {
            instance: hello.instance,
            version: Untrusted::from(hello.version.as_str()),
            key: hello.key.clone(),
        });
        self.heard(hello.time, now);
    }

    /// Notes a sign of life with the server's time.
    pub fn heard(&mut self, server_time: Timestamp, now: super::Moment) {
        self.clock_ahead_millis = server_time.millis().saturating_sub(now.wall.millis());
        self.lives(now);
    }

    /// Notes a sign of life.
    pub fn lives(&mut self, now: super::Moment) {
        self.heard = Some(now.since_start);
        self.heard_at = Some(now.wall);
    }

    /// Notes a new attempt. What was known of the trouble stays until the attempt has an end.
    pub fn connecting(&mut self) {
        self.attempts += 1;
        if let Phase::Down { retry_at, .. } = &mut self.phase {
            *retry_at = None;
        } else {
            self.phase = Phase::Connecting;
        }
    }

    /// Notes that the link is down.
    pub fn down(
        &mut self,
        reason: String,
        retry_in: Option<Duration>,
        is_denied: bool,
        now: Duration,
    ) {
        let since = match self.phase {
            Phase::Down { since, .. } => since,
            Phase::Connecting | Phase::Live => now,
        };
        let retry_at = retry_in.map(|wait| now + wait);
        self.phase = Phase::Down { reason, since, retry_at, is_denied };
    }

    /// Whether the trouble is old enough, or final enough, to say so over the data.
    pub fn wants_banner(&self, now: Duration) -> bool {
        match &self.phase {
            Phase::Down { since, is_denied, .. } => {
                *is_denied || self.heard.is_none() || now.saturating_sub(*since) >= BANNER_AFTER
            }
            Phase::Connecting | Phase::Live => false,
        }
    }

    /// For how long the server has said nothing, if that is longer than it should be.
    pub fn silence(&self, now: Duration) -> Option<Duration> {
        let silence = self.heard.map(|heard| now.saturating_sub(heard))?;
        (self.is_live() && silence >= SILENT_AFTER).then_some(silence)
    }

    /// The time as the server has it, as far as that is known: ages are counted by its clock.
    pub fn server_time(&self, wall: Timestamp) -> Timestamp {
        Timestamp::from_millis(wall.millis().saturating_add(self.clock_ahead_millis))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{live_app, wait};

    #[test]
    fn a_server_that_says_nothing_is_silent_before_it_is_gone() {
        let mut app = live_app();
        wait(&mut app, Duration::from_secs(11));
        assert_eq!(app.desk.link.silence(app.desk.now.since_start), None);
        wait(&mut app, Duration::from_secs(3));
        let silence = app.desk.link.silence(app.desk.now.since_start);
        assert_eq!(silence, Some(Duration::from_secs(14)));
        crate::testing::disconnect(&mut app);
        assert_eq!(app.desk.link.silence(app.desk.now.since_start), None);
    }
}
