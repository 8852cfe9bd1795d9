//! What was done is taken back, once it is agreed to.

use fleet_core::api::{
    BatchState, CommandState, CommandView, DeviceStatus, DeviceUpdate, IndexPage, IndexRow,
    MemberState, StreamMessage, TagUpdate,
};
use fleet_core::command::Command;
use fleet_core::id::Uid;
use fleet_core::time::Timestamp;
use serde_json::{Value, json};

use crate::effect::{BatchChange, Change, Effect, Request};
use crate::event::{Answer, Event, Failed};
use crate::sample;
use crate::state::App;
use crate::state::popup::{Confirm, Lock, Popup};
use crate::testing::{app_with, batch, batch_id, device, press};

fn requests(effects: &[Effect]) -> Vec<Request> {
    let request = |effect: &Effect| match effect {
        Effect::Ask(
            request @ (Request::Change(..) | Request::ChangeBatch(..) | Request::RetryBatch(..)),
        ) => Some(request.clone()),
        _ => None,
    };
    effects.iter().filter_map(request).collect()
}

fn answer(app: &mut App, request: Request, answer: Result<Answer, Failed>) -> Vec<Effect> {
    let now = sample::moment(app.desk.now.since_start);
    app.apply(now, Event::Answer(request, answer))
}

/// Does all that was asked for.
fn done(app: &mut App, effects: Vec<Effect>) -> Vec<(Uid, Change)> {
    let mut changes = Vec::new();
    for request in requests(&effects) {
        let Request::Change(uid, change) = request.clone() else { panic!("{request:?}") };
        changes.push((uid, change));
        answer(app, request, Ok(Answer::Done));
    }
    changes
}

fn index(app: &mut App, rows: Vec<IndexRow>) {
    let page = IndexPage { rows, gone: Vec::new(), complete: true };
    sample::say(app, StreamMessage::Index(page));
}

fn row(slot: u32, tags: Value) -> IndexRow {
    let mut row = device(slot, &format!("pump-{slot:04}"), DeviceStatus::Online);
    row.metadata.insert("tags".to_owned(), tags);
    row
}

fn notice(app: &App) -> &str {
    app.desk.notice.as_ref().map(|(notice, _)| notice.text.as_str()).unwrap_or_default()
}

fn question(app: &App) -> &Confirm {
    let Some(Popup::Confirm(confirm)) = &app.desk.popup else { panic!("no question") };
    confirm
}

fn tags(add: &[&str], remove: &[&str]) -> Change {
    let owned = |tags: &[&str]| tags.iter().map(ToString::to_string).collect();
    Change::Update(DeviceUpdate {
        tags: Some(TagUpdate { add: owned(add), remove: owned(remove) }),
        ..DeviceUpdate::default()
    })
}

#[test]
fn tags_are_as_they_were_and_undone_again_as_they_were_set() {
    let mut app = app_with(vec![row(0, json!(["eu"])), row(1, Value::Null)]);
    let effects = press(&mut app, "a x t + l a b Enter y");
    assert_eq!(done(&mut app, effects).len(), 2);
    assert!(notice(&app).ends_with("(u undoes)"), "{}", notice(&app));
    index(&mut app, vec![row(0, json!(["eu", "lab"])), row(1, json!(["lab"]))]);
    press(&mut app, "u");
    let shown: Vec<_> = question(&app).lines.iter().map(|(_, text)| text.as_str()).collect();
    assert!(shown.contains(&"pump-0000: tags -lab"), "{shown:?}");
    assert!(shown.contains(&"pump-0001: tags -lab"), "{shown:?}");
    assert_eq!(requests(&press(&mut app, "Enter")), [], "Cancel has the focus");
    let effects = press(&mut app, "u y");
    let undone = done(&mut app, effects);
    assert!(undone.contains(&(sample::uid(0), tags(&[], &["lab"]))));
    assert!(undone.contains(&(sample::uid(1), tags(&[], &["lab"]))));
    index(&mut app, vec![row(0, json!(["eu"])), row(1, Value::Null)]);
    let effects = press(&mut app, "u y");
    assert!(done(&mut app, effects).contains(&(sample::uid(1), tags(&["lab"], &[]))));
}

#[test]
fn what_somebody_else_has_changed_since_is_left_as_it_is() {
    let mut app = app_with(vec![row(0, json!(["eu"])), row(1, json!(["eu"]))]);
    let effects = press(&mut app, "a x t l a b Enter y");
    done(&mut app, effects);
    index(&mut app, vec![row(0, json!(["other"])), row(1, json!(["lab"]))]);
    press(&mut app, "u");
    assert!(question(&app).lines.iter().any(|(label, _)| *label == "left out"));
    press(&mut app, "Esc");
    index(&mut app, vec![row(1, json!(["third"]))]);
    press(&mut app, "u");
    assert!(app.desk.popup.is_none());
    assert_eq!(notice(&app), "undo: none; it was changed by somebody else since");
}

#[test]
fn a_device_that_was_not_changed_is_not_set_back() {
    let mut app = app_with(vec![row(0, json!(["eu"])), row(1, json!(["eu"]))]);
    let asked = requests(&press(&mut app, "a x t l a b Enter y"));
    let refused = Failed { text: "no".to_owned(), request_id: None, field: None };
    answer(&mut app, asked[0].clone(), Err(refused));
    answer(&mut app, asked[1].clone(), Ok(Answer::Done));
    app.desk.notice = None;
    let effects = press(&mut app, "u y");
    let Request::Change(uid, _) = asked[1] else { panic!("{asked:?}") };
    assert_eq!(done(&mut app, effects), [(uid, tags(&["eu"], &["lab"]))]);
}

#[test]
fn a_configuration_becomes_a_new_version_that_says_what_the_old_one_said() {
    for (version, back) in [(3, Some(Change::GoBack { to: 3, from: 4 })), (0, None)] {
        let mut row = device(0, "pump", DeviceStatus::Online);
        row.config_version = version;
        let mut app = app_with(vec![row]);
        let effects = press(&mut app, "x i Backspace Backspace Backspace 3 0 s Enter y");
        assert_eq!(done(&mut app, effects).len(), 1);
        let effects = press(&mut app, "u y");
        let undone = done(&mut app, effects);
        assert_eq!(undone, back.map(|back| (sample::uid(0), back)).into_iter().collect::<Vec<_>>());
        if version == 0 {
            assert_eq!(notice(&app), "undo: none; there was no configuration before");
        }
    }
}

fn view(state: CommandState) -> CommandView {
    let now = Timestamp::from_millis(sample::NOW);
    CommandView {
        id: batch_id(1),
        device_id: "pump".parse().unwrap(),
        uid: sample::uid(0),
        command: Command::Restart.word().into(),
        args: Vec::new(),
        state,
        why: "because".into(),
        state_at: now,
        author: "operator:k3xq2m7a".into(),
        created_at: now,
        expires_at: now,
        exit_code: None,
        output: None,
        output_left_out: 0,
    }
}

#[test]
fn a_command_is_taken_back_while_it_is_not_over() {
    let mut app = app_with(vec![device(0, "pump", DeviceStatus::Offline)]);
    let asked = requests(&press(&mut app, "x s y")).remove(0);
    let given = Answer::Command(Box::new(view(CommandState::Queued)));
    answer(&mut app, asked.clone(), Ok(given));
    press(&mut app, "u");
    assert_eq!(question(&app).lock, Lock::Yes);
    let effects = press(&mut app, "y");
    let taken_back = Request::Change(sample::uid(0), Change::TakeBack(batch_id(1)));
    assert_eq!(requests(&effects), std::slice::from_ref(&taken_back));
    let cancelled = Answer::Command(Box::new(view(CommandState::Cancelled)));
    answer(&mut app, taken_back, Ok(cancelled));
    press(&mut app, "u");
    assert_eq!(notice(&app), "undo: none; what was taken back is given anew");
    // Another one is faster.
    let asked = requests(&press(&mut app, "x s y")).remove(0);
    let over = Answer::Command(Box::new(view(CommandState::Succeeded)));
    answer(&mut app, asked, Ok(over));
    press(&mut app, "u");
    assert_eq!(notice(&app), "undo: none; restart is over");
}

#[test]
fn what_cannot_be_undone_says_so() {
    let mut app = app_with(vec![device(0, "pump", DeviceStatus::Online)]);
    press(&mut app, "u");
    assert_eq!(notice(&app), "undo: none; nothing was done here yet");
    let effects = press(&mut app, "x v p u m p Enter");
    done(&mut app, effects);
    press(&mut app, "u");
    assert_eq!(notice(&app), "undo: none; a key that was revoked stays so");
}

#[test]
fn what_was_deleted_is_had_back() {
    let mut app = app_with(vec![device(0, "pump", DeviceStatus::Online)]);
    let effects = press(&mut app, "x d p u m p Enter");
    assert_eq!(done(&mut app, effects), [(sample::uid(0), Change::Delete)]);
    assert_eq!(notice(&app), "pump deleted (u undoes)");
    let page = IndexPage { rows: Vec::new(), gone: vec![0], complete: true };
    sample::say(&mut app, StreamMessage::Index(page));
    assert!(app.desk.data.device(sample::uid(0)).is_none());
    press(&mut app, "u");
    assert_eq!(question(&app).title, "Undo: delete pump");
    let effects = press(&mut app, "y");
    assert_eq!(done(&mut app, effects), [(sample::uid(0), Change::Restore)]);
    assert_eq!(notice(&app), "pump back in the fleet");
    press(&mut app, "u");
    assert_eq!(notice(&app), "undo: none; what is back is deleted anew");
}

#[test]
fn a_pause_is_undone_after_a_question() {
    let mut app = app_with(Vec::new());
    let mut paused = batch(1, &[(MemberState::Waiting, 3)]);
    paused.state = BatchState::Paused;
    let pause = Request::ChangeBatch(batch_id(1), BatchChange::Pause);
    answer(&mut app, pause, Ok(Answer::Batch(Box::new(paused))));
    assert_eq!(requests(&press(&mut app, "u")), []);
    assert!(matches!(&question(&app).lock, Lock::Typed { text, .. } if text == "3"));
    let go_on = Request::ChangeBatch(batch_id(1), BatchChange::Continue);
    assert_eq!(requests(&press(&mut app, "3 Enter")), [go_on]);
}
