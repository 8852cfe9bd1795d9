//! Which server a command speaks to, and with which key.

use std::ffi::OsString;
use std::io;

use super::failure::Failure;
use super::output::Output;
use crate::net::url::{ServerUrl, ServerUrlError};
use crate::operator::client::Client;
use crate::operator::keyfile::{self, KeyOrigin};

/// Which server, and how.
#[derive(Clone, Debug, clap::Args)]
pub struct ServerChoice {
    /// The server
    #[arg(
        long,
        global = true,
        env = "FLEETD_SERVER",
        default_value = "http://localhost:8080",
        value_parser = server_url,
        value_name = "URL"
    )]
    pub server: ServerUrl,
    /// The key to it: @FILE, - for standard input, or the key itself; else FLEETD_API_KEY,
    /// FLEETD_API_KEY_FILE, or the admin.key of a server on this machine
    #[arg(long, global = true, value_name = "@FILE|-|KEY")]
    api_key: Option<String>,
}

impl ServerChoice {
    /// The client for the chosen server with the key that was given or found.
    pub fn client(&self, output: &mut Output<'_>) -> Result<Client, Failure> {
        let environment = |name: &str| -> Option<OsString> { std::env::var_os(name) };
        let found = keyfile::find(self.api_key.as_deref(), &environment, &mut io::stdin().lock())?;
        if found.origin == KeyOrigin::Argument && output.terminal.stderr {
            output.note(
                "warning: every user of this machine can see a key on a command line; \
                 --api-key @FILE hides it",
            )?;
        }
        tracing::debug!(origin = %found.origin, key = ?found.key, "using a key");
        Ok(Client::new(self.server.clone(), found.key)?)
    }
}

/// A server's URL, or only its host and port.
fn server_url(text: &str) -> Result<ServerUrl, ServerUrlError> {
    if text.contains("://") { text.parse() } else { format!("http://{text}").parse() }
}

#[cfg(test)]
mod tests {
    use super::*;

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
