//! A number against the standard library's floats.

use proptest::prelude::*;

use super::*;

fn float() -> impl Strategy<Value = f64> {
    let decimal = (any::<i64>(), 0..63, -18..3).prop_map(|(mantissa, shift, power)| {
        format!("{}e{power}", mantissa >> shift).parse().expect("it is a float")
    });
    let near_bounds = (any::<bool>(), 0..20_i64, 0..=14).prop_map(|(up, off, power)| {
        let bound = 1_i64 << 53;
        let mantissa = if up { bound + off } else { bound - off };
        mantissa as f64 / 10_f64.powi(power)
    });
    prop_oneof![any::<u64>().prop_map(f64::from_bits), decimal, near_bounds]
        .prop_filter("finite", |value| value.is_finite())
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        float().prop_map(|value| value.to_string()),
        float().prop_map(|value| format!("{value:e}")),
        (any::<i32>(), 0..18_usize)
            .prop_map(|(value, digits)| format!("{:.digits$}", f64::from(value) / 1000.)),
        "[+-]?[0-9]{0,20}(\\.[0-9]{0,20})?([eE][+-]?[0-9]{0,3})?",
        "[0-9+.eE_ infaNIxty-]{0,8}",
        any::<String>(),
    ]
}

fn bytes(number: Number) -> Vec<u8> {
    let mut out = Vec::new();
    number.put(&mut out);
    out
}

#[test]
fn a_number_is_small() {
    assert_eq!(size_of::<Number>(), 16);
    assert_eq!(bytes(Number::new(45.23)).len(), 3);
    assert_eq!(bytes(Number::new(0.)), [0]);
    assert_eq!(bytes(Number::new(-2.5)), [0x91, 6]);
    let largest = Number::from_decimal(-(1 << 53), SCALE_MAX).expect("it is within the bounds");
    assert_eq!(bytes(largest).len(), NUMBER_BYTES_MAX);
    assert_eq!(
        bytes(Number::new(0.1 + 0.2)),
        [&[15], &0x3fd3_3333_3333_3334_u64.to_le_bytes()[..]].concat()
    );
}

#[test]
fn what_is_written_in_decimal_is_one() {
    for (text, decimal) in [
        ("45.23", Some((4523, 2))),
        ("-0.50", Some((-50, 2))),
        ("+7", Some((7, 0))),
        ("5.", Some((5, 0))),
        (".5", Some((5, 1))),
        ("9007199254740992", Some((1 << 53, 0))),
        ("12e2", Some((1200, 0))),
        ("0.1000000000000000055", Some((1, 1))),
        ("9007199254740994", None),
        ("-0", None),
        ("1e300", None),
        ("0.12345678901234567", None),
    ] {
        let number = Number::parse(text.as_bytes());
        assert_eq!(number.map(Number::decimal), Some(decimal), "{text}");
    }
}

#[test]
fn what_is_no_decimal_text_is_none() {
    for text in [
        "", "-", "+", ".", "-.", "e5", "1e", "1 ", " 1", "1_0", "0x1", "inf", "nan", "infinity",
        "1e999", "-1e999", "1.2.3", "--1", "1e5.", "٣", "1,5",
    ] {
        assert_eq!(Number::parse(text.as_bytes()), None, "{text}");
    }
    assert_eq!(Number::parse(&[b'1', 0xff]), None);
}

#[test]
fn every_kind_of_float_comes_back() {
    let two_to_63 = 9_223_372_036_854_775_808.;
    for value in [
        0.,
        -0.,
        5e-324,
        -5e-324,
        f64::MIN_POSITIVE,
        1e300,
        f64::MAX,
        f64::MIN,
        two_to_63,
        -two_to_63,
        f64::NAN,
        f64::INFINITY,
        f64::NEG_INFINITY,
        0.1,
        0.1 + 0.2,
        1. / 3.,
        4_503_599_627_370_497.,
        9_007_199_254_740_991.,
        9_007_199_254_740_993.,
        1e-14,
        1e-15,
        90_071_992_547_409.9,
    ] {
        for scale in 0..=255 {
            assert_eq!(Number::near(value, scale).get().to_bits(), value.to_bits(), "{value}");
        }
        assert_eq!(Number::new(value).get().to_bits(), value.to_bits(), "{value}");
    }
    assert_eq!(Number::new(4_503_599_627_370_497.).decimal(), Some(((1 << 52) + 1, 0)));
    assert_eq!(Number::near(45.2, 2).decimal(), Some((4520, 2)));
}

#[test]
fn sums_of_decimals_are_exact() {
    let number = |text: &str| Number::parse(text.as_bytes()).expect("it is a number");
    for (a, b, sum) in [
        ("0.1", "0.2", "0.3"),
        ("45.23", "-0.003", "45.227"),
        ("1e300", "1", "1e300"),
        ("9007199254740992", "0.5", "9007199254740992"),
        ("9007199254740992", "2", "9007199254740994"),
    ] {
        assert_eq!(number(a) + number(b), number(sum), "{a} + {b}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn every_float_comes_back(value in float(), scale in any::<u8>(), rest in any::<[u8; 2]>()) {
        let number = Number::new(value);
        prop_assert_eq!(number.get().to_bits(), value.to_bits());
        prop_assert_eq!(Number::near(value, scale).get().to_bits(), value.to_bits());
        let mut out = bytes(number);
        prop_assert!(out.len() <= NUMBER_BYTES_MAX);
        out.extend(rest);
        let mut left = out.as_slice();
        prop_assert_eq!(Number::take(&mut left), Some(number));
        prop_assert_eq!(left, &rest);
    }

    #[test]
    fn text_is_read_as_rust_reads_it(text in text()) {
        let known = text.bytes().all(|byte| byte.is_ascii_digit() || b"+-.eE".contains(&byte));
        let value = text.parse().ok().filter(|value: &f64| known && value.is_finite());
        let number = Number::parse(text.as_bytes());
        prop_assert_eq!(number.map(|number| number.get().to_bits()), value.map(f64::to_bits));
    }

    #[test]
    fn any_bytes_can_be_taken(bytes in proptest::collection::vec(any::<u8>(), 0..14)) {
        let mut left = bytes.as_slice();
        if let Some(number) = Number::take(&mut left) {
            prop_assert_eq!(Number::new(number.get()), number);
        }
    }

    #[test]
    fn more_digits_change_nothing(mantissa in -1_000_000_000_i64..1_000_000_000, scale in 0..=4_u8, to in 4..=9_u8) {
        let more = rescale(mantissa, scale, to);
        if let Some(more) = more {
            prop_assert_eq!(decimal(more, to).to_bits(), decimal(mantissa, scale).to_bits());
        }
    }
}
