//! What devices measured, as families of Prometheus: `fleetd_METRIC{device_id="…",…}`.
//!
//! Names that Prometheus does not allow are mended, and the label `metric_name` then says what they
//! were; so two names that are mended to the same remain two series. Each value has the time at
//! which it was measured: a scrape repeats it as often as it comes, and invents nothing.

use std::collections::{BTreeMap, HashSet};
use std::fmt::Write as _;

use bytes::Bytes;
use fleet_core::metric::Sample;
use fleet_core::time::Timestamp;

use super::push_labels;

/// Begins the names of what devices measure. What the server says of itself begins otherwise.
const PREFIX: &str = "fleetd_";
const DEVICE: &str = "device_id";
const METRIC: &str = "metric_name";
/// Bytes that one scrape may hold in memory.
const BYTES_MAX: usize = 64 * 1024 * 1024;

/// A device's newest values.
pub(crate) struct Measured<'a> {
    pub(crate) device: &'a str,
    pub(crate) at: Timestamp,
    pub(crate) samples: &'a [Sample],
}

/// The families so far.
#[derive(Debug, Default)]
pub(crate) struct Fleet {
    families: BTreeMap<String, String>,
    bytes: usize,
    left_out: u64,
    bytes_max: usize,
}

impl Fleet {
    pub(crate) fn new() -> Self {
        Self { bytes_max: BYTES_MAX, ..Self::default() }
    }

    /// Adds a device's values. Of values that Prometheus cannot tell apart the first counts, in one
    /// call or many as long as `seen` is the same.
    pub(crate) fn add(&mut self, measured: &Measured<'_>, seen: &mut HashSet<String>) {
        for sample in measured.samples {
            let (family, is_mended) = family_name(&sample.name);
            let labels = labels(measured.device, sample, is_mended);
            let mut line = family.clone();
            push_labels(&mut line, labels.iter().map(|(name, value)| (name.as_str(), *value)));
            if !seen.insert(line.clone()) {
                continue;
            }
            let value = in_base_unit(&sample.name, sample.value);
            let at = measured.at.millis();
            writeln!(line, " {value} {at}").expect("writing to a String cannot fail");
            if self.bytes + line.len() > self.bytes_max {
                self.left_out += 1;
                continue;
            }
            self.bytes += line.len();
            self.families.entry(family).or_default().push_str(&line);
        }
    }

    /// Values for which there was no room.
    pub(crate) fn left_out(&self) -> u64 {
        self.left_out
    }

    /// The families, one piece each.
    pub(crate) fn into_pieces(self) -> impl Iterator<Item = Bytes> {
        self.families.into_iter().map(|(family, lines)| {
            let help = "Newest value that a device sent, at the time at which it was measured.";
            let head = format!("# HELP {family} {help}\n# TYPE {family} untyped\n");
            Bytes::from(head + &lines)
        })
    }
}

/// What Prometheus calls a metric, and whether that is not just what it is called.
fn family_name(metric: &str) -> (String, bool) {
    let mut family = PREFIX.to_owned();
    let base = without_milliseconds(metric);
    family.extend(base.unwrap_or(metric).chars().map(mended));
    family.push_str(if base.is_some() { "_seconds" } else { "" });
    let is_mended = family[PREFIX.len()..] != *metric;
    (family, is_mended)
}

/// Prometheus has one unit for each thing, and warns of others. Thousandths of seconds are the one
/// of those that this server's own agents use.
fn in_base_unit(metric: &str, value: f64) -> f64 {
    if without_milliseconds(metric).is_some() { value / 1_000.0 } else { value }
}

fn without_milliseconds(metric: &str) -> Option<&str> {
    metric.strip_suffix("_ms").or_else(|| metric.strip_suffix("_milliseconds"))
}

/// A sample's labels, under names that Prometheus allows, each once.
fn labels<'a>(device: &'a str, sample: &'a Sample, is_mended: bool) -> Vec<(String, &'a str)> {
    let mut labels = vec![(DEVICE.to_owned(), device)];
    if is_mended {
        labels.push((METRIC.to_owned(), &sample.name));
    }
    for (name, value) in &sample.labels {
        // To Prometheus, an empty label is one that is not there.
        if value.is_empty() {
            continue;
        }
        let mut name = label_name(name);
        while [DEVICE, METRIC].contains(&name.as_str())
            || labels.iter().any(|(known, _)| *known == name)
        {
            name.push('_');
        }
        labels.push((name, value));
    }
    labels
}

fn label_name(text: &str) -> String {
    let name: String = text.chars().map(mended).collect();
    // Two underscores begin names that are Prometheus' own.
    match name.trim_start_matches('_') {
        "" => "label".to_owned(),
        rest if rest.len() + 1 < name.len() || rest.starts_with(|c: char| c.is_ascii_digit()) => {
            format!("_{rest}")
        }
        _ => name,
    }
}

fn mended(c: char) -> char {
    if c.is_ascii_alphanumeric() { c } else { '_' }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sample(name: &str, labels: &[(&str, &str)], value: f64) -> Sample {
        let labels = labels.iter().map(|&(name, value)| (name.into(), value.into())).collect();
        Sample { labels, ..Sample::new(name, value) }
    }

    fn add(fleet: &mut Fleet, device: &str, samples: &[Sample]) {
        let at = Timestamp::from_millis(1_705_314_600_123);
        fleet.add(&Measured { device, at, samples }, &mut HashSet::new());
    }

    fn text(fleet: Fleet) -> String {
        let pieces: Vec<u8> = fleet.into_pieces().flatten().collect();
        String::from_utf8(pieces).unwrap()
    }

    fn series(text: &str) -> Vec<&str> {
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        lines.map(|line| line.trim_end_matches(" 1705314600123")).collect()
    }

    #[test]
    fn values_of_one_name_stand_together_with_their_times() {
        let mut fleet = Fleet::new();
        add(&mut fleet, "b", &[sample("cpu_usage", &[], 1.5), sample("load1", &[], 0.0)]);
        add(&mut fleet, "a", &[sample("cpu_usage", &[], 2.0)]);
        let help = "Newest value that a device sent, at the time at which it was measured.";
        let expected = format!(
            "# HELP fleetd_cpu_usage {help}\n# TYPE fleetd_cpu_usage untyped\n\
             fleetd_cpu_usage{{device_id=\"b\"}} 1.5 1705314600123\n\
             fleetd_cpu_usage{{device_id=\"a\"}} 2 1705314600123\n\
             # HELP fleetd_load1 {help}\n# TYPE fleetd_load1 untyped\n\
             fleetd_load1{{device_id=\"b\"}} 0 1705314600123\n"
        );
        assert_eq!(text(fleet), expected);
    }

    #[test]
    fn names_are_mended_and_no_two_series_become_one() {
        let mut fleet = Fleet::new();
        add(
            &mut fleet,
            "a",
            &[
                sample("disk.used", &[("mount point", "/"), ("mount_point", "x\"\\\n")], 1.0),
                sample("disk-used", &[("device_id", "sda"), ("metric_name", "m")], 2.0),
                sample("disk_used", &[("0", "z"), ("__x", "y"), ("é", "e"), ("", "")], 3.0),
                sample("latency_ms", &[], 1.5),
                sample("latency_milliseconds", &[], 2.0),
                sample("latency_seconds", &[], 3.0),
                sample("gone", &[("x", "")], 4.0),
                sample("gone", &[], 5.0),
            ],
        );
        let text = text(fleet);
        let expected = [
            r#"fleetd_disk_used{device_id="a",metric_name="disk.used",mount_point="/",mount_point_="x\"\\\n"} 1"#,
            r#"fleetd_disk_used{device_id="a",metric_name="disk-used",device_id_="sda",metric_name_="m"} 2"#,
            r#"fleetd_disk_used{device_id="a",_0="z",_x="y",label="e"} 3"#,
            r#"fleetd_gone{device_id="a"} 4"#,
            r#"fleetd_latency_seconds{device_id="a",metric_name="latency_ms"} 0.0015"#,
            r#"fleetd_latency_seconds{device_id="a",metric_name="latency_milliseconds"} 0.002"#,
            r#"fleetd_latency_seconds{device_id="a"} 3"#,
        ];
        assert_eq!(series(&text), expected);
    }

    #[test]
    fn what_finds_no_room_is_counted() {
        let mut fleet = Fleet { bytes_max: 210, ..Fleet::default() };
        for device in ["a", "b", "c", "d", "e"] {
            add(&mut fleet, device, &[sample("cpu_usage", &[], 1.5)]);
        }
        assert_eq!((fleet.left_out(), series(&text(fleet)).len()), (1, 4));
    }

    proptest! {
        #[test]
        fn any_series_has_names_that_prometheus_allows(
            metric in "[a-zA-Z_][a-zA-Z0-9_.:-]{0,9}",
            names in prop::collection::btree_set("\\PC{1,6}", 0..5),
        ) {
            let labels: Vec<_> = names.iter().map(|name| (name.as_str(), "v")).collect();
            let mut fleet = Fleet::new();
            add(&mut fleet, "a", &[sample(&metric, &labels, 1.0)]);
            let text = text(fleet);
            let line = series(&text)[0];
            let (family, rest) = line.split_once('{').unwrap();
            let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
            prop_assert!(family.bytes().all(plain), "{}", line);
            let found: Vec<&str> =
                rest.trim_end_matches("} 1").split(',').map(|label| label.split_once('=').unwrap().0).collect();
            prop_assert!(found.iter().all(|name| name.bytes().all(plain)), "{}", line);
            prop_assert!(found.iter().all(|name| !name.starts_with("__")), "{}", line);
            prop_assert!(found.iter().all(|name| !name.as_bytes()[0].is_ascii_digit()), "{}", line);
            prop_assert_eq!(found.iter().collect::<HashSet<_>>().len(), found.len(), "{}", line);
            let all = found.len() - if found.contains(&METRIC) { 2 } else { 1 };
            prop_assert_eq!(all, labels.len(), "{}", line);
        }
    }
}
