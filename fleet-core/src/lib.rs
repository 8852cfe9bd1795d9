//! The vocabulary that FleetD's programs share.
//!
//! Layers, each using only those above it:
//!
//! | layer | modules | feature |
//! |---|---|---|
//! | words | [`untrusted`] [`id`] [`time`] [`limits`] [`metric`] [`command`] [`url`] | – |
//! | trust | [`identity`] [`secret`] [`grant`] [`claim`]; [`credentials`], where a service manager leaves some | – |
//! | formats | [`api`] (JSON), [`wire`] (link frames), both strict about what they accept; [`codec`] is bincode's one door | – |
//! | records | [`audit`], how they hang together | – |
//! | files | [`disk`], the door to files that survive a power cut; [`frames`], records in them | – |
//! | a device's fields | [`field`] [`filter`] [`glyph`], for every table, filter and screen | – |
//! | transports | `net`, `mdns`, `beacon` | `net` |
//! | a daemon's settings | `yaml` | `net` |
//! | finding what is wrong | `doctor` | `net` |
//! | an operator's tools | `operator` | `operator` |
//! | an operator's command line | `cli` | `cli` |
#![warn(missing_docs)]

pub mod api;
pub mod audit;
#[cfg(feature = "net")]
pub mod beacon;
pub mod claim;
#[cfg(feature = "cli")]
pub mod cli;
pub mod codec;
pub mod command;
pub mod credentials;
pub mod disk;
#[cfg(feature = "net")]
pub mod doctor;
pub mod field;
pub mod filter;
pub mod frames;
#[cfg(any(test, feature = "testing"))]
pub mod fuzz;
pub mod glyph;
pub mod grant;
pub mod id;
pub mod identity;
pub mod limits;
#[cfg(feature = "net")]
pub mod mdns;
pub mod metric;
mod near;
#[cfg(feature = "net")]
pub mod net;
#[cfg(feature = "operator")]
pub mod operator;
pub mod release;
pub mod secret;
pub mod time;
pub mod untrusted;
pub mod url;
pub mod wire;
#[cfg(feature = "net")]
pub mod yaml;

use std::error::Error;
use std::fmt;

/// The release of this build, as every program reports it.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Prints an error with all its sources, joined by `: `. Errors here never repeat their source,
/// so this is the only way one is shown.
pub struct Chain<'a>(pub &'a (dyn Error + 'static));

/// What an error says. Of a connection that its other side just dropped the TLS library says too
/// much, with a link.
fn words(error: &(dyn Error + 'static)) -> String {
    match error.downcast_ref::<std::io::Error>() {
        Some(error) if error.to_string().contains("close_notify") => {
            "the connection broke off".to_owned()
        }
        Some(_) | None => error.to_string(),
    }
}

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = words(self.0);
        let mut source = self.0.source();
        while let Some(error) = source {
            let next = words(error);
            // Some libraries do repeat their source; saying it twice helps nobody.
            if !text.contains(&next) {
                text.push_str(": ");
                text.push_str(&next);
            }
            source = error.source();
        }
        untrusted::write_escaped(f, &text, limits::ERROR_CHARS_MAX)
    }
}
