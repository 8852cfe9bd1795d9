//! The server's own description of its interface, held against the server: schemathesis makes up
//! requests of every kind that the OpenAPI document allows and forbids, and looks whether each answer
//! is one that the document has.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use super::steps::{ensure, succeed};
use crate::cargo::{Programs, root, target_folder};
use crate::child::{self, Child};
use crate::packages;

/// The tool and all that it needs, each in one release, so that the same requests come tomorrow.
const RELEASES: &str = include_str!("../../schemathesis.txt");

/// How long the tool may take.
const PATIENCE_SECS: &str = "1800";

/// What must hold of an answer. Which values a field may have is often said in words alone, so that a
/// request that fits its schema may well be refused.
const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,\
    response_headers_conformance,response_schema_conformance,negative_data_rejection,\
    ignored_auth,unsupported_method";

/// Answers of success; fewer are no trial. A key that is worth nothing gets a few.
const SUCCESSES_MIN: usize = 100;

/// Answers without an end, which nobody waits for here.
const ENDLESS: &str = "/(stream|logs|link)$";

/// How long the server may take until it answers, on a busy machine.
const START_BOUND: Duration = Duration::from_secs(20);
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Ten wrong keys a minute close the door to an address, and many keys are wrong on purpose here: each
/// request comes from another address, as if by a proxy. Statuses are noted: refusals alone are as the
/// document says, too, and show little.
const HOOKS: &str = r#"import itertools, schemathesis
statuses = open("statuses", "a", buffering=1)
number = itertools.count(1)
@schemathesis.hook
def before_call(context, case, kwargs):
    at = next(number)
    case.headers = case.headers or {}
    case.headers["X-Forwarded-For"] = f"10.{at >> 16 & 255}.{at >> 8 & 255}.{at & 255}"
@schemathesis.hook
def after_call(context, case, response):
    print(response.status_code, file=statuses)
"#;

/// How much is tried.
pub(super) struct Effort {
    /// Requests made up for each operation, besides those that each parameter's bounds call for.
    pub each: u32,
    /// Fewer in all are no trial.
    pub at_least: u32,
}

/// Tries the server's interface, so hard.
pub(super) fn run(effort: &Effort) -> anyhow::Result<()> {
    ensure(packages::CONTRACT)?;
    let tool = installed()?;
    let programs = Programs::build_dev()?;
    let folder = tempfile::Builder::new().prefix("fleetd-").tempdir()?;
    let mut server = Server::start(&programs, folder.path())?;
    let hooks = folder.path().join("hooks.py");
    fs::write(&hooks, HOOKS)?;
    let report = folder.path().join("report");
    let file = fs::File::create(&report)?;
    // Not on the command line, which everybody on this machine can see.
    let headers = format!("[headers]\nAuthorization = \"Bearer {}\"\n", server.key);
    fs::write(folder.path().join("schemathesis.toml"), headers)?;
    let status = child::command("timeout")
        .args([PATIENCE_SECS, "python3"])
        .arg(tool.join("bin/schemathesis"))
        .env("PYTHONPATH", &tool)
        .env("SCHEMATHESIS_HOOKS", &hooks)
        .current_dir(folder.path())
        .args(["run", &format!("{}/api/v1/openapi.json", server.url)])
        .args(["--phases", "coverage,fuzzing,stateful", "--checks", CHECKS])
        .args(["--exclude-path-regex", ENDLESS, "--continue-on-failure"])
        .args(["--request-timeout", "30", "--seed", "1", "--no-color", "--warnings", "off"])
        .args(["--max-examples", &effort.each.to_string()])
        .stdout(file.try_clone()?)
        .stderr(file)
        .status()
        .context("cannot run timeout")?;
    server.process.check()?;
    let said = String::from_utf8_lossy(&fs::read(&report)?).into_owned();
    let tried = cases(&said);
    if !status.success() || tried.is_none_or(|tried| tried < effort.at_least) {
        bail!(
            "the server and its OpenAPI document differ ({status}), or too little was tried:\n{said}"
        );
    }
    let statuses = fs::read_to_string(folder.path().join("statuses"))?;
    let (answers, done) = (statuses.lines().count(), successes(&statuses));
    if done < SUCCESSES_MIN {
        bail!("of {answers} answers only {done} are successes: most was refused, and not tried");
    }
    server.takes_key(&programs)?;
    let tried = tried.unwrap_or_default();
    writeln!(
        io::stdout(),
        "{tried} requests, each answered as the document says, {done} with success"
    )?;
    Ok(())
}

/// How many of these statuses say that something was done.
fn successes(statuses: &str) -> usize {
    statuses.lines().filter(|status| status.starts_with('2')).count()
}

/// How many requests a report speaks of.
fn cases(report: &str) -> Option<u32> {
    let (_, behind) = report.split_once("Test cases:")?;
    behind.split_whitespace().next()?.replace(',', "").parse().ok()
}

/// The folder with the tool, which is installed there if it is not.
fn installed() -> anyhow::Result<PathBuf> {
    let (folder, listed) = (target_folder().join("schemathesis"), "releases");
    if fs::read_to_string(folder.join(listed)).is_ok_and(|have| have == RELEASES) {
        return Ok(folder);
    }
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    let wanted = root().join("xtask/schemathesis.txt");
    let pip = ["-m", "pip", "install", "--quiet", "--no-deps", "--target"];
    succeed(Command::new("python3").args(pip).arg(&folder).arg("--requirement").arg(wanted))?;
    fs::write(folder.join(listed), RELEASES)?;
    Ok(folder)
}

/// A server that nobody else knows of.
struct Server {
    process: Child,
    url: String,
    key: String,
}

impl Server {
    fn start(programs: &Programs, folder: &Path) -> anyhow::Result<Self> {
        let (data, log) = (folder.join("server"), folder.join("server.log"));
        let mut command = child::command(&programs.fleets);
        command.args(["server", "--bind", "127.0.0.1", "--port", "0", "--interface", "lo"]);
        command.args(["--trusted-proxy", "127.0.0.1", "--database"]).arg(data.join("fleet.db"));
        let mut process = Child::start("the server", &mut command, &log)?;
        let end = Instant::now() + START_BOUND;
        loop {
            process.check()?;
            let said = fs::read_to_string(&log)?;
            let url = said.lines().find_map(|line| line.trim().strip_prefix("URL"));
            if let (Some(url), Ok(key)) = (url, fs::read_to_string(data.join("admin.key"))) {
                let (url, key) = (url.trim().to_owned(), key.trim().to_owned());
                return Ok(Self { process, url, key });
            }
            if end < Instant::now() {
                bail!("the server did not start{}", process.last_words());
            }
            thread::sleep(LOOK_EVERY);
        }
    }

    /// That the key was good until the end.
    fn takes_key(&self, programs: &Programs) -> anyhow::Result<()> {
        let mut fleets = child::command(&programs.fleets);
        fleets.args(["keys", "list"]).env("FLEETD_SERVER", &self.url);
        let said = fleets.env("FLEETD_API_KEY", &self.key).output()?;
        if !said.status.success() {
            let why = String::from_utf8_lossy(&said.stderr);
            bail!("the key was not good until the end ({}): {why}", said.status);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_requests_is_read() {
        let report = "Failures:\n\nTest cases:\n  3,737 generated, 3 found 3 unique failures\n";
        assert_eq!(cases(report), Some(3737));
        assert_eq!(cases("nothing was tried"), None);
        assert_eq!(successes("200\n401\n404\n201\n"), 2);
    }
}
