//! Certificate authorities, for the one case in which a key is not enough: a proxy in front of a
//! server shows a certificate of its own, for the server's name.
//!
//! They are the system's, or those of one file instead; read when a peer shows a certificate that
//! needs them, and so never where there is no proxy.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::ring;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::{CertificateError, ClientConfig, RootCertStore};

use crate::Chain;

/// Bytes of a file; those of all the world's authorities are a quarter of it.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// Whom a client believes about names. Clones have read what one of them has.
#[derive(Clone, Debug, Default)]
pub struct Authorities {
    file: Option<PathBuf>,
    read: Arc<OnceLock<Read>>,
}

/// What was found, or why nothing was.
type Read = Result<Arc<WebPkiServerVerifier>, String>;

/// Why a file names no authorities.
#[derive(Debug, thiserror::Error)]
pub enum AuthoritiesError {
    /// The file.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file of another kind.
    #[error("{} has no certificate in PEM form", .0.display())]
    Nothing(PathBuf),
    /// None of this system's, or none that can be used.
    #[error("{0}")]
    Unusable(String),
    /// A file that was cut or altered.
    #[error("{} is damaged", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// How.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl Authorities {
    /// Those of a file and no others, if there is one; else the system's.
    pub fn of(file: Option<PathBuf>) -> Self {
        Self { file, read: Arc::default() }
    }

    /// Whether the file can be used, for those who would rather know before they need it.
    pub fn check(&self) -> Result<(), AuthoritiesError> {
        self.file.as_deref().map_or(Ok(()), |path| read_file(path).map(drop))
    }

    /// How a client of others takes their word for a host's name, in TLS 1.3.
    pub fn client_config(&self) -> Result<Arc<ClientConfig>, AuthoritiesError> {
        let unusable = |problem: &str| AuthoritiesError::Unusable(problem.to_owned());
        let verifier = self.verifier().map_err(unusable)?;
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(|error| unusable(&error.to_string()))?;
        let mut config = config.with_webpki_verifier(verifier.clone()).with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        // Hosts that somebody else chose are not remembered.
        config.resumption = Resumption::disabled();
        Ok(Arc::new(config))
    }

    /// What judges a certificate.
    pub(super) fn verifier(&self) -> Result<&Arc<WebPkiServerVerifier>, &str> {
        let read = || match &self.file {
            Some(path) => read_file(path).map_err(|error| Chain(&error).to_string()),
            None => read_system(),
        };
        self.read.get_or_init(read).as_ref().map_err(String::as_str)
    }
}

/// What is wrong with a certificate, for a person.
pub(super) fn problem(error: &rustls::Error) -> String {
    let rustls::Error::InvalidCertificate(error) = error else { return error.to_string() };
    let text = match error {
        CertificateError::UnknownIssuer => "no authority that is trusted here has issued it",
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "it is for another name"
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => "it has expired",
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "it is not valid yet"
        }
        other => return other.to_string(),
    };
    text.to_owned()
}

/// Why a connection with [`Authorities::client_config`] did not come about, for a person.
pub fn connect_problem(error: &io::Error) -> String {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    inner.map_or_else(|| error.to_string(), problem)
}

fn read_system() -> Read {
    let found = rustls_native_certs::load_native_certs();
    for error in &found.errors {
        tracing::debug!(%error, "cannot read some of the system's authorities");
    }
    let mut roots = RootCertStore::empty();
    // What the system has and nobody can read vouches for nobody.
    let (read, unread) = roots.add_parsable_certificates(found.certs);
    tracing::debug!(read, unread, "the system's authorities");
    verifier(roots).map_err(|_| "this system names no authorities (package ca-certificates)".into())
}

fn read_file(path: &Path) -> Result<Arc<WebPkiServerVerifier>, AuthoritiesError> {
    let failed = |source| AuthoritiesError::Read { path: path.to_owned(), source };
    let damaged = |source: Box<dyn std::error::Error + Send + Sync>| AuthoritiesError::Damaged {
        path: path.to_owned(),
        source,
    };
    let mut text = Vec::new();
    let file = File::open(path).map_err(failed)?;
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut text).map_err(failed)?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(failed(io::Error::other("it is too large for certificates")));
    }
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&text) {
        let certificate = certificate.map_err(|error: pem::Error| damaged(error.into()))?;
        roots.add(certificate).map_err(|error| damaged(error.into()))?;
    }
    verifier(roots).map_err(|_| AuthoritiesError::Nothing(path.to_owned()))
}

/// Fails if there are none.
fn verifier(
    roots: RootCertStore,
) -> Result<Arc<WebPkiServerVerifier>, rustls::client::VerifierBuilderError> {
    let provider = Arc::new(ring::default_provider());
    WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build()
}

#[cfg(test)]
mod tests {
    use data_encoding::BASE64;

    use super::*;

    #[test]
    fn a_file_that_names_no_authorities_is_refused_with_a_reason() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ca.pem");
        let authorities = Authorities::of(Some(path.clone()));
        let complaint = || Chain(&authorities.check().unwrap_err()).to_string();
        assert!(complaint().contains("cannot read"), "{}", complaint());
        std::fs::write(&path, "no certificate").unwrap();
        assert!(complaint().ends_with("ca.pem has no certificate in PEM form"));
        let cut = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        std::fs::write(&path, cut).unwrap();
        assert!(complaint().contains("ca.pem is damaged"), "{}", complaint());
        let key = rcgen::KeyPair::generate().unwrap();
        let own = rcgen::CertificateParams::new(vec!["ca".to_owned()]).unwrap().self_signed(&key);
        let text = BASE64.encode(own.unwrap().der());
        let text = format!("-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n");
        std::fs::write(&path, text).unwrap();
        authorities.check().unwrap();
    }
}
