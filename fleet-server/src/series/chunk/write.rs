//! Makes a chunk of a table.

use std::collections::BTreeMap;

use super::directory::{self, Directory, Entry, Set};
use super::table::{Column, Rows, Table};
use super::{Effort, VERSION, column, gaps, whole};

/// Bytes of a number, generously; more is allowed.
const BYTES_EXPECTED: usize = 2;

/// The chunk of a table.
///
/// # Panics
///
/// If the table is not sound, see [`Table::is_sound`]: it could not be read back.
pub fn encode(table: &Table, effort: Effort) -> Vec<u8> {
    assert!(table.is_sound(), "a table that no chunk can hold");
    let mut columns: Vec<&Column> = table.columns.iter().collect();
    columns.sort_by_key(|column| column.key);

    let rows = table.times.len();
    let numbers: usize = columns.iter().map(|column| column.numbers.len()).sum();
    let mut scratch = column::Scratch::default();
    let mut body = Vec::with_capacity((rows + numbers) * BYTES_EXPECTED);
    let (first, last) = (table.times[0], table.times[rows - 1]);
    let times: Vec<i64> = table.times.iter().map(|time| time.wrapping_sub(first)).collect();
    whole::put(&mut body, 0, &times, effort, &mut scratch.whole);
    let times = 0..body.len();
    let (sets, set_of) = put_sets(&mut body, &columns, rows, &mut scratch.whole);
    let entry = |(column, set): (&&Column, Option<usize>)| {
        let start = body.len();
        column::put(&mut body, &column.numbers, effort, &mut scratch);
        Entry { key: column.key, set, at: start..body.len() }
    };
    let columns = columns.iter().zip(set_of).map(entry).collect();

    let mut chunk = Vec::with_capacity(body.len() + 64);
    chunk.push(VERSION);
    directory::put(&mut chunk, &Directory { rows, first, last, times, sets, columns });
    chunk.extend(body);
    chunk.extend(crc32c::crc32c(&chunk).to_le_bytes());
    chunk
}

/// Appends the sets of rows that there are, each once; and says which each column has.
fn put_sets(
    body: &mut Vec<u8>,
    columns: &[&Column],
    rows: usize,
    scratch: &mut whole::Scratch,
) -> (Vec<Set>, Vec<Option<usize>>) {
    let mut sets = Vec::new();
    let mut known: BTreeMap<&[u32], usize> = BTreeMap::new();
    let set_of = columns.iter().map(|column| {
        let Rows::Some(some) = &column.rows else { return None };
        Some(*known.entry(some).or_insert_with(|| {
            let start = body.len();
            gaps::put(body, some, rows, scratch);
            sets.push(Set { count: some.len(), at: start..body.len() });
            sets.len() - 1
        }))
    });
    let set_of = set_of.collect();
    (sets, set_of)
}
