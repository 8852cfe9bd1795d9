//! What a service manager is told: that the program serves, how it is, that it goes on, that it
//! ends. This is the protocol of `sd_notify(3)`.
//!
//! Each word is a datagram of its own to the socket that `NOTIFY_SOCKET` names, sent without waiting:
//! a manager that does not listen holds nobody up. Without that variable nothing is said. The variables
//! stay as they are for the program that this one becomes; other programs get none of them.

use std::env;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::Arc;
use std::time::Duration;

use crate::untrusted::escaped;

/// Which part of the time in which a manager wants a sign of life may pass between two of them.
const SIGNS_PER_TIME: u32 = 4;
/// Between two looks at how the program is, where nobody wants a sign of life.
const LOOK: Duration = Duration::from_secs(10);

/// The way to the service manager, if there is one.
#[derive(Clone, Debug, Default)]
pub struct Notifier {
    way: Option<Arc<(UnixDatagram, SocketAddr)>>,
    watchdog: Option<Duration>,
}

impl Notifier {
    /// By this process' environment.
    pub fn from_environment() -> Self {
        Self::find(&|name| env::var_os(name), std::process::id())
    }

    fn find(environment: &dyn Fn(&str) -> Option<OsString>, pid: u32) -> Self {
        let Some(name) = environment("NOTIFY_SOCKET").filter(|name| !name.is_empty()) else {
            return Self::default();
        };
        let way = match open(&name) {
            Ok(way) => Some(Arc::new(way)),
            Err(error) => {
                tracing::warn!(%error, ?name, "cannot speak to the service manager");
                None
            }
        };
        let number = |name| environment(name)?.to_str()?.parse::<u64>().ok();
        // Those of a parent are not ours.
        let is_ours = number("WATCHDOG_PID").is_none_or(|other| other == u64::from(pid));
        let watchdog = number("WATCHDOG_USEC").filter(|micros| is_ours && *micros > 0);
        Self { way, watchdog: watchdog.map(Duration::from_micros) }
    }

    /// The program serves.
    pub fn ready(&self, status: &str) {
        self.say(&format!("READY=1\nSTATUS={}", escaped(status)));
    }

    /// The program ends.
    pub fn stopping(&self) {
        self.say("STOPPING=1\nSTATUS=stopping");
    }

    /// How the program is, in a few words.
    pub fn status(&self, status: &str) {
        self.say(&format!("STATUS={}", escaped(status)));
    }

    /// The program goes on.
    pub fn alive(&self) {
        self.say("WATCHDOG=1");
    }

    /// Within what time the manager wants a sign of life, if it does.
    pub fn watchdog(&self) -> Option<Duration> {
        self.watchdog.filter(|_| self.is_heard())
    }

    /// Whether anybody listens.
    pub fn is_heard(&self) -> bool {
        self.way.is_some()
    }

    /// The time between two looks at how the program is and whether it goes on.
    pub fn look(&self) -> Duration {
        self.watchdog().map_or(LOOK, |time| (time / SIGNS_PER_TIME).min(LOOK))
    }

    fn say(&self, words: &str) {
        let Some((socket, manager)) = self.way.as_deref() else { return };
        if let Err(error) = socket.send_to_addr(words.as_bytes(), manager) {
            tracing::debug!(%error, "the service manager does not listen");
        }
    }
}

fn open(name: &OsStr) -> io::Result<(UnixDatagram, SocketAddr)> {
    let manager = match name.as_bytes() {
        [b'@', rest @ ..] => SocketAddr::from_abstract_name(rest)?,
        [b'/', ..] => SocketAddr::from_pathname(name)?,
        _ => return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a socket's name")),
    };
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    Ok((socket, manager))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(variables: &[(&str, &OsStr)]) -> Notifier {
        let environment = |name: &str| {
            let found = variables.iter().find(|(variable, _)| *variable == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        Notifier::find(&environment, 7)
    }

    fn heard(manager: &UnixDatagram) -> String {
        let mut buffer = [0; 512];
        let length = manager.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    }

    #[test]
    fn a_manager_is_told_by_either_kind_of_socket() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let hidden = format!("fleetd-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&hidden).unwrap();
        for (manager, name) in [
            (UnixDatagram::bind(&path).unwrap(), path.as_os_str().to_owned()),
            (UnixDatagram::bind_addr(&address).unwrap(), format!("@{hidden}").into()),
        ] {
            let notifier = found(&[("NOTIFY_SOCKET", &name)]);
            notifier.ready("1 of 2 devices\nMAINPID=1");
            assert_eq!(heard(&manager), "READY=1\nSTATUS=1 of 2 devices\\u{a}MAINPID=1");
            notifier.alive();
            assert_eq!(heard(&manager), "WATCHDOG=1");
            notifier.stopping();
            assert_eq!(heard(&manager), "STOPPING=1\nSTATUS=stopping");
            assert_eq!(notifier.watchdog(), None);
        }
        // Nobody listens any more, and nothing ends by that.
        found(&[("NOTIFY_SOCKET", path.as_os_str())]).alive();
    }

    #[test]
    fn signs_of_life_are_for_whoever_asked_this_process() {
        let set = |name, value| (name, OsStr::new(value));
        let socket = set("NOTIFY_SOCKET", "/nowhere");
        let micros = set("WATCHDOG_USEC", "8000000");
        let wanted = |variables: &[_]| found(variables).watchdog();
        let seconds = Some(Duration::from_secs(8));
        assert_eq!(wanted(&[socket, micros]), seconds);
        assert_eq!(found(&[socket, micros]).look(), Duration::from_secs(2));
        assert_eq!(wanted(&[socket, micros, set("WATCHDOG_PID", "7")]), seconds);
        assert_eq!(wanted(&[socket, micros, set("WATCHDOG_PID", "8")]), None);
        assert_eq!(wanted(&[micros]), None);
        assert_eq!(wanted(&[set("NOTIFY_SOCKET", "relative"), micros]), None);
        assert_eq!(wanted(&[socket, set("WATCHDOG_USEC", "0")]), None);
        assert_eq!(wanted(&[socket, set("WATCHDOG_USEC", "soon")]), None);
    }
}
