//! The device's screen under its keys, and as time passes and the link comes and goes.

use std::time::Duration;

use fleet_core::api::{IndexPage, StreamMessage, StreamView};
use ratatui::layout::Size;

use super::graphs::SPANS;
use super::metric::{Graph, Metric};
use super::testing::*;
use crate::effect::{Change, Effect, Request};
use crate::event::{Event, LinkEvent};
use crate::layout::Pane;
use crate::sample;
use crate::state::popup::{Lock, Popup};
use crate::state::{App, Screen};
use crate::testing::{LOW, WIDE, press};

fn wait(app: &mut App, secs: u64) -> Vec<Effect> {
    crate::testing::wait(app, Duration::from_secs(secs))
}

fn looks(effects: &[Effect]) -> Option<&StreamView> {
    effects.iter().rev().find_map(|effect| match effect {
        Effect::Look(view) => Some(view),
        _ => None,
    })
}

#[test]
fn entering_asks_for_everything_once_and_watches() {
    let (mut app, effects) = opened(SLOT, WIDE);
    let uid = sample::uid(SLOT);
    let requests = asked(&effects);
    assert_eq!(requests.len(), 5, "{requests:?}");
    assert!(requests.contains(&&Request::Config(uid)) && requests.contains(&&Request::Device(uid)));
    let window = window_asked(&effects).unwrap();
    assert_eq!((window.from, window.to, window.step), (time(300), time(0), Duration::from_secs(1)));
    let watch = looks(&effects).unwrap().watch.as_ref().unwrap();
    assert_eq!(watch.slot, SLOT);
    assert_eq!(watch.metrics.len(), Metric::all().count());
    assert!(asked(&wait(&mut app, 1)).is_empty());
    answer_all(&mut app, effects);
    // Some commands go on, and no event tells how far they are.
    assert_eq!(asked(&wait(&mut app, 60)), [&Request::Commands(uid)]);
    assert!(!screen(&app).facts(&app.desk).is_empty());
}

#[test]
fn live_reports_are_appended_and_sums_leave_the_loopback_out() {
    let mut app = answered(SLOT, WIDE);
    wait(&mut app, 2);
    report(&mut app, SLOT, 1, 12.5);
    report(&mut app, SLOT + 1, 2, 99.0);
    let graphs = &screen(&app).graphs;
    assert_eq!(graphs.newest(Metric::Cpu).map(|point| point.mean), Some(12.5));
    assert!(graphs.newest(Metric::Receive).unwrap().mean < 1e7);
    // An odd report is of no harm.
    report(&mut app, SLOT, 1, f64::NAN);
    assert_eq!(screen(&app).graphs.curve(Metric::Cpu).newest().map(|point| point.mean), Some(12.5));
}

#[test]
fn nothing_moves_while_it_is_frozen() {
    let mut app = answered(SLOT, WIDE);
    let before = screen(&app).graphs.window();
    let effects = press(&mut app, "z");
    assert_eq!(looks(&effects), Some(&StreamView::default()));
    assert!(asked(&wait(&mut app, 50)).is_empty());
    report(&mut app, SLOT, 40, 1.0);
    let graphs = &screen(&app).graphs;
    assert_eq!(graphs.window(), before);
    assert!(graphs.newest(Metric::Cpu).unwrap().at <= time(0));
    let effects = press(&mut app, "z");
    assert_eq!(screen(&app).graphs.window().from, before.from.plus(Duration::from_secs(50)));
    assert_eq!(window_asked(&effects), Some(screen(&app).graphs.window()));
    assert!(looks(&effects).unwrap().watch.is_some());
}

#[test]
fn panning_goes_by_halves_and_ends_at_now() {
    let mut app = answered(SLOT, WIDE);
    let effects = press(&mut app, "[ [");
    assert!(looks(&effects).unwrap().watch.is_none());
    // While one question is under way there is no other.
    assert_eq!(asked(&effects).len(), 1);
    let graphs = &screen(&app).graphs;
    assert_eq!((graphs.window().from, graphs.window().to), (time(600), time(300)));
    answer_all(&mut app, effects);
    assert!(!screen(&app).graphs.is_loading());
    press(&mut app, "]");
    assert!(!screen(&app).graphs.is_live());
    press(&mut app, "]");
    assert!(screen(&app).graphs.is_live());
    let effects = press(&mut app, "[ =");
    assert!(screen(&app).graphs.is_live());
    assert!(looks(&effects).unwrap().watch.is_some());
}

#[test]
fn what_was_before_the_device_is_not_looked_for() {
    let mut app = answered(SLOT, WIDE);
    press(&mut app, "t t t");
    for _ in 0..40 {
        press(&mut app, "[");
    }
    let created = sample::row(SLOT).created_at;
    let window = screen(&app).graphs.window();
    assert!(window.to > created && window.from < created);
}

#[test]
fn zooming_stops_at_both_ends_and_ranges_go_round() {
    let mut app = answered(SLOT, WIDE);
    press(&mut app, "+");
    assert_eq!(screen(&app).graphs.span().word, "5m");
    assert!(app.desk.notice.as_ref().unwrap().0.text.contains("shortest"));
    for span in &SPANS[1..] {
        press(&mut app, "-");
        assert_eq!(screen(&app).graphs.span(), *span);
        assert!(screen(&app).graphs.is_live());
    }
    press(&mut app, "-");
    assert_eq!(screen(&app).graphs.span().word, "7d");
    for word in ["5m", "1h", "24h", "7d", "5m"] {
        press(&mut app, "t");
        assert_eq!(screen(&app).graphs.span().word, word);
    }
}

#[test]
fn zooming_keeps_what_is_at_the_cursor_in_the_middle() {
    let mut app = answered(SLOT, WIDE);
    press(&mut app, "- -");
    (0..50).for_each(|_| drop(press(&mut app, "Left")));
    let at = screen(&app).graphs.cursor().unwrap();
    press(&mut app, "+");
    let window = screen(&app).graphs.window();
    assert_eq!(window.from.plus(screen(&app).graphs.span().length / 2), at);
    assert_eq!(screen(&app).graphs.cursor(), Some(at));
}

#[test]
fn long_ranges_are_asked_for_again_step_by_step() {
    let mut app = answered(SLOT, WIDE);
    let effects = press(&mut app, "t");
    assert_eq!(window_asked(&effects).unwrap().step, Duration::from_secs(12));
    answer_all(&mut app, effects);
    assert_eq!(window_asked(&wait(&mut app, 11)), None);
    let effects = wait(&mut app, 1);
    assert!(window_asked(&effects).is_some());
    // No answer, no further question.
    assert_eq!(window_asked(&wait(&mut app, 100)), None);
}

#[test]
fn a_long_range_leaves_nothing_behind_that_keeps_reports_out_of_a_short_one() {
    let mut app = answered(SLOT, WIDE);
    for _ in 0..4 {
        let effects = press(&mut app, "t");
        answer_all(&mut app, effects);
        let newest = screen(&app).graphs.curve(Metric::Cpu).newest().unwrap();
        assert!(newest.at <= screen(&app).graphs.window().to);
    }
    assert_eq!(screen(&app).graphs.span().word, "5m");
    wait(&mut app, 1);
    report(&mut app, SLOT, 1, 12.5);
    let newest = screen(&app).graphs.curve(Metric::Cpu).newest();
    assert_eq!(newest.map(|point| point.mean), Some(12.5));
}

#[test]
fn going_back_goes_layer_by_layer_and_leaves_the_fleet_as_it_was() {
    let mut app = sample::app(20, WIDE);
    press(&mut app, "j j j");
    let (cursor, top) = (app.fleet.cursor(), app.fleet.top);
    press(&mut app, "Enter Left Enter");
    assert_eq!(app.desk.screen(), Screen::Device);
    assert!(screen(&app).is_full && screen(&app).graphs.cursor().is_some());
    press(&mut app, "Esc");
    assert!(screen(&app).is_full && screen(&app).graphs.cursor().is_none());
    press(&mut app, "Esc");
    assert!(!screen(&app).is_full && app.desk.screen() == Screen::Device);
    press(&mut app, "Esc");
    assert_eq!(app.desk.screen(), Screen::Fleet);
    assert_eq!((app.fleet.cursor(), app.fleet.top), (cursor, top));
}

#[test]
fn the_cursor_stays_in_the_window() {
    let mut app = answered(SLOT, WIDE);
    press(&mut app, "Left");
    assert_eq!(screen(&app).graphs.cursor(), Some(time(0)));
    press(&mut app, "Left Left Right");
    assert_eq!(screen(&app).graphs.cursor(), Some(time(3)));
    press(&mut app, "g Left");
    assert_eq!(screen(&app).graphs.cursor(), Some(time(300)));
    // It stands at a time, which time carries out of the picture.
    wait(&mut app, 1);
    assert_eq!(screen(&app).graphs.cursor(), None);
}

#[test]
fn panes_are_walked_through_and_scroll() {
    let mut app = answered(SLOT, LOW);
    press(&mut app, "j");
    assert_eq!(screen(&app).large, Graph::Memory);
    press(&mut app, "Tab");
    assert_eq!(screen(&app).focus, Pane::Config);
    press(&mut app, "S-Tab S-Tab");
    assert_eq!(screen(&app).focus, Pane::Facts);
    press(&mut app, "G");
    let (top, facts) = (screen(&app).top(Pane::Facts), screen(&app).facts(&app.desk).len());
    let room = usize::from(screen(&app).parts(&app.desk).pane(Pane::Facts).unwrap().height) - 2;
    assert_eq!(top + room, facts);
    // More room leaves no lines out of sight.
    tell(&mut app, Event::Resize(Size::new(80, 60)));
    assert_eq!(screen(&app).top(Pane::Facts), 0);
}

#[test]
fn older_events_come_once_the_last_is_in_sight() {
    let (mut app, effects) = opened(SLOT, LOW);
    answer_all(&mut app, effects);
    // The first page fits, so the next was asked for at once: there is nothing older.
    press(&mut app, "S-Tab S-Tab S-Tab");
    assert_eq!(screen(&app).history.len(), 9);
    assert!(asked(&press(&mut app, "G")).is_empty());
}

#[test]
fn the_link_coming_back_asks_for_everything_again() {
    let mut app = answered(SLOT, WIDE);
    go_down(&mut app);
    let before = screen(&app).graphs.window();
    assert!(asked(&wait(&mut app, 30)).is_empty());
    assert_eq!(screen(&app).graphs.window(), before);
    let effects = come_back(&mut app, true);
    let of_device = |request: &&&Request| !matches!(request, Request::Batches { .. } | Request::Me);
    assert_eq!(asked(&effects).iter().filter(of_device).count(), 6);
    assert_eq!(window_asked(&effects).unwrap().to, before.to.plus(Duration::from_secs(30)));
    // What was asked before is not what is waited for now.
    let uid = sample::uid(SLOT);
    let old = Request::Series {
        device: uid,
        metrics: Vec::new(),
        from: before.from,
        to: before.to,
        step: before.step,
    };
    let answer = answer(&old);
    tell(&mut app, Event::Answer(old, Ok(answer)));
    assert_eq!(window_asked(&wait(&mut app, 1)), None);
}

#[test]
fn a_failure_is_told_and_not_asked_again_by_itself() {
    let (mut app, effects) = opened(SLOT, WIDE);
    fail_all(&mut app, effects);
    assert_eq!(screen(&app).graphs.error(), Some("the server is busy"));
    assert_eq!(screen(&app).config().1, Some("the server is busy"));
    assert!(asked(&wait(&mut app, 600)).is_empty());
    let effects = come_back(&mut app, true);
    answer_all(&mut app, effects);
    assert_eq!(screen(&app).graphs.error(), None);
}

#[test]
fn a_device_that_leaves_the_fleet_leaves_its_picture() {
    let mut app = answered(SLOT, WIDE);
    let gone = IndexPage { rows: Vec::new(), gone: vec![SLOT], complete: false };
    let message = Box::new(StreamMessage::Index(gone));
    let effects = tell(&mut app, Event::Link(LinkEvent::Message(message)));
    assert_eq!(looks(&effects), Some(&StreamView::default()));
    assert!(screen(&app).is_gone);
    assert!(!screen(&app).facts(&app.desk).is_empty());
    assert!(!screen(&app).graphs.curve(Metric::Cpu).is_empty());
    press(&mut app, "x");
    assert!(app.desk.popup.is_none());
}

#[test]
fn while_the_index_comes_anew_nothing_is_gone() {
    let mut app = answered(SLOT, WIDE);
    come_back(&mut app, false);
    assert!(!screen(&app).is_gone && screen(&app).row().is_some());
    let mut messages = sample::messages(20);
    sample::say(&mut app, messages.remove(1));
    assert!(!screen(&app).is_gone);
}

#[test]
fn coming_back_to_the_screen_fills_what_was_missed() {
    let mut app = answered(SLOT, WIDE);
    press(&mut app, "Esc");
    assert!(asked(&wait(&mut app, 30)).is_empty());
    app.open(sample::uid(SLOT));
    assert_eq!(asked(&wait(&mut app, 1)).len(), 6);
}

#[test]
fn a_changed_row_is_a_reason_to_ask_again() {
    let mut app = answered(SLOT, WIDE);
    let mut row = sample::row(SLOT);
    row.config_version += 1;
    let page = IndexPage { rows: vec![row], gone: Vec::new(), complete: false };
    let message = Box::new(StreamMessage::Index(page));
    let effects = tell(&mut app, Event::Link(LinkEvent::Message(message)));
    let uid = sample::uid(SLOT);
    assert_eq!(asked(&effects), [&Request::Config(uid), &Request::Device(uid)]);
}

#[test]
fn what_the_configuration_was_can_be_had_again() {
    let mut app = answered(SLOT, WIDE);
    press(&mut app, "D a");
    assert!(matches!(app.desk.popup, Some(Popup::Menu(_))), "that is how it is now");
    press(&mut app, "b");
    let Some(Popup::Confirm(confirm)) = &app.desk.popup else { panic!("no question") };
    let effect = confirm.lines.iter().find(|(label, _)| *label == "effect").unwrap();
    assert!(effect.1.contains("r17 again: telemetry.interval 30 → 60; telemetry.metrics"));
    assert_eq!(confirm.lock, Lock::Yes);
    let effects = press(&mut app, "y");
    let change = Change::GoBack { to: 17, from: 18 };
    assert_eq!(asked(&effects), [&Request::Change(sample::uid(SLOT), change)]);
}

#[test]
fn what_is_copied_is_safe_and_whole() {
    let mut app = answered(SLOT, WIDE);
    press(&mut app, "y");
    let Some(Popup::Menu(menu)) = &app.desk.popup else { panic!("no menu") };
    let keys: String = menu.items.iter().map(|item| item.key).collect();
    assert_eq!(keys, "iafujc");
    let effects = press(&mut app, "j");
    let Some(Effect::Copy(json)) = effects.first() else { panic!("{effects:?}") };
    assert!(json.contains("\\u001b[31m") && !json.contains('\u{1b}'));
    let json: serde_json::Value = serde_json::from_str(json).unwrap();
    assert_eq!(json["facts"]["cores"], 4);
    press(&mut app, "x");
    assert!(matches!(app.desk.popup, Some(Popup::Menu(_))));
}
