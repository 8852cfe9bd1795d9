//! One device: how it is doing, its curves, what it is, what it shall be, and what it logs.

use std::time::Duration;

use fleet_core::api::{ConfigState, ConfigView, Device};
use fleet_core::field::Field;
use fleet_core::glyph::Glyph;
use fleet_core::time::Timestamp;
use serde_json::Value;

use super::curves::{self, METRICS, RANGES, Range};
use super::html::Html;
use super::layout::{Sheet, found};
use super::{Ask, Reader, events, log, ok, table, words};
use crate::http::query::Query;
use crate::http::reply::{Failure, Reply};
use crate::ops::judgement;
use crate::ops::series::SeriesAsked;

/// Events at the end of the page.
const EVENTS_SHOWN: usize = 20;
/// Lines of a configuration that are shown.
const CONFIG_LINES_MAX: usize = 200;

/// `GET /devices/{id}`.
pub(super) async fn show(
    ask: Ask<'_>,
    reader: &Reader,
    name: &str,
    query: Option<&str>,
) -> Result<Reply, Failure> {
    let query = Query::parse(query, &[&["range", "log"], &log::KNOWN[..]].concat())?.filled();
    // The script has its lines from elsewhere.
    let has_log = match query.get("log") {
        None => true,
        Some("none") => false,
        Some(_) => return Err(Failure::invalid("log", "is none or absent")),
    };
    let ops = &ask.http.ops;
    let access = &reader.access;
    let device = ops.devices.get(access, name).await?;
    if ask.browser.wants_json {
        return Ok(ok(&device));
    }
    let Some(range) = Range::named(query.get("range")) else {
        let known: Vec<_> = RANGES.iter().map(|range| range.name).collect();
        let problem = format!("must be one of {}", known.join(", "));
        return Err(Failure::invalid("range", &problem));
    };
    let now = ops.world.now();
    let config = ops.configs.get(access, name).await?;
    let (series, _) = ops.telemetry.series(access, asked(&device, range, now)).await?;
    let happened = events::newest(ops, access, Some(&device), EVENTS_SHOWN).await?;
    let record = ops.devices.find(access, name).await?;
    let chosen = log::Choice::of(&query, now);
    let lines = if has_log { log::newest(ask.http, &record, &chosen).await } else { None };
    let may_edit = reader.may_edit();

    let mut html = Html::default();
    heading(&mut html, &device, now);
    choice(&mut html, &device, range, &chosen);
    curves::section(&mut html, &series, range, interval(&device));
    html.raw("<div class=\"columns\">");
    facts(&mut html, &device, may_edit, now);
    configuration(&mut html, &config, may_edit, now);
    html.raw("</div>");
    if let Some(lines) = &lines {
        log::section(&mut html, &record, range.name, &chosen, lines, now);
    }
    events::section(&mut html, &happened, now);
    let mark = Glyph::of(device.status).spec().unicode;
    let sheet = Sheet {
        title: format!("{mark} {} · FleetD", device.id),
        reader: Some(reader),
        is_live: true,
        identity: Some(ask.http.page.identity),
        content: html,
    };
    Ok(found(ask.browser, &sheet))
}

/// The curves of a device up to now.
fn asked(device: &Device, range: Range, now: Timestamp) -> SeriesAsked {
    SeriesAsked {
        device: device.uid.to_string(),
        metrics: METRICS.iter().filter_map(|metric| metric.parse().ok()).collect(),
        from: Some(now.minus(range.length)),
        to: Some(now),
        step: Some(range.step),
    }
}

fn interval(device: &Device) -> Duration {
    judgement::interval(device.facts.interval_secs)
}

/// Its name, and what it measured last, in a table of one row that the script knows.
fn heading(html: &mut Html, device: &Device, now: Timestamp) {
    html.raw("<h1>").text(&device.id);
    if device.name.raw() != device.id.as_str() {
        html.raw(" <small>").text(&device.name).raw("</small>");
    }
    html.raw("</h1><div class=\"wide\" role=\"region\" aria-label=\"Now\" tabindex=\"0\">");
    html.raw("<table class=\"now\" data-glyphs=\"");
    table::glyphs(html);
    html.raw("\"><thead><tr>");
    const SHOWN: [Field; 6] =
        [Field::Status, Field::Cpu, Field::Memory, Field::Disk, Field::Temperature, Field::Seen];
    for field in SHOWN {
        let spec = field.spec();
        html.raw("<th scope=\"col\" data-field=\"").text(spec.name).raw("\">").text(spec.title);
        html.raw("</th>");
    }
    html.raw("</tr></thead><tbody><tr id=\"").text(device.uid).raw("\">");
    for field in SHOWN {
        table::cell(html, device, field, now);
    }
    html.raw("</tr></tbody></table></div><p id=\"why\">");
    table::text(html, device, Field::Why);
    html.raw("</p>");
}

/// The times to draw.
fn choice(html: &mut Html, device: &Device, chosen: Range, lines: &log::Choice) {
    html.raw("<nav class=\"ranges\" aria-label=\"Time\">");
    for range in RANGES {
        html.raw("<a href=\"/devices/").text(&device.id).raw("?range=").text(range.name);
        lines.parameters(html);
        html.raw("\"");
        html.raw(if range == chosen { " aria-current=\"true\">" } else { ">" });
        html.text(range.name).raw("</a> ");
    }
    html.raw("</nav>");
}

fn facts(html: &mut Html, device: &Device, may_edit: bool, now: Timestamp) {
    let facts = &device.facts;
    html.raw("<section><h2>Device");
    if may_edit {
        edit(html, device.id.as_str(), "metadata", "Edit name, tags and metadata");
    }
    html.raw("</h2><dl>");
    let mut line = |name: &'static str, text: &dyn std::fmt::Display| {
        let text = text.to_string();
        if !text.is_empty() {
            html.raw("<dt>").raw(name).raw("</dt><dd>").text(text).raw("</dd>");
        }
    };
    line("Type", &device.device_type);
    line("Model", &facts.model);
    line("Host", &facts.hostname);
    line("System", &facts.os);
    line("Kernel", &facts.kernel);
    line("Architecture", &facts.arch);
    if facts.cores > 0 {
        line("Cores", &facts.cores);
    }
    if let Some(bytes) = facts.memory_bytes {
        line("Memory", &words::bytes(bytes as f64));
    }
    for address in &facts.addresses {
        line("Address", address);
    }
    line("Agent", &device.version);
    line("Reports", &format_args!("every {}", words::age(interval(device))));
    if device.missed_reports > 0 {
        line("Missed reports", &device.missed_reports);
    }
    if let Some(clock) = device.clock_words() {
        line("Clock", &clock);
    }
    line("Added", &format_args!("{} ago", words::age(now.since(device.created_at))));
    if let Some(fingerprint) = device.fingerprint {
        line("Fingerprint", &fingerprint);
    }
    line("Uid", &device.uid);
    for (name, value) in &device.metadata {
        html.raw("<dt class=\"note\">").text(name).raw("</dt><dd>").text(noted(value)).raw("</dd>");
    }
    html.raw("</dl></section>");
}

/// The way to a form.
fn edit(html: &mut Html, device: &str, form: &'static str, what: &'static str) {
    html.raw(" <a class=\"to-form\" href=\"/devices/").text(device).raw("/").raw(form);
    html.raw("\" aria-label=\"").raw(what).raw("\">Edit</a>");
}

/// What an operator noted, as they wrote it.
fn noted(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// The configuration that it shall have, beside the one that it has.
fn configuration(html: &mut Html, config: &ConfigView, may_edit: bool, now: Timestamp) {
    html.raw("<section id=\"configuration\"><h2>Configuration");
    if may_edit {
        edit(html, config.device_id.as_str(), "config", "Edit the configuration");
    }
    html.raw("</h2>");
    if config.version == 0 {
        html.raw("<p class=\"muted\">None was set: the device keeps to its own.</p></section>");
        return;
    }
    html.raw("<p>");
    let reported = config.reported.as_ref().filter(|told| told.version == config.version);
    match reported {
        Some(told) if told.error.is_some() => {
            let state = config.state.unwrap_or(ConfigState::Refused);
            words::marked(html, Glyph::Failed, state.word());
        }
        Some(_) if config.state == Some(ConfigState::Trying) => {
            words::marked(html, Glyph::Busy, "being tried");
        }
        Some(_) => words::marked(html, Glyph::Done, "applied"),
        None => words::marked(html, Glyph::Differs, "waiting for the device"),
    }
    html.raw("</p>");
    if let Some(error) = reported.and_then(|told| told.error.as_ref()) {
        html.raw("<p class=\"problem\">").text(error).raw("</p>");
    }
    html.raw("<dl><dt>Desired</dt><dd>version ").text(config.version);
    if let (Some(author), Some(at)) = (&config.author, config.at) {
        html.raw(", by ").text(author).raw(", ");
        words::ago(html, at, now);
        html.raw(" ago");
    }
    html.raw("</dd><dt>Reported</dt><dd>");
    match &config.reported {
        Some(told) => {
            html.raw("version ").text(told.version).raw(", ");
            words::ago(html, told.applied_at, now);
            html.raw(" ago");
        }
        None => {
            html.raw("nothing yet");
        }
    }
    html.raw("</dd>");
    if let Some(comment) = &config.comment {
        html.raw("<dt>Comment</dt><dd>").text(comment).raw("</dd>");
    }
    html.raw("</dl><pre>");
    document(html, &config.config);
    html.raw("</pre></section>");
}

/// A configuration, line by line.
fn document(html: &mut Html, text: &str) {
    let parsed: Option<Value> = serde_json::from_str(text).ok();
    let pretty = parsed.and_then(|value| serde_json::to_string_pretty(&value).ok());
    let pretty = pretty.as_deref().unwrap_or(text);
    for line in pretty.lines().take(CONFIG_LINES_MAX) {
        html.text(line).raw("\n");
    }
    if pretty.lines().count() > CONFIG_LINES_MAX {
        html.raw("…\n");
    }
}
