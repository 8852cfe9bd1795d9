//! Changing a layer: what it means for devices is shown first, and a person types how many there are.

use fleet_core::api::{ConfigLayer, ConfigUpdate, LayerPreview};
use fleet_core::cli::failure::Failure;
use fleet_core::cli::output::Output;
use fleet_core::cli::prompt;
use fleet_core::operator::client::Client;
use fleet_core::operator::exit::Exit;

use super::change::conflict;
use super::show::{ShownLayer, ShownPreview};

/// What a change of a layer takes.
#[derive(Debug, clap::Args)]
pub(super) struct LayerHow {
    /// Show what would be, and do nothing; of a layer, how many devices would get a new version
    #[arg(long)]
    pub(super) dry_run: bool,
    /// Of a layer: only if so many devices get a new version; of a device the same as
    /// --expected-version
    #[arg(long, value_name = "N")]
    expect: Option<u64>,
}

impl LayerHow {
    /// What is expected of a device.
    pub(super) fn for_device(&self) -> Option<u64> {
        self.expect
    }
}

/// `fleets config layers`.
pub(super) async fn list(client: &Client, output: &mut Output<'_>) -> Result<Exit, Failure> {
    let layers: Vec<_> = client.layer_list().await?.into_iter().map(ShownLayer).collect();
    output.list(&layers)?;
    if layers.is_empty() {
        return Err(Failure::new(Exit::NothingFound, "no layers"));
    }
    Ok(Exit::Done)
}

/// Changes a layer once somebody has agreed to what it means.
pub(super) async fn change(
    layer: &ConfigLayer,
    update: ConfigUpdate,
    expected_version: u64,
    how: LayerHow,
    yes: bool,
    client: &Client,
    output: &mut Output<'_>,
) -> Result<Exit, Failure> {
    let preview = client.layer_preview(layer, &update).await?;
    let changes = preview.changes;
    if how.dry_run {
        if output.format.is_table() {
            for line in lines(&preview) {
                output.line(&line)?;
            }
        } else {
            output.one(&ShownPreview(preview))?;
        }
        return Ok(Exit::Done);
    }
    if let Some(expect) = how.expect.filter(|expect| usize::try_from(*expect) != Ok(changes)) {
        let text = format!("{} a new version, and {expect} were expected", would_get(changes));
        return Err(Failure::new(Exit::Conflict, text).hint("nothing was changed"));
    }
    client.may_change()?;
    if changes > 0 && !(yes && how.expect.is_some()) {
        confirm(&preview, output).await?;
    }
    let update = ConfigUpdate { expect: Some(changes), ..update };
    let stored = client.layer_set(layer, &update, Some(expected_version)).await;
    let stored = stored.map_err(conflict)?;
    if output.format.is_table() {
        let version = stored.version;
        output.line(&format!("layer {layer} has version {version}; {} it", get(changes)))?;
    } else {
        output.one(&ShownLayer(stored))?;
    }
    Ok(Exit::Done)
}

/// Has somebody say how many devices get a new version.
async fn confirm(preview: &LayerPreview, output: &mut Output<'_>) -> Result<(), Failure> {
    let changes = preview.changes;
    if !output.terminal.can_ask() {
        let text = format!(
            "there is no terminal to ask on, so both --yes and --expect are needed; {} a new \
             version, and nothing was changed",
            would_get(changes)
        );
        let hint = format!("give --yes --expect {changes} if you mean them");
        return Err(Failure::usage(text).hint(hint));
    }
    for line in lines(preview) {
        output.note(&line)?;
    }
    let count = changes.to_string();
    if prompt::confirm_word("Type the number of devices to go on:", &count, output).await? {
        Ok(())
    } else {
        Err(Failure::new(Exit::Interrupted, "nothing was changed"))
    }
}

/// What would be, for a person.
fn lines(preview: &LayerPreview) -> Vec<String> {
    let LayerPreview { layer, version, devices, changes, sample, differences } = preview;
    let mut lines = vec![format!(
        "layer {layer} at version {version}, of {}: {} a new version",
        count(*devices),
        would_get(*changes)
    )];
    lines.extend(differences.iter().map(|difference| format!("  {difference}")));
    if !sample.is_empty() {
        let named: Vec<_> = sample.iter().map(ToString::to_string).collect();
        let more = if *changes > sample.len() { ", …" } else { "" };
        lines.push(format!("  devices: {}{more}", named.join(", ")));
    }
    lines
}

fn count(devices: usize) -> String {
    if devices == 1 { "1 device".to_owned() } else { format!("{devices} devices") }
}

fn would_get(devices: usize) -> String {
    format!("{} would get", count(devices))
}

fn get(devices: usize) -> String {
    if devices == 1 { "1 device follows".to_owned() } else { format!("{devices} devices follow") }
}

#[cfg(test)]
mod tests {
    use fleet_core::api::diff;
    use serde_json::json;

    use super::*;

    #[test]
    fn a_preview_says_what_it_means() {
        let preview = LayerPreview {
            layer: "tag:canary".parse().unwrap(),
            version: 2,
            devices: 5,
            changes: 3,
            sample: vec!["a".parse().unwrap(), "b".parse().unwrap()],
            differences: diff(
                &json!({"telemetry": {"interval": 30}}),
                &json!({"telemetry": {"interval": 10}}),
            ),
        };
        assert_eq!(
            lines(&preview),
            [
                "layer tag:canary at version 2, of 5 devices: 3 devices would get a new version",
                "  telemetry.interval 30 → 10",
                "  devices: a, b, …",
            ]
        );
    }
}
