//! The page's two cookies: the session's, and the one that a form is bound to before there is one.
//!
//! Each server has names of its own, so that several on one host do not sign each other's people
//! out. Inside TLS the names begin with `__Host-`, which a browser accepts from that host and
//! inside TLS only; the plain ones count for nothing there, and the other way round.

use std::time::Duration;

use fleet_core::identity::ServerIdentity;
use hyper::header::{self, HeaderMap, HeaderValue};

use crate::ops::sessions::{SESSION_LIFE_MAX, SessionSecret};

/// How long a form that was left open can still be sent.
const FORM_LIFE: Duration = Duration::from_secs(86_400);
/// Characters of a server's identity in its cookies' names.
const IDENTITY_CHARS: usize = 8;

/// What a cookie is for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Cookie {
    /// It lets its browser in.
    Session,
    /// It belongs to the form that signs in.
    Form,
}

/// The names of one server's cookies.
pub(super) struct Jar {
    server: String,
}

impl Jar {
    pub(super) fn new(server: ServerIdentity) -> Self {
        let name = server.to_string().to_ascii_lowercase();
        let plain = name.chars().filter(char::is_ascii_alphanumeric);
        // All identities begin with the same letters.
        Self { server: plain.skip(3).take(IDENTITY_CHARS).collect() }
    }

    /// The secret in a cookie.
    pub(super) fn read(
        &self,
        cookie: Cookie,
        headers: &HeaderMap,
        is_tls: bool,
    ) -> Option<SessionSecret> {
        let name = self.name(cookie, is_tls);
        let texts = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
        let mut pairs =
            texts.flat_map(|text| text.split(';')).filter_map(|pair| pair.trim().split_once('='));
        let (_, value) = pairs.find(|(found, _)| *found == name)?;
        SessionSecret::read(value)
    }

    /// The header that gives a browser a secret, or takes it away.
    pub(super) fn write(
        &self,
        cookie: Cookie,
        secret: Option<&SessionSecret>,
        is_tls: bool,
    ) -> Option<HeaderValue> {
        let value = secret.map(SessionSecret::reveal);
        let value = value.as_ref().map_or("", |value| value.as_str());
        let life = match (secret, cookie) {
            (None, _) => Duration::ZERO,
            (Some(_), Cookie::Session) => SESSION_LIFE_MAX,
            (Some(_), Cookie::Form) => FORM_LIFE,
        };
        let text = format!(
            "{}={value}; Max-Age={}; Path=/; HttpOnly; SameSite=Strict{}",
            self.name(cookie, is_tls),
            life.as_secs(),
            if is_tls { "; Secure" } else { "" },
        );
        let mut header = HeaderValue::from_str(&text).ok()?;
        header.set_sensitive(true);
        Some(header)
    }

    fn name(&self, cookie: Cookie, is_tls: bool) -> String {
        let prefix = if is_tls { "__Host-" } else { "" };
        let word = match cookie {
            Cookie::Session => "session",
            Cookie::Form => "form",
        };
        format!("{prefix}fleetd-{word}-{}", self.server)
    }
}

#[cfg(test)]
mod tests {
    use fleet_core::identity::PrivateKey;

    use super::*;

    fn jar(seed: u8) -> Jar {
        Jar::new(PrivateKey::from_seed(&[seed; 32]).public().identity())
    }

    fn sent(jar: &Jar, text: &str, is_tls: bool) -> Option<String> {
        let mut headers = HeaderMap::new();
        headers.insert(header::COOKIE, HeaderValue::from_str(text).unwrap());
        jar.read(Cookie::Session, &headers, is_tls).map(|secret| secret.reveal().to_string())
    }

    #[test]
    fn a_cookie_comes_back_to_its_own_server_over_its_own_transport() {
        let (jar, other) = (jar(1), jar(2));
        let secret = SessionSecret::generate().unwrap_or_else(|error| panic!("{error}"));
        let text = secret.reveal().to_string();
        for is_tls in [false, true] {
            let header = jar.write(Cookie::Session, Some(&secret), is_tls).unwrap();
            let header = header.to_str().unwrap();
            let (pair, attributes) = header.split_once("; ").unwrap();
            assert_eq!(attributes.ends_with("; Secure"), is_tls);
            assert!(attributes.contains("HttpOnly; SameSite=Strict"));
            assert_eq!(pair.starts_with("__Host-"), is_tls);
            for among in [pair.to_owned(), format!("a=b; {pair}"), format!("{pair};x; y=")] {
                assert_eq!(sent(&jar, &among, is_tls).as_ref(), Some(&text), "{among}");
                assert_eq!(sent(&jar, &among, !is_tls), None);
                assert_eq!(sent(&other, &among, is_tls), None);
            }
            for broken in [pair.replace('=', "=x"), pair.replace('=', ""), format!("a{pair}")] {
                assert_eq!(sent(&jar, &broken, is_tls), None, "{broken}");
            }
        }
        let gone = jar.write(Cookie::Session, None, false).unwrap();
        assert!(gone.to_str().unwrap().contains("=; Max-Age=0; "));
    }
}
