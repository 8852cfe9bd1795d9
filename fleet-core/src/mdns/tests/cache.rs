//! What is believed of whom, for how long, and how much of it.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use simple_dns::rdata::{RData, SRV, TXT};
use simple_dns::{Packet, ResourceRecord, TYPE};
use tokio::time::Instant;

use super::{LINK, SERVICE, ip, name};
use crate::mdns::budget::QUESTIONS_MAX;
use crate::mdns::cache::{CLAIMS_MAX, Cache, SOURCE_CLAIMS_MAX};
use crate::mdns::claim::{ATTRIBUTES_MAX, Source};
use crate::mdns::instance::{Event, Instance};
use crate::mdns::links::Family;
use crate::mdns::packet::MDNS_PORT;
use crate::mdns::records::{Names, records, txt_data};

struct Heard {
    cache: Cache,
    now: Instant,
}

impl Heard {
    fn new() -> Self {
        Self { cache: Cache::new(name(SERVICE)), now: Instant::now() }
    }

    fn take(&mut self, source: &str, records: &[ResourceRecord<'static>]) {
        let mut packet = Packet::new_reply(0);
        packet.answers = records.to_vec();
        let source = Source { ip: ip(source), link: LINK, loopback: false };
        self.cache.on_packet(source, MDNS_PORT, &packet, self.now);
    }

    fn pass(&mut self, seconds: u64) {
        self.now += Duration::from_secs(seconds);
        self.cache.expire(self.now);
    }

    fn begin_rounds(&mut self, count: u32) {
        for _ in 0..count {
            self.cache.begin_round();
        }
    }

    fn events(&mut self) -> Vec<Event> {
        std::iter::from_fn(|| self.cache.next_event()).collect()
    }

    /// The one thing to tell.
    #[track_caller]
    fn event(&mut self) -> Event {
        let mut events = self.events();
        assert_eq!(events.len(), 1, "{events:#?}");
        events.remove(0)
    }

    /// The questions of a second-by-second upkeep.
    fn asked(&mut self, seconds: u64) -> Vec<(u64, TYPE)> {
        let mut asked = Vec::new();
        for second in 1..=seconds {
            self.pass(1);
            for inquiry in self.cache.follow_up(self.now).values() {
                for question in &inquiry.questions {
                    let simple_dns::QTYPE::TYPE(kind) = question.qtype else { panic!() };
                    asked.push((second, kind));
                }
            }
        }
        asked
    }
}

fn device(instance: &str, text: &str, addresses: &[&str]) -> Vec<ResourceRecord<'static>> {
    let names = Names::new("_fleetd._tcp", instance, "host").unwrap();
    let txt = txt_data(&[("fp".to_owned(), text.to_owned())]).unwrap();
    records(&names, 6789, &txt, addresses.iter().map(|address| ip(address)))
}

fn sourced(instance: &Instance) -> Vec<IpAddr> {
    let addresses = instance.addresses.iter().filter(|address| address.sourced);
    addresses.map(|address| address.ip).collect()
}

#[test]
fn one_host_in_two_families_is_one_instance() {
    let mut heard = Heard::new();
    let both = ["10.0.0.1", "fe80::1"];
    heard.take("fe80::1", &device("a", "one", &both));
    let Event::Found(first) = heard.event() else { panic!() };
    assert_eq!(sourced(&first), [ip("fe80::1")]);
    assert_eq!(first.addresses.len(), 2);
    heard.take("10.0.0.1", &device("a", "one", &both));
    let Event::Updated(merged) = heard.event() else { panic!() };
    assert_eq!(merged.key, first.key);
    assert_eq!(sourced(&merged), both.map(ip));
    // Its text changes, and one of the two packets that say so is lost.
    heard.take("10.0.0.1", &device("a", "two", &both));
    let Event::Updated(changed) = heard.event() else { panic!() };
    assert_eq!(changed.txt[..], [("fp".into(), "two".into())]);
    assert_eq!(changed.key, first.key);
}

#[test]
fn hosts_that_contradict_each_other_are_both_shown() {
    let mut heard = Heard::new();
    heard.take("10.0.0.1", &device("a", "honest", &["10.0.0.1"]));
    // The second says that it has the first one's address too, which makes it no kin of it.
    heard.take("10.0.0.66", &device("a", "evil", &["10.0.0.66", "10.0.0.1"]));
    let found: Vec<Instance> = heard
        .events()
        .into_iter()
        .map(|event| match event {
            Event::Found(instance) => instance,
            Event::Updated(_) | Event::Lost(_) => panic!("{event:?}"),
        })
        .collect();
    let [honest, evil] = found.as_slice() else { panic!("{found:#?}") };
    assert_eq!(honest.name, evil.name);
    assert_eq!(sourced(honest), [ip("10.0.0.1")]);
    assert_eq!(sourced(evil), [ip("10.0.0.66")]);
    // Nor can it take back what the first one said.
    let gone: Vec<_> = device("a", "honest", &[])
        .into_iter()
        .map(|record| ResourceRecord { ttl: 0, ..record })
        .collect();
    heard.take("10.0.0.66", &gone);
    assert_eq!(heard.events(), [Event::Lost(evil.clone())]);
}

#[test]
fn a_goodbye_in_one_family_is_enough() {
    let mut heard = Heard::new();
    let both = ["10.0.0.1", "fe80::1"];
    for source in both {
        heard.take(source, &device("a", "one", &both));
    }
    heard.events();
    let gone: Vec<_> = device("a", "one", &[])
        .into_iter()
        .map(|record| ResourceRecord { ttl: 0, ..record })
        .collect();
    heard.take("fe80::1", &gone);
    assert!(matches!(heard.events().as_slice(), [Event::Lost(_)]));
}

#[test]
fn an_incomplete_claim_is_asked_about_and_not_shown() {
    let mut heard = Heard::new();
    heard.take("10.0.0.1", &device("a", "one", &[])[..1]);
    assert!(heard.events().is_empty());
    let asked = heard.asked(60);
    let srv: Vec<u64> =
        asked.iter().filter(|(_, kind)| *kind == TYPE::SRV).map(|(at, _)| *at).collect();
    assert_eq!(srv, [1, 2, 4, 8], "and then no more");
    heard.take("10.0.0.1", &device("a", "one", &["10.0.0.1"]));
    assert!(matches!(heard.events().as_slice(), [Event::Found(_)]));
}

#[test]
fn what_ages_is_asked_for_and_what_lapses_is_lost() {
    let mut heard = Heard::new();
    heard.take("10.0.0.1", &device("a", "one", &["10.0.0.1"]));
    heard.events();
    let asked = heard.asked(119);
    let of = |wanted| asked.iter().filter(move |(_, kind)| *kind == wanted).map(|(at, _)| *at);
    assert_eq!(of(TYPE::SRV).collect::<Vec<_>>(), [96, 102, 108, 114]);
    assert_eq!(of(TYPE::A).collect::<Vec<_>>(), [96, 102, 108, 114]);
    assert_eq!(of(TYPE::TXT).count(), 0);
    assert!(heard.events().is_empty());
    heard.pass(1);
    assert!(matches!(heard.events().as_slice(), [Event::Lost(_)]));
    // Answered in time, it stays, and nobody is told.
    heard.take("10.0.0.1", &device("a", "one", &["10.0.0.1"]));
    heard.events();
    for _ in 0..20 {
        assert!(heard.asked(100).iter().any(|(at, _)| *at == 96));
        heard.take("10.0.0.1", &device("a", "one", &["10.0.0.1"]));
        assert!(heard.events().is_empty());
    }
}

#[test]
fn t02_neither_those_known_nor_the_new_are_forgotten_among_many_questions() {
    let mut heard = Heard::new();
    let real = device("real", "one", &["10.0.0.1"]);
    heard.take("10.0.0.1", &real);
    let mut in_second = 0;
    let mut newcomer_asked_at = None;
    for step in 0..750_u32 {
        heard.now += Duration::from_millis(200);
        heard.cache.expire(heard.now);
        // Some tell more names than can be asked about, and others have much that lapses soon.
        for number in 0..5 {
            let source = format!("10.0.1.{}", number + 1);
            let name = format!("half-{}", step * 5 + number);
            heard.take(&source, &device(&name, "", &[])[..1]);
            let source = format!("10.0.2.{}", number + 1);
            let records = device(&format!("short-{number}-{}", step % 64), "x", &[&source]);
            let short = records.into_iter().map(|record| ResourceRecord { ttl: 20, ..record });
            heard.take(&source, &short.collect::<Vec<_>>());
        }
        if step == 350 {
            heard.take("10.0.0.2", &device("new", "", &[])[..1]);
        }
        if step % 5 == 0 {
            in_second = 0;
        }
        for inquiry in heard.cache.follow_up(heard.now).values() {
            in_second += inquiry.questions.len();
            let asks = |instance| {
                let full = name(&format!("{instance}.{SERVICE}"));
                inquiry.questions.iter().any(|question| question.qname == full)
            };
            if asks("real") {
                heard.take("10.0.0.1", &real);
            }
            if asks("new") {
                newcomer_asked_at.get_or_insert(step);
            }
        }
        assert!(in_second <= QUESTIONS_MAX, "{in_second} questions in a second");
    }
    let lost = |event| matches!(event, Event::Lost(instance) if instance.name.raw() == "real");
    assert!(!heard.events().into_iter().any(lost), "it answered whenever it was asked");
    assert!(newcomer_asked_at.is_some_and(|step| step < 360), "{newcomer_asked_at:?}");
}

#[test]
fn short_lives_are_not_prolonged_and_long_ones_are_cut() {
    let mut heard = Heard::new();
    let lives = |ttl| {
        let records = device("a", "one", &["10.0.0.1"]).into_iter();
        records.map(|record| ResourceRecord { ttl, ..record }).collect::<Vec<_>>()
    };
    heard.take("10.0.0.1", &lives(2));
    assert!(matches!(heard.event(), Event::Found(_)));
    assert_eq!(heard.asked(1), []);
    heard.pass(1);
    assert!(matches!(heard.event(), Event::Lost(_)));
    heard.take("10.0.0.1", &lives(u32::MAX));
    heard.events();
    heard.pass(75 * 60);
    assert!(matches!(heard.events().as_slice(), [Event::Lost(_)]));
}

#[test]
fn only_fresh_pointers_are_known_answers() {
    let mut heard = Heard::new();
    heard.take("10.0.0.1", &device("a", "one", &["10.0.0.1"]));
    heard.begin_rounds(4);
    let known = |link, now| heard.cache.inquiry(link, Family::V4, now).known.len();
    assert_eq!(known(LINK, heard.now), 1);
    assert_eq!(known(LINK + 1, heard.now), 0);
    assert_eq!(known(LINK, heard.now + Duration::from_secs(2250)), 0);
}

#[test]
fn t01_a_pointer_from_a_stranger_keeps_no_device_silent() {
    let mut heard = Heard::new();
    let known = |heard: &Heard| heard.cache.inquiry(LINK, Family::V4, heard.now).known.len();
    heard.take("10.0.0.66", &device("real", "", &[])[..1]);
    for round in 1..=4 {
        heard.begin_rounds(1);
        assert_eq!(known(&heard), usize::from(round == 4), "in round {round}");
    }
    // Nor does one while others are being pushed out, and when there are new links.
    for number in 0..=SOURCE_CLAIMS_MAX {
        heard.take("10.0.0.67", &device(&format!("flood-{number}"), "", &[])[..1]);
    }
    heard.begin_rounds(1);
    assert_eq!(known(&heard), 0);
    heard.begin_rounds(1);
    assert_eq!(known(&heard), SOURCE_CLAIMS_MAX + 1);
    heard.cache.begin_anew();
    heard.begin_rounds(3);
    assert_eq!(known(&heard), 0);
}

#[test]
fn what_was_heard_in_one_family_is_still_asked_for_in_the_other() {
    let mut heard = Heard::new();
    heard.begin_rounds(4);
    let both = ["10.0.0.1", "fe80::1"];
    heard.take("fe80::1", &device("a", "one", &both));
    let known = |heard: &Heard| {
        Family::BOTH.map(|family| heard.cache.inquiry(LINK, family, heard.now).known.len())
    };
    assert_eq!(known(&heard), [0, 1], "a packet in the first family may have been lost");
    heard.take("10.0.0.1", &device("a", "one", &both));
    assert_eq!(known(&heard), [1, 1]);
}

#[test]
fn addresses_that_lead_nowhere_good_are_left_out() {
    let mut heard = Heard::new();
    let claimed = [
        "10.0.0.1",
        "127.0.0.1",
        "::1",
        "::ffff:127.0.0.1",
        "64:ff9b::127.0.0.1",
        "0.0.0.0",
        "224.0.0.251",
        "255.255.255.255",
        "169.254.169.254",
        "fd00:ec2::254",
    ];
    heard.take("10.0.0.1", &device("a", "one", &claimed));
    let Event::Found(found) = heard.event() else { panic!() };
    assert_eq!(found.addresses.len(), 1);
    assert_eq!(sourced(&found), [ip("10.0.0.1")]);
}

#[test]
fn giant_text_is_refused() {
    let mut heard = Heard::new();
    let mut records = device("a", "one", &["10.0.0.1"]);
    let mut giant = TXT::new();
    for number in 0..6 {
        let value = [b'x'; 240];
        giant.add_attribute(&format!("key{number}"), Some(&value)).unwrap();
    }
    records[3].rdata = RData::TXT(giant);
    heard.take("10.0.0.1", &records);
    assert!(heard.events().is_empty());
}

#[test]
fn many_little_things_are_not_kept() {
    let mut heard = Heard::new();
    let mut records = device("a", "one", &["10.0.0.1"]);
    let mut crumbs = TXT::new();
    for _ in 0..400 {
        crumbs.add_attribute("k", None).unwrap();
    }
    records[3].rdata = RData::TXT(crumbs);
    heard.take("10.0.0.1", &records);
    let Event::Found(found) = heard.event() else { panic!() };
    assert_eq!(found.txt.len(), ATTRIBUTES_MAX);

    let mut records = device("b", "one", &["10.0.0.1"]);
    let target = name(&"x.".repeat(120));
    records[2].rdata = RData::SRV(SRV { priority: 0, weight: 0, port: 1, target });
    heard.take("10.0.0.1", &records);
    assert_eq!(heard.events(), [], "no host is named like this");
}

#[test]
fn a_flood_stays_within_bounds_and_the_real_device_comes_back() {
    let mut heard = Heard::new();
    let real = device("real", "one", &["10.0.0.1"]);
    heard.take("10.0.0.1", &real);
    heard.events();
    for number in 0..8_000_u32 {
        // Each from an address of its own, so that none of them claims more than the device does.
        let source = Ipv4Addr::from_bits(0x0a01_0000 + number).to_string();
        heard.take(&source, &device(&format!("flood-{number}"), "x", &[&source]));
        heard.now += Duration::from_micros(100);
        // A reader that takes one event in ten is as good as none.
        if number % 10 == 0 {
            heard.cache.next_event();
        }
        assert!(heard.cache.claims() <= CLAIMS_MAX);
    }
    assert!(heard.cache.evictions() > 0);
    assert!(heard.cache.names() <= 2 * CLAIMS_MAX);
    heard.take("10.0.0.1", &real);
    heard.take("10.0.0.1", &real);
    heard.begin_rounds(4);
    let now = heard.now;
    let known = heard.cache.inquiry(LINK, Family::V4, now).known;
    assert_eq!(known.len(), 1024);
    let names: Vec<String> = heard
        .events()
        .into_iter()
        .filter_map(|event| match event {
            Event::Found(instance) => Some(instance.name.into_raw()),
            Event::Updated(_) | Event::Lost(_) => None,
        })
        .collect();
    assert!(names.iter().any(|name| name == "real"), "{} names", names.len());
    heard.pass(75 * 60);
    heard.events();
    assert_eq!((heard.cache.claims(), heard.cache.names()), (0, 0));
}

#[test]
fn t02_who_claims_little_is_not_pushed_out_by_those_who_claim_much() {
    let mut heard = Heard::new();
    heard.take("10.0.0.1", &device("real", "one", &["10.0.0.1"]));
    for number in 0..20_000_u32 {
        let source = Ipv4Addr::from_bits(0x0a00_0100 + number % 200).to_string();
        heard.take(&source, &device(&format!("flood-{number}"), "x", &[&source]));
        heard.now += Duration::from_micros(100);
    }
    assert!(heard.cache.evictions() > 10_000);
    let found = |event| matches!(event, Event::Found(instance) if instance.name.raw() == "real");
    assert!(heard.events().into_iter().any(found), "it is there, after all of that");
}

#[test]
fn one_address_cannot_claim_more_than_its_share() {
    let mut heard = Heard::new();
    heard.take("10.0.0.1", &device("real", "one", &["10.0.0.1"]));
    for number in 0..1000 {
        heard.take("10.0.0.66", &device(&format!("flood-{number}"), "x", &["10.0.0.66"]));
        heard.now += Duration::from_micros(100);
    }
    assert_eq!(heard.cache.claims(), SOURCE_CLAIMS_MAX + 1);
    // Nor can many that all claim one name.
    for number in 1..=100 {
        let source = format!("10.0.1.{number}");
        heard.take(&source, &device("real", &source, &[&source]));
        heard.now += Duration::from_micros(100);
    }
    assert!(heard.cache.claims() <= SOURCE_CLAIMS_MAX + 16);
}
