//! What operators run in containers: images that are built of what `cargo xtask dist` makes, in a real
//! engine, by the very commands of the document.

mod engine;
mod folder;

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, chown, symlink};
use std::path::Path;

use self::engine::Engine;
use super::{COME_BACK, SOON, Said};
use crate::lab::{Lab, wait_for};

/// The user of the image.
const USER: u32 = 65532;
/// What a device runs that leaves something behind.
const LEAVES: &str = "exec -- sh -c 'while :; do :; done & echo begun'";

/// The commands of the document, which are all to be run.
struct Document {
    commands: Vec<String>,
    left: BTreeSet<String>,
}

impl Document {
    fn read() -> Self {
        let text = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/containers.md");
        let text = fs::read_to_string(text).expect("the document");
        let blocks = text.split("```bash\n").skip(1);
        let blocks = blocks.map(|block| block.split("```").next().expect("a block"));
        let commands: Vec<String> = blocks.flat_map(str::lines).map(str::to_owned).collect();
        Self { left: commands.iter().cloned().collect(), commands }
    }

    /// The one command that has these words.
    #[track_caller]
    fn command(&mut self, words: &[&str]) -> String {
        let has_all = |command: &&String| words.iter().all(|word| command.contains(word));
        let found: Vec<&String> = self.commands.iter().filter(has_all).collect();
        let [command] = found.as_slice() else { panic!("{words:?} are in {found:?}") };
        self.left.remove(*command);
        (*command).clone()
    }
}

/// The engine of the machine with the server, that of a device, and the document.
struct Fleet<'a> {
    desk: Engine<'a>,
    shed: Engine<'a>,
    document: Document,
}

impl Fleet<'_> {
    /// Runs the command of the document that has these words, on the machine with the server.
    #[track_caller]
    fn desk(&mut self, words: &[&str]) -> Said {
        self.desk.said(&self.document.command(words))
    }

    /// The same on the device.
    #[track_caller]
    fn shed(&mut self, words: &[&str]) -> Said {
        self.shed.said(&self.document.command(words))
    }

    /// Waits until the server answers on its machine.
    #[track_caller]
    fn answers(&self) {
        wait_for("the server to answer", SOON, || {
            let said = self.desk.said("curl -s -m2 http://localhost:8080/health");
            said.stdout.contains("ok").then_some(())
        });
    }

    /// Waits until the device is online, as the server sees it, and linked, as its agent does.
    #[track_caller]
    fn is_online(&mut self) {
        let id = self.device("Device ID");
        wait_for("the device to be online", COME_BACK, || {
            let is_linked = self.shed(&["fleetd status"]).code == Some(0);
            let devices = self.desk(&["fleets devices"]).stdout;
            let row = devices.lines().find(|line| line.contains(&id))?;
            (is_linked && row.starts_with("online")).then_some(())
        });
    }

    /// What the agent says of itself under a name.
    #[track_caller]
    fn device(&mut self, name: &str) -> String {
        let said = self.shed(&["fleetd info"]).exits(0).stdout;
        let value = said.lines().find_map(|line| line.strip_prefix(name));
        value.unwrap_or_else(|| panic!("no {name}: {said}")).trim().to_owned()
    }

    /// Stops a container, which ends by itself.
    #[track_caller]
    fn stops(&mut self, container: &str) {
        let command = self.document.command(&["docker stop", container]);
        let engine = if container == "fleet-server" { &self.desk } else { &self.shed };
        engine.output(&command);
        // Whoever does not end in time is killed, and that is 137.
        assert_eq!(engine.of(container, ".State.ExitCode"), "0", "{command}");
    }

    /// The two lines of the reference, on folders that are root's, and a device that is found.
    fn begins(&mut self) {
        self.desk(&["docker build", "server"]).exits(0);
        self.shed(&["docker build", "agent"]).exits(0);
        self.desk(&["docker run", "-v /var/lib/fleetd", "-p 8080"]).exits(0);
        self.shed(&["docker run -d --network host --name"]).exits(0);
        self.answers();
        let data = self.desk.path("/var/lib/fleetd");
        for path in [data.clone(), data.join("fleet.db"), data.join("admin.key")] {
            assert_eq!(fs::metadata(&path).expect("data").uid(), USER, "{}", path.display());
        }
        assert_eq!(fs::metadata(&data).expect("data").mode() & 0o007, 0);
        is_nobody_much(&self.desk, USER);
        wait_for("the device to be discovered", SOON, || {
            let said = self.desk(&["docker run --rm", "discover"]);
            said.stdout.contains("unclaimed").then_some(())
        });
        self.desk(&["docker run --rm", "configure"]).exits(0);
        self.is_online();
        let log = self.desk(&["docker logs"]).exits(0).stdout;
        assert!(log.contains("admin key  /data/admin.key"), "{log}");
        let said = self.desk(&["fleets doctor"]).exits(0);
        assert!(said.stdout.contains("/data is fleet-server's"), "{said:?}");
        let backup = "docker exec fleet-server fleets backup create --out /data/fleet.backup && \
                      docker exec fleet-server fleets backup verify /data/fleet.backup";
        self.desk.output(backup);
        let said = self.shed(&["fleetd doctor"]).exits(0);
        assert!(said.stdout.contains("no systemd runs this machine"), "{said:?}");
    }

    /// The same ones after they were restarted, also where root has had the folder, and it holds traps.
    fn comes_again(&mut self) {
        let data = self.desk.path("/var/lib/fleetd");
        let key = fs::read(data.join("admin.key")).expect("a key");
        let fingerprint = self.device("Fingerprint");
        self.stops("fleet-server");
        for name in ["", "fleet.db", "admin.key", "telemetry"] {
            chown(data.join(name), Some(0), Some(0)).expect("data");
        }
        for name in ["x", "telemetry/x"] {
            symlink("/etc/passwd", data.join(name)).expect("a link");
        }
        self.desk(&["docker restart fleet-server"]).exits(0);
        self.shed(&["docker restart fleetd-agent"]).exits(0);
        self.answers();
        is_nobody_much(&self.desk, USER);
        let pid = self.desk.of("fleet-server", ".State.Pid");
        let inside = fs::metadata(format!("/proc/{pid}/root/etc/passwd")).expect("a file");
        let link = fs::symlink_metadata(data.join("x")).expect("a link");
        assert_eq!([inside.uid(), link.uid()], [0, 0]);
        assert_eq!(fs::metadata(data.join("admin.key")).expect("a key").uid(), USER);
        assert_eq!(fs::read(data.join("admin.key")).expect("a key"), key);
        self.is_online();
        assert_eq!(self.device("Fingerprint"), fingerprint);
    }

    /// A container without a volume of its name is another device the next time; one with it is not.
    fn is_the_same_device(&mut self) {
        let first = self.device("Fingerprint");
        let policy = "exec: {allow: [sh]}";
        let policy = format!("mkdir -p /etc/fleetd && echo '{policy}' >/etc/fleetd/policy.yaml");
        self.shed.said(&policy).exits(0);
        // With a program that it may run.
        let kept = self.document.command(&["docker run", "-v fleetd-agent:/data"]);
        let kept = soon(&kept, "-v /bin/dash:/bin/sh:ro");
        let mut fingerprints = Vec::new();
        for _ in 0..2 {
            self.shed.output("docker rm -fv fleetd-agent");
            self.shed.output(&kept);
            let health = self.document.command(&["docker inspect", "fleetd-agent"]);
            is_healthy(&self.shed, &health);
            fingerprints.push(self.device("Fingerprint"));
        }
        assert_eq!(fingerprints[0], fingerprints[1]);
        assert_ne!(fingerprints[0], first);
        self.desk(&["docker run --rm", "configure"]).exits(0);
        self.is_online();
    }

    /// What a device cannot do fails, and what its programs leave behind is cleared away.
    fn is_honest(&mut self) {
        let id = self.device("Device ID");
        let run = format!("docker exec fleet-server fleets command run {id} --yes --timeout 60s");
        for (command, told) in [
            ("reboot", "neither systemctl nor reboot"),
            ("restart nginx", "no systemctl on this device"),
            ("logs -u nginx", "no journalctl on this device"),
        ] {
            let said = self.desk.said(&format!("{run} {command}"));
            assert_ne!(said.code, Some(0), "{said:#?}");
            assert!(format!("{said:?}").contains(told), "{said:#?}");
        }
        self.desk.said(&format!("{run} {LEAVES}")).exits(0);
        wait_for("orphans to be waited for", SOON, || {
            (self.shed.zombies("fleetd-agent") == 0).then_some(())
        });
        self.stops("fleetd-agent");
    }

    /// Without root from the beginning: on a folder that is not the user's, and on one that is.
    fn has_no_root(&mut self) {
        let own = soon(&self.document.command(&["docker run", "--user"]), "");
        self.desk.output("docker rm -fv fleet-server");
        self.desk.output(&own);
        wait_for("the server to end", SOON, || {
            (self.desk.of("fleet-server", ".State.Running") == "false").then_some(())
        });
        assert_eq!(self.desk.of("fleet-server", ".State.ExitCode"), "1");
        let said = self.desk(&["docker logs"]);
        assert!(said.stderr.contains("no permission to use the database"), "{said:?}");
        self.desk.output("docker rm -fv fleet-server && chown 1000:1000 /srv/fleet");
        self.desk.output(&own);
        let health = self.document.command(&["docker inspect", "fleet-server"]);
        is_healthy(&self.desk, &health);
        is_nobody_much(&self.desk, 1000);
    }
}

/// Starts a container whose health is looked at every second.
fn soon(run: &str, more: &str) -> String {
    run.replace("docker run -d", &format!("docker run -d --health-interval 1s {more}"))
}

#[track_caller]
fn is_healthy(engine: &Engine<'_>, command: &str) {
    wait_for("the container to be healthy", COME_BACK, || {
        (engine.output(command).trim() == "healthy").then_some(())
    });
}

/// That all threads of a server are a user's who has no rights of root, and can have none.
#[track_caller]
fn is_nobody_much(engine: &Engine<'_>, user: u32) {
    let threads = engine.threads("fleet-server");
    assert!(threads.len() > 1, "{threads:?}");
    for status in threads {
        let of = |name: &str| {
            let value = status.lines().find_map(|line| line.strip_prefix(name));
            value.unwrap_or_else(|| panic!("{name}: {status}")).trim().to_owned()
        };
        for name in ["Uid:", "Gid:"] {
            let ids: Vec<String> = of(name).split_whitespace().map(str::to_owned).collect();
            assert_eq!(ids, vec![user.to_string(); 4], "{name}");
        }
        assert!(of("Groups:").split(' ').all(|group| group != "0"), "{status}");
        for name in ["CapPrm:", "CapEff:", "CapAmb:"] {
            assert!(of(name).chars().all(|digit| digit == '0'), "{name} {status}");
        }
    }
}

#[test]
#[ignore = "runs a container engine, as root: cargo xtask test images"]
fn containers_are_a_fleet_as_the_document_says() {
    let mut lab = Lab::new();
    let lan = lab.lan();
    let hosts = ["desk", "shed"].map(|name| lab.host(name, &[&lan]));
    for host in &hosts {
        host.knows("your-server", hosts[0].address());
    }
    let [desk, shed] = hosts.each_ref().map(Engine::start);
    let mut fleet = Fleet { desk, shed, document: Document::read() };
    fleet.begins();
    fleet.comes_again();
    fleet.is_the_same_device();
    fleet.is_honest();
    fleet.has_no_root();
    let left = &fleet.document.left;
    assert!(left.is_empty(), "in the document, and not run: {left:#?}");
}
