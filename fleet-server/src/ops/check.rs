//! What must hold of whatever third parties send as lines: for tests, and for the fuzzer.

use fleet_core::id::Uid;
use fleet_core::limits::TELEMETRY_SAMPLES_MAX;
use fleet_core::time::Timestamp;
use memchr::memchr_iter;

use super::OpsError;
use super::drafts::{Content, Drafts, Reading, Sender};
use super::templates::Templates;
use crate::influx::{Precision, lines};
use crate::series::names::{Names, SeriesId};

const NOW: i64 = 1_705_314_600_000;
const PRECISIONS: [Precision; 6] = [
    Precision::Nanoseconds,
    Precision::Microseconds,
    Precision::Milliseconds,
    Precision::Seconds,
    Precision::Minutes,
    Precision::Hours,
];

/// The door of the fuzz target `influx`: any bytes are lines or errors with the number of a line,
/// and a template makes of a line just what reading it anew does.
pub(crate) fn lines_of_any_bytes(body: &[u8]) {
    let breaks = memchr_iter(b'\n', body).count();
    let mut last = 0;
    for (number, line) in lines(body) {
        assert!(last < number && number <= breaks + 1, "line {number} after {last}");
        last = number;
        let Ok(line) = line else { continue };
        // As many as there can be, or it does not end.
        let tags = line.tags().inspect(|tag| drop(tag.clone().map(|(_, value)| value.read())));
        let fields = line.fields().inspect(|field| drop(field.clone().map(|field| field.number())));
        assert!(tags.count() + fields.count() <= body.len());
    }
    // The length decides, so that a body is as it came.
    let precision = PRECISIONS[body.len() % PRECISIONS.len()];
    for is_own in [true, false] {
        let names = Names::default();
        let read = |templates: &Templates| {
            let now = Timestamp::from_millis(NOW);
            // A device goes by some names, so that some lines are about others.
            let is_a = |name: &str| name.len().is_multiple_of(2);
            let device = Sender::Device(Uid::from_bytes([1; 16]), &is_a);
            let sender = if is_own { device } else { Sender::Operator };
            let reading = Reading { names: &names, templates, precision, now, sender };
            Drafts::read(body, reading).map(|mut drafts| {
                drafts.teach(templates, |_| true);
                said(&drafts)
            })
        };
        let templates = Templates::default();
        let (anew, known) = (read(&templates), read(&templates));
        match (anew, known) {
            (Ok(anew), Ok(known)) => {
                assert_eq!(anew, known);
                assert!(anew.refused_first.is_none_or(|line| line <= last));
            }
            (Err(OpsError::TooLarge(anew)), Err(OpsError::TooLarge(known))) => {
                assert_eq!(anew, known);
            }
            (anew, known) => panic!("{:?} and {:?}", anew.err(), known.err()),
        }
    }
}

/// A draft's device, time, first line, count of lines, and values as bits.
type SaidOf = (String, i64, usize, usize, Vec<(SeriesId, u64)>);

/// What drafts come to.
#[derive(Debug, PartialEq)]
struct Said {
    drafts: Vec<SaidOf>,
    lines: usize,
    refused: usize,
    foreign: usize,
    refused_first: Option<usize>,
    strings: u64,
}

fn said(drafts: &Drafts) -> Said {
    let said: Vec<SaidOf> = drafts
        .list
        .iter()
        .map(|draft| {
            let (series, numbers) = match &draft.content {
                Content::Like(template, first) => {
                    let series = template.shape.series();
                    (series, &drafts.numbers[*first..*first + series.len()])
                }
                Content::Mixed(series, numbers) => (series.as_slice(), numbers.as_slice()),
            };
            assert_eq!(series.len(), numbers.len());
            let bits = numbers.iter().map(|number| number.get().to_bits());
            let values = series.iter().copied().zip(bits).collect();
            let whose = format!("{:?}", drafts.whose[draft.device]);
            (whose, draft.at.millis(), draft.line, draft.lines, values)
        })
        .collect();
    let values: usize = said.iter().map(|(.., values)| values.len()).sum();
    assert!(values <= TELEMETRY_SAMPLES_MAX);
    let stored: usize = drafts.list.iter().map(|draft| draft.lines).sum();
    let refused = drafts.refused.lines + drafts.foreign.lines;
    assert!(stored + refused <= drafts.lines, "each line counts once");
    Said {
        drafts: said,
        lines: drafts.lines,
        refused: drafts.refused.lines,
        foreign: drafts.foreign.lines,
        refused_first: drafts.refused.first.as_ref().map(|(line, _)| *line),
        strings: drafts.strings,
    }
}
