//! Whole numbers in as few bytes as they need: seven bits a byte, lowest first.

/// Bytes of a number at most.
pub const BYTES_MAX: usize = 10;

/// Appends a number.
#[inline]
pub fn put(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// Takes a number from the front; nothing if none is there or it is too large.
#[inline]
pub fn take(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for (index, byte) in bytes.iter().take(BYTES_MAX).enumerate() {
        let bits = u64::from(byte & 0x7f);
        number |= bits << (7 * index);
        if byte & 0x80 == 0 {
            *bytes = &bytes[index + 1..];
            // The last of ten bytes has room for one bit.
            return (index + 1 < BYTES_MAX || bits <= 1).then_some(number);
        }
    }
    None
}

/// Passes over so many numbers, or over all bytes if there are fewer: eight bytes at a time, in
/// which every number ends with a byte whose highest bit is not set.
#[inline]
pub fn skip(bytes: &mut &[u8], mut count: usize) {
    while let Some((eight, rest)) = bytes.split_first_chunk() {
        let mut ends = !u64::from_le_bytes(*eight) & 0x8080_8080_8080_8080;
        let found = ends.count_ones() as usize;
        if found < count {
            count -= found;
            *bytes = rest;
            continue;
        }
        if count > 0 {
            (1..count).for_each(|_| ends &= ends - 1);
            *bytes = &bytes[ends.trailing_zeros() as usize / 8 + 1..];
        }
        return;
    }
    while count > 0 && !bytes.is_empty() {
        count -= usize::from(bytes[0] & 0x80 == 0);
        *bytes = &bytes[1..];
    }
}

/// Makes a number small that is near zero, whatever its sign.
#[inline]
pub fn fold(number: i64) -> u64 {
    ((number << 1) ^ (number >> 63)) as u64
}

/// The number that was folded.
#[inline]
pub fn unfold(folded: u64) -> i64 {
    (folded >> 1) as i64 ^ -((folded & 1) as i64)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn few_bytes_for_small_numbers() {
        for (number, bytes) in [
            (0, &[0][..]),
            (127, &[127]),
            (128, &[128, 1]),
            (300, &[172, 2]),
            (9046 << 4, &[224, 234, 8]),
        ] {
            let mut out = Vec::new();
            put(&mut out, number);
            assert_eq!(out, bytes);
        }
        assert_eq!([0, -1, 1, -2].map(fold), [0, 1, 2, 3]);
    }

    #[test]
    fn what_is_too_large_or_cut_is_none() {
        let largest = [[0xff; 9].as_slice(), &[1]].concat();
        assert_eq!(take(&mut largest.as_slice()), Some(u64::MAX));
        let too_large = [[0xff; 9].as_slice(), &[2]].concat();
        for bytes in [&[][..], &[0x80], &[0xff; 9], &too_large, &[0x80; 11]] {
            assert_eq!(take(&mut &*bytes), None, "{bytes:?}");
        }
    }

    proptest! {
        #[test]
        fn skipping_is_taking_without_looking(
            numbers in prop::collection::vec(any::<u64>().prop_perturb(|n, mut rng| n >> (rng.next_u32() % 64)), 0..60),
            count in 0_usize..70,
        ) {
            let mut bytes = Vec::new();
            for number in &numbers {
                put(&mut bytes, *number);
            }
            let (mut skipped, mut taken) = (bytes.as_slice(), bytes.as_slice());
            skip(&mut skipped, count);
            for _ in 0..count.min(numbers.len()) {
                take(&mut taken);
            }
            prop_assert_eq!(skipped, taken);
        }

        #[test]
        fn every_number_comes_back(number in any::<u64>(), shift in 0..64, rest in any::<[u8; 2]>()) {
            let number = number >> shift;
            let mut out = Vec::new();
            put(&mut out, number);
            prop_assert!(out.len() <= BYTES_MAX);
            out.extend(rest);
            let mut bytes = out.as_slice();
            prop_assert_eq!(take(&mut bytes), Some(number));
            prop_assert_eq!(bytes, &rest);
            prop_assert_eq!(fold(unfold(number)), number);
        }
    }
}
