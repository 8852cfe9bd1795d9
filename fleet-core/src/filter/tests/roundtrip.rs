//! Random filters read back as they were written; random texts are answered and nothing more.

use proptest::prelude::*;

use crate::field::Field;
use crate::filter::pattern::Word;
use crate::filter::tree::{Node, Op, Target, Term};
use crate::filter::value::{Value, check_operator};
use crate::filter::{Filter, Words};
use crate::limits::{FILTER_BYTES_MAX, FILTER_DEPTH_MAX};
use crate::untrusted::is_dangerous;

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z]{1,8}",
        "[0-9]{1,3}(\\.[0-9]{1,2})?",
        "[ -~é厨]{0,8}",
        "(and|or|not|in|has|NOT|status|metadata\\.|&&|\\|\\||'|~|\\*|\\?){0,2}",
    ]
}

fn target() -> impl Strategy<Value = Target> {
    let fields: Vec<Field> = Field::all().filter(|field| *field != Field::Metadata).collect();
    prop_oneof![
        proptest::sample::select(fields).prop_map(Target::Field),
        text().prop_map(Target::Entry),
    ]
}

/// A value that the target takes: the random one, or one of those that some kind takes.
fn value(target: &Target, op: Op, raw: &str) -> Option<Value> {
    check_operator(target, op).ok()?;
    let fallbacks = [raw, "offline", "applied", "45.5", "1h30m5s250ms"];
    fallbacks.iter().find_map(|raw| Value::read(target, op, raw).ok())
}

fn term() -> impl Strategy<Value = Term> {
    let op = proptest::sample::select(Op::ALL.to_vec());
    prop_oneof![
        target().prop_map(Term::Has),
        text().prop_map(|text| Term::Word(Word::new(&text))),
        (target(), op, text()).prop_filter_map("no such comparison", |(target, op, raw)| {
            let value = value(&target, op, &raw)?;
            Some(Term::Compare(target, op, value))
        }),
        (target(), prop::collection::vec(text(), 1..4)).prop_filter_map(
            "no such list",
            |(target, raws)| {
                let read = |raw: &String| value(&target, Op::Equal, raw);
                let values = raws.iter().map(read).collect::<Option<_>>()?;
                Some(Term::In(target, values))
            }
        ),
    ]
}

fn node() -> impl Strategy<Value = Node> {
    // Each level of the tree is two in the text at most: a not and a bracket.
    let levels = u32::try_from(FILTER_DEPTH_MAX / 2).unwrap();
    term().prop_map(Node::Term).prop_recursive(levels.min(6), 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 2..4).prop_map(Node::every),
            prop::collection::vec(inner.clone(), 2..4).prop_map(Node::any),
            inner.prop_map(|node| Node::Not(Box::new(node))),
        ]
    })
}

/// Pieces of filters in any order: more of them are nearly right than of any text.
fn nearly() -> impl Strategy<Value = String> {
    let pieces = [
        "status",
        "cpu",
        "tag:",
        "last_seen",
        "site",
        "metadata.",
        "=",
        "!=",
        "<",
        ">=",
        "~",
        " in ",
        "(",
        ")",
        ",",
        "!",
        " not ",
        " and ",
        " or ",
        " has ",
        "\"",
        "\\",
        "10m",
        "90%",
        "offline",
        "é",
        "厨",
        "\u{1b}",
        "\u{202e}",
        " ",
        "*",
        "'",
    ];
    prop::collection::vec(proptest::sample::select(pieces.to_vec()), 0..12)
        .prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn a_filter_reads_back_as_it_was_written(root in node()) {
        let filter = Filter { root };
        let text = filter.to_string();
        prop_assume!(text.len() <= FILTER_BYTES_MAX);
        prop_assert!(!text.chars().any(is_dangerous), "{text:?}");
        prop_assert_eq!(Filter::parse(&text, Words::Fuzzy), Ok(filter), "{}", text);
    }

    #[test]
    fn any_text_is_answered(text in prop_oneof!["\\PC{0,40}", "[\\x00-\\x7f\u{202e}]{0,40}", nearly()]) {
        for words in [Words::Fuzzy, Words::Refused] {
            match Filter::parse(&text, words) {
                Ok(filter) => {
                    prop_assert_eq!(Filter::parse(&filter.to_string(), words), Ok(filter));
                }
                Err(error) => {
                    prop_assert!(text.get(error.at.clone()).is_some(), "{error:?}");
                    let shown = error.caret(&text);
                    prop_assert_eq!(shown.lines().count(), 3, "{}", shown);
                    prop_assert!(!shown.replace('\n', "").chars().any(is_dangerous), "{shown:?}");
                    prop_assert!(!error.to_string().chars().any(is_dangerous), "{error:?}");
                }
            }
        }
    }
}
