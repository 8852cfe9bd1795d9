//! Series and shapes by number, so that nothing on the way of a report holds text.
//!
//! A series is a metric's name with its labels; devices of a kind share most of theirs. A shape is
//! the list of series that one report has values of; a device's reports mostly have one. Numbers
//! are given once and never change while the server runs. On disk, the log names what it uses
//! itself, and the index keeps the series of all chunks.

use std::borrow::Borrow;
use std::collections::{HashMap, HashSet};
use std::hash::{Hash, Hasher};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use fleet_core::id::Uid;
use fleet_core::metric::Sample;

use super::catalog::SavedSeries;

/// Series that there can be. A fleet has thousands; without a bound, whoever may post could fill
/// the memory with labels.
pub const SERIES_MAX: usize = 1 << 20;
/// Bytes of a series' name: more than the bounds of metrics and labels allow, less than a stored
/// value may have.
const NAME_BYTES_MAX: usize = 16 * 1024;
/// Bytes of all names together; each is in memory about three times.
const NAMES_BYTES_MAX: usize = 128 * 1024 * 1024;
/// Series that one device may bring before the server starts anew, and bytes of their names: far
/// more than a device has, and far less than there is room for.
const GIVEN_PER_DEVICE_MAX: usize = 20_000;
const GIVEN_BYTES_PER_DEVICE_MAX: usize = 8 * 1024 * 1024;
/// Bytes of the shapes that are remembered, and of one besides its list. When there are more, those
/// that nobody else holds are forgotten; if that does not help, one is made anew for each report.
const SHAPES_BYTES_MAX: usize = 64 * 1024 * 1024;
const SHAPE_OVERHEAD: usize = 96;

/// A series' number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SeriesId(pub u32);

/// A metric's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct MetricId(u32);

/// What a series is called.
#[derive(Debug, PartialEq, Eq)]
pub struct SeriesName {
    /// The metric.
    pub metric: Box<str>,
    /// What tells it from its sisters, sorted by name.
    pub labels: Vec<(String, String)>,
    metric_id: MetricId,
}

impl SeriesName {
    /// The metric's number.
    pub fn metric_id(&self) -> MetricId {
        self.metric_id
    }

    /// Bytes of its texts, with their lengths.
    pub(super) fn bytes(&self) -> usize {
        let labels = self.labels.iter().map(|(name, value)| name.len() + value.len() + 20);
        self.metric.len() + 20 + labels.sum::<usize>()
    }

    /// A value of the series, with its name.
    pub fn sample(&self, value: f64) -> Sample {
        Sample { name: self.metric.to_string(), labels: self.labels.clone(), value }
    }
}

/// Why a series gets no number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SeriesError {
    /// There are as many already as there can be.
    #[error("there are as many series already as this server can hold")]
    TooMany,
    /// Whoever brings it has brought as many as one device may.
    #[error(
        "the device has brought as many new series as one may: {GIVEN_PER_DEVICE_MAX}, or names of \
         {} MiB, until the server starts anew",
        GIVEN_BYTES_PER_DEVICE_MAX / (1024 * 1024)
    )]
    TooManyOfDevice,
    /// The metric and the labels together are longer than any that may come in.
    #[error("the name of a series is longer than {NAME_BYTES_MAX} bytes")]
    TooLong,
}

/// All series, and the shapes of reports.
#[derive(Debug, Default)]
pub struct Names {
    known: RwLock<Known>,
    shapes: RwLock<Shapes>,
}

#[derive(Debug, Default)]
struct Known {
    series: Vec<Arc<SeriesName>>,
    by_name: HashMap<Box<[u8]>, SeriesId>,
    metrics: HashMap<Box<str>, MetricId>,
    by_metric: Vec<Vec<SeriesId>>,
    /// Of all names together.
    bytes: usize,
    /// What devices have brought since the start.
    given: HashMap<Uid, Given>,
}

/// How many new series somebody brought, and how long their names are.
#[derive(Clone, Copy, Debug, Default)]
struct Given {
    series: usize,
    bytes: usize,
}

impl Names {
    /// The number of a series, given now if it has none. The labels are sorted by name.
    pub fn series<L: AsRef<str>>(
        &self,
        metric: &str,
        labels: &[(L, L)],
    ) -> Result<SeriesId, SeriesError> {
        self.series_from(None, metric, labels)
    }

    /// The same, and what is new counts as brought by a device: one that makes up names must not
    /// take the room of all others.
    pub fn series_from<L: AsRef<str>>(
        &self,
        device: Option<Uid>,
        metric: &str,
        labels: &[(L, L)],
    ) -> Result<SeriesId, SeriesError> {
        let mut key = Vec::with_capacity(64);
        write_key(&mut key, metric, labels);
        if key.len() > NAME_BYTES_MAX {
            return Err(SeriesError::TooLong);
        }
        let known = self.read();
        if let Some(id) = known.by_name.get(key.as_slice()) {
            return Ok(*id);
        }
        // Where there is no room, those who read do not wait for those who ask for it.
        known.check_room(device, key.len())?;
        drop(known);
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        known.give(device, key, metric, labels)
    }

    /// Gives a series the number that it has in the index; they are restored in their order. One
    /// whose row is damaged gets a name that says so.
    pub(super) fn restore(&self, number: usize, saved: Option<SavedSeries>) {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        debug_assert_eq!(known.series.len(), number, "series are restored in their order");
        let lost = || (format!("unreadable:{number}"), Vec::new());
        let (metric, labels) = saved.unwrap_or_else(lost);
        let mut key = Vec::new();
        write_key(&mut key, &metric, &labels);
        // There is room, since there was when the number was given.
        let _given = known.give(None, key, &metric, &labels);
    }

    /// The number of a sample's series; see [`Self::series_from`].
    pub fn of_sample(&self, device: Option<Uid>, sample: &Sample) -> Result<SeriesId, SeriesError> {
        self.series_from(device, &sample.name, &sample.labels)
    }

    /// What a series is called.
    pub fn name(&self, id: SeriesId) -> Option<Arc<SeriesName>> {
        self.read().series.get(id.0 as usize).cloned()
    }

    /// What the first so many series are called, and all after them.
    pub fn names_from(&self, first: usize) -> Vec<Arc<SeriesName>> {
        self.read().series.get(first..).map(<[_]>::to_vec).unwrap_or_default()
    }

    /// How many series there are.
    pub fn len(&self) -> usize {
        self.read().series.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The series of a metric, among all devices.
    pub fn series_of(&self, metric: &str) -> Vec<SeriesId> {
        let known = self.read();
        let Some(metric) = known.metrics.get(metric) else { return Vec::new() };
        known.by_metric[metric.0 as usize].clone()
    }

    /// A metric's number, if any series is of it.
    pub fn metric(&self, metric: &str) -> Option<MetricId> {
        self.read().metrics.get(metric).copied()
    }

    /// The metric of a series.
    pub fn metric_of(&self, id: SeriesId) -> Option<MetricId> {
        Some(self.read().series.get(id.0 as usize)?.metric_id)
    }

    /// The shape with these series.
    pub fn shape(&self, series: &[SeriesId]) -> Arc<Shape> {
        let shapes = self.shapes.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(shape) = shapes.by_series.get(series) {
            return shape.0.clone();
        }
        drop(shapes);
        let mut shapes = self.shapes.write().unwrap_or_else(PoisonError::into_inner);
        shapes.give(series, SHAPES_BYTES_MAX)
    }

    fn read(&self) -> RwLockReadGuard<'_, Known> {
        self.known.read().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn give<L: AsRef<str>>(
        &mut self,
        device: Option<Uid>,
        key: Vec<u8>,
        metric: &str,
        labels: &[(L, L)],
    ) -> Result<SeriesId, SeriesError> {
        // Another may have been faster.
        if let Some(id) = self.by_name.get(key.as_slice()) {
            return Ok(*id);
        }
        self.check_room(device, key.len())?;
        if let Some(device) = device {
            let given = self.given.entry(device).or_default();
            given.series += 1;
            given.bytes += key.len();
        }
        self.bytes += key.len();
        let metric_id = match self.metrics.get(metric) {
            Some(id) => *id,
            None => {
                let id = MetricId(self.metrics.len() as u32);
                self.metrics.insert(metric.into(), id);
                self.by_metric.push(Vec::new());
                id
            }
        };
        let labels = labels
            .iter()
            .map(|(name, value)| (name.as_ref().to_owned(), value.as_ref().to_owned()))
            .collect();
        let id = SeriesId(self.series.len() as u32);
        self.series.push(Arc::new(SeriesName { metric: metric.into(), labels, metric_id }));
        self.by_name.insert(key.into(), id);
        self.by_metric[metric_id.0 as usize].push(id);
        Ok(id)
    }

    /// Whether there is room for a new series that a device brings.
    fn check_room(&self, device: Option<Uid>, bytes: usize) -> Result<(), SeriesError> {
        if self.series.len() == SERIES_MAX || self.bytes + bytes > NAMES_BYTES_MAX {
            return Err(SeriesError::TooMany);
        }
        let given = device.and_then(|device| self.given.get(&device)).copied().unwrap_or_default();
        let is_full = given.series == GIVEN_PER_DEVICE_MAX
            || given.bytes + bytes > GIVEN_BYTES_PER_DEVICE_MAX;
        if device.is_some() && is_full { Err(SeriesError::TooManyOfDevice) } else { Ok(()) }
    }
}

/// A series' name as bytes, one way only: each text after its length.
fn write_key<L: AsRef<str>>(key: &mut Vec<u8>, metric: &str, labels: &[(L, L)]) {
    let texts = labels.iter().flat_map(|(name, value)| [name.as_ref(), value.as_ref()]);
    for text in std::iter::once(metric).chain(texts) {
        key.extend((text.len() as u32).to_le_bytes());
        key.extend(text.as_bytes());
    }
}

/// The shapes that are remembered.
#[derive(Debug, Default)]
struct Shapes {
    by_series: HashSet<Remembered>,
    /// Of all together.
    bytes: usize,
    /// Of those that were made since all were looked through.
    bytes_since: usize,
}

/// A shape that is found by its series.
#[derive(Debug)]
struct Remembered(Arc<Shape>);

impl Shapes {
    fn give(&mut self, series: &[SeriesId], bytes_max: usize) -> Arc<Shape> {
        // Another may have been faster.
        if let Some(shape) = self.by_series.get(series) {
            return shape.0.clone();
        }
        let shape = Arc::new(Shape { series: series.into(), mark: AtomicU64::new(0) });
        let bytes = shape.bytes();
        self.bytes_since += bytes;
        // Not each time: it may be that all are held.
        if self.bytes + bytes > bytes_max && self.bytes_since > bytes_max / 16 {
            self.forget();
        }
        if self.bytes + bytes <= bytes_max {
            self.bytes += bytes;
            self.by_series.insert(Remembered(shape.clone()));
        }
        shape
    }

    /// Forgets those that nobody else holds. Nobody can come to hold one meanwhile.
    fn forget(&mut self) {
        self.by_series.retain(|shape| Arc::strong_count(&shape.0) > 1);
        self.by_series.shrink_to_fit();
        self.bytes = self.by_series.iter().map(|shape| shape.0.bytes()).sum();
        self.bytes_since = 0;
    }
}

impl Borrow<[SeriesId]> for Remembered {
    fn borrow(&self) -> &[SeriesId] {
        &self.0.series
    }
}

impl Hash for Remembered {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.series.hash(state);
    }
}

impl PartialEq for Remembered {
    fn eq(&self, other: &Self) -> bool {
        self.0.series == other.0.series
    }
}

impl Eq for Remembered {}

/// The series of a report, in the order of its values.
#[derive(Debug)]
pub struct Shape {
    series: Box<[SeriesId]>,
    /// The log's number for it, and in which of its files; see `record`.
    mark: AtomicU64,
}

impl Shape {
    /// The series.
    pub fn series(&self) -> &[SeriesId] {
        &self.series
    }

    /// Where a series' value stands in a report.
    pub fn position(&self, series: SeriesId) -> Option<usize> {
        self.series.iter().position(|own| *own == series)
    }

    /// Bytes that it takes.
    fn bytes(&self) -> usize {
        SHAPE_OVERHEAD + size_of_val(&*self.series)
    }

    /// What the log noted for this shape last. Only the log's owner looks at it and changes it,
    /// one at a time.
    pub(super) fn mark(&self) -> u64 {
        self.mark.load(Ordering::Relaxed)
    }

    pub(super) fn set_mark(&self, mark: u64) {
        self.mark.store(mark, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_one_number_and_a_number_one_name() {
        let names = Names::default();
        let none: [(&str, &str); 0] = [];
        let cpu = names.series("cpu", &none).unwrap();
        let core = names.series("cpu", &[("core", "0")]).unwrap();
        // What reads alike when run together is not the same.
        let tricky = names.series("cpu", &[("co", "re0")]).unwrap();
        assert_eq!([cpu, core, tricky], [SeriesId(0), SeriesId(1), SeriesId(2)]);
        assert_eq!(names.series("cpu", &[("core", "0")]), Ok(core));
        assert_eq!(names.of_sample(None, &Sample::labelled("cpu", "core", "0", 1.0)), Ok(core));
        let name = names.name(core).unwrap();
        assert_eq!(name.sample(2.0), Sample::labelled("cpu", "core", "0", 2.0));
        assert_eq!(names.metric("cpu"), Some(name.metric_id()));
        assert_eq!(names.metric_of(tricky), Some(name.metric_id()));
        assert_eq!((names.metric("memory"), names.name(SeriesId(3))), (None, None));
        assert_eq!(names.names_from(2).len(), 1);
        assert!(names.names_from(4).is_empty());
    }

    #[test]
    fn one_device_brings_so_many_new_series_and_no_more() {
        let names = Names::default();
        let none: [(&str, &str); 0] = [];
        let (one, two) = (Some(Uid::new()), Some(Uid::new()));
        for number in 0..GIVEN_PER_DEVICE_MAX {
            names.series_from(one, &format!("m{number}"), &none).unwrap();
        }
        let refused = names.series_from(one, "another", &none).unwrap_err();
        assert_eq!(refused, SeriesError::TooManyOfDevice);
        assert!(refused.to_string().contains(": 20000, or names of 8 MiB,"), "{refused}");
        // What is known is no news, and nobody else pays for it.
        names.series_from(one, "m7", &none).unwrap();
        names.series_from(None, "another", &none).unwrap();
        names.series_from(one, "another", &none).unwrap();
        names.series_from(two, "a third", &none).unwrap();
        assert_eq!(names.len(), GIVEN_PER_DEVICE_MAX + 2);
        // Few with long names are as bad as many.
        let long = "x".repeat(NAME_BYTES_MAX / 2);
        let brought = (0..GIVEN_PER_DEVICE_MAX)
            .take_while(|number| names.series_from(two, &format!("{number}{long}"), &none).is_ok());
        let brought = brought.count();
        assert!((1_000..1_024).contains(&brought), "{brought}");
    }

    #[test]
    fn reports_of_one_shape_share_it() {
        let names = Names::default();
        let ids = [SeriesId(3), SeriesId(1)];
        assert!(Arc::ptr_eq(&names.shape(&ids), &names.shape(&ids)));
        assert_eq!(names.shape(&ids).position(SeriesId(1)), Some(1));
        assert_eq!(names.shape(&ids).position(SeriesId(2)), None);
    }

    #[test]
    fn shapes_take_so_much_room_and_those_that_are_held_stay() {
        let mut shapes = Shapes::default();
        let one = SHAPE_OVERHEAD + 2 * size_of::<SeriesId>();
        let max = 100 * one;
        let of = |number: u32| [SeriesId(number), SeriesId(number + 1)];
        let held: Vec<_> = (0..40).map(|number| shapes.give(&of(number), max)).collect();
        for number in 1_000..9_000 {
            shapes.give(&of(number), max);
            assert!(shapes.bytes <= max && shapes.by_series.len() * one == shapes.bytes);
        }
        assert!(shapes.by_series.len() >= 40);
        for (number, shape) in (0..).zip(&held) {
            assert!(Arc::ptr_eq(shape, &shapes.give(&of(number), max)), "{number}");
        }
        // When all are held there is still one for everybody, and nobody is forgotten.
        let more: Vec<_> = (100..300).map(|number| shapes.give(&of(number), max)).collect();
        assert_eq!(more.last().unwrap().series(), of(299));
        assert!(shapes.bytes <= max);
        assert!(Arc::ptr_eq(&held[7], &shapes.give(&of(7), max)));
        drop((held, more));
        for number in 9_000..9_020 {
            shapes.give(&of(number), max);
        }
        assert!(shapes.by_series.len() < 40, "{}", shapes.by_series.len());
    }
}
