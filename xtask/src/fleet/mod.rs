//! A throw-away fleet: one server, this machine's agent and simulated ones, all on loopback.
//!
//! Simulated devices are the real agent over a made-up `/proc` and `/sys`, with an address of
//! their own in 127/8. Everything lies in one temporary folder and ends with the [`Fleet`]. It
//! needs no network, touches no FleetD that runs on this machine, and claims only what it started.

pub(crate) mod address;
mod cli;
pub mod sysroot;

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process;
use std::time::Duration;

use anyhow::{Context as _, bail};
use fleet_core::api::{Device, DiscoverOutcome, Discovered};
use fleet_core::id::DeviceId;
use tempfile::TempDir;

use crate::cargo::Programs;
use crate::child::{self, Child};
use crate::interrupt::Interrupt;
use address::Network;
use sysroot::{Kind, World};

/// How long the server may take until it answers, on a busy machine.
const START_BOUND: Duration = Duration::from_secs(20);
/// How long all devices may take to be seen, and to be configured.
const PROVISION_BOUND: Duration = Duration::from_secs(60);
/// How long all devices may take until each has sent its first values.
const VALUES_BOUND: Duration = Duration::from_secs(60);
/// Pause between two questions whether the server answers; the start is measured by them.
const ASK_EVERY: Duration = Duration::from_millis(2);
/// Pause between two calls of `fleets`.
const LIST_EVERY: Duration = Duration::from_millis(250);

/// How much of this machine's name goes into its id.
const OWN_NAME_CHARS_MAX: usize = 40;

/// What a fleet is made of.
pub struct Plan {
    /// The programs to run.
    pub programs: Programs,
    /// Simulated devices that are configured.
    pub simulated: usize,
    /// Simulated devices that are left for somebody to find.
    pub unclaimed: usize,
    /// Whether this machine's own agent is of the party.
    pub own_machine: bool,
    /// Seconds between two reports.
    pub interval_secs: u32,
}

/// A running fleet.
pub struct Fleet<'a> {
    // Children end before the folder they write to goes.
    devices: Vec<Child>,
    server: Child,
    world: Option<World>,
    ids: Vec<DeviceId>,
    /// How many of the ids, the first ones, are to be configured.
    claimed: usize,
    address: SocketAddr,
    start_time: Duration,
    programs: Programs,
    interrupt: &'a Interrupt,
    folder: TempDir,
}

impl<'a> Fleet<'a> {
    /// Starts the server and the agents; nothing is configured yet.
    pub fn start(plan: &Plan, interrupt: &'a Interrupt) -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new().prefix("fleetd-").tempdir()?;
        let network = Network::choose()?;
        let address = network.server()?;
        let server = start_server(&plan.programs, address, folder.path())?;
        let programs = plan.programs.clone();
        let mut fleet = Self {
            devices: Vec::new(),
            server,
            world: None,
            ids: Vec::new(),
            claimed: usize::from(plan.own_machine) + plan.simulated,
            address,
            start_time: Duration::ZERO,
            programs,
            interrupt,
            folder,
        };
        fleet.wait_for_server()?;
        fleet.start_devices(plan, &network)?;
        Ok(fleet)
    }

    /// Where the server answers.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The folder that everything lies in.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The key of its operator.
    pub fn key_file(&self) -> PathBuf {
        self.folder.path().join("server/admin.key")
    }

    /// The server's process.
    pub fn server(&self) -> &Child {
        &self.server
    }

    /// The agents' processes, this machine's own first.
    pub fn agents(&self) -> &[Child] {
        &self.devices
    }

    /// The ids of the devices, in the order of [`Fleet::agents`].
    pub fn ids(&self) -> &[DeviceId] {
        &self.ids
    }

    /// The ids of those that are configured.
    pub fn claimed(&self) -> &[DeviceId] {
        &self.ids[..self.claimed]
    }

    /// How long the server took from its start to its first answer.
    pub fn start_time(&self) -> Duration {
        self.start_time
    }

    /// Lets `fleets discover` look until it has shown one device.
    pub fn discover_first(&self) -> anyhow::Result<()> {
        cli::discover_first(self)
    }

    /// Waits until `fleets discover` shows every device of this fleet.
    pub fn discover(&mut self) -> anyhow::Result<()> {
        let all = self.interrupt.until(PROVISION_BOUND, LIST_EVERY, || {
            let seen: Vec<Discovered> = cli::discover(self)?;
            let is_seen = |id| seen.iter().any(|device| device.device_id.as_ref() == Some(id));
            Ok(self.ids.iter().all(is_seen).then_some(()))
        })?;
        self.check()?;
        all.with_context(|| {
            format!("not every device was discovered within {} s", PROVISION_BOUND.as_secs())
        })
    }

    /// Configures the devices of this fleet but those that are left over, and no other, with
    /// `fleets configure --auto`.
    pub fn configure(&mut self) -> anyhow::Result<()> {
        let replies = cli::configure(self)?;
        self.check()?;
        for id in self.claimed() {
            let reply = replies.iter().find(|reply| reply.device_id == *id);
            let Some(reply) = reply else { bail!("fleets configure did not mention {id}") };
            if reply.status != DiscoverOutcome::Configured {
                let reason = reply.reason.as_ref().map(ToString::to_string).unwrap_or_default();
                bail!("{id} was not configured: {reason}");
            }
        }
        Ok(())
    }

    /// The devices as the server shows them.
    pub fn list(&self) -> anyhow::Result<Vec<Device>> {
        cli::devices(self)
    }

    /// The same as a table.
    pub fn table(&self) -> anyhow::Result<String> {
        cli::table(self)
    }

    /// A command with this fleet's server and operator's key at hand, and with nothing of the
    /// user's own: neither contexts nor a place for logs.
    pub fn operator(&self, program: &Path) -> process::Command {
        let mut command = child::plain(program);
        command.env("FLEETD_SERVER", self.url()).env("FLEETD_API_KEY_FILE", self.key_file());
        for (variable, folder) in [("XDG_CONFIG_HOME", "config"), ("XDG_STATE_HOME", "state")] {
            command.env(variable, self.folder.path().join(folder));
        }
        command
    }

    /// Waits until every configured device has sent values, and gives the list.
    pub fn wait_for_values(&mut self) -> anyhow::Result<Vec<Device>> {
        let has_values = |device: &Device| {
            device.latest.as_ref().is_some_and(|latest| latest.metrics.contains_key("cpu_usage"))
        };
        let found = self.interrupt.until(VALUES_BOUND, LIST_EVERY, || {
            let devices = self.list()?;
            let ready = devices.iter().filter(|device| has_values(device)).count();
            Ok((ready >= self.claimed).then_some(devices))
        })?;
        self.check()?;
        found.with_context(|| {
            format!("not every device sent values within {} s", VALUES_BOUND.as_secs())
        })
    }

    /// Does something to the server's database while the server does not run.
    pub fn while_stopped(
        &mut self,
        deed: impl FnOnce(&Path) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        self.server.end();
        deed(&database(self.folder.path()))?;
        self.server = start_server(&self.programs, self.address, self.folder.path())?;
        self.wait_for_server()
    }

    /// Fails, with its last words, if a program of this fleet has ended by itself.
    pub fn check(&mut self) -> anyhow::Result<()> {
        self.server.check()?;
        self.devices.iter_mut().try_for_each(Child::check)
    }

    fn wait_for_server(&mut self) -> anyhow::Result<()> {
        let Self { server, interrupt, address, .. } = self;
        let answered = interrupt.until(START_BOUND, ASK_EVERY, || {
            server.check()?;
            Ok(address::answers(*address).then(|| server.age()))
        })?;
        self.start_time = answered.with_context(|| {
            let bound = START_BOUND.as_secs();
            format!("the server did not answer within {bound} s{}", self.server.last_words())
        })?;
        Ok(())
    }

    fn start_devices(&mut self, plan: &Plan, network: &Network) -> anyhow::Result<()> {
        let mut world = World::new();
        let mark = network.mark();
        if plan.own_machine {
            let id = own_id(&mark)?;
            self.start_agent(&id, None, network.device(0), plan)?;
        }
        for number in 1..=plan.simulated + plan.unclaimed {
            let kind = Kind::of(number);
            let id: DeviceId = format!("{}-{number:03}-{mark}", kind.name).parse()?;
            let root = self.folder.path().join("roots").join(id.as_str());
            world.add(kind, number, id.as_str(), root.clone())?;
            self.start_agent(&id, Some(&root), network.device(number), plan)?;
        }
        world.start()?;
        self.world = Some(world);
        Ok(())
    }

    fn start_agent(
        &mut self,
        id: &DeviceId,
        sysroot: Option<&Path>,
        address: std::net::Ipv4Addr,
        plan: &Plan,
    ) -> anyhow::Result<()> {
        let data = self.folder.path().join("agents").join(id.as_str());
        fs::create_dir_all(&data)?;
        let config = data.join("config.yaml");
        fs::write(&config, format!("telemetry:\n  interval: {}s\n", plan.interval_secs))?;
        let mut command = child::command(&self.programs.fleetd);
        command.args(["agent", "--interface", "lo", "--port", "0", "--device-id", id.as_str()]);
        command.args(["--bind", &address.to_string()]);
        command.arg("--data-dir").arg(&data).arg("--config").arg(&config);
        if let Some(sysroot) = sysroot {
            command.arg("--sysroot").arg(sysroot);
        }
        let name = format!("the agent of {id}");
        let agent = Child::start(name, &mut command, &data.join("agent.log"))?;
        self.devices.push(agent);
        self.ids.push(id.clone());
        Ok(())
    }
}

impl Drop for Fleet<'_> {
    fn drop(&mut self) {
        // All at once; each is then waited for as its field is dropped.
        self.devices.iter().for_each(Child::terminate);
        self.server.terminate();
    }
}

/// Starts a server whose data lies in the folder's `server`.
pub(crate) fn start_server(
    programs: &Programs,
    address: SocketAddr,
    folder: &Path,
) -> anyhow::Result<Child> {
    let data = folder.join("server");
    fs::create_dir_all(&data)?;
    // A file of its own, so that this machine's server.yaml has no say.
    let config = data.join("server.yaml");
    fs::write(&config, "")?;
    let mut command = child::command(&programs.fleets);
    command.args(["server", "--interface", "lo", "--bind", &address.ip().to_string()]);
    command.args(["--port", &address.port().to_string()]);
    command.arg("--database").arg(database(folder)).arg("--config").arg(&config);
    Child::start("the server", &mut command, &data.join("server.log"))
}

fn database(folder: &Path) -> PathBuf {
    folder.join("server/fleet.db")
}

/// This machine's name, as far as an id can carry it, with the fleet's mark.
fn own_id(mark: &str) -> anyhow::Result<DeviceId> {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name: String = name.trim().chars().take(OWN_NAME_CHARS_MAX).collect();
    let name = DeviceId::from_name(&name).map_or_else(|| "this-machine".to_owned(), String::from);
    Ok(format!("{name}-{mark}").parse()?)
}
