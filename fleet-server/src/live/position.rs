//! How far a reader has come: the `id:` of a stream's messages.

use std::fmt;
use std::str::FromStr;

use fleet_core::id::Uid;

/// How far a reader has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Position {
    /// In which run of the server.
    pub(super) instance: Uid,
    /// The board's revision.
    pub(super) revision: u64,
    /// The newest event's number.
    pub(super) event: u64,
}

/// A text that no stream gave out.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct PositionError;

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { instance, revision, event } = self;
        write!(f, "{instance}-{revision}-{event}")
    }
}

impl FromStr for Position {
    type Err = PositionError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut parts = text.rsplitn(3, '-');
        let mut part = || parts.next().ok_or(PositionError);
        let event = part()?.parse().map_err(|_| PositionError)?;
        let revision = part()?.parse().map_err(|_| PositionError)?;
        let instance = part()?.parse().map_err(|_| PositionError)?;
        Ok(Self { instance, revision, event })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_comes_back_as_it_went() {
        let position = Position { instance: Uid::new(), revision: 7, event: u64::MAX };
        assert_eq!(position.to_string().parse(), Ok(position));
        for bad in ["", "-", "1-2-3", "7-0", &format!("{}-1", Uid::new()), "x-1-2", "---"] {
            assert_eq!(bad.parse::<Position>(), Err(PositionError), "{bad:?}");
        }
    }
}
