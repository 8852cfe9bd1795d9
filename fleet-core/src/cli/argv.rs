//! Keys on the command line, where every user of the machine can read them in `ps`.
//!
//! A program that was given one begins anew, at once and as the same process: the key is then in its
//! environment, which only its own user can read.

use std::env;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

/// Where the value of `--api-key` is when it is not on the command line any more.
pub const HIDDEN_API_KEY: &str = "FLEETD_HIDDEN_API_KEY";
/// The same of a device's claim code.
pub const HIDDEN_CODE: &str = "FLEETD_HIDDEN_CLAIM_CODE";
/// The flags that take a key, and the variable that it goes to.
const FLAGS: [(&str, &str); 3] =
    [("--api-key", HIDDEN_API_KEY), ("--secret-key", "FLEETD_SECRET_KEY"), ("--code", HIDDEN_CODE)];
/// This very program, whatever has become of its file.
const PROGRAM: &str = "/proc/self/exe";

/// Takes keys out of the command line. To be called before anything else is begun. Where it cannot
/// be done, the command line stays as it is.
pub fn hide_keys() {
    let Some(Call { words, keys }) = split(env::args_os()) else { return };
    let mut words = words.into_iter();
    let mut command = Command::new(PROGRAM);
    if let Some(name) = words.next() {
        command.arg0(name);
    }
    // It returns only if it fails.
    let _not_replaced = command.args(words).envs(keys).exec();
}

/// A command line without its keys, and those by their variables.
#[derive(Debug, Default, PartialEq, Eq)]
struct Call {
    words: Vec<OsString>,
    keys: Vec<(&'static str, OsString)>,
}

/// Takes a command line apart, if there is a key in it. What names a file, or standard input, is
/// none. What is given twice is for others to complain about.
fn split(call: impl Iterator<Item = OsString>) -> Option<Call> {
    let mut found = Call::default();
    let mut call = call.peekable();
    while let Some(word) = call.next() {
        if word == "--" {
            found.words.push(word);
            found.words.extend(call);
            break;
        }
        let flag = FLAGS.iter().find(|(flag, _)| word.as_bytes().starts_with(flag.as_bytes()));
        let key = flag.and_then(|(flag, _)| match &word.as_bytes()[flag.len()..] {
            [] => call.next_if(|value| is_key(value)),
            [b'=', value @ ..] => Some(OsStr::from_bytes(value).to_owned()).filter(|it| is_key(it)),
            _ => None,
        });
        match (flag, key) {
            (Some((_, variable)), Some(_)) if found.keys.iter().any(|(it, _)| it == variable) => {
                return None;
            }
            (Some((_, variable)), Some(key)) => found.keys.push((variable, key)),
            _ => found.words.push(word),
        }
    }
    (!found.keys.is_empty()).then_some(found)
}

fn is_key(value: &OsStr) -> bool {
    !value.is_empty() && value != "-" && !value.as_bytes().starts_with(b"@")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_leave_the_command_line_and_nothing_else_does() {
        let split = |line: &str| super::split(line.split(' ').map(OsString::from));
        let found = split("fleets --api-key flt devices --secret-key=s3 -- --api-key x").unwrap();
        assert_eq!(found.words.join(OsStr::new(" ")), "fleets devices -- --api-key x");
        let expected = [(HIDDEN_API_KEY, "flt".into()), ("FLEETD_SECRET_KEY", "s3".into())];
        assert_eq!(found.keys, expected);
        for none in [
            "fleets devices",
            "fleets --api-key @key.file",
            "fleets --api-key -",
            "fleets --api-key=",
            "fleets --api-key",
            "fleets --api-keys flt",
            "fleets configure --codes codes.csv",
            "fleets -- --api-key flt",
            "fleets --api-key flt --api-key=flt",
        ] {
            assert_eq!(split(none), None, "{none}");
        }
    }
}
