//! Pages, what arrives meanwhile, and what one looks at.

use std::time::Duration;

use fleet_core::api::{EventKind, EventView, StreamMessage};

use super::{EVENTS_MAX, Range};
use crate::effect::{Effect, Request};
use crate::event::{Answer, Event, Failed};
use crate::sample;
use crate::state::{App, Screen};
use crate::testing::{app_with, device, disconnect, event, fleet_of, live_app, press};

fn page(seqs: impl DoubleEndedIterator<Item = u64>) -> Vec<EventView> {
    let one = |seq| event(seq, EventKind::DeviceOnline, Some("pump-0007"), &format!("event {seq}"));
    seqs.rev().map(one).collect()
}

fn answer(app: &mut App, before: Option<u64>, events: Vec<EventView>) -> Vec<Effect> {
    let request = Request::Events { device: None, before };
    let now = sample::moment(app.desk.now.since_start);
    app.apply(now, Event::Answer(request, Ok(Answer::Events(events))))
}

fn asked(effects: &[Effect]) -> Vec<Option<u64>> {
    let before = |effect: &Effect| match effect {
        Effect::Ask(Request::Events { device: None, before }) => Some(*before),
        _ => None,
    };
    effects.iter().filter_map(before).collect()
}

fn arrive(app: &mut App, seq: u64) {
    let event = event(seq, EventKind::DeviceOffline, Some("pump-0001"), "silent");
    sample::say(app, StreamMessage::Event(event));
}

/// A console at its events 100 to 299, with nothing on its way.
fn opened() -> App {
    let mut app = live_app();
    assert_eq!(asked(&press(&mut app, "6")), [None]);
    assert_eq!(asked(&answer(&mut app, None, page(100..300))), []);
    app
}

#[test]
fn older_events_come_when_the_end_is_near() {
    let mut app = opened();
    assert_eq!(asked(&press(&mut app, "G")), [Some(100)]);
    assert_eq!(asked(&press(&mut app, "k")), [], "one page at a time");
    answer(&mut app, Some(100), page(0..100));
    assert_eq!(app.events.len(), 300);
    assert_eq!(asked(&press(&mut app, "G")), [Some(0)]);
    answer(&mut app, Some(0), Vec::new());
    assert!(app.events.has_all());
    assert_eq!(asked(&press(&mut app, "g G")), []);
}

#[test]
fn whoever_reads_is_not_disturbed() {
    let mut app = opened();
    arrive(&mut app, 300);
    assert_eq!(app.events.at_cursor().map(|event| event.seq), Some(300));
    press(&mut app, "PgDn PgDn PgDn");
    let (read, top) = (app.events.at_cursor().map(|event| event.seq), app.events.top);
    arrive(&mut app, 301);
    arrive(&mut app, 302);
    assert_eq!(app.events.at_cursor().map(|event| event.seq), read);
    assert_eq!((app.events.top, app.events.unseen), (top + 2, 2));
    press(&mut app, "F");
    assert_eq!(app.events.at_cursor().map(|event| event.seq), Some(302));
    assert_eq!((app.events.top, app.events.unseen, app.events.is_following), (0, 0, true));
}

#[test]
fn a_frozen_picture_holds_still() {
    let mut app = opened();
    press(&mut app, "z");
    arrive(&mut app, 300);
    assert_eq!(app.events.len(), 200);
    press(&mut app, "z");
    assert_eq!(app.events.len(), 201);
}

#[test]
fn there_is_an_end_to_what_is_kept() {
    let mut app = opened();
    for seq in 300..(EVENTS_MAX as u64 + 200) {
        arrive(&mut app, seq);
    }
    assert_eq!((app.events.kept(), app.events.dropped), (EVENTS_MAX, 100));
    assert_eq!(asked(&press(&mut app, "G")), []);
}

#[test]
fn after_a_gap_the_older_ones_are_loaded_again() {
    let mut app = opened();
    disconnect(&mut app);
    let now = sample::moment(app.desk.now.since_start);
    let hello = StreamMessage::Hello(sample::hello(0));
    let effects = app.apply(now, Event::Link(crate::event::LinkEvent::Message(Box::new(hello))));
    assert_eq!(asked(&effects), [None]);
    answer(&mut app, None, page(1_000..1_200));
    assert_eq!(app.events.len(), 200);
    assert_eq!(asked(&press(&mut app, "G")), [Some(1_000)]);
}

#[test]
fn filters_and_ranges_leave_out() {
    let mut app = opened();
    arrive(&mut app, 300);
    press(&mut app, "/ k i n d = d e v i c e . o f f l i n e Enter");
    assert_eq!(app.events.len(), 1);
    press(&mut app, "Esc");
    assert_eq!(app.events.len(), 201);
    press(&mut app, "t");
    assert_eq!(app.events.range, Range::Hour);
    let later = sample::moment(Duration::from_secs(3_700));
    app.apply(later, Event::Tick);
    assert_eq!(app.events.len(), 0, "all of them are more than an hour ago now");
    press(&mut app, "t");
    assert_eq!(app.events.len(), 201);
}

#[test]
fn a_page_that_fails_is_told_and_not_asked_for_again_and_again() {
    let mut app = opened();
    press(&mut app, "G");
    let request = Request::Events { device: None, before: Some(100) };
    let failed =
        Failed { text: "the server refused: busy".to_owned(), request_id: None, field: None };
    let now = sample::moment(app.desk.now.since_start);
    let effects = app.apply(now, Event::Answer(request, Err(failed)));
    assert_eq!(asked(&effects), []);
    assert!(app.events.failure.is_some());
    assert_eq!(asked(&press(&mut app, "k")), [Some(100)]);
}

#[test]
fn an_event_opens_its_device_and_can_be_exported() {
    let mut app = app_with(fleet_of(10));
    press(&mut app, "6");
    answer(&mut app, None, page(0..3));
    let export = press(&mut app, "e");
    let Some(Effect::Export { contents, .. }) = export.first() else { panic!("nothing exported") };
    assert_eq!(contents.lines().count(), 4);
    assert!(
        contents
            .lines()
            .nth(1)
            .is_some_and(|line| line.ends_with("device,device.online,pump-0007,event 2"))
    );
    press(&mut app, "Enter");
    assert_eq!(app.desk.screen(), Screen::Device);
    let mut app = app_with(vec![device(1, "pump-0001", fleet_core::api::DeviceStatus::Online)]);
    press(&mut app, "6");
    answer(&mut app, None, vec![event(1, EventKind::ServerStarted, None, "started")]);
    press(&mut app, "Enter");
    assert_eq!(app.desk.screen(), Screen::Events);
}
