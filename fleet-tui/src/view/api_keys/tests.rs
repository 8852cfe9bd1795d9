//! Pictures of keys in the states that they can be in. No picture has a key in full in it.

use std::time::Duration;

use fleet_core::api::{KeyView, Me, Role as KeyRole};
use proptest::prelude::*;
use ratatui::layout::Size;

use super::COLUMNS;
use crate::effect::Request;
use crate::event::{Answer, Event, Failed, LinkEvent};
use crate::layout::SMALLEST;
use crate::sample;
use crate::state::App;
use crate::state::api_keys::testing::{asked, key, keys, listed, made, me, sign_in, tell};
use crate::state::popup::Popup;
use crate::terminal::caps::Caps;
use crate::testing::{
    HUGE, LOW, WIDE, app, app_with, disconnect, fleet_of, live_app, picture, poor, press, resize,
    screen, sized, wait,
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

/// The first line in a size.
fn header(app: &mut App, size: Size) -> String {
    resize(app, size);
    let buffer = screen(app, Caps::default());
    (0..size.width).map(|x| buffer[(x, 0)].symbol()).collect()
}

#[test]
fn keys_of_all_kinds() {
    let mut app = listed();
    press(&mut app, "j j");
    all_pictures("keys", &mut app);
    press(&mut app, "/ c i");
    pictures("keys_typing", &mut app);
    press(&mut app, "z z Enter");
    pictures("keys_none_match", &mut app);
    press(&mut app, "Esc s");
    pictures("keys_sort", &mut app);
    press(&mut app, "b S");
    disconnect(&mut app);
    pictures("keys_away", &mut app);
}

#[test]
fn no_keys() {
    let mut app = app();
    press(&mut app, "8");
    pictures("keys_connecting", &mut app);
    let mut app = live_app();
    press(&mut app, "8");
    pictures("keys_loading", &mut app);
    let failed =
        Failed { text: "the server refused: busy".to_owned(), request_id: None, field: None };
    tell(&mut app, Request::Keys, Err(failed));
    pictures("keys_failed", &mut app);
    let mut unknown = live_app();
    press(&mut unknown, "8");
    let failed =
        Failed { text: "the server refused: busy".to_owned(), request_id: None, field: None };
    tell(&mut unknown, Request::Me, Err(failed));
    pictures("keys_unknown", &mut unknown);
    tell(&mut app, Request::Keys, Ok(Answer::Keys(Vec::new())));
    pictures("keys_empty", &mut app);
    let mut app = self::app();
    let down =
        LinkEvent::Down { reason: "no such key".to_owned(), retry_in: None, is_denied: true };
    app.apply(sample::moment(Duration::ZERO), Event::Link(down));
    press(&mut app, "8");
    pictures("keys_denied", &mut app);
    let mut app = live_app();
    let mut own = me(KeyRole::Operator, Some("site=lyon"));
    own.expires_at = Some(crate::state::api_keys::testing::now().plus(Duration::from_secs(86_400)));
    sign_in(&mut app, Me { label: "night shift".into(), ..own });
    press(&mut app, "8");
    pictures("keys_alone", &mut app);
}

#[test]
fn one_key_and_what_becomes_of_it() {
    for (name, keys) in [
        ("key_facts", "j j Enter"),
        ("key_facts_of_the_servers_own", "j j j j j Enter"),
        ("key_facts_without_author", "j j j Enter"),
        ("key_menu", "j j x"),
        ("key_menu_of_the_servers_own", "j j j j j x"),
        ("key_copy", "j j y"),
        ("confirm_key_revoke", "j j x v n e a r"),
        ("confirm_key_revoke_own", "j j j j j x v"),
        ("confirm_key_revoke_expired", "x v"),
        ("key_rotate", "j j x k"),
        ("key_form", "o n i g h t Tab Tab Space Right"),
        ("key_form_admin", "o Tab Right Tab"),
        ("key_form_enrol", "o S-Tab Right Tab Tab"),
        ("key_form_device", "o S-Tab Left Tab"),
        ("key_form_wrong_scope", "o Tab Tab Tab s i t e = Tab Tab Enter"),
        ("key_form_asking", "o n i g h t Tab Tab Tab Tab Tab Enter"),
    ] {
        let mut app = listed();
        press(&mut app, keys);
        pictures(name, &mut app);
    }
}

#[test]
fn the_servers_no_stands_at_its_place() {
    let mut app = listed();
    let request = asked(press(&mut app, "o x Tab Tab Tab c p u > 5 Tab Tab Enter")).remove(0);
    let text = "cpu changes with how a device is doing, and a scope is made of what a device is: id, \
                name, type, version, or entries of its metadata";
    let failed =
        Failed { text: text.to_owned(), request_id: None, field: Some("scope".to_owned()) };
    tell(&mut app, request, Err(failed));
    pictures("key_form_refused", &mut app);
    let request = asked(press(&mut app, "^u Tab Tab Enter")).remove(0);
    let failed = Failed {
        text: "the server refused: a server keeps at most 10000 keys".to_owned(),
        request_id: None,
        field: None,
    };
    tell(&mut app, request, Err(failed));
    pictures("key_form_conflict", &mut app);
}

/// The console with a new key, and a picture of it without the key.
fn with_new_key(keys: &str) -> App {
    let mut app = listed();
    let request = asked(press(&mut app, keys)).remove(0);
    tell(&mut app, request, Ok(Answer::NewKey(Box::new(made()))));
    app
}

/// Lets somebody have a look at a new key, so that keys are meant for it.
fn seen(app: &mut App) {
    wait(app, Duration::from_secs(1));
}

fn masked_pictures(name: &str, app: &mut App) {
    let Some(Popup::NewKey(new)) = &app.desk.popup else { panic!("no key") };
    let (text, id) = (new.key().reveal(), new.key().id().to_owned());
    for (size, suffix) in [(WIDE, "wide"), (LOW, "low")] {
        resize(app, size);
        let mut shown = picture(&screen(app, Caps::default()));
        // In one line where there is room for it, so that a terminal can mark it as one.
        let width = if size == WIDE { text.len() } else { 76 };
        for line in crate::cells::cut(&text, width) {
            assert!(shown.contains(line), "the whole key is shown");
            shown = shown.replace(line, &"#".repeat(line.len()));
        }
        insta::assert_snapshot!(format!("{name}_{suffix}"), shown.replace(&id, "abcdefghij"));
    }
}

#[test]
fn a_new_key_this_once() {
    let mut app = with_new_key("o n i g h t Tab Tab Tab Tab Tab Enter");
    masked_pictures("new_key_unseen", &mut app);
    seen(&mut app);
    masked_pictures("new_key", &mut app);
    press(&mut app, "Esc");
    masked_pictures("new_key_leaving", &mut app);
    press(&mut app, "y");
    masked_pictures("new_key_copied", &mut app);
    press(&mut app, "^c");
    pictures("quit_new_key", &mut app);
    let mut app = with_new_key("j j x k Tab Enter");
    seen(&mut app);
    masked_pictures("new_key_successor", &mut app);
}

#[test]
fn t22_a_terminal_that_is_too_small_shows_as_much_of_a_key_as_it_has_room_for_and_no_more_after() {
    let mut app = with_new_key("o n i g h t Tab Tab Tab Tab Tab Enter");
    let Some(Popup::NewKey(new)) = &app.desk.popup else { panic!("no key") };
    let start = new.key().reveal()[..30].to_owned();
    for size in [SMALLEST, LOW, HUGE] {
        resize(&mut app, size);
        assert!(picture(&screen(&app, Caps::default())).contains(&start), "{size}");
    }
    seen(&mut app);
    press(&mut app, "y Esc");
    for size in [SMALLEST, LOW, HUGE] {
        resize(&mut app, size);
        assert!(!picture(&screen(&app, Caps::default())).contains(&start[10..]), "{size}");
    }
}

#[test]
fn the_first_line_says_whose_key_it_is_as_far_as_there_is_room() {
    let mut app = live_app();
    assert!(!header(&mut app, WIDE).contains("admin"));
    sign_in(&mut app, me(KeyRole::Admin, None));
    assert!(header(&mut app, WIDE).contains("rw   admin.key (admin)   alice@jump1"));
    assert!(header(&mut app, LOW).contains("live rw admin.key (admin) 14:03:22Z"));
    assert!(header(&mut app, SMALLEST).contains("live rw"));

    let scope = "site=lyon and not tag:spare";
    let label = "the night shift of the works in the north";
    let night = || Me { label: label.into(), ..me(KeyRole::Viewer, Some(scope)) };
    sign_in(&mut app, night());
    let full = format!("the night shift of t… (viewer) scope: {scope}");
    assert!(header(&mut app, HUGE).contains(&full), "{}", header(&mut app, HUGE));
    assert!(header(&mut app, WIDE).contains("the night shift of t… scope: site=lyon and no…"));
    assert!(header(&mut app, LOW).contains("read-only scope: site=lyon and no… 14:03:22Z"));
    assert!(header(&mut app, LOW).starts_with(" fleet-tui  prod › Fleet "));

    sign_in(&mut app, Me { label: "\u{1b}[31mred".into(), ..me(KeyRole::Viewer, None) });
    assert!(header(&mut app, WIDE).contains("\\u{1b}[31mred (viewer)"));
}

#[test]
fn a_scope_that_shows_no_device_is_said_to() {
    let mut app = live_app();
    sign_in(&mut app, me(KeyRole::Operator, Some("site=lyon")));
    pictures("fleet_empty_scope", &mut app);
    press(&mut app, "7");
    pictures("pending_empty_scope", &mut app);
    let mut app = live_app();
    sign_in(&mut app, me(KeyRole::Operator, None));
    assert!(picture(&screen(&app, Caps::default())).contains("No devices yet."));
}

#[test]
fn columns_stand_apart_and_those_that_matter_are_always_there() {
    for width in 60..=240 {
        let mut app = listed();
        resize(&mut app, Size::new(width, 24));
        let buffer = screen(&app, Caps::default());
        let line: String = (0..width).map(|x| buffer[(x, 3)].symbol()).collect();
        let titles: Vec<_> = line.split_whitespace().collect();
        for title in &titles {
            assert!(COLUMNS.iter().any(|(_, known, ..)| known == title), "{width}: {line}");
        }
        for title in ["STATE", "LABEL", "KIND", "ROLE", "EXPIRES"] {
            assert!(titles.contains(&title), "{width}: {line}");
        }
    }
}

#[test]
fn ten_thousand_keys_are_listed() {
    let many = |number: u32| KeyView {
        created_by: Some("operator:0000009999".into()),
        ..key(&format!("{number:010}"), if number == 9_999 { "night shift" } else { "script" })
    };
    let mut app = listed();
    tell(&mut app, Request::Keys, Ok(Answer::Keys((0..10_000).map(many).collect())));
    press(&mut app, "G");
    assert!(picture(&screen(&app, Caps::default())).contains("0000009998"));
    // By themselves, and by who made them: each is looked up among all.
    for (filter, shown) in [
        ("s c r i p t Space 9 9 9 8", 1),
        ("s c r i p t Space N i g h t Space s h i f t", 9_999),
        ("n i g h t", 10_000),
        ("n o b o d y", 0),
    ] {
        press(&mut app, &format!("/ {filter} Enter"));
        assert_eq!(app.keys.len(), shown, "{filter}");
        press(&mut app, "Esc");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_size_and_any_keys(
        width in 1..300_u16,
        height in 1..100_u16,
        pressed in prop::collection::vec(prop::sample::select(KEYS), 0..24),
        is_new in any::<bool>(),
    ) {
        let mut app = if is_new {
            let mut app = with_new_key("o n Tab Tab Tab Tab Tab Enter");
            seen(&mut app);
            app
        } else {
            let mut app = app_with(fleet_of(3));
            sign_in(&mut app, me(KeyRole::Admin, None));
            press(&mut app, "8");
            tell(&mut app, Request::Keys, Ok(Answer::Keys(keys())));
            app
        };
        resize(&mut app, Size::new(width, height));
        for key in pressed {
            press(&mut app, key);
            let buffer = screen(&app, Caps::default());
            prop_assert_eq!(buffer.area.as_size(), Size::new(width, height));
        }
    }
}

const KEYS: &[&str] = &[
    "j", "k", "G", "g", "o", "x", "v", "k", "Enter", "Esc", "/", ":", "?", "y", "s", "S", "Tab",
    "S-Tab", "Down", "Up", "Left", "Right", "Space", "8", "n", "世", "^u", "3",
];
