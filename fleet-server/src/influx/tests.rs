//! Lines as people, programs and attackers write them.

use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::field::{Field, Literal};
use super::*;

/// A line read to its end, for comparing.
#[derive(Debug, PartialEq)]
struct Read {
    measurement: String,
    tags: Vec<(String, String)>,
    numbers: Vec<(String, f64)>,
    texts: Vec<(String, String)>,
    time: Option<i64>,
}

fn read(line: Line<'_>) -> Result<Read, LineError> {
    let mut tags = Vec::new();
    for tag in line.tags() {
        let (name, value) = tag?;
        tags.push((name.read().into_owned(), value.read().into_owned()));
    }
    let (mut numbers, mut texts) = (Vec::new(), Vec::new());
    for field in line.fields() {
        let field: Field<'_> = field?;
        let name = field.name.read().into_owned();
        match (field.number()?, field.value) {
            (Some(number), _) => numbers.push((name, number.get())),
            (None, Literal::Text(text)) => texts.push((name, text.to_owned())),
            (None, other) => panic!("{other:?} is no number"),
        }
    }
    let measurement = line.measurement().read().into_owned();
    Ok(Read { measurement, tags, numbers, texts, time: line.time() })
}

fn all(body: &[u8]) -> Vec<(usize, Result<Read, LineError>)> {
    lines(body).map(|(number, line)| (number, line.and_then(read))).collect()
}

fn one(line: &str) -> Result<Read, LineError> {
    let mut all = all(line.as_bytes());
    assert_eq!(all.len(), 1, "{line:?}");
    all.remove(0).1
}

fn numbers(line: &str) -> Vec<(String, f64)> {
    one(line).unwrap_or_else(|error| panic!("{line}: {error}")).numbers
}

fn pairs<T: Clone>(pairs: &[(&str, T)]) -> Vec<(String, T)> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect()
}

#[test]
fn a_line_is_taken_apart() {
    let line = r#"cpu,cpu=cpu0,host=web01 idle=98.5,user=-1e-1,n=3i,big=18446744073709551615u,up=t,down=FALSE,note="a b" 1705314600000000000"#;
    let expected = [
        ("idle", 98.5),
        ("user", -0.1),
        ("n", 3.0),
        ("big", 18_446_744_073_709_551_615.0),
        ("up", 1.0),
        ("down", 0.0),
    ];
    let expected = Read {
        measurement: "cpu".to_owned(),
        tags: vec![("cpu".to_owned(), "cpu0".to_owned()), ("host".to_owned(), "web01".to_owned())],
        numbers: pairs(&expected),
        texts: vec![("note".to_owned(), "a b".to_owned())],
        time: Some(1_705_314_600_000_000_000),
    };
    assert_eq!(one(line), Ok(expected));
    assert_eq!(one("m f=1").map(|read| read.time), Ok(None));
    assert_eq!(one("m f=1 -5").map(|read| read.time), Ok(Some(-5)));
    assert_eq!(one(r#"m f="x 5""#).map(|read| read.time), Ok(None));
    assert_eq!(numbers("  m   f=1   7  \r"), pairs(&[("f", 1.0)]));
}

#[test]
fn a_backslash_is_for_what_comes_after_it_or_for_itself() {
    let read = one(r"a\ b\,c\=d,t\ ag=v\,a\=l,path=C:\dir\x f\ 1\=\,=1").unwrap();
    assert_eq!(read.measurement, "a b,c=d");
    assert_eq!(read.tags, pairs(&[("t ag", "v,a=l".to_owned()), ("path", r"C:\dir\x".to_owned())]));
    assert_eq!(read.numbers, pairs(&[("f 1=,", 1.0)]));
    assert!(one(r"m back\\=2").is_err(), "the equals sign is escaped");
}

#[test]
fn each_kind_of_number_is_one_and_words_are_none() {
    for (text, value) in [
        ("0", 0.0),
        ("+1", 1.0),
        ("1.", 1.0),
        (".5", 0.5),
        ("1E+3", 1000.0),
        ("-9223372036854775808i", -9_223_372_036_854_775_808.0),
        ("T", 1.0),
        ("True", 1.0),
        ("f", 0.0),
        ("false", 0.0),
    ] {
        assert_eq!(numbers(&format!("m f={text}")), pairs(&[("f", value)]), "{text}");
    }
    for word in [
        "nan",
        "NaN",
        "inf",
        "-inf",
        "+Infinity",
        "abc",
        "1x",
        "tRUE",
        "0x10",
        "1_000",
        "--1",
        "i",
        "1.5i",
        "-1u",
        "1,2",
        "'a'",
        "-",
        ".",
        "e5",
        "yes",
    ] {
        assert!(one(&format!("m f={word}")).is_err(), "{word}");
    }
    for large in ["1e999", "-1e999", "9223372036854775808i", "18446744073709551616u"] {
        let found = one(&format!("m f={large}"));
        assert!(matches!(found, Err(LineError::TooLarge { .. })), "{large}: {found:?}");
    }
}

#[test]
fn what_is_wrong_is_said_with_its_place() {
    for (line, expected) in [
        ("m", "no fields"),
        ("m ", "no fields"),
        ("m 1705314600", "field 1705314600: not of the form name=value"),
        (",t=v f=1", "no measurement"),
        ("m, f=1", "tag : not of the form name=value"),
        ("m,t f=1", "tag t: not of the form name=value"),
        ("m,t= f=1", "tag t=: not of the form name=value"),
        ("m,=v f=1", "tag =v: not of the form name=value"),
        ("m,a=b,,c=d f=1", "tag : not of the form name=value"),
        ("m f=", "field f=: not of the form name=value"),
        ("m =1", "field =1: not of the form name=value"),
        ("m f=1,", "field : not of the form name=value"),
        ("m f", "field f: not of the form name=value"),
        ("m f=1,g", "field g: not of the form name=value"),
        ("m f=high", "field f: high is not a number, a boolean or a string in quotes"),
        ("m f=1e999", "field f: 1e999 is too large"),
        ("m f=\"open", "field f: a string without closing quote"),
        ("m f=\"a\"b", "field b: not of the form name=value"),
        ("m f=1 soon", "the time is not a whole number"),
        ("m f=1 1.5", "the time is not a whole number"),
        ("m f=1 99999999999999999999", "the time is not a whole number"),
        ("m f=\"a\" soon", "the time is not a whole number"),
        ("m f=\u{1b}[2J", "field f: \\u{1b}[2J is not a number, a boolean or a string in quotes"),
    ] {
        let error = one(line).map_err(|error| error.to_string());
        assert_eq!(error.as_ref().map_err(String::as_str), Err(expected), "{line:?}");
    }
    assert_eq!(all(b"m f=1\nm \xff=1\nm f=2")[1], (2, Err(LineError::NotText)));
}

#[test]
fn lines_keep_their_numbers_and_do_not_disturb_each_other() {
    let body = "# a comment with a \" in it\n\nm f=1\r\n   \nbroken\n  # more\nm f=2,s=\"one\ntwo\nm f=9\" 5\nm f=3\n";
    let found: Vec<_> = all(body.as_bytes());
    let good: Vec<_> = found
        .iter()
        .filter_map(|(number, read)| Some((*number, read.as_ref().ok()?.numbers[0].1)))
        .collect();
    assert_eq!(good, [(3, 1.0), (7, 2.0), (10, 3.0)]);
    assert_eq!(found.len(), 4);
    assert_eq!(found[1], (5, Err(LineError::NoFields)));
    assert_eq!(found[2].1.as_ref().unwrap().texts[0].1, "one\ntwo\nm f=9");
    assert!(all(b"").is_empty() && all(b"\n\n").is_empty());
}

#[test]
fn quotes_open_strings_where_a_value_begins_and_nowhere_else() {
    for (body, lines) in [
        ("m,t=\"a f=1\nm f=2", 2),
        ("m\"x f=1\nm f=2", 2),
        ("  m,t=\"a f=1\nm f=2", 2),
        ("m f\"=1\nm f=2", 2),
        ("m f=1\"2\nm f=2", 2),
        ("m a\\=\"=1\nm f=2", 2),
        ("m f=\"a\\\"\nb\"\nm f=2", 2),
        ("m f=\"a\\\\\"\nm f=2", 2),
        ("nothing\"\nm f=2", 2),
        ("m f=\"open\nm f=2", 1),
        ("m f=\"a\\", 1),
    ] {
        assert_eq!(all(body.as_bytes()).len(), lines, "{body:?}");
    }
}

/// However a body is made, reading it takes a time that grows with its length alone.
#[test]
fn bodies_that_mean_harm_are_read_like_others() {
    let mut large = vec![
        format!("m,t={} f=1", "x".repeat(1 << 20)),
        format!("m {}", "f=1,".repeat(10_000)),
        format!("m {}", "\\ ".repeat(1 << 19)),
        format!("m{}", ",".repeat(1 << 20)),
        format!("m f={}", "\\\"".repeat(1 << 19)),
    ];
    large.push("m f=\"\n".repeat(150_000));
    large.push("m f=\\\"\n".repeat(130_000));
    large.push("\"\n".repeat(500_000));
    large.push("m f=\"a\" ".repeat(130_000));
    for body in &large {
        let began = Instant::now();
        let found = all(body.as_bytes());
        assert!(!found.is_empty());
        let took = began.elapsed();
        assert!(took < Duration::from_secs(5), "{took:?} for {:?}", &body[..20]);
        let longest = |error: &LineError| error.to_string().len() < 4096;
        assert!(found.iter().filter_map(|(_, read)| read.as_ref().err()).all(longest));
    }
}

fn escaped_name(text: &str) -> String {
    text.replace(',', "\\,").replace('=', "\\=").replace(' ', "\\ ")
}

/// Backslashes only where they stand for themselves.
fn name() -> impl Strategy<Value = String> {
    "([a-z0-9_,= üß\"#]|\\\\[a-z]){1,12}".prop_filter("a comment", |text| !text.starts_with('#'))
}

fn written(read: &Read) -> String {
    let tag = |(name, value): &(String, String)| {
        format!(",{}={}", escaped_name(name), escaped_name(value))
    };
    let head = escaped_name(&read.measurement) + &read.tags.iter().map(tag).collect::<String>();
    let numbers =
        read.numbers.iter().map(|(name, value)| format!("{}={value}", escaped_name(name)));
    let texts = read.texts.iter().map(|(name, text)| format!("{}=\"{text}\"", escaped_name(name)));
    let fields: Vec<String> = numbers.chain(texts).collect();
    let time = read.time.map(|time| format!(" {time}")).unwrap_or_default();
    format!("{head} {}{time}", fields.join(","))
}

proptest! {
    #[test]
    fn what_is_written_is_read(
        measurement in name(),
        tags in prop::collection::vec((name(), name()), 0..4),
        numbers in prop::collection::vec((name(), -1e300..1e300_f64), 1..6),
        texts in prop::collection::vec((name(), "([a-z ,=\n]|\\\\\"|\\\\\\\\){0,9}"), 0..3),
        time in prop::option::of(any::<i64>()),
    ) {
        let line = Read { measurement, tags, numbers, texts, time };
        let body = format!("m first=1\n{}\nm last=1", written(&line));
        let found = all(body.as_bytes());
        prop_assert_eq!(found.len(), 3, "{}", body);
        prop_assert_eq!(found[1].1.as_ref(), Ok(&line), "{}", body);
    }

    #[test]
    fn any_bytes_give_lines_or_errors(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        all(&bytes);
    }

    #[test]
    fn any_text_of_the_protocols_signs_gives_lines_or_errors(text in "[mf1i=, \"\\\\\n#]{0,60}") {
        let found = all(text.as_bytes());
        let numbers: Vec<usize> = found.iter().map(|(number, _)| *number).collect();
        prop_assert!(numbers.is_sorted_by(|one, next| one < next));
        prop_assert!(numbers.last().is_none_or(|last| *last <= text.split('\n').count()));
    }
}
