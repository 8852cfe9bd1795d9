//! The order of releases: `1.9` before `1.10-rc1` before `1.10` which is `1.10.0`.
//!
//! Any text has its place in it, since devices say what they like.

use std::cmp::Ordering;

use super::pattern;

/// Numbers of a release that is nothing but numbers.
const PLAIN_NUMBERS_MAX: usize = 4;
/// Digits of each that surely fit.
const PLAIN_DIGITS_MAX: usize = 9;

/// Which of two releases came first.
pub fn order(a: &str, b: &str) -> Ordering {
    match (plain(a), plain(b)) {
        (Some(a), Some(b)) => a.cmp(&b),
        _ => order_any(a, b),
    }
}

/// The numbers of a release like `1.4.2`. Nearly all are like this, and thousands are compared at
/// once.
fn plain(text: &str) -> Option<[u32; PLAIN_NUMBERS_MAX]> {
    let mut numbers = [0; PLAIN_NUMBERS_MAX];
    let (mut index, mut digits) = (0, 0);
    for byte in text.bytes() {
        match byte {
            b'0'..=b'9' if digits < PLAIN_DIGITS_MAX => {
                numbers[index] = numbers[index] * 10 + u32::from(byte - b'0');
                digits += 1;
            }
            b'.' if index + 1 < PLAIN_NUMBERS_MAX => (index, digits) = (index + 1, 0),
            _ => return None,
        }
    }
    Some(numbers)
}

fn order_any(a: &str, b: &str) -> Ordering {
    let ((a, a_before), (b, b_before)) = (split(a), split(b));
    numbers(a, b).then_with(|| match (a_before, b_before) {
        (None, None) => Ordering::Equal,
        (None, Some(_)) => Ordering::Greater,
        (Some(_), None) => Ordering::Less,
        (Some(a), Some(b)) => preludes(a, b),
    })
}

/// The numbers, and what a release candidate adds after a `-`. What comes after a `+` says how it
/// was built, not when.
fn split(text: &str) -> (&str, Option<&str>) {
    let text = text.trim_start_matches(['v', 'V']);
    let text = text.split_once('+').map_or(text, |(version, _)| version);
    text.split_once('-').map_or((text, None), |(version, before)| (version, Some(before)))
}

/// Number by number; numbers that are not there are zero.
fn numbers(a: &str, b: &str) -> Ordering {
    let (mut a, mut b) = (a.split('.'), b.split('.'));
    loop {
        match (a.next(), b.next()) {
            (None, None) => return Ordering::Equal,
            (a, b) => match part(a.unwrap_or("0"), b.unwrap_or("0")) {
                Ordering::Equal => {}
                decided => return decided,
            },
        }
    }
}

/// Part by part; the shorter one first.
fn preludes(a: &str, b: &str) -> Ordering {
    let (mut a, mut b) = (a.split('.'), b.split('.'));
    loop {
        match (a.next(), b.next()) {
            (None, None) => return Ordering::Equal,
            (None, Some(_)) => return Ordering::Less,
            (Some(_), None) => return Ordering::Greater,
            (Some(a), Some(b)) => match part(a, b) {
                Ordering::Equal => {}
                decided => return decided,
            },
        }
    }
}

/// Numbers by their value however long they are, words by their letters, numbers before words.
fn part(a: &str, b: &str) -> Ordering {
    match (digits(a), digits(b)) {
        (Some(a), Some(b)) => a.len().cmp(&b.len()).then_with(|| a.cmp(b)),
        (Some(_), None) => Ordering::Less,
        (None, Some(_)) => Ordering::Greater,
        (None, None) => pattern::order(a, b),
    }
}

fn digits(text: &str) -> Option<&str> {
    let is_number = text.bytes().all(|b| b.is_ascii_digit());
    is_number.then(|| text.trim_start_matches('0'))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn releases_follow_each_other() {
        let rising = [
            "",
            "0.1",
            "1.2.0-alpha",
            "1.2.0-alpha.1",
            "1.2.0-alpha.beta",
            "1.2-rc.2",
            "1.2-rc.10",
            "1.2",
            "1.9",
            "1.10",
            "1.10.1",
            "2",
            "99999999999999999999999",
            "dev",
        ];
        for pair in rising.windows(2) {
            assert_eq!(order(pair[0], pair[1]), Ordering::Less, "{pair:?}");
            assert_eq!(order(pair[1], pair[0]), Ordering::Greater, "{pair:?}");
        }
        for (a, b) in [("1.2", "1.2.0"), ("v1.2", "1.2"), ("1.2+abc", "1.2"), ("1.02", "1.2")] {
            assert_eq!(order(a, b), Ordering::Equal, "{a} {b}");
        }
    }

    proptest! {
        /// Sorting panics or goes astray with anything less.
        #[test]
        fn any_three_texts_have_an_order(
            a in "[v0-2.a+-]{0,6}", b in "[v0-2.a+-]{0,6}", c in "[v0-2.a+-]{0,6}"
        ) {
            prop_assert_eq!(order(&a, &b), order_any(&a, &b));
            prop_assert_eq!(order(&a, &b), order(&b, &a).reverse());
            if order(&a, &b).is_le() && order(&b, &c).is_le() {
                prop_assert!(order(&a, &c).is_le());
            }
        }
    }
}
