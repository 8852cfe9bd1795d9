//! A prefix in front of `/proc`, `/sys` and `/etc`.
//!
//! Every file of the machine is read here, so that fixtures and simulated devices work, and so
//! that no file, whatever stands in its place, can block the agent or fill its memory: reads are
//! bounded and a FIFO does not wait for a writer.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{self, Path, PathBuf};

use nix::fcntl::OFlag;

/// Bytes of one file. The largest that are read are `/proc/stat` and `mountinfo` of big servers.
const FILE_BYTES_MAX: usize = 1024 * 1024;
/// Bytes asked for at once: most files then come in one piece, as the kernel wrote them.
const READ_BYTES: usize = 8 * 1024;
/// Entries of one folder.
const FOLDER_ENTRIES_MAX: usize = 1024;

/// The folder that stands for `/`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SysRoot(PathBuf);

impl SysRoot {
    /// This machine as it is.
    pub fn real() -> Self {
        Self(PathBuf::from("/"))
    }

    /// A machine whose files lie under `prefix`. Where that is stays the same wherever a program is
    /// run.
    pub fn at(prefix: impl Into<PathBuf>) -> Self {
        let prefix = prefix.into();
        Self(path::absolute(&prefix).unwrap_or(prefix))
    }

    /// Whether this is the machine itself, so that the kernel may be asked too.
    pub fn is_real(&self) -> bool {
        self.0 == Path::new("/")
    }

    /// Where a file such as `proc/stat` is. A leading `/` does not lead out of the prefix.
    pub fn path(&self, file: impl AsRef<Path>) -> PathBuf {
        let file = file.as_ref();
        self.0.join(file.strip_prefix("/").unwrap_or(file))
    }

    /// The whole of a file as text; what is not UTF-8 is replaced.
    pub fn text(&self, file: impl AsRef<Path>) -> io::Result<String> {
        let bytes = read_bounded(&self.path(file))?;
        Ok(match String::from_utf8(bytes) {
            Ok(text) => text,
            Err(error) => String::from_utf8_lossy(error.as_bytes()).into_owned(),
        })
    }

    /// The first line of a file that has something in it, without the space and NUL bytes around
    /// it. Nothing when there is no such file or line.
    pub fn line(&self, file: impl AsRef<Path>) -> Option<String> {
        let text = self.text(file).ok()?;
        let mut lines = text.lines().map(|line| line.trim_matches(|c: char| c <= ' '));
        lines.find(|line| !line.is_empty()).map(str::to_owned)
    }

    /// Whether there is such a file.
    pub fn has(&self, file: impl AsRef<Path>) -> bool {
        self.path(file).exists()
    }

    /// The names in a folder, sorted; those that are not UTF-8 are left out.
    pub fn names(&self, folder: impl AsRef<Path>) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(self.path(folder))?.take(FOLDER_ENTRIES_MAX) {
            names.extend(entry?.file_name().into_string());
        }
        names.sort_unstable();
        Ok(names)
    }
}

fn read_bounded(path: &Path) -> io::Result<Vec<u8>> {
    let file = open_without_waiting(path)?;
    let mut bytes = Vec::with_capacity(READ_BYTES);
    file.take(FILE_BYTES_MAX as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() > FILE_BYTES_MAX {
        return Err(io::Error::from(io::ErrorKind::FileTooLarge));
    }
    Ok(bytes)
}

fn open_without_waiting(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(path)
}

#[cfg(test)]
mod tests {
    use nix::sys::stat::Mode;

    use super::*;

    #[test]
    fn files_are_found_under_the_prefix() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("hostname"), "\n  rpi4-001 \n").unwrap();
        fs::write(folder.path().join("model"), "Raspberry Pi 4\0").unwrap();
        let root = SysRoot::at(folder.path());
        assert_eq!(root.line("hostname").as_deref(), Some("rpi4-001"));
        assert_eq!(root.line("/model").as_deref(), Some("Raspberry Pi 4"));
        assert_eq!(root.line("absent"), None);
        assert_eq!(root.names("").unwrap(), ["hostname", "model"]);
        assert!(!root.is_real() && SysRoot::real().is_real());
    }

    #[test]
    fn t26_a_huge_file_and_a_fifo_are_harmless() {
        let folder = tempfile::tempdir().unwrap();
        let root = SysRoot::at(folder.path());
        File::create(root.path("huge")).unwrap().set_len(1 << 40).unwrap();
        assert_eq!(root.text("huge").unwrap_err().kind(), io::ErrorKind::FileTooLarge);

        nix::unistd::mkfifo(&root.path("fifo"), Mode::S_IRUSR).unwrap();
        // A reader that waited for a writer would never come back.
        assert_eq!(root.text("fifo").unwrap(), "");
    }
}
