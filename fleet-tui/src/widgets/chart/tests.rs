//! Charts as they look, and in any size.

use insta::assert_snapshot;
use proptest::prelude::*;
use ratatui::layout::Position;

use super::*;
use crate::terminal::caps::{Colour, GlyphLevel};
use crate::testing::{ascii, painted, picture};
use crate::theme::ThemeName;

const STEP: i64 = 5_000;
const END: i64 = 1_000_000;

/// Five minutes of a wave with a gap of one minute, and a shade around a part of it.
fn wave() -> Vec<Point> {
    let steps = (0..=60).filter(|step| !(30..42).contains(step));
    let point = |step: i64| {
        let mean = 50.0 + 45.0 * (step as f64 / 6.0).sin();
        let spread = if step < 15 { 12.0 } else { 0.0 };
        let (low, high) = ((mean - spread).max(0.0), (mean + spread).min(100.0));
        Point { at_millis: END - (60 - step) * STEP, mean, low, high }
    };
    steps.map(point).collect()
}

fn chart<'a>(curves: &'a [Curve<'a>]) -> Chart<'a> {
    Chart {
        curves,
        from_millis: END - 60 * STEP,
        to_millis: END,
        now_millis: END,
        step_millis: STEP as u64,
        unit: "%",
        highest: Some(100.0),
        cursor_millis: None,
    }
}

fn shown(chart: &Chart<'_>, (width, height): (u16, u16), caps: Caps) -> String {
    let mut buffer = Buffer::empty(Rect::new(0, 0, width, height));
    let theme = Theme::new(ThemeName::Default, &caps);
    paint(chart, buffer.area, &mut buffer, &theme, &caps);
    picture(&buffer)
}

#[test]
fn a_wave_with_a_gap() {
    let points = wave();
    let curves = [Curve { points: &points, role: Role::Ok }];
    let with_cursor = Chart { cursor_millis: Some(END - 30 * STEP - 20 * STEP), ..chart(&curves) };
    assert_snapshot!("braille", shown(&with_cursor, (60, 11), Caps::default()));
    let block = Caps { graphs: GraphLevel::Block, ..Caps::default() };
    assert_snapshot!("block", shown(&with_cursor, (60, 11), block));
    assert_snapshot!("ascii", shown(&with_cursor, (60, 11), ascii()));
}

#[test]
fn two_curves_on_their_own_scale() {
    let first = wave();
    let second: Vec<Point> =
        first.iter().map(|point| Point { mean: 12.0, low: 12.0, high: 12.0, ..*point }).collect();
    let curves =
        [Curve { points: &first, role: Role::Busy }, Curve { points: &second, role: Role::Warn }];
    let caps = Caps { colour: Colour::Sixteen, ..Caps::default() };
    let cursor_in_the_gap = Some(END - 24 * STEP);
    let chart = Chart { highest: None, cursor_millis: cursor_in_the_gap, ..chart(&curves) };
    assert_snapshot!("two", shown(&chart, (40, 9), caps));
}

#[test]
fn nothing_is_drawn_over_a_gap() {
    let points = wave();
    let curves = [Curve { points: &points, role: Role::Ok }];
    // Without labels, so that the columns are those of the plot.
    let text = painted(61, 4, |area, buffer| {
        let caps = ascii();
        let theme = Theme::new(ThemeName::Default, &caps);
        paint(&chart(&curves), area, buffer, &theme, &caps);
    });
    let has = |column: usize| text.lines().any(|line| line.as_bytes()[column] != b' ');
    assert!((31..42).all(|column| !has(column)), "{text}");
    assert!((0..30).chain(42..61).all(has), "{text}");
}

#[test]
fn a_curve_moves_as_a_whole() {
    let points = wave();
    let curves = [Curve { points: &points, role: Role::Ok }];
    let shown = |later: i64| {
        let (from_millis, to_millis) = (END - 60 * STEP + later, END + later);
        let chart = Chart { from_millis, to_millis, now_millis: to_millis, ..chart(&curves) };
        let text = painted(61, 4, |area, buffer| {
            let caps = ascii();
            let theme = Theme::new(ThemeName::Default, &caps);
            paint(&chart, area, buffer, &theme, &caps);
        });
        text.lines().map(ToOwned::to_owned).collect::<Vec<_>>()
    };
    let (before, soon, later) = (shown(0), shown(STEP / 2), shown(3 * STEP + STEP / 3));
    for ((before, soon), later) in before.iter().zip(&soon).zip(&later) {
        // Where the picture begins the line may begin otherwise.
        assert_eq!(before[1..], soon[1..]);
        assert_eq!(before[5..], later[2..58]);
    }
}

#[test]
fn labels_stand_where_their_time_is() {
    let curves = [Curve { points: &[], role: Role::Ok }];
    let text = painted(64, 8, |area, buffer| {
        let caps = Caps::default();
        let theme = Theme::new(ThemeName::Default, &caps);
        paint(&chart(&curves), area, buffer, &theme, &caps);
    });
    let rows: Vec<Vec<char>> = text.lines().map(|line| line.chars().collect()).collect();
    // 60 columns behind the axis for five minutes: the last is now.
    let ticks: Vec<usize> = (0..64).filter(|x| rows[6][*x] == '┴').collect();
    assert_eq!(ticks, [4, 16, 28, 39, 51, 63], "{text}");
    assert!(text.ends_with("now"), "{text}");
}

#[test]
fn the_cursor_meets_its_curve() {
    let caps = Caps::default();
    let theme = Theme::new(ThemeName::Default, &caps);
    for step in 0..=60 {
        let at_millis = END - step * STEP;
        let points = [Point { at_millis, mean: 0.0, low: 0.0, high: 0.0 }];
        let curves = [Curve { points: &points, role: Role::Ok }];
        let text = painted(33, 4, |area, buffer| {
            let chart = Chart { cursor_millis: Some(at_millis), ..chart(&curves) };
            paint(&chart, area, buffer, &theme, &caps);
        });
        let rows: Vec<Vec<char>> = text.lines().map(|line| line.chars().collect()).collect();
        let cursor = rows[1].iter().position(|c| *c == '│').unwrap();
        assert!(('\u{2801}'..='\u{28ff}').contains(&rows[3][cursor]), "{step}: {text}");
    }
}

#[test]
fn hostile_numbers_are_left_out() {
    let point = |mean| Point { at_millis: END, mean, low: f64::NAN, high: f64::INFINITY };
    let points = [point(f64::NAN), point(f64::INFINITY), point(f64::MAX), point(f64::MIN)];
    let curves = [Curve { points: &points, role: Role::Ok }];
    let chart = Chart { highest: None, cursor_millis: Some(END), ..chart(&curves) };
    assert!(shown(&chart, (40, 9), Caps::default()).contains("now"));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_chart_stays_in_its_area(
        (x, y, width, height) in (0_u16..60, 0_u16..20, 0_u16..90, 0_u16..30),
        values in prop::collection::vec((any::<i32>(), any::<f64>()), 0..40),
        times in (any::<i32>(), any::<i32>(), any::<i64>()),
        cursor: Option<i32>,
        level in prop::sample::select(vec![GraphLevel::Braille, GraphLevel::Block, GraphLevel::Ascii]),
    ) {
        let points: Vec<Point> = values.iter()
            .map(|(at, mean)| Point { at_millis: (*at).into(), mean: *mean, low: mean - 1.0, high: *mean })
            .collect();
        let curves = [Curve { points: &points, role: Role::Ok }, Curve { points: &points, role: Role::Crit }];
        let chart = Chart {
            curves: &curves,
            from_millis: times.0.into(),
            to_millis: times.1.into(),
            now_millis: times.2,
            step_millis: 1 << 20,
            unit: "B",
            highest: None,
            cursor_millis: cursor.map(Into::into),
        };
        let caps = Caps { graphs: level, glyphs: GlyphLevel::Unicode, ..Caps::default() };
        let mut buffer = Buffer::empty(Rect::new(0, 0, 60, 20));
        let area = Rect::new(x, y, width, height);
        let theme = Theme::new(ThemeName::Default, &caps);
        paint(&chart, area, &mut buffer, &theme, &caps);
        for (index, cell) in buffer.content.iter().enumerate() {
            let at = Position::new(index as u16 % 60, index as u16 / 60);
            prop_assert!(area.contains(at) || cell.symbol() == " ");
        }
    }
}

#[test]
fn labels_of_the_time_stand_still_while_it_goes_on() {
    let curves = [Curve { points: &[], role: Role::Ok }];
    let axis = |later: i64| {
        let (from_millis, to_millis) = (END - 60 * STEP + later, END + later);
        let chart = Chart { from_millis, to_millis, now_millis: to_millis, ..chart(&curves) };
        shown(&chart, (74, 11), Caps::default())
    };
    assert!((1..20).all(|second| axis(second * 1_000) == axis(0)), "{}", axis(0));
}
