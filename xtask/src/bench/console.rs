//! The figures of what people look at: the console and the page, with a large fleet behind them.

use std::ffi::OsStr;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use serde::Deserialize;

use super::figures::{Bench, KIB, MIB};
use crate::cargo::{self, Programs};
use crate::child::{self, kib_of};
use crate::fleet::Fleet;
use crate::interrupt::Interrupt;
use crate::pty::Pty;

/// Devices of a large fleet.
const DEVICES: &str = "10000";
/// What the console says when it has them all.
const ALL: &str = "10 000 devices";
/// What every row of a device has.
const ROW: &str = "pump-eu-";
/// How long a program may take that measures or fills.
const RUN_BOUND: Duration = Duration::from_secs(300);
/// How long the console may take until it counts as hung.
const START_BOUND: Duration = Duration::from_secs(30);
/// Between two looks at the console's terminal.
const LOOK_EVERY: Duration = Duration::from_millis(1);
/// Starts of the console, of which the median counts.
const STARTS: usize = 5;
/// How long the console is left alone before its memory is read.
const SETTLE: Duration = Duration::from_secs(5);
const SIZE: (u16, u16) = (120, 35);
/// A terminal, and devices' signs on it.
const TERMINAL: [(&str, &str); 2] = [("TERM", "xterm-256color"), ("LANG", "C.UTF-8")];
const KB: f64 = 1000.0;

/// What the console's own measuring program says.
#[derive(Deserialize)]
pub(super) struct FrameTimes {
    frame_p99_secs: f64,
    frame_ratio: f64,
    keystroke_p99_secs: f64,
}

/// A server with a large fleet in its store.
pub(super) struct Large<'a> {
    fleet: Fleet<'a>,
}

pub(super) fn frame(bench: &Bench<'_>) -> anyhow::Result<f64> {
    Ok(frame_times(bench)?.frame_p99_secs)
}

pub(super) fn frame_ratio(bench: &Bench<'_>) -> anyhow::Result<f64> {
    Ok(frame_times(bench)?.frame_ratio)
}

pub(super) fn keystroke(bench: &Bench<'_>) -> anyhow::Result<f64> {
    Ok(frame_times(bench)?.keystroke_p99_secs)
}

pub(super) fn start(bench: &Bench<'_>) -> anyhow::Result<f64> {
    let large = large(bench)?;
    let mut times = Vec::new();
    for _ in 0..STARTS {
        let started = Instant::now();
        let console = Console::start(&large.fleet, &bench.programs);
        console.wait_for(ROW, bench.interrupt)?;
        times.push(started.elapsed().as_secs_f64());
    }
    times.sort_by(f64::total_cmp);
    Ok(times[times.len() / 2])
}

pub(super) fn memory(bench: &Bench<'_>) -> anyhow::Result<f64> {
    let console = Console::start(&large(bench)?.fleet, &bench.programs);
    console.wait_for(ALL, bench.interrupt)?;
    bench.interrupt.pause(SETTLE)?;
    let pid = console.0.pid().as_raw().cast_unsigned();
    Ok(kib_of(pid, "status", "VmRSS:")? * KIB / MIB)
}

pub(super) fn page(bench: &Bench<'_>) -> anyhow::Result<f64> {
    page_bytes(bench, "identity")
}

pub(super) fn page_compressed(bench: &Bench<'_>) -> anyhow::Result<f64> {
    page_bytes(bench, "gzip")
}

fn frame_times<'b>(bench: &'b Bench<'_>) -> anyhow::Result<&'b FrameTimes> {
    if let Some(times) = bench.frame_times.get() {
        return Ok(times);
    }
    let program = cargo::build_example("fleet-tui", "frame_times")?;
    let folder = tempfile::tempdir()?;
    let mut command = child::command(program);
    let said =
        child::finish("frame_times", &mut command, folder.path(), RUN_BOUND, bench.interrupt)?;
    if said.code() != Some(0) {
        bail!("frame_times failed ({}): {}", said.status, said.stderr.trim());
    }
    let times = serde_json::from_slice(&said.stdout).context("what frame_times printed")?;
    Ok(bench.frame_times.get_or_init(|| times))
}

fn large<'b, 'a>(bench: &'b Bench<'a>) -> anyhow::Result<&'b Large<'a>> {
    if let Some(large) = bench.large.get() {
        return Ok(large);
    }
    let filler = cargo::build_example("fleet-server", "fill_store")?;
    let mut fleet = bench.fleet(0, false)?;
    let folder = fleet.folder().to_owned();
    fleet.while_stopped(|database| {
        let mut command = child::command(filler);
        command.arg(database).arg(DEVICES);
        let said = child::finish("fill_store", &mut command, &folder, RUN_BOUND, bench.interrupt)?;
        if said.code() != Some(0) {
            bail!("fill_store failed ({}): {}", said.status, said.stderr.trim());
        }
        Ok(())
    })?;
    Ok(bench.large.get_or_init(|| Large { fleet }))
}

/// A console on a terminal.
struct Console(Pty);

impl Console {
    fn start(fleet: &Fleet<'_>, programs: &Programs) -> Self {
        let operator = fleet.operator(&programs.console);
        let own = operator.get_envs().filter_map(|(name, value)| Some((name.to_str()?, value?)));
        let terminal = TERMINAL.iter().map(|(name, value)| (*name, OsStr::new(*value)));
        let env: Vec<(&str, &OsStr)> = own.chain(terminal).collect();
        Self(Pty::start(&Command::new(&programs.console), &env, SIZE))
    }

    fn wait_for(&self, text: &str, interrupt: &Interrupt) -> anyhow::Result<()> {
        let seen = interrupt
            .until(START_BOUND, LOOK_EVERY, || Ok(self.0.text().contains(text).then_some(())))?;
        seen.with_context(|| format!("the console did not show {text:?}:\n{}", self.0.text()))
    }
}

/// Kilobytes of the page as it is sent to a browser that is signed in.
fn page_bytes(bench: &Bench<'_>, encoding: &str) -> anyhow::Result<f64> {
    let fleet = &large(bench)?.fleet;
    let jar = fleet.folder().join(format!("cookies-{encoding}"));
    let url = fleet.url();
    let curl = |args: &[&str]| {
        let mut command = child::command("curl");
        command.args(["-sS", "-f", "-H", &format!("Origin: {url}"), "-b"]).arg(&jar);
        command.arg("-c").arg(&jar).args(args);
        let said =
            child::finish("curl", &mut command, fleet.folder(), START_BOUND, bench.interrupt)?;
        if said.code() != Some(0) {
            bail!("curl failed ({}): {}", said.status, said.stderr.trim());
        }
        Ok(said.stdout)
    };
    let form = String::from_utf8(curl(&["-H", "Accept: text/html", &format!("{url}/sign-in")])?)?;
    let token = token(&form).context("the form to sign in has no token")?;
    let key = format!("key@{}", fleet.key_file().display());
    let token = format!("token={token}");
    curl(&["--data-urlencode", &key, "--data-urlencode", &token, &format!("{url}/sign-in")])?;
    let accept = format!("Accept-Encoding: {encoding}");
    let page = curl(&["-H", "Accept: text/html", "-H", &accept, &format!("{url}/")])?;
    Ok(page.len() as f64 / KB)
}

fn token(form: &str) -> Option<&str> {
    let (_, rest) = form.split_once("name=\"token\" value=\"")?;
    rest.split('"').next()
}
