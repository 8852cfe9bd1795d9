//! What several fields of a device say together: the one place for filters, tables and screens.

use std::borrow::Cow;

use serde_json::Value;

use crate::api::{ConfigState, DeviceStatus};
use crate::untrusted::Untrusted;

/// What needs a word of explanation: why a device is not online, else why it did not
/// keep its configuration. One that seems to be there twice is explained in any case. Of one that is as it should be there is nothing to say.
pub fn why<'a>(
    status: DeviceStatus,
    reason: Option<&'a Untrusted>,
    config_error: Option<&Untrusted>,
    config: ConfigState,
    is_double: bool,
) -> Option<Cow<'a, Untrusted>> {
    match (status, reason, config_error) {
        (DeviceStatus::Online, reason, _) if is_double => reason.map(Cow::Borrowed),
        (DeviceStatus::Online, _, None) => None,
        (DeviceStatus::Online, _, Some(error)) => {
            let word = if config == ConfigState::Reverted { "reverted" } else { "refused" };
            let text = format!("configuration {word}: {}", error.raw());
            Some(Cow::Owned(Untrusted::new(text)))
        }
        (_, reason, _) => reason.filter(|reason| !reason.raw().is_empty()).map(Cow::Borrowed),
    }
}

/// The tags of a device, out of its metadata entry `tags`: a list of words, or one text with
/// commas or spaces. As they came: show them through [`Untrusted`].
pub fn tags(entry: Option<&Value>) -> impl Iterator<Item = &str> + Clone {
    let (text, list): (&str, &[Value]) = match entry {
        Some(Value::String(text)) => (text, &[]),
        Some(Value::Array(list)) => ("", list),
        _ => ("", &[]),
    };
    let words = text.split(|c: char| c == ',' || c.is_whitespace());
    words.chain(list.iter().filter_map(Value::as_str)).filter(|tag| !tag.is_empty())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn tags_are_a_list_or_a_text() {
        for (entry, found) in [
            (json!(["eu-west", "canary"]), &["eu-west", "canary"][..]),
            (json!("eu-west, canary  x"), &["eu-west", "canary", "x"]),
            (json!(["a", 1, "", null]), &["a"]),
            (json!({"a": 1}), &[]),
            (json!(""), &[]),
        ] {
            assert_eq!(tags(Some(&entry)).collect::<Vec<_>>(), found, "{entry}");
        }
        assert_eq!(tags(None).count(), 0);
    }

    #[test]
    fn only_what_is_wrong_is_explained() {
        let (reason, error) = (Untrusted::from("no report for 5m"), Untrusted::from("no such key"));
        let shown = |status, error| {
            why(status, Some(&reason), error, ConfigState::Refused, false)
                .map(|why| why.to_string())
        };
        assert_eq!(shown(DeviceStatus::Online, None), None);
        let refused = "configuration refused: no such key".to_owned();
        assert_eq!(shown(DeviceStatus::Online, Some(&error)), Some(refused));
        assert_eq!(shown(DeviceStatus::Late, Some(&error)), Some("no report for 5m".to_owned()));
        let reverted = why(DeviceStatus::Online, None, Some(&error), ConfigState::Reverted, false);
        assert_eq!(reverted.unwrap().raw(), "configuration reverted: no such key");
        let nothing = Untrusted::default();
        assert_eq!(
            why(DeviceStatus::Pending, Some(&nothing), None, ConfigState::None, false),
            None
        );
        let double = why(DeviceStatus::Online, Some(&reason), None, ConfigState::None, true);
        assert_eq!(double.as_deref(), Some(&reason));
    }
}
