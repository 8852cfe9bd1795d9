//! Keys: which come first, who sees them, and what it takes to make and to end one.

use std::time::Duration;

use fleet_core::api::{EventKind, KeyCreate, KeyView, Right, Role, StreamMessage};
use fleet_core::secret::KeyKind;

use super::testing::{asked, key, keys, listed, made, me, now, sign_in, tell};
use super::{End, KeySort, Labels, author, end, label};
use crate::effect::{Effect, Request};
use crate::event::{Answer, Event, Failed, LinkEvent};
use crate::sample;
use crate::state::App;
use crate::state::popup::{Confirm, KeyForm, KeyPlace, Lock, NewKey, Popup};
use crate::terminal::caps::Caps;
use crate::testing::{disconnect, event, live_app, picture, press, screen, wait};

fn ids(app: &App) -> Vec<&str> {
    app.keys.order.iter().map(|place| app.keys.kept[*place].id.as_str()).collect()
}

fn notice(app: &App) -> &str {
    app.desk.notice.as_ref().map(|(notice, _)| notice.text.as_str()).unwrap_or_default()
}

fn form(app: &App) -> &KeyForm {
    let Some(Popup::KeyForm(form)) = &app.desk.popup else { panic!("{:?}", app.desk.popup) };
    form
}

fn question(app: &App) -> &Confirm {
    let Some(Popup::Confirm(confirm)) = &app.desk.popup else { panic!("{:?}", app.desk.popup) };
    confirm
}

fn new_key(app: &App) -> &NewKey {
    let Some(Popup::NewKey(new)) = &app.desk.popup else { panic!("{:?}", app.desk.popup) };
    new
}

/// Moves the cursor to a key.
fn go_to(app: &mut App, id: &str) {
    press(app, "g");
    let place = ids(app).iter().position(|other| *other == id).expect("a key of the list");
    for _ in 0..place {
        press(app, "j");
    }
}

fn types(app: &mut App, text: &str) {
    for c in text.chars() {
        press(app, &if c == ' ' { "Space".to_owned() } else { c.to_string() });
    }
}

fn refused(field: &str, text: &str) -> Failed {
    Failed { text: text.to_owned(), request_id: None, field: Some(field.to_owned()) }
}

/// Lets somebody have a look at a new key, so that keys are meant for it.
fn seen(app: &mut App) {
    wait(app, Duration::from_secs(1));
}

/// Everything that the console shows or would write down about itself.
fn everything(app: &App) -> String {
    format!("{}{app:?}", picture(&screen(app, Caps::default())))
}

/// The secret part of a key as it would be found in a text, however its lines are cut.
fn secret(app: &App) -> String {
    let text = new_key(app).key().reveal();
    let from = text.find('_').expect("a key has a kind") + 14;
    text[from..from + 24].to_owned()
}

#[test]
fn what_ends_soon_comes_first_and_what_does_not_work_last() {
    let mut app = listed();
    assert_eq!(
        ids(&app),
        [
            "pastpastpa",
            "oldoldoldo",
            "nearnearne",
            "farfarfarf",
            "newnewnewn",
            "adminadmin",
            "enrolenrol",
            "devicedevi",
            "spentspent",
            "gonegonego",
        ]
    );
    let is = |id: &str| end(keys().iter().find(|key| key.id == id).unwrap(), now());
    assert_eq!((is("pastpastpa"), is("nearnearne")), (End::Past, End::Near));
    // Its end was meant.
    assert_eq!((is("oldoldoldo"), is("farfarfarf")), (End::Quiet, End::Quiet));
    press(&mut app, "S");
    assert_eq!(ids(&app).first(), Some(&"gonegonego"));
    press(&mut app, "s c");
    assert_eq!(app.keys.sort, KeySort::Role);
    assert_eq!(ids(&app).first(), Some(&"adminadmin"));
}

#[test]
fn of_those_that_have_just_ended_the_last_comes_first() {
    let mut app = listed();
    let mut keys = keys();
    let ended = |id: &str, days: u64| KeyView {
        expires_at: Some(now().minus(Duration::from_secs(days * 86_400))),
        ..key(id, id)
    };
    keys.extend([ended("pastbefore", 9), ended("pasttodayt", 1)]);
    tell(&mut app, Request::Keys, Ok(Answer::Keys(keys)));
    assert_eq!(ids(&app)[..4], ["pasttodayt", "pastpastpa", "pastbefore", "oldoldoldo"]);
}

#[test]
fn the_cursor_goes_to_a_new_key_as_soon_as_it_is_listed() {
    let mut app = listed();
    go_to(&mut app, "nearnearne");
    let requests = asked(press(&mut app, "o x Tab Tab Tab Tab Tab Enter"));
    let (request, new) = (requests.first().expect("a request").clone(), made());
    let id = new.id().to_owned();
    tell(&mut app, request, Ok(Answer::NewKey(Box::new(new))));
    // An answer to what was asked before.
    tell(&mut app, Request::Keys, Ok(Answer::Keys(keys())));
    assert_eq!(app.keys.at_cursor().unwrap().id, "nearnearne");
    let with_it = || [keys(), vec![key(&id, "x")]].concat();
    tell(&mut app, Request::Keys, Ok(Answer::Keys(with_it())));
    assert_eq!(app.keys.at_cursor().unwrap().id, id);
    seen(&mut app);
    press(&mut app, "y Esc g");
    tell(&mut app, Request::Keys, Ok(Answer::Keys(with_it())));
    assert_eq!(app.keys.at_cursor().unwrap().id, "pastpastpa", "it went there once");
}

#[test]
fn what_a_key_does_not_have_is_not_copied() {
    let mut app = listed();
    for (id, has_label) in [("nearnearne", true), ("farfarfarf", false)] {
        go_to(&mut app, id);
        press(&mut app, "y");
        let Some(Popup::Menu(menu)) = &app.desk.popup else { panic!("no menu") };
        assert_eq!(menu.items.iter().any(|item| item.text == "label"), has_label, "{id}");
        press(&mut app, "Esc");
    }
}

#[test]
fn the_cursor_stays_with_its_key() {
    let mut app = listed();
    go_to(&mut app, "nearnearne");
    let without_first = keys().into_iter().filter(|key| key.id != "pastpastpa").collect();
    tell(&mut app, Request::Keys, Ok(Answer::Keys(without_first)));
    assert_eq!(app.keys.at_cursor().unwrap().id, "nearnearne");
    press(&mut app, "/ l i n e Enter");
    assert_eq!(ids(&app), ["enrolenrol", "spentspent"]);
    press(&mut app, "Esc / 1 0 . 8 Space c i Enter");
    assert_eq!(ids(&app), ["oldoldoldo"]);
}

#[test]
fn keys_are_asked_for_while_they_are_looked_at_and_when_something_happens_to_one() {
    let mut app = listed();
    assert_eq!(asked(wait(&mut app, Duration::from_secs(14))), []);
    assert_eq!(asked(wait(&mut app, Duration::from_secs(2))), [Request::Keys]);
    tell(&mut app, Request::Keys, Ok(Answer::Keys(keys())));
    let created = event(9, EventKind::KeyCreated, None, "operator key x");
    sample::say(&mut app, StreamMessage::Event(created));
    assert_eq!(asked(wait(&mut app, Duration::from_secs(5))), [Request::Keys]);
    let failed = Failed { text: "busy".to_owned(), request_id: None, field: None };
    tell(&mut app, Request::Keys, Err(failed));
    assert_eq!(app.keys.failure.as_deref(), Some("busy"));
    press(&mut app, "1");
    assert_eq!(asked(wait(&mut app, Duration::from_secs(60))), []);
}

#[test]
fn who_is_no_admin_sees_no_keys_and_is_told_why() {
    for role in [Role::Viewer, Role::Operator] {
        let mut app = live_app();
        sign_in(&mut app, me(role, None));
        assert_eq!(asked(press(&mut app, "8")), [], "{role}");
        let why = "the key does not see others: that takes the role admin";
        assert!(everything(&app).contains(why), "{role}");
        press(&mut app, "o");
        assert_eq!(notice(&app), format!("no new key: {why}"));
        press(&mut app, "x");
        let Some(Popup::Menu(menu)) = &app.desk.popup else { panic!("no menu") };
        assert!(menu.items.iter().all(|item| item.command.is_none() && item.detail == why));
    }
}

#[test]
fn an_author_is_called_by_what_their_key_is_for() {
    let labels: Labels = keys().iter().map(|key| (key.id.clone(), label(key))).collect();
    let by = |created_by: Option<&str>| {
        author(&KeyView { created_by: created_by.map(Into::into), ..key("a", "") }, &labels)
    };
    assert_eq!(by(Some("operator:adminadmin")), "admin.key");
    assert_eq!(by(Some("operator:farfarfarf")), "farfarfarf");
    assert_eq!(by(Some("operator:nobody")), "nobody");
    assert_eq!((by(Some("server")), by(None)), ("the server".to_owned(), String::new()));
}

#[test]
fn a_good_key_ends_only_after_its_id_was_typed() {
    let mut app = listed();
    go_to(&mut app, "nearnearne");
    assert_eq!(asked(press(&mut app, "x v y Enter")), []);
    let lines = &question(&app).lines;
    let line = |label: &str| &lines.iter().find(|(name, _)| *name == label).unwrap().1;
    assert!(matches!(&question(&app).lock, Lock::Typed { text, .. } if text == "nearnearne"));
    assert!(line("server").contains("https://fleet.example.com:8443"));
    assert!(line("key").starts_with("night shift (nearnearne)"), "{}", line("key"));
    assert!(line("effect").contains("end within 5 s"));
    assert!(lines.iter().all(|(label, _)| *label != "YOU"));
    press(&mut app, "Backspace");
    types(&mut app, "nearnearne");
    let revoke = Request::RevokeKey("nearnearne".to_owned());
    assert_eq!(asked(press(&mut app, "Enter")).first(), Some(&revoke));
    let effects = tell(&mut app, revoke, Ok(Answer::Done));
    assert_eq!(notice(&app), "revoked night shift (nearnearne)");
    assert_eq!(asked(effects), [Request::Keys], "the list is looked at anew");
}

#[test]
fn whoever_ends_the_key_in_use_is_told_that_it_is_theirs() {
    let mut app = listed();
    go_to(&mut app, "adminadmin");
    press(&mut app, "x v");
    let you = question(&app).lines.iter().find(|(label, _)| *label == "YOU");
    assert!(you.is_some_and(|(_, text)| text.contains("signed in with this very key")));
    types(&mut app, "adminadmin");
    let revoke = Request::RevokeKey("adminadmin".to_owned());
    assert_eq!(asked(press(&mut app, "Enter")).first(), Some(&revoke));
    let last = Failed {
        text: "the server refused: it is the last one".to_owned(),
        request_id: None,
        field: None,
    };
    tell(&mut app, revoke, Err(last));
    assert!(notice(&app).contains("not revoked: admin.key (adminadmin)"), "{}", notice(&app));
}

#[test]
fn a_key_that_works_no_more_takes_a_y() {
    let mut app = listed();
    go_to(&mut app, "pastpastpa");
    press(&mut app, "x v");
    assert_eq!(question(&app).lock, Lock::Yes);
    let revoke = Request::RevokeKey("pastpastpa".to_owned());
    assert_eq!(asked(press(&mut app, "y")), [revoke]);
}

#[test]
fn what_has_no_successor_says_why() {
    let mut app = listed();
    for (id, why) in [
        ("adminadmin", "the server's own"),
        ("enrolenrol", "has no successor"),
        ("pastpastpa", "expired"),
        ("gonegonego", "revoked already"),
    ] {
        go_to(&mut app, id);
        press(&mut app, "x k");
        assert!(notice(&app).contains(why), "{id}: {}", notice(&app));
        press(&mut app, "Esc");
    }
}

#[test]
fn a_key_is_made_as_it_was_asked_for() {
    let mut app = listed();
    press(&mut app, "o");
    types(&mut app, "night shift");
    // An operator's key with two rights, for some devices, for a month.
    press(&mut app, "Tab Tab Space Right Right Space Tab");
    types(&mut app, "site=lyon");
    press(&mut app, "Tab ^u 3 0 d Tab");
    let wish = KeyCreate {
        install_url: false,
        kind: KeyKind::Operator,
        label: "night shift".to_owned(),
        uses: None,
        expires_in_secs: Some(30 * 86_400),
        never_expires: false,
        role: Some(Role::Operator),
        rights: [Right::Exec, Right::Export].into(),
        scope: Some("site=lyon".to_owned()),
        device_id: None,
    };
    assert_eq!(asked(press(&mut app, "Enter")), [Request::MakeKey(Box::new(wish))]);
    // It is asked for once.
    assert_eq!(asked(press(&mut app, "Enter Enter")), []);

    for (keys, expected) in [
        (
            "S-Tab Right Tab l Tab ^u 5 Tab Tab Enter",
            KeyCreate { uses: Some(5), ..bare(KeyKind::Enrol, "l") },
        ),
        (
            "S-Tab Left Tab p u m p Tab l Tab Tab Enter",
            KeyCreate { device_id: Some("pump".to_owned()), ..bare(KeyKind::Device, "l") },
        ),
        (
            "w Tab Right Tab Space Tab Tab ^u n e v e r Tab Enter",
            KeyCreate {
                never_expires: true,
                role: Some(Role::Admin),
                ..bare(KeyKind::Operator, "w")
            },
        ),
    ] {
        let mut app = listed();
        press(&mut app, "o");
        let found = asked(press(&mut app, keys));
        assert_eq!(found, [Request::MakeKey(Box::new(expected))], "{keys}: {:?}", form(&app));
    }
}

fn bare(kind: KeyKind, label: &str) -> KeyCreate {
    KeyCreate {
        install_url: false,
        kind,
        label: label.to_owned(),
        uses: None,
        expires_in_secs: None,
        never_expires: false,
        role: None,
        rights: [].into(),
        scope: None,
        device_id: None,
    }
}

#[test]
fn what_does_not_do_is_said_at_its_place() {
    for (keys, place, words) in [
        ("Tab Tab Tab s i t e = Tab Tab Enter", KeyPlace::Scope, "a value is missing"),
        ("Tab Tab Tab Tab ^u s o o n Tab Enter", KeyPlace::Expires, "or never"),
        ("Tab Left Tab Space", KeyPlace::Rights, "a viewer cannot have the right exec"),
        ("S-Tab Right Tab Tab ^u 0 Tab Tab Enter", KeyPlace::Uses, "1 or more"),
        ("S-Tab Left Tab Tab Tab Tab Enter", KeyPlace::Device, "which device"),
    ] {
        let mut app = listed();
        press(&mut app, "o");
        assert_eq!(asked(press(&mut app, keys)), [], "{keys}");
        let (found, text) = form(&app).error.clone().expect("an error");
        assert_eq!(found, Some(place), "{keys}: {text}");
        assert!(text.contains(words), "{text}");
    }
    // By the server.
    for (field, place, words) in [
        ("label", Some(KeyPlace::Label), "must not be longer"),
        ("expires_in_secs", Some(KeyPlace::Expires), "must not be longer"),
        ("uses", None, "uses: must not be longer"),
        ("colour", None, "colour: must not be longer"),
    ] {
        let mut app = listed();
        let requests = asked(press(&mut app, "o x Tab Tab Tab Tab Tab Enter"));
        let request = requests.first().expect("a request").clone();
        tell(&mut app, request, Err(refused(field, "must not be longer")));
        let (found, text) = form(&app).error.clone().expect("an error");
        assert_eq!((found, text.as_str()), (place, words), "{field}");
        assert!(everything(&app).contains(words));
        assert_eq!(form(&app).place, place.unwrap_or(KeyPlace::Button));
        assert!(!form(&app).is_asking());
        // It is better the next time.
        press(&mut app, "S-Tab S-Tab S-Tab S-Tab S-Tab S-Tab Tab Backspace y");
        assert_eq!(form(&app).error, None);
    }
}

#[test]
fn t22_a_new_key_is_shown_until_its_dialog_closes_and_written_down_nowhere() {
    let mut app = listed();
    let request = asked(press(&mut app, "o c i Tab Tab Tab Tab Tab Enter")).remove(0);
    let key = made();
    tell(&mut app, request, Ok(Answer::NewKey(Box::new(key.clone()))));
    let secret = secret(&app);
    let shown = || key.reveal().contains(&secret);
    assert!(shown() && picture(&screen(&app, Caps::default())).contains(&secret));
    assert!(!format!("{app:?}").contains(&secret), "what is written down shows its id only");

    // Nothing but a deliberate word closes it, and without a copy that takes two.
    press(&mut app, "Esc Esc Esc");
    assert!(!new_key(&app).is_leaving, "nobody can have seen it yet");
    seen(&mut app);
    press(&mut app, "Enter x 1 Tab Esc");
    assert!(new_key(&app).is_leaving && everything(&app).contains("Not copied"));
    press(&mut app, "Down");
    assert!(!new_key(&app).is_leaving);
    let effects = press(&mut app, "y");
    let [Effect::CopyKey(copied)] = effects.as_slice() else { panic!("{effects:?}") };
    assert_eq!(copied.reveal(), key.reveal());
    assert!(!format!("{effects:?}").contains(&secret));
    press(&mut app, "Esc");
    assert!(app.desk.popup.is_none());
    let new = KeyView { created_at: now(), ..self::key(key.id(), "ci") };
    tell(&mut app, Request::Keys, Ok(Answer::Keys([keys(), vec![new]].concat())));
    assert_eq!(app.keys.at_cursor().unwrap().id, key.id(), "the cursor is where one looks");

    // It is on no screen that one can still come to, nor among what was said.
    for keys in ["Esc", "Enter", "Esc", "!", "Esc : Up", "Esc", "6", "^o", "^l"] {
        press(&mut app, keys);
        assert!(!everything(&app).contains(&secret), "after {keys}");
    }
}

#[test]
fn a_key_that_comes_late_is_shown_all_the_same() {
    let mut app = listed();
    let request = asked(press(&mut app, "o c i Tab Tab Tab Tab Tab Enter")).remove(0);
    press(&mut app, "Esc 1 ?");
    // Meanwhile no other one is made, and nobody leaves for another server.
    press(&mut app, "Esc 8 o Tab Tab Tab Tab Tab");
    assert_eq!(asked(press(&mut app, "Enter")), []);
    assert!(everything(&app).contains("another key is being made"));
    press(&mut app, "Esc : c o n t e x t Space s t a g i n g Enter");
    assert!(notice(&app).contains("a key is being made"), "{}", notice(&app));
    press(&mut app, "Esc 1 ?");
    tell(&mut app, request, Ok(Answer::NewKey(Box::new(made()))));
    assert_eq!(new_key(&app).what, "The new key ci");
    assert!(app.desk.awaited_key.is_none());
}

#[test]
fn a_key_that_comes_late_takes_no_word_that_was_meant_for_what_was_there() {
    let mut app = listed();
    let request = asked(press(&mut app, "o c i Tab Tab Tab Tab Tab Enter")).remove(0);
    press(&mut app, "Esc / m");
    assert!(app.is_typing());
    tell(&mut app, request, Ok(Answer::NewKey(Box::new(made()))));
    let effects = press(&mut app, "y Space k e y Esc Esc Esc q");
    assert!(!effects.iter().any(|effect| matches!(effect, Effect::CopyKey(_))), "{effects:?}");
    assert!(!new_key(&app).is_copied && !new_key(&app).is_leaving);
    assert!(notice(&app).contains("a new key has come"), "{}", notice(&app));
    wait(&mut app, Duration::from_millis(999));
    press(&mut app, "y");
    assert!(!new_key(&app).is_copied);
    wait(&mut app, Duration::from_millis(1));
    let effects = press(&mut app, "y");
    assert!(matches!(effects.as_slice(), [Effect::CopyKey(_)]), "{effects:?}");
    press(&mut app, "Esc");
    assert!(app.desk.popup.is_none() && app.is_typing(), "what was typed goes on");
}

#[test]
fn nobody_quits_without_a_question_while_a_key_is_made_or_shown() {
    let quits = |effects: &[Effect]| effects.iter().any(|it| matches!(it, Effect::Quit));
    let mut app = listed();
    let request = asked(press(&mut app, "o c i Tab Tab Tab Tab Tab Enter")).remove(0);
    assert!(!quits(&press(&mut app, "^c ^c")));
    assert!(question(&app).lines.iter().any(|(_, text)| text.contains("A key is being made")));
    press(&mut app, "Esc");
    assert!(form(&app).is_asking(), "what was there is there again");
    press(&mut app, "^c Esc Esc 1 ^c");
    assert_eq!(question(&app).title, "Quit?");

    // The key goes before the question, and is there again after the next one.
    tell(&mut app, request, Ok(Answer::NewKey(Box::new(made()))));
    assert!(!quits(&press(&mut app, "y")));
    seen(&mut app);
    assert!(!quits(&press(&mut app, "y ^c ^c")));
    assert!(question(&app).lines.iter().any(|(_, text)| text.contains("gone for good")));
    press(&mut app, "Esc Esc Esc");
    assert!(new_key(&app).is_copied, "keys hold only after another look at it");
    assert!(quits(&press(&mut app, "^c y")));

    let mut app = listed();
    assert!(quits(&press(&mut app, "^c")), "nothing is lost");
}

#[test]
fn keys_are_asked_for_as_soon_as_it_is_known_that_they_may_be_seen_and_not_before() {
    let failed = |text: &str| Failed { text: text.to_owned(), request_id: None, field: None };
    let after = |app: &mut App, secs| asked(wait(app, Duration::from_secs(secs)));
    for role in [Role::Viewer, Role::Admin] {
        let mut app = live_app();
        assert_eq!(asked(press(&mut app, "8 o")), []);
        assert!(notice(&app).contains("not known yet"), "{}", notice(&app));
        assert_eq!(after(&mut app, 60), []);
        // Each time the pause is twice as long, but never longer than a minute.
        for (time, pause) in [5, 10, 20, 40, 60, 60].into_iter().enumerate() {
            tell(&mut app, Request::Me, Err(failed("busy")));
            assert!(everything(&app).contains("may do did not come: busy"));
            assert_eq!(after(&mut app, pause - 1), [], "failure {time}");
            assert_eq!(after(&mut app, 1), [Request::Me], "failure {time}");
            assert_eq!(after(&mut app, 90), [], "it is asked for once");
        }
        let told = |(notice, _): &&(crate::event::Notice, _)| notice.text.contains("busy");
        assert_eq!(app.desk.notices.iter().filter(told).count(), 1);
        let answer = Ok(Answer::Me(Box::new(me(role, None))));
        let expected: &[Request] = if role == Role::Admin { &[Request::Keys] } else { &[] };
        assert_eq!(asked(tell(&mut app, Request::Me, answer)), expected, "{role}");
        assert!(app.desk.who.failure.is_none());
    }
}

#[test]
fn who_signs_in_is_asked_for_only_while_the_server_is_there() {
    let mut app = live_app();
    let failed = Failed { text: "busy".to_owned(), request_id: None, field: None };
    tell(&mut app, Request::Me, Err(failed));
    disconnect(&mut app);
    assert_eq!(asked(wait(&mut app, Duration::from_secs(60))), []);
    let hello = Box::new(StreamMessage::Hello(sample::hello(0)));
    let now = sample::moment(app.desk.now.since_start);
    let effects = app.apply(now, Event::Link(LinkEvent::Message(hello)));
    let is_me = |request: &&Request| **request == Request::Me;
    assert_eq!(asked(effects).iter().filter(is_me).count(), 1);
}

#[test]
fn what_was_just_used_is_said_to_be() {
    let mut app = listed();
    let just = KeyView { last_used: Some(now()), ..key("justjustju", "just now") };
    tell(&mut app, Request::Keys, Ok(Answer::Keys(vec![just])));
    press(&mut app, "x v");
    let used = question(&app).lines.iter().find(|(label, _)| *label == "last used");
    assert_eq!(used.map(|(_, text)| text.as_str()), Some("just now from 10.8.0.17"));
    press(&mut app, "Esc Enter");
    assert!(everything(&app).contains("2026-08-23 14:03:22Z, just now from 10.8.0.17"));
}

#[test]
fn a_key_that_may_have_been_made_is_told_of() {
    let mut app = listed();
    let request = asked(press(&mut app, "o c i Tab Tab Tab Tab Tab Enter")).remove(0);
    press(&mut app, "Esc");
    let failed = Failed { text: "no answer".to_owned(), request_id: None, field: None };
    let effects = tell(&mut app, request, Err(failed));
    assert_eq!(notice(&app), "no key was made: no answer");
    assert_eq!(asked(effects), [Request::Keys]);
}

#[test]
fn a_successor_is_asked_for_with_how_long_the_old_one_goes_on() {
    let mut app = listed();
    go_to(&mut app, "nearnearne");
    let requests = asked(press(&mut app, "x k ^u 2 h Tab Enter"));
    let rotate = |overlap| Request::RotateKey {
        id: "nearnearne".to_owned(),
        overlap: Duration::from_secs(overlap),
    };
    assert_eq!(requests, [rotate(7_200)]);
    tell(&mut app, rotate(7_200), Ok(Answer::NewKey(Box::new(made()))));
    assert_eq!(new_key(&app).what, "The successor of night shift (nearnearne)");
    let after = new_key(&app).after.as_deref().unwrap_or_default();
    assert_eq!(after, "night shift (nearnearne) goes on until 2026-08-23 16:03:22Z and then ends.");

    // It ends when it would have ended, if that is earlier; and at once if so asked for.
    let mut app = listed();
    tell(&mut app, rotate(30 * 86_400), Ok(Answer::NewKey(Box::new(made()))));
    let after = new_key(&app).after.clone().unwrap_or_default();
    assert!(after.contains("until 2026-08-26 14:03:22Z"), "{after}");
    let mut own = me(Role::Admin, None);
    own.id = "nearnearne".to_owned();
    sign_in(&mut app, own);
    tell(&mut app, rotate(0), Ok(Answer::NewKey(Box::new(made()))));
    let after = new_key(&app).after.clone().unwrap_or_default();
    assert!(after.contains("has ended") && after.contains("denied from now on"), "{after}");
}

#[test]
fn nothing_is_done_to_keys_while_the_server_is_away() {
    let mut app = listed();
    go_to(&mut app, "nearnearne");
    press(&mut app, "x v");
    types(&mut app, "nearnearne");
    disconnect(&mut app);
    assert_eq!(asked(press(&mut app, "Enter")), []);
    assert!(notice(&app).contains("the server is away"), "{}", notice(&app));
    press(&mut app, "Esc Esc o");
    assert!(notice(&app).contains("the server is away"), "{}", notice(&app));
    assert!(app.desk.popup.is_none());
}
