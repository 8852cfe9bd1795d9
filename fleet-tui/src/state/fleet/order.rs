//! Sorting many rows while somebody types: by a number for each row where the key has one.

use fleet_core::field::{Kind, SortKey};
use fleet_core::filter::{self, Subject as _};

use crate::state::data::Row;

/// Sorts rows that are in the order of their ids, exactly as [`filter::compare`] would.
pub(super) fn sort(rows: &mut [&Row], key: SortKey) {
    match key.field.spec().kind {
        Kind::Status | Kind::Percent | Kind::Celsius | Kind::Age => {
            // Equal ones stay in the order of their ids.
            rows.sort_by_cached_key(|row| rank(row, key));
        }
        Kind::Text | Kind::Version | Kind::Words => {
            rows.sort_by(|a, b| filter::compare(key, *a, *b));
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
                let mut fast: Vec<_> = app.desk.data.rows().collect();
                let mut slow = fast.clone();
                sort(&mut fast, key);
                slow.sort_by(|a, b| filter::compare(key, *a, *b));
                let slots =
                    |rows: &[&Row]| rows.iter().map(|row| row.index.slot).collect::<Vec<_>>();
                assert_eq!(slots(&fast), slots(&slow), "{key}");
            }
        }
    }
}
