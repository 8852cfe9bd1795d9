//! Sessions: an operator's key, shown once, and a browser that may look around from then on.
//!
//! A browser holds a secret of 256 bits; the store holds its hash. A session lasts as long as it
//! is used, never longer than a week, and never longer than its key: that is looked up each time.

use std::time::Duration;

use data_encoding::{BASE64URL_NOPAD, HEXLOWER};
use fleet_core::time::Timestamp;
use ring::digest;
use zeroize::Zeroizing;

use super::keys::{Denied, Principal, access_of};
use super::{OpsError, World};
use crate::store::SessionRecord;

/// How long a session lasts that nobody uses.
pub(crate) const SESSION_IDLE_MAX: Duration = Duration::from_secs(12 * 3600);
/// How long a session lasts.
pub(crate) const SESSION_LIFE_MAX: Duration = Duration::from_secs(7 * 86_400);
/// Sessions at one time; the one used longest ago gives way.
const SESSIONS_MAX: usize = 10_000;
/// How exactly the last use of a session is known.
const LAST_USED_STEP: Duration = Duration::from_secs(60);
/// Bytes of a secret.
const SECRET_BYTES: usize = 32;

/// Operations on sessions.
pub(crate) struct Sessions {
    pub(crate) world: World,
}

impl Sessions {
    /// Begins a session of an operator's key, with a secret of its own.
    pub(crate) async fn begin(&self, key: &str) -> Result<SessionSecret, OpsError> {
        let secret = SessionSecret::generate()?;
        let now = self.world.now();
        let hash = secret.hash();
        let session = SessionRecord { hash, key: key.to_owned(), begun_at: now, used_at: now };
        self.world.store.session_insert(session, SESSIONS_MAX).await?;
        Ok(secret)
    }

    /// Who a session's secret stands for, if it is good now.
    pub(crate) async fn find(&self, secret: &SessionSecret) -> Result<Option<Principal>, OpsError> {
        let now = self.world.now();
        let session = self.world.store.session_get(secret.hash()).await?;
        let Some(session) = session.filter(|session| is_good(session, now)) else {
            return Ok(None);
        };
        let key = self.world.store.key_get(&session.key).await?;
        let Some(record) = key.filter(|key| key.is_good_operator(now)) else { return Ok(None) };
        let access = match access_of(&self.world, &record).await {
            Err(Denied::Store(error)) => return Err(error.into()),
            Err(_) => return Ok(None),
            Ok(access) => access,
        };
        if now.since(session.used_at) >= LAST_USED_STEP
            && let Err(error) = self.world.store.session_use(session.hash, now).await
        {
            tracing::debug!(key = session.key, %error, "the use of a session was not noted");
        }
        Ok(Some(Principal::Operator { key: session.key, access }))
    }

    /// Ends a session.
    pub(crate) async fn end(&self, secret: &SessionSecret) -> Result<(), OpsError> {
        Ok(self.world.store.session_end(secret.hash()).await?)
    }
}

fn is_good(session: &SessionRecord, now: Timestamp) -> bool {
    now.since(session.used_at) < SESSION_IDLE_MAX && now.since(session.begun_at) < SESSION_LIFE_MAX
}

/// What a browser shows to be let in again. Shows itself to nobody.
pub(crate) struct SessionSecret(Zeroizing<[u8; SECRET_BYTES]>);

impl SessionSecret {
    /// A secret that nobody can guess.
    pub(crate) fn generate() -> Result<Self, OpsError> {
        let mut bytes = Zeroizing::new([0; SECRET_BYTES]);
        getrandom::fill(bytes.as_mut_slice())
            .map_err(|_| OpsError::Conflict("the system gives no random numbers".to_owned()))?;
        Ok(Self(bytes))
    }

    /// The secret that a text spells, if it spells one.
    pub(crate) fn read(text: &str) -> Option<Self> {
        let bytes = Zeroizing::new(BASE64URL_NOPAD.decode(text.as_bytes()).ok()?);
        Some(Self(Zeroizing::new(bytes.as_slice().try_into().ok()?)))
    }

    /// The text that only its browser may see.
    pub(crate) fn reveal(&self) -> Zeroizing<String> {
        Zeroizing::new(BASE64URL_NOPAD.encode(self.0.as_slice()))
    }

    /// What a form carries to show that it was written for whoever holds this secret. It tells
    /// nothing about the secret.
    pub(crate) fn form_token(&self) -> String {
        HEXLOWER.encode(&self.digest(b"form"))
    }

    fn hash(&self) -> [u8; 32] {
        self.digest(b"session")
    }

    fn digest(&self, purpose: &[u8]) -> [u8; 32] {
        let mut context = digest::Context::new(&digest::SHA256);
        context.update(b"fleetd page ");
        context.update(purpose);
        context.update(self.0.as_slice());
        let mut bytes = [0; 32];
        bytes.copy_from_slice(context.finish().as_ref());
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_reads_back_and_its_hashes_differ() {
        let secret = SessionSecret::generate().unwrap_or_else(|error| panic!("{error}"));
        let read = SessionSecret::read(&secret.reveal()).unwrap();
        assert_eq!(read.hash(), secret.hash());
        assert_eq!(read.form_token(), secret.form_token());
        assert_ne!(HEXLOWER.encode(&secret.hash()), secret.form_token());
        for text in ["", "short", &"A".repeat(42), &"A".repeat(44), &"*".repeat(43)] {
            assert!(SessionSecret::read(text).is_none(), "{text}");
        }
    }

    #[test]
    fn a_session_ends_when_it_is_idle_and_when_it_is_old() {
        let begun_at = Timestamp::from_millis(1_705_314_600_000);
        let good = |used: Duration, now: Duration| {
            let used_at = begun_at.plus(used);
            let session = SessionRecord { hash: [0; 32], key: String::new(), begun_at, used_at };
            is_good(&session, begun_at.plus(now))
        };
        let before = |end: Duration| end.saturating_sub(Duration::from_secs(1));
        assert!(good(Duration::ZERO, before(SESSION_IDLE_MAX)));
        assert!(!good(Duration::ZERO, SESSION_IDLE_MAX));
        assert!(good(before(SESSION_LIFE_MAX), before(SESSION_LIFE_MAX)));
        assert!(!good(before(SESSION_LIFE_MAX), SESSION_LIFE_MAX));
    }
}
