//! Which keys are shown: words that stand anywhere in what is known of them.

use std::convert::Infallible;

use fleet_core::api::KeyView;
use fleet_core::api::role::words;
use fleet_core::time::Timestamp;
use fleet_core::untrusted::Untrusted;

use super::words::{author, reach};
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
    /// Whether a key, one of these, has all the words.
    pub fn matches(&self, key: &KeyView, all: &[KeyView], now: Timestamp) -> bool {
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
            &author(key, all),
            key.state(now).word(),
            from.as_deref().unwrap_or_default(),
        ]
        .map(str::to_lowercase);
        self.0.iter().all(|word| texts.iter().any(|text| text.contains(word)))
    }
}
