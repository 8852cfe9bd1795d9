//! The list of batches and one of them, from key to request and from answer to row.

use fleet_core::api::{EventKind, MemberState, StreamMessage};

use super::*;
use crate::effect::Effect;
use crate::event::Event;
use crate::sample;
use crate::state::App;
use crate::state::popup::{Confirm, Lock};
use crate::testing::{
    app_with, batch, batch_id, disconnect, event, fleet_of, live_app, member, press, wait,
};
use fleet_core::api::MemberState::{Failed as Bad, Running, Succeeded, Waiting};

fn tell(app: &mut App, request: Request, answer: Result<Answer, Failed>) -> Vec<Effect> {
    let now = sample::moment(app.desk.now.since_start);
    app.apply(now, Event::Answer(request, answer))
}

fn requests(effects: &[Effect]) -> Vec<Request> {
    let request = |effect: &Effect| match effect {
        Effect::Ask(request) => Some(request.clone()),
        _ => None,
    };
    effects.iter().filter_map(request).collect()
}

/// What is asked for about batches.
fn asked(effects: &[Effect]) -> Vec<Request> {
    let is_it = |request: &Request| {
        matches!(
            request,
            Request::Batches { .. }
                | Request::Batch(_)
                | Request::Members { .. }
                | Request::ChangeBatch(..)
                | Request::RetryBatch(..)
        )
    };
    requests(effects).into_iter().filter(is_it).collect()
}

/// Has the server tell of batches, all in one page.
fn list(app: &mut App, views: Vec<BatchView>) {
    wait(app, Duration::from_secs(10));
    press(app, "4");
    tell(app, Request::Batches { before: None, limit: LOOK_ROWS }, Ok(Answer::Batches(vec![])));
    wait(app, Duration::from_secs(2));
    tell(app, Request::Batches { before: None, limit: PAGE }, Ok(Answer::Batches(views)));
    for id in std::mem::take(&mut app.batches.looked_at) {
        let view = app.batches.known(id).unwrap().view.clone();
        tell(app, Request::Batch(id), Ok(Answer::Batch(Box::new(view))));
    }
}

fn with(mut view: BatchView, state: BatchState) -> BatchView {
    view.state = state;
    view
}

fn notice(app: &App) -> (&str, bool) {
    let notice = app.desk.notice.as_ref();
    notice.map(|(notice, _)| (notice.text.as_str(), notice.is_error)).unwrap_or_default()
}

fn question(app: &App) -> &Confirm {
    let Some(Popup::Confirm(confirm)) = &app.desk.popup else { panic!("no question") };
    confirm
}

#[test]
fn what_wants_somebody_comes_first() {
    let mut app = live_app();
    let done =
        |number, failed| with(batch(number, &[(Succeeded, 3), (Bad, failed)]), BatchState::Done);
    let mut again = done(8, 0);
    again.retry_of = Some(batch_id(4));
    let mut old = done(2, 1);
    old.state_at = old.state_at.minus(Duration::from_secs(2 * 86_400));
    let views = vec![
        done(9, 0),
        again,
        with(batch(7, &[(Waiting, 1)]), BatchState::Paused),
        batch(6, &[(Running, 1)]),
        batch(5, &[(Running, 1), (Bad, 1)]),
        done(4, 1),
        done(3, 1),
        old,
    ];
    list(&mut app, views);
    // The fourth failed too, and that was tried again; the second one failed long ago.
    let expected = [7, 5, 6, 3, 9, 8, 4, 2].map(batch_id);
    assert_eq!(app.batches.order(), expected);
    assert_eq!(app.batches.going_on(), 3);
    press(&mut app, "/ r e s t Space p a u s Enter");
    assert_eq!(app.batches.order(), [batch_id(7)]);
    press(&mut app, "Esc");
    assert_eq!(app.batches.order().len(), 8);
}

#[test]
fn all_batches_come_page_by_page_and_what_the_server_let_go_of_goes() {
    let mut app = live_app();
    let number = u32::try_from(PAGE).unwrap();
    let views = |from: u32, count: u32| -> Vec<_> {
        (from - count..from)
            .rev()
            .map(|it| with(batch(it, &[(Succeeded, 1)]), BatchState::Done))
            .collect()
    };
    list(&mut app, views(1_000, number));
    let next = Request::Batches { before: Some(batch_id(800)), limit: PAGE };
    assert!(app.batches.is_loading());
    tell(&mut app, next, Ok(Answer::Batches(views(800, 20))));
    assert!(!app.batches.is_loading());
    assert_eq!(app.batches.order().len(), 220);
    assert!(app.batches.known(batch_id(780)).is_some());
    // After an outage everything is looked at anew.
    disconnect(&mut app);
    sample::say(&mut app, StreamMessage::Hello(sample::hello(0)));
    wait(&mut app, Duration::from_secs(2));
    let mut page = views(1_000, number);
    page.remove(10);
    page.push(views(800, 1).remove(0));
    tell(&mut app, Request::Batches { before: None, limit: PAGE }, Ok(Answer::Batches(page)));
    let next = Request::Batches { before: Some(batch_id(799)), limit: PAGE };
    tell(&mut app, next, Ok(Answer::Batches(views(799, 9))));
    assert_eq!(app.batches.order().len(), 209);
    assert!(
        app.batches.known(batch_id(989)).is_none() && app.batches.known(batch_id(780)).is_none()
    );
}

#[test]
fn what_goes_on_is_looked_at_each_second_and_what_is_over_is_not() {
    let mut app = live_app();
    list(&mut app, vec![batch(3, &[(Running, 1)])]);
    let look = Request::Batch(batch_id(3));
    assert_eq!(asked(&wait(&mut app, Duration::from_millis(400))), []);
    assert_eq!(asked(&wait(&mut app, Duration::from_millis(700))), std::slice::from_ref(&look));
    assert_eq!(asked(&wait(&mut app, Duration::from_secs(9))), [], "one is under way");
    let over = with(batch(3, &[(Succeeded, 1)]), BatchState::Done);
    tell(&mut app, look, Ok(Answer::Batch(Box::new(over))));
    assert_eq!(asked(&wait(&mut app, Duration::from_secs(60))), []);
    // Whatever happens to one is looked at, also from elsewhere.
    press(&mut app, "1");
    let happened = event(1, EventKind::BatchBegun, None, "x");
    sample::say(&mut app, StreamMessage::Event(happened));
    assert!(!app.batches.is_due && app.batches.is_asked);
}

#[test]
fn of_many_that_go_on_each_has_its_turn() {
    let mut app = live_app();
    let count = u32::try_from(LOOKS_MAX).unwrap() + 3;
    list(&mut app, (0..count).rev().map(|number| batch(number, &[(Waiting, 1)])).collect());
    let mut seen = BTreeSet::new();
    for _ in 0..2 {
        let asked = asked(&wait(&mut app, Duration::from_secs(2)));
        assert_eq!(asked.len(), LOOKS_MAX);
        for request in asked {
            let Request::Batch(id) = request else { panic!("{request:?}") };
            seen.insert(id);
            let view = app.batches.known(id).unwrap().view.clone();
            tell(&mut app, Request::Batch(id), Ok(Answer::Batch(Box::new(view))));
        }
    }
    assert_eq!(seen.len(), usize::try_from(count).unwrap());
    // One that is gone is noticed, and all are looked at anew.
    let gone = Request::Batch(batch_id(1));
    let refused = Failed { text: "there is no batch".to_owned(), request_id: None, field: None };
    tell(&mut app, gone, Err(refused));
    let asked = asked(&wait(&mut app, Duration::from_secs(6)));
    assert_eq!(asked, [Request::Batches { before: None, limit: PAGE }]);
}

#[test]
fn pausing_is_done_at_once_and_everything_else_is_asked() {
    let mut app = live_app();
    let running = batch(3, &[(Waiting, 7), (Bad, 2), (Running, 1)]);
    list(&mut app, vec![running.clone()]);
    let change = |change| Request::ChangeBatch(batch_id(3), change);
    let effects = press(&mut app, "P");
    assert_eq!(asked(&effects), [change(BatchChange::Pause)]);
    let paused = with(running, BatchState::Paused);
    tell(&mut app, change(BatchChange::Pause), Ok(Answer::Batch(Box::new(paused.clone()))));
    assert_eq!(notice(&app), ("restart nginx.service is paused", false));
    for (key, request, number, verb) in [
        ("C", change(BatchChange::Continue), "7", "go on with 7 devices"),
        ("K", change(BatchChange::Cancel), "7", "call off 7 devices"),
        ("R", Request::RetryBatch(batch_id(3), 2), "2", "retry 2 devices"),
    ] {
        assert_eq!(asked(&press(&mut app, &format!("{key} y Enter"))), [], "{key}");
        assert!(matches!(&question(&app).lock, Lock::Typed { text, .. } if text == number));
        assert_eq!(question(&app).verb, verb);
        let asked = asked(&press(&mut app, &format!("Backspace {number} Enter")));
        assert_eq!(asked, [request]);
    }
    press(&mut app, "P");
    assert_eq!(notice(&app), ("not done: it is paused already", true));
    press(&mut app, "Esc x");
    let Some(Popup::Menu(menu)) = &app.desk.popup else { panic!("no menu") };
    let able: Vec<bool> = menu.items.iter().map(|item| item.command.is_some()).collect();
    assert_eq!(able, [false, true, true, true]);
    press(&mut app, "Esc");
    disconnect(&mut app);
    assert_eq!(asked(&press(&mut app, "C")), []);
    assert!(notice(&app).0.contains("the server is away"));
}

#[test]
fn one_device_wants_a_y_unless_it_is_grave() {
    for (word, is_typed) in [("restart", false), ("reboot", true)] {
        let mut app = live_app();
        let mut paused = with(batch(3, &[(Waiting, 1), (Succeeded, 1)]), BatchState::Paused);
        paused.command = Some(word.into());
        paused.args = Vec::new();
        list(&mut app, vec![paused]);
        press(&mut app, "C");
        assert_eq!(question(&app).lock != Lock::Yes, is_typed, "{word}");
    }
}

#[test]
fn a_retry_is_opened_and_followed() {
    let mut app = live_app();
    let failed = with(batch(3, &[(Succeeded, 1), (Bad, 1)]), BatchState::Done);
    list(&mut app, vec![failed]);
    press(&mut app, "Enter R y");
    let mut again = batch(4, &[(Waiting, 1)]);
    again.retry_of = Some(batch_id(3));
    let request = Request::RetryBatch(batch_id(3), 1);
    tell(&mut app, request, Ok(Answer::Batch(Box::new(again.clone()))));
    assert_eq!(app.batches.open.as_ref().map(|open| open.id), Some(batch_id(4)));
    let done = with(batch(4, &[(Succeeded, 1)]), BatchState::Done);
    tell(&mut app, Request::Batch(batch_id(4)), Ok(Answer::Batch(Box::new(done))));
    assert_eq!(notice(&app), ("restart nginx.service on 1 device: 1 succeeded", false));
}

/// Opens a batch of these devices, and answers all that is asked.
fn opened(app: &mut App, view: BatchView, members: &[(u32, MemberState)]) {
    list(app, vec![view.clone()]);
    let mut waiting = asked(&press(app, "Enter"));
    while let Some(request) = waiting.pop() {
        let answer = match &request {
            Request::Batch(_) => Answer::Batch(Box::new(view.clone())),
            Request::Members { states, .. } => {
                let fits = members.iter().filter(|(_, state)| states.contains(state));
                Answer::Members(fits.map(|(number, state)| member(*number, *state)).collect())
            }
            other => panic!("{other:?}"),
        };
        waiting.extend(asked(&tell(app, request, Ok(answer))));
    }
}

#[test]
fn a_batchs_devices_stand_by_state_and_lead_to_what_they_do() {
    let mut app = app_with(fleet_of(9));
    let view = batch(3, &[(Succeeded, 2), (Bad, 1), (Waiting, 1)]);
    let members = [(1, Succeeded), (2, Bad), (3, Waiting), (4, Succeeded)];
    opened(&mut app, view, &members);
    let ids: Vec<_> = {
        let open = app.batches.open.as_ref().unwrap();
        open.members.rows().map(|row| row.device_id.to_string()).collect()
    };
    assert_eq!(ids, ["d-00002", "d-00003", "d-00001", "d-00004"]);
    press(&mut app, "f s");
    let open = app.batches.open.as_ref().unwrap();
    assert_eq!(open.members.shown().as_deref(), Some("succeeded"));
    assert_eq!(open.members.rows().count(), 2);
    press(&mut app, "Esc j Enter");
    assert_eq!(app.desk.screen(), Screen::Device);
    let device = app.device.as_ref().unwrap();
    assert_eq!((device.uid, device.focus), (sample::uid(3), layout::Pane::Commands));
    press(&mut app, "Esc");
    assert_eq!(app.desk.screen(), Screen::Batch, "back to where it was opened");
    press(&mut app, "Esc");
    assert_eq!(app.desk.screen(), Screen::Batches);
}

#[test]
fn an_event_of_a_batch_leads_to_it() {
    let mut app = live_app();
    let text = format!("{} restart: of 3 devices 3 waiting", batch_id(3));
    press(&mut app, "6");
    sample::say(&mut app, StreamMessage::Event(event(1, EventKind::BatchBegun, None, &text)));
    press(&mut app, "Enter");
    assert_eq!(app.batches.open.as_ref().map(|open| open.id), Some(batch_id(3)));
}

#[test]
fn what_may_be_long_is_not_kept() {
    let mut view = batch(3, &[(Waiting, 1)]);
    view.command = None;
    view.config = Some(serde_json::json!({ "x": "\u{1b}[31m long ".repeat(5_000) }));
    let known = Known::new(view);
    assert!(known.view.config.is_none() && known.words.chars().count() <= 201);
    assert!(!known.words.contains('\u{1b}'));
}
