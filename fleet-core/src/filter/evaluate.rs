//! Whether a device is what a filter asks for. Nothing is stored meanwhile: ten thousand devices
//! are asked at every key that somebody types.

use std::borrow::Cow;
use std::cmp::Ordering;

use serde_json::Value as Json;

use super::pattern::Pattern;
use super::tree::{Node, Op, Target, Term};
use super::value::{Value, number};
use super::{Subject, pattern, tags, version};
use crate::field::{Field, Kind};
use crate::time::Timestamp;

impl Node {
    /// Whether it holds of a device at a time. As deep as the tree, which is bounded.
    pub(super) fn holds(&self, subject: &dyn Subject, now: Timestamp) -> bool {
        match self {
            Self::Every(nodes) => nodes.iter().all(|node| node.holds(subject, now)),
            Self::Any(nodes) => nodes.iter().any(|node| node.holds(subject, now)),
            Self::Not(node) => !node.holds(subject, now),
            Self::Term(term) => term.holds(subject, now),
        }
    }
}

impl Term {
    /// Whether it holds of a device at a time.
    pub(super) fn holds(&self, subject: &dyn Subject, now: Timestamp) -> bool {
        match self {
            Self::Has(target) => target.is_there(subject),
            Self::Word(word) => {
                [Field::Device, Field::Name, Field::Tags].into_iter().any(|field| {
                    Target::Field(field).any_text(subject, &mut |text| word.matches(text))
                })
            }
            Self::Compare(target, Op::Unequal, value) => {
                !target.compares(Op::Equal, value, subject, now)
            }
            Self::Compare(target, op, value) => target.compares(*op, value, subject, now),
            Self::In(target, values) => {
                values.iter().any(|value| target.compares(Op::Equal, value, subject, now))
            }
        }
    }
}

impl Target {
    /// Calls a function with each text that a device has here, until one will do.
    pub(super) fn any_text(
        &self,
        subject: &dyn Subject,
        test: &mut dyn FnMut(&str) -> bool,
    ) -> bool {
        match self {
            Self::Field(Field::Tags) => tags(subject.metadata("tags")).any(test),
            Self::Field(field) => subject.text(*field).is_some_and(|text| test(&text)),
            Self::Entry(name) => any_scalar(subject.metadata(name), |scalar| match scalar {
                Json::Number(number) => test(&number.to_string()),
                other => plain_text(other).is_some_and(|text| test(&text)),
            }),
        }
    }

    /// Whether a device has a value here.
    pub(super) fn is_there(&self, subject: &dyn Subject) -> bool {
        match self {
            Self::Entry(name) => subject.metadata(name).is_some_and(|entry| !entry.is_null()),
            Self::Field(field) => match field.spec().kind {
                Kind::Percent | Kind::Celsius => subject.number(*field).is_some(),
                Kind::Age => subject.time(*field).is_some(),
                Kind::Text | Kind::Version | Kind::Status | Kind::Words => {
                    self.any_text(subject, &mut |text| !text.is_empty())
                }
            },
        }
    }

    /// Whether a device has a value here, and it compares like this. `op` is not `!=`, which is
    /// the contrary of `=`.
    fn compares(&self, op: Op, value: &Value, subject: &dyn Subject, now: Timestamp) -> bool {
        match (self, value) {
            (Self::Entry(name), Value::Text(pattern, Some(wanted))) if op != Op::Like => {
                any_scalar(subject.metadata(name), |scalar| {
                    scalar_compares(scalar, op, pattern, *wanted)
                })
            }
            (_, Value::Text(pattern, _)) => {
                self.any_text(subject, &mut |text| text_compares(text, op, pattern))
            }
            (_, Value::Version(wanted)) => {
                self.any_text(subject, &mut |text| op.allows(version::order(text, wanted)))
            }
            (Self::Field(field), Value::Number(wanted)) => {
                let found = subject.number(*field).and_then(|found| found.partial_cmp(wanted));
                found.is_some_and(|order| op.allows(order))
            }
            (Self::Field(field), Value::Age(wanted)) => {
                let since = subject.time(*field);
                since.is_some_and(|since| op.allows(now.since(since).cmp(wanted)))
            }
            // Entries are read as texts.
            (Self::Entry(_), Value::Number(_) | Value::Age(_)) => false,
        }
    }
}

impl Op {
    /// Whether it holds of two values in this order.
    fn allows(self, order: Ordering) -> bool {
        match self {
            Self::Equal | Self::Like => order.is_eq(),
            Self::Unequal => order.is_ne(),
            Self::Less => order.is_lt(),
            Self::AtMost => order.is_le(),
            Self::More => order.is_gt(),
            Self::AtLeast => order.is_ge(),
        }
    }
}

fn text_compares(text: &str, op: Op, pattern: &Pattern) -> bool {
    if op.is_order() {
        op.allows(pattern::order(text, pattern.raw()))
    } else {
        pattern.matches(text)
    }
}

/// As numbers if the device's value is one too.
fn scalar_compares(scalar: &Json, op: Op, pattern: &Pattern, wanted: f64) -> bool {
    let text = plain_text(scalar);
    let found = match &text {
        Some(text) => number(text),
        None => scalar.as_f64(),
    };
    match (found, text) {
        (Some(found), _) => found.partial_cmp(&wanted).is_some_and(|order| op.allows(order)),
        (None, Some(text)) => text_compares(&text, op, pattern),
        (None, None) => false,
    }
}

/// Whether a metadata entry, or one of those in it if it is a list, passes a test.
fn any_scalar(entry: Option<&Json>, mut test: impl FnMut(&Json) -> bool) -> bool {
    match entry {
        Some(Json::Array(entries)) => entries.iter().any(test),
        Some(entry) => test(entry),
        None => false,
    }
}

/// The text of what is no number. Objects, and lists in lists, can only be asked for with `has`.
fn plain_text(scalar: &Json) -> Option<Cow<'_, str>> {
    match scalar {
        Json::String(text) => Some(Cow::Borrowed(text)),
        Json::Bool(value) => Some(Cow::Borrowed(if *value { "true" } else { "false" })),
        Json::Number(_) | Json::Null | Json::Array(_) | Json::Object(_) => None,
    }
}
