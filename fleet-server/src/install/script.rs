//! The script itself, for any POSIX shell.
//!
//! All of it is one function that its last line calls, so a script that arrives cut does nothing.
//! What differs from script to script stands in single quotes.

use std::fmt::Write as _;

use data_encoding::HEXLOWER;
use fleet_core::net::url::ServerUrl;
use zeroize::Zeroizing;

use super::{Package, Trust};

const TEMPLATE: &str = include_str!("install.sh");

/// What a script says.
pub(crate) struct Script<'a> {
    /// The server's identity, for whoever reads it.
    pub(crate) identity: &'a str,
    /// Where the agent finds the server.
    pub(crate) server: &'a ServerUrl,
    /// Where the packages are.
    pub(crate) url: &'a str,
    /// Why that place is believed.
    pub(crate) trust: &'a Trust,
    /// The key that lets the device in.
    pub(crate) key: &'a str,
    /// What there is to install.
    pub(crate) packages: &'a [Package],
}

impl Script<'_> {
    /// Its text.
    pub(crate) fn text(&self) -> Zeroizing<String> {
        let mut cases = String::new();
        for package in self.packages {
            let hash = HEXLOWER.encode(&package.sha256);
            writeln!(
                cases,
                "    {}) package={} sum={hash} ;;",
                package.architecture,
                quoted(&package.name)
            )
            .expect("writing to a String cannot fail");
        }
        let mut text = Zeroizing::new(TEMPLATE.to_owned());
        for (place, value) in [
            ("@IDENTITY@", self.identity),
            ("@SERVER@", &quoted(&self.server.to_string())),
            ("@URL@", &quoted(self.url)),
            ("@CURL@", &self.trust.curl()),
            ("    @PACKAGES@\n", &cases),
            ("@KEY@", &quoted(self.key)),
        ] {
            text = Zeroizing::new(text.replace(place, value));
        }
        text
    }
}

/// A script that says why there is no other, for a shell that was to run that.
pub(crate) fn refusal(reason: &str) -> String {
    format!("#!/bin/sh\nprintf 'fleetd: %s\\n' {} >&2\nexit 1\n", quoted(reason))
}

/// A text as one word of a shell, whatever is in it.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    fn script(key: &str) -> Zeroizing<String> {
        let server = "http://10.0.0.1:8080".parse().unwrap();
        let trust = Trust::Pin("aGFzaA==".to_owned());
        let url = super::super::url(&server, "token");
        Script {
            identity: "FD1-TEST",
            server: &server,
            url: &url,
            trust: &trust,
            key,
            packages: &[],
        }
        .text()
    }

    #[test]
    fn a_script_is_one_that_shells_understand() {
        let text = script("flt_en_x@FD1-y");
        let parsed = Command::new("sh").args(["-n", "-c", &text]).status().unwrap();
        assert!(parsed.success());
        assert!(!text.contains("@KEY@") && !text.contains("@PACKAGES@"), "{}", *text);
        assert!(text.ends_with("\nmain\n"));
    }

    #[test]
    fn whatever_is_in_a_text_stays_a_text() {
        let hostile = "'; echo gone >&2; exit 7; '$(reboot)`id`\n\\";
        let told = Command::new("sh").args(["-c", &refusal(hostile)]).output().unwrap();
        assert_eq!(told.status.code(), Some(1));
        assert_eq!(String::from_utf8(told.stderr).unwrap(), format!("fleetd: {hostile}\n"));
    }
}
