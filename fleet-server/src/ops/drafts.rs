//! Lines of text become samples of devices, before anybody looks at which devices there are.
//!
//! This is the one place where what a line says turns into what is stored. Good lines of one device
//! and time join one draft; of lines that are wrong, the first is remembered and the rest counted.

use std::borrow::Cow;
use std::collections::HashMap;

use fleet_core::id::{DeviceId, Uid};
use fleet_core::limits::{
    LABEL_BYTES_MAX, LABELS_MAX, METRIC_NAME_BYTES_MAX, TELEMETRY_SAMPLES_MAX,
};
use fleet_core::metric::{self, Sample};
use fleet_core::time::Timestamp;
use fleet_core::untrusted::escaped;

use super::OpsError;
use super::senders::Whose;
use super::telemetry::POST_AHEAD_MAX;
use crate::influx::{Line, LineError, Precision, Text, lines};

/// Tags that name a line's device; the first of these that a line has. `host` comes before
/// `device`, because many senders name a disk or a sensor with `device` and themselves with `host`.
const DEVICE_TAGS: [&str; 3] = ["device_id", "host", "device"];
/// A field of this name adds nothing to its measurement's.
const PLAIN_FIELD: &str = "value";
/// Times before this are those of clocks that were never set, or in another unit than was said.
const EARLIEST: i64 = 946_684_800_000;
/// Bytes of names and labels that one request's samples hold in memory. A line's tags are held
/// once for each of its fields.
const SERIES_BYTES_MAX: usize = 64 * 1024 * 1024;

/// What a request's lines come to.
#[derive(Debug, Default)]
pub(crate) struct Drafts {
    pub(crate) whose: Vec<Whose>,
    pub(crate) list: Vec<Draft>,
    pub(crate) refused: Refused,
    /// Fields that are text, which is not kept.
    pub(crate) strings: u64,
    pub(crate) lines: usize,
    places: HashMap<String, usize>,
    own: Option<usize>,
    by_time: HashMap<(usize, Timestamp), usize>,
    samples: usize,
    series_bytes: usize,
    /// Samples of the line before.
    usual: usize,
}

/// What some lines say about one device at one time.
#[derive(Debug)]
pub(crate) struct Draft {
    /// Its place in [`Drafts::whose`].
    pub(crate) device: usize,
    pub(crate) at: Timestamp,
    pub(crate) samples: Vec<Sample>,
    /// The number of its first line.
    pub(crate) line: usize,
    pub(crate) lines: usize,
}

/// Lines that are not stored.
#[derive(Debug, Default)]
pub(crate) struct Refused {
    pub(crate) lines: usize,
    /// The first one's number, and what is wrong with it.
    pub(crate) first: Option<(usize, String)>,
}

impl Refused {
    /// Notes lines that are not stored for one reason.
    pub(crate) fn note(&mut self, line: usize, lines: usize, reason: impl ToString) {
        self.lines += lines;
        if self.first.as_ref().is_none_or(|(first, _)| line < *first) {
            self.first = Some((line, reason.to_string()));
        }
    }
}

/// Why a line says nothing that can be stored.
#[derive(Debug, thiserror::Error)]
enum Wrong {
    #[error(transparent)]
    Line(#[from] LineError),
    #[error("no tag says which device it is about: {}", DEVICE_TAGS.join(", "))]
    NoDevice,
    #[error("{0} does not name a device")]
    Device(String),
    #[error("the tag {0} is there twice")]
    Twice(String),
    #[error("more than {LABELS_MAX} tags")]
    ManyTags,
    #[error("the tag {0} is longer than {LABEL_BYTES_MAX} bytes")]
    LongTag(String),
    #[error(
        "field {0}: with its measurement the name is longer than {METRIC_NAME_BYTES_MAX} bytes"
    )]
    LongName(String),
    #[error("the time is more than a day ahead of the server's clock: is the precision right?")]
    Ahead,
    #[error("the time is before the year 2000: is the precision right?")]
    Early,
}

/// Why a line is not added.
enum Stop {
    /// Something is wrong with it.
    Line(Wrong),
    /// Nothing is wrong but that the request says too much.
    Request(OpsError),
}

impl From<Wrong> for Stop {
    fn from(wrong: Wrong) -> Self {
        Self::Line(wrong)
    }
}

/// How lines are to be read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reading {
    pub(crate) precision: Precision,
    pub(crate) now: Timestamp,
    /// Whether a line without a device is about the sender.
    pub(crate) is_own: bool,
}

impl Drafts {
    /// Reads a body. Fails only if it says too much.
    pub(crate) fn read(body: &[u8], reading: Reading) -> Result<Self, OpsError> {
        let mut drafts = Self::default();
        for (number, line) in lines(body) {
            drafts.lines += 1;
            let added = match line {
                Ok(line) => drafts.add(number, line, reading),
                Err(error) => Err(Wrong::from(error).into()),
            };
            match added {
                Ok(()) => {}
                Err(Stop::Line(wrong)) => drafts.refused.note(number, 1, wrong),
                Err(Stop::Request(error)) => return Err(error),
            }
        }
        Ok(drafts)
    }

    fn add(&mut self, number: usize, line: Line<'_>, reading: Reading) -> Result<(), Stop> {
        let at = time(line, reading)?;
        let mut tags = Vec::new();
        for tag in line.tags() {
            if tags.len() > LABELS_MAX {
                return Err(Wrong::ManyTags.into());
            }
            let (name, value) = tag.map_err(Wrong::from)?;
            tags.push((name.read(), value.read()));
        }
        let device = take_device(&mut tags, reading.is_own)?;
        let labels = labels(tags)?;
        let samples = self.samples(line, &labels)?;
        if samples.is_empty() {
            return Ok(());
        }
        let device = self.place(device);
        let next = self.list.len();
        let draft = *self.by_time.entry((device, at)).or_insert(next);
        if draft == next {
            self.list.push(Draft { device, at, samples, line: number, lines: 1 });
        } else {
            let draft = &mut self.list[draft];
            draft.samples.extend(samples);
            draft.lines += 1;
        }
        Ok(())
    }

    /// A device's place among those of the request.
    fn place(&mut self, device: Option<Cow<'_, str>>) -> usize {
        let next = self.whose.len();
        let Some(name) = device else {
            if self.own.is_none() {
                self.whose.push(Whose::Own);
            }
            return *self.own.get_or_insert(next);
        };
        if let Some(place) = self.places.get(name.as_ref()) {
            return *place;
        }
        self.whose.push(Whose::Named(name.clone().into_owned()));
        self.places.insert(name.into_owned(), next);
        next
    }

    /// A line's numbers as samples. Here is where too much is noticed, before it is in memory.
    fn samples(
        &mut self,
        line: Line<'_>,
        labels: &[(String, String)],
    ) -> Result<Vec<Sample>, Stop> {
        let measurement = metric::mended_name(&line.measurement().read());
        let label_bytes: usize = labels.iter().map(|(name, value)| name.len() + value.len()).sum();
        // Lines that follow each other are mostly of one kind.
        let mut samples = Vec::with_capacity(self.usual);
        for field in line.fields() {
            let field = field.map_err(Wrong::from)?;
            let Some(value) = field.number().map_err(Wrong::from)? else {
                self.strings += 1;
                continue;
            };
            let name = name(&measurement, field.name)?;
            self.samples += 1;
            self.series_bytes += name.len() + label_bytes;
            if self.samples > TELEMETRY_SAMPLES_MAX {
                let problem = format!("more than {TELEMETRY_SAMPLES_MAX} samples in one request");
                return Err(Stop::Request(OpsError::TooLarge(problem)));
            }
            if self.series_bytes > SERIES_BYTES_MAX {
                let problem = "the tags of this request are too long for its number of fields";
                return Err(Stop::Request(OpsError::TooLarge(problem.to_owned())));
            }
            samples.push(Sample { name, labels: labels.to_vec(), value });
        }
        self.usual = samples.len();
        Ok(samples)
    }
}

fn time(line: Line<'_>, reading: Reading) -> Result<Timestamp, Wrong> {
    let Some(time) = line.time() else { return Ok(reading.now) };
    let millis = reading.precision.to_millis(time);
    if millis < EARLIEST {
        return Err(Wrong::Early);
    }
    let at = Timestamp::from_millis(millis);
    if at > reading.now.plus(POST_AHEAD_MAX) { Err(Wrong::Ahead) } else { Ok(at) }
}

type Tag<'a> = (Cow<'a, str>, Cow<'a, str>);

/// Takes the device out of a line's tags.
fn take_device<'a>(tags: &mut Vec<Tag<'a>>, is_own: bool) -> Result<Option<Cow<'a, str>>, Wrong> {
    let place = |wanted: &&str| tags.iter().position(|(name, _)| name == *wanted);
    let Some(place) = DEVICE_TAGS.iter().find_map(place) else {
        return if is_own { Ok(None) } else { Err(Wrong::NoDevice) };
    };
    let (tag, name) = tags.swap_remove(place);
    if tags.iter().any(|(other, _)| *other == tag) {
        return Err(Wrong::Twice(tag.into_owned()));
    }
    if name.parse::<DeviceId>().is_ok() || name.parse::<Uid>().is_ok() {
        return Ok(Some(name));
    }
    // Names of hosts have capitals, and dots at their ends.
    let id = DeviceId::from_name(&name).ok_or_else(|| Wrong::Device(escaped(&name)))?;
    Ok(Some(Cow::Owned(id.into())))
}

/// The other tags as labels.
fn labels(mut tags: Vec<Tag<'_>>) -> Result<Vec<(String, String)>, Wrong> {
    if tags.len() > LABELS_MAX {
        return Err(Wrong::ManyTags);
    }
    tags.sort_unstable();
    if let Some(pair) = tags.windows(2).find(|pair| pair[0].0 == pair[1].0) {
        return Err(Wrong::Twice(escaped(&pair[0].0)));
    }
    let is_long = |(name, value): &&Tag<'_>| name.len().max(value.len()) > LABEL_BYTES_MAX;
    if let Some((name, _)) = tags.iter().find(is_long) {
        return Err(Wrong::LongTag(escaped(name)));
    }
    Ok(tags.into_iter().map(|(name, value)| (name.into_owned(), value.into_owned())).collect())
}

/// What a field is called outside of its measurement.
fn name(measurement: &str, field: Text<'_>) -> Result<String, Wrong> {
    let field = field.read();
    let name = if field == PLAIN_FIELD {
        measurement.to_owned()
    } else {
        let mut name = String::with_capacity(measurement.len() + 1 + field.len());
        name.push_str(measurement);
        name.push('_');
        metric::push_mended(&mut name, &field);
        name
    };
    if name.len() > METRIC_NAME_BYTES_MAX {
        Err(Wrong::LongName(escaped(&field)))
    } else {
        Ok(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_705_314_600_000;

    fn drafts(body: &str, is_own: bool) -> Result<Drafts, OpsError> {
        let now = Timestamp::from_millis(NOW);
        Drafts::read(body.as_bytes(), Reading { precision: Precision::Seconds, now, is_own })
    }

    fn refusal(line: &str) -> String {
        let drafts = drafts(line, false).unwrap();
        assert_eq!((drafts.list.len(), drafts.refused.lines), (0, 1), "{line}");
        drafts.refused.first.unwrap().1
    }

    fn named(name: &str) -> Whose {
        Whose::Named(name.to_owned())
    }

    #[test]
    fn lines_of_one_device_and_time_are_one_draft() {
        let body = "m,host=A value=1 1705314600\nn,host=a x=2,s=\"t\" 1705314600\n\
                    m,host=b value=3\nm,host=a value=4 1705314601\nm value=5\nm,host=a s=\"t\"";
        let read = drafts(body, false).unwrap();
        assert_eq!(read.whose, [named("a"), named("b")]);
        let list: Vec<_> = read
            .list
            .iter()
            .map(|draft| {
                let names = draft.samples.iter().map(|sample| sample.name.as_str());
                (draft.device, draft.at.millis(), draft.line, draft.lines, names.collect())
            })
            .collect();
        let expected: [(usize, i64, usize, usize, Vec<&str>); 3] = [
            (0, NOW, 1, 2, vec!["m", "n_x"]),
            (1, NOW, 3, 1, vec!["m"]),
            (0, NOW + 1000, 4, 1, vec!["m"]),
        ];
        assert_eq!(list, expected);
        assert_eq!((read.lines, read.refused.lines, read.strings), (6, 1, 2));
        assert_eq!(read.refused.first.unwrap().0, 5);
        let own = drafts("m value=5\nm,host=b value=6\nm value=7", true).unwrap();
        assert_eq!(own.whose, [Whose::Own, named("b")]);
        assert_eq!(own.list.len(), 2);
    }

    #[test]
    fn a_device_is_named_by_the_first_of_three_tags() {
        for (tags, device, labels) in [
            ("device=d,device_id=i,host=h", "i", "device=d host=h"),
            ("device=sda1,host=h", "h", "device=sda1"),
            ("device=d,a=b", "d", "a=b"),
            ("host=Web\\ 01.example.", "web-01.example", ""),
            ("host=a~k3xq2m", "a~k3xq2m", ""),
        ] {
            let read = drafts(&format!("m,{tags} value=1"), false).unwrap();
            assert_eq!(read.whose, [named(device)], "{tags}");
            let found = &read.list[0].samples[0].labels;
            let found: Vec<_> =
                found.iter().map(|(name, value)| format!("{name}={value}")).collect();
            assert_eq!(found.join(" "), labels);
        }
    }

    #[test]
    fn what_cannot_be_stored_is_refused_line_by_line() {
        let tags = (0..=LABELS_MAX).map(|n| format!(",t{n}=v")).collect::<Vec<_>>().concat();
        let long = "x".repeat(LABEL_BYTES_MAX + 1);
        for (line, words) in [
            ("m value=1".to_owned(), "device_id, host, device"),
            ("m,host=... value=1".to_owned(), "does not name a device"),
            ("m,host=a,b=1,b=2 value=1".to_owned(), "the tag b is there twice"),
            ("m,host=a,host=b value=1".to_owned(), "the tag host is there twice"),
            (format!("m,host=a{tags} value=1"), "more than 16 tags"),
            (format!("m,host=a{} value=1", ",t=v".repeat(2_000_000)), "more than 16 tags"),
            (format!("m,host=a,t={long} value=1"), "the tag t is longer than 256 bytes"),
            (format!("{long},host=a value=1"), "field value: with its measurement"),
            ("m,host=a value=1 1705401001".to_owned(), "a day ahead"),
            ("m,host=a value=1 946684799".to_owned(), "before the year 2000"),
            ("m,host=a value=1 9223372036854775807".to_owned(), "a day ahead"),
            ("m,host=a value=1,other=x".to_owned(), "field other: x is not a number"),
        ] {
            let found = refusal(&line);
            assert!(found.contains(words), "{words}: {found}");
        }
        assert_eq!(drafts("m,host=a value=1 1705401000", false).unwrap().list.len(), 1);
    }

    #[test]
    fn a_request_has_an_end() {
        let line = |fields: usize| format!("m,host=a {}", vec!["f=1"; fields].join(","));
        assert!(drafts(&line(TELEMETRY_SAMPLES_MAX), false).is_ok());
        let too_many = format!("{}\n{}", line(TELEMETRY_SAMPLES_MAX), line(1));
        assert!(matches!(drafts(&too_many, false), Err(OpsError::TooLarge(_))));
        // Few bytes, which would be many times as many in memory.
        let tag = |n| format!(",t{n}={}", "x".repeat(250));
        let tags: Vec<String> = (0..LABELS_MAX).map(tag).collect();
        let endless = format!("m,host=a{} {}", tags.concat(), vec!["f=1"; 2_000_000].join(","));
        assert!(matches!(drafts(&endless, false), Err(OpsError::TooLarge(_))));
        let long =
            format!("m,host=a{} {}", tags.concat(), vec!["f=1"; TELEMETRY_SAMPLES_MAX].join(","));
        assert!(matches!(drafts(&long, false), Err(OpsError::TooLarge(_))));
    }
}
