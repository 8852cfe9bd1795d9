//! Tables of one device made one, ordered by time.

use std::collections::BTreeMap;

use super::chunk::{Column, ColumnKey, Rows, Table};
use super::number::Number;

/// All rows of some tables by time; of one time, in the order of the tables.
pub(super) fn merged(mut tables: Vec<Table>) -> Table {
    if tables.len() == 1
        && let Some(table) = tables.pop()
    {
        return table;
    }
    let (times, places) = ordered_rows(&tables);
    let mut found: BTreeMap<ColumnKey, Vec<(u32, Number)>> = BTreeMap::new();
    for (table, places) in tables.iter().zip(&places) {
        for column in &table.columns {
            let values = found.entry(column.key).or_default();
            match &column.rows {
                Rows::All => {
                    values.extend(places.iter().copied().zip(column.numbers.iter().copied()));
                }
                Rows::Some(rows) => {
                    let places = rows.iter().map(|row| places[*row as usize]);
                    values.extend(places.zip(column.numbers.iter().copied()));
                }
            }
        }
    }
    let columns = found.into_iter().map(|(key, values)| column(key, values, times.len())).collect();
    Table { times, columns }
}

/// The times in order, and for each table the places of its rows among them.
fn ordered_rows(tables: &[Table]) -> (Vec<i64>, Vec<Vec<u32>>) {
    let mut rows: Vec<(i64, u32, u32)> = Vec::new();
    for (number, table) in tables.iter().enumerate() {
        let row = |(row, at): (usize, &i64)| (*at, number as u32, row as u32);
        rows.extend(table.times.iter().enumerate().map(row));
    }
    if !rows.is_sorted() {
        rows.sort_unstable();
    }
    let mut places: Vec<Vec<u32>> = tables.iter().map(|table| vec![0; table.times.len()]).collect();
    for (place, (_, table, row)) in rows.iter().enumerate() {
        places[*table as usize][*row as usize] = place as u32;
    }
    (rows.into_iter().map(|(at, _, _)| at).collect(), places)
}

fn column(key: ColumnKey, mut values: Vec<(u32, Number)>, rows: usize) -> Column {
    if !values.is_sorted_by_key(|(row, _)| *row) {
        values.sort_unstable_by_key(|(row, _)| *row);
    }
    let is_full = values.len() == rows;
    let numbers = values.iter().map(|(_, number)| *number).collect();
    let rows = if is_full {
        Rows::All
    } else {
        Rows::Some(values.into_iter().map(|(row, _)| row).collect())
    };
    Column { key, rows, numbers }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::series::chunk::Part;

    fn key(series: u32) -> ColumnKey {
        ColumnKey { series, part: Part::Value }
    }

    fn numbers(values: &[f64]) -> Vec<Number> {
        values.iter().map(|value| Number::new(*value)).collect()
    }

    #[test]
    fn rows_stand_by_time_and_gaps_stay_gaps() {
        let column = |series, rows, values: &[f64]| Column {
            key: key(series),
            rows,
            numbers: numbers(values),
        };
        let one = Table {
            times: vec![10, 30],
            columns: vec![
                column(1, Rows::All, &[1.0, 3.0]),
                column(2, Rows::Some(vec![1]), &[9.0]),
            ],
        };
        let two = Table {
            times: vec![20, 30],
            columns: vec![column(1, Rows::All, &[2.0, 4.0]), column(3, Rows::All, &[7.0, 8.0])],
        };
        let table = merged(vec![one.clone(), two]);
        assert_eq!(table.times, [10, 20, 30, 30]);
        assert_eq!(
            table.columns,
            [
                column(1, Rows::All, &[1.0, 2.0, 3.0, 4.0]),
                column(2, Rows::Some(vec![2]), &[9.0]),
                column(3, Rows::Some(vec![1, 3]), &[7.0, 8.0]),
            ]
        );
        assert_eq!(merged(vec![one.clone()]), one);
    }
}
