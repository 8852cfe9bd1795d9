//! Files as they will lie on a machine, under a folder that stands for `/`. Modes are set, never
//! taken from the umask of whoever builds.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use anyhow::Context as _;
use tempfile::TempDir;

use super::succeed;
use crate::cargo::target_folder;

const FOLDER: u32 = 0o755;
const SCRATCH: u32 = 0o1777;
const PROGRAM: u32 = 0o755;
const FILE: u32 = 0o644;

/// Such files; they are removed when this is dropped.
pub(super) struct Tree(TempDir);

impl Tree {
    pub(super) fn new() -> anyhow::Result<Self> {
        let target = target_folder();
        fs::create_dir_all(&target)?;
        let folder = tempfile::Builder::new().prefix("tree").tempdir_in(target)?;
        mode(folder.path(), FOLDER)?;
        Ok(Self(folder))
    }

    pub(super) fn path(&self) -> &Path {
        self.0.path()
    }

    /// Adds a folder, and those above it.
    pub(super) fn folder(&self, place: &str) -> anyhow::Result<()> {
        let mut folder = self.path().to_owned();
        for part in Path::new(place) {
            folder.push(part);
            if !folder.exists() {
                fs::create_dir(&folder)?;
                mode(&folder, FOLDER)?;
            }
        }
        Ok(())
    }

    /// Adds a folder in which everybody may put files aside.
    pub(super) fn scratch(&self, place: &str) -> anyhow::Result<()> {
        self.folder(place)?;
        mode(&self.path().join(place), SCRATCH)
    }

    /// Adds a program, without what only a debugger reads.
    pub(super) fn program(&self, place: &str, from: &Path) -> anyhow::Result<()> {
        self.add(place, &fs::read(from).with_context(|| from.display().to_string())?, PROGRAM)?;
        succeed(Command::new("strip").arg("--strip-unneeded").arg(self.path().join(place)))
    }

    /// Adds a script.
    pub(super) fn script(&self, place: &str, from: &Path) -> anyhow::Result<()> {
        self.add(place, &fs::read(from).with_context(|| from.display().to_string())?, PROGRAM)
    }

    /// Adds a library, or a loader, where it is on this machine.
    pub(super) fn library(&self, from: &Path) -> anyhow::Result<()> {
        let bytes = fs::read(from).with_context(|| from.display().to_string())?;
        let place = from.to_str().context("it has a name of letters")?;
        self.add(place.trim_start_matches('/'), &bytes, PROGRAM)
    }

    /// Adds a copy of a file.
    pub(super) fn copy(&self, from: &Path, place: &str) -> anyhow::Result<()> {
        self.add(place, &fs::read(from).with_context(|| from.display().to_string())?, FILE)
    }

    /// Adds a file with this in it.
    pub(super) fn text(&self, place: &str, text: &str) -> anyhow::Result<()> {
        self.add(place, text.as_bytes(), FILE)
    }

    /// Adds a file whose name ends in `.gz`, with this packed in it.
    pub(super) fn packed(&self, place: &str, text: &str) -> anyhow::Result<()> {
        let plain = place.strip_suffix(".gz").context("it is to be packed")?;
        self.text(plain, text)?;
        // Without name and time, so that the same text is the same file.
        succeed(Command::new("gzip").args(["-9", "--no-name"]).arg(self.path().join(plain)))
    }

    fn add(&self, place: &str, bytes: &[u8], permissions: u32) -> anyhow::Result<()> {
        let path = self.path().join(place);
        if let Some((folder, _)) = place.rsplit_once('/') {
            self.folder(folder)?;
        }
        fs::write(&path, bytes).with_context(|| path.display().to_string())?;
        mode(&path, permissions)
    }
}

fn mode(path: &Path, permissions: u32) -> anyhow::Result<()> {
    fs::set_permissions(path, Permissions::from_mode(permissions))
        .with_context(|| path.display().to_string())
}
