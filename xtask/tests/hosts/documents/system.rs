//! A host with a system of its own: what this machine has, below a layer of the host's own, so that
//! documents may write to `/etc/fleetd`, `/var/lib/fleetd` and wherever else they say.

#![expect(clippy::print_stderr, reason = "what cannot be cleaned up is said among the output")]

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::fleet::{SOON, Said, program};
use crate::lab::{Host, wait_for};

/// Where whoever reads a document sits.
const HOME: &str = "/home/you";
/// Where the programs are.
const PROGRAMS: &str = "/usr/local/lib/fleetd";
const PATH: &str = "PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin";

pub(super) struct System<'a> {
    pub(super) host: &'a Host,
    /// The first process of its namespaces, and what holds that.
    init: u32,
    holder: u32,
    root: PathBuf,
    disk: PathBuf,
    environment: Vec<String>,
}

impl<'a> System<'a> {
    /// Starts a host's system, which knows these names; `environment` is `NAME=value`.
    #[track_caller]
    pub(super) fn start(host: &'a Host, hosts: &str, environment: &[String]) -> Self {
        let [root, disk] = ["root", "disk"].map(|name| host.path(name));
        for folder in [&root, &disk] {
            fs::create_dir(folder).expect("a folder");
        }
        // A layer must not lie below what it covers.
        let plain = None::<&str>;
        mount(plain, &disk, Some("tmpfs"), MsFlags::empty(), plain).expect("a tmpfs");
        let [upper, work] = ["upper", "work"].map(|name| disk.join(name));
        for folder in [&upper, &work] {
            fs::create_dir(folder).expect("a folder");
        }
        let layers = format!("lowerdir=/,upperdir={},workdir={}", upper.display(), work.display());
        mount(plain, &root, Some("overlay"), MsFlags::empty(), Some(layers.as_str()))
            .expect("an overlay of this system");
        let mut system =
            Self { host, init: 0, holder: 0, root, disk, environment: environment.to_vec() };
        system.furnish(hosts);
        system.boot();
        system
    }

    fn furnish(&self, hosts: &str) {
        self.write("/etc/hosts", hosts);
        self.write("/etc/hostname", &format!("{}\n", self.host.name()));
        for folder in [HOME, PROGRAMS, "/usr/local/bin", "/etc/fleetd"] {
            fs::create_dir_all(self.path(folder)).expect("a folder");
        }
        for program in ["fleets", "fleetd", "fleet-tui"] {
            let target = Path::new(PROGRAMS).join(program);
            for folder in ["/usr/local/bin", HOME] {
                symlink(&target, self.path(folder).join(program)).expect("a link");
            }
        }
        // Who is root already needs nobody's leave.
        self.write("/usr/local/bin/sudo", "#!/bin/sh\nexec \"$@\"\n");
        let sudo = self.path("/usr/local/bin/sudo");
        fs::set_permissions(sudo, std::os::unix::fs::PermissionsExt::from_mode(0o755))
            .expect("a program");
    }

    fn boot(&mut self) {
        let built = PathBuf::from(program("fleets"));
        let enter = "cd \"$0\" && mount -t proc proc proc && mount --rbind /dev dev && \
                     mount --rbind /sys sys && mount --bind \"$1\" \".$2\" && \
                     mkdir -p \".$4\" && mount --bind \"$4\" \".$4\" && hostname \"$3\" && \
                     exec chroot . sh -c 'touch /up; exec sleep infinity'";
        let mut command = self.host.command("unshare");
        command.args(["--mount", "--uts", "--pid", "--fork", "--kill-child", "--"]);
        command.args(["sh", "-c", enter]).arg(&self.root).arg(built.parent().expect("a folder"));
        command.args([PROGRAMS, self.host.name()]);
        // What else runs on this host has its sockets there.
        command.arg(self.root.parent().expect("the lab's folder"));
        self.holder = self.host.start("system", &mut command);
        wait_for("a host's system", SOON, || self.path("/up").exists().then_some(()));
        self.init = child(self.holder).expect("its first process");
    }

    /// From now on programs in there find this in their environment.
    pub(super) fn knows(&mut self, name: &str, value: &str) {
        self.environment.push(format!("{name}={value}"));
    }

    /// A path in there, as this process sees it.
    pub(super) fn path(&self, path: &str) -> PathBuf {
        let path = path.strip_prefix('~').map_or(path.to_owned(), |rest| format!("{HOME}{rest}"));
        self.root.join(path.trim_start_matches('/'))
    }

    pub(super) fn write(&self, path: &str, text: &str) {
        let path = self.path(path);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).expect("a folder");
        }
        fs::write(&path, text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }

    /// What runs lines of a shell in there, with the home folder as its place.
    pub(super) fn shell(&self, lines: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.init.to_string()]);
        command.args(["--mount", "--uts", "--net", "--pid", "--root", "--"]);
        command.args(["env", "--ignore-environment", &format!("--chdir={HOME}"), PATH]);
        command.args(["LC_ALL=C.UTF-8", "TERM=xterm-256color", &format!("HOME={HOME}")]);
        command.args(&self.environment);
        command.args(["bash", "-c", lines]).stdin(Stdio::null());
        command
    }

    pub(super) fn said(&self, lines: &str) -> Said {
        Said::of(&mut self.shell(lines))
    }

    /// Starts what goes on until it is ended.
    #[track_caller]
    pub(super) fn keep(&self, name: &str, lines: &str) -> Kept {
        let path = self.host.path(name);
        let log = File::create(&path).expect("a file");
        let errors = log.try_clone().expect("a file");
        let child = self.shell(lines).stdout(log).stderr(errors).spawn().expect("nsenter");
        Kept { child, log: path }
    }
}

impl Drop for System<'_> {
    fn drop(&mut self) {
        self.host.kill(self.holder);
        for mounted in [&self.root, &self.disk] {
            if let Err(error) = umount2(mounted, MntFlags::MNT_DETACH) {
                eprintln!("{} is still mounted: {error}", mounted.display());
            }
        }
    }
}

/// A program that goes on until it is ended.
pub(super) struct Kept {
    child: Child,
    log: PathBuf,
}

impl Kept {
    pub(super) fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// How it has ended, if it has.
    pub(super) fn ended(&mut self) -> Option<String> {
        self.child.try_wait().expect("a child").map(|status| status.to_string())
    }

    /// Ends it by a signal; its exit code, or 128 and the signal as shells have it.
    #[track_caller]
    pub(super) fn end(mut self, signal: Signal) -> i32 {
        // What enters namespaces waits for a shell, which may wait for the program.
        let mut last = self.child.id();
        while let Some(below) = child(last) {
            last = below;
        }
        kill(Pid::from_raw(last.cast_signed()), signal).expect("a program that runs");
        let status = wait_for("a program to end", SOON, || self.child.try_wait().expect("a child"));
        status.code().unwrap_or_else(|| 128 + signal as i32)
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        // It may have ended; and what it has entered ends with its host.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The first child of a process.
fn child(pid: u32) -> Option<u32> {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).ok()?;
    children.split_whitespace().next()?.parse().ok()
}
