//! A disk with little room, that another program fills.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use nix::mount::{MsFlags, mount, umount};

/// How soon a stranger takes what has become free.
const EAGER: Duration = Duration::from_millis(1);

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

    /// Takes whatever there is, again and again, until the guard is dropped.
    pub(super) fn keep_filling(&self) -> Filling {
        let filler = self.filler();
        let (stop, stopped) = mpsc::channel::<()>();
        let thread = thread::spawn(move || {
            let mut taken = 0;
            while let Err(mpsc::RecvTimeoutError::Timeout) = stopped.recv_timeout(EAGER) {
                taken += append(&filler);
            }
            taken
        });
        Filling { stop: Some(stop), thread: Some(thread) }
    }

    /// Gives back what was taken.
    pub(super) fn empty(&self) {
        fs::remove_file(self.filler()).expect("the file that filled it");
    }

    fn filler(&self) -> PathBuf {
        self.0.join("filler")
    }
}

/// Somebody who takes whatever room there is.
pub(super) struct Filling {
    stop: Option<mpsc::Sender<()>>,
    thread: Option<JoinHandle<u64>>,
}

impl Filling {
    /// How many bytes were taken.
    pub(super) fn end(mut self) -> u64 {
        self.stop = None;
        self.thread.take().map_or(0, |thread| thread.join().expect("it ends"))
    }
}

impl Drop for Filling {
    fn drop(&mut self) {
        self.stop = None;
    }
}

/// Writes to a file until there is no room. Returns how much that was.
fn append(path: &Path) -> u64 {
    let mut file = OpenOptions::new().append(true).create(true).open(path).expect("a file");
    let mut taken = 0;
    while let Ok(count @ 1..) = file.write(&[0; 4096]) {
        taken += count as u64;
    }
    taken
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // The program that used it may be ending still; the suite's own mounts end with it.
        let _unmounted = umount(&self.0);
    }
}
