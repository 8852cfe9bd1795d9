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
//! There are no routes but those to the neighbours, and no names but those that mDNS or a test
//! ([`Host::knows`]) gives. A
//! host has one network thread, on which all its futures run, so that sockets and interface lists
//! are the host's own. What a lab started ends with it: programs first, then namespaces.

#![expect(
    clippy::print_stderr,
    reason = "what cannot be cleaned up is said among the tests' output"
)]

mod avahi;
mod faults;

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

pub(crate) use self::avahi::{Avahi, Resolved};
pub(crate) use self::faults::Faults;

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
    /// What stands in the place of `/etc/hosts`.
    names: OnceLock<PathBuf>,
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
            names: OnceLock::new(),
            namespace: Namespace::new(format!("{}-{name}", self.mark)),
            folder: Arc::clone(&self.folder),
        };
        host.namespace.ip(&["link", "set", "lo", "up"]);
        for (position, lan) in lans.iter().enumerate() {
            self.connect(&host, &format!("eth{position}"), lan);
        }
        host
    }

    /// Gives a host a leg in a network.
    pub(crate) fn connect(&self, host: &Host, interface: &str, lan: &Lan) {
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

    /// Its IPv4 address on its first network, or that of its loopback if it has none.
    pub(crate) fn address(&self) -> Ipv4Addr {
        let first = self.lans.first();
        first.map_or(Ipv4Addr::LOCALHOST, |lan| Ipv4Addr::new(10, 77, *lan, self.number))
    }

    /// Its IPv4 address on a network.
    pub(crate) fn address_on(&self, lan: &Lan) -> Ipv4Addr {
        Ipv4Addr::new(10, 77, lan.number, self.number)
    }

    /// A command that will run on this host.
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = tool("ip");
        command.args(["netns", "exec", &self.namespace.0]);
        if let Some(names) = self.names.get() {
            // What `ip netns exec` starts has mounts of its own.
            let script = "mount --bind \"$0\" /etc/hosts && exec \"$@\"";
            command.args(["sh", "-c", script]).arg(names);
        }
        command.arg(program).stdin(Stdio::null());
        command
    }

    /// From now on programs that start on this host know an address by a name.
    #[track_caller]
    pub(crate) fn knows(&self, name: &str, address: Ipv4Addr) {
        let path = self.path("hosts");
        fs::write(&path, format!("127.0.0.1 localhost\n{address} {name}\n")).expect("a file");
        self.names.set(path).expect("it knows one name");
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

/// A network namespace by name.
struct Namespace(String);

impl Namespace {
    #[track_caller]
    fn new(name: String) -> Self {
        let made = tool("ip").args(["netns", "add", &name]).output();
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
        succeed(tool("ip").args(["-n", &self.0]).args(args));
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let deleted = tool("ip").args(["netns", "delete", &self.0]).status();
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

/// A command for a program that may be where an ordinary user's shell does not look.
fn tool(program: &str) -> Command {
    let usual = std::env::var("PATH").unwrap_or_default();
    let mut command = Command::new(program);
    command.env("PATH", format!("{usual}:/usr/sbin:/sbin"));
    command
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
