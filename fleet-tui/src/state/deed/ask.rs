//! Deeds that need a word first: a name, tags, entries of metadata, a span of time. What is typed
//! here is written as on the command line.

use std::collections::BTreeSet;

use fleet_core::api::{ConfigDocument, DeviceUpdate, TagUpdate};
use fleet_core::cli::args::Assignment;
use fleet_core::filter::tags;
use fleet_core::limits::{METADATA_VALUE_BYTES_MAX, SHOWN_CHARS_MAX};
use fleet_core::untrusted::escaped;
use serde_json::{Map, Value, json};

use super::{Chosen, Deed, Plan, Step, command, rows, step, words};
use crate::effect::Change;
use crate::state::Desk;
use crate::state::data::Row;
use crate::state::popup::Form;

/// The form of a deed.
pub(super) fn form(deed: Deed, chosen: Chosen, desk: &Desk) -> Form {
    let title = format!("{} {}", words::capital(deed.verb()), words::subject(&chosen, desk));
    let only = match chosen.devices.as_slice() {
        [uid] => desk.data.device(*uid),
        _ => None,
    };
    let (label, hints): (_, &[&str]) = match deed {
        Deed::Rename => ("name", &["a longer name beside the id; empty takes it away"]),
        Deed::Tag => (
            "tags",
            &["eu-west canary    these tags and no others", "+canary -spare    one more, one less"],
        ),
        Deed::Note => {
            ("entries", &["site=lyon  floor:=3  note=\"two words\"", "rack-  takes an entry away"])
        }
        Deed::Service => {
            ("service", &["nginx, or a unit such as backup.timer; systemd restarts it"])
        }
        Deed::UnitLogs => ("unit", &["nginx, or a unit such as backup.timer: its last 100 lines"]),
        Deed::Exec => (
            "program",
            &[
                "uptime -p    program and arguments, parted by blanks; no shell",
                "Each device's own policy decides whether it runs the program.",
            ],
        ),
        _ => ("interval", &["30s, 5m, 1h; the rest of the configuration stays"]),
    };
    let text = only.map(|row| now(deed, row)).unwrap_or_default();
    let chars_max = match deed {
        Deed::Rename | Deed::Service | Deed::UnitLogs => SHOWN_CHARS_MAX,
        _ => METADATA_VALUE_BYTES_MAX,
    };
    Form::new(title, label, hints, deed, chosen).with(&text, chars_max)
}

/// What there is now, to be changed.
fn now(deed: Deed, row: &Row) -> String {
    match deed {
        Deed::Rename => {
            row.index.name.as_ref().map(|name| name.raw().to_owned()).unwrap_or_default()
        }
        Deed::Tag => tags(row.index.metadata.get("tags")).collect::<Vec<_>>().join(" "),
        Deed::Interval if row.index.interval_secs > 0 => format!("{}s", row.index.interval_secs),
        _ => String::new(),
    }
}

/// What is done to which device with what was typed.
pub fn plan(deed: Deed, chosen: &Chosen, text: &str, desk: &Desk) -> Result<Plan, String> {
    let rows = rows(deed, chosen, desk);
    let all = |change: Change| rows.map(|row| step(row, change.clone())).collect();
    let steps: Vec<Step> = match deed {
        Deed::Rename => {
            let name = Some(text.trim().to_owned());
            all(Change::Update(DeviceUpdate { name, ..DeviceUpdate::default() }))
        }
        Deed::Tag => {
            let wish = Tags::read(text)?;
            let chosen = chosen.devices.iter().filter_map(|uid| desk.data.device(*uid));
            chosen.filter_map(|row| Some(step(row, wish.change(row)?))).collect()
        }
        Deed::Note => all(entries(text)?),
        Deed::Interval => all(interval(text)?),
        Deed::Service | Deed::UnitLogs | Deed::Exec => all(deed.given(command::read(deed, text)?)),
        // There is nothing to type for the others.
        _ => Vec::new(),
    };
    if steps.is_empty() {
        return Err("that changes nothing".to_owned());
    }
    Ok(Plan { deed, typed: escaped(text.trim()), steps })
}

fn entries(text: &str) -> Result<Change, String> {
    let mut entries = Map::new();
    for word in split(text)? {
        let shown = escaped(&word);
        let Assignment { key, value } =
            word.parse().map_err(|problem| format!("{shown} {problem}"))?;
        entries.insert(key, value.unwrap_or(Value::Null));
    }
    if entries.is_empty() {
        return Err("say what to note: key=value".to_owned());
    }
    Ok(Change::Update(DeviceUpdate {
        metadata: Some(Value::Object(entries)),
        ..DeviceUpdate::default()
    }))
}

/// By the server's own rules, so that it is refused here and not one by one.
fn interval(text: &str) -> Result<Change, String> {
    let document = json!({ "telemetry": { "interval": text.trim() } });
    let seconds =
        json!({ "telemetry": { "interval": text.trim().parse::<u64>().unwrap_or_default() } });
    let is_number = text.trim().parse::<u64>().is_ok();
    let document = ConfigDocument::from_json(if is_number { &seconds } else { &document });
    let interval = document.map_err(|error| error.problem)?.telemetry.interval;
    interval.map(Change::Interval).ok_or_else(|| "say how often: 30s".to_owned())
}

/// What is to become of tags.
enum Tags {
    /// These and no others.
    Exactly(Vec<String>),
    /// Some more, some less.
    Changed { added: Vec<String>, removed: Vec<String> },
}

impl Tags {
    fn read(text: &str) -> Result<Self, String> {
        let words: Vec<&str> = text
            .split(|c: char| c == ',' || c.is_whitespace())
            .filter(|word| !word.is_empty())
            .collect();
        let with =
            |sign| words.iter().filter_map(move |word| word.strip_prefix(sign)).map(str::to_owned);
        let (added, removed): (Vec<_>, Vec<_>) = (with('+').collect(), with('-').collect());
        match added.len() + removed.len() {
            0 => Ok(Self::Exactly(words.iter().map(ToString::to_string).collect())),
            signed if signed == words.len() => Ok(Self::Changed { added, removed }),
            _ => Err("a + or - before every tag, or before none".to_owned()),
        }
    }

    /// What that means for a device; nothing if its tags stay as they are. Only what is otherwise is
    /// said: somebody else may give it tags meanwhile.
    fn change(&self, row: &Row) -> Option<Change> {
        let before: BTreeSet<&str> = tags(row.index.metadata.get("tags")).collect();
        let (wanted, unwanted): (BTreeSet<&str>, BTreeSet<&str>) = match self {
            Self::Exactly(tags) => {
                let wanted: BTreeSet<&str> = tags.iter().map(String::as_str).collect();
                let unwanted = before.difference(&wanted).copied().collect();
                (wanted, unwanted)
            }
            Self::Changed { added, removed } => (
                added.iter().map(String::as_str).collect(),
                removed.iter().map(String::as_str).collect(),
            ),
        };
        let add: Vec<String> = wanted.difference(&before).map(ToString::to_string).collect();
        let remove = unwanted.intersection(&before).filter(|tag| !wanted.contains(*tag));
        let remove: Vec<String> = remove.map(ToString::to_string).collect();
        if add.is_empty() && remove.is_empty() {
            return None;
        }
        let tags = Some(TagUpdate { add, remove });
        Some(Change::Update(DeviceUpdate { tags, ..DeviceUpdate::default() }))
    }
}

/// Words with blanks between them; quotes hold blanks together.
fn split(text: &str) -> Result<Vec<String>, String> {
    let (mut words, mut word, mut is_quoted) = (Vec::new(), String::new(), false);
    // Quotes that belong to JSON stay: `a:="x y"` is a text in JSON.
    for c in text.chars() {
        match c {
            '"' => {
                is_quoted = !is_quoted;
                if is_json(&word) {
                    word.push(c);
                }
            }
            c if c.is_whitespace() && !is_quoted => {
                if !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
            }
            c => word.push(c),
        }
    }
    if is_quoted {
        return Err("a quote \" is not closed".to_owned());
    }
    if !word.is_empty() {
        words.push(word);
    }
    Ok(words)
}

fn is_json(word: &str) -> bool {
    word.split_once('=').is_some_and(|(key, _)| key.ends_with(':'))
}

#[cfg(test)]
mod tests {
    use fleet_core::api::DeviceStatus;

    use super::*;

    #[test]
    fn entries_are_written_as_on_the_command_line() {
        let Ok(Change::Update(update)) =
            entries("site=lyon floor:=3 note=\"two words\" rack- j:=\"a b\"")
        else {
            panic!("not read")
        };
        let expected =
            json!({ "site": "lyon", "floor": 3, "note": "two words", "rack": null, "j": "a b" });
        assert_eq!(update.metadata, Some(expected));
        for wrong in ["", "site", "=x", "a=\"b", "a:=x"] {
            assert!(entries(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn intervals_are_judged_as_the_server_does() {
        for (text, secs) in [
            ("30s", Some(30)),
            ("5m", Some(300)),
            ("60", Some(60)),
            ("0", None),
            ("soon", None),
            ("", None),
            ("25h", None),
        ] {
            let found = interval(text).ok();
            let expected = secs.map(|secs| Change::Interval(std::time::Duration::from_secs(secs)));
            assert_eq!(found, expected, "{text}");
        }
    }

    #[test]
    fn tags_are_set_or_changed() {
        let mut row = crate::testing::device(1, "pump-1", DeviceStatus::Online);
        row.metadata.insert("tags".to_owned(), json!("eu canary"));
        let row = Row::new(row);
        let both = &["canary", "eu"][..];
        for (text, otherwise) in [
            ("lab", Some((&["lab"][..], both))),
            ("+lab -eu -gone", Some((&["lab"], &["eu"][..]))),
            ("-eu,-canary", Some((&[], both))),
            ("", Some((&[], both))),
            ("canary eu", None),
            ("+eu", None),
        ] {
            let change = Tags::read(text).unwrap().change(&row);
            let owned = |tags: &[&str]| tags.iter().map(ToString::to_string).collect();
            let expected = otherwise.map(|(add, remove)| {
                Change::Update(DeviceUpdate {
                    tags: Some(TagUpdate { add: owned(add), remove: owned(remove) }),
                    ..DeviceUpdate::default()
                })
            });
            assert_eq!(change, expected, "{text}");
        }
        assert!(Tags::read("+a b").is_err());
    }
}
