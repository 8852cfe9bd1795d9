//! What the server does without being asked. Each task looks at the world, does what is due, and
//! sleeps; running one twice, or late, does no harm.

use std::sync::Arc;
use std::time::{Duration, Instant};

use fleet_core::Chain;
use fleet_core::api::{DbChecked, EventKind};
use fleet_core::net::shutdown::Tasks;
use fleet_core::time::Timestamp;

use crate::hub::Hub;
use crate::ops::deleted::DELETED_KEPT;
use crate::ops::events::NewEvent;
use crate::ops::sessions::{SESSION_IDLE_MAX, SESSION_LIFE_MAX};
use crate::ops::{Actor, Audit, Database, Events, Ops, Presence, World};
use crate::store::{Keep, Pace, RedbStore, StoreError, Turn, mebibytes};

/// Between two writes of when devices were last seen.
const SEEN_INTERVAL: Duration = Duration::from_secs(5);
/// Between two rounds of removing what is too old.
const RETENTION_INTERVAL: Duration = Duration::from_secs(600);
/// Until all that is stored is read for the first time, and between two times.
const CHECK_FIRST: Duration = Duration::from_secs(3600);
const CHECK_INTERVAL: Duration = Duration::from_secs(86_400);
/// How long the wall clock must have agreed with the monotonic one before it ends anything.
const TRUST_AFTER: Duration = Duration::from_secs(3600);
/// A wall clock that moves this much further, or less far, than the monotonic one has jumped.
const JUMP_MIN: Duration = Duration::from_secs(60);
/// Between two looks at how much room the disk has: as often as telemetry's.
const BALLAST_INTERVAL: Duration = Duration::from_secs(1);
/// How long a key that has ended is listed: longer than the audit record tells who made it.
const KEY_KEPT: Duration = Duration::from_secs(400 * 86_400);
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

/// Removes what is too old, once the clock that says so can be trusted.
pub(crate) async fn retain(world: World, audit: Arc<Audit>, keep: Keep, tasks: Tasks) {
    let mut trust = ClockTrust::default();
    loop {
        match retain_once(&world, &audit, &keep, &mut trust, Instant::now()).await {
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

async fn retain_once(
    world: &World,
    audit: &Audit,
    keep: &Keep,
    trust: &mut ClockTrust,
    monotonic: Instant,
) -> Result<u64, StoreError> {
    // One reading both is judged and decides: a second one might already be after a jump.
    let now = world.now();
    if !trust.look(now, monotonic) {
        return Ok(0);
    }
    // What fails there is no reason to keep what is below.
    let kept = world.store.keep(keep.clone(), now).await;
    let devices = world.store.device_purge(now.minus(DELETED_KEPT)).await?;
    let grants = world.store.grant_purge(now.minus(GRANT_KEPT)).await?;
    let preauths = world.store.preauth_purge(now).await?;
    let keys = world.store.key_purge(now.minus(KEY_KEPT)).await?;
    let (used, begun) = (now.minus(SESSION_IDLE_MAX), now.minus(SESSION_LIFE_MAX));
    let sessions = world.store.session_purge(used, begun).await?;
    let records = audit.purge(now).await?;
    Ok(kept? + devices + grants + preauths + keys + sessions + records)
}

/// Reads all that is stored once a day, gently, so that damage is known before anybody needs what is
/// damaged, and while there are backups from before it.
pub(crate) async fn check(database: Arc<Database>, tasks: Tasks) {
    let mut wait = CHECK_FIRST;
    while sleep(&tasks, wait).await {
        let checked = tokio::select! {
            () = tasks.stopping() => return,
            checked = database.check(Pace::Gentle) => checked,
        };
        match checked {
            Ok(DbChecked { rows, chunks, damage: None, .. }) => {
                tracing::info!(rows, chunks, "all that is stored can be read");
            }
            Ok(DbChecked { rows, chunks, damage: Some(damage), .. }) => {
                tracing::error!(rows, chunks, %damage, "not all that is stored can be read");
            }
            Err(error) => {
                tracing::warn!(error = %Chain(&error), "what is stored was not read to its end");
            }
        }
        wait = CHECK_INTERVAL;
    }
}

/// Tells those whom it concerns of what was ended because a change that the database did not take was
/// on the list of what was revoked.
pub(crate) async fn heed_settled(
    store: Arc<RedbStore>,
    ops: Arc<Ops>,
    hub: Arc<Hub>,
    tasks: Tasks,
) {
    loop {
        let settled = tokio::select! {
            () = tasks.stopping() => return,
            settled = store.settled_anew() => settled,
        };
        ops.keys.forget();
        for device in settled.devices.iter().chain(&settled.rekeyed) {
            hub.wake(device.uid);
        }
    }
}

/// Sees to it that some room is left for changes when others fill the disk, and tells when they have.
pub(crate) async fn keep_ballast(store: Arc<RedbStore>, events: Arc<Events>, tasks: Tasks) {
    loop {
        let looked = store.clone();
        let looking = tokio::task::spawn_blocking(move || looked.keep_ballast());
        match looking.await {
            Ok(Some(turn)) => events.record(full_or_freed(turn)).await,
            Ok(None) => {}
            Err(error) => tracing::error!(%error, "looking after the room on the disk failed"),
        }
        if !sleep(&tasks, BALLAST_INTERVAL).await {
            return;
        }
    }
}

fn full_or_freed(turn: Turn) -> NewEvent {
    let (kind, text) = match turn {
        Turn::Given(bytes) => {
            let bytes = mebibytes(bytes);
            let text =
                format!("the disk is full: {bytes} that were held back are free for changes");
            (EventKind::DbDiskFull, text)
        }
        Turn::Held(bytes) => {
            (EventKind::DbDiskFreed, format!("{} are held back again", mebibytes(bytes)))
        }
    };
    NewEvent { kind, actor: Actor::Server.to_string(), device: None, text }
}

/// Whether the wall clock can be believed about what is old. A host without a battery may start
/// years off, and a time server may be wrong for a while; what is removed then is gone.
#[derive(Default)]
struct ClockTrust {
    /// When the steady time began, and the last look, by both clocks.
    steady: Option<(Instant, (Timestamp, Instant))>,
}

impl ClockTrust {
    /// Looks at both clocks; true once the wall clock has long been steady.
    fn look(&mut self, wall: Timestamp, monotonic: Instant) -> bool {
        let since = match self.steady {
            Some((since, (last_wall, last))) => {
                let expected = last_wall.plus(monotonic.saturating_duration_since(last));
                let jump = wall.since(expected).max(expected.since(wall));
                if jump > JUMP_MIN {
                    tracing::warn!(
                        jump_secs = jump.as_secs(),
                        "the clock has jumped: nothing is removed as too old for an hour"
                    );
                    monotonic
                } else {
                    since
                }
            }
            None => monotonic,
        };
        self.steady = Some((since, (wall, monotonic)));
        monotonic.saturating_duration_since(since) >= TRUST_AFTER
    }
}

/// Waits; false if the server stops meanwhile.
pub(crate) async fn sleep(tasks: &Tasks, duration: Duration) -> bool {
    tokio::select! {
        () = tasks.stopping() => false,
        () = tokio::time::sleep(duration) => true,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicI64, Ordering};

    use fleet_core::id::Uid;
    use fleet_core::identity::PrivateKey;
    use fleet_core::metric::Sample;
    use fleet_core::time::Clock;

    use super::*;
    use crate::store::{Admission, Device, Incoming, OtherKeys, Store};

    const MINUTE: Duration = Duration::from_secs(60);
    const RAW_KEPT: Duration = Duration::from_secs(48 * 3_600);
    const YEARS: Duration = Duration::from_secs(4 * 366 * 86_400);

    #[test]
    fn a_clock_is_trusted_after_an_hour_without_a_jump() {
        let (wall, start) = (Timestamp::from_millis(1_705_314_600_000), Instant::now());
        let mut trust = ClockTrust::default();
        // Minutes since the start, what the wall clock is ahead, whether it is trusted.
        for (minutes, ahead, trusted) in [
            (0, Duration::ZERO, false),
            (50, Duration::ZERO, false),
            (60, Duration::from_secs(50), true),
            (70, YEARS, false),
            (80, Duration::ZERO, false),
            (139, Duration::ZERO, false),
            (140, Duration::ZERO, true),
        ] {
            let passed = MINUTE * minutes;
            let found = trust.look(wall.plus(passed).plus(ahead), start + passed);
            assert_eq!(found, trusted, "after {minutes} minutes");
        }
        assert!(!trust.look(wall, start + MINUTE * 140), "set back");
    }

    struct Hand(AtomicI64);

    impl Clock for Hand {
        fn now(&self) -> Timestamp {
            Timestamp::from_millis(self.0.load(Ordering::SeqCst))
        }
    }

    #[tokio::test]
    async fn t32_what_is_too_old_goes_but_not_by_a_jump() {
        let start = Timestamp::from_millis(1_705_314_600_000);
        let store: Arc<dyn Store> = Arc::new(RedbStore::in_memory());
        let clock = Arc::new(Hand(AtomicI64::new(0)));
        let world = World { store: store.clone(), clock: clock.clone() };
        let audit = Audit::new(world.clone(), Arc::new(PrivateKey::from_seed(&[7; 32])));
        let uid = Uid::new();
        let device = Device {
            uid,
            id: "a".parse().unwrap(),
            key: None,
            name: None,
            state: Admission::Active,
            state_reason: String::new(),
            state_at: start,
            facts: fleet_core::wire::Facts::default(),
            metadata: std::collections::BTreeMap::new(),
            created_at: start,
            last_seen: None,
            missed_reports: 0,
            other_keys: OtherKeys::default(),
            reported: None,
        };
        store.device_insert(device).await.unwrap();
        let samples = vec![Sample::new("cpu_usage", 1.0)];
        let report = Incoming { device: uid, stream: None, at: start, samples };
        store.append(vec![report]).await.unwrap();
        store.seal().await.unwrap();

        let (begun, mut trust) = (Instant::now(), ClockTrust::default());
        let mut round = async |passed: Duration, ahead: Duration| {
            clock.0.store(start.plus(passed).plus(ahead).millis(), Ordering::SeqCst);
            retain_once(&world, &audit, &Keep::default(), &mut trust, begun + passed).await.unwrap()
        };
        assert_eq!(round(Duration::ZERO, YEARS).await, 0, "at the start");
        assert_eq!(round(MINUTE, Duration::ZERO).await, 0);
        assert_eq!(round(MINUTE * 61, Duration::ZERO).await, 0, "it is young");
        assert_eq!(round(MINUTE * 71, YEARS).await, 0, "a jump");
        assert_eq!(round(MINUTE * 81, Duration::ZERO).await, 0);
        assert_eq!(round(RAW_KEPT + MINUTE, Duration::ZERO).await, 1);
    }
}
