//! Any frame after any other, with hints that may be wrong.

use proptest::prelude::*;
use ratatui::buffer::Buffer;
use ratatui::layout::{Position, Rect, Size};
use ratatui::style::{Color, Modifier, Style};

use super::super::present::{Presented, ScrollHint};
use super::emulator::{Emulator, terminal};

/// What happens between two frames.
#[derive(Clone, Debug)]
enum Change {
    Write { x: u16, y: u16, text: String, style: Style },
    Fill { area: Rect, style: Style },
    Clear { area: Rect },
    Scroll { by: i16, is_told: bool },
    Resize(Size),
    Redraw,
}

const SIZE: Size = Size { width: 20, height: 8 };

fn style() -> impl Strategy<Value = Style> {
    let colour = prop::sample::select(vec![
        Color::Reset,
        Color::Red,
        Color::Green,
        Color::DarkGray,
        Color::Indexed(114),
        Color::Rgb(1, 2, 3),
    ]);
    // The emulator cannot tell bold and faint from faint alone.
    let weight = vec![Modifier::empty(), Modifier::BOLD, Modifier::DIM];
    let weight = prop::sample::select(weight);
    let line = prop::sample::subsequence(vec![Modifier::UNDERLINED, Modifier::REVERSED], 0..=2);
    (colour.clone(), colour, weight, line).prop_map(|(fg, bg, weight, line)| {
        let all = line.into_iter().fold(weight, Modifier::union);
        Style::reset().fg(fg).bg(bg).add_modifier(all)
    })
}

fn area() -> impl Strategy<Value = Rect> {
    (0_u16..20, 0_u16..8, 0_u16..20, 0_u16..8).prop_map(|(x, y, w, h)| Rect::new(x, y, w, h))
}

fn change() -> impl Strategy<Value = Change> {
    let text = "[a-c 世界é─█●e\u{301}]{0,12}";
    prop_oneof![
        6 => (0_u16..20, 0_u16..8, text, style())
            .prop_map(|(x, y, text, style)| Change::Write { x, y, text, style }),
        2 => (area(), style()).prop_map(|(area, style)| Change::Fill { area, style }),
        2 => area().prop_map(|area| Change::Clear { area }),
        3 => (-9_i16..9, any::<bool>()).prop_map(|(by, is_told)| Change::Scroll { by, is_told }),
        1 => (1_u16..24, 1_u16..10).prop_map(|(w, h)| Change::Resize(Size::new(w, h))),
        1 => Just(Change::Redraw),
    ]
}

impl Change {
    /// Changes the frame; the emulator only where its terminal changes. Returns the hint.
    fn apply(&self, frame: &mut Buffer, emulator: &mut Emulator) -> Option<ScrollHint> {
        let hint = |by| ScrollHint { top: 1, bottom: SIZE.height - 2, by };
        match self {
            Self::Write { x, y, text, style } => {
                if frame.area.contains(Position::new(*x, *y)) {
                    frame.set_string(*x, *y, text, *style);
                }
            }
            Self::Fill { area, style } => frame.set_style(*area, *style),
            Self::Clear { area } => {
                for at in area.intersection(frame.area).positions() {
                    frame[at].reset();
                }
            }
            Self::Scroll { by, is_told } => {
                if frame.area.as_size() == SIZE {
                    scroll(frame, hint(*by));
                }
                // Told of something else, if not of the truth.
                return Some(hint(if *is_told { *by } else { by + 1 }));
            }
            Self::Resize(size) => {
                *frame = Buffer::empty(Rect::from((Position::ORIGIN, *size)));
                emulator.resize(*size);
            }
            Self::Redraw => emulator.resize(frame.area.as_size()),
        }
        None
    }
}

/// Moves the rows of a frame.
fn scroll(frame: &mut Buffer, hint: ScrollHint) {
    let before = frame.clone();
    for y in hint.top..=hint.bottom {
        let from = y.checked_add_signed(hint.by);
        let from = from.filter(|from| (hint.top..=hint.bottom).contains(from));
        for x in 0..frame.area.width {
            frame[(x, y)] = from.map(|from| before[(x, from)].clone()).unwrap_or_default();
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_emulator_shows_every_frame(
        steps in prop::collection::vec(
            (prop::collection::vec(change(), 1..4), prop::option::of((0_u16..20, 0_u16..8))),
            1..12,
        ),
    ) {
        let mut emulator = Emulator::new(SIZE);
        let mut frame = Buffer::empty(Rect::from((Position::ORIGIN, SIZE)));
        for (changes, cursor) in steps {
            let mut hint = None;
            for change in &changes {
                hint = change.apply(&mut frame, &mut emulator).or(hint);
            }
            let cursor = cursor.map(Position::from).filter(|at| frame.area.contains(*at));
            emulator.present(&frame, cursor, hint);
            prop_assert_eq!(emulator.fault(&frame, cursor), None);
            prop_assert_eq!(emulator.present(&frame, cursor, hint), Presented::default());
        }
    }
}

fn frame(lines: &[&str]) -> Buffer {
    let mut frame = Buffer::empty(Rect::from((Position::ORIGIN, SIZE)));
    for (y, line) in lines.iter().enumerate() {
        frame.set_string(0, y as u16, line, Style::new());
    }
    frame
}

#[test]
fn the_comparison_finds_a_wrong_difference() {
    let (first, second, third) = (frame(&["one", "two"]), frame(&["one"]), frame(&["one!"]));
    let mut emulator = Emulator::new(SIZE);
    emulator.present(&first, None, None);
    assert_eq!(emulator.fault(&first, None), None);
    // What the screen thinks was shown was not.
    emulator.lose(&second, None, None);
    emulator.drain();
    emulator.present(&third, None, None);
    assert!(emulator.fault(&third, None).is_some());
    let mut styled = first.clone();
    styled.set_style(Rect::new(0, 0, 3, 1), Style::new().reversed());
    assert!(emulator.fault(&styled, None).is_some());
}

#[test]
fn the_reversed_row_needs_no_colour() {
    let mut emulator = Emulator::new(SIZE);
    let mut reversed = frame(&["plain", "selected"]);
    reversed.set_style(Rect::new(0, 1, SIZE.width, 1), Style::new().reversed());
    emulator.lose(&reversed, None, None);
    let bytes = emulator.drain();
    let text = String::from_utf8(bytes).unwrap();
    assert!(text.contains("\x1b[7mselected"), "{text:?}");
    assert!(!text.contains("\x1b[3") && !text.contains("\x1b[;m"), "{text:?}");
}

#[test]
fn hostile_cells_do_not_reach_the_wire() {
    let mut emulator = Emulator::new(SIZE);
    let mut hostile = frame(&["x"]);
    hostile[(2, 0)].set_symbol("\x1b]52;c;ZXZpbA==\x07");
    hostile[(3, 0)].set_symbol("\u{9b}2J");
    hostile[(4, 0)].set_symbol("y");
    emulator.present(&hostile, None, None);
    assert_eq!(emulator.text(), "x   y");
}

#[test]
fn each_frame_is_one_unit() {
    let mut emulator = Emulator::new(SIZE);
    emulator.lose(&frame(&["x"]), Some(Position::new(1, 0)), None);
    let bytes = emulator.drain();
    assert!(bytes.starts_with(b"\x1b[?2026h") && bytes.ends_with(b"\x1b[?2026l"));
}

#[test]
fn a_write_that_fails_is_followed_by_all_of_the_next_frame() {
    /// Takes so many bytes and no more.
    struct Narrow(Vec<u8>, usize);
    impl std::io::Write for Narrow {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            let room = self.1.min(bytes.len());
            self.0.extend_from_slice(&bytes[..room]);
            self.1 -= room;
            Ok(room)
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let mut screen = super::super::present::Screen::new(Narrow(Vec::new(), 12), SIZE);
    let picture = frame(&["some text", "more text"]);
    screen.present(&picture, None, None).unwrap_err();
    *screen.out() = Narrow(Vec::new(), usize::MAX);
    screen.present(&picture, None, None).unwrap();
    let mut parser = terminal(SIZE);
    parser.process(&screen.out().0);
    assert_eq!(parser.screen().contents(), "some text\nmore text");
}
