//! A real avahi-daemon on a host of the lab, with a message bus and a `/run` of its own, and what
//! its tools say.

use std::fs;
use std::process::Command;
use std::time::Duration;

use super::{Host, succeed, wait_for};

/// avahi-daemon on a host.
pub(crate) struct Avahi<'a> {
    host: &'a Host,
    bus: String,
}

impl<'a> Avahi<'a> {
    pub(super) fn start(host: &'a Host) -> Self {
        let folder = host.path("avahi");
        fs::create_dir(&folder).expect("folder for avahi");
        let bus = format!("unix:path={}", folder.join("bus").display());
        fs::write(folder.join("bus.conf"), bus_config(&bus)).expect("bus configuration");
        fs::write(folder.join("avahi.conf"), avahi_config(host.name())).expect("configuration");
        let bus_config = folder.join("bus.conf");
        let mut dbus = host.command("dbus-daemon");
        dbus.arg("--nofork").arg("--nopidfile").arg("--config-file").arg(&bus_config);
        host.start("dbus", &mut dbus);
        wait_for("the bus of avahi", Duration::from_secs(10), || {
            folder.join("bus").exists().then_some(())
        });
        let avahi = Self { host, bus };
        fs::write(folder.join("passwd"), "root:x:0:0::/:\navahi:x:0:0::/:\n").expect("users");
        fs::write(folder.join("group"), "root:x:0:\navahi:x:0:\n").expect("groups");
        // In an ordinary user's namespace there is only user 0, and avahi wants a user of its own.
        let script = "mount -t tmpfs tmpfs /run && mount --bind passwd /etc/passwd && \
                      mount --bind group /etc/group && exec avahi-daemon --file=\"$PWD/avahi.conf\" \
                      --no-drop-root --no-chroot --no-rlimits --no-proc-title";
        let mut daemon = avahi.command("unshare");
        host.start("avahi", daemon.args(["-m", "sh", "-c", script]).current_dir(&folder));
        let ready =
            wait_for("avahi-daemon to be ready or to fail", Duration::from_secs(15), || {
                let log = host.log("avahi");
                let ready = log.contains("Server startup complete");
                (ready || log.contains("Fail") || log.contains("exiting")).then_some(ready)
            });
        assert!(ready, "avahi-daemon does not start: {}", host.log("avahi"));
        avahi
    }

    /// A command on this host that talks to this avahi.
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = self.host.command(program);
        command.env("DBUS_SYSTEM_BUS_ADDRESS", &self.bus);
        command
    }

    /// Where its bus is.
    pub(crate) fn bus(&self) -> &str {
        &self.bus
    }

    /// Publishes a service until the host ends; returns its pid.
    #[track_caller]
    pub(crate) fn publish(&self, name: &str, kind: &str, port: u16, txt: &[&str]) -> u32 {
        let mut command = self.command("avahi-publish");
        command.args(["-s", name, kind, &port.to_string()]).args(txt);
        let pid = self.host.start("publish", &mut command);
        wait_for("avahi to publish", Duration::from_secs(10), || {
            self.host.log("publish").contains("Established").then_some(())
        });
        pid
    }

    /// What avahi-browse resolves now.
    #[track_caller]
    pub(crate) fn browse(&self, kind: &str) -> Vec<Resolved> {
        let listed = succeed(self.command("timeout").args(["10", "avahi-browse", "-rptk", kind]));
        listed.lines().filter_map(Resolved::parse).collect()
    }

    /// What is in avahi's cache now, without asking anybody for its place.
    #[track_caller]
    pub(crate) fn cached(&self, kind: &str) -> Vec<String> {
        let listed = succeed(self.command("timeout").args(["10", "avahi-browse", "-pctk", kind]));
        let mut names: Vec<String> = listed
            .lines()
            .filter(|line| line.starts_with('+'))
            .filter_map(|line| Some(unescaped(line.split(';').nth(3)?)))
            .collect();
        names.sort();
        names.dedup();
        names
    }
}

/// A line of avahi-browse that begins with `=`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Resolved {
    pub(crate) interface: String,
    pub(crate) name: String,
    pub(crate) host: String,
    pub(crate) address: String,
    pub(crate) port: u16,
    pub(crate) txt: String,
}

impl Resolved {
    fn parse(line: &str) -> Option<Self> {
        let fields: Vec<&str> = line.split(';').collect();
        let ["=", interface, _, name, _, _, host, address, port, txt @ ..] = fields.as_slice()
        else {
            return None;
        };
        Some(Self {
            interface: (*interface).to_owned(),
            name: unescaped(name),
            host: (*host).to_owned(),
            address: (*address).to_owned(),
            port: port.parse().ok()?,
            txt: txt.join(";"),
        })
    }
}

/// Undoes the escapes of avahi-browse: `\032` is a space.
fn unescaped(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        match (first, tail) {
            (b'\\', [a, b, c, tail @ ..]) if [a, b, c].iter().all(|d| d.is_ascii_digit()) => {
                let digits = [a, b, c].map(|digit| u16::from(digit - b'0'));
                let code = digits[0] * 100 + digits[1] * 10 + digits[2];
                bytes.extend(u8::try_from(code));
                rest = tail;
            }
            (b'\\', [escaped, tail @ ..]) => {
                bytes.push(*escaped);
                rest = tail;
            }
            (plain, _) => bytes.push(*plain),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn bus_config(address: &str) -> String {
    format!(
        r#"<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>system</type>
  <listen>{address}</listen>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow user="*"/>
    <allow own="*"/>
    <allow send_type="method_call"/>
    <allow send_type="signal"/>
    <allow send_requested_reply="true" send_type="method_return"/>
    <allow send_requested_reply="true" send_type="error"/>
    <allow receive_type="method_call"/>
    <allow receive_type="method_return"/>
    <allow receive_type="error"/>
    <allow receive_type="signal"/>
  </policy>
</busconfig>
"#
    )
}

fn avahi_config(host: &str) -> String {
    format!(
        "[server]\nhost-name={host}\nuse-ipv4=yes\nuse-ipv6=yes\nenable-dbus=yes\n\
         ratelimit-interval-usec=1000000\nratelimit-burst=1000\n\
         [publish]\npublish-workstation=no\npublish-hinfo=no\n\
         [reflector]\n[rlimits]\n"
    )
}
