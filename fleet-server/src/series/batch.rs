//! Reports on their way into the engine: numbers and shapes, no text.

use std::collections::HashMap;
use std::sync::Arc;

use fleet_core::id::Uid;
use fleet_core::limits::REPORT_SAMPLES_MAX;
use fleet_core::metric::Sample;

use super::names::{Names, SeriesError, SeriesId, Shape};
use super::number::Number;

/// Reports to store together.
#[derive(Debug, Default)]
pub struct Batch {
    reports: Vec<BatchReport>,
    numbers: Vec<Number>,
}

/// A report of a batch, without its values.
#[derive(Debug)]
pub struct BatchReport {
    /// Whose.
    pub device: Uid,
    /// Its stream and its number there, from 1; none for a report that is stored as often as it
    /// comes.
    pub stream: Option<([u8; 16], u64)>,
    /// Its time, in milliseconds since 1970.
    pub at: i64,
    /// Of which series it has values.
    pub shape: Arc<Shape>,
}

/// Samples that are left out because their series get no number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LeftOut {
    /// How many.
    pub samples: usize,
    /// Why the first one is.
    pub reason: Option<SeriesError>,
}

impl LeftOut {
    fn note(&mut self, reason: SeriesError) {
        self.join(Self { samples: 1, reason: Some(reason) });
    }

    /// Adds those of another report.
    pub fn join(&mut self, more: Self) {
        self.samples += more.samples;
        self.reason = self.reason.or(more.reason);
    }
}

impl Batch {
    /// Adds a report, all of it or nothing. A series that it names twice has the last value. What
    /// is new in it was brought by `sender`, if that is a device.
    pub fn push(
        &mut self,
        names: &Names,
        device: Uid,
        sender: Option<Uid>,
        at: i64,
        samples: &[Sample],
    ) -> Result<(), SeriesError> {
        let series = samples.iter().map(|sample| names.of_sample(sender, sample));
        let series = series.collect::<Result<Vec<_>, _>>()?;
        let numbers: Vec<_> = samples.iter().map(|sample| Number::new(sample.value)).collect();
        self.push_series(names, device, None, at, &series, &numbers);
        Ok(())
    }

    /// Adds a report that a device sent of itself, without the samples whose series get no number,
    /// and says how many those are. A report without any is still a report: it has a
    /// number in its stream.
    pub fn push_known(
        &mut self,
        names: &Names,
        device: Uid,
        stream: Option<([u8; 16], u64)>,
        at: i64,
        samples: &[Sample],
    ) -> LeftOut {
        let mut left_out = LeftOut::default();
        let mut series = Vec::with_capacity(samples.len());
        let mut numbers = Vec::with_capacity(samples.len());
        for sample in samples {
            match names.of_sample(Some(device), sample) {
                Ok(id) => {
                    series.push(id);
                    numbers.push(Number::new(sample.value));
                }
                Err(error) => left_out.note(error),
            }
        }
        self.push_series(names, device, stream, at, &series, &numbers);
        left_out
    }

    /// Adds a report whose series are known, in any order, and perhaps twice. One that is larger
    /// than a report may be becomes several, which one of a stream must not.
    pub fn push_series(
        &mut self,
        names: &Names,
        device: Uid,
        stream: Option<([u8; 16], u64)>,
        at: i64,
        series: &[SeriesId],
        numbers: &[Number],
    ) {
        if has_twice(series) {
            let (series, numbers) = Self::last_of_each(series, numbers);
            self.push_series(names, device, stream, at, &series, &numbers);
        } else if series.is_empty() {
            self.push_shaped(device, stream, at, names.shape(series), []);
        } else {
            let pieces = series.chunks(REPORT_SAMPLES_MAX).zip(numbers.chunks(REPORT_SAMPLES_MAX));
            for (series, numbers) in pieces {
                let numbers = numbers.iter().copied();
                self.push_shaped(device, stream, at, names.shape(series), numbers);
            }
        }
    }

    /// Each series once, with the last of its values.
    pub fn last_of_each(series: &[SeriesId], numbers: &[Number]) -> (Vec<SeriesId>, Vec<Number>) {
        let mut places = HashMap::new();
        let mut kept: Vec<(SeriesId, Number)> = Vec::new();
        for (id, number) in series.iter().zip(numbers) {
            match places.get(id) {
                Some(place) => {
                    let (_, known): &mut (SeriesId, Number) = &mut kept[*place];
                    *known = *number;
                }
                None => {
                    places.insert(*id, kept.len());
                    kept.push((*id, *number));
                }
            }
        }
        kept.into_iter().unzip()
    }

    /// Adds a report whose shape is known. It has as many numbers as the shape has series; those are
    /// no more than a report may have, and none is there twice.
    pub fn push_shaped(
        &mut self,
        device: Uid,
        stream: Option<([u8; 16], u64)>,
        at: i64,
        shape: Arc<Shape>,
        numbers: impl IntoIterator<Item = Number>,
    ) {
        let before = self.numbers.len();
        self.numbers.extend(numbers);
        assert_eq!(self.numbers.len() - before, shape.series().len(), "a number of each series");
        self.reports.push(BatchReport { device, stream, at, shape });
    }

    /// How many reports there are.
    pub fn len(&self) -> usize {
        self.reports.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.reports.is_empty()
    }

    /// The reports with their values.
    pub fn iter(&self) -> impl Iterator<Item = (&BatchReport, &[Number])> {
        let mut rest = self.numbers.as_slice();
        self.reports.iter().map(move |report| {
            let (numbers, behind) = rest.split_at(report.shape.series().len());
            rest = behind;
            (report, numbers)
        })
    }
}

fn has_twice(series: &[SeriesId]) -> bool {
    /// Up to so many, looking at all pairs is the fastest way.
    const FEW: usize = 32;
    if series.len() <= FEW {
        return series.iter().enumerate().any(|(at, id)| series[..at].contains(id));
    }
    let mut sorted = series.to_vec();
    sorted.sort_unstable();
    sorted.windows(2).any(|pair| pair[0] == pair[1])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_has_one_value_of_each_series() {
        let names = Names::default();
        let mut batch = Batch::default();
        let uid = Uid::new();
        let samples = [Sample::new("a", 1.0), Sample::new("b", 2.0), Sample::new("a", 3.0)];
        batch.push(&names, uid, None, 5, &samples).unwrap();
        batch.push(&names, uid, None, 6, &samples[1..]).unwrap();
        let reports: Vec<_> = batch
            .iter()
            .map(|(report, numbers)| (report.at, numbers.iter().map(|n| n.get()).collect()))
            .collect::<Vec<(i64, Vec<f64>)>>();
        assert_eq!(reports, [(5, vec![3.0, 2.0]), (6, vec![2.0, 3.0])]);
    }

    #[test]
    fn a_sample_whose_series_gets_no_number_holds_up_no_other() {
        let names = Names::default();
        let mut batch = Batch::default();
        let uid = Uid::new();
        let long = Sample::labelled("m", "label", &"x".repeat(1 << 16), 1.0);
        let samples = [Sample::new("a", 1.0), long.clone(), Sample::new("b", 2.0), long.clone()];
        let left_out = batch.push_known(&names, uid, Some(([1; 16], 1)), 5, &samples);
        assert_eq!(left_out, LeftOut { samples: 2, reason: Some(SeriesError::TooLong) });
        batch.push_known(&names, uid, Some(([1; 16], 2)), 6, &[long]);
        assert!(batch.push(&names, uid, None, 7, &samples).is_err());
        let lengths: Vec<_> = batch.iter().map(|(_, numbers)| numbers.len()).collect();
        assert_eq!(lengths, [2, 0]);
    }
}
