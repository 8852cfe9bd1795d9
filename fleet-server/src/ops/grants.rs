//! Grants: the server's signed word that a device key may join, for a program to carry there.

use std::net::IpAddr;
use std::sync::Arc;

use fleet_core::api::{GrantCreated, GrantRequest, GrantState, GrantView};
use fleet_core::grant::Grant;
use fleet_core::id::Uid;
use fleet_core::identity::{PrivateKey, PublicKey};
use fleet_core::limits::{GRANT_LIFETIME, GRANT_URLS_MAX};

use super::{OpsError, World};
use crate::hub::Hub;
use crate::reach::{Asked, Reach};
use crate::store::{Admission, GrantRecord};

/// Operations on grants.
pub(crate) struct Grants {
    pub(crate) world: World,
    pub(crate) hub: Arc<Hub>,
    pub(crate) server: Arc<PrivateKey>,
    pub(crate) reach: Reach,
}

/// Who asks for grants, and may see those.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Grantor {
    /// An operator key; sees all grants.
    Operator(String),
    /// An enrolment key; each grant uses it once, and it sees its own only.
    Enrol(String),
}

impl Grantor {
    fn name(&self) -> String {
        match self {
            Self::Operator(key) => format!("operator:{key}"),
            Self::Enrol(key) => format!("enrol:{key}"),
        }
    }
}

impl Grants {
    /// Makes a grant for one device key.
    pub(crate) async fn create(
        &self,
        grantor: &Grantor,
        request: GrantRequest,
    ) -> Result<GrantCreated, OpsError> {
        let asked = match &request.server_url {
            Some(text) => {
                Some(text.parse().map_err(|error| OpsError::invalid("server_url", error))?)
            }
            None => None,
        };
        self.create_with(grantor, request, asked.map(Asked::Used)).await
    }

    /// Makes a grant with what is known about the URL that was asked for; the request's own is
    /// not looked at.
    pub(crate) async fn create_with(
        &self,
        grantor: &Grantor,
        request: GrantRequest,
        asked: Option<Asked>,
    ) -> Result<GrantCreated, OpsError> {
        let urls = self.urls(asked, request.device_address)?;
        self.require_welcome(request.device_key).await?;
        let now = self.world.now();
        self.pay(grantor, &request).await?;
        let expires_at = now.plus(GRANT_LIFETIME);
        let uid = Uid::new();
        let grant = Grant {
            uid: uid.bytes(),
            device_pub: request.device_key.bytes(),
            device_id: request.device_id.to_string(),
            urls: urls.clone(),
            server_pub: self.server.public().bytes(),
            expires_millis: expires_at.millis(),
        };
        let record = GrantRecord {
            uid,
            device_key: request.device_key,
            device_id: request.device_id,
            created_by: grantor.name(),
            created_at: now,
            expires_at,
            device: None,
        };
        self.world.store.grant_insert(record).await?;
        let text =
            grant.sign(&self.server).map_err(|error| OpsError::invalid("server_url", error))?;
        Ok(GrantCreated { uid, grant: text, expires_at, urls })
    }

    /// How far a grant has come.
    pub(crate) async fn get(&self, grantor: &Grantor, uid: Uid) -> Result<GrantView, OpsError> {
        let none = || OpsError::NotFound(format!("grant {uid}"));
        let record = self.world.store.grant_get(uid).await?.ok_or_else(none)?;
        if matches!(grantor, Grantor::Enrol(_)) && record.created_by != grantor.name() {
            return Err(none());
        }
        let device = match record.device {
            Some(device) => self.world.store.device_get(device).await?,
            // A device that belonged to us before the grant stays connected and has no need of it.
            // One that waits has not come with the grant yet, however long it is connected.
            None => self.world.store.device_by_key(record.device_key).await?.filter(|device| {
                device.state == Admission::Active && self.hub.is_connected(device.uid)
            }),
        };
        let state = match device.as_ref().map(|device| device.state) {
            Some(Admission::Active) => GrantState::Active,
            Some(_) => GrantState::Pending,
            None if self.world.now() >= record.expires_at => GrantState::Expired,
            None => GrantState::Waiting,
        };
        Ok(GrantView { uid, state, device_id: device.map(|device| device.id) })
    }

    /// Refuses a device that an operator put out: a grant is no way around that word.
    async fn require_welcome(&self, key: PublicKey) -> Result<(), OpsError> {
        let Some(device) = self.world.store.device_by_key(key).await? else { return Ok(()) };
        if device.other_keys.former.contains(&key) {
            let problem = "has a newer key; that one is of no use any more";
            return Err(OpsError::Conflict(format!("the device {} {problem}", device.id)));
        }
        let problem = match device.state {
            Admission::Pending | Admission::Active | Admission::Deleted => return Ok(()),
            Admission::Rejected => "was rejected; accept or delete it first",
            Admission::Revoked => "was revoked; delete it first",
        };
        Err(OpsError::Conflict(format!("the device {} {problem}", device.id)))
    }

    /// Uses up an enrolment key, once per device: asking again for the same device while its
    /// grant holds costs nothing.
    async fn pay(&self, grantor: &Grantor, request: &GrantRequest) -> Result<(), OpsError> {
        let Grantor::Enrol(key) = grantor else { return Ok(()) };
        let now = self.world.now();
        let live = self.world.store.grant_live(request.device_key, now).await?;
        if live.is_some_and(|grant| grant.created_by == grantor.name()) {
            return Ok(());
        }
        self.world.store.key_use(key, now, None).await?;
        Ok(())
    }

    /// Where the device finds this server, best first.
    fn urls(&self, asked: Option<Asked>, device: Option<IpAddr>) -> Result<Vec<String>, OpsError> {
        let mut urls: Vec<String> = Vec::new();
        for url in self.reach.urls(asked, device) {
            let text = url.to_string();
            if !urls.contains(&text) {
                urls.push(text);
            }
        }
        urls.truncate(GRANT_URLS_MAX);
        if urls.is_empty() {
            return Err(OpsError::Conflict(
                "the server has no address that a device could reach: start it with --public-url"
                    .to_owned(),
            ));
        }
        Ok(urls)
    }
}
