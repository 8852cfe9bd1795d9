//! The device's screen as it looks, and in any size.

use std::time::Duration;

use fleet_core::api::{
    IndexPage, LogEntries, LogEntry, LogHello, LogMessage, LogOver, LogOverKind, StreamMessage,
};
use fleet_core::time::Timestamp;
use fleet_core::wire::Severity::{Debug, Error, Info, Warn};
use insta::assert_snapshot;
use proptest::prelude::*;
use ratatui::layout::Size;

use super::{clock, span};
use crate::event::{Event, LinkEvent, LogNews};
use crate::state::device::testing::{
    SLOT, answer_all, answered, fail_all, opened, report, screen as screen_of, tell, time,
};
use crate::state::{App, device};
use crate::terminal::caps::Caps;
use crate::testing::{LOW, WIDE, ascii, mono, picture, press, screen, wait};

fn shown_with(app: &App, caps: Caps) -> String {
    picture(&screen(app, caps))
}

fn shown(app: &App) -> String {
    shown_with(app, Caps::default())
}

fn down(app: &mut App, is_denied: bool) {
    let reason = "connection refused".to_owned();
    let retry_in = Some(Duration::from_secs(15));
    tell(app, Event::Link(LinkEvent::Down { reason, retry_in, is_denied }));
}

#[test]
fn normal() {
    assert_snapshot!("wide", shown(&answered(SLOT, WIDE)));
    assert_snapshot!("low", shown(&answered(SLOT, LOW)));
}

/// A device whose log is open, with some lines.
fn logged(size: Size) -> App {
    let mut app = answered(SLOT, size);
    press(&mut app, "Tab Tab Tab Tab");
    let ask = screen_of(&app).logs.ask().cloned().expect("lines are asked for");
    let device_id = "a".parse().expect("a device id");
    let hello = LogHello { device_id, uid: ask.device, connected: true };
    let mut lines = Vec::new();
    for (number, level) in (0..).zip([Info, Debug, Warn, Error].into_iter().cycle().take(40)) {
        let text = match number % 3 {
            0 => format!("telemetry batch sent n={number} bytes=412 rtt=41ms"),
            1 => "inference queue 118 > 64, dropping frames \u{1b}[31m".to_owned(),
            _ => "one of those lines that are so long that nobody can read them ".repeat(4),
        };
        let timestamp = time(60).plus(Duration::from_millis(number * 1_417));
        lines.push(LogEntry { timestamp, unit: "agent".into(), level, text: text.into() });
    }
    for message in [LogMessage::Hello(hello), LogMessage::Lines(LogEntries { lines, dropped: 12 })]
    {
        tell(&mut app, Event::Log(ask.number, LogNews::Message(message)));
    }
    app
}

#[test]
fn lines_of_its_log() {
    for (size, suffix) in [(WIDE, "wide"), (LOW, "low")] {
        let mut app = logged(size);
        assert_snapshot!(format!("{suffix}_logs"), shown(&app));
        press(&mut app, "k k k k");
        let typed = "/ l e v e l = l o u d";
        press(&mut app, typed);
        assert_snapshot!(format!("{suffix}_logs_typing"), shown(&app));
        press(&mut app, "Esc f");
        assert_snapshot!(format!("{suffix}_logs_which"), shown(&app));
        press(&mut app, "e");
        assert_snapshot!(format!("{suffix}_logs_asking"), shown(&app));
        let ask = screen_of(&app).logs.ask().cloned().expect("lines are asked for");
        let over = LogOver { kind: LogOverKind::Refused, reason: "not let by its policy".into() };
        let over = LogNews::Message(LogMessage::Over(over));
        tell(&mut app, Event::Log(ask.number, over));
        assert_snapshot!(format!("{suffix}_logs_over"), shown(&app));
    }
    assert_snapshot!("low_logs_mono", shown_with(&logged(LOW), mono()));
    assert_snapshot!("low_logs_ascii", shown_with(&logged(LOW), ascii()));
}

#[test]
fn without_colours_or_signs() {
    let (wide, low) = (answered(SLOT, WIDE), answered(SLOT, LOW));
    assert_snapshot!("wide_mono", shown_with(&wide, mono()));
    assert_snapshot!("low_mono", shown_with(&low, mono()));
    let (wide, low) = (shown_with(&wide, ascii()), shown_with(&low, ascii()));
    // Text from outside, and the frame's own keys, are as they are.
    let body = |text: &str| {
        text.lines()
            .skip(2)
            .take(19)
            .map(|line| line.trim_matches('│').to_owned())
            .collect::<String>()
    };
    assert!(body(&low).replace('│', "").is_ascii(), "{low}");
    assert_snapshot!("wide_ascii", wide);
    assert_snapshot!("low_ascii", low);
}

#[test]
fn loading() {
    assert_snapshot!("wide_loading", shown(&opened(SLOT, WIDE).0));
    assert_snapshot!("low_loading", shown(&opened(SLOT, LOW).0));
}

#[test]
fn empty() {
    for (name, size) in [("wide_empty", WIDE), ("low_empty", LOW)] {
        let (mut app, effects) = opened(3, size);
        device::testing::answer_empty(&mut app, effects);
        assert_snapshot!(name, shown(&app));
    }
}

#[test]
fn failed() {
    let (mut app, effects) = opened(SLOT, WIDE);
    fail_all(&mut app, effects);
    assert_snapshot!("wide_failed", shown(&app));
}

#[test]
fn server_away() {
    for (name, size) in [("wide_away", WIDE), ("low_away", LOW)] {
        let mut app = answered(SLOT, size);
        down(&mut app, false);
        wait(&mut app, Duration::from_secs(12));
        assert_snapshot!(name, shown(&app));
    }
}

#[test]
fn denied() {
    for (name, size) in [("wide_denied", WIDE), ("low_denied", LOW)] {
        let mut app = answered(SLOT, size);
        down(&mut app, true);
        assert_snapshot!(name, shown(&app));
    }
}

#[test]
fn gone() {
    let mut app = answered(SLOT, WIDE);
    let page = IndexPage { rows: Vec::new(), gone: vec![SLOT], complete: false };
    let message = Box::new(StreamMessage::Index(page));
    tell(&mut app, Event::Link(LinkEvent::Message(message)));
    assert_snapshot!("wide_gone", shown(&app));
}

#[test]
fn panes_by_themselves() {
    let mut app = answered(SLOT, LOW);
    for (keys, name) in [
        ("Tab", "low_config"),
        ("Tab", "low_commands"),
        ("Tab", "low_history"),
        ("Tab Tab", "low_facts"),
    ] {
        press(&mut app, keys);
        assert_snapshot!(name, shown(&app));
    }
    let mut app = answered(SLOT, WIDE);
    press(&mut app, "Enter");
    assert_snapshot!("wide_graphs_full", shown(&app));
    press(&mut app, "S-Tab S-Tab S-Tab");
    assert_snapshot!("wide_history_full", shown(&app));
    press(&mut app, "S-Tab j j j j");
    assert_snapshot!("wide_commands_full", shown(&app));
}

#[test]
fn one_command() {
    for (size, suffix) in [(WIDE, "wide"), (LOW, "low")] {
        let mut app = answered(SLOT, size);
        press(&mut app, "Tab Tab");
        let effects = press(&mut app, "Enter");
        assert_snapshot!(format!("{suffix}_command_waits"), shown(&app));
        answer_all(&mut app, effects);
        let effects = press(&mut app, "Esc j K");
        assert!(effects.is_empty());
        assert_snapshot!(format!("{suffix}_command_take_back"), shown(&app));
        let effects = press(&mut app, "Esc j j Enter");
        answer_all(&mut app, effects);
        assert_snapshot!(format!("{suffix}_command_output"), shown(&app));
        press(&mut app, "G");
        assert_snapshot!(format!("{suffix}_command_output_end"), shown(&app));
        let effects = press(&mut app, "Esc j Enter");
        fail_all(&mut app, effects);
        assert_snapshot!(format!("{suffix}_command_failed"), shown(&app));
    }
    let mut app = answered(SLOT, LOW);
    let effects = press(&mut app, "Tab Tab j j j Enter");
    answer_all(&mut app, effects);
    assert_snapshot!("low_command_output_ascii", shown_with(&app, ascii()));
}

#[test]
fn a_cursor_and_a_picture_held_still() {
    let mut app = answered(SLOT, WIDE);
    press(&mut app, "j");
    (0..31).for_each(|_| drop(press(&mut app, "Left")));
    assert_snapshot!("wide_cursor", shown(&app));
    press(&mut app, "Esc z");
    let before = shown(&app);
    wait(&mut app, Duration::from_secs(20));
    report(&mut app, SLOT, 20, 3.0);
    let body =
        |text: &str| text.lines().skip(3).take(28).map(ToOwned::to_owned).collect::<Vec<_>>();
    assert_eq!(body(&shown(&app)), body(&before));
    assert_snapshot!("wide_frozen", before);
}

#[test]
fn outside_text_is_spelled_out() {
    let mut app = answered(SLOT, WIDE);
    press(&mut app, "S-Tab Enter");
    let facts = shown(&app);
    assert!(facts.contains("fe80::dea6"), "{facts}");
    press(&mut app, "S-Tab S-Tab");
    let history = shown(&app);
    assert!(history.contains("\\u{202e}") && !history.contains('\u{202e}'), "{history}");
    let effects = press(&mut app, "S-Tab j j j Enter");
    answer_all(&mut app, effects);
    let output = shown(&app);
    assert!(output.contains("\\u{1b}]0;owned\\u{7}first"), "{output}");
    assert!(!output.contains(['\u{1b}', '\u{7}']), "{output}");
}

#[test]
fn times_are_short_and_name_another_day() {
    let time = |text: &str| text.parse::<Timestamp>().unwrap();
    let now = time("2026-02-03T14:03:22Z");
    assert_eq!(clock(time("2026-02-03T13:59:51.25Z"), now), "13:59:51Z");
    assert_eq!(clock(time("2026-02-02T13:59:51Z"), now), "02-02 13:59Z");
}

#[test]
fn spans_are_short() {
    for (secs, text) in [(5.0, "5s"), (90.0, "1m"), (7_300.0, "2h"), (3_542_400.0, "41d")] {
        assert_eq!(span(secs), text);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_size_and_any_keys(
        width in 1..300_u16,
        height in 1..100_u16,
        keys in prop::collection::vec(
            prop::sample::select(vec!["Tab", "S-Tab", "Enter", "j", "k", "G", "g", "[", "]", "+", "-", "t", "Left", "Right", "z", "=", "K", "y"]),
            0..12,
        ),
        is_down: bool,
    ) {
        let mut app = answered(SLOT, Size::new(width, height));
        for key in keys {
            let effects = press(&mut app, key);
            answer_all(&mut app, effects);
        }
        if is_down {
            down(&mut app, false);
            wait(&mut app, Duration::from_secs(9));
        }
        let before = app.desk.screen();
        prop_assert_eq!(shown(&app).lines().count(), usize::from(height));
        prop_assert_eq!(app.desk.screen(), before);
    }
}
