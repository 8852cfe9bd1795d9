//! The filter language: `type=raspberrypi and (site in (a,b) or tag:canary) and not version<1.2`.
//!
//! One parser for `--filter`, `?filter=` and the console's `/`. Words are those of
//! [`crate::field`]; any other name is a metadata entry, and `metadata.status` is the entry whose
//! name is also a field's.
//!
//! ```text
//! filter   = [ or ]                      nothing matches everything
//! or       = and { "or" and }
//! and      = not { [ "and" ] not }       a space between two terms means and
//! not      = { "not" | "!" } ( "(" or ")" | term )
//! term     = field op value | field "in" "(" value { "," value } ")" | "tag" ":" value | "has" field
//! op       = "=" | "!=" | "<" | "<=" | ">" | ">=" | "~"
//! ```
//!
//! Words are compared without regard to case. `=` takes `*` for any characters; `~` means
//! "contains" and takes `*`, `?` for one character, and `^` and `$` for the beginning and the end.
//! Of several tags, and of a metadata entry that is a list, one that fits suffices. Entries are
//! compared as numbers when both sides are numbers. What a device does not have fits no comparison:
//! `cpu<50` and `site=lyon` are false without a value, `!=` and `not` are therefore true.
//!
//! A filter's depth and length are bounded, so nothing here can run away.

mod derived;
mod error;
mod evaluate;
mod help;
mod order;
mod parse;
mod pattern;
mod scan;
mod subject;
mod suggest;
mod tree;
mod value;
pub mod version;

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use serde_json::Value;

use crate::api::DeviceStatus;
use crate::field::Field;
use crate::time::Timestamp;

pub use crate::api::ConfigState;
pub use derived::{tags, why};
pub use error::FilterError;
pub use help::HELP;
pub use order::{compare, urgency};
pub use suggest::{Suggestion, missing, suggestion};

use tree::Node;

/// What a filter and a sort key look at. A field that is not there is `None`.
pub trait Subject {
    /// A field that holds words; for `Field::Metadata` and `Field::Tags`, nothing.
    fn text(&self, field: Field) -> Option<Cow<'_, str>>;
    /// How it is doing.
    fn status(&self) -> DeviceStatus;
    /// A percentage or temperature.
    fn number(&self, field: Field) -> Option<f64>;
    /// When something was; ages are counted from there.
    fn time(&self, field: Field) -> Option<Timestamp>;
    /// A metadata entry.
    fn metadata(&self, name: &str) -> Option<&Value>;
    /// The names of all metadata entries.
    fn entries(&self) -> Box<dyn Iterator<Item = &str> + '_>;
}

/// How bare words are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Words {
    /// They match if their letters come in this order in id, name or tags: the console.
    Fuzzy,
    /// They are an error that says how to write it: everywhere else.
    Refused,
}

/// A filter that has been read. Its `Display` is its one spelling, which is safe to show and reads
/// back as the same filter.
#[derive(Clone, Debug, PartialEq)]
pub struct Filter {
    root: Node,
}

impl Filter {
    /// Reads a filter. An empty text matches everything.
    pub fn parse(text: &str, words: Words) -> Result<Self, FilterError> {
        parse::parse(text, words).map(|root| Self { root })
    }

    /// Whether a device is what the filter asks for.
    pub fn matches(&self, subject: &dyn Subject, now: Timestamp) -> bool {
        self.root.holds(subject, now)
    }

    /// Whether it matches everything because it asks for nothing.
    pub fn is_empty(&self) -> bool {
        self.root == Node::everything()
    }

    /// What both filters ask for.
    #[must_use]
    pub fn and(&self, other: &Self) -> Self {
        Self { root: Node::every(vec![self.root.clone(), other.root.clone()]) }
    }

    /// Whether everything that another filter asks for is asked for here, word by word, so that
    /// what this one finds the other one finds, too.
    pub fn is_within(&self, other: &Self) -> bool {
        let own = self.root.parts();
        other.root.parts().iter().all(|part| own.contains(part))
    }

    /// The fields that it looks at.
    pub fn fields(&self) -> BTreeSet<Field> {
        let mut fields = BTreeSet::new();
        self.root.add_fields(&mut fields);
        fields
    }

    /// Whether it names a field that changes with every report.
    pub fn uses_fast(&self) -> bool {
        self.root.uses_fast()
    }
}

impl Default for Filter {
    /// Everything.
    fn default() -> Self {
        Self { root: Node::everything() }
    }
}

impl FromStr for Filter {
    type Err = FilterError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text, Words::Refused)
    }
}

impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.root.fmt(f)
    }
}

#[cfg(test)]
mod tests;
