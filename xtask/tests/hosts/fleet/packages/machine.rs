//! A machine with a system of its own: Debian, as `debootstrap` makes it, booted in a container on a
//! host of the lab. What is changed on it stays until the machine is dropped, and a reboot ends its
//! container, as it should, and starts another.

#![expect(clippy::print_stderr, reason = "what a failed test leaves is said among its output")]

use std::cell::Cell;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::mount::{MntFlags, MsFlags, mount, umount2};

use super::super::{SOON, Said, is_running};
use crate::lab::{Host, wait_for};

/// How long systemd may take to start all there is, on a busy machine.
const BOOT: Duration = Duration::from_secs(60);
/// What a process in there finds where.
const PATH: &str = "PATH=/usr/sbin:/usr/bin:/sbin:/bin";
/// What no package answers for: what dpkg and the system itself write down.
const OTHERS: [&str; 14] = [
    "/etc/.pwd.lock",
    "/etc/group-",
    "/etc/gshadow-",
    "/etc/machine-id",
    "/etc/passwd-",
    "/etc/shadow-",
    "/etc/subgid-",
    "/etc/subuid-",
    "/tmp",
    "/var/cache",
    "/var/lib/apt",
    "/var/lib/dpkg",
    "/var/lib/systemd/random-seed",
    "/var/tmp",
];
/// The same in the folder of logs.
const LOGS: [&str; 5] = ["apt", "btmp", "dpkg.log", "journal", "wtmp"];

/// The folder of such a system, or of packages, which the gate has made.
#[track_caller]
pub(super) fn made(variable: &str) -> PathBuf {
    let Some(folder) = std::env::var_os(variable) else {
        panic!("{variable} is not set: cargo xtask test packages");
    };
    folder.into()
}

/// Such a machine.
pub(super) struct Machine<'a> {
    host: &'a Host,
    pid: Cell<u32>,
    starts: Cell<u32>,
}

impl<'a> Machine<'a> {
    /// A new machine, booted.
    pub(super) fn start(host: &'a Host) -> Self {
        let machine = Self { host, pid: Cell::new(0), starts: Cell::new(0) };
        let [root, upper, work] = ["root", "upper", "work"].map(|name| host.path(name));
        for folder in [&root, &upper, &work] {
            fs::create_dir(folder).expect("a folder");
        }
        let options = format!(
            "lowerdir={},upperdir={},workdir={}",
            made("FLEETD_TEST_SYSTEM").display(),
            upper.display(),
            work.display()
        );
        mount(Some("overlay"), &root, Some("overlay"), MsFlags::empty(), Some(options.as_str()))
            .expect("an overlay of the system");
        // What an installer of Debian would write.
        fs::write(root.join("etc/hostname"), format!("{}\n", host.name())).expect("a file");
        fs::write(root.join("etc/hosts"), "127.0.0.1 localhost\n").expect("a file");
        machine.boot();
        machine
    }

    /// Switches it on, and waits until it is up.
    #[track_caller]
    pub(super) fn boot(&self) {
        self.starts.set(self.starts.get() + 1);
        // The container makes groups of processes below the one that it is in.
        let enter = "mount -t tmpfs tmpfs /run && mount -t cgroup2 cgroup2 /sys/fs/cgroup && \
                     mkdir -p /sys/fs/cgroup/$0 && echo 0 >/sys/fs/cgroup/$0/cgroup.procs && \
                     exec systemd-nspawn --quiet --register=no --keep-unit --console=pipe \
                     --resolv-conf=off --timezone=off --link-journal=no \"$@\" --boot";
        let mut command = self.host.command("unshare");
        command.args(["--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--"]);
        command.args(["sh", "-c", enter, &self.group(), "--machine", self.host.name()]);
        command.arg("--directory").arg(self.host.path("root"));
        command.arg(format!("--bind-ro={}:/packages", made("FLEETD_TEST_PACKAGES").display()));
        self.pid.set(self.host.start(&self.log_name(), command.stdin(Stdio::null())));
        wait_for("a system to be up", BOOT, || {
            let log = || self.host.log(&self.log_name());
            assert!(is_running(self.pid.get()), "the container ended by itself: {}", log());
            self.system()?;
            let said = self.said(&["systemctl", "is-system-running"]);
            (said.stdout.trim() == "running").then_some(())
        });
    }

    /// Waits until it goes down by itself in order to come again, and switches it on again.
    #[track_caller]
    pub(super) fn reboots(&self) {
        let pid = self.pid.get();
        wait_for("the machine to go down", BOOT, || (!is_running(pid)).then_some(()));
        self.host.kill(pid);
        self.boot();
    }

    /// Runs a program in there.
    pub(super) fn said(&self, argv: &[&str]) -> Said {
        let system = self.system().expect("a machine that is up");
        Said::of(command(system).args(argv))
    }

    /// Runs a program in there that succeeds, and gives what it wrote.
    #[track_caller]
    pub(super) fn output(&self, argv: &[&str]) -> String {
        self.said(argv).exits(0).stdout
    }

    /// Runs a line of a shell in there, as the administrator would.
    #[track_caller]
    pub(super) fn shell(&self, line: &str) -> String {
        self.output(&["sh", "-c", line])
    }

    /// What systemd says of a unit.
    #[track_caller]
    pub(super) fn unit(&self, unit: &str, property: &str) -> String {
        let property = format!("--property={property}");
        self.output(&["systemctl", "show", "--value", &property, unit]).trim().to_owned()
    }

    /// Waits until a unit is active, as its program says, in another process than `before`; and says
    /// in which.
    #[track_caller]
    pub(super) fn is_active(&self, unit: &str, before: &str) -> String {
        wait_for(&format!("{unit} to be active"), SOON, || {
            let is_active = self.unit(unit, "ActiveState") == "active";
            let pid = self.unit(unit, "MainPID");
            (is_active && pid != before && pid != "0").then_some(pid)
        })
    }

    /// Its files: kind, mode, owner, group and path of each.
    #[track_caller]
    pub(super) fn files(&self) -> BTreeSet<String> {
        let root = self.host.path("root");
        let mut find = Command::new("find");
        let said = Said::of(find.arg(&root).args(["-xdev", "-printf", "%y %m %U %G /%P\\n"]));
        let is_others = |path: &str| {
            let logs = path.strip_prefix("/var/log/");
            OTHERS.iter().any(|other| Path::new(path).starts_with(other))
                || logs
                    .is_some_and(|log| LOGS.iter().any(|other| Path::new(log).starts_with(other)))
        };
        let said = said.exits(0).stdout;
        let files = said.lines().filter(|line| {
            line.split_once('/').is_some_and(|(_, path)| !is_others(&format!("/{path}")))
        });
        files.map(str::to_owned).collect()
    }

    /// The first process of the container's system: the child of what runs in the namespaces that
    /// were made for it.
    fn system(&self) -> Option<u32> {
        let container = child(self.pid.get())?;
        let system = child(container)?;
        let name = fs::read_to_string(format!("/proc/{system}/comm")).ok()?;
        (name.trim() == "systemd").then_some(system)
    }

    fn group(&self) -> String {
        let lab = self.host.path("root");
        let mark: String = lab.to_string_lossy().replace('/', "-");
        format!("fleetd{mark}")
    }

    fn log_name(&self) -> String {
        format!("machine-{}", self.starts.get())
    }
}

impl Drop for Machine<'_> {
    fn drop(&mut self) {
        let pid = self.pid.get();
        if std::thread::panicking() {
            eprintln!("{}: {}", self.host.name(), self.host.log(&self.log_name()));
            let journal = ["journalctl", "--no-pager", "-n", "30", "-o", "short-monotonic"];
            let said = self.system().map(|system| command(system).args(journal).output());
            if let Some(Ok(said)) = said {
                eprintln!("{}", String::from_utf8_lossy(&said.stdout));
            }
        }
        if pid != 0 {
            self.host.kill(pid);
        }
        // Its processes are killed with it, but take a moment to end.
        let remove = "mount -t cgroup2 cgroup2 /sys/fs/cgroup && cd /sys/fs/cgroup && \
                      for try in $(seq 100); do [ -e \"$0\" ] || exit 0; \
                      find \"$0\" -depth -type d -exec rmdir {} + 2>/dev/null || sleep 0.1; \
                      done; exit 1";
        let removed = self.host.command("sh").args(["-c", remove, &self.group()]).status();
        if !removed.is_ok_and(|status| status.success()) {
            eprintln!("{}: its group of processes is still there", self.host.name());
        }
        if let Err(error) = umount2(&self.host.path("root"), MntFlags::MNT_DETACH) {
            eprintln!("the system of {} is still mounted: {error}", self.host.name());
        }
    }
}

/// What runs a program in the namespaces of a container's system.
fn command(system: u32) -> Command {
    let mut command = Command::new("nsenter");
    command.arg("--target").arg(system.to_string());
    command.args(["--mount", "--uts", "--ipc", "--net", "--pid", "--"]);
    command.args(["env", "--ignore-environment", PATH, "LC_ALL=C.UTF-8", "HOME=/nobody"]);
    command.arg("DEBIAN_FRONTEND=noninteractive").stdin(Stdio::null());
    command
}

/// The only child of a process.
fn child(pid: u32) -> Option<u32> {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).ok()?;
    children.split_whitespace().next()?.parse().ok()
}
