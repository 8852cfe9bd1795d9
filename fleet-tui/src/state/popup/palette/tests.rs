//! Commands by name, typed key by key.

use super::*;
use crate::keys::Action;
use crate::testing::{app_with, fleet_of, key, press};

fn opened() -> (Palette, App) {
    let app = app_with(fleet_of(100));
    let Popup::Palette(palette) = palette(&app) else { panic!("no palette") };
    (palette, app)
}

fn run(text: &str) -> Result<Command, (String, Option<String>)> {
    let (mut palette, mut app) = opened();
    palette.paste(text, &app.desk);
    match palette.press(&key("Enter"), &mut app.desk) {
        PopupEnd::Run(command) => Ok(command),
        PopupEnd::Stay | PopupEnd::Close => Err((palette.field.text().to_owned(), palette.error)),
    }
}

#[test]
fn what_a_line_says_is_done() {
    assert!(matches!(run("device pump-0007"), Ok(Command::Open(_))));
    assert!(
        matches!(run("fleet status=offline"), Ok(Command::Filter(text)) if text == "status=offline")
    );
    assert!(matches!(run("filter cpu>90"), Ok(Command::Narrow(text)) if text == "cpu>90"));
    assert!(matches!(run("sort -cpu"), Ok(Command::Sort(key)) if key.to_string() == "-cpu"));
    assert!(matches!(run("theme light"), Ok(Command::Theme(ThemeName::Light))));
    assert!(matches!(run("messages"), Ok(Command::Act(Action::Messages))));
    assert!(matches!(run("help"), Ok(Command::Popup(_))));
    assert!(matches!(run("q"), Ok(Command::Quit)));
    assert!(matches!(run("quit"), Ok(Command::Act(Action::Quit))));
    assert!(matches!(run("columns"), Ok(Command::Act(Action::Columns))));
    assert!(matches!(run("colum"), Ok(Command::Act(Action::Columns))));
    assert!(matches!(run("dev 99"), Ok(Command::Open(_))));
    assert!(matches!(run("so -cpu"), Ok(Command::Sort(key)) if key.to_string() == "-cpu"));
    assert!(matches!(run("next problem"), Ok(Command::Act(Action::NextProblem))));
}

#[test]
fn what_is_not_known_stays_and_is_told() {
    for (text, wrong) in [
        ("frobnicate", "no command"),
        ("f pump", "no command"),
        ("device zzz", "no device"),
        ("sort nothing", "no field"),
        ("theme pink", "no theme"),
        ("context moon", "no context"),
        ("fleet status=", "column"),
    ] {
        let Err((kept, error)) = run(text) else { panic!("{text} was done") };
        assert_eq!(kept, text);
        assert!(error.is_some_and(|error| error.contains(wrong)), "{text}");
    }
}

#[test]
fn tab_completes_and_enter_asks_for_what_is_missing() {
    let (mut palette, mut app) = opened();
    for name in ["d", "e", "v", "Tab"] {
        palette.press(&key(name), &mut app.desk);
    }
    assert_eq!(palette.field.text(), "device ");
    assert_eq!((palette.entries.len(), palette.more), (50, 50));
    palette.paste("99", &app.desk);
    palette.press(&key("Tab"), &mut app.desk);
    assert_eq!(palette.field.text(), "device pump-0099");
    palette.field.clear();
    palette.paste("dev 98", &app.desk);
    palette.press(&key("Tab"), &mut app.desk);
    assert_eq!(palette.field.text(), "device pump-0098");
    assert_eq!(run("dev").map(drop), Err(("device ".to_owned(), None)));
}

#[test]
fn what_tab_makes_is_known() {
    for begin in ["restart", "rebo", "rot", "del", "exp"] {
        let (mut palette, mut app) = opened();
        palette.paste(begin, &app.desk);
        palette.press(&key("Tab"), &mut app.desk);
        let text = palette.field.text().to_owned();
        assert!(text.starts_with(begin) && !text.contains('…'), "{text}");
        palette.press(&key("Enter"), &mut app.desk);
        assert_eq!(palette.error, None, "{text}");
    }
}

#[test]
fn a_filter_is_judged_as_it_is_typed() {
    let (mut palette, app) = opened();
    for (text, is_read) in [("fleet cpu>", false), ("90", true), (" and", false)] {
        palette.paste(text, &app.desk);
        let [entry] = palette.entries.as_slice() else { panic!("{:?}", palette.entries) };
        assert_eq!(entry.text, palette.field.text());
        assert_eq!(entry.command.is_some(), is_read, "{}: {}", entry.text, entry.detail);
    }
}

#[test]
fn commands_of_before_come_back() {
    let mut app = app_with(fleet_of(1));
    press(&mut app, ": t h e m e Space d a r k Enter");
    press(&mut app, ": s o r t Space c p u Enter");
    press(&mut app, ": Up Up");
    let Some(Popup::Palette(palette)) = &app.desk.popup else { panic!("no palette") };
    assert_eq!(palette.field.text(), "theme dark");
    press(&mut app, "Down");
    let Some(Popup::Palette(palette)) = &app.desk.popup else { panic!("no palette") };
    assert_eq!(palette.field.text(), "sort cpu");
}

#[test]
fn every_action_of_a_screen_is_found_by_its_name() {
    let (palette, _) = opened();
    for binding in keys::bindings().iter().filter(|binding| binding.holds(Scope::Fleet)) {
        let is_it = |entry: &Entry| matches!(entry.command, Some(Command::Act(action)) if action == binding.action);
        assert!(palette.all().iter().any(is_it), "{:?}", binding.action);
    }
}
