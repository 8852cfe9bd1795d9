//! `fleets batch retry`: the same again, to the devices that failed. They are shown first, and nobody
//! does it in passing.

use fleet_core::api::{BatchView, MemberState};
use fleet_core::cli::failure::Failure;
use fleet_core::cli::output::Output;
use fleet_core::cli::prompt;
use fleet_core::id::UidName;
use fleet_core::operator::client::Client;
use fleet_core::operator::exit::Exit;

use super::batch::{ShownMember, members, told, what};
use super::batch_begin::{devices, named};
use super::batch_watch::{self, going_on};
use super::command_run::unsure;
use super::named as found;

/// Which batch.
#[derive(Debug, clap::Args)]
pub(super) struct RetryArgs {
    /// Its id, or the last characters of that, as lists have them
    id: UidName,
    /// Do not wait for what becomes of it
    #[arg(long)]
    no_wait: bool,
    /// Do not ask
    #[arg(long, short = 'y')]
    yes: bool,
    /// Only if so many devices have failed
    #[arg(long, value_name = "N")]
    expect: Option<usize>,
}

/// Begins it again once somebody has agreed.
pub(super) async fn run(
    args: RetryArgs,
    client: &Client,
    output: &mut Output<'_>,
) -> Result<Exit, Failure> {
    let id = found::batch(args.id, client).await?;
    let view = client.batch_get(id).await?;
    let failed = members(client, id, vec![MemberState::Failed, MemberState::Unknown]).await?;
    if let Some(expect) = args.expect.filter(|expect| *expect != failed.len()) {
        let text = format!("{} failed, and {expect} were expected", devices(failed.len()));
        return Err(Failure::new(Exit::Conflict, text).hint("nothing was done"));
    }
    client.may_change()?;
    // What cannot be retried is the server's to say.
    if !args.yes && !failed.is_empty() {
        confirm(&view, &failed, output).await?;
    }
    // Others may fail while somebody reads who has.
    let view =
        client.batch_retry(id, Some(failed.len())).await.map_err(|error| unsure(error, output))?;
    output.set_going_on(going_on(view.id));
    if args.no_wait {
        return told("begun", view, output);
    }
    output.note(&format!("batch {}: {} on {}", view.id, what(&view), devices(view.total)))?;
    batch_watch::watch(view, client, output).await
}

/// Has somebody say how many devices there are.
async fn confirm(
    view: &BatchView,
    failed: &[ShownMember],
    output: &mut Output<'_>,
) -> Result<(), Failure> {
    if !output.terminal.can_ask() {
        let text = format!(
            "there is no terminal to ask on whether {} on {} is retried",
            what(view),
            devices(failed.len())
        );
        return Err(Failure::usage(text).hint("give --yes if you mean it"));
    }
    for line in lines(view, failed) {
        output.note(&line)?;
    }
    let count = failed.len().to_string();
    if prompt::confirm_word("Type the number of devices to go on:", &count, output).await? {
        Ok(())
    } else {
        Err(Failure::new(Exit::Interrupted, "nothing was done"))
    }
}

/// What would be, for a person.
fn lines(view: &BatchView, failed: &[ShownMember]) -> Vec<String> {
    let ids: Vec<_> = failed.iter().map(|member| member.0.device_id.to_string()).collect();
    vec![
        format!("{} again on {}", what(view), devices(failed.len())),
        format!("  devices:  {}", named(&ids)),
        format!("  of batch: {}", view.id),
    ]
}

#[cfg(test)]
mod tests {
    use fleet_core::api::{BatchMember, BatchState};

    use super::super::batch::testing::view;
    use super::*;

    #[test]
    fn what_is_done_again_is_shown_with_its_devices() {
        let view = view(BatchState::Done, &[(MemberState::Failed, 9)]);
        let member = |number: usize| {
            ShownMember(BatchMember {
                device_id: format!("d{number}").parse().unwrap(),
                uid: view.id,
                state: MemberState::Failed,
                why: "no".into(),
                state_at: view.state_at,
                command_id: None,
                config_version: None,
            })
        };
        let failed: Vec<_> = (0..9).map(member).collect();
        assert_eq!(
            lines(&view, &failed),
            [
                "restart again on 9 devices".to_owned(),
                "  devices:  d0, d1, d2, d3, d4, d5, d6, d7, …".to_owned(),
                format!("  of batch: {}", view.id),
            ]
        );
    }
}
