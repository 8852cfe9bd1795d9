//! The file itself: read with a bound, and replaced as a whole for its owner only.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;

use crate::yaml::{ConfigError, Document};

/// The file's text; nothing in it if there is no file.
pub(super) fn read(path: &Path) -> Result<String, ConfigError> {
    let document = Document::read(path, false)?;
    Ok(document.map(|document| document.text().to_owned()).unwrap_or_default())
}

/// Replaces the file. A crash leaves either the old one or the new one.
pub(super) fn write(path: &Path, text: &str) -> io::Result<()> {
    // Where it is a link, to a folder of settings under version control, say, the link stays.
    let path = match fs::canonicalize(path) {
        Ok(path) => path,
        Err(error) if error.kind() == io::ErrorKind::NotFound => path.to_owned(),
        Err(error) => return Err(error),
    };
    let folder = path.parent().unwrap_or(Path::new("/"));
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let draft = path.with_extension("toml.new");
    // A draft that a crash left behind may have other permissions.
    match fs::remove_file(&draft) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&draft, &path)?;
    File::open(folder)?.sync_all()
}
