//! The fleet's table as keys change it.

use std::time::Duration;

use fleet_core::api::{DeviceStatus, IndexPage, StreamMessage, ValueRow, Values};
use fleet_core::id::Uid;
use ratatui::layout::Size;

use crate::effect::Effect;
use crate::event::Event;
use crate::sample;
use crate::state::{App, Screen};
use crate::testing::{app_with, device, fleet_of, press, wait};

fn id(app: &App, uid: Option<Uid>) -> String {
    let row = uid.and_then(|uid| app.desk.data.device(uid));
    row.map(|row| row.index.id.to_string()).unwrap_or_default()
}

fn shown(app: &App) -> Vec<String> {
    let rows = app.fleet.order().iter().filter_map(|slot| app.desk.data.row(*slot));
    rows.map(|row| row.index.id.to_string()).collect()
}

fn say_rows(app: &mut App, rows: Vec<fleet_core::api::IndexRow>, gone: Vec<u32>) {
    sample::say(app, StreamMessage::Index(IndexPage { rows, gone, complete: true }));
}

#[test]
fn problems_come_first_and_n_goes_through_them() {
    let mut rows = fleet_of(6);
    rows[3].status = DeviceStatus::Offline;
    rows[5].status = DeviceStatus::Late;
    let mut app = app_with(rows);
    assert_eq!(shown(&app)[..3], ["pump-0003", "pump-0005", "pump-0000"]);
    press(&mut app, "G N");
    assert_eq!(id(&app, app.fleet.cursor()), "pump-0005");
    press(&mut app, "N N");
    assert_eq!(id(&app, app.fleet.cursor()), "pump-0003");
    press(&mut app, "n n");
    assert_eq!(id(&app, app.fleet.cursor()), "pump-0005", "there is none below");
}

#[test]
fn the_cursor_is_a_device_and_not_a_row() {
    let mut app = app_with(fleet_of(5));
    press(&mut app, "j j");
    assert_eq!(id(&app, app.fleet.cursor()), "pump-0002");
    // Another one becomes a problem and goes to the top, once nobody is at the keys.
    say_rows(&mut app, vec![device(4, "pump-0004", DeviceStatus::Offline)], Vec::new());
    assert_eq!(shown(&app)[0], "pump-0000", "rows do not move under the fingers");
    wait(&mut app, Duration::from_secs(2));
    assert_eq!(shown(&app)[0], "pump-0004");
    assert_eq!(id(&app, app.fleet.cursor()), "pump-0002");
    // Its device goes: the row in its place has the cursor.
    say_rows(&mut app, Vec::new(), vec![2]);
    wait(&mut app, Duration::from_secs(2));
    assert_eq!(id(&app, app.fleet.cursor()), "pump-0003");
}

#[test]
fn marks_outlive_filters_and_hidden_ones_are_counted() {
    let mut app = app_with(fleet_of(10));
    press(&mut app, "Space Space Space / 0 0 0 1 Enter");
    assert_eq!(shown(&app), ["pump-0001"]);
    assert_eq!(app.fleet.marked(&app.desk), (3, 2));
    press(&mut app, "Esc");
    assert_eq!(app.fleet.marked(&app.desk), (3, 0));
    press(&mut app, "Esc");
    assert_eq!(app.fleet.marked(&app.desk), (0, 0));
}

#[test]
fn ranges_all_and_inversion_stay_within_the_filter() {
    let mut app = app_with(fleet_of(12));
    press(&mut app, "j v j j v");
    assert_eq!(app.fleet.marked(&app.desk).0, 3);
    press(&mut app, "/ 0 0 1 Enter a");
    // Shown are 0001, which is marked already, 0010 and 0011.
    assert_eq!(app.fleet.marked(&app.desk), (5, 2));
    press(&mut app, "i");
    assert_eq!(app.fleet.marked(&app.desk), (2, 2));
    // A range that was begun is given up first.
    press(&mut app, "v Esc");
    assert_eq!(app.fleet.range_from, None);
    assert_eq!(app.fleet.filter_text(), "001");
}

#[test]
fn a_filter_is_seen_as_it_is_typed_and_taken_back_by_escape() {
    let mut app = app_with(fleet_of(20));
    press(&mut app, "/ 0 0 1 5");
    assert_eq!(shown(&app), ["pump-0015"]);
    press(&mut app, "Esc");
    assert_eq!(shown(&app).len(), 20);
    press(&mut app, "/ c p u >");
    assert!(app.fleet.filter_error().is_some());
    press(&mut app, "Enter");
    assert!(app.fleet.filter_field().is_some(), "what cannot be read is not taken");
    press(&mut app, "Esc q");
    assert!(app.desk.popup.is_some(), "the first screen asks whether to quit");
}

#[test]
fn pasted_text_goes_into_the_filter_and_presses_no_keys() {
    let mut app = app_with(fleet_of(3));
    let now = sample::moment(Duration::ZERO);
    app.apply(now, Event::Paste("x\rq\u{3}".to_owned()));
    assert_eq!(app.desk.screen(), Screen::Fleet);
    assert!(app.desk.popup.is_none() && app.fleet.filter_text().is_empty());
    press(&mut app, "/");
    app.apply(now, Event::Paste("0002".to_owned()));
    assert_eq!(shown(&app), ["pump-0002"]);
}

#[test]
fn the_wheel_moves_as_keys_do_and_not_behind_a_popup() {
    let mut app = app_with(fleet_of(40));
    let now = sample::moment(Duration::ZERO);
    assert!(matches!(press(&mut app, "m").as_slice(), [Effect::Mouse(true), ..]));
    app.apply(now, Event::Wheel { is_up: false });
    assert_eq!(id(&app, app.fleet.cursor()), "pump-0003");
    press(&mut app, "s");
    app.apply(now, Event::Wheel { is_up: true });
    press(&mut app, "Esc");
    assert_eq!(id(&app, app.fleet.cursor()), "pump-0003");
}

#[test]
fn what_is_in_sight_is_what_the_server_is_asked_for() {
    let mut app = sample::app(1_000, Size::new(120, 35));
    let looked = |effects: Vec<Effect>| {
        effects.into_iter().find_map(|effect| match effect {
            Effect::Look(view) => Some(view),
            _ => None,
        })
    };
    let view = looked(press(&mut app, "G")).expect("other rows are in sight");
    assert_eq!(view.rows.len(), app.fleet.in_sight(&app.desk).len());
    assert!(!view.all);
    // What is sorted by a value needs it of every device.
    let view = looked(press(&mut app, "s c")).expect("the order is another");
    assert!(view.all, "sorted by {}", app.fleet.sort);
    let view = looked(press(&mut app, "z")).expect("a frozen picture needs nothing");
    assert!(view.rows.is_empty() && !view.all);
}

#[test]
fn the_highest_cpu_is_one_sort_away() {
    let mut app = sample::app(240, Size::new(120, 35));
    press(&mut app, "s c g");
    assert_eq!(app.fleet.sort.to_string(), "-cpu");
    let first = app.fleet.order().first().and_then(|slot| app.desk.data.row(*slot));
    let highest = app.desk.data.rows().filter_map(|row| row.values?.2).max();
    assert_eq!(first.and_then(|row| row.values?.2), highest);
    let cursor = app.fleet.cursor();
    press(&mut app, "Enter");
    assert_eq!(app.desk.screen(), Screen::Device);
    press(&mut app, "Esc");
    assert_eq!((app.desk.screen(), app.fleet.cursor()), (Screen::Fleet, cursor));
}

#[test]
fn another_order_does_not_wait_for_values_that_have_to_come_first() {
    let cpu = |slot: u32, cpu: u8| ValueRow(slot, None, Some(cpu), None, None, None);
    let values = |rows: Vec<ValueRow>| StreamMessage::Values(Values { rows, past: Vec::new() });
    for (keys, first) in [("s c", "pump-0002"), ("s c j", "pump-0000")] {
        let mut app = app_with(fleet_of(3));
        sample::say(&mut app, values(vec![cpu(0, 20), cpu(1, 10)]));
        press(&mut app, keys);
        assert_eq!(shown(&app), ["pump-0000", "pump-0001", "pump-0002"]);
        sample::say(&mut app, values(vec![cpu(2, 90)]));
        assert_eq!(shown(&app)[0], first, "{keys}");
        // From then on rows are still for a while.
        wait(&mut app, Duration::from_secs(1));
        sample::say(&mut app, values(vec![cpu(1, 95)]));
        assert_eq!(shown(&app)[0], first, "{keys}");
    }
}

#[test]
fn another_run_of_the_server_numbers_anew_and_marks_stay() {
    let mut app = app_with(fleet_of(3));
    press(&mut app, "Space j");
    sample::say(&mut app, StreamMessage::Hello(sample::hello(3)));
    assert!(app.desk.data.is_empty());
    let mut rows = fleet_of(3);
    for row in &mut rows {
        row.slot += 10;
    }
    say_rows(&mut app, rows, Vec::new());
    assert_eq!(app.fleet.marked(&app.desk), (1, 0));
    assert_eq!(shown(&app).len(), 3);
    assert_eq!(id(&app, app.fleet.cursor()), "pump-0002");
}

#[test]
fn marks_go_with_the_devices_that_leave() {
    let mut app = app_with(fleet_of(4));
    press(&mut app, "Space Space Space");
    say_rows(&mut app, Vec::new(), vec![0, 1]);
    assert_eq!(app.fleet.marked(&app.desk), (1, 0));
    // A device that came back has one row, wherever that is now.
    let mut row = device(2, "pump-0002", DeviceStatus::Online);
    row.slot = 9;
    say_rows(&mut app, vec![row], Vec::new());
    say_rows(&mut app, Vec::new(), vec![2]);
    assert_eq!(app.fleet.marked(&app.desk), (1, 0));
    assert_eq!((app.desk.data.len(), app.desk.data.counts().total()), (2, 2));
}
