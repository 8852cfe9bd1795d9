//! Runs the collectors and keeps each one's troubles its own: an error or a panic costs that
//! collector's samples only, and is reported when it begins, not at every interval.

use std::collections::BTreeSet;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

use fleet_core::metric::Sample;
use fleet_core::untrusted::Untrusted;

use super::{Batch, CollectError, Collector, built_in};
use crate::sys::SysRoot;

/// The collectors of one agent.
pub struct Sampler {
    collectors: Vec<Registered>,
}

struct Registered {
    collector: Box<dyn Collector>,
    /// Whether the last run failed, so that the next failure is no news.
    failing: bool,
}

/// What one collection gave.
#[derive(Debug)]
pub struct Collected {
    /// The samples, in the order of the collectors.
    pub samples: Vec<Sample>,
    /// The collectors that began to fail.
    pub failures: Vec<Failure>,
}

/// A collector that could not measure all that it should.
#[derive(Debug, thiserror::Error)]
#[error("collector {collector}")]
pub struct Failure {
    /// The collector's name.
    pub collector: &'static str,
    /// Why.
    #[source]
    pub error: CollectError,
}

impl Sampler {
    /// The collectors that every agent has.
    ///
    /// Rates begin with the second collection: collect once, and drop it, where the first report
    /// should already have them.
    pub fn new(root: &SysRoot) -> Self {
        let collectors = built_in(root).into_iter().map(Registered::new).collect();
        Self { collectors }
    }

    /// Adds a collector, whose names must be new.
    pub fn add(&mut self, collector: Box<dyn Collector>) -> Result<(), DuplicateError> {
        let known: BTreeSet<&str> = self.metrics().into_iter().collect();
        let taken = collector.metrics().iter().copied().find(|metric| known.contains(metric));
        let family = self.collectors.iter().map(Registered::name);
        let taken = taken.or_else(|| family.into_iter().find(|name| *name == collector.name()));
        match taken {
            Some(name) => Err(DuplicateError { name }),
            None => {
                self.collectors.push(Registered::new(collector));
                Ok(())
            }
        }
    }

    /// The names of all metrics that can be selected.
    pub fn metrics(&self) -> Vec<&'static str> {
        let metrics = self.collectors.iter().flat_map(|registered| registered.collector.metrics());
        metrics.copied().collect()
    }

    /// Resolves the names that somebody chose: a metric (`cpu_usage`), a collector (`memory`), or
    /// the beginning of names, up to a `_` (`network_receive`).
    pub fn select(&self, chosen: &[String]) -> Result<Selection, SelectionError> {
        let mut selected = BTreeSet::new();
        for (index, name) in chosen.iter().enumerate() {
            let matching = self.matching(name);
            if matching.is_empty() {
                let known = self.metrics();
                return Err(SelectionError { name: name.as_str().into(), index, known });
            }
            selected.extend(matching);
        }
        Ok(Selection::Only(selected))
    }

    fn matching(&self, name: &str) -> Vec<&'static str> {
        let metrics = self.metrics();
        if let Some(metric) = metrics.iter().find(|metric| **metric == name) {
            return vec![metric];
        }
        let family = self.collectors.iter().find(|registered| registered.name() == name);
        let family = family.map_or(&[][..], |registered| registered.collector.metrics());
        let below =
            |metric: &&str| metric.strip_prefix(name).is_some_and(|rest| rest.starts_with('_'));
        metrics.iter().filter(|metric| below(metric) || family.contains(metric)).copied().collect()
    }

    /// Measures what is selected. `at` is the monotonic time of the collection.
    pub fn collect(&mut self, at: Instant, selection: &Selection) -> Collected {
        let mut samples = Vec::new();
        let mut failures = Vec::new();
        for registered in &mut self.collectors {
            if registered.is_selected(selection) {
                failures.extend(registered.run(at, selection, &mut samples));
            }
        }
        Collected { samples, failures }
    }
}

impl fmt::Debug for Sampler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.collectors.iter().map(Registered::name)).finish()
    }
}

impl Registered {
    fn new(collector: Box<dyn Collector>) -> Self {
        Self { collector, failing: false }
    }

    fn name(&self) -> &'static str {
        self.collector.name()
    }

    fn is_selected(&self, selection: &Selection) -> bool {
        self.collector.metrics().iter().any(|metric| selection.has(metric))
    }

    /// Runs the collector once; gives its failure if it is news.
    fn run(
        &mut self,
        at: Instant,
        selection: &Selection,
        samples: &mut Vec<Sample>,
    ) -> Option<Failure> {
        let metrics = self.collector.metrics();
        let mut batch = Batch { at, metrics, selection, samples, refused: None };
        // A collector that panicked may have lost what it knew of the last collection. All that
        // it can do with that is to give other numbers, and those are checked.
        let outcome = catch_unwind(AssertUnwindSafe(|| self.collector.collect(&mut batch)));
        let error = match outcome {
            Ok(Ok(())) => batch.refused,
            Ok(Err(error)) => Some(error),
            Err(_panic) => Some(CollectError::Panicked),
        };
        let was_failing = std::mem::replace(&mut self.failing, error.is_some());
        let collector = self.collector.name();
        error.filter(|_| !was_failing).map(|error| Failure { collector, error })
    }
}

/// Which metrics are wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Selection {
    /// All there are.
    #[default]
    Everything,
    /// These.
    Only(BTreeSet<&'static str>),
}

impl Selection {
    /// Whether a metric is wanted.
    pub fn has(&self, metric: &str) -> bool {
        match self {
            Self::Everything => true,
            Self::Only(metrics) => metrics.contains(metric),
        }
    }
}

/// A name that selects nothing.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("unknown metric {name}; known are {}", known.join(", "))]
pub struct SelectionError {
    /// The name.
    pub name: Untrusted,
    /// Its place in the list.
    pub index: usize,
    /// The names that exist.
    pub known: Vec<&'static str>,
}

/// A collector whose name or metric exists already.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{name} is already collected")]
pub struct DuplicateError {
    /// The name.
    pub name: &'static str,
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    type Measure = Box<dyn FnMut(&mut Batch<'_>) -> Result<(), CollectError> + Send>;

    struct Fake {
        name: &'static str,
        metrics: &'static [&'static str],
        measure: Measure,
    }

    impl Collector for Fake {
        fn name(&self) -> &'static str {
            self.name
        }

        fn metrics(&self) -> &'static [&'static str] {
            self.metrics
        }

        fn collect(&mut self, batch: &mut Batch<'_>) -> Result<(), CollectError> {
            (self.measure)(batch)
        }
    }

    fn fake(
        name: &'static str,
        metrics: &'static [&'static str],
        measure: impl FnMut(&mut Batch<'_>) -> Result<(), CollectError> + Send + 'static,
    ) -> Box<dyn Collector> {
        Box::new(Fake { name, metrics, measure: Box::new(measure) })
    }

    fn sampler(collectors: Vec<Box<dyn Collector>>) -> Sampler {
        let mut sampler = Sampler { collectors: Vec::new() };
        for collector in collectors {
            sampler.add(collector).unwrap();
        }
        sampler
    }

    fn good() -> Box<dyn Collector> {
        fake("good", &["good_value", "good_other"], |batch| {
            batch.push("good_value", 1.0);
            batch.push("good_other", 2.0);
            Ok(())
        })
    }

    fn collect(sampler: &mut Sampler) -> Collected {
        sampler.collect(Instant::now(), &Selection::Everything)
    }

    #[test]
    fn one_collector_s_trouble_stays_its_own() {
        let mut sampler = sampler(vec![
            fake("panics", &["panics_value"], |_| panic!("at the first sight of a number")),
            fake("fails", &["fails_value"], |batch| {
                batch.push("fails_value", 3.0);
                Err(CollectError::Custom(io::Error::other("unplugged").into()))
            }),
            fake("lies", &["lies_value"], |batch| {
                batch.push("lies_value", f64::NAN);
                Ok(())
            }),
            fake("strays", &["strays_value"], |batch| {
                batch.push("good_value", 9.0);
                Ok(())
            }),
            good(),
        ]);
        let collected = collect(&mut sampler);
        let samples: Vec<_> =
            collected.samples.iter().map(|s| (s.name.as_str(), s.value)).collect();
        assert_eq!(samples, [("fails_value", 3.0), ("good_value", 1.0), ("good_other", 2.0)]);
        let failing: Vec<_> = collected.failures.iter().map(|failure| failure.collector).collect();
        assert_eq!(failing, ["panics", "fails", "lies", "strays"]);
        assert!(matches!(collected.failures[0].error, CollectError::Panicked));

        assert!(collect(&mut sampler).failures.is_empty(), "the second time it is no news");
    }

    #[test]
    fn a_failure_after_a_recovery_is_news_again() {
        let mut runs = 0;
        let mut sampler = sampler(vec![fake("flaky", &["flaky_value"], move |_| {
            runs += 1;
            if runs == 2 { Ok(()) } else { Err(CollectError::Panicked) }
        })]);
        let news: Vec<_> = (0..4).map(|_| collect(&mut sampler).failures.len()).collect();
        assert_eq!(news, [1, 0, 1, 0]);
    }

    #[test]
    fn a_report_is_bounded() {
        let mut sampler = sampler(vec![fake("many", &["many_values"], |batch| {
            for thing in 0..5_000 {
                batch.push_labelled("many_values", "thing", &thing.to_string(), 1.0);
            }
            Ok(())
        })]);
        let collected = collect(&mut sampler);
        assert_eq!(collected.samples.len(), fleet_core::limits::REPORT_SAMPLES_MAX);
        assert!(matches!(collected.failures[0].error, CollectError::ManySamples));
    }

    #[test]
    fn names_select_a_metric_a_family_or_a_beginning() {
        let sampler = Sampler::new(&SysRoot::real());
        let selected = |name: &str| match sampler.select(&[name.to_owned()]) {
            Ok(Selection::Only(metrics)) => metrics.into_iter().collect::<Vec<_>>().join(" "),
            other => panic!("{name}: {other:?}"),
        };
        for (name, metrics) in [
            ("disk_usage", "disk_usage"),
            ("load", "load_1 load_15 load_5"),
            ("temperature", "temperature_celsius"),
            ("swap", "swap_total_bytes swap_usage swap_used_bytes"),
            (
                "memory",
                "memory_available_bytes memory_total_bytes memory_usage swap_total_bytes swap_usage swap_used_bytes",
            ),
            ("network_receive_bytes", "network_receive_bytes_per_second"),
        ] {
            assert_eq!(selected(name), metrics, "{name}");
        }
        let chosen = ["cpu_usage".to_owned(), "cpu_us".to_owned()];
        let error = sampler.select(&chosen).unwrap_err();
        assert_eq!(error.index, 1);
        assert!(error.to_string().starts_with("unknown metric cpu_us; known are cpu_usage, "));
    }

    #[test]
    fn only_what_is_selected_is_measured() {
        let mut sampler =
            sampler(vec![fake("unwanted", &["unwanted_value"], |_| panic!("was asked")), good()]);
        let selection = sampler.select(&["good_other".to_owned()]).unwrap();
        let collected = sampler.collect(Instant::now(), &selection);
        assert_eq!(collected.samples, [Sample::new("good_other", 2.0)]);
        assert!(collected.failures.is_empty());
    }

    #[test]
    fn a_name_belongs_to_one_collector() {
        let mut sampler = Sampler::new(&SysRoot::real());
        let taken = sampler.add(fake("mine", &["my_value", "cpu_usage"], |_| Ok(())));
        assert_eq!(taken, Err(DuplicateError { name: "cpu_usage" }));
        assert!(sampler.add(fake("cpu", &["my_value"], |_| Ok(()))).is_err());
        assert_eq!(sampler.add(good()), Ok(()));
    }
}
