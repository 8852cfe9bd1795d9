//! The fleet asked as an operator asks it: through the `fleets` program and its JSON.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, bail};
use fleet_core::api::{Device, DiscoverReply, Discovered};

use super::Fleet;
use crate::child::{self, Finished};

/// How long one call may take before it counts as hung.
const CALL_BOUND: Duration = Duration::from_secs(90);
/// How long one look around listens.
const LISTEN: &str = "1s";
/// How long `configure` gives its devices.
const CONFIGURE_TIMEOUT: &str = "60s";

/// Exit codes of `fleets` that come with a result.
const NOTHING_FOUND: i32 = 5;
const SOME_NOT_DONE: i32 = 3;

pub(super) fn discover(fleet: &Fleet<'_>) -> anyhow::Result<Vec<Discovered>> {
    let args = ["discover", "--interface", "lo", "--timeout", LISTEN, "-o", "json"];
    json(&call(fleet, &args)?, &[0, NOTHING_FOUND])
}

pub(super) fn discover_first(fleet: &Fleet<'_>) -> anyhow::Result<()> {
    let args = ["discover", "--interface", "lo", "--count", "1", "-o", "json"];
    json::<Discovered>(&call(fleet, &args)?, &[0]).map(drop)
}

pub(super) fn configure(fleet: &Fleet<'_>) -> anyhow::Result<Vec<DiscoverReply>> {
    let ids: Vec<&str> = fleet.claimed().iter().map(fleet_core::id::DeviceId::as_str).collect();
    let ids = ids.join(",");
    let args = ["configure", "--auto", "--interface", "lo", "--device", &ids, "--json"];
    let timeout = ["--timeout", CONFIGURE_TIMEOUT];
    json(&call(fleet, &[&args[..], &timeout].concat())?, &[0, SOME_NOT_DONE])
}

pub(super) fn devices(fleet: &Fleet<'_>) -> anyhow::Result<Vec<Device>> {
    json(&call(fleet, &["devices", "-o", "json"])?, &[0])
}

pub(super) fn table(fleet: &Fleet<'_>) -> anyhow::Result<String> {
    let said = call(fleet, &["devices"])?;
    if said.code() != Some(0) {
        bail!("fleets failed ({}): {}", said.status, said.stderr.trim());
    }
    String::from_utf8(said.stdout).context("what fleets printed is no text")
}

fn call(fleet: &Fleet<'_>, args: &[&str]) -> anyhow::Result<Finished> {
    let mut command: Command = fleet.operator(&fleet.programs.fleets);
    child::apart(&mut command).args(args);
    let name = format!("fleets {}", args[0]);
    child::finish(&name, &mut command, fleet.folder.path(), CALL_BOUND, fleet.interrupt)
}

fn json<T: serde::de::DeserializeOwned>(
    finished: &Finished,
    codes: &[i32],
) -> anyhow::Result<Vec<T>> {
    if !finished.code().is_some_and(|code| codes.contains(&code)) {
        bail!("fleets failed ({}): {}", finished.status, finished.stderr.trim());
    }
    serde_json::from_slice(&finished.stdout).context("what fleets printed is no list")
}
