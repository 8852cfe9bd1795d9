//! A host of the lab with a container engine of its own: the real `dockerd`, with its data, its sockets
//! and its groups of processes apart from whatever else is on this machine.

#![expect(clippy::print_stderr, reason = "what a failed test leaves is said among its output")]

use std::cell::Cell;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::super::{SOON, Said, is_running};
use crate::lab::{Host, wait_for};

/// How long containers may take to end, one after the other, on a busy machine.
const END: Duration = Duration::from_secs(60);
/// Where root's folders are the engine's own: `/var/lib`, `/srv` and `/etc` of this machine stay as they are.
/// Groups of processes are the kernel's newer kind, on any machine.
const ENTER: &str = "mount -t cgroup2 cgroup2 /sys/fs/cgroup && mount -t tmpfs tmpfs /var/lib && \
    mount -t tmpfs tmpfs /srv && cp /etc/hosts $0/upper/hosts && \
    mount -t overlay overlay -o lowerdir=/etc,upperdir=$0/upper,workdir=$0/work /etc && exec \"$@\"";

/// Such a host.
pub(super) struct Engine<'a> {
    host: &'a Host,
    pid: Cell<u32>,
}

impl<'a> Engine<'a> {
    /// Starts the engine, and waits until it answers.
    #[track_caller]
    pub(super) fn start(host: &'a Host) -> Self {
        let base = host.path("docker");
        for folder in ["upper", "work"] {
            fs::create_dir_all(base.join(folder)).expect("a folder");
        }
        let engine = Self { host, pid: Cell::new(0) };
        let mut command = host.command("unshare");
        command.args(["--mount", "--", "sh", "-c", ENTER]).arg(&base).arg("dockerd");
        command.arg("--data-root").arg(base.join("data"));
        command.arg("--exec-root").arg(base.join("exec"));
        command.arg("--pidfile").arg(base.join("pid"));
        command.arg("--host").arg(engine.socket());
        command.args(["--log-level", "warn", "--cgroup-parent", &engine.group()]);
        engine.pid.set(host.start("dockerd", &mut command));
        wait_for("the engine to answer", SOON, || {
            assert!(is_running(engine.pid.get()), "the engine ended: {}", host.log("dockerd"));
            (engine.said("docker version").code == Some(0)).then_some(())
        });
        engine
    }

    /// Runs a line of a shell on the host, with this engine, in the folder of what images are made of.
    pub(super) fn said(&self, line: &str) -> Said {
        let folder = std::env::var_os("FLEETD_TEST_IMAGES");
        let folder = folder.expect("FLEETD_TEST_IMAGES: cargo xtask test images");
        // The legacy builder is all that Debian's engine has.
        let environment = [("DOCKER_HOST", self.socket()), ("DOCKER_BUILDKIT", "0".to_owned())];
        let mut command = self.within("sh");
        let line = format!("cd \"$0\" && {line}");
        Said::of(command.args(["-c", &line]).arg(folder).envs(environment))
    }

    /// The same of a line that succeeds, and what it writes.
    #[track_caller]
    pub(super) fn output(&self, line: &str) -> String {
        self.said(line).exits(0).stdout
    }

    /// Something that the engine knows of a container.
    #[track_caller]
    pub(super) fn of(&self, container: &str, what: &str) -> String {
        let line = format!("docker inspect --format '{{{{{what}}}}}' {container}");
        self.output(&line).trim().to_owned()
    }

    /// What the system says of each thread of a container's first process.
    #[track_caller]
    pub(super) fn threads(&self, container: &str) -> Vec<String> {
        let tasks = format!("/proc/{}/task", self.of(container, ".State.Pid"));
        let tasks = fs::read_dir(tasks).expect("a container that runs");
        let status = tasks.map(|task| task.expect("a thread").path().join("status"));
        // A thread may end meanwhile.
        status.filter_map(|status| fs::read_to_string(status).ok()).collect()
    }

    /// Processes that have ended and that a container's first process does not wait for.
    #[track_caller]
    pub(super) fn zombies(&self, container: &str) -> usize {
        let pid = self.of(container, ".State.Pid");
        let children = format!("/proc/{pid}/task/{pid}/children");
        let children = fs::read_to_string(children).expect("a container that runs");
        let children = children.split_whitespace().map(|pid| pid.parse().expect("a number"));
        children.filter(|pid| !is_running(*pid)).count()
    }

    /// A file of the host as the engine's own folders have it.
    pub(super) fn path(&self, path: &str) -> PathBuf {
        Path::new(&format!("/proc/{}/root", self.pid.get())).join(path.trim_start_matches('/'))
    }

    /// A command in the engine's mounts, and on its network.
    fn within(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.arg("--target").arg(self.pid.get().to_string()).args(["--mount", "--net", "--"]);
        command.arg(program);
        command
    }

    fn socket(&self) -> String {
        format!("unix://{}", self.host.path("docker/socket").display())
    }

    fn group(&self) -> String {
        let mark: String = self.host.path("engine").to_string_lossy().replace('/', "-");
        format!("/fleetd{mark}")
    }
}

impl Drop for Engine<'_> {
    fn drop(&mut self) {
        let pid = self.pid.get();
        if pid == 0 {
            return;
        }
        if std::thread::panicking() {
            eprintln!("{}: {}", self.host.name(), self.host.log("dockerd"));
            let all = "for one in $(docker ps -aq); do docker inspect --format '{{.Name}} \
                       {{.State.Status}} {{.State.ExitCode}} {{json .State.Health}}' $one; \
                       docker logs --tail 30 $one 2>&1; done";
            eprintln!("{}", self.said(all).stdout);
        }
        let removed = self.said("docker ps -aq | xargs -r docker rm -fv");
        if removed.code != Some(0) {
            eprintln!("{}: containers are left: {removed:?}", self.host.name());
        }
        let asked = kill(Pid::from_raw(pid.cast_signed()), Signal::SIGTERM);
        let gone = std::time::Instant::now() + END;
        while asked.is_ok() && is_running(pid) && std::time::Instant::now() < gone {
            std::thread::sleep(Duration::from_millis(50));
        }
        self.host.kill(pid);
        let remove = "mount -t cgroup2 cgroup2 /sys/fs/cgroup && cd /sys/fs/cgroup && \
                      for try in $(seq 100); do [ -e \".$0\" ] || exit 0; \
                      find \".$0\" -depth -type d -exec rmdir {} + 2>/dev/null || sleep 0.1; \
                      done; exit 1";
        let removed = self.host.command("sh").args(["-c", remove, &self.group()]).status();
        if !removed.is_ok_and(|status| status.success()) {
            eprintln!("{}: its group of processes is still there", self.host.name());
        }
    }
}
