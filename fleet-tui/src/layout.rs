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

/// Whether lines are dear: the design for 80×24.
pub fn is_low(size: Size) -> bool {
    size.height < 30 || size.width < 100
}
