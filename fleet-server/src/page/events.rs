//! What happened last, as a list.

use fleet_core::api::{Device, EventView};
use fleet_core::time::Timestamp;

use super::html::Html;
use super::words;
use crate::http::reply::Failure;
use crate::ops::events::EventsAsked;
use crate::ops::{Access, Ops};

/// The newest events, of one device or of all.
pub(super) async fn newest(
    ops: &Ops,
    access: &Access,
    device: Option<&Device>,
    limit: usize,
) -> Result<Vec<EventView>, Failure> {
    let asked = EventsAsked {
        device: device.map(|device| device.uid.to_string()),
        kinds: Vec::new(),
        since: None,
        until: None,
        before: None,
        limit,
    };
    Ok(ops.events.list(access, asked).await?)
}

/// The list, newest first.
pub(super) fn section(html: &mut Html, events: &[EventView], now: Timestamp) {
    html.raw("<section id=\"events\"><h2>Recent events</h2>");
    if events.is_empty() {
        html.raw("<p class=\"muted\">Nothing has happened yet.</p></section>");
        return;
    }
    html.raw("<ol class=\"events\">");
    for event in events {
        html.raw("<li><span class=\"muted\">");
        words::ago(html, event.timestamp, now);
        html.raw(" ago</span> ");
        if let Some(id) = &event.device_id {
            html.raw("<a href=\"/devices/").text(id).raw("\">").text(id).raw("</a> ");
        }
        html.raw("<span class=\"muted\">").text(event.kind.word()).raw("</span> ");
        html.text(&event.text).raw(" <span class=\"muted\">").text(&event.actor);
        html.raw("</span></li>");
    }
    html.raw("</ol></section>");
}
