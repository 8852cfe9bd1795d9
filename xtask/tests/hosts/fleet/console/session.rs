//! A working session: sorting, opening, filtering, marking.

use super::{Console, ESC, SOON, Site, WIDE, desk_and_plant, text};
use xtask::pty::Shown;

/// Where the graph of the processor lies on a wide screen: below its title, left of the panes.
const GRAPH_COLUMNS: u16 = 79;
const BRAILLE: std::ops::RangeInclusive<char> = '\u{2801}'..='\u{28ff}';

#[test]
fn the_busiest_device_is_found_opened_and_left() {
    let (_lab, desk, plant) = desk_and_plant();
    let site = Site::start(&desk, &plant, 4);
    let mut console = site.console(WIDE);

    console.press("s", "Sort by");
    console.press("c", "sort -cpu");
    // Rows are not moved under a hand that has just pressed a key, so order comes with time.
    console.waits("rows in the order of their use", |shown| {
        let used = used(shown, &site.ids);
        used.len() == 4 && used.is_sorted_by(|a, b| a.1 >= b.1)
    });
    console.pty.press("g");
    console.waits("the cursor on the first row", |shown| {
        let first = used(shown, &site.ids).into_iter().next();
        first.is_some_and(|(id, _)| super::cursor_row(shown).is_some_and(|row| row.contains(&id)))
    });
    let busiest = used(&console.pty.shown(), &site.ids).remove(0).0;
    console.press("\r", &format!("Fleet › {busiest}"));

    console.waits("a graph", |shown| !graph(shown).is_empty());
    let before = graph(&console.pty.shown());
    console.waits("the graph to move", |shown| graph(shown) != before);

    console.press(ESC, "sort -cpu");
    console.waits_for_cursor_on(&busiest);
    console.quit();
}

#[test]
fn marks_survive_filters() {
    let (_lab, desk, plant) = desk_and_plant();
    let site = Site::start(&desk, &plant, 5);
    let mut console = site.console(WIDE);

    console.pty.press("g");
    console.press("   ", "✓3 marked");
    console.press("/type=x86", "1 of 5");
    console.press("\r", "filter type=x86");
    console.waits("the marks that are hidden", |shown| {
        text(shown).contains("✓3 marked (2 hidden)") || text(shown).contains("✓3 marked (3 hidden)")
    });
    console.press_away(ESC, "filter type=x86");
    console.pty.wait_for("✓3 marked", SOON);
    console.waits("all devices", |shown| site.ids.iter().all(|id| text(shown).contains(id)));
    console.press_away(ESC, "marked");
    console.quit();
}

#[test]
fn a_filter_can_be_typed_while_the_terminal_changes() {
    let (_lab, desk, plant) = desk_and_plant();
    let site = Site::start(&desk, &plant, 3);
    let mut console = site.console(WIDE);

    console.press("/typ", "/typ");
    for (size, letters, typed) in
        [(super::LOW, "e=", "/type="), ((100, 30), "x8", "/type=x8"), ((61, 17), "6", "/type=x86")]
    {
        console.pty.resize(size);
        console.press(letters, typed);
    }
    console.waits("one device", |shown| {
        text(shown).contains("x86-003") && !text(shown).contains("rpi4-001")
    });
    console.pty.resize(WIDE);
    console.press("\r", "filter type=x86  1 of 3");
    console.quit();
}

/// Every device with the processor's use that its row shows, from above.
fn used(shown: &Shown, ids: &[String]) -> Vec<(String, u8)> {
    let rows = shown.emulator.screen().rows(0, u16::MAX);
    let device = |row: String| {
        let id = ids.iter().find(|id| row.contains(*id))?;
        let percent = row.split_whitespace().find_map(|word| word.strip_suffix('%'))?;
        Some((id.clone(), percent.parse().ok()?))
    };
    rows.filter_map(device).collect()
}

/// The dots of the first graph.
fn graph(shown: &Shown) -> String {
    let rows = shown.emulator.screen().rows(0, GRAPH_COLUMNS);
    let below_title = rows.skip_while(|row| !row.contains("CPU %"));
    let inside = below_title.skip(1).take_while(|row| !row.starts_with('└'));
    inside.flat_map(|row| row.chars().filter(|c| BRAILLE.contains(c)).collect::<Vec<_>>()).collect()
}

#[test]
fn nothing_is_shown_of_a_fleet_without_devices_but_what_to_do() {
    let (_lab, desk, _plant) = desk_and_plant();
    let server = super::Server::start(&desk);
    let mut console = Console::start(&server, &[], &super::XTERM, WIDE);
    console.pty.wait_for("No devices yet.", SOON);
    console.press("?", "Keys here");
    console.press_away(ESC, "Keys here");
    console.press("6", "server.started");
    console.quit();
}
