//! `/etc/fleetd/claim.key`: what claimers must know where the policy says `claim: key`. The owner puts
//! the same file on all devices.

use std::path::Path;

use fleet_core::claim::ClaimKey;
use fleet_core::yaml::{ConfigError, Document, Place};

/// Where the key is.
pub const PATH: &str = "/etc/fleetd/claim.key";

/// What everybody on the machine could do with the file.
const OTHERS: u32 = 0o007;

/// Reads the key. A device that asks for one that it does not have could be claimed by nobody, and
/// one that everybody can read proves nothing, so either is an error.
pub fn load(path: &Path) -> Result<ClaimKey, ConfigError> {
    let shown = || path.to_string_lossy().into_owned().into();
    let document =
        Document::read(path, true)?.ok_or_else(|| ConfigError::Missing { path: shown() })?;
    let place = Place { path: document.path(), ..Place::default() };
    if document.mode & OTHERS != 0 {
        return Err(place.error("every user of this device can use this key; chmod 600 ends that"));
    }
    document.text().parse().map_err(|error| place.error(format!("{error}")))
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_key_that_is_missing_readable_for_all_or_none_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("claim.key");
        assert!(matches!(load(&path), Err(ConfigError::Missing { .. })));
        let good = format!("{}\n", "ab".repeat(32));
        for (text, mode, said) in [
            (good.as_str(), 0o600, ""),
            (&good, 0o640, ""),
            (&good, 0o604, "chmod 600"),
            (&good, 0o602, "chmod 600"),
            ("abab\n", 0o600, "32 to 256 bytes"),
            ("", 0o600, "one line"),
        ] {
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            let told = load(&path).err().map(|error| error.to_string()).unwrap_or_default();
            assert_eq!(told.is_empty(), said.is_empty(), "{told}");
            assert!(told.contains(said) && !told.contains("abab"), "{told}");
        }
    }
}
