//! Neighbours who announce devices at addresses that are not theirs: the server and `fleets` connect
//! to where a packet came from, or to nobody.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fleet_core::api::{DiscoverOutcome, DiscoverReply, Discovered};
use fleet_core::identity::PrivateKey;
use fleet_core::net::shutdown::Tasks;
use serde_json::{Value, json};
use simple_dns::rdata::{A, PTR, RData, SRV, TXT};
use simple_dns::{CLASS, Name, Packet, ResourceRecord};
use tokio::net::{TcpListener, TcpStream};

use super::{Agent, SOON, Said, Server, has_id};
use crate::lab::{Host, Lab, wait_for};
use crate::mdns::wire::{Wire, name};

/// Where nobody but canaries listens, and where servers do.
const CANARY: u16 = 4443;
const SERVER: u16 = 8080;
const METADATA: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 254);

/// Listeners of a host on all its addresses, that remember by which they were reached.
struct Canary {
    dialled: Arc<Mutex<Vec<SocketAddr>>>,
    tasks: Tasks,
}

impl Canary {
    #[track_caller]
    fn listen(host: &Host, ports: &[u16]) -> Self {
        let canary = Self { dialled: Arc::default(), tasks: Tasks::default() };
        for port in ports {
            let (dialled, tasks, port) = (canary.dialled.clone(), canary.tasks.clone(), *port);
            host.run(async move {
                let listener = TcpListener::bind(("::", port)).await.expect("a free port");
                tasks.spawn("canary", async move {
                    while let Ok((stream, _)) = listener.accept().await {
                        let at = stream.local_addr().expect("an address");
                        let at = SocketAddr::new(at.ip().to_canonical(), at.port());
                        dialled.lock().expect("no panic while locked").push(at);
                    }
                });
            });
        }
        canary
    }

    /// By which addresses it was reached so far.
    fn dialled(&self) -> Vec<SocketAddr> {
        self.dialled.lock().expect("no panic while locked").clone()
    }
}

/// A host that repeats packets until the host ends.
#[track_caller]
fn repeat(host: &Host, tasks: &Tasks, wire: Wire, packets: Vec<Vec<u8>>) {
    let tasks = tasks.clone();
    host.run(async move {
        tasks.spawn("announcer", async move {
            loop {
                for packet in &packets {
                    wire.send_bytes(packet);
                }
                tokio::time::sleep(Duration::from_millis(250)).await;
            }
        });
    });
}

/// What a device with this id and a key of its own would announce.
pub(super) fn announcement(
    id: &str,
    seed: u8,
    port: u16,
    addresses: &[Ipv4Addr],
    version: &str,
) -> Vec<u8> {
    let instance = name(&format!("fleetd-{id}._fleetd._tcp.local"));
    let host = name(&format!("{id}.local"));
    let fingerprint = PrivateKey::from_seed(&[seed; 32]).public().fingerprint().to_string();
    let mut txt = TXT::new();
    let words = [("id", id), ("v", version), ("fp", &fingerprint), ("st", "unclaimed")];
    for (key, value) in words.into_iter().chain([("cm", "open")]) {
        txt.add_attribute(key, Some(value.as_bytes())).expect("an attribute");
    }
    let record =
        |name: &Name<'static>, rdata| ResourceRecord::new(name.clone(), CLASS::IN, 120, rdata);
    let srv = SRV { priority: 0, weight: 0, port, target: host.clone() };
    let mut packet = Packet::new_reply(0);
    packet.answers = vec![
        record(&name("_fleetd._tcp.local"), RData::PTR(PTR(instance.clone()))),
        record(&instance, RData::SRV(srv)).with_cache_flush(true),
        record(&instance, RData::TXT(txt)).with_cache_flush(true),
    ];
    let addresses = addresses.iter().map(|address| record(&host, RData::A(A::from(*address))));
    packet.answers.extend(addresses);
    packet.build_bytes_vec_compressed().expect("a packet")
}

/// A request with the admin key, from a host that is not the server's.
fn ask(host: &Host, server: &Server<'_>, args: &[&str]) -> Said {
    let key = std::fs::read_to_string(server.key_file()).expect("the admin key");
    let mut curl: Command = host.command("curl");
    curl.args(["-s", "-m30", "-H", &format!("Authorization: Bearer {}", key.trim())]);
    Said::of(curl.args(args).arg(format!("{}/api/v1/discover", server.url())))
}

pub(super) fn seen(host: &Host, server: &Server<'_>) -> Vec<Discovered> {
    ask(host, server, &[]).exits(0).json()
}

#[track_caller]
fn claim(host: &Host, server: &Server<'_>, id: &str) -> Said {
    claim_with(host, server, &json!({"device_id": id}))
}

#[track_caller]
fn claim_with(host: &Host, server: &Server<'_>, wish: &Value) -> Said {
    let body = wish.to_string();
    let said = ask(host, server, &["-H", "Content-Type: application/json", "--data", &body]);
    said.exits(0)
}

/// How many packets have gone from this host to itself.
#[track_caller]
fn to_itself(host: &Host) -> u64 {
    let counts = host.output("cat", &["/proc/net/dev"]);
    let line = counts.lines().find_map(|line| line.trim().strip_prefix("lo:"));
    let packets = line.and_then(|counts| counts.split_whitespace().nth(1));
    packets.and_then(|packets| packets.parse().ok()).expect("the count of lo")
}

#[test]
fn t16_poisoned_announcements_make_nobody_connect_elsewhere() {
    let mut lab = Lab::new();
    let lan = lab.lan();
    let [desk, gate, evil, thief, cam, laptop] =
        ["desk", "gate", "evil", "thief", "cam", "laptop"].map(|name| lab.host(name, &[&lan]));
    // What a cloud's hosts reach at that address is behind their gateway.
    gate.ip(&["address", "add", &format!("{METADATA}/32"), "dev", "lo"]);
    desk.ip(&["route", "add", "default", "via", &gate.address().to_string()]);
    let server = Server::start(&desk);
    let own_canary = Canary::listen(&desk, &[CANARY]);
    let gate_canary = Canary::listen(&gate, &[CANARY, SERVER]);
    let evil_canary = Canary::listen(&evil, &[CANARY, SERVER]);

    let places = [
        ("loopback", Ipv4Addr::LOCALHOST, CANARY),
        ("loopback-server", Ipv4Addr::LOCALHOST, SERVER),
        ("any", Ipv4Addr::UNSPECIFIED, CANARY),
        ("metadata", METADATA, CANARY),
        ("gateway", gate.address(), CANARY),
        ("host", desk.address(), CANARY),
        ("server", desk.address(), SERVER),
    ];
    let mut packets = Vec::new();
    let (mut alone, mut beside): (Vec<String>, Vec<String>) = Default::default();
    for (seed, (id, address, port)) in (1..).zip(places) {
        let ids = [format!("{id}-alone"), format!("{id}-beside")];
        packets.push(announcement(&ids[0], seed, port, &[address], "1"));
        packets.push(announcement(&ids[1], seed + 100, port, &[address, evil.address()], "1"));
        let [first, second] = ids;
        alone.push(first);
        beside.push(second);
    }
    repeat(&evil, &evil_canary.tasks, Wire::open(&evil, 5353), packets);
    // Another takes the addresses of others, and sends from there.
    let thief_canary = Canary::listen(&thief, &[CANARY, SERVER]);
    // What is sent to them it leaves to their owners.
    thief.output("sh", &["-c", "echo 1 > /proc/sys/net/ipv4/conf/all/arp_ignore"]);
    for (seed, address) in [(200, METADATA), (201, desk.address())] {
        thief.ip(&["address", "add", &format!("{address}/32"), "dev", "lo"]);
        let packet = announcement(&format!("taken-{seed}"), seed, SERVER, &[address], "1");
        repeat(&thief, &thief_canary.tasks, Wire::pose(&thief, address), vec![packet]);
        alone.push(format!("taken-{seed}"));
    }
    let _agent = Agent::start(&cam);
    wait_for("all that can be seen to be seen", SOON, || {
        let seen = seen(&laptop, &server);
        let is_seen = |id: &str| seen.iter().any(|device| has_id(device, id));
        let shown = ["gateway-alone", "host-alone", "server-alone", "cam"];
        (beside.iter().all(|id| is_seen(id)) && shown.into_iter().all(is_seen)).then_some(())
    });

    let quiet = to_itself(&desk);
    for id in &alone {
        let said = claim(&laptop, &server, id);
        assert!(
            said.stdout.contains("no address") || said.stdout.contains("\"status\":404"),
            "{id}: {said:#?}"
        );
    }
    assert_eq!(evil_canary.dialled(), []);
    for id in &beside {
        let reply: DiscoverReply = claim(&laptop, &server, id).json();
        assert_eq!(reply.status, DiscoverOutcome::Unreachable, "{id}");
    }
    assert_eq!(to_itself(&desk), quiet, "the server connected to its own host");
    let by_evil = |dialled: &[SocketAddr]| {
        let own = IpAddr::from(evil.address());
        dialled.len() >= beside.len() && dialled.iter().all(|at| at.ip() == own)
    };
    assert!(by_evil(&evil_canary.dialled()), "{:?}", evil_canary.dialled());

    let by_server = evil_canary.dialled().len();
    // The command line looks for itself, and claims in the same way.
    let named = [alone, beside.clone()].concat().join(",");
    let said = server.fleets(&["configure", "--auto", "--device", &named, "--timeout", "6s"]);
    assert_eq!(said.code, Some(3), "{said:#?}");
    assert!(by_evil(&evil_canary.dialled()), "{:?}", evil_canary.dialled());
    assert!(evil_canary.dialled().len() >= by_server + beside.len(), "{said:#?}");
    for canary in [&own_canary, &gate_canary, &thief_canary] {
        assert_eq!(canary.dialled(), []);
    }
    assert!(server.devices().is_empty());

    // All those places can be reached from the server's host, and counted.
    for address in [Ipv4Addr::LOCALHOST, desk.address(), gate.address(), METADATA] {
        let at = SocketAddr::from((address, CANARY));
        desk.run(async move { TcpStream::connect(at).await }).expect("a listener");
        wait_for("the canary to have heard it", SOON, || {
            let dialled = [own_canary.dialled(), gate_canary.dialled()].concat();
            dialled.contains(&at).then_some(())
        });
    }
    assert!(to_itself(&desk) > quiet);
    // And a device that is where it says is claimed by the same request.
    let reply: DiscoverReply = claim(&laptop, &server, "cam").json();
    assert_eq!(reply.status, DiscoverOutcome::Configured, "{:?}", reply.reason);
    server.shows_online(&["cam"]);
}

/// How long a double waits with its answer: the server has looked by then, and listens still.
const LATER: Duration = Duration::from_millis(250);

#[test]
fn t01_the_server_waits_for_a_double_before_it_claims() {
    let mut lab = Lab::new();
    let lan = lab.lan();
    let [desk, cam, double, laptop] =
        ["desk", "cam", "double", "laptop"].map(|name| lab.host(name, &[&lan]));
    let server = Server::start(&desk);
    let _agent = Agent::start(&cam);
    // Whoever poses as the device answers when it has.
    let (ear, real) = (Wire::join(&double), IpAddr::from(cam.address()));
    let packet = announcement("cam", 66, 6789, &[double.address()], "1");
    ear.wait_for_quiet();
    let said = std::thread::scope(|scope| {
        scope.spawn(|| {
            ear.receive(|_, source| (source.ip() == real).then_some(()));
            std::thread::sleep(LATER);
            ear.send_bytes(&packet);
        });
        claim(&laptop, &server, "cam")
    });
    let conflict = "two devices with different keys call themselves cam";
    assert!(said.stdout.contains("\"status\":409") && said.stdout.contains(conflict), "{said:#?}");
    assert!(server.devices().is_empty());
}

#[test]
fn a_claim_may_say_which_key_the_device_must_have() {
    let mut lab = Lab::new();
    let lan = lab.lan();
    let [desk, cam, laptop] = ["desk", "cam", "laptop"].map(|name| lab.host(name, &[&lan]));
    let server = Server::start(&desk);
    let _agent = Agent::start(&cam);
    let fingerprint = wait_for("the device's key to be seen", SOON, || {
        let seen = seen(&laptop, &server);
        seen.iter().find(|device| has_id(device, "cam"))?.fingerprint
    });
    let claim = |fingerprint: &str| {
        claim_with(&laptop, &server, &json!({"device_id": "cam", "fingerprint": fingerprint}))
    };
    let other = PrivateKey::from_seed(&[7; 32]).public().fingerprint().to_string();
    let said = claim(&other);
    let words = format!("the key of cam has the fingerprint {fingerprint}");
    assert!(said.stdout.contains("\"status\":409") && said.stdout.contains(&words), "{said:#?}");
    assert!(claim("x").stdout.contains("\"status\":422"));
    assert!(server.devices().is_empty());
    let reply: DiscoverReply = claim(&fingerprint.to_string()).json();
    assert_eq!(reply.status, DiscoverOutcome::Configured, "{:?}", reply.reason);
}

#[test]
fn t16_the_server_itself_is_never_claimed() {
    let mut lab = Lab::new();
    let lan = lab.lan();
    let [desk, laptop] = ["desk", "laptop"].map(|name| lab.host(name, &[&lan]));
    let server = Server::start(&desk);
    let tasks = Tasks::default();
    // Somebody on the server's own host, from the server's own address: of its port, and of another.
    let packets = [("own", 1, SERVER), ("other", 2, CANARY)]
        .map(|(id, seed, port)| announcement(id, seed, port, &[desk.address()], "1"));
    repeat(&desk, &tasks, Wire::open(&desk, 5353), packets.into());
    wait_for("both to be seen", SOON, || {
        let seen = seen(&laptop, &server);
        ["own", "other"].iter().all(|id| seen.iter().any(|device| has_id(device, id))).then_some(())
    });
    let reason = |id: &str| {
        let reply: DiscoverReply = claim(&laptop, &server, id).json();
        assert_eq!(reply.status, DiscoverOutcome::Unreachable, "{id}");
        reply.reason.expect("a reason").into_raw()
    };
    let nowhere = "it announced no key, or no address that it answers from";
    assert_eq!(reason("own"), nowhere);
    assert_ne!(reason("other"), nowhere, "there it would connect");
}
