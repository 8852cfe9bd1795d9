//! Probing, announcing, answering, giving way.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use simple_dns::rdata::{A, PTR, RData, SRV};
use simple_dns::{CLASS, Packet, PacketFlag, QTYPE, ResourceRecord, TYPE};

use super::{Ether, SERVICE, Said, ask, ip, name, service, socket};
use crate::mdns::authority::Authority;
use crate::mdns::links::To;
use crate::mdns::packet;
use crate::mdns::records::txt_data;

const INSTANCE: &str = "fleetd-a._fleetd._tcp.local";
const STRANGER: &str = "10.0.0.99";

fn srv_of(instance: &str, port: u16) -> ResourceRecord<'static> {
    let data = SRV { priority: 0, weight: 0, port, target: name("stranger.local") };
    ResourceRecord::new(name(instance), CLASS::IN, 120, RData::SRV(data)).with_cache_flush(true)
}

fn response(records: Vec<ResourceRecord<'static>>) -> Packet<'static> {
    let mut packet = Packet::new_reply(0);
    packet.answers = records;
    packet
}

fn pointer() -> ResourceRecord<'static> {
    ResourceRecord::new(name(SERVICE), CLASS::IN, 4500, RData::PTR(PTR(name(INSTANCE))))
}

#[test]
fn three_probes_then_two_announcements() {
    let mut ether = Ether::new();
    ether.join("10.0.0.1", service("a", 1));
    ether.pass(Duration::from_millis(700));
    ether.hear(socket(STRANGER), &ask(SERVICE, TYPE::PTR));
    ether.pass(Duration::from_secs(60));
    let said = ether.take_said();
    let kinds: Vec<bool> = said.iter().map(Said::is_probe).collect();
    // The question fell into the probing, so nobody answered it.
    assert_eq!(kinds, [true, true, true, false, false]);
    let gaps: Vec<u128> =
        said.windows(2).map(|pair| pair[1].at.saturating_sub(pair[0].at).as_millis()).collect();
    assert_eq!(gaps, [250, 250, 250, 1000]);
    let announced = said[3].packet();
    for record in &announced.answers {
        let shared = record.rdata.type_code() == TYPE::PTR;
        assert_eq!(record.cache_flush, !shared, "{record:?}");
    }
    let kinds: BTreeSet<u16> =
        announced.answers.iter().map(|record| record.rdata.type_code().into()).collect();
    assert_eq!(kinds, [TYPE::PTR, TYPE::SRV, TYPE::TXT, TYPE::A].map(u16::from).into());
}

#[test]
fn a_goodbye_takes_back_the_service_and_nothing_else() {
    let ether = Ether::settled("10.0.0.1", service("a", 1));
    let mut out = Vec::new();
    ether.hosts[0].1.goodbye(&mut out);
    let [outgoing] = out.as_slice() else { panic!("{out:?}") };
    let packet = packet::parse(&outgoing.bytes).unwrap();
    let kinds: Vec<TYPE> = packet.answers.iter().map(|record| record.rdata.type_code()).collect();
    assert_eq!(kinds, [TYPE::PTR, TYPE::SRV, TYPE::TXT]);
    assert!(packet.answers.iter().all(|record| record.ttl == 0));
    assert!(!packet.answers[0].cache_flush && packet.answers[0].name == name(SERVICE));
}

#[test]
fn a_record_is_multicast_once_a_second_at_most() {
    let mut ether = Ether::settled("10.0.0.1", service("a", 1));
    for _ in 0..50 {
        ether.hear(socket(STRANGER), &ask(SERVICE, TYPE::PTR));
        ether.pass(Duration::from_millis(100));
    }
    ether.pass(Duration::from_secs(5));
    let said = ether.take_said();
    assert!((5..=7).contains(&said.len()), "{said:#?}");
    let apart = |pair: &[Said]| pair[1].at.saturating_sub(pair[0].at) >= Duration::from_secs(1);
    assert!(said.windows(2).all(apart), "{said:#?}");
}

#[test]
fn a_pointer_comes_with_all_that_is_needed_to_connect() {
    let mut ether = Ether::settled("10.0.0.1", service("a", 1));
    ether.hear(socket(STRANGER), &ask(SERVICE, TYPE::PTR));
    ether.pass(Duration::from_millis(120));
    let said = ether.take_said();
    let [said] = said.as_slice() else { panic!("{said:#?}") };
    let packet = said.packet();
    assert!(said.has_answer(SERVICE, TYPE::PTR));
    let more: Vec<TYPE> =
        packet.additional_records.iter().map(|record| record.rdata.type_code()).collect();
    assert_eq!(more, [TYPE::SRV, TYPE::TXT, TYPE::A]);
}

#[test]
fn what_the_asker_knows_is_left_out() {
    let mut ether = Ether::settled("10.0.0.1", service("a", 1));
    let mut query = ask(SERVICE, TYPE::PTR);
    query.answers.push(pointer());
    ether.hear(socket(STRANGER), &query);
    ether.pass(Duration::from_secs(5));
    assert!(ether.take_said().is_empty());
    query.answers[0].ttl = 4500 / 2 - 1;
    ether.hear(socket(STRANGER), &query);
    ether.pass(Duration::from_secs(5));
    assert_eq!(ether.take_said().len(), 1);
}

#[test]
fn known_answers_may_follow_in_a_second_packet() {
    let mut ether = Ether::settled("10.0.0.1", service("a", 1));
    let mut query = ask(SERVICE, TYPE::PTR);
    query.set_flags(PacketFlag::TRUNCATION);
    let mut more = Packet::new_query(0);
    more.answers.push(pointer());
    for (source, answers) in [(STRANGER, 0), ("10.0.0.98", 1)] {
        ether.hear(socket(STRANGER), &query);
        ether.pass(Duration::from_millis(300));
        // Only the asker itself can say that it knows.
        ether.hear(socket(source), &more);
        ether.pass(Duration::from_secs(5));
        assert_eq!(ether.take_said().len(), answers, "from {source}");
    }
}

#[test]
fn a_program_that_knows_does_not_silence_us_for_its_neighbour_that_asks() {
    let mut ether = Ether::settled("10.0.0.1", service("a", 1));
    let asking = ask(SERVICE, TYPE::PTR);
    let mut knowing = asking.clone();
    knowing.answers.push(pointer());
    ether.hear(socket(STRANGER), &asking);
    ether.hear(socket(STRANGER), &knowing);
    ether.pass(Duration::from_secs(5));
    assert_eq!(ether.take_said().len(), 1);
}

#[test]
fn of_many_hosts_one_lists_the_type() {
    let mut ether = Ether::new();
    for number in 1..=20 {
        ether.join(&format!("10.0.0.{number}"), service(&format!("a{number}"), 1));
    }
    ether.pass(Duration::from_secs(30));
    ether.take_said();
    ether.hear(socket(STRANGER), &ask("_services._dns-sd._udp.local", TYPE::PTR));
    ether.pass(Duration::from_secs(5));
    assert_eq!(ether.take_said().len(), 1);
}

#[test]
fn a_unicast_question_is_answered_to_its_asker() {
    let mut ether = Ether::settled("10.0.0.1", service("a", 1));
    let mut query = ask(INSTANCE, TYPE::SRV);
    query.questions[0].unicast_response = true;
    ether.hear(socket(STRANGER), &query);
    let said = ether.take_said();
    let [said] = said.as_slice() else { panic!("{said:#?}") };
    assert_eq!(said.to, To::Host(socket(STRANGER)));
    // When nobody has heard the record for long, all get to hear it.
    ether.pass(Duration::from_secs(31));
    ether.hear(socket(STRANGER), &query);
    ether.pass(Duration::from_secs(1));
    let to: Vec<_> = ether.take_said().iter().map(|said| said.to).collect();
    assert_eq!(to, [To::Host(socket(STRANGER)), To::All]);
}

#[test]
fn a_probe_for_our_name_is_answered_at_once() {
    let mut ether = Ether::settled("10.0.0.1", service("a", 1));
    let asks = packet::question(name(INSTANCE), QTYPE::ANY);
    let probe = packet::probe(vec![asks], vec![srv_of(INSTANCE, 9)]);
    ether.hear(socket(STRANGER), &packet::parse(&probe).unwrap());
    let said = ether.take_said();
    assert!(said.iter().any(|said| said.has_answer(INSTANCE, TYPE::SRV)), "{said:#?}");
}

#[test]
fn the_first_keeps_its_name() {
    let mut ether = Ether::settled("10.0.0.1", service("a", 1));
    ether.join("10.0.0.2", service("a", 2));
    ether.pass(Duration::from_secs(30));
    assert_eq!(ether.instances(), ["fleetd-a", "fleetd-a (2)"]);
    let said = ether.take_said();
    assert!(
        said.iter()
            .any(|said| said.by == ip("10.0.0.2") && said.has_answer("a-k3xq2m.local", TYPE::A))
    );
}

#[test]
fn many_that_start_together_end_with_different_names() {
    let mut ether = Ether::new();
    for number in 1..=6 {
        let mut service = service("a", number);
        service.host_alternative = format!("a-{number}");
        ether.join(&format!("10.0.0.{number}"), service);
    }
    ether.pass(Duration::from_secs(120));
    let names: BTreeSet<&str> = ether.instances().into_iter().collect();
    assert_eq!(names.len(), 6, "{names:?}");
    assert!(names.contains("fleetd-a"));
    ether.take_said();
    ether.pass(Duration::from_secs(3600));
    assert!(ether.take_said().is_empty(), "nobody quarrels any more");
}

#[test]
fn many_that_want_one_host_name_are_soon_there() {
    let mut ether = Ether::new();
    for number in 1..=30 {
        let mut service = service(&format!("a{number}"), number);
        service.host = "shared".to_owned();
        ether.join(&format!("10.0.0.{number}"), service);
    }
    ether.pass(Duration::from_secs(8));
    let said = ether.take_said();
    for number in 1..=30 {
        let full = format!("fleetd-a{number}._fleetd._tcp.local");
        assert!(said.iter().any(|said| said.has_answer(&full, TYPE::SRV)), "a{number} is silent");
    }
}

#[test]
fn a_claim_that_nobody_defends_takes_no_name_away() {
    let mut ether = Ether::settled("10.0.0.1", service("a", 1));
    ether.hear(socket(STRANGER), &response(vec![srv_of(INSTANCE, 9)]));
    ether.pass(Duration::from_secs(10));
    assert_eq!(ether.instances(), ["fleetd-a"]);
    let said = ether.take_said();
    assert_eq!(said.iter().filter(|said| said.is_probe()).count(), 3);
    assert!(said.iter().any(|said| said.has_answer(INSTANCE, TYPE::SRV)));
}

#[test]
fn a_stubborn_rival_cannot_make_us_noisy() {
    let mut ether = Ether::settled("10.0.0.1", service("a", 1));
    let lines = Arc::new(AtomicUsize::new(0));
    let written = lines.clone();
    let log = tracing_subscriber::fmt().with_writer(move || {
        written.fetch_add(1, Ordering::Relaxed);
        io::sink()
    });
    let mut names = BTreeSet::new();
    tracing::subscriber::with_default(log.finish(), || {
        for _ in 0..600 {
            let taken = format!("{}._fleetd._tcp.local", ether.instances()[0]);
            ether.hear(socket(STRANGER), &response(vec![srv_of(&taken, 9)]));
            ether.pass(Duration::from_millis(100));
            names.extend(ether.instances().into_iter().map(str::to_owned));
        }
    });
    let packets = ether.take_said().len();
    assert!(packets < 60, "{packets} packets in a minute");
    assert!((2..32).contains(&names.len()), "{} names in a minute", names.len());
    let lines = lines.load(Ordering::Relaxed);
    assert!((1..16).contains(&lines), "{lines} lines in a minute");
}

#[test]
fn this_machines_own_addresses_are_no_conflict() {
    let mut ether = Ether::settled("10.0.0.1", service("a", 1));
    let own =
        ResourceRecord::new(name("a.local"), CLASS::IN, 120, RData::A(A { address: 0x0a00_0001 }));
    ether.hear(socket(STRANGER), &response(vec![own.clone()]));
    ether.pass(Duration::from_secs(5));
    assert!(ether.take_said().is_empty());
    let foreign = ResourceRecord { rdata: RData::A(A { address: 0x0a00_0063 }), ..own };
    ether.hear(socket(STRANGER), &response(vec![foreign]));
    ether.pass(Duration::from_secs(5));
    assert!(ether.take_said().iter().any(Said::is_probe));
}

#[test]
fn new_text_is_announced_and_old_text_is_no_conflict() {
    let mut ether = Ether::settled("10.0.0.1", service("a", 1));
    ether.hear(socket(STRANGER), &ask(INSTANCE, TYPE::TXT));
    let old = ether.take_said();
    let txt = txt_data(&[("st".to_owned(), "claimed".to_owned())]).unwrap();
    let now = ether.now;
    ether.hosts[0].1.set_txt(txt, now);
    ether.hear(socket("10.0.0.1"), &old[0].packet());
    ether.pass(Duration::from_secs(10));
    let said = ether.take_said();
    assert_eq!(said.len(), 2, "{said:#?}");
    assert!(said.iter().all(|said| said.has_answer(INSTANCE, TYPE::TXT)));
}

#[test]
fn the_fullest_service_still_fits_into_its_packets() {
    let mut full = service("a", 1);
    full.instance = "x".repeat(63);
    full.host = "h".repeat(63);
    full.host_alternative = "i".repeat(63);
    full.txt = (0..4).map(|number| (format!("k{number}"), "v".repeat(220))).collect();
    let mut ether = Ether::settled("10.0.0.1", full.clone());
    ether.hear(socket(STRANGER), &ask(SERVICE, TYPE::PTR));
    ether.pass(Duration::from_secs(5));
    assert!(!ether.take_said().is_empty());
    full.txt.push(("k4".to_owned(), "v".to_owned()));
    full.txt.push(("k5".to_owned(), "v".repeat(20)));
    assert!(Authority::new(full).is_err());
}
