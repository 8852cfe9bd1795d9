//! Which rows a column has, where it is not all of them.
//!
//! ```text
//! set = form, count, list or bitmap
//! ```
//!
//! Those that are there or those that are missing are listed, whichever are fewer; one bit for
//! each row, the first lowest, is shorter where there is no order in them. `count` is how many
//! are there.

use super::table::are_rows;
use super::{Effort, whole};
use crate::series::varint;

const PRESENT: u8 = 0;
const MISSING: u8 = 1;
const BITMAP: u8 = 2;

/// Appends a set of rows, ascending.
pub(super) fn put(out: &mut Vec<u8>, present: &[u32], rows: usize, scratch: &mut whole::Scratch) {
    let few = present.len() * 2 <= rows;
    let listed = if few { present.to_vec() } else { others(present, rows) };
    let listed: Vec<i64> = listed.into_iter().map(i64::from).collect();
    let mut list = Vec::new();
    whole::put(&mut list, 0, &listed, Effort::Quick, scratch);
    let bytes = rows.div_ceil(8);
    let is_listed = list.len() < bytes;
    out.push(match (is_listed, few) {
        (true, true) => PRESENT,
        (true, false) => MISSING,
        (false, _) => BITMAP,
    });
    varint::put(out, present.len() as u64);
    if is_listed {
        return out.extend(list);
    }
    let start = out.len();
    out.resize(start + bytes, 0);
    for row in present {
        out[start + *row as usize / 8] |= 1 << (row % 8);
    }
}

/// How many rows a set has; nothing if it is more than there are.
pub(super) fn count(set: &[u8], rows: usize) -> Option<usize> {
    let (_, mut rest) = set.split_first()?;
    usize::try_from(varint::take(&mut rest)?).ok().filter(|count| *count <= rows)
}

/// The rows of a set; nothing if it is none.
pub(super) fn take(set: &[u8], rows: usize) -> Option<Vec<u32>> {
    let count = count(set, rows)?;
    let (form, mut rest) = set.split_first()?;
    varint::take(&mut rest)?;
    let present = match *form {
        PRESENT => list(rest, count, rows)?,
        MISSING => others(&list(rest, rows - count, rows)?, rows),
        BITMAP if rest.len() == rows.div_ceil(8) => {
            let is_there = |row: &u32| rest[*row as usize / 8] & 1 << (row % 8) != 0;
            (0..rows as u32).filter(is_there).collect()
        }
        _ => return None,
    };
    (present.len() == count).then_some(present)
}

fn list(block: &[u8], count: usize, rows: usize) -> Option<Vec<u32>> {
    let mut whole = Vec::with_capacity(count);
    let head = whole::take(block, count, &mut whole)?;
    let list: Vec<u32> = whole.into_iter().map(u32::try_from).collect::<Result<_, _>>().ok()?;
    (head == 0 && are_rows(&list, rows)).then_some(list)
}

/// The rows that are not in an ascending list.
fn others(list: &[u32], rows: usize) -> Vec<u32> {
    let mut list = list.iter().peekable();
    (0..rows as u32).filter(|row| list.next_if_eq(&row).is_none()).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn set(present: &[u32], rows: usize) -> Vec<u8> {
        let mut set = Vec::new();
        put(&mut set, present, rows, &mut whole::Scratch::default());
        set
    }

    #[test]
    fn regular_gaps_cost_next_to_nothing() {
        let sixth: Vec<u32> = (0..360).step_by(6).collect();
        assert_eq!(set(&sixth, 360), [PRESENT, 60, 16, 0, 12, 0]);
        assert_eq!(set(&others(&sixth, 360), 360), [MISSING, 0xac, 2, 16, 0, 12, 0]);
        let irregular: Vec<u32> = (0..360).filter(|row| row * row % 11 < 4).collect();
        assert_eq!(set(&irregular, 360)[0], BITMAP);
        assert_eq!(set(&others(&[7], 360), 360), [MISSING, 0xe7, 2, 0, 14, 0]);
    }

    #[test]
    fn what_is_no_set_is_refused() {
        for hostile in [
            &[][..],
            &[PRESENT],
            &[3, 0, 0],
            &[PRESENT, 9, 0],
            &[PRESENT, 1, 0, 16, 0],
            &[PRESENT, 1, 0, 1, 0],
            &[PRESENT, 2, 0, 0, 0],
            &[PRESENT, 1, 1, 0, 0],
            &[MISSING, 8, 0, 0],
            &[BITMAP, 2, 1],
            &[BITMAP, 1, 1, 0],
        ] {
            assert_eq!(take(hostile, 8), None, "{hostile:?}");
        }
        assert_eq!(take(&[PRESENT, 1, 0, 14, 0], 8), Some(vec![7]));
    }

    proptest! {
        #[test]
        fn every_set_comes_back(there in proptest::collection::vec(any::<bool>(), 1..200)) {
            let rows = there.len();
            let present: Vec<u32> = (0..rows as u32).filter(|row| there[*row as usize]).collect();
            let set = set(&present, rows);
            prop_assert_eq!(count(&set, rows), Some(present.len()));
            prop_assert_eq!(take(&set, rows), Some(present));
        }

        #[test]
        fn any_bytes_can_be_read(bytes in proptest::collection::vec(any::<u8>(), 0..30), rows in 1..300_usize) {
            if let Some(present) = take(&bytes, rows) {
                prop_assert!(are_rows(&present, rows));
            }
        }
    }
}
