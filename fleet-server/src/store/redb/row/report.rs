//! A report's row, and the row that remembers how far a stream came.

use bincode::{Decode, Encode};
use fleet_core::metric::Sample;

#[derive(Debug, PartialEq, Encode, Decode)]
pub(in crate::store::redb) struct ReportRow {
    samples: Vec<SampleRow>,
}

#[derive(Debug, PartialEq, Encode, Decode)]
struct SampleRow {
    name: String,
    labels: Vec<(String, String)>,
    value: f64,
}

#[derive(Debug, PartialEq, Encode, Decode)]
pub(in crate::store::redb) struct CursorRow {
    /// The last number stored.
    pub(in crate::store::redb) seq: u64,
    /// Grows from stream to stream of a device, so that the oldest can give way.
    pub(in crate::store::redb) born: u64,
}

impl From<Vec<Sample>> for ReportRow {
    fn from(samples: Vec<Sample>) -> Self {
        let row = |sample: Sample| SampleRow {
            name: sample.name,
            labels: sample.labels,
            value: sample.value,
        };
        Self { samples: samples.into_iter().map(row).collect() }
    }
}

impl From<ReportRow> for Vec<Sample> {
    fn from(row: ReportRow) -> Self {
        let sample =
            |row: SampleRow| Sample { name: row.name, labels: row.labels, value: row.value };
        row.samples.into_iter().map(sample).collect()
    }
}
