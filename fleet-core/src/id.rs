//! Names of things. A value of these types has been checked, so it may stand in a path, a log
//! line or on a terminal as it is.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::limits::DEVICE_ID_CHARS_MAX;

/// Characters of a [`UidEnding`] at least: with fewer, too many ids end alike.
const ENDING_CHARS_MIN: usize = 6;
/// Characters of one that is shown in place of the whole id.
const ENDING_CHARS_SHOWN: usize = 8;

/// What people call a device: `rpi4-001`. Unique among active devices, but only a label: the
/// device itself is its key, and the server's record of it is its [`Uid`].
///
/// Lower-case letters, digits, `-`, `_` and `.`, beginning with a letter or digit. A device that
/// claims a name already taken is shown with its key's first characters: `rpi4-001~k3xq2m`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct DeviceId(String);

impl DeviceId {
    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Makes an id out of a name that people chose: `Raspberry Pi 4` becomes `raspberry-pi-4`.
    pub fn from_name(name: &str) -> Option<Self> {
        let mut id = String::new();
        for c in name.chars() {
            if id.len() >= DEVICE_ID_CHARS_MAX {
                break;
            }
            if c.is_ascii_alphanumeric() || matches!(c, '_' | '.') {
                id.push(c.to_ascii_lowercase());
            } else if !id.is_empty() && !id.ends_with('-') {
                id.push('-');
            }
        }
        id.trim_matches(|c: char| !c.is_ascii_alphanumeric()).parse().ok()
    }

    /// The name under which a second key with this id is shown.
    #[must_use]
    pub fn in_conflict(&self, fingerprint: &str) -> Self {
        let mark: String = fingerprint.chars().take(6).collect();
        let room = DEVICE_ID_CHARS_MAX - mark.len() - 1;
        let kept: String =
            self.0.split('~').next().unwrap_or_default().chars().take(room).collect();
        Self(format!("{kept}~{mark}"))
    }
}

/// A text that is no device id.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "not a device id (lower-case letters, digits, - _ and ., at most {DEVICE_ID_CHARS_MAX}, beginning with a letter or digit)"
)]
pub struct DeviceIdError;

impl FromStr for DeviceId {
    type Err = DeviceIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (name, mark) = text.split_once('~').unwrap_or((text, "a"));
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        let first = name.bytes().next().is_some_and(plain);
        let rest = name.bytes().all(|b| plain(b) || b"-_.".contains(&b));
        let marked = !mark.is_empty() && mark.bytes().all(plain);
        if first && rest && marked && text.len() <= DEVICE_ID_CHARS_MAX {
            Ok(Self(text.to_owned()))
        } else {
            Err(DeviceIdError)
        }
    }
}

impl TryFrom<String> for DeviceId {
    type Error = DeviceIdError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<DeviceId> for String {
    fn from(id: DeviceId) -> Self {
        id.0
    }
}

impl fmt::Display for DeviceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// The server's own name for a device, grant or key record: a UUIDv7, never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Uid(Uuid);

impl Uid {
    /// A new one; later ones sort after earlier ones.
    #[expect(clippy::new_without_default, reason = "a default that differs each time surprises")]
    pub fn new() -> Self {
        Self(Uuid::now_v7())
    }

    /// The sixteen bytes, as stores and frames hold them.
    pub fn bytes(self) -> [u8; 16] {
        self.0.into_bytes()
    }

    /// From sixteen stored bytes.
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(Uuid::from_bytes(bytes))
    }

    /// Its last characters, for where the whole of it takes too much room.
    pub fn ending(self) -> UidEnding {
        let text = self.to_string();
        UidEnding(text[text.len() - ENDING_CHARS_SHOWN..].to_owned())
    }
}

/// The last characters of a [`Uid`]. Ids of about the same time begin alike; their ends tell them
/// apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UidEnding(String);

impl UidEnding {
    /// Whether an id ends so.
    pub fn fits(&self, uid: Uid) -> bool {
        uid.0.hyphenated().encode_lower(&mut Uuid::encode_buffer()).ends_with(&self.0)
    }
}

impl FromStr for UidEnding {
    type Err = UidNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_part = |b: u8| b.is_ascii_hexdigit() || b == b'-';
        let lengths = ENDING_CHARS_MIN..=uuid::fmt::Hyphenated::LENGTH;
        if lengths.contains(&text.len()) && text.bytes().all(is_part) {
            Ok(Self(text.to_ascii_lowercase()))
        } else {
            Err(UidNameError)
        }
    }
}

impl fmt::Display for UidEnding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// How people name what has a [`Uid`]: by all of it, or by its last characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UidName {
    /// By all of it.
    Whole(Uid),
    /// By its last characters, which may be those of others too.
    Ending(UidEnding),
}

/// A text that names nothing that has a [`Uid`].
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("not an id, nor the last {ENDING_CHARS_MIN} or more characters of one")]
pub struct UidNameError;

impl FromStr for UidName {
    type Err = UidNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.parse() {
            Ok(uid) => Ok(Self::Whole(uid)),
            Err(_) => text.parse().map(Self::Ending),
        }
    }
}

impl FromStr for Uid {
    type Err = uuid::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}

impl fmt::Display for Uid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_plain_words() {
        for good in ["rpi4-001", "a", "kiosk.lobby_2", "rpi4-001~k3xq2m"] {
            assert_eq!(good.parse::<DeviceId>().map(String::from), Ok(good.to_owned()));
        }
        for bad in ["", "-a", "A", "a b", "a/b", "..", "a~", "a~~b", "\u{1b}[31m", &"x".repeat(64)]
        {
            assert_eq!(bad.parse::<DeviceId>(), Err(DeviceIdError), "{bad:?}");
        }
    }

    #[test]
    fn an_id_goes_by_its_end() {
        let uid: Uid = "018d0a6e-5b2c-7c3d-8e4f-0123456789ab".parse().unwrap();
        assert_eq!(uid.ending().to_string(), "456789ab");
        assert!(uid.ending().fits(uid) && !uid.ending().fits(Uid::from_bytes([7; 16])));
        for end in ["6789AB", "456789ab", "8e4f-0123456789ab", &uid.to_string()[1..]] {
            let Ok(UidName::Ending(ending)) = end.parse() else { panic!("{end}") };
            assert!(ending.fits(uid), "{end}");
        }
        assert_eq!(uid.to_string().parse(), Ok(UidName::Whole(uid)));
        for bad in ["", "999", "789ab", "6789ag", "…6789ab", &format!("0{uid}")] {
            assert_eq!(bad.parse::<UidName>(), Err(UidNameError), "{bad}");
        }
    }

    #[test]
    fn names_become_ids() {
        let id = |name| DeviceId::from_name(name).map(String::from);
        assert_eq!(id("Raspberry Pi 4"), Some("raspberry-pi-4".to_owned()));
        assert_eq!(id("rpi4-001"), Some("rpi4-001".to_owned()));
        assert_eq!(id(" ../etc "), Some("etc".to_owned()));
        assert_eq!(id("☃"), None);
        let long = DeviceId::from_name(&"x".repeat(100)).unwrap();
        assert_eq!(long.in_conflict("k3xq2mzz").as_str().len(), 63);
    }
}
