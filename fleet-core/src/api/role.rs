//! What the holder of an operator's key may do: a role, and rights on top of it.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// How much a key may do. Each role may do what those before it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Looks.
    Viewer,
    /// Also works with devices.
    Operator,
    /// Also runs the server, and has all rights.
    Admin,
}

/// What a key may do only if somebody gave it this right.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Right {
    /// Have devices run programs.
    Exec,
    /// Delete devices, and have them back.
    Delete,
    /// Take all data with it.
    Export,
}

/// The rights of a key.
pub type Rights = BTreeSet<Right>;

impl Role {
    /// All of them, the least first.
    pub const ALL: [Self; 3] = [Self::Viewer, Self::Operator, Self::Admin];

    /// Its name.
    pub fn word(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::Admin => "admin",
        }
    }

    /// Whether a key of this role may be given a right. An admin has all of them anyway.
    pub fn takes(self, right: Right) -> bool {
        match self {
            Self::Viewer => right == Right::Export,
            Self::Operator | Self::Admin => true,
        }
    }
}

impl Right {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Exec, Self::Delete, Self::Export];

    /// Its name.
    pub fn word(self) -> &'static str {
        match self {
            Self::Exec => "exec",
            Self::Delete => "delete",
            Self::Export => "export",
        }
    }
}

/// What a key has, and so what it may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Might {
    /// Its role.
    pub role: Role,
    /// The rights that it was given.
    pub rights: Rights,
}

/// What a key lacks that something takes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Lacking {
    /// A higher role.
    #[error("this needs the role {wanted}, and the key has the role {has}")]
    Role {
        /// The least that would do.
        wanted: Role,
        /// The key's.
        has: Role,
    },
    /// A right.
    #[error("this needs the right {wanted}, and the key has {}", listed(.has))]
    Right {
        /// Which one.
        wanted: Right,
        /// The key's.
        has: Rights,
    },
}

impl Might {
    /// Whether it is at least of a role.
    pub fn require_role(&self, wanted: Role) -> Result<(), Lacking> {
        let has = self.role;
        if has >= wanted { Ok(()) } else { Err(Lacking::Role { wanted, has }) }
    }

    /// Whether it has a right.
    pub fn require_right(&self, wanted: Right) -> Result<(), Lacking> {
        if self.role == Role::Admin || self.rights.contains(&wanted) {
            return Ok(());
        }
        Err(Lacking::Right { wanted, has: self.rights.clone() })
    }

    /// All rights that it has in effect.
    pub fn all_rights(&self) -> Rights {
        if self.role == Role::Admin { Right::ALL.into() } else { self.rights.clone() }
    }
}

/// Rights in words.
pub fn listed(rights: &Rights) -> String {
    match rights.len() {
        0 => "no rights".to_owned(),
        1 => format!("the right {}", words(rights)),
        _ => format!("the rights {}", words(rights)),
    }
}

/// The names of rights: `exec,delete`.
pub fn words(rights: &Rights) -> String {
    rights.iter().map(|right| right.word()).collect::<Vec<_>>().join(",")
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word())
    }
}

impl fmt::Display for Right {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word())
    }
}

/// A word that names no role.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no such role: known are viewer, operator and admin")]
pub struct UnknownRole;

/// A word that names no right.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no such right: known are exec, delete and export")]
pub struct UnknownRight;

impl FromStr for Role {
    type Err = UnknownRole;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|role| role.word() == text).ok_or(UnknownRole)
    }
}

impl FromStr for Right {
    type Err = UnknownRight;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|right| right.word() == text).ok_or(UnknownRight)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_may_do_what_its_role_and_its_rights_say() {
        let operator = Might { role: Role::Operator, rights: [Right::Delete].into() };
        assert_eq!(operator.require_role(Role::Viewer), Ok(()));
        assert_eq!(operator.require_right(Right::Delete), Ok(()));
        let lacking = |lacking: Result<(), Lacking>| lacking.unwrap_err().to_string();
        assert_eq!(
            lacking(operator.require_role(Role::Admin)),
            "this needs the role admin, and the key has the role operator"
        );
        assert_eq!(
            lacking(operator.require_right(Right::Exec)),
            "this needs the right exec, and the key has the right delete"
        );
        let viewer = Might { role: Role::Viewer, rights: Rights::new() };
        assert_eq!(
            lacking(viewer.require_right(Right::Export)),
            "this needs the right export, and the key has no rights"
        );
        let admin = Might { role: Role::Admin, rights: Rights::new() };
        assert!(Right::ALL.into_iter().all(|right| admin.require_right(right).is_ok()));
    }

    #[test]
    fn words_come_back_as_they_went() {
        for role in Role::ALL {
            assert_eq!(role.word().parse(), Ok(role));
        }
        for right in Right::ALL {
            assert_eq!(right.word().parse(), Ok(right));
        }
        assert_eq!("root".parse::<Role>(), Err(UnknownRole));
        assert_eq!("ota".parse::<Right>(), Err(UnknownRight));
    }
}
