//! What the disks read and wrote since the last collection, and how long that took. See
//! Documentation/admin-guide/iostats.rst in the kernel's sources.

use std::collections::{BTreeMap, BTreeSet};

use procfs::DiskStat;

use super::rates::{Moved, Rates};
use super::{Batch, CollectError, Collector, text_if_any};
use crate::sys::SysRoot;

const FILE: &str = "proc/diskstats";
/// Disks that are reported.
const DISKS_MAX: usize = 64;
/// What the kernel calls a sector, whatever the disk does.
const SECTOR_BYTES: f64 = 512.0;
/// Devices that are no disks, or that only pass on to one.
const NO_DISKS: [&str; 6] = ["loop", "ram", "zram", "dm-", "sr", "fd"];

/// Positions of the counters.
const SECTORS_READ: usize = 0;
const SECTORS_WRITTEN: usize = 1;
const READS: usize = 2;
const WRITES: usize = 3;
const WAIT_MILLIS: usize = 4;
const BUSY_MILLIS: usize = 5;
const COUNTERS: usize = 6;

/// The work of each disk.
pub(super) struct DiskIo {
    root: SysRoot,
    rates: Rates<COUNTERS>,
}

impl DiskIo {
    pub(super) fn new(root: SysRoot) -> Self {
        Self { root, rates: Rates::new() }
    }
}

impl Collector for DiskIo {
    fn name(&self) -> &'static str {
        "disk_io"
    }

    fn metrics(&self) -> &'static [&'static str] {
        &[
            "disk_read_bytes_per_second",
            "disk_write_bytes_per_second",
            "disk_reads_per_second",
            "disk_writes_per_second",
            "disk_io_usage",
            "disk_io_wait_milliseconds",
        ]
    }

    fn collect(&mut self, batch: &mut Batch<'_>) -> Result<(), CollectError> {
        let Some(text) = text_if_any(&self.root, FILE)? else { return Ok(()) };
        let now = counters(&text).ok_or_else(|| CollectError::form(&self.root, FILE))?;
        for moved in self.rates.advance(batch.at(), now) {
            push(batch, &moved);
        }
        Ok(())
    }
}

fn push(batch: &mut Batch<'_>, moved: &Moved<COUNTERS>) {
    let mut push = |metric, value| batch.push_labelled(metric, "device", &moved.thing, value);
    push("disk_read_bytes_per_second", moved.per_second(SECTORS_READ) * SECTOR_BYTES);
    push("disk_write_bytes_per_second", moved.per_second(SECTORS_WRITTEN) * SECTOR_BYTES);
    push("disk_reads_per_second", moved.per_second(READS));
    push("disk_writes_per_second", moved.per_second(WRITES));
    // The kernel counts in ticks, so a disk that was always busy can come out a little above.
    push("disk_io_usage", (moved.per_second(BUSY_MILLIS) / 10.0).min(100.0));
    let requests = moved.by[READS].saturating_add(moved.by[WRITES]);
    if requests > 0 {
        push("disk_io_wait_milliseconds", moved.by[WAIT_MILLIS] as f64 / requests as f64);
    }
}

/// The counters of whole disks; a line that cannot be read is a disk without samples.
fn counters(text: &str) -> Option<BTreeMap<String, [u64; COUNTERS]>> {
    let disks: Vec<DiskStat> =
        text.lines().filter_map(|line| DiskStat::from_line(line).ok()).collect();
    if disks.is_empty() && !text.trim().is_empty() {
        return None;
    }
    let names: BTreeSet<&str> = disks.iter().map(|disk| disk.name.as_str()).collect();
    let whole = disks.iter().filter(|disk| is_whole_disk(&disk.name, &names));
    let counted = whole.map(|disk| {
        let counters = [
            disk.sectors_read,
            disk.sectors_written,
            disk.reads,
            disk.writes,
            disk.time_reading.saturating_add(disk.time_writing),
            disk.time_in_progress,
        ];
        (disk.name.clone(), counters)
    });
    Some(counted.take(DISKS_MAX).collect())
}

/// A partition's name is its disk's name, a `p` if that ends in a digit, and a number.
fn is_whole_disk(name: &str, names: &BTreeSet<&str>) -> bool {
    if NO_DISKS.iter().any(|prefix| name.starts_with(prefix)) || name.contains("boot") {
        return false;
    }
    let stem = name.trim_end_matches(|c: char| c.is_ascii_digit());
    let disk = match stem.strip_suffix('p') {
        Some(disk) if disk.ends_with(|c: char| c.is_ascii_digit()) => disk,
        _ => stem,
    };
    stem == name || !names.contains(disk)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_and_passers_on_are_left_out() {
        let names: BTreeSet<&str> = [
            "sda",
            "sda1",
            "sda12",
            "nvme0n1",
            "nvme0n1p2",
            "mmcblk0",
            "mmcblk0p1",
            "mmcblk0boot0",
            "md0",
            "md0p1",
            "xvda1",
            "loop3",
            "dm-0",
            "zram0",
            "sr0",
            "vda",
        ]
        .into();
        let whole: Vec<&str> =
            names.iter().copied().filter(|name| is_whole_disk(name, &names)).collect();
        assert_eq!(whole, ["md0", "mmcblk0", "nvme0n1", "sda", "vda", "xvda1"]);
    }
}
