//! Who the device is: its key, made once and replaced only by [`crate::new_key`], and the readable id
//! that it goes by.

use std::io;

use bincode::{Decode, Encode};
use fleet_core::codec::Coded;
use fleet_core::disk::Disk;
use fleet_core::id::DeviceId;
use fleet_core::identity::{Fingerprint, PrivateKey};
use fleet_core::limits::DEVICE_ID_CHARS_MAX;
use zeroize::Zeroize as _;

use crate::sealed;
use crate::state::folder::{Folder, StateError};
use crate::sys::host::HostFacts;

/// The file with the key.
const KEY_FILE: &str = "device.key";
/// The file with the id.
const ID_FILE: &str = "device.id";

/// Names that many machines have, so that they tell nothing.
const COMMON_HOSTNAMES: [&str; 4] = ["", "localhost", "localhost.localdomain", "(none)"];

/// A device's name and key.
pub struct Identity {
    /// What people call it.
    pub id: DeviceId,
    /// What proves it.
    pub key: PrivateKey,
}

#[derive(Encode, Decode)]
struct StoredKey {
    seed: [u8; 32],
}

impl Coded for StoredKey {
    const TAG: u8 = 40;
    const VERSION: u8 = 1;
}

#[derive(Encode, Decode)]
struct StoredId {
    id: String,
}

impl Coded for StoredId {
    const TAG: u8 = 43;
    const VERSION: u8 = 1;
}

/// Why the device cannot say who it is.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// Its folder.
    #[error(transparent)]
    State(#[from] StateError),
    /// The system gives no random numbers.
    #[error("cannot make the device's key")]
    Random(#[source] getrandom::Error),
}

impl Identity {
    /// The identity on disk; at the first start a new one. An id that the owner chose replaces
    /// the one before; one that follows from the machine is made once and stays.
    pub fn load_or_make(
        folder: &Folder,
        chosen: Option<&DeviceId>,
        facts: &HostFacts,
    ) -> Result<Self, IdentityError> {
        let key = match load_key(folder)? {
            Some(key) => key,
            None => make_key(folder)?,
        };
        let stored = load_id(folder)?;
        let id = chosen
            .or(stored.as_ref())
            .cloned()
            .unwrap_or_else(|| derived_id(facts, key.public().fingerprint()));
        if stored.as_ref() != Some(&id) {
            folder.store(ID_FILE, &StoredId { id: id.as_str().to_owned() })?;
        }
        Ok(Self { id, key })
    }

    /// The identity on disk, if an agent has ever run there.
    pub fn load(folder: &Folder) -> Result<Option<Self>, StateError> {
        let (key, id) = (load_key(folder)?, load_id(folder)?);
        Ok(key.zip(id).map(|(key, id)| Self { id, key }))
    }

    /// The key, as people compare it.
    pub fn fingerprint(&self) -> Fingerprint {
        self.key.public().fingerprint()
    }
}

fn load_key(folder: &Folder) -> Result<Option<PrivateKey>, StateError> {
    let stored = folder.load::<StoredKey>(KEY_FILE).map_err(|error| match error {
        StateError::Damaged { path, source } => StateError::DamagedKey { path, source },
        other => other,
    })?;
    Ok(stored.map(|mut stored| {
        let key = PrivateKey::from_seed(&stored.seed);
        stored.seed.zeroize();
        key
    }))
}

fn make_key(folder: &Folder) -> Result<PrivateKey, IdentityError> {
    let key = PrivateKey::generate().map_err(IdentityError::Random)?;
    let mut stored = StoredKey { seed: *key.seed() };
    let kept = folder.store(KEY_FILE, &stored);
    stored.seed.zeroize();
    kept?;
    Ok(key)
}

/// Puts another key in the place of the device's own.
pub(crate) fn replace_key(disk: &dyn Disk, key: &PrivateKey) -> io::Result<()> {
    let mut stored = StoredKey { seed: *key.seed() };
    let kept = sealed::save(disk, KEY_FILE, &stored);
    stored.seed.zeroize();
    kept
}

/// The key on a disk.
#[cfg(test)]
pub(crate) fn stored_key(disk: &dyn Disk) -> io::Result<PrivateKey> {
    let stored: Option<StoredKey> = sealed::load(disk, KEY_FILE)?;
    stored.map(|stored| PrivateKey::from_seed(&stored.seed)).ok_or(io::ErrorKind::NotFound.into())
}

fn load_id(folder: &Folder) -> Result<Option<DeviceId>, StateError> {
    let stored = folder.load::<StoredId>(ID_FILE)?;
    Ok(stored.and_then(|stored| stored.id.parse().ok()))
}

/// `<hostname or model>-<six of the fingerprint>`.
fn derived_id(facts: &HostFacts, fingerprint: Fingerprint) -> DeviceId {
    let mark = fingerprint.short();
    let telling = !COMMON_HOSTNAMES.contains(&facts.hostname.as_str());
    let hostname = telling.then_some(facts.hostname.as_str());
    let names = [hostname, facts.model.as_deref(), Some(facts.device_type.as_str())];
    let base = names.into_iter().flatten().find_map(DeviceId::from_name);
    let base = base.as_ref().map_or("device", DeviceId::as_str);
    let room = DEVICE_ID_CHARS_MAX - mark.len() - 1;
    let base: String = base.chars().take(room).collect();
    let id = format!("{base}-{mark}");
    id.parse().expect("an id, a hyphen and a fingerprint make an id")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::SysRoot;

    fn facts(hostname: &str, model: Option<&str>) -> HostFacts {
        let mut facts = HostFacts::read(&SysRoot::real(), None);
        facts.hostname = hostname.to_owned();
        facts.model = model.map(str::to_owned);
        facts
    }

    #[test]
    fn a_machine_gets_a_readable_id() {
        let fingerprint = PrivateKey::from_seed(&[7; 32]).public().fingerprint();
        let mark = fingerprint.short();
        for (hostname, model, base) in [
            ("kiosk-lobby", Some("NUC"), "kiosk-lobby"),
            ("localhost", Some("Raspberry Pi 4 Model B"), "raspberry-pi-4-model-b"),
            ("☃", Some("Raspberry Pi 4"), "raspberry-pi-4"),
        ] {
            let id = derived_id(&facts(hostname, model), fingerprint);
            assert_eq!(id.as_str(), format!("{base}-{mark}"));
        }
        let long = derived_id(&facts(&"h".repeat(256), None), fingerprint);
        assert_eq!(long.as_str().len(), DEVICE_ID_CHARS_MAX);
    }

    #[test]
    fn a_damaged_key_is_no_new_identity_and_the_way_out_is_told() {
        let path = tempfile::tempdir().unwrap();
        let folder = Folder::new(path.path());
        for junk in ["", "junk"] {
            std::fs::write(path.path().join(KEY_FILE), junk).unwrap();
            let error = Identity::load_or_make(&folder, None, &facts("first", None)).err().unwrap();
            assert!(error.to_string().contains("move it away"), "{error}");
        }
    }

    #[test]
    fn the_key_is_made_once_and_the_id_stays_until_its_owner_chooses() {
        let path = tempfile::tempdir().unwrap();
        let folder = Folder::new(path.path());
        assert!(Identity::load(&folder).unwrap().is_none());
        let made = Identity::load_or_make(&folder, None, &facts("first", None)).unwrap();
        let again = Identity::load_or_make(&folder, None, &facts("renamed", None)).unwrap();
        assert_eq!((&again.id, again.fingerprint()), (&made.id, made.fingerprint()));

        let chosen: DeviceId = "rpi4-001".parse().unwrap();
        Identity::load_or_make(&folder, Some(&chosen), &facts("first", None)).unwrap();
        let kept = Identity::load(&folder).unwrap().unwrap();
        assert_eq!((&kept.id, kept.fingerprint()), (&chosen, made.fingerprint()));
    }
}
