//! How a command runs and ends: with its result, at its time limit, or because a person stopped it.

use std::pin::pin;
use std::process::ExitCode;
use std::time::Duration;

use super::args;
use super::failure::Failure;
use super::listed::FormatArgs;
use super::output::Output;
use crate::operator::exit::Exit;

/// How long a command may take.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct TimeLimit {
    /// How long the whole command may take, such as 30s
    #[arg(long, global = true, value_parser = args::time_limit, value_name = "DURATION")]
    timeout: Option<Duration>,
}

/// Runs a command to its end, to its time limit, or until a person stops it.
pub fn run(
    format: FormatArgs,
    limit: Option<TimeLimit>,
    command: impl AsyncFnOnce(&mut Output<'_>) -> Result<Exit, Failure>,
) -> ExitCode {
    let mut output = Output::of_process(format);
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            return end(&mut output, Err(Failure::new(Exit::Failed, error.to_string())));
        }
    };
    let limit = limit.and_then(|limit| limit.timeout);
    let result = runtime.block_on(async {
        let command = pin!(command(&mut output));
        tokio::select! {
            result = command => result,
            failure = stopped() => Err(failure),
            failure = out_of_time(limit) => Err(failure),
        }
    });
    // A thread that still waits for a line of input is left behind.
    runtime.shutdown_background();
    let result = match result {
        Err(failure) if output.is_asking() && failure.exit() == Exit::Interrupted => {
            Err(Failure::interrupted_at_question())
        }
        Err(failure) => Err(match output.going_on().map(str::to_owned) {
            Some(hint) if matches!(failure.exit(), Exit::Interrupted | Exit::TimedOut) => {
                failure.hint(hint)
            }
            Some(_) | None => failure,
        }),
        result => result,
    };
    end(&mut output, result)
}

fn end(output: &mut Output<'_>, result: Result<Exit, Failure>) -> ExitCode {
    let exit = match result {
        Ok(exit) => exit,
        Err(failure) => match output.fail(&failure) {
            Ok(()) => failure.exit(),
            // Without a reader on stderr the exit code has to say it alone.
            Err(_) => failure.exit(),
        },
    };
    exit.into()
}

async fn stopped() -> Failure {
    match tokio::signal::ctrl_c().await {
        Ok(()) => Failure::interrupted(),
        Err(error) => Failure::new(Exit::Failed, format!("cannot listen for signals: {error}")),
    }
}

async fn out_of_time(limit: Option<Duration>) -> Failure {
    match limit {
        Some(limit) => {
            tokio::time::sleep(limit).await;
            Failure::timed_out(limit)
        }
        None => std::future::pending().await,
    }
}
