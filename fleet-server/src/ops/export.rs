//! Exports: the whole store, row by row, for whoever asks; a few at a time.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use fleet_core::net::shutdown::Tasks;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::{Instant, timeout};

use super::sessions::SessionSecret;
use super::{Access, Ops};
use crate::export::{Stop, Taker, Wish, pass};

/// Exports at one time. Each reads all there is.
const EXPORTS_MAX: usize = 2;
/// Between looks at whether the key is still good.
const KEY_INTERVAL: Duration = Duration::from_secs(4);

/// How many exports there may be.
pub(crate) struct Exports {
    places: Arc<Semaphore>,
}

/// There are as many exports as there may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{EXPORTS_MAX} exports are being made, and there may be no more")]
pub(crate) struct Full;

/// Who wants an export.
pub(crate) struct Reader {
    /// The key that asks for it.
    pub(crate) key: String,
    /// The browser's session, if it is one that asks: the export ends with that, too.
    pub(crate) session: Option<SessionSecret>,
    /// How long it may take nothing.
    pub(crate) patience: Duration,
}

/// An export that may begin.
pub(crate) struct Export {
    ops: Arc<Ops>,
    wish: Wish,
    reader: Reader,
    _place: OwnedSemaphorePermit,
}

impl Default for Exports {
    fn default() -> Self {
        Self { places: Arc::new(Semaphore::new(EXPORTS_MAX)) }
    }
}

impl Exports {
    /// Takes a place for an export.
    pub(crate) fn begin(
        &self,
        access: &Access,
        ops: Arc<Ops>,
        wish: Wish,
        reader: Reader,
    ) -> Result<Export, Full> {
        let place = self.places.clone().try_acquire_owned().map_err(|_| Full)?;
        let within = access.within(ops.world.store.directory());
        Ok(Export { ops, wish: Wish { within, ..wish }, reader, _place: place })
    }
}

impl Export {
    /// Sends all lines, as fast as they are taken, until either side stops. Returns what came of it.
    pub(crate) async fn run(self, sender: mpsc::Sender<Bytes>, tasks: Tasks) -> String {
        let Self { ops, wish, reader, _place } = self;
        let key = reader.key.clone();
        tracing::info!(key, tables = ?wish.tables, "an export begins");
        let mut outlet = Outlet::new(&ops, reader, &sender);
        let (store, now) = (ops.world.store.as_ref(), ops.world.now());
        let outcome = tokio::select! {
            () = tasks.stopping() => Err(Stop::Server),
            () = sender.closed() => Err(Stop::Gone),
            outcome = pass(store, wish, now, &mut outlet) => outcome,
        };
        match outcome {
            Ok(rows) => {
                tracing::info!(key, ?rows, "an export is finished");
                format!("finished, {} rows", rows.0.values().sum::<u64>())
            }
            Err(reason) => {
                tracing::info!(key, %reason, "an export was ended");
                format!("ended before it was whole: {reason}")
            }
        }
    }
}

/// Where what was asked for goes, for as long as whoever asks may have it.
pub(super) struct Outlet<'a> {
    ops: &'a Ops,
    reader: Reader,
    sender: &'a mpsc::Sender<Bytes>,
    key_due: Instant,
}

#[async_trait]
impl Taker for Outlet<'_> {
    async fn take(&mut self, lines: Bytes) -> Result<(), Stop> {
        self.check_access().await?;
        match timeout(self.reader.patience, self.sender.send(lines)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(Stop::Gone),
            Err(_) => Err(Stop::Slow),
        }
    }
}

impl<'a> Outlet<'a> {
    pub(super) fn new(ops: &'a Ops, reader: Reader, sender: &'a mpsc::Sender<Bytes>) -> Self {
        Self { ops, reader, sender, key_due: Instant::now() }
    }

    /// Ends the export of whoever may not have it any more.
    async fn check_access(&mut self) -> Result<(), Stop> {
        let now = Instant::now();
        if now < self.key_due {
            return Ok(());
        }
        self.key_due = now + KEY_INTERVAL;
        let is_good = self.ops.keys.is_good(&self.reader.key).await.map_err(|_| Stop::Access)?;
        let has_session = match &self.reader.session {
            Some(session) => {
                self.ops.sessions.find(session).await.map_err(|_| Stop::Access)?.is_some()
            }
            None => true,
        };
        if is_good && has_session { Ok(()) } else { Err(Stop::Access) }
    }
}
