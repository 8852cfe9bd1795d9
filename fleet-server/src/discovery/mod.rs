//! Devices that can be seen from the server, and claiming them from here.
//!
//! The search ([`search`]) runs while somebody is interested. Only a device that it has seen can be
//! claimed, only where its own packets came from, and never at an address of this server itself; and
//! not before another that calls itself the same has had the time to be seen, too.

mod search;

use std::io;
use std::time::Duration;

use fleet_core::Chain;
use fleet_core::api::{ClaimMode, DiscoverOutcome, DiscoverReply, DiscoverRequest, GrantState};
use fleet_core::api::{GrantRequest, GrantView};
use fleet_core::claim::ClaimSecret;
use fleet_core::id::{DeviceId, Uid};
use fleet_core::identity::Fingerprint;
use fleet_core::mdns::Options;
use fleet_core::net::shutdown::Tasks;
use fleet_core::net::url::ServerUrl;
use fleet_core::operator::browse::{QUIET, Sighting};
use fleet_core::operator::claim::{self, Target};
use fleet_core::operator::standing::unproven;
use fleet_core::untrusted::Untrusted;
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep, sleep_until};

use self::search::Search;
pub(crate) use self::search::Seen;
use crate::ops::grants::Grantor;
use crate::ops::{Ops, OpsError};
use crate::reach::{Asked, Reach};

/// How long a young search is given before it is believed to have seen everybody.
const FIRST_LOOK: Duration = Duration::from_secs(2);
/// How long a claimed device may take to connect.
const CONNECT_WAIT: Duration = Duration::from_secs(15);
/// Between looks at a grant, or at a young search.
const LOOK_INTERVAL: Duration = Duration::from_millis(200);

/// The search, running or not.
pub(crate) struct Discovery {
    interfaces: Vec<String>,
    reach: Reach,
    tasks: Tasks,
    search: Mutex<Option<Search>>,
}

/// What somebody wants a device to be told.
struct Wish {
    /// The key that the device must have.
    fingerprint: Option<Fingerprint>,
    server_url: Option<ServerUrl>,
    has_api_key: bool,
    /// What is known of what the device asks its claimer to prove. Keys that many devices have are
    /// not given to servers.
    secret: Option<ClaimSecret>,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DiscoveryError {
    #[error("cannot look for devices")]
    Search(#[from] io::Error),
    #[error(transparent)]
    Ops(#[from] OpsError),
}

impl Discovery {
    pub(crate) fn new(interfaces: Vec<String>, reach: Reach, tasks: Tasks) -> Self {
        Self { interfaces, reach, tasks, search: Mutex::new(None) }
    }

    /// All devices that can be seen.
    pub(crate) async fn devices(&self) -> Result<Seen, DiscoveryError> {
        self.seen(|_| false).await
    }

    /// Claims one device for this server and waits until it has connected.
    pub(crate) async fn claim(
        &self,
        ops: &Ops,
        grantor: &Grantor,
        request: DiscoverRequest,
    ) -> Result<DiscoverReply, DiscoveryError> {
        let id = request.device_id.parse();
        let id: DeviceId = id.map_err(|error| OpsError::invalid("device_id", error))?;
        let wish = Wish::read(request)?;
        let is_it = |sighting: &Sighting| sighting.device.device_id.as_ref() == Some(&id);
        let seen = self.seen(|seen| seen.iter().any(is_it)).await?;
        let Some(sighting) = seen.sightings().iter().find(|sighting| is_it(sighting)).cloned()
        else {
            let reason = format!("device {id} to be seen from this server");
            return Err(OpsError::NotFound(reason).into());
        };
        if sighting.device.conflict {
            let reason = format!("two devices with different keys call themselves {id}");
            return Err(OpsError::Conflict(reason).into());
        }
        if wish.fingerprint.is_some() && sighting.device.fingerprint != wish.fingerprint {
            let reason = match sighting.device.fingerprint {
                Some(fingerprint) => format!("the key of {id} has the fingerprint {fingerprint}"),
                None => format!("{id} announces no key"),
            };
            return Err(OpsError::Conflict(reason).into());
        }
        let target = sighting.target.map(|target| self.without_self(target));
        let Some(target) = target.filter(|target| !target.addresses.is_empty()) else {
            let reason = "it announced no key, or no address that it answers from";
            return Ok(reply(&id, DiscoverOutcome::Unreachable, reason));
        };
        self.claim_target(ops, grantor, &target, wish).await
    }

    async fn claim_target(
        &self,
        ops: &Ops,
        grantor: &Grantor,
        target: &Target,
        wish: Wish,
    ) -> Result<DiscoverReply, DiscoveryError> {
        let id = &target.device_id;
        let refused = |failure: claim::ClaimFailure| {
            reply(id, failure.outcome(), &Chain(&failure).to_string())
        };
        if let Some(no) = unproven(target.claim, wish.secret.as_ref()) {
            let hint = match target.claim {
                Some(ClaimMode::Code) => "give it as code; sudo fleetd info on the device shows it",
                _ => "servers are not given it; run fleets configure --claim-key-file FILE",
            };
            return Ok(reply(id, DiscoverOutcome::Refused, &format!("{}: {hint}", no.reason)));
        }
        let met = match claim::meet(target).await {
            Ok(met) => met,
            Err(failure) => return Ok(refused(failure)),
        };
        let request = GrantRequest {
            device_id: id.clone(),
            device_key: met.device_key,
            server_url: None,
            device_address: Some(met.address.ip()),
        };
        let asked = wish.server_url.clone().map(Asked::Wished);
        let granted = ops.grants.create_with(grantor, request, asked).await?;
        let secret = wish.secret.as_ref().filter(|_| target.claim != Some(ClaimMode::Open));
        if let Err(failure) = claim::deliver(&met, &granted.grant, secret).await {
            return Ok(refused(failure));
        }
        let view = watch_grant(ops, grantor, granted.uid).await?;
        let known = view.device_id.as_ref().unwrap_or(id);
        Ok(match view.state {
            GrantState::Active => DiscoverReply {
                device_id: known.clone(),
                status: DiscoverOutcome::Configured,
                reason: wish.unheeded(&granted.urls).map(Untrusted::new),
            },
            GrantState::Pending => {
                let reason = "connected, and waits for approval: another device has its id";
                reply(known, DiscoverOutcome::Pending, reason)
            }
            GrantState::Waiting | GrantState::Expired => {
                reply(known, DiscoverOutcome::Pending, "claimed, not yet connected to the server")
            }
        })
    }

    /// What the search has seen when it has gone on for long enough; while it is young, so long after
    /// that was `enough` for the first time.
    async fn seen(&self, enough: impl Fn(&[Sighting]) -> bool) -> Result<Seen, DiscoveryError> {
        let mut enough_at = None;
        loop {
            let (started, seen) = self.ask().await?;
            let now = Instant::now();
            if enough_at.is_none() && now < started + FIRST_LOOK && enough(seen.sightings()) {
                enough_at = Some(now);
            }
            let end = enough_at.map_or(started + FIRST_LOOK, |at| at + QUIET);
            if now >= end {
                return Ok(seen);
            }
            sleep_until(end.min(now + LOOK_INTERVAL)).await;
        }
    }

    /// When the search has begun and what it sees; starts one if none is running.
    async fn ask(&self) -> Result<(Instant, Seen), DiscoveryError> {
        let mut search = self.search.lock().await;
        if let Some(running) = search.as_ref()
            && let Some(seen) = running.ask().await
        {
            return Ok((running.started(), seen));
        }
        let options = Options { interfaces: self.interfaces.clone(), address: None };
        let begun = Search::begin(options, &self.tasks).await?;
        let seen = begun.ask().await.ok_or_else(|| io::Error::other("the search has ended"))?;
        let started = begun.started();
        *search = Some(begun);
        Ok((started, seen))
    }

    fn without_self(&self, mut target: Target) -> Target {
        target.addresses.retain(|address| !self.reach.is_self(*address));
        target
    }
}

impl Wish {
    fn read(request: DiscoverRequest) -> Result<Self, OpsError> {
        let DiscoverRequest { device_id: _, fingerprint, code, config } = request;
        let fingerprint = fingerprint.as_deref().map(str::parse).transpose();
        let fingerprint = fingerprint.map_err(|error| OpsError::invalid("fingerprint", error))?;
        let code = code.as_deref().map(str::parse).transpose();
        let code = code.map_err(|error| OpsError::invalid("code", error))?;
        let server_url = config.server_url.map(|text| text.parse()).transpose();
        let server_url =
            server_url.map_err(|error| OpsError::invalid("config.server_url", error))?;
        Ok(Self {
            fingerprint,
            server_url,
            has_api_key: config.api_key.is_some(),
            secret: code.map(ClaimSecret::Code),
        })
    }

    /// What of it the device was not told, or not as the first thing.
    fn unheeded(&self, told: &[String]) -> Option<String> {
        let mut words = Vec::new();
        if self.has_api_key {
            words.push("api_key is not handed to devices: each proves a key of its own".to_owned());
        }
        if let Some(url) = self.server_url.as_ref().map(ServerUrl::to_string) {
            match told.iter().position(|told| *told == url) {
                Some(0) => {}
                Some(_) => words.push(format!(
                    "server_url {url} is no address that this server knows as its own, so the \
                     device tries the server's addresses first"
                )),
                None => {
                    words.push(format!("the device was told {} for server_url", told.join(", ")));
                }
            }
        }
        (!words.is_empty()).then(|| words.join("; "))
    }
}

async fn watch_grant(ops: &Ops, grantor: &Grantor, uid: Uid) -> Result<GrantView, OpsError> {
    let deadline = Instant::now() + CONNECT_WAIT;
    loop {
        let view = ops.grants.get(grantor, uid).await?;
        if view.state != GrantState::Waiting || Instant::now() >= deadline {
            return Ok(view);
        }
        sleep(LOOK_INTERVAL).await;
    }
}

fn reply(id: &DeviceId, status: DiscoverOutcome, reason: &str) -> DiscoverReply {
    DiscoverReply { device_id: id.clone(), status, reason: Some(Untrusted::from(reason)) }
}

#[cfg(test)]
mod tests {
    use fleet_core::api::DiscoverTarget;

    use super::*;

    #[test]
    fn what_was_not_done_is_said() {
        let said = |url: Option<&str>, api_key: Option<&str>, told: &[&str]| {
            let told: Vec<_> = told.iter().map(|&url| url.to_owned()).collect();
            let (server_url, api_key) = (url.map(str::to_owned), api_key.map(str::to_owned));
            let config = DiscoverTarget { server_url, api_key };
            let device_id = "rpi4-001".to_owned();
            let request = DiscoverRequest { device_id, fingerprint: None, code: None, config };
            let wish = Wish::read(request).unwrap();
            wish.unheeded(&told).unwrap_or_default()
        };
        let (own, other) = ("http://10.0.0.1:8080", "http://fleet-server:8080");
        assert_eq!(said(None, None, &[own]), "");
        assert_eq!(said(Some(own), None, &[own]), "");
        assert!(said(Some(other), None, &[own, other]).contains("addresses first"));
        assert_eq!(
            said(Some(other), None, &[own]),
            "the device was told http://10.0.0.1:8080 for server_url"
        );
        let both = said(Some(other), Some("device-key"), &[own, other]);
        assert!(both.contains("api_key is not handed to devices"), "{both}");
        assert!(both.contains(other) && !both.contains("device-key"), "{both}");
    }
}
