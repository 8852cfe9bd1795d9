//! Discovery over HTTP.

use bytes::Bytes;
use fleet_core::Chain;
use fleet_core::api::{DiscoverRequest, Discovered};
use hyper::StatusCode;

use super::Http;
use super::reply::{Failure, Reply, json, parts_reply};
use crate::discovery::DiscoveryError;
use crate::ops::grants::Grantor;

/// Bytes of a part of the list. It may be of a flood, and small parts take the place of earlier ones.
const PART_BYTES: usize = 32 * 1024;
/// Bytes of a device in the list, so that nearly no part has to grow.
const DEVICE_BYTES: usize = 2 * 1024;

/// `GET /discover`.
pub(super) async fn get(http: &Http) -> Result<Reply, Failure> {
    let seen = http.discovery.devices().await?;
    match written(seen.devices()) {
        Ok(parts) => Ok(parts_reply(StatusCode::OK, parts)),
        Err(error) => {
            tracing::error!(%error, "what was discovered could not be written as JSON");
            let detail = "what was discovered could not be written";
            Err(Failure::new(StatusCode::INTERNAL_SERVER_ERROR, detail))
        }
    }
}

/// A list in JSON, in parts.
fn written<'a>(
    devices: impl Iterator<Item = &'a Discovered>,
) -> Result<Vec<Bytes>, serde_json::Error> {
    let room = || Vec::with_capacity(PART_BYTES + DEVICE_BYTES);
    let (mut parts, mut part) = (Vec::new(), room());
    part.push(b'[');
    for (place, device) in devices.enumerate() {
        if part.len() >= PART_BYTES {
            parts.push(std::mem::replace(&mut part, room()).into());
        }
        if place > 0 {
            part.push(b',');
        }
        serde_json::to_writer(&mut part, device)?;
    }
    part.push(b']');
    parts.push(part.into());
    Ok(parts)
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

#[cfg(test)]
mod tests {
    use super::*;

    fn device(name: &str) -> Discovered {
        Discovered {
            name: name.into(),
            host: "host.local".into(),
            ipv4: Vec::new(),
            ipv6: Vec::new(),
            port: 6789,
            device_id: None,
            version: None,
            state: None,
            claim: None,
            fingerprint: None,
            server: None,
            conflict: false,
        }
    }

    #[test]
    fn parts_of_what_was_discovered_are_one_array() {
        for count in [0, 1, 2, 1000] {
            let devices: Vec<_> = (0..count).map(|n| device(&"x".repeat(n))).collect();
            let parts = written(devices.iter()).unwrap();
            let text = parts.concat();
            let read: Vec<Discovered> = serde_json::from_slice(&text).unwrap();
            let names: Vec<usize> = read.iter().map(|device| device.name.raw().len()).collect();
            assert_eq!(names, (0..count).collect::<Vec<_>>());
            assert!(parts.iter().all(|part| part.len() <= PART_BYTES + DEVICE_BYTES));
            assert_eq!(parts.len() > 1, count == 1000);
        }
    }
}
