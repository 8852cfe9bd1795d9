//! Our own responders and browsers among themselves, on networks of several kinds.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use fleet_core::mdns::{Event, Options, Responder};

use super::wire::Wire;
use super::{PATIENCE, Search, announce, service, shown};
use crate::lab::{Lab, wait_for};

#[test]
fn a_device_is_found_well_within_a_second() {
    let mut lab = Lab::new();
    let lan = lab.lan();
    let device = lab.host("device", &[&lan]);
    let laptop = lab.host("laptop", &[&lan]);
    let _responder = announce(&device, service("quick", 6789));
    Search::start(&laptop).until_reachable("fleetd-quick", device.address().into());
    // From here on the device speaks only when it is asked.
    Wire::join(&laptop).wait_for_quiet();
    let started = Instant::now();
    let mut search = Search::start(&laptop);
    search.until("the device", |event| shown(event).map(|_| ()));
    let elapsed = started.elapsed();
    println!("from browse to the first Found: {elapsed:?}");
    assert!(elapsed < Duration::from_millis(900), "{elapsed:?}");
}

#[test]
fn both_families_are_merged_into_one_instance() {
    let mut lab = Lab::new();
    let lan = lab.lan();
    let device = lab.host("device", &[&lan]);
    let laptop = lab.host("laptop", &[&lan]);
    let _responder = announce(&device, service("dual", 6789));
    let v4 = device.address().into();
    let v6: IpAddr = "fe80::1".parse().expect("an address");
    let mut search = Search::start(&laptop);
    let instance = search.until("both addresses", move |event| {
        shown(event).filter(|shown| super::reaches(shown, v4) && super::reaches(shown, v6)).cloned()
    });
    let index =
        instance.addresses.iter().find(|address| address.ip == v6).map(|v6| v6.interface_index);
    assert!(index.is_some_and(|index| index > 0), "{instance:?}");
    assert!(search.seen.iter().all(|event| matches!(event, Event::Found(_) | Event::Updated(_))));
}

#[test]
fn no_route_is_needed() {
    let mut lab = Lab::new();
    let lan = lab.lan();
    let device = lab.host("device", &[&lan]);
    let laptop = lab.host("laptop", &[&lan]);
    for host in [&device, &laptop] {
        host.ip(&["-4", "route", "flush", "table", "main"]);
        assert_eq!(host.output("ip", &["-4", "route"]), "");
    }
    let _responder = announce(&device, service("routeless", 6789));
    Search::start(&laptop).until_reachable("fleetd-routeless", device.address().into());
}

#[test]
fn a_host_with_loopback_only_finds_itself() {
    let mut lab = Lab::new();
    let lonely = lab.host("lonely", &[]);
    let responder = announce(&lonely, service("lonely", 6789));
    let mut search = Search::start(&lonely);
    search.until_reachable("fleetd-lonely", Ipv4Addr::LOCALHOST.into());
    lonely.run(responder.stop());
    search.until_lost("fleetd-lonely");
}

#[test]
fn a_device_that_comes_later_is_found_and_its_goodbye_is_heard() {
    let mut lab = Lab::new();
    let lan = lab.lan();
    let laptop = lab.host("laptop", &[&lan]);
    let mut search = Search::start(&laptop);
    let device = lab.host("device", &[&lan]);
    let responder = announce(&device, service("late", 6789));
    search.until_reachable("fleetd-late", device.address().into());
    device.run(responder.stop());
    search.until_lost("fleetd-late");
}

#[test]
fn a_change_of_text_is_heard_at_once() {
    let mut lab = Lab::new();
    let lan = lab.lan();
    let device = lab.host("device", &[&lan]);
    let laptop = lab.host("laptop", &[&lan]);
    let responder = announce(&device, service("moving", 6789));
    let mut search = Search::start(&laptop);
    search.until_reachable("fleetd-moving", device.address().into());
    let claimed =
        vec![("id".to_owned(), "moving".to_owned()), ("st".to_owned(), "claimed".to_owned())];
    responder.set_txt(&claimed).expect("a TXT record");
    search.until("the new state", |event| {
        shown(event)?.txt.contains(&("st".into(), "claimed".into())).then_some(())
    });
    // The two address families never looked like two devices.
    assert!(search.seen.iter().filter(|event| matches!(event, Event::Found(_))).count() == 1);
}

#[test]
fn two_devices_that_want_one_name_both_get_one() {
    let mut lab = Lab::new();
    let lan = lab.lan();
    let hosts = [lab.host("one", &[&lan]), lab.host("two", &[&lan])];
    let laptop = lab.host("laptop", &[&lan]);
    // Started together, so that their probes meet.
    let responders =
        [announce(&hosts[0], service("twin", 1)), announce(&hosts[1], service("twin", 2))];
    let names = wait_for("one of the two to be renamed", PATIENCE, || {
        let mut names = responders.each_ref().map(Responder::current_instance);
        names.sort();
        (names[0] != names[1]).then_some(names)
    });
    assert_eq!(names, ["fleetd-twin", "fleetd-twin (2)"]);
    let mut found = Vec::new();
    for (host, responder) in hosts.iter().zip(&responders) {
        let mut search = Search::start(&laptop);
        found.push(search.until_reachable(&responder.current_instance(), host.address().into()));
    }
    let mut names: Vec<_> = found.iter().map(|instance| instance.host.raw()).collect();
    names.sort_unstable();
    assert_eq!(names, ["twin-k3xq2m.local", "twin.local"]);
}

#[test]
fn an_address_that_comes_later_is_announced() {
    let mut lab = Lab::new();
    let (one, two) = (lab.lan(), lab.lan());
    let device = lab.host("device", &[&one]);
    let far = lab.host("far", &[&two]);
    let near = lab.host("near", &[&one]);
    let _responder = announce(&device, service("roaming", 6789));
    let mut search = Search::start(&near);
    search.until_reachable("fleetd-roaming", device.address().into());
    lab.connect(&device, "eth1", &two);
    Search::start(&far).until_reachable("fleetd-roaming", device.address_on(&two).into());
    let moved = Ipv4Addr::new(10, 77, 1, 99);
    device.ip(&["address", "add", "10.77.1.99/24", "dev", "eth0"]);
    device.ip(&["address", "delete", &format!("{}/24", device.address()), "dev", "eth0"]);
    // Deleting a primary address may take the secondary with it, so it is added again if so.
    if !device.output("ip", &["address"]).contains("10.77.1.99") {
        device.ip(&["address", "add", "10.77.1.99/24", "dev", "eth0"]);
    }
    search.until_reachable("fleetd-roaming", moved.into());
}

#[test]
fn a_link_that_was_down_is_taken_up_again() {
    let mut lab = Lab::new();
    let lan = lab.lan();
    let device = lab.host("device", &[&lan]);
    let laptop = lab.host("laptop", &[&lan]);
    device.ip(&["link", "set", "eth0", "down"]);
    let _responder = announce(&device, service("patient", 6789));
    let mut search = Search::start(&laptop);
    device.ip(&["link", "set", "eth0", "up"]);
    search.until_reachable("fleetd-patient", device.address().into());
}

#[test]
fn fifty_devices_on_one_loopback_are_all_found() {
    const DEVICES: u8 = 50;
    let mut lab = Lab::new();
    let lonely = lab.host("lonely", &[]);
    let memory_before = resident_kib();
    let _responders: Vec<Responder> = (1..=DEVICES)
        .map(|number| {
            let address = Ipv4Addr::new(127, 0, 0, number);
            let options =
                Options { interfaces: vec!["lo".to_owned()], address: Some(address.into()) };
            // All want the same host name, as programs of one machine do; all but one get another.
            let mut service = service(&format!("sim-{number}"), 6789);
            service.host = "simulator".to_owned();
            lonely.run(async move { Responder::start(options, service) }).expect("port 5353")
        })
        .collect();
    let mut search = Search::start(&lonely);
    let mut missing: Vec<u8> = (1..=DEVICES).collect();
    let started = Instant::now();
    let mut hosts = BTreeMap::new();
    let hosts = search.until("all fifty", move |event| {
        let instance = shown(event)?;
        missing.retain(|number| {
            let address = Ipv4Addr::new(127, 0, 0, *number).into();
            let name = format!("fleetd-sim-{number}");
            instance.name.raw() != name || !super::reaches(instance, address)
        });
        hosts.insert(instance.name.clone(), instance.host.clone());
        missing.is_empty().then(|| hosts.clone())
    });
    let hosts: BTreeSet<_> = hosts.into_values().collect();
    assert_eq!(hosts.len(), usize::from(DEVICES), "{hosts:#?}");
    println!("all {DEVICES} found after {:?}", started.elapsed());
    Wire::join(&lonely).wait_for_quiet();
    let (before, sent) = (memory_before, lonely.output("cat", &["/proc/net/dev"]));
    let packets = sent.lines().find_map(|line| line.trim().strip_prefix("lo:"));
    let packets = packets.and_then(|counts| counts.split_whitespace().nth(1));
    println!("memory {before} → {} KiB, packets on lo: {packets:?}", resident_kib());
}

/// This process's memory, to be printed.
fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or_default()
}
