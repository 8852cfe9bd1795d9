//! Which server a command speaks to, and with which key.
//!
//! What is said on the command line comes first (a context that is named there too), then the
//! environment, then the context, then what is usual. A context counts for its own server alone: with
//! another one neither its key nor anything else of it is used.

use std::ffi::OsString;
use std::fmt;
use std::io::{self, Read};
use std::path::PathBuf;

use super::argv::HIDDEN_API_KEY;
use super::failure::Failure;
use super::output::Output;
use crate::Chain;
use crate::limits::REASON_CHARS_MAX;
use crate::net::authorities::Authorities;
use crate::net::url::{ServerUrl, ServerUrlError};
use crate::operator::client::Client;
use crate::operator::contexts::{Context, Contexts, ContextsError, Environment};
use crate::operator::exit::Exit;
use crate::operator::keyfile::{self, FoundKey, KeyFileError, KeyOrigin};
use crate::untrusted::Untrusted;

/// The server of whoever names none.
const USUAL: &str = "http://localhost:8080";

/// Which server, and how.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct ServerChoice {
    /// The server; else FLEETD_SERVER, the context's, or http://localhost:8080
    #[arg(long, global = true, value_parser = server_url, value_name = "URL")]
    server: Option<ServerUrl>,
    /// The key to it: @FILE, - for standard input, or the key itself; else FLEETD_API_KEY,
    /// FLEETD_API_KEY_FILE, fleetd-api-key among systemd's credentials, the context's, or the
    /// admin.key of a server on this machine
    #[arg(long, global = true, env = HIDDEN_API_KEY, hide_env = true, value_name = "@FILE|-|KEY")]
    api_key: Option<String>,
    /// The context to work in; else FLEETD_CONTEXT, or the one of `fleets context use`
    #[arg(long, global = true, value_name = "NAME")]
    context: Option<String>,
    /// Why something is changed, for the server's audit record; else FLEETD_REASON
    #[arg(long, global = true, value_parser = reason, value_name = "TEXT")]
    reason: Option<String>,
    /// A file with the authorities, in PEM form, that vouch for a proxy in front of the server, in
    /// place of the system's
    #[arg(long, global = true, env = "FLEETD_CA_FILE", value_name = "FILE")]
    ca_file: Option<PathBuf>,
}

/// A server that was chosen.
#[derive(Clone, Debug)]
pub struct Chosen {
    /// Where it is.
    pub server: ServerUrl,
    /// Who said so.
    pub server_origin: Origin,
    /// The context that counts, and who named it.
    pub context: Option<(Context, Origin)>,
    api_key: Option<String>,
    reason: Option<String>,
    ca_file: Option<PathBuf>,
}

/// Who said something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// An argument of the command line.
    Argument(&'static str),
    /// A variable of the environment.
    Variable(&'static str),
    /// The context of this name.
    Context(String),
    /// The file with the contexts.
    File(PathBuf),
    /// Nobody.
    Usual,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Argument(name) | Self::Variable(name) => f.write_str(name),
            Self::Context(name) => write!(f, "context {}", Untrusted::from(name.as_str())),
            Self::File(path) => write!(f, "{}", Untrusted::from(path.to_string_lossy().as_ref())),
            Self::Usual => f.write_str("as usual"),
        }
    }
}

impl ServerChoice {
    /// The context of this name, and whatever server and key it has.
    pub fn of_context(name: impl Into<String>) -> Self {
        Self { context: Some(name.into()), ..Self::default() }
    }

    /// The context of this name for whoever made this choice, and why they change something.
    #[must_use]
    pub fn in_context(&self, name: impl Into<String>) -> Self {
        Self { reason: self.reason.clone(), ..Self::of_context(name) }
    }

    /// Settles which server is meant.
    pub fn settle(&self) -> Result<Chosen, Failure> {
        self.settle_in(&process_environment)
    }

    /// The client for the chosen server with the key that was given or found.
    pub fn client(&self, output: &mut Output<'_>) -> Result<Client, Failure> {
        let (client, origin) = self.settle()?.client()?;
        if origin == KeyOrigin::Argument && output.terminal.stderr {
            output.note(
                "warning: every user of this machine can see a key on a command line; \
                 --api-key @FILE hides it",
            )?;
        }
        Ok(client)
    }

    fn settle_in(&self, environment: Environment<'_>) -> Result<Chosen, Failure> {
        let context = self.named_context(environment)?;
        let is_argument = matches!(context, Some((_, Origin::Argument(_))));
        let told = match (&self.server, variable(environment, "FLEETD_SERVER")) {
            (Some(server), _) => Some((server.clone(), Origin::Argument("--server"))),
            (None, Some(text)) if !is_argument => {
                let server = server_url(&text)
                    .map_err(|error| Failure::usage(format!("FLEETD_SERVER: {error}")))?;
                Some((server, Origin::Variable("FLEETD_SERVER")))
            }
            (None, _) => None,
        };
        let (server, server_origin) = match (told, &context) {
            (Some(told), _) => told,
            (None, Some((context, _))) => {
                (context.server.clone(), Origin::Context(context.name.clone()))
            }
            (None, None) => (USUAL.parse().expect("a URL"), Origin::Usual),
        };
        let context = context.filter(|(context, _)| context.server == server);
        let reason = match (&self.reason, variable(environment, "FLEETD_REASON")) {
            (Some(text), _) => Some(text.clone()),
            (None, Some(text)) => Some(
                reason(&text).map_err(|error| Failure::usage(format!("FLEETD_REASON: {error}")))?,
            ),
            (None, None) => None,
        };
        let (api_key, ca_file) = (self.api_key.clone(), self.ca_file.clone());
        Ok(Chosen { server, server_origin, context, api_key, reason, ca_file })
    }

    /// The context that is named, whether its server is meant or not.
    fn named_context(
        &self,
        environment: Environment<'_>,
    ) -> Result<Option<(Context, Origin)>, ContextsError> {
        let named = match (&self.context, variable(environment, "FLEETD_CONTEXT")) {
            (Some(name), _) => Some((name.clone(), Origin::Argument("--context"))),
            (None, Some(name)) => Some((name, Origin::Variable("FLEETD_CONTEXT"))),
            (None, None) => None,
        };
        let contexts = match (Contexts::load_in(environment), &named) {
            (Ok(contexts), _) => contexts,
            // Without a home there are no contexts, and nobody asked for one.
            (Err(ContextsError::NoFolder), None) => return Ok(None),
            (Err(error), _) => return Err(error),
        };
        Ok(match named {
            Some((name, origin)) => Some((contexts.get(&name)?.clone(), origin)),
            None => {
                let origin = || Origin::File(contexts.path().to_owned());
                contexts.current().map(|context| (context.clone(), origin()))
            }
        })
    }
}

impl Chosen {
    /// Whether nothing is to be changed there.
    pub fn is_read_only(&self) -> bool {
        self.context.as_ref().is_some_and(|(context, _)| context.is_read_only)
    }

    /// Finds the key to it.
    pub fn key(&self) -> Result<FoundKey, KeyFileError> {
        self.key_in(&process_environment, &mut io::stdin().lock())
    }

    /// Whose word counts for the name of a proxy in front of it.
    pub fn authorities(&self) -> Authorities {
        Authorities::of(self.ca_file.clone())
    }

    /// The client for it, and where its key was.
    pub fn client(&self) -> Result<(Client, KeyOrigin), Failure> {
        let found = self.key()?;
        tracing::debug!(origin = %found.origin, key = ?found.key, "using a key");
        let authorities = self.authorities();
        authorities.check().map_err(|error| {
            Failure::new(Exit::Configuration, format!("--ca-file: {}", Chain(&error)))
        })?;
        let client = Client::new(self.server.clone(), found.key)?.trusting(authorities);
        let client = if self.is_read_only() { client.read_only() } else { client };
        let client = client.because(self.reason.clone());
        Ok((client, found.origin))
    }

    fn key_in(
        &self,
        environment: Environment<'_>,
        stdin: &mut dyn Read,
    ) -> Result<FoundKey, KeyFileError> {
        let argument = self.api_key.as_deref();
        let (file, is_argument) = match &self.context {
            Some((context, origin)) => {
                (context.api_key_file.as_deref(), matches!(origin, Origin::Argument(_)))
            }
            None => (None, false),
        };
        match (argument, file) {
            (None, Some(file)) if is_argument => keyfile::read_file(file),
            _ => keyfile::find(argument, environment, file, stdin),
        }
    }
}

fn process_environment(name: &str) -> Option<OsString> {
    std::env::var_os(name)
}

fn variable(environment: Environment<'_>, name: &str) -> Option<String> {
    let text = environment(name)?.to_string_lossy().into_owned();
    (!text.is_empty()).then_some(text)
}

/// A server's URL, or only its host and port.
pub fn server_url(text: &str) -> Result<ServerUrl, ServerUrlError> {
    if text.contains("://") { text.parse() } else { format!("http://{text}").parse() }
}

/// Why something is changed, in so many words.
fn reason(text: &str) -> Result<String, String> {
    let text = text.trim();
    if text.is_empty() || text.chars().count() > REASON_CHARS_MAX {
        return Err(format!("must have 1 to {REASON_CHARS_MAX} characters"));
    }
    if text.chars().any(char::is_control) {
        return Err("must be one line of text".to_owned());
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::fs;
    use std::path::Path;

    use super::*;
    use crate::identity::PrivateKey;
    use crate::secret::{ApiKey, KeyKind};

    const FILE: &str = "current = \"prod\"\n\
        [contexts.prod]\nserver = \"http://prod:8080\"\napi_key_file = \"prod.key\"\nread_only = true\n\
        [contexts.lab]\nserver = \"http://lab:8080\"\napi_key_file = \"lab.key\"\n";

    /// A home with contexts and keys; each key's id by its name.
    fn home(text: &str) -> (tempfile::TempDir, HashMap<&'static str, String>) {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join("fleetd");
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("contexts.toml"), text).unwrap();
        let server = PrivateKey::from_seed(&[7; 32]).public().identity();
        let keys = ["prod", "lab", "variable"].map(|name| {
            let key = ApiKey::generate(KeyKind::Operator, server).unwrap();
            fs::write(folder.join(name).with_extension("key"), key.reveal().as_str()).unwrap();
            (name, key.id().to_owned())
        });
        (home, keys.into_iter().collect())
    }

    fn settle(
        home: &Path,
        arguments: (&str, &str),
        variables: &[(&str, &str)],
    ) -> Result<(Chosen, Option<String>), Failure> {
        let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        let choice = ServerChoice {
            reason: None,
            server: some(arguments.0).map(|text| server_url(&text).unwrap()),
            api_key: None,
            context: some(arguments.1),
            ca_file: None,
        };
        let file = home.join("fleetd/variable.key");
        let environment = |name: &str| -> Option<OsString> {
            let found = variables.iter().find(|(variable, _)| *variable == name);
            match (name, found) {
                ("XDG_CONFIG_HOME", _) => Some(home.into()),
                ("FLEETD_API_KEY_FILE", Some(_)) => Some(file.clone().into()),
                (_, found) => found.map(|(_, value)| value.into()),
            }
        };
        let chosen = choice.settle_in(&environment)?;
        let key = chosen.key_in(&environment, &mut io::empty());
        Ok((chosen, key.ok().map(|found| found.key.id().to_owned())))
    }

    #[test]
    fn the_command_line_comes_before_the_environment_and_that_before_the_context() {
        let (home, keys) = home(FILE);
        let server = ("FLEETD_SERVER", "http://lab:8080");
        let context = ("FLEETD_CONTEXT", "lab");
        let key = ("FLEETD_API_KEY_FILE", "");
        for (arguments, variables, (url, origin, key)) in [
            (("", ""), &[][..], ("http://prod:8080", "context prod", "prod")),
            (("", ""), &[context], ("http://lab:8080", "context lab", "lab")),
            (("", ""), &[context, key], ("http://lab:8080", "context lab", "variable")),
            (("", "prod"), &[context, key], ("http://prod:8080", "context prod", "prod")),
            (("", "prod"), &[server], ("http://prod:8080", "context prod", "prod")),
            // The context is of another server, so its key is none of this one's.
            (("", ""), &[server], ("http://lab:8080", "FLEETD_SERVER", "")),
            (("", ""), &[server, context], ("http://lab:8080", "FLEETD_SERVER", "lab")),
            (("other:8080", ""), &[server], ("http://other:8080", "--server", "")),
            (("other:8080", "prod"), &[], ("http://other:8080", "--server", "")),
            (("prod:8080", ""), &[], ("http://prod:8080", "--server", "prod")),
        ] {
            let case = format!("{arguments:?} {variables:?}");
            let (chosen, found) = settle(home.path(), arguments, variables).unwrap();
            assert_eq!(chosen.server.to_string(), url, "{case}");
            assert_eq!(chosen.server_origin.to_string(), origin, "{case}");
            assert_eq!(found.as_ref(), keys.get(key), "{case}");
            assert_eq!(chosen.is_read_only(), url == "http://prod:8080", "{case}");
        }
    }

    #[test]
    fn what_is_wrong_has_its_own_exit_code() {
        let (home, _) = home(FILE);
        let exit = |arguments, variables: &[(&str, &str)]| {
            settle(home.path(), arguments, variables).map(|_| ()).unwrap_err().exit()
        };
        assert_eq!(exit(("", "prd"), &[]), Exit::Usage);
        assert_eq!(exit(("", ""), &[("FLEETD_CONTEXT", "prd")]), Exit::Usage);
        assert_eq!(exit(("", ""), &[("FLEETD_SERVER", "ftp://x")]), Exit::Usage);
        let (home, _) = self::home("current = \n");
        let failure = settle(home.path(), ("", ""), &[]).map(|_| ()).unwrap_err();
        assert_eq!(failure.exit(), Exit::Configuration);
        assert!(failure.message().contains("contexts.toml, line 1, column 11"), "{failure:?}");
    }

    #[test]
    fn without_contexts_it_is_this_machines_server() {
        let empty = tempfile::tempdir().unwrap();
        let (chosen, _) = settle(empty.path(), ("", ""), &[]).unwrap();
        assert_eq!(chosen.server.to_string(), USUAL);
        assert_eq!(chosen.server_origin, Origin::Usual);
        let homeless = ServerChoice::default().settle_in(&|_| None).unwrap();
        assert_eq!(homeless.server.to_string(), USUAL);
    }

    #[test]
    fn a_reason_is_one_line_that_somebody_gave() {
        let (home, _) = home(FILE);
        let because = |text: &str| {
            settle(home.path(), ("", ""), &[("FLEETD_REASON", text)])
                .map(|(chosen, _)| chosen.reason)
        };
        assert_eq!(because(" ticket 4411 ").unwrap().as_deref(), Some("ticket 4411"));
        for wrong in ["a\nb", " ", &"x".repeat(REASON_CHARS_MAX + 1)] {
            assert_eq!(because(wrong).unwrap_err().exit(), Exit::Usage, "{wrong:?}");
        }
        let given = ServerChoice { reason: Some("why".to_owned()), ..ServerChoice::default() };
        let chosen = given.in_context("none").settle_in(&|_| None);
        assert!(chosen.is_err(), "there is no such context");
        let chosen = given.settle_in(&|_| None).unwrap();
        assert_eq!(chosen.reason.as_deref(), Some("why"));
    }

    #[test]
    fn a_server_may_be_named_without_a_scheme() {
        for (text, shown) in [
            ("10.77.0.1:8080", "http://10.77.0.1:8080"),
            ("[::1]:8080", "http://[::1]:8080"),
            ("https://fleet.example", "https://fleet.example"),
        ] {
            assert_eq!(server_url(text).unwrap().to_string(), shown);
        }
        assert!(server_url("ftp://a").is_err());
    }
}
