//! The steps of the gate, cheapest first.
//!
//! All cargo commands that build choose the same packages and features, so that each dependency
//! is built once for checking and once for running.

use std::process::Command;

use anyhow::{Context as _, bail};
use nix::unistd::geteuid;

use super::contract::{self, Effort};
use super::{NotRun, Step, images, namespaces, packages as packaging};
use crate::cargo::{cargo, root};
use crate::{fuzz, packages, tidy};

/// How long the gate tries each fuzz target.
const FUZZ_SECONDS: u64 = 10;

/// What every command that builds chooses.
pub(super) const ALL: [&str; 2] = ["--workspace", "--all-features"];

pub(super) const STEPS: [Step; 14] = [
    Step::new("tidy", "house rules that no tool knows", tidy),
    Step::new("format", "cargo fmt", format),
    Step::new("lints", "clippy: everything, and fleet-core with fewer features", lints),
    Step::new("tests", "unit and integration tests", tests),
    Step::new("examples", "examples in documentation", doc_tests),
    Step::new("docs", "rustdoc without warnings", docs),
    Step::new("hosts", "whole programs on hosts in network namespaces", hosts),
    Step::new("systemd", "the agent beside a real journal, in a container", systemd),
    Step::new(
        "packages",
        "installing, upgrading and purging, on machines with systemd",
        packaging::run,
    ),
    Step::new(
        "images",
        "container images in a real engine, as docs/containers.md has it",
        images::run,
    ),
    Step::new("fuzz", "fuzz targets, each for a short time", fuzz),
    Step::new("contract", "the server against its OpenAPI document", contract),
    Step::new("deny", "licences, sources and duplicates of dependencies", deny),
    Step { required: false, ..Step::new("advisory", "known faults of dependencies", advisories) },
];

fn tidy() -> anyhow::Result<()> {
    let faults = tidy::faults(root())?;
    if faults.is_empty() {
        return Ok(());
    }
    bail!("{} faults:\n  {}", faults.len(), faults.join("\n  "))
}

fn format() -> anyhow::Result<()> {
    succeed(cargo().args(["fmt", "--all", "--check"]))?;
    // It is no member of the workspace.
    succeed(cargo().args(["fmt", "--manifest-path", "fuzz/Cargo.toml", "--check"]))
}

fn lints() -> anyhow::Result<()> {
    let deny = ["--", "-D", "warnings"];
    succeed(cargo().arg("clippy").args(ALL).arg("--all-targets").args(deny))?;
    succeed(cargo().args(["clippy", "--package", "fleet-core"]).args(deny))?;
    succeed(cargo().args(["clippy", "--package", "fleet-core", "--features", "net"]).args(deny))
}

/// All but the suite on namespaces, which is a step of its own.
fn tests() -> anyhow::Result<()> {
    let targets = ["--lib", "--bins", "--examples", "--test", "it"];
    succeed(cargo().arg("test").args(ALL).args(targets))
}

fn doc_tests() -> anyhow::Result<()> {
    succeed(cargo().arg("test").args(ALL).arg("--doc"))
}

fn docs() -> anyhow::Result<()> {
    let what = ["--no-deps", "--document-private-items"];
    // Private items are documented too, so links to them are fine.
    let flags = "-D warnings -A rustdoc::private-intra-doc-links";
    succeed(cargo().arg("doc").args(ALL).args(what).env("RUSTDOCFLAGS", flags))
}

fn hosts() -> anyhow::Result<()> {
    let (unshare, suite) = hosts_suite()?;
    succeed(&mut namespaces::within(unshare, &suite))
}

/// What enters new namespaces, and the suite to run in them.
pub(super) fn hosts_suite() -> anyhow::Result<(Vec<&'static str>, String)> {
    ensure(packages::HOSTS)?;
    Ok((namespaces::unshare()?, built_suite()?))
}

/// Installs what is missing; what cannot be is why a step cannot run.
pub(super) fn ensure(packages: &[packages::Package]) -> anyhow::Result<()> {
    Ok(packages::ensure(packages).map_err(|error| NotRun(format!("{error:#}")))?)
}

/// Those tests of the suite that need more than namespaces: they start this machine's system once
/// more.
fn systemd() -> anyhow::Result<()> {
    let unshare = containers()?;
    let mut suite = namespaces::within(unshare, &built_suite()?);
    succeed(suite.args(["--ignored", "in_a_container"]))
}

/// What enters new namespaces in which systems can be started in containers.
pub(super) fn containers() -> anyhow::Result<Vec<&'static str>> {
    if !geteuid().is_root() {
        return Err(NotRun("only root can start a system in a container".into()).into());
    }
    for packages in [packages::HOSTS, packages::SYSTEMD] {
        ensure(packages)?;
    }
    let unshare = namespaces::unshare()?;
    let mut groups = namespaces::within(unshare.clone(), "mount");
    let groups = groups.args(["-t", "cgroup2", "cgroup2", "/sys/fs/cgroup"]).output()?;
    if !groups.status.success() {
        let why = String::from_utf8_lossy(&groups.stderr).trim().to_owned();
        return Err(NotRun(format!("a container has no groups of processes here: {why}")).into());
    }
    Ok(unshare)
}

/// The suite on namespaces, with the programs that it starts.
pub(super) fn built_suite() -> anyhow::Result<String> {
    // The suite starts fleets and fleetd. Building them beside a test chooses the features that
    // the step `tests` has built with.
    succeed(cargo().arg("build").args(ALL).args(["--bins", "--test", "hosts"]))?;
    suite()
}

/// So that targets never rot. Who looks for faults takes longer: `cargo xtask fuzz`.
fn fuzz() -> anyhow::Result<()> {
    ensure(packages::FUZZ)?;
    fuzz::try_all(&fuzz::targets()?, FUZZ_SECONDS, fuzz::Start::Seeds)
}

fn contract() -> anyhow::Result<()> {
    contract::run(&Effort { each: 2, at_least: 1_000 })
}

fn deny() -> anyhow::Result<()> {
    ensure_cargo_deny()?;
    succeed(cargo().args(["deny", "--all-features", "check", "bans", "licenses", "sources"]))
}

/// Apart from `deny`, because it needs a database that only the network has.
fn advisories() -> anyhow::Result<()> {
    ensure_cargo_deny()?;
    let fetched = cargo().args(["deny", "fetch", "db"]).output().context("cannot run cargo")?;
    if !fetched.status.success() {
        let why = String::from_utf8_lossy(&fetched.stderr);
        let why = why.lines().rfind(|line| !line.trim().is_empty()).unwrap_or_default().trim();
        return Err(NotRun(format!("no advisory database: {why}")).into());
    }
    succeed(cargo().args(["deny", "--all-features", "check", "advisories"]))
}

/// Building it takes minutes, so a person is asked and only an unattended run just does it.
fn ensure_cargo_deny() -> anyhow::Result<()> {
    if packages::has_program("cargo-deny") {
        return Ok(());
    }
    if std::env::var_os("CI").is_some_and(|ci| ci == "true") {
        // Unoptimised: it runs for seconds, and is built in half the time.
        return succeed(cargo().args(["install", "--locked", "--debug", "cargo-deny"]));
    }
    Err(NotRun("cargo-deny is not installed (cargo install --locked cargo-deny)".into()).into())
}

/// The executable of the suite on namespaces.
fn suite() -> anyhow::Result<String> {
    let build = ["--test", "hosts", "--no-run", "--message-format", "json"];
    let output = cargo().arg("test").args(ALL).args(build).output().context("cannot run cargo")?;
    if !output.status.success() {
        bail!("cannot build the suite: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    let messages = String::from_utf8(output.stdout).context("cargo's messages")?;
    let mut built = messages.lines().filter_map(|line| {
        let message: serde_json::Value = serde_json::from_str(line).ok()?;
        let named = message.pointer("/target/name")? == "hosts";
        named.then(|| message.get("executable")?.as_str().map(str::to_owned))?
    });
    built.next_back().context("cargo built no suite named hosts")
}

/// Runs a command, its output shown, and fails unless it succeeds.
pub(super) fn succeed(command: &mut Command) -> anyhow::Result<()> {
    let mut line = command.get_program().to_string_lossy().into_owned();
    for arg in command.get_args() {
        line = line + " " + &arg.to_string_lossy();
    }
    let status = command.status().with_context(|| format!("cannot run {line}"))?;
    if !status.success() {
        bail!("{line} failed ({status})");
    }
    Ok(())
}
