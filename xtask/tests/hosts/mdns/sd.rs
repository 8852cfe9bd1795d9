//! With the `mdns-sd` crate on the other side.

use std::time::Instant;

use mdns_sd::{Receiver, ServiceDaemon, ServiceEvent, ServiceInfo};

use super::{PATIENCE, Search, announce, service};
use crate::lab::{Host, Lab};

const KIND_LOCAL: &str = "_fleetd._tcp.local.";

#[track_caller]
fn daemon(host: &Host) -> ServiceDaemon {
    host.run(async { ServiceDaemon::new() }).expect("port 5353")
}

#[track_caller]
fn publish(host: &Host, daemon: &ServiceDaemon, name: &str, port: u16) -> String {
    let properties = [("id", "by-sd")];
    let local = format!("{}.local.", host.name());
    let info = ServiceInfo::new(KIND_LOCAL, name, &local, "", port, &properties[..]);
    let info = info.expect("a service").enable_addr_auto();
    let full_name = info.get_fullname().to_owned();
    daemon.register(info).expect("a running daemon");
    full_name
}

#[track_caller]
fn until<T>(
    events: &Receiver<ServiceEvent>,
    what: &str,
    mut wanted: impl FnMut(&ServiceEvent) -> Option<T>,
) -> T {
    let started = Instant::now();
    let mut seen = Vec::new();
    while let Ok(event) = events.recv_timeout(PATIENCE.saturating_sub(started.elapsed())) {
        if let Some(found) = wanted(&event) {
            return found;
        }
        seen.push(event);
    }
    panic!("mdns-sd waited in vain for {what}; saw {seen:#?}");
}

#[test]
fn mdns_sd_resolves_ours_and_hears_its_goodbye() {
    let mut lab = Lab::new();
    let lan = lab.lan();
    let device = lab.host("device", &[&lan]);
    let laptop = lab.host("laptop", &[&lan]);
    let peer = daemon(&laptop);
    let events = peer.browse(KIND_LOCAL).expect("a running daemon");
    let responder = announce(&device, service("rpi4-001", 6789));
    let address = device.address();
    let resolved = until(&events, "ours", |event| match event {
        ServiceEvent::ServiceResolved(service) if service.get_addresses_v4().contains(&address) => {
            Some(service.clone())
        }
        _ => None,
    });
    assert_eq!(resolved.get_fullname(), "fleetd-rpi4-001._fleetd._tcp.local.");
    assert_eq!(resolved.get_hostname(), "rpi4-001.local.");
    assert_eq!(resolved.get_port(), 6789);
    assert_eq!(resolved.get_property_val_str("st"), Some("unclaimed"));
    device.run(responder.stop());
    until(&events, "our goodbye", |event| {
        matches!(event, ServiceEvent::ServiceRemoved(..)).then_some(())
    });
    peer.shutdown().expect("a running daemon");
}

#[test]
fn ours_resolves_mdns_sd_and_hears_its_goodbye() {
    let mut lab = Lab::new();
    let lan = lab.lan();
    let device = lab.host("device", &[&lan]);
    let laptop = lab.host("laptop", &[&lan]);
    let peer = daemon(&device);
    let full_name = publish(&device, &peer, "fleetd-by-sd", 7001);
    let mut search = Search::start(&laptop);
    let instance = search.until_reachable("fleetd-by-sd", device.address().into());
    assert_eq!(instance.port, 7001);
    assert!(instance.txt.contains(&("id".into(), "by-sd".into())), "{instance:?}");
    peer.unregister(&full_name).expect("a running daemon");
    search.until_lost("fleetd-by-sd");
    peer.shutdown().expect("a running daemon");
}

#[test]
fn a_name_that_mdns_sd_holds_is_not_taken_from_it() {
    let mut lab = Lab::new();
    let lan = lab.lan();
    let device = lab.host("device", &[&lan]);
    let other = lab.host("other", &[&lan]);
    let peer = daemon(&other);
    publish(&other, &peer, "fleetd-twin", 7001);
    let mut search = Search::start(&device);
    search.until_reachable("fleetd-twin", other.address().into());
    let responder = announce(&device, service("twin", 6789));
    search.until_reachable("fleetd-twin (2)", device.address().into());
    assert_eq!(responder.current_instance(), "fleetd-twin (2)");
    let mut afresh = Search::start(&device);
    assert_eq!(afresh.until_reachable("fleetd-twin", other.address().into()).port, 7001);
    peer.shutdown().expect("a running daemon");
}
