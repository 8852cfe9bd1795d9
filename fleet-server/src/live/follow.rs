//! Lines of a device's log, as they come, for one reader.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use fleet_core::Chain;
use fleet_core::api::{LogEntries, LogEntry, LogHello, LogLink, LogOver, LogOverKind, Ping};
use fleet_core::id::{DeviceId, Uid};
use fleet_core::untrusted::Untrusted;
use fleet_core::wire::Standing;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout};

use super::Live;
use super::sse::Piece;
use super::streams::{Full, Place};
use crate::logs::{self, Wish};
use crate::ops::sessions::SessionSecret;
use crate::ops::{Access, OpsError};

/// Between signs of life.
const PING_INTERVAL: Duration = Duration::from_secs(10);
/// Between looks at whether the key is still good, and the device still in the fleet.
const ACCESS_INTERVAL: Duration = Duration::from_secs(4);
/// Bytes of lines in one message: escaped, a line of the stream holds them.
const MESSAGE_BYTES_MAX: usize = 96 * 1024;

/// Who follows what.
pub(crate) struct Following {
    pub(crate) device_id: DeviceId,
    pub(crate) uid: Uid,
    pub(crate) wish: Wish,
    /// The key that opens it.
    pub(crate) key: String,
    /// What whoever holds it may see.
    pub(crate) access: Access,
    /// The browser's session, if it is one that opens it: it ends with that, too.
    pub(crate) session: Option<SessionSecret>,
}

/// Why nobody can follow it now.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoRoom {
    #[error(transparent)]
    Streams(#[from] Full),
    #[error(transparent)]
    Logs(#[from] logs::Full),
}

/// A reader, seen from here.
struct Follower {
    live: Arc<Live>,
    following: Following,
    lines: logs::Reader,
    /// Whether the reader was told that the device is connected.
    is_linked: bool,
    /// Lines that this reader lost.
    lost: u64,
    ping_due: Instant,
    access_due: Instant,
    /// The stream's place among all.
    _place: Place,
}

/// Why a stream ends from our side without a word.
#[derive(Debug, thiserror::Error)]
enum Broken {
    #[error("a message cannot be written")]
    Encode(#[from] serde_json::Error),
    #[error("something cannot be read")]
    Ops(#[from] OpsError),
}

impl Live {
    /// Opens a stream of lines; what it says comes out of the channel until either side lets go.
    pub(crate) fn follow(
        self: &Arc<Self>,
        following: Following,
    ) -> Result<mpsc::Receiver<Bytes>, NoRoom> {
        let place = self.streams.open(&following.key)?;
        let lines = self.logs.read(following.uid, following.wish.clone())?;
        let now = Instant::now();
        let follower = Follower {
            live: self.clone(),
            is_linked: lines.is_linked(),
            following,
            lines,
            lost: 0,
            ping_due: now + PING_INTERVAL,
            access_due: now + ACCESS_INTERVAL,
            _place: place,
        };
        // One piece waits while the one before is being sent.
        let (sender, receiver) = mpsc::channel(1);
        self.tasks.spawn("log stream", follower.run(sender));
        Ok(receiver)
    }
}

impl Follower {
    async fn run(mut self, sender: mpsc::Sender<Bytes>) {
        let tasks = self.live.tasks.clone();
        let ended = tokio::select! {
            () = tasks.stopping() => return,
            () = sender.closed() => return,
            ended = self.talk(&sender) => ended,
        };
        if let Err(broken) = ended {
            tracing::debug!(uid = %self.following.uid, reason = %Chain(&broken), "a stream of lines was ended");
        }
    }

    async fn talk(&mut self, sender: &mpsc::Sender<Bytes>) -> Result<(), Broken> {
        let mut piece = Piece::default();
        let Following { device_id, uid, .. } = &self.following;
        let connected = self.is_linked;
        piece.add(
            "hello",
            None,
            &LogHello { device_id: device_id.clone(), uid: *uid, connected },
        )?;
        loop {
            // What is said is found out when there is room for it, not before.
            let room = timeout(self.live.patience, sender.reserve()).await;
            let Ok(Ok(room)) = room else { return Ok(()) };
            let over = loop {
                let over = self.look(&mut piece).await?;
                if over.is_some() || !piece.is_empty() {
                    break over;
                }
                tokio::select! {
                    () = self.lines.changed() => {}
                    () = sleep_until(self.ping_due.min(self.access_due)) => {}
                }
            };
            if let Some(over) = &over {
                piece.add("over", None, over)?;
            }
            if let Some(bytes) = std::mem::take(&mut piece).into_bytes() {
                room.send(bytes.into());
            }
            if over.is_some() {
                return Ok(());
            }
        }
    }

    /// Says what is new; gives why nothing more comes.
    async fn look(&mut self, piece: &mut Piece) -> Result<Option<LogOver>, Broken> {
        if let Some(over) = self.check_access().await? {
            return Ok(Some(over));
        }
        let taken = self.lines.take(MESSAGE_BYTES_MAX);
        self.lost = self.lost.saturating_add(taken.lost);
        if taken.is_torn {
            // No lines and no count: some may be missing here, and nobody knows how many.
            piece.add("lines", None, &LogEntries::default())?;
        }
        if !taken.lines.is_empty() || taken.lost > 0 {
            let lines = taken.lines.iter().map(|line| LogEntry::from(&**line)).collect();
            piece.add("lines", None, &LogEntries { lines, dropped: taken.lost })?;
        }
        if std::mem::replace(&mut self.is_linked, taken.is_linked) != taken.is_linked {
            piece.add("link", None, &LogLink { connected: taken.is_linked })?;
        }
        let now = Instant::now();
        if now >= self.ping_due {
            self.ping_due = now + PING_INTERVAL;
            let ping = Ping { time: self.live.ops.world.now(), skipped: self.lost };
            piece.add("ping", None, &ping)?;
        }
        Ok(taken.over().map(|(is_refused, why)| {
            let kind = if is_refused { LogOverKind::Refused } else { LogOverKind::Failed };
            over(kind, why)
        }))
    }

    /// Whether this may go on.
    async fn check_access(&mut self) -> Result<Option<LogOver>, Broken> {
        let now = Instant::now();
        if now < self.access_due {
            return Ok(None);
        }
        self.access_due = now + ACCESS_INTERVAL;
        let (ops, following) = (&self.live.ops, &self.following);
        if !ops.keys.is_good(&following.key).await? {
            return Ok(Some(over(LogOverKind::Access, "the key is no longer good")));
        }
        if let Some(session) = &following.session
            && ops.sessions.find(session).await?.is_none()
        {
            return Ok(Some(over(LogOverKind::Access, "the session is over")));
        }
        let standing = ops.enrolment.standing(following.uid).await?;
        // One that has left the scope of the key is as if it were not there.
        let is_active = matches!(standing, Some(Standing::Active { .. }))
            && following.access.has_listed(ops.world.store.directory(), following.uid);
        let gone = || over(LogOverKind::Gone, "the device is no longer in the fleet");
        Ok((!is_active).then(gone))
    }
}

fn over(kind: LogOverKind, reason: impl Into<String>) -> LogOver {
    LogOver { kind, reason: Untrusted::new(reason) }
}
