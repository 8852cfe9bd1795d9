//! Which columns fit, how wide, and in which form.

use fleet_core::field::{Field, Kind};

use super::{BAR_WIDTH, SPARK_WIDTH};

/// Cells between columns.
const GAP: u16 = 1;
/// The least that a column of free text has.
const FREE_MIN: u16 = 10;
/// The most that the device's column grows to; what is left is for free text.
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

/// The columns that fit into `room` cells: first pictures go, then the columns that can be spared
/// most easily; what is left over goes to the names and the free text.
pub(super) fn fitted(fields: &[Field], room: u16) -> Vec<Column> {
    let mut columns: Vec<Column> = fields.iter().map(|field| column(*field, true)).collect();
    if total(&columns) > room {
        columns = fields.iter().map(|field| column(*field, false)).collect();
    }
    while total(&columns) > room {
        let spare = |column: &(usize, &Column)| column.1.field.spec().spare;
        match columns.iter().enumerate().max_by_key(spare) {
            Some((place, column)) if column.field.spec().spare > 0 => columns.remove(place),
            _ => break,
        };
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

fn column(field: Field, is_wide: bool) -> Column {
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
    let width = if is_free(field) { FREE_MIN.min(spec.width) } else { spec.width };
    Column { field, x: 0, width: width.max(title) + extra, form }
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
    for column in columns.iter_mut().filter(|column| column.field == Field::Device) {
        let more = left.min(DEVICE_MAX - column.width.min(DEVICE_MAX));
        column.width += more;
        left -= more;
    }
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
        fitted(&Field::usual(), room).iter().map(|column| column.field.spec().name).collect()
    }

    #[test]
    fn a_usual_terminal_keeps_what_says_most() {
        assert_eq!(
            names(77),
            ["status", "device", "cpu", "mem", "disk", "last_seen", "version", "why"]
        );
        assert!(names(117).contains(&"tag"));
        assert!(names(57).starts_with(&["status", "device", "cpu", "mem", "disk"]));
    }

    proptest! {
        #[test]
        fn columns_stand_side_by_side_within_the_room(
            fields in prop::collection::vec(prop::sample::select(Field::all().collect::<Vec<_>>()), 0..22),
            room in 0..400_u16,
        ) {
            let mut end = 0;
            for column in fitted(&fields, room) {
                prop_assert!(column.x >= end);
                end = column.x + column.width;
                prop_assert!(end <= room);
            }
        }
    }
}
