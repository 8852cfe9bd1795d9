//! Sorting many rows while somebody types: by a number for each row where the key has one.

use fleet_core::field::{Kind, SortKey};
use fleet_core::filter::{self, Subject as _};

use crate::state::data::Row;

/// The slots of rows, which come in the order of their ids, sorted exactly as [`filter::compare`]
/// would. Each row is looked at once, while the filter has it at hand.
pub(super) fn sorted<'a>(rows: impl Iterator<Item = &'a Row>, key: SortKey) -> Vec<u32> {
    match key.field.spec().kind {
        Kind::Status | Kind::Percent | Kind::Celsius | Kind::Age => {
            let mut ranked: Vec<_> = rows.map(|row| (rank(row, key), row.index.slot)).collect();
            // Equal ones stay in the order of their ids.
            ranked.sort_by_key(|(rank, _)| *rank);
            ranked.into_iter().map(|(_, slot)| slot).collect()
        }
        Kind::Text | Kind::Version | Kind::Words => {
            let mut rows: Vec<_> = rows.collect();
            rows.sort_by(|a, b| filter::compare(key, *a, *b));
            rows.into_iter().map(|row| row.index.slot).collect()
        }
    }
}

/// The least comes first; what has no value comes last whatever the direction.
fn rank(row: &Row, key: SortKey) -> (bool, i64) {
    let value = match key.field.spec().kind {
        Kind::Status => Some(i64::from(filter::urgency(row.status()))),
        // What is longer ago is more.
        Kind::Age => row.time(key.field).map(|time| -time.millis()),
        // Whole numbers, as the stream has them.
        _ => row.number(key.field).map(|number| number as i64),
    };
    match value {
        Some(value) => (false, if key.is_descending { -value } else { value }),
        None => (true, 0),
    }
}

#[cfg(test)]
mod tests {
    use fleet_core::field::Field;

    use super::*;
    use crate::sample;

    #[test]
    fn the_order_is_the_one_of_lists() {
        let app = sample::app(300, ratatui::layout::Size::new(80, 24));
        for field in Field::all() {
            for is_descending in [false, true] {
                let key = SortKey { field, is_descending };
                let mut rows: Vec<_> = app.desk.data.rows().collect();
                rows.sort_by(|a, b| filter::compare(key, *a, *b));
                let expected: Vec<_> = rows.iter().map(|row| row.index.slot).collect();
                assert_eq!(sorted(app.desk.data.rows(), key), expected, "{key}");
            }
        }
    }
}
