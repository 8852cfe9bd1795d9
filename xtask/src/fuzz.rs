//! `cargo xtask fuzz`: the doors that each package lists in its `fuzz.rs`, tried with whatever
//! libFuzzer comes up with.
//!
//! The program is `fuzz/`, outside of the workspace. It is built with libFuzzer's own crate and
//! flags that a stable compiler takes, so that nothing needs to be installed but a C++ compiler.
//! What is found goes to the target folder: inputs of interest to `fuzz/inputs`, from where the
//! next run goes on, and what breaks a door to `fuzz/found`.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::Mutex;
use std::thread;

use anyhow::{Context as _, bail};

use crate::cargo::{cargo, root, target_folder};
use crate::{child, packages};

/// What the compiler is told: let libFuzzer see which ways an input goes, and what it is compared
/// with.
const RUSTFLAGS: &str = "--cfg fuzzing -Cpasses=sancov-module \
    -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
    -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares";
/// Memory that a target may use, in megabytes.
const MEMORY_MAX: &str = "-rss_limit_mb=512";
/// Seconds that one input may take. A tenth of it would do on a machine that does nothing else.
const PATIENCE: &str = "-timeout=5";
/// Bytes of an input. What needs more to go wrong is for other tests.
const INPUT_MAX: &str = "-max_len=4096";

/// Flags of `cargo xtask fuzz`.
#[derive(clap::Args)]
pub struct Args {
    /// Targets to try instead of all
    #[arg(value_name = "TARGET")]
    targets: Vec<String>,
    /// How long to try each
    #[arg(long, value_name = "N", default_value_t = 60)]
    seconds: u64,
    /// Name the targets
    #[arg(long)]
    list: bool,
}

/// With what to begin.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// The seeds alone: the same each time, and soon tried.
    Seeds,
    /// What earlier runs found to be of interest.
    Found,
}

/// Tries targets and says how each did.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let all = targets()?;
    if args.list {
        writeln!(io::stdout(), "{}", all.join("\n"))?;
        return Ok(ExitCode::SUCCESS);
    }
    if let Some(unknown) = args.targets.iter().find(|name| !all.contains(name)) {
        bail!("no target is named {unknown:?}; there are {}", all.join(", "));
    }
    let chosen = if args.targets.is_empty() { &all } else { &args.targets };
    packages::ensure(packages::FUZZ)?;
    try_all(chosen, args.seconds, Start::Found)?;
    Ok(ExitCode::SUCCESS)
}

/// The names of all targets: each has a folder of seeds, without which its package's test fails.
pub fn targets() -> anyhow::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(root().join("fuzz/corpus")).context("cannot list the seeds")? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort_unstable();
    Ok(names)
}

/// Tries each of some targets for so long, one on each processor. Fails if one breaks, when all
/// have been tried.
pub fn try_all(targets: &[String], seconds: u64, start: Start) -> anyhow::Result<()> {
    let program = build()?;
    let (waiting, broken) = (Mutex::new(targets.iter()), Mutex::new(Vec::new()));
    let next = || waiting.lock().expect("nobody panics").next();
    let work = || {
        while let Some(target) = next() {
            let line = match try_one(&program, target, seconds, start) {
                Ok(line) => line,
                Err(error) => {
                    broken.lock().expect("nobody panics").push(target.as_str());
                    format!("BROKEN: {error:#}")
                }
            };
            // With stdout gone there is nobody left to tell.
            let _ = writeln!(io::stdout(), "{target:<11} {line}");
        }
    };
    let threads = thread::available_parallelism().map_or(1, Into::into);
    thread::scope(|scope| (0..threads).for_each(|_| drop(scope.spawn(work))));
    match broken.into_inner().expect("nobody panics") {
        broken if broken.is_empty() => Ok(()),
        broken => bail!("broken: {}", broken.join(", ")),
    }
}

fn build() -> anyhow::Result<PathBuf> {
    let (folder, host) = (target_folder().join("fuzz"), host()?);
    let status = cargo()
        .args(["build", "--manifest-path", "fuzz/Cargo.toml", "--target", &host, "--target-dir"])
        .arg(&folder)
        .env("RUSTFLAGS", RUSTFLAGS)
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .status()
        .context("cannot run cargo")?;
    if !status.success() {
        bail!("cannot build the fuzzer ({status})");
    }
    Ok(folder.join(host).join("debug/fuzz"))
}

/// This machine's target. Naming it keeps the flags away from build scripts.
fn host() -> anyhow::Result<String> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(rustc).arg("-vV").output().context("cannot run rustc")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host.context("rustc names no host")?.to_owned())
}

/// Tries a target, and says how often.
fn try_one(program: &Path, target: &str, seconds: u64, start: Start) -> anyhow::Result<String> {
    let folder = target_folder().join("fuzz");
    let inputs = folder.join(if start == Start::Found { "inputs" } else { "new-inputs" });
    let (inputs, found) = (inputs.join(target), folder.join("found").join(target));
    if start == Start::Seeds && inputs.exists() {
        fs::remove_dir_all(&inputs)?;
    }
    fs::create_dir_all(&inputs)?;
    fs::create_dir_all(&found)?;
    let log = found.join("log");
    let file = File::create(&log)?;
    let status = child::command(program)
        .env("FLEETD_FUZZ_TARGET", target)
        .arg(format!("-max_total_time={seconds}"))
        .args([MEMORY_MAX, PATIENCE, INPUT_MAX, "-print_final_stats=1"])
        .arg(format!("-artifact_prefix={}/", found.display()))
        .arg(&inputs)
        .arg(root().join("fuzz/corpus").join(target))
        .stdout(file.try_clone()?)
        .stderr(file)
        .status()
        .with_context(|| format!("cannot run {}", program.display()))?;
    let log_text = String::from_utf8_lossy(&fs::read(&log)?).into_owned();
    if status.success() {
        return Ok(summary(&log_text));
    }
    bail!(
        "{}\n  again: FLEETD_FUZZ_TARGET={target} {} {}\n  all it said: {}",
        last_words(&log_text),
        program.display(),
        broken_by(&log_text).unwrap_or("-runs=0"),
        log.display(),
    )
}

fn summary(log: &str) -> String {
    let number = |name| stat(log, name).unwrap_or("?");
    let (tries, new) = (number("number_of_executed_units"), number("new_units_added"));
    format!("{tries} tries, {new} of interest, {} MB at most", number("peak_rss_mb"))
}

/// A number of libFuzzer's final statistics.
fn stat<'a>(log: &'a str, name: &str) -> Option<&'a str> {
    let mut lines = log.lines().filter_map(|line| line.strip_prefix("stat::"));
    lines.find_map(|line| Some(line.strip_prefix(name)?.strip_prefix(':')?.trim()))
}

/// The file with the input that broke the target.
fn broken_by(log: &str) -> Option<&str> {
    log.lines().find_map(|line| line.split_once("Test unit written to ")).map(|(_, path)| path)
}

/// What a door said when it panicked, or libFuzzer when it had enough.
fn last_words(log: &str) -> String {
    let panicked = log.lines().skip_while(|line| !line.starts_with("panicked at "));
    let words: Vec<&str> = panicked.take_while(|line| !line.starts_with("==")).collect();
    if !words.is_empty() {
        return words.join("\n  ");
    }
    let error = log.lines().find(|line| line.contains("ERROR: libFuzzer"));
    error.or_else(|| log.lines().next_back()).unwrap_or("it said nothing").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_libfuzzer_says_is_understood() {
        let log = "#7 NEW    cov: 1\npanicked at src/a.rs:1:2:\n1 is gone\n\
                   ==7== ERROR: libFuzzer: deadly signal\nSUMMARY: libFuzzer: deadly signal\n\
                   artifact_prefix='found/'; Test unit written to found/crash-1\n\
                   stat::number_of_executed_units: 31\nstat::new_units_added:          2\n\
                   stat::peak_rss_mb:              32\n";
        assert_eq!(summary(log), "31 tries, 2 of interest, 32 MB at most");
        assert_eq!(broken_by(log), Some("found/crash-1"));
        assert_eq!(last_words(log), "panicked at src/a.rs:1:2:\n  1 is gone");
        let late = "#7 NEW\n==7== ERROR: libFuzzer: timeout after 5 seconds\n";
        assert_eq!(last_words(late), "==7== ERROR: libFuzzer: timeout after 5 seconds");
    }

    #[test]
    fn targets_are_named_by_their_seeds() {
        assert!(targets().unwrap().contains(&"chunk".to_owned()));
    }
}
