//! Any bytes at all, and what was once a packet of ours.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use proptest::prelude::*;
use simple_dns::{PacketFlag, TYPE};
use tokio::time::Instant;

use super::{LINK, SERVICE, ask, ip, name, service};
use crate::mdns::authority::Authority;
use crate::mdns::cache::Cache;
use crate::mdns::claim::Source;
use crate::mdns::interfaces::{Link, Net};
use crate::mdns::links::Family;
use crate::mdns::packet::{self, SEND_BYTES_MAX};
use crate::mdns::records::{self, Names};

/// Puts bytes through all that handles packets.
fn swallow(bytes: &[u8]) {
    let now = Instant::now();
    let address = ip("10.0.0.1");
    let link = Link {
        index: LINK,
        name: "eth0".to_owned(),
        loopback: false,
        nets: vec![Net { address, prefix: 24 }],
    };
    let mut authority = Authority::new(service("a", 1)).unwrap();
    let mut cache = Cache::new(name(SERVICE));
    authority.follow(&[link], &[LINK], &BTreeSet::from([address]), now);
    let Some(packet) = packet::parse(bytes) else { return };
    let mut out = Vec::new();
    for seconds in 0..6 {
        let now = now + Duration::from_secs(seconds);
        for port in [5353, 1024] {
            let source = SocketAddr::new(ip("10.0.0.2"), port);
            authority.on_packet(LINK, source, &packet, now, &mut out);
            let source = Source { ip: ip("10.0.0.2"), link: LINK, loopback: false };
            cache.on_packet(source, port, &packet, now);
        }
        authority.on_time(now, &mut out);
        let asked =
            cache.follow_up(now).into_values().chain([cache.inquiry(LINK, Family::V4, now)]);
        for inquiry in asked {
            let packets = packet::queries(inquiry.questions, inquiry.known);
            assert!(packets.iter().all(|bytes| bytes.len() <= SEND_BYTES_MAX));
        }
        while cache.next_event().is_some() {}
    }
    assert!(out.iter().all(|outgoing| outgoing.bytes.len() <= SEND_BYTES_MAX));
}

fn announcement() -> Vec<u8> {
    let names = Names::new("_fleetd._tcp", "fleetd-b", "b").unwrap();
    let txt = records::txt_data(&[("id".to_owned(), "b".to_owned())]).unwrap();
    let addresses = [ip("10.0.0.2"), ip("fe80::2")];
    let records = records::records(&names, 6789, &txt, addresses.into_iter());
    packet::responses(records, Vec::new()).remove(0)
}

proptest! {
    #[test]
    fn any_bytes_are_swallowed(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        swallow(&bytes);
    }

    #[test]
    fn any_bytes_after_a_header_are_swallowed(
        counts in proptest::collection::vec(0_u8..4, 4),
        response in any::<bool>(),
        body in proptest::collection::vec(prop_oneof![Just(0), Just(0xc0), Just(12), 0_u8..70, any::<u8>()], 0..300),
    ) {
        let mut bytes = vec![0, 0, if response { 0x84 } else { 0 }, 0];
        bytes.extend(counts.iter().flat_map(|count| [0, *count]));
        bytes.extend(body);
        swallow(&bytes);
    }

    #[test]
    fn a_damaged_packet_is_swallowed(
        damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8),
        kept in any::<prop::sample::Index>(),
    ) {
        let mut bytes = announcement();
        for (index, byte) in damage {
            let at = index.index(bytes.len());
            bytes[at] = byte;
        }
        swallow(&bytes);
        swallow(&bytes[..kept.index(bytes.len())]);
    }
}

#[test]
fn what_is_written_can_be_read() {
    let bytes = announcement();
    let packet = packet::parse(&bytes).unwrap();
    assert_eq!(packet.answers.len(), 6);
    assert!(bytes.len() < 250, "names are compressed: {} bytes", bytes.len());
}

#[test]
fn a_header_cannot_ask_for_more_memory_than_it_brings() {
    let mut bytes = vec![0; 12];
    bytes[4..12].fill(0xff);
    assert!(packet::parse(&bytes).is_none());
    assert!(packet::parse(&[]).is_none());
    assert!(packet::parse(&bytes[..11]).is_none());
}

#[test]
fn long_lists_of_known_answers_are_split_and_marked() {
    let asks = ask(SERVICE, TYPE::PTR).questions;
    let names = Names::new("_fleetd._tcp", "fleetd-b", "b").unwrap();
    let txt = records::txt_data(&[]).unwrap();
    let pointer = records::records(&names, 1, &txt, std::iter::empty()).remove(0);
    let packets = packet::queries(asks, vec![pointer; 100]);
    assert!(packets.len() > 1);
    let mut known = 0;
    for (position, bytes) in packets.iter().enumerate() {
        assert!(bytes.len() <= SEND_BYTES_MAX);
        let packet = packet::parse(bytes).unwrap();
        let truncated = packet.has_flags(PacketFlag::TRUNCATION);
        assert_eq!(truncated, position + 1 < packets.len());
        assert_eq!(packet.questions.len(), usize::from(position == 0));
        known += packet.answers.len();
    }
    assert_eq!(known, 100);
}
