//! What lines came to lately, so that the next one like it needs no text at all: most senders write
//! the same measurement, tags and fields again and again, and only the values change.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use super::vitals::{Numbers, Vital};
use crate::influx::Line;
use crate::series::names::{Names, Shape};
use crate::series::number::Number;

/// Templates that are kept. When there are more all are forgotten, which costs little.
const TEMPLATES_MAX: usize = 50_000;
/// Bytes of a line's measurement and tags, and of its fields' names, for which one is kept.
const HEAD_BYTES_MAX: usize = 1_024;
const FIELDS_BYTES_MAX: usize = 4_096;

/// Templates by measurement and tags as they are written.
#[derive(Debug, Default)]
pub(crate) struct Templates(RwLock<HashMap<Box<str>, Arc<Template>>>);

/// What a line comes to, but for its values and its time.
#[derive(Debug)]
pub(crate) struct Template {
    /// Whom it is about; none if it is about its sender.
    pub(super) device: Option<String>,
    pub(super) shape: Arc<Shape>,
    /// The names of the fields, as they are written.
    fields: Vec<Box<str>>,
    /// Which values lists show.
    vitals: Vec<(usize, Vital)>,
}

impl Template {
    pub(super) fn new(
        device: Option<String>,
        shape: Arc<Shape>,
        fields: Vec<Box<str>>,
        names: &Names,
    ) -> Self {
        let vitals = vitals_of(&shape, names);
        Self { device, shape, fields, vitals }
    }

    /// Reads a line's values, if it has just these fields and they are numbers. Otherwise nothing
    /// is added.
    pub(super) fn read(&self, line: Line<'_>, numbers: &mut Vec<Number>) -> bool {
        let before = numbers.len();
        let mut names = self.fields.iter();
        for field in line.fields() {
            let number = match (field, names.next()) {
                (Ok(field), Some(name)) if *field.name.written() == **name => field.number(),
                _ => Ok(None),
            };
            let Ok(Some(number)) = number else {
                numbers.truncate(before);
                return false;
            };
            numbers.push(number);
        }
        if names.next().is_some() {
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
        templates.get(line.head()).cloned()
    }

    /// Keeps a template for lines that begin so.
    pub(super) fn keep(&self, line: Line<'_>, template: Arc<Template>) {
        let bytes = template.fields.iter().map(|field| field.len()).sum::<usize>();
        if line.head().len() > HEAD_BYTES_MAX || bytes > FIELDS_BYTES_MAX {
            return;
        }
        let mut templates = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if templates.len() >= TEMPLATES_MAX {
            templates.clear();
        }
        templates.insert(line.head().into(), template);
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
