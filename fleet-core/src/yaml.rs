//! One YAML file of settings, read with a bound and parsed so that every complaint names its place and, where
//! a key was mistyped, the key that was meant. Values are never repeated in what the parser says:
//! one of them is a secret.

use std::fmt;
use std::fs::OpenOptions;
use std::io::{self, Read as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use nix::fcntl::OFlag;
use serde::de::DeserializeOwned;
use serde_saphyr::{Error as YamlError, Location, Spanned};
use zeroize::Zeroizing;

use crate::near;
use crate::untrusted::Untrusted;

/// Bytes of a file.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// Why a file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A file that somebody named is not there.
    #[error("{path} does not exist")]
    Missing {
        /// Which file.
        path: Untrusted,
    },
    /// A file that is there cannot be read.
    #[error("cannot read {path}")]
    Unreadable {
        /// Which file.
        path: Untrusted,
        /// Why.
        source: io::Error,
    },
    /// A file with more than any configuration needs.
    #[error("{path} is larger than {FILE_BYTES_MAX} bytes")]
    TooLarge {
        /// Which file.
        path: Untrusted,
    },
    /// A file with something in it that cannot be obeyed.
    #[error("{place}: {problem}")]
    Invalid {
        /// Where.
        place: Place,
        /// What is wrong, without the file's values.
        problem: String,
    },
}

/// Where something stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// The file.
    pub path: Untrusted,
    /// From 1; 0 for the file as a whole.
    pub line: u64,
    /// From 1.
    pub column: u64,
}

impl Place {
    /// What is wrong at this place.
    pub fn error(self, problem: impl Into<String>) -> ConfigError {
        ConfigError::Invalid { place: self, problem: problem.into() }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.path)?;
        if self.line > 0 {
            write!(f, ", line {}, column {}", self.line, self.column)?;
        }
        Ok(())
    }
}

/// A file's text and who may read it.
pub struct Document {
    path: Untrusted,
    text: Zeroizing<String>,
    /// The file's mode, to see who else may read it.
    pub mode: u32,
}

impl Document {
    /// Reads a file; nothing if there is none and none was asked for.
    pub fn read(path: &Path, explicit: bool) -> Result<Option<Self>, ConfigError> {
        let shown = || Untrusted::from(path.to_string_lossy().into_owned());
        match read_bounded(path) {
            Ok((text, mode)) => Ok(Some(Self { path: shown(), text, mode })),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                if explicit {
                    Err(ConfigError::Missing { path: shown() })
                } else {
                    Ok(None)
                }
            }
            Err(error) if error.kind() == io::ErrorKind::FileTooLarge => {
                Err(ConfigError::TooLarge { path: shown() })
            }
            Err(source) => Err(ConfigError::Unreadable { path: shown(), source }),
        }
    }

    /// The document; one with nothing in it is as if it said nothing.
    pub fn parse<T: DeserializeOwned + Default>(&self) -> Result<T, ConfigError> {
        let options = serde_saphyr::options! { with_snippet: false };
        let parsed: Result<Option<T>, _> = serde_saphyr::from_str_with_options(&self.text, options);
        parsed.map(Option::unwrap_or_default).map_err(|error| {
            let place = self.place(error.location().unwrap_or(Location::UNKNOWN));
            place.error(problem(&error))
        })
    }

    /// A value that may be written, turned into a setting by `check`, which says what is wrong.
    pub fn check<W, S>(
        &self,
        written: Option<Spanned<W>>,
        check: impl FnOnce(W) -> Result<S, String>,
    ) -> Result<Option<S>, ConfigError> {
        written.map(|written| self.check_one(written, check)).transpose()
    }

    /// The same for a value that is there.
    pub fn check_one<W, S>(
        &self,
        written: Spanned<W>,
        check: impl FnOnce(W) -> Result<S, String>,
    ) -> Result<S, ConfigError> {
        let place = self.place(written.referenced);
        check(written.value).map_err(|problem| place.error(problem))
    }

    /// A place in this file.
    pub fn place(&self, location: Location) -> Place {
        Place { path: self.path.clone(), line: location.line(), column: location.column() }
    }

    /// What is in it.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The file, as it is shown.
    pub fn path(&self) -> Untrusted {
        self.path.clone()
    }
}

/// What a text says that is no file of settings, such as one that was typed; `name` is how errors
/// call it.
pub fn value(name: &str, text: &str) -> Result<serde_json::Value, ConfigError> {
    let text = Zeroizing::new(text.to_owned());
    Document { path: Untrusted::from(name), text, mode: 0 }.parse()
}

/// The mode is that of the file that was read, whatever the path leads to by now.
fn read_bounded(path: &Path) -> io::Result<(Zeroizing<String>, u32)> {
    let file = OpenOptions::new().read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(path)?;
    let mode = file.metadata()?.mode();
    let mut text = Zeroizing::new(String::new());
    file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text)?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(io::Error::from(io::ErrorKind::FileTooLarge));
    }
    Ok((text, mode))
}

/// One clear sentence without the file's values.
fn problem(error: &YamlError) -> String {
    match error {
        YamlError::SerdeUnknownField { field, expected, .. } => {
            let hint = suggestion(field, expected.iter().copied());
            let known = expected.join(", ");
            format!("unknown key {:?}{hint}; known are {known}", Untrusted::from(field.as_str()))
        }
        YamlError::SerdeUnknownVariant { expected, .. } => {
            format!("must be one of: {}", expected.join(", "))
        }
        YamlError::SerdeInvalidType { expected, .. }
        | YamlError::SerdeInvalidValue { expected, .. } => format!("must be {expected}"),
        YamlError::Unexpected { expected, .. } => must_be(expected),
        YamlError::DuplicateMappingKey { key: Some(key), .. } => {
            format!("{:?} is said twice", Untrusted::from(key.as_str()))
        }
        YamlError::AliasError { error, .. } | YamlError::WithSnippet { error, .. } => {
            problem(error)
        }
        YamlError::MultipleDocuments { .. } => "must be one document, without ---".to_owned(),
        YamlError::Budget { .. } => "too many or too deeply nested entries".to_owned(),
        _ => "not valid YAML here".to_owned(),
    }
}

/// The parser names its own events; people know values, lists and keys.
fn must_be(event: &str) -> String {
    match event {
        "string scalar" => "must be one value".to_owned(),
        "sequence start" => "must be a list".to_owned(),
        "mapping start" => "must be keys with values, like port: 6789".to_owned(),
        other => format!("must be {other}"),
    }
}

/// `; did you mean X?` if one of the known words is near.
pub fn suggestion<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> String {
    near::nearest(word, known)
        .map_or_else(String::new, |candidate| format!("; did you mean {candidate}?"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// T23: a small file that means a huge one.
    #[test]
    fn t23_bombs_are_errors_in_few_words() {
        let lines = |lines: Vec<String>| lines.join("\n");
        let laugh = |level: u32| {
            let alias = format!("*l{}", level - 1);
            format!("l{level}: &l{level} [{}]", [alias.as_str(); 9].join(", "))
        };
        let laughs = lines((1..10).map(laugh).collect());
        let chain = lines((1..20_000).map(|at| format!("k{at}: &k{at} *k{}", at - 1)).collect());
        let deep = lines((0..2_000).map(|at| format!("{}k:", " ".repeat(at))).collect());
        for (name, bomb) in [
            ("laughs", format!("l0: &l0 lol\n{laughs}")),
            ("lists in lists", "[".repeat(100_000)),
            ("keys in keys", deep),
            ("one that holds itself", "a: &a [*a, *a]\n".to_owned()),
            ("aliases of aliases", format!("k0: &k0 x\n{chain}")),
            ("merged keys", format!("m0: &m0 {{a: 1}}\n{}", "<<: *m0\n".repeat(10_000))),
            ("tags", "!a ".repeat(100_000)),
            ("documents", "---\na\n".repeat(100_000)),
        ] {
            let error = value("a file", &bomb).expect_err(name);
            assert!(error.to_string().len() < 200, "{name}: {error}");
        }
    }

    #[test]
    fn the_nearest_word_is_suggested_if_it_is_near() {
        let known = ["device_name", "device_id", "api_endpoint", "port"];
        for (word, suggested) in [
            ("devicename", "; did you mean device_name?"),
            ("api_endpont", "; did you mean api_endpoint?"),
            ("prot", "; did you mean port?"),
            ("color", ""),
            ("", ""),
        ] {
            assert_eq!(suggestion(word, known.into_iter()), suggested, "{word}");
        }
    }
}
