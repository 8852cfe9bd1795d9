//! What a chunk promises: everything comes back, the bytes stay what they are, and nothing else is
//! taken for a chunk.

mod golden;
mod hostile;
mod made_up;
mod whole;

use proptest::prelude::*;

use super::check::{EFFORTS, comes_back, comes_in_parts};
use super::*;
use crate::series::number::Number;
use made_up::table;

fn number(text: &str) -> Number {
    Number::parse(text.as_bytes()).expect("it is a number")
}

fn column(series: u32, part: Part, numbers: impl IntoIterator<Item = Number>) -> Column {
    let key = ColumnKey { series, part };
    Column { key, rows: Rows::All, numbers: numbers.into_iter().collect() }
}

/// In the order in which a chunk has them.
fn sorted(mut table: Table) -> Table {
    table.columns.sort_by_key(|column| column.key);
    table
}

#[test]
fn one_report_is_a_chunk() {
    let table = Table { times: vec![-5], columns: vec![column(7, Part::Value, [number("45.23")])] };
    for effort in EFFORTS {
        let bytes = encode(&table, effort);
        let chunk = Chunk::open(&bytes).unwrap();
        assert_eq!((chunk.rows(), chunk.first_time(), chunk.last_time()), (1, -5, -5));
        assert_eq!(chunk.table().unwrap(), table);
    }
}

#[test]
fn what_is_not_there_is_none() {
    let table = Table { times: vec![1, 2], columns: vec![] };
    let bytes = encode(&table, Effort::Best);
    let chunk = Chunk::open(&bytes).unwrap();
    let key = ColumnKey { series: 1, part: Part::Value };
    assert_eq!(chunk.column(key), Ok(None));
    assert_eq!(chunk.values(key, &mut Vec::new()), Ok(None));
    assert_eq!(chunk.table().unwrap(), table);
}

#[test]
fn what_could_not_be_read_back_is_not_sound() {
    let sound = Table { times: vec![1, 2], columns: vec![column(7, Part::Sum, [number("1"); 2])] };
    assert!(sound.is_sound());
    let some = |rows: &[u32]| Rows::Some(rows.to_vec());
    for (what, spoil) in [
        (
            "no report",
            &(|table: &mut Table| *table = Table { times: vec![], columns: vec![] })
                as &dyn Fn(&mut Table),
        ),
        ("time goes back", &|table| table.times = vec![2, 1]),
        ("a number is missing", &|table| table.columns[0].numbers.truncate(1)),
        ("a row is missing", &|table| table.columns[0].rows = some(&[1])),
        ("rows go back", &|table| table.columns[0].rows = some(&[1, 0])),
        ("a row twice", &|table| table.columns[0].rows = some(&[1, 1])),
        ("no such row", &|table| table.columns[0].rows = some(&[0, 2])),
        ("too many rows", &|table| {
            table.times = vec![1; ROWS_MAX + 1];
            table.columns.clear();
        }),
        ("too many columns", &|table| {
            let columns = (0..=COLUMNS_MAX as u32).map(|at| column(at, Part::Min, []));
            table.columns = columns.map(|column| Column { rows: some(&[]), ..column }).collect();
        }),
        ("a column twice", &|table| table.columns = vec![table.columns[0].clone(); 2]),
    ] {
        let mut table = sound.clone();
        spoil(&mut table);
        let encoded = std::panic::catch_unwind(|| encode(&table, Effort::Quick));
        assert!(encoded.is_err(), "{what}");
    }
}

#[test]
fn columns_with_the_same_gaps_share_them() {
    let rows: Vec<u32> = (0..300).filter(|row| row * row % 11 < 4).collect();
    let with_gaps = |series| Column {
        rows: Rows::Some(rows.clone()),
        ..column(series, Part::Value, vec![number("1"); rows.len()])
    };
    let length = |count: u32| {
        let columns = (0..count).map(with_gaps).collect();
        encode(&Table { times: (0..300).collect(), columns }, Effort::Quick).len()
    };
    assert!(length(1) > 300 / 8);
    assert!(length(11) - length(1) < 10 * 10);
}

#[test]
fn the_largest_chunks_are_chunks() {
    let times = (0..ROWS_MAX as i64).map(|at| at * 10_000 + at * at % 7).collect();
    let numbers = (0..ROWS_MAX as i64).map(|at| Number::new((at % 97) as f64 / 4.));
    let long = Table { times, columns: vec![column(1, Part::Max, numbers)] };
    let wide = (0..COLUMNS_MAX as u32).map(|at| column(at * 3, Part::Value, [number("2.5")]));
    let wide = Table { times: vec![9], columns: wide.collect() };
    for (table, effort) in [(&long, Effort::Quick), (&long, Effort::Best), (&wide, Effort::Best)] {
        let bytes = encode(table, effort);
        assert_eq!(Chunk::open(&bytes).unwrap().table().as_ref(), Ok(table));
    }
}

proptest! {
    #[test]
    fn every_table_comes_back(table in table(1..200)) {
        comes_back(&sorted(table));
    }

    #[test]
    fn a_column_comes_alone(table in table(1..120)) {
        comes_in_parts(&table);
    }

    #[test]
    fn best_is_never_longer_than_quick(table in table(1..300)) {
        let [quick, best] = EFFORTS.map(|effort| encode(&table, effort).len());
        // What a frame says of itself differs by some bytes a column.
        prop_assert!(best <= quick + 24 * (table.columns.len() + 1), "{best} > {quick}");
    }
}
