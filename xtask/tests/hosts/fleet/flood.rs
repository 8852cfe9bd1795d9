//! T02: a neighbour that announces thousands of devices, as fast as it can, to a server that looks
//! for some and to `fleets discover`.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use fleet_core::api::Discovered;
use fleet_core::net::shutdown::Tasks;
use simple_dns::rdata::{PTR, RData};
use simple_dns::{CLASS, Packet, ResourceRecord};

use super::stalls::{MEBIBYTE, addresses, honest};
use super::strangers::{announcement, seen};
use super::{Agent, SOON, Server, has_id};
use crate::lab::{Host, Lab, wait_for};
use crate::mdns::wire::{Wire, name};

/// Seconds that it lasts, unless `FLEETD_TEST_FLOOD` says otherwise.
const SECONDS: u64 = 8;
const BYTES_A_SECOND: u64 = 1_500_000;
/// Addresses that it comes from, and names that it claims: more than there is room for.
const SOURCES: usize = 150;
const NAMES: usize = 12_000;
/// How much more memory the server may have while it lasts, and how much after it.
const GROWTH_MAX: u64 = 16 * MEBIBYTE;
const REST_MAX: u64 = 4 * MEBIBYTE;
/// How long it may take until that much is left.
const REST: Duration = Duration::from_secs(60);
/// Between two looks of an operator.
const LOOK: Duration = Duration::from_secs(1);
/// How long a device may be out of sight.
const UNSEEN: Duration = Duration::from_secs(5);
/// How long it may take until one is seen whose agent has just been started, on a busy machine.
const NEWCOMER: Duration = Duration::from_secs(10);

fn seconds() -> u64 {
    std::env::var("FLEETD_TEST_FLOOD")
        .map_or(SECONDS, |text| text.parse().expect("FLEETD_TEST_FLOOD is a number"))
}

/// What of a program is in memory, without its code, of which more comes in when it is first used.
#[track_caller]
fn own_memory(pid: u32) -> u64 {
    let status =
        std::fs::read_to_string(format!("/proc/{pid}/status")).expect("a program that runs");
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).expect("its memory");
    let kibibytes = line.split_whitespace().next().expect("a number");
    kibibytes.parse::<u64>().expect("a number") * 1024
}

/// A flood that lasts until it is dropped.
struct Flood {
    sent: Arc<AtomicU64>,
    started: Instant,
    tasks: Tasks,
}

impl Flood {
    #[track_caller]
    fn start(host: &Host) -> Self {
        let sources = addresses(host, SOURCES);
        let wires: Vec<Wire> = sources.iter().map(|source| Wire::pose(host, *source)).collect();
        let packets: Vec<Vec<u8>> =
            (0..NAMES).map(|number| packet(number, sources[number % SOURCES])).collect();
        let flood = Self { sent: Arc::default(), started: Instant::now(), tasks: Tasks::default() };
        let (sent, tasks, started) = (flood.sent.clone(), flood.tasks.clone(), flood.started);
        host.run(async move {
            let within = tasks.clone();
            tasks.spawn("flood", async move {
                let mut number = 0;
                while !within.is_stopping() {
                    let due = started.elapsed().as_millis() as u64 * BYTES_A_SECOND / 1000;
                    while sent.load(Ordering::Relaxed) < due {
                        let packet = &packets[number % NAMES];
                        wires[number % SOURCES].send_bytes(packet);
                        sent.fetch_add(packet.len() as u64, Ordering::Relaxed);
                        number += 1;
                    }
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            });
        });
        flood
    }

    fn bytes(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        self.tasks.stop();
    }
}

/// A packet of the flood: a whole device with long words; of four, one that only names many.
fn packet(number: usize, source: Ipv4Addr) -> Vec<u8> {
    if number % 4 == 3 {
        let mut packet = Packet::new_reply(0);
        let record = |index| {
            let instance = format!("named-{number}-{index}-{}._fleetd._tcp.local", "x".repeat(40));
            let pointer = RData::PTR(PTR(name(&instance)));
            ResourceRecord::new(name("_fleetd._tcp.local"), CLASS::IN, 4500, pointer)
        };
        packet.answers = (0..16).map(record).collect();
        return packet.build_bytes_vec_compressed().expect("a packet");
    }
    let id = format!("flood-{number}-{}", "x".repeat(40));
    announcement(&id, (number % 251) as u8, 6789, &[source], &"y".repeat(240))
}

#[test]
fn t02_a_flood_costs_the_server_little_and_hides_no_device() {
    let mut lab = Lab::new();
    let lan = lab.lan();
    let [desk, cam, late, laptop, crowd] =
        ["desk", "cam", "late", "laptop", "crowd"].map(|name| lab.host(name, &[&lan]));
    let server = Server::start(&desk);
    let _agent = Agent::start(&cam);
    let is_listed =
        |devices: &[Discovered], id: &str| devices.iter().any(|device| has_id(device, id));
    wait_for("the device to be seen", SOON, || {
        is_listed(&seen(&laptop, &server), "cam").then_some(())
    });
    let pid = server.pid.get();
    let before = own_memory(pid);

    let flood = Flood::start(&crowd);
    let end = flood.started + Duration::from_secs(seconds());
    let (mut most, mut shown_most, mut unseen) = (0, 0, Duration::ZERO);
    let (mut looked, mut last_seen) = (flood.started, Instant::now());
    let mut newcomer: Option<(Agent<'_>, Instant, Option<Duration>)> = None;
    loop {
        let is_awaited = match &newcomer {
            None => flood.started.elapsed() < SOON,
            Some((_, started, None)) => started.elapsed() < NEWCOMER,
            Some(_) => false,
        };
        if Instant::now() >= end && !is_awaited {
            break;
        }
        std::thread::sleep(LOOK.saturating_sub(looked.elapsed()));
        looked = Instant::now();
        let to = (desk.address(), 8080).into();
        desk.run(honest(to));
        let devices = seen(&laptop, &server);
        shown_most = shown_most.max(devices.len());
        if is_listed(&devices, "cam") {
            last_seen = Instant::now();
        }
        unseen = unseen.max(last_seen.elapsed());
        // One that comes when everything is full.
        if newcomer.is_none() && shown_most > 1_000 {
            newcomer = Some((Agent::start(&late), Instant::now(), None));
        }
        if let Some((_, started, seen_after @ None)) = &mut newcomer
            && is_listed(&devices, "late")
        {
            *seen_after = Some(started.elapsed());
        }
        most = most.max(own_memory(pid));
    }
    let (sent, growth) = (flood.bytes(), most.saturating_sub(before));
    let (_, _, newcomer) = newcomer.expect("a list that gets full");
    println!(
        "{sent} bytes, {shown_most} devices shown; {} KiB more in memory; unseen for {unseen:?}, \
         newcomer seen after {newcomer:?}",
        growth / 1024
    );
    drop(flood);
    assert!(sent >= BYTES_A_SECOND * seconds() / 2, "no flood: {sent} bytes");
    assert!(growth <= GROWTH_MAX, "{growth} bytes more in memory");
    assert!(unseen <= UNSEEN, "unseen for {unseen:?}");
    assert!(newcomer.is_some(), "a newcomer is not seen within {NEWCOMER:?}");

    let ended = Instant::now();
    let rest = || own_memory(pid).saturating_sub(before);
    wait_for("the memory to be given back", REST, || {
        // The allocator gives back what its threads have freed when they are next awake.
        desk.run(honest((desk.address(), 8080).into()));
        (rest() <= REST_MAX).then_some(())
    });
    println!("{} KiB more after {:?}", rest() / 1024, ended.elapsed());
}

#[test]
fn t02_a_flood_hides_no_device_from_the_command_line() {
    let mut lab = Lab::new();
    let lan = lab.lan();
    let [desk, cam, crowd] = ["desk", "cam", "crowd"].map(|name| lab.host(name, &[&lan]));
    let server = Server::start(&desk);
    let _agent = Agent::start(&cam);
    server.sees_devices(&["cam"]);
    let flood = Flood::start(&crowd);
    wait_for("a flood", SOON, || (flood.bytes() > BYTES_A_SECOND).then_some(()));
    for format in ["json", "table"] {
        let began = Instant::now();
        let said = server.fleets(&["discover", "--timeout", "5s", "-o", format]).exits(0);
        assert!(said.stdout.lines().count() > 100, "no flood: {said:#?}");
        assert!(said.stdout.contains("cam"), "not seen within {:?}", began.elapsed());
        assert!(began.elapsed() < UNSEEN + SOON, "{:?}", began.elapsed());
    }
    let bytes = flood.bytes();
    assert!(bytes >= BYTES_A_SECOND * flood.started.elapsed().as_secs() / 2, "{bytes} bytes");
}
