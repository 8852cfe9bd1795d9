//! Which server the device belongs to, or shall join: what a claim left on disk, and what the
//! device's own configuration file says.
//!
//! A server is known by its key from the first contact on; nothing but `fleetd reset`, or another
//! key in the device's own file, makes the device listen to another one.

use std::sync::{Arc, Mutex, PoisonError};

use bincode::{Decode, Encode};
use fleet_core::codec::Coded;
use fleet_core::grant::{ClaimStatus, Grant};
use fleet_core::id::DeviceId;
use fleet_core::identity::{PublicKey, ServerIdentity};
use fleet_core::limits::GRANT_URLS_MAX;
use fleet_core::net::tls::Pin;
use fleet_core::net::url::ServerUrl;
use fleet_core::secret::{ApiKey, KeyKind};
use tokio::sync::watch;

use super::folder::{Folder, StateError};

/// The file that makes a device belong to a server.
pub const CLAIM_FILE: &str = "claim";

/// The file with the id that the server gave.
pub const GIVEN_FILE: &str = "given-id";

/// What a claim left.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
struct Claim {
    server_pub: [u8; 32],
    urls: Vec<String>,
}

impl Coded for Claim {
    const TAG: u8 = 41;
    const VERSION: u8 = 1;
}

/// What a server calls the device. Without effect at any other server.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
struct Given {
    server_pub: [u8; 32],
    device_id: String,
}

impl Coded for Given {
    const TAG: u8 = 45;
    const VERSION: u8 = 1;
}

/// Where a server's configurations say that it is, beside what its grants say.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Configured {
    server: PublicKey,
    urls: Vec<ServerUrl>,
}

/// The server that the device's own file names.
#[derive(Clone, Debug)]
pub struct Provisioned {
    /// Where it is.
    pub url: ServerUrl,
    /// A key that names the server, and may let the device in.
    pub key: Option<ApiKey>,
}

impl Provisioned {
    fn server(&self) -> Option<ServerIdentity> {
        self.key.as_ref().and_then(ApiKey::server)
    }
}

/// The server to dial.
#[derive(Clone, Debug)]
pub struct Target {
    /// Who must answer.
    pub server: Expected,
    /// Where to look for it, best first. Never empty.
    pub urls: Vec<ServerUrl>,
    /// What lets the device in, if its own file has it.
    pub enrol_key: Option<ApiKey>,
}

/// Who must answer at the other end of the link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// The server with this key.
    Key(PublicKey),
    /// The server with this identity.
    Identity(ServerIdentity),
    /// Whoever answers first; from then on nobody else.
    FirstContact,
}

impl Expected {
    /// The server, if it is known already.
    pub fn identity(self) -> Option<ServerIdentity> {
        match self {
            Self::Key(key) => Some(key.identity()),
            Self::Identity(identity) => Some(identity),
            Self::FirstContact => None,
        }
    }

    /// Whom to accept while connecting.
    pub fn pin(self) -> Pin {
        self.identity().map_or(Pin::Unknown, Pin::Server)
    }

    /// Whether this key is the one.
    pub fn accepts(self, key: PublicKey) -> bool {
        match self {
            Self::Key(expected) => expected == key,
            Self::Identity(identity) => key.identity() == identity,
            Self::FirstContact => true,
        }
    }
}

/// Why a grant was not taken.
#[derive(Debug, thiserror::Error)]
pub enum ClaimError {
    /// The device belongs to somebody else.
    #[error("this device belongs to the server {0}")]
    OtherServer(ServerIdentity),
    /// Nothing in the grant can be dialled.
    #[error("the grant names no usable server URL")]
    Urls,
    /// It could not be kept.
    #[error("cannot keep the claim")]
    State(#[from] StateError),
}

/// The device's server, now and after changes.
pub struct Membership {
    folder: Folder,
    provisioned: Option<Provisioned>,
    claim: Mutex<Option<Claim>>,
    given: Mutex<Option<Given>>,
    configured: Mutex<Option<Configured>>,
    target: watch::Sender<Option<Arc<Target>>>,
    claims: watch::Sender<u64>,
    resets: watch::Sender<u64>,
}

impl Membership {
    /// As the disk and the device's own file have it.
    pub fn open(folder: Folder, provisioned: Option<Provisioned>) -> Result<Self, StateError> {
        let claim = folder.load::<Claim>(CLAIM_FILE)?;
        let given = load_given(&folder);
        let membership = Self {
            folder,
            provisioned,
            claim: Mutex::new(claim),
            given: Mutex::new(given),
            configured: Mutex::default(),
            target: watch::Sender::new(None),
            claims: watch::Sender::new(0),
            resets: watch::Sender::new(0),
        };
        let claim = membership.lock().clone();
        membership.announce(claim.as_ref());
        if let (Some(claim), Some(named)) = (claim, membership.provisioned_server()) {
            let claimed = PublicKey::from_bytes(claim.server_pub).identity();
            if claimed != named {
                tracing::warn!(
                    was = %claimed,
                    now = %named,
                    "the key in the configuration file is for another server; leaving the old one"
                );
            }
        }
        Ok(membership)
    }

    /// The server to dial, if there is one.
    pub fn target(&self) -> Option<Arc<Target>> {
        self.target.borrow().clone()
    }

    /// The server that the device belongs to, if it does.
    pub fn server(&self) -> Option<ServerIdentity> {
        self.target().and_then(|target| target.server.identity())
    }

    /// What its server calls the device, once that has said so.
    pub fn device_id(&self) -> Option<DeviceId> {
        let server = self.server()?;
        let given = self.given.lock().unwrap_or_else(PoisonError::into_inner);
        let given = given.as_ref()?;
        let giver = PublicKey::from_bytes(given.server_pub).identity();
        if giver == server { given.device_id.parse().ok() } else { None }
    }

    /// Keeps what the server calls the device; nothing is written if that is known already.
    pub fn named(&self, server: PublicKey, device_id: &DeviceId) -> Result<(), StateError> {
        let belongs = self.server() == Some(server.identity());
        if !belongs || self.device_id().as_ref() == Some(device_id) {
            return Ok(());
        }
        let new = Given { server_pub: server.bytes(), device_id: device_id.as_str().to_owned() };
        self.folder.store(GIVEN_FILE, &new)?;
        *self.given.lock().unwrap_or_else(PoisonError::into_inner) = Some(new);
        // Whoever shows the device shows its id too.
        self.target.send_modify(|_| {});
        Ok(())
    }

    /// Forgets the server; says whether there was one to forget. Nothing of it is left on the disk
    /// when this returns. What the device's own file says stays.
    pub fn forget(&self) -> Result<bool, StateError> {
        let mut claim = self.lock();
        let had = erase(&self.folder)?;
        *self.given.lock().unwrap_or_else(PoisonError::into_inner) = None;
        *self.configured.lock().unwrap_or_else(PoisonError::into_inner) = None;
        *claim = None;
        self.announce(None);
        self.resets.send_modify(|count| *count += 1);
        Ok(had)
    }

    /// Looks for a server first where it configured the device to, from now on, best first. The other
    /// places stay behind those.
    pub fn prefer(&self, server: PublicKey, urls: Vec<ServerUrl>) {
        let claim = self.lock();
        let configured = (!urls.is_empty()).then_some(Configured { server, urls });
        let before = {
            let mut known = self.configured.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::replace(&mut *known, configured.clone())
        };
        if before != configured {
            self.announce(claim.as_ref());
        }
    }

    /// Where the server is looked for as long as it configured nothing else.
    pub fn own_urls(&self) -> Vec<ServerUrl> {
        let claim = self.lock();
        self.own_urls_of(claim.as_ref())
    }

    /// Tells how often the server was forgotten.
    pub fn resets(&self) -> watch::Receiver<u64> {
        self.resets.subscribe()
    }

    /// Tells how many grants were taken. Also one that changes nothing here may have opened a door
    /// at the server.
    pub fn claims(&self) -> watch::Receiver<u64> {
        self.claims.subscribe()
    }

    /// The server to dial, and its changes.
    pub fn subscribe(&self) -> watch::Receiver<Option<Arc<Target>>> {
        self.target.subscribe()
    }

    /// Takes a grant whose signature was checked. It is on the disk when this returns.
    pub fn claim(&self, grant: &Grant) -> Result<ClaimStatus, ClaimError> {
        let mut claim = self.lock();
        let server = PublicKey::from_bytes(grant.server_pub);
        let before = self.server();
        if let Some(owner) = before.filter(|owner| *owner != server.identity()) {
            return Err(ClaimError::OtherServer(owner));
        }
        let granted = grant.urls.iter().filter_map(|url| url.parse().ok());
        let mut urls = Vec::new();
        extend(&mut urls, granted);
        if urls.is_empty() {
            return Err(ClaimError::Urls);
        }
        // Old places stay behind the new ones, so that an old grant sent again cuts nothing off. What
        // was configured is no part of the claim: it goes when the configuration says so.
        let known = before.map(|_| self.own_urls_of(claim.as_ref()));
        extend(&mut urls, known.unwrap_or_default());
        self.keep(&mut claim, server, &urls)?;
        self.claims.send_modify(|count| *count += 1);
        Ok(if before.is_some() { ClaimStatus::Updated } else { ClaimStatus::Claimed })
    }

    /// Holds on to the server that answered, if its key was not known before. Says whether it is
    /// the device's: a claim may have come while it was dialled.
    pub fn met(&self, server: PublicKey) -> Result<bool, StateError> {
        let mut claim = self.lock();
        let Some(target) = self.target().filter(|target| target.server.accepts(server)) else {
            return Ok(false);
        };
        if target.server == Expected::Key(server) {
            return Ok(true);
        }
        if target.server == Expected::FirstContact {
            tracing::warn!(
                server = %server.identity(),
                "this server answered first and is this device's server from now on"
            );
        }
        self.keep(&mut claim, server, &target.urls)?;
        Ok(true)
    }

    fn keep(
        &self,
        claim: &mut Option<Claim>,
        server: PublicKey,
        urls: &[ServerUrl],
    ) -> Result<(), StateError> {
        let urls = urls.iter().map(ToString::to_string).collect();
        let new = Claim { server_pub: server.bytes(), urls };
        self.folder.store(CLAIM_FILE, &new)?;
        self.announce(Some(&new));
        *claim = Some(new);
        Ok(())
    }

    fn announce(&self, claim: Option<&Claim>) {
        self.target.send_replace(self.resolve(claim).map(Arc::new));
    }

    fn resolve(&self, claim: Option<&Claim>) -> Option<Target> {
        let named = self.provisioned_server();
        let claim = self.claim_that_counts(claim);
        let configured = self.configured.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let is_its = |c: &Configured| claim.is_some_and(|own| own.server_pub == c.server.bytes());
        let mut urls =
            configured.filter(is_its).map_or_else(Vec::new, |configured| configured.urls);
        let own = self.own_urls_of(claim);
        let more: Vec<_> = own.into_iter().filter(|url| !urls.contains(url)).collect();
        urls.extend(more);
        if urls.is_empty() {
            return None;
        }
        let server = match (claim, named) {
            (Some(claim), _) => Expected::Key(PublicKey::from_bytes(claim.server_pub)),
            (None, Some(named)) => Expected::Identity(named),
            (None, None) => Expected::FirstContact,
        };
        let key = self.provisioned.as_ref().and_then(|provisioned| provisioned.key.clone());
        let enrol_key = key.filter(|key| {
            key.kind() == KeyKind::Enrol
                && key.server().is_some_and(|s| Some(s) == server.identity())
        });
        Some(Target { server, urls, enrol_key })
    }

    /// The claim, unless the device's own file has a key of another server.
    fn claim_that_counts<'a>(&self, claim: Option<&'a Claim>) -> Option<&'a Claim> {
        let named = self.provisioned_server();
        claim.filter(|claim| {
            let claimed = PublicKey::from_bytes(claim.server_pub).identity();
            named.is_none_or(|named| named == claimed)
        })
    }

    fn own_urls_of(&self, claim: Option<&Claim>) -> Vec<ServerUrl> {
        let claim = self.claim_that_counts(claim);
        let mut urls = Vec::new();
        extend(&mut urls, claim.iter().flat_map(|c| &c.urls).filter_map(|url| url.parse().ok()));
        extend(&mut urls, self.provisioned.iter().map(|provisioned| provisioned.url.clone()));
        urls
    }

    fn provisioned_server(&self) -> Option<ServerIdentity> {
        self.provisioned.as_ref().and_then(Provisioned::server)
    }

    /// Nothing is left half done by a panic: the disk is written before the memory.
    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Claim>> {
        self.claim.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes a server's traces out of a folder, those first that mean nothing without the last.
pub fn erase(folder: &Folder) -> Result<bool, StateError> {
    folder.remove(GIVEN_FILE)?;
    folder.remove(CLAIM_FILE)
}

/// The server says it again at every connection, so a damaged file costs only a line in the log.
fn load_given(folder: &Folder) -> Option<Given> {
    folder.load(GIVEN_FILE).unwrap_or_else(|error| {
        tracing::warn!(error = %fleet_core::Chain(&error), "doing without the id that the server gave");
        None
    })
}

/// Adds what is not there yet, up to the bound.
fn extend(urls: &mut Vec<ServerUrl>, more: impl IntoIterator<Item = ServerUrl>) {
    for url in more {
        if urls.len() < GRANT_URLS_MAX && !urls.contains(&url) {
            urls.push(url);
        }
    }
}

#[cfg(test)]
mod tests {
    use fleet_core::identity::PrivateKey;

    use super::*;

    fn grant(server: u8, urls: &[&str]) -> Grant {
        Grant {
            uid: [1; 16],
            device_pub: [2; 32],
            device_id: "rpi4-001".to_owned(),
            urls: urls.iter().map(|url| (*url).to_owned()).collect(),
            server_pub: key(server).bytes(),
            expires_millis: 1,
        }
    }

    fn key(seed: u8) -> PublicKey {
        PrivateKey::from_seed(&[seed; 32]).public()
    }

    fn opened(path: &std::path::Path, provisioned: Option<Provisioned>) -> Membership {
        Membership::open(Folder::new(path), provisioned).unwrap()
    }

    fn urls(membership: &Membership) -> Vec<String> {
        let target = membership.target();
        target.iter().flat_map(|target| &target.urls).map(ToString::to_string).collect()
    }

    #[test]
    fn a_claim_survives_and_keeps_others_out() {
        let path = tempfile::tempdir().unwrap();
        let membership = opened(path.path(), None);
        assert!(membership.target().is_none());
        let first = grant(7, &["http://a:1", "not a url"]);
        assert_eq!(membership.claim(&first).unwrap(), ClaimStatus::Claimed);

        let membership = opened(path.path(), None);
        assert_eq!(membership.server(), Some(key(7).identity()));
        let other = membership.claim(&grant(8, &["http://b:1"])).unwrap_err();
        assert!(matches!(other, ClaimError::OtherServer(owner) if owner == key(7).identity()));
        let again = grant(7, &["http://b:1"]);
        assert_eq!(membership.claim(&again).unwrap(), ClaimStatus::Updated);
        assert_eq!(urls(&membership), ["http://b:1", "http://a:1"]);
        assert_eq!(urls(&opened(path.path(), None)), ["http://b:1", "http://a:1"]);
    }

    #[test]
    fn the_id_that_the_server_gave_holds_as_long_as_the_server() {
        let path = tempfile::tempdir().unwrap();
        let membership = opened(path.path(), None);
        let id: DeviceId = "rpi4-001".parse().unwrap();
        membership.claim(&grant(7, &["http://a:1"])).unwrap();
        membership.named(key(8), &id).unwrap();
        assert_eq!(membership.device_id(), None);
        membership.named(key(7), &id).unwrap();
        assert_eq!(opened(path.path(), None).device_id(), Some(id));

        assert!(membership.forget().unwrap());
        for forgetful in [&membership, &opened(path.path(), None)] {
            assert_eq!((forgetful.device_id(), forgetful.server()), (None, None));
            assert!(forgetful.target().is_none());
        }
        assert!(!membership.forget().unwrap());
        assert_eq!(membership.claim(&grant(8, &["http://b:1"])).unwrap(), ClaimStatus::Claimed);
    }

    #[test]
    fn the_place_that_a_server_configured_is_first_and_the_others_stay() {
        let path = tempfile::tempdir().unwrap();
        let membership = opened(path.path(), None);
        membership.claim(&grant(7, &["http://a:1"])).unwrap();
        let place = |url: &str| vec![url.parse().unwrap()];
        membership.prefer(key(8), place("http://x:1"));
        assert_eq!(urls(&membership), ["http://a:1"], "that is another server's word");
        membership.prefer(key(7), place("http://b:1"));
        assert_eq!(urls(&membership), ["http://b:1", "http://a:1"]);
        assert_eq!(membership.own_urls(), ["http://a:1".parse().unwrap()]);
        assert_eq!(urls(&opened(path.path(), None)), ["http://a:1"], "its place is not here");
        // A grant that comes meanwhile takes nothing of it into the claim.
        membership.claim(&grant(7, &["http://c:1"])).unwrap();
        assert_eq!(urls(&membership), ["http://b:1", "http://c:1", "http://a:1"]);
        membership.prefer(key(7), Vec::new());
        assert_eq!(urls(&membership), ["http://c:1", "http://a:1"]);
        assert_eq!(urls(&opened(path.path(), None)), ["http://c:1", "http://a:1"]);
    }

    #[test]
    fn a_grant_that_leads_nowhere_is_refused() {
        let path = tempfile::tempdir().unwrap();
        let membership = opened(path.path(), None);
        assert!(matches!(membership.claim(&grant(7, &["gopher://x"])), Err(ClaimError::Urls)));
        assert!(membership.target().is_none());
    }

    #[test]
    fn the_first_server_to_answer_is_held_on_to() {
        let path = tempfile::tempdir().unwrap();
        let file = || Some(Provisioned { url: "http://a:1".parse().unwrap(), key: None });
        let membership = opened(path.path(), file());
        let target = membership.target().unwrap();
        assert_eq!((target.server, membership.server()), (Expected::FirstContact, None));
        assert!(membership.met(key(7)).unwrap());
        let membership = opened(path.path(), file());
        assert_eq!(membership.server(), Some(key(7).identity()));
        assert!(membership.met(key(7)).unwrap() && !membership.met(key(8)).unwrap());
        assert_eq!(membership.server(), Some(key(7).identity()));
    }

    #[test]
    fn a_key_in_the_file_names_its_server() {
        let path = tempfile::tempdir().unwrap();
        let file = |seed| {
            let enrol = ApiKey::generate(KeyKind::Enrol, key(seed).identity()).unwrap();
            Some(Provisioned { url: "http://a:1".parse().unwrap(), key: Some(enrol) })
        };
        let membership = opened(path.path(), file(7));
        assert_eq!(membership.server(), Some(key(7).identity()));
        assert!(membership.target().unwrap().enrol_key.is_some());
        assert!(membership.claim(&grant(8, &["http://b:1"])).is_err());
        assert!(membership.met(key(7)).unwrap());

        let moved = opened(path.path(), file(8));
        assert_eq!(moved.target().unwrap().server, Expected::Identity(key(8).identity()));
        assert_eq!(urls(&moved), ["http://a:1"]);
    }

    #[test]
    fn an_operators_key_is_never_sent() {
        let path = tempfile::tempdir().unwrap();
        let key = ApiKey::generate(KeyKind::Operator, key(7).identity()).unwrap();
        let file = Provisioned { url: "http://a:1".parse().unwrap(), key: Some(key) };
        assert!(opened(path.path(), Some(file)).target().unwrap().enrol_key.is_none());
    }
}
