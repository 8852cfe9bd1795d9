//! Looking at configurations: as they are, as they were, and what is different.

use std::num::NonZeroUsize;

use fleet_core::api::{ConfigVersionView, ConfigView, Difference, ReportedView, diff};
use fleet_core::cli::failure::Failure;
use fleet_core::cli::output::Output;
use fleet_core::limits::PAGE_ROWS_MAX;
use fleet_core::operator::client::Client;
use fleet_core::operator::configs::{HistoryQuery, Whose};
use fleet_core::operator::exit::Exit;
use fleet_core::untrusted::Untrusted;
use serde_json::{Value, json};

use super::show::{Shown, ShownDifference, ShownLayer, ShownVersion};
use super::whose::{LayerArg, WhoseArgs, current};

/// Versions unless told otherwise.
const COUNT_USUAL: NonZeroUsize = NonZeroUsize::new(100).expect("a hundred is not nothing");

#[derive(Debug, clap::Args)]
pub(super) struct GetArgs {
    #[command(flatten)]
    whose: WhoseArgs,
    /// As it was at this version
    #[arg(long, value_name = "VERSION")]
    version: Option<u64>,
}

#[derive(Debug, clap::Args)]
pub(super) struct HistoryArgs {
    #[command(flatten)]
    whose: WhoseArgs,
    /// Versions at most
    #[arg(long = "limit", default_value_t = COUNT_USUAL, value_name = "N")]
    count_max: NonZeroUsize,
}

#[derive(Debug, clap::Args)]
pub(super) struct DiffArgs {
    /// The device, by id or uid, unless --layer is given; then the versions to begin and to end with.
    /// Without any: what the device has against what it shall have, or a layer's last change; with one,
    /// that one against the current one
    #[arg(value_name = "ID> <A> <B")]
    words: Vec<String>,
    #[command(flatten)]
    layer: LayerArg,
}

/// `fleets config get`.
pub(super) async fn get(
    args: GetArgs,
    client: &Client,
    output: &mut Output<'_>,
) -> Result<Exit, Failure> {
    let whose = args.whose.read();
    match (args.version, &whose) {
        (Some(number), _) => output.one(&ShownVersion(version(&whose, number, client).await?))?,
        (None, Whose::Device(id)) => output.one(&Shown(&client.config_get(id).await?))?,
        (None, Whose::Layer(layer)) => output.one(&ShownLayer(client.layer_get(layer).await?))?,
    }
    Ok(Exit::Done)
}

/// `fleets config history`.
pub(super) async fn history(
    args: HistoryArgs,
    client: &Client,
    output: &mut Output<'_>,
) -> Result<Exit, Failure> {
    let whose = args.whose.read();
    let mut versions: Vec<ShownVersion> = Vec::new();
    loop {
        let limit = (args.count_max.get() - versions.len()).min(PAGE_ROWS_MAX);
        let before = versions.last().map(|last| last.0.version);
        let query = HistoryQuery { before, limit: Some(limit) };
        let found = client.config_history(&whose, &query).await?;
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
    let (whose, words) = args.layer.split(args.words)?;
    let numbers = words.iter().map(|word| {
        word.parse().map_err(|_| Failure::usage(format!("{word:?} is no version's number")))
    });
    let numbers = numbers.collect::<Result<Vec<u64>, _>>()?;
    let current = current(&whose, client).await?;
    let (before, after) = match (numbers.as_slice(), &whose) {
        ([], Whose::Device(id)) => (held(&client.config_get(id).await?)?, current.version),
        ([], Whose::Layer(_)) => (current.version.saturating_sub(1), current.version),
        ([before], _) => (*before, current.version),
        ([before, after], _) => (*before, *after),
        _ => return Err(Failure::usage("at most two versions can be compared")),
    };
    let before_document = document(&whose, before, client).await?;
    let after_document = if after == current.version {
        read(&current.document)?
    } else {
        document(&whose, after, client).await?
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
        Some(ReportedView { holds: Some(holds), .. }) => Ok(*holds),
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
async fn document(whose: &Whose, number: u64, client: &Client) -> Result<Value, Failure> {
    if number == 0 {
        return Ok(json!({}));
    }
    Ok(version(whose, number, client).await?.document)
}

/// A version that must be there.
pub(super) async fn version(
    whose: &Whose,
    number: u64,
    client: &Client,
) -> Result<ConfigVersionView, Failure> {
    let missing = || {
        let name = match whose {
            Whose::Device(id) => Untrusted::from(id.as_str()).to_string(),
            Whose::Layer(layer) => format!("layer {layer}"),
        };
        Failure::new(Exit::NothingFound, format!("{name} has no version {number}"))
            .hint("`fleets config history` lists its versions")
    };
    client.config_version(whose, number).await?.ok_or_else(missing)
}

/// A document as the server writes it.
pub(super) fn read(document: &str) -> Result<Value, Failure> {
    serde_json::from_str(document).map_err(|error| {
        Failure::new(Exit::Failed, format!("the current configuration cannot be read: {error}"))
    })
}
