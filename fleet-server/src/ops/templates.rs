//! What lines came to lately, so that the next one like it needs no text at all: most senders write
//! the same measurement, tags and fields again and again, and only the values change.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use super::vitals::{Numbers, Vital};
use crate::influx::Line;
use crate::series::names::{Names, Shape};
use crate::series::number::Number;

/// Bytes of all templates. When there are more all are forgotten, which costs little.
const BYTES_MAX: usize = 32 * 1024 * 1024;
/// Bytes of a template besides its texts and lists.
const OVERHEAD: usize = 256;
/// Bytes of a line's measurement and tags, and of its fields' names, for which one is kept.
const HEAD_BYTES_MAX: usize = 1_024;
const FIELDS_BYTES_MAX: usize = 4_096;
/// What no field's name has in it, since it would end the line.
pub(super) const FIELD_END: char = '\n';

/// Templates by measurement and tags as they are written.
#[derive(Debug, Default)]
pub(crate) struct Templates(RwLock<Kept>);

#[derive(Debug, Default)]
struct Kept {
    by_head: HashMap<Box<str>, Arc<Template>>,
    /// Of all together.
    bytes: usize,
}

/// What a line comes to, but for its values and its time.
#[derive(Debug)]
pub(crate) struct Template {
    /// Whom it is about; none if it is about its sender.
    pub(super) device: Option<String>,
    pub(super) shape: Arc<Shape>,
    /// The names of the fields, as they are written, each with a line's end after it.
    fields: Box<str>,
    /// Which values lists show.
    vitals: Vec<(usize, Vital)>,
}

impl Template {
    pub(super) fn new(
        device: Option<String>,
        shape: Arc<Shape>,
        fields: String,
        names: &Names,
    ) -> Self {
        let vitals = vitals_of(&shape, names);
        Self { device, shape, fields: fields.into(), vitals }
    }

    /// Whether it is short enough to be kept for lines that begin so.
    pub(super) fn is_short(&self, head: &str) -> bool {
        head.len() <= HEAD_BYTES_MAX && self.fields.len() <= FIELDS_BYTES_MAX
    }

    /// Bytes that it takes, as if nobody else had its shape.
    fn bytes(&self, head: &str) -> usize {
        let texts = head.len() + self.fields.len() + self.device.as_ref().map_or(0, String::len);
        let lists = size_of_val(self.shape.series()) + size_of_val(self.vitals.as_slice());
        OVERHEAD + texts + lists
    }

    /// Reads a line's values, if it has just these fields and they are numbers. Otherwise nothing
    /// is added.
    pub(super) fn read(&self, line: Line<'_>, numbers: &mut Vec<Number>) -> bool {
        let before = numbers.len();
        let mut rest = &*self.fields;
        for field in line.fields() {
            let number = field.ok().and_then(|field| {
                rest = rest.strip_prefix(field.name.written())?.strip_prefix(FIELD_END)?;
                field.number().ok()?
            });
            let Some(number) = number else {
                numbers.truncate(before);
                return false;
            };
            numbers.push(number);
        }
        if !rest.is_empty() {
            numbers.truncate(before);
            return false;
        }
        true
    }

    /// What of a line's values lists show.
    pub(super) fn numbers(&self, values: &[Number]) -> Numbers {
        shown(&self.vitals, values)
    }
}

impl Templates {
    /// The template of lines that begin so.
    pub(super) fn get(&self, line: Line<'_>) -> Option<Arc<Template>> {
        let templates = self.0.read().unwrap_or_else(PoisonError::into_inner);
        templates.by_head.get(line.head()).cloned()
    }

    /// Keeps a template for lines that begin so.
    pub(super) fn keep(&self, head: Box<str>, template: Arc<Template>) {
        let bytes = template.bytes(&head);
        let mut kept = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if kept.bytes + bytes > BYTES_MAX {
            *kept = Kept::default();
        }
        kept.bytes += bytes;
        if let Some(before) = kept.by_head.get(&head) {
            kept.bytes -= before.bytes(&head);
        }
        kept.by_head.insert(head, template);
    }
}

/// Where in a report of a shape the values are that lists show.
pub(super) fn vitals_of(shape: &Shape, names: &Names) -> Vec<(usize, Vital)> {
    let series = shape.series().iter().enumerate();
    let vital = |(place, id)| {
        let name = names.name(id)?;
        Some((place, Vital::of(&name.metric, !name.labels.is_empty())?))
    };
    series.filter_map(|(place, id)| vital((place, *id))).collect()
}

/// The values that lists show.
pub(super) fn shown(vitals: &[(usize, Vital)], values: &[Number]) -> Numbers {
    let mut numbers = Numbers::default();
    for (place, vital) in vitals {
        numbers.note(*vital, values[*place].get());
    }
    numbers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_take_so_much_room_and_no_more() {
        let (names, templates) = (Names::default(), Templates::default());
        let none: [(&str, &str); 0] = [];
        let series: Vec<_> =
            (0..1_000).map(|n| names.series(&format!("m{n}"), &none).unwrap()).collect();
        let fields = "x\n".repeat(series.len());
        let template = || {
            let shape = names.shape(&series);
            Arc::new(Template::new(Some("a".to_owned()), shape, fields.clone(), &names))
        };
        let bytes = |kept: &Kept| {
            kept.by_head.iter().map(|(head, template)| template.bytes(head)).sum::<usize>()
        };
        let (mut most, mut ends) = (0, 0);
        for number in 0..24_000 {
            let before = templates.0.read().unwrap().bytes;
            // Now and then one that is known comes again.
            templates.keep(format!("m,n={}", number - number % 3).into(), template());
            let kept = templates.0.read().unwrap();
            assert!(kept.bytes <= BYTES_MAX, "{number}");
            ends += usize::from(kept.bytes < before);
            most = most.max(kept.bytes);
            if number % 1_000 == 0 {
                assert_eq!(kept.bytes, bytes(&kept));
            }
        }
        assert!(most > BYTES_MAX - 10_000 && ends == 1, "{most} {ends}");
        let template = template();
        assert!(template.is_short(&"h".repeat(HEAD_BYTES_MAX)));
        assert!(!template.is_short(&"h".repeat(HEAD_BYTES_MAX + 1)));
    }
}
