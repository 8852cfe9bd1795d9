//! The last lines of a device's own log, which the script then goes on with.

use std::sync::Arc;
use std::time::Duration;

use fleet_core::time::Timestamp;
use fleet_core::wire::{LogLine, LogSource, Severity};

use super::html::Html;
use super::words;
use crate::http::Http;
use crate::logs::{Fetched, NoLines, Wish};
use crate::ops::commands::require_able;
use crate::store::Device;

/// Lines that are shown. The script asks for as many.
const LINES: usize = 50;
/// How long a page waits for each part of them. They may come later to who has scripts.
const PATIENCE: Duration = Duration::from_secs(2);

/// The lines of a device, or why there are none; nothing if it is a device without a log.
pub(super) async fn newest(http: &Arc<Http>, device: &Device) -> Option<Result<Fetched, NoLines>> {
    require_able(device).ok()?;
    let wish = Wish {
        source: LogSource::Agent,
        level: Severity::Trace,
        grep: String::new(),
        since_millis: None,
        past: LINES,
        follow: false,
    };
    let patience = PATIENCE.min(http.patience.lines);
    let fetched = http.live.logs.fetch(device.uid, wish.clone(), patience).await;
    Some(fetched.or_else(|no| http.live.logs.remembered(device.uid, &wish).ok_or(no)))
}

/// The list, newest last.
pub(super) fn section(
    html: &mut Html,
    device: &Device,
    found: &Result<Fetched, NoLines>,
    now: Timestamp,
) {
    html.raw("<section id=\"log\" data-device=\"").text(&device.id).raw("\" data-lines=\"");
    html.text(LINES).raw("\"><h2>Agent's log</h2><p class=\"muted\" id=\"log-note\">");
    match found {
        Err(no) => {
            html.text(format_args!("No lines: {no}."));
        }
        Ok(Fetched { seen: Some(at), .. }) => {
            html.raw("Not from the device now, but as seen ");
            words::ago(html, *at, now);
            html.raw(" ago.");
        }
        Ok(_) => {}
    }
    html.raw("</p><ol class=\"log\" role=\"region\" aria-label=\"Lines\" tabindex=\"0\">");
    for line in found.iter().flat_map(|found| &found.lines) {
        item(html, line);
    }
    html.raw("</ol></section>");
}

fn item(html: &mut Html, line: &LogLine) {
    let tone = match line.level {
        Severity::Error => "bad",
        Severity::Warn => "warn",
        Severity::Info => "plain",
        Severity::Debug | Severity::Trace => "muted",
    };
    html.raw("<li><span class=\"muted\">").text(Timestamp::from_millis(line.at_millis));
    html.raw("</span> <i class=\"").raw(tone).raw("\">").text(line.level).raw("</i> ");
    html.text(line.text.replace('\t', "    ")).raw("</li>");
}
