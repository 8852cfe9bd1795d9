//! Batches as they are shown.

use fleet_core::api::{BatchMember, BatchView, MemberState};
use fleet_core::untrusted::{Untrusted, cut};

use crate::store::{Action, BatchRecord, MemberRecord};

/// Characters of a patch in an event.
const PATCH_CHARS_MAX: usize = 200;

pub(super) fn view(batch: BatchRecord) -> BatchView {
    let (command, args, config) = match batch.action {
        Action::Command(command) => {
            let args = command.args().into_iter().map(Untrusted::new).collect();
            (Some(Untrusted::from(command.word())), args, None)
        }
        // It was checked when it came in.
        Action::Config(patch) => (None, Vec::new(), serde_json::from_str(&patch).ok()),
    };
    let counts = MemberState::ALL.iter().map(|state| (*state, batch.counts.get(*state) as usize));
    BatchView {
        id: batch.id,
        state: batch.state,
        why: Untrusted::new(batch.why),
        state_at: batch.state_at,
        command,
        args,
        config,
        filter: batch.filter.map(Untrusted::new),
        total: batch.total as usize,
        counts: counts.filter(|(_, count)| *count > 0).collect(),
        window: batch.window as usize,
        canary: batch.canary as usize,
        max_fail: batch.max_fail as usize,
        timeout_secs: batch.timeout.as_secs(),
        offline: batch.offline,
        expires_at: batch.expires_at,
        author: Untrusted::new(batch.author),
        created_at: batch.created_at,
        reason: batch.reason.map(Untrusted::new),
        retry_of: batch.retry_of,
    }
}

/// A member, with the reason of this moment in place of the stored one if there is one.
pub(super) fn member_view(member: MemberRecord, why: Option<String>) -> BatchMember {
    BatchMember {
        device_id: member.device_id,
        uid: member.device,
        state: member.state,
        why: Untrusted::new(why.unwrap_or(member.why)),
        state_at: member.state_at,
        command_id: member.command,
        config_version: member.version,
    }
}

/// A batch in an event: its number first, since the words may be many.
pub(super) fn words(batch: &BatchRecord) -> String {
    let what = match &batch.action {
        Action::Command(command) => command.to_string(),
        Action::Config(patch) => format!("configuration {patch}"),
    };
    format!("{} {}", batch.id, cut(what, PATCH_CHARS_MAX))
}

/// How many devices have come how far.
pub(super) fn counted(batch: &BatchRecord) -> String {
    let counts = MemberState::ALL.iter().map(|state| (batch.counts.get(*state), state.word()));
    let counts: Vec<_> = counts
        .filter(|(count, _)| *count > 0)
        .map(|(count, word)| format!("{count} {word}"))
        .collect();
    let devices = if batch.total == 1 { "device" } else { "devices" };
    format!("of {} {devices} {}", batch.total, counts.join(", "))
}
