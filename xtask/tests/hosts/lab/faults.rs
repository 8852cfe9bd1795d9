//! A disk that fails when it is told to, for one program: what that program asks the system for goes
//! through a library of ours (`faults.c`), built here.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::Host;

/// The disk of a folder.
pub(crate) struct Faults {
    library: PathBuf,
    under: PathBuf,
    mode: PathBuf,
    count: PathBuf,
}

impl Faults {
    /// Of the files in a folder of a host; nothing goes wrong until told to.
    #[track_caller]
    pub(crate) fn of(host: &Host, folder: &str) -> Self {
        let library = host.path("faults.so");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/hosts/lab/faults.c");
        let built = Command::new("gcc")
            .args(["-shared", "-fPIC", "-O2", "-Wall", "-Wextra", "-Werror", "-o"])
            .args([&library, &source])
            .output()
            .expect("gcc (Debian: gcc, libc6-dev)");
        assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
        let path = |name: &str| host.path(&format!("{folder}-{name}"));
        let (mode, count) = (path("faults"), path("fault-count"));
        fs::write(&count, "").expect("a file");
        let faults = Self { library, under: host.path(folder), mode, count };
        faults.end();
        faults
    }

    /// What comes before a program whose disk it is.
    pub(crate) fn wrapper(&self) -> Vec<String> {
        let set = |name: &str, path: &Path| format!("{name}={}", path.display());
        vec![
            "env".to_owned(),
            set("LD_PRELOAD", &self.library),
            set("FAULTS_UNDER", &self.under),
            set("FAULTS_FILE", &self.mode),
            set("FAULTS_COUNT", &self.count),
        ]
    }

    /// From now on this goes wrong: a word of `faults.c`.
    pub(crate) fn begin(&self, mode: &str) {
        let draft = self.mode.with_extension("new");
        fs::write(&draft, mode).expect("a file");
        fs::rename(&draft, &self.mode).expect("a file");
    }

    /// From now on nothing does.
    pub(crate) fn end(&self) {
        self.begin("");
    }

    /// How often something went wrong.
    pub(crate) fn count(&self) -> u64 {
        fs::metadata(&self.count).expect("a file").len()
    }
}
