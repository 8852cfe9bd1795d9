//! Tags that are given to devices and taken from them, in the metadata entry that holds them.

use std::collections::BTreeMap;

use fleet_core::api::{TagUpdate, is_tag};
use fleet_core::filter;
use fleet_core::limits::{METADATA_VALUE_BYTES_MAX, TAG_BYTES_MAX};
use fleet_core::untrusted::Untrusted;
use serde_json::Value;

use super::OpsError;
use super::configs::TAGS_ENTRY;
use crate::store::Refusal;

/// Tags that one change names.
const TAGS_MAX: usize = 100;

/// Refuses what is no tag.
pub(super) fn check(update: &TagUpdate) -> Result<(), OpsError> {
    for (field, tags) in [("tags.add", &update.add), ("tags.remove", &update.remove)] {
        if tags.len() > TAGS_MAX {
            return Err(OpsError::invalid(field, format!("must not name more than {TAGS_MAX}")));
        }
    }
    // What somebody wrote into the entry by another way can be taken away whatever it is.
    match update.add.iter().find(|tag| !is_tag(tag)) {
        Some(tag) => {
            let problem = format!(
                "{} is no tag: one word without commas, of 1 to {TAG_BYTES_MAX} bytes",
                Untrusted::from(tag.as_str())
            );
            Err(OpsError::invalid("tags.add", problem))
        }
        None => Ok(()),
    }
}

/// Changes the tags in a device's metadata. The entry stays a list or a text, as it was.
pub(super) fn change(
    metadata: &mut BTreeMap<String, String>,
    update: &TagUpdate,
) -> Result<(), Refusal> {
    let entry: Option<Value> =
        metadata.get(TAGS_ENTRY).and_then(|text| serde_json::from_str(text).ok());
    let before: Vec<String> = filter::tags(entry.as_ref()).map(str::to_owned).collect();
    let mut tags = before.clone();
    tags.retain(|tag| !update.remove.contains(tag));
    for tag in &update.add {
        if !tags.contains(tag) {
            tags.push(tag.clone());
        }
    }
    if tags == before {
        return Ok(());
    }
    if tags.is_empty() {
        metadata.remove(TAGS_ENTRY);
        return Ok(());
    }
    let entry = match entry {
        Some(Value::Array(_)) => Value::from(tags),
        _ => Value::from(tags.join(" ")),
    };
    let text = entry.to_string();
    if text.len() > METADATA_VALUE_BYTES_MAX {
        let reason = format!("a device's tags have at most {METADATA_VALUE_BYTES_MAX} bytes");
        return Err(Refusal(reason));
    }
    metadata.insert(TAGS_ENTRY.to_owned(), text);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(entry: Option<&str>, add: &[&str], remove: &[&str]) -> Option<String> {
        let owned = |tags: &[&str]| tags.iter().map(|&tag| tag.to_owned()).collect();
        let update = TagUpdate { add: owned(add), remove: owned(remove) };
        check(&update).unwrap();
        let mut metadata = BTreeMap::from([("site".to_owned(), "1".to_owned())]);
        metadata.extend(entry.map(|entry| (TAGS_ENTRY.to_owned(), entry.to_owned())));
        change(&mut metadata, &update).unwrap();
        assert_eq!(metadata["site"], "1");
        metadata.remove(TAGS_ENTRY)
    }

    #[test]
    fn tags_come_and_go_and_the_entry_stays_what_it_was() {
        for (entry, add, remove, result) in [
            (None, &["a", "b", "a"][..], &[][..], Some("\"a b\"")),
            (Some("\"a, b\""), &[], &["c"], Some("\"a, b\"")),
            (Some("\"a, b\""), &["c"], &["a"], Some("\"b c\"")),
            (Some("[\"a\"]"), &["b"], &[], Some("[\"a\",\"b\"]")),
            (Some("[\"a\"]"), &[], &["a"], None),
            (Some("7"), &["a"], &[], Some("\"a\"")),
            (Some("\"a\""), &["a"], &["a"], Some("\"a\"")),
        ] {
            assert_eq!(after(entry, add, remove).as_deref(), result, "{entry:?}");
        }
        let update = TagUpdate { add: vec!["a b".to_owned()], remove: Vec::new() };
        assert!(check(&update).unwrap_err().to_string().starts_with("tags.add: a b is no tag"));
    }
}
