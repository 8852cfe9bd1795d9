//! How far a device is with its configuration, in one word.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::untrusted::Untrusted;

/// How far a device is with its configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ConfigState {
    /// It shall have none.
    None,
    /// It has not spoken of the one that it shall have.
    Waiting,
    /// It has the one that it shall have.
    Applied,
    /// It refused the one that it shall have.
    Refused,
    /// It was sent the one that it shall have, and has not spoken of it.
    Sent,
    /// It follows the one that it shall have, and that has to show that it works.
    Trying,
    /// It followed the one that it shall have, and went back to an earlier one.
    Reverted,
}

impl ConfigState {
    /// Every state.
    pub const ALL: [Self; 7] = [
        Self::None,
        Self::Waiting,
        Self::Sent,
        Self::Trying,
        Self::Applied,
        Self::Refused,
        Self::Reverted,
    ];

    /// The state, from the version that a device shall have, the one that it last spoke of, and
    /// why it refused the one that it shall have; where the server does not say the state itself.
    pub fn of(wanted: u64, reported: Option<u64>, error: Option<&Untrusted>) -> Self {
        match reported {
            _ if wanted == 0 => Self::None,
            _ if error.is_some() => Self::Refused,
            Some(reported) if reported == wanted => Self::Applied,
            _ => Self::Waiting,
        }
    }

    /// The word in JSON, filters and tables.
    pub fn word(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Waiting => "waiting",
            Self::Applied => "applied",
            Self::Refused => "refused",
            Self::Sent => "sent",
            Self::Trying => "trying",
            Self::Reverted => "reverted",
        }
    }

    /// The state with this word.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.word() == word)
    }
}

impl Serialize for ConfigState {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.word())
    }
}

/// Reads a state; one that only a later release knows is none that is said.
pub(crate) fn said<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<ConfigState>, D::Error> {
    let word = Option::<String>::deserialize(deserializer)?;
    Ok(word.and_then(|word| ConfigState::from_word(&word)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_go_by_their_words() {
        for state in ConfigState::ALL {
            assert_eq!(ConfigState::from_word(state.word()), Some(state));
            assert_eq!(serde_json::to_value(state).unwrap(), state.word());
        }
        assert_eq!(ConfigState::from_word("resting"), None);
    }

    #[test]
    fn a_configuration_is_waited_for_until_it_is_spoken_of() {
        let error = Untrusted::from("no such metric");
        for (wanted, reported, error, word) in [
            (0, None, None, "none"),
            (3, None, None, "waiting"),
            (3, Some(2), None, "waiting"),
            (3, Some(3), None, "applied"),
            (3, Some(3), Some(&error), "refused"),
        ] {
            assert_eq!(ConfigState::of(wanted, reported, error).word(), word);
        }
    }
}
