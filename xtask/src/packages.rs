//! The Debian packages that the suites and the bench need: the one list of them.

use std::process::{Command, Stdio};

use anyhow::{Context as _, bail};
use nix::unistd::geteuid;

/// A package, a program that it brings (or another file), and what needs it.
pub type Package = (&'static str, &'static str, &'static str);

/// What the suite on several hosts needs.
pub const HOSTS: &[Package] = &[
    ("iproute2", "ip", "network namespaces"),
    ("avahi-daemon", "avahi-daemon", "an mDNS neighbour"),
    ("avahi-utils", "avahi-browse", "asking that neighbour"),
    ("dbus", "dbus-daemon", "the neighbour's bus"),
    ("iptables", "iptables", "a network that swallows what is sent"),
    ("iputils-ping", "ping", "what operators look at a network with"),
    ("curl", "curl", "requests as a third party makes them"),
    ("openssl", "openssl", "certificates as operators make them"),
    ("sqlite3", "sqlite3", "exports in a program of others"),
    ("gcc", "gcc", "a library that lets a disk fail"),
    ("libc6-dev", "/usr/include/stdio.h", "the same"),
    ("faketime", "faketime", "clocks that are years off"),
    ("tmux", "tmux", "the console inside another terminal"),
    ("openssh-server", "sshd", "the console through ssh"),
    ("openssh-client", "ssh", "the other end of that"),
    ("chromium", "chromium", "the status page in a browser"),
    ("nginx-light", "nginx", "a proxy in front of the server"),
    ("prometheus", "promtool", "what is told to Prometheus"),
    ("influxdb-client", "influx", "lines as InfluxDB's own client sends them"),
    ("python3-influxdb", PYTHON_INFLUXDB, "lines as programs in Python send them"),
];

/// What the suite needs besides for a system of its own in a container.
pub const SYSTEMD: &[Package] =
    &[("systemd-container", "systemd-nspawn", "a system in a container")];

/// What the step `packages` needs besides, to look at packages and to install them.
pub const PACKAGES: &[Package] = &[
    ("debootstrap", "debootstrap", "systems to install packages on"),
    ("lintian", "lintian", "what Debian wants of packages"),
    ("man-db", "man", "reading manual pages"),
    ("groff-base", "groff", "the same"),
    ("zsh", "zsh", "reading completions"),
    ("fish", "fish", "the same"),
];

/// What the step `images` needs besides.
pub const IMAGES: &[Package] = &[
    ("docker.io", "dockerd", "building images and running containers"),
    ("iptables", "iptables", "networks of containers"),
    ("dash", "/bin/dash", "a program for a device to run"),
];

/// What `cargo xtask dist` needs.
pub const DIST: &[Package] = &[
    ("dpkg", "dpkg-deb", "packing packages"),
    ("dpkg-dev", "dpkg-shlibdeps", "finding the libraries that a program needs"),
    ("binutils", "strip", "programs without what only a debugger reads"),
    ("libc-bin", "ldd", "finding those libraries, for images"),
    ("ca-certificates", MOZILLA, "authorities, for images"),
];

/// What `cargo xtask fuzz` needs.
pub const FUZZ: &[Package] = &[("g++", "g++", "building libFuzzer")];

/// What making up requests for the server needs.
pub const CONTRACT: &[Package] = &[
    ("python3", "python3", "requests of every kind that the OpenAPI document allows"),
    ("python3-pip", "pip3", "what makes them up"),
];

/// What `cargo xtask bench telemetry` needs.
pub const BENCH: &[Package] =
    &[("victoria-metrics", "victoria-metrics", "what telemetry is compared with")];

/// What `cargo xtask bench link` needs.
pub const BENCH_LINK: &[Package] = &[
    ("mosquitto", "mosquitto", "what links are compared with"),
    ("openssl", "openssl", "that broker's certificate"),
];

/// What the package brings is no program.
const PYTHON_INFLUXDB: &str = "/usr/lib/python3/dist-packages/influxdb/client.py";

/// One of the authorities.
const MOZILLA: &str = "/usr/share/ca-certificates/mozilla/ISRG_Root_X1.crt";

/// Where Debian puts programs that an ordinary user's `PATH` may leave out.
const FOLDERS: [&str; 6] =
    ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];

/// Installs what is missing if this user may; fails with what is missing then.
pub fn ensure(packages: &[Package]) -> anyhow::Result<()> {
    let mut missing = missing(packages);
    if !missing.is_empty() && geteuid().is_root() && has_program("apt-get") {
        install(&missing)?;
        missing = self::missing(packages);
    }
    if missing.is_empty() {
        return Ok(());
    }
    let needs = packages.iter().filter(|(package, ..)| missing.contains(package));
    let needs: Vec<String> =
        needs.map(|(package, _, reason)| format!("{package} ({reason})")).collect();
    bail!("not installed: {}; as root: apt-get install {}", needs.join(", "), missing.join(" "))
}

/// Whether a program is there to run; or a file, by its whole path.
pub fn has_program(name: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders = std::env::split_paths(&path).chain(FOLDERS.iter().map(Into::into));
    folders.any(|folder| folder.join(name).is_file())
}

fn missing(packages: &[Package]) -> Vec<&'static str> {
    let absent = packages.iter().filter(|(_, program, _)| !has_program(program));
    absent.map(|(package, ..)| *package).collect()
}

fn install(packages: &[&str]) -> anyhow::Result<()> {
    apt_get(&["update"])?;
    let mut install = vec!["install", "--yes", "--no-install-recommends"];
    install.extend(packages);
    apt_get(&install)
}

fn apt_get(args: &[&str]) -> anyhow::Result<()> {
    let status = Command::new("apt-get")
        .args(args)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .stdin(Stdio::null())
        .status()
        .context("cannot run apt-get")?;
    if !status.success() {
        bail!("apt-get {} failed ({status})", args.join(" "));
    }
    Ok(())
}
