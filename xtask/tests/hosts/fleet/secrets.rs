//! What nobody but its owner may see. Keys that are known here are looked for in everything that the
//! programs write and show (T22); and all that goes over a network is recorded, and sent once more
//! (T10, T11).

use std::cell::Cell;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fleet_core::net::shutdown::Tasks;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use super::{Agent, SOON, Said, Server, is_running, ours};
use crate::lab::{Host, Lab, wait_for};

/// What the server's key is sealed with.
const SECRET: &str = "correct-horse-battery-staple-4711";
/// Characters of a key's text before its secret (`flt_op_` and the key's id), and of that.
const SECRET_FROM: usize = 17;
const SECRET_CHARS: usize = 43;
/// How long a server may take to end a connection that says what was said before.
const REFUSED_WITHIN: Duration = Duration::from_secs(40);

/// Something that must not be found.
pub(super) struct Canary {
    name: &'static str,
    text: String,
}

impl Canary {
    /// The secret part of a key.
    #[track_caller]
    pub(super) fn of_key(name: &'static str, key: &str) -> Self {
        let text = key.get(SECRET_FROM..SECRET_FROM + SECRET_CHARS).expect("the text of a key");
        Self { name, text: text.to_owned() }
    }

    pub(super) fn is_in(&self, bytes: &[u8]) -> bool {
        bytes.windows(self.text.len()).any(|window| window == self.text.as_bytes())
    }
}

/// Fails if a canary is in some bytes.
#[track_caller]
pub(super) fn assert_silent(canaries: &[Canary], place: &str, bytes: &[u8]) {
    for canary in canaries {
        assert!(!canary.is_in(bytes), "{} is in {place}", canary.name);
    }
}

fn command_line(pid: u32) -> Vec<u8> {
    fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default()
}

/// Waits until a program is the one of this name, with the key out of its command line.
#[track_caller]
fn hides(pid: u32, word: &str, canary: &Canary) {
    wait_for(&format!("{} to leave the command line", canary.name), SOON, || {
        assert!(is_running(pid), "it ended before it was looked at");
        let line = command_line(pid);
        let is_it = line.split(|byte| *byte == 0).any(|part| part == word.as_bytes());
        (is_it && line.starts_with(b"/") && !canary.is_in(&line)).then_some(())
    });
}

/// All files in a folder and those in it.
pub(super) fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(files(&path));
        } else if path.is_file() {
            found.push(path);
        }
    }
    found
}

/// Starts a server whose secret stands on its command line, and which says all it can.
#[track_caller]
fn start_server(desk: &Host) -> Server<'_> {
    fs::create_dir_all(desk.path("server")).expect("a folder");
    let mut command = ours(desk, "fleets");
    fs::create_dir_all(desk.path("packages")).expect("a folder");
    fs::write(desk.path("packages/fleetd_9.9_amd64.deb"), "no package").expect("a file");
    command.arg("server").arg("--agent-packages").arg(desk.path("packages"));
    command.args(["--debug", "--secret-key", SECRET, "--database"]);
    let pid = desk.start("server-1", command.arg(desk.path("server/fleet.db")));
    let server = Server { pid: Cell::new(pid), starts: Cell::new(1), ..Server::idle(desk) };
    wait_for("the server to answer", SOON, || {
        assert!(is_running(pid), "the server ended by itself: {}", desk.log("server-1"));
        let url = "http://localhost:8080/health";
        Said::of(desk.command("curl").args(["-s", "-m2", url])).stdout.contains("ok").then_some(())
    });
    server
}

#[test]
fn t22_planted_keys_are_found_nowhere_but_where_they_belong() {
    let mut lab = Lab::new();
    let lan = lab.lan();
    let desk = lab.host("desk", &[&lan]);
    let cam = lab.host("cam", &[&lan]);
    let server = start_server(&desk);
    let secret = Canary { name: "--secret-key", text: SECRET.to_owned() };
    hides(server.pid.get(), "server", &secret);

    let admin = fs::read_to_string(server.key_file()).expect("the admin key");
    let mut canaries = vec![secret, Canary::of_key("the admin key", &admin)];
    let agent = Agent::start(&cam);
    server.configure(&["cam"]);
    let mut made = Vec::new();
    for (name, flags) in [
        ("an operator's key", &["--label", "ci", "--role", "admin"][..]),
        ("an enrolment key", &["--enrol"]),
        ("a device's key", &["--device", "cam"]),
    ] {
        let said = server.fleets(&[&["keys", "create"], flags, &["--json"]].concat()).exits(0);
        let key = said.json::<Value>()["key"].as_str().expect("a key").to_owned();
        canaries.push(Canary::of_key(name, &key));
        made.push(key);
    }
    let [operator, _, device] = &made[..] else { panic!("three keys") };
    let said = server.fleets(&["keys", "create", "--enrol", "--install-url", "--json"]).exits(0);
    let said = said.json::<Value>();
    let key = said["key"].as_str().expect("a key");
    let link = said["install"]["url"].as_str().expect("a link").to_owned();
    let token = link.rsplit('/').next().expect("a token").to_owned();
    canaries.push(Canary::of_key("an installer's key", key));
    canaries.push(Canary { name: "an installer's link", text: token });

    // On the command line of whoever takes a while.
    let mut command = ours(&desk, "fleets");
    command.args(["discover", "--timeout", "20s", "--api-key", operator]);
    let pid = desk.start("discover", command.env("FLEETD_SERVER", server.url()));
    hides(pid, "discover", &canaries[2]);
    desk.kill(pid);

    // Whatever is done with them is told by every program at the top of its voice.
    let out = |name: &str| desk.path(name).to_str().expect("a plain path").to_owned();
    let [database, lines, backup] = ["out.sqlite", "out.ndjson", "out.backup"].map(out);
    let calls: [&[&str]; 14] = [
        &["devices"],
        &["devices", "get", "cam"],
        &["config", "get", "cam", "-o", "json"],
        &["config", "set", "cam", "telemetry.interval=2s", "--no-wait"],
        &["config", "history", "cam"],
        &["telemetry", "query", "--device", "cam", "--metric", "cpu_usage"],
        &["command", "run", "cam", "collect"],
        &["events", "-o", "json"],
        &["keys", "list", "-o", "json"],
        &["db", "stats"],
        &["export", "sqlite", "--out", &database],
        &["export", "ndjson", "--table", "telemetry", "--out", &lines],
        &["backup", "create", "--out", &backup],
        &["db", "check"],
    ];
    for call in calls {
        let said = server.fleets(&[call, &["--debug"]].concat()).exits(0);
        assert_silent(&canaries, &format!("{call:?}"), said.stdout.as_bytes());
        assert_silent(&canaries, &format!("{call:?}"), said.stderr.as_bytes());
    }
    // A device fetches the installer, whose command insists on the server's key.
    let command = said["install"]["command"].as_str().expect("a command");
    let fetch = |command: &str| {
        let fetch = command.strip_suffix(" | sudo sh").expect("what fetches");
        Said::of(cam.command("sh").args(["-c", fetch]))
    };
    let script = fetch(command).exits(0).stdout;
    assert!(script.contains(key) && script.contains("9.9_amd64.deb"), "{script}");
    let other = fetch(&command.replace("sha256//", "sha256//AAAA"));
    assert!(other.stdout.is_empty() && other.stderr.contains("pinned"), "{other:?}");
    // By other people's programs, in every header that is taken and in a URL, which is not.
    let url = server.url();
    let curl = |args: &[&str]| {
        let mut curl: Command = desk.command("curl");
        Said::of(curl.args(["-s", "-m10"]).args(args)).exits(0).stdout
    };
    let bearer = format!("Authorization: Bearer {operator}");
    let token = format!("Authorization: Token {device}");
    for (args, words) in [
        (vec!["-H", &bearer, &*format!("{url}/api/v1/config?device_id=cam")], "(masked)"),
        (vec!["-H", &bearer, &*format!("{url}/api/v1/keys")], "ci"),
        (vec![&*format!("{url}/api/v1/devices?api_key={operator}")], "key"),
        (vec!["-H", &token, "-d", "cpu value=1", &*format!("{url}/write?db=x")], ""),
        (vec![&*format!("{url}/query?q=x&p={device}")], ""),
    ] {
        let said = curl(&args);
        assert!(said.contains(words), "{args:?}: {said}");
        assert_silent(&canaries, &format!("the answer to {args:?}"), said.as_bytes());
    }

    agent.kill();
    super::terminate(&desk, server.pid.get());
    // The one that the key was written to, and those that have it for this test.
    let own = [server.key_file()];
    let folder = desk.path("x").parent().expect("a folder").to_owned();
    let all = files(&folder);
    assert!(all.iter().any(|file| file.ends_with(&backup)) && all.len() > 15, "{all:#?}");
    for file in all {
        let bytes = fs::read(&file).expect("a file");
        if own.contains(&file) {
            assert!(canaries[1].is_in(&bytes), "what is there would be found");
        } else {
            assert_silent(&canaries, &file.display().to_string(), &bytes);
        }
    }
}

/// What both ends of a connection said.
#[derive(Default)]
struct Talk {
    client: Vec<u8>,
    server: Vec<u8>,
}

/// A tap on the wire: all talks that went through it.
type Tap = Arc<Mutex<Vec<Arc<Mutex<Talk>>>>>;

/// Passes connections on to a server, and records both directions.
#[track_caller]
fn tap(host: &Host, server: Ipv4Addr) -> Tap {
    let tap = Tap::default();
    let talks = tap.clone();
    host.run(async move {
        let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 8080)).await.expect("a port");
        let tasks = Tasks::default();
        let within = tasks.clone();
        tasks.spawn("tap", async move {
            while let Ok((client, _)) = listener.accept().await {
                let talk = Arc::default();
                talks.lock().expect("nobody panics").push(Arc::clone(&talk));
                within.spawn("talk", pass_on(client, server, talk));
            }
        });
    });
    tap
}

async fn pass_on(client: TcpStream, server: Ipv4Addr, talk: Arc<Mutex<Talk>>) {
    let Ok(server) = TcpStream::connect((server, 8080)).await else { return };
    let ((mut from_client, mut to_client), (mut from_server, mut to_server)) =
        (client.into_split(), server.into_split());
    let up = async {
        let mut buffer = vec![0; 16 * 1024];
        while let Ok(count @ 1..) = from_client.read(&mut buffer).await {
            talk.lock().expect("nobody panics").client.extend(&buffer[..count]);
            if to_server.write_all(&buffer[..count]).await.is_err() {
                break;
            }
        }
        let _gone = to_server.shutdown().await;
    };
    let down = async {
        let mut buffer = vec![0; 16 * 1024];
        while let Ok(count @ 1..) = from_server.read(&mut buffer).await {
            talk.lock().expect("nobody panics").server.extend(&buffer[..count]);
            if to_client.write_all(&buffer[..count]).await.is_err() {
                break;
            }
        }
        let _gone = to_client.shutdown().await;
    };
    tokio::join!(up, down);
}

/// Says to a server what was said before. True if it ends the connection by itself.
async fn say_again(server: SocketAddr, words: Vec<u8>) -> bool {
    let mut stream = TcpStream::connect(server).await.expect("the server");
    // It may be gone before all of it is said.
    let _refused = stream.write_all(&words).await;
    let mut answer = Vec::new();
    timeout(REFUSED_WITHIN, stream.read_to_end(&mut answer)).await.is_ok()
}

#[test]
fn t11_what_was_recorded_holds_no_secret_and_said_again_changes_nothing() {
    let mut lab = Lab::new();
    let lan = lab.lan();
    let [desk, cam, middle] = ["desk", "cam", "middle"].map(|name| lab.host(name, &[&lan]));
    let server = Server::start(&desk);
    let tap = tap(&middle, desk.address());
    let agent = Agent::start(&cam);
    let through = format!("http://{}:8080", middle.address());
    let fleets = |args: &[&str]| {
        let mut command = server.command(args);
        Said::of(command.env("FLEETD_SERVER", &through)).exits(0)
    };

    // From a claim to a command: by plain http, as the URLs have it, through somebody who listens.
    server.sees_devices(&["cam"]);
    fleets(&["configure", "--auto", "--device", "cam"]);
    server.shows_online(&["cam"]);
    let linked = cam.output("ss", &["-Htn", "state", "established"]);
    assert!(linked.contains(&format!("{}:8080", middle.address())), "{linked}");
    fleets(&["config", "set", "cam", "telemetry.interval=2s"]);
    fleets(&["command", "run", "cam", "collect"]);
    let made = fleets(&["keys", "create", "--label", "ci", "--json"]).json::<Value>();
    agent.kill();

    let state = || {
        let calls: [&[&str]; 4] = [
            &["devices", "get", "cam", "-o", "json"],
            &["command", "list", "-o", "json"],
            &["keys", "list", "-o", "json"],
            &["config", "history", "cam", "-o", "json"],
        ];
        let mut told: Vec<Value> =
            calls.iter().map(|call| server.fleets(call).exits(0).json()).collect();
        // The key that asks is used meanwhile, and nobody else's; and a silent device is missed.
        let keys = told[2].as_array_mut().expect("a list");
        keys.retain(|key| key["label"] == "ci");
        for member in ["status", "why", "missed_reports"] {
            told[0].as_object_mut().expect("a device").remove(member);
        }
        (told, server.stored("cam"))
    };
    let canaries = [
        Canary::of_key("the admin key", &fs::read_to_string(server.key_file()).expect("a key")),
        Canary::of_key("a new key", made["key"].as_str().expect("a key")),
        Canary { name: "a header of HTTP", text: "HTTP/1.1".to_owned() },
        Canary { name: "the device's id in a document", text: "\"cam\"".to_owned() },
        Canary { name: "a metric", text: "cpu_usage".to_owned() },
    ];
    let before = state();
    let talks: Vec<_> = tap.lock().expect("nobody panics").drain(..).collect();
    let mut said = 0;
    let address = SocketAddr::from((desk.address(), 8080));
    for talk in talks {
        let Talk { client, server } = std::mem::take(&mut *talk.lock().expect("nobody panics"));
        if client.is_empty() {
            // Somebody left before a word: the other URL was quicker, or the agent was killed.
            continue;
        }
        said += 1;
        assert_silent(&canaries, "what a client said", &client);
        assert_silent(&canaries, "what the server said", &server);
        assert!(middle.run(say_again(address, client)), "the server went on with a recording");
    }
    assert!(said >= 4, "{said} talks");
    assert_eq!(state(), before);
}
