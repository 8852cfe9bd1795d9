//! Made-up machines: trees of `/proc`, `/sys` and `/etc` files whose counters move.
//!
//! One thread moves them all, each a little differently. A file is replaced, never rewritten, so
//! that an agent reads an old one or a new one and nothing in between.

use std::f64::consts::TAU;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::Context as _;

/// Pause between two steps of the world.
const STEP: Duration = Duration::from_millis(500);
/// Counter steps per second that the kernel uses in `/proc/stat`.
const TICKS_PER_SECOND: f64 = 100.0;
const SECTOR_BYTES: f64 = 512.0;

/// A kind of device, as its files show it.
pub struct Kind {
    /// How its ids begin.
    pub name: &'static str,
    model: &'static str,
    arch: &'static str,
    os: &'static str,
    kernel: &'static str,
    cores: u32,
    memory_mib: u64,
    disk: &'static str,
    network: &'static str,
}

const KINDS: [Kind; 5] = [
    Kind {
        name: "rpi4",
        model: "Raspberry Pi 4 Model B Rev 1.4",
        arch: "aarch64",
        os: "Debian GNU/Linux 12 (bookworm)",
        kernel: "6.6.51+rpt-rpi-v8",
        cores: 4,
        memory_mib: 3791,
        disk: "mmcblk0",
        network: "eth0",
    },
    Kind {
        name: "jetson",
        model: "NVIDIA Jetson Orin Nano Developer Kit",
        arch: "aarch64",
        os: "Ubuntu 22.04.5 LTS",
        kernel: "5.15.148-tegra",
        cores: 6,
        memory_mib: 7620,
        disk: "nvme0n1",
        network: "eth0",
    },
    Kind {
        name: "x86",
        model: "",
        arch: "x86_64",
        os: "Debian GNU/Linux 12 (bookworm)",
        kernel: "6.1.0-28-amd64",
        cores: 8,
        memory_mib: 15_890,
        disk: "sda",
        network: "enp1s0",
    },
    Kind {
        name: "beaglebone",
        model: "TI AM335x BeagleBone Black",
        arch: "armv7l",
        os: "Debian GNU/Linux 11 (bullseye)",
        kernel: "5.10.168-ti-r79",
        cores: 1,
        memory_mib: 484,
        disk: "mmcblk1",
        network: "eth0",
    },
    Kind {
        name: "rock5b",
        model: "Radxa ROCK 5B",
        arch: "aarch64",
        os: "Armbian 24.11.1 bookworm",
        kernel: "6.1.75-vendor-rk35xx",
        cores: 8,
        memory_mib: 7931,
        disk: "mmcblk0",
        network: "eth0",
    },
];

impl Kind {
    /// The kind of the `number`th device: they take turns.
    pub fn of(number: usize) -> &'static Self {
        &KINDS[number.saturating_sub(1) % KINDS.len()]
    }
}

/// All made-up machines, and the thread that moves them.
pub struct World {
    machines: Vec<Machine>,
    mover: Option<(Sender<()>, JoinHandle<()>)>,
}

impl World {
    /// A world without machines.
    pub fn new() -> Self {
        Self { machines: Vec::new(), mover: None }
    }

    /// Makes a machine in the folder `root`.
    pub fn add(
        &mut self,
        kind: &'static Kind,
        number: usize,
        hostname: &str,
        root: PathBuf,
    ) -> anyhow::Result<()> {
        let machine = Machine { kind, number, root, counters: Counters::default() };
        let place = machine.root.clone();
        machine.create(hostname).with_context(|| format!("cannot write {}", place.display()))?;
        self.machines.push(machine);
        Ok(())
    }

    /// Sets the machines in motion, until the world is dropped.
    pub fn start(&mut self) -> anyhow::Result<()> {
        let mut machines = std::mem::take(&mut self.machines);
        move_all(&mut machines, 0.0, 0.0)?;
        let (end, ended) = mpsc::channel();
        let began = Instant::now();
        let run = move || {
            let mut last = 0.0;
            while ended.recv_timeout(STEP) == Err(RecvTimeoutError::Timeout) {
                let now = began.elapsed().as_secs_f64();
                // A full disk stops the world, and the devices then show no rates: which is true.
                if move_all(&mut machines, now, now - last).is_err() {
                    return;
                }
                last = now;
            }
        };
        self.mover = Some((end, thread::Builder::new().name("world".into()).spawn(run)?));
        Ok(())
    }
}

impl Default for World {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if let Some((end, mover)) = self.mover.take() {
            drop(end);
            // It has nothing to say; a panic has printed itself.
            let _ = mover.join();
        }
    }
}

fn move_all(machines: &mut [Machine], now: f64, passed: f64) -> anyhow::Result<()> {
    machines.iter_mut().try_for_each(|machine| machine.advance(now, passed))
}

struct Machine {
    kind: &'static Kind,
    number: usize,
    root: PathBuf,
    counters: Counters,
}

/// What only grows, in the kernel's units.
#[derive(Default)]
struct Counters {
    user: f64,
    system: f64,
    idle: f64,
    sectors: f64,
    received: f64,
    sent: f64,
}

impl Machine {
    /// The files that never change.
    fn create(&self, hostname: &str) -> anyhow::Result<()> {
        let kind = self.kind;
        self.write("etc/hostname", &format!("{hostname}\n"))?;
        self.write("etc/os-release", &format!("PRETTY_NAME=\"{}\"\n", kind.os))?;
        self.write("proc/sys/kernel/osrelease", &format!("{}\n", kind.kernel))?;
        self.write("proc/sys/kernel/arch", &format!("{}\n", kind.arch))?;
        let boot = format!("00000000-0000-4000-8000-{:012}\n", self.number);
        self.write("proc/sys/kernel/random/boot_id", &boot)?;
        let root = format!("22 1 179:2 / / rw,noatime - ext4 /dev/{}p2 rw\n", kind.disk);
        self.write("proc/self/mountinfo", &root)?;
        if kind.model.is_empty() {
            self.write("sys/class/dmi/id/sys_vendor", "Intel(R) Client Systems\n")?;
            self.write("sys/class/dmi/id/product_name", "NUC11TNHi5\n")?;
        } else {
            self.write("sys/firmware/devicetree/base/model", &format!("{}\0", kind.model))?;
        }
        self.write("sys/class/thermal/thermal_zone0/type", "cpu-thermal\n")
    }

    /// Writes the files that show `passed` seconds more, at `now` seconds of the world.
    fn advance(&mut self, now: f64, passed: f64) -> anyhow::Result<()> {
        let cores = f64::from(self.kind.cores);
        let busy = self.wave(now, 23.0, 0.06, 0.62);
        let counters = &mut self.counters;
        counters.user += busy * 0.8 * cores * passed * TICKS_PER_SECOND;
        counters.system += busy * 0.2 * cores * passed * TICKS_PER_SECOND;
        counters.idle += (1.0 - busy) * cores * passed * TICKS_PER_SECOND;
        counters.sectors += busy * 4e6 / SECTOR_BYTES * passed;
        counters.received += busy * 6e5 * passed;
        counters.sent += busy * 9e4 * passed;
        self.write("proc/stat", &self.stat())?;
        self.write("proc/meminfo", &self.meminfo(now))?;
        self.write("proc/uptime", &self.uptime(now))?;
        self.write("proc/diskstats", &self.diskstats())?;
        self.write("proc/net/dev", &self.net_dev())?;
        let load = busy * cores;
        let loads = format!("{load:.2} {:.2} {:.2} 1/211 4242\n", load * 0.9, load * 0.8);
        self.write("proc/loadavg", &loads)?;
        let millidegrees = 38_000.0 + busy * 30_000.0;
        self.write("sys/class/thermal/thermal_zone0/temp", &format!("{millidegrees:.0}\n"))
    }

    /// A slow swing between two shares, elsewhere in its course on each machine.
    fn wave(&self, now: f64, period_secs: f64, low: f64, high: f64) -> f64 {
        let phase = self.number as f64 * 1.7;
        let swing = (now / period_secs * TAU + phase).sin() * 0.8 + (now * 1.9 + phase).sin() * 0.2;
        low + (high - low) * (swing + 1.0) / 2.0
    }

    fn stat(&self) -> String {
        let cores = self.kind.cores;
        let Counters { user, system, idle, .. } = &self.counters;
        let line = |name: &str, share: f64| {
            let [user, system, idle] = [user / share, system / share, idle / share];
            format!("{name} {user:.0} 0 {system:.0} {idle:.0} 0 0 0 0 0 0\n")
        };
        let mut text = line("cpu ", 1.0);
        for core in 0..cores {
            text.push_str(&line(&format!("cpu{core}"), f64::from(cores)));
        }
        text + "ctxt 1000000\nbtime 1700000000\nprocesses 5000\nprocs_running 1\nprocs_blocked 0\n"
    }

    fn meminfo(&self, now: f64) -> String {
        let total = self.kind.memory_mib * 1024;
        let free_share = 1.0 - self.wave(now, 61.0, 0.3, 0.55);
        let available = (total as f64 * free_share) as u64;
        let mut text = String::new();
        for (name, kib) in [
            ("MemTotal", total),
            ("MemFree", available / 2),
            ("MemAvailable", available),
            ("Buffers", 40_960),
            ("Cached", available / 3),
            ("SwapCached", 0),
            ("Active", total / 5),
            ("Inactive", total / 6),
            ("SwapTotal", 0),
            ("SwapFree", 0),
            ("Dirty", 120),
            ("Writeback", 0),
            ("Mapped", total / 20),
            ("Slab", total / 30),
            ("Committed_AS", total / 3),
            ("VmallocTotal", 34_359_738_367),
            ("VmallocUsed", 20_000),
            ("VmallocChunk", 0),
        ] {
            writeln!(text, "{:<16}{kib:>12} kB", format!("{name}:"))
                .expect("writing to a String cannot fail");
        }
        text
    }

    fn uptime(&self, now: f64) -> String {
        let up = now + 3600.0 * (self.number as f64 + 5.0);
        format!("{up:.2} {:.2}\n", up * f64::from(self.kind.cores) * 0.7)
    }

    fn diskstats(&self) -> String {
        let sectors = self.counters.sectors as u64;
        let (disk, operations, millis) = (self.kind.disk, sectors / 64, sectors / 512);
        format!(
            " 179       0 {disk} {operations} 0 {sectors} {millis} {operations} 0 {sectors} \
             {millis} 0 {millis} {millis} 0 0 0 0 0 0\n"
        )
    }

    fn net_dev(&self) -> String {
        let Counters { received, sent, .. } = &self.counters;
        let [in_packets, out_packets] = [received / 900.0, sent / 300.0];
        format!(
            "Inter-|   Receive                                                |  Transmit\n \
             face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets \
             errs drop fifo colls carrier compressed\n{:>6}: {received:.0} {in_packets:.0} 0 0 0 \
             0 0 0 {sent:.0} {out_packets:.0} 0 0 0 0 0 0\n",
            self.kind.network
        )
    }

    fn write(&self, file: &str, text: &str) -> anyhow::Result<()> {
        let path = self.root.join(file);
        replace(&path, text).with_context(|| format!("cannot write {}", path.display()))
    }
}

fn replace(path: &Path, text: &str) -> std::io::Result<()> {
    let new = path.with_extension("new");
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::write(&new, text)?;
    fs::rename(&new, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn total(root: &Path) -> u64 {
        let stat = fs::read_to_string(root.join("proc/stat")).unwrap();
        let cpu = stat.lines().next().unwrap();
        cpu.split_whitespace().skip(1).map(|word| word.parse::<u64>().unwrap()).sum()
    }

    #[test]
    fn counters_grow_with_the_time_that_passed() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().to_owned();
        let kind = Kind::of(1);
        let mut machine =
            Machine { kind, number: 1, root: root.clone(), counters: Counters::default() };
        machine.create("rpi4-001").unwrap();
        machine.advance(0.0, 0.0).unwrap();
        let before = total(&root);
        machine.advance(10.0, 10.0).unwrap();
        let ticks = 10 * 100 * u64::from(kind.cores);
        assert!(total(&root).abs_diff(before + ticks) <= 2);
    }

    #[test]
    fn a_world_moves_by_itself_and_stops() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("root");
        let mut world = World::new();
        world.add(Kind::of(2), 2, "jetson-002", root.clone()).unwrap();
        world.start().unwrap();
        let before = total(&root);
        let end = Instant::now() + Duration::from_secs(20);
        while total(&root) == before {
            assert!(Instant::now() < end, "the counters did not move");
            thread::yield_now();
        }
        drop(world);
        let after = total(&root);
        assert_eq!(after, total(&root));
    }
}
