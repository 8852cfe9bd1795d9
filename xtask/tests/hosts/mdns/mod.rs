//! FleetD's mDNS engine among real peers: avahi, mdns-sd, raw sockets, and itself.

mod avahi;
mod ours;
mod sd;
pub(crate) mod wire;

use std::net::IpAddr;
use std::time::Duration;

use fleet_core::mdns::{Browser, Event, Instance, Options, Responder, Service, browse};

use crate::lab::Host;

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
#[track_caller]
fn announce(host: &Host, service: Service) -> Responder {
    host.run(async move { Responder::start(Options::default(), service) }).expect("port 5353")
}

/// A search on a host, with all that it has shown so far.
struct Search<'a> {
    host: &'a Host,
    browser: Option<Browser>,
    seen: Vec<Event>,
}

impl<'a> Search<'a> {
    #[track_caller]
    fn start(host: &'a Host) -> Self {
        let browser = host.run(async { browse(Options::default(), KIND) }).expect("port 5353");
        Self { host, browser: Some(browser), seen: Vec::new() }
    }

    /// Waits for an event that is as wanted; fails with what it saw instead.
    #[track_caller]
    fn until<T: Send + 'static>(
        &mut self,
        what: &str,
        mut wanted: impl FnMut(&Event) -> Option<T> + Send + 'static,
    ) -> T {
        let mut browser = self.browser.take().expect("put back after each search");
        let (browser, seen, found) = self.host.run(async move {
            let mut seen = Vec::new();
            let search = async {
                loop {
                    let event = browser.next().await.expect("the browser goes on");
                    let found = wanted(&event);
                    seen.push(event);
                    if found.is_some() {
                        return found;
                    }
                }
            };
            let found = tokio::time::timeout(PATIENCE, search).await.ok().flatten();
            (browser, seen, found)
        });
        self.browser = Some(browser);
        self.seen.extend(seen);
        found.unwrap_or_else(|| panic!("waited in vain for {what}; saw {:#?}", self.seen))
    }

    /// Waits until an instance of this name shows an address that may be connected to.
    #[track_caller]
    fn until_reachable(&mut self, name: &str, address: IpAddr) -> Instance {
        let wanted = name.to_owned();
        self.until(&format!("{name} at {address}"), move |event| {
            shown(event)
                .filter(|instance| instance.name.raw() == wanted && reaches(instance, address))
                .cloned()
        })
    }

    #[track_caller]
    fn until_lost(&mut self, name: &str) {
        let wanted = name.to_owned();
        self.until(&format!("the loss of {name}"), move |event| match event {
            Event::Lost(instance) => (instance.name.raw() == wanted).then_some(()),
            Event::Found(_) | Event::Updated(_) => None,
        });
    }
}

fn shown(event: &Event) -> Option<&Instance> {
    match event {
        Event::Found(instance) | Event::Updated(instance) => Some(instance),
        Event::Lost(_) => None,
    }
}

fn reaches(instance: &Instance, ip: IpAddr) -> bool {
    instance.addresses.iter().any(|address| address.sourced && address.ip == ip)
}
