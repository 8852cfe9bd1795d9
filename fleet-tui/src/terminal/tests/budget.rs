//! What frames may cost, in bytes: the console is used over slow lines.

use ratatui::buffer::Buffer;
use ratatui::layout::{Rect, Size};
use ratatui::style::{Color, Modifier, Style};

use super::super::present::{Presented, ScrollHint};
use super::emulator::Emulator;

const SIZE: Size = Size { width: 120, height: 35 };
const LIST_TOP: u16 = 5;
const LIST_ROWS: u16 = 28;
const FIRST_PAINT_BYTES_MAX: usize = 12 * 1024;
const SCROLL_BYTES_MAX: usize = 1024;
/// One number of one device.
const VALUE_BYTES_MAX: usize = 40;

/// A screen of devices, as busy as they get: the list begins at `first`, the cursor is on `cursor`.
fn fleet(first: usize, cursor: usize, cpu_of_cursor: usize) -> Buffer {
    let mut buffer = Buffer::empty(Rect::new(0, 0, SIZE.width, SIZE.height));
    let muted = Style::new().fg(Color::DarkGray);
    let bold = Style::new().bold();
    buffer.set_string(1, 0, "fleet-tui  prod › Fleet", bold);
    buffer.set_string(76, 0, "● live 38 ms   rw   alice@jump1   14:03:22Z", Style::new().green());
    buffer.set_string(1, 1, "1 Fleet    2 Alerts 7    3 Rollouts 1    4 Events", Style::new());
    buffer.set_string(1, 2, "10 000 devices   ● 9 812 online   ○ 57 offline", Style::new());
    buffer.set_string(3, 4, "STATUS ▼   DEVICE            CPU        MEM        DISK", bold);
    for row in 0..usize::from(LIST_ROWS) {
        let device = first + row;
        let y = LIST_TOP + row as u16;
        let cpu = if device == cursor { cpu_of_cursor } else { device * 37 % 100 };
        let colour = [Color::Green, Color::Yellow, Color::Red][device % 3];
        buffer.set_string(2, y, "●", Style::new().fg(colour));
        buffer.set_string(4, y, ["online", "late", "offline"][device % 3], Style::new());
        buffer.set_string(14, y, format!("pump-eu-{device:04}"), Style::new());
        let heights: Vec<char> = "▁▂▃▄▅▆▇█".chars().collect();
        let spark: String = (0..10).map(|at| heights[(device * 7 + at * 3) % 8]).collect();
        buffer.set_string(32, y, spark, Style::new().fg(Color::Cyan));
        let warm = if cpu > 74 { Style::new().fg(Color::Yellow) } else { Style::new() };
        buffer.set_string(43, y, format!("{cpu:>3}%"), warm);
        for (x, value) in [(49, device * 53 % 100), (61, device * 71 % 100)] {
            let bar = "█".repeat(value / 20) + &"·".repeat(5 - value / 20);
            buffer.set_string(x, y, bar, Style::new());
            buffer.set_string(x + 6, y, format!("{value:>3}%"), Style::new());
        }
        buffer.set_string(74, y, format!("{:>5}ms  now 1.4.{}", device % 90, device % 3), muted);
        buffer.set_string(93, y, "eu-west pump line-3", muted);
        if device == cursor {
            let line = Rect::new(0, y, SIZE.width, 1);
            buffer.set_style(line, Style::new().add_modifier(Modifier::REVERSED));
        }
    }
    buffer.set_string(1, 34, "⏎ open  Space mark  x actions  s sort  c columns  y copy", muted);
    buffer
}

#[test]
fn what_a_fleet_costs() {
    let mut emulator = Emulator::new(SIZE);
    let shown = fleet(0, 12, 50);
    let first = emulator.present(&shown, None, None);
    assert!(first.bytes <= FIRST_PAINT_BYTES_MAX, "first paint: {} bytes", first.bytes);
    assert_eq!(emulator.fault(&shown, None), None);

    assert_eq!(emulator.present(&shown, None, None), Presented::default());

    let shown = fleet(0, 12, 51);
    let value = emulator.present(&shown, None, None);
    assert!(value.bytes <= VALUE_BYTES_MAX, "one value: {} bytes", value.bytes);
    assert_eq!(emulator.fault(&shown, None), None);
}

#[test]
fn what_scrolling_costs() {
    let list = Rect::new(0, LIST_TOP, SIZE.width, LIST_ROWS);
    for by in [1_isize, -1] {
        let mut emulator = Emulator::new(SIZE);
        emulator.present(&fleet(10, 20, 50), None, None);
        let first = 10_usize.checked_add_signed(by).unwrap();
        let shown = fleet(first, 20_usize.checked_add_signed(by).unwrap(), 50);
        let scroll = emulator.present(&shown, None, ScrollHint::of_list(list, 10, first));
        assert!(scroll.bytes <= SCROLL_BYTES_MAX, "scrolling by {by}: {} bytes", scroll.bytes);
        assert_eq!(emulator.fault(&shown, None), None);
    }
}

#[test]
fn only_what_is_still_seen_is_scrolled() {
    let list = Rect::new(3, 5, 10, 20);
    let hint = |by| Some(ScrollHint { top: 5, bottom: 24, by });
    assert_eq!(ScrollHint::of_list(list, 7, 10), hint(3));
    assert_eq!(ScrollHint::of_list(list, 7, 0), hint(-7));
    assert_eq!(ScrollHint::of_list(list, 7, 26), hint(19));
    for after in [7, 27, usize::MAX] {
        assert_eq!(ScrollHint::of_list(list, 7, after), None);
    }
    assert_eq!(ScrollHint::of_list(Rect::ZERO, 7, 8), None);
}

#[test]
fn a_wrong_hint_costs_no_more_than_none() {
    let mut told = Emulator::new(SIZE);
    let mut untold = Emulator::new(SIZE);
    for emulator in [&mut told, &mut untold] {
        emulator.present(&fleet(10, 20, 50), None, None);
    }
    let shown = fleet(10, 21, 50);
    let hint = ScrollHint { top: LIST_TOP, bottom: LIST_TOP + LIST_ROWS - 1, by: 3 };
    let with = told.present(&shown, None, Some(hint));
    let without = untold.present(&shown, None, None);
    assert_eq!(with.bytes, without.bytes);
    assert_eq!(told.fault(&shown, None), None);
}
