//! What becomes of a command: its state, what is done or heard, and the state after that.
//!
//! | | queued | sent | accepted | running | unknown | expired, cancelled | succeeded, failed |
//! |---|---|---|---|---|---|---|---|
//! | sent | sent | | | | | | |
//! | accepted | accepted | accepted | | | | | |
//! | running | running | running | running | | | | |
//! | done | as it says | as it says | as it says | as it says | as it says | if it was begun | |
//! | cancel | cancelled | asked for | refused | refused | refused | | refused |
//! | due | expired | unknown | unknown | unknown | | | |
//!
//! Where nothing stands, nothing changes: news that come twice or late move nothing back. What the
//! device says of the end is the truth, so it replaces what the server could only suppose.

use fleet_core::api::CommandState;
use fleet_core::limits::{COMMAND_OUTPUT_BYTES_MAX, ERROR_CHARS_MAX};
use fleet_core::time::Timestamp;
use fleet_core::untrusted::cut;
use fleet_core::wire::{CommandResult, Outcome, Progress};

use crate::store::{CommandRecord, Refusal};

/// What is done about a command, or heard of it.
#[derive(Clone, Debug)]
pub(crate) enum Input {
    /// It is about to be sent to the device.
    Sent,
    /// The device has said how far it is.
    News(Progress),
    /// Somebody wants it taken back.
    Cancel { by: String },
    /// Its time is over.
    Due,
}

/// The same without what does not decide.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Sent,
    Accepted,
    Running,
    Done(Outcome),
    Cancel,
    Due,
}

impl Input {
    fn kind(&self) -> Kind {
        match self {
            Self::Sent => Kind::Sent,
            Self::News(Progress::Accepted) => Kind::Accepted,
            Self::News(Progress::Running) => Kind::Running,
            Self::News(Progress::Done(result)) => Kind::Done(result.outcome),
            Self::Cancel { .. } => Kind::Cancel,
            Self::Due => Kind::Due,
        }
    }
}

/// Makes of a command what an input makes of it. Refused is what somebody asks for in vain.
pub(crate) fn apply(
    command: &mut CommandRecord,
    input: Input,
    now: Timestamp,
) -> Result<(), Refusal> {
    if let Input::Cancel { by } = &input {
        check_cancel(command)?;
        if command.state == CommandState::Sent && command.cancel_asked_by.is_none() {
            command.cancel_asked_by = Some(by.clone());
            command.why = format!("sent to the device, and {by} wants it taken back");
        }
    }
    // The device may have spoken since somebody saw that it was due.
    let is_early = command.due_at().is_none_or(|due_at| now < due_at);
    let next = match input.kind() {
        Kind::Due if is_early => command.state,
        kind => after(command.state, kind),
    };
    if next == command.state {
        // The device's own words of an end that was only supposed so far.
        if let Input::News(Progress::Done(result)) = &input
            && command.output.is_none()
            && ended(result.outcome) == command.state
        {
            command.why = why(command, &input, now);
            keep(command, result.clone());
        }
        return Ok(());
    }
    command.why = why(command, &input, now);
    command.state = next;
    command.state_at = now;
    match input {
        Input::Sent => command.sent_at = Some(now),
        Input::News(Progress::Accepted | Progress::Running) => {
            command.accepted_at.get_or_insert(now);
        }
        Input::News(Progress::Done(result)) => keep(command, result),
        Input::Cancel { .. } | Input::Due => {}
    }
    Ok(())
}

/// Has a command that is not stored yet go out as soon as it is.
pub(crate) fn send(command: &mut CommandRecord) {
    let now = command.created_at;
    command.why = why(command, &Input::Sent, now);
    command.state = CommandState::Sent;
    command.sent_at = Some(now);
}

/// The state after an input.
fn after(state: CommandState, kind: Kind) -> CommandState {
    use CommandState::{Accepted, Cancelled, Expired, Queued, Running, Sent, Unknown};
    match (kind, state) {
        (Kind::Sent, Queued) => Sent,
        (Kind::Accepted, Queued | Sent) => Accepted,
        (Kind::Running, Queued | Sent | Accepted) => Running,
        (Kind::Done(outcome), Queued | Sent | Accepted | Running | Unknown) => ended(outcome),
        (Kind::Done(outcome @ (Outcome::Succeeded | Outcome::Failed)), Expired | Cancelled) => {
            ended(outcome)
        }
        (Kind::Cancel, Queued) => Cancelled,
        (Kind::Due, Queued) => Expired,
        (Kind::Due, Sent | Accepted | Running) => Unknown,
        (_, state) => state,
    }
}

fn ended(outcome: Outcome) -> CommandState {
    match outcome {
        Outcome::Succeeded => CommandState::Succeeded,
        Outcome::Failed => CommandState::Failed,
        Outcome::Expired => CommandState::Expired,
        Outcome::Cancelled => CommandState::Cancelled,
        Outcome::Unknown => CommandState::Unknown,
    }
}

/// Taking back wins only before the device has said that it will do it.
fn check_cancel(command: &CommandRecord) -> Result<(), Refusal> {
    let problem = match command.state {
        CommandState::Queued | CommandState::Sent | CommandState::Cancelled => return Ok(()),
        CommandState::Accepted => "it is too late: the device has accepted the command".to_owned(),
        CommandState::Running => "it is too late: the device is at it".to_owned(),
        state => format!("the command is over: {}", state.word()),
    };
    Err(Refusal(problem))
}

/// Why a command is in the state that an input brings it to.
fn why(command: &CommandRecord, input: &Input, now: Timestamp) -> String {
    match input {
        Input::Sent => "sent to the device, which has not answered yet".to_owned(),
        Input::News(Progress::Accepted) => "the device will do it".to_owned(),
        Input::News(Progress::Running) => "the device is at it".to_owned(),
        Input::News(Progress::Done(result)) if result.detail.trim().is_empty() => {
            said_nothing(result.outcome).to_owned()
        }
        Input::News(Progress::Done(result)) => cut(result.detail.clone(), ERROR_CHARS_MAX),
        Input::Cancel { by } => format!("taken back by {by} before it was sent"),
        Input::Due if command.state == CommandState::Queued => {
            format!("the device did not come before {}", command.expires_at)
        }
        Input::Due => {
            let sent = command.sent_at.unwrap_or(command.created_at);
            match command.accepted_at {
                Some(at) => format!("accepted by the device at {at}, and not heard of since"),
                None => format!("sent at {sent}, and not heard of until {now}"),
            }
        }
    }
}

/// For a device that gives no reason.
fn said_nothing(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Succeeded => "the device has done it",
        Outcome::Failed => "the device says that it failed, and not why",
        Outcome::Expired => "it came to the device too late",
        Outcome::Cancelled => "taken back before the device began",
        Outcome::Unknown => "the device was interrupted and cannot tell",
    }
}

/// Keeps what a device says of the end, as much as is kept.
fn keep(command: &mut CommandRecord, result: CommandResult) {
    let mut output = result.output;
    let surplus = output.len().saturating_sub(COMMAND_OUTPUT_BYTES_MAX);
    output.truncate(COMMAND_OUTPUT_BYTES_MAX);
    command.exit_code = result.exit_code;
    command.output_left_out = result.left_out_bytes.saturating_add(surplus as u64);
    // Nothing takes the place of what was there, if there was anything.
    command.output = Some(output);
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use CommandState::{
        Accepted, Cancelled, Expired, Failed, Queued, Running, Sent, Succeeded, Unknown,
    };
    use fleet_core::id::Uid;
    use proptest::prelude::*;

    use super::*;

    const OUTCOMES: [Outcome; 5] = [
        Outcome::Succeeded,
        Outcome::Failed,
        Outcome::Expired,
        Outcome::Cancelled,
        Outcome::Unknown,
    ];

    /// When everything is due.
    const LATE: i64 = 99_999;

    fn time(secs: i64) -> Timestamp {
        Timestamp::from_millis(secs * 1_000)
    }

    fn command(state: CommandState) -> CommandRecord {
        CommandRecord {
            id: Uid::from_bytes([1; 16]),
            device: Uid::from_bytes([2; 16]),
            device_id: "a".parse().unwrap(),
            command: "restart".parse().unwrap(),
            author: "ada".to_owned(),
            created_at: time(0),
            expires_at: time(100),
            timeout: Duration::from_secs(60),
            state,
            why: "before".to_owned(),
            state_at: time(0),
            cancel_asked_by: None,
            sent_at: None,
            accepted_at: None,
            exit_code: None,
            output: None,
            output_left_out: 0,
        }
    }

    fn done(outcome: Outcome) -> Input {
        Input::News(Progress::Done(CommandResult {
            outcome,
            detail: String::new(),
            exit_code: Some(3),
            output: b"out".to_vec(),
            left_out_bytes: 0,
        }))
    }

    fn cancel() -> Input {
        Input::Cancel { by: "operator:bob".to_owned() }
    }

    fn all_inputs() -> Vec<Input> {
        let news = [Progress::Accepted, Progress::Running].map(Input::News);
        let ends = OUTCOMES.map(done);
        [Input::Sent, cancel(), Input::Due].into_iter().chain(news).chain(ends).collect()
    }

    #[test]
    fn each_state_and_input_have_their_state_after() {
        // For each input the states after each of `CommandState::ALL`; a dot is no change.
        let names: Vec<&str> = CommandState::ALL.iter().map(CommandState::word).collect();
        let expected = ["queued", "sent", "accepted", "running", "succeeded"];
        assert_eq!(names[..5], expected);
        for (input, states) in [
            (Input::Sent, "sent . . . . . . . ."),
            (Input::News(Progress::Accepted), "accepted accepted . . . . . . ."),
            (Input::News(Progress::Running), "running running running . . . . . ."),
            (
                done(Outcome::Succeeded),
                "succeeded succeeded succeeded succeeded . . succeeded succeeded succeeded",
            ),
            (done(Outcome::Failed), "failed failed failed failed . . failed failed failed"),
            (done(Outcome::Expired), "expired expired expired expired . . . . expired"),
            (done(Outcome::Cancelled), "cancelled cancelled cancelled cancelled . . . . cancelled"),
            (done(Outcome::Unknown), "unknown unknown unknown unknown . . . . ."),
            (cancel(), "cancelled . refused refused refused refused refused . refused"),
            (Input::Due, "expired unknown unknown unknown . . . . ."),
        ] {
            for (state, wanted) in CommandState::ALL.into_iter().zip(states.split(' ')) {
                let mut found = command(state);
                let said = apply(&mut found, input.clone(), time(LATE));
                let word = match said {
                    Err(Refusal(_)) => "refused",
                    Ok(()) if found.state == state => ".",
                    Ok(()) => found.state.word(),
                };
                assert_eq!(word, wanted, "{input:?} in {state:?}");
                let has_moved = found.state != state;
                assert_eq!(found.state_at, time(if has_moved { LATE } else { 0 }));
                assert!(!found.why.is_empty() && (!has_moved || found.why != "before"));
            }
        }
    }

    #[test]
    fn a_state_says_why() {
        let whys = |inputs: &[(i64, Input)]| {
            let mut command = command(Queued);
            for (at, input) in inputs {
                apply(&mut command, input.clone(), time(*at)).unwrap();
            }
            (command.state, command.why)
        };
        let accepted = || Input::News(Progress::Accepted);
        for (inputs, state, why) in [
            (vec![(1, cancel())], Cancelled, "taken back by operator:bob before it was sent"),
            (
                vec![(100, Input::Due)],
                Expired,
                "the device did not come before 1970-01-01T00:01:40Z",
            ),
            (
                vec![(1, Input::Sent), (2, cancel())],
                Sent,
                "sent to the device, and operator:bob wants it taken back",
            ),
            (
                vec![(1, Input::Sent), (700, Input::Due)],
                Unknown,
                "sent at 1970-01-01T00:00:01Z, and not heard of until 1970-01-01T00:11:40Z",
            ),
            (
                vec![
                    (1, Input::Sent),
                    (2, accepted()),
                    (3, Input::News(Progress::Running)),
                    (700, Input::Due),
                ],
                Unknown,
                "accepted by the device at 1970-01-01T00:00:02Z, and not heard of since",
            ),
            (vec![(1, accepted())], Accepted, "the device will do it"),
            (vec![(1, Input::News(Progress::Running))], Running, "the device is at it"),
            (
                vec![(1, done(Outcome::Failed))],
                Failed,
                "the device says that it failed, and not why",
            ),
        ] {
            assert_eq!(whys(&inputs), (state, why.to_owned()));
        }
    }

    #[test]
    fn what_a_device_says_of_the_end_is_kept_as_far_as_there_is_room() {
        let mut command = command(Running);
        let result = CommandResult {
            outcome: Outcome::Succeeded,
            detail: "ü".repeat(ERROR_CHARS_MAX + 1),
            exit_code: Some(-1),
            output: vec![b'x'; COMMAND_OUTPUT_BYTES_MAX + 5],
            left_out_bytes: 7,
        };
        apply(&mut command, Input::News(Progress::Done(result)), time(1)).unwrap();
        assert_eq!(command.state, Succeeded);
        assert_eq!(command.why, format!("{}…", "ü".repeat(ERROR_CHARS_MAX)));
        assert_eq!((command.exit_code, command.output_left_out), (Some(-1), 12));
        assert_eq!(command.output.map(|output| output.len()), Some(COMMAND_OUTPUT_BYTES_MAX));
    }

    #[test]
    fn it_is_given_up_when_the_device_should_have_spoken() {
        let mut command = command(Queued);
        assert_eq!(command.due_at(), Some(time(100)));
        apply(&mut command, Input::Sent, time(1)).unwrap();
        assert_eq!(command.due_at(), Some(time(700)));
        apply(&mut command, Input::News(Progress::Accepted), time(90)).unwrap();
        assert_eq!(command.due_at(), Some(time(750)));
        apply(&mut command, Input::News(Progress::Running), time(99)).unwrap();
        assert_eq!(command.due_at(), Some(time(750)), "it was accepted then");
        // Whoever saw that it was due as it was sent comes too early now.
        apply(&mut command, Input::Due, time(749)).unwrap();
        assert_eq!(command.state, Running);
        apply(&mut command, done(Outcome::Succeeded), time(120)).unwrap();
        assert_eq!(command.due_at(), None);
    }

    proptest! {
        #[test]
        fn whatever_comes_in_whatever_order_ends_as_the_device_says(
            inputs in proptest::collection::vec(0_usize..10, 0..12),
        ) {
            let mut command = command(Queued);
            let all = all_inputs();
            for (at, input) in inputs.iter().enumerate() {
                let before = command.clone();
                let input = all[*input].clone();
                let said = apply(&mut command, input.clone(), time(at as i64 * 1_000 + 1_000));
                if said.is_err() {
                    prop_assert_eq!(&command, &before);
                }
                // What is over opens no more, and what a device has done stays done.
                prop_assert!(!before.state.is_over() || command.state.is_over());
                if matches!(before.state, Succeeded | Failed) {
                    prop_assert_eq!(&command, &before);
                }
                prop_assert!(command.state.is_over() || before.state <= command.state);
                prop_assert_eq!(command.due_at().is_none(), command.state.is_over());
                prop_assert!(!command.why.is_empty());
                // The same again changes nothing.
                let once = command.clone();
                drop(apply(&mut command, input, time(LATE)));
                prop_assert_eq!(&command, &once);
            }
        }
    }
}
