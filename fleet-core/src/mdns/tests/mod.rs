//! The pure parts, put through hours in milliseconds: responders on a link made of a loop.

mod authority;
mod bytes;
mod cache;

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use simple_dns::{CLASS, Name, Packet, PacketFlag, Question, ResourceRecord, TYPE};
use tokio::time::Instant;

use super::Service;
use super::authority::Authority;
use super::interfaces::{Link, Net};
use super::links::{Outgoing, To};
use super::packet::{self, MDNS_PORT, SEND_BYTES_MAX};

const LINK: u32 = 2;
const SERVICE: &str = "_fleetd._tcp.local";

fn service(id: &str, port: u16) -> Service {
    Service {
        instance: format!("fleetd-{id}"),
        service_type: "_fleetd._tcp".to_owned(),
        host: id.to_owned(),
        host_alternative: format!("{id}-k3xq2m"),
        port,
        txt: vec![("id".to_owned(), id.to_owned())],
    }
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn socket(address: &str) -> SocketAddr {
    SocketAddr::new(ip(address), MDNS_PORT)
}

fn name(text: &str) -> Name<'static> {
    Name::new(text).unwrap().into_owned()
}

fn ask(text: &str, kind: TYPE) -> Packet<'static> {
    let mut query = Packet::new_query(0);
    query.questions.push(Question::new(name(text), kind.into(), CLASS::IN.into(), false));
    query
}

/// A multicast packet, as it was heard on the link.
#[derive(Clone, Debug)]
struct Said {
    at: Duration,
    by: IpAddr,
    to: To,
    bytes: Vec<u8>,
}

impl Said {
    fn packet(&self) -> Packet<'_> {
        packet::parse(&self.bytes).unwrap()
    }

    fn is_probe(&self) -> bool {
        !self.packet().name_servers.is_empty()
    }

    fn is_response(&self) -> bool {
        self.packet().has_flags(PacketFlag::RESPONSE)
    }

    fn has_answer(&self, text: &str, kind: TYPE) -> bool {
        let wanted = |record: &ResourceRecord<'_>| {
            record.name == name(text) && record.rdata.type_code() == kind
        };
        self.is_response() && self.packet().answers.iter().any(wanted)
    }
}

/// A link with responders on it, and a clock that jumps from event to event.
struct Ether {
    started: Instant,
    now: Instant,
    hosts: Vec<(IpAddr, Authority)>,
    said: Vec<Said>,
}

impl Ether {
    fn new() -> Self {
        let now = Instant::now();
        Self { started: now, now, hosts: Vec::new(), said: Vec::new() }
    }

    fn join(&mut self, address: &str, service: Service) {
        let address = ip(address);
        let link = Link {
            index: LINK,
            name: "eth0".to_owned(),
            loopback: false,
            nets: vec![Net { address, prefix: 24 }],
        };
        let mut authority = Authority::new(service).unwrap();
        authority.follow(&[link], &[LINK], &BTreeSet::from([address]), self.now);
        self.hosts.push((address, authority));
    }

    /// Everybody hears a packet that a stranger sends, or one of the hosts.
    fn hear(&mut self, source: SocketAddr, packet: &Packet<'_>) {
        for host in 0..self.hosts.len() {
            let mut out = Vec::new();
            self.hosts[host].1.on_packet(LINK, source, packet, self.now, &mut out);
            self.deliver(host, out);
        }
    }

    /// Lets time pass.
    fn pass(&mut self, time: Duration) {
        let until = self.now + time;
        loop {
            let next = self.hosts.iter().filter_map(|(_, authority)| authority.next_at()).min();
            let Some(next) = next.filter(|next| *next <= until) else { break };
            self.now = self.now.max(next);
            for host in 0..self.hosts.len() {
                let mut out = Vec::new();
                self.hosts[host].1.on_time(self.now, &mut out);
                self.deliver(host, out);
            }
        }
        self.now = until;
    }

    fn deliver(&mut self, host: usize, out: Vec<Outgoing>) {
        for outgoing in out {
            assert!(outgoing.bytes.len() <= SEND_BYTES_MAX, "{} bytes", outgoing.bytes.len());
            let by = self.hosts[host].0;
            let said = Said {
                at: self.now - self.started,
                by,
                to: outgoing.to,
                bytes: outgoing.bytes.clone(),
            };
            self.said.push(said);
            if outgoing.to == To::All {
                let packet = packet::parse(&outgoing.bytes).unwrap();
                self.hear(SocketAddr::new(by, MDNS_PORT), &packet);
            }
        }
    }

    /// What has been said since this was last asked.
    fn take_said(&mut self) -> Vec<Said> {
        std::mem::take(&mut self.said)
    }

    /// One host that has announced itself and fallen silent.
    fn settled(address: &str, service: Service) -> Self {
        let mut ether = Self::new();
        ether.join(address, service);
        ether.pass(Duration::from_secs(10));
        ether.take_said();
        ether
    }

    fn instances(&self) -> Vec<&str> {
        self.hosts.iter().map(|(_, authority)| authority.instance()).collect()
    }
}
