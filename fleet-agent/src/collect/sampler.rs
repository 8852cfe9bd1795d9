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
