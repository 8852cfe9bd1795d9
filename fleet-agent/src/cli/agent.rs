//! `fleetd agent`: runs until it is told to stop, or until a part of it breaks. SIGUSR1, as sent by
//! `fleetd reset`, makes it forget its server. When its server has it begin anew, it ends as if told
//! to stop, and the same process runs its program again, which may be a newer one by then.

use std::env;
use std::path::Path;
use std::pin::pin;

use anyhow::Context as _;
use fleet_core::net::logging::{Log, LogLevel};
use fleet_core::net::shutdown::signal;
use fleet_core::time::{Clock as _, SystemClock};
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{self, SignalKind};

use super::watchdog::Watchdog;
use super::{FAILED, Failure};
use crate::app::App;
use crate::config::Config;
use crate::log_tail::LogTail;
use crate::paths;
use crate::settings::{Overrides, Settings};
use crate::sys::{SysRoot, process};

/// Threads for looking up names: one for probes, of which one looks at a time, and one for the way
/// to the server. The rest of the agent has one.
const LOOKUP_THREADS: usize = 2;
/// Bytes of such a thread's stack.
const STACK_BYTES: usize = 256 * 1024;

pub(super) fn run(
    overrides: Overrides,
    told: Option<LogLevel>,
    log_file: Option<&Path>,
) -> Result<u8, Failure> {
    let log = LogTail::default();
    let level = told.or_else(|| level_in_file(&overrides)).unwrap_or(LogLevel::INFO);
    let tail = log.clone();
    let hear = move |level, line: &str| tail.push(SystemClock.now(), level, line);
    Log::at(level).heard_by(hear).also_in(log_file).begin();
    // Asked now, since by then there may be another program in its place, and that one is meant.
    let program = env::current_exe();
    let settings = Settings { log, ..Settings::resolve(overrides).map_err(Failure::settings)? };
    let runtime = Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(LOOKUP_THREADS)
        .thread_stack_size(STACK_BYTES)
        .build()
        .context("cannot start")?;
    match finish(runtime, serve(settings))? {
        End::Code(code) => Ok(code),
        End::Anew => {
            let program = program.context("cannot tell where this program is")?;
            let error = process::become_program(&program, env::args_os().skip(1));
            Err(anyhow::Error::new(error).context("cannot begin anew").into())
        }
    }
}

/// How the agent ends.
enum End {
    /// With this code.
    Code(u8),
    /// To begin anew.
    Anew,
}

/// Runs the agent to its end. A name that is still being looked up, which the system may do for a
/// minute, is not waited for.
fn finish<T>(runtime: Runtime, agent: impl Future<Output = T>) -> T {
    let outcome = runtime.block_on(agent);
    runtime.shutdown_background();
    outcome
}

async fn serve(settings: Settings) -> Result<End, Failure> {
    // Before the port answers: whoever sees it answer may send this signal.
    let mut resets =
        unix::signal(SignalKind::user_defined1()).context("cannot wait for signals")?;
    let mut orphans = process::Orphans::begin().context("cannot wait for signals")?;
    let mut app = App::start(settings).map_err(Failure::start)?;
    let mut watchdog = Watchdog::begin(&app);
    let restarts = app.restarts();
    let mut stop = pin!(signal());
    let end = loop {
        tokio::select! {
            signal = &mut stop => {
                let signal = signal.context("cannot wait for signals")?;
                tracing::info!(signal, "stopping");
                break End::Code(0);
            }
            part = app.failed() => {
                tracing::error!(part, "a part of the agent ended, so all of it does");
                break End::Code(FAILED);
            }
            () = restarts.notified() => {
                tracing::info!("begins anew, as its server asked");
                break End::Anew;
            }
            () = orphans.reap() => {}
            () = watchdog.rest() => watchdog.look(&app),
            _ = resets.recv() => {
                if let Err(error) = app.forget() {
                    tracing::error!(error = %fleet_core::Chain(&error), "cannot forget the server");
                }
            }
        }
    };
    // Who begins anew goes on, as far as the service manager is concerned.
    if matches!(end, End::Code(_)) {
        watchdog.stopping();
    }
    app.stop().await;
    Ok(end)
}

/// The log begins before the settings are read, so that it can tell of them; what is wrong with
/// the file is told when it is read for good.
fn level_in_file(overrides: &Overrides) -> Option<LogLevel> {
    let root = overrides.sysroot.clone().map_or_else(SysRoot::real, SysRoot::at);
    let file = overrides.config.clone().unwrap_or_else(|| paths::config_file(&root));
    let level = Config::load(&file, false).ok()?.config.log_level?;
    level.as_str().parse().ok()
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::thread;
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_slow_lookup_does_not_hold_up_the_end() {
        let (hold, held) = mpsc::channel::<()>();
        let (tell, told) = mpsc::channel();
        let program = thread::spawn(move || {
            let runtime = Builder::new_current_thread().build().unwrap();
            finish(runtime, async move {
                let (begin, begun) = tokio::sync::oneshot::channel();
                tokio::task::spawn_blocking(move || {
                    begin.send(()).unwrap();
                    held.recv()
                });
                begun.await.unwrap();
            });
            tell.send(()).unwrap();
        });
        told.recv_timeout(Duration::from_secs(30)).expect("the program ends");
        drop(hold);
        program.join().unwrap();
    }
}
