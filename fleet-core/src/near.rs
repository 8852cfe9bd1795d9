//! Words that are nearly the same: what somebody probably meant to type.

/// A word further away than this is another word, not a typing error.
const EDITS_MAX: usize = 3;
/// Characters that are compared.
const WORD_CHARS_MAX: usize = 64;
/// Bytes of a character.
const CHAR_BYTES_MAX: usize = 4;

/// The known word that is nearest, if one is near at all.
pub(crate) fn nearest<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let near = known.filter_map(|candidate| Some((distance(word, candidate)?, candidate)));
    near.min().map(|(_, candidate)| candidate)
}

/// How many characters must be changed to get from a word to a candidate; nothing if that is too
/// many for a typing error.
pub(crate) fn distance(word: &str, candidate: &str) -> Option<usize> {
    let edits_max = EDITS_MAX.min(candidate.len() / 2);
    // Each edit changes the length by one character at most.
    if word.len().abs_diff(candidate.len()) > edits_max * CHAR_BYTES_MAX {
        return None;
    }
    Some(edits(word, candidate)).filter(|edits| *edits <= edits_max)
}

/// How many characters must be put in, taken out or replaced to get from one word to the other.
fn edits(word: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().take(WORD_CHARS_MAX).collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (i, c) in word.chars().take(WORD_CHARS_MAX).enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, o) in other.iter().enumerate() {
            let replaced = diagonal + usize::from(c != *o);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[other.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edits_are_counted() {
        for (word, other, count) in [("kitten", "sitting", 3), ("", "abc", 3), ("a", "a", 0)] {
            assert_eq!(edits(word, other), count, "{word} {other}");
        }
    }

    #[test]
    fn only_near_words_are_near() {
        let known = ["eu-west", "eu-east", "us"];
        assert_eq!(nearest("eu-wset", known.into_iter()), Some("eu-west"));
        assert_eq!(nearest("lyon", known.into_iter()), None);
        assert_eq!(nearest(&"x".repeat(4096), known.into_iter()), None);
    }
}
