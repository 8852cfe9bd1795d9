//! `fleets devices`: the fleet's devices, problems first; their names and notes; and an operator's
//! word on those that wait.

use std::collections::BTreeSet;
use std::process::ExitCode;

use clap::Subcommand;
use fleet_core::api::{DeviceUpdate, TagUpdate, Verdict, is_tag};
use fleet_core::filter::{self, Subject as _};
use fleet_core::operator::client::Client;
use fleet_core::operator::exit::Exit;
use serde_json::{Map, Value};

use super::deleted;
use super::device_list::{ListArgs, list};
use super::device_view::Details;
use super::preauths::{self, PreauthorizeArgs, PreauthorizedArgs};
use fleet_core::cli::args::Assignment;
use fleet_core::cli::choice::ServerChoice;
use fleet_core::cli::each::for_each;
use fleet_core::cli::failure::Failure;
use fleet_core::cli::listed::FormatArgs;
use fleet_core::cli::output::Output;
use fleet_core::cli::session::{self, TimeLimit};
use fleet_core::limits::TAG_BYTES_MAX;

/// What to do with which devices.
#[derive(Debug, clap::Args)]
pub(super) struct DevicesArgs {
    #[command(subcommand)]
    action: Option<Action>,
    #[command(flatten)]
    list: ListArgs,
    #[command(flatten)]
    server: ServerChoice,
    #[command(flatten)]
    limit: TimeLimit,
    #[command(flatten)]
    format: FormatArgs,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List the devices (also without a word)
    List(ListArgs),
    /// Show one device
    Get {
        /// Its id or uid
        id: String,
    },
    /// Name a device, or note something about it
    Set {
        /// Its id or uid
        id: String,
        /// key=value, key:=JSON, or key- to take it away
        #[arg(value_name = "KEY=VALUE", required_unless_present = "name")]
        metadata: Vec<Assignment>,
        /// A longer name; an empty one takes it away
        #[arg(long)]
        name: Option<String>,
    },
    /// Give a device tags and take tags from it; options go before the tags
    Tag {
        /// Its id or uid
        id: String,
        /// +TAG to give it, -TAG to take it away
        #[arg(required = true, allow_hyphen_values = true, value_name = "+TAG|-TAG")]
        tags: Vec<String>,
    },
    /// Take devices out of the fleet; for 30 days they can be had back
    Delete {
        /// Their ids or uids
        #[arg(required = true, value_name = "ID")]
        ids: Vec<String>,
        /// Do not ask
        #[arg(long, short = 'y')]
        yes: bool,
    },
    /// Have deleted devices back, with all that was kept of them
    Restore {
        /// Their ids or uids, as `list --deleted` shows them
        #[arg(required = true, value_name = "ID")]
        ids: Vec<String>,
    },
    /// Let devices in before they have come, by the fingerprints of their keys
    Preauthorize(PreauthorizeArgs),
    /// List the devices that are let in when they come, or take that back
    Preauthorized(PreauthorizedArgs),
    /// Let pending devices in
    Accept(VerdictArgs),
    /// Turn pending devices away
    Reject(VerdictArgs),
    /// Refuse devices for good
    Revoke(VerdictArgs),
}

#[derive(Debug, clap::Args)]
struct VerdictArgs {
    /// Their ids or uids
    #[arg(required = true, value_name = "ID")]
    ids: Vec<String>,
}

/// Runs the command.
pub(super) fn run(args: DevicesArgs) -> ExitCode {
    let (format, limit) = (args.format, args.limit);
    session::run(format, Some(limit), async |output| devices(args, output).await)
}

async fn devices(args: DevicesArgs, output: &mut Output<'_>) -> Result<Exit, Failure> {
    let DevicesArgs { action, list: list_args, server, .. } = args;
    let action = match action {
        None => Action::List(list_args),
        Some(Action::List(args)) => Action::List(args.or(list_args)),
        Some(action) => action,
    };
    if let Action::List(args) = &action {
        args.check()?;
    }
    let client = server.client(output)?;
    let reason = client.reason().unwrap_or_default().to_owned();
    match action {
        Action::List(args) => list(&client, &args, output).await,
        Action::Get { id } => get(&client, &id, output).await,
        Action::Set { id, metadata, name } => set(&client, &id, metadata, name, output).await,
        Action::Tag { id, tags } => tag(&client, &id, &tags, output).await,
        Action::Delete { ids, yes } => deleted::delete(&client, &ids, yes, output).await,
        Action::Restore { ids } => deleted::restore(&client, &ids, output).await,
        Action::Preauthorize(args) => preauths::create(args, &client, output).await,
        Action::Preauthorized(args) => preauths::list(args, &client, output).await,
        Action::Accept(VerdictArgs { ids }) => {
            let verdict = Verdict { reason };
            let accept = async |id: &str| client.device_accept(id, &verdict).await;
            for_each(&ids, "accepted", accept, output).await
        }
        Action::Reject(VerdictArgs { ids }) => {
            let verdict = Verdict { reason };
            let reject = async |id: &str| client.device_reject(id, &verdict).await;
            for_each(&ids, "rejected", reject, output).await
        }
        Action::Revoke(VerdictArgs { ids }) => {
            let verdict = Verdict { reason };
            let revoke = async |id: &str| client.device_revoke(id, &verdict).await;
            for_each(&ids, "revoked", revoke, output).await
        }
    }
}

async fn get(client: &Client, id: &str, output: &mut Output<'_>) -> Result<Exit, Failure> {
    output.one(&Details(client.device_get(id).await?))?;
    Ok(Exit::Done)
}

async fn set(
    client: &Client,
    id: &str,
    metadata: Vec<Assignment>,
    name: Option<String>,
    output: &mut Output<'_>,
) -> Result<Exit, Failure> {
    let entries: Map<String, Value> = metadata
        .into_iter()
        .map(|Assignment { key, value }| (key, value.unwrap_or(Value::Null)))
        .collect();
    let metadata = (!entries.is_empty()).then_some(Value::Object(entries));
    let update = DeviceUpdate { name, metadata, tags: None };
    let ids = [id.to_owned()];
    let update = async |id: &str| client.device_update(id, &update).await;
    for_each(&ids, "updated", update, output).await
}

async fn tag(
    client: &Client,
    id: &str,
    words: &[String],
    output: &mut Output<'_>,
) -> Result<Exit, Failure> {
    let tags = read_tags(words)?;
    let device = client.device_get(id).await?;
    let has: BTreeSet<&str> = filter::tags(device.metadata("tags")).collect();
    let is_new = tags.add.iter().any(|tag| !has.contains(tag.as_str()))
        || tags.remove.iter().any(|tag| has.contains(tag.as_str()));
    let done = if is_new { "updated" } else { "unchanged" };
    let update = DeviceUpdate { tags: Some(tags), ..DeviceUpdate::default() };
    let ids = [id.to_owned()];
    let update = async |id: &str| client.device_update(id, &update).await;
    for_each(&ids, done, update, output).await
}

/// What `+canary -old` says.
fn read_tags(words: &[String]) -> Result<TagUpdate, Failure> {
    let mut update = TagUpdate::default();
    for word in words {
        if word.starts_with("--") {
            return Err(Failure::usage(format!("{word} is no tag"))
                .hint("options go before the device's id"));
        }
        let (list, tag) = match (word.strip_prefix('+'), word.strip_prefix('-')) {
            (Some(tag), _) => (&mut update.add, tag),
            (None, Some(tag)) => (&mut update.remove, tag),
            (None, None) => {
                return Err(Failure::usage(format!("{word:?} must be +TAG or -TAG")));
            }
        };
        if !is_tag(tag) {
            let text = format!(
                "{word:?} must have one word behind its sign, without commas and of {TAG_BYTES_MAX} bytes at most"
            );
            return Err(Failure::usage(text));
        }
        list.push(tag.to_owned());
    }
    Ok(update)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_come_with_a_sign() {
        let read = |words: &[&str]| {
            let words: Vec<_> = words.iter().map(|&word| word.to_owned()).collect();
            read_tags(&words).map_err(|failure| failure.message().to_owned())
        };
        let update = read(&["+canary", "-old", "+b"]).unwrap();
        assert_eq!(
            (update.add, update.remove),
            (vec!["canary".into(), "b".into()], vec!["old".into()])
        );
        for bad in ["canary", "+", "-", "+a,b", "--json"] {
            assert!(read(&["+a", bad]).is_err(), "{bad}");
        }
    }
}
