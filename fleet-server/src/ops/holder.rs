//! Whoever waits for an answer: they are told no more once their key or session has ended.

use std::time::Duration;

use super::sessions::SessionSecret;
use super::{Keys, OpsError, Sessions};

/// Between looks at whether somebody who waits may wait on.
pub(super) const LOOK_INTERVAL: Duration = Duration::from_secs(4);

/// Whoever waits.
pub(crate) struct Holder<'a> {
    pub(crate) keys: &'a Keys,
    pub(crate) sessions: &'a Sessions,
    /// The key that they came with.
    pub(crate) key: &'a str,
    /// The browser's session, if they came with one: it may end before the key does.
    pub(crate) session: Option<SessionSecret>,
}

impl Holder<'_> {
    /// Refuses whoever would not be let in now.
    pub(super) async fn require_good(&self) -> Result<(), OpsError> {
        let has_session = match &self.session {
            Some(session) => self.sessions.find(session).await?.is_some(),
            None => true,
        };
        if has_session && self.keys.is_good(self.key).await? {
            return Ok(());
        }
        Err(OpsError::Forbidden("the key or session has ended meanwhile".to_owned()))
    }
}
