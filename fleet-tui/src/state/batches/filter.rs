//! Which batches are shown: words that stand anywhere in what is known of them.

use std::convert::Infallible;

use fleet_core::untrusted::Untrusted;

use super::Known;
use crate::state::filter_line::ReadFilter;

/// What a batch has to have; nothing lets everything through.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BatchFilter(Vec<String>);

impl ReadFilter for BatchFilter {
    type Error = Infallible;

    fn read(text: &str) -> Result<Self, Infallible> {
        Ok(Self(text.split_whitespace().map(str::to_lowercase).collect()))
    }
}

impl BatchFilter {
    /// Whether a batch has all the words.
    pub fn matches(&self, known: &Known) -> bool {
        if self.0.is_empty() {
            return true;
        }
        let view = &known.view;
        let reason = view.reason.as_ref().map(Untrusted::raw).unwrap_or_default();
        let filter = view.filter.as_ref().map(Untrusted::raw).unwrap_or_default();
        let id = view.id.to_string();
        let texts = [&known.words, view.state.word(), view.author.raw(), reason, filter, &id]
            .map(str::to_lowercase);
        self.0.iter().all(|word| texts.iter().any(|text| text.contains(word)))
    }
}
