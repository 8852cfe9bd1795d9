//! What somebody may have meant whose filter found nothing: `tag:eu-wset` → `tag:eu-west`.

use super::tree::{Node, Op, Target, Term};
use super::value::{Value, closed_words};
use super::{Filter, Subject, Words};
use crate::field::Field;
use crate::near;

/// Terms that are looked at, and values of a list; each may cost a walk through all devices.
const TERMS_MAX: usize = 8;

/// A filter that is nearly the one that was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Suggestion {
    /// The term that differs.
    pub term: String,
    /// The whole filter with it.
    pub filter: String,
}

/// The nearest filter in whose place this one may have been typed, if a value in it is one that no
/// device has. Safe to show.
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

/// The terms that must hold for something to be found.
fn collect<'a>(node: &'a Node, terms: &mut Vec<&'a Term>) {
    match node {
        Node::Every(nodes) | Node::Any(nodes) => {
            for node in nodes {
                collect(node, terms);
            }
        }
        Node::Term(term @ (Term::Compare(_, Op::Equal, _) | Term::In(..)))
            if terms.len() < TERMS_MAX =>
        {
            terms.push(term);
        }
        // What must not hold, or asks for no certain word.
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

/// A term with one value replaced by the nearest that some device has.
fn correct<S: Subject>(term: &Term, subjects: &(impl Iterator<Item = S> + Clone)) -> Option<Term> {
    match term {
        Term::Compare(target, op, value) => match nearest(target, value, subjects)? {
            Near::Value(near) => Some(Term::Compare(target.clone(), *op, Value::text(*op, &near))),
            Near::Field(field, value) => Some(Term::Compare(Target::Field(field), *op, value)),
        },
        Term::In(target, values) => {
            values.iter().take(TERMS_MAX).enumerate().find_map(|(index, value)| {
                let Near::Value(near) = nearest(target, value, subjects)? else { return None };
                let mut values = values.clone();
                values[index] = Value::text(Op::Equal, &near);
                Some(Term::In(target.clone(), values))
            })
        }
        Term::Has(_) | Term::Word(_) => None,
    }
}

/// What was meant.
enum Near {
    /// Another value.
    Value(String),
    /// A field, with this value, where an entry was named that no device has.
    Field(Field, Value),
}

fn nearest<S: Subject>(
    target: &Target,
    value: &Value,
    subjects: &(impl Iterator<Item = S> + Clone),
) -> Option<Near> {
    // A number, or one of a few known words, was surely meant as it stands.
    let Value::Text(pattern, None) = value else { return None };
    if !pattern.is_plain() || closed_words(target).is_some() {
        return None;
    }
    let wanted = pattern.raw().to_lowercase();
    let (mut is_known, mut is_used) = (false, false);
    let mut best: Option<(usize, String)> = None;
    for subject in subjects.clone() {
        is_known |= target.any_text(&subject, &mut |text| {
            is_used = true;
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
    match (best, target) {
        (Some((_, value)), _) => Some(Near::Value(value)),
        (None, Target::Entry(name)) if !is_used => {
            let names = Field::all().map(|field| field.spec().name);
            let field = Field::named(near::nearest(name, names)?)?;
            let value = Value::read(&Target::Field(field), Op::Equal, pattern.raw()).ok()?;
            Some(Near::Field(field, value))
        }
        (None, _) => None,
    }
}
