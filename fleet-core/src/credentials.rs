//! Secrets that a service manager hands over in files, in the folder that `CREDENTIALS_DIRECTORY`
//! names (`LoadCredential=` of systemd), for one program alone and gone with it.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// An operator's key.
pub const API_KEY: &str = "fleetd-api-key";
/// What a server's own key is sealed with.
pub const SECRET_KEY: &str = "fleetd-secret-key";

/// The file of a credential, if there is a folder of them and it has one of this name. A file that
/// cannot be looked at counts as there: whoever opens it tells why.
pub fn file(environment: &dyn Fn(&str) -> Option<OsString>, name: &str) -> Option<PathBuf> {
    let folder = environment("CREDENTIALS_DIRECTORY").filter(|folder| !folder.is_empty())?;
    let path = Path::new(&folder).join(name);
    path.try_exists().unwrap_or(true).then_some(path)
}
