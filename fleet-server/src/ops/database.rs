//! The database itself: how much there is.

use std::fs;
use std::path::PathBuf;

use fleet_core::api::{DbFile, DbTelemetry, DbTier, DbView};
use nix::sys::statvfs::statvfs;

use super::{OpsError, World};
use crate::store::TelemetryStats;

/// Operations on the database.
pub(crate) struct Database {
    pub(crate) world: World,
    pub(crate) path: PathBuf,
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
