//! Taking back what was done here last, where that can be: what was noted of devices, a
//! configuration, a deletion, a command that a device has not begun, the pause of a batch. It is
//! shown first and asked about, and what somebody else has changed meanwhile is left as it is.

use std::collections::BTreeSet;

use fleet_core::api::{CommandView, DeviceUpdate, TagUpdate};
use fleet_core::filter;
use fleet_core::id::Uid;
use fleet_core::untrusted::{Untrusted, escaped};
use serde_json::{Map, Value};

use super::{Chosen, Deed, Plan, SAMPLE_LEN, Step, confirm, lock, view_words, words};
use crate::effect::{BatchChange, Change};
use crate::state::Desk;
use crate::state::batches::devices;
use crate::state::data::Row;
use crate::state::popup::{Command, Confirm, Popup};

/// What was done here last, as far as it can be taken back.
#[derive(Clone, Debug, Default)]
pub enum Last {
    /// Nothing was done.
    #[default]
    Nothing,
    /// It cannot be, and why.
    Final(String),
    /// What was noted or configured: how it was before.
    Changed(Back),
    /// A command was given.
    Given(Box<CommandView>),
    /// A batch was begun, of which nothing but the rest can be called off.
    Begun(Uid),
    /// A batch was paused or continued, which is called so.
    Batch {
        /// Which.
        id: Uid,
        /// What is done about it to take that back.
        change: BatchChange,
    },
}

/// How devices were before.
#[derive(Clone, Debug)]
pub struct Back {
    /// What was done.
    deed: Deed,
    /// What was set, and what was there before.
    steps: Vec<(Step, Change)>,
}

impl Back {
    /// What takes a plan back; nothing if that cannot be.
    pub(super) fn of(plan: &Plan, desk: &Desk) -> Option<Self> {
        let before = |step: &Step| {
            let row = desk.data.device(step.uid)?;
            Some((step.clone(), before(&step.change, row)?))
        };
        let steps: Option<Vec<_>> = plan.steps.iter().map(before).collect();
        Some(Self { deed: plan.deed, steps: steps.filter(|steps| !steps.is_empty())? })
    }

    /// Notes that a device was not changed.
    pub(super) fn leave_out(&mut self, uid: Uid) {
        self.steps.retain(|(step, _)| step.uid != uid);
    }

    /// What is done to take it back, and how many devices are left out because somebody else has
    /// changed them since.
    fn plan(&self, desk: &Desk) -> (Plan, usize) {
        // What was deleted is nowhere to be seen; the server knows whether its place is free.
        let is_ours = |(step, before): &&(Step, Change)| {
            step.change == Change::Delete
                || desk
                    .data
                    .device(step.uid)
                    .is_some_and(|row| has(row, &step.change) || has(row, before))
        };
        let steps: Vec<Step> = self
            .steps
            .iter()
            .filter(is_ours)
            .map(|(step, before)| Step { change: before.clone(), ..step.clone() })
            .collect();
        let left_out = self.steps.len() - steps.len();
        let deed = match self.deed {
            Deed::Interval => Deed::GoBack,
            Deed::Delete => Deed::Restore,
            deed => deed,
        };
        (Plan { deed, typed: "as it was before".to_owned(), steps }, left_out)
    }
}

/// The change that brings back what a device has now.
fn before(change: &Change, row: &Row) -> Option<Change> {
    match change {
        Change::Update(update) => {
            let name = row.index.name.as_ref().map(|name| name.raw().to_owned());
            let metadata = update.metadata.as_ref().and_then(Value::as_object).map(|entries| {
                let now = |key: &String| row.index.metadata.get(key).cloned();
                let entries = entries.keys().map(|key| (key.clone(), now(key).unwrap_or_default()));
                Value::Object(entries.collect::<Map<String, Value>>())
            });
            let name = update.name.as_ref().map(|_| name.unwrap_or_default());
            // It names only what was otherwise.
            let back = |tags: TagUpdate| TagUpdate { add: tags.remove, remove: tags.add };
            let tags = update.tags.clone().map(back);
            Some(Change::Update(DeviceUpdate { name, metadata, tags }))
        }
        Change::Interval(_) | Change::GoBack { .. } if row.index.config_version > 0 => {
            let to = row.index.config_version;
            Some(Change::GoBack { to, from: to + 1 })
        }
        Change::Delete => Some(Change::Restore),
        _ => None,
    }
}

/// Whether a device has what a change sets. The server looks after versions of configurations.
fn has(row: &Row, change: &Change) -> bool {
    let Change::Update(update) = change else { return true };
    let name = row.index.name.as_ref().map(Untrusted::raw).unwrap_or_default();
    let has_name = update.name.as_ref().is_none_or(|wanted| wanted == name);
    let entries = update.metadata.as_ref().and_then(Value::as_object);
    let has_entry = |(key, value): (&String, &Value)| {
        row.index.metadata.get(key).unwrap_or(&Value::Null) == value
    };
    let tags: BTreeSet<&str> = filter::tags(row.index.metadata.get("tags")).collect();
    let has_tag = |tag: &String| tags.contains(tag.as_str());
    has_name
        && entries.is_none_or(|entries| entries.iter().all(has_entry))
        && update.tags.as_ref().is_none_or(|wanted| {
            wanted.add.iter().all(has_tag) && !wanted.remove.iter().any(has_tag)
        })
}

/// A change in words that are safe to show.
fn told(change: &Change) -> String {
    match change {
        Change::Update(update) => {
            let name = update.name.as_ref().map(|name| match name.as_str() {
                "" => "no name".to_owned(),
                name => format!("name {}", escaped(name)),
            });
            let entries = update.metadata.as_ref().and_then(Value::as_object);
            let entries = entries.into_iter().flatten().map(|(key, value)| {
                let key = escaped(key);
                match value {
                    Value::Null => format!("no {key}"),
                    value => {
                        format!("{key} {}", escaped(&value.to_string()))
                    }
                }
            });
            let signed = |sign: char, tags: &[String]| -> Vec<String> {
                tags.iter().map(|tag| format!("{sign}{}", escaped(tag))).collect()
            };
            let tags = update.tags.as_ref().map(|tags| {
                let words = [signed('+', &tags.add), signed('-', &tags.remove)].concat();
                format!("tags {}", words.join(" "))
            });
            name.into_iter().chain(entries).chain(tags).collect::<Vec<_>>().join(", ")
        }
        Change::GoBack { to, .. } => format!("configuration as at r{to}, as a new version"),
        Change::Restore => "in the fleet, with all that was kept of it".to_owned(),
        _ => String::new(),
    }
}

/// Asks whether what was done last is to be taken back.
pub fn undo(desk: &mut Desk) -> Option<Command> {
    if let Some(reason) = desk.why_not_change() {
        desk.warn(format!("not undone: {reason}"));
        return None;
    }
    match desk.last.clone() {
        Last::Nothing => desk.say("undo: none; nothing was done here yet"),
        Last::Final(reason) => desk.say(format!("undo: none; {reason}")),
        Last::Begun(id) => return Some(Command::TellLeft(id)),
        Last::Batch { id, change } => return Some(Command::AskBatch(id, change)),
        Last::Given(view) => {
            if !desk.followed.is_open(view.id) {
                desk.say(format!("undo: none; {} is over", view_words(&view)));
                return None;
            }
            let change = Change::TakeBack(view.id);
            let step = Step { uid: view.uid, id: view.device_id.clone(), change };
            let steps = vec![step];
            let plan = Plan { deed: Deed::TakeBack, typed: view_words(&view), steps };
            let chosen = Chosen::from(vec![view.uid]);
            desk.popup = Some(Popup::Confirm(confirm(plan, &chosen, desk)));
        }
        Last::Changed(back) => {
            let (plan, left_out) = back.plan(desk);
            if plan.steps.is_empty() {
                desk.say("undo: none; it was changed by somebody else since");
                return None;
            }
            desk.popup = Some(Popup::Confirm(question(plan, back.deed, left_out, desk)));
        }
    }
    None
}

fn question(plan: Plan, deed: Deed, left_out: usize, desk: &Desk) -> Confirm {
    let count = plan.steps.len();
    let subject = match plan.steps.as_slice() {
        [step] => step.id.to_string(),
        _ => devices(count),
    };
    let shown: Vec<String> = plan
        .steps
        .iter()
        .take(SAMPLE_LEN)
        .map(|step| format!("{}: {}", step.id, told(&step.change)))
        .collect();
    let lock = lock(&plan);
    let title = format!("Undo: {} {subject}", deed.verb());
    let mut question = Confirm::new(title, "set it back", lock, Command::Do(plan)).changing();
    question = question.line("server", words::server(desk));
    let mut label = "back to";
    for text in shown {
        question = question.line(label, text);
        label = "";
    }
    if count > SAMPLE_LEN {
        question = question.line("", format!("and {} more", count - SAMPLE_LEN));
    }
    if left_out > 0 {
        let text = format!("{left_out} that somebody else has changed since");
        question = question.line("left out", text);
    }
    let again = if deed == Deed::Delete { "delete it again" } else { "u again" };
    question.line("undo", again)
}
