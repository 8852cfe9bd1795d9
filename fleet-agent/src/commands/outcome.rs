//! What became of a command, in words.

use std::time::Duration;

use fleet_core::wire::{CommandResult, Outcome};

use crate::sys::process::{self, Ending, Output, Ran};

/// Bytes of what is said of a result.
const DETAIL_BYTES_MAX: usize = 1024;

/// What came of doing something.
#[derive(Debug)]
pub enum Performed {
    /// It is over.
    Over(CommandResult),
    /// It was asked for, and ends this run of the agent.
    Asked,
    /// The agent stops; this is what its program wrote until then.
    Interrupted(Output),
}

/// A result without a program.
pub(super) fn result(outcome: Outcome, detail: impl Into<String>) -> CommandResult {
    let mut detail = detail.into();
    let mut ends = (0..=detail.len().min(DETAIL_BYTES_MAX)).rev();
    let end = ends.find(|end| detail.is_char_boundary(*end)).unwrap_or(0);
    detail.truncate(end);
    CommandResult { outcome, detail, exit_code: None, output: Vec::new(), left_out_bytes: 0 }
}

/// Something that was not done.
pub(super) fn failed(detail: impl Into<String>) -> Performed {
    Performed::Over(result(Outcome::Failed, detail))
}

/// What a program's end means. `time` is how long it was given.
pub(super) fn of_program(ran: Ran, time: Duration) -> Performed {
    let (outcome, detail, exit_code) = match ran.ending {
        Ending::Exited(status) => {
            let outcome = if status.success() { Outcome::Succeeded } else { Outcome::Failed };
            (outcome, process::describe(status), status.code())
        }
        Ending::TimedOut => (Outcome::Failed, format!("took longer than {time:?}"), None),
        Ending::Stopped => return Performed::Interrupted(ran.output),
    };
    Performed::Over(with_output(CommandResult { exit_code, ..result(outcome, detail) }, ran.output))
}

/// A result with what a program wrote.
pub(super) fn with_output(result: CommandResult, output: Output) -> CommandResult {
    CommandResult { output: output.bytes, left_out_bytes: output.left_out_bytes, ..result }
}
