//! Bytes that are out in the world. A test that fails here means that old chunks are lost, or that
//! the layout needs another version.

use data_encoding::HEXLOWER;
use fleet_core::disk::sim::Dice;

use super::{column, number};
use crate::series::chunk::*;
use crate::series::number::Number;

/// A value, a rollup of it, a counter, a float, and a series that misses reports.
fn table() -> Table {
    let times = [0, 10_012, 19_987, 30_001, 40_030, 49_999].map(|at| 1_800_000_000_000 + at);
    let numbers = |texts: [&str; 6]| texts.map(number);
    Table {
        times: times.to_vec(),
        columns: vec![
            column(3, Part::Value, numbers(["45.23", "45.3", "44.9", "45", "46.01", "45.23"])),
            column(3, Part::Count, numbers(["6"; 6])),
            column(4, Part::Value, numbers(["4096", "8192", "8192", "12288", "16384", "20480"])),
            column(9, Part::Max, numbers(["0.1", "-0", "1e300", "5e-324", "-2.5", "0"])),
            Column {
                rows: Rows::Some(vec![1, 5]),
                ..column(70_000, Part::Value, ["-1", "1.5"].map(number))
            },
        ],
    }
}

/// Enough of them for pco: bits of a number that has no order.
fn many() -> Table {
    let word = |at: i64| at.wrapping_mul(0x5851_f42d_4c95_7f2d) >> 40;
    let numbers = (0..64).map(|at| {
        let bits = word(at) & word(at + 1) & word(at + 2) & 0xff;
        Number::from_decimal(bits, 1).expect("it is within the bounds")
    });
    let times = (0..64).map(|at| 1_800_000_000_000 + at * 10_000 + word(at) % 50);
    Table { times: times.collect(), columns: vec![column(1, Part::Value, numbers)] }
}

const QUICK: &str = "\
    010680c0e285e368cf860301050a03300a08031008543cf1ac4400041000e29b0106abd1f2000202\
    2202944607211440f10e01000c00908040008020011d0f81808080808080848001409b9999999999\
    bd7f00000000000004409d7500883ce43bbe02000000000004400000000000000000010000000000\
    044011133200d3e796d2";
const BEST: &str = "\
    014080c0e285e368dfb926000140104220e484fff0045b07aeef66992cd868a269b4e1e3a9b4168b\
    5100107b3a4d050267ba5623c1dfebdbcd248f045a39146d30782a54d64221ca60e04e9389c0d94a\
    5100ff010900340020008063800060020110a7b31623ec5e1727f508cd186403bf401030e0ff2506\
    02f4bfc14000c0ff4b0cfc00037083811f6000804f00f0030c00de82668c";

#[test]
#[ignore = "writes the seeds anew: cargo test -p fleet-server --lib write_seeds -- --ignored"]
fn write_seeds() {
    for (name, hex) in [("quick", QUICK), ("best", BEST)] {
        let mut bytes = HEXLOWER.decode(hex.as_bytes()).unwrap();
        bytes.truncate(bytes.len() - SUM_BYTES);
        fleet_core::fuzz::write_seed("chunk", name, &bytes).unwrap();
    }
    let mut dice = Dice::new(1);
    for (name, words) in [("few", 40), ("more", 200)] {
        let bytes: Vec<u8> = (0..words).flat_map(|_| dice.number().to_le_bytes()).collect();
        fleet_core::fuzz::write_seed("table", name, &bytes).unwrap();
    }
}

#[test]
fn what_is_packed_has_these_bytes() {
    assert_eq!(HEXLOWER.encode(&encode(&table(), Effort::Quick)), QUICK);
}

#[test]
fn what_was_written_is_read_for_ever() {
    for (hex, table) in [(QUICK, table()), (BEST, many())] {
        let bytes = HEXLOWER.decode(hex.as_bytes()).unwrap();
        assert_eq!(Chunk::open(&bytes).unwrap().table(), Ok(table));
    }
}

/// pco may choose otherwise in another release, so what it wrote is only read. But it must have
/// written some of it.
#[test]
fn the_best_is_shorter_than_what_is_packed() {
    let best = HEXLOWER.encode(&encode(&many(), Effort::Best));
    let quick = encode(&many(), Effort::Quick).len() * 2;
    assert!(best.len() < quick && BEST.len() < quick, "{best}");
}
