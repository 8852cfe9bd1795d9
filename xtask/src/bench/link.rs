//! `cargo xtask bench link`: a large fleet on its links, beside as many clients of an MQTT broker
//! (mosquitto, from Debian) in the same run.
//!
//! Server, broker and fleet share this machine, so times depend on it: a table to look at. It fails
//! only when something could not be measured.

use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;
use std::{fs, net};

use anyhow::{Context as _, bail};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::figures::Unit;
use super::{head, note, row};
use crate::cargo::{self, Programs};
use crate::child::{self, Child};
use crate::fleet::{self, address};
use crate::interrupt::Interrupt;
use crate::packages;

/// How long a server or broker may take until it answers.
const START_BOUND: Duration = Duration::from_secs(60);
const STOP_BOUND: Duration = Duration::from_secs(60);
const ASK_EVERY: Duration = Duration::from_millis(5);
/// How long a program that simulates a fleet may take.
const FLEET_BOUND: Duration = Duration::from_secs(300);
/// What a storm may take of the broker's time.
const STORM_TIMES_MAX: f64 = 0.8;

/// Flags of `cargo xtask bench link`.
#[derive(clap::Args)]
pub(super) struct Args {
    /// Devices that are connected
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(100..=18_000))]
    devices: u32,
}

/// What the fleet says.
#[derive(Deserialize)]
struct Said {
    storm_secs: f64,
    memory_kib: f64,
    round_trip_p50_secs: f64,
    round_trip_p99_secs: f64,
    fan_out_secs: f64,
}

/// What the broker's clients say.
#[derive(Deserialize)]
struct Compared {
    storm_secs: f64,
}

struct Bench<'a> {
    programs: Programs,
    link_load: PathBuf,
    folder: &'a Path,
    address: SocketAddr,
    devices: u32,
    interrupt: &'a Interrupt,
}

/// Builds as a release is built, measures, prints the table.
pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    packages::ensure(packages::BENCH_LINK)?;
    note("building fleets (release): minutes the first time")?;
    cargo::build(&["fleet-server", "xtask"], "release")?;
    let folder = tempfile::Builder::new().prefix("fleetd-bench-").tempdir()?;
    let bench = Bench {
        programs: Programs::of("release"),
        link_load: cargo::build_example("xtask", "link_load")?,
        folder: folder.path(),
        address: address::Network::choose()?.server()?,
        devices: args.devices,
        interrupt: &Interrupt::catch()?,
    };
    let said = bench.fleet()?;
    let compared = bench.broker()?;

    let devices = args.devices;
    let memory = said.memory_kib / f64::from(devices);
    let ratio = said.storm_secs / compared.storm_secs;
    let broker =
        format!("that many clients to mosquitto: {}", Unit::Seconds.show(compared.storm_secs));
    note(&broker)?;
    let rows = [
        row("server's memory (RSS) for a connection over TLS", memory, Some(24.0), Unit::Kibibytes),
        row("command there and back, p50", said.round_trip_p50_secs, None, Unit::Seconds),
        row("command there and back, p99", said.round_trip_p99_secs, Some(0.005), Unit::Seconds),
        row("a batch to all, until all have done it", said.fan_out_secs, Some(1.0), Unit::Seconds),
        row("all connect, with their proofs", said.storm_secs, None, Unit::Seconds),
        row("that to mosquitto's time", ratio, Some(STORM_TIMES_MAX), Unit::Times),
    ];
    let mut out = io::stdout().lock();
    writeln!(out, "{}", head())?;
    for row in rows {
        writeln!(out, "{row}")?;
    }
    Ok(ExitCode::SUCCESS)
}

impl Bench<'_> {
    /// A fleet that is known to a server that has just begun.
    fn fleet(&self) -> anyhow::Result<Said> {
        note(&format!("FleetD: {} devices enrol", self.devices))?;
        let mut server = self.server()?;
        self.load::<serde_json::Value>("enrol", &server)?;
        server.end_within(STOP_BOUND)?;
        note("FleetD: they connect, and are commanded")?;
        let server = self.server()?;
        self.load("fleet", &server)
    }

    fn server(&self) -> anyhow::Result<Child> {
        let mut server = fleet::start_server(&self.programs, self.address, self.folder)?;
        let answered = self.interrupt.until(START_BOUND, ASK_EVERY, || {
            server.check()?;
            Ok(address::answers(self.address).then_some(()))
        })?;
        answered.context("the server does not answer")?;
        Ok(server)
    }

    fn load<T: DeserializeOwned>(&self, what: &str, server: &Child) -> anyhow::Result<T> {
        let mut command = child::command(&self.link_load);
        command.arg(what).arg(format!("http://{}", self.address));
        command.arg(self.folder.join("server/admin.key"));
        command.args([&server.pid().to_string(), &self.devices.to_string()]);
        self.finish(&mut command)
    }

    fn finish<T: DeserializeOwned>(
        &self,
        command: &mut std::process::Command,
    ) -> anyhow::Result<T> {
        let said = child::finish("link_load", command, self.folder, FLEET_BOUND, self.interrupt)?;
        if said.code() != Some(0) {
            bail!("link_load failed ({}): {}", said.status, said.stderr.trim());
        }
        serde_json::from_slice(&said.stdout).context("what link_load printed")
    }

    /// As many clients that come to a broker.
    fn broker(&self) -> anyhow::Result<Compared> {
        note(&format!("mosquitto: {} clients connect", self.devices))?;
        let (certificate, key) = (self.folder.join("cert.pem"), self.folder.join("key.pem"));
        let ip = self.address.ip();
        let mut openssl = child::command("openssl");
        openssl.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]);
        openssl.args(["-nodes", "-days", "2", "-subj", "/CN=broker"]);
        openssl.args(["-addext", &format!("subjectAltName=IP:{ip}")]);
        openssl.args(["-addext", "basicConstraints=critical,CA:FALSE"]);
        openssl.arg("-keyout").arg(&key).arg("-out").arg(&certificate);
        let made =
            child::finish("openssl", &mut openssl, self.folder, START_BOUND, self.interrupt)?;
        if made.code() != Some(0) {
            bail!("openssl failed ({}): {}", made.status, made.stderr.trim());
        }
        let address = net::TcpListener::bind((ip, 0))?.local_addr()?;
        let config = self.folder.join("mosquitto.conf");
        let lines = format!(
            "user root\nallow_anonymous true\nmax_connections -1\nlistener {} {ip}\ncertfile {}\n\
             keyfile {}\n",
            address.port(),
            certificate.display(),
            key.display()
        );
        fs::write(&config, lines)?;
        let mut command = child::command("mosquitto");
        command.arg("-c").arg(&config);
        let mut broker =
            Child::start("mosquitto", &mut command, &self.folder.join("mosquitto.log"))?;
        let answered = self.interrupt.until(START_BOUND, ASK_EVERY, || {
            broker.check()?;
            Ok(net::TcpStream::connect(address).is_ok().then_some(()))
        })?;
        answered.context("mosquitto does not answer")?;
        let mut clients = child::command(&self.link_load);
        clients.arg("mqtt").arg(address.to_string()).arg(&certificate);
        clients.arg(self.devices.to_string());
        self.finish(&mut clients)
    }
}
