//! What somebody may have meant whose filter found nothing: `tag:eu-wset` → `tag:eu-west`, and
//! `sitte=lyon` → `site=lyon`.

use std::collections::BTreeSet;

use super::tree::{Node, Op, Target, Term};
use super::value::{Value, check_operator, closed_words};
use super::{Filter, Subject, Words};
use crate::field::Field;
use crate::near;

/// Terms that are looked at, and values of a list; each may cost a walk through all devices.
const TERMS_MAX: usize = 8;
/// Names of entries that are compared.
const NAMES_MAX: usize = 1_000;

/// A filter that is nearly the one that was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Suggestion {
    /// The term that differs.
    pub term: String,
    /// The whole filter with it.
    pub filter: String,
}

/// The nearest filter in whose place this one may have been typed, if a value or a name in it is one
/// that no device has. Safe to show.
pub fn suggestion<S: Subject>(
    text: &str,
    subjects: impl Iterator<Item = S> + Clone,
) -> Option<Suggestion> {
    let filter = Filter::parse(text, Words::Fuzzy).ok()?;
    let mut terms = Vec::new();
    collect(&filter.root, &mut terms);
    let mut corrected = terms.iter().map(|term| (*term, correct(term, &subjects)));
    let (wrong, right) = corrected.find_map(|(wrong, right)| Some((wrong, right?)))?;
    let root = replaced(&filter.root, wrong, &right);
    // What a device calls itself may be too long or not fit to be shown.
    let filter = Filter::parse(&root.to_string(), Words::Fuzzy).ok()?;
    Some(Suggestion { term: right.to_string(), filter: filter.to_string() })
}

/// The first field or entry in a filter that none of some devices has, as filters write it. Safe to
/// show.
pub fn missing<S: Subject>(
    text: &str,
    subjects: impl Iterator<Item = S> + Clone,
) -> Option<String> {
    subjects.clone().next()?;
    let filter = Filter::parse(text, Words::Fuzzy).ok()?;
    let mut terms = Vec::new();
    collect(&filter.root, &mut terms);
    let mut targets = terms.into_iter().filter_map(Term::target);
    targets.find(|target| is_missing(target, &subjects)).map(ToString::to_string)
}

fn is_missing<S: Subject>(target: &Target, subjects: &(impl Iterator<Item = S> + Clone)) -> bool {
    !subjects.clone().any(|subject| target.is_there(&subject))
}

/// The terms that must hold for something to be found.
fn collect<'a>(node: &'a Node, terms: &mut Vec<&'a Term>) {
    match node {
        Node::Every(nodes) | Node::Any(nodes) => {
            for node in nodes {
                collect(node, terms);
            }
        }
        Node::Term(term) if terms.len() < TERMS_MAX => terms.push(term),
        // What must not hold.
        Node::Not(_) | Node::Term(_) => {}
    }
}

fn replaced(node: &Node, wrong: &Term, right: &Term) -> Node {
    let each = |nodes: &[Node]| nodes.iter().map(|node| replaced(node, wrong, right)).collect();
    match node {
        Node::Every(nodes) => Node::Every(each(nodes)),
        Node::Any(nodes) => Node::Any(each(nodes)),
        Node::Term(term) if term == wrong => Node::Term(right.clone()),
        other => other.clone(),
    }
}

/// A term with what it asks about, or one value, replaced by the nearest that some device has.
fn correct<S: Subject>(term: &Term, subjects: &(impl Iterator<Item = S> + Clone)) -> Option<Term> {
    if let Some(target @ Target::Entry(name)) = term.target()
        && is_missing(target, subjects)
    {
        return renamed(term, &nearest_name(name, subjects)?);
    }
    match term {
        Term::Compare(target, op @ Op::Equal, value) => {
            let near = nearest_value(target, value, subjects)?;
            Some(Term::Compare(target.clone(), *op, Value::text(*op, &near)))
        }
        Term::In(target, values) => {
            values.iter().take(TERMS_MAX).enumerate().find_map(|(index, value)| {
                let near = nearest_value(target, value, subjects)?;
                let mut values = values.clone();
                values[index] = Value::text(Op::Equal, &near);
                Some(Term::In(target.clone(), values))
            })
        }
        Term::Compare(..) | Term::Has(_) | Term::Word(_) => None,
    }
}

/// What a term about an entry would ask about something else, if that can be asked so.
fn renamed(term: &Term, target: &Target) -> Option<Term> {
    let read = |op, value: &Value| {
        check_operator(target, op).ok()?;
        // Entries are compared with texts alone.
        let Value::Text(pattern, _) = value else { return None };
        Value::read(target, op, pattern.raw()).ok()
    };
    Some(match term {
        Term::Has(_) => Term::Has(target.clone()),
        Term::Compare(_, op, value) => Term::Compare(target.clone(), *op, read(*op, value)?),
        Term::In(_, values) => {
            let values: Option<_> = values.iter().map(|value| read(Op::Equal, value)).collect();
            Term::In(target.clone(), values?)
        }
        Term::Word(_) => return None,
    })
}

/// The field, or the entry of some device, whose name is nearest.
fn nearest_name<S: Subject>(
    name: &str,
    subjects: &(impl Iterator<Item = S> + Clone),
) -> Option<Target> {
    let mut entries = BTreeSet::new();
    for subject in subjects.clone() {
        for entry in subject.entries() {
            if entries.len() < NAMES_MAX && !entries.contains(entry) {
                entries.insert(entry.to_owned());
            }
        }
    }
    let fields = Field::all().map(|field| field.spec().name);
    let near = near::nearest(name, fields.chain(entries.iter().map(String::as_str)))?;
    Some(Field::named(near).map_or_else(|| Target::Entry(near.to_owned()), Target::Field))
}

/// The value of some device that is nearest to one that no device has.
fn nearest_value<S: Subject>(
    target: &Target,
    value: &Value,
    subjects: &(impl Iterator<Item = S> + Clone),
) -> Option<String> {
    // A number, or one of a few known words, was surely meant as it stands.
    let Value::Text(pattern, None) = value else { return None };
    if !pattern.is_plain() || closed_words(target).is_some() {
        return None;
    }
    let wanted = pattern.raw().to_lowercase();
    let mut best: Option<(usize, String)> = None;
    for subject in subjects.clone() {
        let is_known = target.any_text(&subject, &mut |text| {
            if let Some(distance) = near::distance(&wanted, &text.to_lowercase())
                && best.as_ref().is_none_or(|(least, _)| distance < *least)
            {
                best = Some((distance, text.to_owned()));
            }
            pattern.matches(text)
        });
        if is_known {
            return None;
        }
    }
    best.map(|(_, value)| value)
}
