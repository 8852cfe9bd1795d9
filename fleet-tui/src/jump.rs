//! An account of a jump box that has no shell: sshd runs `fleet-tui` whatever its user asks for
//! (`ForceCommand fleet-tui`), and says in `SSH_ORIGINAL_COMMAND` what that was.
//!
//! Who asks for nothing gets the console, and who asks for a command gets that of `fleets`. No shell
//! sees the words, and neither program starts another, so nobody gets out.

use std::convert::Infallible;
use std::ffi::OsString;
use std::io;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::Command;

use fleet_core::cli::JUMP_BOX;

/// Where sshd says what was asked for. Nobody sets it where no command is forced.
pub const VARIABLE: &str = "SSH_ORIGINAL_COMMAND";

/// What to do.
#[derive(Debug, PartialEq, Eq)]
pub enum Call {
    /// The console, with this command line.
    Console(Vec<OsString>),
    /// A command of `fleets`, with these arguments.
    Fleets(Vec<String>),
}

/// Why what was asked for is not done.
#[derive(Debug, thiserror::Error)]
pub enum JumpError {
    /// A quote is open.
    #[error("what was asked for ends inside of quotes")]
    Quotes,
    /// Other letters than text has.
    #[error("what was asked for is no text")]
    NotText,
    /// The account was given its command line.
    #[error("this account is for the console alone: ask for nothing else")]
    ConsoleOnly,
    /// The other program.
    #[error("cannot run {}", path.display())]
    Fleets {
        /// Where it should be.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// What this process was called for, by its own command line and what sshd was asked for.
pub fn call(own: Vec<OsString>, asked: Option<OsString>) -> Result<Call, JumpError> {
    let Some(asked) = asked else { return Ok(Call::Console(own)) };
    let asked = asked.into_string().map_err(|_| JumpError::NotText)?;
    let mut words = shell_words::split(&asked).map_err(|_| JumpError::Quotes)?;
    if words.is_empty() {
        return Ok(Call::Console(own));
    }
    // What stands there, such as --read-only, must hold whatever is asked for.
    if own.len() > 1 {
        return Err(JumpError::ConsoleOnly);
    }
    match words[0].as_str() {
        "fleet-tui" => Ok(Call::Console(words.into_iter().map(OsString::from).collect())),
        "fleets" => Ok(Call::Fleets(words.split_off(1))),
        _ => Ok(Call::Fleets(words)),
    }
}

/// Becomes `fleets`, which lies beside this program.
pub fn become_fleets(words: &[String]) -> Result<Infallible, JumpError> {
    let own = std::env::current_exe();
    let path = own.map_or_else(|_| PathBuf::from("fleets"), |own| own.with_file_name("fleets"));
    let source = Command::new(&path).args(words).env_remove(VARIABLE).env(JUMP_BOX, "1").exec();
    Err(JumpError::Fleets { path, source })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(own: &str, asked: &str) -> Result<Call, JumpError> {
        call(own.split(' ').map(OsString::from).collect(), Some(asked.into()))
    }

    fn fleets(words: &[&str]) -> Call {
        Call::Fleets(words.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn who_asks_for_nothing_gets_the_console() {
        let own = vec![OsString::from("fleet-tui"), "--ascii".into()];
        assert_eq!(call(own.clone(), None).unwrap(), Call::Console(own.clone()));
        assert_eq!(asked("fleet-tui --ascii", " ").unwrap(), Call::Console(own.clone()));
        assert_eq!(asked("fleet-tui", "fleet-tui --ascii").unwrap(), Call::Console(own));
    }

    #[test]
    fn words_are_words_and_no_shell_reads_them() {
        let expected = fleets(&["devices", "--filter", "name=\"a b\" or cpu>90"]);
        for text in [
            "devices --filter 'name=\"a b\" or cpu>90'",
            "fleets devices --filter 'name=\"a b\" or cpu>90'",
        ] {
            assert_eq!(asked("fleet-tui", text).unwrap(), expected, "{text}");
        }
        assert_eq!(asked("fleet-tui", "devices; id").unwrap(), fleets(&["devices;", "id"]));
        assert_eq!(asked("fleet-tui", "$(id) `id` &").unwrap(), fleets(&["$(id)", "`id`", "&"]));
        assert!(matches!(asked("fleet-tui", "devices 'a"), Err(JumpError::Quotes)));
    }

    #[test]
    fn an_account_with_a_command_line_of_its_own_keeps_to_it() {
        let own = "fleet-tui --read-only";
        for text in ["devices", "fleet-tui", "fleet-tui --read-only"] {
            assert!(matches!(asked(own, text), Err(JumpError::ConsoleOnly)), "{text}");
        }
    }
}
