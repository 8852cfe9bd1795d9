//! What operators run in containers: images that are built of what `cargo xtask dist` makes, in a real
//! engine, by the very commands of the document.

mod engine;

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, chown, symlink};
use std::path::Path;

use self::engine::Engine;
use super::{COME_BACK, SOON, Said};
use crate::lab::{Lab, wait_for};

/// The user of the image.
const USER: u32 = 65532;

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

/// Waits until a server in a container answers on its host.
#[track_caller]
fn answers(engine: &Engine<'_>) {
    wait_for("the server to answer", SOON, || {
        let said = engine.said("curl -s -m2 http://localhost:8080/health");
        said.stdout.contains("ok").then_some(())
    });
}

/// Waits until the server knows so many devices that are online.
#[track_caller]
fn are_online(engine: &Engine<'_>, command: &str, count: usize) {
    wait_for("the devices to be online", COME_BACK, || {
        let said = engine.said(command);
        let online = said.stdout.lines().filter(|line| line.starts_with("online"));
        (online.count() == count).then_some(())
    });
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

/// Stops a container, which ends by itself.
#[track_caller]
fn stops(engine: &Engine<'_>, command: &str, container: &str) {
    engine.output(command);
    // Whoever does not end in time is killed, and that is 137.
    assert_eq!(engine.of(container, ".State.ExitCode"), "0", "{command}");
}

#[test]
#[ignore = "runs a container engine, as root: cargo xtask test images"]
fn containers_are_a_fleet_as_the_document_says() {
    let mut document = Document::read();
    let mut lab = Lab::new();
    let lan = lab.lan();
    let hosts = ["desk", "shed"].map(|name| lab.host(name, &[&lan]));
    for host in &hosts {
        host.knows("your-server", hosts[0].address());
    }
    let [desk, shed] = hosts.each_ref().map(Engine::start);
    desk.output(&document.command(&["docker build", "server"]));
    shed.output(&document.command(&["docker build", "agent"]));

    // The two lines, on folders that are root's, and a device that is found.
    let server = document.command(&["docker run", "-v /var/lib/fleetd", "-p 8080"]);
    let agent = document.command(&["docker run -d --network host --name"]);
    desk.output(&server);
    shed.output(&agent);
    answers(&desk);
    let data = desk.path("/var/lib/fleetd");
    for path in [data.clone(), data.join("fleet.db"), data.join("admin.key")] {
        assert_eq!(fs::metadata(&path).unwrap().uid(), USER, "{}", path.display());
    }
    assert_eq!(fs::metadata(&data).unwrap().mode() & 0o007, 0);
    is_nobody_much(&desk, USER);
    let found = document.command(&["docker run --rm", "discover"]);
    wait_for("the device to be discovered", SOON, || {
        desk.said(&found).stdout.contains("unclaimed").then_some(())
    });
    desk.output(&document.command(&["docker run --rm", "configure"]));
    let devices = document.command(&["docker exec", "fleets devices"]);
    are_online(&desk, &devices, 1);
    assert!(
        desk.output(&document.command(&["docker logs"])).contains("admin key  /data/admin.key")
    );
    let said = desk.said(&document.command(&["fleets doctor"])).exits(0);
    assert!(said.stdout.contains("/data is"), "{said:?}");
    assert!(shed.output(&document.command(&["fleetd status"])).contains("ok"));
    let doctor = shed.said(&document.command(&["fleetd doctor"]));
    assert!(doctor.stdout.contains("no systemd runs this machine"), "{doctor:?}");

    // The same ones after they were restarted, also where the folder holds traps.
    let who = document.command(&["fleetd info"]);
    let fingerprint = |said: String| {
        let line = said.lines().find_map(|line| line.strip_prefix("Fingerprint"));
        line.expect("a fingerprint").trim().to_owned()
    };
    let first = fingerprint(shed.output(&who));
    let key = fs::read_to_string(data.join("admin.key")).unwrap();
    stops(&desk, &document.command(&["docker stop fleet-server"]), "fleet-server");
    for name in ["", "fleet.db", "admin.key", "telemetry"] {
        chown(data.join(name), Some(0), Some(0)).unwrap();
    }
    for name in ["x", "telemetry/x"] {
        symlink("/etc/passwd", data.join(name)).unwrap();
    }
    desk.output(&document.command(&["docker restart fleet-server"]));
    shed.output(&document.command(&["docker restart fleetd-agent"]));
    answers(&desk);
    is_nobody_much(&desk, USER);
    let inside = format!("/proc/{}/root/etc/passwd", desk.of("fleet-server", ".State.Pid"));
    assert_eq!(fs::metadata(inside).unwrap().uid(), 0);
    assert_eq!(fs::symlink_metadata(data.join("x")).unwrap().uid(), 0);
    assert_eq!(fs::metadata(data.join("admin.key")).unwrap().uid(), USER);
    assert_eq!(fs::read_to_string(data.join("admin.key")).unwrap(), key);
    assert_eq!(fingerprint(shed.output(&who)), first);
    are_online(&desk, &devices, 1);

    // A container without a volume of its name is another device the next time; one with it is not.
    shed.output("docker rm -fv fleetd-agent");
    let kept = document.command(&["docker run", "-v fleetd-agent:/data"]);
    // Checked at once, and with a program that it may run.
    let soon = |command: &str, more: &str| {
        command.replace("docker run -d", &format!("docker run -d --health-interval 1s {more}"))
    };
    let policy = "exec: {allow: [sh]}";
    shed.output(&format!("mkdir -p /etc/fleetd && echo '{policy}' >/etc/fleetd/policy.yaml"));
    let kept = soon(&kept, "-v /bin/dash:/bin/sh:ro");
    shed.output(&kept);
    let healthy = document.command(&["docker inspect", "fleetd-agent"]);
    is_healthy(&shed, &healthy);
    let second = fingerprint(shed.output(&who));
    assert_ne!(second, first);
    shed.output("docker rm -fv fleetd-agent");
    shed.output(&kept);
    is_healthy(&shed, &healthy);
    assert_eq!(fingerprint(shed.output(&who)), second);
    desk.output(&document.command(&["docker run --rm", "configure"]));
    are_online(&desk, &devices, 1);

    // What it cannot do fails, and what programs leave behind is cleared away.
    let command = |words: &str| -> Said {
        let named =
            desk.output("docker exec fleet-server fleets devices -o name --filter status=online");
        let line = format!(
            "docker exec fleet-server fleets command run {} --yes --timeout 60s {words}",
            named.trim()
        );
        desk.said(&line)
    };
    for (words, told) in [
        ("reboot", "neither systemctl nor reboot"),
        ("restart nginx", "no systemctl on this device"),
        ("logs -u nginx", "no journalctl on this device"),
    ] {
        let said = command(words);
        assert!(format!("{said:?}").contains(told) && said.code != Some(0), "{words}: {said:#?}");
    }
    command("exec -- sh -c 'while :; do :; done & echo begun'").exits(0);
    wait_for("orphans to be waited for", SOON, || {
        (shed.zombies("fleetd-agent") == 0).then_some(())
    });
    stops(&shed, &document.command(&["docker stop fleetd-agent"]), "fleetd-agent");

    // Without root from the beginning, on a folder that is the user's or is not.
    desk.output("docker rm -fv fleet-server");
    let own = document.command(&["docker run", "--user"]);
    let own = soon(&own, "");
    desk.output(&own);
    wait_for("the server to end", SOON, || {
        (desk.of("fleet-server", ".State.Running") == "false").then_some(())
    });
    assert_eq!(desk.of("fleet-server", ".State.ExitCode"), "1");
    let said = desk.said("docker logs fleet-server");
    assert!(said.stderr.contains("no permission"), "{said:?}");
    desk.output("docker rm -fv fleet-server && chown 1000:1000 /srv/fleet");
    desk.output(&own);
    is_healthy(&desk, &document.command(&["docker inspect", "fleet-server"]));
    is_nobody_much(&desk, 1000);

    assert!(document.left.is_empty(), "not run: {:#?}", document.left);
}
