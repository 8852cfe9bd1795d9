//! The screen as it looks, and that it holds together whatever it is shown.

use std::time::Duration;

use fleet_core::api::{DeviceState, Discovered};
use fleet_core::untrusted::Untrusted;
use insta::assert_snapshot;
use proptest::prelude::*;
use ratatui::layout::Size;

use crate::event::{Event, LinkEvent};
use crate::state::App;
use crate::state::discover::testing::{after_a_run, found, give, looking, network};
use crate::terminal::caps::Caps;
use crate::testing::{LOW, WIDE, ascii, disconnect, mono, picture, press, screen, wait};

fn shown(app: &App) -> String {
    picture(&screen(app, Caps::default()))
}

#[test]
fn a_network_and_a_run() {
    for (name, size) in [("wide", WIDE), ("low", LOW)] {
        let mut app = found(size);
        press(&mut app, "j Space Space");
        assert_snapshot!(format!("found_{name}"), shown(&app));
        press(&mut app, "Tab");
        assert_snapshot!(format!("form_{name}"), shown(&app));
        press(&mut app, "Esc x c");
        assert_snapshot!(format!("question_{name}"), shown(&app));
        let mut app = after_a_run(size);
        assert_snapshot!(format!("run_{name}"), shown(&app));
        press(&mut app, "S-Tab G");
        assert_snapshot!(format!("failed_{name}"), shown(&app));
    }
}

#[test]
fn without_colours_and_with_ascii_only() {
    let app = after_a_run(WIDE);
    assert_snapshot!("ascii", picture(&screen(&app, ascii())));
    assert_snapshot!("mono", picture(&screen(&app, mono())));
}

#[test]
fn what_there_is_to_say_without_rows() {
    for (name, size) in [("wide", WIDE), ("low", LOW)] {
        let mut app = looking(size);
        assert_snapshot!(format!("asking_{name}"), shown(&app));
        wait(&mut app, Duration::from_secs(10));
        assert_snapshot!(format!("empty_{name}"), shown(&app));
        give(&mut app, Event::BrowseFailed("Operation not permitted (os error 1)".to_owned()));
        assert_snapshot!(format!("impossible_{name}"), shown(&app));
        let mut app = found(size);
        press(&mut app, "/ n o n e Enter");
        assert_snapshot!(format!("filtered_{name}"), shown(&app));
    }
}

#[test]
fn while_the_server_is_away_or_denies() {
    for (name, size) in [("wide", WIDE), ("low", LOW)] {
        let mut app = found(size);
        disconnect(&mut app);
        assert_snapshot!(format!("away_{name}"), shown(&app));
        let down = LinkEvent::Down {
            reason: "an operator's key is needed".to_owned(),
            retry_in: None,
            is_denied: true,
        };
        give(&mut app, Event::Link(down));
        assert_snapshot!(format!("denied_{name}"), shown(&app));
    }
}

#[test]
fn hostile_names_stay_in_their_cells() {
    let long = "x".repeat(300);
    let texts = ["\u{1b}]0;owned\u{7}", "\u{202e}gnp", &long, "e\u{301}\u{301}\u{301}", "世界世界"];
    let sightings = texts.iter().zip(network()).map(|(text, mut sighting)| {
        sighting.target = None;
        sighting.device = Discovered {
            name: Untrusted::from(*text),
            host: Untrusted::from(*text),
            version: Some(Untrusted::from(*text)),
            device_id: None,
            state: Some(DeviceState::Unclaimed),
            ..sighting.device
        };
        sighting
    });
    let mut app = looking(WIDE);
    give(&mut app, Event::Sightings(sightings.collect()));
    let buffer = screen(&app, Caps::default());
    for cell in &buffer.content {
        assert!(!cell.symbol().chars().any(|c| c.is_control() || c == '\u{202e}'));
    }
    let text = picture(&buffer);
    assert!(text.contains(r"\u{1b}]0;owned\u{7}") && text.contains(r"\u{202e}gnp"), "{text}");
}

#[test]
fn the_smallest_terminal_keeps_its_borders() {
    let mut app = after_a_run(Size { width: 60, height: 16 });
    press(&mut app, "Tab");
    assert_snapshot!("form_smallest", shown(&app));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn any_size_and_any_pane(
        (width, height) in (1_u16..300, 1_u16..100),
        keys in proptest::sample::select(vec!["j", "Tab", "Tab Tab", "S-Tab G", "a x", "/ r", "S-Tab"]),
        has_run: bool,
        is_away: bool,
    ) {
        let size = Size { width, height };
        let mut app = if has_run { after_a_run(size) } else { found(size) };
        if is_away {
            disconnect(&mut app);
        }
        press(&mut app, keys);
        let buffer = screen(&app, Caps::default());
        prop_assert_eq!((buffer.area.width, buffer.area.height), (width, height));
    }
}
