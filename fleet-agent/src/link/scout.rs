//! The way to another place of the server: dialled while the link that there is is kept, until the
//! server lets the device in there, or the configuration that names the place is given up.

use std::sync::Arc;
use std::time::Duration;

use fleet_core::Chain;
use fleet_core::untrusted::Untrusted;
use fleet_core::wire::Standing;
use futures_util::future::BoxFuture;
use tokio::sync::watch;
use tokio::time::sleep;

use super::FactsSource;
use super::dial::{self, Opened};
use crate::probation::Probation;
use crate::probation::places::{Places, Tried};
use crate::state::Device;
use crate::state::membership::Target;
use crate::telemetry::Telemetry;

/// Between tries to reach the place, also after one that led to a link.
const AGAIN: Duration = Duration::from_secs(2);

/// Looks for a place that is tried.
pub(super) struct Scout {
    ground: Arc<Ground>,
    places: watch::Receiver<Places>,
    /// The search that is under way.
    search: Option<BoxFuture<'static, Found>>,
    found: Option<Found>,
    /// The place that the last link led to.
    reached: Option<Tried>,
}

/// What it takes to dial.
pub(super) struct Ground {
    pub(super) device: Arc<Device>,
    pub(super) telemetry: Arc<Telemetry>,
    pub(super) facts: FactsSource,
    pub(super) probation: Arc<Probation>,
}

/// A link to a place that is tried, on which the device was let in.
struct Found {
    tried: Tried,
    opened: Opened,
}

impl Scout {
    pub(super) fn new(ground: Ground) -> Self {
        let places = ground.probation.places();
        Self { ground: Arc::new(ground), places, search: None, found: None, reached: None }
    }

    /// Waits until there is a link. A search that was begun goes on with the next wait.
    pub(super) async fn come(&mut self) {
        while self.found.is_none() {
            let (ground, places, reached) = (&self.ground, &self.places, &self.reached);
            let search = self.search.get_or_insert_with(|| {
                Box::pin(search(ground.clone(), places.clone(), reached.clone()))
            });
            let found = search.await;
            self.search = None;
            self.reached = Some(found.tried.clone());
            self.found = Some(found);
        }
    }

    /// The link, if there is one and its place is still sought.
    pub(super) fn take(&mut self) -> Option<Opened> {
        let found = self.found.take()?;
        let is_sought = self.places.borrow().sought() == Some(&found.tried);
        is_sought.then_some(found.opened)
    }
}

/// A place that was reached, and is sought once more, let the device go: it is not dialled at once.
async fn search(
    ground: Arc<Ground>,
    mut places: watch::Receiver<Places>,
    mut reached: Option<Tried>,
) -> Found {
    loop {
        let sought = places.wait_for(|places| places.sought().is_some()).await;
        let sought = sought.ok().and_then(|places| places.sought().cloned());
        let Some(tried) = sought else {
            // The agent stops.
            return std::future::pending().await;
        };
        let lets_go = reached.take().is_some_and(|reached| reached == tried);
        let attempt = async {
            if lets_go {
                sleep(AGAIN).await;
            }
            match reach(&ground, &tried).await {
                Ok(opened) => Some(opened),
                Err(why) => {
                    tracing::debug!(place = %tried, why, "the new place is not reached");
                    ground.probation.not_reached(why);
                    sleep(AGAIN).await;
                    None
                }
            }
        };
        tokio::select! {
            opened = attempt => if let Some(opened) = opened {
                return Found { tried, opened };
            },
            _ = places.wait_for(|places| places.sought() != Some(&tried)) => {}
        }
    }
}

/// Dials the place once. The server there is the device's own, or it is none.
async fn reach(ground: &Ground, tried: &Tried) -> Result<Opened, String> {
    let device = &ground.device;
    let target = device.membership.target().ok_or("the device has no server any more")?;
    let urls = tried.urls(|| device.membership.own_urls());
    let target = Target { urls, ..Target::clone(&target) };
    let facts = ground.facts.read(ground.telemetry.interval());
    let opened = Box::pin(dial::dial(&target, device, &facts)).await;
    let opened = opened.map_err(|error| Chain(&error).to_string())?;
    let reason = match &opened.standing {
        Standing::Active { .. } => return Ok(opened),
        Standing::Pending { reason }
        | Standing::Rejected { reason }
        | Standing::Revoked { reason } => Untrusted::from(reason.as_str()),
    };
    opened.socket.close("the agent stays where it is").await;
    Err(format!("it does not let the device in: {reason}"))
}
