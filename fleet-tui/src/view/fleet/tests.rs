//! The fleet's screen as it is painted, on two sizes and in every state that it has.

use fleet_core::api::StreamMessage;
use proptest::prelude::*;
use ratatui::layout::Size;

use crate::event::{Event, LinkEvent};
use crate::sample;
use crate::state::App;
use crate::terminal::caps::{Caps, Colour};
use crate::testing::{self, LOW, WIDE, ascii, mono, picture, press};

fn coloured() -> Caps {
    Caps { colour: Colour::Sixteen, ..Caps::default() }
}

/// The same state on both sizes.
fn both(name: &str, caps: Caps, app: impl Fn(Size) -> App) {
    for (size, word) in [(WIDE, "wide"), (LOW, "low")] {
        let buffer = testing::screen(&app(size), caps);
        insta::assert_snapshot!(format!("{word}_{name}"), picture(&buffer));
    }
}

/// A fleet with three marks, one of them hidden by the filter.
fn working(size: Size) -> App {
    let mut app = sample::app(240, size);
    press(&mut app, "Space Space j j Space");
    press(&mut app, "/ t a g : e u Enter");
    app
}

fn denied(size: Size) -> App {
    let mut app = App::new(sample::settings(), size);
    let down = LinkEvent::Down {
        reason: "the key k3xq2m7a is not, or no longer, good".to_owned(),
        retry_in: Some(std::time::Duration::from_secs(15)),
        is_denied: true,
    };
    app.apply(sample::moment(std::time::Duration::ZERO), Event::Link(down));
    app
}

fn loading(size: Size) -> App {
    let mut app = App::new(sample::settings(), size);
    sample::say(&mut app, StreamMessage::Hello(sample::hello(10_000)));
    app
}

#[test]
fn normal() {
    both("normal", coloured(), working);
}

#[test]
fn without_colour_and_without_glyphs() {
    both("mono", mono(), working);
    both("ascii", Caps { colour: Colour::Sixteen, ..ascii() }, working);
}

#[test]
fn empty() {
    both("empty", coloured(), |size| sample::app(0, size));
}

#[test]
fn a_filter_that_shows_nothing_offers_another() {
    both("nothing_shown", coloured(), |size| {
        let mut app = sample::app(240, size);
        press(&mut app, "/ t a g : e u - w s e t Enter");
        app
    });
}

#[test]
fn a_field_that_no_device_has_is_named() {
    both("no_such_field", coloured(), |size| {
        let mut app = sample::app(240, size);
        press(&mut app, "/ s i t t e = l y o n Enter");
        app
    });
}

#[test]
fn a_filter_that_cannot_be_read() {
    both("unreadable_filter", coloured(), |size| {
        let mut app = sample::app(240, size);
        press(&mut app, "/ c p u >");
        app
    });
}

#[test]
fn loading_before_the_first_rows() {
    both("loading", coloured(), loading);
}

#[test]
fn the_server_is_away() {
    both("away", coloured(), |size| {
        let mut app = working(size);
        testing::disconnect(&mut app);
        app
    });
}

#[test]
fn the_key_is_refused() {
    both("denied", coloured(), denied);
}

#[test]
fn a_status_that_only_a_later_release_knows_is_shown_as_it_is() {
    let mut rows = testing::fleet_of(2);
    rows[1].status = serde_json::from_value("updating\u{1b}[2J".into()).unwrap();
    let app = testing::app_with(rows);
    let text = picture(&testing::screen(&app, coloured()));
    for shown in ["◇ updating", "pump-0001", "2 devices   ● 1 online   ◇ 1 other"] {
        assert!(text.contains(shown), "no {shown} in {text}");
    }
}

#[test]
fn too_small_a_terminal_still_says_how_the_fleet_is() {
    let app = sample::app(240, Size::new(48, 11));
    insta::assert_snapshot!("too_small", picture(&testing::screen(&app, coloured())));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_size_shows_the_cursor_and_panics_nowhere(
        width in 1..300_u16, height in 1..100_u16, devices in 0..60_u32, downs in 0..80_usize,
    ) {
        let size = Size::new(width, height);
        let mut app = sample::app(devices, size);
        for _ in 0..downs {
            press(&mut app, "j");
        }
        let buffer = testing::screen(&app, coloured());
        if devices > 0 && crate::layout::Frame::has_room(size) {
            let rows = crate::layout::fleet_rows(size);
            let has_cursor = (rows.y..rows.bottom()).any(|y| buffer[(1, y)].symbol() == "›");
            prop_assert!(has_cursor, "{devices} devices at {width}×{height}");
        }
    }
}
