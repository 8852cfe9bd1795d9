//! `fleets health`: whether the server is well, in a word and an exit code, for whatever has to know
//! that and nothing else.

use std::process::ExitCode;

use fleet_core::cli::choice::ServerChoice;
use fleet_core::cli::failure::Failure;
use fleet_core::cli::listed::{FormatArgs, Listed, Reader};
use fleet_core::cli::output::Output;
use fleet_core::cli::session;
use fleet_core::cli::table::{Cell, Column};
use fleet_core::doctor::reach::{self, Wanted};
use fleet_core::doctor::{Check, WAY, in_time};
use fleet_core::net::tls::Pin;
use fleet_core::operator::exit::Exit;
use serde::Serialize;

/// Whom to ask.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Exits with 0 if the server is well, 1 if it is not, 7 if it cannot be reached or \
    is another one. Needs no key; where there is one, its server is the one that must answer."
)]
pub(super) struct HealthArgs {
    #[command(flatten)]
    server: ServerChoice,
    #[command(flatten)]
    format: FormatArgs,
}

/// Runs the command.
pub(super) fn run(args: HealthArgs) -> ExitCode {
    session::run(args.format, None, async |output| health(&args.server, output).await)
}

async fn health(choice: &ServerChoice, output: &mut Output<'_>) -> Result<Exit, Failure> {
    let chosen = choice.settle()?;
    let key = chosen.key().ok().and_then(|found| found.key.server());
    let wanted = Wanted {
        url: &chosen.server,
        pin: key.map_or(Pin::Unknown, Pin::Server),
        authorities: chosen.authorities(),
        other_fix: String::new(),
    };
    let steps = Box::pin(in_time(WAY, reach::HEALTH, reach::steps(&wanted))).await;
    let counts =
        |check: &&Check| reach::STEPS.contains(&check.check) || check.check == reach::HEALTH;
    let problem = steps.into_iter().find(|check| counts(&check) && check.has_failed());
    let Some(problem) = problem else {
        output.one(&Shown { status: "ok", reason: None })?;
        return Ok(Exit::Done);
    };
    let (status, exit) = if problem.check == reach::HEALTH {
        ("not well", Exit::Failed)
    } else {
        ("unreachable", Exit::Unreachable)
    };
    output.one(&Shown { status, reason: Some(problem.detail) })?;
    Ok(exit)
}

#[derive(Serialize)]
struct Shown {
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

impl Listed for Shown {
    const COLUMNS: &'static [Column] = &[Column::new("STATUS", 11), Column::new("REASON", 40)];

    fn cells(&self, _reader: Reader) -> Vec<Cell> {
        vec![Cell::new(self.status), Cell::maybe(self.reason.as_ref())]
    }

    fn name(&self) -> String {
        self.status.to_owned()
    }
}
