//! Which events are shown: words that stand anywhere in them, and `kind=`, `device=`, `actor=`.

use crate::state::filter_line::ReadFilter;
use fleet_core::api::{EventKind, EventView};
use fleet_core::id::DeviceId;
use fleet_core::untrusted::escaped;

/// What an event has to be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EventFilter(Vec<Term>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Term {
    /// Stands anywhere.
    Word(String),
    /// Such as `device` or `device.late`.
    Kind(String),
    Device(String),
    Actor(String),
}

impl ReadFilter for EventFilter {
    type Error = String;

    /// All of its terms have to hold. Empty, it lets everything through.
    fn read(text: &str) -> Result<Self, String> {
        text.split_whitespace().map(term).collect::<Result<_, _>>().map(Self)
    }
}

impl EventFilter {
    /// Whether it lets everything through.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether an event is what it asks for.
    pub fn matches(&self, event: &EventView) -> bool {
        self.0.iter().all(|term| match term {
            Term::Word(word) => {
                let device = event.device_id.as_ref().map(DeviceId::as_str).unwrap_or_default();
                [event.kind.word(), device, event.actor.raw(), event.text.raw()]
                    .iter()
                    .any(|text| text.to_lowercase().contains(word))
            }
            Term::Kind(word) => event.kind.is(word),
            Term::Device(pattern) => {
                event.device_id.as_ref().is_some_and(|id| fits(pattern, id.as_str()))
            }
            Term::Actor(pattern) => {
                let actor = event.actor.raw().to_lowercase();
                // `operator` means all of them, as `kind=device` means all about devices.
                let group = actor.split(':').next().unwrap_or_default();
                fits(pattern, &actor) || fits(pattern, group)
            }
        })
    }
}

fn term(text: &str) -> Result<Term, String> {
    let Some((name, value)) = text.split_once('=') else {
        return Ok(Term::Word(text.to_lowercase()));
    };
    let pattern = value.to_lowercase();
    match name {
        _ if value.is_empty() => Err(format!("{}= of what?", escaped(name))),
        "device" | "id" => Ok(Term::Device(pattern)),
        "actor" => Ok(Term::Actor(pattern)),
        "kind" => match EventKind::named(value) {
            kinds if kinds.is_empty() => Err(format!(
                "no kind is called {}; there are device, config, key, server and such as device.pending",
                escaped(value)
            )),
            _ => Ok(Term::Kind(value.to_owned())),
        },
        other => Err(format!("events have kind, device and actor, but no {}", escaped(other))),
    }
}

/// Whether a text is what a pattern says; `*` stands for any characters. Both in small letters.
fn fits(pattern: &str, text: &str) -> bool {
    let mut pieces = pattern.split('*');
    let first = pieces.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else { return false };
    let pieces: Vec<&str> = pieces.collect();
    let Some((last, middle)) = pieces.split_last() else { return rest.is_empty() };
    for piece in middle {
        match rest.find(piece) {
            Some(at) => rest = &rest[at + piece.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::event;

    #[test]
    fn all_terms_have_to_hold() {
        let event = event(7, EventKind::DevicePending, Some("pump-0007"), "asks to be let in");
        for (filter, fits) in [
            ("", true),
            ("LET pump", true),
            ("kind=device", true),
            ("kind=device.pending", true),
            ("kind=config", false),
            ("device=pump-0007", true),
            ("device=pump", false),
            ("device=pump*", true),
            ("device=*0*7", true),
            ("actor=device", true),
            ("actor=operator", false),
            ("pump gone", false),
        ] {
            assert_eq!(EventFilter::read(filter).unwrap().matches(&event), fits, "{filter}");
        }
    }

    #[test]
    fn a_kind_that_only_a_later_release_knows_is_one_of_its_group() {
        let kind = serde_json::from_value("device.flew_away".into()).unwrap();
        let event = event(1, kind, Some("pump-1"), "is gone");
        for (filter, fits) in [("kind=device", true), ("flew", true), ("kind=key", false)] {
            assert_eq!(EventFilter::read(filter).unwrap().matches(&event), fits, "{filter}");
        }
    }

    #[test]
    fn what_is_not_known_is_told() {
        for (text, wrong) in
            [("kind=rollout", "no kind"), ("size=3", "no size"), ("kind=", "of what")]
        {
            let error = EventFilter::read(text).unwrap_err();
            assert!(error.contains(wrong), "{error}");
        }
    }
}
