//! Where an operator's program finds its key: told, in the environment, or beside the server.
//!
//! The order: `--api-key` (the key, `@file`, or `-` for standard input), `FLEETD_API_KEY`,
//! `FLEETD_API_KEY_FILE`, the service manager's `fleetd-api-key`, the context's file, then `admin.key` beside `FLEETD_DATABASE`, in the user's state folder, in
//! `/var/lib/fleetd`. The first that is there counts, also if it turns out to be wrong.

use std::ffi::OsString;
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use crate::credentials;
use crate::secret::{ApiKey, ApiKeyError};

/// Bytes of a file with a key in it.
const FILE_BYTES_MAX: u64 = 1024;
const ADMIN_KEY: &str = "admin.key";
const SYSTEM_FOLDER: &str = "/var/lib/fleetd";

/// A key, and where it was.
#[derive(Clone, Debug)]
pub struct FoundKey {
    /// The key.
    pub key: ApiKey,
    /// Where it was.
    pub origin: KeyOrigin,
}

/// Where a key was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyOrigin {
    /// On the command line, for every process of the machine to see.
    Argument,
    /// On standard input.
    Stdin,
    /// In an environment variable.
    Environment,
    /// In a file.
    File(PathBuf),
}

impl fmt::Display for KeyOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Argument => f.write_str("--api-key"),
            Self::Stdin => f.write_str("standard input"),
            Self::Environment => f.write_str("FLEETD_API_KEY"),
            Self::File(path) => write!(f, "{}", shown(path)),
        }
    }
}

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// Nothing anywhere.
    #[error("no key to the server was given or found")]
    Missing,
    /// One that this user may not read, and no other.
    #[error("no key to the server was given, and {} cannot be read", shown(.0))]
    Unreadable(PathBuf, #[source] io::Error),
    /// A file that was named is not there.
    #[error("the key's file {} does not exist", shown(.0))]
    NoFile(PathBuf),
    /// A file that was named, or standard input.
    #[error("cannot read the key from {origin}")]
    Read {
        /// Which.
        origin: KeyOrigin,
        /// Why.
        source: io::Error,
    },
    /// What was there is no key.
    #[error("the key from {origin} is not usable")]
    Key {
        /// Where it was.
        origin: KeyOrigin,
        /// Why.
        source: ApiKeyError,
    },
}

/// Finds the key. `argument` is the value of `--api-key`, `environment` looks up a variable, `context`
/// is the file that a context names for the server that is meant.
pub fn find(
    argument: Option<&str>,
    environment: &dyn Fn(&str) -> Option<OsString>,
    context: Option<&Path>,
    stdin: &mut dyn Read,
) -> Result<FoundKey, KeyFileError> {
    let set = |name: &str| environment(name).filter(|value| !value.is_empty());
    match argument {
        Some("-") => return read(stdin, KeyOrigin::Stdin),
        Some(argument) => match argument.strip_prefix('@') {
            Some(path) => return read_file(Path::new(path)),
            None => return parse(argument, KeyOrigin::Argument),
        },
        None => {}
    }
    if let Some(text) = set("FLEETD_API_KEY") {
        let text = Zeroizing::new(text.to_string_lossy().into_owned());
        return parse(&text, KeyOrigin::Environment);
    }
    if let Some(path) = set("FLEETD_API_KEY_FILE") {
        return read_file(Path::new(&path));
    }
    if let Some(path) = credentials::file(&set, credentials::API_KEY) {
        return read_file(&path);
    }
    if let Some(path) = context {
        return read_file(path);
    }
    beside_server(&set)
}

/// The administrator's key of a server on this machine.
fn beside_server(set: &dyn Fn(&str) -> Option<OsString>) -> Result<FoundKey, KeyFileError> {
    let mut forbidden = None;
    for folder in folders(set) {
        let path = folder.join(ADMIN_KEY);
        match File::open(&path) {
            Ok(mut file) => return read(&mut file, KeyOrigin::File(path)),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                forbidden.get_or_insert((path, error));
            }
            // Not there, then: the next.
            Err(_) => {}
        }
    }
    Err(match forbidden {
        Some((path, error)) => KeyFileError::Unreadable(path, error),
        None => KeyFileError::Missing,
    })
}

fn folders(set: &dyn Fn(&str) -> Option<OsString>) -> Vec<PathBuf> {
    let beside_database =
        set("FLEETD_DATABASE").and_then(|path| Path::new(&path).parent().map(Path::to_owned));
    let state = set("XDG_STATE_HOME")
        .map(PathBuf::from)
        .or_else(|| Some(Path::new(&set("HOME")?).join(".local/state")))
        .filter(|path| path.is_absolute());
    let users = state.map(|state| state.join("fleetd/server"));
    [beside_database, users, Some(PathBuf::from(SYSTEM_FOLDER))].into_iter().flatten().collect()
}

/// The key in a file.
pub fn read_file(path: &Path) -> Result<FoundKey, KeyFileError> {
    let origin = KeyOrigin::File(path.to_owned());
    match File::open(path) {
        Ok(mut file) => read(&mut file, origin),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Err(KeyFileError::NoFile(path.to_owned()))
        }
        Err(source) => Err(KeyFileError::Read { origin, source }),
    }
}

fn read(source: &mut dyn Read, origin: KeyOrigin) -> Result<FoundKey, KeyFileError> {
    let mut text = Zeroizing::new(String::new());
    match source.take(FILE_BYTES_MAX).read_to_string(&mut text) {
        Ok(_) => parse(&text, origin),
        Err(source) => Err(KeyFileError::Read { origin, source }),
    }
}

fn parse(text: &str, origin: KeyOrigin) -> Result<FoundKey, KeyFileError> {
    match text.parse() {
        Ok(key) => Ok(FoundKey { key, origin }),
        Err(source) => Err(KeyFileError::Key { origin, source }),
    }
}

fn shown(path: &Path) -> String {
    crate::untrusted::escaped(&path.to_string_lossy())
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::identity::PrivateKey;
    use crate::secret::KeyKind;

    fn key() -> ApiKey {
        let server = PrivateKey::from_seed(&[7; 32]).public().identity();
        ApiKey::generate(KeyKind::Operator, server).unwrap()
    }

    fn find_in(
        argument: Option<&str>,
        environment: &[(&str, &str)],
        mut stdin: &[u8],
    ) -> Result<FoundKey, KeyFileError> {
        let environment: HashMap<_, _> = environment.iter().copied().collect();
        find(argument, &|name| environment.get(name).map(OsString::from), None, &mut stdin)
    }

    #[test]
    fn the_order_is_argument_environment_file_and_then_beside_the_server() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str| {
            let key = key();
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, format!("{}\n", key.reveal().as_str())).unwrap();
            (key.id().to_owned(), path.to_str().unwrap().to_owned())
        };
        let (named, named_path) = write("named.key");
        let (credential, credential_path) = write("credentials/fleetd-api-key");
        let (beside, _) = write("admin.key");
        let (users, _) = write("state/fleetd/server/admin.key");
        let (argument, variable, stdin) = (key(), key(), key());
        let database = folder.path().join("fleet.db");
        let state = folder.path().join("state");
        let variable_text = variable.reveal();
        let mut environment = vec![
            ("FLEETD_API_KEY", variable_text.as_str()),
            ("FLEETD_API_KEY_FILE", named_path.as_str()),
            (
                "CREDENTIALS_DIRECTORY",
                Path::new(&credential_path).parent().unwrap().to_str().unwrap(),
            ),
            ("FLEETD_DATABASE", database.to_str().unwrap()),
            ("XDG_STATE_HOME", state.to_str().unwrap()),
        ];
        let id = |found: Result<FoundKey, KeyFileError>| found.unwrap().key.id().to_owned();

        assert_eq!(id(find_in(Some(&argument.reveal()), &environment, b"")), argument.id());
        assert_eq!(id(find_in(Some(&format!("@{named_path}")), &environment, b"")), named);
        let typed = stdin.reveal();
        assert_eq!(id(find_in(Some("-"), &environment, typed.as_bytes())), stdin.id());
        for expected in [variable.id(), &named, &credential, &beside, &users] {
            assert_eq!(id(find_in(None, &environment, b"")), expected);
            environment.remove(0);
        }
    }

    #[test]
    fn a_folder_of_other_credentials_is_nothing_to_stop_at() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("fleetd-secret-key"), "hush").unwrap();
        let environment = [("CREDENTIALS_DIRECTORY", folder.path().to_str().unwrap())];
        let found = find_in(None, &environment, b"");
        assert!(!matches!(found, Err(KeyFileError::NoFile(_))), "{found:?}");
        std::fs::write(folder.path().join("fleetd-api-key"), "nonsense").unwrap();
        let told = find_in(None, &environment, b"").unwrap_err().to_string();
        assert!(told.contains("fleetd-api-key is not usable"), "{told}");
    }

    #[test]
    fn what_is_wrong_is_said_without_the_key() {
        let secret = key().reveal();
        let mistyped = &secret[..secret.len() - 30];
        let error = find_in(Some(mistyped), &[], b"").unwrap_err();
        let text = crate::Chain(&error).to_string();
        assert!(text.starts_with("the key from --api-key is not usable: "), "{text}");
        assert!(!text.contains(&secret[20..40]), "{text}");

        let error = find_in(Some("@/nowhere/\u{1b}key"), &[], b"").unwrap_err();
        assert_eq!(error.to_string(), "the key's file /nowhere/\\u{1b}key does not exist");
        let endless = vec![b'x'; 10_000];
        assert!(matches!(find_in(Some("-"), &[], &endless), Err(KeyFileError::Key { .. })));
        assert!(matches!(
            find_in(Some("-"), &[], b"\xff\xfe"),
            Err(KeyFileError::Read { origin: KeyOrigin::Stdin, .. })
        ));
    }
}
