//! The database itself: how much there is, and making it less.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use fleet_core::api::{
    Compacted, DbChecked, DbFile, DbTelemetry, DbTier, DbView, EventKind, PruneRequest, Pruned,
};
use fleet_core::untrusted::Untrusted;
use nix::sys::statvfs::statvfs;
use tokio::sync::Mutex;

use super::events::NewEvent;
use super::{Actor, Events, OpsError, World};
use crate::store::{Checked, Keep, Pace, TelemetryStats, Tier};

/// Operations on the database.
pub(crate) struct Database {
    pub(crate) world: World,
    pub(crate) path: PathBuf,
    /// What is kept for how long.
    pub(crate) keep: Keep,
    pub(crate) events: Arc<Events>,
    /// Held by the one who reads all that is stored.
    pub(crate) checking: Mutex<()>,
}

impl Database {
    /// How much there is. Walks the tables.
    pub(crate) async fn view(&self) -> Result<DbView, OpsError> {
        let store = &self.world.store;
        let telemetry = store.stats().await?;
        let newest = store.event_newest().await?;
        let oldest = store.event_after(0, 1).await?.first().map(|(seq, _)| *seq);
        Ok(DbView {
            database: self.file(),
            devices: store.device_list().await?.len() as u64,
            // Their numbers have no gaps.
            events: oldest.map_or(0, |oldest| newest.saturating_sub(oldest) + 1),
            telemetry: telemetry_view(telemetry),
        })
    }

    /// Removes telemetry: all from before a time, or what is older or more than is to be kept.
    pub(crate) async fn prune(
        &self,
        wish: PruneRequest,
        actor: &Actor,
    ) -> Result<Pruned, OpsError> {
        let (store, now) = (&self.world.store, self.world.now());
        if wish.before.is_some_and(|before| before > now) {
            // What is hidden once stays so: reports of that time would never be seen.
            return Err(OpsError::invalid("before", "is in the future"));
        }
        let bytes_before = self.telemetry_bytes().await?;
        // Only what lies in chunks can be removed.
        store.seal().await?;
        let mut rows = 0;
        match wish.before {
            Some(before) => {
                for tier in Tier::ALL {
                    rows += store.prune(tier, before).await?;
                }
            }
            None => rows = store.keep(self.keep.clone(), now).await?,
        }
        let pruned = Pruned { rows, bytes_before, bytes_after: self.telemetry_bytes().await? };
        let what = match wish.before {
            Some(before) => format!("telemetry from before {before}: {rows} rows"),
            None => format!("telemetry that is not to be kept: {rows} rows"),
        };
        let (kind, actor) = (EventKind::DbPruned, actor.to_string());
        self.events.record(NewEvent { kind, actor, device: None, text: what }).await;
        Ok(pruned)
    }

    /// Gives back the room of what was pruned.
    pub(crate) async fn compact(&self) -> Result<Compacted, OpsError> {
        let bytes_before = self.telemetry_bytes().await?;
        self.world.store.compact().await?;
        Ok(Compacted { bytes_before, bytes_after: self.telemetry_bytes().await? })
    }

    /// Reads all that is stored. What is found damaged then, and was not known before, is told.
    pub(crate) async fn check(&self, pace: Pace) -> Result<DbChecked, OpsError> {
        let Ok(_place) = self.checking.try_lock() else {
            return Err(OpsError::Conflict("all that is stored is being read already".to_owned()));
        };
        let store = &self.world.store;
        let known = store.damage();
        let Checked { rows, chunks, reports, damage } = store.check(pace).await?;
        if let Some(damage) = damage.clone().filter(|_| damage != known) {
            let (kind, actor) = (EventKind::DbDamaged, Actor::Server.to_string());
            self.events.record(NewEvent { kind, actor, device: None, text: damage }).await;
        }
        let damage = damage.map(Untrusted::new);
        Ok(DbChecked { rows, chunks, reports, damage })
    }

    async fn telemetry_bytes(&self) -> Result<u64, OpsError> {
        Ok(telemetry_view(self.world.store.stats().await?).bytes)
    }

    /// The file's sizes, as far as the system tells them.
    fn file(&self) -> DbFile {
        let free = |path| {
            let disk = statvfs(path)?;
            Ok::<_, nix::Error>(disk.blocks_available().saturating_mul(disk.fragment_size()))
        };
        DbFile {
            bytes: fs::metadata(&self.path).ok().map(|file| file.len()),
            free_bytes: free(&self.path).ok(),
        }
    }
}

fn telemetry_view(stats: TelemetryStats) -> DbTelemetry {
    let files: u64 = stats.tiers.iter().map(|tier| tier.file_bytes).sum();
    let reports = stats.raw_rows();
    let tier = |tier: crate::store::TierStats| DbTier {
        resolution: tier.tier.to_owned(),
        rows: tier.rows,
        bytes: tier.bytes,
        file_bytes: tier.file_bytes,
        since: tier.floor,
    };
    DbTelemetry {
        reports,
        bytes: files + stats.log_bytes,
        series: stats.series,
        log_bytes: stats.log_bytes,
        tiers: stats.tiers.into_iter().map(tier).collect(),
    }
}
