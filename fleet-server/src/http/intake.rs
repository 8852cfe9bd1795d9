//! Telemetry bodies on their way in: how many bytes of them there may be at once, over all
//! connections, and how many may be unpacked and read at a time.
//!
//! Whoever finds no room waits in line, unread, so that its sender notices; after a while it is told
//! to come again later. Small bodies hardly ever meet the bound.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use fleet_core::limits::TELEMETRY_BYTES_MAX;
use http_body_util::BodyExt as _;
use hyper::body::{Body as _, Incoming};
use hyper::{Request, StatusCode};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit};
use tokio::time::timeout;

use super::body;
use super::encoding::Encoding;
use super::reply::Failure;
use crate::ops::lines::AT_ONCE_BYTES_MAX;

/// Bytes of all bodies as they came.
const BYTES_MAX: usize = 128 * 1024 * 1024;
const _: () = assert!(BYTES_MAX >= 8 * TELEMETRY_BYTES_MAX, "the largest body finds room");
/// Large bodies that are being unpacked or read; each may be as large as one can be, and what is
/// made of it larger.
const READERS_MAX: usize = 4;
/// What room is counted in, and what a body takes of it at a time.
const UNIT: usize = 1024;
const STEP: usize = 256 * 1024;
/// How long a body waits for room before its sender is told to come again.
const WAIT: Duration = Duration::from_secs(5);

/// The room for bodies.
pub(crate) struct Intake {
    bytes: Arc<Semaphore>,
    readers: Semaphore,
}

/// A body that has come, unpacked, and the room that it takes.
pub(super) struct Arrived {
    pub(super) bytes: Bytes,
    _room: OwnedSemaphorePermit,
}

impl Arrived {
    /// Whether reading it would hold up others.
    pub(super) fn is_large(&self) -> bool {
        self.bytes.len() > AT_ONCE_BYTES_MAX
    }
}

impl Default for Intake {
    fn default() -> Self {
        Self {
            bytes: Arc::new(Semaphore::new(BYTES_MAX / UNIT)),
            readers: Semaphore::new(READERS_MAX),
        }
    }
}

impl Intake {
    /// Takes in a body, when there is room for it.
    pub(super) async fn receive(
        &self,
        request: Request<Incoming>,
        patience: Duration,
    ) -> Result<Arrived, Failure> {
        let (head, incoming) = request.into_parts();
        let encoding = Encoding::of(&head.headers)?;
        body::check_announced(&head.headers, TELEMETRY_BYTES_MAX)?;
        let collected = timeout(patience, self.collect(incoming)).await;
        let (bytes, room) = collected.unwrap_or_else(|_| Err(body::too_slow()))?;
        let bytes = match encoding {
            Encoding::Identity => bytes,
            Encoding::Gzip | Encoding::Zstd => {
                self.apart(move || encoding.unpack(bytes, TELEMETRY_BYTES_MAX)).await?
            }
        };
        Ok(Arrived { bytes, _room: room })
    }

    /// Reads a body, taking room for it as it comes.
    async fn collect(
        &self,
        mut incoming: Incoming,
    ) -> Result<(Bytes, OwnedSemaphorePermit), Failure> {
        let hint = incoming.size_hint().upper().unwrap_or(u64::MAX);
        let mut room = self.room(STEP.min(usize::try_from(hint).unwrap_or(STEP))).await?;
        let mut first = Bytes::new();
        let mut all = BytesMut::new();
        while let Some(frame) = incoming.frame().await {
            let Ok(piece) = frame.map_err(|_| body::breaks_off())?.into_data() else { continue };
            let length = all.len().max(first.len()) + piece.len();
            if length > TELEMETRY_BYTES_MAX {
                return Err(body::too_large(TELEMETRY_BYTES_MAX));
            }
            while room.num_permits() * UNIT < length {
                room.merge(self.room(STEP).await?);
            }
            // Most bodies come in one piece, which need not be copied.
            if length == piece.len() {
                first = piece;
                continue;
            }
            if all.is_empty() {
                all.extend_from_slice(&first);
            }
            all.extend_from_slice(&piece);
        }
        Ok((if all.is_empty() { first } else { all.freeze() }, room))
    }

    async fn room(&self, bytes: usize) -> Result<OwnedSemaphorePermit, Failure> {
        let units = bytes.div_ceil(UNIT) as u32;
        let room = timeout(WAIT, self.bytes.clone().acquire_many_owned(units)).await;
        room.map_err(|_| busy())?.map_err(|_| Failure::internal())
    }

    /// Waits until a large body may be read.
    pub(super) async fn turn(&self) -> Result<SemaphorePermit<'_>, Failure> {
        self.readers.acquire().await.map_err(|_| Failure::internal())
    }

    /// Does what takes long on a thread of its own, when its turn has come.
    pub(super) async fn apart<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Failure> {
        let turn = self.turn().await?;
        let done = tokio::task::spawn_blocking(work).await;
        drop(turn);
        done.unwrap_or_else(|_| Err(Failure::internal()))
    }
}

fn busy() -> Failure {
    let detail = "more telemetry is on its way than the server takes in at once: nothing is stored";
    Failure::new(StatusCode::SERVICE_UNAVAILABLE, detail).retry_after(1)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures_util::future::join_all;

    use super::*;

    #[tokio::test]
    async fn few_are_read_at_a_time() {
        let intake = Intake::default();
        let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let work = |_| {
            let (now, most) = (now.clone(), most.clone());
            intake.apart(move || {
                most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                std::thread::yield_now();
                now.fetch_sub(1, Ordering::SeqCst);
                Ok(())
            })
        };
        assert!(join_all((0..100).map(work)).await.iter().all(Result::is_ok));
        assert!((1..=READERS_MAX).contains(&most.load(Ordering::SeqCst)));
    }
}
