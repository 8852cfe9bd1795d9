//! Whole numbers in few bytes.
//!
//! ```text
//! block = head, [first or slope], base, [unit], width, residues
//! ```
//!
//! The shape says what is left of the numbers: they themselves, the differences from one to the
//! next after the first, or how far each is from a line that begins at zero and rises by `slope /
//! 65536` a number. Whatever is left is `base + unit * residue`. The residues need `width` bits:
//! that many are packed for each, or with `ENTROPY` pco writes them all.
//!
//! The upper half of the head has the shape and the flags; its lower half is the caller's. Without
//! numbers it is the whole block. Everything wraps around, so every sequence has a block.

use super::frame::{Frame, Shape, Survey};
use super::{Effort, bits, entropy};
use crate::series::varint::{self, fold, unfold};

/// The shape.
const SHAPE: u8 = 3;
/// Written by pco, not packed.
const ENTROPY: u8 = 4;
/// The unit is given; else it is one.
const UNIT: u8 = 8;

/// Fewer numbers than this are packed: what pco says about them would be longer than they are.
const ENTROPY_COUNT_MIN: usize = 48;

/// Memory that is used again and again.
#[derive(Default)]
pub(super) struct Scratch {
    residues: Vec<u64>,
}

/// Appends a block. Only the lower half of `head` is kept.
pub(super) fn put(
    out: &mut Vec<u8>,
    head: u8,
    numbers: &[i64],
    effort: Effort,
    scratch: &mut Scratch,
) {
    let Some(survey) = Survey::of(numbers) else { return out.push(head & 15) };
    let narrow = survey.narrowest();
    let packed_bytes = bits::bytes(narrow.residue_count(numbers.len()), narrow.width);
    if effort == Effort::Best && narrow.width > 0 && numbers.len() >= ENTROPY_COUNT_MIN {
        let dense = survey.densest();
        dense.residues(numbers, &mut scratch.residues);
        if let Some(pressed) = entropy::press(&scratch.residues, dense.width)
            && pressed.len() < packed_bytes
        {
            put_frame(out, head, ENTROPY, dense);
            return out.extend(pressed);
        }
    }
    put_frame(out, head, 0, narrow);
    narrow.residues(numbers, &mut scratch.residues);
    bits::pack(out, &scratch.residues, narrow.width);
}

/// The lower half of the head, and the `count` numbers of a block appended to `out`; nothing if
/// it is no block of so many.
pub(super) fn take(block: &[u8], count: usize, out: &mut Vec<i64>) -> Option<u8> {
    let (head, mut block) = block.split_first()?;
    let flags = head >> 4;
    if count == 0 {
        return (flags == 0 && block.is_empty()).then_some(*head);
    }
    let shape = match flags & SHAPE {
        0 => Shape::Plain,
        1 => Shape::Steps { first: unfold(varint::take(&mut block)?) },
        2 => Shape::Line { slope: unfold(varint::take(&mut block)?) },
        _ => return None,
    };
    let base = unfold(varint::take(&mut block)?);
    let unit = if flags & UNIT != 0 { varint::take(&mut block)? } else { 1 };
    let (width, block) = block.split_first()?;
    let frame = Frame { shape, base, unit, width: u32::from(*width) };
    let residues = frame.residue_count(count);
    let mut words = Vec::with_capacity(residues);
    match flags & ENTROPY {
        0 => bits::unpack(block, residues, frame.width, &mut words)?,
        _ => entropy::expand(block, residues, frame.width, &mut words)?,
    }
    frame.numbers(words, out);
    Some(head & 15)
}

fn put_frame(out: &mut Vec<u8>, head: u8, coder: u8, frame: Frame) {
    let Frame { shape, base, unit, width } = frame;
    let (shape, start) = match shape {
        Shape::Plain => (0, None),
        Shape::Steps { first } => (1, Some(first)),
        Shape::Line { slope } => (2, Some(slope)),
    };
    let flags = shape | coder | if unit > 1 { UNIT } else { 0 };
    out.push(flags << 4 | head & 15);
    if let Some(start) = start {
        varint::put(out, fold(start));
    }
    varint::put(out, fold(base));
    if unit > 1 {
        varint::put(out, unit);
    }
    out.push(width as u8);
}
