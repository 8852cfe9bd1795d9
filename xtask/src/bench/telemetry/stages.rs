//! What is done to a server, and which figures come of it. Each stage begins with an empty folder.

use std::time::Duration;

use anyhow::{Context as _, bail};
use fleet_core::time::{Clock as _, SystemClock};
use serde::Deserialize;

use super::data::{INTERVAL_MILLIS, METRICS, Set};
use super::figures::{FIGURES, Findings, Key, Value};
use super::load::{Senders, Shape};
use super::note;
use super::peers::{Host, Kind, Peer};
use super::questions::{self, Question, Stored};
use crate::bench::figures::{MIB, Unit};
use crate::child::{self, cpu_secs};
use crate::interrupt::Interrupted;

/// How long a server's work counts after the last answer: what it has put off is part of it.
const AFTERWARDS: Duration = Duration::from_secs(5);

/// The time that a day's last reports are of. They are sent when the server is done with the others,
/// so that what is new lies apart from what is old, as where a fleet reports all day.
const RECENT_MILLIS: i64 = 30 * 60 * 1000;
/// Links that agents report over at once.
const LINKS: &str = "64";
/// How long the program that simulates them may take besides.
const LINK_BOUND: Duration = Duration::from_secs(60);

/// What that program says.
#[derive(Deserialize)]
struct LinkLoad {
    reports: u64,
    secs: f64,
    server_cpu_secs: f64,
    own_cpu_secs: f64,
}

/// Something done to a server.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Stage {
    /// A fleet's reports of a day, then questions about them.
    Day,
    /// A large fleet's reports of an hour.
    Hour,
    /// The same, and the server is killed right after its last acknowledgement.
    Crash,
    /// A large fleet, with a request for each report.
    Single,
    /// Agents on links of their own.
    Link,
}

/// How much is done.
#[derive(Clone, Copy)]
pub(super) struct Scale {
    pub(super) day: Set,
    pub(super) hour: Set,
    pub(super) single: Set,
    /// How often a question about some devices is asked, and one about all.
    pub(super) questions: usize,
    pub(super) overviews: usize,
    /// How long agents report as fast as they can.
    pub(super) link_secs: u32,
}

impl Scale {
    pub(super) const FULL: Self = Self {
        day: Set { devices: 1_000, reports: 8_640 },
        hour: Set { devices: 10_000, reports: 360 },
        single: Set { devices: 10_000, reports: 72 },
        questions: 1_000,
        overviews: 300,
        link_secs: 15,
    };
    /// To see whether the bench itself works.
    pub(super) const QUICK: Self = Self {
        day: Set { devices: 100, reports: 360 },
        hour: Set { devices: 1_000, reports: 36 },
        single: Set { devices: 1_000, reports: 12 },
        questions: 300,
        overviews: 300,
        link_secs: 2,
    };
}

impl Stage {
    pub(super) const ALL: [Self; 5] =
        [Self::Day, Self::Hour, Self::Crash, Self::Single, Self::Link];

    /// Whether it can be done to this server.
    pub(super) fn suits(self, kind: Kind) -> bool {
        self != Self::Link || kind == Kind::FleetD
    }

    /// Adds what it measures. Only an interruption is an error.
    pub(super) fn run(
        self,
        kind: Kind,
        scale: Scale,
        host: &Host<'_>,
        findings: &mut Findings,
    ) -> anyhow::Result<()> {
        note(&format!("{}: {}", kind.name(), self.about(scale)))?;
        let result = match self {
            Self::Day => day(kind, scale, host, findings),
            Self::Hour => hour(kind, scale, host, findings),
            Self::Crash => crash(kind, scale, host, findings),
            Self::Single => single(kind, scale, host, findings),
            Self::Link => link(kind, scale, host, findings),
        };
        let Err(error) = result else { return Ok(()) };
        if error.is::<Interrupted>() {
            return Err(error);
        }
        let why = format!("{error:#}");
        for figure in FIGURES.iter().filter(|figure| figure.stage == self) {
            findings.entry(figure.key).or_insert_with(|| Err(anyhow::anyhow!(why.clone())));
        }
        Ok(())
    }

    fn about(self, scale: Scale) -> String {
        let fleet = |set: Set| format!("{} devices, {} reports each", set.devices, set.reports);
        match self {
            Self::Day => fleet(scale.day),
            Self::Hour => fleet(scale.hour),
            Self::Crash => format!("{}, then kill -9", fleet(scale.hour)),
            Self::Single => format!("{}, each a request", fleet(scale.single)),
            Self::Link => format!("{LINKS} agents' links for {} s", scale.link_secs),
        }
    }
}

fn day(kind: Kind, scale: Scale, host: &Host<'_>, findings: &mut Findings) -> anyhow::Result<()> {
    let mut peer = Peer::start(kind, host)?;
    let stored = stored(scale.day);
    let mut senders = Senders::new(stored.set, stored.end, Shape::BULK);
    let mut rate = load(&peer, &mut senders, stored.end - RECENT_MILLIS)?;
    peer.settle()?;
    rate.add(&load(&peer, &mut senders, stored.end)?);
    findings.insert(Key::Bulk, Ok(Value::One(rate.per_core())));
    findings.insert(Key::BulkWall, Ok(Value::One(rate.per_second())));
    peer.settle()?;
    for (key, question, times) in [
        (Key::Raw, Question::Raw, scale.questions),
        (Key::Average, Question::Average, scale.questions),
        (Key::Latest, Question::Latest, scale.overviews),
        (Key::Top, Question::Top, scale.questions),
    ] {
        let asked = questions::ask(&peer, question, stored, times);
        findings.insert(key, uninterrupted(asked)?.map(Value::Latency));
    }
    peer.merge()?;
    findings.insert(Key::Disk, disk(&peer, stored.set).map(Value::One));
    peer.stop()?;
    let took = peer.start_again(&Question::Raw.path(kind, stored, 0))?;
    findings.insert(Key::Restart, Ok(Value::One(took.as_secs_f64())));
    Ok(())
}

fn hour(kind: Kind, scale: Scale, host: &Host<'_>, findings: &mut Findings) -> anyhow::Result<()> {
    let mut peer = Peer::start(kind, host)?;
    let stored = stored(scale.hour);
    load(&peer, &mut Senders::new(stored.set, stored.end, Shape::BULK), stored.end)?;
    findings.insert(Key::Memory, peer.peak().map(|bytes| Value::One(bytes / MIB)));
    peer.settle()?;
    let asked = questions::ask(&peer, Question::Latest, stored, scale.overviews);
    findings.insert(Key::Overview, uninterrupted(asked)?.map(Value::Latency));
    Ok(())
}

fn crash(kind: Kind, scale: Scale, host: &Host<'_>, findings: &mut Findings) -> anyhow::Result<()> {
    let mut peer = Peer::start(kind, host)?;
    let stored = stored(scale.hour);
    Senders::new(stored.set, stored.end, Shape::BULK).send(&peer, stored.end)?;
    peer.kill()?;
    let took = peer.start_again(&Question::Raw.path(kind, stored, 0))?;
    findings.insert(Key::Recovery, Ok(Value::One(took.as_secs_f64())));
    let (sent, kept) = (stored.set.samples(), questions::count(&peer, stored)?);
    note(&format!("{}: {kept} of {sent} samples are there after kill -9", kind.name()))?;
    // More would be as wrong as less.
    findings.insert(Key::Lost, Ok(Value::One(sent.abs_diff(kept) as f64)));
    Ok(())
}

fn single(
    kind: Kind,
    scale: Scale,
    host: &Host<'_>,
    findings: &mut Findings,
) -> anyhow::Result<()> {
    let peer = Peer::start(kind, host)?;
    let stored = stored(scale.single);
    let mut senders = Senders::new(stored.set, stored.end, Shape::SINGLE);
    let rate = load(&peer, &mut senders, stored.end)?;
    findings.insert(Key::Single, Ok(Value::One(rate.per_core())));
    findings.insert(Key::SingleWall, Ok(Value::One(rate.per_second())));
    Ok(())
}

fn link(kind: Kind, scale: Scale, host: &Host<'_>, findings: &mut Findings) -> anyhow::Result<()> {
    let peer = Peer::start(kind, host)?;
    let mut command = child::command(&host.link_load);
    command.arg("reports").arg(peer.url()).arg(peer.key_file());
    command.args([&peer.pid().to_string(), LINKS, &scale.link_secs.to_string()]);
    let bound = LINK_BOUND + Duration::from_secs(scale.link_secs.into());
    let said = child::finish("link_load", &mut command, peer.folder(), bound, host.interrupt)?;
    if said.code() != Some(0) {
        bail!("link_load failed ({}): {}", said.status, said.stderr.trim());
    }
    let load: LinkLoad = serde_json::from_slice(&said.stdout).context("what link_load printed")?;
    let stored = peer.db()?.telemetry.reports;
    if stored != load.reports {
        bail!("{} reports were acknowledged and {stored} are stored", load.reports);
    }
    let reports = load.reports as f64;
    note(&format!(
        "{}: {:.0} reports/s; {:.1} s of processor for it, {:.1} s for sending, in {:.1} s",
        kind.name(),
        reports / load.secs,
        load.server_cpu_secs,
        load.own_cpu_secs,
        load.secs
    ))?;
    findings.insert(Key::Link, Ok(Value::One(reports / load.server_cpu_secs)));
    Ok(())
}

/// How fast a server has taken samples in.
struct Rate {
    samples: f64,
    /// Seconds of a processor.
    used: f64,
    /// Seconds until the last answer.
    took: f64,
}

impl Rate {
    fn add(&mut self, other: &Self) {
        self.samples += other.samples;
        self.used += other.used;
        self.took += other.took;
    }

    fn per_core(&self) -> f64 {
        self.samples / self.used
    }

    fn per_second(&self) -> f64 {
        self.samples / self.took
    }
}

fn load(peer: &Peer<'_>, senders: &mut Senders, until: i64) -> anyhow::Result<Rate> {
    let (before, own_before) = (peer.cpu()?, cpu_secs(std::process::id())?);
    let sent = senders.send(peer, until)?;
    let own = cpu_secs(std::process::id())? - own_before;
    peer.interrupt().pause(AFTERWARDS)?;
    let rate = Rate {
        samples: sent.reports as f64 * METRICS.len() as f64,
        used: peer.cpu()? - before,
        took: sent.took.as_secs_f64(),
    };
    note(&format!(
        "{}: {} samples/s, {} samples per core-second; {:.1} s of processor for it, {own:.1} s for \
         sending, in {:.1} s",
        peer.kind().name(),
        Unit::Millions.show(rate.per_second()),
        Unit::Millions.show(rate.per_core()),
        rate.used,
        rate.took
    ))?;
    Ok(rate)
}

/// A set whose last moment is now. Both servers refuse what is too old.
fn stored(set: Set) -> Stored {
    let now = SystemClock.now().millis();
    Stored { set, end: now - now.rem_euclid(INTERVAL_MILLIS) }
}

/// Bytes on the disk for each sample: all that the server keeps there but rollups, which the other
/// does not make, and room that is held back, which is no data.
fn disk(peer: &Peer<'_>, set: Set) -> anyhow::Result<f64> {
    let (parts, rollups) = (peer.disk()?, peer.rollups()?);
    let shown: Vec<String> = parts.iter().map(|(name, bytes)| format!("{name} {bytes}")).collect();
    let name = peer.kind().name();
    note(&format!("{name}: bytes on disk: {}; of that rollups {rollups}", shown.join(", ")))?;
    let data = parts.iter().filter(|(name, _)| name != "ballast");
    let bytes: u64 = data.map(|(_, bytes)| bytes).sum();
    Ok(bytes.saturating_sub(rollups) as f64 / set.samples() as f64)
}

/// Lets an interruption through; any other failure is one figure's own.
fn uninterrupted<T>(result: anyhow::Result<T>) -> anyhow::Result<anyhow::Result<T>> {
    match result {
        Err(error) if error.is::<Interrupted>() => Err(error),
        result => Ok(result),
    }
}
