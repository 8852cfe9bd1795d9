//! `cargo xtask test`: every check that a change must pass, as named steps.
//!
//! A step that cannot run here is listed as not run, never passed over in silence; under
//! `CI=true` it fails, unless it is one that needs the internet. All steps run, so that one call
//! shows everything there is to mend.

mod contract;
mod images;
mod namespaces;
mod packages;
mod security;
mod steps;

use std::fmt;
use std::io::{self, Write as _};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::bail;

use steps::STEPS;

/// Flags of `cargo xtask test`.
#[derive(clap::Args)]
pub struct Args {
    /// Steps to run instead of all
    #[arg(value_name = "STEP")]
    steps: Vec<String>,
    /// Run the tests that SECURITY.md names instead, and each fuzz target for a minute
    #[arg(long, conflicts_with_all = ["steps", "list"])]
    security: bool,
    /// Name the steps and what each checks
    #[arg(long)]
    list: bool,
}

/// One check.
struct Step {
    name: &'static str,
    checks: &'static str,
    /// Whether an unattended run fails when this step cannot run. Only what asks the internet
    /// may be missing there.
    required: bool,
    run: fn() -> anyhow::Result<()>,
}

impl Step {
    const fn new(
        name: &'static str,
        checks: &'static str,
        run: fn() -> anyhow::Result<()>,
    ) -> Self {
        Self { name, checks, required: true, run }
    }
}

/// Why a step could not run, as the error that it returns.
#[derive(Debug)]
struct NotRun(String);

impl fmt::Display for NotRun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for NotRun {}

enum Outcome {
    Passed,
    Failed(anyhow::Error),
    NotRun(anyhow::Error),
}

/// Runs the steps and lists how each ended.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    if args.list {
        list()?;
        return Ok(ExitCode::SUCCESS);
    }
    let strict = std::env::var_os("CI").is_some_and(|ci| ci == "true");
    let mut results = Vec::new();
    let steps = if args.security { security::STEPS.iter().collect() } else { chosen(&args.steps)? };
    for step in steps {
        writeln!(io::stdout(), "\n== {}: {}", step.name, step.checks)?;
        let started = Instant::now();
        let outcome = outcome((step.run)(), strict && step.required);
        if let Outcome::Failed(error) | Outcome::NotRun(error) = &outcome {
            writeln!(io::stdout(), "{}: {error:#}", step.name)?;
        }
        results.push((step, outcome, started.elapsed()));
    }
    summarize(&results)?;
    let failed = results.iter().any(|(_, outcome, _)| matches!(outcome, Outcome::Failed(_)));
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn outcome(result: anyhow::Result<()>, strict: bool) -> Outcome {
    match result {
        Ok(()) => Outcome::Passed,
        Err(error) if error.is::<NotRun>() && !strict => Outcome::NotRun(error),
        Err(error) => Outcome::Failed(error),
    }
}

fn list() -> io::Result<()> {
    for Step { name, checks, .. } in &STEPS {
        writeln!(io::stdout(), "{name:<9} {checks}")?;
    }
    Ok(())
}

fn chosen(names: &[String]) -> anyhow::Result<Vec<&'static Step>> {
    if names.is_empty() {
        return Ok(STEPS.iter().collect());
    }
    for name in names {
        if !STEPS.iter().any(|step| step.name == name) {
            let known: Vec<&str> = STEPS.iter().map(|step| step.name).collect();
            bail!("no step is named {name:?}; there are {}", known.join(", "));
        }
    }
    Ok(STEPS.iter().filter(|step| names.iter().any(|name| name == step.name)).collect())
}

fn summarize(results: &[(&Step, Outcome, Duration)]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "\n{:<9} {:<8} {:>7}", "STEP", "RESULT", "TIME")?;
    for (step, outcome, time) in results {
        let (word, why) = match outcome {
            Outcome::Passed => ("passed", String::new()),
            Outcome::Failed(error) => ("FAILED", first_line(error)),
            Outcome::NotRun(error) => ("not run", first_line(error)),
        };
        writeln!(out, "{:<9} {word:<8} {:>5.1} s  {why}", step.name, time.as_secs_f64())?;
    }
    Ok(())
}

fn first_line(error: &anyhow::Error) -> String {
    format!("{error:#}").lines().next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_not_run_fails_only_where_all_must_run() {
        let result = || Err(NotRun("no such tool".into()).into());
        assert!(matches!(outcome(result(), false), Outcome::NotRun(_)));
        assert!(matches!(outcome(result(), true), Outcome::Failed(_)));
    }

    #[test]
    fn steps_are_chosen_by_name_in_their_order() {
        let names = |names: &[&str]| {
            let names: Vec<String> = names.iter().map(ToString::to_string).collect();
            chosen(&names).map(|steps| steps.iter().map(|step| step.name).collect::<Vec<_>>())
        };
        assert_eq!(names(&["tests", "tidy"]).unwrap(), ["tidy", "tests"]);
        assert_eq!(names(&[]).unwrap().len(), STEPS.len());
        assert!(names(&["test"]).is_err());
    }
}
