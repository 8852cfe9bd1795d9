//! A new key for the device, when its server asks for one.
//!
//! ```text
//! made ── offered on the link, signed by both ──▶ taken ── the agent begins anew ──▶ used
//!   └──────────── refused, or not in time: let go of
//! ```
//!
//! The file says which command it is for and how far it is; a step is on the disk before anything
//! follows from it. What must stay true: the key that the device comes with is one that the server
//! takes. Until it is on the disk that the server takes the new one, the device comes with the old
//! one, which the server takes until the device has come with the new one. So a crash at any step
//! locks nobody out, and a command has its effect once, since what was used stays on the disk.

#[cfg(test)]
mod tests;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bincode::{Decode, Encode};
use fleet_core::codec::Coded;
use fleet_core::disk::{Disk, Folder};
use fleet_core::identity::{Fingerprint, PrivateKey, PublicKey};
use fleet_core::untrusted::Untrusted;
use fleet_core::wire::NewKey;
use tokio::sync::Notify;
use tokio::time::sleep;
use zeroize::Zeroize as _;

use crate::identity;
use crate::journal::CommandId;
use crate::sealed;

/// The file, beside that of the key.
const FILE: &str = "new-key";
/// Between tries to write what the disk did not take.
const RETRY: Duration = Duration::from_secs(2);

/// Opens the agent's folder, whenever it is needed.
type Ground = Box<dyn Fn() -> io::Result<Arc<dyn Disk>> + Send + Sync>;

/// What is kept.
#[derive(Encode, Decode)]
struct Stored {
    command: CommandId,
    stage: Stage,
}

#[derive(Encode, Decode)]
enum Stage {
    /// There is a key.
    Made(Seed),
    /// The server takes it.
    Taken(Seed),
    /// It is the device's.
    Used([u8; 32]),
}

#[derive(Encode, Decode)]
struct Seed([u8; 32]);

impl Drop for Seed {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl Seed {
    fn of(key: &PrivateKey) -> Self {
        Self(*key.seed())
    }

    fn key(&self) -> PrivateKey {
        PrivateKey::from_seed(&self.0)
    }
}

impl Coded for Stored {
    const TAG: u8 = 73;
    const VERSION: u8 = 1;
}

/// How far a command is when it begins, perhaps not for the first time.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Begun {
    /// The server is offered a key.
    Offered,
    /// The server takes it: the device has to begin anew.
    Taken,
    /// The device has it.
    Used(Fingerprint),
}

/// What the server said of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// It takes it, which is on the disk.
    Taken,
    /// It does not.
    Refused(String),
}

/// How an offer ended that had no answer in time.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum LetGo {
    /// Nobody has the key.
    Gone,
    /// The server takes it, and whether the disk says so nobody knows.
    Unknown,
}

/// The change of the device's key.
pub struct NewKeys {
    ground: Ground,
    offer: Mutex<Option<Offer>>,
    /// There is something to offer.
    told: Notify,
    /// There is an answer.
    answered: Notify,
}

struct Offer {
    command: CommandId,
    key: PrivateKey,
    answer: Option<Answer>,
}

impl NewKeys {
    /// With the agent's folder.
    pub fn new(folder: PathBuf) -> Self {
        Self::at(Box::new(move || Ok(Arc::new(Folder::open(&folder)?))))
    }

    fn at(ground: Ground) -> Self {
        let (told, answered) = (Notify::new(), Notify::new());
        Self { ground, offer: Mutex::default(), told, answered }
    }

    /// Makes a key for a command, or goes on where an earlier run of the agent was with it.
    pub(crate) fn begin(&self, command: CommandId) -> io::Result<Begun> {
        let disk = (self.ground)()?;
        let found = load(disk.as_ref())?.filter(|stored| stored.command == command);
        let key = match found.map(|stored| stored.stage) {
            Some(Stage::Used(key)) => {
                return Ok(Begun::Used(PublicKey::from_bytes(key).fingerprint()));
            }
            Some(Stage::Taken(_)) => return Ok(Begun::Taken),
            Some(Stage::Made(seed)) => seed.key(),
            None => {
                let key = PrivateKey::generate().map_err(io::Error::other)?;
                let stage = Stage::Made(Seed::of(&key));
                sealed::save(disk.as_ref(), FILE, &Stored { command, stage })?;
                key
            }
        };
        *self.lock() = Some(Offer { command, key, answer: None });
        self.told.notify_one();
        Ok(Begun::Offered)
    }

    /// Waits until there is something to offer.
    pub(crate) async fn told(&self) {
        self.told.notified().await;
    }

    /// What to offer a server, unless it has answered.
    pub(crate) fn offer(
        &self,
        uid: [u8; 16],
        server: PublicKey,
        old: &PrivateKey,
    ) -> Option<NewKey> {
        let offer = self.lock();
        let offer = offer.as_ref().filter(|offer| offer.answer.is_none())?;
        Some(NewKey::sign(offer.command, (uid, server), old, &offer.key))
    }

    /// Takes note of what the server says of a key.
    pub(crate) fn noted(&self, device_pub: [u8; 32], refused: Option<String>) {
        let mut offer = self.lock();
        let Some(offer) = offer.as_mut().filter(|it| it.key.public().bytes() == device_pub) else {
            return;
        };
        let refused = refused.map(|why| Answer::Refused(Untrusted::new(why).to_string()));
        offer.answer = Some(refused.unwrap_or(Answer::Taken));
        self.answered.notify_one();
    }

    /// Waits for the server's answer. That it takes the key is on the disk when this returns.
    pub(crate) async fn answer(&self) -> Answer {
        loop {
            match self.settle() {
                Ok(Some(answer)) => return answer,
                Ok(None) => self.answered.notified().await,
                Err(error) => {
                    tracing::warn!(%error, "cannot write down that the server takes the new key");
                    sleep(RETRY).await;
                }
            }
        }
    }

    fn settle(&self) -> io::Result<Option<Answer>> {
        let offer = self.lock();
        let Some(Offer { command, key, answer: Some(answer) }) = offer.as_ref() else {
            return Ok(None);
        };
        if *answer == Answer::Taken {
            let stored = Stored { command: *command, stage: Stage::Taken(Seed::of(key)) };
            sealed::save((self.ground)()?.as_ref(), FILE, &stored)?;
        }
        Ok(Some(answer.clone()))
    }

    /// Offers the key no longer.
    pub(crate) fn let_go(&self) -> LetGo {
        match self.lock().take().and_then(|offer| offer.answer) {
            Some(Answer::Taken) => LetGo::Unknown,
            Some(Answer::Refused(_)) | None => {
                self.clear();
                LetGo::Gone
            }
        }
    }

    /// Forgets what a server asked for. The key that the device has stays.
    pub(crate) fn forget(&self) {
        *self.lock() = None;
        self.clear();
    }

    /// A key that nobody takes is of no use; where it stays in spite of an error, the next one takes
    /// its place.
    fn clear(&self) {
        if let Err(error) = (self.ground)().and_then(|disk| sealed::clear(disk.as_ref(), FILE)) {
            tracing::warn!(%error, "a key that is not used was left behind");
        }
    }

    /// No code that holds the lock can leave an offer wrong by a panic.
    fn lock(&self) -> MutexGuard<'_, Option<Offer>> {
        self.offer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Makes a key that the server takes the device's own, before anybody has read that. An error leaves
/// the old one, which is as good until the new one was used.
pub fn take_over(path: &Path) -> io::Result<()> {
    if path.is_dir() { take_over_on(&Folder::open(path)?) } else { Ok(()) }
}

fn take_over_on(disk: &dyn Disk) -> io::Result<()> {
    let Some(Stored { command, stage: Stage::Taken(seed) }) = load(disk)? else { return Ok(()) };
    let key = seed.key();
    identity::replace_key(disk, &key)?;
    let used = Stage::Used(key.public().bytes());
    sealed::save(disk, FILE, &Stored { command, stage: used })
}

/// Removes what an agent that does not run has of a new key.
pub fn erase(path: &Path) -> io::Result<()> {
    sealed::clear(&Folder::open(path)?, FILE).map(drop)
}

/// What is kept. A file that went bad had no key that the device needs: as long as it says that one is
/// still to be used, the old one is good.
fn load(disk: &dyn Disk) -> io::Result<Option<Stored>> {
    match sealed::load(disk, FILE) {
        Err(error) if sealed::is_damage(&error) => {
            tracing::warn!(%error, "doing without a new key that was made");
            Ok(None)
        }
        loaded => loaded,
    }
}
