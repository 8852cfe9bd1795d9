//! Bringing devices into a fleet: meet each device, have the server make out a grant to its key,
//! deliver it, and watch until the server says that the device is there.
//!
//! An outcome is what server and device said, never what was hoped for. Many devices go at once,
//! but only [`AT_ONCE_MAX`] conversations do.

use std::time::Duration;

use futures_util::Stream;
use futures_util::stream::FuturesUnordered;
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep, timeout_at};

use super::claim::{self, ClaimFailure, Met, Target};
use super::client::{Client, ClientError};
use super::standing::{WhyNot, unproven};
use crate::Chain;
use crate::api::{
    DeviceStatus, DiscoverOutcome, GrantCreated, GrantRequest, GrantState, GrantView,
};
use crate::claim::ClaimSecret;
use crate::id::DeviceId;
use crate::net::url::ServerUrl;

/// Conversations with devices and the server at one time.
pub const AT_ONCE_MAX: usize = 16;
/// How long a device that took its grant may take to connect.
const CONNECT_WAIT: Duration = Duration::from_secs(15);
/// Between looks at a grant: at first, and at most.
const LOOK_INTERVAL_MIN: Duration = Duration::from_millis(100);
const LOOK_INTERVAL_MAX: Duration = Duration::from_secs(1);

/// What became of one device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// In one word.
    pub status: DiscoverOutcome,
    /// The id under which the server knows it, once it does.
    pub device_id: Option<DeviceId>,
    /// Why it is not configured. Safe to show.
    pub reason: Option<String>,
    /// What would help. Safe to show.
    pub hint: Option<String>,
}

/// A step that is done; the next one is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// The device proved to hold the key it announces.
    Met,
    /// The server made out a grant to that key.
    Granted,
    /// The device took the grant.
    Delivered,
}

/// How far one device has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// A step is done.
    Step(Step),
    /// The end.
    Done(Outcome),
}

/// How a device is to be claimed.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wish<'a> {
    /// Where the device shall look for the server first; the client's own URL if absent.
    pub server_url: Option<&'a ServerUrl>,
    /// What is known of what the device may ask its claimer to prove.
    pub secret: Option<&'a ClaimSecret>,
}

/// Provisions devices; each outcome comes with the target's position as soon as it is known.
pub fn provision_all<'a>(
    client: &'a Client,
    targets: impl IntoIterator<Item = (&'a Target, Option<&'a ClaimSecret>)>,
) -> impl Stream<Item = (usize, Outcome)> {
    let slots = std::sync::Arc::new(Semaphore::new(AT_ONCE_MAX));
    targets
        .into_iter()
        .enumerate()
        .map(|(position, (target, secret))| {
            let (slots, wish) = (slots.clone(), Wish { server_url: None, secret });
            async move { (position, provision_one(client, target, wish, &slots, &|_| {}).await) }
        })
        .collect::<FuturesUnordered<_>>()
}

/// Provisions one device, for callers that tell of its steps. `slots` bounds how many such
/// conversations there are at one time.
pub async fn provision_one(
    client: &Client,
    target: &Target,
    wish: Wish<'_>,
    slots: &Semaphore,
    told: &(dyn Fn(Step) + Sync),
) -> Outcome {
    if let Some(no) = unproven(target.claim, wish.secret) {
        return no.into();
    }
    let granted = {
        let _slot = slots.acquire().await.expect("the semaphore is never closed");
        match claim(client, target, wish, told).await {
            Ok(granted) => granted,
            Err(failure) => return failure.into(),
        }
    };
    match watch(client, &granted, slots).await {
        Watched::Now(view) if view.state == GrantState::Waiting => {
            match pending_id(client, target).await {
                Some(id) => waits_for_approval(Some(id)),
                None => judge(&view, &granted),
            }
        }
        Watched::Now(view) => judge(&view, &granted),
        Watched::Lost(error) => not_watched(&error),
    }
}

async fn claim(
    client: &Client,
    target: &Target,
    wish: Wish<'_>,
    told: &(dyn Fn(Step) + Sync),
) -> Result<GrantCreated, ProvisionError> {
    let met = claim::meet(target).await?;
    told(Step::Met);
    let server_url = wish.server_url.unwrap_or(client.url());
    let granted = client.grant_create(&grant_request(server_url, &met)).await?;
    told(Step::Granted);
    // What a device says of its mode is checked by nobody; one that asks for nothing is shown nothing.
    let secret = wish.secret.filter(|secret| target.claim.is_none_or(|mode| mode == secret.mode()));
    claim::deliver(&met, &granted.grant, secret).await?;
    told(Step::Delivered);
    Ok(granted)
}

fn grant_request(server_url: &ServerUrl, met: &Met) -> GrantRequest {
    GrantRequest {
        device_id: met.device_id.clone(),
        device_key: met.device_key,
        server_url: Some(server_url.to_string()),
        device_address: Some(met.address.ip()),
    }
}

/// The id under which the device waits at the server without having used its grant.
async fn pending_id(client: &Client, target: &Target) -> Option<DeviceId> {
    // A key that may not ask, or a device that is not there: then nothing more is known.
    let device = client.device_get(target.device_id.as_str()).await.ok()?;
    let waits = device.status == DeviceStatus::Pending;
    (waits && device.fingerprint == Some(target.fingerprint)).then_some(device.id)
}

enum Watched {
    Now(GrantView),
    Lost(ClientError),
}

/// Looks at the grant until it is decided or the time is up; what was seen last counts.
async fn watch(client: &Client, granted: &GrantCreated, slots: &Semaphore) -> Watched {
    let deadline = Instant::now() + CONNECT_WAIT;
    let mut last = GrantView { uid: granted.uid, state: GrantState::Waiting, device_id: None };
    let mut interval = LOOK_INTERVAL_MIN;
    while last.state == GrantState::Waiting {
        sleep(interval).await;
        interval = (interval * 2).min(LOOK_INTERVAL_MAX);
        let look = async {
            let _slot = slots.acquire().await.expect("the semaphore is never closed");
            client.grant_get(granted.uid).await
        };
        match timeout_at(deadline, look).await {
            Ok(Ok(view)) => last = view,
            Ok(Err(error)) => return Watched::Lost(error),
            Err(_) => break,
        }
    }
    Watched::Now(last)
}

fn judge(view: &GrantView, granted: &GrantCreated) -> Outcome {
    let (status, reason, hint) = match view.state {
        GrantState::Active => (DiscoverOutcome::Configured, None, None),
        GrantState::Pending => return waits_for_approval(view.device_id.clone()),
        GrantState::Waiting => (
            DiscoverOutcome::Pending,
            Some("claimed, not yet connected to the server".to_owned()),
            Some(format!("check that the device can reach {}", granted.urls.join(" or "))),
        ),
        GrantState::Expired => (
            DiscoverOutcome::Refused,
            Some("its grant expired before it connected".to_owned()),
            None,
        ),
    };
    Outcome { status, device_id: view.device_id.clone(), reason, hint }
}

fn waits_for_approval(device_id: Option<DeviceId>) -> Outcome {
    Outcome {
        status: DiscoverOutcome::Pending,
        reason: Some("connected, and waits for approval at the server".to_owned()),
        hint: device_id.as_ref().map(|id| format!("fleets devices accept {id}")),
        device_id,
    }
}

/// The device took the grant, but the server could not be asked how it went on.
fn not_watched(error: &ClientError) -> Outcome {
    Outcome {
        status: DiscoverOutcome::Pending,
        device_id: None,
        reason: Some(format!("claimed, but the server cannot be asked: {}", Chain(error))),
        hint: Some("see `fleets devices`".to_owned()),
    }
}

#[derive(Debug, thiserror::Error)]
enum ProvisionError {
    #[error(transparent)]
    Claim(#[from] ClaimFailure),
    #[error(transparent)]
    Server(#[from] ClientError),
}

impl From<ProvisionError> for Outcome {
    fn from(error: ProvisionError) -> Self {
        let (status, hint) = match &error {
            ProvisionError::Claim(failure) => (failure.outcome(), failure.hint()),
            ProvisionError::Server(_) => (DiscoverOutcome::Refused, None),
        };
        Self {
            status,
            device_id: None,
            reason: Some(Chain(&error).to_string()),
            hint: hint.map(str::to_owned),
        }
    }
}

impl From<WhyNot> for Outcome {
    fn from(no: WhyNot) -> Self {
        Self {
            status: DiscoverOutcome::Refused,
            device_id: None,
            reason: Some(no.reason),
            hint: no.hint.map(str::to_owned),
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::StreamExt as _;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::api::ClaimMode;
    use crate::identity::PrivateKey;
    use crate::operator::pretend::Pretend;
    use crate::secret::{ApiKey, KeyKind};

    const ACCEPTED: &str = r#"{"device_id":"rpi4-001","status":"claimed"}"#;

    async fn alone(client: &Client, target: &Target) -> Outcome {
        provision_one(client, target, Wish::default(), &Semaphore::new(1), &|_| {}).await
    }

    fn key(seed: u8) -> PrivateKey {
        PrivateKey::from_seed(&[seed; 32])
    }

    /// A server that makes out grants, whose state is `waiting` at the first look and then this.
    async fn server(then: &'static str) -> (Pretend, Client) {
        let uid = crate::id::Uid::new();
        let looks = AtomicUsize::new(0);
        let server = Pretend::start(&key(9), move |asked| {
            if asked.line == "POST /api/v1/grants" {
                let urls = r#"["http://10.0.0.1:8080"]"#;
                let at = "2024-01-15T10:30:00Z";
                let body = format!(
                    r#"{{"uid":"{uid}","grant":"the-grant","expires_at":"{at}","urls":{urls}}}"#
                );
                return (201, body);
            }
            let state = if looks.fetch_add(1, Ordering::Relaxed) == 0 { "waiting" } else { then };
            (200, format!(r#"{{"uid":"{uid}","state":"{state}","device_id":"rpi4-001~k3xq2m"}}"#))
        })
        .await;
        let key = ApiKey::generate(KeyKind::Operator, key(9).public().identity()).unwrap();
        let client = Client::new(server.url(), key).unwrap();
        (server, client)
    }

    fn target(agent: &Pretend) -> Target {
        Target {
            device_id: "rpi4-001".parse().unwrap(),
            addresses: vec![agent.address],
            fingerprint: key(1).public().fingerprint(),
            claim: None,
        }
    }

    #[tokio::test]
    async fn a_device_is_configured_when_the_server_says_so() {
        let (server, client) = server("active").await;
        let agent = Pretend::start(&key(1), |_| (200, ACCEPTED.to_owned())).await;
        let outcome = alone(&client, &target(&agent)).await;
        assert_eq!(outcome.status, DiscoverOutcome::Configured, "{outcome:?}");

        let grant: serde_json::Value = serde_json::from_str(&server.asked()[0].body).unwrap();
        assert_eq!(grant["device_key"], key(1).public().to_string());
        assert_eq!(grant["device_address"], "127.0.0.1");
        assert_eq!(grant["server_url"], client.url().to_string());
        // The operator's key is for the server's eyes.
        let told = format!("{:?}", agent.asked());
        assert!(!told.contains("flt_op_") && !told.contains("uthorization"), "{told}");
    }

    #[tokio::test]
    async fn a_device_may_be_told_another_url_than_the_clients() {
        let (server, client) = server("active").await;
        let agent = Pretend::start(&key(1), |_| (200, ACCEPTED.to_owned())).await;
        let url: ServerUrl = "https://fleet.example.com:8443".parse().unwrap();
        let wish = Wish { server_url: Some(&url), secret: None };
        let slots = Semaphore::new(1);
        let outcome = provision_one(&client, &target(&agent), wish, &slots, &|_| {}).await;
        assert_eq!(outcome.status, DiscoverOutcome::Configured, "{outcome:?}");
        let grant: serde_json::Value = serde_json::from_str(&server.asked()[0].body).unwrap();
        assert_eq!(grant["server_url"], url.to_string());
    }

    #[tokio::test]
    async fn a_device_that_asks_for_a_proof_is_not_bothered_without_one() {
        let (server, client) = server("active").await;
        let agent = Pretend::start(&key(1), |_| (200, ACCEPTED.to_owned())).await;
        for mode in [ClaimMode::Code, ClaimMode::Key] {
            let target = Target { claim: Some(mode), ..target(&agent) };
            let outcome = alone(&client, &target).await;
            assert_eq!(outcome.status, DiscoverOutcome::Refused, "{outcome:?}");
            assert!(outcome.reason.is_some_and(|reason| reason.contains(mode.word())));
        }
        assert!(server.asked().is_empty() && agent.asked().is_empty());
    }

    #[tokio::test]
    async fn an_id_that_is_taken_waits_for_approval() {
        let (_server, client) = server("pending").await;
        let agent = Pretend::start(&key(1), |_| (200, ACCEPTED.to_owned())).await;
        let outcome = alone(&client, &target(&agent)).await;
        assert_eq!(outcome.status, DiscoverOutcome::Pending);
        assert_eq!(outcome.hint.as_deref(), Some("fleets devices accept rpi4-001~k3xq2m"));
    }

    #[tokio::test]
    async fn a_device_that_was_not_met_costs_no_grant() {
        let (server, client) = server("active").await;
        let stranger = Pretend::start(&key(2), |_| (200, ACCEPTED.to_owned())).await;
        let outcome = alone(&client, &target(&stranger)).await;
        assert_eq!(outcome.status, DiscoverOutcome::Refused);
        assert!(server.asked().is_empty() && stranger.asked().is_empty());
    }

    #[tokio::test]
    async fn a_servers_no_is_told_in_its_own_words() {
        let server = Pretend::start(&key(9), |_| {
            let detail = "rpi4-001 was revoked; delete it first";
            let title = "Conflict";
            (409, format!(
                r#"{{"type":"about:blank","title":"{title}","status":409,"detail":"{detail}","request_id":"r"}}"#
            ))
        })
        .await;
        let api_key = ApiKey::generate(KeyKind::Operator, key(9).public().identity()).unwrap();
        let client = Client::new(server.url(), api_key).unwrap();
        let agent = Pretend::start(&key(1), |_| (200, ACCEPTED.to_owned())).await;
        let outcome = alone(&client, &target(&agent)).await;
        assert_eq!(outcome.status, DiscoverOutcome::Refused);
        let reason = "the server refused: rpi4-001 was revoked; delete it first";
        assert_eq!(outcome.reason.as_deref(), Some(reason));
        assert!(agent.asked().is_empty(), "nothing is delivered without a grant");
    }

    #[tokio::test]
    async fn each_of_many_has_its_own_outcome() {
        let (_server, client) = server("active").await;
        let free = Pretend::start(&key(1), |_| (200, ACCEPTED.to_owned())).await;
        let owner = key(5).public().identity();
        let body = format!(r#"{{"detail":"taken","server":"{owner}"}}"#);
        let taken = Pretend::start(&key(1), move |_| (409, body.clone())).await;
        let targets: Vec<Target> = (0..40)
            .map(|position| target(if position % 2 == 0 { &free } else { &taken }))
            .collect();
        let mut outcomes: Vec<_> =
            provision_all(&client, targets.iter().map(|it| (it, None))).collect().await;
        outcomes.sort_by_key(|(position, _)| *position);
        assert_eq!(outcomes.len(), 40);
        for (position, outcome) in outcomes {
            if position % 2 == 0 {
                assert_eq!(outcome.status, DiscoverOutcome::Configured);
            } else {
                assert_eq!(outcome.reason, Some(format!("already managed by {owner}")));
            }
        }
    }
}
