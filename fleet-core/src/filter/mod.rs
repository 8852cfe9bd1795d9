//! The filter language: `type=raspberrypi and (site in (a,b) or tag:canary) and not version<1.2`.
//!
//! One parser for `--filter`, `?filter=` and the console's `/`. Words are those of
//! [`crate::field`]; any other name is a metadata entry.

use std::borrow::Cow;

use serde_json::Value;

use crate::api::DeviceStatus;
use crate::field::Field;
use crate::time::Timestamp;

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
}

/// How bare words are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Words {
    /// They match if their letters come in this order in id, name or tags: the console.
    Fuzzy,
    /// They are an error that says how to write it: everywhere else.
    Refused,
}
