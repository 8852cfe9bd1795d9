//! Changing a device's configuration, and going back to what it was.
//!
//! A change is merged here and sent with the version it was made from, so that of two people who
//! change the same device at once, one is told.

use std::time::Duration;

use fleet_core::api::{ConfigDocument, ConfigUpdate, ConfigView, diff};
use fleet_core::cli::args::{self, Assignment};
use fleet_core::cli::failure::Failure;
use fleet_core::cli::output::Output;
use fleet_core::cli::prompt;
use fleet_core::operator::client::{Client, ClientError};
use fleet_core::operator::exit::Exit;
use tokio::time::{Instant, sleep};

use super::document::{merged, read};
use super::look;
use super::show::Shown;

/// Between looks at whether the device has reported.
const LOOK_INTERVAL: Duration = Duration::from_millis(250);

#[derive(Debug, clap::Args)]
pub(super) struct SetArgs {
    /// The device, by id or uid
    id: String,
    /// Such as telemetry.interval=30s, key:=JSON, or key- to take it away
    #[arg(value_name = "KEY=VALUE", required_unless_present = "config", conflicts_with = "config")]
    changes: Vec<Assignment>,
    /// The whole configuration: JSON itself, or a YAML or JSON file, - for standard input
    #[arg(long, alias = "file", value_name = "FILE|-|JSON")]
    config: Option<String>,
    #[command(flatten)]
    how: How,
}

#[derive(Debug, clap::Args)]
pub(super) struct RollbackArgs {
    /// The device, by id or uid
    id: String,
    /// The version whose document it shall have again, as a new version
    #[arg(long, value_name = "VERSION")]
    to: u64,
    /// Do not ask
    #[arg(long, short = 'y')]
    yes: bool,
    #[command(flatten)]
    how: How,
}

/// What every change takes.
#[derive(Debug, clap::Args)]
struct How {
    /// Only if this is still the current version
    #[arg(long, alias = "expect", value_name = "VERSION")]
    expected_version: Option<u64>,
    /// Why, for the record
    #[arg(long, value_name = "TEXT")]
    comment: Option<String>,
    /// How long to wait for the device to say that it has it
    #[arg(long, default_value = "10s", value_parser = args::duration, value_name = "DURATION")]
    wait: Duration,
    /// Do not wait for the device
    #[arg(long, conflicts_with = "wait")]
    no_wait: bool,
}

/// `fleets config set`.
pub(super) async fn set(
    args: SetArgs,
    client: &Client,
    output: &mut Output<'_>,
) -> Result<Exit, Failure> {
    let current = client.config_get(&args.id).await?;
    let document = match &args.config {
        Some(text) => read(text)?,
        None => merged(&current.config, args.changes)?,
    };
    let document = ConfigDocument::from_json(&document)
        .map_err(|error| Failure::usage(error.to_string()))?
        .to_json();
    let update = ConfigUpdate { config: Some(document), ..ConfigUpdate::default() };
    change(&args.id, update, current.version, args.how, client, output).await
}

/// `fleets config rollback`.
pub(super) async fn rollback(
    args: RollbackArgs,
    client: &Client,
    output: &mut Output<'_>,
) -> Result<Exit, Failure> {
    let RollbackArgs { id, to, yes, how } = args;
    let current = client.config_get(&id).await?;
    let earlier = look::version(&id, to, client).await?;
    let differences = diff(&look::read(&current.config)?, &earlier.document);
    if differences.is_empty() {
        let (id, version) = (&current.device_id, current.version);
        output.line(&format!("{id} is as version {to} says already, at version {version}"))?;
        return Ok(Exit::Done);
    }
    if !yes {
        if !output.terminal.can_ask() {
            return Err(Failure::usage("there is no terminal to ask on whether to roll back")
                .hint("give --yes if you mean it"));
        }
        client.may_change()?;
        for difference in &differences {
            output.note(&format!("  {difference}"))?;
        }
        let question = format!("Have {} be as version {to} says?", current.device_id);
        if !prompt::confirm(&question, output).await? {
            return Err(Failure::new(Exit::Interrupted, "nothing was changed"));
        }
    }
    let update = ConfigUpdate { rollback_to: Some(to), ..ConfigUpdate::default() };
    change(&id, update, current.version, how, client, output).await
}

/// Sends a change of what was seen, and waits for the device's word.
async fn change(
    id: &str,
    update: ConfigUpdate,
    seen: u64,
    how: How,
    client: &Client,
    output: &mut Output<'_>,
) -> Result<Exit, Failure> {
    let update = ConfigUpdate { comment: how.comment, ..update };
    let expect = how.expected_version.unwrap_or(seen);
    let stored = client.config_set(id, &update, Some(expect)).await.map_err(conflict)?;
    let wait = if how.no_wait { Duration::ZERO } else { how.wait };
    let last = watch(client, id, stored, wait).await?;
    tell(&last, how.no_wait, output)
}

/// Waits until the device has reported this version or a later one; what was seen last.
async fn watch(
    client: &Client,
    id: &str,
    stored: ConfigView,
    wait: Duration,
) -> Result<ConfigView, ClientError> {
    let deadline = Instant::now() + wait;
    let mut last = stored;
    let version = last.version;
    while !has_reported(&last, version) && Instant::now() + LOOK_INTERVAL <= deadline {
        sleep(LOOK_INTERVAL).await;
        let status = last.status.take();
        last = ConfigView { status, ..client.config_get(id).await? };
    }
    Ok(last)
}

fn has_reported(view: &ConfigView, version: u64) -> bool {
    view.reported.as_ref().is_some_and(|reported| reported.version >= version)
}

fn tell(view: &ConfigView, no_wait: bool, output: &mut Output<'_>) -> Result<Exit, Failure> {
    let reported = has_reported(view, view.version);
    let error = view.reported.as_ref().filter(|_| reported).and_then(|it| it.error.as_ref());
    if output.format.is_table() {
        let (id, version) = (&view.device_id, view.version);
        output.line(&match error {
            Some(error) => format!("✗ {id} refused version {version}: {error}"),
            None if reported => format!("✅ {id} has version {version}"),
            None => format!("⏳ version {version} is stored; {id} has not confirmed it yet"),
        })?;
        if let Some(not_applied) = &view.not_applied {
            output.note(not_applied)?;
        }
    } else {
        output.one(&Shown(view))?;
    }
    let done = error.is_none() && (reported || no_wait);
    Ok(if done { Exit::Done } else { Exit::NotDone })
}

fn conflict(error: ClientError) -> Failure {
    let current = match &error {
        ClientError::Refused { current_version, .. } => *current_version,
        _ => None,
    };
    let failure = Failure::from(error);
    match current {
        Some(version) if failure.exit() == Exit::Conflict => failure.hint(format!(
            "somebody changed it: it is at version {version} now; look with `fleets config get`"
        )),
        _ => failure,
    }
}

#[cfg(test)]
mod tests {
    use fleet_core::cli::listed::Format;
    use fleet_core::cli::output::Terminal;
    use fleet_core::cli::testing::{HOSTILE, assert_harmless, written};
    use serde_json::json;

    use super::*;

    fn view(version: u64, reported: Option<(u64, Option<&str>)>) -> ConfigView {
        let reported = reported.map(|(version, error)| {
            json!({"version": version, "hash": "", "applied_at": "2024-01-15T10:30:00Z",
                "error": error})
        });
        serde_json::from_value(json!({
            "device_id": "a", "server_url": null, "api_key": "(masked)", "config": "{}",
            "version": version, "hash": "", "reported": reported
        }))
        .unwrap()
    }

    #[test]
    fn only_the_device_itself_makes_it_done() {
        for (view, no_wait, exit, start) in [
            (view(3, Some((3, None))), false, Exit::Done, "✅"),
            (view(3, Some((2, None))), false, Exit::NotDone, "⏳"),
            (view(3, None), true, Exit::Done, "⏳"),
            (view(3, Some((3, Some("no such metric")))), true, Exit::NotDone, "✗"),
        ] {
            let (mut output, out, _) = written(Format::Table, Terminal::default());
            assert_eq!(tell(&view, no_wait, &mut output).unwrap(), exit);
            assert!(out.text().starts_with(start), "{}", out.text());
        }
    }

    #[test]
    fn hostile_errors_do_no_harm() {
        for text in HOSTILE {
            let (mut output, out, err) = written(Format::Table, Terminal::default());
            let mut hostile = view(3, Some((3, Some(text))));
            hostile.comment = Some((*text).into());
            hostile.not_applied = Some((*text).to_owned());
            tell(&hostile, false, &mut output).unwrap();
            output.one(&Shown(&hostile)).unwrap();
            assert_harmless(&out.text());
            assert_harmless(&err.text());
        }
    }
}
