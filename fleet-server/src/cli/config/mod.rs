//! `fleets config`: what a device shall do, did before, and says it does; and the layers that it is
//! made of.

mod change;
mod document;
mod layer;
mod look;
mod preview;
mod show;
mod whose;

use std::process::ExitCode;

use clap::Subcommand;
use fleet_core::cli::choice::ServerChoice;
use fleet_core::cli::failure::Failure;
use fleet_core::cli::listed::FormatArgs;
use fleet_core::cli::output::Output;
use fleet_core::cli::session::{self, TimeLimit};
use fleet_core::operator::exit::Exit;

use self::change::{RollbackArgs, SetArgs, UnsetArgs};
pub(super) use self::document::read as read_document;
use self::look::{DiffArgs, GetArgs, HistoryArgs};

/// What to do with whose configuration.
#[derive(Debug, clap::Args)]
pub(super) struct ConfigArgs {
    #[command(subcommand)]
    action: Action,
    #[command(flatten)]
    server: ServerChoice,
    #[command(flatten)]
    limit: TimeLimit,
    #[command(flatten)]
    format: FormatArgs,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Show a device's configuration, wanted and reported, or as it was at a version
    Get(GetArgs),
    /// Change a device's configuration, or that of a layer
    Set(SetArgs),
    /// Take something away, so that what the layer below says holds again
    Unset(UnsetArgs),
    /// List what holds for the fleet and for tags
    Layers,
    /// List the versions that a device's configuration had, newest first
    History(HistoryArgs),
    /// Show what differs between what a device has and shall have, or between two versions
    Diff(DiffArgs),
    /// Have a device be as an earlier version says; that is a new version
    Rollback(RollbackArgs),
}

/// Runs the command.
pub(super) fn run(args: ConfigArgs) -> ExitCode {
    let (format, limit) = (args.format, args.limit);
    session::run(format, Some(limit), async |output| config(args, output).await)
}

async fn config(args: ConfigArgs, output: &mut Output<'_>) -> Result<Exit, Failure> {
    let client = args.server.client(output)?;
    match args.action {
        Action::Get(args) => look::get(args, &client, output).await,
        Action::Set(args) => change::set(args, &client, output).await,
        Action::Unset(args) => change::unset(args, &client, output).await,
        Action::Layers => layer::list(&client, output).await,
        Action::History(args) => look::history(args, &client, output).await,
        Action::Diff(args) => look::differences(args, &client, output).await,
        Action::Rollback(args) => change::rollback(args, &client, output).await,
    }
}
