//! Going through a chain of records, and computing all of it anew.

use std::collections::BTreeMap;

use super::{PointKind, canonical, is_signed, link};
use crate::api::{AuditBegin, AuditHash, AuditKind, AuditPoint, AuditRecord};
use crate::identity::{PublicKey, ServerIdentity};

/// Places that were signed earlier and are looked at.
const SIGNED_MAX: usize = 64;

/// Goes through a chain, record by record, in bounded memory.
pub struct Verifier {
    server: PublicKey,
    /// The number and hash of the last record, or of the place where the chain begins.
    seq: u64,
    hash: AuditHash,
    first: u64,
    signed: BTreeMap<u64, AuditPoint>,
    intents: u64,
    outcomes: u64,
}

/// A chain that is whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// Who signed it.
    pub server: ServerIdentity,
    /// The number of the first record; 0 if there are none.
    pub first: u64,
    /// The number of the last one.
    pub last: u64,
    /// How many records there are.
    pub records: u64,
    /// Intents of which no outcome is known.
    pub open: u64,
    /// The newest record that is signed.
    pub signed: Option<AuditPoint>,
}

/// What is wrong with a chain.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    /// A gap.
    #[error("record {0} is missing, or cannot be read")]
    Missing(u64),
    /// Not where it belongs.
    #[error("record {found} stands where record {wanted} belongs")]
    OutOfOrder {
        /// The number that is missing.
        wanted: u64,
        /// The number that was found.
        found: u64,
    },
    /// Another hash than its contents have, or than the next record knows.
    #[error("record {0} was changed")]
    Changed(u64),
    /// Another hash than was signed.
    #[error("record {0} is not the one that the server signed")]
    NotSigned(u64),
    /// A signature that is none.
    #[error("the signature of record {0} is not the server's")]
    Signature(u64),
    /// The beginning is not signed.
    #[error("records before {0} are missing, and the server did not sign that it removed them")]
    Start(u64),
    /// Signed by somebody else.
    #[error("it is signed by {found}, not by the server {expected}")]
    OtherServer {
        /// Who should have signed.
        expected: ServerIdentity,
        /// Who did.
        found: ServerIdentity,
    },
}

impl Broken {
    /// The number of the first record that is not as it was written, if one is known.
    pub fn seq(&self) -> Option<u64> {
        match self {
            Self::Missing(seq)
            | Self::OutOfOrder { wanted: seq, .. }
            | Self::Changed(seq)
            | Self::NotSigned(seq)
            | Self::Signature(seq) => Some(*seq),
            Self::Start(seq) => Some(seq.saturating_sub(1)),
            Self::OtherServer { .. } => None,
        }
    }
}

impl Verifier {
    /// Begins with the chain of a server, from the first record that it still has.
    pub fn begin(begin: AuditBegin, expected: ServerIdentity) -> Result<Self, Broken> {
        let server = begin.server_key;
        let found = server.identity();
        if found != expected {
            return Err(Broken::OtherServer { expected, found });
        }
        let is_origin = (begin.after, begin.after_hash) == (0, AuditHash::default());
        match &begin.start {
            None if is_origin => {}
            None => return Err(Broken::Start(begin.after.saturating_add(1))),
            Some(start) if !is_signed(server, PointKind::Start, start) => {
                return Err(Broken::Signature(start.seq));
            }
            Some(start) if (start.seq, start.hash) != (begin.after, begin.after_hash) => {
                return Err(Broken::Start(begin.after.saturating_add(1)));
            }
            Some(_) => {}
        }
        let mut signed = BTreeMap::new();
        for point in begin.signed.into_iter().take(SIGNED_MAX) {
            if !is_signed(server, PointKind::Head, &point) {
                return Err(Broken::Signature(point.seq));
            }
            // Two signatures for one place would have to agree.
            let (seq, hash) = (point.seq, point.hash);
            if signed.insert(seq, point).is_some_and(|before| before.hash != hash) {
                return Err(Broken::NotSigned(seq));
            }
        }
        let (seq, hash) = (begin.after, begin.after_hash);
        Ok(Self { server, seq, hash, first: 0, signed, intents: 0, outcomes: 0 })
    }

    /// Takes the next record.
    pub fn take(&mut self, record: &AuditRecord) -> Result<(), Broken> {
        let wanted = self.seq.saturating_add(1);
        if record.seq > wanted {
            return Err(Broken::Missing(wanted));
        }
        if record.seq < wanted {
            return Err(Broken::OutOfOrder { wanted, found: record.seq });
        }
        let bytes = canonical(record.seq, &record.entry).map_err(|_| Broken::Changed(wanted))?;
        if link(record.prev_hash, &bytes) != record.hash {
            return Err(Broken::Changed(wanted));
        }
        if record.prev_hash != self.hash {
            // It is sound in itself, and knows another record before it than there is.
            return Err(Broken::Changed(self.seq.max(1)));
        }
        if self.signed.get(&wanted).is_some_and(|point| point.hash != record.hash) {
            return Err(Broken::NotSigned(wanted));
        }
        match record.entry.kind {
            AuditKind::Intent => self.intents += 1,
            AuditKind::Outcome => self.outcomes += 1,
            AuditKind::Single => {}
        }
        if self.first == 0 {
            self.first = wanted;
        }
        (self.seq, self.hash) = (wanted, record.hash);
        Ok(())
    }

    /// Ends with the newest record, as the server has signed it.
    pub fn end(self, head: AuditPoint) -> Result<Verified, Broken> {
        if !is_signed(self.server, PointKind::Head, &head) {
            return Err(Broken::Signature(head.seq));
        }
        if head.seq > self.seq {
            return Err(Broken::Missing(self.seq.saturating_add(1)));
        }
        if head.seq < self.seq {
            return Err(Broken::NotSigned(head.seq.saturating_add(1)));
        }
        if head.hash != self.hash {
            return Err(Broken::NotSigned(head.seq));
        }
        let verified = self.end_unsigned()?;
        Ok(Verified { signed: Some(head), ..verified })
    }

    /// Ends where nobody could sign the newest record: what was signed before must be there.
    pub fn end_unsigned(self) -> Result<Verified, Broken> {
        let signed = self.signed.into_values().next_back();
        if signed.as_ref().is_some_and(|point| point.seq > self.seq) {
            return Err(Broken::Missing(self.seq.saturating_add(1)));
        }
        Ok(Verified {
            server: self.server.identity(),
            first: self.first,
            last: self.seq,
            records: if self.first == 0 { 0 } else { self.seq - self.first + 1 },
            open: self.intents.saturating_sub(self.outcomes),
            signed,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::entry;
    use super::super::{follow, sign};
    use super::*;
    use crate::api::AuditEntry;
    use crate::identity::PrivateKey;
    use crate::time::Timestamp;

    fn key() -> PrivateKey {
        PrivateKey::from_seed(&[7; 32])
    }

    fn chain(texts: &[&str]) -> Vec<AuditRecord> {
        let mut records: Vec<AuditRecord> = Vec::new();
        for (text, seq) in texts.iter().zip(1..) {
            let prev = records.last().map_or_else(AuditHash::default, |record| record.hash);
            records.push(follow(seq, entry(text), prev).unwrap());
        }
        records
    }

    fn point(kind: PointKind, record: &AuditRecord) -> AuditPoint {
        sign(&key(), kind, record.seq, record.hash, Timestamp::from_millis(1))
    }

    fn head(record: &AuditRecord) -> AuditPoint {
        point(PointKind::Head, record)
    }

    fn begin(signed: Vec<AuditPoint>) -> AuditBegin {
        let after_hash = AuditHash::default();
        AuditBegin { server_key: key().public(), after: 0, after_hash, start: None, signed }
    }

    fn verify(
        begin: AuditBegin,
        records: &[AuditRecord],
        head: AuditPoint,
    ) -> Result<Verified, Broken> {
        let mut verifier = Verifier::begin(begin, key().public().identity())?;
        for record in records {
            verifier.take(record)?;
        }
        verifier.end(head)
    }

    #[test]
    fn a_whole_chain_is_whole_also_without_its_oldest_part() {
        let all = chain(&["a", "b", "c", "d"]);
        let verified = verify(begin(vec![head(&all[1])]), &all, head(&all[3])).unwrap();
        assert_eq!((verified.first, verified.records), (1, 4));
        let start = Some(point(PointKind::Start, &all[1]));
        let rest = AuditBegin { after: 2, after_hash: all[1].hash, start, ..begin(Vec::new()) };
        let verified = verify(rest.clone(), &all[2..], head(&all[3])).unwrap();
        assert_eq!((verified.first, verified.records), (3, 2));
        let unsigned = AuditBegin { start: None, ..rest };
        assert_eq!(verify(unsigned, &all[2..], head(&all[3])), Err(Broken::Start(3)));
        let empty = sign(&key(), PointKind::Head, 0, AuditHash::default(), Timestamp::default());
        assert_eq!(verify(begin(Vec::new()), &[], empty).unwrap().records, 0);
    }

    #[test]
    fn t35_the_first_record_that_is_not_as_it_was_is_named() {
        let all = chain(&["a", "b", "c", "d", "e"]);
        let last = || head(&all[4]);
        let check = |records: &[AuditRecord]| verify(begin(Vec::new()), records, last());
        // Removed.
        let mut gone = all.clone();
        gone.remove(2);
        assert_eq!(check(&gone), Err(Broken::Missing(3)));
        assert_eq!(check(&all[1..]), Err(Broken::Missing(1)));
        assert_eq!(check(&all[..3]), Err(Broken::Missing(4)));
        // Moved.
        let mut moved = all.clone();
        moved.swap(1, 3);
        assert_eq!(check(&moved), Err(Broken::Missing(2)));
        let twice = [&all[..3], &all[1..]].concat();
        assert_eq!(check(&twice), Err(Broken::OutOfOrder { wanted: 4, found: 2 }));
        // Changed, with the hash it had; with one that fits; with all that follow.
        let mut changed = all.clone();
        changed[2].entry = AuditEntry { status: Some(403), ..entry("c") };
        assert_eq!(check(&changed), Err(Broken::Changed(3)));
        changed[2] = follow(3, changed[2].entry.clone(), changed[2].prev_hash).unwrap();
        assert_eq!(check(&changed), Err(Broken::Changed(3)));
        let forged = chain(&["a", "b", "x", "d", "e"]);
        assert_eq!(check(&forged), Err(Broken::NotSigned(5)));
        let earlier = begin(vec![head(&all[2])]);
        let by_server = verify(earlier, &forged, head(&forged[4]));
        assert_eq!(by_server, Err(Broken::NotSigned(3)));
        // Added at the end, or cut off there.
        let more = chain(&["a", "b", "c", "d", "e", "f"]);
        assert_eq!(check(&more), Err(Broken::NotSigned(6)));
        let cut = verify(begin(vec![last()]), &all[..3], head(&all[2]));
        assert_eq!(cut, Err(Broken::Missing(4)));
        assert_eq!(Broken::Missing(4).seq(), Some(4));
    }

    #[test]
    fn only_the_servers_own_signature_counts() {
        let all = chain(&["a"]);
        let other = PrivateKey::from_seed(&[8; 32]);
        let at = Timestamp::from_millis(1);
        let theirs = sign(&other, PointKind::Head, 1, all[0].hash, at);
        assert_eq!(verify(begin(Vec::new()), &all, theirs.clone()), Err(Broken::Signature(1)));
        assert_eq!(verify(begin(vec![theirs]), &all, head(&all[0])), Err(Broken::Signature(1)));
        let foreign = AuditBegin { server_key: other.public(), ..begin(Vec::new()) };
        let broken = verify(foreign, &all, head(&all[0])).unwrap_err();
        assert!(matches!(broken, Broken::OtherServer { .. }), "{broken}");
    }
}
