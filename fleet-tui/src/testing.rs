//! What tests of anything painted need: a buffer to paint into, and the buffer as text.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use fleet_core::api::{
    BatchMember, BatchState, BatchView, DeviceStatus, EventKind, EventView, IndexPage, IndexRow,
    MemberState, StreamMessage, WhenOffline,
};
use fleet_core::id::Uid;
use fleet_core::time::Timestamp;
use fleet_core::untrusted::Untrusted;
use ratatui::buffer::{Buffer, Cell};
use ratatui::layout::{Rect, Size};
use ratatui::style::{Color, Modifier};
use unicode_width::UnicodeWidthStr as _;

use crate::effect::Effect;
use crate::event::{Event, LinkEvent};
use crate::sample;
use crate::state::App;
use crate::terminal::caps::{Caps, Colour, GlyphLevel, GraphLevel};
use crate::theme::{Theme, ThemeName};
use crate::view::{self, Look};

/// The sizes that screens are designed for, and one with room to spare.
pub(crate) const WIDE: Size = Size::new(120, 35);
pub(crate) const LOW: Size = Size::new(80, 24);
pub(crate) const HUGE: Size = Size::new(200, 60);

/// A terminal that has only ASCII.
pub(crate) fn ascii() -> Caps {
    Caps { glyphs: GlyphLevel::Ascii, graphs: GraphLevel::Ascii, ..Caps::default() }
}

/// A terminal without colours.
pub(crate) fn mono() -> Caps {
    Caps { colour: Colour::None, ..Caps::default() }
}

/// Gives the console's terminal another size.
pub(crate) fn resize(app: &mut App, size: Size) {
    let now = sample::moment(app.desk.now.since_start);
    app.apply(now, Event::Resize(size));
}

/// The console's picture in a size.
pub(crate) fn sized(app: &mut App, size: Size) -> String {
    resize(app, size);
    picture(&screen(app, Caps::default()))
}

/// What poor terminals show of the console, by how they are poor.
pub(crate) fn poor(app: &mut App) -> [(&'static str, String); 2] {
    resize(app, LOW);
    [("ascii", ascii()), ("mono", mono())].map(|(word, caps)| (word, picture(&screen(app, caps))))
}

/// The text of what was painted into an area of this size, one line for each row.
pub(crate) fn painted(width: u16, height: u16, paint: impl FnOnce(Rect, &mut Buffer)) -> String {
    let mut buffer = Buffer::empty(Rect::new(0, 0, width, height));
    paint(buffer.area, &mut buffer);
    let rows: Vec<String> = (0..height).map(|y| row_text(&buffer, y)).collect();
    rows.join("\n")
}

/// A buffer for a snapshot: the text of each row between bars, and behind it the styles of its cells,
/// as `from..to style`. Without them a lost highlight would go unseen.
pub(crate) fn picture(buffer: &Buffer) -> String {
    let mut picture = String::new();
    for y in 0..buffer.area.height {
        let text = row_text(buffer, y);
        let styles = row_styles(buffer, y);
        writeln!(picture, "│{text}│{styles}").expect("writing to a String cannot fail");
    }
    picture
}

fn row(buffer: &Buffer, y: u16) -> &[Cell] {
    let width = usize::from(buffer.area.width);
    &buffer.content[usize::from(y) * width..][..width]
}

fn row_text(buffer: &Buffer, y: u16) -> String {
    let mut text = String::new();
    let mut covered = 0;
    for cell in row(buffer, y) {
        if covered == 0 {
            text.push_str(cell.symbol());
            covered = cell.symbol().width().max(1);
        }
        covered -= 1;
    }
    text
}

fn row_styles(buffer: &Buffer, y: u16) -> String {
    let mut styles = String::new();
    let mut start = 0;
    for run in row(buffer, y).chunk_by(|a, b| style(a) == style(b)) {
        let end = start + run.len();
        let style = style(&run[0]);
        if !style.is_empty() {
            write!(styles, "  {start}..{end} {style}").expect("writing to a String cannot fail");
        }
        start = end;
    }
    styles
}

/// A cell's style in words; nothing if it has none.
fn style(cell: &Cell) -> String {
    let mut words = Vec::new();
    if cell.fg != Color::Reset {
        words.push(cell.fg.to_string().to_lowercase());
    }
    if cell.bg != Color::Reset {
        words.push(format!("on-{}", cell.bg.to_string().to_lowercase()));
    }
    words.extend(cell.modifier.iter_names().map(|(name, _)| name.to_lowercase()));
    if cell.modifier == Modifier::empty() && words.is_empty() {
        return String::new();
    }
    words.join("+")
}

/// A key by the name that help gives it.
pub(crate) fn key(name: &str) -> KeyEvent {
    let plain = |code| KeyEvent::new(code, KeyModifiers::NONE);
    match name {
        "Enter" => plain(KeyCode::Enter),
        "Esc" => plain(KeyCode::Esc),
        "Space" => plain(KeyCode::Char(' ')),
        "Tab" => plain(KeyCode::Tab),
        "S-Tab" => plain(KeyCode::BackTab),
        "Backspace" => plain(KeyCode::Backspace),
        "Up" => plain(KeyCode::Up),
        "Down" => plain(KeyCode::Down),
        "Left" => plain(KeyCode::Left),
        "Right" => plain(KeyCode::Right),
        "PgUp" => plain(KeyCode::PageUp),
        "PgDn" => plain(KeyCode::PageDown),
        name => {
            let last = name.chars().last().expect("a key has a name");
            let is_control = name.len() > 1 && name.starts_with('^');
            let modifiers = if is_control { KeyModifiers::CONTROL } else { KeyModifiers::NONE };
            KeyEvent::new(KeyCode::Char(last), modifiers)
        }
    }
}

/// Presses keys, with a blank between them; everything that the console asks for meanwhile.
pub(crate) fn press(app: &mut App, keys: &str) -> Vec<Effect> {
    let now = sample::moment(app.desk.now.since_start);
    keys.split(' ').flat_map(|name| app.apply(now, Event::Key(key(name)))).collect()
}

/// Lets time pass.
pub(crate) fn wait(app: &mut App, duration: Duration) -> Vec<Effect> {
    let now = sample::moment(app.desk.now.since_start + duration);
    app.apply(now, Event::Tick)
}

/// Takes the server away.
pub(crate) fn disconnect(app: &mut App) {
    let now = sample::moment(app.desk.now.since_start);
    let down = LinkEvent::Down {
        reason: "connection refused".to_owned(),
        retry_in: Some(Duration::from_secs(8)),
        is_denied: false,
    };
    app.apply(now, Event::Link(down));
    wait(app, Duration::from_secs(10));
}

/// A console that never heard of a server.
pub(crate) fn app() -> App {
    App::new(sample::settings(), WIDE)
}

/// A console that is connected to an empty fleet.
pub(crate) fn live_app() -> App {
    sample::app(0, WIDE)
}

/// A console that is connected to a fleet with these devices.
pub(crate) fn app_with(rows: Vec<IndexRow>) -> App {
    let mut app = live_app();
    sample::say(
        &mut app,
        StreamMessage::Index(IndexPage { rows, gone: Vec::new(), complete: true }),
    );
    app
}

/// A device that is doing so.
pub(crate) fn device(slot: u32, id: &str, status: DeviceStatus) -> IndexRow {
    let why = (status != DeviceStatus::Online).then(|| Untrusted::from("because"));
    let id = id.parse().expect("a device id");
    IndexRow { id, status, why, config_error: None, metadata: BTreeMap::new(), ..sample::row(slot) }
}

/// So many devices that are well: `pump-0000`, `pump-0001` and so on.
pub(crate) fn fleet_of(count: u32) -> Vec<IndexRow> {
    (0..count).map(|slot| device(slot, &format!("pump-{slot:04}"), DeviceStatus::Online)).collect()
}

/// Something that happened, a second after the one with the number before.
pub(crate) fn event(seq: u64, kind: EventKind, device: Option<&str>, text: &str) -> EventView {
    let timestamp = Timestamp::from_millis(sample::NOW - 3_600_000);
    EventView {
        seq,
        timestamp: timestamp.plus(Duration::from_secs(seq)),
        kind,
        actor: Untrusted::from(if device.is_some() { "device" } else { "server" }),
        device_id: device.map(|id| id.parse().expect("a device id")),
        uid: device.map(|_| sample::uid(7)),
        text: Untrusted::from(text),
    }
}

/// The number of a batch; a greater one is newer.
pub(crate) fn batch_id(number: u32) -> Uid {
    let mut bytes = [0; 16];
    bytes[..4].copy_from_slice(&number.to_be_bytes());
    Uid::from_bytes(bytes)
}

/// A batch that goes on, of devices that have come so far.
pub(crate) fn batch(number: u32, counts: &[(MemberState, usize)]) -> BatchView {
    let at = Timestamp::from_millis(sample::NOW - 60_000);
    BatchView {
        id: batch_id(number),
        state: BatchState::Running,
        why: Untrusted::from("begun"),
        state_at: at,
        command: Some(Untrusted::from("restart")),
        args: vec![Untrusted::from("nginx")],
        config: None,
        filter: None,
        total: counts.iter().map(|(_, count)| count).sum(),
        counts: counts.iter().copied().collect(),
        window: 10,
        canary: 0,
        max_fail: 5,
        timeout_secs: 60,
        offline: WhenOffline::Queue,
        expires_at: at.plus(Duration::from_secs(86_400)),
        author: Untrusted::from("operator:k3xq2m7a"),
        created_at: at,
        reason: None,
        retry_of: None,
    }
}

/// A device of a batch: `d-00007`.
pub(crate) fn member(number: u32, state: MemberState) -> BatchMember {
    BatchMember {
        device_id: format!("d-{number:05}").parse().expect("a device id"),
        uid: sample::uid(number),
        state,
        why: Untrusted::from("because"),
        state_at: Timestamp::from_millis(sample::NOW - 5_000),
        command_id: Some(batch_id(1_000 + number)),
        config_version: None,
    }
}

/// The console as it is painted on a terminal that can do so much.
pub(crate) fn screen(app: &App, caps: Caps) -> Buffer {
    let mut buffer = Buffer::empty(Rect::from(app.desk.size));
    let look = Look { theme: Theme::new(ThemeName::Default, &caps), caps };
    view::paint(app, &look, &mut buffer);
    buffer
}

#[cfg(test)]
mod tests {
    use ratatui::style::Style;

    use super::*;

    #[test]
    fn a_picture_tells_text_and_styles() {
        let mut buffer = Buffer::empty(Rect::new(0, 0, 8, 2));
        buffer.set_string(0, 0, "世x", Style::new().red().bold());
        buffer.set_style(Rect::new(5, 0, 3, 1), Style::new().reversed());
        assert_eq!(
            picture(&buffer),
            "│世x     │  0..1 red+bold  2..3 red+bold  5..8 reversed\n│        │\n"
        );
    }
}
