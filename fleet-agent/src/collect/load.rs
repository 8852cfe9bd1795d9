//! How many tasks ran or waited to run, on average. See proc_loadavg(5).

use procfs::{FromRead as _, LoadAverage};

use super::{Batch, CollectError, Collector, text};
use crate::sys::SysRoot;

const FILE: &str = "proc/loadavg";

/// The load averages.
pub(super) struct Load {
    root: SysRoot,
}

impl Load {
    pub(super) fn new(root: SysRoot) -> Self {
        Self { root }
    }
}

impl Collector for Load {
    fn name(&self) -> &'static str {
        "load"
    }

    fn metrics(&self) -> &'static [&'static str] {
        &["load_1", "load_5", "load_15"]
    }

    fn collect(&mut self, batch: &mut Batch<'_>) -> Result<(), CollectError> {
        let text = text(&self.root, FILE)?;
        let load = LoadAverage::from_read(text.as_bytes())
            .map_err(|_| CollectError::form(&self.root, FILE))?;
        for (metric, tasks) in
            [("load_1", load.one), ("load_5", load.five), ("load_15", load.fifteen)]
        {
            if !tasks.is_finite() || tasks < 0.0 {
                return Err(CollectError::form(&self.root, FILE));
            }
            // The file has hundredths; `f32` would show them with a tail of noise.
            batch.push(metric, (f64::from(tasks) * 100.0).round() / 100.0);
        }
        Ok(())
    }
}
