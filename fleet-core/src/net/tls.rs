//! TLS pinned to keys.
//!
//! Server and agent show a certificate that their own ed25519 key signed; its names and dates mean
//! nothing. A server may show another one to those who are not of FleetD. A client checks that the
//! handshake was signed by the very key it expects ([`Pin`]), so neither a certificate authority nor
//! a correct clock is needed.
//!
//! The one other thing that it may take is a certificate that [`Authorities`] vouch for, at an
//! `https` URL: that is a proxy, and the server behind it still has to prove itself ([`Voucher`]).

use std::fmt;
use std::sync::{Arc, OnceLock};

use data_encoding::HEXLOWER;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{
    CertificateError, ClientConfig, ConnectionCommon, DigitallySignedStruct, Error, ServerConfig,
    SignatureScheme,
};
use sha2::{Digest as _, Sha256};

use super::authorities::{self, Authorities};
use crate::identity::{Fingerprint, PrivateKey, PublicKey, ServerIdentity};
use crate::wire::EXPORTER_LABEL;

/// Whose key a client expects at the other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pin {
    /// This server's.
    Server(ServerIdentity),
    /// This device's.
    Device(Fingerprint),
    /// Any key: the caller decides by [`peer_key`] or [`Voucher`] before it says or believes anything.
    Unknown,
}

impl Pin {
    fn accepts(self, key: PublicKey) -> bool {
        match self {
            Self::Server(identity) => key.identity() == identity,
            Self::Device(fingerprint) => key.fingerprint() == fingerprint,
            Self::Unknown => true,
        }
    }
}

/// What FleetD's own programs call HTTP/1.1 with a server whose key they know.
const OWN_PROTOCOL: &[u8] = b"fleetd/1";

/// PKCS #8 around an ed25519 seed, and SubjectPublicKeyInfo around a public key (RFC 8410).
const PKCS8_PREFIX: [u8; 16] =
    [0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];
const SPKI_PREFIX: [u8; 12] = [0x30, 0x2a, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 3, 0x21, 0];

/// Why no TLS configuration could be made of a key.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The certificate.
    #[error("cannot make a certificate")]
    Certificate(#[from] rcgen::Error),
    /// Everything else.
    #[error("cannot set up TLS")]
    Setup(#[from] Error),
}

/// How a server or agent presents its key.
pub fn server_config(key: &PrivateKey) -> Result<Arc<ServerConfig>, TlsError> {
    let own = Arc::new(certified(key)?);
    serve(Arc::new(SingleCertAndKey::from(own)))
}

/// The same to FleetD's own programs, while everybody else is shown another certificate.
pub fn server_config_beside(
    key: &PrivateKey,
    other: Arc<dyn ResolvesServerCert>,
) -> Result<Arc<ServerConfig>, TlsError> {
    serve(Arc::new(OwnAndOther { own: Arc::new(certified(key)?), other }))
}

fn serve(certificates: Arc<dyn ResolvesServerCert>) -> Result<Arc<ServerConfig>, TlsError> {
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_no_client_auth()
        .with_cert_resolver(certificates);
    config.alpn_protocols = alpn();
    // A resumed session would skip nothing that we need, and save little.
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}

/// A key with a certificate that it signed itself.
fn certified(key: &PrivateKey) -> Result<CertifiedKey, TlsError> {
    let pkcs8 = PrivatePkcs8KeyDer::from([&PKCS8_PREFIX[..], key.seed().as_slice()].concat());
    let pair = rcgen::KeyPair::try_from(&pkcs8)?;
    let certificate =
        rcgen::CertificateParams::new(vec!["fleetd".to_owned()])?.self_signed(&pair)?;
    let chain = vec![certificate.der().clone()];
    Ok(CertifiedKey::from_der(chain, pkcs8.into(), &ring::default_provider())?)
}

/// FleetD's own programs say that they are, and so are shown the key that they expect.
fn alpn() -> Vec<Vec<u8>> {
    vec![OWN_PROTOCOL.to_vec(), b"http/1.1".to_vec()]
}

#[derive(Debug)]
struct OwnAndOther {
    own: Arc<CertifiedKey>,
    other: Arc<dyn ResolvesServerCert>,
}

impl ResolvesServerCert for OwnAndOther {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let is_own =
            hello.alpn().is_some_and(|mut offered| offered.any(|name| name == OWN_PROTOCOL));
        if is_own { Some(self.own.clone()) } else { self.other.resolve(hello) }
    }
}

/// How a client insists on a key; or, with authorities, takes their word for a name.
pub(super) fn client_config(
    pin: Pin,
    authorities: Option<Authorities>,
) -> Result<(Arc<ClientConfig>, Arc<Verifier>), TlsError> {
    let provider = Arc::new(ring::default_provider());
    let has_name = authorities.is_some();
    let verdict = OnceLock::new();
    let verifier = Arc::new(Verifier { pin, authorities, provider: provider.clone(), verdict });
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(verifier.clone())
        .with_no_client_auth();
    config.alpn_protocols = alpn();
    config.resumption = Resumption::disabled();
    // A proxy may have certificates for many names.
    config.enable_sni = has_name;
    Ok((Arc::new(config), verifier))
}

/// What tells a client that it has reached its server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Voucher {
    /// The server's key, which signed the handshake.
    Key(PublicKey),
    /// An authority, and for the name alone: TLS ends at a proxy, and nothing is known yet of the
    /// server behind it.
    Name,
}

/// What a peer showed that is not whom the client expects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// Its key, if it is of the kind that FleetD has.
    key: Option<PublicKey>,
    /// The SHA-256 of its certificate.
    digest: [u8; 32],
    /// What is wrong with its certificate, where an authority's would do.
    problem: Option<String>,
}

impl Shown {
    /// Its key, if it is of the kind that FleetD has.
    pub fn key(&self) -> Option<PublicKey> {
        self.key
    }
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.key {
            Some(key) => write!(f, "{}", key.identity())?,
            None => {
                let digest = HEXLOWER.encode(&self.digest);
                write!(f, "somebody with the certificate of SHA-256 {digest}")?;
            }
        }
        match &self.problem {
            Some(problem) => write!(f, " ({problem})"),
            None => Ok(()),
        }
    }
}

/// The key that the other end of a finished handshake holds.
pub fn peer_key<D>(connection: &ConnectionCommon<D>) -> Option<PublicKey> {
    connection.peer_certificates()?.first().and_then(|leaf| certificate_key(leaf).ok())
}

/// A secret that only the two ends of this connection know, for signatures to cover.
pub fn exporter<D>(connection: &ConnectionCommon<D>) -> Result<[u8; 32], Error> {
    connection.export_keying_material([0; 32], EXPORTER_LABEL, None)
}

/// A key as certificates have it (a SubjectPublicKeyInfo), for others to pin.
pub fn public_key_info(key: PublicKey) -> Vec<u8> {
    [&SPKI_PREFIX[..], &key.bytes()].concat()
}

fn certificate_key(leaf: &CertificateDer<'_>) -> Result<PublicKey, Error> {
    let bad = || Error::InvalidCertificate(CertificateError::BadEncoding);
    let certificate = webpki::EndEntityCert::try_from(leaf).map_err(|_| bad())?;
    let spki = certificate.subject_public_key_info();
    let key = spki.strip_prefix(&SPKI_PREFIX[..]).ok_or_else(bad)?;
    Ok(PublicKey::from_bytes(key.try_into().map_err(|_| bad())?))
}

/// Judges one peer.
#[derive(Debug)]
pub(super) struct Verifier {
    pin: Pin,
    authorities: Option<Authorities>,
    provider: Arc<CryptoProvider>,
    verdict: OnceLock<Verdict>,
}

type Verdict = Result<Voucher, Shown>;

impl Verifier {
    /// What came of it, once the peer has shown anything.
    pub(super) fn verdict(&self) -> Option<&Verdict> {
        self.verdict.get()
    }

    fn judge(
        &self,
        leaf: &CertificateDer<'_>,
        by_name: impl Fn(&WebPkiServerVerifier) -> Result<ServerCertVerified, Error>,
    ) -> Verdict {
        let key = certificate_key(leaf).ok();
        let accepted = key.filter(|key| self.pin.accepts(*key)).map(Voucher::Key);
        // Where any key will do, a name that is vouched for is more than that.
        if let (Some(accepted), true) = (&accepted, self.pin != Pin::Unknown) {
            return Ok(accepted.clone());
        }
        let vouched = self.authorities.as_ref().map(|authorities| match authorities.verifier() {
            Ok(verifier) => by_name(verifier).map_err(|error| authorities::problem(&error)),
            Err(problem) => Err(problem.to_owned()),
        });
        match (vouched, accepted) {
            (Some(Ok(_)), _) => Ok(Voucher::Name),
            (_, Some(accepted)) => Ok(accepted),
            (vouched, None) => {
                let problem = vouched.and_then(Result::err);
                Err(Shown { key, digest: Sha256::digest(leaf).into(), problem })
            }
        }
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verdict = self.verdict.get_or_init(|| {
            self.judge(end_entity, |authority| {
                authority.verify_server_cert(
                    end_entity,
                    intermediates,
                    server_name,
                    ocsp_response,
                    now,
                )
            })
        });
        match verdict {
            Ok(_) => Ok(ServerCertVerified::assertion()),
            Err(_) => {
                Err(Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure))
            }
        }
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("TLS 1.2 is not offered".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        // More than keys of ours have, so that whoever is no server shows at least who they are.
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
