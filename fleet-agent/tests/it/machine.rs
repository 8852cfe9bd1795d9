//! A machine out of a fixture: a copy of its files that a test may change.

use std::fs;
use std::path::{Path, PathBuf};

use fleet_agent::sys::SysRoot;
use tempfile::TempDir;

/// A copy of `fixtures/<name>/first`.
pub(crate) struct Machine {
    name: &'static str,
    folder: TempDir,
}

impl Machine {
    pub(crate) fn new(name: &'static str) -> Self {
        let machine = Self { name, folder: tempfile::tempdir().expect("a temporary folder") };
        machine.overlay("first");
        machine
    }

    /// The files as they are at the second collection.
    pub(crate) fn go_on(&self) {
        self.overlay("later");
    }

    pub(crate) fn root(&self) -> SysRoot {
        SysRoot::at(self.folder.path())
    }

    pub(crate) fn remove(&self, file: &str) {
        fs::remove_file(self.folder.path().join(file)).expect("the fixture has the file");
    }

    pub(crate) fn write(&self, file: &str, bytes: &[u8]) {
        fs::write(self.folder.path().join(file), bytes).expect("the file can be written");
    }

    pub(crate) fn text(&self, file: &str) -> String {
        fs::read_to_string(self.folder.path().join(file)).expect("the fixture has the file")
    }

    fn overlay(&self, state: &str) {
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/fixtures");
        copy(&fixtures.join(self.name).join(state), self.folder.path().to_owned());
    }
}

fn copy(from: &Path, to: PathBuf) {
    fs::create_dir_all(&to).expect("a folder in the temporary folder");
    for entry in fs::read_dir(from).expect("a folder of the fixture") {
        let entry = entry.expect("an entry of the fixture");
        let to = to.join(entry.file_name());
        if entry.file_type().expect("the kind of an entry").is_dir() {
            copy(&entry.path(), to);
        } else {
            fs::copy(entry.path(), to).expect("a file of the fixture");
        }
    }
}
