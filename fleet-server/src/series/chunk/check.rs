//! What must hold of all bytes that may be a chunk and of all tables: for tests, and for the fuzzer.

use fleet_core::disk::sim::Dice;

use super::*;
use crate::series::number::{Number, SCALE_MAX};

pub(super) const EFFORTS: [Effort; 2] = [Effort::Quick, Effort::Best];
/// Numbers in a table that a fuzzer lets be written again; writing more takes long.
const NUMBERS_TRIED: usize = 1 << 12;
/// Columns of a table that a fuzzer makes.
const COLUMNS_TRIED: usize = 6;

/// The door of the fuzz target `chunk`: any bytes, as they are and with the checksum that belongs to
/// them. A table that they hold is one that can be written.
pub(crate) fn chunk(bytes: &[u8]) {
    let _ = read_all(bytes);
    let sealed = sealed(bytes);
    let _ = read_all(&sealed);
    let Ok(chunk) = Chunk::open(&sealed) else { return };
    let Ok(table) = chunk.table() else { return };
    let numbers = table.columns.iter().map(|column| column.numbers.len());
    if table.times.len() + numbers.sum::<usize>() <= NUMBERS_TRIED {
        comes_back(&table);
    }
}

/// The door of the fuzz target `table`: a table that the bytes decide on.
pub(crate) fn any_table(bytes: &[u8]) {
    let mut dice = Dice::loaded(bytes);
    let rows = 1 + dice.below(200);
    let mut times = numbers(&mut dice, rows);
    times.sort_unstable();
    let mut table = Table { times, columns: Vec::new() };
    while dice.is_loaded() && table.columns.len() < COLUMNS_TRIED {
        let series = [dice.below(4) as u32, dice.number() as u32][dice.below(2)];
        let key = ColumnKey { series, part: Part::ALL[dice.below(Part::ALL.len())] };
        let some: Vec<u32> = match dice.below(4) {
            0 => (0..rows as u32).filter(|_| dice.one_in(3)).collect(),
            1 => (0..rows as u32).step_by(1 + dice.below(rows)).collect(),
            _ => (0..rows as u32).collect(),
        };
        let bits = numbers(&mut dice, some.len());
        let scale = dice.below(usize::from(SCALE_MAX) + 2) as u8;
        let number = |bits: i64| match Number::from_decimal(bits, scale) {
            Some(number) => number,
            // Bits of no decimal are those of a float.
            None => Number::new(f64::from_bits(bits as u64)),
        };
        let numbers = bits.into_iter().map(number).collect();
        let rows = if some.len() == rows { Rows::All } else { Rows::Some(some) };
        if table.columns.iter().all(|column| column.key != key) {
            table.columns.push(Column { key, rows, numbers });
        }
    }
    comes_in_parts(&table);
    table.columns.sort_by_key(|column| column.key);
    comes_back(&table);
}

/// So many whole numbers: far apart, near a line, or near each other.
fn numbers(dice: &mut Dice, count: usize) -> Vec<i64> {
    let (how, first) = (dice.below(4), dice.number() as i64);
    let (step, spread) = (dice.below(1 << 16) as i64, 1 + dice.below(1 << 10));
    let mut at = 0;
    let number = |_| {
        at += 1;
        match how {
            0 => dice.number() as i64,
            1 => (dice.number() >> (first & 63)) as i64,
            2 => first.wrapping_add(at * step).wrapping_add(dice.below(spread) as i64),
            _ => first.wrapping_add(dice.below(spread) as i64 * step),
        }
    };
    (0..count).map(number).collect()
}

/// With the checksum that belongs to it.
pub(super) fn sealed(bytes: &[u8]) -> Vec<u8> {
    [bytes, &crc32c::crc32c(bytes).to_le_bytes()].concat()
}

/// Reads whatever can be read, and checks that nothing exceeds what the chunk says of itself.
pub(super) fn read_all(bytes: &[u8]) -> Result<(), ChunkError> {
    let chunk = Chunk::open(bytes)?;
    assert!((1..=ROWS_MAX).contains(&chunk.rows()) && chunk.keys().len() <= COLUMNS_MAX);
    let times = chunk.times();
    if let Ok(times) = &times {
        assert!(times.len() == chunk.rows() && times.is_sorted());
        assert_eq!((times[0], times[times.len() - 1]), (chunk.first_time(), chunk.last_time()));
    }
    let keys: Vec<ColumnKey> = chunk.keys().collect();
    for key in keys {
        let (column, mut values) = (chunk.column(key), vec![]);
        let rows = chunk.values(key, &mut values);
        assert_eq!(column.is_ok(), rows.is_ok());
        let Ok(Some(column)) = column else { continue };
        assert_eq!((column.key, Ok(Some(&column.rows))), (key, rows.as_ref().map(Option::as_ref)));
        let bits = |value: &f64| value.to_bits();
        let expected = column.numbers.iter().map(|number| number.get().to_bits());
        assert!(values.iter().map(bits).eq(expected));
    }
    if let Ok(table) = chunk.table() {
        assert!(table.is_sound());
    }
    times.map(drop)
}

/// A table comes back whole. Its columns are in the order of their keys.
pub(super) fn comes_back(table: &Table) {
    for effort in EFFORTS {
        let bytes = encode(table, effort);
        let chunk = Chunk::open(&bytes).expect("what was encoded opens");
        assert_eq!(chunk.rows(), table.times.len());
        assert_eq!(Some(&chunk.first_time()), table.times.first());
        assert_eq!(Some(&chunk.last_time()), table.times.last());
        assert!(chunk.keys().eq(table.columns.iter().map(|column| column.key)));
        assert_eq!(chunk.table().as_ref(), Ok(table));
    }
}

/// The times and each column come back alone.
pub(super) fn comes_in_parts(table: &Table) {
    for effort in EFFORTS {
        let bytes = encode(table, effort);
        let chunk = Chunk::open(&bytes).expect("what was encoded opens");
        assert_eq!(chunk.times().as_ref(), Ok(&table.times));
        for column in &table.columns {
            assert_eq!(chunk.column(column.key), Ok(Some(column.clone())));
            let mut values = vec![0.5];
            assert_eq!(chunk.values(column.key, &mut values), Ok(Some(column.rows.clone())));
            let bits = values[1..].iter().map(|value| value.to_bits());
            assert!(bits.eq(column.numbers.iter().map(|number| number.get().to_bits())));
        }
    }
}
