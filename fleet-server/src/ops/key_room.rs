//! What is to be known of a new key, and when there may be one more.

use fleet_core::api::KeyCreated;
use fleet_core::secret::{ApiKey, KeyKind};
use fleet_core::time::Timestamp;
use fleet_core::untrusted::Untrusted;

use super::{OpsError, World};
use crate::store::KeyRecord;

/// Keys that work at one time.
const WORKING_MAX: usize = 10_000;
/// Keys that are kept, with those that have ended and are still listed.
const KEPT_MAX: usize = 50_000;

/// Refuses one more key if there are so many.
pub(super) async fn require(world: &World) -> Result<(), OpsError> {
    require_among(&world.store.key_list().await?, world.now())
}

/// What whoever made a key is told of it, once.
pub(super) fn made_known(key: &ApiKey, record: KeyRecord) -> KeyCreated {
    let is_operator = record.kind == KeyKind::Operator;
    KeyCreated {
        id: record.id,
        key: key.reveal().to_string(),
        expires_at: record.expires_at,
        role: is_operator.then_some(record.might.role),
        rights: record.might.rights,
        scope: record.scope.map(Untrusted::new),
        install: None,
    }
}

/// Refuses a second successor of a key while the first one works.
pub(super) async fn require_no_successor(world: &World, id: &str) -> Result<(), OpsError> {
    let (now, keys) = (world.now(), world.store.key_list().await?);
    let is_next = |key: &&KeyRecord| {
        let succeeds = key.origin.as_ref().and_then(|origin| origin.succeeds.as_deref());
        succeeds == Some(id) && key.works(now)
    };
    match keys.iter().find(is_next) {
        Some(next) => Err(OpsError::Conflict(format!("{id} has a successor already: {}", next.id))),
        None => Ok(()),
    }
}

fn require_among(keys: &[KeyRecord], now: Timestamp) -> Result<(), OpsError> {
    if keys.len() >= KEPT_MAX {
        let problem = format!(
            "a server keeps at most {KEPT_MAX} keys, with those that have ended: they go 400 days \
             after their end"
        );
        return Err(OpsError::Conflict(problem));
    }
    if keys.iter().filter(|key| key.works(now)).count() >= WORKING_MAX {
        let problem = format!("a server keeps at most {WORKING_MAX} keys that work: revoke some");
        return Err(OpsError::Conflict(problem));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::iter::repeat_n;

    use fleet_core::api::{Might, Rights, Role};

    use super::*;

    fn key() -> KeyRecord {
        KeyRecord {
            id: "k".to_owned(),
            kind: KeyKind::Enrol,
            hash: [0; 32],
            label: String::new(),
            device: None,
            uses_left: None,
            created_at: Timestamp::default(),
            expires_at: None,
            revoked_at: None,
            last_used: None,
            last_used_from: None,
            might: Might { role: Role::Viewer, rights: Rights::new() },
            scope: None,
            origin: None,
        }
    }

    #[test]
    fn keys_that_have_ended_take_nobodys_room_until_there_are_very_many() {
        let now = Timestamp::from_millis(9);
        let refusal =
            |keys: &[KeyRecord]| require_among(keys, now).err().map(|error| error.to_string());
        let mut keys: Vec<_> = repeat_n(key(), WORKING_MAX - 1).collect();
        for ended in [
            KeyRecord { revoked_at: Some(now), ..key() },
            KeyRecord { expires_at: Some(now), ..key() },
            KeyRecord { uses_left: Some(0), ..key() },
        ] {
            keys.extend(repeat_n(ended, WORKING_MAX));
        }
        assert_eq!(refusal(&keys), None);
        keys.push(key());
        assert!(refusal(&keys).is_some_and(|said| said.contains("10000 keys that work")));
        let ended = KeyRecord { revoked_at: Some(now), ..key() };
        let keys: Vec<_> = repeat_n(ended, KEPT_MAX).collect();
        assert!(refusal(&keys).is_some_and(|said| said.contains("50000 keys")));
    }
}
