//! How records of what was asked for hang together, so that whoever changes one is found out.
//!
//! Each record has a number, and the SHA-256 of the hash of the record before and of its own
//! canonical bytes. The server signs how far the chain has come, now and then and for whoever asks;
//! so no record can be changed, removed, added or moved without its key. [`Verifier`] is the
//! other side: it computes everything anew.

mod verify;

use bincode::{Decode, Encode};
use sha2::{Digest as _, Sha256};

use crate::api::{
    AuditActor, AuditEntry, AuditHash, AuditKind, AuditPoint, AuditRecord, AuditSignature,
};
use crate::codec::{self, CodecError, Coded};
use crate::identity::{PrivateKey, PublicKey};
use crate::time::Timestamp;
use crate::untrusted::Untrusted;

pub use verify::{Broken, Verified, Verifier};

/// A record as it is hashed and stored. Its bytes never change: a new layout is a new version.
#[derive(Debug, PartialEq, Encode, Decode)]
struct Canonical {
    seq: u64,
    at_millis: i64,
    kind: u8,
    intent: Option<u64>,
    request_id: String,
    actor_kind: String,
    actor_key: Option<String>,
    actor_label: Option<String>,
    actor_role: Option<String>,
    via: String,
    peer: Option<String>,
    action: String,
    targets: Vec<String>,
    target_count: u64,
    body_sha256: Option<[u8; 32]>,
    reason: Option<String>,
    status: Option<u16>,
    text: String,
}

impl Coded for Canonical {
    const TAG: u8 = 12;
    const VERSION: u8 = 1;
}

/// What a signature is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PointKind {
    /// The newest record.
    Head,
    /// The newest of those that were removed.
    Start,
}

/// The bytes of a record that are hashed.
pub fn canonical(seq: u64, entry: &AuditEntry) -> Result<Vec<u8>, CodecError> {
    let text = |text: &Untrusted| text.raw().to_owned();
    let maybe = |text: &Option<Untrusted>| text.as_ref().map(|text| text.raw().to_owned());
    codec::encode(&Canonical {
        seq,
        at_millis: entry.timestamp.millis(),
        kind: entry.kind as u8,
        intent: entry.intent,
        request_id: text(&entry.request_id),
        actor_kind: text(&entry.actor.kind),
        actor_key: maybe(&entry.actor.key_id),
        actor_label: maybe(&entry.actor.label),
        actor_role: maybe(&entry.actor.role),
        via: text(&entry.via),
        peer: maybe(&entry.peer),
        action: text(&entry.action),
        targets: entry.targets.iter().map(text).collect(),
        target_count: entry.target_count,
        body_sha256: entry.body_sha256.map(|hash| hash.0),
        reason: maybe(&entry.reason),
        status: entry.status,
        text: text(&entry.text),
    })
}

/// The number and the words of a record whose bytes these are.
pub fn read(bytes: &[u8]) -> Result<(u64, AuditEntry), CodecError> {
    let record: Canonical = codec::decode(bytes)?;
    let kind = match record.kind {
        0 => AuditKind::Intent,
        1 => AuditKind::Outcome,
        2 => AuditKind::Single,
        _ => return Err(CodecError::Malformed),
    };
    let timestamp = Timestamp::from_millis(record.at_millis);
    if timestamp.millis() != record.at_millis {
        return Err(CodecError::Malformed);
    }
    let entry = AuditEntry {
        timestamp,
        kind,
        intent: record.intent,
        request_id: record.request_id.into(),
        actor: AuditActor {
            kind: record.actor_kind.into(),
            key_id: record.actor_key.map(Untrusted::from),
            label: record.actor_label.map(Untrusted::from),
            role: record.actor_role.map(Untrusted::from),
        },
        via: record.via.into(),
        peer: record.peer.map(Untrusted::from),
        action: record.action.into(),
        targets: record.targets.into_iter().map(Untrusted::from).collect(),
        target_count: record.target_count,
        body_sha256: record.body_sha256.map(AuditHash),
        reason: record.reason.map(Untrusted::from),
        status: record.status,
        text: record.text.into(),
    };
    Ok((record.seq, entry))
}

/// The hash of a record, from that of the one before and its own bytes.
pub fn link(prev: AuditHash, canonical: &[u8]) -> AuditHash {
    AuditHash(Sha256::new().chain_update(prev.0).chain_update(canonical).finalize().into())
}

/// A record that follows on another.
pub fn follow(seq: u64, entry: AuditEntry, prev: AuditHash) -> Result<AuditRecord, CodecError> {
    let hash = link(prev, &canonical(seq, &entry)?);
    Ok(AuditRecord { seq, entry, prev_hash: prev, hash })
}

/// The SHA-256 of a request's body.
pub fn digest(body: &[u8]) -> AuditHash {
    AuditHash(Sha256::digest(body).into())
}

/// Signs a place in the chain.
pub fn sign(
    key: &PrivateKey,
    kind: PointKind,
    seq: u64,
    hash: AuditHash,
    timestamp: Timestamp,
) -> AuditPoint {
    let signature = AuditSignature(key.sign(&message(kind, seq, hash, timestamp)));
    AuditPoint { seq, hash, timestamp, signature }
}

/// Whether a server signed a place in the chain.
pub fn is_signed(key: PublicKey, kind: PointKind, point: &AuditPoint) -> bool {
    let message = message(kind, point.seq, point.hash, point.timestamp);
    key.verify(&message, &point.signature.0)
}

fn message(kind: PointKind, seq: u64, hash: AuditHash, timestamp: Timestamp) -> Vec<u8> {
    let purpose: &[u8] = match kind {
        PointKind::Head => b"fleetd audit v1 head\n",
        PointKind::Start => b"fleetd audit v1 start\n",
    };
    let millis = timestamp.millis().to_be_bytes();
    [purpose, &seq.to_be_bytes(), &hash.0, &millis].concat()
}

/// Checks what holds for all bytes: they are refused, or are a record whose bytes they are.
#[cfg(any(test, feature = "testing"))]
pub fn check(bytes: &[u8]) {
    if codec::check::<Canonical>(bytes).is_some()
        && let Ok((seq, entry)) = read(bytes)
    {
        let written = canonical(seq, &entry).expect("what was read is small enough");
        assert_eq!(read(&written), Ok((seq, entry)));
    }
}

#[cfg(test)]
mod tests {
    use data_encoding::HEXLOWER;

    use super::*;

    pub(super) fn entry(text: &str) -> AuditEntry {
        AuditEntry {
            timestamp: Timestamp::from_millis(1_700_000_000_000),
            kind: AuditKind::Outcome,
            intent: Some(3),
            request_id: "r".into(),
            actor: AuditActor {
                kind: "operator".into(),
                key_id: Some("k".into()),
                label: Some("l".into()),
                role: None,
            },
            via: "key".into(),
            peer: Some("10.0.0.1".into()),
            action: "device.delete".into(),
            targets: vec!["a".into()],
            target_count: 1,
            body_sha256: Some(AuditHash([2; 32])),
            reason: Some("why".into()),
            status: Some(200),
            text: text.into(),
        }
    }

    /// Chains out there hold these bytes: they never change.
    #[test]
    fn a_records_bytes_and_hash_are_these() {
        let bytes = canonical(4, &entry("t")).unwrap();
        assert_eq!(
            HEXLOWER.encode(&bytes),
            "0c0104fd00d0ca9f170300000101030172086f70657261746f7201016b01016c00036b6579010831\
             302e302e302e310d6465766963652e64656c65746501016101010202020202020202020202020202\
             0202020202020202020202020202020202020103776879\
             01c80174"
        );
        assert_eq!(read(&bytes), Ok((4, entry("t"))));
        let record = follow(4, entry("t"), AuditHash([1; 32])).unwrap();
        let hash = Sha256::new().chain_update([1; 32]).chain_update(&bytes).finalize();
        assert_eq!(record.hash.0, <[u8; 32]>::from(hash));
    }

    #[test]
    fn json_says_all_that_is_hashed() {
        let mut plain = entry("\u{202e}\u{0}\n ü");
        plain.reason = None;
        plain.status = None;
        plain.intent = None;
        plain.body_sha256 = None;
        plain.actor = AuditActor::bare("server");
        for entry in [entry("t"), plain] {
            let record = follow(4, entry, AuditHash::default()).unwrap();
            let text = serde_json::to_string(&record).unwrap();
            let back: AuditRecord = serde_json::from_str(&text).unwrap();
            assert_eq!(back, record);
            assert_eq!(follow(4, back.entry, back.prev_hash).unwrap().hash, record.hash);
        }
    }

    #[test]
    fn a_signature_is_for_one_place_and_one_purpose() {
        let key = PrivateKey::from_seed(&[7; 32]);
        let at = Timestamp::from_millis(5);
        let point = sign(&key, PointKind::Head, 9, AuditHash([1; 32]), at);
        let public = key.public();
        assert!(is_signed(public, PointKind::Head, &point));
        assert!(!is_signed(public, PointKind::Start, &point));
        assert!(!is_signed(public, PointKind::Head, &AuditPoint { seq: 8, ..point.clone() }));
        let other = AuditPoint { hash: AuditHash([2; 32]), ..point.clone() };
        assert!(!is_signed(public, PointKind::Head, &other));
        let later = AuditPoint { timestamp: Timestamp::from_millis(6), ..point };
        assert!(!is_signed(public, PointKind::Head, &later));
    }

    proptest::proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes: Vec<u8>) {
            check(&[&[12, 1], &bytes[..]].concat());
        }
    }
}
