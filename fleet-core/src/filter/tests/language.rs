//! What is a filter, how it is spelled, and what is said of what is none.

use crate::filter::{Filter, HELP, Words};
use crate::limits::{FILTER_BYTES_MAX, FILTER_DEPTH_MAX};

#[track_caller]
fn assert_spelled(text: &str, spelled: &str, words: Words) {
    let filter = Filter::parse(text, words).unwrap_or_else(|error| panic!("{text}: {error}"));
    assert_eq!(filter.to_string(), spelled, "{text}");
    assert_eq!(Filter::parse(spelled, words), Ok(filter), "{text}");
}

#[test]
fn every_filter_has_one_spelling() {
    for (text, spelled) in [
        ("", ""),
        (" \t\n", ""),
        // What the design and the reference show.
        ("type=raspberrypi", "type=raspberrypi"),
        ("status=offline", "status=offline"),
        (
            "type=raspberrypi and (site in (a,b) or tag:canary) and not version<1.2 and\nlast_seen>10m",
            "type=raspberrypi and (site in (a,b) or tag:canary) and not version<1.2 and last_seen>10m",
        ),
        ("tag:eu-west or tag:us or tag:ap", "tag:eu-west or tag:us or tag:ap"),
        (
            "type=raspberrypi tag:eu-west !version=1.4.2",
            "type=raspberrypi and tag:eu-west and not version=1.4.2",
        ),
        ("cpu>90 and last_seen<1m", "cpu>90 and last_seen<1m"),
        ("tag:eu-west !name~^test", "tag:eu-west and not name~^test"),
        // Joining.
        ("a=1 b=2 or c=3", "a=1 and b=2 or c=3"),
        ("a=1 (b=2 or c=3)", "a=1 and (b=2 or c=3)"),
        ("a=1 (b=2 and c=3)", "a=1 and b=2 and c=3"),
        ("((a=1))(b=2)", "a=1 and b=2"),
        ("a=1 AND b=2 Or NOT c=3", "a=1 and b=2 or not c=3"),
        ("!!a=1", "not not a=1"),
        ("not (a=1 or b=2)", "not (a=1 or b=2)"),
        ("not (a=1) b=2", "not a=1 and b=2"),
        ("! a=1", "not a=1"),
        ("!has site", "not has site"),
        // Names.
        ("STATUS=offline", "status=offline"),
        ("ip=10.0.0.1 id=a host=b", "address=10.0.0.1 and device=a and hostname=b"),
        ("Site=Lyon", "Site=Lyon"),
        ("metadata.site=lyon", "site=lyon"),
        ("metadata.status=x", "metadata.status=x"),
        ("metadata.not=x", "metadata.not=x"),
        ("Metadata.\"two words\"=x", "metadata.\"two words\"=x"),
        ("has metadata.\"a:b\"", "has metadata.\"a:b\""),
        ("metadata.metadata.x=1", "metadata.metadata.x=1"),
        ("has Temp has tags", "has temp and has tag"),
        // Operators and values.
        ("cpu > 90", "cpu>90"),
        ("cpu>=90% mem<=12.50", "cpu>=90 and mem<=12.5"),
        ("temp>70°C", "temp>70"),
        ("last_seen > 90s", "last_seen>1m30s"),
        ("added<\"1h 30m\"", "added<1h30m"),
        ("tag=x tags!=y tag~z", "tag:x and tag!=y and tag~z"),
        ("tag: x", "tag:x"),
        ("tag in (a, \"b c\" , d)", "tag in (a,\"b c\",d)"),
        ("status IN(offline,late)", "status in (offline,late)"),
        ("status=off* config=applied", "status=off* and config=applied"),
        ("device=rpi4-001~k3xq2m", "device=rpi4-001~k3xq2m"),
        ("name=\"a \\\"b\\\" \\\\ c\"", "name=\"a \\\"b\\\" \\\\ c\""),
        ("name=\"plain\"", "name=plain"),
        ("name=\"\"", "name=\"\""),
        ("name=\"~x\" model=\"'t\"", "name=\"~x\" and model=\"'t\""),
        ("name=hi! url=a:b", "name=hi! and url=a:b"),
        ("version<v1.10 version=dev", "version<v1.10 and version=dev"),
    ] {
        assert_spelled(text, spelled, Words::Refused);
        assert_spelled(text, spelled, Words::Fuzzy);
    }
}

#[test]
fn bare_words_are_fuzzy_where_they_are_taken() {
    for (text, spelled) in [
        ("pump", "pump"),
        ("pump status=offline", "pump and status=offline"),
        ("not pump or (edge lyon)", "not pump or edge and lyon"),
        ("\"two words\" \"and\" \"&&\"", "\"two words\" and \"and\" and \"&&\""),
        ("cpu", "cpu"),
    ] {
        assert_spelled(text, spelled, Words::Fuzzy);
        assert!(text.parse::<Filter>().is_err(), "{text}");
    }
}

#[test]
fn each_example_of_the_help_is_a_filter() {
    for (text, _) in HELP {
        assert!(text.parse::<Filter>().is_ok(), "{text}");
    }
}

#[test]
fn what_is_no_filter_is_told_with_its_place_and_a_way_out() {
    for (text, told) in [
        (
            "status=offline,late",
            "column 15: commas stand in lists only; write status in (offline,late)",
        ),
        ("tag:a,b", "column 6: commas stand in lists only; write tag in (a,b)"),
        ("site!=a, b", "column 8: commas stand in lists only; write not site in (a,b)"),
        ("name~a,b", "column 7: commas stand in lists only; write (name~a or name~b)"),
        ("a=1,", "column 4: commas stand in lists only; write a in (1)"),
        (
            "a=1 , b=2",
            "column 5: commas stand in lists only; write and, or, or a list like site in (a,b)",
        ),
        (
            "status=oflline",
            "column 8: status is never oflline, it is one of online, late, offline, lost, pending, \
             rejected, revoked; did you mean status=offline?",
        ),
        (
            "config~xyz",
            "column 8: config is never xyz, it is one of none, waiting, sent, trying, applied, refused, reverted",
        ),
        ("status<late", "column 7: status takes = != ~ and in, not <"),
        ("tag>a", "column 4: tag takes = != ~ and in, not >"),
        ("cpu~9", "column 4: cpu takes = != < <= > >= and in, not ~"),
        (
            "last_seen=10m",
            "column 10: last_seen takes < <= > and >=, not =; write last_seen>10m for longer ago than \
             ten minutes",
        ),
        (
            "cpu>high",
            "column 5: cpu is compared with a number from 0 to 100, which high is not; write it like \
             cpu>90",
        ),
        (
            "cpu>101",
            "column 5: cpu is compared with a number from 0 to 100, which 101 is not; write it like \
             cpu>90",
        ),
        (
            "seen>soon",
            "column 6: last_seen is compared with a duration, which soon is not; write it like \
             last_seen>10m",
        ),
        (
            "version<new",
            "column 9: version is compared with numbers with dots, which new is not; write it like \
             version<1.4.2",
        ),
        ("pump", "column 1: pump is compared with nothing; write name~pump or device~pump"),
        (
            "a=1 \"b c\"",
            "column 5: b c is compared with nothing; write name~\"b c\" or device~\"b c\"",
        ),
        ("cpu", "column 1: cpu is compared with nothing; write it like has cpu, or compare it"),
        (
            "metadata~x",
            "column 1: metadata is compared entry by entry; write it like site=lyon or \
             metadata.site=lyon",
        ),
        ("site:lyon", "column 5: site takes no colon; write it like site=x"),
        (
            "site==lyon",
            "column 5: there is no such operator; operators are = != < <= > >= ~ and in",
        ),
        ("a=1 && b=2", "column 5: && means nothing here; write and"),
        ("a=1 || b=2", "column 5: || means nothing here; write or"),
        ("site=", "column 5: a value is missing after this; an empty one is \"\""),
        ("site in (a,)", "column 9: a value is missing after this; an empty one is \"\""),
        ("site in (a b)", "column 12: a comma is missing here; values with spaces stand in quotes"),
        ("site in (a", "column 9: this list is not closed"),
        ("site in a", "column 1: in is followed by a list; write it like site in (a,b)"),
        ("name='a'", "column 6: this quote is none here; put values in \"…\""),
        ("name=\"a", "column 6: this quote is not closed"),
        (
            "name=\"\\n\"",
            "column 7: in quotes, a backslash stands before \" or \\ only; write \\\\ for a backslash",
        ),
        (
            "name=a(b)",
            "column 7: this stands right behind a word; put a space between, or a value in quotes",
        ),
        (
            "name=\"a\"b=1",
            "column 9: this stands right behind a word; put a space between, or a value in quotes",
        ),
        ("(a=1", "column 1: this bracket is not closed"),
        ("a=1)", "column 4: this bracket closes nothing"),
        ("()", "column 2: a term is missing before this bracket"),
        ("a=1 and", "column 8: a term is missing here"),
        ("and a=1", "column 1: a term is missing before and"),
        ("a=1 or or b=2", "column 8: a term is missing before or"),
        ("not", "column 4: a term is missing here"),
        ("=5", "column 1: a field is missing before this"),
        ("has", "column 1: has is followed by a field or an entry; write it like has site"),
        ("has and", "column 1: has is followed by a field or an entry; write it like has site"),
        (
            "küche=\"a\u{202e}b\"",
            "column 9: a character that cannot be shown; with ~, write ? for any character",
        ),
        (
            "site=\n\"a\nb\"",
            "column 9: a character that cannot be shown; with ~, write ? for any character",
        ),
    ] {
        let error = text.parse::<Filter>().expect_err(text);
        assert_eq!(error.to_string(), told, "{text}");
    }
}

#[test]
fn the_mark_stands_below_the_place() {
    for (text, shown) in [
        (
            "a=1 cpu>x b=2",
            "cpu is compared with a number from 0 to 100, which x is not; write it like cpu>90\n  \
             a=1 cpu>x b=2\n  \u{20}       ^",
        ),
        ("not", "a term is missing here\n  not\n  \u{20}  ^"),
        // Wide characters take two cells, those that join the one before them none.
        (
            "厨房=1 e\u{301}=2 &&",
            "&& means nothing here; write and\n  厨房=1 e\u{301}=2 &&\n             ^^",
        ),
        (
            "a=\u{1b}[31m",
            "a character that cannot be shown; with ~, write ? for any character\n  \
             a=\\u{1b}[31m\n  \u{20} ^^^^^^",
        ),
        (
            "a=1\nb",
            "b is compared with nothing; write name~b or device~b\n  a=1\\u{a}b\n          ^",
        ),
    ] {
        let error = text.parse::<Filter>().expect_err(text);
        assert_eq!(error.caret(text), shown, "{text}");
    }
    let long = format!("{}cpu>x {}", "a=1 ".repeat(100), "b=2 ".repeat(100));
    let shown = long.parse::<Filter>().unwrap_err().caret(&long);
    let lines: Vec<&str> = shown.lines().collect();
    assert!(lines[1].starts_with("  …") && lines[1].ends_with('…'), "{shown}");
    assert_eq!(lines[1].chars().nth(lines[2].len() - 1), Some('x'), "{shown}");
    assert!(lines[1].chars().count() < 140, "{shown}");
}

#[test]
fn what_would_go_on_without_end_is_refused() {
    let nested = |depth: usize| format!("{}a=1{}", "(".repeat(depth), ")".repeat(depth));
    let turned = |depth: usize| format!("{}a=1", "!".repeat(depth));
    for deep in [nested, turned] {
        assert!(deep(FILTER_DEPTH_MAX).parse::<Filter>().is_ok());
        let error = deep(FILTER_DEPTH_MAX + 1).parse::<Filter>().unwrap_err();
        assert_eq!(error.at, FILTER_DEPTH_MAX..FILTER_DEPTH_MAX + 1);
        assert!(deep(FILTER_BYTES_MAX / 3).parse::<Filter>().is_err());
    }
    let exact = format!("a={}", "é".repeat(FILTER_BYTES_MAX / 2 - 1));
    assert!(exact.parse::<Filter>().is_ok());
    let error = (exact + "é").parse::<Filter>().unwrap_err();
    assert_eq!(error.at, FILTER_BYTES_MAX..FILTER_BYTES_MAX + 2);
    // Short as it was typed, too long as it would be repeated.
    let spread = "a=1 ".repeat(FILTER_BYTES_MAX / 4);
    let told = spread.parse::<Filter>().unwrap_err().to_string();
    assert!(told.contains("written out, the filter has"), "{told}");
}

#[test]
fn what_changes_with_every_report_is_known() {
    for (text, is_fast) in [
        ("", false),
        ("status=online tag:x", false),
        ("status=online or not (tag:x cpu>1)", true),
        ("last_seen<1m", true),
        ("has mem", true),
        ("disk in (1,2)", true),
        ("metadata.cpu=1", false),
    ] {
        assert_eq!(text.parse::<Filter>().unwrap().uses_fast(), is_fast, "{text}");
    }
    assert!(Filter::default().is_empty());
    assert!("  ".parse::<Filter>().unwrap().is_empty());
    assert!(!"a=1".parse::<Filter>().unwrap().is_empty());
}

#[test]
fn filters_are_put_together_and_one_is_within_another() {
    let filter = |text: &str| text.parse::<Filter>().unwrap();
    for (own, asked, both) in [
        ("site=a", "tag:x or tag:y", "site=a and (tag:x or tag:y)"),
        ("site=a tag:x", "type=arm", "site=a and tag:x and type=arm"),
        ("site=a or site=b", "not tag:x", "(site=a or site=b) and not tag:x"),
    ] {
        let (own, asked) = (filter(own), filter(asked));
        let together = own.and(&asked);
        assert_eq!(together, filter(both));
        assert_eq!(together.to_string(), both);
        assert!(together.is_within(&own) && together.is_within(&asked));
        assert!(!own.is_within(&together) && !own.is_within(&asked));
    }
    // Word by word: what means less in other words is not taken for it.
    assert!(!filter("site in (a)").is_within(&filter("site=a")));
    assert!(filter("site=a").is_within(&Filter::default()));
    assert!(!filter("site=a or tag:x").is_within(&filter("site=a")));
}

#[test]
fn the_fields_of_a_filter_are_known() {
    use crate::field::Field::{Cpu, Metadata, Status, Tags, Type};
    let fields =
        |text: &str| text.parse::<Filter>().unwrap().fields().into_iter().collect::<Vec<_>>();
    assert_eq!(fields("type=arm or not (tag:x and has cpu)"), [Type, Cpu, Tags]);
    assert_eq!(fields("metadata.status=spare"), [Metadata]);
    assert_eq!(fields("status in (online,late)"), [Status]);
}
