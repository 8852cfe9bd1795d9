//! What operators note of a device, to be edited: a name, tags, and entries of metadata.
//!
//! Only what somebody has changed in the form is changed. An entry that somebody else has changed
//! meanwhile is left as it is, and both are shown.

use std::collections::{BTreeMap, BTreeSet};

use data_encoding::HEXLOWER;
use fleet_core::api::{AuditAction, DeviceUpdate, TagUpdate};
use fleet_core::limits::{METADATA_ENTRIES_MAX, METADATA_NAME_BYTES_MAX, SHOWN_CHARS_MAX};
use fleet_core::untrusted::{Untrusted, escaped};
use hyper::{Request, StatusCode};
use ring::digest;
use serde_json::{Map, Value};

use super::form::{self, Sent};
use super::html::Html;
use super::{Ask, Reader, ok, reply};
use crate::http::body::Payload;
use crate::http::reply::{Failure, Reply};
use crate::ops::OpsError;
use crate::ops::configs::{TAGS_ENTRY, tags_of};
use crate::ops::devices::metadata;
use crate::store::{Device, Refusal};

/// Bytes of the form: as many entries as there may be, each as long as it may be.
const FORM_BYTES_MAX: usize = 2 * 1024 * 1024;
/// Rows for entries that are not there yet.
const ROWS_EMPTY: usize = 3;
const ROWS_MAX: usize = METADATA_ENTRIES_MAX + ROWS_EMPTY;
/// Characters of the hash by which a value is known again.
const HASH_CHARS: usize = 16;

/// An entry in the form.
#[derive(Clone)]
struct Entry {
    name: String,
    text: String,
    /// The hash of what was shown; empty if there was none.
    shown: String,
    is_gone: bool,
}

/// What stands in the form.
#[derive(Clone)]
struct Draft {
    name: String,
    tags: String,
    /// The name and the tags when the form was written.
    had: (String, String),
    entries: Vec<Entry>,
}

/// `GET /devices/{id}/metadata`.
pub(super) async fn show(ask: Ask<'_>, reader: &Reader, name: &str) -> Result<Reply, Failure> {
    if ask.browser.wants_json {
        return Ok(ok(&ask.http.ops.devices.get(&reader.access, name).await?));
    }
    let device = ask.http.ops.devices.find(&reader.access, name).await?;
    sheet(ask, reader, StatusCode::OK, &device, &Draft::of(&device), &[])
}

/// `POST /devices/{id}/metadata`.
pub(super) async fn send(
    ask: Ask<'_>,
    name: &str,
    request: Request<Payload>,
) -> Result<Reply, Failure> {
    let rows = ["name", "value", "shown", "gone"];
    let rows = (0..ROWS_MAX).flat_map(|row| rows.map(|field| format!("{field}-{row}")));
    let fields = ["name", "tags", "had-name", "had-tags"].map(str::to_owned);
    let fields: Vec<String> = fields.into_iter().chain(rows).collect();
    let fields: Vec<&str> = fields.iter().map(String::as_str).collect();
    let sent = form::receive(ask, request, &fields, FORM_BYTES_MAX).await?;
    let (devices, access) = (&ask.http.ops.devices, &sent.reader.access);
    let device = devices.find(access, name).await?;
    let draft = Draft::sent(&sent, &device);
    let answer = |status, device: &Device, draft: &Draft, problems: &[Untrusted]| {
        sheet(ask, &sent.reader, status, device, draft, problems)
    };
    let update = match draft.update(&device) {
        Ok(update) => update,
        Err(problem) => {
            return answer(StatusCode::UNPROCESSABLE_ENTITY, &device, &draft, &[problem]);
        }
    };
    let checked = draft.clone();
    let check = move |device: &Device| {
        let conflicts = checked.conflicts(device);
        match conflicts.first() {
            Some(conflict) => Err(Refusal(conflict.to_string())),
            None => Ok(()),
        }
    };
    let about = (&device.id, device.uid);
    let updated = devices.update_if(access, name, update, check, &sent.actor);
    match sent.recorded(ask, AuditAction::DeviceUpdate, about, None, updated).await? {
        Ok(()) => reply::see_other(&format!("/devices/{}", device.id)),
        Err(error @ OpsError::Conflict(_)) => {
            let device = devices.find(access, name).await?;
            let problems = draft.conflicts(&device);
            if problems.is_empty() {
                let (status, problem) = form::correctable(error)?;
                return answer(status, &device, &draft, &[problem]);
            }
            // Whoever sends it again has seen what there is.
            answer(StatusCode::CONFLICT, &device, &draft.rebased(&device), &problems)
        }
        Err(error) => {
            let (status, problem) = form::correctable(error)?;
            answer(status, &device, &draft, &[problem])
        }
    }
}

/// A device's entries as a form shows them, without its tags.
fn shown(device: &Device) -> BTreeMap<String, String> {
    let mut entries = metadata(device.metadata.clone());
    entries.remove(TAGS_ENTRY);
    entries.into_iter().map(|(name, value)| (name, text_of(&value))).collect()
}

/// A value as it is typed: a text as it is, all else as JSON.
fn text_of(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// The value that a text means in the place of another.
fn value_of(text: &str, before: Option<&Value>) -> Value {
    let was_text = before.is_none_or(Value::is_string);
    let read = if was_text { None } else { serde_json::from_str(text).ok() };
    read.unwrap_or_else(|| Value::from(text))
}

fn hash(text: &str) -> String {
    let digest = digest::digest(&digest::SHA256, text.as_bytes());
    HEXLOWER.encode(digest.as_ref()).chars().take(HASH_CHARS).collect()
}

/// Whether a field gives back what it was given.
fn can_be_edited(text: &str) -> bool {
    escaped(text) == text
}

/// A device's name as a form gives it back.
fn name_text(device: &Device) -> String {
    escaped(device.name.as_deref().unwrap_or_default()).trim().to_owned()
}

fn tags_text(device: &Device) -> String {
    tags_of(device).into_iter().collect::<Vec<_>>().join(" ")
}

fn words(text: &str) -> BTreeSet<&str> {
    let is_between = |c: char| c == ',' || c.is_whitespace();
    text.split(is_between).filter(|word| !word.is_empty()).collect()
}

impl Draft {
    fn of(device: &Device) -> Self {
        let entry = |(name, text): (String, String)| Entry {
            name,
            shown: hash(&text),
            text,
            is_gone: false,
        };
        let name = name_text(device);
        let tags = tags_text(device);
        let had = (name.clone(), tags.clone());
        Self { name, tags, had, entries: shown(device).into_iter().map(entry).collect() }
    }

    fn sent(sent: &Sent, device: &Device) -> Self {
        let now = shown(device);
        let entries = (0..ROWS_MAX).map(|row| {
            let field = |field: &str| sent.fields.get(&format!("{field}-{row}"));
            let name = field("name").unwrap_or_default().trim().to_owned();
            let is_gone = field("gone").is_some();
            match field("value") {
                Some(text) => {
                    let shown = field("shown").unwrap_or_default().to_owned();
                    Entry { name, text: text.to_owned(), shown, is_gone }
                }
                // One that could not be typed into: it stays as it is by now, or what was shown goes.
                None => {
                    let text = now.get(&name).cloned().unwrap_or_default();
                    let shown = field("shown").filter(|_| is_gone);
                    let shown = shown.map_or_else(|| hash(&text), str::to_owned);
                    Entry { name, text, shown, is_gone }
                }
            }
        });
        let text = |name: &str| sent.text(name).trim().to_owned();
        Self {
            name: text("name"),
            tags: text("tags"),
            had: (text("had-name"), text("had-tags")),
            entries: entries.filter(Entry::is_there).collect(),
        }
    }

    /// What somebody has changed.
    fn update(&self, device: &Device) -> Result<DeviceUpdate, Untrusted> {
        let before = metadata(device.metadata.clone());
        let mut entries = Map::new();
        for entry in self.entries.iter().filter(|entry| entry.is_changed()) {
            let name = entry.name.clone();
            if name == TAGS_ENTRY {
                return Err("tags have a field of their own".into());
            }
            if name.is_empty() {
                let text = escaped(&entry.text);
                return Err(Untrusted::new(format!("{text}: the entry has no name")));
            }
            let value =
                if entry.is_gone { Value::Null } else { value_of(&entry.text, before.get(&name)) };
            if self.entries.iter().filter(|entry| entry.name == name).count() > 1 {
                return Err(Untrusted::new(format!("{name}: there are two entries of this name")));
            }
            entries.insert(name, value);
        }
        let (now, had) = (words(&self.tags), words(&self.had.1));
        let owned = |words: Vec<&&str>| words.into_iter().map(|&word| word.to_owned()).collect();
        let tags = TagUpdate {
            add: owned(now.difference(&had).collect()),
            remove: owned(had.difference(&now).collect()),
        };
        Ok(DeviceUpdate {
            name: (self.name != self.had.0).then(|| self.name.clone()),
            metadata: (!entries.is_empty()).then_some(Value::Object(entries)),
            tags: (tags != TagUpdate::default()).then_some(tags),
        })
    }

    /// What somebody else has changed that was to be changed here. Who wants what is there already,
    /// or gone already, is in nobody's way.
    fn conflicts(&self, device: &Device) -> Vec<Untrusted> {
        let told = |what: &str, now: Option<&String>| {
            let is = now.map_or_else(
                || "somebody else has removed it".to_owned(),
                |text| format!("somebody else has set it to {text:?}"),
            );
            Untrusted::new(format!("{what}: {is} meanwhile. Nothing was stored; yours is below"))
        };
        let mut conflicts = Vec::new();
        let name = name_text(device);
        if self.name != self.had.0 && name != self.had.0 && name != self.name {
            conflicts.push(told("name", Some(&name).filter(|name| !name.is_empty())));
        }
        let now = shown(device);
        for entry in self.entries.iter().filter(|entry| entry.is_changed()) {
            let now = now.get(&entry.name);
            let is_done = match now {
                Some(text) => !entry.is_gone && *text == entry.text,
                None => entry.is_gone,
            };
            if !is_done && now.map_or_else(String::new, |text| hash(text)) != entry.shown {
                conflicts.push(told(&entry.name, now));
            }
        }
        conflicts
    }

    /// The same, made from what there is now.
    fn rebased(mut self, device: &Device) -> Self {
        let name = name_text(device);
        if self.name == self.had.0 {
            self.name.clone_from(&name);
        }
        self.had.0 = name;
        let mut now = shown(device);
        // What was to stay or to go, and is gone, is not brought back.
        self.entries.retain(|entry| {
            now.contains_key(&entry.name) || (entry.is_changed() && !entry.is_gone)
        });
        for entry in &mut self.entries {
            let text = now.remove(&entry.name);
            let shown = text.as_deref().map_or_else(String::new, hash);
            if let Some(text) = text.filter(|_| !entry.is_changed()) {
                entry.text = text;
            }
            entry.shown = shown;
        }
        let entry = |(name, text): (String, String)| Entry {
            name,
            shown: hash(&text),
            text,
            is_gone: false,
        };
        self.entries.extend(now.into_iter().map(entry));
        self
    }
}

impl Entry {
    fn is_there(&self) -> bool {
        !self.name.is_empty() || !self.text.is_empty()
    }

    fn is_changed(&self) -> bool {
        self.is_gone || hash(&self.text) != self.shown
    }
}

fn sheet(
    ask: Ask<'_>,
    reader: &Reader,
    status: StatusCode,
    device: &Device,
    draft: &Draft,
    problems: &[Untrusted],
) -> Result<Reply, Failure> {
    let id = device.id.as_str();
    let mut html = Html::default();
    form::heading(&mut html, "Notes", id);
    if !problems.is_empty() {
        html.raw("<div class=\"problem\" role=\"alert\">");
        for problem in problems {
            html.raw("<p>").text(problem).raw("</p>");
        }
        html.raw("</div>");
    }
    form::begin(&mut html, reader, &format!("/devices/{id}/metadata"))?;
    html.raw("<label for=\"name\">Name</label><input id=\"name\" name=\"name\" maxlength=\"");
    html.text(SHOWN_CHARS_MAX).raw("\" autocomplete=\"off\" placeholder=\"").text(id);
    html.raw("\" value=\"").text(&draft.name).raw("\">");
    form::hidden(&mut html, "had-name", &draft.had.0);
    html.raw("<label for=\"tags\">Tags</label><input id=\"tags\" name=\"tags\" ");
    html.raw("autocapitalize=\"off\" autocomplete=\"off\" spellcheck=\"false\" ");
    html.raw("placeholder=\"canary eu-west\" value=\"").text(&draft.tags).raw("\">");
    form::hidden(&mut html, "had-tags", &draft.had.1);
    html.raw("<fieldset><legend>Metadata</legend>");
    for (row, entry) in draft.entries.iter().enumerate() {
        known_row(&mut html, row, entry);
    }
    let first = draft.entries.len();
    for row in first..(first + ROWS_EMPTY).min(ROWS_MAX) {
        new_row(&mut html, row, "", "");
    }
    html.raw("</fieldset><p class=\"buttons\"><button class=\"main\">Save</button>");
    html.raw("<a href=\"/devices/").text(id).raw("\">Cancel</a></p></form>");
    Ok(form::page(ask, reader, status, format!("Notes of {id} · FleetD"), html))
}

/// An entry that is there, or one that was typed.
fn known_row(html: &mut Html, row: usize, entry: &Entry) {
    if entry.shown.is_empty() {
        return new_row(html, row, &entry.name, &entry.text);
    }
    html.raw("<div class=\"entry\"><label for=\"value-").text(row).raw("\">").text(&entry.name);
    html.raw("</label><input id=\"value-").text(row);
    if can_be_edited(&entry.text) && can_be_edited(&entry.name) {
        html.raw("\" name=\"value-").text(row).raw("\" autocomplete=\"off\" value=\"");
    } else {
        html.raw("\" disabled title=\"It cannot be typed in one line\" value=\"");
    }
    html.text(&entry.text).raw("\">");
    if !can_be_edited(&entry.name) {
        html.raw("</div>");
        return;
    }
    form::hidden(html, &format!("name-{row}"), &entry.name);
    form::hidden(html, &format!("shown-{row}"), &entry.shown);
    html.raw("<label class=\"gone\"><input type=\"checkbox\" value=\"1\" ");
    html.raw("name=\"gone-").text(row).raw(if entry.is_gone { "\" checked>" } else { "\">" });
    html.raw("remove</label></div>");
}

/// An entry that is not there yet.
fn new_row(html: &mut Html, row: usize, name: &str, text: &str) {
    html.raw("<div class=\"entry\"><input name=\"name-").text(row).raw("\" maxlength=\"");
    html.text(METADATA_NAME_BYTES_MAX).raw("\" autocapitalize=\"off\" autocomplete=\"off\" ");
    html.raw("placeholder=\"name\" aria-label=\"Name of a new entry\" value=\"").text(name);
    html.raw("\"><input name=\"value-").text(row).raw("\" autocomplete=\"off\" ");
    html.raw("placeholder=\"value\" aria-label=\"Value of a new entry\" value=\"").text(text);
    html.raw("\"></div>");
}
