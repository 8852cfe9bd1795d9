//! Bytes that are no chunk: cut, changed, or forged with a checksum that is right.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;

use super::made_up::table;
use super::{column, number};
use crate::series::chunk::check::{EFFORTS, read_all, sealed};
use crate::series::chunk::*;
use crate::series::number::Number;

/// Forged chunks that are tried, unless `FLEETD_TEST_MUTATIONS` says otherwise.
const MUTATIONS: usize = 3000;

fn unsealed(mut chunk: Vec<u8>) -> Vec<u8> {
    chunk.truncate(chunk.len() - SUM_BYTES);
    chunk
}

#[test]
fn forged_chunks_are_read_without_harm() {
    let mutations = std::env::var("FLEETD_TEST_MUTATIONS")
        .map_or(MUTATIONS, |text| text.parse().expect("FLEETD_TEST_MUTATIONS is a number"));
    let mut runner = TestRunner::deterministic();
    let place = || vec((any::<Index>(), any::<u8>(), 0..4_u8), 1..6);
    let mut accepted = 0;
    for round in 0..mutations {
        let table = table(40..120).new_tree(&mut runner).expect("nothing is filtered").current();
        let mut bytes = unsealed(encode(&table, EFFORTS[round % EFFORTS.len()]));
        for (place, byte, how) in place().new_tree(&mut runner).expect("see above").current() {
            let at = 1 + place.index(bytes.len().max(2) - 1);
            match how {
                0 => bytes.insert(at.min(bytes.len()), byte),
                1 if at < bytes.len() && bytes.len() > 2 => drop(bytes.remove(at)),
                _ if at < bytes.len() => bytes[at] ^= byte,
                _ => bytes.push(byte),
            }
        }
        accepted += usize::from(read_all(&sealed(&bytes)).is_ok());
    }
    // Some must get past the directory, or nothing behind it has been tried.
    assert!(accepted * 50 > mutations, "{accepted} of {mutations}");
}

#[test]
fn forged_directories_are_refused() {
    use ChunkError::{Directory, Times, Version};
    // One row at time 3, no set, and a column of series 2 with one number; all blocks constant.
    let honest = [1, 1, 6, 0, 0, 1, 3, 2 << 4, 3, 0, 0, 0, 0, 2, 0];
    assert_eq!(read_all(&sealed(&honest)), Ok(()));
    let huge = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1];
    let with = |at: usize, bytes: &[u8]| [&honest[..at], bytes, &honest[at + 1..]].concat();
    for (what, bytes, error) in [
        ("of another release", with(0, &[2]), Version(2)),
        ("no directory", vec![1], Directory("rows")),
        ("no rows", with(1, &[0]), Directory("rows")),
        ("too many rows", with(1, &[0x81, 0x80, 4]), Directory("rows")),
        ("more rows than a machine", with(1, &huge), Directory("rows")),
        ("time ends after all time", with(3, &huge), Directory("last time")),
        ("another last time", with(3, &[1]), Times),
        ("too many sets", with(4, &[0x81, 0x40]), Directory("sets of rows")),
        ("too many columns", with(5, &[0x81, 0x40]), Directory("columns")),
        ("more columns than bytes", with(5, &[0x80, 0x40]), Directory("columns")),
        ("times as long as all memory", with(6, &huge), Directory("lengths")),
        ("times cut", with(6, &[2]), Directory("lengths")),
        ("no such part", with(7, &[2 << 4 | 5 << 1]), Directory("columns")),
        ("no such set", with(7, &[2 << 4 | 1, 0]), Directory("columns")),
        ("no such series", with(7, &huge), Directory("columns")),
        ("column longer than the rest", with(8, &[4]), Directory("lengths")),
        ("a byte between", with(8, &[2]), Directory("lengths")),
        ("a byte at the end", [&honest[..], &[0]].concat(), Directory("lengths")),
        ("times with a scale", with(9, &[1]), Times),
    ] {
        assert_eq!(read_all(&sealed(&bytes)), Err(error), "{what}");
    }
    let key = ColumnKey { series: 2, part: Part::Value };
    for (what, bytes) in [
        ("unknown shape", with(12, &[0x30])),
        ("mantissa too large", [&with(8, &[12])[..13], &huge, &[0]].concat()),
    ] {
        let bytes = sealed(&bytes);
        let chunk = Chunk::open(&bytes).unwrap();
        assert_eq!(chunk.column(key), Err(ChunkError::Column(key)), "{what}");
        let mut values = vec![0.5];
        assert_eq!(chunk.values(key, &mut values), Err(ChunkError::Column(key)), "{what}");
        assert_eq!(values, [0.5]);
    }
}

#[test]
fn few_bytes_cannot_ask_for_much_memory() {
    // Constant columns take no bytes for their numbers, so only the bound stops them.
    let rows = ROWS_MAX as u32;
    let columns = (NUMBERS_MAX / ROWS_MAX) as u32;
    let table = Table {
        times: (0..rows).map(i64::from).collect(),
        columns: (0..columns)
            .map(|series| column(series, Part::Value, vec![Number::new(1.); ROWS_MAX]))
            .collect(),
    };
    let bytes = encode(&table, Effort::Quick);
    assert!(bytes.len() < 1000);
    assert!(Chunk::open(&bytes).is_ok());
    let mut forged = vec![1, 0x80, 0x80, 4, 0, 0, 0];
    forged.extend([columns as u8 + 1, 3]);
    forged.extend([16, 3].repeat(columns as usize + 1));
    forged.extend([0, 0, 0].repeat(columns as usize + 2));
    assert_eq!(read_all(&sealed(&forged)), Err(ChunkError::Directory("lengths")));
    // The same with a column less is what is encoded above, but for the times.
    forged[7] -= 1;
    forged.drain(9..11);
    forged.truncate(forged.len() - 3);
    assert_eq!(read_all(&sealed(&forged)), Ok(()));
}

#[test]
fn a_forged_set_of_rows_is_an_error_of_its_column() {
    let rows = Rows::Some(vec![0, 2]);
    let columns = vec![Column { rows, ..column(1, Part::Value, [number("5"); 2]) }];
    let chunk = encode(&Table { times: vec![0, 1, 2], columns }, Effort::Quick);
    let bytes = unsealed(chunk);
    let set = bytes.windows(3).position(|set| set == [2, 2, 0b101]).expect("a bitmap of two");
    for (what, at, byte, error) in [
        ("more rows than there are", set + 1, 4, Some(ChunkError::Directory("sets of rows"))),
        ("one row more", set + 1, 3, None),
        ("no such form", set, 3, None),
    ] {
        let mut forged = bytes.clone();
        forged[at] = byte;
        let forged = sealed(&forged);
        match (Chunk::open(&forged), error) {
            (Err(found), Some(error)) => assert_eq!(found, error, "{what}"),
            (Ok(chunk), None) => {
                let key = chunk.keys().next().unwrap();
                assert_eq!(chunk.column(key), Err(ChunkError::Column(key)), "{what}");
                assert_eq!(chunk.values(key, &mut vec![]), Err(ChunkError::Column(key)), "{what}");
            }
            (opened, _) => panic!("{what}: {opened:?}"),
        }
    }
}

proptest! {
    #[test]
    fn a_flipped_bit_is_an_error(table in table(1..80), place in any::<Index>()) {
        for effort in EFFORTS {
            let mut bytes = encode(&table, effort);
            let bit = place.index(bytes.len() * 8);
            bytes[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(Chunk::open(&bytes).is_err());
        }
    }

    #[test]
    fn a_cut_chunk_is_an_error(table in table(1..80), place in any::<Index>(), more in vec(any::<u8>(), 1..9)) {
        for effort in EFFORTS {
            let mut bytes = encode(&table, effort);
            prop_assert!(Chunk::open(&bytes[..place.index(bytes.len())]).is_err());
            bytes.extend(&more);
            prop_assert!(Chunk::open(&bytes).is_err());
        }
    }

    #[test]
    fn any_bytes_can_be_tried(mut bytes in vec(any::<u8>(), 0..100)) {
        prop_assert!(Chunk::open(&bytes).is_err());
        let _ = read_all(&sealed(&bytes));
        if let Some(version) = bytes.first_mut() {
            *version = VERSION;
        }
        let _ = read_all(&sealed(&bytes));
    }
}
