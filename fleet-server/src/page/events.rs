//! What happened last, as a list.

use fleet_core::api::EventView;
use fleet_core::time::Timestamp;

use super::html::Html;
use super::words;

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
        html.text(&event.text).raw(" <span class=\"muted\">").text(&event.actor);
        html.raw("</span></li>");
    }
    html.raw("</ol></section>");
}
