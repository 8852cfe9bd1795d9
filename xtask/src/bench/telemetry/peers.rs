//! The two servers that are compared, each started alone on an empty folder and a loopback address.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use fleet_core::api::DbView;
use nix::sys::statfs::{TMPFS_MAGIC, statfs};
use tempfile::TempDir;

use super::http::Connection;
use crate::bench::figures::KIB;
use crate::cargo::Programs;
use crate::child::{self, Child, cpu_secs, kib_of};
use crate::fleet::{self, address};
use crate::interrupt::Interrupt;

/// How long a server may take until it answers, also after a crash.
const START_BOUND: Duration = Duration::from_secs(120);
/// How long a server may take to end when asked.
const STOP_BOUND: Duration = Duration::from_secs(60);
/// Between two questions whether a server answers; restarts are measured by them.
const ASK_EVERY: Duration = Duration::from_millis(2);
/// How long what a server does on its own may take.
const SETTLE_BOUND: Duration = Duration::from_secs(120);
/// A server that needs less of a processor than this for so long has settled.
const IDLE_LOAD: f64 = 0.05;
const IDLE_TIME: Duration = Duration::from_secs(2);
/// Between two looks at VictoriaMetrics' log.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// What it logs when a forced merge is done.
const MERGED: &str = "forced merge for partition_prefix=\"\" has been successfully finished";

/// What FleetD calls values as they came.
const RAW: &str = "raw";
/// What `st_blocks` counts in.
const BLOCK_BYTES: u64 = 512;

/// A server.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Kind {
    #[value(name = "fleetd")]
    FleetD,
    VictoriaMetrics,
}

impl Kind {
    pub(super) const ALL: [Self; 2] = [Self::FleetD, Self::VictoriaMetrics];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::FleetD => "FleetD",
            Self::VictoriaMetrics => "VictoriaMetrics",
        }
    }
}

/// What both are started with.
pub(super) struct Host<'a> {
    pub(super) programs: Programs,
    /// The program that simulates agents.
    pub(super) link_load: PathBuf,
    pub(super) interrupt: &'a Interrupt,
}

/// A running server.
pub(super) struct Peer<'a> {
    // It ends before its folder goes.
    server: Child,
    kind: Kind,
    address: SocketAddr,
    host: &'a Host<'a>,
    key: Option<String>,
    folder: TempDir,
}

impl<'a> Peer<'a> {
    /// Starts a server with nothing stored, and waits until it answers.
    pub(super) fn start(kind: Kind, host: &'a Host<'a>) -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new().prefix("fleetd-bench-").tempdir()?;
        if statfs(folder.path())?.filesystem_type() == TMPFS_MAGIC {
            let path = folder.path().display();
            bail!("{path} is in memory, not on a disk; set TMPDIR to a folder on one");
        }
        let address = address::Network::choose()?.server()?;
        let server = launch(kind, host, address, folder.path())?;
        let mut peer = Self { server, kind, address, host, key: None, folder };
        peer.wait(|peer| Ok(address::answers(peer.address)))?;
        if kind == Kind::FleetD {
            let key = fs::read_to_string(peer.key_file());
            peer.key = Some(key.context("cannot read the operator's key")?.trim().to_owned());
        }
        Ok(peer)
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(super) fn pid(&self) -> u32 {
        self.server.pid()
    }

    /// A place for what is done with the server.
    pub(super) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// FleetD's operator's key.
    pub(super) fn key_file(&self) -> PathBuf {
        self.data().join("admin.key")
    }

    pub(super) fn kind(&self) -> Kind {
        self.kind
    }

    pub(super) fn interrupt(&self) -> &'a Interrupt {
        self.host.interrupt
    }

    /// A connection whose first request was answered, so that it is no stranger's any more.
    pub(super) fn connect(&self) -> anyhow::Result<Connection> {
        let mut connection = self.open()?;
        connection.get(match self.kind {
            Kind::FleetD => "/api/v1/devices?limit=1",
            Kind::VictoriaMetrics => "/health",
        })?;
        Ok(connection)
    }

    fn open(&self) -> io::Result<Connection> {
        Connection::open(self.address, self.key.as_deref())
    }

    /// Processor seconds so far.
    pub(super) fn cpu(&self) -> anyhow::Result<f64> {
        cpu_secs(self.server.pid())
    }

    /// Bytes of memory at the worst moment so far.
    pub(super) fn peak(&self) -> anyhow::Result<f64> {
        Ok(kib_of(self.server.pid(), "status", "VmHWM:")? * KIB)
    }

    /// What lies on the disk, as `du` counts: each file or folder at the top, and its bytes.
    pub(super) fn disk(&self) -> anyhow::Result<Vec<(String, u64)>> {
        let mut parts = Vec::new();
        for entry in fs::read_dir(self.data())? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            parts.push((name, allocated(&entry.path())?));
        }
        parts.sort();
        Ok(parts)
    }

    /// Bytes of that which are coarser copies of values that are there too.
    pub(super) fn rollups(&self) -> anyhow::Result<u64> {
        if self.kind == Kind::VictoriaMetrics {
            return Ok(0);
        }
        let tiers = self.db()?.telemetry.tiers;
        let coarse = tiers.iter().filter(|tier| tier.resolution != RAW);
        Ok(coarse.map(|tier| tier.file_bytes).sum())
    }

    /// What FleetD says of what it stores.
    pub(super) fn db(&self) -> anyhow::Result<DbView> {
        Ok(serde_json::from_slice(self.connect()?.get("/api/v1/db")?)?)
    }

    /// Waits until the server has nothing more to do.
    pub(super) fn settle(&mut self) -> anyhow::Result<()> {
        let mut before = None;
        self.wait_for("rest", IDLE_TIME, |peer| {
            let now = peer.cpu()?;
            let used = before.replace(now).map(|before| now - before);
            Ok(used.is_some_and(|used| used < IDLE_LOAD * IDLE_TIME.as_secs_f64()))
        })
    }

    /// Has VictoriaMetrics do at once what makes its data smallest. FleetD does that by itself.
    pub(super) fn merge(&mut self) -> anyhow::Result<()> {
        if self.kind == Kind::VictoriaMetrics {
            let mut connection = self.connect()?;
            connection.get("/internal/force_flush")?;
            connection.get("/internal/force_merge")?;
            self.wait_for("the merge", LOOK_EVERY, |peer| {
                Ok(fs::read_to_string(peer.log())?.contains(MERGED))
            })?;
        }
        self.settle()
    }

    /// Ends the server as its operator would.
    pub(super) fn stop(&mut self) -> anyhow::Result<()> {
        self.server.end_within(STOP_BOUND)
    }

    /// Ends the server as a crash would.
    pub(super) fn kill(&mut self) -> anyhow::Result<()> {
        self.server.kill()
    }

    /// Starts the server again; says how long that took until it answered this question.
    pub(super) fn start_again(&mut self, question: &str) -> anyhow::Result<Duration> {
        self.server = launch(self.kind, self.host, self.address, self.folder.path())?;
        self.wait(|peer| Ok(peer.open().is_ok_and(|mut asked| asked.get(question).is_ok())))
    }

    /// Waits until the server answers; says how old it is then.
    fn wait(
        &mut self,
        answers: impl Fn(&Self) -> anyhow::Result<bool>,
    ) -> anyhow::Result<Duration> {
        let interrupt = self.host.interrupt;
        let answered = interrupt.until(START_BOUND, ASK_EVERY, || {
            self.server.check()?;
            Ok(answers(self)?.then(|| self.server.age()))
        })?;
        answered.with_context(|| {
            let (name, bound) = (self.kind.name(), START_BOUND.as_secs());
            format!("{name} did not answer within {bound} s{}", self.server.last_words())
        })
    }

    fn wait_for(
        &mut self,
        what: &str,
        pause: Duration,
        mut is_so: impl FnMut(&Self) -> anyhow::Result<bool>,
    ) -> anyhow::Result<()> {
        let interrupt = self.host.interrupt;
        let found = interrupt.until(SETTLE_BOUND, pause, || {
            self.server.check()?;
            Ok(is_so(self)?.then_some(()))
        })?;
        found.with_context(|| format!("{what} did not come within {} s", SETTLE_BOUND.as_secs()))
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("server")
    }

    fn log(&self) -> PathBuf {
        log(self.folder.path())
    }
}

fn log(folder: &Path) -> PathBuf {
    folder.join("victoria-metrics.log")
}

fn launch(
    kind: Kind,
    host: &Host<'_>,
    address: SocketAddr,
    folder: &Path,
) -> anyhow::Result<Child> {
    match kind {
        Kind::FleetD => fleet::start_server(&host.programs, address, folder),
        Kind::VictoriaMetrics => {
            let mut command = child::command("victoria-metrics");
            command.arg(format!("-storageDataPath={}", folder.join("server").display()));
            command.arg(format!("-httpListenAddr={address}"));
            // A connection is kept as long as questions are asked over it.
            command.args(["-retentionPeriod=100y", "-http.connTimeout=1h"]);
            Child::start(kind.name(), &mut command, &log(folder))
        }
    }
}

/// Bytes that a file or a folder has on the disk. What is removed meanwhile has none.
fn allocated(path: &Path) -> io::Result<u64> {
    let gone_is_none = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => Ok(0),
        _ => Err(error),
    };
    let found = match fs::symlink_metadata(path) {
        Ok(found) => found,
        Err(error) => return gone_is_none(error),
    };
    let mut bytes = found.blocks() * BLOCK_BYTES;
    if found.is_dir() {
        let entries = match fs::read_dir(path) {
            Ok(entries) => entries,
            Err(error) => return gone_is_none(error),
        };
        for entry in entries {
            bytes += allocated(&entry?.path())?;
        }
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_disk_is_counted_in_blocks_and_folders_are_looked_into() {
        let folder = tempfile::tempdir().unwrap();
        let empty = allocated(folder.path()).unwrap();
        fs::create_dir(folder.path().join("a")).unwrap();
        let file = folder.path().join("a/b");
        fs::write(&file, vec![1; 100_000]).unwrap();
        fs::File::open(&file).unwrap().sync_all().unwrap();
        assert!(allocated(folder.path()).unwrap() >= empty + 100_000);
        assert_eq!(allocated(&folder.path().join("none")).unwrap(), 0);
    }
}
