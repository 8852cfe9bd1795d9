//! The language by examples, for every program's help.

/// What one may write, and what it means.
pub const HELP: &[(&str, &str)] = &[
    ("status=offline type=raspberrypi", "fields; a space means and"),
    ("site=lyon or site=nice", "metadata entries; and, or, not, brackets"),
    ("metadata.status=spare", "an entry whose name is also a field's"),
    ("status in (offline,lost)", "one of several"),
    ("cpu>90 and last_seen<1m", "numbers; ages like 30s, 10m, 2h, 7d"),
    ("version<1.4 or version=1.4.*", "releases number by number; * for any characters"),
    ("tag:eu-west !tag:canary", "a tag; ! or not"),
    (
        "name~pump or hostname~^edge-??$",
        "contains; * and ? as wildcards, ^ the beginning, $ the end",
    ),
    ("has temp", "there is a value"),
    ("model=\"Raspberry Pi 4*\"", "values with spaces or signs in quotes"),
];
