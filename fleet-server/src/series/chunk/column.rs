//! The numbers of a column as whole ones: the mantissas for a common scale, or, where there is
//! none, the bits of floats, brought into the order of the floats.

use super::{Effort, whole};
use crate::series::number::{self, MANTISSA_MAX, Number, SCALE_MAX};

/// In place of the scale: the whole numbers are bits of floats.
const FLOATS: u8 = 15;

/// Memory that is used again and again.
#[derive(Default)]
pub(super) struct Scratch {
    mantissas: Vec<i64>,
    pub(super) whole: whole::Scratch,
}

/// Appends the block of a column.
pub(super) fn put(out: &mut Vec<u8>, numbers: &[Number], effort: Effort, scratch: &mut Scratch) {
    let Scratch { mantissas: whole, whole: inner } = scratch;
    let scale = mantissas(numbers, whole).unwrap_or_else(|| {
        whole.clear();
        whole.extend(numbers.iter().map(|number| order(number.get().to_bits() as i64)));
        FLOATS
    });
    whole::put(out, scale, whole, effort, inner);
}

/// The numbers of a block.
pub(super) fn take(block: &[u8], count: usize) -> Option<Vec<Number>> {
    let (scale, whole) = parts(block, count)?;
    if scale == FLOATS {
        let float = |whole| Number::from_bits(order(whole) as u64);
        return Some(whole.into_iter().map(float).collect());
    }
    whole.into_iter().map(|mantissa| Number::from_decimal(mantissa, scale)).collect()
}

/// Appends the floats that the numbers of a block stand for.
pub(super) fn floats(block: &[u8], count: usize, out: &mut Vec<f64>) -> Option<()> {
    let (scale, whole) = parts(block, count)?;
    match scale {
        FLOATS => out.extend(whole.into_iter().map(|whole| f64::from_bits(order(whole) as u64))),
        0 => out.extend(whole.into_iter().map(|mantissa| mantissa as f64)),
        _ => out.extend(whole.into_iter().map(|mantissa| number::decimal(mantissa, scale))),
    }
    Some(())
}

/// The scale, within its bounds, and the whole numbers; mantissas are within theirs.
fn parts(block: &[u8], count: usize) -> Option<(u8, Vec<i64>)> {
    let mut whole = Vec::with_capacity(count);
    let scale = whole::take(block, count, &mut whole)?;
    let fits = |mantissa: &i64| mantissa.unsigned_abs() <= MANTISSA_MAX;
    let known = scale == FLOATS || (scale <= SCALE_MAX && whole.iter().all(fits));
    known.then_some((scale, whole))
}

/// Replaces `whole` by the mantissas for the scale that is returned, if there is one for all.
fn mantissas(numbers: &[Number], whole: &mut Vec<i64>) -> Option<u8> {
    whole.clear();
    let mut scale = 0;
    for number in numbers {
        scale = scale.max(number.decimal()?.1);
    }
    for number in numbers {
        let (mantissa, own) = number.decimal()?;
        whole.push(number::rescale(mantissa, own, scale)?);
    }
    Some(scale)
}

/// Bits of floats in the order of the floats, and back.
fn order(bits: i64) -> i64 {
    bits ^ ((bits >> 63) as u64 >> 1) as i64
}
