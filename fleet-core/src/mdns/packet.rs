//! Packets to bytes and back, within the sizes that every link carries whole.
//!
//! Decoding takes any bytes: what cannot be a packet is `None`, never a panic, and never an
//! allocation larger than the bytes justify.

use std::cmp::Ordering;
use std::net::IpAddr;

use simple_dns::rdata::RData;
use simple_dns::{CLASS, Name, OPCODE, Packet, PacketFlag, QTYPE, Question, ResourceRecord, TYPE};

pub(super) const MDNS_PORT: u16 = 5353;
/// Bytes of a packet that we send: IPv6, UDP and this fit into an Ethernet frame.
pub(super) const SEND_BYTES_MAX: usize = 1440;
/// Bytes of a packet that we read (RFC 6762 §17).
pub(super) const RECEIVE_BYTES_MAX: usize = 9000;
/// How long a resolver that knows no multicast may keep an answer.
const LEGACY_TTL_SECS: u32 = 10;

const HEADER_BYTES: usize = 12;
const QUESTION_BYTES_MIN: usize = 5;
const RECORD_BYTES_MIN: usize = 11;

/// Reads a packet; `None` for bytes that are none, or that are no standard query or response.
pub(super) fn parse(bytes: &[u8]) -> Option<Packet<'_>> {
    if !counts_are_possible(bytes) {
        return None;
    }
    let packet = Packet::parse(bytes).ok()?;
    (packet.opcode() == OPCODE::StandardQuery).then_some(packet)
}

/// A question for everybody: never one that asks for a unicast reply, since another program on
/// this machine's port 5353 might get it.
pub(super) fn question(name: Name<'static>, qtype: impl Into<QTYPE>) -> Question<'static> {
    Question::new(name, qtype.into(), CLASS::IN.into(), false)
}

/// A probe: may we have these names, for these records?
pub(super) fn probe(
    questions: Vec<Question<'static>>,
    proposed: Vec<ResourceRecord<'static>>,
) -> Vec<u8> {
    let mut packet = Packet::new_query(0);
    packet.questions = questions;
    packet.name_servers =
        proposed.into_iter().map(|record| record.with_cache_flush(false)).collect();
    encode(&packet)
}

/// A query with the answers that we already have. Each packet but the last says that more known
/// answers follow.
pub(super) fn queries(
    questions: Vec<Question<'static>>,
    known: Vec<ResourceRecord<'static>>,
) -> Vec<Vec<u8>> {
    let mut packets = Vec::new();
    let mut packet = Packet::new_query(0);
    let mut room = SEND_BYTES_MAX - HEADER_BYTES;
    for question in questions {
        let bytes = name_len(&question.qname) + 4;
        if bytes > room {
            packets.push(encode(&packet));
            packet = Packet::new_query(0);
            room = SEND_BYTES_MAX - HEADER_BYTES;
        }
        room -= bytes;
        packet.questions.push(question);
    }
    for record in known {
        let bytes = record_len(&record);
        if bytes > room {
            packet.set_flags(PacketFlag::TRUNCATION);
            packets.push(encode(&packet));
            packet = Packet::new_query(0);
            room = SEND_BYTES_MAX - HEADER_BYTES;
        }
        room -= bytes;
        packet.answers.push(record);
    }
    packets.push(encode(&packet));
    packets
}

/// A response in as many packets as it takes; additional records only as far as the last has
/// room.
pub(super) fn responses(
    answers: Vec<ResourceRecord<'static>>,
    additional: Vec<ResourceRecord<'static>>,
) -> Vec<Vec<u8>> {
    let mut packets = Vec::new();
    let mut packet = new_response(0);
    let mut room = SEND_BYTES_MAX - HEADER_BYTES;
    for record in answers {
        let bytes = record_len(&record);
        if bytes > room {
            packets.push(encode(&packet));
            packet = new_response(0);
            room = SEND_BYTES_MAX - HEADER_BYTES;
        }
        room -= bytes;
        packet.answers.push(record);
    }
    add_while_room(&mut packet, additional, room);
    packets.push(encode(&packet));
    packets
}

/// A response for a resolver that knows no multicast (RFC 6762 §6.7): its question and id come
/// back, nothing is to be flushed, and nothing kept for long.
pub(super) fn legacy_response(
    query: &Packet<'_>,
    answers: Vec<ResourceRecord<'static>>,
    additional: Vec<ResourceRecord<'static>>,
) -> Vec<u8> {
    let plain = |record: ResourceRecord<'static>| {
        let ttl = record.ttl.min(LEGACY_TTL_SECS);
        ResourceRecord { ttl, cache_flush: false, ..record }
    };
    let mut packet = new_response(query.id());
    let mut room = SEND_BYTES_MAX - HEADER_BYTES;
    for question in &query.questions {
        let bytes = name_len(&question.qname) + 4;
        if bytes > room {
            break;
        }
        room -= bytes;
        packet.questions.push(question.clone());
    }
    for record in answers {
        let bytes = record_len(&record);
        if bytes > room {
            packet.set_flags(PacketFlag::TRUNCATION);
            break;
        }
        room -= bytes;
        packet.answers.push(plain(record));
    }
    add_while_room(&mut packet, additional.into_iter().map(plain).collect(), room);
    encode(&packet)
}

/// Which of two sets of records wins when two hosts probe for one name at once (RFC 6762 §8.2):
/// the one that is later in the order of class, type and data.
pub(super) fn tie_break(ours: &[&ResourceRecord<'_>], theirs: &[&ResourceRecord<'_>]) -> Ordering {
    let order = |records: &[&ResourceRecord<'_>]| {
        let mut keys: Vec<_> = records.iter().map(|record| sort_key(record)).collect();
        keys.sort();
        keys
    };
    order(ours).cmp(&order(theirs))
}

/// The address that an A or AAAA record gives.
pub(super) fn address_of(record: &ResourceRecord<'_>) -> Option<IpAddr> {
    match &record.rdata {
        RData::A(a) => Some(IpAddr::V4(a.address.into())),
        RData::AAAA(aaaa) => Some(IpAddr::V6(aaaa.address.into())),
        _ => None,
    }
}

fn sort_key(record: &ResourceRecord<'_>) -> (u16, u16, Vec<u8>) {
    let kind = u16::from(record.rdata.type_code());
    (record.class as u16, kind, rdata_bytes(record))
}

/// The record's data as it would be on the wire without compression.
fn rdata_bytes(record: &ResourceRecord<'_>) -> Vec<u8> {
    let mut packet = Packet::new_query(0);
    packet.answers.push(record.clone());
    // The codec does not promise to write whatever it has read from a stranger.
    let bytes = packet.build_bytes_vec().unwrap_or_default();
    let data = bytes.get(HEADER_BYTES + name_len(&record.name) + RECORD_BYTES_MIN - 1..);
    data.unwrap_or_default().to_vec()
}

fn new_response<'a>(id: u16) -> Packet<'a> {
    let mut packet = Packet::new_reply(id);
    packet.set_flags(PacketFlag::AUTHORITATIVE_ANSWER);
    packet
}

fn add_while_room<'a>(
    packet: &mut Packet<'a>,
    additional: Vec<ResourceRecord<'a>>,
    mut room: usize,
) {
    for record in additional {
        let bytes = record_len(&record);
        if bytes <= room {
            room -= bytes;
            packet.additional_records.push(record);
        }
    }
}

/// Writes a packet of our own records; of a stranger's there are only questions in it.
fn encode(packet: &Packet<'_>) -> Vec<u8> {
    let bytes = packet.build_bytes_vec_compressed();
    bytes.expect("names, addresses, SRV, TXT and PTR data can always be written to a Vec")
}

/// Bytes of a name without compression, so an upper bound.
fn name_len(name: &Name<'_>) -> usize {
    name.as_bytes().map(|label| label.len() + 1).sum::<usize>() + 1
}

/// Bytes of a record without compression, so an upper bound.
fn record_len(record: &ResourceRecord<'_>) -> usize {
    name_len(&record.name) + RECORD_BYTES_MIN - 1 + rdata_bytes(record).len()
}

/// Whether the header's counts can be true of so few bytes. The codec reserves room for as many
/// as the header says, so a short packet could otherwise ask for megabytes.
fn counts_are_possible(bytes: &[u8]) -> bool {
    let count = |at: usize| {
        let pair = bytes.get(at..at + 2).and_then(|pair| pair.try_into().ok());
        pair.map_or(usize::MAX / 64, |pair| usize::from(u16::from_be_bytes(pair)))
    };
    let records = count(6).saturating_add(count(8)).saturating_add(count(10));
    let least = count(4)
        .saturating_mul(QUESTION_BYTES_MIN)
        .saturating_add(records.saturating_mul(RECORD_BYTES_MIN));
    least.saturating_add(HEADER_BYTES) <= bytes.len()
}

/// Whether a question asks for a record of this type.
pub(super) fn asks_for(question: &Question<'_>, record: &ResourceRecord<'_>) -> bool {
    let kind: TYPE = record.rdata.type_code();
    let type_fits = match question.qtype {
        QTYPE::ANY => true,
        QTYPE::TYPE(asked) => asked == kind,
        QTYPE::IXFR | QTYPE::AXFR | QTYPE::MAILB | QTYPE::MAILA => false,
    };
    type_fits && record.match_qclass(question.qclass) && record.name == question.qname
}
