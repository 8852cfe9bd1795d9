//! Rows of the audit record: records as they are hashed, and places that the server signed.

use bincode::{Decode, Encode};
use fleet_core::api::{AuditHash, AuditPoint, AuditRecord, AuditSignature};
use fleet_core::audit;
use fleet_core::codec::CodecError;
use fleet_core::time::Timestamp;

/// A record. Its number is in the bytes that are hashed, besides being its key.
#[derive(Debug, PartialEq, Encode, Decode)]
pub(in crate::store::redb) struct AuditRow {
    canonical: Vec<u8>,
    prev_hash: [u8; 32],
    pub(in crate::store::redb) hash: [u8; 32],
}

impl AuditRow {
    pub(in crate::store::redb) fn of(record: &AuditRecord) -> Result<Self, CodecError> {
        let canonical = audit::canonical(record.seq, &record.entry)?;
        Ok(Self { canonical, prev_hash: record.prev_hash.0, hash: record.hash.0 })
    }

    /// The record. Whether its hash is right is for whoever verifies the chain to say.
    pub(in crate::store::redb) fn into_record(self) -> Result<AuditRecord, CodecError> {
        let (seq, entry) = audit::read(&self.canonical)?;
        let (prev_hash, hash) = (AuditHash(self.prev_hash), AuditHash(self.hash));
        Ok(AuditRecord { seq, entry, prev_hash, hash })
    }
}

/// Says that an intent has no outcome.
#[derive(Debug, PartialEq, Encode, Decode)]
pub(in crate::store::redb) struct AuditOpenRow {
    pub(in crate::store::redb) at_millis: i64,
}

/// A place that was signed.
#[derive(Debug, PartialEq, Encode, Decode)]
pub(in crate::store::redb) struct AuditPointRow {
    seq: u64,
    hash: [u8; 32],
    at_millis: i64,
    signature: [u8; 64],
}

impl From<&AuditPoint> for AuditPointRow {
    fn from(point: &AuditPoint) -> Self {
        let at_millis = point.timestamp.millis();
        Self { seq: point.seq, hash: point.hash.0, at_millis, signature: point.signature.0 }
    }
}

impl AuditPointRow {
    pub(in crate::store::redb) fn point(self) -> AuditPoint {
        AuditPoint {
            seq: self.seq,
            hash: AuditHash(self.hash),
            timestamp: Timestamp::from_millis(self.at_millis),
            signature: AuditSignature(self.signature),
        }
    }
}

#[cfg(test)]
mod tests {
    use data_encoding::HEXLOWER;
    use fleet_core::api::{AuditActor, AuditEntry, AuditKind};
    use fleet_core::codec;

    use super::*;

    fn record() -> AuditRecord {
        let entry = AuditEntry {
            timestamp: Timestamp::from_millis(1),
            kind: AuditKind::Intent,
            intent: None,
            request_id: "r".into(),
            actor: AuditActor::bare("a"),
            via: "v".into(),
            peer: None,
            action: "x".into(),
            targets: Vec::new(),
            target_count: 0,
            body_sha256: None,
            reason: None,
            status: None,
            text: "t".into(),
        };
        audit::follow(4, entry, AuditHash([5; 32])).unwrap()
    }

    fn point() -> AuditPoint {
        let (hash, signature) = (AuditHash([6; 32]), AuditSignature([8; 64]));
        AuditPoint { seq: 3, hash, timestamp: Timestamp::from_millis(2), signature }
    }

    /// Databases out there hold these bytes.
    #[test]
    fn rows_keep_their_bytes() {
        let row = AuditRow::of(&record()).unwrap();
        let canonical = "0c0104020000017201610000000176000178000000000001 74".replace(' ', "");
        let (prev, hash) = ("05".repeat(32), record().hash);
        let written = format!("5a0119{canonical}{prev}{hash}");
        assert_eq!(HEXLOWER.encode(&codec::encode(&row).unwrap()), written);
        assert_eq!(row.into_record(), Ok(record()));
        let row = AuditPointRow::from(&point());
        let written = format!("5c0103{}04{}", "06".repeat(32), "08".repeat(64));
        assert_eq!(HEXLOWER.encode(&codec::encode(&row).unwrap()), written);
        assert_eq!(row.point(), point());
        let row = AuditOpenRow { at_millis: 1 };
        assert_eq!(HEXLOWER.encode(&codec::encode(&row).unwrap()), "5b0102");
    }

    #[test]
    #[ignore = "writes the seeds anew: cargo test -p fleet-server --lib write_seeds -- --ignored"]
    fn write_seeds() {
        let row = AuditRow::of(&record()).unwrap();
        let canonical = audit::canonical(4, &record().entry);
        for (name, bytes) in [
            ("audit", codec::encode(&row)),
            ("audit-point", codec::encode(&AuditPointRow::from(&point()))),
            ("audit-record", canonical),
        ] {
            fleet_core::fuzz::write_seed("rows", name, &bytes.unwrap()).unwrap();
        }
    }
}
