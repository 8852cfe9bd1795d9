//! The last lines of a device's log, the agent's own or a unit's, which the script then goes on
//! with. What is chosen stands in the URL, and is filtered on the device.

use std::sync::Arc;
use std::time::Duration;

use fleet_core::limits::LOG_GREP_BYTES_MAX;
use fleet_core::time::{Timestamp, parse_duration};
use fleet_core::wire::{LogLine, LogSource, Severity};

use super::html::Html;
use super::words;
use crate::http::Http;
use crate::http::logs::chosen;
use crate::http::query::Query;
use crate::http::reply::Failure;
use crate::logs::{Fetched, NoLines, Wish};
use crate::ops::commands::require_able;
use crate::store::Device;

/// The parameters of a page that choose lines.
pub(super) const KNOWN: [&str; 4] = ["unit", "level", "grep", "since"];
/// Lines that are shown. The script asks for as many.
const LINES: usize = 50;
/// How long a page waits for each part of them. They may come later to who has scripts.
const PATIENCE: Duration = Duration::from_secs(2);

/// Which lines somebody wants to see, as they typed it.
pub(super) struct Choice {
    typed: [String; KNOWN.len()],
    wish: Result<Wish, Failure>,
}

impl Choice {
    pub(super) fn of(query: &Query, now: Timestamp) -> Self {
        let typed = KNOWN.map(|name| query.get(name).unwrap_or_default().to_owned());
        Self { typed, wish: wish(query, now) }
    }

    /// Writes the parameters that somebody has filled in, to be added to a URL's others.
    pub(super) fn parameters(&self, html: &mut Html) {
        for (name, text) in KNOWN.into_iter().zip(&self.typed).filter(|(_, text)| !text.is_empty())
        {
            html.raw("&amp;").raw(name).raw("=").parameter(text);
        }
    }

    fn is_any(&self) -> bool {
        self.typed.iter().any(|text| !text.is_empty())
    }
}

fn wish(query: &Query, now: Timestamp) -> Result<Wish, Failure> {
    let (source, level, grep) = chosen(query)?;
    let since = query.get("since").map(|text| {
        let ago = parse_duration(text).map(|ago| now.minus(ago));
        let at = ago.or_else(|_| text.trim().parse());
        at.map_err(|_| Failure::invalid("since", "is neither a time nor how long ago, like 10m"))
    });
    let since_millis = since.transpose()?.map(Timestamp::millis);
    Ok(Wish { source, level, grep, since_millis, past: LINES, follow: false })
}

/// The lines of a device, or why there are none.
pub(super) enum Found {
    Lines(Result<Fetched, NoLines>),
    /// What was typed asks for nothing.
    Wrong(String),
}

/// The lines of a device; nothing if it is a device without a log.
pub(super) async fn newest(http: &Arc<Http>, device: &Device, choice: &Choice) -> Option<Found> {
    require_able(device).ok()?;
    let wish = match &choice.wish {
        Ok(wish) => wish,
        Err(failure) => return Some(Found::Wrong(failure.detail().to_string())),
    };
    let patience = PATIENCE.min(http.patience.lines);
    let fetched = http.live.logs.fetch(device.uid, wish.clone(), patience).await;
    let found = fetched.or_else(|no| http.live.logs.remembered(device.uid, wish).ok_or(no));
    Some(Found::Lines(found))
}

/// The choice, and the list, newest last.
pub(super) fn section(
    html: &mut Html,
    device: &Device,
    range: &str,
    choice: &Choice,
    found: &Found,
    now: Timestamp,
) {
    html.raw("<section id=\"log\"");
    if choice.is_any() {
        // Whoever has chosen lines is brought to them. A place in the URL would do that too, but a
        // page there does not load itself again.
        html.raw(" tabindex=\"-1\" autofocus");
    }
    if let Ok(wish) = &choice.wish {
        html.raw(" data-device=\"").text(&device.id).raw("\" data-lines=\"").text(LINES);
        html.raw("\" data-query=\"");
        query(html, wish);
        html.raw("\"");
    }
    html.raw("><h2>");
    match &choice.wish {
        Ok(Wish { source: LogSource::Unit(unit), .. }) => html.raw("Log of ").text(unit),
        _ => html.raw("Agent's log"),
    };
    html.raw("</h2>");
    form(html, device, range, choice);
    let lines = match found {
        Found::Wrong(problem) => {
            html.raw("<p class=\"problem\" role=\"alert\">").text(problem).raw("</p></section>");
            return;
        }
        Found::Lines(lines) => lines,
    };
    html.raw("<p class=\"muted\" id=\"log-note\">");
    match lines {
        Err(no) => {
            html.text(format_args!("No lines: {no}."));
        }
        Ok(Fetched { seen: Some(at), .. }) => {
            html.raw("Not from the device now, but as seen ");
            words::ago(html, *at, now);
            html.raw(" ago.");
        }
        Ok(Fetched { lines, .. }) if lines.is_empty() => {
            html.raw("No such lines.");
        }
        Ok(_) => {}
    }
    html.raw("</p><ol class=\"log\" role=\"region\" aria-label=\"Lines\" tabindex=\"0\">");
    for line in lines.iter().flat_map(|found| &found.lines) {
        item(html, line);
    }
    html.raw("</ol></section>");
}

/// The same wish, as the API takes it.
fn query(html: &mut Html, wish: &Wish) {
    if let LogSource::Unit(unit) = &wish.source {
        html.raw("&amp;unit=").parameter(unit);
    }
    if wish.level != Severity::Trace {
        html.raw("&amp;level=").parameter(wish.level);
    }
    if !wish.grep.is_empty() {
        html.raw("&amp;grep=").parameter(&wish.grep);
    }
    if let Some(since) = wish.since_millis {
        html.raw("&amp;since=").parameter(Timestamp::from_millis(since));
    }
}

/// What to choose lines by.
fn form(html: &mut Html, device: &Device, range: &str, choice: &Choice) {
    let [unit, level, grep, since] = &choice.typed;
    html.raw("<form class=\"filter lines\" action=\"/devices/").text(&device.id).raw("\">");
    html.raw("<input type=\"hidden\" name=\"range\" value=\"").text(range).raw("\">");
    let plain = "\" autocapitalize=\"off\" autocomplete=\"off\" spellcheck=\"false\" value=\"";
    html.raw("<label>Unit <input name=\"unit\" size=\"14\" placeholder=\"the agent");
    html.raw(plain).text(unit).raw("\"></label><label>Level <select name=\"level\">");
    let chosen = level.parse::<Severity>().ok().unwrap_or(Severity::Trace);
    for severity in
        [Severity::Trace, Severity::Debug, Severity::Info, Severity::Warn, Severity::Error]
    {
        html.raw("<option value=\"");
        if severity == Severity::Trace {
            html.raw("\"");
        } else {
            html.text(severity).raw("\"");
        }
        html.raw(if severity == chosen { " selected>" } else { ">" });
        if severity == Severity::Trace {
            html.raw("any");
        } else {
            html.text(severity);
        }
        html.raw("</option>");
    }
    html.raw("</select></label><label>With <input name=\"grep\" size=\"16\" maxlength=\"");
    html.text(LOG_GREP_BYTES_MAX).raw("\" placeholder=\"text").raw(plain).text(grep);
    html.raw("\"></label><label>Since <input name=\"since\" size=\"8\" placeholder=\"10m");
    html.raw(plain).text(since).raw("\"></label><button>Show</button>");
    if choice.is_any() {
        html.raw("<a href=\"/devices/").text(&device.id).raw("?range=").text(range);
        html.raw("\">All of the agent's</a>");
    }
    html.raw("</form>");
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
