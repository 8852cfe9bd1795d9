//! What can be wrong with one line, in words for whoever sent it.

use fleet_core::untrusted::escaped;

/// Why a line is none. Names are shown escaped and cut.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum LineError {
    /// Bytes that are no UTF-8.
    #[error("not UTF-8")]
    NotText,
    /// Nothing before the tags.
    #[error("no measurement")]
    NoMeasurement,
    /// Nothing after the tags.
    #[error("no fields")]
    NoFields,
    /// A tag that is not `name=value`.
    #[error("tag {tag}: not of the form name=value")]
    Tag { tag: String },
    /// A field that is not `name=value`.
    #[error("field {field}: not of the form name=value")]
    Field { field: String },
    /// A value that is none.
    #[error("field {field}: {value} is not a number, a boolean or a string in quotes")]
    Value { field: String, value: String },
    /// A value that no number can hold.
    #[error("field {field}: {value} is too large")]
    TooLarge { field: String, value: String },
    /// A string without its end.
    #[error("field {field}: a string without closing quote")]
    OpenString { field: String },
    /// What stands where the time should.
    #[error("the time is not a whole number")]
    Time,
}

impl LineError {
    pub(super) fn tag(tag: &str) -> Self {
        Self::Tag { tag: escaped(tag) }
    }

    pub(super) fn field(field: &str) -> Self {
        Self::Field { field: escaped(field) }
    }
}
