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

/// The rows of some times, if there are any.
pub(super) fn filtered(table: &Table, is_wanted: impl Fn(i64) -> bool) -> Option<Table> {
    let wanted: Vec<bool> = table.times.iter().map(|at| is_wanted(*at)).collect();
    let times = kept(&table.times, wanted.iter().copied());
    if times.is_empty() {
        return None;
    }
    let mut places: Vec<u32> = Vec::with_capacity(wanted.len());
    let mut next = 0;
    for is_wanted in &wanted {
        places.push(next);
        next += u32::from(*is_wanted);
    }
    let mut columns = Vec::new();
    for column in &table.columns {
        let numbers = match &column.rows {
            Rows::All => kept(&column.numbers, wanted.iter().copied()),
            Rows::Some(rows) => kept(&column.numbers, rows.iter().map(|row| wanted[*row as usize])),
        };
        let rows = match &column.rows {
            Rows::All => Rows::All,
            Rows::Some(_) if numbers.len() == times.len() => Rows::All,
            Rows::Some(rows) => {
                let rows = rows.iter().filter(|row| wanted[**row as usize]);
                Rows::Some(rows.map(|row| places[*row as usize]).collect())
            }
        };
        if !numbers.is_empty() {
            columns.push(Column { key: column.key, rows, numbers });
        }
    }
    Some(Table { times, columns })
}

fn kept<T: Copy>(all: &[T], is_wanted: impl Iterator<Item = bool>) -> Vec<T> {
    all.iter().zip(is_wanted).filter(|(_, is_wanted)| *is_wanted).map(|(one, _)| *one).collect()
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

    #[test]
    fn rows_of_some_times_keep_their_values() {
        let table = Table {
            times: vec![10, 20, 20, 30],
            columns: vec![
                Column { key: key(1), rows: Rows::All, numbers: numbers(&[1.0, 2.0, 2.5, 3.0]) },
                Column { key: key(2), rows: Rows::Some(vec![0, 3]), numbers: numbers(&[7.0, 9.0]) },
                Column { key: key(3), rows: Rows::Some(vec![1, 2]), numbers: numbers(&[5.0, 6.0]) },
            ],
        };
        let found = filtered(&table, |at| at > 10).unwrap();
        assert_eq!(found.times, [20, 20, 30]);
        assert_eq!(
            found.columns,
            [
                Column { key: key(1), rows: Rows::All, numbers: numbers(&[2.0, 2.5, 3.0]) },
                Column { key: key(2), rows: Rows::Some(vec![2]), numbers: numbers(&[9.0]) },
                Column { key: key(3), rows: Rows::Some(vec![0, 1]), numbers: numbers(&[5.0, 6.0]) },
            ]
        );
        let ends = filtered(&table, |at| at != 20).unwrap();
        assert_eq!(ends.columns[1].rows, Rows::All);
        assert_eq!(ends.columns.len(), 2, "a column without values is none");
        assert_eq!(filtered(&table, |_| true), Some(table.clone()));
        assert_eq!(filtered(&table, |_| false), None);
    }
}
