//! Each figure with its goal and the way it is measured.

use std::cell::OnceCell;
use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use super::console::{self, FrameTimes, Large};
use crate::cargo::{Programs, cargo};
use crate::child::kib_of;
use crate::fleet::{Fleet, Plan};
use crate::interrupt::Interrupt;

/// Devices of the figure that counts many.
const MANY: usize = 50;
/// Seconds between the reports of a measured agent.
const INTERVAL_SECS: u32 = 10;
/// How long a program runs before its memory is read: several reports, and all caches warm.
const SETTLE: Duration = Duration::from_secs(35);
/// How long a network is left alone until it counts as quiet.
const SILENCE: Duration = Duration::from_secs(3);
/// Starts of the server, of which the median counts.
const STARTS: usize = 5;

pub(super) const KIB: f64 = 1024.0;
pub(super) const MIB: f64 = 1024.0 * 1024.0;
const MB: f64 = 1e6;

/// What is measured with.
pub(super) struct Bench<'a> {
    pub(super) programs: Programs,
    pub(super) interrupt: &'a Interrupt,
    /// What several figures are read from; made by the first that asks.
    pub(super) frame_times: OnceCell<FrameTimes>,
    pub(super) large: OnceCell<Large<'a>>,
}

/// One line of the table. Less is better in each.
pub(super) struct Figure {
    pub(super) name: &'static str,
    pub(super) goal: f64,
    pub(super) unit: Unit,
    pub(super) measure: fn(&Bench<'_>) -> anyhow::Result<f64>,
}

#[derive(Clone, Copy)]
pub(super) enum Unit {
    Mebibytes,
    Megabytes,
    Kilobytes,
    Kibibytes,
    Bytes,
    Seconds,
    Times,
    Count,
    Millions,
}

impl Unit {
    pub(super) fn show(self, value: f64) -> String {
        match self {
            Self::Mebibytes => format!("{value:.2} MiB"),
            Self::Megabytes => format!("{value:.2} MB"),
            Self::Kilobytes => format!("{value:.1} kB"),
            Self::Kibibytes => format!("{value:.1} KiB"),
            Self::Bytes => format!("{value:.3} B"),
            Self::Times => format!("{value:.2} ×"),
            Self::Count => format!("{value:.0}"),
            Self::Millions => format!("{:.2} M", value / 1e6),
            Self::Seconds if value < 0.01 => format!("{:.2} ms", value * 1000.0),
            Self::Seconds if value < 1.0 => format!("{:.0} ms", value * 1000.0),
            Self::Seconds => format!("{value:.2} s"),
        }
    }
}

pub(super) const FIGURES: [Figure; 13] = [
    Figure {
        name: "agent's memory (PSS), a report every 10 s",
        goal: 6.0,
        unit: Unit::Mebibytes,
        measure: agent_memory,
    },
    Figure {
        name: "agent's program, stripped",
        goal: 6.0,
        unit: Unit::Megabytes,
        measure: agent_size,
    },
    Figure {
        name: "server's memory (RSS), idle",
        goal: 20.0,
        unit: Unit::Mebibytes,
        measure: server_memory,
    },
    Figure {
        name: "server's first start to its first answer",
        goal: 0.2,
        unit: Unit::Seconds,
        measure: server_start,
    },
    Figure {
        name: "first device shown by fleets discover",
        goal: 1.0,
        unit: Unit::Seconds,
        measure: first_shown,
    },
    Figure {
        name: "fleets configure --auto of 50 devices",
        goal: 8.0,
        unit: Unit::Seconds,
        measure: configure_many,
    },
    Figure {
        name: "console's frame (p99), 200×60, 10,000 devices",
        goal: 0.002,
        unit: Unit::Seconds,
        measure: console::frame,
    },
    Figure {
        name: "that to one with 1,000 devices",
        goal: 1.5,
        unit: Unit::Times,
        measure: console::frame_ratio,
    },
    Figure {
        name: "a letter of a filter to its frame (p99), 10,000 devices",
        goal: 0.005,
        unit: Unit::Seconds,
        measure: console::keystroke,
    },
    Figure {
        name: "console's start to its first devices of 10,000",
        goal: 0.3,
        unit: Unit::Seconds,
        measure: console::start,
    },
    Figure {
        name: "console's memory (RSS) then",
        goal: 40.0,
        unit: Unit::Mebibytes,
        measure: console::memory,
    },
    Figure {
        name: "page with 100 devices",
        goal: 60.0,
        unit: Unit::Kilobytes,
        measure: console::page,
    },
    Figure {
        name: "page with 100 devices, compressed",
        goal: 8.0,
        unit: Unit::Kilobytes,
        measure: console::page_compressed,
    },
];

/// Seconds that cargo needs for both programs, with dependencies downloaded and nothing built.
pub(super) fn clean_build() -> anyhow::Result<f64> {
    let target = tempfile::tempdir()?;
    let started = Instant::now();
    let status = cargo()
        .args(["build", "--package", "fleet-server", "--package", "fleet-agent", "--target-dir"])
        .arg(target.path())
        .status()
        .context("cannot run cargo")?;
    if !status.success() {
        bail!("cargo build failed ({status})");
    }
    Ok(started.elapsed().as_secs_f64())
}

impl<'a> Bench<'a> {
    pub(super) fn fleet(&self, simulated: usize, own_machine: bool) -> anyhow::Result<Fleet<'a>> {
        let programs = self.programs.clone();
        let plan =
            Plan { programs, simulated, unclaimed: 0, own_machine, interval_secs: INTERVAL_SECS };
        Fleet::start(&plan, self.interrupt)
    }
}

fn agent_memory(bench: &Bench<'_>) -> anyhow::Result<f64> {
    let mut fleet = bench.fleet(0, true)?;
    fleet.discover()?;
    fleet.configure()?;
    fleet.wait_for_values()?;
    bench.interrupt.pause(SETTLE)?;
    fleet.check()?;
    let agent = fleet.agents().first().context("the fleet has no agent")?;
    Ok(kib_of(agent.pid(), "smaps_rollup", "Pss:")? * KIB / MIB)
}

fn agent_size(bench: &Bench<'_>) -> anyhow::Result<f64> {
    Ok(fs::metadata(&bench.programs.fleetd)?.len() as f64 / MB)
}

fn server_memory(bench: &Bench<'_>) -> anyhow::Result<f64> {
    let mut fleet = bench.fleet(0, false)?;
    bench.interrupt.pause(SETTLE)?;
    fleet.check()?;
    Ok(kib_of(fleet.server().pid(), "status", "VmRSS:")? * KIB / MIB)
}

fn server_start(bench: &Bench<'_>) -> anyhow::Result<f64> {
    let mut times = Vec::new();
    for _ in 0..STARTS {
        times.push(bench.fleet(0, false)?.start_time().as_secs_f64());
    }
    times.sort_by(f64::total_cmp);
    Ok(times[times.len() / 2])
}

fn first_shown(bench: &Bench<'_>) -> anyhow::Result<f64> {
    let mut fleet = bench.fleet(1, false)?;
    // The first look waits until the device announces itself; the second is measured, after a
    // silence, because a responder repeats itself at most once a second (RFC 6762 §6).
    fleet.discover()?;
    bench.interrupt.pause(SILENCE)?;
    let started = Instant::now();
    fleet.discover_first()?;
    Ok(started.elapsed().as_secs_f64())
}

fn configure_many(bench: &Bench<'_>) -> anyhow::Result<f64> {
    let mut fleet = bench.fleet(MANY, false)?;
    fleet.discover()?;
    let started = Instant::now();
    fleet.configure()?;
    Ok(started.elapsed().as_secs_f64())
}
