//! Pictures of popups and lists in the states that they can be in.

use std::time::Duration;

use fleet_core::api::{DeviceStatus, EventKind, EventView, Health, IndexPage, StreamMessage};
use proptest::prelude::*;
use ratatui::layout::Size;

use crate::effect::Request;
use crate::event::{Answer, Event, Failed, LinkEvent};
use crate::sample;
use crate::state::App;
use crate::terminal::caps::Caps;
use crate::testing::{
    LOW, WIDE, app, app_with, device, disconnect, event, live_app, poor, press, screen, sized,
};

/// Takes a picture of a console in both sizes that are designed.
fn pictures(name: &str, app: &mut App) {
    for (size, suffix) in [(WIDE, "wide"), (LOW, "low")] {
        insta::assert_snapshot!(format!("{name}_{suffix}"), sized(app, size));
    }
}

/// Takes pictures of what a poor terminal shows.
fn poor_pictures(name: &str, app: &mut App) {
    for (suffix, picture) in poor(app) {
        insta::assert_snapshot!(format!("{name}_{suffix}"), picture);
    }
}

fn denied() -> App {
    let mut app = app();
    let reason = "the key k3xq2m7a is not good there".to_owned();
    let down = LinkEvent::Down { reason, retry_in: None, is_denied: true };
    app.apply(sample::moment(Duration::ZERO), Event::Link(down));
    app
}

fn waiting() -> App {
    let mut rows = vec![
        device(1, "pump-eu-0317", DeviceStatus::Pending),
        device(2, "gate-eu-0042", DeviceStatus::Pending),
        device(3, "gate-eu-0042~k3xq2m", DeviceStatus::Pending),
        device(4, "cam-us-1180", DeviceStatus::Rejected),
        device(5, "kiosk-ap-0113", DeviceStatus::Online),
    ];
    for (age, row) in (1..).zip(&mut rows) {
        row.created_at = row.created_at.minus(Duration::from_secs(age * 400));
        row.last_seen = None;
        row.why = Some("asks to be let in".into());
    }
    app_with(rows)
}

fn events() -> Vec<EventView> {
    let mut events: Vec<EventView> = (0..60)
        .map(|seq| {
            let (kind, text) = match seq % 7 {
                0 => (
                    EventKind::ConfigSet,
                    "version 3: {\"telemetry\":{\"interval\":30}} (link flaps)",
                ),
                1 => (EventKind::ConfigApplied, "version 3"),
                2 => (EventKind::DeviceOffline, "no report for 3m, expected every 60s"),
                3 => (EventKind::DeviceOnline, "heard again after 3m"),
                4 => (EventKind::ConfigRefused, "version 3: no such metric"),
                5 => (EventKind::DevicePending, "asks to be let in"),
                _ => (EventKind::DeviceUpdated, "metadata set: site, tags"),
            };
            let id = format!("pump-eu-{seq:04}");
            EventView {
                actor: if seq % 7 == 0 || seq % 7 == 6 { "operator:k3xq2m7a" } else { "device" }
                    .into(),
                ..event(seq, kind, Some(&id), text)
            }
        })
        .collect();
    events.push(event(
        60,
        EventKind::KeyCreated,
        None,
        "operator key \u{1b}[31mred\u{202e} \u{4e16}\u{754c}",
    ));
    events
}

fn happened(mut app: App) -> App {
    press(&mut app, "6");
    let answer = Ok(Answer::Events(events().into_iter().rev().collect()));
    answer_events(&mut app, None, answer);
    answer_events(&mut app, Some(0), Ok(Answer::Events(Vec::new())));
    app
}

fn answer_events(app: &mut App, before: Option<u64>, answer: Result<Answer, Failed>) {
    let request = Request::Events { device: None, before };
    let now = sample::moment(app.desk.now.since_start);
    app.apply(now, Event::Answer(request, answer));
}

#[test]
fn pending_devices() {
    let mut app = waiting();
    press(&mut app, "7 Space j");
    pictures("pending", &mut app);
    poor_pictures("pending", &mut app);
    press(&mut app, "/ g a t");
    pictures("pending_typing", &mut app);
    press(&mut app, "z z Enter");
    pictures("pending_none_match", &mut app);
    press(&mut app, "Esc");
    disconnect(&mut app);
    pictures("pending_away", &mut app);
}

#[test]
fn no_pending_devices() {
    let mut app = live_app();
    press(&mut app, "7");
    pictures("pending_empty", &mut app);
    let mut app = self::app();
    press(&mut app, "7");
    pictures("pending_connecting", &mut app);
    sample::say(&mut app, StreamMessage::Hello(sample::hello(500)));
    let page = IndexPage { rows: Vec::new(), gone: Vec::new(), complete: false };
    sample::say(&mut app, StreamMessage::Index(page));
    pictures("pending_loading", &mut app);
    let mut app = denied();
    press(&mut app, "7");
    pictures("pending_denied", &mut app);
}

#[test]
fn what_happened() {
    let mut app = happened(live_app());
    pictures("events", &mut app);
    poor_pictures("events", &mut app);
    press(&mut app, "j j j");
    sample::say(
        &mut app,
        StreamMessage::Event(event(61, EventKind::ServerStarted, None, "started")),
    );
    pictures("events_reading", &mut app);
    press(&mut app, "/ k i n d = x");
    pictures("events_wrong_filter", &mut app);
    press(&mut app, "Esc / z z z Enter t");
    pictures("events_none_match", &mut app);
    press(&mut app, "Esc");
    disconnect(&mut app);
    pictures("events_away", &mut app);
}

#[test]
fn a_server_whose_store_works_in_part() {
    let mut app = live_app();
    let health = |reason: Option<&str>| Health {
        status: if reason.is_some() { "degraded" } else { "ok" }.to_owned(),
        reason: reason.map(str::to_owned),
    };
    let reason = "the chunk at 4711 in file 3: the sum is wrong \u{1b}[2J";
    sample::say(&mut app, StreamMessage::Health(health(Some(reason))));
    pictures("degraded", &mut app);
    press(&mut app, "Esc");
    pictures("degraded_dismissed", &mut app);
    sample::say(&mut app, StreamMessage::Health(health(None)));
    pictures("degraded_no_more", &mut app);
}

#[test]
fn nothing_happened() {
    let mut app = live_app();
    press(&mut app, "6");
    pictures("events_loading", &mut app);
    answer_events(&mut app, None, Ok(Answer::Events(Vec::new())));
    pictures("events_empty", &mut app);
    let mut app = live_app();
    press(&mut app, "6");
    let failed =
        Failed { text: "the server refused: busy".to_owned(), request_id: None, field: None };
    answer_events(&mut app, None, Err(failed));
    pictures("events_failed", &mut app);
    let mut app = denied();
    press(&mut app, "6");
    pictures("events_denied", &mut app);
}

#[test]
fn popups() {
    for (name, keys) in [
        ("menu_actions", "x"),
        ("menu_sort", "s"),
        ("columns", "c j Space J"),
        ("help", "? x"),
        ("help_end", "? G"),
        ("palette", ":"),
        ("palette_devices", ": d e v i c e Space c a m"),
        ("palette_unknown", ": f r o b Enter"),
        ("quit", "q"),
        ("form_metadata", "x m s i t e = l y o n Space x Enter"),
        ("confirm_interval", "x i Backspace Backspace Backspace 3 0 s Enter"),
        ("confirm_revoke", "x v"),
        ("confirm_many", "a x d 4 2"),
        ("confirm_restart", "x s"),
        ("confirm_reboot_many", "a / p u m p Enter x b"),
        ("form_exec", "x e u p t i m e Space - p"),
        ("confirm_exec", "j x e u p t i m e Space - p Enter c a m"),
    ] {
        let mut app = sample::app(42, WIDE);
        press(&mut app, keys);
        pictures(name, &mut app);
        if matches!(name, "help" | "confirm_many" | "confirm_reboot_many" | "palette") {
            poor_pictures(name, &mut app);
        }
    }
}

#[test]
fn popups_of_pending_devices() {
    let mut app = waiting();
    press(&mut app, "7 a i / g a t e Enter a x a");
    pictures("confirm_accept", &mut app);
    disconnect(&mut app);
    pictures("confirm_accept_away", &mut app);
}

#[test]
fn messages() {
    let mut app = live_app();
    press(&mut app, ": m e s s a g e s Enter");
    pictures("messages_empty", &mut app);
    press(&mut app, "Esc");
    app.desk.say("accepted rpi4-001");
    let long = "the certificate is not yet valid; the device's clock says 1970 ".repeat(4);
    app.desk.warn(format!("rpi4-002: {long}(request 0198e)"));
    press(&mut app, ": m e s s a g e s Enter");
    pictures("messages", &mut app);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_size_and_any_keys(
        width in 1..300_u16,
        height in 1..100_u16,
        keys in prop::collection::vec(prop::sample::select(KEYS), 0..24),
        is_pending in any::<bool>(),
    ) {
        let mut app = if is_pending { waiting() } else { happened(waiting()) };
        app.apply(sample::moment(Duration::ZERO), Event::Resize(Size::new(width, height)));
        press(&mut app, if is_pending { "7" } else { "6" });
        for key in keys {
            press(&mut app, key);
            let buffer = screen(&app, Caps::default());
            prop_assert_eq!(buffer.area.as_size(), Size::new(width, height));
        }
    }
}

const KEYS: &[&str] = &[
    "j", "k", "G", "g", "Space", "a", "i", "x", "Enter", "Esc", "/", ":", "?", "t", "F", "z", "y",
    "s", "v", "d", "r", "n", "m", "Tab", "Down", "Up", "PgDn", "PgUp", "1", "c", "q", "S", "世",
    "3",
];
