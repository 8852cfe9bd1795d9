//! The audit record, as an operator's programs read it: a page of it, or the whole chain, which is
//! computed anew here, since nobody need believe the server that it is whole.

use hyper::header::{self, HeaderValue};

use super::client::{Ask, Client};
use super::error::ClientError;
use super::export::ExportStream;
use crate::api::{AuditLine, AuditRecord, Route};
use crate::audit::{Broken, Verified, Verifier};
use crate::time::Timestamp;

/// Bytes of a line of the chain.
const LINE_BYTES_MAX: usize = 2 * 1024 * 1024;

/// Which records to ask for.
#[derive(Clone, Debug, Default)]
pub struct AuditQuery {
    /// About one device, by id or uid.
    pub device_id: Option<String>,
    /// An action's word, or its first part for all that share it.
    pub action: Option<String>,
    /// Of whom: a kind of actor, or a key by its id or label.
    pub actor: Option<String>,
    /// Not before.
    pub since: Option<Timestamp>,
    /// Not after.
    pub until: Option<Timestamp>,
    /// With a number below this one, as the last record of the page before has it.
    pub before: Option<u64>,
    /// Records at most; the server's default if absent.
    pub limit: Option<usize>,
}

/// Why a chain was not verified.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// It did not come.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// What came is no chain, or only a part of it.
    #[error("the server's answer is not a whole audit record: {0}")]
    Answer(&'static str),
    /// It is not as it was written.
    #[error(transparent)]
    Broken(#[from] Broken),
}

impl Client {
    /// Records, newest first.
    pub async fn audit_list(&self, query: &AuditQuery) -> Result<Vec<AuditRecord>, ClientError> {
        let mut ask = Ask::default();
        ask.query_some("device_id", query.device_id.as_ref());
        ask.query_some("action", query.action.as_ref());
        ask.query_some("actor", query.actor.as_ref());
        ask.query_some("since", query.since);
        ask.query_some("until", query.until);
        ask.query_some("before", query.before);
        ask.query_some("limit", query.limit);
        self.call(Route::AuditList, ask).await
    }

    /// Reads the whole chain, and computes all of it anew. `tell` hears how far that has come.
    pub async fn audit_verify(&self, mut tell: impl FnMut(u64)) -> Result<Verified, AuditError> {
        let mut request = self.request(&Route::AuditChain, Ask::default())?;
        let kind = HeaderValue::from_static("application/x-ndjson");
        request.headers_mut().insert(header::ACCEPT, kind);
        let mut stream = ExportStream::of(self.url().clone(), self.open(request).await?);
        let mut buffer: Vec<u8> = Vec::new();
        let mut state = State::Begin;
        while let Some(piece) = stream.next().await? {
            buffer.extend_from_slice(&piece);
            let mut begin = 0;
            while let Some(length) = buffer[begin..].iter().position(|byte| *byte == b'\n') {
                let line = serde_json::from_slice(&buffer[begin..begin + length])
                    .map_err(|_| AuditError::Answer("a line of it cannot be read"))?;
                begin += length + 1;
                state = state.take(line, self, &mut tell)?;
            }
            buffer.drain(..begin);
            if buffer.len() > LINE_BYTES_MAX {
                return Err(AuditError::Answer("a line of it is too long"));
            }
        }
        match state {
            State::End(verified) if buffer.is_empty() => Ok(verified),
            _ => Err(AuditError::Answer("it breaks off; try again")),
        }
    }
}

/// How far a chain has come.
enum State {
    Begin,
    Records(Box<Verifier>),
    End(Verified),
}

impl State {
    fn take(
        self,
        line: AuditLine,
        client: &Client,
        tell: &mut impl FnMut(u64),
    ) -> Result<Self, AuditError> {
        Ok(match (self, line) {
            (Self::Begin, AuditLine::Begin(begin)) => {
                Self::Records(Box::new(Verifier::begin(begin, client.server())?))
            }
            (Self::Records(mut verifier), AuditLine::Record(record)) => {
                verifier.take(&record)?;
                tell(record.seq);
                Self::Records(verifier)
            }
            (Self::Records(verifier), AuditLine::End(head)) => Self::End(verifier.end(head)?),
            (_, _) => return Err(AuditError::Answer("its lines are not in order")),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{AuditActor, AuditBegin, AuditEntry, AuditHash, AuditKind};
    use crate::audit::{PointKind, follow, sign};
    use crate::identity::PrivateKey;
    use crate::operator::pretend::Pretend;
    use crate::secret::{ApiKey, KeyKind};

    fn key() -> PrivateKey {
        PrivateKey::from_seed(&[7; 32])
    }

    fn lines(count: u64) -> Vec<String> {
        let entry = AuditEntry {
            timestamp: Timestamp::from_millis(5),
            kind: AuditKind::Single,
            intent: None,
            request_id: "r".into(),
            actor: AuditActor::bare("operator"),
            via: "key".into(),
            peer: None,
            action: "key.revoke".into(),
            targets: vec!["ü\u{202e}".into()],
            target_count: 1,
            body_sha256: None,
            reason: None,
            status: Some(403),
            text: "t".into(),
        };
        let after_hash = AuditHash::default();
        let server_key = key().public();
        let begin = AuditBegin { server_key, after: 0, after_hash, start: None, signed: vec![] };
        let mut lines = vec![AuditLine::Begin(begin)];
        let mut hash = after_hash;
        for seq in 1..=count {
            let record = follow(seq, entry.clone(), hash).unwrap();
            hash = record.hash;
            lines.push(AuditLine::Record(Box::new(record)));
        }
        let at = Timestamp::from_millis(6);
        lines.push(AuditLine::End(sign(&key(), PointKind::Head, count, hash, at)));
        lines.iter().map(|line| serde_json::to_string(line).unwrap() + "\n").collect()
    }

    async fn verified(body: String) -> Result<Verified, AuditError> {
        let pretend = Pretend::start(&key(), move |_| (200, body.clone())).await;
        let key = ApiKey::generate(KeyKind::Operator, key().public().identity()).unwrap();
        Client::new(pretend.url(), key).unwrap().audit_verify(|_| {}).await
    }

    #[tokio::test]
    async fn a_chain_is_computed_anew_line_by_line() {
        let verified = verified(lines(3).concat()).await.unwrap();
        assert_eq!((verified.first, verified.last, verified.records), (1, 3, 3));
        assert_eq!(verified.signed.map(|point| point.seq), Some(3));
    }

    #[tokio::test]
    async fn what_is_no_whole_chain_is_not_taken_for_one() {
        let all = lines(3);
        for cut in 0..all.len() {
            let error = verified(all[..cut].concat()).await.unwrap_err();
            assert!(matches!(error, AuditError::Answer(_)), "{cut}: {error}");
        }
        let mut gone = all.clone();
        gone.remove(2);
        let error = verified(gone.concat()).await.unwrap_err();
        assert!(matches!(error, AuditError::Broken(Broken::Missing(2))), "{error}");
        for (junk, place) in [("{}\n", 1), (all[0].as_str(), 2), ("\n", 4)] {
            let mut with = all.clone();
            with.insert(place, junk.to_owned());
            assert!(verified(with.concat()).await.is_err(), "{junk}");
        }
        assert!(verified(all.concat() + "x").await.is_err());
    }
}
