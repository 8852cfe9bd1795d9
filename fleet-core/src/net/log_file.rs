//! A file of log lines that does not grow without end: a full one is put aside, in place of the one
//! that was put aside before.
//!
//! Others may have a hand in it, such as a program that turns logs over: one that was moved away or
//! removed is begun anew, one that was cut is written on. A link that lies in its place is not
//! followed, since its folder may be somebody else's too.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{
    DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _,
};
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;

/// Who may read the lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Readers {
    /// This user alone.
    Owner,
    /// The group that the folder gives its files, too.
    Group,
}

impl Readers {
    fn file_mode(self) -> u32 {
        match self {
            Self::Owner => 0o600,
            Self::Group => 0o640,
        }
    }

    fn folder_mode(self) -> u32 {
        match self {
            Self::Owner => 0o700,
            Self::Group => 0o750,
        }
    }
}

/// A place for lines.
pub(super) struct LogFile {
    path: PathBuf,
    readers: Readers,
    bytes_max: u64,
    file: Option<File>,
    /// Whether the last line may have no end.
    is_torn: bool,
}

impl LogFile {
    pub(super) fn new(path: &Path, readers: Readers, bytes_max: u64) -> Self {
        Self { path: path.to_owned(), readers, bytes_max, file: None, is_torn: false }
    }

    /// Opens it, and makes it and its folder if they are not there.
    pub(super) fn open(&mut self) -> io::Result<()> {
        if self.file.is_none() {
            self.file = Some(self.opened()?);
        }
        Ok(())
    }

    /// Adds a line, which ends in a newline.
    pub(super) fn write(&mut self, line: &str) -> io::Result<()> {
        let bytes = match self.bytes()? {
            Some(bytes) => bytes,
            None => {
                self.file = None;
                0
            }
        };
        if bytes > 0 && bytes + line.len() as u64 > self.bytes_max {
            fs::rename(&self.path, self.old_path())?;
            self.file = None;
        }
        self.open()?;
        let Some(file) = &mut self.file else { return Ok(()) };
        if self.is_torn {
            file.write_all(b"\n")?;
        }
        self.is_torn = true;
        file.write_all(line.as_bytes())?;
        self.is_torn = false;
        Ok(())
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    fn old_path(&self) -> PathBuf {
        let mut name = self.path.clone().into_os_string();
        name.push(".old");
        name.into()
    }

    /// The length of the file that is written to, if it still lies in its place.
    fn bytes(&self) -> io::Result<Option<u64>> {
        let Some(file) = &self.file else { return Ok(Some(self.length_there())) };
        let ours = file.metadata()?;
        let there = fs::symlink_metadata(&self.path);
        let is_there =
            there.is_ok_and(|there| (there.dev(), there.ino()) == (ours.dev(), ours.ino()));
        Ok(is_there.then_some(ours.len()))
    }

    /// The same before it is opened; whatever is wrong with it is found by opening it.
    fn length_there(&self) -> u64 {
        fs::symlink_metadata(&self.path)
            .map_or(0, |there| if there.is_file() { there.len() } else { 0 })
    }

    fn opened(&self) -> io::Result<File> {
        let folder = self.path.parent().unwrap_or(Path::new("/"));
        DirBuilder::new().recursive(true).mode(self.readers.folder_mode()).create(folder)?;
        let flags = (OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits();
        let mut options = OpenOptions::new();
        options.append(true).custom_flags(flags).mode(0o600);
        match options.clone().create_new(true).open(&self.path) {
            Ok(file) => {
                // Also where this process makes files for nobody else.
                file.set_permissions(Permissions::from_mode(self.readers.file_mode()))?;
                Ok(file)
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                let file = options.open(&self.path)?;
                if !file.metadata()?.is_file() {
                    return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a file"));
                }
                Ok(file)
            }
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(path: &Path) -> String {
        fs::read_to_string(path).unwrap()
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o7777
    }

    #[test]
    fn a_full_file_is_put_aside_and_the_one_before_it_goes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("made/console.log");
        let mut log = LogFile::new(&path, Readers::Owner, 20);
        for line in ["one line\n", "two line\n", "three line\n", "a line longer than a file\n"] {
            log.write(line).unwrap();
        }
        let old = folder.path().join("made/console.log.old");
        assert_eq!(read(&path), "a line longer than a file\n");
        assert_eq!(read(&old), "three line\n");
        assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));

        let mut again = LogFile::new(&path, Readers::Owner, 60);
        again.write("more\n").unwrap();
        assert_eq!(read(&path), "a line longer than a file\nmore\n");
        LogFile::new(&path, Readers::Owner, 33).write("full\n").unwrap();
        assert_eq!(read(&path), "full\n", "what was there counts");
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 2);
    }

    #[test]
    fn one_that_others_move_remove_or_cut_is_gone_on_with() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("logs/server.log");
        let mut log = LogFile::new(&path, Readers::Group, 1_000);
        log.write("one\n").unwrap();
        assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o640, 0o750));
        fs::rename(&path, path.with_extension("1")).unwrap();
        log.write("two\n").unwrap();
        assert_eq!(
            (read(&path.with_extension("1")).as_str(), read(&path).as_str()),
            ("one\n", "two\n")
        );
        fs::remove_file(&path).unwrap();
        log.write("three\n").unwrap();
        assert_eq!(read(&path), "three\n");
        File::options().write(true).open(&path).unwrap().set_len(0).unwrap();
        log.write("four\n").unwrap();
        assert_eq!(read(&path), "four\n");
        fs::remove_dir_all(path.parent().unwrap()).unwrap();
        log.write("five\n").unwrap();
        assert_eq!(read(&path), "five\n");
    }

    #[test]
    fn what_is_no_file_is_not_written_to() {
        let folder = tempfile::tempdir().unwrap();
        let (link, target) = (folder.path().join("agent.log"), folder.path().join("target"));
        fs::write(&target, "").unwrap();
        std::os::unix::fs::symlink(&target, &link).unwrap();
        assert!(LogFile::new(&link, Readers::Group, 100).write("line\n").is_err());
        assert_eq!(read(&target), "");
        let pipe = folder.path().join("pipe");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(LogFile::new(&pipe, Readers::Group, 100).write("line\n").is_err());
        assert!(LogFile::new(folder.path(), Readers::Group, 100).open().is_err());
    }
}
