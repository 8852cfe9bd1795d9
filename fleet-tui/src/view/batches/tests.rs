//! Pictures of batches in the states that they can be in.

use std::time::Duration;

use fleet_core::api::{
    BatchDevice, BatchPreview, BatchState, BatchView, Excluded, MemberState,
    MemberState::{Expired, Failed, Running, Skipped, Succeeded, Unknown, Waiting},
    StreamMessage,
};
use fleet_core::time::Timestamp;
use proptest::prelude::*;
use ratatui::layout::Size;

use crate::effect::{Effect, Request};
use crate::event::{Answer, Event, LinkEvent};
use crate::layout::SMALLEST;
use crate::sample;
use crate::state::App;
use crate::terminal::caps::Caps;
use crate::testing::{
    HUGE, LOW, WIDE, app, app_with, ascii, batch, batch_id, disconnect, fleet_of, live_app, member,
    poor, press, resize, screen, sized, wait,
};

fn pictures(name: &str, app: &mut App) {
    for (size, suffix) in [(WIDE, "wide"), (LOW, "low")] {
        insta::assert_snapshot!(format!("{name}_{suffix}"), sized(app, size));
    }
}

fn all_pictures(name: &str, app: &mut App) {
    pictures(name, app);
    for (size, suffix) in [(HUGE, "huge"), (SMALLEST, "smallest")] {
        insta::assert_snapshot!(format!("{name}_{suffix}"), sized(app, size));
    }
    for (suffix, picture) in poor(app) {
        insta::assert_snapshot!(format!("{name}_{suffix}"), picture);
    }
}

/// Some of all kinds, newest first.
fn sample_batches() -> Vec<BatchView> {
    let aged = |mut view: BatchView, minutes: u64| {
        view.created_at = view.created_at.minus(Duration::from_secs(minutes * 60));
        view
    };
    let over = |mut view: BatchView, state, why: &str| {
        view.state = state;
        view.why = why.into();
        view
    };
    let mut running =
        batch(90, &[(Succeeded, 138), (Running, 20), (Waiting, 53), (Failed, 2), (Unknown, 1)]);
    running.canary = 5;
    running.window = 20;
    running.reason = Some("ticket 4411".into());
    running.filter = Some("type=raspberrypi tag:eu-west".into());
    let mut config = batch(89, &[(Succeeded, 9_961), (Skipped, 39)]);
    config.command = None;
    config.args = Vec::new();
    config.config = Some(serde_json::json!({ "telemetry": { "interval": 30 } }));
    let paused = batch(88, &[(Failed, 5), (Succeeded, 40), (Waiting, 155)]);
    let mut hostile = batch(85, &[(Succeeded, 3)]);
    hostile.command = Some("\u{1b}[31mfly\u{202e} \u{4e16}\u{754c}".into());
    hostile.author = "operator:\u{1b}]52;c;x".into();
    vec![
        running,
        aged(over(config, BatchState::Done, "nothing is to come any more"), 12),
        aged(over(paused, BatchState::Paused, "5 devices have failed, and it pauses at 5"), 40),
        aged(over(batch(87, &[(Failed, 2), (Succeeded, 8)]), BatchState::Done, "done"), 90),
        aged(
            over(
                batch(86, &[(MemberState::Cancelled, 70), (Succeeded, 30)]),
                BatchState::Cancelled,
                "cancelled by operator:k3xq2m7a",
            ),
            300,
        ),
        aged(over(hostile, BatchState::Done, "\u{1b}[2Jdone"), 3_000),
        aged(over(batch(84, &[(Expired, 2), (Succeeded, 2)]), BatchState::Done, "done"), 4_000),
    ]
}

/// What the server answers.
fn answer(request: &Request, members: &[(u32, MemberState, &str)]) -> Option<Answer> {
    Some(match request {
        Request::Batches { limit, .. } => {
            Answer::Batches(sample_batches().into_iter().take(*limit).collect())
        }
        Request::Batch(id) => {
            let view = sample_batches().into_iter().find(|view| view.id == *id);
            Answer::Batch(Box::new(view.expect("a batch of the sample")))
        }
        Request::Members { states, .. } => {
            let fits = members.iter().filter(|(_, state, _)| states.contains(state));
            let member = |(number, state, why): &(u32, MemberState, &str)| {
                let mut member = member(*number, *state);
                member.why = (*why).into();
                member
            };
            Answer::Members(fits.map(member).collect())
        }
        _ => return None,
    })
}

/// Presses keys, and answers all that is asked about batches.
fn go(app: &mut App, keys: &str, members: &[(u32, MemberState, &str)]) {
    let mut effects = press(app, keys);
    for _ in 0..40 {
        let requests: Vec<Request> = effects
            .iter()
            .filter_map(|effect| match effect {
                Effect::Ask(request) => Some(request.clone()),
                _ => None,
            })
            .collect();
        if requests.is_empty() {
            break;
        }
        effects = Vec::new();
        for request in requests {
            if let Some(answer) = answer(&request, members) {
                let now = sample::moment(app.desk.now.since_start);
                effects.extend(app.apply(now, Event::Answer(request, Ok(answer))));
            }
        }
    }
}

fn listed() -> App {
    let mut app = app_with(fleet_of(9));
    let look = Request::Batches { before: None, limit: 50 };
    let now = sample::moment(Duration::ZERO);
    app.apply(now, Event::Answer(look, Ok(Answer::Batches(Vec::new()))));
    wait(&mut app, Duration::from_secs(2));
    go(&mut app, "4", &[]);
    app
}

const MEMBERS: [(u32, MemberState, &str); 9] = [
    (
        1,
        Failed,
        "exit code 125: Error: no such container: vision, and a reason that is much too long for one line of a terminal",
    ),
    (2, Failed, "device policy: restart disabled \u{1b}[31m"),
    (3, Unknown, "no answer after 60s; it may still run"),
    (4, Running, "the device is at it"),
    (5, Running, "the device is told"),
    (6, Waiting, "its turn has not come"),
    (7, Waiting, "it is not connected"),
    (8, Succeeded, "done in 7.9 s"),
    (9, Succeeded, "done in 7.4 s"),
];

#[test]
fn a_list() {
    let mut app = listed();
    all_pictures("list", &mut app);
    press(&mut app, "/ p a u s");
    pictures("list_typing", &mut app);
    press(&mut app, "z z Enter");
    pictures("list_none_match", &mut app);
    press(&mut app, "Esc");
    disconnect(&mut app);
    pictures("list_away", &mut app);
}

#[test]
fn nothing_to_list() {
    let mut app = live_app();
    press(&mut app, "4");
    pictures("list_loading", &mut app);
    let none = |limit| Request::Batches { before: None, limit };
    let now = sample::moment(Duration::from_secs(9));
    app.apply(now, Event::Answer(none(50), Ok(Answer::Batches(Vec::new()))));
    app.apply(now, Event::Answer(none(200), Ok(Answer::Batches(Vec::new()))));
    pictures("list_empty", &mut app);
    let mut app = self::app();
    press(&mut app, "4");
    let reason = "the key k3xq2m7a is not good there".to_owned();
    let down = LinkEvent::Down { reason, retry_in: None, is_denied: true };
    app.apply(sample::moment(Duration::ZERO), Event::Link(down));
    pictures("list_denied", &mut app);
}

#[test]
fn one_with_its_devices() {
    let mut app = listed();
    go(&mut app, "j Enter", &MEMBERS);
    all_pictures("one", &mut app);
    press(&mut app, "f");
    pictures("one_which", &mut app);
    go(&mut app, "e", &MEMBERS);
    pictures("one_none_of_those", &mut app);
    press(&mut app, "Esc j x");
    pictures("one_actions", &mut app);
    press(&mut app, "Esc R");
    pictures("one_retry", &mut app);
    press(&mut app, "Esc y");
    pictures("one_copy", &mut app);
    press(&mut app, "Esc");
    disconnect(&mut app);
    pictures("one_away", &mut app);
}

#[test]
fn what_a_batch_would_be() {
    let mut app = app_with(fleet_of(9));
    let effects = press(&mut app, "a x b");
    let asked = effects.iter().find_map(|effect| match effect {
        Effect::Ask(request @ Request::Preview(_)) => Some(request.clone()),
        _ => None,
    });
    let devices = fleet_of(8);
    let preview = BatchPreview {
        devices: devices
            .iter()
            .map(|row| BatchDevice { device_id: row.id.clone(), uid: row.uid })
            .collect(),
        by_status: [("online".to_owned(), 6), ("offline".to_owned(), 2)].into(),
        by_type: [("raspberrypi".to_owned(), 8)].into(),
        offline: 2,
        excluded: vec![Excluded {
            device_id: "pump-0008".parse().expect("a device id"),
            why: "it is revoked".into(),
        }],
        window: 2,
        canary: 0,
        max_fail: 1,
        expires_at: Timestamp::from_millis(sample::NOW + 86_400_000),
    };
    let now = sample::moment(Duration::ZERO);
    let answer = Ok(Answer::Preview(Box::new(preview)));
    app.apply(now, Event::Answer(asked.expect("it is asked"), answer));
    press(&mut app, "8");
    pictures("begin", &mut app);
}

#[test]
fn help_on_batches() {
    let mut app = listed();
    press(&mut app, "? P");
    pictures("help", &mut app);
}

#[test]
fn a_thousand_batches_and_ten_thousand_devices_cost_what_is_in_sight() {
    let mut app = live_app();
    press(&mut app, "4");
    let now = sample::moment(Duration::from_secs(9));
    let look = Request::Batches { before: None, limit: 50 };
    app.apply(now, Event::Answer(look, Ok(Answer::Batches(Vec::new()))));
    let mut before = None;
    for page in (0..5_u32).rev() {
        let views: Vec<_> = (page * 200..(page + 1) * 200)
            .rev()
            .map(|number| batch(number, &[(Succeeded, 9_000), (Waiting, 1_000)]))
            .collect();
        let oldest = views.last().map(|view| view.id);
        let request = Request::Batches { before, limit: 200 };
        app.apply(now, Event::Answer(request, Ok(Answer::Batches(views))));
        before = oldest;
    }
    assert_eq!(app.batches.order().len(), 1_000);
    assert_eq!(app.batches.kept(), 1_000);
    let effects = press(&mut app, "Enter");
    let asked: Vec<_> = effects
        .iter()
        .filter(|effect| matches!(effect, Effect::Ask(Request::Members { .. })))
        .collect();
    assert_eq!(asked.len(), 1, "one page, however many devices there are: {asked:?}");
    let page = (0..200).map(|number| member(number, Waiting)).collect();
    let request =
        Request::Members { batch: batch_id(999), states: vec![Waiting], after: None, limit: 200 };
    let effects = app.apply(now, Event::Answer(request, Ok(Answer::Members(page))));
    assert!(!effects.iter().any(|effect| matches!(effect, Effect::Ask(Request::Members { .. }))));
    let open = app.batches.open.as_ref().expect("it is open");
    assert_eq!((open.members.len(), open.members.total()), (200, 10_000));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_size_and_any_keys(
        width in 1..300_u16,
        height in 1..100_u16,
        keys in prop::collection::vec(prop::sample::select(KEYS), 0..24),
        is_open in any::<bool>(),
    ) {
        let mut app = listed();
        if is_open {
            go(&mut app, "j Enter", &MEMBERS);
        }
        resize(&mut app, Size::new(width, height));
        for key in keys {
            go(&mut app, key, &MEMBERS);
            let buffer = screen(&app, Caps::default());
            prop_assert_eq!(buffer.area.as_size(), Size::new(width, height));
        }
        sample::say(&mut app, StreamMessage::Hello(sample::hello(9)));
        screen(&app, ascii());
    }
}

const KEYS: &[&str] = &[
    "j", "k", "G", "g", "x", "Enter", "Esc", "/", ":", "?", "P", "C", "K", "R", "f", "y", "s", "w",
    "Tab", "Down", "PgDn", "PgUp", "4", "1", "6", "q", "a", "世", "3",
];
