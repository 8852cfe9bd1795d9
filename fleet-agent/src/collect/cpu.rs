//! How busy the processors were since the last collection, in percent of all their time.
//! See proc_stat(5). Time in guests is part of user time there and is not counted twice.

use std::collections::BTreeMap;

use procfs::{CpuTime, ExplicitSystemInfo, FromBufReadSI as _, KernelStats};

use super::{Batch, CollectError, Collector, percent, text};
use crate::sys::SysRoot;

const FILE: &str = "proc/stat";
/// Cores that are reported one by one.
const CORES_MAX: usize = 256;
/// Only shares of time are computed, so the length of a tick does not matter.
const TICKS: ExplicitSystemInfo = ExplicitSystemInfo {
    boot_time_secs: 0,
    ticks_per_second: 100,
    page_size: 4096,
    is_little_endian: true,
};

/// Processor time: all of it, and of each core.
pub(super) struct Cpu {
    root: SysRoot,
    before: Option<Times>,
}

impl Cpu {
    pub(super) fn new(root: SysRoot) -> Self {
        Self { root, before: None }
    }
}

impl Collector for Cpu {
    fn name(&self) -> &'static str {
        "cpu"
    }

    fn metrics(&self) -> &'static [&'static str] {
        &[
            "cpu_usage",
            "cpu_core_usage",
            "cpu_user_usage",
            "cpu_system_usage",
            "cpu_iowait_usage",
            "cpu_steal_usage",
        ]
    }

    fn collect(&mut self, batch: &mut Batch<'_>) -> Result<(), CollectError> {
        let text = text(&self.root, FILE)?;
        let now = Times::parse(&text).ok_or_else(|| CollectError::form(&self.root, FILE))?;
        if let Some(before) = &self.before {
            push_total(batch, &before.total, &now.total);
            for (core, now) in &now.cores {
                let spent = before.cores.get(core).and_then(|before| now.since(before));
                if let Some(usage) = spent.and_then(|spent| percent(spent.busy, spent.all())) {
                    batch.push_labelled("cpu_core_usage", "core", &core.to_string(), usage);
                }
            }
        }
        self.before = Some(now);
        Ok(())
    }
}

fn push_total(batch: &mut Batch<'_>, before: &Ticks, now: &Ticks) {
    let Some(spent) = now.since(before) else { return };
    let share = |part: Option<u64>| part.and_then(|part| percent(part, spent.all()));
    batch.push_known("cpu_usage", share(Some(spent.busy)));
    batch.push_known("cpu_user_usage", share(now.user.checked_sub(before.user)));
    batch.push_known("cpu_system_usage", share(now.system.checked_sub(before.system)));
    batch.push_known("cpu_iowait_usage", share(part_since(before.iowait, now.iowait)));
    batch.push_known("cpu_steal_usage", share(part_since(before.steal, now.steal)));
}

fn part_since(before: Option<u64>, now: Option<u64>) -> Option<u64> {
    now?.checked_sub(before?)
}

/// One reading of the file.
struct Times {
    total: Ticks,
    cores: BTreeMap<u32, Ticks>,
}

impl Times {
    fn parse(text: &str) -> Option<Self> {
        let stats = KernelStats::from_buf_read(text.as_bytes(), &TICKS).ok()?;
        // A core that is offline has no line, so the numbers come from the names.
        let names = text.lines().filter(|line| !line.starts_with("cpu "));
        let numbers = names.filter_map(|line| line.strip_prefix("cpu"));
        let mut cores = BTreeMap::new();
        for (number, time) in numbers.zip(&stats.cpu_time).take(CORES_MAX) {
            let number = number.split_whitespace().next()?.parse().ok()?;
            cores.insert(number, Ticks::of(time)?);
        }
        Some(Self { total: Ticks::of(&stats.total)?, cores })
    }
}

/// Ticks since the machine started, as the metrics divide them.
struct Ticks {
    user: u64,
    system: u64,
    steal: Option<u64>,
    /// The part of idle time in which a disk was waited for. The kernel may take some back.
    iowait: Option<u64>,
    busy: u64,
    idle: u64,
}

/// Ticks between two readings.
struct Spent {
    busy: u64,
    idle: u64,
}

impl Ticks {
    /// Nothing when the sums do not fit: no machine runs that long.
    fn of(time: &CpuTime) -> Option<Self> {
        let user = time.user.checked_add(time.nice)?;
        let interrupts = time.irq.unwrap_or(0).checked_add(time.softirq.unwrap_or(0))?;
        let system = time.system.checked_add(interrupts)?;
        let busy = user.checked_add(system)?.checked_add(time.steal.unwrap_or(0))?;
        let idle = time.idle.checked_add(time.iowait.unwrap_or(0))?;
        busy.checked_add(idle)?;
        Some(Self { user, system, steal: time.steal, iowait: time.iowait, busy, idle })
    }

    /// Nothing after a reset.
    fn since(&self, before: &Self) -> Option<Spent> {
        let busy = self.busy.checked_sub(before.busy)?;
        let idle = self.idle.checked_sub(before.idle)?;
        Some(Spent { busy, idle })
    }
}

impl Spent {
    fn all(&self) -> u64 {
        self.busy + self.idle
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ticks(line: &str) -> Option<Ticks> {
        let text = format!("cpu  {line}\nctxt 1\nbtime 1\nprocesses 1\n");
        Times::parse(&text).map(|times| times.total)
    }

    #[test]
    fn guests_count_once_and_waiting_is_idle() {
        let before = ticks("100 0 0 100 0 0 0 0 0 0").unwrap();
        let spent = ticks("150 10 20 150 50 5 5 10 50 10").unwrap().since(&before).unwrap();
        assert_eq!((spent.busy, spent.idle), (100, 100));
    }

    #[test]
    fn time_that_went_back_is_a_reset() {
        let before = ticks("100 0 0 100 10 0 0 0 0 0").unwrap();
        for (now, known) in [
            ("99 0 0 900 10 0 0 0 0 0", false),
            ("900 0 0 99 10 0 0 0 0 0", false),
            // The kernel may take back some of the waiting as long as idle time goes on.
            ("900 0 0 105 5 0 0 0 0 0", true),
        ] {
            assert_eq!(ticks(now).unwrap().since(&before).is_some(), known, "{now}");
        }
    }

    #[test]
    fn old_kernels_have_fewer_columns_and_no_machine_has_that_many_ticks() {
        assert_eq!(ticks("1 2 3 4").unwrap().steal, None);
        assert!(ticks("18446744073709551615 1 0 0").is_none());
        assert!(ticks("18446744073709551615 0 0 1").is_none());
        assert!(ticks("1 2 3").is_none());
    }
}
