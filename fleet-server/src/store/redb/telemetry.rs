//! Telemetry: the engine beside the database, and how its callers reach it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use async_trait::async_trait;
use fleet_core::id::Uid;
use fleet_core::metric::Report;
use fleet_core::time::Timestamp;
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::task::block_in_place;

use super::RedbStore;
use crate::series::batch::Batch;
use crate::series::catalog::Tier;
use crate::series::engine::Engine;
use crate::series::names::Names;
use crate::store::{
    Curves, CurvesAsked, Failure, Keep, NamedValue, Outcome, Overview, Point, Query, Shortage,
    StoreError, TelemetryStats, TelemetryStore, Top, Visit,
};

#[async_trait]
impl TelemetryStore for RedbStore {
    fn names(&self) -> &Names {
        self.series.names()
    }

    async fn store(&self, batch: Batch) -> Result<Vec<Outcome>, StoreError> {
        if let Some(shortage) = self.shortage() {
            return Err(StoreError::NoRoom(shortage));
        }
        self.series.take(&batch)?.safe().await
    }

    async fn query(&self, query: Query) -> Result<Vec<Point>, StoreError> {
        self.look_here(|series| series.points(&query)).await
    }

    async fn scan(
        &self,
        device: Uid,
        from: Timestamp,
        to: Timestamp,
        visit: Visit,
    ) -> Result<(), StoreError> {
        self.look(move |series| series.scan(device, from, to, visit)).await
    }

    async fn latest(&self, device: Uid) -> Result<Option<Report>, StoreError> {
        Ok(self.series.latest(device))
    }

    async fn latest_all(&self) -> Result<Vec<(Uid, Report)>, StoreError> {
        self.look(|series| Ok(series.latest_all())).await
    }

    fn newest_of(&self, device: Uid) -> Vec<NamedValue> {
        self.series.newest_of(device)
    }

    fn overview(&self, metrics: &[String]) -> Overview {
        self.series.overview(metrics)
    }

    async fn top(&self, top: Top) -> Result<Vec<(Uid, f64)>, StoreError> {
        self.look(move |series| series.top(&top)).await
    }

    async fn curves(&self, asked: CurvesAsked) -> Result<Curves, StoreError> {
        self.look_here(|series| series.curves(&asked)).await
    }

    async fn prune(&self, tier: Tier, before: Timestamp) -> Result<u64, StoreError> {
        self.look(move |series| series.prune(tier, before)).await
    }

    async fn keep(&self, keep: Keep, now: Timestamp) -> Result<u64, StoreError> {
        self.look(move |series| series.keep(&keep, now)).await
    }

    async fn compact(&self) -> Result<u64, StoreError> {
        self.look(Engine::compact).await
    }

    async fn seal(&self) -> Result<(), StoreError> {
        self.look(Engine::seal_all).await
    }

    fn shortage(&self) -> Option<Shortage> {
        self.room.shortage()
    }

    async fn stats(&self) -> Result<TelemetryStats, StoreError> {
        self.look(Engine::stats).await
    }
}

impl RedbStore {
    /// Asks the engine something about one device, on the thread of whoever asks. Most of that lies
    /// in memory, and a hop to another thread and back would take as long as the answer.
    async fn look_here<T>(
        &self,
        work: impl FnOnce(&Engine) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let _permit = self.reads.acquire().await.map_err(|_| Failure::Closed)?;
        let work = AssertUnwindSafe(|| work(&self.series));
        let guarded = || catch_unwind(work).unwrap_or_else(|_| Err(Failure::Closed.into()));
        match Handle::current().runtime_flavor() {
            // There is no other thread on which tasks could go on.
            RuntimeFlavor::CurrentThread => guarded(),
            _ => block_in_place(guarded),
        }
    }

    /// Asks the engine something, on a blocking thread.
    pub(super) async fn look<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Engine) -> Result<T, StoreError> + Send + 'static,
    {
        let permit = Arc::clone(&self.reads).acquire_owned().await.map_err(|_| Failure::Closed)?;
        let series = Arc::clone(&self.series);
        let looking = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            work(&series)
        });
        looking.await.unwrap_or_else(|_| Err(Failure::Closed.into()))
    }
}
