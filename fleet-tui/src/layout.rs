//! Where things are: the one place that divides the terminal, for the state that needs to know how
//! many rows are in sight and for the view that paints them.

use ratatui::layout::{Rect, Size};

/// The smallest terminal that has room for screens.
pub const SMALLEST: Size = Size::new(60, 16);

/// The parts that every screen has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Who, where, how the link is, what time it is.
    pub header: Rect,
    /// The screens.
    pub tabs: Rect,
    /// The screen's own.
    pub body: Rect,
    /// What was last said.
    pub notice: Rect,
    /// Keys.
    pub hints: Rect,
}

impl Frame {
    /// The parts of a terminal of this size.
    pub fn new(size: Size) -> Self {
        let line = |row: u16| Rect::new(0, row.min(size.height), size.width, 1);
        let line = |row: u16| line(row).intersection(Rect::new(0, 0, size.width, size.height));
        let body_height = size.height.saturating_sub(4);
        Self {
            header: line(0),
            tabs: line(1),
            body: Rect::new(0, 2, size.width, body_height).intersection(Rect::from(size)),
            notice: line(size.height.saturating_sub(2)),
            hints: line(size.height.saturating_sub(1)),
        }
    }

    /// Whether there is room for screens at all.
    pub fn has_room(size: Size) -> bool {
        size.width >= SMALLEST.width && size.height >= SMALLEST.height
    }
}

/// The parts of the fleet's screen, below the tabs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FleetParts {
    /// How many devices are doing how; the banner while the server is away.
    pub counts: Rect,
    /// Filter, marks, sorting. On a low terminal it shares the line of the counts.
    pub filter: Rect,
    /// The columns' titles.
    pub titles: Rect,
    /// The rows.
    pub rows: Rect,
}

/// Divides the fleet's screen.
pub fn fleet(size: Size) -> FleetParts {
    let body = Frame::new(size).body;
    let line = |row: u16| Rect { y: body.y + row, height: 1, ..body }.intersection(body);
    let above = if is_low(size) { 1 } else { 2 };
    let rows = Rect {
        y: body.y + (above + 1).min(body.height),
        height: body.height.saturating_sub(above + 1),
        ..body
    };
    FleetParts { counts: line(0), filter: line(above - 1), titles: line(above), rows }
}

/// The rows of the fleet's table.
pub fn fleet_rows(size: Size) -> Rect {
    fleet(size).rows
}

/// A part of a device's screen that can be walked to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Pane {
    /// Its curves.
    #[default]
    Graphs,
    /// Its configuration.
    Config,
    /// What it was to do, and what came of that.
    Commands,
    /// What happened to it.
    History,
    /// Lines of its log, as they come.
    Logs,
    /// What is known of it.
    Facts,
}

impl Pane {
    /// Every pane, in the order in which a key walks through them.
    pub const ALL: [Self; 6] =
        [Self::Graphs, Self::Config, Self::Commands, Self::History, Self::Logs, Self::Facts];

    /// What it is called.
    pub fn word(self) -> &'static str {
        match self {
            Self::Graphs => "Graphs",
            Self::Config => "Config",
            Self::Commands => "Commands",
            Self::History => "History",
            Self::Logs => "Logs",
            Self::Facts => "Facts",
        }
    }
}

/// The parts of a device's screen, below the tabs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceParts {
    /// Which device, and how it is doing.
    pub head: Rect,
    /// What is wrong, if anything is.
    pub trouble: Rect,
    /// The panes' names where only one is in sight, and the time that is shown.
    pub ranges: Rect,
    /// The panes in sight.
    pub panes: Vec<(Pane, Rect)>,
}

impl DeviceParts {
    /// Where a pane is, if it is in sight.
    pub fn pane(&self, pane: Pane) -> Option<Rect> {
        self.panes.iter().find(|(other, _)| *other == pane).map(|(_, area)| *area)
    }
}

/// Divides a device's screen. One pane has it all where there is no room for more, or when it was
/// given the whole of it.
pub fn device(size: Size, focus: Pane, is_full: bool, has_trouble: bool) -> DeviceParts {
    let body = Frame::new(size).body;
    let line = |row: u16| Rect { y: body.y + row, height: 1, ..body }.intersection(body);
    let above: u16 = if has_trouble { 3 } else { 2 };
    let rest = Rect {
        y: body.y + above.min(body.height),
        height: body.height.saturating_sub(above),
        ..body
    };
    // Lines of a log are long, and come only while somebody looks at them.
    let is_alone = is_low(size) || is_full || focus == Pane::Logs;
    let panes = if is_alone { vec![(focus, rest)] } else { side_by_side(rest) };
    let trouble = if has_trouble { line(1) } else { Rect::default() };
    DeviceParts { head: line(0), trouble, ranges: line(above - 1), panes }
}

/// The graphs have two thirds of the width, the other panes stand above one another.
fn side_by_side(area: Rect) -> Vec<(Pane, Rect)> {
    let graphs = Rect { width: area.width * 2 / 3, ..area };
    let right = Rect { x: graphs.right(), width: area.width - graphs.width, ..area };
    let height = right.height / 4;
    let config = Rect { height, ..right };
    let commands = Rect { y: config.bottom(), height, ..right };
    let facts = Rect { y: right.bottom() - height, height, ..right };
    let history = Rect { y: commands.bottom(), height: facts.y - commands.bottom(), ..right };
    vec![
        (Pane::Graphs, graphs),
        (Pane::Config, config),
        (Pane::Commands, commands),
        (Pane::History, history),
        (Pane::Facts, facts),
    ]
}

/// Whether lines are dear: the design for 80×24.
pub fn is_low(size: Size) -> bool {
    size.height < 30 || size.width < 100
}

/// A part of the screen on which devices are found and configured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DiscoverPane {
    /// What the network shows.
    #[default]
    List,
    /// With what devices are configured.
    Form,
    /// The last run.
    Run,
}

/// The parts of the screen on which devices are found and configured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiscoverParts {
    /// What the server's absence means, while it is away.
    pub banner: Option<Rect>,
    /// The list with its border.
    pub list: Rect,
    /// The list's rows.
    pub rows: Rect,
    /// What is known of the device at the cursor.
    pub detail: Rect,
    /// The form with its border, if there is room.
    pub form: Option<Rect>,
    /// The last run with its border, if there was one and there is room.
    pub run: Option<Rect>,
    /// The run's rows.
    pub run_rows: Rect,
    /// What is known of the run's device at the cursor.
    pub run_detail: Rect,
}

/// Cells of the form where it stands beside the list.
const FORM_WIDTH: u16 = 42;
/// Lines of the form, with its border, where it stands below the list.
const FORM_HEIGHT: u16 = 9;

/// Divides the screen on which devices are found and configured. On a low terminal the form and the
/// run share a place below the list: the form has it while keys go there.
pub fn discover(size: Size, pane: DiscoverPane, has_run: bool, has_banner: bool) -> DiscoverParts {
    let body = Frame::new(size).body;
    let above = u16::from(has_banner).min(body.height);
    let banner = has_banner.then_some(Rect { height: above, ..body });
    let body = Rect { y: body.y + above, height: body.height - above, ..body };
    let is_low = is_low(size);
    let is_form_below = is_low && pane == DiscoverPane::Form;
    let below = match (is_form_below, has_run) {
        (true, _) => FORM_HEIGHT.min(body.height * 2 / 3),
        (false, true) => body.height / 2,
        (false, false) => 0,
    };
    let top = Rect { height: body.height - below, ..body };
    let bottom = Rect { y: top.bottom(), height: below, ..body };
    let form_width = if is_low { 0 } else { FORM_WIDTH.min(body.width) };
    let list = Rect { width: top.width - form_width, ..top };
    let form = match (is_low, is_form_below) {
        (false, _) => Some(Rect { x: list.right(), width: form_width, ..top }),
        (true, true) => Some(bottom),
        (true, false) => None,
    };
    let run = (has_run && !is_form_below).then_some(bottom);
    let [rows, detail] = framed(list, 1, if is_low { 1 } else { 3 });
    let run_above = if is_low { 1 } else { 3 };
    let [run_rows, run_detail] =
        framed(run.unwrap_or_default(), run_above, if is_low { 2 } else { 4 });
    DiscoverParts { banner, list, rows, detail, form, run, run_rows, run_detail }
}

/// The rows of a pane with a border, below some lines and above some others.
fn framed(area: Rect, above: u16, below: u16) -> [Rect; 2] {
    let inside = Rect {
        x: area.x + 1.min(area.width),
        y: area.y + 1.min(area.height),
        width: area.width.saturating_sub(2),
        height: area.height.saturating_sub(2),
    };
    let below = below.min(inside.height.saturating_sub(above + 1));
    let rows = Rect {
        y: inside.y + above.min(inside.height),
        height: inside.height.saturating_sub(above + below),
        ..inside
    };
    [rows, Rect { y: rows.bottom(), height: below, ..inside }]
}

/// The parts of the screen of devices that wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PendingParts {
    /// How many, filter, marks; the banner while the server is away.
    pub line: Rect,
    /// The columns' titles.
    pub titles: Rect,
    /// The rows.
    pub rows: Rect,
    /// What the columns had no room for, of the device at the cursor.
    pub detail: Rect,
}

/// Divides the screen of devices that wait.
pub fn pending(size: Size) -> PendingParts {
    let [line, titles, rows, detail] = listed(size, 2);
    PendingParts { line, titles, rows, detail }
}

/// The parts of the screen of keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyParts {
    /// How many, filter; the banner while the server is away.
    pub line: Rect,
    /// The columns' titles.
    pub titles: Rect,
    /// The rows.
    pub rows: Rect,
    /// What the columns had no room for, of the key at the cursor.
    pub detail: Rect,
}

/// Divides the screen of keys.
pub fn api_keys(size: Size) -> KeyParts {
    let [line, titles, rows, detail] = listed(size, 2);
    KeyParts { line, titles, rows, detail }
}

/// The parts of the screen of events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventParts {
    /// Following, filter, range; the banner while the server is away.
    pub line: Rect,
    /// The columns' titles.
    pub titles: Rect,
    /// The rows.
    pub rows: Rect,
    /// The event at the cursor in full, with its frame.
    pub detail: Rect,
}

/// Divides the screen of events.
pub fn events(size: Size) -> EventParts {
    let height = match size.height {
        0..20 => 0,
        20..30 => 5,
        _ => 9,
    };
    let [line, titles, rows, detail] = listed(size, height);
    EventParts { line, titles, rows, detail }
}

/// The parts of the screen of batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchListParts {
    /// How many go on, filter; the banner while the server is away.
    pub line: Rect,
    /// The columns' titles.
    pub titles: Rect,
    /// The rows.
    pub rows: Rect,
    /// The batch at the cursor in full, with its frame.
    pub detail: Rect,
}

/// Divides the screen of batches.
pub fn batches(size: Size) -> BatchListParts {
    let height = match size.height {
        0..20 => 0,
        20..30 => 6,
        _ => 9,
    };
    let [line, titles, rows, detail] = listed(size, height);
    BatchListParts { line, titles, rows, detail }
}

/// The parts of the screen of one batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchParts {
    /// What the batch is, with its frame.
    pub head: Rect,
    /// How far it is; the banner while the server is away.
    pub line: Rect,
    /// The columns' titles.
    pub titles: Rect,
    /// Its devices.
    pub rows: Rect,
    /// Why the device at the cursor is in its state, in full.
    pub detail: Rect,
}

/// Divides the screen of one batch.
pub fn batch(size: Size) -> BatchParts {
    let body = Frame::new(size).body;
    let (head_height, detail_height) = match size.height {
        0..20 => (0, 0),
        20..30 => (6, 2),
        _ => (8, 3),
    };
    let part = |row: u16, height: u16| Rect { y: body.y + row, height, ..body }.intersection(body);
    let rows_height = body.height.saturating_sub(head_height + 2 + detail_height);
    BatchParts {
        head: part(0, head_height),
        line: part(head_height, 1),
        titles: part(head_height + 1, 1),
        rows: part(head_height + 2, rows_height),
        detail: part(head_height + 2 + rows_height, detail_height),
    }
}

/// A line, titles, rows, and below them some lines about one of the rows.
fn listed(size: Size, detail_height: u16) -> [Rect; 4] {
    let body = Frame::new(size).body;
    let part = |row: u16, height: u16| Rect { y: body.y + row, height, ..body }.intersection(body);
    let rows_height = body.height.saturating_sub(2 + detail_height);
    [part(0, 1), part(1, 1), part(2, rows_height), part(2 + rows_height, detail_height)]
}

/// Where a popup is that would have this size, frame and all.
pub fn popup(size: Size, width: u16, height: u16) -> Rect {
    let body = Frame::new(size).body;
    let (width, height) = (width.min(body.width), height.min(body.height));
    Rect {
        x: body.x + (body.width - width) / 2,
        // A little above the middle, where the eye is.
        y: body.y + (body.height - height) / 3,
        width,
        height,
    }
}

/// Rows of a popup that lists things, at most.
pub fn popup_rows(size: Size) -> usize {
    usize::from(Frame::new(size).body.height.saturating_sub(5)).max(1)
}

/// The lines of help, within its frame and above what the last key does.
pub fn help(size: Size) -> Rect {
    let body = Frame::new(size).body;
    Rect {
        x: body.x + 2,
        y: body.y + 1,
        width: body.width.saturating_sub(4),
        height: body.height.saturating_sub(3),
    }
    .intersection(body)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_devices_panes_lie_side_by_side_within_the_body(
            width in 1..300_u16, height in 1..100_u16, is_full: bool, has_trouble: bool,
        ) {
            let size = Size::new(width, height);
            let parts = device(size, Pane::History, is_full, has_trouble);
            let body = Frame::new(size).body;
            prop_assert!(parts.pane(Pane::History).is_some());
            for (place, (_, area)) in parts.panes.iter().enumerate() {
                prop_assert_eq!(area.intersection(body), *area);
                let others = &parts.panes[place + 1..];
                prop_assert!(others.iter().all(|(_, other)| !area.intersects(*other)));
            }
        }
    }
}
