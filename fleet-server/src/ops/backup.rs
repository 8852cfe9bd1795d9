//! Backups of a running server, for operators; one at a time.

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use fleet_core::Chain;
use fleet_core::api::EventKind;
use fleet_core::net::shutdown::Tasks;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use super::events::NewEvent;
use super::export::{Outlet, Reader};
use super::{Actor, Ops};
use crate::backup::copy;
use crate::export::{Stop, Taker as _};

/// Pieces that are ready before they are asked for.
const PIECES_WAITING: usize = 2;

/// Who may take a backup now.
pub(crate) struct Backups {
    database: PathBuf,
    place: Arc<Semaphore>,
}

/// Somebody else is taking one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a backup is being taken, and there may be no other meanwhile")]
pub(crate) struct Full;

/// A backup that may begin.
pub(crate) struct Backup {
    ops: Arc<Ops>,
    database: PathBuf,
    reader: Reader,
    _place: OwnedSemaphorePermit,
}

impl Backups {
    /// Of the server with this database.
    pub(crate) fn new(database: PathBuf) -> Self {
        Self { database, place: Arc::new(Semaphore::new(1)) }
    }

    /// Takes the place for a backup.
    pub(crate) fn begin(&self, ops: Arc<Ops>, reader: Reader) -> Result<Backup, Full> {
        let place = self.place.clone().try_acquire_owned().map_err(|_| Full)?;
        Ok(Backup { ops, database: self.database.clone(), reader, _place: place })
    }
}

impl Backup {
    /// Sends all pieces, as fast as they are taken, until either side stops. Returns what came of it.
    pub(crate) async fn run(self, sender: mpsc::Sender<Bytes>, tasks: Tasks) -> String {
        let Self { ops, database, reader, _place } = self;
        let key = reader.key.clone();
        tracing::info!(key, "a backup begins");
        // Whoever takes one has all that was sent, also if it breaks off.
        let (kind, text) = (EventKind::DbBackedUp, "a backup was begun".to_owned());
        let actor = Actor::Operator(key.clone()).to_string();
        ops.events.record(NewEvent { kind, actor, device: None, text }).await;
        let (pieces, mut taken) = mpsc::channel(PIECES_WAITING);
        let copying = copy(ops.world.store.as_ref(), &database, ops.world.now(), pieces);
        let mut outlet = Outlet::new(&ops, reader, &sender);
        let passing = async {
            while let Some(piece) = taken.recv().await {
                outlet.take(piece).await?;
            }
            Ok(())
        };
        // Dropping what takes the pieces ends the copying, too.
        let ended: Result<_, Stop> = tokio::select! {
            () = tasks.stopping() => Err(Stop::Server),
            () = sender.closed() => Err(Stop::Gone),
            (copied, passed) = async { tokio::join!(copying, passing) } => passed.map(|()| copied),
        };
        match ended {
            Ok(Ok(())) => {
                tracing::info!(key, "a backup is finished");
                "finished".to_owned()
            }
            Ok(Err(error)) => {
                let error = Chain(&error);
                tracing::error!(key, %error, "a backup failed");
                format!("failed: {error}")
            }
            Err(reason) => {
                tracing::info!(key, %reason, "a backup was ended");
                format!("ended before it was whole: {reason}")
            }
        }
    }
}
