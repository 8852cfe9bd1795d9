//! Bare packets: what resolvers without multicast get, what a unicast question gets, and what an
//! impostor achieves.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use simple_dns::rdata::{A, PTR, RData, SRV, TXT};
use simple_dns::{CLASS, Name, Packet, Question, ResourceRecord, TYPE};
use socket2::{Domain, Socket, Type};

use super::{PATIENCE, Search, announce, service, shown};
use crate::lab::{Host, Lab};

const GROUP: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 251);
const MDNS_PORT: u16 = 5353;

/// A socket of a host that speaks mDNS only as far as the test makes it.
pub(crate) struct Wire(UdpSocket);

impl Wire {
    /// On a port; with 5353 it is an mDNS host to others. Hears what is sent to it alone.
    pub(crate) fn open(host: &Host, port: u16) -> Self {
        Self::bind(host, Ipv4Addr::UNSPECIFIED, port)
    }

    /// An mDNS host that speaks from another address than its host has.
    pub(crate) fn pose(host: &Host, address: Ipv4Addr) -> Self {
        Self::bind(host, address, MDNS_PORT)
    }

    fn bind(host: &Host, to: Ipv4Addr, port: u16) -> Self {
        let address = host.address();
        let socket = host.run(async move {
            let socket = Socket::new(Domain::IPV4, Type::DGRAM, None)?;
            socket.set_reuse_address(true)?;
            socket.set_reuse_port(true)?;
            socket.set_multicast_all_v4(false)?;
            socket.set_multicast_if_v4(&address)?;
            socket.bind(&SocketAddr::from((to, port)).into())?;
            Ok::<UdpSocket, std::io::Error>(socket.into())
        });
        Self(socket.expect("a socket"))
    }

    /// Hears all that is multicast, too.
    pub(crate) fn join(host: &Host) -> Self {
        let wire = Self::open(host, MDNS_PORT);
        wire.0.join_multicast_v4(&GROUP, &host.address()).expect("membership");
        wire
    }

    /// Waits until nobody has said anything for longer than the engine ever pauses while it
    /// announces itself.
    pub(crate) fn wait_for_quiet(&self) {
        let started = Instant::now();
        let mut buffer = [0; 9000];
        self.0.set_read_timeout(Some(Duration::from_millis(2500))).expect("a timeout");
        while self.0.recv_from(&mut buffer).is_ok() {
            assert!(started.elapsed() < Duration::from_secs(60), "the network does not get quiet");
        }
    }

    pub(crate) fn send(&self, packet: &Packet<'_>) {
        self.send_bytes(&packet.build_bytes_vec_compressed().expect("a packet"));
    }

    pub(crate) fn send_bytes(&self, bytes: &[u8]) {
        self.0.send_to(bytes, (GROUP, MDNS_PORT)).expect("sent");
    }

    /// The next packet that is as wanted, and who sent it.
    pub(crate) fn receive<T>(
        &self,
        mut wanted: impl FnMut(&Packet<'_>, SocketAddr) -> Option<T>,
    ) -> T {
        let started = Instant::now();
        let mut buffer = [0; 9000];
        loop {
            let left = PATIENCE.saturating_sub(started.elapsed());
            assert!(!left.is_zero(), "no packet as wanted within {PATIENCE:?}");
            self.0.set_read_timeout(Some(left)).expect("a timeout");
            let (bytes, source) = self.0.recv_from(&mut buffer).expect("a packet");
            let packet = Packet::parse(&buffer[..bytes]).expect("a DNS packet");
            if let Some(found) = wanted(&packet, source) {
                return found;
            }
        }
    }
}

pub(crate) fn name(text: &str) -> Name<'static> {
    Name::new(text).expect("a name").into_owned()
}

fn query(id: u16, text: &str, kind: TYPE, unicast: bool) -> Packet<'static> {
    let mut packet = Packet::new_query(id);
    packet.questions.push(Question::new(name(text), kind.into(), CLASS::IN.into(), unicast));
    packet
}

#[test]
fn a_resolver_without_multicast_gets_its_answer() {
    let mut lab = Lab::new();
    let lan = lab.lan();
    let device = lab.host("device", &[&lan]);
    let laptop = lab.host("laptop", &[&lan]);
    let _responder = announce(&device, service("legacy", 6789));
    Search::start(&laptop).until_reachable("fleetd-legacy", device.address().into());
    let wire = Wire::open(&laptop, 0);
    wire.send(&query(0x4711, "_fleetd._tcp.local", TYPE::PTR, false));
    let device_address: IpAddr = device.address().into();
    wire.receive(|packet, source| {
        assert_eq!(source, SocketAddr::new(device_address, MDNS_PORT));
        assert_eq!(packet.id(), 0x4711);
        assert_eq!(packet.questions.len(), 1);
        assert_eq!(packet.answers.len(), 1);
        let kinds: Vec<TYPE> =
            packet.additional_records.iter().map(|r| r.rdata.type_code()).collect();
        assert!(kinds.contains(&TYPE::SRV) && kinds.contains(&TYPE::A), "{kinds:?}");
        let mut records = packet.answers.iter().chain(&packet.additional_records);
        assert!(records.all(|record| record.ttl <= 10 && !record.cache_flush), "{packet:?}");
        Some(())
    });
    wire.send(&query(1, "_services._dns-sd._udp.local", TYPE::PTR, false));
    wire.receive(|packet, _| {
        (packet.id() == 1).then(|| {
            let RData::PTR(PTR(target)) = &packet.answers[0].rdata else { panic!("{packet:?}") };
            assert_eq!(*target, name("_fleetd._tcp.local"));
        })
    });
    wire.send(&query(2, "legacy.local", TYPE::A, false));
    wire.receive(|packet, _| {
        (packet.id() == 2).then(|| {
            let ours = RData::A(A::from(device.address()));
            assert!(packet.answers.iter().any(|record| record.rdata == ours), "{packet:?}");
        })
    });
}

#[test]
fn a_unicast_question_gets_a_unicast_answer() {
    let mut lab = Lab::new();
    let lan = lab.lan();
    let device = lab.host("device", &[&lan]);
    let laptop = lab.host("laptop", &[&lan]);
    let _responder = announce(&device, service("unicast", 6789));
    Search::start(&laptop).until_reachable("fleetd-unicast", device.address().into());
    // This socket is no member of the group, so what it hears was sent to it alone.
    let wire = Wire::open(&laptop, MDNS_PORT);
    let instance = "fleetd-unicast._fleetd._tcp.local";
    wire.send(&query(0, instance, TYPE::SRV, true));
    wire.receive(|packet, _| {
        let srv = packet.answers.iter().find(|record| record.name == name(instance))?;
        assert!(srv.cache_flush && srv.ttl == 120, "{srv:?}");
        Some(())
    });
}

#[test]
fn what_is_known_is_not_said_again() {
    let mut lab = Lab::new();
    let lan = lab.lan();
    let device = lab.host("device", &[&lan]);
    let laptop = lab.host("laptop", &[&lan]);
    let _responder = announce(&device, service("known", 6789));
    Search::start(&laptop).until_reachable("fleetd-known", device.address().into());
    let wire = Wire::join(&laptop);
    wire.wait_for_quiet();
    let pointer = RData::PTR(PTR(name("fleetd-known._fleetd._tcp.local")));
    let known = ResourceRecord::new(name("_fleetd._tcp.local"), CLASS::IN, 4000, pointer);
    let mut knowing = query(0, "_fleetd._tcp.local", TYPE::PTR, false);
    knowing.answers.push(known.clone());
    wire.send(&knowing);
    // The next answer is to the next question, so there was none to the first.
    wire.send(&query(0, "known.local", TYPE::A, false));
    wire.receive(|packet, source| {
        let answers = (source.ip() == IpAddr::from(device.address())).then_some(&packet.answers)?;
        assert!(!answers.contains(&known), "{packet:?}");
        answers.iter().any(|record| record.name == name("known.local")).then_some(())
    });
    // Known, but not for long enough: said again.
    knowing.answers[0].ttl = 1000;
    wire.send(&knowing);
    wire.receive(|packet, source| {
        let ours = source.ip() == IpAddr::from(device.address());
        (ours && packet.answers.contains(&known)).then_some(())
    });
}

#[test]
fn what_was_heard_in_one_family_is_still_asked_for_in_the_other() {
    let mut lab = Lab::new();
    let lan = lab.lan();
    let [six, both, laptop, ear] =
        ["six", "both", "laptop", "ear"].map(|name| lab.host(name, &[&lan]));
    six.ip(&["-4", "address", "flush", "dev", "eth0"]);
    let _first = announce(&six, service("six", 6789));
    let mut search = Search::start(&laptop);
    search.until_reachable("fleetd-six", "fe80::1".parse().expect("an address"));
    let _second = announce(&both, service("both", 6789));
    search.until_reachable("fleetd-both", both.address().into());
    // A query that says what is known by now, of whoever may hear it.
    let known = Wire::join(&ear).receive(|packet, source| {
        let pointers = packet.answers.iter().filter_map(|record| match &record.rdata {
            RData::PTR(PTR(target)) => Some(target.clone().into_owned()),
            _ => None,
        });
        let known: Vec<Name<'static>> = pointers.collect();
        let is_ours = source.ip() == IpAddr::from(laptop.address());
        (is_ours && known.contains(&name("fleetd-both._fleetd._tcp.local"))).then_some(known)
    });
    assert!(!known.contains(&name("fleetd-six._fleetd._tcp.local")), "{known:?}");
}

#[test]
fn t01_an_impostor_is_shown_beside_the_device_and_never_instead_of_it() {
    let mut lab = Lab::new();
    let lan = lab.lan();
    let device = lab.host("device", &[&lan]);
    let laptop = lab.host("laptop", &[&lan]);
    let evil = lab.host("evil", &[&lan]);
    let _responder = announce(&device, service("rpi4-001", 6789));
    let mut search = Search::start(&laptop);
    let honest = search.until_reachable("fleetd-rpi4-001", device.address().into());
    let instance = name("fleetd-rpi4-001._fleetd._tcp.local");
    let host = name("evil.local");
    let record = |name: &Name<'static>, rdata| {
        ResourceRecord::new(name.clone(), CLASS::IN, 120, rdata).with_cache_flush(true)
    };
    let mut packet = Packet::new_reply(0);
    let srv = SRV { priority: 0, weight: 0, port: 22, target: host.clone() };
    let txt = TXT::new().with_attribute("id", Some(b"rpi4-001")).expect("an attribute");
    packet.answers = vec![
        record(&instance, RData::SRV(srv)),
        record(&instance, RData::TXT(txt)),
        // The victim's address, one that leads into the browser's own machine, and its own.
        record(&host, RData::A(A::from(device.address()))),
        record(&host, RData::A(A::from(Ipv4Addr::LOCALHOST))),
        record(&host, RData::A(A::from(evil.address()))),
    ];
    Wire::open(&evil, MDNS_PORT).send(&packet);
    let false_one = search.until("the impostor", |event| {
        shown(event).filter(|instance| instance.port == 22).cloned()
    });
    assert_eq!(false_one.name, honest.name);
    assert_ne!(false_one.key, honest.key);
    for address in &false_one.addresses {
        assert_eq!(address.sourced, address.ip == IpAddr::from(evil.address()), "{address:?}");
        assert!(!address.ip.is_loopback());
    }
    // The impostor does not defend what it claimed, so the name stays the device's.
    let mut afresh = Search::start(&laptop);
    let still = afresh.until_reachable("fleetd-rpi4-001", device.address().into());
    assert_eq!(still.port, 6789);
}
