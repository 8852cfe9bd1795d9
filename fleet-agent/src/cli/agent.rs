//! `fleetd agent`: runs until it is told to stop, or until a part of it breaks.

use anyhow::Context as _;
use fleet_core::net::logging::{self, LogLevel};
use fleet_core::net::shutdown::signal;
use tokio::runtime::Builder;

use super::{FAILED, Failure};
use crate::app::App;
use crate::config::Config;
use crate::paths;
use crate::settings::{Overrides, Settings};
use crate::sys::SysRoot;

/// Threads for looking up names; the rest of the agent has one.
const LOOKUP_THREADS: usize = 1;
/// Bytes of such a thread's stack.
const STACK_BYTES: usize = 256 * 1024;

pub(super) fn run(overrides: Overrides, told: Option<LogLevel>) -> Result<u8, Failure> {
    logging::start(told.or_else(|| level_in_file(&overrides)).unwrap_or(LogLevel::INFO));
    let settings = Settings::resolve(overrides).map_err(Failure::settings)?;
    let runtime = Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(LOOKUP_THREADS)
        .thread_stack_size(STACK_BYTES)
        .build()
        .context("cannot start")?;
    runtime.block_on(serve(settings))
}

async fn serve(settings: Settings) -> Result<u8, Failure> {
    let mut app = App::start(settings).map_err(Failure::start)?;
    let code = tokio::select! {
        signal = signal() => {
            let signal = signal.context("cannot wait for signals")?;
            tracing::info!(signal, "stopping");
            0
        }
        part = app.failed() => {
            tracing::error!(part, "a part of the agent ended, so all of it does");
            FAILED
        }
    };
    app.stop().await;
    Ok(code)
}

/// The log begins before the settings are read, so that it can tell of them; what is wrong with
/// the file is told when it is read for good.
fn level_in_file(overrides: &Overrides) -> Option<LogLevel> {
    let root = overrides.sysroot.clone().map_or_else(SysRoot::real, SysRoot::at);
    let file = overrides.config.clone().unwrap_or_else(|| paths::config_file(&root));
    let level = Config::load(&file, false).ok()?.config.log_level?;
    level.as_str().parse().ok()
}
