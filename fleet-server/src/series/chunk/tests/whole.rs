//! Blocks of whole numbers: which frame is chosen, and that every sequence comes back.

use proptest::collection::vec;
use proptest::prelude::*;

use super::super::frame::{Frame, Shape, Survey};
use super::super::whole::{Scratch, put, take};
use super::EFFORTS;
use crate::series::chunk::Effort;

fn block(numbers: &[i64], effort: Effort) -> Vec<u8> {
    let mut out = Vec::new();
    put(&mut out, 9, numbers, effort, &mut Scratch::default());
    out
}

#[test]
fn the_narrowest_frame_is_packed() {
    let frame = |numbers: &[i64]| Survey::of(numbers).unwrap().narrowest();
    for (numbers, shape, base, unit, width) in [
        (&[42, 42, 42][..], "Plain", 42, 1, 0),
        (&[5], "Plain", 5, 1, 0),
        (&[7, 4, 6], "Plain", 4, 1, 2),
        (&[70_000, 40_000, 60_000], "Plain", 40_000, 10_000, 2),
        (&[1000, 1001, 1003, 1004], "Steps", 1, 1, 1),
        (&[100, 4196, 8292, 16_484], "Steps", 4096, 4096, 1),
        (&[0, 10, 20, 30], "Steps", 10, 1, 0),
        (&[i64::MAX, i64::MIN, i64::MAX], "Steps", -1, 1, 2),
    ] {
        let Frame { shape: found, base: found_base, unit: found_unit, width: bits } =
            frame(numbers);
        assert!(format!("{found:?}").starts_with(shape), "{numbers:?}: {found:?}");
        assert_eq!((found_base, found_unit, bits), (base, unit, width), "{numbers:?}");
    }
}

#[test]
fn a_clock_runs_along_a_line() {
    let jitter = |at: i64| at * at * 7919 % 101;
    let numbers: Vec<i64> =
        (0..360).map(|at| 1_800_000_000_000 + at * 10_003 + jitter(at)).collect();
    let survey = Survey::of(&numbers).unwrap();
    for frame in [survey.narrowest(), survey.densest()] {
        assert!(matches!(frame.shape, Shape::Line { .. }), "{frame:?}");
        assert_eq!(frame.width, 7);
    }
    let walk = |at: i64| at * 10_000 + if at > 100 { at * 90 } else { 0 };
    let numbers: Vec<i64> = (0..360).map(walk).collect();
    let survey = Survey::of(&numbers).unwrap();
    assert!(matches!(survey.densest().shape, Shape::Steps { .. }));
}

#[test]
fn what_is_no_block_is_none() {
    let packed = block(&[7, 4, 6], Effort::Quick);
    assert_eq!(packed, [9, 8, 2, 0b10_00_11]);
    assert_eq!(take(&packed, 3, &mut Vec::new()), Some(9));
    for (what, block, count) in [
        ("empty", &[][..], 0),
        ("flags without numbers", &[16], 0),
        ("bytes without numbers", &[9, 0], 0),
        ("no base", &[0], 1),
        ("no width", &[0, 0], 1),
        ("unknown shape", &[0x30, 0, 0, 0], 1),
        ("too wide", &[0, 0, 65, 0, 0, 0, 0, 0, 0, 0, 0, 0], 1),
        ("one number less", &[9, 8, 2, 0], 5),
        ("a byte more", &[9, 8, 2, 0, 0], 3),
        ("pco, of nothing", &[0x40, 0, 9], 3),
        ("pco, of another shape", &[0x40, 0, 9, 1, 0, 0, 0, 0, 0], 3),
        ("pco, too wide", &[0x40, 0, 65, 0, 0, 0, 0, 0, 0], 3),
    ] {
        assert_eq!(take(block, count, &mut Vec::new()), None, "{what}");
    }
}

fn sequence() -> impl Strategy<Value = Vec<i64>> {
    let wide = vec(prop_oneof![any::<i64>(), Just(i64::MIN), Just(i64::MAX)], 0..150);
    let narrow = (any::<i64>(), 1..=u64::MAX, 0..63, vec(any::<u8>(), 0..150)).prop_map(
        |(base, unit, shift, words)| {
            let offset = |word: u8| u64::from(word).wrapping_mul(unit >> shift) as i64;
            words.into_iter().map(|word| base.wrapping_add(offset(word))).collect()
        },
    );
    let rising =
        (any::<i64>(), any::<i32>(), vec(-3..3_i64, 0..150)).prop_map(|(first, pace, steps)| {
            let next = |last: &mut i64, step| {
                *last = last.wrapping_add(step + i64::from(pace));
                Some(*last)
            };
            steps.into_iter().scan(first, next).collect()
        });
    prop_oneof![wide, narrow, rising]
}

proptest! {
    #[test]
    fn every_sequence_comes_back(numbers in sequence()) {
        for effort in EFFORTS {
            let block = block(&numbers, effort);
            let mut out = vec![3];
            prop_assert_eq!(take(&block, numbers.len(), &mut out), Some(9));
            prop_assert_eq!(&out[1..], &numbers);
        }
    }

    #[test]
    fn every_frame_gives_back_what_it_took(numbers in vec(any::<i64>(), 2..50), base in any::<i64>(), slope in any::<i64>()) {
        for shape in [Shape::Plain, Shape::Steps { first: numbers[0] }, Shape::Line { slope }] {
            let frame = Frame { shape, base, unit: 1, width: 64 };
            let mut residues = Vec::new();
            frame.residues(&numbers, &mut residues);
            prop_assert_eq!(residues.len(), frame.residue_count(numbers.len()));
            let mut out = Vec::new();
            frame.numbers(residues, &mut out);
            prop_assert_eq!(&out, &numbers);
        }
    }
}
