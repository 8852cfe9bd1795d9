//! Which columns fit, how wide, and in which form.

use fleet_core::field::{Field, Kind};

use super::{BAR_WIDTH, SPARK_WIDTH};
use crate::state::data::Widths;

/// Cells between columns.
const GAP: u16 = 1;
/// Columns that can be spared as easily as this go before pictures do.
const LUXURY: u8 = 8;
/// The least that a column of free text has.
const FREE_MIN: u16 = 10;
/// The most that a device's id gets.
const DEVICE_MAX: u16 = 24;

/// A column on the screen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Column {
    pub(super) field: Field,
    pub(super) x: u16,
    pub(super) width: u16,
    pub(super) form: Form,
}

/// How numbers look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    Text,
    Bar,
    Spark,
}

/// The columns that fit into `room` cells. What can be spared most easily goes first, then pictures,
/// then columns one by one; what is left over goes to the free text.
pub(super) fn fitted(fields: &[Field], widths: Widths, room: u16) -> Vec<Column> {
    let all = |is_wide| fields.iter().map(move |field| column(*field, widths, is_wide)).collect();
    let mut columns: Vec<Column> = all(true);
    drop_spare(&mut columns, room, LUXURY);
    if total(&columns) > room {
        columns = all(false);
        drop_spare(&mut columns, room, 1);
    }
    grow(&mut columns, room);
    let mut x = 0;
    for column in &mut columns {
        column.x = x;
        column.width = column.width.min(room.saturating_sub(x));
        x += column.width + GAP;
    }
    columns.retain(|column| column.width > 0);
    columns
}

/// Takes columns away until the others fit, or no other can be spared as easily as `least`.
fn drop_spare(columns: &mut Vec<Column>, room: u16, least: u8) {
    while total(columns) > room {
        let spare = |column: &(usize, &Column)| column.1.field.spec().spare;
        match columns.iter().enumerate().max_by_key(spare) {
            Some((place, column)) if column.field.spec().spare >= least => columns.remove(place),
            _ => return,
        };
    }
}

fn column(field: Field, widths: Widths, is_wide: bool) -> Column {
    let spec = field.spec();
    let (extra, form) = match field {
        Field::Cpu if is_wide => (SPARK_WIDTH + 1, Form::Spark),
        Field::Memory | Field::Disk if is_wide => (BAR_WIDTH + 1, Form::Bar),
        // The glyph before the word.
        Field::Status => (2, Form::Text),
        _ => (0, Form::Text),
    };
    // One more than the title has, for the sign of the sort.
    let title = u16::try_from(spec.title.len()).unwrap_or(u16::MAX).saturating_add(1);
    let width = match field {
        Field::Device => fitting(widths.device, DEVICE_MAX),
        Field::Type => fitting(widths.device_type, spec.width),
        _ if is_free(field) => FREE_MIN.min(spec.width),
        _ => spec.width,
    };
    Column { field, x: 0, width: width.max(title) + extra, form }
}

fn fitting(longest: usize, most: u16) -> u16 {
    u16::try_from(longest).unwrap_or(u16::MAX).min(most)
}

fn is_free(field: Field) -> bool {
    let is_text = matches!(field.spec().kind, Kind::Text | Kind::Words);
    is_text && !matches!(field, Field::Device | Field::Type | Field::Config)
}

fn total(columns: &[Column]) -> u16 {
    columns.iter().map(|column| column.width + GAP).sum::<u16>().saturating_sub(GAP)
}

fn grow(columns: &mut [Column], room: u16) {
    let mut left = room.saturating_sub(total(columns));
    let free = columns.iter().filter(|column| is_free(column.field)).count();
    let mut free_left = u16::try_from(free).unwrap_or(u16::MAX);
    for column in columns.iter_mut().filter(|column| is_free(column.field)) {
        let more = left / free_left;
        column.width += more;
        left -= more;
        free_left -= 1;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn names(room: u16) -> Vec<&'static str> {
        fitted(&Field::usual(), Widths { device: 13, device_type: 11 }, room)
            .iter()
            .map(|column| column.field.spec().name)
            .collect()
    }

    #[test]
    fn a_usual_terminal_keeps_what_says_most() {
        assert_eq!(
            names(77),
            ["status", "device", "cpu", "mem", "disk", "last_seen", "version", "why"]
        );
        assert!(names(117).contains(&"type") && names(150).contains(&"tag"));
        assert!(names(57).starts_with(&["status", "device", "cpu", "mem", "disk"]));
    }

    proptest! {
        #[test]
        fn columns_stand_side_by_side_within_the_room(
            fields in prop::collection::vec(prop::sample::select(Field::all().collect::<Vec<_>>()), 0..22),
            device in 0..300_usize,
            room in 0..400_u16,
        ) {
            let mut end = 0;
            for column in fitted(&fields, Widths { device, device_type: 11 }, room) {
                prop_assert!(column.x >= end);
                end = column.x + column.width;
                prop_assert!(end <= room);
            }
        }
    }
}
