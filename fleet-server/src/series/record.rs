//! What the log holds: reports, and before the first use in each file the names that they go by.
//!
//! ```text
//! record  = item …                              numbers are `varint`, texts and ids are bytes
//! item    = 1 number uid                         a device
//!         | 2 number metric labels               a series
//!         | 3 number count series-number …       a shape
//!         | 4 number 16 bytes                    a stream
//!         | 5 device-number stream-number+1 [seq] time shape-number value …      a report
//! ```
//!
//! Names are numbered anew in each file and every item says its number, so a file can be read
//! alone, and what damage took leaves reports that cannot be read but never wrong ones.

use std::sync::Arc;

use fleet_core::id::Uid;
use fleet_core::limits::{LABELS_MAX, REPORT_SAMPLES_MAX};

use super::names::{Names, SeriesId, Shape};
use super::number::Number;
use super::varint::{self, put};

const DEVICE: u8 = 1;
const SERIES: u8 = 2;
const SHAPE: u8 = 3;
const STREAM: u8 = 4;
const REPORT: u8 = 5;
/// Bytes of a report besides its values and their series' names, at most.
const REPORT_BYTES_MAX: usize = 128;
/// Bytes of a value, at most.
const NUMBER_BYTES_MAX: usize = 11;
/// Names of one kind in one file; a reader keeps a place for each.
const NUMBERS_MAX: u64 = 1 << 22;

/// What was noted last of a name: in which file it got which number. The usual mark is of no file.
pub(crate) type Mark = u64;

/// Writes records, and knows which names the present file has.
#[derive(Debug)]
pub(super) struct Scribe {
    /// The present file's number, from 1.
    file: u32,
    /// How many names of each kind it has.
    devices: u32,
    series: u32,
    shapes: u32,
    streams: u32,
    series_marks: Vec<Mark>,
}

/// A report, as the scribe takes it.
pub(super) struct Entry<'a> {
    pub(super) device: Uid,
    pub(super) device_mark: &'a mut Mark,
    /// The stream, its mark, and the report's number in it.
    pub(super) stream: Option<([u8; 16], &'a mut Mark, u64)>,
    pub(super) at: i64,
    pub(super) shape: &'a Shape,
    pub(super) numbers: &'a [Number],
}

impl Scribe {
    /// For a log that was just opened. Names may have marks of another scribe, so the next one
    /// begins where that one ended.
    pub(super) fn new(before: Option<&Self>) -> Self {
        let file = before.map_or(1, |before| before.file.wrapping_add(1).max(1));
        Self { file, devices: 0, series: 0, shapes: 0, streams: 0, series_marks: Vec::new() }
    }

    /// The next record is the first of a new file.
    pub(super) fn begin_file(&mut self) {
        let series_marks = std::mem::take(&mut self.series_marks);
        *self = Self { series_marks, ..Self::new(Some(self)) };
    }

    /// Whether the present file has so many names that another should be begun.
    pub(super) fn is_full(&self) -> bool {
        let most = self.devices.max(self.series).max(self.shapes).max(self.streams);
        u64::from(most) + REPORT_SAMPLES_MAX as u64 * 2 > NUMBERS_MAX
    }

    /// Bytes of a report as a record, at most.
    pub(super) fn bytes_at_most(&self, shape: &Shape, names: &Names) -> usize {
        let values =
            REPORT_BYTES_MAX + shape.series().len() * (NUMBER_BYTES_MAX + 2 * varint::BYTES_MAX);
        if is_of(shape.mark(), self.file) {
            return values;
        }
        let name = |id: &SeriesId| names.name(*id).map_or(0, |name| name.bytes());
        values + shape.series().iter().map(name).sum::<usize>()
    }

    /// Writes a report as a record, with the names that the file has not yet.
    pub(super) fn write(&mut self, entry: Entry<'_>, names: &Names, out: &mut Vec<u8>) {
        let file = self.file;
        let device = number(file, entry.device_mark, &mut self.devices, |number| {
            out.push(DEVICE);
            put(out, number);
            out.extend(entry.device.bytes());
        });
        let mut seq = None;
        let stream = entry.stream.map_or(0, |(stream, mark, number_in_stream)| {
            seq = Some(number_in_stream);
            1 + number(file, mark, &mut self.streams, |number| {
                out.push(STREAM);
                put(out, number);
                out.extend(stream);
            })
        });
        let shape = self.shape(entry.shape, names, out);
        out.push(REPORT);
        put(out, device);
        put(out, stream);
        if let Some(seq) = seq {
            put(out, seq);
        }
        put(out, varint::fold(entry.at));
        put(out, shape);
        for value in entry.numbers {
            value.put(out);
        }
    }

    fn shape(&mut self, shape: &Shape, names: &Names, out: &mut Vec<u8>) -> u64 {
        let mut mark = shape.mark();
        if is_of(mark, self.file) {
            return u64::from(mark as u32);
        }
        let series: Vec<u64> =
            shape.series().iter().map(|id| self.series(*id, names, out)).collect();
        let number = number(self.file, &mut mark, &mut self.shapes, |number| {
            out.push(SHAPE);
            put(out, number);
            put(out, series.len() as u64);
            for series in series {
                put(out, series);
            }
        });
        shape.set_mark(mark);
        number
    }

    fn series(&mut self, id: SeriesId, names: &Names, out: &mut Vec<u8>) -> u64 {
        let place = id.0 as usize;
        if self.series_marks.len() <= place {
            self.series_marks.resize(place + 1, 0);
        }
        number(self.file, &mut self.series_marks[place], &mut self.series, |number| {
            out.push(SERIES);
            put(out, number);
            let name = names.name(id).expect("a shape's series have names");
            put_text(out, &name.metric);
            put(out, name.labels.len() as u64);
            for (label, value) in &name.labels {
                put_text(out, label);
                put_text(out, value);
            }
        })
    }
}

fn is_of(mark: Mark, file: u32) -> bool {
    (mark >> 32) as u32 == file
}

/// The number that a mark has in a file; if it has none the next one, which is then written.
fn number(file: u32, mark: &mut Mark, count: &mut u32, write: impl FnOnce(u64)) -> u64 {
    if !is_of(*mark, file) {
        *mark = Mark::from(file) << 32 | Mark::from(*count);
        *count += 1;
        write(u64::from(*mark as u32));
    }
    u64::from(*mark as u32)
}

/// What a record says of one report.
#[derive(Debug)]
pub(super) struct Logged<'a> {
    pub(super) device: Uid,
    pub(super) stream: Option<([u8; 16], u64)>,
    pub(super) at: i64,
    pub(super) shape: &'a Arc<Shape>,
    pub(super) numbers: &'a [Number],
}

/// A record that cannot be read: it is malformed, or uses a name that damage took.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a record of the log cannot be read")]
pub(super) struct BadRecord;

/// Reads a file's records in their order.
#[derive(Debug, Default)]
pub(super) struct Reader {
    devices: Vec<Option<Uid>>,
    series: Vec<Option<SeriesId>>,
    shapes: Vec<Option<Arc<Shape>>>,
    streams: Vec<Option<[u8; 16]>>,
    numbers: Vec<Number>,
}

impl Reader {
    /// Takes a record, and shows the reports in it.
    pub(super) fn read(
        &mut self,
        mut record: &[u8],
        names: &Names,
        mut show: impl FnMut(Logged<'_>),
    ) -> Result<(), BadRecord> {
        let record = &mut record;
        while let Some((kind, rest)) = record.split_first() {
            *record = rest;
            match *kind {
                DEVICE => {
                    let number = take(record)?;
                    keep(&mut self.devices, number, Uid::from_bytes(take_array(record)?))?;
                }
                SERIES => {
                    let number = take(record)?;
                    keep(&mut self.series, number, take_series(record, names)?)?;
                }
                SHAPE => {
                    let number = take(record)?;
                    let shape = self.take_shape(record, names)?;
                    keep(&mut self.shapes, number, shape)?;
                }
                STREAM => {
                    let number = take(record)?;
                    keep(&mut self.streams, number, take_array(record)?)?;
                }
                REPORT => self.take_report(record, &mut show)?,
                _ => return Err(BadRecord),
            }
        }
        Ok(())
    }

    fn take_shape(&self, record: &mut &[u8], names: &Names) -> Result<Arc<Shape>, BadRecord> {
        let count = take(record)?;
        if count > REPORT_SAMPLES_MAX as u64 {
            return Err(BadRecord);
        }
        let series = (0..count).map(|_| known(&self.series, take(record)?).copied());
        Ok(names.shape(&series.collect::<Result<Vec<_>, _>>()?))
    }

    fn take_report(
        &mut self,
        record: &mut &[u8],
        show: &mut impl FnMut(Logged<'_>),
    ) -> Result<(), BadRecord> {
        let device = *known(&self.devices, take(record)?)?;
        let stream = match take(record)?.checked_sub(1) {
            Some(number) => Some((*known(&self.streams, number)?, take(record)?)),
            None => None,
        };
        let at = varint::unfold(take(record)?);
        let shape = known(&self.shapes, take(record)?)?;
        self.numbers.clear();
        for _ in shape.series() {
            self.numbers.push(Number::take(record).ok_or(BadRecord)?);
        }
        show(Logged { device, stream, at, shape, numbers: &self.numbers });
        Ok(())
    }
}

fn known<T>(names: &[Option<T>], number: u64) -> Result<&T, BadRecord> {
    let place = usize::try_from(number).map_err(|_| BadRecord)?;
    names.get(place).and_then(Option::as_ref).ok_or(BadRecord)
}

fn keep<T>(names: &mut Vec<Option<T>>, number: u64, name: T) -> Result<(), BadRecord> {
    if number >= NUMBERS_MAX {
        return Err(BadRecord);
    }
    let place = number as usize;
    if names.len() <= place {
        names.resize_with(place + 1, || None);
    }
    names[place] = Some(name);
    Ok(())
}

fn take_series(record: &mut &[u8], names: &Names) -> Result<SeriesId, BadRecord> {
    let metric = take_text(record)?;
    let count = take(record)?;
    if count > LABELS_MAX as u64 {
        return Err(BadRecord);
    }
    let mut labels = Vec::new();
    for _ in 0..count {
        labels.push((take_text(record)?, take_text(record)?));
    }
    names.series(metric, &labels).map_err(|_| BadRecord)
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    put(out, text.len() as u64);
    out.extend(text.as_bytes());
}

fn take(record: &mut &[u8]) -> Result<u64, BadRecord> {
    varint::take(record).ok_or(BadRecord)
}

fn take_text<'a>(record: &mut &'a [u8]) -> Result<&'a str, BadRecord> {
    let bytes = usize::try_from(take(record)?).map_err(|_| BadRecord)?;
    let (text, rest) = record.split_at_checked(bytes).ok_or(BadRecord)?;
    *record = rest;
    std::str::from_utf8(text).map_err(|_| BadRecord)
}

fn take_array<const N: usize>(record: &mut &[u8]) -> Result<[u8; N], BadRecord> {
    let (array, rest) = record.split_first_chunk().ok_or(BadRecord)?;
    *record = rest;
    Ok(*array)
}

/// What must hold of any bytes, for tests and for the fuzzer.
#[cfg(any(test, fuzzing))]
pub(crate) mod check {
    use std::collections::HashMap;

    use super::*;

    /// A report as it was shown, its numbers as bits.
    type Shown = (Uid, Option<([u8; 16], u64)>, i64, Vec<(SeriesId, u64)>);

    /// The door of the fuzz target `record`: a record is refused, or its reports can be written and
    /// read again as they are.
    pub(crate) fn record(bytes: &[u8]) {
        let names = Names::default();
        let shown = read(&mut Reader::default(), &names, bytes);
        let (mut scribe, mut again) = (Scribe::new(None), Reader::default());
        let mut devices: HashMap<Uid, Mark> = HashMap::new();
        let mut streams: HashMap<[u8; 16], Mark> = HashMap::new();
        for report in shown {
            let (device, stream, at, values) = &report;
            let series: Vec<SeriesId> = values.iter().map(|(id, _)| *id).collect();
            let numbers: Vec<Number> =
                values.iter().map(|(_, bits)| Number::new(f64::from_bits(*bits))).collect();
            let entry = Entry {
                device: *device,
                device_mark: devices.entry(*device).or_default(),
                stream: stream.map(|(id, seq)| (id, streams.entry(id).or_default(), seq)),
                at: *at,
                shape: &names.shape(&series),
                numbers: &numbers,
            };
            let (bytes_at_most, mut record) = (scribe.bytes_at_most(entry.shape, &names), vec![]);
            scribe.write(entry, &names, &mut record);
            assert!(record.len() <= bytes_at_most, "{} > {bytes_at_most}", record.len());
            assert_eq!(read(&mut again, &names, &record), [report]);
        }
    }

    fn read(reader: &mut Reader, names: &Names, record: &[u8]) -> Vec<Shown> {
        let mut shown = Vec::new();
        let _ = reader.read(record, names, |Logged { device, stream, at, shape, numbers }| {
            assert_eq!(shape.series().len(), numbers.len());
            let bits = numbers.iter().map(|number| number.get().to_bits());
            shown.push((device, stream, at, shape.series().iter().copied().zip(bits).collect()));
        });
        shown
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    type Report = (Uid, Option<([u8; 16], u64)>, i64, Vec<(String, f64)>);

    fn read(reader: &mut Reader, names: &Names, record: &[u8]) -> Result<Vec<Report>, BadRecord> {
        let mut reports = Vec::new();
        reader.read(record, names, |logged| {
            let series = logged.shape.series().iter();
            let name = |id: &SeriesId| names.name(*id).unwrap().metric.to_string();
            let values = series.map(name).zip(logged.numbers.iter().map(|n| n.get())).collect();
            reports.push((logged.device, logged.stream, logged.at, values));
        })?;
        Ok(reports)
    }

    struct Writer {
        names: Names,
        scribe: Scribe,
        device: Uid,
        device_mark: Mark,
        stream_mark: Mark,
    }

    impl Writer {
        fn new() -> Self {
            Self {
                names: Names::default(),
                scribe: Scribe::new(None),
                device: Uid::new(),
                device_mark: 0,
                stream_mark: 0,
            }
        }

        fn write(&mut self, seq: u64, at: i64, values: &[(&str, f64)]) -> Vec<u8> {
            let none: [(&str, &str); 0] = [];
            let ids: Vec<_> =
                values.iter().map(|(name, _)| self.names.series(name, &none).unwrap()).collect();
            let numbers: Vec<_> = values.iter().map(|(_, value)| Number::new(*value)).collect();
            let mut record = Vec::new();
            let entry = Entry {
                device: self.device,
                device_mark: &mut self.device_mark,
                stream: Some(([7; 16], &mut self.stream_mark, seq)),
                at,
                shape: &self.names.shape(&ids),
                numbers: &numbers,
            };
            self.scribe.write(entry, &self.names, &mut record);
            record
        }
    }

    #[test]
    fn names_are_written_once_a_file() {
        let mut writer = Writer::new();
        let values = [("cpu", 41.25), ("memory", -3.0)];
        let first = writer.write(1, 1_705_314_600_000, &values);
        let second = writer.write(2, 1_705_314_610_000, &values);
        assert!(second.len() < 16 && first.len() > 40, "{} {}", first.len(), second.len());

        let (mut reader, other) = (Reader::default(), Names::default());
        let expected = |seq, at| {
            let values = values.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect();
            vec![(writer.device, Some(([7; 16], seq)), at, values)]
        };
        assert_eq!(read(&mut reader, &other, &first), Ok(expected(1, 1_705_314_600_000)));
        assert_eq!(read(&mut reader, &other, &second), Ok(expected(2, 1_705_314_610_000)));
        assert_eq!(read(&mut Reader::default(), &other, &second), Err(BadRecord), "without names");

        writer.scribe.begin_file();
        let third = writer.write(3, -1, &values);
        assert_eq!(read(&mut Reader::default(), &other, &third).unwrap()[0].2, -1);
    }

    #[test]
    #[ignore = "writes the seeds anew: cargo test -p fleet-server --lib write_seeds -- --ignored"]
    fn write_seeds() {
        let mut writer = Writer::new();
        writer.device = Uid::from_bytes([3; 16]);
        let first = writer.write(1, 1_705_314_600_000, &[("cpu", 41.25), ("memory", -3.0)]);
        let second = writer.write(2, 1_705_314_610_000, &[("cpu", 0.1 + 0.2), ("memory", 4.0)]);
        let both = [first.as_slice(), &second].concat();
        fleet_core::fuzz::write_seed("record", "one", &first).unwrap();
        fleet_core::fuzz::write_seed("record", "two", &both).unwrap();
        crate::series::wal::check::write_seeds(&[first, second]).unwrap();
    }

    proptest! {
        #[test]
        fn any_bytes_can_be_read(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            check::record(&bytes);
        }
    }
}
