//! The live stream: what the console and the page look at, as it is from moment to moment.
//!
//! ```text
//! ops, link ─ ring ─▶ keeper ─ reads the store, judges ─▶ board ◀─ asks ─ reader, one per stream
//! ```
//!
//! Nothing is pushed to a reader. Each asks, a few times a second and only while its peer takes
//! what it sends, what is new since it last asked; so a slow one gets fewer and newer rows, and
//! there is no queue that could grow.

mod again;
mod board;
mod follow;
mod keeper;
mod listing;
mod looking;
mod position;
mod reader;
mod row;
mod seen;
mod sse;
mod streams;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use fleet_core::api::StreamView;
use fleet_core::field::SortKey;
use fleet_core::filter::Filter;
use fleet_core::id::Uid;
use fleet_core::net::shutdown::Tasks;
use tokio::sync::mpsc;

use crate::logs::Logs;
use crate::ops::sessions::SessionSecret;
use crate::ops::{Access, Ops};
use crate::watched::Watched;
pub(crate) use board::Board;
use board::Counts;
pub(crate) use follow::Following;
pub(crate) use keeper::Keeper;
pub(crate) use listing::{Listed, Listing};
use position::Position;
use reader::Reader;
use streams::Streams;
pub(crate) use streams::{Full, NoView};

/// All that the streams share.
pub(crate) struct Live {
    /// This run of the server: slots mean something within it only.
    instance: Uid,
    ops: Arc<Ops>,
    board: Arc<Board>,
    streams: Arc<Streams>,
    watched: Arc<Watched>,
    /// Lines of devices' logs.
    pub(crate) logs: Arc<Logs>,
    tasks: Tasks,
    /// How long a reader may take nothing.
    patience: Duration,
}

/// A wish for a stream.
pub(crate) struct Wish {
    /// The key that opens it.
    pub(crate) key: String,
    /// What whoever holds it may see.
    pub(crate) access: Access,
    /// The browser's session, if it is one that opens it: it ends with that, too.
    pub(crate) session: Option<SessionSecret>,
    /// The id of the last message that the reader has.
    pub(crate) since: Option<String>,
    /// Only these devices.
    pub(crate) only: Option<HashSet<Uid>>,
    /// Also what happens to others, and to none.
    pub(crate) has_all_events: bool,
}

impl Live {
    pub(crate) fn new(
        ops: Arc<Ops>,
        keeper: &Keeper,
        watched: Arc<Watched>,
        logs: Arc<Logs>,
        tasks: Tasks,
        patience: Duration,
    ) -> Self {
        let board = keeper.board();
        let streams = Arc::default();
        Self { instance: Uid::new(), ops, board, streams, watched, logs, tasks, patience }
    }

    /// Opens a stream; what it says comes out of the channel until either side lets go of it.
    pub(crate) fn open(self: &Arc<Self>, wish: Wish) -> Result<mpsc::Receiver<Bytes>, Full> {
        let place = self.streams.open(&wish.key)?;
        let since = wish.since.as_deref().and_then(|text| text.parse::<Position>().ok());
        // One piece waits while the one before is being sent; more would only grow old.
        let (sender, receiver) = mpsc::channel(1);
        let reader = Reader::new(self.clone(), place, since, wish);
        self.tasks.spawn("stream", reader.run(sender));
        Ok(receiver)
    }

    /// How many devices have each status. Costs the same for any fleet, but for who has a scope.
    pub(crate) fn counts(&self, access: &Access) -> Counts {
        match access.members(self.ops.world.store.directory()) {
            None => self.board.counts(),
            Some(members) => self.board.counts_of(&members),
        }
    }

    /// The devices that a filter finds, to be shown in the order of a key.
    pub(crate) fn list(&self, access: &Access, filter: &Filter, sort: SortKey) -> Listing {
        let members = access.members(self.ops.world.store.directory());
        let now = self.ops.world.now();
        Listing::new(&self.board, members.as_deref(), &self.ops.presence, filter, sort, now)
    }

    /// Takes what a stream's reader looks at now.
    pub(crate) fn look(&self, stream: Uid, key: &str, view: StreamView) -> Result<(), NoView> {
        self.streams.look(stream, key, view)
    }
}
