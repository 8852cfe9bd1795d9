//! Asking which devices to configure: a list to choose from on a terminal that can, numbers
//! elsewhere. What devices say of themselves is shown only made safe.

use std::fmt;
use std::io::{self, BufRead as _};

use inquire::{InquireError, MultiSelect};

use super::discover::state_text;
use super::failure::Failure;
use super::output::Output;
use crate::operator::browse::Sighting;
use crate::operator::exit::Exit;

/// How often a wrong answer is asked for again.
const ANSWERS_MAX: usize = 3;
/// Lines of the list on the screen; longer lists scroll.
const PAGE_LINES: usize = 15;
/// Bytes of a typed answer.
const ANSWER_BYTES_MAX: u64 = 16 * 1024;

const QUESTION: &str =
    "Which devices would you like to configure? (comma-separated numbers, or 'all'): ";

/// Lets a person choose from the list; the places of what was chosen.
pub(super) fn choose(
    sightings: &[Sighting],
    output: &mut Output<'_>,
) -> Result<Vec<usize>, Failure> {
    let options: Vec<_> = sightings.iter().enumerate().map(Choice::new).collect();
    // Blocks this thread: while the list is on the screen, keys are all that happens, and the
    // terminal must be put back in order before the program ends.
    let chosen = MultiSelect::new("Which devices would you like to configure?", options)
        .with_page_size(PAGE_LINES)
        .with_formatter(&|chosen| {
            chosen.iter().map(|option| option.value.id.as_str()).collect::<Vec<_>>().join(", ")
        })
        .with_help_message("space selects, → all, ← none, type to filter, enter goes, esc leaves")
        .prompt();
    match chosen {
        Ok(choices) => Ok(choices.into_iter().map(|choice| choice.place).collect()),
        Err(InquireError::OperationCanceled) => Err(Failure::interrupted_at_question()),
        Err(InquireError::OperationInterrupted) => {
            // The list stays, and at the bottom of the screen there is no line below it yet.
            output.note("")?;
            Err(Failure::interrupted_at_question())
        }
        Err(error) => {
            Err(Failure::new(Exit::Failed, format!("cannot ask on this terminal: {error}"))
                .hint("use --plain-prompt, --select or --auto"))
        }
    }
}

struct Choice {
    place: usize,
    id: String,
    text: String,
}

impl Choice {
    fn new((place, sighting): (usize, &Sighting)) -> Self {
        let device = &sighting.device;
        let id = device.device_id.as_ref().map_or("(no id)", |id| id.as_str()).to_owned();
        let address = device.ipv4.first().or(device.ipv6.first());
        let address = address.map(ToString::to_string).unwrap_or_default();
        let fingerprint = device.fingerprint.map(|it| it.to_string()).unwrap_or_default();
        let state = state_text(device);
        let host = &device.host;
        let text = format!("{id:<20} {state:<20} {address:<15} {fingerprint:<16} {host}");
        Self { place, id, text }
    }
}

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Asks for numbers; the places of what was chosen.
pub(super) async fn ask_numbers(
    count: usize,
    output: &mut Output<'_>,
) -> Result<Vec<usize>, Failure> {
    for _ in 0..ANSWERS_MAX {
        output.ask(QUESTION)?;
        let answer = read_line().await?;
        if !output.terminal.stdin || answer.is_none() {
            // Nobody's enter key ended the line.
            output.note("")?;
        }
        output.answered();
        let Some(answer) = answer else {
            return Err(Failure::usage("no answer came")
                .hint("give --select 1,3 or --select all, or --auto"));
        };
        match parse_selection(&answer, count) {
            Ok(places) => return Ok(places),
            Err(wrong) => output.note(&wrong)?,
        }
    }
    Err(Failure::usage("none of the answers was a selection"))
}

/// Reads a line without keeping signals waiting.
async fn read_line() -> Result<Option<String>, Failure> {
    let read = || {
        let mut line = String::new();
        let mut limited = io::Read::take(io::stdin().lock(), ANSWER_BYTES_MAX);
        limited.read_line(&mut line).map(|bytes| (bytes > 0).then_some(line))
    };
    let line = tokio::task::spawn_blocking(read)
        .await
        .map_err(|error| Failure::new(Exit::Failed, error.to_string()))?;
    line.map_err(|error| Failure::new(Exit::Failed, format!("cannot read the answer: {error}")))
}

/// The line that a person answers a question with; nothing at the end of the input.
pub(super) async fn ask_line(
    text: &str,
    output: &mut Output<'_>,
) -> Result<Option<String>, Failure> {
    output.ask(text)?;
    let answer = read_line().await?;
    if answer.is_none() {
        output.note("")?;
    }
    output.answered();
    Ok(answer)
}

/// Whether the question behind `text` is answered with yes.
pub async fn confirm(text: &str, output: &mut Output<'_>) -> Result<bool, Failure> {
    output.ask(&format!("{text} [y/N] "))?;
    let answer = read_line().await?;
    if answer.is_some() {
        output.answered();
    }
    let answer = answer.unwrap_or_default();
    Ok(matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
}

/// Whether the question behind `text` is answered with this very word.
pub async fn confirm_word(
    text: &str,
    word: &str,
    output: &mut Output<'_>,
) -> Result<bool, Failure> {
    output.ask(&format!("{text} "))?;
    let answer = read_line().await?;
    if answer.is_some() {
        output.answered();
    }
    Ok(answer.unwrap_or_default().trim() == word)
}

/// Reads `1,3` or `all`; the numbers begin with one, the places with zero.
pub(super) fn parse_selection(text: &str, count: usize) -> Result<Vec<usize>, String> {
    if text.trim().eq_ignore_ascii_case("all") {
        return Ok((0..count).collect());
    }
    let mut places = Vec::new();
    for part in text.split([',', ' ']).map(str::trim).filter(|part| !part.is_empty()) {
        let number = part.parse().ok().filter(|number| (1..=count).contains(number));
        let number: usize =
            number.ok_or_else(|| format!("{part:?} is not a number from 1 to {count}, or all"))?;
        if !places.contains(&(number - 1)) {
            places.push(number - 1);
        }
    }
    Ok(places)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::DeviceState;
    use crate::cli::discover::example;
    use crate::cli::testing::{HOSTILE, assert_harmless};

    #[test]
    fn selections_are_numbers_or_all() {
        for (text, places) in [
            ("all\n", vec![0, 1, 2]),
            (" ALL ", vec![0, 1, 2]),
            ("1,3", vec![0, 2]),
            ("3, 1 1", vec![2, 0]),
            ("", vec![]),
            (",", vec![]),
        ] {
            assert_eq!(parse_selection(text, 3), Ok(places), "{text:?}");
        }
        for bad in ["0", "4", "-1", "1,x", "1;2", "99999999999999999999", "all,1"] {
            assert!(parse_selection(bad, 3).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn hostile_devices_do_no_harm_in_the_list() {
        for text in HOSTILE {
            let mut device = example("x", DeviceState::Unclaimed);
            device.host = (*text).into();
            device.name = (*text).into();
            device.device_id = None;
            assert_harmless(&Choice::new((0, &Sighting { device, target: None })).to_string());
        }
    }
}
