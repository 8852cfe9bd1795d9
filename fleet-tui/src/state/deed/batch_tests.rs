//! What many devices are to do, from the menu to the server's last word about it.

use fleet_core::api::{
    BatchDevice, BatchPreview, BatchRequest, BatchState, DeviceStatus, EventKind, Excluded,
    IndexPage, MemberState, StreamMessage, WhenOffline,
};
use fleet_core::id::Uid;
use fleet_core::time::Timestamp;
use serde_json::json;

use crate::effect::{Effect, Request};
use crate::event::{Answer, Event, Failed};
use crate::sample;
use crate::state::App;
use crate::state::popup::{Confirm, Lock, Popup};
use crate::testing::{app_with, batch, device, disconnect, event, fleet_of, press, wait};

fn tell(app: &mut App, request: Request, answer: Result<Answer, Failed>) -> Vec<Effect> {
    let now = sample::moment(app.desk.now.since_start);
    app.apply(now, Event::Answer(request, answer))
}

/// What the server is asked that a batch would be, and what is begun.
fn asked(effects: &[Effect]) -> (Vec<BatchRequest>, Vec<BatchRequest>) {
    let (mut previews, mut begun) = (Vec::new(), Vec::new());
    for effect in effects {
        match effect {
            Effect::Ask(Request::Preview(request)) => previews.push((**request).clone()),
            Effect::Ask(Request::BeginBatch(request)) => begun.push((**request).clone()),
            Effect::Ask(Request::Change(..)) => panic!("{effect:?}"),
            _ => {}
        }
    }
    (previews, begun)
}

/// What the server says: those devices of the request that are able.
fn preview(app: &App, request: &BatchRequest, excluded: &[Uid]) -> BatchPreview {
    let uids = request.devices.clone().unwrap_or_default();
    let named = |uid: &Uid| BatchDevice {
        device_id: app.desk.data.device(*uid).unwrap().index.id.clone(),
        uid: *uid,
    };
    let devices: Vec<_> = uids.iter().filter(|uid| !excluded.contains(uid)).map(named).collect();
    let excluded = excluded.iter().map(named);
    BatchPreview {
        by_status: [("online".to_owned(), devices.len())].into(),
        by_type: [("pi \u{1b}[31m".to_owned(), devices.len())].into(),
        devices,
        offline: 1,
        excluded: excluded
            .map(|device| Excluded { device_id: device.device_id, why: "is pending".into() })
            .collect(),
        window: 2,
        canary: 1,
        max_fail: 3,
        expires_at: Timestamp::from_millis(sample::NOW),
    }
}

/// Presses keys that ask for a batch, and answers what it would be.
fn asks(app: &mut App, keys: &str) -> BatchRequest {
    let (previews, begun) = asked(&press(app, keys));
    assert_eq!((previews.len(), begun.len()), (1, 0), "{keys}");
    let request = previews[0].clone();
    let preview = preview(app, &request, &[]);
    tell(app, Request::Preview(Box::new(request.clone())), Ok(Answer::Preview(Box::new(preview))));
    request
}

fn question(app: &App) -> &Confirm {
    let Some(Popup::Confirm(confirm)) = &app.desk.popup else { panic!("no question") };
    confirm
}

fn facts<'a>(app: &'a App, label: &str) -> Vec<&'a str> {
    let lines = question(app).lines.iter();
    lines.filter(|(name, _)| *name == label).map(|(_, text)| text.as_str()).collect()
}

fn notice(app: &App) -> (&str, bool) {
    let notice = app.desk.notice.as_ref();
    notice.map(|(notice, _)| (notice.text.as_str(), notice.is_error)).unwrap_or_default()
}

#[test]
fn whatever_it_is_more_than_one_device_wants_their_number() {
    for (keys, command, args, expires_in) in [
        ("c", "collect", vec![], "600000ms"),
        ("s", "restart", vec![], "86400000ms"),
        ("w n g i n x Enter", "restart", vec!["nginx.service".to_owned()], "86400000ms"),
        ("b", "reboot", vec![], "86400000ms"),
    ] {
        let mut app = app_with(fleet_of(3));
        let request = asks(&mut app, &format!("a x {keys}"));
        assert_eq!(request.command.as_deref(), Some(command));
        assert_eq!(request.args, Some(args));
        assert_eq!(request.expires_in.as_deref(), Some(expires_in));
        assert_eq!(asked(&press(&mut app, "y Enter")).1, []);
        let lock = Lock::Typed { text: "3".to_owned(), name: "the number of devices" };
        assert_eq!(question(&app).lock, lock, "{keys}");
        let begun = asked(&press(&mut app, "Backspace 3 Enter")).1;
        assert_eq!(begun, [BatchRequest { expect: Some(3), ..request }]);
    }
    let mut app = app_with(fleet_of(3));
    press(&mut app, "a x l");
    assert_eq!(notice(&app).0, "logs are shown of one device at a time");
}

#[test]
fn an_interval_for_many_is_a_batch_too() {
    let mut app = app_with(fleet_of(2));
    let request = asks(&mut app, "a x i 3 0 s Enter");
    assert_eq!(request.config, Some(json!({ "telemetry": { "interval": 30 } })));
    assert_eq!(facts(&app, "undo"), ["set it back; 4, then P pauses and K calls off the rest"]);
    assert_eq!(asked(&press(&mut app, "2 Enter")).1.len(), 1);
}

#[test]
fn nobody_agrees_before_the_server_has_said_what_it_would_be() {
    let mut app = app_with(fleet_of(3));
    let (previews, _) = asked(&press(&mut app, "a / 0 0 0 1 Enter x b"));
    assert_eq!(facts(&app, "marks"), ["3 marked, 2 of them hidden by the filter: included"]);
    assert_eq!(asked(&press(&mut app, "3 Enter")).1, []);
    // What has come to the fleet meanwhile has no part in it.
    let page = IndexPage { rows: fleet_of(9), gone: vec![], complete: true };
    sample::say(&mut app, StreamMessage::Index(page));
    let gone = sample::uid(2);
    let said = preview(&app, &previews[0], &[gone]);
    let request = Request::Preview(Box::new(previews[0].clone()));
    tell(&mut app, request, Ok(Answer::Preview(Box::new(said))));
    assert_eq!(question(&app).title, "Reboot 2 devices");
    assert_eq!(facts(&app, "left out"), ["pump-0002 (is pending)"]);
    assert_eq!(
        facts(&app, "how"),
        ["1 first, then 2 at once; pauses at 3 failures; needs no console"]
    );
    assert_eq!(facts(&app, ""), ["2 pi \\u{1b}[31m", "2 online"]);
    assert!(facts(&app, "until")[0].contains("1 are away"));
    assert_eq!(asked(&press(&mut app, "Enter")).1, [], "it is another number now");
    let begun = asked(&press(&mut app, "Backspace 2 Enter")).1;
    assert_eq!(begun[0].devices, Some(vec![sample::uid(0), sample::uid(1)]));
    assert_eq!(begun[0].expect, Some(2));
}

#[test]
fn what_cannot_be_says_why_and_what_was_given_up_does_not_come_back() {
    let mut app = app_with(fleet_of(2));
    let (previews, _) = asked(&press(&mut app, "a x s"));
    let request = Request::Preview(Box::new(previews[0].clone()));
    let failed =
        Failed { text: "the server refused: busy".to_owned(), request_id: None, field: None };
    tell(&mut app, request.clone(), Err(failed));
    let desk = &app.desk;
    assert_eq!(question(&app).why_not(desk), Some("the server refused: busy"));
    assert_eq!(asked(&press(&mut app, "2 Enter Esc")).1, []);
    let (previews, _) = asked(&press(&mut app, "x s"));
    let none = preview(&app, &previews[0], &[sample::uid(0), sample::uid(1)]);
    tell(&mut app, request.clone(), Ok(Answer::Preview(Box::new(none))));
    let why_not = question(&app).why_not(&app.desk).unwrap_or_default();
    assert!(why_not.starts_with("no device can take part: pump-0000 (is pending)"), "{why_not}");
    // Whoever has gone on is not called back.
    press(&mut app, "Esc");
    let said = preview(&app, &previews[0], &[]);
    tell(&mut app, request, Ok(Answer::Preview(Box::new(said))));
    assert!(app.desk.popup.is_none());
}

#[test]
fn whoever_begins_one_is_told_where_it_is_seen_and_how_it_ends() {
    for (state, counts, told, is_error, left) in [
        (
            BatchState::Done,
            [(MemberState::Succeeded, 3), (MemberState::Failed, 0)],
            "restart nginx.service on 3 devices: 3 succeeded",
            false,
            "is over",
        ),
        (
            BatchState::Done,
            [(MemberState::Succeeded, 2), (MemberState::Failed, 1)],
            "restart nginx.service on 3 devices: 2 succeeded, 1 failed; 4 shows why",
            true,
            "is over; in 4, R retries 1 device that failed",
        ),
        (
            BatchState::Paused,
            [(MemberState::Waiting, 2), (MemberState::Failed, 1)],
            "restart nginx.service on 3 devices paused: because; 4 shows it",
            true,
            "in 4, C has it go on and K calls off the rest",
        ),
    ] {
        let mut app = app_with(fleet_of(3));
        asks(&mut app, "a x w n g i n x Enter");
        let request = asked(&press(&mut app, "3 Enter")).1.remove(0);
        let begun = batch(9, &[(MemberState::Waiting, 3)]);
        let answer = Ok(Answer::Batch(Box::new(begun.clone())));
        tell(&mut app, Request::BeginBatch(Box::new(request)), answer);
        let words = "restart nginx.service on 3 devices has begun: 4 shows how far it is";
        assert_eq!(notice(&app), (words, false));
        wait(&mut app, std::time::Duration::from_secs(2));
        let happened = event(1, EventKind::BatchDone, None, "x");
        sample::say(&mut app, StreamMessage::Event(happened));
        let mut over = begun;
        (over.state, over.why, over.counts) = (state, "because".into(), counts.into());
        let look = Request::Batches { before: None, limit: 50 };
        tell(&mut app, look.clone(), Ok(Answer::Batches(vec![over.clone()])));
        assert_eq!(notice(&app), (told, is_error));
        // Once.
        app.desk.say("something else");
        tell(&mut app, look, Ok(Answer::Batches(vec![over])));
        assert_eq!(notice(&app), ("something else", false));
        press(&mut app, "u");
        let (said, is_error) = notice(&app);
        assert!(said.starts_with("undo: none; restart nginx.service") && !is_error, "{said}");
        assert!(said.ends_with(left), "{said}");
        press(&mut app, "4 Enter");
        assert_eq!(app.batches.open.as_ref().map(|open| open.id), Some(begun_id()));
    }
}

fn begun_id() -> Uid {
    crate::testing::batch_id(9)
}

#[test]
fn a_batch_can_be_written_out_with_its_limits() {
    let mut app = app_with(fleet_of(4));
    press(&mut app, "a :");
    app.apply(
        sample::moment(app.desk.now.since_start),
        Event::Paste("batch canary=1 window=3 max-fail=2 offline=skip restart nginx".to_owned()),
    );
    let request = asks(&mut app, "Enter");
    assert_eq!((request.canary, request.window, request.max_fail), (Some(1), Some(3), Some(2)));
    assert_eq!(request.offline, WhenOffline::Skip);
    assert_eq!(request.args, Some(vec!["nginx.service".to_owned()]));
    assert!(facts(&app, "until")[0].ends_with("1 are away, and are left out"));
    assert_eq!(asked(&press(&mut app, "4 Enter")).1.len(), 1);
    for (text, problem) in [
        ("batch canary=x restart", "canary is a number, not x"),
        ("batch pace=3 restart", "there is no pace; there are canary"),
        ("batch offline=wait restart", "offline is one of queue, skip, fail"),
        ("batch canary=3", "say what: restart nginx"),
        ("batch restrat", "there is no command restrat"),
        ("batch logs", "logs are shown of one device at a time"),
    ] {
        press(&mut app, "Esc Esc Esc a :");
        let now = sample::moment(app.desk.now.since_start);
        app.apply(now, Event::Paste(text.to_owned()));
        assert_eq!(asked(&press(&mut app, "Enter")).0, [], "{text}");
        let Some(Popup::Palette(palette)) = &app.desk.popup else { panic!("{text} was done") };
        let error = palette.error.as_deref().unwrap_or_default();
        assert!(error.starts_with(problem), "{text}: {error}");
    }
}

#[test]
fn nothing_is_begun_by_a_console_that_may_not_or_cannot() {
    let mut app = app_with(fleet_of(2));
    asks(&mut app, "a x s");
    disconnect(&mut app);
    assert_eq!(asked(&press(&mut app, "2 Enter")).1, []);
    assert!(notice(&app).0.contains("the server is away"));
    let rows = vec![device(0, "a", DeviceStatus::Online), device(1, "b", DeviceStatus::Online)];
    let mut app = app_with(rows);
    app.desk.settings.is_read_only = true;
    assert_eq!(asked(&press(&mut app, "a x s")).0, []);
}
