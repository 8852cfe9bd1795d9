//! What the server does without being asked. Each task looks at the world, does what is due, and
//! sleeps; running one twice, or late, does no harm.

use std::sync::Arc;
use std::time::Duration;

use fleet_core::Chain;
use fleet_core::limits::RAW_RETENTION;
use fleet_core::net::shutdown::Tasks;

use crate::ops::{Presence, World};
use crate::store::StoreError;

/// Between two writes of when devices were last seen.
const SEEN_INTERVAL: Duration = Duration::from_secs(5);
/// Between two rounds of removing what is too old.
const RETENTION_INTERVAL: Duration = Duration::from_secs(600);
/// How long a deleted device's data stays.
const DELETED_KEPT: Duration = Duration::from_secs(30 * 86_400);
/// How long an expired grant can still be asked about.
const GRANT_KEPT: Duration = Duration::from_secs(86_400);

/// Writes down when devices were last seen, the last time as the server stops.
pub(crate) async fn write_seen(world: World, presence: Arc<Presence>, tasks: Tasks) {
    while sleep(&tasks, SEEN_INTERVAL).await {
        write_seen_once(&world, &presence).await;
    }
}

/// Writes down when devices were last seen.
pub(crate) async fn write_seen_once(world: &World, presence: &Presence) {
    let seen = presence.take_unwritten();
    if seen.is_empty() {
        return;
    }
    if let Err(error) = world.store.device_touch(seen.clone()).await {
        tracing::warn!(error = %Chain(&error), "when devices were last seen was not stored");
        presence.put_back(&seen);
    }
}

/// Removes what is too old.
pub(crate) async fn retain(world: World, tasks: Tasks) {
    loop {
        match retain_once(&world).await {
            Ok(removed) if removed > 0 => tracing::debug!(removed, "removed what was too old"),
            Ok(_) => {}
            Err(error) => {
                tracing::warn!(error = %Chain(&error), "what is too old was not removed");
            }
        }
        if !sleep(&tasks, RETENTION_INTERVAL).await {
            return;
        }
    }
}

async fn retain_once(world: &World) -> Result<u64, StoreError> {
    let now = world.now();
    let reports = world.store.prune(now.minus(RAW_RETENTION)).await?;
    let devices = world.store.device_purge(now.minus(DELETED_KEPT)).await?;
    let grants = world.store.grant_purge(now.minus(GRANT_KEPT)).await?;
    Ok(reports + devices + grants)
}

/// Waits; false if the server stops meanwhile.
async fn sleep(tasks: &Tasks, duration: Duration) -> bool {
    tokio::select! {
        () = tasks.stopping() => false,
        () = tokio::time::sleep(duration) => true,
    }
}
