//! Changing a device's configuration or a layer's, and going back to what it was.
//!
//! A change is merged here and sent with the version it was made from, so that of two people who
//! change the same thing at once, one is told.

use std::time::Duration;

use fleet_core::api::{
    ConfigDocument, ConfigState, ConfigUpdate, ConfigView, DeviceStatus, config_paths,
};
use fleet_core::cli::args::{self, Assignment};
use fleet_core::cli::failure::Failure;
use fleet_core::cli::output::Output;
use fleet_core::cli::prompt;
use fleet_core::operator::client::{Client, ClientError};
use fleet_core::operator::configs::Whose;
use fleet_core::operator::exit::Exit;
use tokio::time::{Instant, sleep};

use super::document::{merged, read};
use super::layer::{self, LayerHow};
use super::look;
use super::preview::Preview;
use super::show::Shown;
use super::whose::{Current, LayerArg, WhoseArgs, current};

/// Between looks at whether the device has reported.
const LOOK_INTERVAL: Duration = Duration::from_millis(250);

#[derive(Debug, clap::Args)]
pub(super) struct SetArgs {
    /// The device, by id or uid, unless --layer is given; then what to change, such as
    /// telemetry.interval=30s, key:=JSON, or key- to take it away
    #[arg(value_name = "ID> <KEY=VALUE")]
    words: Vec<String>,
    #[command(flatten)]
    layer: LayerArg,
    /// The whole configuration: JSON itself, or a YAML or JSON file, - for standard input
    #[arg(long, alias = "file", value_name = "FILE|-|JSON")]
    config: Option<String>,
    #[command(flatten)]
    how: How,
    #[command(flatten)]
    layer_how: LayerHow,
    /// Do not ask; of a layer, where it is needed, with --expect
    #[arg(long, short = 'y')]
    yes: bool,
}

#[derive(Debug, clap::Args)]
pub(super) struct UnsetArgs {
    /// The device, by id or uid, unless --layer is given; then what to take away, such as
    /// telemetry.interval: what the layer below says holds again
    #[arg(value_name = "ID> <PATH", required = true)]
    words: Vec<String>,
    #[command(flatten)]
    layer: LayerArg,
    #[command(flatten)]
    how: How,
    #[command(flatten)]
    layer_how: LayerHow,
    /// Do not ask; of a layer, where it is needed, with --expect
    #[arg(long, short = 'y')]
    yes: bool,
}

#[derive(Debug, clap::Args)]
pub(super) struct RollbackArgs {
    #[command(flatten)]
    whose: WhoseArgs,
    /// The version that it shall be like again; that is a new version
    #[arg(long, value_name = "VERSION")]
    to: u64,
    /// Do not ask; of a layer with --expect
    #[arg(long, short = 'y')]
    yes: bool,
    #[command(flatten)]
    how: How,
    #[command(flatten)]
    layer_how: LayerHow,
}

/// What every change takes.
#[derive(Debug, clap::Args)]
struct How {
    /// Only if this is still the current version
    #[arg(long, value_name = "VERSION")]
    expected_version: Option<u64>,
    /// Why, for the record
    #[arg(long, value_name = "TEXT")]
    comment: Option<String>,
    /// How long to wait for the device to say that it has it
    #[arg(
        long,
        default_value = "10s",
        value_parser = args::duration,
        value_name = "DURATION",
        conflicts_with = "layer"
    )]
    wait: Duration,
    /// Do not wait for the device
    #[arg(long, conflicts_with_all = ["wait", "layer"])]
    no_wait: bool,
}

/// A change that was read.
struct Change {
    whose: Whose,
    current: Current,
    preview: Preview,
    update: ConfigUpdate,
    how: How,
    layer_how: LayerHow,
    yes: bool,
}

/// `fleets config set`.
pub(super) async fn set(
    args: SetArgs,
    client: &Client,
    output: &mut Output<'_>,
) -> Result<Exit, Failure> {
    let SetArgs { words, layer, config, how, layer_how, yes } = args;
    let (whose, words) = layer.split(words)?;
    let changes = words
        .iter()
        .map(|word| word.parse().map_err(|error| Failure::usage(format!("{word:?}: {error}"))));
    let changes = changes.collect::<Result<Vec<Assignment>, _>>()?;
    match (&config, changes.is_empty()) {
        (Some(_), false) => {
            return Err(Failure::usage("give --config or single changes, not both"));
        }
        (None, true) => {
            return Err(Failure::usage("nothing to change: give KEY=VALUE, or --config"));
        }
        (Some(_), true) | (None, false) => {}
    }
    let current = current(&whose, client).await?;
    let document = match &config {
        Some(text) => read(text)?,
        None => merged(&current.own, changes)?,
    };
    let document = checked(&document)?;
    let preview = Preview::of_own(&current, &document)?;
    let update = ConfigUpdate { config: Some(document), ..ConfigUpdate::default() };
    Change { whose, current, preview, update, how, layer_how, yes }.send(client, output).await
}

/// `fleets config unset`.
pub(super) async fn unset(
    args: UnsetArgs,
    client: &Client,
    output: &mut Output<'_>,
) -> Result<Exit, Failure> {
    let UnsetArgs { words, layer, how, layer_how, yes } = args;
    let (whose, paths) = layer.split(words)?;
    if paths.is_empty() {
        return Err(Failure::usage(
            "nothing to take away: name a path, such as telemetry.interval",
        ));
    }
    let current = current(&whose, client).await?;
    let before = look::read(&current.own)?;
    for path in &paths {
        let has_it = config_paths(&before)
            .keys()
            .any(|known| known == path || known.starts_with(&format!("{path}.")));
        if !has_it {
            let text = format!("{} does not say anything of {path} itself", current.name);
            return Err(Failure::new(Exit::NothingFound, text));
        }
    }
    let changes = paths.into_iter().map(|key| Assignment { key, value: None }).collect();
    let document = checked(&merged(&current.own, changes)?)?;
    let preview = Preview::of_own(&current, &document)?;
    let update = ConfigUpdate { config: Some(document), ..ConfigUpdate::default() };
    Change { whose, current, preview, update, how, layer_how, yes }.send(client, output).await
}

/// `fleets config rollback`.
pub(super) async fn rollback(
    args: RollbackArgs,
    client: &Client,
    output: &mut Output<'_>,
) -> Result<Exit, Failure> {
    let RollbackArgs { whose, to, yes, how, layer_how } = args;
    let whose = whose.read();
    let current = current(&whose, client).await?;
    let earlier = look::version(&whose, to, client).await?;
    let preview = Preview::of_earlier(&current, &earlier.document)?;
    let Current { name, version, .. } = &current;
    if preview.is_empty() {
        output.line(&format!("{name} is as version {to} says already, at version {version}"))?;
        return Ok(Exit::Done);
    }
    if !yes && !layer_how.dry_run && matches!(whose, Whose::Device(_)) {
        if !output.terminal.can_ask() {
            return Err(Failure::usage("there is no terminal to ask on whether to roll back")
                .hint("give --yes if you mean it"));
        }
        client.may_change()?;
        for line in preview.lines() {
            output.note(&line)?;
        }
        let question = format!("Have {name} be as version {to} says?");
        if !prompt::confirm(&question, output).await? {
            return Err(Failure::new(Exit::Interrupted, "nothing was changed"));
        }
    }
    let update = ConfigUpdate { rollback_to: Some(to), ..ConfigUpdate::default() };
    Change { whose, current, preview, update, how, layer_how, yes }.send(client, output).await
}

/// A document in the form in which it is sent, if devices know it.
fn checked(document: &serde_json::Value) -> Result<serde_json::Value, Failure> {
    let document =
        ConfigDocument::from_json(document).map_err(|error| Failure::usage(error.to_string()))?;
    Ok(document.to_json())
}

impl Change {
    /// Sends a change of what was seen, and waits for the device's word.
    async fn send(self, client: &Client, output: &mut Output<'_>) -> Result<Exit, Failure> {
        let Self { whose, current, preview, update, how, layer_how, yes } = self;
        let seen = current.version;
        let update = ConfigUpdate { comment: how.comment, ..update };
        match whose {
            Whose::Layer(layer) => {
                let expect = how.expected_version.unwrap_or(seen);
                layer::change(&layer, update, expect, layer_how, yes, client, output).await
            }
            Whose::Device(_) if layer_how.dry_run => {
                let expect = how.expected_version.or(layer_how.for_device()).unwrap_or(seen);
                if expect != seen {
                    let text = format!("{} is at version {seen}, not {expect}", current.name);
                    return Err(Failure::new(Exit::Conflict, text));
                }
                preview.tell(&format!("{} at version {seen}", current.name), output)
            }
            Whose::Device(id) => {
                // What is counted of a layer is a version of a device, as it always was.
                let expect = how.expected_version.or(layer_how.for_device()).unwrap_or(seen);
                let stored = client.config_set(&id, &update, Some(expect)).await;
                let stored = stored.map_err(conflict)?;
                let wait = if how.no_wait { Duration::ZERO } else { how.wait };
                let version = stored.version;
                let last = watch(client, &id, stored, wait).await.map_err(|error| {
                    let goes_on = format!("version {version} is stored, and goes on");
                    Failure::from(error).hint(format!("{goes_on}: fleets config get {id}"))
                })?;
                // Only a hint: what counts is stored.
                let away = away(client, &last, version, output).await.ok().flatten();
                tell(&last, version, how.no_wait, away, output)
            }
        }
    }
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
    let is_over = |view: &ConfigView| view.version > version || has_reported(view, version);
    while !is_over(&last) && Instant::now() + LOOK_INTERVAL <= deadline {
        sleep(LOOK_INTERVAL).await;
        let status = last.status.take();
        last = ConfigView { status, ..client.config_get(id).await? };
    }
    Ok(last)
}

/// Whether the device has said its last word of this version, or of a later one.
fn has_reported(view: &ConfigView, version: u64) -> bool {
    let is_trying = view.state == Some(ConfigState::Trying);
    !is_trying && view.reported.as_ref().is_some_and(|reported| reported.version >= version)
}

/// How a device is that cannot have heard of a version yet, for a person to know.
async fn away(
    client: &Client,
    view: &ConfigView,
    version: u64,
    output: &Output<'_>,
) -> Result<Option<DeviceStatus>, ClientError> {
    if has_reported(view, version) || !output.format.is_table() {
        return Ok(None);
    }
    let status = client.device_get(view.device_id.as_str()).await?.status;
    Ok(matches!(status, DeviceStatus::Offline | DeviceStatus::Lost).then_some(status))
}

/// Tells what became of a version.
fn tell(
    view: &ConfigView,
    version: u64,
    no_wait: bool,
    away: Option<DeviceStatus>,
    output: &mut Output<'_>,
) -> Result<Exit, Failure> {
    let is_replaced = view.version != version;
    let reported = has_reported(view, view.version);
    let error = view.reported.as_ref().filter(|_| reported).and_then(|it| it.error.as_ref());
    if output.format.is_table() {
        let id = &view.device_id;
        output.line(&match error {
            _ if is_replaced => {
                let by = view.author.as_deref().unwrap_or("somebody");
                format!(
                    "✗ {id}: version {version} was replaced by version {} of {by}",
                    view.version
                )
            }
            Some(error) if view.state == Some(ConfigState::Reverted) => {
                format!("✗ {id} tried version {version} and went back: {error}")
            }
            Some(error) => format!("✗ {id} refused version {version}: {error}"),
            None if reported => format!("✅ {id} has version {version}"),
            None if view.state == Some(ConfigState::Trying) => {
                format!("⏳ {id} tries version {version}")
            }
            None => {
                let stored = format!("⏳ version {version} is stored; {id}");
                match away.map(|status| status.word().to_owned()) {
                    Some(word) => format!("{stored} is {word}: it takes effect when that comes"),
                    None => format!("{stored} has not confirmed it yet"),
                }
            }
        })?;
        if let Some(not_applied) = &view.not_applied {
            output.note(not_applied)?;
        }
    } else {
        output.one(&Shown(view))?;
    }
    let done = !is_replaced && error.is_none() && (reported || no_wait);
    Ok(if done { Exit::Done } else { Exit::NotDone })
}

/// A conflict, with what to do about it.
pub(super) fn conflict(error: ClientError) -> Failure {
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
            (
                view(4, Some((4, None))),
                true,
                Exit::NotDone,
                "✗ a: version 3 was replaced by version 4",
            ),
        ] {
            let (mut output, out, _) = written(Format::Table, Terminal::default());
            assert_eq!(tell(&view, 3, no_wait, None, &mut output).unwrap(), exit);
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
            tell(&hostile, 3, false, None, &mut output).unwrap();
            output.one(&Shown(&hostile)).unwrap();
            assert_harmless(&out.text());
            assert_harmless(&err.text());
        }
    }
}
