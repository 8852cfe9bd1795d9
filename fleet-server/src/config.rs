//! What a server is told: flags and environment ([`ServerArgs`]), `server.yaml` ([`ServerFile`]),
//! and what both together mean ([`ServerConfig`]).
//!
//! A flag beats the environment, which beats the file, which beats the default. Resolving reads
//! one file, and the secret that a service manager has for it if neither says one; a problem names its place and is shown before anything is touched.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs::File;
use std::io::{self, Read as _};
use std::net::{IpAddr, Ipv6Addr};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use fleet_core::credentials;
use fleet_core::net::url::{ServerUrl, ServerUrlError};
use fleet_core::yaml::{self, Document};
use serde::Deserialize;
use serde_saphyr::Spanned;
use zeroize::Zeroizing;

use crate::certificate::CertificateFiles;
use crate::install::packages;
use crate::proxies::{Network, NetworkError};
use crate::store::Keep;
use crate::user::{UserName, UserNameError};

/// The port unless told otherwise.
pub const PORT_DEFAULT: u16 = 8080;
/// Where the configuration file is unless told otherwise. That one may be absent.
const FILE_DEFAULT: &str = "/etc/fleetd/server.yaml";
/// Bytes of a secret that a service manager has.
const CREDENTIAL_BYTES_MAX: u64 = 4096;

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
    /// What the server's own key is sealed with; else fleetd-secret-key among systemd's credentials, or
    /// a file beside the database
    #[arg(long, env = "FLEETD_SECRET_KEY", value_name = "KEY", hide_env_values = true)]
    pub secret_key: Option<SecretText>,
    /// The certificate that browsers and other people's programs are shown, in PEM form; from then
    /// on plain HTTP is only sent on to https. FleetD's own programs need none
    #[arg(long, env = "FLEETD_TLS_CERT", value_name = "FILE", requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,
    /// The private key of that certificate, in PEM form
    #[arg(long, env = "FLEETD_TLS_KEY", value_name = "FILE", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,
    /// The URL by which devices find this server, where that is not its own address
    #[arg(long, env = "FLEETD_PUBLIC_URL", value_name = "URL")]
    pub public_url: Option<String>,
    /// Look for devices on this network interface only; may be repeated
    #[arg(long, env = "FLEETD_INTERFACE", value_name = "NAME", value_delimiter = ',')]
    pub interface: Vec<String>,
    /// Let anybody see how many devices are online and how many are not
    #[arg(long, env = "FLEETD_PUBLIC_STATUS", value_name = "BOOL", num_args = 0..=1)]
    #[arg(require_equals = true, default_missing_value = "true")]
    pub public_status: Option<bool>,
    /// A name by which browsers may call this server, beside the machine's own; may be repeated
    #[arg(long, env = "FLEETD_ALLOWED_HOST", value_name = "NAME", value_delimiter = ',')]
    pub allowed_host: Vec<String>,
    /// A proxy in front of this server, whose X-Forwarded-For and X-Forwarded-Proto are believed: its
    /// address, or a range of addresses; may be repeated
    #[arg(long, env = "FLEETD_TRUSTED_PROXY", value_name = "CIDR", value_delimiter = ',')]
    pub trusted_proxy: Vec<Network>,
    /// How long telemetry is kept, and how much of each resolution
    /// [default: raw=48h,1m=14d,10m=90d,1h=730d,size=1GiB]
    #[arg(long, env = "FLEETD_KEEP", value_name = "LIST")]
    pub keep: Option<String>,
    /// The folder with the agent's packages that devices are installed from
    /// [default: /usr/share/fleetd/packages]
    #[arg(long, env = "FLEETD_AGENT_PACKAGES", value_name = "FOLDER")]
    pub agent_packages: Option<PathBuf>,
    /// The user to run as, where root starts the server: NAME or UID, or either with :GROUP or :GID.
    /// The database's folder is handed over, and root given up, before the server serves
    #[arg(long, env = "FLEETD_USER", value_name = "USER")]
    pub user: Option<UserName>,
    /// The configuration file [default: /etc/fleetd/server.yaml]
    #[arg(long, env = "FLEETD_SERVER_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// `server.yaml` as it is written, before anything is checked.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RawServerFile {
    port: Option<Spanned<String>>,
    bind: Option<Spanned<String>>,
    database: Option<Spanned<String>>,
    secret_key: Option<Spanned<SecretText>>,
    tls_cert: Option<Spanned<PathBuf>>,
    tls_key: Option<Spanned<PathBuf>>,
    public_url: Option<Spanned<String>>,
    interface: Option<Vec<String>>,
    public_status: Option<bool>,
    allowed_host: Option<Vec<String>>,
    trusted_proxy: Option<Vec<Spanned<String>>>,
    keep: Option<Spanned<String>>,
    agent_packages: Option<PathBuf>,
    user: Option<Spanned<String>>,
}

/// What `server.yaml` says.
#[derive(Debug, Default)]
struct ServerFile {
    port: Option<u16>,
    bind: Option<IpAddr>,
    database: Option<PathBuf>,
    secret_key: Option<SecretText>,
    certificate: Option<CertificateFiles>,
    public_url: Option<ServerUrl>,
    interface: Vec<String>,
    public_status: Option<bool>,
    allowed_host: Vec<String>,
    trusted_proxy: Vec<Network>,
    keep: Option<Keep>,
    agent_packages: Option<PathBuf>,
    user: Option<UserName>,
}

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
    /// The certificate for those who are not of FleetD.
    pub certificate: Option<CertificateFiles>,
    /// The one URL that devices are told.
    pub public_url: Option<ServerUrl>,
    /// Where to look for devices; everywhere if empty.
    pub interfaces: Vec<String>,
    /// Whether anybody may see how many devices are online and how many are not.
    pub public_status: bool,
    /// Names by which browsers may call this server, beside the machine's own.
    pub allowed_hosts: Vec<String>,
    /// Proxies that are believed what they say of those whom they pass on.
    pub trusted_proxies: Vec<Network>,
    /// For how long telemetry is kept, and how much of it.
    pub keep: Keep,
    /// Where the agent's packages are that devices are installed from.
    pub agent_packages: PathBuf,
    /// Whom to run as, if root starts it.
    pub user: Option<UserName>,
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
    /// For the lines of a device's log that somebody waits for.
    pub lines: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            head: Duration::from_secs(10),
            body: Duration::from_secs(60),
            hello: Duration::from_secs(10),
            reply: Duration::from_secs(30),
            // Anew with each part of an answer, and four times as long in all.
            lines: Duration::from_secs(15),
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
            certificate: None,
            public_url: None,
            interfaces: Vec::new(),
            keep: Keep::default(),
            agent_packages: PathBuf::from(packages::FOLDER),
            public_status: false,
            allowed_hosts: Vec::new(),
            trusted_proxies: Vec::new(),
            user: None,
            patience: Patience::default(),
        }
    }

    /// Puts arguments and file together.
    pub fn resolve(args: ServerArgs) -> Result<Self, ConfigError> {
        let file = match &args.config {
            Some(path) => ServerFile::read(path, true)?,
            None => ServerFile::read(Path::new(FILE_DEFAULT), false)?,
        };
        let database = match (args.database, file.database) {
            (Some(text), _) => database_path(&text).map_err(ConfigError::Database)?,
            (None, Some(path)) => path,
            (None, None) => default_folder()?.join("fleet.db"),
        };
        let public_url = match args.public_url {
            Some(text) => Some(text.parse().map_err(ConfigError::PublicUrl)?),
            None => file.public_url,
        };
        if args.secret_key.as_ref().is_some_and(SecretText::is_empty) {
            return Err(ConfigError::EmptySecret);
        }
        let secret_key = match args.secret_key.or(file.secret_key) {
            Some(secret) => Some(secret),
            None => credential(&|name| std::env::var_os(name))?,
        };
        let certificate = match (args.tls_cert, args.tls_key) {
            (Some(certificate), Some(key)) => Some(CertificateFiles { certificate, key }),
            _ => file.certificate,
        };
        let or_file = |args: Vec<String>, file| if args.is_empty() { file } else { args };
        Ok(Self {
            port: args.port.or(file.port).unwrap_or(PORT_DEFAULT),
            bind: args.bind.or(file.bind),
            database,
            secret_key,
            certificate,
            public_url,
            interfaces: or_file(args.interface, file.interface),
            keep: match args.keep {
                Some(text) => text.parse().map_err(ConfigError::Keep)?,
                None => file.keep.unwrap_or_default(),
            },
            agent_packages: args
                .agent_packages
                .or(file.agent_packages)
                .unwrap_or_else(|| PathBuf::from(packages::FOLDER)),
            public_status: args.public_status.or(file.public_status).unwrap_or_default(),
            allowed_hosts: or_file(args.allowed_host, file.allowed_host),
            trusted_proxies: if args.trusted_proxy.is_empty() {
                file.trusted_proxy
            } else {
                args.trusted_proxy
            },
            user: args.user.or(file.user),
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
    /// The file cannot be read, or says something that cannot be obeyed.
    #[error(transparent)]
    File(#[from] yaml::ConfigError),
    /// A database that this release does not keep, or a path that names no file.
    #[error("--database {0}")]
    Database(String),
    /// No place for the data of an ordinary user.
    #[error("there is no home folder to keep data in: give --database a path")]
    NoHome,
    /// Not a URL.
    #[error("--public-url is wrong")]
    PublicUrl(#[source] ServerUrlError),
    /// Not what can be kept.
    #[error("--keep: {0}")]
    Keep(String),
    /// The service manager's secret.
    #[error("cannot read the secret key in {}", .0.display())]
    Credential(PathBuf, #[source] io::Error),
    /// Nothing would be sealed.
    #[error("{} is empty: leave it out and the server makes a key", .0.display())]
    EmptyCredential(PathBuf),
    /// Nothing would be sealed.
    #[error("--secret-key is empty: leave it out and the server makes one")]
    EmptySecret,
}

impl ServerFile {
    fn read(path: &Path, explicit: bool) -> Result<Self, yaml::ConfigError> {
        match Document::read(path, explicit)? {
            Some(document) => document.parse::<RawServerFile>()?.check(&document),
            None => Ok(Self::default()),
        }
    }
}

impl RawServerFile {
    /// Every value checked, or the first that cannot be obeyed.
    fn check(self, document: &Document) -> Result<ServerFile, yaml::ConfigError> {
        let alone = |file: Option<Spanned<PathBuf>>, other: &str| {
            document
                .check(file, |_| Err::<CertificateFiles, _>(format!("goes together with {other}")))
        };
        let certificate = match (self.tls_cert, self.tls_key) {
            (Some(certificate), Some(key)) => {
                Some(CertificateFiles { certificate: certificate.value, key: key.value })
            }
            (certificate, None) => alone(certificate, "tls_key")?,
            (None, key) => alone(key, "tls_cert")?,
        };
        let proxies = self.trusted_proxy.unwrap_or_default().into_iter();
        let network = |text: String| {
            text.parse().map_err(|error: NetworkError| format!("trusted_proxy: {error}"))
        };
        let trusted_proxy =
            proxies.map(|text| document.check_one(text, network)).collect::<Result<_, _>>()?;
        Ok(ServerFile {
            trusted_proxy,
            port: document.check(self.port, |text| {
                text.parse().map_err(|_| "port is not a number from 0 to 65535".to_owned())
            })?,
            bind: document.check(self.bind, |text| {
                text.parse()
                    .map_err(|_| "bind is not an IP address like 127.0.0.1 or ::".to_owned())
            })?,
            database: document.check(self.database, |text| {
                database_path(&text).map_err(|problem| format!("database {problem}"))
            })?,
            secret_key: document.check(self.secret_key, |secret| {
                if secret.is_empty() {
                    return Err("secret_key is empty: leave it out and the server makes one".into());
                }
                Ok(secret)
            })?,
            certificate,
            public_url: document.check(self.public_url, |text| {
                text.parse().map_err(|error: ServerUrlError| format!("public_url is {error}"))
            })?,
            interface: self.interface.unwrap_or_default(),
            public_status: self.public_status,
            allowed_host: self.allowed_host.unwrap_or_default(),
            keep: document.check(self.keep, |text| {
                text.parse().map_err(|problem| format!("keep: {problem}"))
            })?,
            agent_packages: self.agent_packages,
            user: document.check(self.user, |text| {
                text.parse().map_err(|error: UserNameError| format!("user {error}"))
            })?,
        })
    }
}

/// The path, or what is wrong with it.
fn database_path(text: &str) -> Result<PathBuf, String> {
    let problem =
        |problem: &str| format!("{problem}: give a path such as /var/lib/fleetd/fleet.db");
    if text.starts_with("postgres://") || text.starts_with("postgresql://") {
        return Err(problem("names PostgreSQL, but this release keeps its data in a file"));
    }
    let path = PathBuf::from(text);
    if path.file_name().is_none() || text.ends_with('/') || text.contains("://") {
        return Err(problem("is not the path of a file"));
    }
    std::path::absolute(&path).map_err(|error| format!("cannot be found: {error}"))
}

/// The secret that a service manager has for the server, without the end of its line.
fn credential(
    environment: &dyn Fn(&str) -> Option<OsString>,
) -> Result<Option<SecretText>, ConfigError> {
    let Some(path) = credentials::file(environment, credentials::SECRET_KEY) else {
        return Ok(None);
    };
    let mut text = Zeroizing::new(String::new());
    let read = File::open(&path)
        .and_then(|file| file.take(CREDENTIAL_BYTES_MAX).read_to_string(&mut text));
    read.map_err(|error| ConfigError::Credential(path.clone(), error))?;
    let secret = SecretText::from(text.trim_end_matches(['\r', '\n']));
    if secret.is_empty() { Err(ConfigError::EmptyCredential(path)) } else { Ok(Some(secret)) }
}

/// Where data goes unless told otherwise: the place that systemd has made for its service, the
/// system's for root, the user's own else.
fn default_folder() -> Result<PathBuf, ConfigError> {
    if let Some(folder) = service_folder(std::env::var_os("STATE_DIRECTORY")) {
        return Ok(folder);
    }
    if nix::unistd::geteuid().is_root() {
        return Ok(PathBuf::from("/var/lib/fleetd"));
    }
    let absolute = |name| std::env::var_os(name).map(PathBuf::from).filter(|p| p.is_absolute());
    absolute("XDG_STATE_HOME")
        .or_else(|| absolute("HOME").map(|home| home.join(".local/state")))
        .map(|state| state.join("fleetd/server"))
        .ok_or(ConfigError::NoHome)
}

/// The first folder of `StateDirectory=`, which systemd joins with colons.
fn service_folder(folders: Option<OsString>) -> Option<PathBuf> {
    let folders = folders?;
    let first = folders.as_bytes().split(|&byte| byte == b':').next()?;
    Some(PathBuf::from(OsStr::from_bytes(first))).filter(|folder| folder.is_absolute())
}

/// A secret from the command line, the environment or a file. Shows itself to nobody.
#[derive(Clone, Deserialize)]
#[serde(from = "String")]
pub struct SecretText(Zeroizing<String>);

impl SecretText {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

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
    fn a_service_keeps_its_data_where_systemd_says() {
        let folder = |text: &str| service_folder(Some(text.into()));
        let wanted = Some(PathBuf::from("/var/lib/fleetd"));
        assert_eq!(folder("/var/lib/fleetd"), wanted);
        assert_eq!(folder("/var/lib/fleetd:/var/lib/other"), wanted);
        assert_eq!([folder(""), folder("relative"), service_folder(None)], [None, None, None]);
    }

    /// What is said about a file with this in it, without the path before it.
    fn complaint(text: &str) -> String {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("server.yaml");
        std::fs::write(&path, text).unwrap();
        let told = ServerFile::read(&path, true).unwrap_err().to_string();
        told.split_once("server.yaml, ").unwrap().1.to_owned()
    }

    #[test]
    fn a_wrong_file_is_told_by_place_and_key_in_plain_words() {
        for (text, told) in [
            ("port: 1\nprot: 2\n", "line 2, column 1: unknown key \"prot\"; did you mean port?"),
            ("# a\n\nwebhooks: 2\n", "line 3, column 1: unknown key \"webhooks\"; known are port"),
            ("port: many\n", "line 1, column 7: port is not a number from 0 to 65535"),
            ("port: 70000\n", "line 1, column 7: port is not a number from 0 to 65535"),
            ("bind: here\n", "line 1, column 7: bind is not an IP address"),
            ("public_url: fleet\n", "line 1, column 13: public_url is not a server URL like"),
            ("user: a b\n", "line 1, column 7: user is no user: give a name, or numbers"),
            ("port: 1\nsecret_key: \"\"\n", "line 2, column 13: secret_key is empty"),
            ("database: postgres://u:p@h/d\n", "line 1, column 11: database names PostgreSQL"),
            ("just text\n", "line 1, column 1: must be keys with values"),
            (
                "trusted_proxy: [10.0.0.0/24, 10.0.0.1/24]\n",
                "line 1, column 30: trusted_proxy: 10.0.0.1/24 is no range",
            ),
            ("interface: eth0\n", "line 1, column 12: must be a list"),
        ] {
            let found = complaint(text);
            assert!(found.starts_with(told) && !found.contains('\n'), "{found}");
        }
        for secret in ["secret_key: [hush]\n", "secret_key: {hush: 1}\n"] {
            assert!(!complaint(secret).contains("hush"));
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("server.yaml");
        assert!(ServerFile::read(&path, false).is_ok());
        assert!(ServerFile::read(&path, true).unwrap_err().to_string().ends_with("does not exist"));
        std::fs::write(&path, "# nothing\n").unwrap();
        assert!(ServerFile::read(&path, true).is_ok());
    }

    #[test]
    fn a_service_manager_may_have_the_secret() {
        let folder = tempfile::tempdir().unwrap();
        let found = || credential(&|_| Some(folder.path().into()));
        assert!(found().unwrap().is_none());
        let path = folder.path().join("fleetd-secret-key");
        std::fs::write(&path, "a long word\n").unwrap();
        assert_eq!(found().unwrap().unwrap().bytes(), b"a long word");
        std::fs::write(&path, "\n").unwrap();
        assert!(found().unwrap_err().to_string().contains("fleetd-secret-key is empty"));
        std::fs::write(&path, b"\xff").unwrap();
        assert!(found().unwrap_err().to_string().starts_with("cannot read the secret key"));
    }

    #[test]
    fn databases_that_are_no_file_are_refused() {
        for (text, part) in [
            ("postgres://u:p@h/d", "PostgreSQL"),
            ("mysql://h/d", "not the path of a file"),
            ("/var/lib/", "not the path of a file"),
        ] {
            let problem = database_path(text).unwrap_err();
            assert!(problem.contains(part) && !problem.contains("p@h"), "{problem}");
        }
    }

    #[test]
    fn secrets_do_not_show() {
        let config =
            ServerConfig { secret_key: Some("hush".into()), ..ServerConfig::new("/tmp/fleet.db") };
        assert!(!format!("{config:?}").contains("hush"));
    }
}
