//! What has to be known of a server before it is shown a key.
//!
//! A pinned handshake says it all. Where a proxy ends TLS, its certificate is good for the name
//! only; the server behind it signs a nonce then, on the very connection that the key goes over.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::Request;

use super::client::Client;
use super::error::{ClientError, refused};
use crate::api::{Identity, Nonce, Route};
use crate::net::http::{self, Exchange, HttpError};
use crate::net::tls::{Pin, Voucher};
use crate::untrusted::Untrusted;

/// Bytes of an identity, or of a proxy's own page.
const ANSWER_BYTES_MAX: usize = 64 * 1024;
/// How long the server may take.
const PATIENCE: Duration = Duration::from_secs(10);

impl Client {
    /// A fresh connection to the server, and to no other.
    pub(super) async fn connect(&self) -> Result<Exchange, ClientError> {
        let url = self.url();
        let pin = Pin::Server(self.server());
        let reached = match http::connect(url, pin, self.authorities()).await {
            Ok(reached) => reached,
            Err(HttpError::WrongKey { shown, .. }) => {
                let (url, expected) = (url.clone(), self.server());
                return Err(ClientError::OtherServer { url, expected, found: shown });
            }
            Err(source) => return Err(ClientError::Connect { url: url.clone(), source }),
        };
        let exchange = Exchange::over(reached.stream, &url.authority()).await;
        let mut exchange = exchange.map_err(|source| self.unanswered(source))?;
        match reached.voucher {
            Voucher::Key(_) => {}
            Voucher::Name => self.have_it_prove_itself(&mut exchange).await?,
        }
        Ok(exchange)
    }

    /// What it means that a request got no answer.
    pub(super) fn unanswered(&self, source: HttpError) -> ClientError {
        ClientError::Exchange { url: self.url().clone(), source }
    }

    async fn have_it_prove_itself(&self, exchange: &mut Exchange) -> Result<(), ClientError> {
        let unproved = |reason: Untrusted| ClientError::Unproved {
            url: self.url().clone(),
            expected: self.server(),
            reason,
        };
        let nonce = Nonce::generate().map_err(|error| unproved(error.to_string().into()))?;
        let path = format!("{}?nonce={nonce}", Route::Identity.path());
        let request = Request::get(path).body(Full::<Bytes>::default());
        let request = request.map_err(|_| ClientError::Name)?;
        let answer = exchange.ask(request, ANSWER_BYTES_MAX, PATIENCE).await;
        let answer = answer.map_err(|source| self.unanswered(source))?;
        if !answer.status.is_success() {
            return Err(match refused(&answer) {
                // The proxy has no server behind it at the moment, or the server no room.
                away @ ClientError::Refused { .. } if away.is_passing() => away,
                ClientError::Refused { detail, .. } => unproved(detail),
                other => other,
            });
        }
        let identity: Identity = serde_json::from_slice(&answer.body)
            .map_err(|_| unproved("it does not say who it is".into()))?;
        let key = identity.public_key;
        if key.identity() != self.server() {
            return Err(unproved(format!("it is {}", key.identity()).into()));
        }
        match identity.proof {
            Some(proof) if proof.holds(&nonce, self.url().host_name(), key) => Ok(()),
            Some(proof) if proof.name != self.url().host_name() => {
                let name = Untrusted::from(proof.name);
                Err(unproved(format!("the proxy calls it {name}").into()))
            }
            Some(_) => Err(unproved("its signature is wrong".into())),
            None => Err(unproved("it signs nothing: its release may be an older one".into())),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use data_encoding::BASE64;
    use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
    use rustls::ServerConfig;
    use rustls::crypto::ring;
    use tempfile::TempDir;

    use super::*;
    use crate::api::IdentityProof;
    use crate::identity::{PrivateKey, PublicKey};
    use crate::net::authorities::Authorities;
    use crate::net::url::ServerUrl;
    use crate::operator::exit::Exit;
    use crate::operator::pretend::{Asked, Pretend};
    use crate::secret::{ApiKey, KeyKind};

    fn server() -> PrivateKey {
        PrivateKey::from_seed(&[7; 32])
    }

    /// A proxy's TLS with a certificate for a name, and the file of its authority.
    fn proxy(name: &str) -> (Arc<ServerConfig>, TempDir) {
        let (ca_key, key) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
        let mut ca = CertificateParams::new(Vec::new()).unwrap();
        ca.distinguished_name.push(DnType::CommonName, format!("authority of {name}"));
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let root = BASE64.encode(ca.self_signed(&ca_key).unwrap().der());
        let issuer = Issuer::from_params(&ca, &ca_key);
        let leaf = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let leaf = leaf.signed_by(&key, &issuer).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let text = format!("-----BEGIN CERTIFICATE-----\n{root}\n-----END CERTIFICATE-----\n");
        std::fs::write(folder.path().join("ca.pem"), text).unwrap();
        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![leaf.der().clone()], key.into())
            .unwrap();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        (Arc::new(config), folder)
    }

    fn client(pretend: &Pretend, scheme: &str, folder: &TempDir) -> Client {
        let key = ApiKey::generate(KeyKind::Operator, server().public().identity()).unwrap();
        let url: ServerUrl =
            format!("{scheme}://localhost:{}", pretend.address.port()).parse().unwrap();
        let authorities = Authorities::of(Some(folder.path().join("ca.pem")));
        Client::new(url, key).unwrap().trusting(authorities)
    }

    fn identity(key: PublicKey, proof: Option<IdentityProof>) -> (u16, String) {
        let version = "0.0.0".to_owned();
        let identity = Identity { identity: key.identity(), public_key: key, version, proof };
        (200, serde_json::to_string(&identity).unwrap())
    }

    fn nonce(asked: &Asked) -> Option<Nonce> {
        asked.line.strip_prefix("GET /api/v1/identity?nonce=")?.parse().ok()
    }

    #[tokio::test]
    async fn behind_a_proxy_the_key_is_sent_once_the_server_has_proved_itself() {
        let (config, folder) = proxy("localhost");
        let pretend = Pretend::start_with(config, |asked| match nonce(asked) {
            Some(nonce) => {
                identity(server().public(), Some(nonce.prove("localhost".to_owned(), &server())))
            }
            None => (200, "[]".to_owned()),
        })
        .await;
        assert!(client(&pretend, "https", &folder).device_list(None).await.unwrap().is_empty());
        let asked = pretend.asked();
        assert_eq!(asked.len(), 2);
        assert!(!asked[0].headers.contains_key("authorization"));
        assert_eq!(asked[1].line, "GET /api/v1/devices");
        assert!(asked[1].headers.contains_key("authorization"));
    }

    #[tokio::test]
    async fn without_a_proof_no_key_is_sent() {
        type Liar = fn(Nonce) -> (u16, String);
        let liars: [(Liar, &str); 8] = [
            (|_| identity(server().public(), None), "signs nothing"),
            (
                |nonce| {
                    let other = PrivateKey::from_seed(&[8; 32]);
                    identity(other.public(), Some(nonce.prove("localhost".to_owned(), &other)))
                },
                "it is FD1-",
            ),
            (
                |nonce| {
                    let other = PrivateKey::from_seed(&[8; 32]);
                    let proof = nonce.prove("localhost".to_owned(), &other);
                    identity(server().public(), Some(proof))
                },
                "its signature is wrong",
            ),
            (
                |_| {
                    let stale = Nonce::generate().unwrap();
                    let proof = stale.prove("localhost".to_owned(), &server());
                    identity(server().public(), Some(proof))
                },
                "its signature is wrong",
            ),
            // Somebody with a certificate of their own who asks the server behind its real proxy.
            (
                |nonce| {
                    let proof = nonce.prove("fleet.example".to_owned(), &server());
                    identity(server().public(), Some(proof))
                },
                "the proxy calls it fleet.example",
            ),
            (
                |nonce| {
                    let proof = nonce.prove("fleet.example".to_owned(), &server());
                    let proof = IdentityProof { name: "localhost".to_owned(), ..proof };
                    identity(server().public(), Some(proof))
                },
                "its signature is wrong",
            ),
            (|_| (404, "<html>".to_owned()), "Not Found"),
            (|_| (200, "<html>".to_owned()), "does not say who it is"),
        ];
        for (liar, reason) in liars {
            let (config, folder) = proxy("localhost");
            let pretend = Pretend::start_with(config, move |asked| {
                nonce(asked).map_or_else(|| (200, "[]".to_owned()), liar)
            })
            .await;
            let error = client(&pretend, "https", &folder).device_list(None).await.unwrap_err();
            assert_eq!(error.exit(), Exit::Unreachable, "{error}");
            assert!(matches!(error, ClientError::Unproved { .. }), "{error:?}");
            assert!(error.to_string().contains(reason), "{error}");
            let asked = pretend.asked();
            assert_eq!(asked.len(), 1);
            assert!(!asked[0].headers.contains_key("authorization"));
        }
    }

    #[tokio::test]
    async fn a_certificate_that_nobody_vouches_for_is_told_and_nothing_is_asked() {
        let (config, folder) = proxy("localhost");
        let (_, elsewhere) = proxy("elsewhere.example");
        let (misnamed, misnamed_folder) = proxy("fleet.example");
        for (config, folder, scheme, reason) in [
            (&config, &elsewhere, "https", "no authority that is trusted here has issued it"),
            (&misnamed, &misnamed_folder, "https", "it is for another name"),
            (&config, &folder, "http", "somebody with the certificate of SHA-256 "),
        ] {
            let pretend = Pretend::start_with(config.clone(), |_| (200, "[]".to_owned())).await;
            let error = client(&pretend, scheme, folder).device_list(None).await.unwrap_err();
            assert_eq!(error.exit(), Exit::Unreachable, "{error}");
            assert!(matches!(error, ClientError::OtherServer { .. }), "{error:?}");
            let text = error.to_string();
            assert!(text.contains(&server().public().identity().to_string()), "{text}");
            assert!(text.contains("somebody with the certificate of SHA-256 "), "{text}");
            assert!(text.contains(reason), "{text}");
            assert!(pretend.asked().is_empty());
        }
    }

    #[tokio::test]
    async fn a_proxy_that_is_away_is_not_a_liar() {
        let (config, folder) = proxy("localhost");
        let pretend = Pretend::start_with(config, |_| (502, "<html>".to_owned())).await;
        let error = client(&pretend, "https", &folder).device_list(None).await.unwrap_err();
        assert!(error.is_passing(), "{error:?}");
    }
}
