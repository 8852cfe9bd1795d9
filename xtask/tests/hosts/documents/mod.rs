//! What the documents say to run, run: every command of README.md and of `docs/`, in the order in
//! which it stands there, on the host that it is for.
//!
//! Each document has a lab of its own, whose hosts bear the names that the documents use. What is for
//! machines with packages and systemd is run by `fleet/packages/documents.rs`, what is for containers
//! by `fleet/images/`, and what cannot be run
//! at all stands in [`NOT_RUN`].

pub(crate) mod block;
mod run;
mod system;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use nix::sys::signal::Signal;

use self::block::{Block, Place, Step, blocks};
use self::run::{Kind, kind};
use self::system::{Kept, System};
use crate::fleet::COME_BACK;
use crate::lab::{Lab, wait_for};

/// What no test runs, and why.
const NOT_RUN: &[(&str, &str)] = &[
    ("git clone https://github.com/your-org/fleetd.git", SOURCE),
    ("cd fleetd", SOURCE),
    ("cargo build --release", SOURCE),
    ("cd target/release", SOURCE),
    ("./fleets configure --server https://fleet.example.com", PROXY),
    ("sudo ufw allow 5353/udp", FIREWALL),
    ("sudo ufw allow 6789/tcp", FIREWALL),
    ("cargo xtask demo", "has a test of its own, and takes a whole machine"),
    ("cargo xtask test", "is what runs this"),
];
const PROXY: &str = "needs a proxy that an authority vouches for: fleet/proxy.rs has one";
const FIREWALL: &str = "opens a firewall, and hosts of the lab have none";
const SOURCE: &str = "there is no such repository; whoever runs this has built the programs";

/// Words that stand for something that each fleet has another of, and what says it, on which host.
const STAND_INS: &[(&str, Place, &str)] = &[
    ("your-api-key", Place::Server, "cat /var/lib/fleetd/admin.key"),
    ("7KQ2M-3XAPN-5W2ZN-0B4CD", Place::Device, "fleetd info | sed -n 's/^Claim code:* *//p'"),
    (
        ENROLMENT,
        Place::Server,
        "fleets keys create --enrol --uses 20 -o json | grep -o 'flt_en_[^\"]*'",
    ),
    (
        "abcdefghij",
        Place::Server,
        "fleets keys create -o json | sed 's/.*\"id\":\"\\([^\"]*\\).*/\\1/'",
    ),
];

/// An enrolment key.
const ENROLMENT: &str = "flt_en_…";

/// Documents with commands for machines with packages and systemd, in the order in which
/// `fleet/packages/documents.rs` takes them.
pub(crate) const ON_SYSTEMD: &[&str] = &[
    "docs/install.md",
    "docs/commands.md",
    "docs/troubleshooting.md",
    "docs/backup.md",
    "docs/upgrade.md",
];

/// The document whose commands `fleet/images/` runs, since they need an engine for containers.
const IN_AN_ENGINE: &str = "docs/containers.md";

/// The hosts of a document, and what runs there.
struct Stage<'a> {
    server: System<'a>,
    devices: Vec<System<'a>>,
    operator: System<'a>,
    serving: BTreeMap<String, Kept>,
}

/// Runs a document's commands on hosts that have the programs and nothing else, or on a fleet.
#[track_caller]
fn run(name: &str, prepare: fn(&mut Stage<'_>)) {
    let mut lab = Lab::new();
    let lan = lab.lan();
    let hosts = ["your-server", "rpi4-001", "jetson-002", "laptop"].map(|it| lab.host(it, &[&lan]));
    let [server, device, other, operator] = &hosts;
    let names = [
        (server, "your-server fleet-server server fleet.example new-server"),
        (device, "rpi4-001 device-hostname device-ip"),
        (other, "jetson-002"),
    ];
    let mut known = "127.0.0.1 localhost\n".to_owned();
    for (host, names) in names {
        writeln!(known, "{} {names}", host.address()).expect("writing to a String cannot fail");
    }
    let start = |host| System::start(host, &known, &[]);
    let device_start =
        |host| System::start(host, &known, &[format!("FLEETD_DEVICE_ID={}", host.name())]);
    let mut stage = Stage {
        server: start(server),
        devices: vec![device_start(device), device_start(other)],
        operator: start(operator),
        serving: BTreeMap::new(),
    };
    prepare(&mut stage);
    for block in blocks(name) {
        stage.take(&block);
    }
}

impl<'a> Stage<'a> {
    fn at(&self, place: Place) -> Vec<&System<'a>> {
        match place {
            Place::Server => vec![&self.server],
            Place::Device => self.devices.iter().take(1).collect(),
            Place::Devices => self.devices.iter().collect(),
            Place::Operator => vec![&self.operator],
        }
    }

    /// A server with both devices, online: they were told where it is.
    #[track_caller]
    fn fleet(&mut self) {
        self.serve(Place::Server, "./fleets server", "");
        let key = self.filled(ENROLMENT);
        for device in &self.devices {
            let kind = device.host.name().replace("rpi4-001", "raspberrypi").replace("-002", "");
            let server = format!(
                "api_endpoint: http://your-server:8080\napi_key: {key}\ntelemetry: {{interval: 1s}}\n"
            );
            device.write("/etc/fleetd/config.yaml", &format!("device_type: {kind}\n{server}"));
        }
        self.serve(Place::Devices, "./fleetd agent", "");
        self.are_online(&["rpi4-001", "jetson-002"]);
    }

    /// The same, but they were claimed, and can be anew.
    #[track_caller]
    fn claimed_fleet(&mut self) {
        self.serve(Place::Server, "./fleets server", "");
        self.serve(Place::Devices, "./fleetd agent", "");
        self.server.said("./fleets discover --count 2 -o name").exits(0);
        self.server.said("./fleets configure --auto --device rpi4-001,jetson-002").exits(0);
        self.are_online(&["rpi4-001", "jetson-002"]);
    }

    #[track_caller]
    fn are_online(&self, ids: &[&str]) {
        wait_for(&format!("{ids:?} to be online"), COME_BACK, || {
            let said = self.server.said("./fleets devices --filter status=online -o name");
            ids.iter().all(|id| said.stdout.lines().any(|line| line == *id)).then_some(())
        });
    }

    #[track_caller]
    fn take(&mut self, block: &Block) {
        if block.on_systemd {
            return;
        }
        if let Some(path) = block.file() {
            let text = self.filled(&block.text());
            for system in self.at(block.place) {
                system.write(path, &text);
            }
        }
        if !block.is_shell() {
            return;
        }
        let mut settings = String::new();
        for step in block.steps() {
            if NOT_RUN.iter().any(|(command, _)| *command == bare(&step.text)) {
                continue;
            }
            self.step(block, &step, &mut settings);
        }
    }

    #[track_caller]
    fn step(&mut self, block: &Block, step: &Step, settings: &mut String) {
        let place = format!("{}: {}", block.origin, step.text);
        let command = self.filled(&step.text);
        match kind(&command) {
            Kind::Setting => {
                settings.push_str(&command);
                settings.push('\n');
            }
            Kind::Service(_) => {
                if step.is_instead {
                    self.begin_anew(block.place);
                }
                self.serve(block.place, &command, settings);
            }
            Kind::Copy => self.copy(block.place, &command),
            Kind::Following => {
                for system in self.at(block.place) {
                    system.follow(&command, &format!("{settings}exec {command}"));
                }
            }
            Kind::Plain => {
                let lines = format!("{settings}{command}");
                for system in self.at(block.place) {
                    let (code, said) = if block.on_terminal {
                        system.run_on_terminal(&lines)
                    } else {
                        let said = system.run(&lines);
                        (said.code, format!("{}{}", said.stdout, said.stderr))
                    };
                    assert_eq!(code, Some(block.exits), "{place}\n{said}");
                }
            }
        }
    }

    /// Puts what there is into the place of what stands for it.
    #[track_caller]
    fn filled(&self, command: &str) -> String {
        let mut filled = command.to_owned();
        for (word, place, lines) in STAND_INS {
            if filled.contains(word) {
                let said = self.at(*place)[0].said(lines).exits(0);
                filled = filled.replace(word, said.stdout.trim());
            }
        }
        filled
    }

    /// Carries a file from one host to another: there is no ssh between them.
    #[track_caller]
    fn copy(&self, place: Place, command: &str) {
        let words: Vec<&str> = command.split_whitespace().collect();
        let &[_, from, to] = words.as_slice() else { panic!("{command} copies no file") };
        let all = [&self.server, &self.operator].into_iter().chain(&self.devices);
        let all: Vec<_> = all.collect();
        let at = |name: &str| {
            let (host, path) = name.split_once(':').unwrap_or(("", name));
            let far = all.iter().copied().find(|system| system.host.name() == host);
            let system = far.unwrap_or_else(|| self.at(place)[0]);
            let path = if path.starts_with('/') { path.to_owned() } else { format!("~/{path}") };
            system.path(&path)
        };
        let (from, mut to) = (at(from), at(to));
        if to.is_dir() {
            to.push(from.file_name().expect("a file"));
        }
        fs::copy(&from, &to).unwrap_or_else(|error| panic!("{command}: {error}"));
    }

    /// Starts what serves on a host, in the place of what has before.
    #[track_caller]
    fn serve(&mut self, place: Place, command: &str, settings: &str) {
        let Kind::Service(what) = kind(command) else { panic!("{command} serves nothing") };
        let names: Vec<String> =
            self.at(place).iter().map(|system| system.host.name().to_owned()).collect();
        for name in &names {
            self.rest(name);
        }
        let lines = format!("{settings}{command}");
        let kept: Vec<Kept> =
            self.at(place).iter().map(|system| system.serve(what, command, &lines)).collect();
        self.serving.extend(names.into_iter().zip(kept));
    }

    /// Ends what serves on a host, if something does.
    #[track_caller]
    fn rest(&mut self, host: &str) {
        if let Some(kept) = self.serving.remove(host) {
            let log = kept.log();
            assert_eq!(kept.end(Signal::SIGTERM), 0, "{host}: {log}");
        }
    }

    /// What is said instead of something else begins where that began.
    #[track_caller]
    fn begin_anew(&mut self, place: Place) {
        let names: Vec<String> =
            self.at(place).iter().map(|system| system.host.name().to_owned()).collect();
        for name in names {
            self.rest(&name);
        }
        for system in self.at(place) {
            system.said("rm -rf /var/lib/fleetd /var/lib/fleetd-agent").exits(0);
        }
    }
}

/// A command without what is remarked behind it.
fn bare(command: &str) -> &str {
    command.split(" #").next().unwrap_or_default().trim()
}

/// Every document that operators read.
fn documents() -> Vec<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut names = vec!["README.md".to_owned()];
    let folder = fs::read_dir(root.join("docs")).expect("the documents");
    for entry in folder {
        let name = entry.expect("a document").file_name().into_string().expect("a plain name");
        if Path::new(&name).extension().is_some_and(|extension| extension == "md") {
            names.push(format!("docs/{name}"));
        }
    }
    names
}

/// One test for each document, so that they run beside each other.
macro_rules! document {
    ($($test:ident: $name:literal, $prepare:expr;)*) => {
        const RUN: &[&str] = &[$($name),*];
        $(
            #[test]
            fn $test() {
                run($name, $prepare);
            }
        )*
    };
}

/// Another mDNS browser on the server's machine, and nothing of ours that runs.
fn with_avahi(stage: &mut Stage<'_>) {
    let bus = stage.server.host.avahi().bus().to_owned();
    stage.server.knows("DBUS_SYSTEM_BUS_ADDRESS", &bus);
}

fn with_fleet_and_avahi(stage: &mut Stage<'_>) {
    with_avahi(stage);
    stage.fleet();
}

/// A fleet that has reported more than once: some values are of the time between two reports.
fn with_values(stage: &mut Stage<'_>) {
    stage.fleet();
    wait_for("values of a time", COME_BACK, || {
        let query = "./fleets telemetry query --device rpi4-001 --metric cpu_usage";
        (stage.server.said(query).code == Some(0)).then_some(())
    });
}

fn with_fleet(stage: &mut Stage<'_>) {
    stage.fleet();
}

/// A fleet, and an operator elsewhere who has a key to it.
fn with_key(stage: &mut Stage<'_>) {
    stage.fleet();
    let key = fs::read_to_string(stage.server.path("/var/lib/fleetd/admin.key")).expect("a key");
    stage.operator.write("~/admin.key", &key);
    stage.operator.write("~/keys/prod.key", &key);
    stage.operator.said("chmod 600 ~/admin.key ~/keys/prod.key").exits(0);
}

/// A fleet whose first device lets its server run a program.
fn with_policy(stage: &mut Stage<'_>) {
    stage.devices[0].write("/etc/fleetd/policy.yaml", "exec: {allow: [df]}\n");
    stage.fleet();
}

document! {
    readme: "README.md", |_| {};
    install: "docs/install.md", |_| {};
    first_fleet: "docs/first-fleet.md", with_avahi;
    console: "docs/console.md", with_key;
    devices: "docs/devices.md", with_fleet;
    commands: "docs/commands.md", with_policy;
    configure_devices: "docs/configure-devices.md", with_fleet;
    keys: "docs/keys.md", with_key;
    telemetry: "docs/telemetry.md", with_values;
    network: "docs/network.md", with_fleet;
    backup: "docs/backup.md", with_fleet;
    upgrade: "docs/upgrade.md", |_| {};
    troubleshooting: "docs/troubleshooting.md", with_fleet_and_avahi;
    rest: "docs/rest.md", |stage| stage.claimed_fleet();
    configuration: "docs/configuration.md", |_| {};
}

#[test]
fn every_document_is_run_and_what_stands_in_a_list_is_in_one() {
    let mut names = documents();
    names.sort();
    let mut run = RUN.to_vec();
    run.push(IN_AN_ENGINE);
    run.sort_unstable();
    assert_eq!(names, run);
    let blocks: Vec<Block> = RUN.iter().copied().flat_map(blocks).collect();
    let shell = blocks.iter().filter(|block| block.is_shell() && !block.on_systemd);
    let steps: Vec<Step> = shell.flat_map(Block::steps).collect();
    for (command, why) in NOT_RUN {
        let is_there = steps.iter().any(|step| bare(&step.text) == *command);
        assert!(is_there, "no document has {command} any more ({why})");
    }
    for (word, ..) in STAND_INS {
        let is_there = blocks.iter().any(|block| block.text().contains(word));
        assert!(is_there, "no document has {word} any more");
    }
    for name in RUN {
        let is_told = ON_SYSTEMD.contains(name);
        let has_some = self::blocks(name).iter().any(|block| block.on_systemd);
        assert_eq!(has_some, is_told, "{name}: whether it has commands for systemd");
    }
}
