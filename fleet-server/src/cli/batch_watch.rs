//! Waiting for a batch: a line for each device as it ends, and how it went at the end.
//!
//! Whoever stops waiting is told how to find the batch again: it goes on by itself.

use std::collections::HashSet;
use std::time::Duration;

use fleet_core::api::{BatchMember, BatchState, BatchView, MemberState};
use fleet_core::cli::failure::Failure;
use fleet_core::cli::output::Output;
use fleet_core::id::Uid;
use fleet_core::operator::client::Client;
use fleet_core::operator::exit::Exit;
use tokio::time::{Instant, sleep};

use super::batch::{counted, members, tell_whole};
use super::command_run::unsure;

/// Between two looks.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// Between two lines that say how far it is, where no line can be written over.
const SUMMARY_INTERVAL: Duration = Duration::from_secs(5);
/// Looks that find nobody at it before it is clear that all who are left are away. A device that is
/// connected begins within one.
const QUIET_LOOKS: u32 = 3;

/// What goes on when somebody stops waiting.
pub(super) fn going_on(id: Uid) -> String {
    format!(
        "the batch goes on: `fleets batch show {id}`; `fleets batch cancel {id}` calls off what \
         has not begun"
    )
}

/// Waits until nothing is to come, or nothing before a person or a device comes.
pub(super) async fn watch(
    mut view: BatchView,
    client: &Client,
    output: &mut Output<'_>,
) -> Result<Exit, Failure> {
    let id = view.id;
    let mut told = Told::default();
    let (mut quiet, mut spoken) = (0, Instant::now());
    loop {
        told.tell(&view, client, output).await?;
        let waiting = count(&view, MemberState::Waiting);
        let running = count(&view, MemberState::Running);
        quiet = if running == 0 && view.state == BatchState::Running { quiet + 1 } else { 0 };
        let is_over = match view.state {
            BatchState::Running => waiting > 0 && quiet >= QUIET_LOOKS,
            // What is under way is waited for, and what is about to be called off.
            BatchState::Paused => running == 0,
            _ => running + waiting == 0,
        };
        if is_over {
            break;
        }
        let summary = counted(&view);
        output.progress(&summary)?;
        if !output.terminal.stderr && spoken.elapsed() >= SUMMARY_INTERVAL {
            spoken = Instant::now();
            output.note(&summary)?;
        }
        sleep(LOOK_INTERVAL).await;
        view = client.batch_get(id).await.map_err(|error| unsure(error, output))?;
    }
    let all = members(client, id, Vec::new()).await.map_err(|error| unsure(error, output))?;
    let (note, exit) = end(&view);
    tell_whole(view, all, output)?;
    output.note(&note)?;
    Ok(exit)
}

/// Devices that were told of.
#[derive(Default)]
struct Told {
    uids: HashSet<Uid>,
    /// How many were over at that time.
    over: usize,
}

impl Told {
    /// Tells of those that have come to an end since.
    async fn tell(
        &mut self,
        view: &BatchView,
        client: &Client,
        output: &mut Output<'_>,
    ) -> Result<(), Failure> {
        let over: usize =
            view.counts.iter().filter(|(state, _)| state.is_over()).map(|(_, count)| count).sum();
        if over == self.over {
            return Ok(());
        }
        self.over = over;
        let states = MemberState::ALL.iter().copied().filter(|state| state.is_over()).collect();
        let found =
            members(client, view.id, states).await.map_err(|error| unsure(error, output))?;
        for member in found {
            if self.uids.insert(member.0.uid) {
                output.note(&line(&member.0))?;
            }
        }
        Ok(())
    }
}

fn line(member: &BatchMember) -> String {
    let mark = match member.state {
        MemberState::Succeeded => "✅",
        MemberState::Failed | MemberState::Unknown => "✗",
        _ => "–",
    };
    format!("{mark} {}: {}: {}", member.device_id, member.state.word(), member.why)
}

/// How it went, and what that means for whoever called.
fn end(view: &BatchView) -> (String, Exit) {
    let id = view.id;
    let left = count(view, MemberState::Waiting);
    let succeeded = count(view, MemberState::Succeeded);
    let failures = count(view, MemberState::Failed) + count(view, MemberState::Unknown);
    // Whoever was left out is no reason to complain.
    let total = view.total - count(view, MemberState::Skipped).min(view.total);
    match view.state {
        BatchState::Running if left > 0 => {
            let are = if left == 1 { "device is" } else { "devices are" };
            let text = format!(
                "⏳ {left} {are} not connected, and waited for until {}: `fleets batch show {id}`",
                view.expires_at
            );
            (text, Exit::NotDone)
        }
        BatchState::Paused => {
            let text = format!(
                "⏸ paused: {}; `fleets batch continue {id}` or `fleets batch cancel {id}`",
                view.why
            );
            (text, Exit::NotDone)
        }
        _ if succeeded == total && total > 0 => {
            (format!("✅ batch {id}: {}", counted(view)), Exit::Done)
        }
        _ => {
            let retry = match failures {
                0 => String::new(),
                _ => format!("; `fleets batch retry {id}` tries those that failed again"),
            };
            let exit = if failures == total && total > 0 { Exit::Failed } else { Exit::NotDone };
            (format!("✗ batch {id}: {}{retry}", counted(view)), exit)
        }
    }
}

fn count(view: &BatchView, state: MemberState) -> usize {
    view.counts.get(&state).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use BatchState::{Cancelled, Done, Paused, Running};
    use MemberState::{Expired, Failed, Skipped, Succeeded, Unknown, Waiting};

    use super::super::batch::testing::view;
    use super::*;

    #[test]
    fn exit_codes_say_how_it_went() {
        for (state, counts, exit, told) in [
            (Done, &[(Succeeded, 3)][..], Exit::Done, "✅ batch"),
            (Done, &[(Succeeded, 2), (Skipped, 1)], Exit::Done, "✅ batch"),
            (Done, &[(Succeeded, 2), (Failed, 1)], Exit::NotDone, "fleets batch retry"),
            (Done, &[(Succeeded, 2), (Expired, 1)], Exit::NotDone, "2 succeeded, 1 expired"),
            (Done, &[(Failed, 2), (Unknown, 1)], Exit::Failed, "fleets batch retry"),
            (Done, &[(Skipped, 3)], Exit::NotDone, "3 skipped"),
            (Paused, &[(Failed, 1), (Waiting, 1)], Exit::NotDone, "fleets batch continue"),
            (
                Running,
                &[(Succeeded, 1), (Waiting, 2)],
                Exit::NotDone,
                "2 devices are not connected",
            ),
            (
                Cancelled,
                &[(Succeeded, 1), (MemberState::Cancelled, 2)],
                Exit::NotDone,
                "2 cancelled",
            ),
        ] {
            let (note, found) = end(&view(state, counts));
            assert_eq!(found, exit, "{note}");
            assert!(note.contains(told), "{told}: {note}");
        }
    }
}
