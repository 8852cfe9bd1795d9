//! Where a list is scrolled to, and how keys move through it.

use crate::keys::Action;

/// Rows kept in sight above and below the cursor.
const MARGIN: usize = 2;

/// Where the cursor goes in a list of `len` rows, `height` of them in sight; nothing if the key is
/// not one that moves.
pub fn moved(action: Action, cursor: usize, len: usize, height: usize) -> Option<usize> {
    let last = len.saturating_sub(1);
    let page = height.saturating_sub(1).max(1);
    let half = (height / 2).max(1);
    Some(match action {
        Action::Down => (cursor + 1).min(last),
        Action::Up => cursor.saturating_sub(1),
        Action::First => 0,
        Action::Last => last,
        Action::PageDown => (cursor + page).min(last),
        Action::PageUp => cursor.saturating_sub(page),
        Action::HalfDown => (cursor + half).min(last),
        Action::HalfUp => cursor.saturating_sub(half),
        _ => return None,
    })
}

/// The first row in sight, moved as little as keeps the cursor in sight.
pub fn follow(top: usize, cursor: usize, len: usize, height: usize) -> usize {
    if height == 0 {
        return cursor;
    }
    let margin = MARGIN.min((height - 1) / 2);
    let lowest = cursor.saturating_sub(margin);
    let highest = (cursor + margin + 1).saturating_sub(height);
    top.min(lowest).max(highest).min(len.saturating_sub(height))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn keys_move_and_stop_at_the_ends() {
        assert_eq!(moved(Action::Down, 9, 10, 5), Some(9));
        assert_eq!(moved(Action::PageDown, 0, 100, 20), Some(19));
        assert_eq!(moved(Action::HalfUp, 4, 100, 20), Some(0));
        assert_eq!(moved(Action::Last, 0, 0, 5), Some(0));
        assert_eq!(moved(Action::Help, 0, 10, 5), None);
    }

    proptest! {
        #[test]
        fn the_cursor_stays_in_sight(top in 0..200_usize, cursor in 0..100_usize, height in 1..60_usize) {
            let len = 100;
            let top = follow(top, cursor, len, height);
            prop_assert!(top <= cursor && cursor < top + height);
            prop_assert!(top + height.min(len) <= len);
            prop_assert_eq!(follow(top, cursor, len, height), top);
        }
    }
}
