//! Lines of text become values of devices, before anybody looks at which devices there are.
//!
//! This is the one place where what a line says turns into what is stored. Good lines of one device
//! and time join one draft; of lines that are wrong, the first is remembered and the rest counted.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use fleet_core::id::{DeviceId, Uid};
use fleet_core::limits::{
    LABEL_BYTES_MAX, LABELS_MAX, METRIC_NAME_BYTES_MAX, TELEMETRY_SAMPLES_MAX,
};
use fleet_core::metric;
use fleet_core::time::Timestamp;
use fleet_core::untrusted::escaped;

use super::OpsError;
use super::senders::{OWN_ONLY, Whose};
use super::telemetry::POST_AHEAD_MAX;
use super::templates::{FIELD_END, Template, Templates};
use crate::influx::{Line, LineError, Precision, Text, lines};
use crate::series::batch::Batch;
use crate::series::names::{Names, SeriesError, SeriesId};
use crate::series::number::Number;

/// Tags that name a line's device; the first of these that a line has. `host` comes before
/// `device`, because many senders name a disk or a sensor with `device` and themselves with `host`.
const DEVICE_TAGS: [&str; 3] = ["device_id", "host", "device"];
/// A field of this name adds nothing to its measurement's.
const PLAIN_FIELD: &str = "value";
/// Times before this are those of clocks that were never set, or in another unit than was said.
const EARLIEST: i64 = 946_684_800_000;
/// What a request's lines come to.
#[derive(Debug, Default)]
pub(crate) struct Drafts {
    pub(crate) whose: Vec<Whose>,
    pub(crate) list: Vec<Draft>,
    pub(crate) refused: Refused,
    /// Lines of a device about others, which it does not speak for.
    pub(crate) foreign: Refused,
    /// Fields that are text, which is not kept.
    pub(crate) strings: u64,
    pub(crate) lines: usize,
    /// The values of all drafts that are as a template says.
    pub(crate) numbers: Vec<Number>,
    places: HashMap<String, usize>,
    own: Option<usize>,
    by_time: HashMap<(usize, Timestamp), usize>,
    samples: usize,
    /// Templates of lines that were read anew, by how those begin.
    fresh: HashMap<Box<str>, Arc<Template>>,
}

/// What some lines say about one device at one time.
#[derive(Debug)]
pub(crate) struct Draft {
    /// Its place in [`Drafts::whose`].
    pub(crate) device: usize,
    pub(crate) at: Timestamp,
    pub(crate) content: Content,
    /// The number of its first line.
    pub(crate) line: usize,
    pub(crate) lines: usize,
}

/// A draft's values.
#[derive(Debug)]
pub(crate) enum Content {
    /// Those of one line, in [`Drafts::numbers`] from a place on.
    Like(Arc<Template>, usize),
    /// Those of several lines.
    Mixed(Vec<SeriesId>, Vec<Number>),
}

/// Lines that are not stored.
#[derive(Debug, Default)]
pub(crate) struct Refused {
    pub(crate) lines: usize,
    /// The first one's number, and what is wrong with it.
    pub(crate) first: Option<(usize, String)>,
}

impl Refused {
    /// Adds those of another list.
    pub(crate) fn join(&mut self, others: Self) {
        if let Some((line, reason)) = others.first {
            self.note(line, others.lines, reason);
        }
    }

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
    #[error("{OWN_ONLY}")]
    Foreign,
    #[error("{0} does not name a device")]
    Device(String),
    #[error("the tag {0} is there twice")]
    Twice(String),
    #[error("more than {LABELS_MAX} tags")]
    ManyTags,
    #[error("more than {TELEMETRY_SAMPLES_MAX} fields")]
    ManyFields,
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
    #[error(transparent)]
    Series(#[from] SeriesError),
}

/// How lines are to be read.
#[derive(Clone, Copy)]
pub(crate) struct Reading<'a> {
    pub(crate) names: &'a Names,
    pub(crate) templates: &'a Templates,
    pub(crate) precision: Precision,
    pub(crate) now: Timestamp,
    pub(crate) sender: Sender<'a>,
}

/// Who sends lines.
#[derive(Clone, Copy)]
pub(crate) enum Sender<'a> {
    /// Somebody who is no device, and speaks for all.
    Operator,
    /// A device, which speaks for itself alone, and whether it goes by a name. A line that names no
    /// device is about it.
    Device(Uid, &'a (dyn Fn(&str) -> bool + Sync)),
}

impl Sender<'_> {
    fn is_device(self) -> bool {
        matches!(self, Self::Device(..))
    }

    /// Whom the series are counted for that are new.
    fn uid(self) -> Option<Uid> {
        match self {
            Self::Operator => None,
            Self::Device(uid, _) => Some(uid),
        }
    }
}

impl Drafts {
    /// Reads a body. Fails only if it says too much.
    pub(crate) fn read(body: &[u8], reading: Reading<'_>) -> Result<Self, OpsError> {
        let mut drafts = Self::default();
        for (number, line) in lines(body) {
            drafts.lines += 1;
            let added = match line {
                Ok(line) => drafts.add(number, line, reading),
                Err(error) => Err(error.into()),
            };
            match added {
                Ok(()) => {}
                Err(wrong @ Wrong::ManyFields) => {
                    return Err(OpsError::TooLarge(wrong.to_string()));
                }
                Err(wrong @ Wrong::Foreign) => drafts.foreign.note(number, 1, wrong),
                Err(wrong) => drafts.refused.note(number, 1, wrong),
            }
            drafts.check_size()?;
        }
        Ok(drafts)
    }

    fn add(&mut self, number: usize, line: Line<'_>, reading: Reading<'_>) -> Result<(), Wrong> {
        let at = time(line, reading)?;
        let first = self.numbers.len();
        let known = reading.templates.get(line);
        let known = known.or_else(|| self.fresh.get(line.head()).cloned());
        let is_own = reading.sender.is_device();
        let known = known.filter(|template| is_own || template.device.is_some());
        if let Some(template) = &known {
            self.check_sender(template.device.as_deref(), reading.sender)?;
        }
        let template = match known {
            Some(template) if template.read(line, &mut self.numbers) => template,
            _ => match self.read_anew(line, reading)? {
                Some(template) => template,
                None => return Ok(()),
            },
        };
        self.samples += self.numbers.len() - first;
        let device = self.place(template.device.as_deref());
        let next = self.list.len();
        let draft = *self.by_time.entry((device, at)).or_insert(next);
        if draft == next {
            let content = Content::Like(template, first);
            self.list.push(Draft { device, at, content, line: number, lines: 1 });
        } else {
            self.join(draft, &template, first);
        }
        Ok(())
    }

    /// Reads a line of which no template is known. Nothing if it has no numbers.
    fn read_anew(
        &mut self,
        line: Line<'_>,
        reading: Reading<'_>,
    ) -> Result<Option<Arc<Template>>, Wrong> {
        let mut tags = Vec::new();
        for tag in line.tags() {
            // One more than there may be labels, since one of them is the device.
            if tags.len() > LABELS_MAX {
                return Err(Wrong::ManyTags);
            }
            let (name, value) = tag?;
            tags.push((name.read(), value.read()));
        }
        let device = take_device(&mut tags, reading.sender.is_device())?;
        // Before its series get numbers, so that nobody fills the table with what is refused.
        self.check_sender(device.as_deref(), reading.sender)?;
        let values = values(line, &labels(tags)?, reading)?;
        self.strings += values.strings;
        if values.series.is_empty() {
            return Ok(None);
        }
        let mut seen = values.series.clone();
        seen.sort_unstable();
        seen.dedup();
        let is_plain = seen.len() == values.series.len();
        let (series, numbers) = if is_plain {
            (values.series, values.numbers)
        } else {
            Batch::last_of_each(&values.series, &values.numbers)
        };
        self.numbers.extend(numbers);
        let (names, shape) = (reading.names, reading.names.shape(&series));
        let device = device.map(Cow::into_owned);
        let template = Arc::new(Template::new(device, shape, values.fields, names));
        // Lines with text or with a field twice are read anew each time.
        if is_plain && values.strings == 0 && template.is_short(line.head()) {
            self.fresh.insert(line.head().into(), template.clone());
        }
        Ok(Some(template))
    }

    /// Keeps what was learned for later requests, of those devices, by their places, that whoever
    /// sends may speak for.
    pub(crate) fn teach(&mut self, templates: &Templates, is_allowed: impl Fn(usize) -> bool) {
        for (head, template) in std::mem::take(&mut self.fresh) {
            let place = match &template.device {
                Some(name) => self.places.get(name).copied(),
                None => self.own,
            };
            if place.is_some_and(&is_allowed) {
                templates.keep(head, template);
            }
        }
    }

    /// Whether whoever sends may speak for a device, as far as can be said of a name: an operator's
    /// is looked up with all others of the request.
    fn check_sender(&self, device: Option<&str>, sender: Sender<'_>) -> Result<(), Wrong> {
        let (Some(name), Sender::Device(_, is_own)) = (device, sender) else { return Ok(()) };
        if self.places.contains_key(name) || is_own(name) { Ok(()) } else { Err(Wrong::Foreign) }
    }

    /// Adds a line's values, which are the last ones read, to an earlier draft.
    fn join(&mut self, draft: usize, template: &Template, first: usize) {
        let draft = &mut self.list[draft];
        draft.lines += 1;
        if let Content::Like(template, first) = &draft.content {
            let series = template.shape.series();
            let numbers = &self.numbers[*first..*first + series.len()];
            draft.content = Content::Mixed(series.to_vec(), numbers.to_vec());
        }
        if let Content::Mixed(series, numbers) = &mut draft.content {
            series.extend(template.shape.series());
            numbers.extend(self.numbers.drain(first..));
        }
    }

    /// A device's place among those of the request.
    fn place(&mut self, device: Option<&str>) -> usize {
        let next = self.whose.len();
        let Some(name) = device else {
            if self.own.is_none() {
                self.whose.push(Whose::Own);
            }
            return *self.own.get_or_insert(next);
        };
        if let Some(place) = self.places.get(name) {
            return *place;
        }
        self.whose.push(Whose::Named(name.to_owned()));
        self.places.insert(name.to_owned(), next);
        next
    }

    fn check_size(&self) -> Result<(), OpsError> {
        if self.samples > TELEMETRY_SAMPLES_MAX {
            let problem = format!("more than {TELEMETRY_SAMPLES_MAX} samples in one request");
            return Err(OpsError::TooLarge(problem));
        }
        Ok(())
    }
}

fn time(line: Line<'_>, reading: Reading<'_>) -> Result<Timestamp, Wrong> {
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
    // A tag is a text, also where it looks like a number.
    let text = |value: Cow<'_, str>| crate::labels::text(value.into_owned().into());
    Ok(tags.into_iter().map(|(name, value)| (name.into_owned(), text(value))).collect())
}

/// A line's values.
#[derive(Default)]
struct Values {
    series: Vec<SeriesId>,
    numbers: Vec<Number>,
    /// The names of all fields, as they are written, each with [`FIELD_END`].
    fields: String,
    count: usize,
    /// How many fields are text.
    strings: u64,
}

fn values(
    line: Line<'_>,
    labels: &[(String, String)],
    reading: Reading<'_>,
) -> Result<Values, Wrong> {
    let (names, sender) = (reading.names, reading.sender.uid());
    let measurement = metric::mended_name(&line.measurement().read());
    let mut values = Values::default();
    for field in line.fields() {
        let field = field?;
        if values.count == TELEMETRY_SAMPLES_MAX {
            return Err(Wrong::ManyFields);
        }
        values.count += 1;
        values.fields.push_str(field.name.written());
        values.fields.push(FIELD_END);
        let Some(number) = field.number()? else {
            values.strings += 1;
            continue;
        };
        values.series.push(names.series_from(sender, &name(&measurement, field.name)?, labels)?);
        values.numbers.push(number);
    }
    Ok(values)
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
    use fleet_core::metric::Sample;

    use super::*;

    const NOW: i64 = 1_705_314_600_000;

    #[derive(Default)]
    struct Kit {
        names: Names,
        templates: Templates,
    }

    impl Kit {
        fn read(&self, body: &str, is_own: bool) -> Result<Drafts, OpsError> {
            let (now, precision) = (Timestamp::from_millis(NOW), Precision::Seconds);
            let (names, templates) = (&self.names, &self.templates);
            let is_a = |name: &str| name == "a";
            let device = Sender::Device(Uid::new(), &is_a);
            let sender = if is_own { device } else { Sender::Operator };
            let reading = Reading { names, templates, precision, now, sender };
            let mut drafts = Drafts::read(body.as_bytes(), reading)?;
            drafts.teach(templates, |_| true);
            Ok(drafts)
        }

        /// A draft's samples.
        fn samples(&self, drafts: &Drafts, place: usize) -> Vec<Sample> {
            let (series, numbers) = match &drafts.list[place].content {
                Content::Like(template, first) => {
                    let series = template.shape.series().to_vec();
                    let end = first + series.len();
                    (series, drafts.numbers[*first..end].to_vec())
                }
                Content::Mixed(series, numbers) => (series.clone(), numbers.clone()),
            };
            let names = series.into_iter().map(|id| self.names.name(id).unwrap());
            names.zip(numbers).map(|(name, number)| name.sample(number.get())).collect()
        }
    }

    fn drafts(body: &str, is_own: bool) -> Result<Drafts, OpsError> {
        Kit::default().read(body, is_own)
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
        // The second time, most lines are like those that are known.
        let kit = Kit::default();
        for _ in 0..2 {
            let read = kit.read(body, false).unwrap();
            assert_eq!(read.whose, [named("a"), named("b")]);
            let drafts = read.list.iter().enumerate().map(|(place, draft)| {
                let samples = kit.samples(&read, place);
                (draft.device, draft.at.millis(), draft.line, draft.lines, samples)
            });
            let sample = Sample::new;
            let expected = [
                (0, NOW, 1, 2, vec![sample("m", 1.0), sample("n_x", 2.0)]),
                (1, NOW, 3, 1, vec![sample("m", 3.0)]),
                (0, NOW + 1000, 4, 1, vec![sample("m", 4.0)]),
            ];
            assert_eq!(drafts.collect::<Vec<_>>(), expected);
            assert_eq!((read.lines, read.refused.lines, read.strings), (6, 1, 2));
            assert_eq!(read.refused.first.unwrap().0, 5);
        }
        let own = drafts("m value=5\nm,host=a value=6\nm value=7", true).unwrap();
        assert_eq!(own.whose, [Whose::Own, named("a")]);
        assert_eq!(own.list.len(), 2);
    }

    #[test]
    fn a_device_gives_no_numbers_to_what_it_says_of_others() {
        let kit = Kit::default();
        let body = "m,host=b value=1\nm,host=a value=2\nn,host=c x=1,y=2\nm,host=b value=3\nm =";
        // The second time an operator has said the same, so that all of it is known.
        for round in 0..2 {
            let read = kit.read(body, true).unwrap();
            assert_eq!((read.whose, read.list.len()), (vec![named("a")], 1));
            assert_eq!(read.foreign.lines, 3);
            assert_eq!(read.foreign.first, Some((1, OWN_ONLY.to_owned())));
            assert_eq!((read.refused.lines, read.refused.first.unwrap().0), (1, 5));
            assert_eq!(kit.names.len(), [1, 3][round]);
            assert_eq!(kit.read(body, false).unwrap().list.len(), 3);
        }
    }

    #[test]
    fn what_a_line_teaches_is_kept_if_it_may_be_sent() {
        let kit = Kit::default();
        let (now, precision) = (Timestamp::from_millis(NOW), Precision::Seconds);
        let (names, templates, sender) = (&kit.names, &kit.templates, Sender::Operator);
        let reading = Reading { names, templates, precision, now, sender };
        let body = "m,host=a x=1\nm,host=b x=1\nm,host=b x=2 1\nm,host=a x=3 1705314500";
        for allowed in [0, 1] {
            let mut read = Drafts::read(body.as_bytes(), reading).unwrap();
            assert_eq!((read.list.len(), read.refused.lines), (3, 1));
            read.teach(templates, |place| place == allowed);
            let is_known = |text: &str| {
                let (_, line) = lines(text.as_bytes()).next().unwrap();
                templates.get(line.unwrap()).is_some()
            };
            assert_eq!([is_known("m,host=a x=1"), is_known("m,host=b x=1")], [true, allowed == 1]);
        }
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
            let kit = Kit::default();
            let read = kit.read(&format!("m,{tags} value=1"), false).unwrap();
            assert_eq!(read.whose, [named(device)], "{tags}");
            let found = &kit.samples(&read, 0)[0].labels;
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
        let line = |fields: usize| {
            let fields: Vec<String> = (0..fields).map(|n| format!("f{n}=1")).collect();
            format!("m,host=a {}", fields.join(","))
        };
        assert!(drafts(&line(TELEMETRY_SAMPLES_MAX), false).is_ok());
        let too_many = format!("{}\n{}", line(TELEMETRY_SAMPLES_MAX), line(1));
        assert!(matches!(drafts(&too_many, false), Err(OpsError::TooLarge(_))));
    }
}
