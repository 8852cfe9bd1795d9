//! `fleets config`: what a device shall do and what it says it does.
//!
//! A change is merged here and sent with the version it was made from, so that of two people who
//! change the same device at once, one is told.

use std::io::Read as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Subcommand;
use fleet_core::api::{ConfigDocument, ConfigUpdate, ConfigView};
use fleet_core::cli::args::{self, Assignment};
use fleet_core::cli::choice::ServerChoice;
use fleet_core::cli::failure::Failure;
use fleet_core::cli::listed::{FormatArgs, Listed, Reader};
use fleet_core::cli::output::Output;
use fleet_core::cli::session::{self, TimeLimit};
use fleet_core::cli::table::{Cell, Column};
use fleet_core::glyph::Tone;
use fleet_core::operator::client::{Client, ClientError};
use fleet_core::operator::exit::Exit;
use serde::Serialize;
use serde_json::{Map, Value};
use tokio::time::{Instant, sleep};

/// Between looks at whether the device has reported.
const LOOK_INTERVAL: Duration = Duration::from_millis(250);
/// Bytes of a file with a configuration.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

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
    /// Show a device's configuration, wanted and reported
    Get {
        /// The device, by id or uid
        id: String,
    },
    /// Change a device's configuration
    Set(SetArgs),
}

#[derive(Debug, clap::Args)]
struct SetArgs {
    /// The device, by id or uid
    id: String,
    /// Such as telemetry.interval=30s, key:=JSON, or key- to take it away
    #[arg(value_name = "KEY=VALUE", required_unless_present = "file", conflicts_with = "file")]
    changes: Vec<Assignment>,
    /// The whole configuration from a YAML or JSON file; - for standard input
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Only if this is still the current version
    #[arg(long, value_name = "VERSION")]
    expect: Option<u64>,
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

/// Runs the command.
pub(super) fn run(args: ConfigArgs) -> ExitCode {
    let (format, limit) = (args.format, args.limit);
    session::run(format, Some(limit), async |output| config(args, output).await)
}

async fn config(args: ConfigArgs, output: &mut Output<'_>) -> Result<Exit, Failure> {
    let client = args.server.client(output)?;
    match args.action {
        Action::Get { id } => {
            output.one(&Shown(&client.config_get(&id).await?))?;
            Ok(Exit::Done)
        }
        Action::Set(args) => set(args, &client, output).await,
    }
}

async fn set(args: SetArgs, client: &Client, output: &mut Output<'_>) -> Result<Exit, Failure> {
    let current = client.config_get(&args.id).await?;
    let document = match &args.file {
        Some(path) => read_file(path)?,
        None => merged(&current.config, args.changes)?,
    };
    let document = ConfigDocument::from_json(&document)
        .map_err(|error| Failure::usage(error.to_string()))?
        .to_json();
    let update =
        ConfigUpdate { config: Some(document), comment: args.comment, ..ConfigUpdate::default() };
    let expect = args.expect.unwrap_or(current.version);
    let stored = client.config_set(&args.id, &update, Some(expect)).await.map_err(conflict)?;
    let wait = if args.no_wait { Duration::ZERO } else { args.wait };
    let last = watch(client, &args.id, stored, wait).await?;
    tell(&last, args.no_wait, output)
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

/// The current document with the changes put into it.
fn merged(current: &str, changes: Vec<Assignment>) -> Result<Value, Failure> {
    let mut document: Value = serde_json::from_str(current).map_err(|error| {
        Failure::new(Exit::Failed, format!("the current configuration cannot be read: {error}"))
    })?;
    for Assignment { key, value } in changes {
        put(&mut document, &key, value)?;
    }
    Ok(document)
}

/// Puts a value where `telemetry.interval` points, or takes away what is there.
fn put(document: &mut Value, path: &str, value: Option<Value>) -> Result<(), Failure> {
    let (parents, last) = path.rsplit_once('.').unwrap_or(("", path));
    let mut place = document;
    for name in parents.split('.').filter(|name| !name.is_empty()) {
        let object = object(place, path)?;
        place = object.entry(name).or_insert_with(|| Value::Object(Map::new()));
    }
    let object = object(place, path)?;
    match value {
        Some(value) => object.insert(last.to_owned(), list_or_text(last, value)),
        None => object.remove(last),
    };
    Ok(())
}

fn object<'a>(place: &'a mut Value, path: &str) -> Result<&'a mut Map<String, Value>, Failure> {
    place.as_object_mut().ok_or_else(|| Failure::usage(format!("{path}: nothing can be in there")))
}

/// `metrics` is the one key that takes a list: `cpu_usage,memory_usage`.
fn list_or_text(key: &str, value: Value) -> Value {
    match value {
        Value::String(text) if key == "metrics" => {
            let names = text.split(',').map(str::trim).filter(|name| !name.is_empty());
            names.map(Value::from).collect()
        }
        Value::String(text) if text.parse::<u64>().is_ok() => {
            text.parse::<u64>().map_or(Value::Null, Value::from)
        }
        other => other,
    }
}

pub(super) fn read_file(path: &std::path::Path) -> Result<Value, Failure> {
    let shown = path.display();
    let mut text = String::new();
    let read = if path.as_os_str() == "-" {
        std::io::stdin().lock().take(FILE_BYTES_MAX).read_to_string(&mut text)
    } else {
        std::fs::File::open(path)
            .and_then(|file| file.take(FILE_BYTES_MAX).read_to_string(&mut text))
    };
    read.map_err(|error| Failure::usage(format!("cannot read {shown}: {error}")))?;
    // JSON is YAML too.
    serde_saphyr::from_str(&text)
        .map_err(|error| Failure::usage(format!("{shown} is no YAML or JSON: {error}")))
}

/// A configuration, wanted and reported.
#[derive(Serialize)]
#[serde(transparent)]
struct Shown<'a>(&'a ConfigView);

impl Listed for Shown<'_> {
    const COLUMNS: &'static [Column] = &[
        Column::new("DEVICE ID", 20),
        Column::new("VERSION", 7).of_numbers(),
        Column::new("REPORTED", 8).of_numbers(),
        Column::new("CONFIG", 40),
        Column::spare("SERVER URL", 20, 1),
        Column::spare("AUTHOR", 10, 2),
        Column::spare("AT", 20, 3),
        Column::spare("COMMENT", 20, 4),
        Column::new("ERROR", 20),
    ];

    fn cells(&self, reader: Reader) -> Vec<Cell> {
        let Self(view) = self;
        let error = view.reported.as_ref().and_then(|reported| reported.error.as_ref());
        let reported = view.reported.as_ref().map(|reported| reported.version);
        let current = reported == Some(view.version) && error.is_none();
        vec![
            Cell::new(&view.device_id),
            Cell::new(view.version),
            Cell::maybe(reported).toned(if current { Tone::Good } else { Tone::Warn }),
            Cell::new(&view.config),
            Cell::maybe(view.server_url.as_ref()),
            Cell::maybe(view.author.as_ref()),
            reader.time(view.at),
            Cell::maybe(view.comment.as_ref()),
            Cell::maybe(error).toned(Tone::Bad),
        ]
    }

    fn name(&self) -> String {
        self.0.device_id.to_string()
    }
}

#[cfg(test)]
mod tests {
    use fleet_core::cli::listed::Format;
    use fleet_core::cli::output::Terminal;
    use fleet_core::cli::testing::{HOSTILE, assert_harmless, written};
    use serde_json::json;

    use super::*;

    fn changed(current: &Value, changes: &[&str]) -> Result<Value, String> {
        let changes = changes.iter().map(|change| change.parse().unwrap()).collect();
        merged(&current.to_string(), changes).map_err(|failure| failure.message().to_owned())
    }

    #[test]
    fn changes_are_merged_into_what_is_there() {
        let current = json!({"telemetry": {"interval": 60, "metrics": ["cpu_usage"]}});
        assert_eq!(
            changed(&current, &["telemetry.interval=30s"]).unwrap(),
            json!({"telemetry": {"interval": "30s", "metrics": ["cpu_usage"]}})
        );
        assert_eq!(
            changed(&current, &["telemetry.metrics=a, b", "telemetry.interval-"]).unwrap(),
            json!({"telemetry": {"metrics": ["a", "b"]}})
        );
        assert_eq!(
            changed(&json!({}), &["telemetry_interval=30"]).unwrap(),
            json!({"telemetry_interval": 30})
        );
        assert!(changed(&current, &["telemetry.interval.x=1"]).is_err());
    }

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
