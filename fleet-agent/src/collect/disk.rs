//! How full the file systems are. See proc_pid_mountinfo(5) and statvfs(3).
//!
//! Asking a file system whose server is gone would hang the agent, so only kinds that live on
//! this machine's own disks are asked, and of these none that is mounted below a network file
//! system: the way to it would hang too.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use nix::sys::statvfs::{Statvfs, statvfs};
use procfs::process::MountInfo;

use super::{Batch, CollectError, Collector, percent, text_if_any};
use crate::sys::SysRoot;

const FILE: &str = "proc/self/mountinfo";
/// File systems that are asked.
const MOUNTS_MAX: usize = 64;
/// File systems on the machine's own disks.
const ON_DISK: [&str; 17] = [
    "bcachefs", "btrfs", "exfat", "ext2", "ext3", "ext4", "f2fs", "fuseblk", "jffs2", "jfs",
    "nilfs2", "ntfs", "ntfs3", "ubifs", "vfat", "xfs", "zfs",
];
/// More that the root file system of a machine or container may be.
const ROOT_ONLY: [&str; 7] =
    ["erofs", "overlay", OVERLAY_BY_FUSE, "ramfs", "rootfs", "squashfs", "tmpfs"];
/// The root of a container that was started without privileges; its server is on this machine.
const OVERLAY_BY_FUSE: &str = "fuse.fuse-overlayfs";
/// Kinds whose paths may hang.
const NETWORK: [&str; 9] = ["nfs", "nfs4", "cifs", "smb3", "9p", "ceph", "afs", "autofs", "fuse"];
/// What lies there is mounted for the system's own use.
const SYSTEMS_OWN: [&str; 9] = [
    "/dev",
    "/etc",
    "/proc",
    "/run",
    "/snap",
    "/sys",
    "/var/lib/containers",
    "/var/lib/docker",
    "/var/lib/kubelet",
];
/// … except where desktops mount what people plug in.
const PEOPLES: &str = "/run/media";

/// The file systems.
pub(super) struct Disk {
    root: SysRoot,
}

impl Disk {
    pub(super) fn new(root: SysRoot) -> Self {
        Self { root }
    }
}

impl Collector for Disk {
    fn name(&self) -> &'static str {
        "disk"
    }

    fn metrics(&self) -> &'static [&'static str] {
        &[
            "disk_usage",
            "disk_mount_usage",
            "disk_inode_usage",
            "disk_total_bytes",
            "disk_used_bytes",
            "disk_available_bytes",
        ]
    }

    fn collect(&mut self, batch: &mut Batch<'_>) -> Result<(), CollectError> {
        let mounts = match text_if_any(&self.root, FILE)? {
            Some(text) => mounts(&text).ok_or_else(|| CollectError::form(&self.root, FILE))?,
            // Without a list there is still a root.
            None => vec!["/".to_owned()],
        };
        for mount in mounts {
            let path = self.root.path(&mount);
            match statvfs(&path) {
                Ok(stat) => push(batch, &mount, &Space::of(&stat)),
                Err(error) if mount == "/" => {
                    return Err(CollectError::Read { path, source: error.into() });
                }
                // Hidden below another mount, or not ours to see: no sample.
                Err(_) => {}
            }
        }
        Ok(())
    }
}

fn push(batch: &mut Batch<'_>, mount: &str, space: &Space) {
    if mount == "/" {
        batch.push_known("disk_usage", space.usage());
    }
    let mut push = |metric, value| {
        if let Some(value) = value {
            batch.push_labelled(metric, "mount", mount, value);
        }
    };
    push("disk_mount_usage", space.usage());
    push("disk_inode_usage", space.inode_usage());
    push("disk_total_bytes", Some(space.total_bytes as f64));
    push("disk_used_bytes", Some(space.used_bytes as f64));
    push("disk_available_bytes", Some(space.available_bytes as f64));
}

/// What one file system holds.
#[derive(Debug, PartialEq)]
struct Space {
    total_bytes: u64,
    used_bytes: u64,
    /// For programs without privileges: less than what is free where some is reserved.
    available_bytes: u64,
    inodes: u64,
    inodes_free: u64,
}

impl Space {
    fn of(stat: &Statvfs) -> Self {
        let unit = wide(stat.fragment_size());
        let blocks = wide(stat.blocks());
        let used = blocks.saturating_sub(wide(stat.blocks_free()));
        Self {
            total_bytes: blocks.saturating_mul(unit),
            used_bytes: used.saturating_mul(unit),
            available_bytes: wide(stat.blocks_available()).saturating_mul(unit),
            inodes: wide(stat.files()),
            inodes_free: wide(stat.files_free()),
        }
    }

    /// As df(1) has it: what is reserved for root counts neither as used nor as free.
    fn usage(&self) -> Option<f64> {
        percent(self.used_bytes, self.used_bytes.saturating_add(self.available_bytes))
    }

    /// Nothing where files need no inodes of their own, as on btrfs and vfat.
    fn inode_usage(&self) -> Option<f64> {
        percent(self.inodes.saturating_sub(self.inodes_free), self.inodes)
    }
}

/// The kernel's numbers are 32 bits wide on some machines.
fn wide(number: impl Into<u64>) -> u64 {
    number.into()
}

/// The mount points to ask, one for each file system, the root first.
fn mounts(mountinfo: &str) -> Option<Vec<String>> {
    let lines: Vec<MountInfo> =
        mountinfo.lines().filter_map(|line| MountInfo::from_line(line).ok()).collect();
    if lines.is_empty() {
        return None;
    }
    // Of mounts upon each other the last is the one that shows.
    let shown: BTreeMap<String, &MountInfo> =
        lines.iter().map(|mount| (unescaped(&mount.mount_point), mount)).collect();
    let network: Vec<&str> = shown
        .iter()
        .filter(|(_, mount)| is_network(&mount.fs_type))
        .map(|(point, _)| point.as_str())
        .collect();

    let mut asked: Vec<(&str, &str)> = shown
        .iter()
        .filter(|(point, mount)| is_asked(point, &mount.fs_type))
        .filter(|(point, _)| !network.iter().any(|above| Path::new(point).starts_with(above)))
        .map(|(point, mount)| (point.as_str(), mount.majmin.as_str()))
        .collect();
    // A file system that is mounted at several places goes by the shortest path.
    asked.sort_by_key(|(point, _)| (point.len(), *point));
    let mut seen = BTreeSet::new();
    asked.retain(|(_, device)| seen.insert(*device));
    Some(asked.into_iter().take(MOUNTS_MAX).map(|(point, _)| point.to_owned()).collect())
}

fn is_asked(point: &str, kind: &str) -> bool {
    if point == "/" {
        return ON_DISK.contains(&kind) || ROOT_ONLY.contains(&kind);
    }
    let below = |folder: &str| Path::new(point).starts_with(folder);
    let systems_own = SYSTEMS_OWN.into_iter().any(below) && !below(PEOPLES);
    ON_DISK.contains(&kind) && !systems_own
}

fn is_network(kind: &str) -> bool {
    NETWORK.contains(&kind) || (kind.starts_with("fuse.") && kind != OVERLAY_BY_FUSE)
}

/// Spaces and other separators are written as `\040`.
fn unescaped(point: &Path) -> String {
    let point = point.to_string_lossy();
    let mut parts = point.split('\\');
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let octal = part.get(..3).and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match octal {
            Some(byte) if byte.is_ascii() => {
                plain.push(char::from(byte));
                plain.push_str(&part[3..]);
            }
            _ => {
                plain.push('\\');
                plain.push_str(part);
            }
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usage_is_what_df_says() {
        let space = Space {
            total_bytes: 1000,
            used_bytes: 600,
            available_bytes: 350,
            inodes: 0,
            inodes_free: 0,
        };
        let usage = space.usage().unwrap();
        assert!((usage - 600.0 / 9.5).abs() < 1e-9, "{usage}");
        assert_eq!(space.inode_usage(), None);
        let inodes = Space { inodes: 200, inodes_free: 150, ..space };
        assert_eq!(inodes.inode_usage(), Some(25.0));
    }

    #[test]
    fn only_own_disks_are_asked_and_each_once() {
        let mountinfo = "\
22 1 0:20 / / rw - rootfs none rw
23 22 8:2 / / rw,relatime shared:1 - ext4 /dev/sda2 rw
24 23 0:5 / /dev rw - devtmpfs udev rw
25 23 8:1 / /boot/efi rw - vfat /dev/sda1 rw
26 23 8:2 /srv /home/data rw - ext4 /dev/sda2 rw
27 23 8:16 / /mnt/my\\040disk rw - xfs /dev/sdb rw
28 23 0:50 / /nfs rw - nfs4 server:/ rw
29 28 8:32 / /nfs/deep rw - ext4 /dev/sdc rw
30 23 0:51 / /tmp rw - tmpfs tmpfs rw
31 23 7:0 / /snap/core/1 ro - squashfs /dev/loop0 ro
32 23 0:52 / /var/lib/docker/overlay2/x/merged rw - overlay overlay rw
33 23 8:48 / /run/media/me/stick rw - vfat /dev/sdd1 rw
34 23 8:64 / /run/netns rw - ext4 /dev/sde rw
not a mount
";
        let expected = ["/", "/boot/efi", "/mnt/my disk", "/run/media/me/stick"];
        assert_eq!(mounts(mountinfo).unwrap(), expected);
        assert_eq!(mounts("garbage\n"), None);
    }

    #[test]
    fn a_root_is_asked_unless_it_is_on_the_network() {
        for kind in ["overlay", "fuse.fuse-overlayfs", "tmpfs", "ext4"] {
            assert_eq!(
                mounts(&format!("1 0 0:9 / / rw - {kind} x rw\n")).unwrap(),
                ["/"],
                "{kind}"
            );
        }
        assert_eq!(mounts("1 0 0:9 / / rw - nfs4 server:/ rw\n").unwrap(), Vec::<String>::new());
    }

    #[test]
    fn escapes_become_characters() {
        for (written, plain) in
            [(r"/a\040b\011c", "/a b\tc"), (r"/a\134040", r"/a\040"), (r"/a\9é\", r"/a\9é\")]
        {
            assert_eq!(unescaped(Path::new(written)), plain);
        }
    }
}
