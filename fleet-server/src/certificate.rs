//! The operator's own certificate, which browsers, curl and other people's programs are shown.
//!
//! FleetD's own programs are shown the server's identity instead, whatever this certificate is, so
//! it can change or end without a device losing touch. Its files are looked at again and again: a
//! renewed certificate is shown from the next connection on, and one that cannot be used, or has
//! ended where the one before has not, leaves that in its place.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use fleet_core::Chain;
use fleet_core::api::EventKind;
use fleet_core::net::shutdown::Tasks;
use fleet_core::time::Timestamp;
use rustls::crypto::ring;
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use x509_cert::Certificate as X509;
use x509_cert::der::{Decode as _, Encode as _};
use zeroize::Zeroizing;

use crate::ops::events::NewEvent;
use crate::ops::{Actor, Events};
use crate::tasks::sleep;

/// Bytes of a file.
const FILE_BYTES_MAX: u64 = 256 * 1024;
/// Between two looks at the files.
const LOOK_INTERVAL: Duration = Duration::from_secs(10);
/// How long before its end a certificate is warned of, and how often.
const WARN_BEFORE: Duration = Duration::from_secs(30 * 86_400);
const WARN_INTERVAL: Duration = Duration::from_secs(86_400);

/// Where a certificate is, and its private key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFiles {
    /// The certificate, and those between it and an authority; PEM.
    pub certificate: PathBuf,
    /// The key; PEM.
    pub key: PathBuf,
}

/// Why a certificate cannot be used. Each is one sentence for a person.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// A file.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file of another kind.
    #[error("{} has no certificate in PEM form", .0.display())]
    NoCertificate(PathBuf),
    /// A file of another kind, or a key that a password protects.
    #[error("{} has no private key in PEM form that is not encrypted", .0.display())]
    NoKey(PathBuf),
    /// A file that was cut or altered.
    #[error("{} is damaged", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// How.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A certificate that is out of date, where one that is not is shown.
    #[error("{} ended at {ends}", path.display())]
    Ended {
        /// The file.
        path: PathBuf,
        /// When.
        ends: Timestamp,
    },
    /// A key of another certificate, or of a kind that nobody uses any more.
    #[error("the key in {} does not go with the certificate in {}", key.display(), certificate.display())]
    NotAPair {
        /// The key's file.
        key: PathBuf,
        /// The certificate's file.
        certificate: PathBuf,
        /// Why.
        source: rustls::Error,
    },
}

/// The certificate that is shown.
#[derive(Debug)]
pub(crate) struct Certificate {
    files: CertificateFiles,
    /// What the files were when they were read first.
    first: Stamp,
    shown: RwLock<Shown>,
}

#[derive(Clone, Debug)]
struct Shown {
    key: Arc<CertifiedKey>,
    /// The public half, as the certificate has it.
    info: Vec<u8>,
    ends: Timestamp,
}

/// What tells that a file is another one than before.
type Stamp = [Option<(u64, u64, i64, i64)>; 2];

impl Certificate {
    /// Reads it.
    pub(crate) fn load(files: CertificateFiles) -> Result<Arc<Self>, CertificateError> {
        // What changes while they are read is read again.
        let first = stamp(&files);
        let shown = RwLock::new(read(&files)?);
        Ok(Arc::new(Self { files, first, shown }))
    }

    /// When it ends.
    pub(crate) fn ends(&self) -> Timestamp {
        self.shown().ends
    }

    /// The public half of its key, as it stands in it.
    pub(crate) fn key_info(&self) -> Vec<u8> {
        self.shown().info
    }

    /// Looks at the files until told to stop, and tells of what changes and what ends soon.
    pub(crate) async fn keep(self: Arc<Self>, events: Arc<Events>, tasks: Tasks) {
        let mut seen = self.first;
        let mut warned: Option<Timestamp> = None;
        loop {
            let now = events.now();
            let left = self.ends().since(now);
            let is_due = warned.is_none_or(|at| at.plus(WARN_INTERVAL) <= now);
            if left < WARN_BEFORE && is_due {
                warned = Some(now);
                let word = if left.is_zero() { "ended" } else { "ends" };
                let text = format!("{} {word} at {}", self.name(), self.ends());
                tracing::warn!("{text}");
                self.tell(&events, EventKind::CertificateAtRisk, text).await;
            }
            if !sleep(&tasks, LOOK_INTERVAL).await {
                return;
            }
            let stamp = stamp(&self.files);
            if stamp == seen {
                continue;
            }
            seen = stamp;
            let (kind, text) = match self.read_again(events.now()) {
                Ok(shown) => {
                    warned = None;
                    let text = format!("{} is a new one, until {}", self.name(), shown.ends);
                    *self.shown.write().unwrap_or_else(PoisonError::into_inner) = shown;
                    tracing::info!("{text}");
                    (EventKind::CertificateRenewed, text)
                }
                Err(error) => {
                    tracing::warn!(error = %Chain(&error), "the certificate stays the one before");
                    let text = format!("the certificate stays the one before: {}", Chain(&error));
                    (EventKind::CertificateAtRisk, text)
                }
            };
            self.tell(&events, kind, text).await;
        }
    }

    /// What the files have now, unless it is worse than what is shown.
    fn read_again(&self, now: Timestamp) -> Result<Shown, CertificateError> {
        let shown = read(&self.files)?;
        if shown.ends <= now && now < self.ends() {
            let path = self.files.certificate.clone();
            return Err(CertificateError::Ended { path, ends: shown.ends });
        }
        Ok(shown)
    }

    async fn tell(&self, events: &Events, kind: EventKind, text: String) {
        let actor = Actor::Server.to_string();
        events.record(NewEvent { kind, actor, device: None, text }).await;
    }

    fn name(&self) -> String {
        format!("the certificate in {}", self.files.certificate.display())
    }

    fn shown(&self) -> Shown {
        self.shown.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.shown().key)
    }
}

/// Changes with whatever is done to the files, also to who may read them.
fn stamp(files: &CertificateFiles) -> Stamp {
    [&files.certificate, &files.key].map(|path| {
        let found = fs::metadata(path).ok()?;
        Some((found.ino(), found.size(), found.ctime(), found.ctime_nsec()))
    })
}

fn read(files: &CertificateFiles) -> Result<Shown, CertificateError> {
    let path = &files.certificate;
    let damaged = |path: &Path, source: Box<dyn std::error::Error + Send + Sync>| {
        CertificateError::Damaged { path: path.to_owned(), source }
    };
    let text = read_file(path)?;
    let chain = CertificateDer::pem_slice_iter(&text).collect::<Result<Vec<_>, _>>();
    let chain = chain.map_err(|error| damaged(path, error.into()))?;
    let Some(leaf) = chain.first() else {
        return Err(CertificateError::NoCertificate(path.clone()));
    };
    let leaf = X509::from_der(leaf).map_err(|error| damaged(path, error.into()))?;
    let info = leaf.tbs_certificate().subject_public_key_info().to_der();
    let info = info.map_err(|error| damaged(path, error.into()))?;
    let ends = leaf.tbs_certificate().validity().not_after.to_unix_duration();
    let ends = i64::try_from(ends.as_millis()).unwrap_or(i64::MAX);
    let text = Zeroizing::new(read_file(&files.key)?);
    let key = match PrivateKeyDer::from_pem_slice(&text) {
        Ok(key) => key,
        Err(pem::Error::NoItemsFound) => return Err(CertificateError::NoKey(files.key.clone())),
        Err(error) => return Err(damaged(&files.key, error.into())),
    };
    let key = CertifiedKey::from_der(chain, key, &ring::default_provider()).map_err(|source| {
        CertificateError::NotAPair { key: files.key.clone(), certificate: path.clone(), source }
    })?;
    Ok(Shown { key: Arc::new(key), info, ends: Timestamp::from_millis(ends) })
}

fn read_file(path: &Path) -> Result<Vec<u8>, CertificateError> {
    let failed = |source| CertificateError::Read { path: path.to_owned(), source };
    let mut text = Vec::new();
    let file = File::open(path).map_err(failed)?;
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut text).map_err(failed)?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(failed(io::Error::other("it is too large for a certificate or key")));
    }
    Ok(text)
}
