//! A laboratory of hosts on networks, made of network namespaces and bridges, gone when dropped.
//!
//! ```text
//! let mut lab = Lab::new();
//! let lan = lab.lan();
//! let device = lab.host("device", &[&lan]);      // eth0: 10.77.1.1 and fe80::1
//! let laptop = lab.host("laptop", &[&lan]);      // eth0: 10.77.1.2 and fe80::2
//! laptop.command("ping").args(["-c1", "10.77.1.1"]).status()
//! let agent = device.start("agent", device.command("fleetd").arg("agent"));
//! let found = laptop.run(async { … });           // on a thread that lives in the namespace
//! let avahi = laptop.avahi();                    // a real avahi-daemon with its own bus
//! ```
//!
//! There are no routes but those to the neighbours, and no names but those that mDNS gives. A
//! host has one network thread, on which all its futures run, so that sockets and interface lists
//! are the host's own. What a lab started ends with it: programs first, then namespaces.

use std::fs::{self, File};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock, mpsc};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, setns};
use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

/// Looks at the world every so often until it is as wanted; fails with what it was waiting for.
#[track_caller]
pub(crate) fn wait_for<T>(what: &str, bound: Duration, mut look: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(seen) = look() {
            return seen;
        }
        assert!(started.elapsed() < bound, "waited {bound:?} in vain for: {what}");
        thread::sleep(Duration::from_millis(50));
    }
}

/// All hosts and networks of one test.
pub(crate) struct Lab {
    /// Tells this lab's namespaces from those of others.
    mark: String,
    /// Holds the bridges.
    switch: Namespace,
    lans: u8,
    hosts: u8,
    folder: Arc<tempfile::TempDir>,
}

/// A network: a bridge that joins hosts.
pub(crate) struct Lan {
    number: u8,
}

/// A host: a network namespace, with a thread for futures.
///
/// Dropping it ends its thread, its programs and its namespace.
pub(crate) struct Host {
    name: String,
    number: u8,
    lans: Vec<u8>,
    inside: OnceLock<Inside>,
    programs: Mutex<Vec<Program>>,
    namespace: Namespace,
    folder: Arc<tempfile::TempDir>,
}

impl Lab {
    /// An empty lab. Fails if this process may not make namespaces.
    pub(crate) fn new() -> Self {
        static LABS: AtomicU32 = AtomicU32::new(0);
        let number = LABS.fetch_add(1, Ordering::Relaxed);
        let mark = format!("fl{}x{number}", std::process::id());
        let switch = Namespace::new(format!("{mark}-switch"));
        let folder = Arc::new(tempfile::tempdir().expect("temporary folder"));
        Self { mark, switch, lans: 0, hosts: 0, folder }
    }

    /// Adds a network.
    pub(crate) fn lan(&mut self) -> Lan {
        self.lans += 1;
        let lan = Lan { number: self.lans };
        let bridge = lan.bridge();
        self.switch.ip(&["link", "add", &bridge, "type", "bridge", "mcast_snooping", "0"]);
        self.switch.ip(&["link", "set", &bridge, "up"]);
        lan
    }

    /// Adds a host with one leg in each of these networks: `eth0`, `eth1` …; with none, it has
    /// its loopback only.
    pub(crate) fn host(&mut self, name: &str, lans: &[&Lan]) -> Host {
        self.hosts += 1;
        let host = Host {
            name: name.to_owned(),
            number: self.hosts,
            lans: lans.iter().map(|lan| lan.number).collect(),
            inside: OnceLock::new(),
            programs: Mutex::default(),
            namespace: Namespace::new(format!("{}-{name}", self.mark)),
            folder: Arc::clone(&self.folder),
        };
        host.namespace.ip(&["link", "set", "lo", "up"]);
        for (position, lan) in lans.iter().enumerate() {
            self.plug(&host, &format!("eth{position}"), lan);
        }
        host
    }

    fn plug(&self, host: &Host, interface: &str, lan: &Lan) {
        let socket = format!("h{}l{}", host.number, lan.number);
        let switch = self.switch.0.as_str();
        host.namespace.ip(&[
            "link", "add", interface, "type", "veth", "peer", "name", &socket, "netns", switch,
        ]);
        self.switch.ip(&["link", "set", &socket, "master", &lan.bridge(), "up"]);
        // The kernel would take a second or two to be sure of an address that it makes itself.
        host.namespace.ip(&["link", "set", interface, "addrgenmode", "none"]);
        host.namespace.ip(&["link", "set", interface, "up"]);
        let v4 = format!("{}/24", host.address_on(lan));
        let v6 = format!("fe80::{:x}/64", host.number);
        host.namespace.ip(&["address", "add", &v4, "dev", interface]);
        host.namespace.ip(&["address", "add", &v6, "dev", interface, "nodad"]);
    }
}

impl Lan {
    fn bridge(&self) -> String {
        format!("lan{}", self.number)
    }
}

impl Host {
    /// Its name, as given.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Its IPv4 address on its first network.
    pub(crate) fn address(&self) -> Ipv4Addr {
        let lan = *self.lans.first().expect("a host with a network");
        Ipv4Addr::new(10, 77, lan, self.number)
    }

    /// Its IPv4 address on a network.
    pub(crate) fn address_on(&self, lan: &Lan) -> Ipv4Addr {
        Ipv4Addr::new(10, 77, lan.number, self.number)
    }

    /// A command that will run on this host.
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.namespace.0, program]);
        command.stdin(Stdio::null());
        command
    }

    /// Runs a command to its end and gives its output; fails if it does.
    #[track_caller]
    pub(crate) fn output(&self, program: &str, args: &[&str]) -> String {
        succeed(self.command(program).args(args))
    }

    /// Changes links or addresses: `ip` with these arguments.
    #[track_caller]
    pub(crate) fn ip(&self, args: &[&str]) {
        self.namespace.ip(args);
    }

    /// Starts a program that ends with the host; its output goes to [`Self::log`].
    #[track_caller]
    pub(crate) fn start(&self, name: &str, command: &mut Command) -> u32 {
        let log = File::create(self.log_path(name)).expect("log file");
        let errors = log.try_clone().expect("log file");
        let child = command.stdout(log).stderr(errors).spawn();
        let child = child.unwrap_or_else(|error| panic!("{name} does not start: {error}"));
        let pid = child.id();
        self.programs.lock().expect("no panic while locked").push(Program(child));
        pid
    }

    /// Kills a program without a word, and waits until it is gone.
    #[track_caller]
    pub(crate) fn kill(&self, pid: u32) {
        let mut programs = self.programs.lock().expect("no panic while locked");
        let position = programs.iter().position(|program| program.0.id() == pid);
        programs.swap_remove(position.expect("a program that was started here"));
    }

    /// What a program has printed.
    pub(crate) fn log(&self, name: &str) -> String {
        fs::read_to_string(self.log_path(name)).unwrap_or_default()
    }

    /// A file of this host in the lab's temporary folder.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(format!("{}-{name}", self.name))
    }

    /// Runs a future on this host's network thread and waits for its result.
    #[track_caller]
    pub(crate) fn run<T: Send + 'static>(
        &self,
        future: impl Future<Output = T> + Send + 'static,
    ) -> T {
        let inside = self.inside.get_or_init(|| Inside::enter(&self.namespace));
        let (done, result) = mpsc::sync_channel(1);
        inside.handle.spawn(async move {
            let outcome = future.await;
            // The test has failed meanwhile if nobody listens.
            let _gone = done.send(outcome);
        });
        result.recv().unwrap_or_else(|_| panic!("the future on {} panicked", self.name))
    }

    /// Starts avahi-daemon with a bus of its own, and waits until it answers.
    #[track_caller]
    pub(crate) fn avahi(&self) -> Avahi<'_> {
        Avahi::start(self)
    }

    fn log_path(&self, name: &str) -> PathBuf {
        self.path(&format!("{name}.log"))
    }
}

/// avahi-daemon on a host.
pub(crate) struct Avahi<'a> {
    host: &'a Host,
    bus: String,
}

impl<'a> Avahi<'a> {
    fn start(host: &'a Host) -> Self {
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
        let script = format!(
            "mount -t tmpfs tmpfs /run && exec avahi-daemon --file={} \
             --no-drop-root --no-chroot --no-rlimits --no-proc-title",
            path_text(&folder.join("avahi.conf"))
        );
        let mut daemon = avahi.command("unshare");
        host.start("avahi", daemon.args(["-m", "sh", "-c", &script]));
        wait_for("avahi-daemon to be ready", Duration::from_secs(15), || {
            host.log("avahi").contains("Server startup complete").then_some(())
        });
        avahi
    }

    /// A command on this host that talks to this avahi.
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = self.host.command(program);
        command.env("DBUS_SYSTEM_BUS_ADDRESS", &self.bus);
        command
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

/// A network namespace by name.
struct Namespace(String);

impl Namespace {
    #[track_caller]
    fn new(name: String) -> Self {
        let made = Command::new("ip").args(["netns", "add", &name]).output();
        let output = made.expect("the program `ip` (Debian: iproute2)");
        assert!(
            output.status.success(),
            "no network namespace can be made; this needs root, or `unshare -Urnm` with a tmpfs \
             on /run (cargo xtask test does that): {}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
        Self(name)
    }

    #[track_caller]
    fn ip(&self, args: &[&str]) {
        succeed(Command::new("ip").args(["-n", &self.0]).args(args));
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let deleted = Command::new("ip").args(["netns", "delete", &self.0]).status();
        if !deleted.is_ok_and(|status| status.success()) {
            eprintln!("network namespace {} could not be deleted", self.0);
        }
    }
}

/// A started program; killed and reaped when dropped.
struct Program(Child);

impl Drop for Program {
    fn drop(&mut self) {
        let ended = self.0.kill().and_then(|()| self.0.wait());
        if let Err(error) = ended {
            eprintln!("program {} could not be ended: {error}", self.0.id());
        }
    }
}

/// A thread that has entered a namespace, with a runtime of its own.
struct Inside {
    handle: Handle,
    leave: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Inside {
    fn enter(namespace: &Namespace) -> Self {
        let path = Path::new("/run/netns").join(&namespace.0);
        let (leave, left) = oneshot::channel::<()>();
        let (ready, handle) = mpsc::sync_channel(1);
        let thread = thread::spawn(move || {
            let namespace = File::open(path).expect("the namespace was just made");
            setns(namespace, CloneFlags::CLONE_NEWNET).expect("permission to enter a namespace");
            let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
            ready.send(runtime.handle().clone()).expect("its maker waits for it");
            // An error means that the host was dropped without a word, which is as good.
            let _left = runtime.block_on(left);
        });
        let handle = handle.recv().expect("a thread inside the namespace");
        Self { handle, leave: Some(leave), thread: Some(thread) }
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        drop(self.leave.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            eprintln!("the network thread of a host has panicked");
        }
    }
}

#[track_caller]
fn succeed(command: &mut Command) -> String {
    let output: Output = match command.output() {
        Ok(output) => output,
        Err(error) => panic!("{command:?} does not start: {error}"),
    };
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?} failed ({}): {errors}", output.status);
    String::from_utf8_lossy(&output.stdout).into_owned()
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

fn path_text(path: &Path) -> &str {
    path.to_str().expect("temporary folders have plain names")
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
