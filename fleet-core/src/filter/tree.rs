//! A filter as a tree, and its one spelling.

use std::collections::BTreeSet;
use std::fmt::{self, Display as _};

use super::pattern::Word;
use super::scan::{is_keyword, is_plain_name, is_plain_value, meant_keyword};
use super::value::Value;
use crate::field::{Field, Kind};

/// A filter or a part of one. Its depth is at most twice `FILTER_DEPTH_MAX`.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Node {
    /// All of these hold; with none of them, always.
    Every(Vec<Self>),
    /// At least one of these holds.
    Any(Vec<Self>),
    /// This does not hold.
    Not(Box<Self>),
    /// One question.
    Term(Term),
}

/// One question about a device.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Term {
    /// Whether there is a value.
    Has(Target),
    /// Whether id, name or a tag is like a word.
    Word(Word),
    /// How the value compares.
    Compare(Target, Op, Value),
    /// Whether the value is one of these.
    In(Target, Vec<Value>),
}

/// What is looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// A field of every device.
    Field(Field),
    /// A metadata entry.
    Entry(String),
}

/// How two values compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Op {
    Unequal,
    AtMost,
    AtLeast,
    Equal,
    Less,
    More,
    Like,
}

impl Node {
    /// The filter that asks for nothing.
    pub(super) fn everything() -> Self {
        Self::Every(Vec::new())
    }

    /// All of these; what is all of some already is not wrapped again.
    pub(super) fn every(nodes: Vec<Self>) -> Self {
        let flat = nodes.into_iter().flat_map(|node| match node {
            Self::Every(inner) => inner,
            other => vec![other],
        });
        one_or(flat.collect(), Self::Every)
    }

    /// Any of these; what is any of some already is not wrapped again.
    pub(super) fn any(nodes: Vec<Self>) -> Self {
        let flat = nodes.into_iter().flat_map(|node| match node {
            Self::Any(inner) => inner,
            other => vec![other],
        });
        one_or(flat.collect(), Self::Any)
    }

    /// What holds together: the parts that all have to hold, or the one that there is.
    pub(super) fn parts(&self) -> &[Self] {
        match self {
            Self::Every(nodes) => nodes,
            other => std::slice::from_ref(other),
        }
    }

    /// Adds the fields that it looks at.
    pub(super) fn add_fields(&self, fields: &mut BTreeSet<Field>) {
        match self {
            Self::Every(nodes) | Self::Any(nodes) => {
                for node in nodes {
                    node.add_fields(fields);
                }
            }
            Self::Not(node) => node.add_fields(fields),
            Self::Term(Term::Word(_)) => {
                fields.extend([Field::Device, Field::Name, Field::Tags]);
            }
            Self::Term(term) => {
                fields.extend(term.target().map(|target| match target {
                    Target::Field(field) => *field,
                    Target::Entry(_) => Field::Metadata,
                }));
            }
        }
    }

    /// Whether it looks at a field that changes with every report.
    pub(super) fn uses_fast(&self) -> bool {
        match self {
            Self::Every(nodes) | Self::Any(nodes) => nodes.iter().any(Self::uses_fast),
            Self::Not(node) => node.uses_fast(),
            Self::Term(term) => term.target().is_some_and(Target::is_fast),
        }
    }
}

fn one_or(mut nodes: Vec<Node>, many: fn(Vec<Node>) -> Node) -> Node {
    match nodes.pop() {
        Some(node) if nodes.is_empty() => node,
        Some(node) => {
            nodes.push(node);
            many(nodes)
        }
        None => many(nodes),
    }
}

impl Term {
    /// What it looks at; a word looks at several things.
    pub(super) fn target(&self) -> Option<&Target> {
        match self {
            Self::Has(target) | Self::Compare(target, ..) | Self::In(target, _) => Some(target),
            Self::Word(_) => None,
        }
    }
}

impl Target {
    /// What it holds; an entry holds words.
    pub(super) fn kind(&self) -> Kind {
        match self {
            Self::Field(field) => field.spec().kind,
            Self::Entry(_) => Kind::Text,
        }
    }

    fn is_fast(&self) -> bool {
        matches!(self, Self::Field(field) if field.spec().is_fast)
    }
}

impl Op {
    /// All of them, those first whose symbols begin with another's.
    pub(super) const ALL: [Self; 7] = [
        Self::Unequal,
        Self::AtMost,
        Self::AtLeast,
        Self::Equal,
        Self::Less,
        Self::More,
        Self::Like,
    ];

    /// How it is written.
    pub(super) fn symbol(self) -> &'static str {
        match self {
            Self::Unequal => "!=",
            Self::AtMost => "<=",
            Self::AtLeast => ">=",
            Self::Equal => "=",
            Self::Less => "<",
            Self::More => ">",
            Self::Like => "~",
        }
    }

    /// Whether it asks which of two values is more.
    pub(super) fn is_order(self) -> bool {
        matches!(self, Self::AtMost | Self::AtLeast | Self::Less | Self::More)
    }
}

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Every(nodes) => joined(f, nodes, " and ", |node| matches!(node, Self::Any(_))),
            Self::Any(nodes) => joined(f, nodes, " or ", |_| false),
            Self::Not(node) => {
                f.write_str("not ")?;
                bracketed(f, node, matches!(**node, Self::Every(_) | Self::Any(_)))
            }
            Self::Term(term) => term.fmt(f),
        }
    }
}

fn joined(
    f: &mut fmt::Formatter<'_>,
    nodes: &[Node],
    between: &str,
    needs_brackets: fn(&Node) -> bool,
) -> fmt::Result {
    for (index, node) in nodes.iter().enumerate() {
        if index > 0 {
            f.write_str(between)?;
        }
        bracketed(f, node, needs_brackets(node))?;
    }
    Ok(())
}

fn bracketed(f: &mut fmt::Formatter<'_>, node: &Node, needs_brackets: bool) -> fmt::Result {
    if needs_brackets { write!(f, "({node})") } else { node.fmt(f) }
}

impl fmt::Display for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Has(target) => write!(f, "has {target}"),
            Self::Word(word) => word.fmt(f),
            Self::Compare(target @ Target::Field(Field::Tags), Op::Equal, value) => {
                write!(f, "{target}:{value}")
            }
            Self::Compare(target, op, value) => write!(f, "{target}{}{value}", op.symbol()),
            Self::In(target, values) => {
                write!(f, "{target} in (")?;
                for (index, value) in values.iter().enumerate() {
                    let comma = if index > 0 { "," } else { "" };
                    write!(f, "{comma}{value}")?;
                }
                f.write_str(")")
            }
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Field(field) => field.fmt(f),
            Self::Entry(name) if !is_plain_name(name) => {
                f.write_str("metadata.")?;
                write_quoted(f, name)
            }
            Self::Entry(name) if is_taken(name) => write!(f, "metadata.{name}"),
            Self::Entry(name) => f.write_str(name),
        }
    }
}

/// Whether a name alone would be read as something else than the entry of this name.
fn is_taken(name: &str) -> bool {
    let lower = name.to_ascii_lowercase();
    is_keyword(name) || Field::named(&lower).is_some() || lower.starts_with("metadata.")
}

/// Writes a value so that it reads back: in quotes if it needs them.
pub(super) fn write_value(f: &mut fmt::Formatter<'_>, value: &str) -> fmt::Result {
    if is_plain_value(value) { f.write_str(value) } else { write_quoted(f, value) }
}

/// Writes a bare word so that it reads back.
pub(super) fn write_word(f: &mut fmt::Formatter<'_>, word: &str) -> fmt::Result {
    let is_plain = is_plain_name(word) && !is_keyword(word) && meant_keyword(word).is_none();
    if is_plain { f.write_str(word) } else { write_quoted(f, word) }
}

fn write_quoted(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    write!(f, "\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}
