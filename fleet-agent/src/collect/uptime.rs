//! Seconds since the machine started. See proc_uptime(5).

use procfs::FromRead as _;

use super::{Batch, CollectError, Collector, text};
use crate::sys::SysRoot;

const FILE: &str = "proc/uptime";

/// The time since boot, with the time asleep.
pub(super) struct Uptime {
    root: SysRoot,
}

impl Uptime {
    pub(super) fn new(root: SysRoot) -> Self {
        Self { root }
    }
}

impl Collector for Uptime {
    fn name(&self) -> &'static str {
        "uptime"
    }

    fn metrics(&self) -> &'static [&'static str] {
        &["uptime_seconds"]
    }

    fn collect(&mut self, batch: &mut Batch<'_>) -> Result<(), CollectError> {
        let text = text(&self.root, FILE)?;
        let seconds = procfs::Uptime::from_read(text.as_bytes()).ok().map(|file| file.uptime);
        let seconds = seconds.filter(|seconds| seconds.is_finite() && *seconds >= 0.0);
        batch.push("uptime_seconds", seconds.ok_or_else(|| CollectError::form(&self.root, FILE))?);
        Ok(())
    }
}
