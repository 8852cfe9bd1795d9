//! Key texts: `flt_op_<id>_<secret><check>@FD1-…`.
//!
//! The id finds the record, the secret (256 bits) proves the holder, the check catches typing
//! errors before anything is sent, and the part after `@` names the one server that the key is
//! for, so that a program can refuse to show it to another. A server stores only the hash.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use data_encoding::{BASE32_NOPAD, BASE64URL_NOPAD};
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use crate::identity::{IdentityError, ServerIdentity};

/// What a key may do at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KeyKind {
    /// A person's or a script's key to the whole server.
    Operator,
    /// Lets devices in; nothing else.
    Enrol,
    /// Posts telemetry for one device.
    Device,
}

impl KeyKind {
    fn prefix(self) -> &'static str {
        match self {
            Self::Operator => "flt_op_",
            Self::Enrol => "flt_en_",
            Self::Device => "flt_dv_",
        }
    }
}

impl fmt::Display for KeyKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Operator => "operator",
            Self::Enrol => "enrol",
            Self::Device => "device",
        })
    }
}

/// A key as its holder knows it. Shows its kind and id, never its secret.
#[derive(Clone)]
pub struct ApiKey {
    kind: KeyKind,
    id: String,
    secret: Zeroizing<String>,
    server: Option<ServerIdentity>,
}

const ID_BYTES: usize = 7;
const ID_CHARS: usize = 10;
const SECRET_CHARS: usize = 43;
const CHECK_CHARS: usize = 6;

impl ApiKey {
    /// A new key for a server.
    pub fn generate(kind: KeyKind, server: ServerIdentity) -> Result<Self, getrandom::Error> {
        let mut id = [0; ID_BYTES];
        let mut secret = Zeroizing::new([0; 32]);
        getrandom::fill(&mut id)?;
        getrandom::fill(secret.as_mut_slice())?;
        Ok(Self::from_parts(kind, id, &secret, server))
    }

    /// The key for a server that follows from a seed: whoever has the seed has the key, and nobody
    /// has the seed by the key.
    pub fn derive(kind: KeyKind, seed: &[u8; 32], server: ServerIdentity) -> Self {
        let part = |name: &[u8]| {
            let mut mac =
                Hmac::<Sha256>::new_from_slice(seed).expect("HMAC takes keys of any length");
            mac.update(name);
            Zeroizing::new(<[u8; 32]>::from(mac.finalize().into_bytes()))
        };
        let mut id = [0; ID_BYTES];
        id.copy_from_slice(&part(b"fleetd key id")[..ID_BYTES]);
        Self::from_parts(kind, id, &part(b"fleetd key secret"), server)
    }

    fn from_parts(
        kind: KeyKind,
        id: [u8; ID_BYTES],
        secret: &[u8; 32],
        server: ServerIdentity,
    ) -> Self {
        let id = BASE32_NOPAD.encode(&id).to_ascii_lowercase()[..ID_CHARS].to_owned();
        let secret = Zeroizing::new(BASE64URL_NOPAD.encode(secret));
        Self { kind, id, secret, server: Some(server) }
    }

    /// What it may do at most.
    pub fn kind(&self) -> KeyKind {
        self.kind
    }

    /// The public part, by which it is listed and revoked.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The server it is for, if its text says so.
    pub fn server(&self) -> Option<ServerIdentity> {
        self.server
    }

    /// The whole text, to be shown once or sent inside a pinned connection.
    pub fn reveal(&self) -> Zeroizing<String> {
        let bare = self.reveal_bare();
        match self.server {
            Some(server) => Zeroizing::new(format!("{}@{server}", bare.as_str())),
            None => bare,
        }
    }

    fn reveal_bare(&self) -> Zeroizing<String> {
        let check = check(self.kind, &self.id, &self.secret);
        Zeroizing::new(format!("{}{}_{}{check}", self.kind.prefix(), self.id, self.secret.as_str()))
    }

    /// What a server stores.
    pub fn hash(&self) -> KeyHash {
        KeyHash(Sha256::digest(self.secret.as_bytes()).into())
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}_…", self.kind.prefix(), self.id)
    }
}

/// A text with the secret of every key text in it replaced, whole or cut; its kind and id stay.
pub fn without_secrets(text: &str) -> Cow<'_, str> {
    let (mut out, mut rest, mut is_changed) = (String::new(), text, false);
    while let Some((before, secret, after)) = next_secret(rest) {
        out.push_str(before);
        if !secret.is_empty() {
            out.push_str(MASK);
            is_changed = true;
        }
        rest = after;
    }
    if !is_changed {
        return Cow::Borrowed(text);
    }
    out.push_str(rest);
    Cow::Owned(out)
}

/// What stands in a secret's place.
const MASK: &str = "(masked)";

/// The text up to the end of the next key's id, what may be its secret, and the rest.
fn next_secret(text: &str) -> Option<(&str, &str, &str)> {
    const START: &str = "flt_";
    let start = text.find(START)?;
    let prefix_chars = KeyKind::Operator.prefix().len();
    let is_kind = [KeyKind::Operator, KeyKind::Enrol, KeyKind::Device]
        .iter()
        .any(|kind| text[start..].starts_with(kind.prefix()));
    let id = start + prefix_chars;
    let end = id + ID_CHARS;
    let has_id = is_kind
        && text.as_bytes().get(id..=end).is_some_and(|id| {
            id.ends_with(b"_") && id[..ID_CHARS].iter().all(u8::is_ascii_alphanumeric)
        });
    if !has_id {
        let (before, after) = text.split_at(start + START.len());
        return Some((before, "", after));
    }
    let (before, rest) = text.split_at(end + 1);
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    let (secret, after) = rest.split_at(rest.find(|c| !plain(c)).unwrap_or(rest.len()));
    Some((before, secret, after))
}

/// What the `Debug` of a message shows in place of a key text that it carries.
pub(crate) fn hidden<T>(text: Option<T>) -> Option<fmt::Arguments<'static>> {
    text.map(|_| format_args!("(hidden)"))
}

/// The hash of a key's secret; compared in constant time.
#[derive(Clone, Copy)]
pub struct KeyHash([u8; 32]);

impl KeyHash {
    /// From a store.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// For a store.
    pub fn bytes(self) -> [u8; 32] {
        self.0
    }

    /// Whether both are the same, in a time that tells nothing.
    pub fn matches(self, other: Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

/// Why a text is no key. Never contains the text.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ApiKeyError {
    /// Not the shape of a key.
    #[error("not a FleetD key (flt_op_…, flt_en_… or flt_dv_…)")]
    Shape,
    /// The check characters do not match.
    #[error("mistyped or cut: its check characters do not match")]
    Check,
    /// The part after `@`.
    #[error("followed by @ and something else than a server")]
    Server(#[source] IdentityError),
}

impl FromStr for ApiKey {
    type Err = ApiKeyError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.trim();
        let (bare, server) = match text.split_once('@') {
            Some((bare, server)) => (bare, Some(server.parse().map_err(ApiKeyError::Server)?)),
            None => (text, None),
        };
        let kind = [KeyKind::Operator, KeyKind::Enrol, KeyKind::Device]
            .into_iter()
            .find(|kind| bare.starts_with(kind.prefix()))
            .ok_or(ApiKeyError::Shape)?;
        let (id, rest) = bare[kind.prefix().len()..].split_once('_').ok_or(ApiKeyError::Shape)?;
        let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
        if id.len() != ID_CHARS
            || rest.len() != SECRET_CHARS + CHECK_CHARS
            || !id.bytes().all(|b| b.is_ascii_alphanumeric())
            || !rest.bytes().all(plain)
        {
            return Err(ApiKeyError::Shape);
        }
        let (secret, found) = rest.split_at(SECRET_CHARS);
        if check(kind, id, secret) != found {
            return Err(ApiKeyError::Check);
        }
        Ok(Self { kind, id: id.to_owned(), secret: Zeroizing::new(secret.to_owned()), server })
    }
}

/// Six characters that a mistyped key would not match.
fn check(kind: KeyKind, id: &str, secret: &str) -> String {
    let crc = crc32c::crc32c(kind.prefix().as_bytes());
    let crc = crc32c::crc32c_append(crc, id.as_bytes());
    let crc = crc32c::crc32c_append(crc, secret.as_bytes());
    BASE64URL_NOPAD.encode(&crc.to_be_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::PrivateKey;

    fn server() -> ServerIdentity {
        PrivateKey::from_seed(&[7; 32]).public().identity()
    }

    #[test]
    fn a_seed_has_one_key() {
        let derive = |seed| ApiKey::derive(KeyKind::Enrol, &[seed; 32], server());
        let (key, other) = (derive(1), derive(2));
        assert!(key.hash().matches(derive(1).hash()) && key.id() == derive(1).id());
        assert!(!key.hash().matches(other.hash()) && key.id() != other.id());
        let read: ApiKey = key.reveal().parse().unwrap();
        assert!(read.hash().matches(key.hash()));
    }

    #[test]
    fn a_key_reads_back_and_hides_itself() {
        let key = ApiKey::generate(KeyKind::Enrol, server()).unwrap();
        let text = key.reveal();
        let read: ApiKey = text.parse().unwrap();
        assert_eq!(
            (read.kind(), read.id(), read.server()),
            (KeyKind::Enrol, key.id(), Some(server()))
        );
        assert!(read.hash().matches(key.hash()));
        assert!(!format!("{key:?}").contains(key.secret.as_str()));
        let bare: ApiKey = text.split('@').next().unwrap().parse().unwrap();
        assert_eq!(bare.server(), None);
    }

    #[test]
    fn messages_that_carry_a_key_hide_it() {
        let key = || Some("flt_en_canary".to_owned());
        let proof = crate::wire::Proof {
            signature: [0; 64],
            device_id: "a".to_owned(),
            enrol_key: key(),
            facts: crate::wire::Facts::default(),
        };
        let update = crate::api::ConfigUpdate { api_key: key(), ..Default::default() };
        let target = crate::api::DiscoverTarget { server_url: None, api_key: key() };
        for shown in [format!("{proof:?}"), format!("{update:?}"), format!("{target:?}")] {
            assert!(!shown.contains("canary") && shown.contains("Some((hidden))"), "{shown}");
        }
    }

    #[test]
    fn secrets_are_taken_out_of_texts() {
        for kind in [KeyKind::Operator, KeyKind::Enrol, KeyKind::Device] {
            let key = ApiKey::generate(kind, server()).unwrap();
            let (text, id) = (key.reveal(), format!("{}{}_", kind.prefix(), key.id()));
            let shown = without_secrets(&text).into_owned();
            assert_eq!(shown, format!("{id}(masked)@{}", server()));
            let said = format!("flt_ flt_op_\u{e9} use {}, or {} ü", text.as_str(), &text[..30]);
            let shown = format!("flt_ flt_op_\u{e9} use {shown}, or {id}(masked) ü");
            assert_eq!(without_secrets(&said), shown);
            assert_eq!(without_secrets(&shown), shown);
        }
        for plain in ["", "flt_", "flt_op_", "flt_op_short_x", "flt_xx_abcdefghij_secret", "FLT_"] {
            assert!(matches!(without_secrets(plain), Cow::Borrowed(same) if same == plain));
        }
    }

    #[test]
    fn mistyped_keys_are_refused_before_they_are_sent() {
        let text = ApiKey::generate(KeyKind::Operator, server()).unwrap().reveal();
        let mut typo = text.as_bytes().to_vec();
        typo[20] = if typo[20] == b'A' { b'B' } else { b'A' };
        let typo = String::from_utf8(typo).unwrap();
        assert_eq!(typo.parse::<ApiKey>().unwrap_err(), ApiKeyError::Check);
        assert_eq!("your-api-key".parse::<ApiKey>().unwrap_err(), ApiKeyError::Shape);
        assert_eq!("flt_op_".parse::<ApiKey>().unwrap_err(), ApiKeyError::Shape);
        assert!(matches!(
            format!("{}x@y", text.as_str()).parse::<ApiKey>(),
            Err(ApiKeyError::Server(_))
        ));
    }
}
