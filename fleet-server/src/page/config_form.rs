//! A device's configuration, to be edited: its own part, beside what its layers say. What a change
//! would be is shown first, and stored only as it was shown.

use data_encoding::HEXLOWER;
use fleet_core::api::{
    AuditAction, ConfigUpdate, ConfigView, DEVICE_LAYER, Difference, config_paths, diff,
};
use fleet_core::time::Timestamp;
use fleet_core::untrusted::Untrusted;
use hyper::{Request, StatusCode};
use ring::digest;
use serde_json::Value;

use super::form::{self, Sent};
use super::html::Html;
use super::mistake::{self, Mistake};
use super::{Ask, Reader, ok, reply, words};
use crate::http::body::Payload;
use crate::http::reply::{Failure, Reply};
use crate::ops::configs::tags_of;
use crate::ops::{Access, OpsError};

/// Bytes of the form.
const FORM_BYTES_MAX: usize = 256 * 1024;
/// Characters of a comment, as the field takes them.
const COMMENT_CHARS_MAX: usize = 300;

/// What stands in the form.
struct Draft<'a> {
    document: &'a str,
    comment: &'a str,
    /// The version that it was made from.
    seen: u64,
}

/// What there is to say about a draft.
enum Word {
    /// Nothing yet.
    New,
    /// It is wrong.
    Wrong(Mistake),
    /// It was refused.
    Refused(Untrusted),
    /// Somebody has stored another version since; what that changed.
    Stale(Vec<Difference>),
    /// What it would be.
    Effect(Effect),
}

/// What a draft would be.
struct Effect {
    /// What would be otherwise for the device.
    differences: Vec<Difference>,
    /// What it says no more itself: the path, what that is then, and which layer says so.
    kept: Vec<(String, Value, String)>,
    /// Whether the draft says what is stored already.
    is_same: bool,
    /// The document that the device would go by.
    effective: String,
    /// Whether it was to be stored, and is not what was shown.
    is_late: bool,
}

/// `GET /devices/{id}/config`.
pub(super) async fn show(ask: Ask<'_>, reader: &Reader, name: &str) -> Result<Reply, Failure> {
    let view = ask.http.ops.configs.get(&reader.access, name).await?;
    if ask.browser.wants_json {
        return Ok(ok(&view));
    }
    let own = pretty(own(&view));
    let draft = Draft { document: &own, comment: "", seen: view.version };
    sheet(ask, reader, StatusCode::OK, &view, &draft, &Word::New)
}

/// `POST /devices/{id}/config`.
pub(super) async fn send(
    ask: Ask<'_>,
    name: &str,
    request: Request<Payload>,
) -> Result<Reply, Failure> {
    let fields = ["seen", "document", "comment", "shown", "action"];
    let sent = form::receive(ask, request, &fields, FORM_BYTES_MAX).await?;
    let (configs, access) = (&ask.http.ops.configs, &sent.reader.access);
    let view = configs.get(access, name).await?;
    // A page has no tabs: they would come back as another text than was shown.
    let document = sent.text("document").replace("\r\n", "\n").replace('\t', "    ");
    let seen: Option<u64> = sent.fields.parsed("seen")?;
    let seen = seen.ok_or_else(|| Failure::invalid("seen", "is missing"))?;
    let draft = Draft { document: &document, comment: sent.text("comment").trim(), seen };
    let answer = |status, view: &ConfigView, draft: &Draft<'_>, word: &Word| {
        sheet(ask, &sent.reader, status, view, draft, word)
    };
    let value = match mistake::read(&document) {
        Ok(value) => value,
        Err(wrong) => {
            let status = StatusCode::UNPROCESSABLE_ENTITY;
            return answer(status, &view, &draft, &Word::Wrong(wrong));
        }
    };
    if seen != view.version {
        return stale(ask, &sent, name, &draft).await;
    }
    let effect = effect(ask, access, name, &view, &value).await?;
    let is_shown = sent.text("shown") == draft.digest(&effect.effective);
    let is_wanted = sent.text("action") == "save";
    if !is_wanted || !is_shown {
        let effect = Effect { is_late: is_wanted, ..effect };
        return answer(StatusCode::OK, &view, &draft, &Word::Effect(effect));
    }
    let comment = Some(draft.comment.to_owned()).filter(|comment| !comment.is_empty());
    let update = ConfigUpdate { config: Some(value), comment, ..ConfigUpdate::default() };
    let device = ask.http.ops.devices.find(access, name).await?;
    let (device, why) = ((&device.id, device.uid), update.comment.clone());
    let stored = configs.update(access, name, Some(seen), update, &sent.actor);
    match sent.recorded(ask, AuditAction::ConfigSet, device, why, stored).await? {
        // With a place in the page it would not load itself again, where there are no scripts.
        Ok(stored) => reply::see_other(&format!("/devices/{}", stored.device_id)),
        Err(OpsError::Stale { .. }) => stale(ask, &sent, name, &draft).await,
        Err(error) => {
            let (status, problem) = form::correctable(error)?;
            answer(status, &view, &draft, &Word::Refused(problem))
        }
    }
}

/// Somebody was quicker: both versions are shown, and the draft stays.
async fn stale(ask: Ask<'_>, sent: &Sent, name: &str, draft: &Draft<'_>) -> Result<Reply, Failure> {
    let (configs, access) = (&ask.http.ops.configs, &sent.reader.access);
    let view = configs.get(access, name).await?;
    let seen = configs.history(access, name, draft.seen.checked_add(1), 1).await?;
    let seen = seen.into_iter().find(|version| version.version == draft.seen);
    let before = seen.map_or(Value::Object(serde_json::Map::new()), |seen| seen.document);
    let differences = diff(&before, &parsed(&view.config)?);
    let word = Word::Stale(differences);
    sheet(ask, &sent.reader, StatusCode::CONFLICT, &view, draft, &word)
}

/// What a document would be for the device, as its layers are now.
async fn effect(
    ask: Ask<'_>,
    access: &Access,
    name: &str,
    view: &ConfigView,
    value: &Value,
) -> Result<Effect, Failure> {
    let ops = &ask.http.ops;
    let device = ops.devices.find(access, name).await?;
    let stack = ops.configs.layers.stack().await?;
    let after = stack.effective(&tags_of(&device), &value.to_string())?;
    let effective = parsed(&after.document)?;
    let paths = config_paths(&effective);
    let own = diff(&parsed(own(view))?, value);
    let gone = own.iter().filter(|difference| difference.after.is_none());
    let kept = gone.filter_map(|difference| {
        let path = difference.path.raw();
        let layer = after.provenance.get(path)?;
        Some((path.to_owned(), paths.get(path)?.clone(), layer.clone()))
    });
    Ok(Effect {
        differences: diff(&parsed(&view.config)?, &effective),
        kept: kept.collect(),
        is_same: own.is_empty(),
        effective: after.document,
        is_late: false,
    })
}

fn own(view: &ConfigView) -> &str {
    view.own.as_deref().unwrap_or(&view.config)
}

fn parsed(document: &str) -> Result<Value, Failure> {
    serde_json::from_str(document).map_err(|error| {
        tracing::error!(%error, "a configuration that was stored is no JSON");
        Failure::internal()
    })
}

fn pretty(document: &str) -> String {
    let value: Option<Value> = serde_json::from_str(document).ok();
    let pretty = value.and_then(|value| serde_json::to_string_pretty(&value).ok());
    pretty.unwrap_or_else(|| document.to_owned())
}

impl Draft<'_> {
    /// What is the same if neither the document, nor what it was made from, nor what it comes to
    /// with its layers has changed.
    fn digest(&self, effective: &str) -> String {
        let text = format!("{} {effective}\n{}", self.seen, self.document);
        HEXLOWER.encode(digest::digest(&digest::SHA256, text.as_bytes()).as_ref())
    }
}

fn sheet(
    ask: Ask<'_>,
    reader: &Reader,
    status: StatusCode,
    view: &ConfigView,
    draft: &Draft<'_>,
    word: &Word,
) -> Result<Reply, Failure> {
    let now = ask.http.ops.world.now();
    let id = view.device_id.as_str();
    let mut html = Html::default();
    form::heading(&mut html, "Configuration", id);
    tell(&mut html, view, draft, word, now);
    html.raw("<div class=\"columns\"><section>");
    form::begin(&mut html, reader, &format!("/devices/{id}/config"))?;
    // Only who was told of another version has seen it.
    let seen = if matches!(word, Word::Stale(_)) { view.version } else { draft.seen };
    form::hidden(&mut html, "seen", seen);
    fields(&mut html, draft, matches!(word, Word::Wrong(_)));
    html.raw("<p class=\"buttons\">");
    if let Word::Effect(effect) = word
        && !effect.is_same
    {
        form::hidden(&mut html, "shown", draft.digest(&effect.effective));
        html.raw("<button class=\"main\" name=\"action\" value=\"save\">Save as version ");
        html.text(view.version + 1).raw("</button>");
        html.raw("<button name=\"action\" value=\"look\">Preview again</button>");
    } else {
        html.raw("<button class=\"main\" name=\"action\" value=\"look\">Preview</button>");
    }
    html.raw("<a href=\"/devices/").text(id).raw("\">Cancel</a></p></form></section>");
    layers(&mut html, view)?;
    html.raw("</div>");
    Ok(form::page(ask, reader, status, format!("Configuration of {id} · FleetD"), html))
}

fn fields(html: &mut Html, draft: &Draft<'_>, is_wrong: bool) {
    html.raw("<label for=\"document\">Of this device alone, as JSON</label>");
    html.raw("<textarea id=\"document\" name=\"document\" rows=\"14\" spellcheck=\"false\" ");
    html.raw("autocapitalize=\"off\" autocomplete=\"off\" required");
    html.raw(if is_wrong {
        " aria-invalid=\"true\" aria-describedby=\"problem\">\n"
    } else {
        ">\n"
    });
    for (position, line) in draft.document.split('\n').enumerate() {
        html.raw(if position > 0 { "\n" } else { "" }).text(line);
    }
    html.raw("</textarea><label for=\"comment\">Why, for the record</label>");
    html.raw("<input id=\"comment\" name=\"comment\" maxlength=\"").text(COMMENT_CHARS_MAX);
    html.raw("\" autocomplete=\"off\" value=\"").text(draft.comment).raw("\">");
}

/// What there is to say about a draft.
fn tell(html: &mut Html, view: &ConfigView, draft: &Draft<'_>, word: &Word, now: Timestamp) {
    match word {
        Word::New if view.version == 0 => {
            html.raw("<p class=\"muted\">None was set yet: the device keeps to its own file.</p>");
        }
        Word::New => {
            html.raw("<p class=\"muted\">Version ").text(view.version);
            signed(html, view, now);
            html.raw("</p>");
        }
        Word::Wrong(wrong) => wrong.show(html, draft.document),
        Word::Refused(problem) => {
            html.raw("<p class=\"problem\" role=\"alert\">").text(problem).raw("</p>");
        }
        Word::Stale(differences) => {
            html.raw("<div class=\"problem\" role=\"alert\"><p>Somebody was quicker. Yours was ");
            html.raw("made from version ").text(draft.seen).raw("; now there is version ");
            html.text(view.version);
            signed(html, view, now);
            html.raw(" Nothing was stored, and yours is still below.</p>");
            changes(html, differences, "Both say the same for the device.");
            html.raw("<details><summary>Version ").text(view.version).raw(", the device's own ");
            html.raw("part</summary><pre>");
            for line in pretty(own(view)).lines() {
                html.text(line).raw("\n");
            }
            html.raw("</pre></details></div>");
        }
        Word::Effect(effect) => effect.show(html, view),
    }
}

impl Effect {
    fn show(&self, html: &mut Html, view: &ConfigView) {
        html.raw("<div class=\"told\" role=\"status\">");
        if self.is_late {
            html.raw("<p>This is not what was shown before: the text has changed, or a layer. ");
            html.raw("Nothing is stored yet.</p>");
        }
        if self.is_same {
            html.raw("<p>That is what version ").text(view.version);
            html.raw(" says already.</p></div>");
            return;
        }
        html.raw("<p>For the device this would change:</p>");
        changes(html, &self.differences, "Nothing: what it goes by stays the same.");
        for (path, value, layer) in &self.kept {
            html.raw("<p>No more its own: <code>").text(path).raw("</code> is <code>");
            html.text(Difference::side(Some(value))).raw("</code> then, as its layer ");
            html.text(layer).raw(" says.</p>");
        }
        html.raw("</div>");
    }
}

fn changes(html: &mut Html, differences: &[Difference], none: &'static str) {
    if differences.is_empty() {
        html.raw("<p>").raw(none).raw("</p>");
        return;
    }
    html.raw("<ul class=\"changes\">");
    for difference in differences {
        html.raw("<li><code>").text(difference).raw("</code></li>");
    }
    html.raw("</ul>");
}

/// Who set a version, when and why.
fn signed(html: &mut Html, view: &ConfigView, now: Timestamp) {
    if let (Some(author), Some(at)) = (&view.author, view.at) {
        html.raw(", by ").text(author).raw(", ");
        words::ago(html, at, now);
        html.raw(" ago");
    }
    if let Some(comment) = &view.comment {
        html.raw(": ").text(comment);
    }
    html.raw(".");
}

/// What the device has from its layers, which this form does not change.
fn layers(html: &mut Html, view: &ConfigView) -> Result<(), Failure> {
    html.raw("<section><h2>From its layers</h2>");
    let values = config_paths(&parsed(&view.config)?);
    let from_layers: Vec<_> =
        view.provenance.iter().filter(|(_, layer)| *layer != DEVICE_LAYER).collect();
    if from_layers.is_empty() {
        html.raw("<p class=\"muted\">Nothing: all that is set is the device's own.</p></section>");
        return Ok(());
    }
    html.raw("<dl>");
    for (path, layer) in from_layers {
        let value = Difference::side(values.get(path));
        html.raw("<dt>").text(path).raw("</dt><dd><code>").text(value);
        html.raw("</code> <span class=\"muted\">").text(layer);
        html.raw("</span></dd>");
    }
    html.raw("</dl><p class=\"muted\">What stands in the text has the last word.</p></section>");
    Ok(())
}
