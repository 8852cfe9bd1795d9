//! Which keys are shown: words that stand anywhere in what is known of them.

use std::convert::Infallible;

use fleet_core::api::KeyView;
use fleet_core::api::role::words;
use fleet_core::time::Timestamp;
use fleet_core::untrusted::Untrusted;

use super::words::{Labels, author, reach};
use crate::state::filter_line::ReadFilter;

/// What a key has to have; nothing lets everything through.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyFilter(Vec<String>);

impl ReadFilter for KeyFilter {
    type Error = Infallible;

    fn read(text: &str) -> Result<Self, Infallible> {
        Ok(Self(text.split_whitespace().map(str::to_lowercase).collect()))
    }
}

impl KeyFilter {
    /// Whether a key has all the words; `labels` are those of all keys, for who made this one.
    pub fn matches(&self, key: &KeyView, labels: &Labels, now: Timestamp) -> bool {
        if self.0.is_empty() {
            return true;
        }
        let from = key.last_used_from.map(|address| address.to_string());
        let texts = [
            key.label.raw(),
            &key.id,
            &key.kind.to_string(),
            key.role.map_or("", |role| role.word()),
            &words(&key.rights),
            &reach(key),
            key.scope.as_ref().map(Untrusted::raw).unwrap_or_default(),
            key.state(now).word(),
            from.as_deref().unwrap_or_default(),
        ]
        .map(str::to_lowercase);
        let mut others = self.0.iter().filter(|word| !texts.iter().any(|it| it.contains(*word)));
        let Some(first) = others.next() else { return true };
        let author = author(key, labels).to_lowercase();
        author.contains(first) && others.all(|word| author.contains(word))
    }
}
