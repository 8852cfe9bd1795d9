//! The audit record: what was asked for, before and after it was done. It is only ever added to,
//! and its oldest part given up.

use std::sync::Arc;

use async_trait::async_trait;
use fleet_core::api::{AuditAction, AuditActor, AuditEntry, AuditHash, AuditPoint, AuditRecord};
use fleet_core::audit::PointKind;
use fleet_core::time::Timestamp;

use super::StoreError;

/// What was asked for. Numbers count from 1 without gaps, and each record holds the hash of the one
/// before; damaged ones are left out, and health says so.
#[async_trait]
pub trait AuditStore: Send + Sync {
    /// Adds records under the next numbers, in their order and all in one commit, and returns the
    /// numbers. An outcome whose intent has one already, or is gone, is left out and gets 0. Beyond
    /// [`AUDIT_RECORDS_MAX`](fleet_core::limits::AUDIT_RECORDS_MAX) the oldest give way in the same
    /// commit, in which the place where the chain now begins is signed.
    async fn audit_append(
        &self,
        entries: Vec<AuditEntry>,
        sealer: Sealer,
    ) -> Result<Vec<u64>, StoreError>;

    /// The oldest intents that have no outcome.
    async fn audit_unfinished(&self, limit: usize) -> Result<Vec<AuditRecord>, StoreError>;

    /// Records that are asked for, newest first.
    async fn audit_list(&self, query: AuditQuery) -> Result<Vec<AuditRecord>, StoreError>;

    /// Records after a number, oldest first, and what comes before them. If older ones were removed,
    /// it begins with the first that is left.
    async fn audit_chain(&self, after: u64, limit: usize) -> Result<AuditStretch, StoreError>;

    /// Signs the newest record, unless that was signed already, and keeps the signature with the
    /// last few.
    async fn audit_seal(&self, sealer: Sealer) -> Result<AuditPoint, StoreError>;

    /// The places that were signed last, oldest first.
    async fn audit_signed(&self) -> Result<Vec<AuditPoint>, StoreError>;

    /// Removes records from before a time, and signs where the chain now begins. Returns how many.
    async fn audit_purge(&self, before: Timestamp, sealer: Sealer) -> Result<u64, StoreError>;
}

/// Signs a place in the chain. Runs on the writer's thread, so it only computes.
pub type Sealer = Arc<dyn Fn(PointKind, u64, AuditHash) -> AuditPoint + Send + Sync>;

/// A part of the chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditStretch {
    /// The number of the record before the first; 0 if there is none.
    pub after: u64,
    /// Its hash; zeros if there is none.
    pub after_hash: AuditHash,
    /// That place, signed, if the records up to it were removed.
    pub start: Option<AuditPoint>,
    /// The records.
    pub records: Vec<AuditRecord>,
}

/// Which records to look for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditQuery {
    /// Of whom: what [`AuditActor::is`] takes.
    pub actor: Option<String>,
    /// Of these actions, or whose first part this is.
    pub action: Option<String>,
    /// With one of these among the targets.
    pub targets: Vec<String>,
    /// Not before.
    pub since: Timestamp,
    /// Not after.
    pub until: Timestamp,
    /// With a number below this one.
    pub before: u64,
    /// At most so many; the caller bounds it, since that many are held in memory.
    pub limit: usize,
}

impl AuditQuery {
    /// Whether a record is asked for, whatever its number.
    pub fn wants(&self, entry: &AuditEntry) -> bool {
        let is_of = |actor: &AuditActor| self.actor.as_ref().is_none_or(|text| actor.is(text));
        let action = entry.action.raw();
        let is_this = |text: &String| AuditAction::names(text, action);
        let has_target = entry.targets.iter().any(|target| {
            let raw = target.raw();
            self.targets.iter().any(|wanted| wanted == raw)
        });
        (self.since..=self.until).contains(&entry.timestamp)
            && is_of(&entry.actor)
            && self.action.as_ref().is_none_or(is_this)
            && (self.targets.is_empty() || has_target)
    }
}
