//! Telemetry bodies on their way in: how many bytes of them there may be at once, over all
//! connections, and how many may be unpacked and read at a time.
//!
//! What a packed body comes to takes room like any other if it is small. A large one keeps the turn
//! in which it was unpacked until it is read, so that a few wait unpacked, not all.
//!
//! Whoever finds no room waits in line, unread, so that its sender notices; after a while it is told
//! to come again later. Small bodies hardly ever meet the bound.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use fleet_core::limits::TELEMETRY_BYTES_MAX;
use hyper::body::Body as _;
use hyper::{Request, StatusCode};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::body;
use super::body::Payload;
use super::encoding::Encoding;
use super::reply::Failure;
use crate::ops::lines::AT_ONCE_BYTES_MAX;

/// Bytes of all bodies, but for what those that have a turn come to unpacked.
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
    readers: Arc<Semaphore>,
}

/// A body that has come, unpacked. It keeps its room, and its turn if it needs one, until it is
/// dropped: also if by then nobody waits for what is made of it.
struct Arrived {
    bytes: Bytes,
    room: OwnedSemaphorePermit,
    turn: Option<OwnedSemaphorePermit>,
}

impl AsRef<[u8]> for Arrived {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// Whether reading a body would hold up others.
pub(super) fn is_large(bytes: &[u8]) -> bool {
    bytes.len() > AT_ONCE_BYTES_MAX
}

impl Default for Intake {
    fn default() -> Self {
        Self {
            bytes: Arc::new(Semaphore::new(BYTES_MAX / UNIT)),
            readers: Arc::new(Semaphore::new(READERS_MAX)),
        }
    }
}

impl Intake {
    /// Takes in a body, when there is room for it, and if it is large or packed when its turn has
    /// come. All copies of what this returns keep both.
    pub(super) async fn receive(
        &self,
        request: Request<Payload>,
        patience: Duration,
    ) -> Result<Bytes, Failure> {
        let (head, incoming) = request.into_parts();
        let encoding = Encoding::of(&head.headers)?;
        body::check_announced(&head.headers, TELEMETRY_BYTES_MAX)?;
        let collected = timeout(patience, self.collect(incoming)).await;
        let (bytes, room) = collected.unwrap_or_else(|_| Err(body::too_slow()))?;
        self.admit(encoding, bytes, room).await
    }

    /// Unpacks a body if it is packed, when its turn has come.
    async fn admit(
        &self,
        encoding: Encoding,
        bytes: Bytes,
        room: OwnedSemaphorePermit,
    ) -> Result<Bytes, Failure> {
        let is_packed = encoding != Encoding::Identity;
        let turn = if is_packed || is_large(&bytes) { Some(self.turn().await?) } else { None };
        let mut arrived = Arrived { bytes, room, turn };
        if is_packed {
            arrived = apart(move || {
                arrived.bytes = encoding.unpack(arrived.bytes, TELEMETRY_BYTES_MAX)?;
                Ok(arrived)
            })
            .await?;
            self.settle(&mut arrived);
        }
        Ok(Bytes::from_owner(arrived))
    }

    /// Ends the turn of a small body if there is room for it; otherwise it keeps it. Nobody waits
    /// for room who has a turn, since others who have room wait for turns.
    fn settle(&self, arrived: &mut Arrived) {
        let units = arrived.bytes.len().div_ceil(UNIT);
        let more = units.saturating_sub(arrived.room.num_permits()) as u32;
        if !is_large(&arrived.bytes)
            && let Ok(more) = self.bytes.clone().try_acquire_many_owned(more)
        {
            arrived.room.merge(more);
            arrived.turn = None;
        }
    }

    /// Reads a body, taking room for it as it comes.
    async fn collect(
        &self,
        mut incoming: Payload,
    ) -> Result<(Bytes, OwnedSemaphorePermit), Failure> {
        let hint = incoming.size_hint().upper().unwrap_or(u64::MAX);
        let mut room = self.room(STEP.min(usize::try_from(hint).unwrap_or(STEP))).await?;
        let mut first = Bytes::new();
        let mut all = BytesMut::new();
        // Waiting for room of ours is not the sender's fault, and does not count.
        let mut pace = body::Pace::default();
        while let Some(piece) = pace.next(&mut incoming).await? {
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

    async fn turn(&self) -> Result<OwnedSemaphorePermit, Failure> {
        self.readers.clone().acquire_owned().await.map_err(|_| Failure::internal())
    }
}

/// Does what takes long on a thread of its own.
pub(super) async fn apart<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|_| Err(Failure::internal()))
}

fn busy() -> Failure {
    let detail = "more telemetry is on its way than the server takes in at once: nothing is stored";
    Failure::new(StatusCode::SERVICE_UNAVAILABLE, detail).retry_after(1)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::pin::pin;

    use futures_util::FutureExt as _;
    use futures_util::future::join_all;

    use super::*;

    fn packed(bytes: usize) -> Bytes {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(&vec![b' '; bytes]).unwrap();
        encoder.finish().unwrap().into()
    }

    impl Intake {
        async fn take(&self, encoding: Encoding, body: &Bytes) -> Result<Bytes, Failure> {
            let room = self.room(body.len()).await?;
            self.admit(encoding, body.clone(), room).await
        }

        /// How much room and how many turns are free.
        fn free(&self) -> (usize, usize) {
            (self.bytes.available_permits(), self.readers.available_permits())
        }
    }

    #[tokio::test]
    async fn few_are_unpacked_and_not_read_at_a_time() {
        let intake = Intake::default();
        let bomb = packed(TELEMETRY_BYTES_MAX);
        assert!(bomb.len() < 64 * 1024, "{}", bomb.len());
        let take = || intake.take(Encoding::Gzip, &bomb);
        let held = join_all((0..READERS_MAX).map(|_| take())).await;
        let mut held: Vec<_> = held.into_iter().map(Result::unwrap).collect();
        assert!(held.iter().all(|body| body.len() == TELEMETRY_BYTES_MAX));
        // Nobody else is unpacked before one of these is read, all copies of it.
        assert_eq!(intake.free().1, 0);
        let mut next = pin!(take());
        assert!(next.as_mut().now_or_never().is_none());
        let copy = held[0].clone();
        held.remove(0);
        assert!(next.as_mut().now_or_never().is_none());
        drop(copy);
        held.push(next.await.unwrap());
        assert_eq!(intake.free().1, 0);
        drop(held);
        assert_eq!(intake.free(), (BYTES_MAX / UNIT, READERS_MAX));
    }

    #[test]
    fn whoever_leaves_leaves_the_turn_to_what_is_being_unpacked() {
        let mut one_thread = tokio::runtime::Builder::new_current_thread();
        one_thread.enable_time().max_blocking_threads(1).build().unwrap().block_on(async {
            let intake = Intake::default();
            let bomb = packed(TELEMETRY_BYTES_MAX);
            let (go, held) = std::sync::mpsc::channel::<()>();
            let before = tokio::task::spawn_blocking(move || held.recv());
            let mut leaver = Box::pin(intake.take(Encoding::Gzip, &bomb));
            assert!(leaver.as_mut().now_or_never().is_none());
            drop(leaver);
            assert_eq!(intake.free().1, READERS_MAX - 1);
            go.send(()).unwrap();
            before.await.unwrap().unwrap();
            drop(intake.readers.acquire_many(READERS_MAX as u32).await.unwrap());
        });
    }

    #[tokio::test]
    async fn what_is_small_takes_room_and_no_turn() {
        let intake = Intake::default();
        let small = packed(AT_ONCE_BYTES_MAX);
        let many = join_all((0..20).map(|_| intake.take(Encoding::Gzip, &small))).await;
        assert!(many.iter().all(Result::is_ok));
        let taken = 20 * AT_ONCE_BYTES_MAX / UNIT;
        assert_eq!(intake.free(), (BYTES_MAX / UNIT - taken, READERS_MAX));
        drop(many);
        // Where there is no room, a turn does as well.
        let rest = intake.room(BYTES_MAX - 2 * UNIT).await.unwrap();
        let kept = intake.take(Encoding::Gzip, &small).await.unwrap();
        assert_eq!((kept.len(), intake.free().1), (AT_ONCE_BYTES_MAX, READERS_MAX - 1));
        drop((kept, rest));
        let plain = [Bytes::from_static(b"x"), vec![b' '; AT_ONCE_BYTES_MAX + 1].into()];
        for (body, turns) in plain.iter().zip([0, 1]) {
            let _taken = intake.take(Encoding::Identity, body).await.unwrap();
            assert_eq!(intake.free().1, READERS_MAX - turns);
        }
        // What is wrong leaves nothing behind.
        assert!(intake.take(Encoding::Gzip, &plain[0]).await.is_err());
        assert_eq!(intake.free(), (BYTES_MAX / UNIT, READERS_MAX));
    }
}
