//! Numbers of one width, without a bit between them: lowest bits first, the last byte filled up
//! with zeros.

/// Bits of a number at most.
pub(super) const WIDTH_MAX: u32 = 64;

/// Bits that a number needs.
pub(super) fn width(number: u64) -> u32 {
    WIDTH_MAX - number.leading_zeros()
}

/// Bytes of so many numbers.
pub(super) fn bytes(count: usize, width: u32) -> usize {
    (count * width as usize).div_ceil(8)
}

/// Appends numbers that need no more bits than `width`.
pub(super) fn pack(out: &mut Vec<u8>, numbers: &[u64], width: u32) {
    out.reserve(bytes(numbers.len(), width));
    let mut word = 0;
    let mut used = 0;
    for number in numbers {
        word |= number << used;
        used += width;
        if used >= WIDTH_MAX {
            out.extend(word.to_le_bytes());
            used -= WIDTH_MAX;
            word = if used == 0 { 0 } else { number >> (width - used) };
        }
    }
    out.extend(&word.to_le_bytes()[..used.div_ceil(8) as usize]);
}

/// Appends what [`pack`] made `packed` of. Nothing happens if it has another length.
pub(super) fn unpack(packed: &[u8], count: usize, width: u32, out: &mut Vec<u64>) -> Option<()> {
    if width > WIDTH_MAX || packed.len() != bytes(count, width) {
        return None;
    }
    let mask = u64::MAX.checked_shr(WIDTH_MAX - width).unwrap_or(0);
    let number = |index: usize| {
        let bit = index * width as usize;
        let (byte, shift) = (bit / 8, bit as u32 % 8);
        let low = word(packed, byte) >> shift;
        // Only a wide number goes on in a ninth byte.
        let high = if shift + width > WIDTH_MAX { word(packed, byte + 8) } else { 0 };
        (low | high.checked_shl(WIDTH_MAX - shift).unwrap_or(0)) & mask
    };
    out.extend((0..count).map(number));
    Some(())
}

/// Eight bytes from a place on, zeros where there are no more.
#[inline]
fn word(bytes: &[u8], at: usize) -> u64 {
    let rest = bytes.get(at..).unwrap_or_default();
    match rest.first_chunk() {
        Some(eight) => u64::from_le_bytes(*eight),
        None => rest.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_bits_lie_as_they_are_said_to() {
        let mut out = Vec::new();
        pack(&mut out, &[0b101, 0b011, 0b110], 3);
        assert_eq!(out, [0b1001_1101, 0b1]);
    }

    proptest! {
        #[test]
        fn numbers_of_every_width_come_back(
            numbers in proptest::collection::vec(any::<u64>(), 0..40),
            width in 0..=64_u32,
        ) {
            let mask = u64::MAX.checked_shr(64 - width).unwrap_or(0);
            let numbers: Vec<u64> = numbers.into_iter().map(|number| number & mask).collect();
            let mut packed = Vec::new();
            pack(&mut packed, &numbers, width);
            prop_assert_eq!(packed.len(), bytes(numbers.len(), width));
            let mut out = Vec::new();
            prop_assert_eq!(unpack(&packed, numbers.len(), width, &mut out), Some(()));
            prop_assert_eq!(&out, &numbers);
            packed.push(0);
            prop_assert_eq!(unpack(&packed, numbers.len(), width, &mut out), None);
        }
    }
}
