//! From the menu to the last answer.

use fleet_core::api::{DeviceStatus, DeviceUpdate, Me, Right, Role};
use fleet_core::command::Command;
use fleet_core::secret::KeyKind;
use serde_json::json;

use crate::effect::{Change, Effect, Request};
use crate::event::{Answer, Event, Failed};
use crate::sample;
use crate::state::App;
use crate::state::popup::{Lock, Popup};
use crate::testing::{app_with, device, disconnect, fleet_of, press};

fn changes(effects: &[Effect]) -> Vec<(fleet_core::id::Uid, Change)> {
    let change = |effect: &Effect| match effect {
        Effect::Ask(Request::Change(uid, change)) => Some((*uid, change.clone())),
        _ => None,
    };
    effects.iter().filter_map(change).collect()
}

/// Answers every change, and those that follow from the answers; how many there were.
fn answer_all(app: &mut App, effects: Vec<Effect>, refused: &[u32]) -> usize {
    let mut waiting = changes(&effects);
    let mut count = 0;
    while let Some((uid, change)) = waiting.pop() {
        let is_refused = refused.iter().any(|slot| sample::uid(*slot) == uid);
        let refusal = Failed {
            text: "the server refused: no".to_owned(),
            request_id: Some("r1".to_owned()),
            field: None,
        };
        let answer = if is_refused { Err(refusal) } else { Ok(Answer::Done) };
        let now = sample::moment(app.desk.now.since_start);
        waiting
            .extend(changes(&app.apply(now, Event::Answer(Request::Change(uid, change), answer))));
        count += 1;
    }
    count
}

fn notice(app: &App) -> &str {
    app.desk.notice.as_ref().map(|(notice, _)| notice.text.as_str()).unwrap_or_default()
}

fn mixed() -> App {
    app_with(vec![
        device(0, "a-online", DeviceStatus::Online),
        device(1, "b-pending", DeviceStatus::Pending),
        device(2, "c-revoked", DeviceStatus::Revoked),
    ])
}

#[test]
fn enter_alone_interrupts_and_decides_nothing() {
    use DeviceStatus::{Late, Lost, Offline, Online, Pending, Rejected, Revoked};
    for status in [Online, Late, Offline, Lost, Pending, Rejected, Revoked] {
        for count in [1, 2] {
            let rows = (0..count).map(|slot| device(slot, &format!("d{slot}"), status));
            let mut app = app_with(rows.collect());
            press(&mut app, if count > 1 { "a x" } else { "x" });
            let Some(Popup::Menu(menu)) = &app.desk.popup else { panic!("no menu") };
            // The menu opens on what can be done, which is no more than a look or a question.
            assert!(menu.items[menu.cursor].command.is_some(), "{status:?}");
            for (_, change) in changes(&press(&mut app, "Enter Enter Enter")) {
                let is_harmless = match &change {
                    // What operators note of a device that takes nothing else.
                    Change::Update(_) => status == Revoked,
                    Change::Command { command, .. } => *command == Command::Collect,
                    _ => false,
                };
                assert!(is_harmless, "{status:?}: {change:?}");
            }
        }
    }
}

#[test]
fn what_does_not_apply_is_greyed_with_the_reason() {
    let mut app = mixed();
    // Sorted by urgency the pending one is first.
    press(&mut app, "x");
    let Some(Popup::Menu(menu)) = &app.desk.popup else { panic!("no menu") };
    let there = |key| menu.items.iter().find(|item| item.key == key).unwrap();
    assert!(there('a').command.is_some() && there('r').command.is_some());
    assert!(there('i').command.is_none());
    assert_eq!(there('i').detail, "only devices of the fleet take a configuration");
    press(&mut app, "Esc a x");
    let Some(Popup::Menu(menu)) = &app.desk.popup else { panic!("no menu") };
    let text = |key| menu.items.iter().find(|item| item.key == key).unwrap().text.as_str();
    assert_eq!((text('a'), text('v'), text('d')), ("accept 1 of 3…", "revoke 2 of 3…", "delete…"));
}

/// The server says what the key may do.
fn may(app: &mut App, role: Role, rights: &[Right], scope: Option<&str>) {
    let me = Me {
        id: "k3xq2m7abc".to_owned(),
        kind: KeyKind::Operator,
        label: "me".into(),
        role: Some(role),
        rights: rights.iter().copied().collect(),
        scope: scope.map(Into::into),
        device_id: None,
        expires_at: None,
    };
    let now = sample::moment(app.desk.now.since_start);
    app.apply(now, Event::Answer(Request::Me, Ok(Answer::Me(Box::new(me)))));
}

#[test]
fn what_the_key_may_not_do_is_greyed_with_the_reason() {
    let mut app = mixed();
    let greyed = |app: &App| {
        let menu = super::menu(vec![sample::uid(0)], &app.desk);
        let items = menu.items.into_iter().filter(|item| item.command.is_none());
        items.map(|item| (item.text, item.detail)).collect::<Vec<_>>()
    };
    let by_right = |app: &App| {
        greyed(app).into_iter().filter(|(_, why)| why.contains("right")).collect::<Vec<_>>()
    };
    may(&mut app, Role::Operator, &[Right::Delete], None);
    let refused = by_right(&app);
    assert_eq!(refused.len(), 1, "{refused:?}");
    assert_eq!(refused[0].1, "the key has not the right exec");
    may(&mut app, Role::Admin, &Right::ALL, None);
    assert!(by_right(&app).is_empty());
    assert_eq!(app.desk.why_not_bring_in(), None);
    may(&mut app, Role::Operator, &Right::ALL, Some("site=a"));
    assert!(app.desk.why_not_bring_in().is_some_and(|why| why.contains("some devices only")));
    may(&mut app, Role::Viewer, &[], None);
    let refused = greyed(&app);
    assert!(refused.iter().all(|(_, why)| why.contains("role viewer")), "{refused:?}");
    assert!(refused.iter().all(|(text, _)| !text.starts_with("logs")), "those may be read");
    press(&mut app, "x");
    press(&mut app, "d");
    assert!(notice(&app).contains("role viewer"), "{}", notice(&app));
}

#[test]
fn who_may_only_look_reads_logs_as_they_come() {
    for is_read_only in [false, true] {
        let reader = || {
            let mut app = app_with(fleet_of(3));
            app.desk.settings.is_read_only = is_read_only;
            if !is_read_only {
                may(&mut app, Role::Viewer, &[], None);
            }
            app
        };
        let lines = |effects: &[Effect]| {
            effects.iter().find_map(|effect| match effect {
                Effect::Logs(Some(ask)) => Some((ask.device, ask.query.unit.clone())),
                _ => None,
            })
        };
        let first = sample::uid(0);
        let mut app = reader();
        let effects = press(&mut app, "x l");
        assert_eq!(changes(&effects), []);
        assert_eq!(lines(&effects), Some((first, None)));
        let unit = Some("nginx.service".parse().unwrap());
        let effects = press(&mut reader(), "x u n g i n x Enter");
        assert_eq!(lines(&effects), Some((first, unit.clone())));
        let effects = press(&mut reader(), ": l o g s Space n g i n x Enter");
        assert_eq!(lines(&effects), Some((first, unit)));
        // Of one device at a time.
        let mut app = reader();
        press(&mut app, "a x l");
        assert!(notice(&app).contains("one device at a time"), "{}", notice(&app));
    }
}

#[test]
fn a_key_for_some_devices_lets_none_in() {
    let mut app = mixed();
    may(&mut app, Role::Operator, &[], Some("site=a"));
    press(&mut app, "x a");
    assert!(notice(&app).contains("brings none in"), "{}", notice(&app));
}

#[test]
fn one_device_takes_a_y_and_not_an_enter() {
    let mut app = mixed();
    assert_eq!(changes(&press(&mut app, "x a Enter")), []);
    assert!(app.desk.popup.is_none());
    let effects = press(&mut app, "x a y");
    assert_eq!(changes(&effects), [(sample::uid(1), Change::Accept)]);
    assert_eq!(answer_all(&mut app, effects, &[]), 1);
    assert_eq!(notice(&app), "b-pending accepted");
    assert!(app.desk.job.is_none());
}

#[test]
fn what_cannot_be_taken_back_wants_the_id() {
    let mut app = mixed();
    press(&mut app, "x d y Enter");
    let Some(Popup::Confirm(confirm)) = &app.desk.popup else { panic!("no question") };
    assert!(matches!(&confirm.lock, Lock::Typed { text, .. } if text == "b-pending"));
    press(&mut app, "Backspace b - p e n d i n");
    assert_eq!(changes(&press(&mut app, "Enter")), []);
    let effects = press(&mut app, "g Enter");
    assert_eq!(changes(&effects), [(sample::uid(1), Change::Delete)]);
}

#[test]
fn many_devices_want_their_number_and_are_done_a_few_at_a_time() {
    let mut app = app_with(fleet_of(214));
    assert_eq!(changes(&press(&mut app, "a x v 2 1 Enter")), []);
    let effects = press(&mut app, "4 Enter");
    assert_eq!(changes(&effects).len(), 8);
    assert_eq!(notice(&app), "revoked 0 of 214");
    // A second job waits for the first.
    press(&mut app, "x d 2 1 4 Enter");
    assert!(notice(&app).contains("something else is still under way"));
    assert_eq!(answer_all(&mut app, effects, &[3, 77]), 214);
    assert!(notice(&app).starts_with("212 revoked, 2 failed: "), "{}", notice(&app));
    let told: Vec<&str> = app.desk.notices.iter().map(|(notice, _)| notice.text.as_str()).collect();
    for failure in [
        "pump-0003: the server refused: no (request r1)",
        "pump-0077: the server refused: no (request r1)",
    ] {
        assert!(told.contains(&failure), "{failure}");
    }
}

#[test]
fn what_the_filter_hides_is_told_and_done() {
    let mut app = app_with(fleet_of(3));
    press(&mut app, "a / 0 0 0 1 Enter x v");
    let Some(Popup::Confirm(confirm)) = &app.desk.popup else { panic!("no question") };
    let marks = confirm.lines.iter().find(|(label, _)| *label == "marks").unwrap();
    assert_eq!(marks.1, "3 marked, 2 of them hidden by the filter: included");
    assert_eq!(changes(&press(&mut app, "3 Enter")).len(), 3);
}

#[test]
fn the_devices_are_those_of_when_it_was_asked() {
    let mut app = app_with(fleet_of(3));
    press(&mut app, "a x v");
    let page = fleet_core::api::IndexPage { rows: fleet_of(10), gone: vec![0], complete: true };
    sample::say(&mut app, fleet_core::api::StreamMessage::Index(page));
    assert_eq!(changes(&press(&mut app, "3 Enter")).len(), 3);
}

#[test]
fn nothing_is_done_while_the_server_is_away() {
    let mut app = mixed();
    press(&mut app, "x a");
    disconnect(&mut app);
    assert_eq!(changes(&press(&mut app, "y")), []);
    assert!(app.desk.popup.is_some());
    assert!(notice(&app).contains("the server is away"));
    app.desk.settings.is_read_only = true;
    press(&mut app, "Esc Esc x a");
    assert!(matches!(&app.desk.popup, Some(Popup::Menu(_))));
    assert_eq!(notice(&app), "this console is read-only");
}

#[test]
fn a_job_ends_when_the_server_goes() {
    let mut app = app_with(fleet_of(20));
    let effects = press(&mut app, "a x v 2 0 Enter");
    disconnect(&mut app);
    assert_eq!(answer_all(&mut app, effects, &[]), 8);
    assert!(
        notice(&app).starts_with("8 revoked, 12 not tried: the server is away"),
        "{}",
        notice(&app)
    );
    assert!(app.desk.job.is_none());
}

#[test]
fn notes_about_one_device_are_written_at_once() {
    let mut app = mixed();
    let effects = press(&mut app, "x m s i t e = l y o n Enter");
    let update =
        DeviceUpdate { metadata: Some(json!({ "site": "lyon" })), ..DeviceUpdate::default() };
    assert_eq!(changes(&effects), [(sample::uid(1), Change::Update(update))]);
    answer_all(&mut app, effects, &[]);
    press(&mut app, "x m s i t e Enter");
    let Some(Popup::Form(form)) = &app.desk.popup else { panic!("no form") };
    assert!(form.error.as_ref().is_some_and(|error| error.starts_with("site ")));
    press(&mut app, "Esc a x t c a n a r y Enter");
    assert!(matches!(&app.desk.popup, Some(Popup::Confirm(_))));
    assert_eq!(changes(&press(&mut app, "y")).len(), 3);
}

#[test]
fn another_screens_answers_are_no_business_of_a_job() {
    let mut app = app_with(fleet_of(2));
    let effects = press(&mut app, "a x v 2 Enter");
    let other = Request::Change(sample::uid(9), Change::Accept);
    let refusal = Failed { text: "no".to_owned(), request_id: None, field: None };
    app.apply(sample::moment(std::time::Duration::ZERO), Event::Answer(other, Err(refusal)));
    assert_eq!(answer_all(&mut app, effects, &[]), 2);
    assert_eq!(notice(&app), "2 revoked");
}
