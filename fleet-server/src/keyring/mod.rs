//! The server's own keys, in files beside its database:
//!
//! | file | what it holds |
//! |---|---|
//! | `srv.key` | the server's private key, sealed |
//! | `secret.key` | what it is sealed with, unless `--secret-key` was given |
//! | `admin.key` | the text of an operator key, for people and programs on this host |
//!
//! The order of a start is what keeps them together: what exists is read and unsealed before the
//! database is opened ([`Keyring::read`]); what is missing is made after, while the open database
//! keeps every other server out ([`Keyring::complete`]). A wrong secret or another server's file
//! therefore ends the start before anything was written.

mod files;
mod seal;

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fleet_core::api::{ADMIN_LABEL, Might, Rights, Role};
use fleet_core::identity::{PrivateKey, ServerIdentity};
use fleet_core::secret::{ApiKey, ApiKeyError, KeyKind};
use fleet_core::time::Timestamp;
use zeroize::Zeroizing;

use crate::config::SecretText;
use crate::ops::Actor;
use crate::store::{KeyOrigin, KeyRecord, Store, StoreError};
use seal::{SealedKey, Secret};

/// The file of the server's key, in the database's folder.
pub(crate) const SERVER_KEY_FILE: &str = "srv.key";
/// That of what opens it.
const SECRET_FILE: &str = "secret.key";
/// That of the first operator key.
const ADMIN_KEY_FILE: &str = "admin.key";

/// Files that nobody else may read.
const FILES: [&str; 3] = [SERVER_KEY_FILE, SECRET_FILE, ADMIN_KEY_FILE];

/// Those key files in a folder that others than their owner can do something with.
pub(crate) fn open_to_others(folder: &Path) -> Vec<PathBuf> {
    let paths = FILES.iter().map(|name| folder.join(name));
    paths.filter(|path| fs::metadata(path).is_ok_and(|found| found.mode() & 0o077 != 0)).collect()
}

/// Those that are another user's than the folder.
pub(crate) fn of_other_owners(folder: &Path) -> Vec<PathBuf> {
    let Ok(owner) = fs::metadata(folder).map(|found| found.uid()) else { return Vec::new() };
    let paths = FILES.iter().map(|name| folder.join(name));
    paths.filter(|path| fs::metadata(path).is_ok_and(|found| found.uid() != owner)).collect()
}

/// The file with what opens the server's key, if the key is there and that is not.
pub(crate) fn lacks_secret(folder: &Path) -> Option<PathBuf> {
    let [server, secret] = [SERVER_KEY_FILE, SECRET_FILE].map(|name| folder.join(name));
    (server.exists() && !secret.exists()).then_some(secret)
}

/// The contents of `srv.key` beside a server's database, sealed as they are.
pub(crate) fn sealed(
    database: &Path,
    owner: ServerIdentity,
) -> Result<Zeroizing<Vec<u8>>, KeyringError> {
    let path = database.with_file_name(SERVER_KEY_FILE);
    let bytes = files::read(&path)?.ok_or(KeyringError::NoKey { path: path.clone(), owner })?;
    SealedKey::decode(&bytes).ok_or(KeyringError::Malformed(path))?;
    Ok(bytes)
}

/// What was found beside a database.
pub(crate) struct Keyring {
    folder: PathBuf,
    /// The database's name in its folder; one folder serves one database.
    database: String,
    given: Option<SecretText>,
    server: Option<PrivateKey>,
}

/// The keys of a server that is about to serve.
pub(crate) struct Complete {
    /// The server's key.
    pub(crate) server: Arc<PrivateKey>,
    /// Where the admin key lies.
    pub(crate) admin_path: PathBuf,
    /// What a person should know about how the keys came to be.
    pub(crate) notes: Vec<String>,
    /// The id of the admin key, if it is new to the store.
    pub(crate) made: Option<String>,
    /// The ids of older admin keys that were ended in its favour.
    pub(crate) ended: Vec<String>,
}

/// What was done so that `admin.key` holds a key that the store knows.
#[derive(Default)]
struct Admin {
    note: Option<String>,
    made: Option<String>,
    ended: Vec<String>,
}

/// Why a server has no keys.
#[derive(Debug, thiserror::Error)]
pub enum KeyringError {
    /// A file.
    #[error("cannot {action} {}", path.display())]
    File {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A file that somebody else put there.
    #[error("this server's user may not read {}: give it to the owner of its folder (sudo chown)", .0.display())]
    NotOurs(PathBuf),
    /// Not something that this program wrote.
    #[error("{} holds no server key: restore it from a backup", .0.display())]
    Malformed(PathBuf),
    /// Another secret.
    #[error("the secret key does not open {}: nothing was changed, start with the one it was made with", .0.display())]
    WrongSecret(PathBuf),
    /// Sealed, and nothing to open it with.
    #[error("{} is missing, and with it what opens srv.key: restore it, or give --secret-key", .0.display())]
    NoSecret(PathBuf),
    /// Two databases in one folder.
    #[error("{} belongs to the database {owner} in the same folder: give {database} a folder of its own", path.display())]
    OtherDatabase {
        /// The key's file.
        path: PathBuf,
        /// The database that it belongs to.
        owner: String,
        /// The database that was to be opened.
        database: String,
    },
    /// The database remembers another server.
    #[error("the database belongs to the server {owner} and {} is the key of {found}: bring together what belongs together", path.display())]
    OtherServer {
        /// The key's file.
        path: PathBuf,
        /// The database's server.
        owner: ServerIdentity,
        /// The key's server.
        found: ServerIdentity,
    },
    /// The database remembers a server whose key is gone.
    #[error("{} is missing: the database belongs to the server {owner}, restore its key from a backup", path.display())]
    NoKey {
        /// The key's file.
        path: PathBuf,
        /// The database's server.
        owner: ServerIdentity,
    },
    /// The admin key's file.
    #[error("{} holds no key of this server: remove it, and the next start makes a new one", path.display())]
    Admin {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: Option<ApiKeyError>,
    },
    /// No random numbers, or no memory to stretch a secret in.
    #[error("cannot make keys: {0}")]
    Make(&'static str),
    /// The store.
    #[error("cannot keep keys in the database")]
    Store(#[from] StoreError),
}

impl KeyringError {
    /// Whether it is about what the server was told, rather than about the machine.
    pub fn is_configuration(&self) -> bool {
        !matches!(self, Self::File { .. } | Self::Make(_) | Self::Store(_))
    }
}

impl Keyring {
    /// Reads and unseals what exists. Writes nothing.
    pub(crate) fn read(database: &Path, given: Option<SecretText>) -> Result<Self, KeyringError> {
        let folder = database.parent().unwrap_or(Path::new("/")).to_owned();
        let name = database.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let mut keyring = Self { folder, database: name, given, server: None };
        let path = keyring.server_path();
        let Some(bytes) = files::read(&path)? else { return Ok(keyring) };
        let sealed = SealedKey::decode(&bytes).ok_or(KeyringError::Malformed(path.clone()))?;
        if sealed.database() != keyring.database {
            let owner = fleet_core::untrusted::escaped(sealed.database());
            return Err(KeyringError::OtherDatabase { path, owner, database: keyring.database });
        }
        let secret = keyring.secret()?.ok_or(KeyringError::NoSecret(keyring.secret_path()))?;
        keyring.server = Some(sealed.open(&secret)?.ok_or(KeyringError::WrongSecret(path))?);
        Ok(keyring)
    }

    /// Makes what is missing, now that the database is open, and checks that all belongs together.
    pub(crate) async fn complete(
        self,
        store: &dyn Store,
        now: Timestamp,
    ) -> Result<Complete, KeyringError> {
        let owner = store.server_key().await?;
        let mut notes = Vec::new();
        let server = match (&self.server, owner) {
            (Some(server), Some(owner)) if server.public() != owner => {
                return Err(KeyringError::OtherServer {
                    path: self.server_path(),
                    owner: owner.identity(),
                    found: server.public().identity(),
                });
            }
            (None, Some(owner)) => {
                let path = self.server_path();
                return Err(KeyringError::NoKey { path, owner: owner.identity() });
            }
            (Some(server), _) => PrivateKey::from_seed(&server.seed()),
            (None, None) => self.make_server()?,
        };
        if self.server.is_some() && owner.is_none() {
            notes.push(format!(
                "warning: the database {} was not there, so this is an empty fleet without devices; \
                 the server's identity was kept",
                self.folder.join(&self.database).display()
            ));
        }
        store.claim_server_key(server.public()).await?;
        if let Some(given) = &self.given
            && given.bytes().len() < seal::WEAK_BYTES
        {
            notes.push(format!(
                "the secret key is shorter than {} characters and can be guessed",
                seal::WEAK_BYTES
            ));
        }
        let Admin { note, made, ended } =
            self.keep_admin(store, server.public().identity(), now).await?;
        notes.extend(note);
        notes.extend(open_to_others(&self.folder).iter().map(|path| {
            let path = path.display();
            format!("warning: others can read {path}: chmod 600 {path}")
        }));
        let (server, admin_path) = (Arc::new(server), self.admin_path());
        Ok(Complete { server, admin_path, notes, made, ended })
    }

    fn make_server(&self) -> Result<PrivateKey, KeyringError> {
        let no_random = |_| KeyringError::Make("the system gives no random numbers");
        let secret = match self.secret()? {
            Some(secret) => secret,
            None => {
                let secret = Secret::generate().map_err(no_random)?;
                files::write(&self.secret_path(), secret.text().as_bytes())?;
                secret
            }
        };
        let server = PrivateKey::generate().map_err(no_random)?;
        let sealed = SealedKey::seal(&server, &self.database, &secret)?;
        files::write(&self.server_path(), &sealed.encode()?)?;
        Ok(server)
    }

    /// The secret that was given, else the one in the folder.
    fn secret(&self) -> Result<Option<Secret>, KeyringError> {
        if let Some(given) = &self.given {
            return Ok(Some(Secret::from_text(given.bytes())));
        }
        let found = files::read(&self.secret_path())?;
        Ok(found.map(|bytes| Secret::from_text(bytes.trim_ascii())))
    }

    /// Sees to it that `admin.key` holds a key that the store knows.
    async fn keep_admin(
        &self,
        store: &dyn Store,
        server: ServerIdentity,
        now: Timestamp,
    ) -> Result<Admin, KeyringError> {
        let path = self.admin_path();
        if let Some(bytes) = files::read(&path)? {
            let key = admin_key(&bytes, &path, server)?;
            let mut made = None;
            let record = match store.key_get(key.id()).await? {
                Some(record) => record,
                None => {
                    let record = admin_record(&key, now);
                    store.key_insert(record.clone()).await?;
                    made = Some(record.id.clone());
                    // It may have been revoked, which only the list of that knows.
                    store.key_get(key.id()).await?.unwrap_or(record)
                }
            };
            let note = record.revoked_at.map(|_| {
                format!(
                    "the key in {} was revoked: remove the file, and the next start makes a new one",
                    path.display()
                )
            });
            let made = made.filter(|_| record.revoked_at.is_none());
            return Ok(Admin { note, made, ..Admin::default() });
        }
        let key = ApiKey::generate(KeyKind::Operator, server)
            .map_err(|_| KeyringError::Make("the system gives no random numbers"))?;
        let mut ended = Vec::new();
        let known = store.key_list().await?;
        // The new one first: the store does not end the last operator key.
        store.key_insert(admin_record(&key, now)).await?;
        for old in known {
            if old.label == ADMIN_LABEL && old.revoked_at.is_none() {
                store.key_revoke(&old.id, now).await?;
                ended.push(old.id);
            }
        }
        let text = Zeroizing::new(format!("{}\n", key.reveal().as_str()));
        files::write(&path, text.as_bytes())?;
        let note = (!ended.is_empty()).then(|| {
            format!("{} was missing: made a new one, the old key is revoked", path.display())
        });
        Ok(Admin { note, made: Some(key.id().to_owned()), ended })
    }

    fn server_path(&self) -> PathBuf {
        self.folder.join(SERVER_KEY_FILE)
    }

    fn secret_path(&self) -> PathBuf {
        self.folder.join(SECRET_FILE)
    }

    fn admin_path(&self) -> PathBuf {
        self.folder.join(ADMIN_KEY_FILE)
    }
}

fn admin_key(bytes: &[u8], path: &Path, server: ServerIdentity) -> Result<ApiKey, KeyringError> {
    let wrong = |source| KeyringError::Admin { path: path.to_owned(), source };
    let text = std::str::from_utf8(bytes).map_err(|_| wrong(None))?;
    let key: ApiKey = text.parse().map_err(|error| wrong(Some(error)))?;
    let ours = key.kind() == KeyKind::Operator && key.server().is_none_or(|named| named == server);
    if ours { Ok(key) } else { Err(wrong(None)) }
}

fn admin_record(key: &ApiKey, now: Timestamp) -> KeyRecord {
    KeyRecord {
        id: key.id().to_owned(),
        kind: KeyKind::Operator,
        hash: key.hash().bytes(),
        label: ADMIN_LABEL.to_owned(),
        device: None,
        uses_left: None,
        created_at: now,
        expires_at: None,
        revoked_at: None,
        last_used: None,
        last_used_from: None,
        might: Might { role: Role::Admin, rights: Rights::new() },
        scope: None,
        origin: Some(KeyOrigin { author: Actor::Server.to_string(), succeeds: None }),
    }
}
