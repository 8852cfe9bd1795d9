//! The exit codes of an operator's programs, each with one meaning.

use serde::{Serialize, Serializer};

/// How a program ended, for the scripts that called it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// All is done, or was so already.
    Done,
    /// It failed.
    Failed,
    /// The call makes no sense, or input is needed and nobody is there to ask.
    Usage,
    /// Some or all devices were not done.
    NotDone,
    /// The key is missing, wrong, or may not.
    NotAllowed,
    /// Nothing was found.
    NothingFound,
    /// Somebody else changed it first, or holds it.
    Conflict,
    /// The server cannot be reached, or is another one.
    Unreachable,
    /// A configuration is wrong.
    Configuration,
    /// The time was up.
    TimedOut,
    /// A person stopped it.
    Interrupted,
}

impl Exit {
    /// The number that the shell sees.
    pub fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::NotDone => 3,
            Self::NotAllowed => 4,
            Self::NothingFound => 5,
            Self::Conflict => 6,
            Self::Unreachable => 7,
            Self::Configuration => 78,
            Self::TimedOut => 124,
            Self::Interrupted => 130,
        }
    }

    /// The word for it in a JSON error.
    pub fn word(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Usage => "usage",
            Self::NotDone => "not_done",
            Self::NotAllowed => "not_allowed",
            Self::NothingFound => "not_found",
            Self::Conflict => "conflict",
            Self::Unreachable => "unreachable",
            Self::Configuration => "configuration",
            Self::TimedOut => "timed_out",
            Self::Interrupted => "interrupted",
        }
    }
}

impl Serialize for Exit {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.word())
    }
}

impl From<Exit> for std::process::ExitCode {
    fn from(exit: Exit) -> Self {
        exit.code().into()
    }
}
