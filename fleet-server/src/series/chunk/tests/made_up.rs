//! Tables of every kind.

use std::ops::Range;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, subsequence};

use super::super::*;
use crate::series::number::Number;

/// Any sound table with so many rows.
pub(super) fn table(rows: Range<usize>) -> impl Strategy<Value = Table> {
    rows.prop_flat_map(|rows| {
        let columns = proptest::collection::btree_map(key(), column(rows), 0..6);
        (times(rows), columns, any::<bool>()).prop_map(|(times, columns, backwards)| {
            let column = |(key, (rows, numbers))| Column { key, rows, numbers };
            let mut columns: Vec<Column> = columns.into_iter().map(column).collect();
            if backwards {
                columns.reverse();
            }
            Table { times, columns }
        })
    })
}

fn key() -> impl Strategy<Value = ColumnKey> {
    let series = prop_oneof![0..4_u32, any::<u32>(), Just(u32::MAX)];
    (series, proptest::sample::select(&Part::ALL[..]))
        .prop_map(|(series, part)| ColumnKey { series, part })
}

fn times(rows: usize) -> impl Strategy<Value = Vec<i64>> {
    let paced = (any::<i32>(), 0..20_000_i64, 0..200_i64, vec(any::<Index>(), rows)).prop_map(
        |(first, pace, jitter, offsets)| {
            let offset = |index: &Index| index.index(jitter as usize + 1) as i64;
            let time = |(at, index)| i64::from(first) + at * pace + offset(index);
            (0..).zip(&offsets).map(time).collect()
        },
    );
    let any_times = vec(any::<i64>(), rows);
    let equal = any::<i64>().prop_map(move |time| vec![time; rows]);
    prop_oneof![4 => paced, 1 => any_times, 1 => equal].prop_map(|mut times: Vec<i64>| {
        times.sort_unstable();
        times
    })
}

fn column(rows: usize) -> impl Strategy<Value = (Rows, Vec<Number>)> {
    let all = numbers(rows).prop_map(|numbers| (Rows::All, numbers));
    let some = subsequence((0..rows as u32).collect::<Vec<_>>(), 0..=rows).prop_flat_map(|some| {
        numbers(some.len()).prop_map(move |numbers| (Rows::Some(some.clone()), numbers))
    });
    prop_oneof![2 => all, 1 => some]
}

fn numbers(count: usize) -> impl Strategy<Value = Vec<Number>> {
    let decimals = |scales: Range<u8>, bits: u32| {
        let mantissa = any::<i64>().prop_map(move |bits_64| bits_64 >> (64 - bits));
        let number = (mantissa, scales).prop_map(|(mantissa, scale)| {
            Number::from_decimal(mantissa, scale).expect("it is within the bounds")
        });
        vec(number, count)
    };
    let floats = vec(any::<u64>().prop_map(|bits| Number::new(f64::from_bits(bits))), count);
    let mixed =
        vec(prop_oneof![Just(0.1 + 0.2), Just(-0.), Just(7.25)].prop_map(Number::new), count);
    let constant = any::<i32>().prop_map(move |value| vec![Number::new(f64::from(value)); count]);
    let counter =
        (any::<u32>(), 1..5000_u32, vec(0..40_u32, count)).prop_map(|(start, unit, steps)| {
            let total = steps.iter().scan(u64::from(start), |total, step| {
                *total += u64::from(step * unit);
                Some(Number::new(*total as f64))
            });
            total.collect()
        });
    prop_oneof![
        3 => decimals(2..3, 12),
        2 => decimals(0..4, 20),
        1 => decimals(0..15, 53),
        1 => floats,
        1 => mixed,
        1 => constant,
        3 => counter,
    ]
}
