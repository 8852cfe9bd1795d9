//! Discovery over HTTP.

use fleet_core::Chain;
use fleet_core::api::DiscoverRequest;
use hyper::StatusCode;

use super::Http;
use super::reply::{Failure, Reply, json};
use crate::discovery::DiscoveryError;
use crate::ops::grants::Grantor;

/// `GET /discover`.
pub(super) async fn get(http: &Http) -> Result<Reply, Failure> {
    Ok(json(StatusCode::OK, &http.discovery.devices().await?))
}

/// `POST /discover`.
pub(super) async fn post(
    http: &Http,
    grantor: Grantor,
    wish: DiscoverRequest,
) -> Result<Reply, Failure> {
    let outcome = http.discovery.claim(&http.ops, &grantor, wish).await?;
    Ok(json(StatusCode::OK, &outcome))
}

impl From<DiscoveryError> for Failure {
    fn from(error: DiscoveryError) -> Self {
        match error {
            DiscoveryError::Ops(error) => error.into(),
            DiscoveryError::Search(_) => {
                let detail = Chain(&error).to_string();
                tracing::warn!(error = detail, "discovery does not work");
                Self::new(StatusCode::SERVICE_UNAVAILABLE, detail).retry_after(30)
            }
        }
    }
}
