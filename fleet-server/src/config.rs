//! What a server is told: flags and environment ([`ServerArgs`]), `server.yaml` ([`ServerFile`]),
//! and what both together mean ([`ServerConfig`]).
//!
//! A flag beats the environment, which beats the file, which beats the default. Resolving reads
//! one file and nothing else; a problem names its place and is shown before anything is touched.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use fleet_core::net::url::{ServerUrl, ServerUrlError};
use serde::Deserialize;
use zeroize::Zeroizing;

/// The port unless told otherwise.
pub const PORT_DEFAULT: u16 = 8080;
/// Where the configuration file is unless told otherwise. That one may be absent.
const FILE_DEFAULT: &str = "/etc/fleetd/server.yaml";
/// Bytes of a configuration file.
const FILE_BYTES_MAX: u64 = 64 * 1024;

/// What stands on the command line or in the environment.
#[derive(clap::Args, Clone, Debug, Default)]
pub struct ServerArgs {
    /// The port to listen on; 0 takes any free one [default: 8080]
    #[arg(long, env = "FLEETD_PORT", value_name = "PORT")]
    pub port: Option<u16>,
    /// The address to listen on [default: all]
    #[arg(long, env = "FLEETD_BIND", value_name = "ADDRESS")]
    pub bind: Option<IpAddr>,
    /// The database file; its folder also holds the server's keys
    #[arg(long, env = "FLEETD_DATABASE", value_name = "PATH")]
    pub database: Option<String>,
    /// What the server's own key is sealed with; a file beside the database unless given
    #[arg(long, env = "FLEETD_SECRET_KEY", value_name = "KEY", hide_env_values = true)]
    pub secret_key: Option<SecretText>,
    /// The URL by which devices find this server, where that is not its own address
    #[arg(long, env = "FLEETD_PUBLIC_URL", value_name = "URL")]
    pub public_url: Option<String>,
    /// Look for devices on this network interface only; may be repeated
    #[arg(long, env = "FLEETD_INTERFACE", value_name = "NAME", value_delimiter = ',')]
    pub interface: Vec<String>,
    /// The configuration file [default: /etc/fleetd/server.yaml]
    #[arg(long, env = "FLEETD_SERVER_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// What `server.yaml` may say.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct ServerFile {
    port: Option<u16>,
    bind: Option<IpAddr>,
    database: Option<String>,
    secret_key: Option<SecretText>,
    public_url: Option<String>,
    #[serde(default)]
    interface: Vec<String>,
}

const FILE_KEYS: [&str; 6] = ["port", "bind", "database", "secret_key", "public_url", "interface"];

/// What a server is to do.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// The port; 0 takes any free one.
    pub port: u16,
    /// The address; all of them if absent.
    pub bind: Option<IpAddr>,
    /// The database file.
    pub database: PathBuf,
    /// What seals the server's key; a file beside the database if absent.
    pub secret_key: Option<SecretText>,
    /// The one URL that devices are told.
    pub public_url: Option<ServerUrl>,
    /// Where to look for devices; everywhere if empty.
    pub interfaces: Vec<String>,
    /// How long peers may take.
    pub patience: Patience,
}

/// How long the server waits for a peer that has begun something. Nobody needs to set these;
/// tests shorten them.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// For the head of a request, the next one on a kept connection included.
    pub head: Duration,
    /// For a whole body.
    pub body: Duration,
    /// For each frame of a link's hello.
    pub hello: Duration,
    /// To take what it is sent.
    pub reply: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            head: Duration::from_secs(10),
            body: Duration::from_secs(60),
            hello: Duration::from_secs(10),
            reply: Duration::from_secs(30),
        }
    }
}

impl ServerConfig {
    /// A server on a database, everything else as usual.
    pub fn new(database: impl Into<PathBuf>) -> Self {
        Self {
            port: PORT_DEFAULT,
            bind: None,
            database: database.into(),
            secret_key: None,
            public_url: None,
            interfaces: Vec::new(),
            patience: Patience::default(),
        }
    }

    /// Puts arguments and file together.
    pub fn resolve(args: ServerArgs) -> Result<Self, ConfigError> {
        let file = match &args.config {
            Some(path) => ServerFile::read(path)?,
            None => ServerFile::read_if_present(Path::new(FILE_DEFAULT))?,
        };
        let database = match args.database.or(file.database) {
            Some(text) => database_path(&text)?,
            None => default_folder()?.join("fleet.db"),
        };
        let public_url = match args.public_url.or(file.public_url) {
            Some(text) => Some(text.parse().map_err(ConfigError::PublicUrl)?),
            None => None,
        };
        let secret_key = args.secret_key.or(file.secret_key);
        if secret_key.as_ref().is_some_and(|secret| secret.0.is_empty()) {
            return Err(ConfigError::EmptySecret);
        }
        let interfaces = if args.interface.is_empty() { file.interface } else { args.interface };
        Ok(Self {
            port: args.port.or(file.port).unwrap_or(PORT_DEFAULT),
            bind: args.bind.or(file.bind),
            database,
            secret_key,
            public_url,
            interfaces,
            patience: Patience::default(),
        })
    }

    /// The address to listen on. All of them means IPv6's, which takes IPv4 too.
    pub fn listen_address(&self) -> IpAddr {
        self.bind.unwrap_or(IpAddr::V6(Ipv6Addr::UNSPECIFIED))
    }
}

/// Why a server cannot do what it is told.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file says something that is not understood.
    #[error("{}, line {line}: {problem}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Where.
        line: u64,
        /// What, and what was probably meant.
        problem: String,
    },
    /// A database that this release does not keep.
    #[error(
        "this release keeps its data in a file and cannot use PostgreSQL: give --database a path such as /var/lib/fleetd/fleet.db"
    )]
    Postgres,
    /// A path that names no file.
    #[error("--database must be the path of a file, such as /var/lib/fleetd/fleet.db")]
    Database,
    /// No place for the data of an ordinary user.
    #[error("there is no home folder to keep data in: give --database a path")]
    NoHome,
    /// Not a URL.
    #[error("--public-url is wrong")]
    PublicUrl(#[source] ServerUrlError),
    /// Nothing would be sealed.
    #[error("--secret-key is empty: leave it out and the server makes one")]
    EmptySecret,
}

impl ServerFile {
    fn read_if_present(path: &Path) -> Result<Self, ConfigError> {
        match Self::read(path) {
            Err(ConfigError::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                Ok(Self::default())
            }
            other => other,
        }
    }

    fn read(path: &Path) -> Result<Self, ConfigError> {
        let read = |path: &Path| {
            use std::io::Read as _;
            let mut text = Zeroizing::new(String::new());
            let mut file = std::fs::File::open(path)?.take(FILE_BYTES_MAX + 1);
            file.read_to_string(&mut text)?;
            if text.len() as u64 > FILE_BYTES_MAX {
                return Err(io::Error::other(format!("it is larger than {FILE_BYTES_MAX} bytes")));
            }
            Ok(text)
        };
        let text =
            read(path).map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
        Self::parse(&text).map_err(|(line, problem)| ConfigError::File {
            path: path.to_owned(),
            line,
            problem,
        })
    }

    fn parse(text: &str) -> Result<Self, (u64, String)> {
        if text.lines().all(|line| line.trim().is_empty() || line.trim().starts_with('#')) {
            return Ok(Self::default());
        }
        serde_saphyr::from_str(text).map_err(|error| {
            let line = error.location().map_or(1, |location| location.line());
            (line, problem(error.without_snippet(), text, line))
        })
    }
}

/// What is wrong at a line. Never repeats a secret that stands there.
fn problem(error: &serde_saphyr::Error, text: &str, line: u64) -> String {
    if let serde_saphyr::Error::SerdeUnknownField { field, .. } = error {
        let field = fleet_core::untrusted::escaped(field);
        return match nearest(&field) {
            Some(known) => format!("unknown key {field}: did you mean {known}?"),
            None => format!("unknown key {field}: known are {}", FILE_KEYS.join(", ")),
        };
    }
    let index = usize::try_from(line.saturating_sub(1)).unwrap_or(usize::MAX);
    let source = text.lines().nth(index).unwrap_or_default();
    if source.contains("secret") {
        return "the value of secret_key must be text in quotes".to_owned();
    }
    let message = error.to_string();
    // The place is said already.
    let first = message.lines().next().unwrap_or_default();
    let first = first.split(" at line ").next().unwrap_or_default();
    fleet_core::untrusted::escaped(first)
}

/// The key that was probably meant: at most two letters are different.
fn nearest(word: &str) -> Option<&'static str> {
    let near = |known: &&str| distance(word, known) <= 2;
    FILE_KEYS.into_iter().filter(near).min_by_key(|known| distance(word, known))
}

/// How many letters must change to make one word of the other.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let change = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = change.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

fn database_path(text: &str) -> Result<PathBuf, ConfigError> {
    if text.starts_with("postgres://") || text.starts_with("postgresql://") {
        return Err(ConfigError::Postgres);
    }
    let path = PathBuf::from(text);
    if path.file_name().is_none() || text.ends_with('/') || text.contains("://") {
        return Err(ConfigError::Database);
    }
    std::path::absolute(&path).map_err(|source| ConfigError::Read { path, source })
}

/// Where data goes unless told otherwise: the system's place for root, the user's own else.
fn default_folder() -> Result<PathBuf, ConfigError> {
    if nix::unistd::geteuid().is_root() {
        return Ok(PathBuf::from("/var/lib/fleetd"));
    }
    let absolute = |name| std::env::var_os(name).map(PathBuf::from).filter(|p| p.is_absolute());
    absolute("XDG_STATE_HOME")
        .or_else(|| absolute("HOME").map(|home| home.join(".local/state")))
        .map(|state| state.join("fleetd/server"))
        .ok_or(ConfigError::NoHome)
}

/// A secret from the command line, the environment or a file. Shows itself to nobody.
#[derive(Clone, Deserialize)]
#[serde(from = "String")]
pub struct SecretText(Zeroizing<String>);

impl SecretText {
    /// The bytes, to derive a key from.
    pub fn bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl From<String> for SecretText {
    fn from(text: String) -> Self {
        Self(Zeroizing::new(text))
    }
}

impl From<&str> for SecretText {
    fn from(text: &str) -> Self {
        Self::from(text.to_owned())
    }
}

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flag_beats_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("server.yaml");
        std::fs::write(&path, "port: 9000\npublic_url: http://fleet.example:8080\n").unwrap();
        let args = |port| ServerArgs {
            port,
            database: Some("/tmp/x/fleet.db".to_owned()),
            config: Some(path.clone()),
            ..ServerArgs::default()
        };
        assert_eq!(ServerConfig::resolve(args(None)).unwrap().port, 9000);
        let config = ServerConfig::resolve(args(Some(1))).unwrap();
        assert_eq!(config.port, 1);
        assert_eq!(config.public_url.unwrap().host(), "fleet.example");
    }

    #[test]
    fn a_wrong_file_is_told_by_line_with_what_was_meant() {
        for (text, line, part) in [
            ("port: 1\nprot: 2\n", 2, "unknown key prot: did you mean port?"),
            ("# a\n\nwebhooks: 2\n", 3, "unknown key webhooks: known are port"),
            ("port: many\n", 1, ""),
            ("port: [\n", 1, "expected"),
        ] {
            let (found, problem) = ServerFile::parse(text).unwrap_err();
            assert_eq!(found, line, "{problem}");
            assert!(problem.contains(part) && !problem.contains('\n'), "{problem}");
        }
        let (_, problem) = ServerFile::parse("secret_key: [hush]\n").unwrap_err();
        assert!(!problem.contains("hush"), "{problem}");
        assert!(ServerFile::parse("# nothing\n").is_ok());
    }

    #[test]
    fn databases_that_are_no_file_are_refused() {
        assert!(matches!(database_path("postgres://u:p@h/d"), Err(ConfigError::Postgres)));
        assert!(matches!(database_path("mysql://h/d"), Err(ConfigError::Database)));
        assert!(matches!(database_path("/var/lib/"), Err(ConfigError::Database)));
        assert!(!ConfigError::Postgres.to_string().contains('\n'));
    }

    #[test]
    fn secrets_do_not_show() {
        let config =
            ServerConfig { secret_key: Some("hush".into()), ..ServerConfig::new("/tmp/fleet.db") };
        assert!(!format!("{config:?}").contains("hush"));
    }
}
