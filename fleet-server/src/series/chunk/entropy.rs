//! The one door to pco, which finds which numbers are frequent and writes those in few bits.
//!
//! It is given the narrowest type that holds them, because it describes each group of frequent
//! numbers with a whole one of that type, and told to look for nothing else: differences and
//! common factors are found before. So its format is used in one shape only, and what is read is
//! refused in any other: no others can ask for much memory. It may panic on damage by its own
//! account, so it is never let out of here.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};

use pco::data_types::Number;
use pco::errors::PcoResult;
use pco::wrapped::{FileCompressor, FileDecompressor};
use pco::{ChunkConfig, DecompressorScratch, DeltaSpec, FULL_BATCH_N, ModeSpec, PagingSpec};

use super::bits::WIDTH_MAX;

/// How hard it tries, of 12: what a higher level finds is worth its place only among many.
const LEVEL_FEW: usize = 4;
const LEVEL_MANY: usize = 8;
/// So many are many.
const MANY: usize = 1000;
/// The version of its format that is written, and not stored: another is another version of ours.
const FORMAT: [u8; 2] = [4, 1];

thread_local! {
    /// What the last one who read on this thread had as scratch.
    static SCRATCH: Cell<Option<DecompressorScratch>> = const { Cell::new(None) };
}

/// The first byte says that numbers are taken as they are: no factors, no differences.
const AS_THEY_ARE: u8 = 0;

/// The bytes for numbers of `width` bits; nothing if pco cannot. They are read back before they
/// are believed: soon they are the only copy, for years.
pub(super) fn press(numbers: &[u64], width: u32) -> Option<Vec<u8>> {
    let bytes = guard(|| match width {
        0..=8 => press_as(numbers, |number| number as u8),
        9..=16 => press_as(numbers, |number| number as u16),
        17..=32 => press_as(numbers, |number| number as u32),
        _ => press_as(numbers, |number| number),
    })?;
    let mut again = Vec::with_capacity(numbers.len());
    expand(&bytes, numbers.len(), width, &mut again)?;
    (again == numbers).then_some(bytes)
}

/// Appends the `count` numbers that [`press`] was given; nothing if the bytes are not its.
pub(super) fn expand(bytes: &[u8], count: usize, width: u32, out: &mut Vec<u64>) -> Option<()> {
    if bytes.first() != Some(&AS_THEY_ARE) || width > WIDTH_MAX {
        return None;
    }
    let rest = guard(|| match width {
        0..=8 => expand_as::<u8>(bytes, count, out),
        9..=16 => expand_as::<u16>(bytes, count, out),
        17..=32 => expand_as::<u32>(bytes, count, out),
        _ => expand_as::<u64>(bytes, count, out),
    })?;
    rest.is_empty().then_some(())
}

fn guard<T>(work: impl FnOnce() -> PcoResult<T>) -> Option<T> {
    // What is written to is given up by the caller if this fails.
    catch_unwind(AssertUnwindSafe(work)).ok()?.ok()
}

fn press_as<T: Number>(numbers: &[u64], narrow: impl Fn(u64) -> T) -> PcoResult<Vec<u8>> {
    let numbers: Vec<T> = numbers.iter().map(|number| narrow(*number)).collect();
    let level = if numbers.len() < MANY { LEVEL_FEW } else { LEVEL_MANY };
    let config = ChunkConfig::default()
        .with_compression_level(level)
        .with_mode_spec(ModeSpec::Classic)
        .with_delta_spec(DeltaSpec::NoOp)
        .with_paging_spec(PagingSpec::Exact(vec![numbers.len()]))
        .with_enable_8_bit(true);
    let mut compressor = FileCompressor::default().chunk_compressor(&numbers, &config)?;
    let bytes = Vec::with_capacity(compressor.meta_size_hint() + compressor.page_size_hint(0));
    let bytes = compressor.write_meta(bytes)?;
    compressor.write_page(0, bytes)
}

/// The bytes that are left.
fn expand_as<'a, T: Number + Default + Into<u64>>(
    bytes: &'a [u8],
    count: usize,
    out: &mut Vec<u64>,
) -> PcoResult<&'a [u8]> {
    let (file, _) = FileDecompressor::new(&FORMAT[..])?;
    let (decompressor, rest) = file.chunk_decompressor::<T, _>(bytes)?;
    // Some kilobytes, for which nobody should have to ask again with each column.
    let mut scratch = SCRATCH.take().unwrap_or_default();
    let mut page = decompressor.page_decompressor_with_scratch(rest, count, &mut scratch)?;
    let mut numbers = [T::default(); FULL_BATCH_N];
    let mut left = count;
    while left > 0 {
        let batch = &mut numbers[..left.min(FULL_BATCH_N)];
        page.read(batch)?;
        out.extend(batch.iter().map(|number| (*number).into()));
        left -= batch.len();
    }
    let rest = page.into_src();
    SCRATCH.set(Some(scratch));
    Ok(rest)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proptest::sample::Index;

    use super::*;

    #[test]
    fn pco_writes_the_version_that_is_read() {
        let header = FileCompressor::default().write_header(Vec::new()).unwrap();
        assert_eq!(header, FORMAT);
    }

    #[test]
    fn numbers_of_every_width_come_back() {
        for width in 1..=WIDTH_MAX {
            let most = u64::MAX >> (WIDTH_MAX - width);
            for count in [1, 48, 300, 1200_u64] {
                let numbers: Vec<u64> =
                    (0..count).map(|at| most - (at * at % 37).min(most)).collect();
                let pressed = press(&numbers, width).unwrap();
                assert_eq!(pressed[0], AS_THEY_ARE);
                let mut out = Vec::new();
                assert_eq!(expand(&pressed, numbers.len(), width, &mut out), Some(()));
                assert_eq!(out, numbers);
            }
        }
    }

    #[test]
    fn other_shapes_of_its_format_are_refused() {
        let numbers: Vec<u64> = (0..3000).map(|at| (at % 100 * 7) << 20).collect();
        let press = |config: ChunkConfig| {
            let compressor = FileCompressor::default().chunk_compressor(&numbers, &config);
            let mut compressor = compressor.unwrap();
            let bytes = compressor.write_meta(Vec::new()).unwrap();
            compressor.write_page(0, bytes).unwrap()
        };
        let plain = ChunkConfig::default().with_mode_spec(ModeSpec::Classic);
        let expand = |bytes: &[u8]| expand(bytes, numbers.len(), WIDTH_MAX, &mut Vec::new());
        let ours = press(plain.clone().with_delta_spec(DeltaSpec::NoOp));
        assert_eq!(expand(&ours), Some(()));
        assert_eq!(expand(&[ours.as_slice(), &[0]].concat()), None);
        for other in [
            plain.clone().with_delta_spec(DeltaSpec::TryConsecutive(1)),
            plain.clone().with_delta_spec(DeltaSpec::TryLookback),
            plain.clone().with_mode_spec(ModeSpec::TryDict),
            plain.with_mode_spec(ModeSpec::TryIntMult(7)),
        ] {
            assert_eq!(expand(&press(other.clone())), None, "{other:?}");
        }
    }

    proptest! {
        /// In other numbers, if not in an error, because the checksum is not looked at here.
        #[test]
        fn damage_ends_without_harm(
            numbers in proptest::collection::vec(any::<u64>(), 48..400),
            shift in 0..64_u32,
            other in 0..=64_u32,
            places in proptest::collection::vec((any::<Index>(), any::<u8>()), 1..5),
        ) {
            let numbers: Vec<u64> = numbers.into_iter().map(|number| number >> shift).collect();
            let mut bytes = press(&numbers, WIDTH_MAX - shift).expect("pco can");
            for (place, byte) in places {
                // Most of what decides about memory is said first.
                let place = place.index(bytes.len()).min(place.index(40));
                bytes[place] ^= byte;
            }
            for width in [WIDTH_MAX - shift, other] {
                let mut out = Vec::new();
                if expand(&bytes, numbers.len(), width, &mut out).is_some() {
                    prop_assert_eq!(out.len(), numbers.len());
                }
            }
        }
    }
}
