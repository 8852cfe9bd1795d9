//! What the machine measures about itself: one file per collector, a [`Sampler`] that runs them.
//!
//! What must stay true: a value that cannot be known is an absent sample, never a zero; a rate
//! exists from the second collection on; no number is negative where its kind cannot be, and none
//! is NaN or infinite; the count of labels is bounded whatever the machine shows.
//!
//! Programs that embed the agent bring their own measurements by implementing [`Collector`]; see
//! `examples/custom_collector.rs`.

mod cpu;
mod disk;
mod disk_io;
mod load;
pub(crate) mod memory;
mod network;
mod rates;
mod sampler;
mod temperature;
mod uptime;

use std::error::Error;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Instant;

use fleet_core::limits::REPORT_SAMPLES_MAX;
use fleet_core::metric::{Sample, SampleError};

use crate::sys::SysRoot;

pub use sampler::{Collected, DuplicateError, Failure, Sampler, Selection, SelectionError};

/// Something that measures. Called at every interval, on one thread, and expected to be quick:
/// what waits for a network belongs elsewhere.
pub trait Collector: Send {
    /// The family's name, such as `memory`; whoever selects it gets all of its metrics.
    fn name(&self) -> &'static str;

    /// The names of all metrics that it may give.
    fn metrics(&self) -> &'static [&'static str];

    /// Measures now. What was pushed before an error still counts.
    fn collect(&mut self, batch: &mut Batch<'_>) -> Result<(), CollectError>;
}

/// Where a collector puts what it measured.
#[derive(Debug)]
pub struct Batch<'a> {
    at: Instant,
    metrics: &'static [&'static str],
    selection: &'a Selection,
    samples: &'a mut Vec<Sample>,
    refused: Option<CollectError>,
}

impl Batch<'_> {
    /// The time of this collection, for rates.
    pub fn at(&self) -> Instant {
        self.at
    }

    /// Adds a measurement.
    pub fn push(&mut self, metric: &'static str, value: f64) {
        if self.wants(metric) {
            self.add(metric, Sample::new(metric, value));
        }
    }

    /// Adds a measurement of one of several similar things.
    pub fn push_labelled(&mut self, metric: &'static str, label: &str, thing: &str, value: f64) {
        if self.wants(metric) {
            self.add(metric, Sample::labelled(metric, label, thing, value));
        }
    }

    /// Adds a measurement if there is one.
    pub fn push_known(&mut self, metric: &'static str, value: Option<f64>) {
        if let Some(value) = value {
            self.push(metric, value);
        }
    }

    fn wants(&mut self, metric: &'static str) -> bool {
        if !self.metrics.contains(&metric) {
            self.refused.get_or_insert(CollectError::Undeclared { metric });
            return false;
        }
        self.selection.has(metric)
    }

    fn add(&mut self, metric: &'static str, sample: Sample) {
        if let Err(source) = sample.validate() {
            self.refused.get_or_insert(CollectError::Sample { metric, source });
        } else if self.samples.len() == REPORT_SAMPLES_MAX {
            self.refused.get_or_insert(CollectError::ManySamples);
        } else {
            self.samples.push(sample);
        }
    }
}

/// Why a collector could not measure all that it should.
#[derive(Debug, thiserror::Error)]
pub enum CollectError {
    /// A file of the system.
    #[error("cannot read {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    /// A file with other contents than the kernel writes.
    #[error("{} is not in the form that the kernel writes", path.display())]
    Form { path: PathBuf },
    /// A number or label that is none.
    #[error("metric {metric} was refused")]
    Sample { metric: &'static str, source: SampleError },
    /// A metric that the collector does not list.
    #[error("metric {metric} is not one that the collector declares")]
    Undeclared { metric: &'static str },
    /// The report is full.
    #[error("more than {REPORT_SAMPLES_MAX} samples in one report; the rest is left out")]
    ManySamples,
    /// A panic, which stays the collector's own.
    #[error("the collector panicked")]
    Panicked,
    /// What a custom collector says.
    #[error("cannot measure")]
    Custom(#[source] Box<dyn Error + Send + Sync>),
}

impl CollectError {
    fn form(root: &SysRoot, file: &str) -> Self {
        Self::Form { path: root.path(file) }
    }
}

/// The collectors that every agent has, in the order of their samples.
fn built_in(root: &SysRoot) -> Vec<Box<dyn Collector>> {
    vec![
        Box::new(cpu::Cpu::new(root.clone())),
        Box::new(memory::Memory::new(root.clone())),
        Box::new(disk::Disk::new(root.clone())),
        Box::new(disk_io::DiskIo::new(root.clone())),
        Box::new(network::Network::new(root.clone())),
        Box::new(load::Load::new(root.clone())),
        Box::new(temperature::Temperature::new(root.clone())),
        Box::new(uptime::Uptime::new(root.clone())),
    ]
}

/// A file that every Linux has.
fn text(root: &SysRoot, file: impl AsRef<Path>) -> Result<String, CollectError> {
    let path = root.path(&file);
    root.text(file).map_err(|source| CollectError::Read { path, source })
}

/// A file that some kernels are built without.
fn text_if_any(root: &SysRoot, file: impl AsRef<Path>) -> Result<Option<String>, CollectError> {
    match text(root, file) {
        Ok(text) => Ok(Some(text)),
        Err(CollectError::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// What share of the whole a part is, in percent; of nothing there is no share.
fn percent(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| part as f64 * 100.0 / whole as f64)
}
