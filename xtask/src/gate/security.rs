//! `cargo xtask test --security`: the tests that SECURITY.md names, threat by threat.
//!
//! A row of its table is `| T01 | threat | what holds | tests |`. In the last column each test stands in
//! backquotes, by the name of its function, which no other test has, and that of at least one begins
//! with the row's id; `fuzz NAME` is a target of the fuzzer. A row whose threat has nothing to attack
//! yet says so instead, after a dash. A test with an id in its name stands in that row.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail};

use super::contract::{self, Effort};
use super::steps::{self, succeed};
use super::{Step, namespaces};
use crate::cargo::{cargo, root};
use crate::{fuzz, packages};

/// How long each fuzz target is tried.
const FUZZ_SECONDS: u64 = 60;
/// The threats, T01 to T37.
const THREATS: usize = 37;
/// What marks a row without tests.
const NOTHING: &str = "— ";

pub(super) const STEPS: [Step; 4] = [
    Step::new("threats", "tests of packages that SECURITY.md names", packages),
    Step::new("attackers", "whole programs on hosts in namespaces, as SECURITY.md names", hosts),
    Step::new("fuzz", "fuzz targets, a minute each", all_fuzz),
    Step::new("contract", "the server against its OpenAPI document, 5,000 requests", contract),
];

/// A row of the table.
#[derive(Debug, PartialEq, Eq)]
struct Threat {
    id: String,
    /// Names of tests, or of targets of the fuzzer.
    tests: Vec<String>,
    is_nothing: bool,
}

/// How a test is run.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    /// With the tests of the packages: their own, and those in `tests/it`.
    Packages,
    /// On hosts in namespaces.
    Hosts,
    /// By the fuzzer.
    Fuzz,
}

fn packages() -> anyhow::Result<()> {
    let names = named(root())?.remove(&Place::Packages).unwrap_or_default();
    let suite = || {
        let mut command = cargo();
        // As the gate's step `tests` builds them.
        command.arg("test").args(steps::ALL).args(["--lib", "--test", "it", "--"]);
        command
    };
    run_all(suite, &names)
}

fn hosts() -> anyhow::Result<()> {
    let names = named(root())?.remove(&Place::Hosts).unwrap_or_default();
    let (unshare, suite) = steps::hosts_suite()?;
    run_all(|| namespaces::within(unshare.clone(), &suite), &names)
}

/// Runs these tests of a suite, and no others. One that the suite does not have, or would not run,
/// is a failure.
fn run_all(suite: impl Fn() -> Command, names: &[String]) -> anyhow::Result<()> {
    let list = |args: &[&str]| {
        let said = suite().args(args).stderr(Stdio::inherit()).output()?;
        if !said.status.success() {
            bail!("a suite cannot be listed ({})", said.status);
        }
        Ok(paths(&said.stdout))
    };
    let (listed, ignored) = (list(&["--list"])?, list(&["--list", "--ignored"])?);
    let runs: Vec<&String> = listed.difference(&ignored).collect();
    let found = names.iter().map(|name| path_of(name, &runs));
    let found = found.collect::<anyhow::Result<Vec<_>>>()?;
    succeed(suite().arg("--exact").args(found))
}

/// The paths of tests in what a suite lists.
fn paths(listed: &[u8]) -> BTreeSet<String> {
    let listed = String::from_utf8_lossy(listed);
    listed.lines().filter_map(|line| line.strip_suffix(": test")).map(str::to_owned).collect()
}

/// The path of the one test of a name that runs.
fn path_of<'a>(name: &str, runs: &[&'a String]) -> anyhow::Result<&'a String> {
    let mut found = runs.iter().filter(|path| path.rsplit("::").next() == Some(name));
    match (found.next(), found.next()) {
        (Some(path), None) => Ok(path),
        (None, _) => bail!("the test {name} does not run"),
        (Some(one), Some(other)) => bail!("there are both {one} and {other}"),
    }
}

fn all_fuzz() -> anyhow::Result<()> {
    steps::ensure(packages::FUZZ)?;
    fuzz::try_all(&fuzz::targets()?, FUZZ_SECONDS, fuzz::Start::Found)
}

fn contract() -> anyhow::Result<()> {
    contract::run(&Effort { each: 60, at_least: 5_000 })
}

/// The tests that the table names, by how they are run.
fn named(root: &Path) -> anyhow::Result<BTreeMap<Place, Vec<String>>> {
    let text = fs::read_to_string(root.join("SECURITY.md")).context("SECURITY.md")?;
    let known = known(root)?;
    let threats = threats(&text)?;
    if let Some(test) = known.keys().find(|test| is_missing(test, &threats)) {
        bail!("{test} stands in no row of its id");
    }
    let mut named: BTreeMap<Place, Vec<String>> = BTreeMap::new();
    for threat in threats {
        if threat.tests.is_empty() != threat.is_nothing {
            bail!("{}: a row has tests, or a dash and why it has none", threat.id);
        }
        let own = format!("{}_", threat.id.to_lowercase());
        if !threat.is_nothing && !threat.tests.iter().any(|test| test.starts_with(&own)) {
            bail!("{}: none of its tests is called {own}…", threat.id);
        }
        for test in threat.tests {
            let place = match known.get(&test).map(Vec::as_slice) {
                Some([place]) => place.clone(),
                Some(_) => bail!("{}: there are several tests {test}", threat.id),
                None => bail!("{}: there is no test {test}", threat.id),
            };
            let names = named.entry(place).or_default();
            if !names.contains(&test) {
                names.push(test);
            }
        }
    }
    Ok(named)
}

/// Whether a test has the id of a threat in its name and does not stand in a row of it.
fn is_missing(test: &str, threats: &[Threat]) -> bool {
    let Some(number) = test.strip_prefix('t').and_then(|rest| rest.split_once('_')) else {
        return false;
    };
    if number.0.is_empty() || !number.0.bytes().all(|byte| byte.is_ascii_digit()) {
        return false;
    }
    let id = format!("T{}", number.0);
    let row = threats.iter().find(|threat| threat.id == id);
    !row.is_some_and(|row| row.tests.iter().any(|named| named == test))
}

/// The rows of the table; every threat has one, in order.
fn threats(text: &str) -> anyhow::Result<Vec<Threat>> {
    let mut threats = Vec::new();
    for line in text.lines().filter(|line| line.starts_with("| T")) {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let [id, _, _, tests] = cells[..] else {
            bail!("a row of SECURITY.md has not four cells: {line}");
        };
        let is_nothing = tests.starts_with(NOTHING);
        let tests = tests.split('`').skip(1).step_by(2).map(str::to_owned);
        let tests = if is_nothing { Vec::new() } else { tests.collect() };
        threats.push(Threat { id: id.to_owned(), tests, is_nothing });
    }
    let ids: Vec<&str> = threats.iter().map(|threat| &*threat.id).collect();
    let expected: Vec<String> = (1..=THREATS).map(|number| format!("T{number:02}")).collect();
    if ids != expected {
        bail!("SECURITY.md has not the threats T01 to T{THREATS} in order, but {}", ids.join(" "));
    }
    Ok(threats)
}

/// All tests of the workspace, with the places that have one of that name.
fn known(root: &Path) -> anyhow::Result<BTreeMap<String, Vec<Place>>> {
    let mut known: BTreeMap<String, Vec<Place>> = BTreeMap::new();
    for package in ["fleet-core", "fleet-server", "fleet-agent", "fleet-tui", "xtask"] {
        for (folder, place) in
            [("src", Place::Packages), ("tests/it", Place::Packages), ("tests/hosts", Place::Hosts)]
        {
            for file in sources(&root.join(package).join(folder))? {
                for name in tests_in(&fs::read_to_string(&file)?) {
                    known.entry(name).or_default().push(place.clone());
                }
            }
        }
    }
    for target in fuzz::targets()? {
        known.entry(format!("fuzz {target}")).or_default().push(Place::Fuzz);
    }
    Ok(known)
}

/// The Rust files in a folder and those in it; none if there is no such folder.
fn sources(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    if !folder.is_dir() {
        return Ok(found);
    }
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(sources(&path)?);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    Ok(found)
}

/// The names of the tests in a file that are run: functions behind an attribute that ends in `test`,
/// and none that says that they are ignored.
fn tests_in(text: &str) -> Vec<String> {
    let mut names = Vec::new();
    let (mut is_test, mut is_ignored) = (false, false);
    for line in text.lines().map(str::trim) {
        if let Some(attribute) = line.strip_prefix("#[") {
            let word = attribute.split(['(', ']', ' ']).next().unwrap_or_default();
            is_test |= word == "test" || word.ends_with("::test");
            is_ignored |= word == "ignore";
        } else if let Some(function) = line.strip_prefix("async fn ").or(line.strip_prefix("fn ")) {
            if is_test && !is_ignored {
                names.extend(function.split('(').next().map(str::to_owned));
            }
            (is_test, is_ignored) = (false, false);
        } else if !line.starts_with("//") {
            (is_test, is_ignored) = (false, false);
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_threat_names_tests_that_are_there() {
        let named = named(root()).unwrap();
        assert!(named.contains_key(&Place::Hosts));
    }

    #[test]
    fn rows_are_read_and_none_is_missing() {
        let row = |number: usize, tests: &str| format!("| T{number:02} | a | b | {tests} |\n");
        let table =
            |tests: &str| (1..=THREATS).map(|number| row(number, tests)).collect::<String>();
        let first = |text: &str| threats(text).unwrap().remove(0);
        assert_eq!(first(&table("`one`, `fuzz two`")).tests, ["one", "fuzz two"]);
        assert!(first(&table("— there is no `such` thing yet")).is_nothing);
        assert!(threats(&row(1, "`one`")).is_err(), "one of many");
        assert!(threats(&table("`one` | more")).is_err(), "five cells");
    }

    #[test]
    fn a_test_stands_in_the_row_of_its_id() {
        let row = |id: &str, test: &str| Threat {
            id: id.to_owned(),
            tests: vec![test.to_owned()],
            is_nothing: false,
        };
        let threats = [row("T01", "t01_a"), row("T02", "b")];
        for (test, is_amiss) in [
            ("t01_a", false),
            ("t01_b", true),
            ("t02_a", true),
            ("t38_nobody_knows_this_threat", true),
            ("t1_a", true),
            ("b", false),
            ("c", false),
            ("two_t01_a", false),
            ("twice_a", false),
        ] {
            assert_eq!(is_missing(test, &threats), is_amiss, "{test}");
        }
    }

    #[test]
    fn a_test_that_does_not_run_is_no_pass() {
        let runs = [&"a::one".to_owned(), &"b::two".to_owned(), &"c::two".to_owned()];
        assert_eq!(path_of("one", &runs).unwrap(), "a::one");
        for name in ["on", "two", "three"] {
            path_of(name, &runs).unwrap_err();
        }
        // The suite lists what it has by paths.
        let command = || Command::new(std::env::current_exe().unwrap());
        run_all(command, &["functions_behind_attributes_are_tests".to_owned()]).unwrap();
        run_all(command, &["functions_behind".to_owned()]).unwrap_err();
    }

    #[test]
    fn functions_behind_attributes_are_tests() {
        let text = "#[test]\nfn one() {}\nfn two() {}\n#[tokio::test(flavor = \"a\")]\n\
                    async fn three() {}\n#[derive(Debug)]\nstruct A;\nfn four() {}\n\
                    #[test]\n#[ignore = \"b\"]\nfn five() {}\n#[test]\nfn six() {}\n";
        assert_eq!(tests_in(text), ["one", "three", "six"]);
    }
}
