//! This machine: who has a port, whether a folder can be used, how much room there is, what
//! systemd makes of a unit, where the log goes.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use nix::sys::statvfs::{FsFlags, statvfs};
use nix::unistd::{AccessFlags, Uid, User, eaccess};

use super::{Check, bytes, tool};

/// Less room than this, or than a tenth of the disk, is too little: a server stores no telemetry then.
const FREE_BYTES_MIN: u64 = 512 * 1024 * 1024;
/// The bits of a mode by which others than the owner may write.
const WRITERS: u32 = 0o022;
/// The log files of the packages.
const LOG_FOLDER: &str = "/var/log/fleetd";
/// What exists where systemd runs the machine.
const SYSTEMD: &str = "/run/systemd/system";

/// A kind of port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// One that listens for connections.
    Tcp,
    /// One that takes packets.
    Udp,
}

/// A program that has a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Its process, if that can be seen: others' processes show it to root alone.
    pub process: Option<(u32, String)>,
}

impl Holder {
    /// In words.
    pub fn words(&self) -> String {
        match &self.process {
            Some((pid, name)) => format!("{name} (process {pid})"),
            None => "another user's program".to_owned(),
        }
    }
}

/// Who has a port on this host.
pub fn holders(protocol: Protocol, port: u16) -> Vec<Holder> {
    let (files, listens) = match protocol {
        Protocol::Tcp => (["/proc/net/tcp", "/proc/net/tcp6"], Some("0A")),
        Protocol::Udp => (["/proc/net/udp", "/proc/net/udp6"], None),
    };
    // What cannot be read has nobody to tell of.
    let tables = files.iter().filter_map(|file| fs::read_to_string(file).ok());
    let inodes: Vec<u64> = tables.flat_map(|table| inodes(&table, port, listens)).collect();
    if inodes.is_empty() {
        return Vec::new();
    }
    let processes = processes(&inodes);
    if processes.is_empty() {
        return vec![Holder { process: None }];
    }
    processes.into_iter().map(|process| Holder { process: Some(process) }).collect()
}

/// The sockets of a port, in a table of the kernel's.
fn inodes(table: &str, port: u16, state: Option<&str>) -> Vec<u64> {
    let of_line = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let (_, hex) = fields.get(1)?.rsplit_once(':')?;
        let is_it = u16::from_str_radix(hex, 16).ok()? == port;
        let is_open = state.is_none_or(|state| fields.get(3) == Some(&state));
        fields.get(9)?.parse().ok().filter(|inode| is_it && is_open && *inode != 0)
    };
    table.lines().skip(1).filter_map(of_line).collect()
}

fn processes(inodes: &[u64]) -> Vec<(u32, String)> {
    let links: Vec<PathBuf> =
        inodes.iter().map(|inode| PathBuf::from(format!("socket:[{inode}]"))).collect();
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let mut found = Vec::new();
    for entry in entries.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        // Those of others are not shown, and some end meanwhile.
        let Ok(files) = fs::read_dir(entry.path().join("fd")) else { continue };
        let mut targets = files.flatten().filter_map(|file| fs::read_link(file.path()).ok());
        if targets.any(|target| links.contains(&target)) {
            let name = fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
            found.push((pid, name.trim().to_owned()));
        }
    }
    found
}

/// Whether a folder is there and can be used, by whom, and for whom it is.
/// `again` is the command with which someone who may look does so.
pub fn folder(path: &Path, closed_to: u32, again: &str) -> Check {
    const NAME: &str = "folder";
    let shown = path.display();
    let found = match fs::metadata(path) {
        Ok(found) => found,
        Err(error) => {
            let says = format!("{shown}: {error}");
            return match error.kind() {
                std::io::ErrorKind::PermissionDenied => Check::warning(NAME, says).fix(again),
                _ => Check::failed(NAME, says).fix(format!("sudo ls -ld {shown}")),
            };
        }
    };
    if !found.is_dir() {
        return Check::failed(NAME, format!("{shown} is not a folder"))
            .fix(format!("sudo mv {shown} {shown}.old"));
    }
    let owner = owner(found.uid());
    let mode = found.mode() & 0o7777;
    let says = format!("{shown} is {owner}'s, mode {mode:04o}");
    let open = mode & closed_to;
    if open != 0 {
        // What stands right below the root is for more than one program.
        let fix = if path.parent() == Some(Path::new("/")) {
            format!("use a folder of its own, such as {shown}/fleetd")
        } else {
            format!("sudo chmod {:04o} {shown}", mode & !closed_to)
        };
        // Whoever may look in sees names; whoever may write there can put another file in place.
        let check = if open & WRITERS != 0 { Check::failed } else { Check::warning };
        return check(NAME, format!("{says}: open to others")).fix(fix);
    }
    match eaccess(path, AccessFlags::W_OK | AccessFlags::X_OK) {
        Ok(()) => Check::ok(NAME, says),
        Err(nix::errno::Errno::EROFS) => {
            Check::failed(NAME, format!("{says}: its disk is read only"))
                .fix("findmnt -T ".to_owned() + &shown.to_string())
        }
        Err(_) if Uid::effective().as_raw() == found.uid() => {
            Check::failed(NAME, format!("{says}: {owner} cannot write there"))
                .fix(format!("sudo chmod u+rwx {shown}"))
        }
        Err(_) => Check::warning(NAME, format!("{says}: it is not for this user")).fix(again),
    }
}

fn owner(uid: u32) -> String {
    let user = User::from_uid(Uid::from_raw(uid)).ok().flatten();
    user.map_or_else(|| format!("user {uid}"), |user| user.name)
}

/// How much room is left where a path is.
pub fn room(path: &Path, fix: &str) -> Check {
    const NAME: &str = "room";
    let disk = match statvfs(path) {
        Ok(disk) => disk,
        Err(error) => return Check::skipped(NAME, format!("{}: {error}", path.display())),
    };
    let unit = disk.fragment_size();
    let (free, all) = (disk.blocks_available() * unit, disk.blocks() * unit);
    let says = format!("{} of {} are free", bytes(free), bytes(all));
    if disk.flags().contains(FsFlags::ST_RDONLY) {
        return Check::failed(NAME, format!("{says}, but the disk is read only"))
            .fix(format!("findmnt -T {}", path.display()));
    }
    let floor = FREE_BYTES_MIN.min(all / 10);
    match free {
        free if free < floor => Check::failed(NAME, says).fix(fix),
        free if free < 2 * floor => Check::warning(NAME, says).fix(fix),
        _ => Check::ok(NAME, says),
    }
}

/// What systemd makes of a unit.
pub async fn unit(name: &str) -> Check {
    const NAME: &str = "unit";
    if !Path::new(SYSTEMD).exists() {
        return Check::skipped(NAME, "no systemd runs this machine");
    }
    let args = ["show", "-p", "LoadState,ActiveState,SubState,Result", name];
    let Some(said) = tool::ask("systemctl", &args).await else {
        return Check::skipped(NAME, "systemctl does not answer");
    };
    let value = |key: &str| {
        let found = said.text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        found.unwrap_or_default().to_owned()
    };
    let (loaded, active) = (value("LoadState"), value("ActiveState"));
    match (loaded.as_str(), active.as_str()) {
        ("loaded", "active" | "reloading") => Check::ok(NAME, format!("{name} is {active}")),
        ("loaded", "failed") => Check::failed(NAME, format!("{name} failed: {}", value("Result")))
            .fix(format!("journalctl -u {name} -n 50; sudo systemctl restart {name}")),
        ("loaded", "activating") if value("SubState").starts_with("start") => {
            Check::warning(NAME, format!("{name} is starting"))
        }
        ("loaded", "activating") => Check::failed(NAME, format!("{name} does not come up"))
            .fix(format!("journalctl -u {name} -n 50")),
        ("loaded", _) => Check::warning(NAME, format!("{name} is {active}"))
            .fix(format!("sudo systemctl start {name}")),
        ("masked", _) => Check::warning(NAME, format!("{name} is masked"))
            .fix(format!("sudo systemctl unmask {name}")),
        _ => Check::skipped(NAME, format!("systemd has no unit {name}")),
    }
}

/// Whether the unit's lines can be read in the journal.
pub async fn journal(unit: &str) -> Check {
    const NAME: &str = "journal";
    if !Path::new(SYSTEMD).exists() {
        return Check::skipped(NAME, "no systemd runs this machine");
    }
    let Some(said) = tool::ask("journalctl", &["-q", "-u", unit, "-n", "1"]).await else {
        return Check::skipped(NAME, "there is no journalctl");
    };
    if said.is_good && !said.text.contains("permission") {
        return Check::ok(NAME, format!("journalctl -u {unit}"));
    }
    Check::warning(NAME, "this user may not read the journal")
        .fix("sudo usermod -aG systemd-journal $USER, and sign in anew")
}

/// Where the log goes, and how much of it is written.
pub fn log_file(name: &str, program: &str) -> Check {
    const NAME: &str = "log file";
    let told = std::env::var_os("FLEETD_LOG_FILE").filter(|file| !file.is_empty());
    let path = told.map_or_else(|| Path::new(LOG_FOLDER).join(name), PathBuf::from);
    let shown = path.display();
    let level = std::env::var("FLEETD_LOG_LEVEL").unwrap_or_else(|_| "info".to_owned());
    match fs::metadata(&path) {
        Ok(found) => {
            let says = format!("{shown}, {}, level {level}", bytes(found.len()));
            if fs::File::open(&path).is_err() {
                return Check::warning(NAME, format!("{says}; this user may not read it"))
                    .fix("sudo usermod -aG adm $USER, and sign in anew");
            }
            Check::ok(NAME, format!("tail -f {says}"))
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let says = format!("none; {program} --log-file FILE, or --debug to see more");
            Check::skipped(NAME, says)
        }
        Err(error) => {
            Check::warning(NAME, format!("{shown}: {error}")).fix(format!("sudo ls -l {shown}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, UdpSocket};
    use std::os::unix::fs::PermissionsExt as _;

    use super::super::Outcome;
    use super::*;

    #[test]
    fn whoever_has_a_port_is_found() {
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let udp = UdpSocket::bind("[::1]:0").or_else(|_| UdpSocket::bind("127.0.0.1:0")).unwrap();
        let me = std::process::id();
        for (protocol, port) in [
            (Protocol::Tcp, tcp.local_addr().unwrap().port()),
            (Protocol::Udp, udp.local_addr().unwrap().port()),
        ] {
            let found = holders(protocol, port);
            let pids: Vec<_> =
                found.iter().filter_map(|holder| Some(holder.process.as_ref()?.0)).collect();
            assert_eq!(pids, [me], "{protocol:?}");
        }
        let port = tcp.local_addr().unwrap().port();
        drop(tcp);
        assert_eq!(holders(Protocol::Tcp, port), []);
    }

    #[test]
    fn folders_that_cannot_be_used_are_told_with_what_helps() {
        let folder = tempfile::tempdir().unwrap();
        let set = |mode| {
            fs::set_permissions(folder.path(), fs::Permissions::from_mode(mode)).unwrap();
        };
        set(0o700);
        assert_eq!(self::folder(folder.path(), 0o077, "").outcome, Outcome::Ok);
        set(0o755);
        assert_eq!(self::folder(folder.path(), 0o022, "").outcome, Outcome::Ok);
        let open = self::folder(folder.path(), 0o077, "");
        assert_eq!(open.outcome, Outcome::Warning);
        assert!(open.fix.unwrap().starts_with("sudo chmod 0700 "));
        set(0o777);
        assert!(self::folder(folder.path(), 0o022, "").has_failed());
        assert!(self::folder(&folder.path().join("none"), 0, "").has_failed());
        let file = folder.path().join("file");
        fs::write(&file, "").unwrap();
        assert!(self::folder(&file, 0, "").detail.ends_with("is not a folder"));
        assert_ne!(room(folder.path(), "df -h").outcome, Outcome::NotApplicable);
    }
}
