//! Looking at configurations: as they are, as they were, and what is different.

use std::num::NonZeroUsize;

use fleet_core::api::{ConfigVersionView, ConfigView, Difference, ReportedView, diff};
use fleet_core::cli::failure::Failure;
use fleet_core::cli::output::Output;
use fleet_core::limits::PAGE_ROWS_MAX;
use fleet_core::operator::client::Client;
use fleet_core::operator::configs::HistoryQuery;
use fleet_core::operator::exit::Exit;
use fleet_core::untrusted::Untrusted;
use serde_json::{Value, json};

use super::show::{Shown, ShownDifference, ShownVersion};

/// Versions unless told otherwise.
const COUNT_USUAL: NonZeroUsize = NonZeroUsize::new(100).expect("a hundred is not nothing");

#[derive(Debug, clap::Args)]
pub(super) struct GetArgs {
    /// The device, by id or uid
    id: String,
    /// As it was at this version
    #[arg(long, value_name = "VERSION")]
    version: Option<u64>,
}

#[derive(Debug, clap::Args)]
pub(super) struct HistoryArgs {
    /// The device, by id or uid
    id: String,
    /// Versions at most
    #[arg(long = "limit", default_value_t = COUNT_USUAL, value_name = "N")]
    count_max: NonZeroUsize,
}

#[derive(Debug, clap::Args)]
pub(super) struct DiffArgs {
    /// The device, by id or uid
    id: String,
    /// The version to begin with; without it what the device has, against what it shall have
    #[arg(value_name = "A")]
    before: Option<u64>,
    /// The version to end with; the current one unless given
    #[arg(value_name = "B")]
    after: Option<u64>,
}

/// `fleets config get`.
pub(super) async fn get(
    args: GetArgs,
    client: &Client,
    output: &mut Output<'_>,
) -> Result<Exit, Failure> {
    match args.version {
        Some(number) => output.one(&ShownVersion(version(&args.id, number, client).await?))?,
        None => output.one(&Shown(&client.config_get(&args.id).await?))?,
    }
    Ok(Exit::Done)
}

/// `fleets config history`.
pub(super) async fn history(
    args: HistoryArgs,
    client: &Client,
    output: &mut Output<'_>,
) -> Result<Exit, Failure> {
    let mut versions: Vec<ShownVersion> = Vec::new();
    loop {
        let limit = (args.count_max.get() - versions.len()).min(PAGE_ROWS_MAX);
        let before = versions.last().map(|last| last.0.version);
        let query = HistoryQuery { before, limit: Some(limit) };
        let found = client.config_history(&args.id, &query).await?;
        let is_last = found.len() < limit;
        versions.extend(found.into_iter().map(ShownVersion));
        if is_last || versions.len() >= args.count_max.get() {
            break;
        }
    }
    output.list(&versions)?;
    if versions.is_empty() {
        return Err(Failure::new(Exit::NothingFound, "no versions"));
    }
    Ok(Exit::Done)
}

/// `fleets config diff`.
pub(super) async fn differences(
    args: DiffArgs,
    client: &Client,
    output: &mut Output<'_>,
) -> Result<Exit, Failure> {
    let current = client.config_get(&args.id).await?;
    let before = match args.before {
        Some(before) => before,
        None => held(&current)?,
    };
    let after = args.after.unwrap_or(current.version);
    let before_document = document(&args.id, before, client).await?;
    let after_document = if after == current.version {
        read(&current.config)?
    } else {
        document(&args.id, after, client).await?
    };
    let found: Vec<Difference> = diff(&before_document, &after_document);
    if found.is_empty() {
        output.note(&format!("versions {before} and {after} say the same"))?;
    }
    let found: Vec<_> = found.into_iter().map(ShownDifference).collect();
    if !(found.is_empty() && output.format.is_table()) {
        output.list(&found)?;
    }
    Ok(Exit::Done)
}

/// The version that a device has, as far as it said so.
fn held(current: &ConfigView) -> Result<u64, Failure> {
    match &current.reported {
        None => Ok(0),
        Some(ReportedView { version, error: None, .. }) => Ok(*version),
        Some(ReportedView { version, error: Some(error), .. }) => {
            let id = &current.device_id;
            let text = format!("{id} refused version {version}: {error}");
            Err(Failure::new(Exit::Failed, text)
                .hint("it has an earlier one; name the versions to compare"))
        }
    }
}

/// What a version says; before the first one nothing.
async fn document(id: &str, number: u64, client: &Client) -> Result<Value, Failure> {
    if number == 0 {
        return Ok(json!({}));
    }
    Ok(version(id, number, client).await?.document)
}

/// A version that must be there.
pub(super) async fn version(
    id: &str,
    number: u64,
    client: &Client,
) -> Result<ConfigVersionView, Failure> {
    let missing = || {
        let id = Untrusted::from(id);
        Failure::new(Exit::NothingFound, format!("{id} has no version {number}"))
            .hint("`fleets config history` lists its versions")
    };
    client.config_version(id, number).await?.ok_or_else(missing)
}

/// A document as the server writes it.
pub(super) fn read(document: &str) -> Result<Value, Failure> {
    serde_json::from_str(document).map_err(|error| {
        Failure::new(Exit::Failed, format!("the current configuration cannot be read: {error}"))
    })
}
