//! What can be asked of a device: a closed set of commands, each a word and arguments.
//!
//! A command travels and is stored as its words, so that an older agent can say that it does not
//! know one. Each end reads the words into a [`Command`] before anything is done, and no shell ever
//! sees them.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::limits::{COMMAND_ARGS_MAX, COMMAND_BYTES_MAX};
use crate::near;
use crate::untrusted::Untrusted;

/// Lines of a log unless told otherwise, and at most.
const LINES_DEFAULT: u32 = 100;
const LINES_MAX: u32 = 10_000;
/// Bytes of a unit's name, as systemd has it.
const UNIT_BYTES_MAX: usize = 255;

/// How long a command may run on its device unless told otherwise.
pub const COMMAND_TIMEOUT_DEFAULT: Duration = Duration::from_secs(60);
/// How long one may run at most.
pub const COMMAND_TIMEOUT_MAX: Duration = Duration::from_secs(3600);

/// Something to be done by a device.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Command {
    /// The agent begins anew.
    Restart,
    /// A service of systemd's begins anew.
    RestartService(UnitName),
    /// The machine begins anew.
    Reboot,
    /// A report is made and sent at once.
    Collect,
    /// The last lines of a log: the agent's own, or a unit's.
    Logs {
        /// The unit.
        unit: Option<UnitName>,
        /// How many lines.
        lines: u32,
    },
    /// The device makes itself a new key, and the old one ends.
    RotateKey,
    /// A program is run, if the device's own policy lets it.
    Exec(Vec<String>),
}

/// Words that are no command.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct CommandError(String);

/// The words that begin commands, with what may follow, for people.
pub const COMMANDS: &[(&str, &str)] = &[
    ("restart", "[SERVICE]"),
    ("reboot", ""),
    ("collect", ""),
    ("logs", "[-u UNIT] [-n LINES]"),
    ("rotate-key", ""),
    ("exec", "PROGRAM [ARGUMENT…]"),
];

impl Command {
    /// Reads a word and its arguments.
    pub fn read(word: &str, args: &[String]) -> Result<Self, CommandError> {
        let bytes = word.len() + args.iter().map(String::len).sum::<usize>();
        if args.len() > COMMAND_ARGS_MAX || bytes > COMMAND_BYTES_MAX {
            return Err(CommandError(format!(
                "a command has at most {COMMAND_ARGS_MAX} arguments and {COMMAND_BYTES_MAX} bytes"
            )));
        }
        match (word, args) {
            ("restart", []) => Ok(Self::Restart),
            ("restart", [service]) => service.parse().map(Self::RestartService),
            ("reboot", []) => Ok(Self::Reboot),
            ("collect", []) => Ok(Self::Collect),
            ("logs", args) => logs(args),
            ("rotate-key", []) => Ok(Self::RotateKey),
            ("exec", [program, ..]) if program.is_empty() => {
                Err(CommandError("exec needs the name of a program".to_owned()))
            }
            ("exec", [_, ..]) if args.iter().any(|arg| arg.contains('\0')) => {
                Err(CommandError("no argument can hold a NUL character".to_owned()))
            }
            ("exec", [_, ..]) => Ok(Self::Exec(args.to_vec())),
            (word, _) => Err(not_understood(word)),
        }
    }

    /// The word.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Restart | Self::RestartService(_) => "restart",
            Self::Reboot => "reboot",
            Self::Collect => "collect",
            Self::Logs { .. } => "logs",
            Self::RotateKey => "rotate-key",
            Self::Exec(_) => "exec",
        }
    }

    /// The arguments, as [`Command::read`] reads them.
    pub fn args(&self) -> Vec<String> {
        match self {
            Self::Restart | Self::Reboot | Self::Collect | Self::RotateKey => Vec::new(),
            Self::RestartService(service) => vec![service.to_string()],
            Self::Logs { unit, lines } => {
                let unit = unit.iter().flat_map(|unit| ["-u".to_owned(), unit.to_string()]);
                let lines = Some(lines).filter(|lines| **lines != LINES_DEFAULT);
                let lines = lines.into_iter().flat_map(|n| ["-n".to_owned(), n.to_string()]);
                unit.chain(lines).collect()
            }
            Self::Exec(argv) => argv.clone(),
        }
    }

    /// Whether a newer one of the same words makes an older one that still waits needless.
    pub fn is_superseded_by_its_like(&self) -> bool {
        match self {
            Self::Restart
            | Self::RestartService(_)
            | Self::Reboot
            | Self::Collect
            | Self::RotateKey => true,
            // Whoever asked for these wants to read what comes of them.
            Self::Logs { .. } | Self::Exec(_) => false,
        }
    }

    /// Whether the agent, or the machine, begins anew before it is over.
    pub fn begins_anew(&self) -> bool {
        match self {
            Self::Restart | Self::Reboot | Self::RotateKey => true,
            Self::RestartService(_) | Self::Collect | Self::Logs { .. } | Self::Exec(_) => false,
        }
    }

    /// Whether the device, or a part of it, does not do its work for a while.
    pub fn is_interruption(&self) -> bool {
        match self {
            Self::RestartService(_) | Self::Reboot | Self::Exec(_) => true,
            Self::Restart | Self::Collect | Self::Logs { .. } | Self::RotateKey => false,
        }
    }
}

/// The words with spaces between them; arguments that such a text could not hold are quoted. For
/// people: arguments may have come from outside.
impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())?;
        for arg in self.args() {
            let is_plain =
                !arg.is_empty() && !arg.contains(|c: char| c.is_whitespace() || c == '"');
            if is_plain {
                write!(f, " {}", Untrusted::new(arg))?;
            } else {
                // A quote inside must not look like the end.
                let arg = arg.replace('\\', "\\\\").replace('"', "\\\"");
                write!(f, " {:?}", Untrusted::new(arg))?;
            }
        }
        Ok(())
    }
}

/// Reads a command out of one text, as in `restart nginx`. There are no quotes: arguments with
/// spaces come as arguments.
impl FromStr for Command {
    type Err = CommandError;

    fn from_str(text: &str) -> Result<Self, CommandError> {
        let mut words = text.split_whitespace().map(str::to_owned);
        let word = words.next().ok_or_else(|| CommandError("no command".to_owned()))?;
        let args: Vec<String> = words.collect();
        if args.iter().any(|arg| arg.contains(['"', '\''])) {
            let problem = "quotes mean nothing here; arguments with spaces are given one by one";
            return Err(CommandError(problem.to_owned()));
        }
        Self::read(&word, &args)
    }
}

fn not_understood(word: &str) -> CommandError {
    if let Some((word, args)) = COMMANDS.iter().find(|(known, _)| *known == word) {
        let form = format!("{word} {args}");
        return CommandError(format!("the form is: {}", form.trim_end()));
    }
    let known: Vec<&str> = COMMANDS.iter().map(|(word, _)| *word).collect();
    let hint = near::nearest(word, known.iter().copied());
    let hint = hint.map_or_else(String::new, |near| format!("; did you mean {near}?"));
    let word = Untrusted::from(word);
    CommandError(format!("there is no command {word}; there are {}{hint}", known.join(", ")))
}

fn logs(args: &[String]) -> Result<Command, CommandError> {
    let (mut unit, mut lines) = (None, LINES_DEFAULT);
    for pair in args.chunks(2) {
        match pair {
            [flag, name] if flag == "-u" => unit = Some(name.parse()?),
            [flag, count] if flag == "-n" => {
                let count = count.parse().ok().filter(|count| (1..=LINES_MAX).contains(count));
                let problem = || CommandError(format!("-n takes a number from 1 to {LINES_MAX}"));
                lines = count.ok_or_else(problem)?;
            }
            _ => return Err(not_understood("logs")),
        }
    }
    Ok(Command::Logs { unit, lines })
}

/// The name of a unit of systemd's, such as `nginx.service`. It cannot be taken for a flag or for
/// several names.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct UnitName(String);

impl UnitName {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for UnitName {
    type Err = CommandError;

    /// A name without a kind is a service's.
    fn from_str(text: &str) -> Result<Self, CommandError> {
        const KINDS: [&str; 4] = [".service", ".timer", ".socket", ".target"];
        let plain = |b: u8| b.is_ascii_alphanumeric() || b":-_.\\@".contains(&b);
        let has_kind = KINDS.iter().any(|kind| text.ends_with(kind));
        let name = if has_kind { text.to_owned() } else { format!("{text}.service") };
        let is_name = text.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
            && name.bytes().all(plain)
            && name.len() <= UNIT_BYTES_MAX;
        if is_name {
            Ok(Self(name))
        } else {
            let text = Untrusted::from(text);
            Err(CommandError(format!("{text} is not the name of a systemd unit")))
        }
    }
}

impl fmt::Display for UnitName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn words(words: &[&str]) -> Result<Command, String> {
        let args: Vec<String> = words[1..].iter().map(ToString::to_string).collect();
        Command::read(words[0], &args).map_err(|error| error.to_string())
    }

    #[test]
    fn a_text_says_what_its_words_say() {
        let nginx = "nginx.service".parse().unwrap();
        for (text, command) in [
            ("restart", Command::Restart),
            (" restart  nginx ", Command::RestartService(nginx)),
            ("reboot", Command::Reboot),
            ("collect", Command::Collect),
            ("rotate-key", Command::RotateKey),
            ("logs", Command::Logs { unit: None, lines: 100 }),
            ("logs -n 5 -u a@b", Command::Logs { unit: "a@b".parse().ok(), lines: 5 }),
            ("exec ls -l", Command::Exec(vec!["ls".to_owned(), "-l".to_owned()])),
        ] {
            assert_eq!(text.parse(), Ok(command.clone()), "{text}");
            assert_eq!(Command::read(command.word(), &command.args()), Ok(command));
        }
    }

    #[test]
    fn what_is_no_command_is_told_why() {
        for (given, problem) in [
            (
                &["restrat"][..],
                "there is no command restrat; there are restart, reboot, collect, logs, rotate-key, exec; did you mean restart?",
            ),
            (&["reboot", "now"], "the form is: reboot"),
            (&["restart", "a", "b"], "the form is: restart [SERVICE]"),
            (&["restart", "-H"], "-H is not the name of a systemd unit"),
            (&["restart", "a b"], "a b is not the name of a systemd unit"),
            (&["restart", "a/../b"], "a/../b is not the name of a systemd unit"),
            (&["restart", ""], " is not the name of a systemd unit"),
            (&["logs", "-n", "0"], "-n takes a number from 1 to 10000"),
            (&["logs", "-f"], "the form is: logs [-u UNIT] [-n LINES]"),
            (&["exec"], "the form is: exec PROGRAM [ARGUMENT…]"),
            (&["exec", ""], "exec needs the name of a program"),
            (&["exec", "a", "b\0"], "no argument can hold a NUL character"),
        ] {
            assert_eq!(words(given), Err(problem.to_owned()), "{given:?}");
        }
        let long = "x".repeat(COMMAND_BYTES_MAX);
        assert!(words(&["exec", &long]).unwrap_err().starts_with("a command has at most"));
        assert!("exec 'a b'".parse::<Command>().unwrap_err().to_string().starts_with("quotes"));
    }

    #[test]
    fn a_person_sees_where_an_argument_ends() {
        let command = words(&["exec", "echo", "a b", "", "\u{1b}[2J"]).unwrap();
        assert_eq!(command.to_string(), r#"exec echo "a b" "" \u{1b}[2J"#);
        let command = words(&["exec", "sh", "-c", "echo \"a b\" \\", "\\d"]).unwrap();
        assert_eq!(command.to_string(), r#"exec sh -c "echo \"a b\" \\" \d"#);
    }

    proptest! {
        #[test]
        fn t27_arguments_of_a_program_stay_as_they_are(
            argv in proptest::collection::vec("[^\0]{1,20}", 1..8)
        ) {
            let command = Command::read("exec", &argv).unwrap();
            prop_assert_eq!(command.args(), argv.clone());
            prop_assert_eq!(Command::read(command.word(), &command.args()), Ok(Command::Exec(argv)));
        }

        #[test]
        fn any_words_are_answered(word in "\\PC{0,12}", args in proptest::collection::vec("\\PC{0,12}", 0..4)) {
            if let Ok(command) = Command::read(&word, &args) {
                prop_assert_eq!(Command::read(command.word(), &command.args()), Ok(command.clone()));
                prop_assert!(!command.to_string().contains('\n'));
            }
        }
    }
}
