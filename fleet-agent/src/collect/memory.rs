//! Memory and swap. See proc_meminfo(5).
//!
//! The few fields are taken out by hand: `procfs::Meminfo` refuses the whole file when one of
//! thirty is missing, as in sandboxes that write their own, and panics at names that are not ASCII.

use super::{Batch, CollectError, Collector, percent, text};
use crate::sys::SysRoot;

const FILE: &str = "proc/meminfo";

/// Memory that programs use, and what the kernel could still give them.
pub(super) struct Memory {
    root: SysRoot,
}

impl Memory {
    pub(super) fn new(root: SysRoot) -> Self {
        Self { root }
    }
}

impl Collector for Memory {
    fn name(&self) -> &'static str {
        "memory"
    }

    fn metrics(&self) -> &'static [&'static str] {
        &[
            "memory_usage",
            "memory_total_bytes",
            "memory_available_bytes",
            "swap_usage",
            "swap_total_bytes",
            "swap_used_bytes",
        ]
    }

    fn collect(&mut self, batch: &mut Batch<'_>) -> Result<(), CollectError> {
        let text = text(&self.root, FILE)?;
        let field = |name| field_bytes(&text, name);
        let (Some(total), Some(available)) = (field("MemTotal"), field("MemAvailable")) else {
            return Err(CollectError::form(&self.root, FILE));
        };
        // In a container with a limit of its own the two may come from different sources.
        let used = total.saturating_sub(available);
        batch.push_known("memory_usage", percent(used, total));
        batch.push("memory_total_bytes", total as f64);
        batch.push("memory_available_bytes", available as f64);

        if let (Some(total), Some(free)) = (field("SwapTotal"), field("SwapFree")) {
            let used = total.saturating_sub(free);
            batch.push_known("swap_usage", percent(used, total));
            batch.push("swap_total_bytes", total as f64);
            batch.push("swap_used_bytes", used as f64);
        }
        Ok(())
    }
}

/// One field of the file, which counts in KiB.
pub(crate) fn field_bytes(text: &str, name: &str) -> Option<u64> {
    let mut fields = text.lines().filter_map(|line| line.split_once(':'));
    let (_, value) = fields.find(|(field, _)| *field == name)?;
    let kibibytes: u64 = value.trim().strip_suffix(" kB")?.trim_end().parse().ok()?;
    kibibytes.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::field_bytes;

    #[test]
    fn a_field_is_found_by_its_whole_name() {
        let text = "MemTotal:        2048 kB\nActive(file):  12 kB\nHugePages_Total:   3\n\
                    Huge:  18446744073709551615 kB\nNegative: -1 kB\n";
        for (name, bytes) in [
            ("MemTotal", Some(2048 * 1024)),
            ("Active(file)", Some(12 * 1024)),
            ("Active", None),
            ("HugePages_Total", None),
            ("Huge", None),
            ("Negative", None),
            ("Absent", None),
        ] {
            assert_eq!(field_bytes(text, name), bytes, "{name}");
        }
    }
}
