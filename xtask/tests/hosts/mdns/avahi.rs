//! With avahi 0.8 on the other side, and on the same machine.

use super::{KIND, PATIENCE, Search, announce, service};
use crate::lab::{Avahi, Lab, wait_for};

/// Waits until avahi resolves an instance at an address.
#[track_caller]
fn resolved(avahi: &Avahi<'_>, name: &str, address: &str) -> crate::lab::Resolved {
    wait_for(&format!("avahi-browse to resolve {name} at {address}"), PATIENCE, || {
        let mut seen = avahi.browse(KIND).into_iter();
        seen.find(|seen| seen.name == name && seen.address == address)
    })
}

#[test]
fn avahi_resolves_ours() {
    let mut lab = Lab::new();
    let lan = lab.lan();
    let device = lab.host("device", &[&lan]);
    let laptop = lab.host("laptop", &[&lan]);
    let avahi = laptop.avahi();
    let _responder = announce(&device, service("rpi4-001", 6789));
    let seen = resolved(&avahi, "fleetd-rpi4-001", &device.address().to_string());
    assert_eq!(seen.interface, "eth0");
    assert_eq!(seen.host, "rpi4-001.local");
    assert_eq!(seen.port, 6789);
    assert!(seen.txt.contains("\"id=rpi4-001\""), "{}", seen.txt);
    assert!(seen.txt.contains("\"st=unclaimed\""), "{}", seen.txt);
}

#[test]
fn ours_finds_what_avahi_publishes() {
    let mut lab = Lab::new();
    let lan = lab.lan();
    let device = lab.host("device", &[&lan]);
    let laptop = lab.host("laptop", &[&lan]);
    let avahi = device.avahi();
    avahi.publish("fleetd-by-avahi", KIND, 6790, &["id=by-avahi", "fp=abc"]);
    let mut search = Search::start(&laptop);
    let instance = search.until_reachable("fleetd-by-avahi", device.address().into());
    assert_eq!(instance.host.raw(), "device.local");
    assert_eq!(instance.port, 6790);
    assert!(instance.txt.contains(&("id".into(), "by-avahi".into())), "{instance:?}");
}

#[test]
fn ours_hears_what_avahi_takes_back() {
    let mut lab = Lab::new();
    let lan = lab.lan();
    let device = lab.host("device", &[&lan]);
    let laptop = lab.host("laptop", &[&lan]);
    let avahi = device.avahi();
    let publisher = avahi.publish("fleetd-by-avahi", KIND, 6790, &["id=by-avahi"]);
    let mut search = Search::start(&laptop);
    search.until_reachable("fleetd-by-avahi", device.address().into());
    device.kill(publisher);
    search.until_lost("fleetd-by-avahi");
}

#[test]
fn a_goodbye_takes_ours_away_and_leaves_the_others() {
    let mut lab = Lab::new();
    let lan = lab.lan();
    let leaving = lab.host("leaving", &[&lan]);
    let staying = lab.host("staying", &[&lan]);
    let laptop = lab.host("laptop", &[&lan]);
    let avahi = laptop.avahi();
    let first = announce(&leaving, service("leaving", 6789));
    let _second = announce(&staying, service("staying", 6789));
    wait_for("both in avahi's cache", PATIENCE, || {
        (avahi.cached(KIND) == ["fleetd-leaving", "fleetd-staying"]).then_some(())
    });
    leaving.run(first.stop());
    wait_for("only the one that stays in avahi's cache", PATIENCE, || {
        (avahi.cached(KIND) == ["fleetd-staying"]).then_some(())
    });
    // The host's addresses have not been taken back with it.
    let seen = resolved(&avahi, "fleetd-staying", &staying.address().to_string());
    assert_eq!(seen.host, "staying.local");
}

#[test]
fn avahi_was_first_so_ours_gives_way() {
    let mut lab = Lab::new();
    let lan = lab.lan();
    let device = lab.host("device", &[&lan]);
    let other = lab.host("other", &[&lan]);
    let avahi = other.avahi();
    avahi.publish("fleetd-twin", KIND, 7000, &["id=other"]);
    let responder = announce(&device, service("twin", 6789));
    let seen = resolved(&avahi, "fleetd-twin (2)", &device.address().to_string());
    assert_eq!(seen.port, 6789);
    assert_eq!(responder.current_instance(), "fleetd-twin (2)");
    assert_eq!(resolved(&avahi, "fleetd-twin", &other.address().to_string()).port, 7000);
}

#[test]
fn ours_was_first_so_avahi_gives_way() {
    let mut lab = Lab::new();
    let lan = lab.lan();
    let device = lab.host("device", &[&lan]);
    let other = lab.host("other", &[&lan]);
    let avahi = other.avahi();
    let responder = announce(&device, service("twin", 6789));
    resolved(&avahi, "fleetd-twin", &device.address().to_string());
    avahi.publish("fleetd-twin", KIND, 7000, &["id=other"]);
    let seen = resolved(&avahi, "fleetd-twin #2", &other.address().to_string());
    assert_eq!(seen.port, 7000);
    assert_eq!(responder.current_instance(), "fleetd-twin");
    assert_eq!(resolved(&avahi, "fleetd-twin", &device.address().to_string()).port, 6789);
}

#[test]
fn ours_lives_beside_avahi_on_one_machine() {
    let mut lab = Lab::new();
    let lan = lab.lan();
    let device = lab.host("device", &[&lan]);
    let laptop = lab.host("laptop", &[&lan]);
    let beside = device.avahi();
    let far = laptop.avahi();
    beside.publish("fleetd-avahi", KIND, 7000, &["id=avahi"]);
    // Both say that `device.local` has the machine's addresses, and neither objects.
    let mut ours = service("device", 6789);
    ours.instance = "fleetd-ours".to_owned();
    let _responder = announce(&device, ours);
    let address = device.address();
    for avahi in [&far, &beside] {
        for name in ["fleetd-ours", "fleetd-avahi"] {
            let seen = resolved(avahi, name, &address.to_string());
            assert_eq!(seen.host, "device.local", "{name}");
        }
    }
    for host in [&laptop, &device] {
        // One after the other: avahi takes what one browser knows for what both of a machine know.
        Search::start(host).until_reachable("fleetd-ours", address.into());
        Search::start(host).until_reachable("fleetd-avahi", address.into());
    }
}

#[test]
fn two_networks_each_see_the_address_on_their_own() {
    let mut lab = Lab::new();
    let (one, two) = (lab.lan(), lab.lan());
    let device = lab.host("device", &[&one, &two]);
    let left = lab.host("left", &[&one]);
    let right = lab.host("right", &[&two]);
    let _responder = announce(&device, service("gateway", 6789));
    for (host, lan, other) in [(&left, &one, &two), (&right, &two, &one)] {
        let avahi = host.avahi();
        resolved(&avahi, "fleetd-gateway", &device.address_on(lan).to_string());
        let foreign = device.address_on(other).to_string();
        assert!(avahi.browse(KIND).iter().all(|seen| seen.address != foreign));
    }
}
