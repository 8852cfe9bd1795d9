//! The whole chain of audit records for whoever verifies it: from where it begins to the newest
//! record, which is signed for them.

use std::sync::Arc;

use bytes::Bytes;
use fleet_core::Chain;
use fleet_core::api::{AuditBegin, AuditLine, AuditPoint};
use fleet_core::net::shutdown::Tasks;
use tokio::sync::{OwnedSemaphorePermit, mpsc};

use super::export::{Outlet, Reader};
use super::{Ops, OpsError};
use crate::export::{Stop, Taker as _};
use crate::store::AuditStretch;

/// Records that are read at once.
const ROWS_AT_ONCE: usize = 200;

/// A chain that is about to be read.
pub(crate) struct AuditReading {
    ops: Arc<Ops>,
    reader: Reader,
    head: AuditPoint,
    begin: AuditBegin,
    first: AuditStretch,
    _place: OwnedSemaphorePermit,
}

impl AuditReading {
    /// Signs the newest record, and reads the beginning; nothing if too many read it already.
    pub(crate) async fn begin(
        ops: Arc<Ops>,
        reader: Reader,
        after: u64,
    ) -> Result<Option<Self>, OpsError> {
        let Some(place) = ops.audit.place() else { return Ok(None) };
        // Before anything is signed anew: a signature of what is gone is all that tells of it.
        let mut signed = ops.audit.signed().await?;
        let head = ops.audit.seal().await?;
        if !signed.contains(&head) {
            signed.push(head.clone());
        }
        let first = ops.audit.chain(after, ROWS_AT_ONCE).await?;
        let begin = AuditBegin {
            server_key: ops.audit.server(),
            after: first.after,
            after_hash: first.after_hash,
            start: first.start.clone(),
            signed,
        };
        Ok(Some(Self { ops, reader, head, begin, first, _place: place }))
    }

    /// Sends all lines, as fast as they are taken, until either side stops. Without its last line it
    /// is not whole.
    pub(crate) async fn run(self, sender: mpsc::Sender<Bytes>, tasks: Tasks) {
        let key = self.reader.key.clone();
        let ended = tokio::select! {
            () = tasks.stopping() => Err(Stop::Server),
            () = sender.closed() => Err(Stop::Gone),
            ended = self.send(&sender) => ended,
        };
        if let Err(reason) = ended {
            tracing::info!(key, %reason, "reading the audit record was ended");
        }
    }

    async fn send(self, sender: &mpsc::Sender<Bytes>) -> Result<(), Stop> {
        let Self { ops, reader, head, begin, first, _place } = self;
        let mut outlet = Outlet::new(&ops, reader, sender);
        let mut next = begin.after;
        outlet.take(lines([AuditLine::Begin(begin)])?).await?;
        let mut stretch = first.records;
        while !stretch.is_empty() {
            next = stretch.last().map_or(next, |record| record.seq);
            let wanted = stretch.into_iter().filter(|record| record.seq <= head.seq);
            let wanted = wanted.map(|record| AuditLine::Record(Box::new(record)));
            outlet.take(lines(wanted)?).await?;
            if next >= head.seq {
                break;
            }
            let found = ops.audit.chain(next, ROWS_AT_ONCE).await.map_err(|error| {
                tracing::warn!(error = %Chain(&error), "the audit record cannot be read on");
                Stop::Server
            })?;
            if found.after != next {
                // What is too old was removed behind a slow reader, who would take it for a gap.
                return Err(Stop::Slow);
            }
            stretch = found.records;
        }
        outlet.take(lines([AuditLine::End(head)])?).await
    }
}

fn lines(lines: impl IntoIterator<Item = AuditLine>) -> Result<Bytes, Stop> {
    let mut bytes = Vec::new();
    for line in lines {
        serde_json::to_writer(&mut bytes, &line).map_err(|error| {
            tracing::error!(%error, "an audit record could not be written as JSON");
            Stop::Server
        })?;
        bytes.push(b'\n');
    }
    Ok(bytes.into())
}
