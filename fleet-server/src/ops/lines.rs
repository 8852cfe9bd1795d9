//! Telemetry in Influx line protocol: what is good is stored in one commit, and of what is not the
//! sender is told which line, why and how many.

use bytes::Bytes;

use super::OpsError;
use super::drafts::{Drafts, Reading, Refused};
use super::keys::Principal;
use super::telemetry::{Reports, Telemetry};
use crate::influx::Precision;
use crate::meters::Door;

/// Bodies up to this many bytes are read at once; longer ones would hold up others.
pub(crate) const AT_ONCE_BYTES_MAX: usize = 64 * 1024;

/// What became of a request's lines.
#[derive(Debug, Default)]
pub(crate) struct Written {
    /// Lines that are on the disk.
    pub(crate) stored: usize,
    pub(crate) refused: Refused,
    /// Whether nothing is wrong with the lines but whom they are about.
    pub(crate) is_forbidden: bool,
    /// Fields that are text, which is not kept.
    pub(crate) strings: u64,
}

impl Telemetry {
    /// Stores what lines say. When this returns, it is on the disk.
    pub(crate) async fn write(
        &self,
        body: Bytes,
        precision: Precision,
        poster: &Principal,
    ) -> Result<Written, OpsError> {
        let is_own = matches!(poster, Principal::Device { .. });
        let reading = Reading { precision, now: self.world.now(), is_own };
        let drafts = if body.len() <= AT_ONCE_BYTES_MAX {
            Drafts::read(&body, reading)
        } else {
            let read = tokio::task::spawn_blocking(move || Drafts::read(&body, reading));
            read.await.unwrap_or_else(|_| Err(OpsError::Defect))
        }?;
        let Drafts { whose, list, mut refused, strings, lines, .. } = drafts;
        let are_good = refused.lines == 0;
        let subjects = self.senders.subjects(whose, poster).await?;
        let mut reports = Reports::default();
        for draft in list {
            match &subjects[draft.device] {
                Ok(subject) => reports.add(*subject, draft.at, draft.samples),
                Err(reason) => refused.note(draft.line, draft.lines, reason),
            }
        }
        let stored = lines - refused.lines;
        self.meters.left_out(refused.lines, strings);
        self.store(reports, Door::Influx).await?;
        Ok(Written { stored, is_forbidden: are_good && stored == 0, refused, strings })
    }
}
