//! Prometheus' text format: what a scrape of this server reads.
//!
//! A [`Page`] is written family by family, because the format wants all values of a name together;
//! [`Fleet`] collects what devices measured, device by device, and sorts it into families.

mod fleet;

use std::fmt::Write as _;

use fleet_core::time::Timestamp;

pub(crate) use fleet::{Fleet, Measured};

/// What the values of a family are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// They only grow.
    Counter,
    /// They go up and down.
    Gauge,
}

/// A page of families.
#[derive(Debug, Default)]
pub(crate) struct Page(String);

impl Page {
    /// Begins a family, whose name and help are ours.
    pub(crate) fn family(&mut self, name: &str, kind: Kind, help: &str) -> Family<'_> {
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
        };
        self.put(format_args!("# HELP {name} {help}\n# TYPE {name} {kind}\n"));
        Family { page: self, name: name.to_owned() }
    }

    /// A family of one value without labels.
    pub(crate) fn value(&mut self, name: &str, kind: Kind, help: &str, value: f64) {
        self.family(name, kind, help).value(&[], value);
    }

    /// The text.
    pub(crate) fn into_text(self) -> String {
        self.0
    }

    fn put(&mut self, arguments: std::fmt::Arguments<'_>) {
        self.0.write_fmt(arguments).expect("writing to a String cannot fail");
    }
}

/// A family that is being written.
pub(crate) struct Family<'a> {
    page: &'a mut Page,
    name: String,
}

impl Family<'_> {
    /// Adds a value.
    pub(crate) fn value(&mut self, labels: &[(&str, &str)], value: f64) {
        let mut series = self.name.clone();
        push_labels(&mut series, labels.iter().copied());
        self.page.put(format_args!("{series} {value}\n"));
    }
}

/// Adds `{name="value",…}` to a series' name.
fn push_labels<'a>(series: &mut String, labels: impl Iterator<Item = (&'a str, &'a str)>) {
    let mut before = '{';
    for (name, value) in labels {
        series.push(before);
        series.push_str(name);
        series.push_str("=\"");
        for c in value.chars() {
            match c {
                '\\' => series.push_str("\\\\"),
                '"' => series.push_str("\\\""),
                '\n' => series.push_str("\\n"),
                c => series.push(c),
            }
        }
        series.push('"');
        before = ',';
    }
    if before == ',' {
        series.push('}');
    }
}

/// Seconds since 1970.
pub(crate) fn seconds(at: Timestamp) -> f64 {
    at.millis() as f64 / 1_000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_has_families_with_labels_escaped() {
        let mut page = Page::default();
        page.value("up_seconds", Kind::Gauge, "How long.", 1.5);
        let mut family = page.family("requests_total", Kind::Counter, "How many.");
        family.value(&[("route", "a\"b\\c\nd"), ("status", "200")], 3.0);
        family.value(&[("route", "ü")], f64::MAX);
        let expected = "# HELP up_seconds How long.\n# TYPE up_seconds gauge\nup_seconds 1.5\n\
            # HELP requests_total How many.\n# TYPE requests_total counter\n\
            requests_total{route=\"a\\\"b\\\\c\\nd\",status=\"200\"} 3\n\
            requests_total{route=\"ü\"} 1797";
        assert!(page.into_text().starts_with(expected));
    }
}
