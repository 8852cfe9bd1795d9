//! Lines from the ask to the pane, and what becomes of a stream that ends.

use fleet_core::api::{LogEntry, LogHello, LogLink, LogOver, LogOverKind};

use super::*;
use crate::effect::Effect;
use crate::event::Event;
use crate::sample;
use crate::state::App;
use crate::state::device::testing::{SLOT, answered, come_back, go_down, screen, tell};
use crate::testing::{WIDE, press, wait};

/// What is asked for last.
#[derive(Debug, PartialEq)]
enum Asked {
    Nothing,
    NoMore,
    Lines(LogAsk),
}

impl Asked {
    fn lines(self) -> LogAsk {
        match self {
            Self::Lines(ask) => ask,
            other => panic!("{other:?}"),
        }
    }
}

fn asked(effects: &[Effect]) -> Asked {
    let ask = |effect: &Effect| match effect {
        Effect::Logs(Some(ask)) => Some(Asked::Lines(ask.clone())),
        Effect::Logs(None) => Some(Asked::NoMore),
        _ => None,
    };
    effects.iter().filter_map(ask).next_back().unwrap_or(Asked::Nothing)
}

/// A device whose log is open, and what was asked for.
fn opened() -> (App, LogAsk) {
    let mut app = answered(SLOT, WIDE);
    let ask = asked(&press(&mut app, "Tab Tab Tab Tab")).lines();
    hello(&mut app, &ask);
    (app, ask)
}

fn news(app: &mut App, ask: &LogAsk, message: LogMessage) {
    tell(app, Event::Log(ask.number, LogNews::Message(message)));
}

fn hello(app: &mut App, ask: &LogAsk) {
    let device_id = "a".parse().unwrap();
    let hello = LogHello { device_id, uid: ask.device, connected: true };
    news(app, ask, LogMessage::Hello(hello));
}

fn line(number: u64) -> LogEntry {
    LogEntry {
        timestamp: Timestamp::from_millis(sample::NOW).plus(Duration::from_secs(number)),
        unit: "agent".into(),
        level: Severity::Info,
        text: format!("line {number} \u{1b}[31m\tx").into(),
    }
}

fn lines(app: &mut App, ask: &LogAsk, numbers: std::ops::Range<u64>, dropped: u64) {
    let entries = LogEntries { lines: numbers.map(line).collect(), dropped };
    news(app, ask, LogMessage::Lines(entries));
}

fn logs(app: &App) -> &Logs {
    &screen(app).logs
}

fn texts(app: &App) -> Vec<&str> {
    logs(app).in_sight().map(Row::text).collect()
}

#[test]
fn lines_come_while_somebody_looks_and_no_longer() {
    let (mut app, ask) = opened();
    assert_eq!((ask.device, ask.query.limit), (sample::uid(SLOT), Some(PAST)));
    lines(&mut app, &ask, 0..3, 0);
    assert_eq!(texts(&app)[0], "line 0 \\u{1b}[31m       x");
    assert_eq!(asked(&press(&mut app, "Tab")), Asked::NoMore, "another pane");
    // What was on its way is nothing any more.
    lines(&mut app, &ask, 3..4, 0);
    assert_eq!(logs(&app).len(), 3);
    let again = asked(&press(&mut app, "S-Tab")).lines();
    assert_eq!(again.query.since, Some(line(2).timestamp));
    hello(&mut app, &again);
    lines(&mut app, &again, 2..5, 0);
    assert_eq!(logs(&app).len(), 5, "a line that is known does not come twice");
    assert!(!texts(&app).contains(&GAP));
    assert_eq!(asked(&press(&mut app, "Esc")), Asked::NoMore, "another screen");
}

#[test]
fn whoever_goes_up_reads_and_what_comes_is_counted() {
    let (mut app, ask) = opened();
    lines(&mut app, &ask, 0..100, 7);
    assert_eq!(texts(&app).last(), Some(&"line 99 \\u{1b}[31m      x"));
    assert_eq!(logs(&app).dropped, 7);
    press(&mut app, "k k");
    let top = logs(&app).top();
    lines(&mut app, &ask, 100..120, 0);
    assert_eq!((logs(&app).top(), logs(&app).unseen, logs(&app).is_following), (top, 20, false));
    press(&mut app, "G");
    assert_eq!((logs(&app).unseen, logs(&app).is_following), (0, true));
    press(&mut app, "F");
    lines(&mut app, &ask, 120..121, 0);
    assert_eq!(logs(&app).unseen, 1);
    press(&mut app, "F");
    assert!(texts(&app).last().unwrap().starts_with("line 120"));
}

#[test]
fn what_is_looked_for_is_asked_of_the_server() {
    let (mut app, ask) = opened();
    lines(&mut app, &ask, 0..3, 2);
    let effects = press(&mut app, "/ o o m Space l e v e l = w a r n");
    assert_eq!(asked(&effects), Asked::Nothing, "not while it is typed");
    assert_eq!(*logs(&app).wanted(), LogFilter::default(), "the lines are those of before");
    let other = asked(&press(&mut app, "Enter")).lines();
    assert_eq!(other.query.grep.as_deref(), Some("oom"));
    assert_eq!((other.query.level, other.query.since), (Some(Severity::Warn), None));
    assert_eq!((logs(&app).len(), logs(&app).dropped), (0, 0), "others than before");
    let error = asked(&press(&mut app, "f e")).lines();
    assert_eq!(
        (error.query.level, error.query.grep.as_deref()),
        (Some(Severity::Error), Some("oom"))
    );
    let unit = asked(&press(&mut app, "f u n g i n x Enter")).lines();
    assert_eq!(unit.query.unit.as_deref(), Some("nginx.service"));
    assert_eq!(unit.query.level, Some(Severity::Error));
    let agent = asked(&press(&mut app, "f a")).lines();
    assert_eq!(agent.query.unit, None);
    assert_eq!(asked(&press(&mut app, "/ x Esc")), Asked::Nothing);
}

#[test]
fn what_breaks_off_is_asked_for_anew_and_what_is_over_is_not() {
    let (mut app, ask) = opened();
    lines(&mut app, &ask, 0..2, 0);
    tell(&mut app, Event::Log(ask.number, LogNews::Ended("reset".to_owned())));
    assert_eq!(logs(&app).stage, Stage::Failed("reset".to_owned()));
    assert_eq!(asked(&wait(&mut app, Duration::from_secs(4))), Asked::Nothing);
    let again = asked(&wait(&mut app, Duration::from_secs(2))).lines();
    assert!(again.number > ask.number);
    hello(&mut app, &again);
    news(&mut app, &again, LogMessage::Link(LogLink { connected: false }));
    assert_eq!(logs(&app).stage, Stage::Away);
    let over = LogOver { kind: LogOverKind::Refused, reason: "policy \u{1b}".into() };
    news(&mut app, &again, LogMessage::Over(over));
    tell(&mut app, Event::Log(again.number, LogNews::Ended("closed".to_owned())));
    assert_eq!(logs(&app).stage, Stage::Over("policy \\u{1b}".to_owned()));
    assert_eq!(asked(&wait(&mut app, Duration::from_secs(60))), Asked::Nothing);
    // After an outage it is tried again.
    go_down(&mut app);
    assert!(matches!(asked(&come_back(&mut app, true)), Asked::Lines(_)));
    assert_eq!(logs(&app).len(), 2);
}

#[test]
fn what_is_missing_is_shown_where_it_is_missing() {
    let (mut app, ask) = opened();
    lines(&mut app, &ask, 0..2, 3);
    lines(&mut app, &ask, 0..0, 0);
    lines(&mut app, &ask, 5..6, 1);
    go_down(&mut app);
    let again = asked(&come_back(&mut app, true)).lines();
    lines(&mut app, &again, 9..10, 0);
    let expected = [
        "3 lines are left out here",
        "line 0",
        "line 1",
        GAP,
        "1 line is left out here",
        "line 5",
        GAP,
        "line 9",
    ];
    let shown = texts(&app);
    assert_eq!(shown.len(), expected.len(), "{shown:?}");
    for (shown, expected) in shown.iter().zip(expected) {
        assert!(shown.starts_with(expected), "{shown}");
    }
    assert_eq!(logs(&app).dropped, 4);
}

#[test]
fn no_more_is_kept_than_there_is_room_for() {
    let (mut app, ask) = opened();
    let most = LINES_MAX as u64;
    lines(&mut app, &ask, 0..most, 0);
    press(&mut app, "g");
    lines(&mut app, &ask, most..most + 10, 0);
    assert_eq!((logs(&app).len(), logs(&app).gone), (LINES_MAX, 10));
    assert!(texts(&app)[0].starts_with("line 10 "), "what is gone is gone");
    let long = LogEntry { text: "x".repeat(BYTES_MAX / 4).into(), ..line(9_999) };
    let entries = LogEntries { lines: vec![long; 5], dropped: 0 };
    news(&mut app, &ask, LogMessage::Lines(entries));
    assert!(logs(&app).bytes <= BYTES_MAX && logs(&app).len() <= 4);
}
