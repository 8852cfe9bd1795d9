//! FleetD's mDNS engine among real peers: avahi, mdns-sd, raw sockets, and itself.

use std::time::{Duration, Instant};

use fleet_core::mdns::{Event, Instance, Options, Responder, Service, browse};

use crate::lab::{Host, Lab, wait_for};

const KIND: &str = "_fleetd._tcp";
const PATIENCE: Duration = Duration::from_secs(15);

fn service(id: &str, port: u16) -> Service {
    Service {
        instance: format!("fleetd-{id}"),
        service_type: KIND.to_owned(),
        host: id.to_owned(),
        host_alternative: format!("{id}-k3xq2m"),
        port,
        txt: vec![("id".to_owned(), id.to_owned()), ("st".to_owned(), "unclaimed".to_owned())],
    }
}

/// Announces a service on a host.
fn announce(host: &Host, service: Service) -> Responder {
    host.run(async move { Responder::start(Options::default(), service) }).expect("port 5353")
}

/// Browses on a host until an event is as wanted; fails with what it saw instead.
#[track_caller]
fn browse_until<T: Send + 'static>(
    host: &Host,
    options: Options,
    what: &str,
    mut wanted: impl FnMut(&Event) -> Option<T> + Send + 'static,
) -> T {
    let outcome = host.run(async move {
        let mut browser = browse(options, KIND).expect("port 5353");
        let mut seen = Vec::new();
        let search = async {
            loop {
                let event = browser.next().await.expect("the browser goes on");
                if let Some(found) = wanted(&event) {
                    return found;
                }
                seen.push(event);
            }
        };
        match tokio::time::timeout(PATIENCE, search).await {
            Ok(found) => Ok(found),
            Err(_) => Err(seen),
        }
    });
    outcome.unwrap_or_else(|seen| panic!("waited in vain for {what}; saw {seen:#?}"))
}

fn found(event: &Event) -> Option<&Instance> {
    match event {
        Event::Found(instance) | Event::Updated(instance) => Some(instance),
        Event::Lost(_) => None,
    }
}

fn named(instance: &Instance, name: &str) -> bool {
    instance.name.raw() == name
}

fn has_sourced_v4(instance: &Instance) -> bool {
    instance.addresses.iter().any(|address| address.sourced && address.ip.is_ipv4())
}

#[test]
fn avahi_resolves_ours() {
    let mut lab = Lab::new();
    let lan = lab.lan();
    let device = lab.host("device", &[&lan]);
    let laptop = lab.host("laptop", &[&lan]);
    let avahi = laptop.avahi();
    let _responder = announce(&device, service("rpi4-001", 6789));
    let address = device.address().to_string();
    let seen = wait_for("avahi-browse to resolve ours over IPv4", PATIENCE, || {
        avahi.browse(KIND).into_iter().find(|seen| seen.address == address)
    });
    assert_eq!(seen.name, "fleetd-rpi4-001");
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
    let address = device.address();
    let instance = browse_until(&laptop, Options::default(), "avahi's service", move |event| {
        found(event).filter(|instance| has_sourced_v4(instance)).cloned()
    });
    assert!(named(&instance, "fleetd-by-avahi"), "{instance:?}");
    assert_eq!(instance.host.raw(), "device.local");
    assert_eq!(instance.port, 6790);
    assert!(instance.txt.contains(&("id".into(), "by-avahi".into())), "{instance:?}");
    assert!(instance.addresses.iter().any(|known| known.ip == address && known.sourced));
}

#[test]
fn a_device_is_found_well_within_a_second() {
    let mut lab = Lab::new();
    let lan = lab.lan();
    let device = lab.host("device", &[&lan]);
    let laptop = lab.host("laptop", &[&lan]);
    let responder = announce(&device, service("quick", 6789));
    browse_until(&laptop, Options::default(), "the device", |event| found(event).map(|_| ()));
    // The second search meets a device that has long been settled and asks it afresh.
    let (elapsed, responder) = laptop.run(async move {
        let started = Instant::now();
        let mut browser = browse(Options::default(), KIND).expect("port 5353");
        let event = tokio::time::timeout(PATIENCE, browser.next()).await;
        assert!(matches!(event, Ok(Some(Event::Found(_)))), "{event:?}");
        (started.elapsed(), responder)
    });
    eprintln!("from browse to the first Found: {elapsed:?}");
    assert!(elapsed < Duration::from_millis(1500), "{elapsed:?}");
    device.run(responder.stop());
}
