//! What a device was to do, under keys and as news come.

use std::time::Duration;

use fleet_core::api::{CommandState, EventKind, EventView, StreamMessage};

use super::testing::*;
use crate::effect::{Change, Effect, Request};
use crate::event::{Answer, Event, LinkEvent};
use crate::sample;
use crate::state::App;
use crate::testing::{WIDE, event, press};

fn wait(app: &mut App, secs: u64) -> Vec<Effect> {
    crate::testing::wait(app, Duration::from_secs(secs))
}

fn all() -> Request {
    Request::Commands(sample::uid(SLOT))
}

fn something_happened(app: &mut App) -> Vec<Effect> {
    let kind = EventKind::CommandQueued;
    let event = EventView { uid: Some(sample::uid(SLOT)), ..event(200, kind, Some("a"), "x") };
    tell(app, Event::Link(LinkEvent::Message(Box::new(StreamMessage::Event(event)))))
}

fn told(app: &App) -> &str {
    app.desk.notice.as_ref().map(|(notice, _)| notice.text.as_str()).unwrap_or_default()
}

#[test]
fn the_cursor_is_a_command_and_stays_where_newer_ones_come() {
    let mut app = answered(SLOT, WIDE);
    press(&mut app, "Tab Tab j j");
    let at = screen(&app).commands.at_cursor().unwrap().id;
    let effects = something_happened(&mut app);
    assert_eq!(asked(&effects), [&all()]);
    let mut views = screen(&app).commands.list().to_vec();
    views.insert(0, command(10, 1, CommandState::Queued, &["collect"]));
    tell(&mut app, Event::Answer(all(), Ok(Answer::Commands(views.clone()))));
    assert_eq!(screen(&app).commands.at_cursor().unwrap().id, at);
    assert_eq!(screen(&app).commands.place(), 3);
    // At the top it is the newest one, whichever that is.
    press(&mut app, "g");
    views.insert(0, command(11, 0, CommandState::Queued, &["restart"]));
    something_happened(&mut app);
    tell(&mut app, Event::Answer(all(), Ok(Answer::Commands(views))));
    assert_eq!(screen(&app).commands.place(), 0);
}

#[test]
fn what_goes_on_is_looked_at_again_and_what_is_over_is_not() {
    for (state, is_looked_at) in [
        (CommandState::Queued, true),
        (CommandState::Sent, true),
        (CommandState::Running, true),
        (CommandState::Succeeded, false),
        (CommandState::Unknown, false),
    ] {
        let (mut app, effects) = opened(SLOT, WIDE);
        answer_empty(&mut app, effects);
        assert!(asked(&something_happened(&mut app)).contains(&&all()));
        let views = vec![command(1, 9, state, &["restart"])];
        let effects = tell(&mut app, Event::Answer(all(), Ok(Answer::Commands(views))));
        assert!(!asked(&effects).contains(&&all()), "{state:?}");
        assert!(!asked(&wait(&mut app, 1)).contains(&&all()), "{state:?}");
        assert_eq!(asked(&wait(&mut app, 2)).contains(&&all()), is_looked_at, "{state:?}");
    }
}

#[test]
fn a_command_is_taken_back_as_long_as_the_device_has_not_begun() {
    let mut app = answered(SLOT, WIDE);
    let uid = sample::uid(SLOT);
    assert!(asked(&press(&mut app, "K")).is_empty(), "nobody sees which");
    press(&mut app, "Tab Tab");
    // What only waits at the server goes at once.
    let effects = press(&mut app, "K");
    let change = Change::TakeBack(command_id(9));
    assert_eq!(asked(&effects), [&Request::Change(uid, change.clone())]);
    let view = command(9, 3, CommandState::Cancelled, &["reboot"]);
    let answer = Ok(Answer::Command(Box::new(view)));
    let effects = tell(&mut app, Event::Answer(Request::Change(uid, change), answer));
    assert!(asked(&effects).contains(&&all()), "{effects:?}");
    assert_eq!(told(&app), "reboot on pump-eu-0012 is taken back");
    // What is on its way, after a question.
    assert!(asked(&press(&mut app, "j K")).is_empty());
    assert!(asked(&press(&mut app, "Enter")).is_empty());
    let effects = press(&mut app, "K y");
    let change = Change::TakeBack(command_id(8));
    assert_eq!(asked(&effects), [&Request::Change(uid, change.clone())]);
    let view = command(8, 3, CommandState::Sent, &["restart", "nginx.service"]);
    let answer = Ok(Answer::Command(Box::new(view)));
    tell(&mut app, Event::Answer(Request::Change(uid, change), answer));
    let expected = "pump-eu-0012 is told to leave restart nginx.service, if it has not begun";
    assert_eq!(told(&app), expected);
    // What has begun or is over stays.
    for reason in ["the device has begun", "it is over: succeeded"] {
        assert!(asked(&press(&mut app, "j K")).is_empty());
        assert_eq!(told(&app), format!("it cannot be taken back: {reason}"));
    }
    app.desk.settings.is_read_only = true;
    assert!(asked(&press(&mut app, "g K")).is_empty());
    assert_eq!(told(&app), "not done: this console is read-only");
}

#[test]
fn one_that_lies_open_can_be_taken_back_there() {
    let mut app = answered(SLOT, WIDE);
    press(&mut app, "Tab Tab Enter");
    let effects = press(&mut app, "K");
    let change = Change::TakeBack(command_id(9));
    let request = Request::Change(sample::uid(SLOT), change);
    assert!(asked(&effects).contains(&&request), "{effects:?}");
    let view = command(9, 3, CommandState::Cancelled, &["reboot"]);
    tell(&mut app, Event::Answer(request, Ok(Answer::Command(Box::new(view)))));
    let Some(crate::state::popup::Popup::Outcome(outcome)) = &app.desk.popup else {
        panic!("it was closed")
    };
    assert_eq!(outcome.view().map(|view| view.state), Some(CommandState::Cancelled));
    assert!(!outcome.can_be_taken_back());
}
