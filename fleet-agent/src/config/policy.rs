//! `/etc/fleetd/policy.yaml`: what the device's owner lets others do to it. Only who may write
//! this file may change it; no server can.

use std::fmt;
use std::path::Path;

use fleet_core::api::ClaimMode;
use fleet_core::command::{COMMANDS, Command};
use fleet_core::untrusted::Untrusted;
use fleet_core::yaml::{self, ConfigError, Document};
use serde::Deserialize;
use serde::de::{Deserializer, Error, SeqAccess, Unexpected, Visitor};
use serde_saphyr::Spanned;

/// Where the policy is unless a flag says otherwise.
pub const PATH_DEFAULT: &str = "/etc/fleetd/policy.yaml";

/// Programs that can be allowed, and words of one.
const ALLOWED_MAX: usize = 256;

/// What others may do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// Who may make the device part of a fleet.
    pub claim: ClaimPolicy,
    /// What its server may have it do.
    pub commands: CommandPolicy,
}

/// Who may make an unclaimed device part of a fleet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ClaimPolicy {
    /// Whoever is on the same link, once, for a time after the start.
    #[default]
    Open,
    /// Whoever knows the device's code, once.
    Code,
    /// Whoever knows the key that the owner put on the device, once.
    Key,
    /// Nobody over the network.
    Disabled,
}

impl ClaimPolicy {
    /// What a claimer must prove.
    pub fn mode(self) -> ClaimMode {
        match self {
            Self::Open => ClaimMode::Open,
            Self::Code => ClaimMode::Code,
            Self::Key => ClaimMode::Key,
            Self::Disabled => ClaimMode::Disabled,
        }
    }
}

/// What a server may have the device do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CommandPolicy {
    /// The words that it may use; all unless the owner says so. `exec` needs more than its word.
    words: Option<Vec<&'static str>>,
    exec: ExecPolicy,
}

/// Which programs a server may run.
#[derive(Clone, Debug, PartialEq, Eq)]
enum ExecPolicy {
    /// Those whose words begin like one of these.
    Listed(Vec<Vec<String>>),
    /// All.
    Any,
}

impl Default for ExecPolicy {
    fn default() -> Self {
        Self::Listed(Vec::new())
    }
}

impl ClaimPolicy {
    /// Whether a claimer must know a secret. Who does may come from anywhere, at any time.
    pub fn asks_for_proof(self) -> bool {
        matches!(self, Self::Code | Self::Key)
    }
}

impl Policy {
    /// Reads a file. One that is `explicit`, named by flag or environment, must exist; a policy
    /// that cannot be read is an error, so that it never falls open.
    pub fn load(path: &Path, explicit: bool) -> Result<Self, ConfigError> {
        match Document::read(path, explicit)? {
            Some(document) => document.parse::<RawPolicy>()?.check(&document),
            None => Ok(Self::default()),
        }
    }
}

impl CommandPolicy {
    /// Lets a server do whatever there is, for tests.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn any() -> Self {
        Self { words: None, exec: ExecPolicy::Any }
    }

    /// Whether the device does this for its server; if not, what its owner would have to allow.
    pub fn permits(&self, command: &Command) -> Result<(), String> {
        let word = command.word();
        if self.words.as_ref().is_some_and(|words| !words.contains(&word)) {
            return Err(format!(
                "this device's policy does not let its server use {word}; listing it at commands \
                 in {PATH_DEFAULT} would"
            ));
        }
        let Command::Exec(argv) = command else { return Ok(()) };
        match &self.exec {
            ExecPolicy::Any => Ok(()),
            ExecPolicy::Listed(allowed) if allowed.iter().any(|begin| argv.starts_with(begin)) => {
                Ok(())
            }
            ExecPolicy::Listed(_) => {
                let program = Untrusted::from(argv.first().map_or("", String::as_str));
                Err(format!(
                    "this device's policy does not let its server run {program} like this; listing \
                     it at exec.allow in {PATH_DEFAULT} would"
                ))
            }
        }
    }
}

/// The file as it is written, before anything is checked.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RawPolicy {
    claim: ClaimPolicy,
    commands: Option<Vec<Spanned<String>>>,
    exec: Option<RawExec>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RawExec {
    allow: Option<Spanned<Allow>>,
}

impl RawPolicy {
    fn check(self, document: &Document) -> Result<Policy, ConfigError> {
        let words = self.commands.map(|words| {
            words.into_iter().map(|word| document.check_one(word, known_word)).collect()
        });
        let allow = self.exec.unwrap_or_default().allow;
        let exec = document.check(allow, Allow::check)?.unwrap_or_default();
        let commands = CommandPolicy { words: words.transpose()?, exec };
        Ok(Policy { claim: self.claim, commands })
    }
}

fn known_word(text: String) -> Result<&'static str, String> {
    let known = || COMMANDS.iter().map(|(word, _)| *word);
    known().find(|word| *word == text).ok_or_else(|| {
        let hint = yaml::suggestion(&text, known());
        let known: Vec<&str> = known().collect();
        format!(
            "there is no command {:?}; there are {}{hint}",
            Untrusted::new(text),
            known.join(", ")
        )
    })
}

/// `exec.allow` as it is written.
enum Allow {
    Word(String),
    List(Vec<Begin>),
}

impl Allow {
    fn check(self) -> Result<ExecPolicy, String> {
        match self {
            Self::Word(word) if word == "any" => Ok(ExecPolicy::Any),
            Self::Word(_) => Err("allow must be any, or a list of programs".to_owned()),
            Self::List(list) if list.len() > ALLOWED_MAX => {
                Err(format!("more than {ALLOWED_MAX} programs"))
            }
            Self::List(list) => {
                let begins: Vec<Vec<String>> = list.into_iter().map(|begin| begin.0).collect();
                if begins.iter().any(|words| words.first().is_none_or(String::is_empty)) {
                    let problem = "a program without a name would allow everything, which is said \
                                   by allow: any";
                    return Err(problem.to_owned());
                }
                Ok(ExecPolicy::Listed(begins))
            }
        }
    }
}

/// How a program's words must begin: the program alone, or a list that begins with it.
struct Begin(Vec<String>);

impl<'de> Deserialize<'de> for Allow {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Read;

        impl<'de> Visitor<'de> for Read {
            type Value = Allow;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("any, or a list of programs")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Allow, E> {
                Ok(Allow::Word(text.to_owned()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Allow, A::Error> {
                let mut list = Vec::new();
                while let Some(item) = items.next_element()? {
                    list.push(item);
                }
                Ok(Allow::List(list))
            }
        }

        deserializer.deserialize_any(Read)
    }
}

impl<'de> Deserialize<'de> for Begin {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Read;

        impl<'de> Visitor<'de> for Read {
            type Value = Begin;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a program, or a list of a program and its arguments")
            }

            fn visit_str<E: Error>(self, program: &str) -> Result<Begin, E> {
                Ok(Begin(vec![program.to_owned()]))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Begin, A::Error> {
                let mut words = Vec::new();
                while let Some(word) = items.next_element()? {
                    words.push(word);
                    if words.len() > ALLOWED_MAX {
                        return Err(A::Error::invalid_value(Unexpected::Seq, &self));
                    }
                }
                Ok(Begin(words))
            }
        }

        deserializer.deserialize_any(Read)
    }
}
