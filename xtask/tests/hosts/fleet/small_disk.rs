//! A disk with little room, that another program fills.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use nix::mount::{MsFlags, mount, umount};

/// A file system with little room, until it is dropped.
pub(super) struct SmallDisk(PathBuf);

impl SmallDisk {
    /// Mounts one of so many bytes.
    pub(super) fn mount(path: PathBuf, bytes: u64) -> Self {
        fs::create_dir_all(&path).expect("a folder");
        let room = format!("size={bytes}");
        let none: Option<&str> = None;
        mount(none, &path, Some("tmpfs"), MsFlags::empty(), Some(room.as_str()))
            .expect("permission to mount");
        Self(path)
    }

    /// Leaves no room.
    pub(super) fn fill(&self) {
        let filled = self.write(&[]);
        assert!(!filled, "it ends when there is no room");
    }

    /// Takes so many bytes.
    pub(super) fn take(&self, bytes: u64) {
        let count = format!("count={}", bytes / 4096);
        assert!(self.write(&[&count]), "there is room");
    }

    /// Whether all was written.
    fn write(&self, more: &[&str]) -> bool {
        let filler = format!("of={}", self.filler().display());
        let filled = Command::new("dd")
            .args(["if=/dev/zero", &filler, "bs=4096", "conv=notrunc", "oflag=append"])
            .args(more)
            .output();
        filled.expect("dd").status.success()
    }

    /// Gives back what was taken.
    pub(super) fn empty(&self) {
        fs::remove_file(self.filler()).expect("the file that filled it");
    }

    fn filler(&self) -> PathBuf {
        self.0.join("filler")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // The program that used it may be ending still; the suite's own mounts end with it.
        let _unmounted = umount(&self.0);
    }
}
