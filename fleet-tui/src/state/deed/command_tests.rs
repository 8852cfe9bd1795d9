//! Commands, from the menu to the last word about them.

use std::time::Duration;

use fleet_core::api::{
    CommandState, CommandView, DeviceStatus, EventKind, EventView, StreamMessage,
};
use fleet_core::command::Command;
use fleet_core::id::Uid;
use fleet_core::time::Timestamp;

use crate::effect::{Change, Effect, Request};
use crate::event::{Answer, Event, Failed};
use crate::sample;
use crate::state::App;
use crate::state::popup::{Confirm, Line, Lock, Popup};
use crate::testing::{app_with, device, disconnect, fleet_of, press, wait};

/// What is to be asked of the server about devices.
fn changes(effects: &[Effect]) -> Vec<(Uid, Change)> {
    let change = |effect: &Effect| match effect {
        Effect::Ask(Request::Change(uid, change)) => Some((*uid, change.clone())),
        _ => None,
    };
    effects.iter().filter_map(change).collect()
}

/// What devices are to do.
fn commands(effects: &[Effect]) -> Vec<(Uid, String, u64)> {
    let command = |(uid, change)| match change {
        Change::Command { command, expires_in } => (uid, command.to_string(), expires_in.as_secs()),
        other => panic!("{other:?}"),
    };
    changes(effects).into_iter().map(command).collect()
}

/// The number of the command that a device was given.
fn number(device: Uid) -> Uid {
    let mut bytes = device.bytes();
    bytes[0] = 1;
    Uid::from_bytes(bytes)
}

/// What the server says of a command.
fn view(app: &App, uid: Uid, command: &Command, state: CommandState) -> CommandView {
    let now = Timestamp::from_millis(sample::NOW);
    CommandView {
        id: number(uid),
        device_id: app.desk.data.device(uid).unwrap().index.id.clone(),
        uid,
        command: command.word().into(),
        args: command.args().into_iter().map(Into::into).collect(),
        state,
        why: "because".into(),
        state_at: now,
        author: "operator:k3xq2m7a".into(),
        created_at: now,
        expires_at: now.plus(Duration::from_secs(86_400)),
        exit_code: None,
        output: None,
        output_left_out: 0,
    }
}

fn tell(app: &mut App, request: Request, answer: Result<Answer, Failed>) -> Vec<Effect> {
    let now = sample::moment(app.desk.now.since_start);
    app.apply(now, Event::Answer(request, answer))
}

/// Takes every command that is asked for, and those that are asked for then.
fn give_all(app: &mut App, effects: Vec<Effect>) -> usize {
    let mut waiting = changes(&effects);
    let mut count = 0;
    while let Some((uid, change)) = waiting.pop() {
        let Change::Command { command, .. } = &change else { panic!("{change:?}") };
        let view = view(app, uid, command, CommandState::Queued);
        let answer = Ok(Answer::Command(Box::new(view)));
        waiting.extend(changes(&tell(app, Request::Change(uid, change), answer)));
        count += 1;
    }
    count
}

fn ends(app: &mut App, slot: u32, kind: EventKind, words: &str) {
    let uid = sample::uid(slot);
    let event = EventView {
        seq: 900 + u64::from(slot),
        timestamp: Timestamp::from_millis(sample::NOW),
        kind,
        actor: "device".into(),
        device_id: None,
        uid: Some(uid),
        text: format!("{} {words}: because \u{1b}[31m", number(uid)).into(),
    };
    sample::say(app, StreamMessage::Event(event));
}

fn notice(app: &App) -> (&str, bool) {
    let notice = app.desk.notice.as_ref();
    notice.map(|(notice, _)| (notice.text.as_str(), notice.is_error)).unwrap_or_default()
}

fn question(app: &App) -> &Confirm {
    let Some(Popup::Confirm(confirm)) = &app.desk.popup else { panic!("no question") };
    confirm
}

fn fact<'a>(app: &'a App, label: &str) -> &'a str {
    let lines = &question(app).lines;
    lines.iter().find(|(name, _)| *name == label).map_or("", |(_, text)| text)
}

#[test]
fn each_command_takes_as_much_to_agree_to_as_it_may_do_harm() {
    const DAY: u64 = 86_400;
    let one = sample::uid(0);
    for (keys, command, secs, is_asked, is_typed) in [
        ("c", "collect", 600, false, false),
        ("l", "logs", 600, false, false),
        ("u n g i n x Enter", "logs -u nginx.service", 600, false, false),
        ("s", "restart", DAY, true, false),
        ("w n g i n x Enter", "restart nginx.service", DAY, true, false),
        ("b", "reboot", DAY, true, true),
        ("e l s Space - l Enter", "exec ls -l", DAY, true, true),
    ] {
        let mut app = app_with(fleet_of(1));
        let mut effects = press(&mut app, &format!("x {keys}"));
        if is_asked {
            assert_eq!(changes(&effects), [], "{keys}");
            assert_eq!(question(&app).lock != Lock::Yes, is_typed, "{keys}");
            let before = press(&mut app, if is_typed { "y Enter" } else { "Down" });
            assert_eq!(changes(&before), [], "{keys}");
            effects =
                press(&mut app, if is_typed { "Backspace p u m p - 0 0 0 0 Enter" } else { "y" });
        }
        assert_eq!(commands(&effects), [(one, command.to_owned(), secs)], "{keys}");
    }
}

#[test]
fn who_cannot_do_it_is_left_out_and_told_why() {
    let mut third_party = device(2, "c-sender", DeviceStatus::Online);
    third_party.fingerprint = None;
    let rows = vec![
        device(0, "a-offline", DeviceStatus::Offline),
        device(1, "b-pending", DeviceStatus::Pending),
        third_party,
        device(3, "d-revoked", DeviceStatus::Revoked),
    ];
    for (row, reason) in [
        (1, "accept it first: what waits takes no commands"),
        (2, "a third party reports for it: no agent is there to do it"),
        (3, "only devices of the fleet take commands"),
    ] {
        let mut app = app_with(vec![rows[row].clone()]);
        press(&mut app, "x s");
        assert_eq!(notice(&app).0, reason);
    }
    let mut app = app_with(rows);
    press(&mut app, "a x s");
    assert_eq!(question(&app).title, "Restart the agent of a-offline");
    assert!(fact(&app, "left out").starts_with("3 that"));
    assert_eq!(fact(&app, "devices"), "a-offline");
    let until =
        "2026-08-24 14:03Z, in 24 hours: the device is away, and gets it if it is back before";
    assert_eq!(fact(&app, "until"), until);
    let effects = press(&mut app, "y");
    assert_eq!(give_all(&mut app, effects), 1);
    let told = "restart waits for a-offline, which is away, until 2026-08-24 14:03:22Z";
    assert_eq!(notice(&app), (told, false));
}

#[test]
fn words_that_are_none_are_told_before_anybody_is_asked() {
    for (keys, problem) in [
        ("w Enter", "say which: nginx"),
        ("w - x Enter", "-x is not the name of a systemd unit"),
        ("u a Space b Enter", "a b is not the name of a systemd unit"),
        ("e Enter", "say which program: uptime -p"),
        ("e l s Space \" Enter", "quotes mean nothing here"),
    ] {
        let mut app = app_with(fleet_of(1));
        assert_eq!(changes(&press(&mut app, &format!("x {keys}"))), []);
        let Some(Popup::Form(form)) = &app.desk.popup else { panic!("no form: {keys}") };
        let error = form.error.as_deref().unwrap_or_default();
        assert!(error.starts_with(problem), "{keys}: {error}");
    }
}

#[test]
fn what_came_of_ones_own_command_is_told() {
    for (kind, told, is_error) in [
        (EventKind::CommandSucceeded, "restart on pump-0000: succeeded", false),
        (EventKind::CommandFailed, "restart on pump-0000: failed: because \\u{1b}[31m", true),
        (EventKind::CommandExpired, "restart on pump-0000: expired: because \\u{1b}[31m", true),
        (
            EventKind::CommandCancelled,
            "restart on pump-0000: cancelled: because \\u{1b}[31m",
            false,
        ),
        (EventKind::CommandUnknown, "restart on pump-0000: unknown: because \\u{1b}[31m", true),
    ] {
        let mut app = app_with(fleet_of(2));
        let effects = press(&mut app, "x s y");
        // Another's is no business of ours.
        ends(&mut app, 1, kind, "restart");
        give_all(&mut app, effects);
        assert_eq!(notice(&app), ("restart given to pump-0000", false));
        ends(&mut app, 0, kind, "restart");
        assert_eq!(notice(&app), (told, is_error));
        // Once.
        app.desk.say("something else");
        ends(&mut app, 0, kind, "restart");
        assert_eq!(notice(&app), ("something else", false));
    }
}

#[test]
fn a_device_may_be_faster_than_the_answer() {
    let mut app = app_with(fleet_of(1));
    let effects = press(&mut app, "x c");
    ends(&mut app, 0, EventKind::CommandSucceeded, "collect");
    give_all(&mut app, effects);
    assert_eq!(notice(&app), ("collect on pump-0000: succeeded", false));
}

#[test]
fn what_was_taken_back_here_is_told_once() {
    let mut app = app_with(fleet_of(1));
    let effects = press(&mut app, "x s y");
    give_all(&mut app, effects);
    let uid = sample::uid(0);
    let queued = view(&app, uid, &Command::Restart, CommandState::Queued);
    let command = super::take_back(&queued, &mut app.desk).unwrap();
    app.run(command);
    let cancelled = view(&app, uid, &Command::Restart, CommandState::Cancelled);
    let request = Request::Change(uid, Change::TakeBack(queued.id));
    tell(&mut app, request, Ok(Answer::Command(Box::new(cancelled))));
    assert_eq!(notice(&app), ("restart on pump-0000 is taken back", false));
    ends(&mut app, 0, EventKind::CommandCancelled, "restart");
    assert_eq!(notice(&app), ("restart on pump-0000 is taken back", false));
}

#[test]
fn what_was_refused_is_told_and_not_waited_for() {
    let mut app = app_with(fleet_of(1));
    let (uid, change) = changes(&press(&mut app, "x s y")).remove(0);
    let refusal =
        Failed { text: "the server refused: no".to_owned(), request_id: None, field: None };
    tell(&mut app, Request::Change(uid, change), Err(refusal));
    let told = "restart not given, 1 failed: pump-0000: the server refused: no";
    assert_eq!(notice(&app), (told, true));
    app.desk.say("something else");
    ends(&mut app, 0, EventKind::CommandSucceeded, "restart");
    assert_eq!(notice(&app), ("something else", false));
}

#[test]
fn what_ended_while_the_link_was_down_is_asked_for() {
    let mut app = app_with(fleet_of(1));
    let effects = press(&mut app, "x s y");
    give_all(&mut app, effects);
    disconnect(&mut app);
    let now = sample::moment(app.desk.now.since_start);
    let hello = StreamMessage::Hello(fleet_core::api::Hello { resumed: true, ..sample::hello(1) });
    let message = crate::event::LinkEvent::Message(Box::new(hello));
    let effects = app.apply(now, Event::Link(message));
    let id = number(sample::uid(0));
    let asks = |effect: &Effect| matches!(effect, Effect::Ask(Request::Command(of)) if *of == id);
    assert!(effects.iter().any(asks));
    let over = view(&app, sample::uid(0), &Command::Restart, CommandState::Succeeded);
    tell(&mut app, Request::Command(id), Ok(Answer::Command(Box::new(over))));
    assert_eq!(notice(&app), ("restart on pump-0000: succeeded", false));
}

#[test]
fn nothing_is_given_by_a_console_that_may_not_or_cannot() {
    let mut app = app_with(fleet_of(1));
    press(&mut app, "x s");
    disconnect(&mut app);
    assert_eq!(changes(&press(&mut app, "y")), []);
    assert!(notice(&app).0.contains("the server is away"));
    let mut app = app_with(fleet_of(1));
    app.desk.settings.is_read_only = true;
    for keys in ["x c", "Esc x l", "Esc x s", "Esc : r e b o o t Enter", "Esc : e x e c Enter"] {
        assert_eq!(changes(&press(&mut app, keys)), [], "{keys}");
        assert!(!matches!(app.desk.popup, Some(Popup::Confirm(_) | Popup::Form(_))), "{keys}");
    }
}

#[test]
fn the_palette_knows_commands_by_their_names() {
    for (typed, title) in
        [("r e s t a r t", "Restart the agent of pump-0000"), ("r e b o o t", "Reboot pump-0000")]
    {
        let mut app = app_with(fleet_of(1));
        assert_eq!(changes(&press(&mut app, &format!(": {typed} Enter"))), []);
        assert_eq!(question(&app).title, title);
    }
    for (typed, command) in [
        ("r e s t a r t Space n g i n x", "restart nginx.service"),
        ("e x e c Space l s Space - l", "exec [\"ls\", \"-l\"]"),
    ] {
        let mut app = app_with(fleet_of(1));
        assert_eq!(changes(&press(&mut app, &format!(": {typed} Enter"))), []);
        assert_eq!(fact(&app, "command"), command);
    }
    let mut app = app_with(fleet_of(1));
    let effects = press(&mut app, ": l o g s Space n g i n x Enter");
    assert_eq!(commands(&effects)[0].1, "logs -u nginx.service");
    for (rows, typed, problem) in [
        (1, "r e s t a r t Space - x", "-x is not the name of a systemd unit"),
        (3, "l o g s Space n g i n x", "logs are shown of one device at a time"),
        (0, "e x e c Space l s", "there is no device to do it"),
    ] {
        let mut app = app_with(fleet_of(rows));
        assert_eq!(changes(&press(&mut app, &format!("a : {typed} Enter"))), []);
        let Some(Popup::Palette(palette)) = &app.desk.popup else { panic!("{typed} was done") };
        assert_eq!(palette.error.as_deref(), Some(problem));
    }
    let mut app = app_with(fleet_of(1));
    press(&mut app, ": e x e c Enter");
    assert!(matches!(&app.desk.popup, Some(Popup::Form(form)) if form.label == "program"));
}

#[test]
fn a_log_is_shown_as_it_comes() {
    let mut app = app_with(fleet_of(1));
    let effects = press(&mut app, "x l");
    assert!(
        matches!(&app.desk.popup, Some(Popup::Outcome(outcome)) if outcome.title == "logs on pump-0000")
    );
    give_all(&mut app, effects);
    let id = number(sample::uid(0));
    let asked = |effects: &[Effect]| {
        effects
            .iter()
            .filter(|effect| matches!(effect, Effect::Ask(Request::Command(of)) if *of == id))
            .count()
    };
    let logs = Command::Logs { unit: None, lines: 100 };
    let running = view(&app, sample::uid(0), &logs, CommandState::Running);
    // Its first look was asked for with the answer; further ones come with time.
    tell(&mut app, Request::Command(id), Ok(Answer::Command(Box::new(running))));
    assert_eq!(asked(&wait(&mut app, Duration::from_millis(400))), 0);
    assert_eq!(asked(&wait(&mut app, Duration::from_millis(700))), 1);
    let output = Some("one\n\ttwo \u{1b}[2J\n".into());
    let done = view(&app, sample::uid(0), &logs, CommandState::Succeeded);
    let done = CommandView { output, ..done };
    tell(&mut app, Request::Command(id), Ok(Answer::Command(Box::new(done))));
    let Some(Popup::Outcome(outcome)) = &app.desk.popup else { panic!("it was closed") };
    let last = &outcome.lines()[outcome.lines().len() - 2..];
    let expected = ["one", "        two \\u{1b}[2J"].map(|line| Line::Output(line.to_owned()));
    assert_eq!(last, expected);
    assert_eq!(asked(&wait(&mut app, Duration::from_secs(9))), 0);
    // It stands there already.
    app.desk.notice = None;
    ends(&mut app, 0, EventKind::CommandFailed, "logs");
    assert_eq!(notice(&app), ("", false));
    press(&mut app, "y");
    assert_eq!(notice(&app).0, "copied output (OSC 52)");
    assert!(matches!(&app.desk.popup, Some(Popup::Outcome(_))));
}

#[test]
fn a_log_that_was_refused_says_so_in_its_place() {
    let mut app = app_with(fleet_of(1));
    let (uid, change) = changes(&press(&mut app, "x l")).remove(0);
    let refusal =
        Failed { text: "the server refused: busy".to_owned(), request_id: None, field: None };
    tell(&mut app, Request::Change(uid, change), Err(refusal));
    let Some(Popup::Outcome(outcome)) = &app.desk.popup else { panic!("it was closed") };
    assert_eq!(outcome.lines(), [Line::Error("the server refused: busy".to_owned())]);
}
