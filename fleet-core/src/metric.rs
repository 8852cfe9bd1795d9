//! Samples: a metric's name, its labels, a number. A missing value is an absent sample, never
//! a zero.

use std::fmt;
use std::str::FromStr;

use bincode::{Decode, Encode};
use serde::{Deserialize, Serialize};

use crate::limits::{LABEL_BYTES_MAX, LABELS_MAX, METRIC_NAME_BYTES_MAX};

/// One number at one time. The time is the report's.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
pub struct Sample {
    /// The metric, such as `cpu_usage`. Checked by [`MetricName`] where it enters.
    pub name: String,
    /// What tells this series from its sisters, such as `core=3`; sorted by name.
    pub labels: Vec<(String, String)>,
    /// The value. Finite.
    pub value: f64,
}

impl Sample {
    /// A sample without labels.
    pub fn new(name: &str, value: f64) -> Self {
        Self { name: name.to_owned(), labels: Vec::new(), value }
    }

    /// A sample with one label.
    pub fn labelled(name: &str, label: &str, label_value: &str, value: f64) -> Self {
        let labels = vec![(label.to_owned(), label_value.to_owned())];
        Self { name: name.to_owned(), labels, value }
    }

    /// Says what is wrong with a sample from outside.
    pub fn validate(&self) -> Result<(), SampleError> {
        if !is_name(&self.name) {
            return Err(SampleError::Name);
        }
        if !self.value.is_finite() {
            return Err(SampleError::NotFinite);
        }
        if self.labels.len() > LABELS_MAX {
            return Err(SampleError::ManyLabels);
        }
        if !self.labels.is_sorted_by(|(one, _), (next, _)| one < next) {
            return Err(SampleError::Label);
        }
        for (name, value) in &self.labels {
            if name.is_empty() || name.len() > LABEL_BYTES_MAX || value.len() > LABEL_BYTES_MAX {
                return Err(SampleError::Label);
            }
        }
        Ok(())
    }
}

/// All that was collected at one time.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
pub struct Report {
    /// Milliseconds since 1970, by the sender's clock.
    pub at_millis: i64,
    /// The samples, at most `limits::REPORT_SAMPLES_MAX`.
    pub samples: Vec<Sample>,
}

/// A metric's name: letters, digits, `_ . : -`, beginning with a letter or `_`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MetricName(String);

impl MetricName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What is wrong with a sample.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum SampleError {
    /// The metric's name.
    #[error("not a metric name (letters, digits and _ . : -, at most {METRIC_NAME_BYTES_MAX})")]
    Name,
    /// NaN or an infinity.
    #[error("not a finite number")]
    NotFinite,
    /// Too many labels.
    #[error("more than {LABELS_MAX} labels")]
    ManyLabels,
    /// A label that is empty, overlong or out of order: two orders would be two series.
    #[error("a label is empty, longer than {LABEL_BYTES_MAX} bytes, said twice or out of order")]
    Label,
}

impl FromStr for MetricName {
    type Err = SampleError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if is_name(text) { Ok(Self(text.to_owned())) } else { Err(SampleError::Name) }
    }
}

/// Whether a text is a metric's name.
fn is_name(text: &str) -> bool {
    let begins = text.as_bytes().first().is_some_and(|byte| is_first(*byte));
    begins && text.len() <= METRIC_NAME_BYTES_MAX && text.bytes().all(is_inner)
}

fn is_first(byte: u8) -> bool {
    byte.is_ascii_alphabetic() || byte == b'_'
}

fn is_inner(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b':' | b'-')
}

/// A metric's name out of what somebody else calls it: each character that no name may have
/// becomes `_`, and one more comes before a digit or sign at the beginning. It may still be too long.
pub fn mended_name(text: &str) -> String {
    let mut name = String::with_capacity(text.len() + 1);
    if text.as_bytes().first().is_none_or(|byte| is_inner(*byte) && !is_first(*byte)) {
        name.push('_');
    }
    push_mended(&mut name, text);
    name
}

/// Adds to a name what somebody else calls the rest of it, as [`mended_name`] does.
pub fn push_mended(name: &mut String, text: &str) {
    if text.bytes().all(is_inner) {
        name.push_str(text);
    } else {
        let mended = |c: char| if u8::try_from(c).is_ok_and(is_inner) { c } else { '_' };
        name.extend(text.chars().map(mended));
    }
}

impl TryFrom<String> for MetricName {
    type Error = SampleError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<MetricName> for String {
    fn from(name: MetricName) -> Self {
        name.0
    }
}

impl fmt::Display for MetricName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_series_has_one_spelling() {
        let sample = |labels: &[(&str, &str)]| Sample {
            labels: labels.iter().map(|&(name, value)| (name.into(), value.into())).collect(),
            ..Sample::new("cpu_usage", 1.0)
        };
        assert_eq!(sample(&[("core", "1"), ("cpu", "0")]).validate(), Ok(()));
        for labels in [
            &[("cpu", "0"), ("core", "1")][..],
            &[("core", "1"), ("core", "2")],
            &[("core", "1"), ("core", "1")],
            &[("", "1")],
        ] {
            assert_eq!(sample(labels).validate(), Err(SampleError::Label), "{labels:?}");
        }
    }

    #[test]
    fn what_others_call_a_metric_becomes_a_name() {
        for (text, expected) in [
            ("cpu_usage", "cpu_usage"),
            ("disk.used:max-1", "disk.used:max-1"),
            ("% Processor Time", "__Processor_Time"),
            ("1m", "_1m"),
            ("-x", "_-x"),
            ("größe", "gr__e"),
            ("", "_"),
        ] {
            let name = mended_name(text);
            assert_eq!(name, expected);
            assert!(name.parse::<MetricName>().is_ok(), "{name}");
        }
    }

    #[test]
    fn numbers_and_names_are_checked() {
        assert_eq!(Sample::new("a b", 1.0).validate(), Err(SampleError::Name));
        assert_eq!(Sample::new("a", f64::NAN).validate(), Err(SampleError::NotFinite));
        let many = (10..11 + LABELS_MAX).map(|n| (format!("l{n}"), String::new())).collect();
        let sample = Sample { labels: many, ..Sample::new("a", 1.0) };
        assert_eq!(sample.validate(), Err(SampleError::ManyLabels));
    }
}
