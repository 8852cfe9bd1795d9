//! Who calls, and whether they may: every route's class is in the route table, and a route
//! without a class cannot be written down.

use std::time::Instant;

use fleet_core::api::AuthClass;
use fleet_core::secret::ApiKey;
use hyper::StatusCode;
use hyper::header::{self, HeaderMap, HeaderValue};

use super::reply::Failure;
use crate::door::Visit;
use crate::ops::Keys;
use crate::ops::keys::{Denied, Principal};

const HINT: &str =
    "send Authorization: Bearer with a key; the server made one in admin.key beside its database";

/// Who calls a route of a class. Nobody on a public one.
pub(super) async fn authorize(
    class: AuthClass,
    headers: &HeaderMap,
    keys: &Keys,
    visit: &Visit,
) -> Result<Option<Principal>, Failure> {
    if class == AuthClass::Public {
        return Ok(None);
    }
    let Some(text) = bearer(headers)? else {
        return Err(unauthorized(format!("this needs a key: {HINT}")));
    };
    if let Some(wait) = visit.wait_before_key(Instant::now()) {
        let detail = "too many wrong keys came from this address";
        let failure = Failure::new(StatusCode::TOO_MANY_REQUESTS, detail);
        return Err(failure.retry_after(wait.as_secs().max(1)));
    }
    let principal = match authenticate(text, keys).await {
        Ok(principal) => principal,
        Err(Denied::Store(error)) => return Err(error.into()),
        Err(denied) => {
            visit.key_failed(Instant::now());
            return Err(unauthorized(format!("{denied}: {HINT}")));
        }
    };
    visit.welcome();
    check(class, &principal)?;
    Ok(Some(principal))
}

async fn authenticate(text: &str, keys: &Keys) -> Result<Principal, Denied> {
    let key: ApiKey = text.parse().map_err(|_| Denied::Unknown)?;
    keys.authenticate(&key).await
}

fn bearer(headers: &HeaderMap) -> Result<Option<&str>, Failure> {
    let Some(value) = headers.get(header::AUTHORIZATION) else { return Ok(None) };
    value
        .to_str()
        .ok()
        .and_then(|text| text.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .map(|(_, key)| Some(key.trim()))
        .ok_or_else(|| unauthorized(format!("Authorization is not of the kind Bearer: {HINT}")))
}

fn unauthorized(detail: String) -> Failure {
    Failure::new(StatusCode::UNAUTHORIZED, detail)
        .with_header(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"fleetd\""))
}

fn check(class: AuthClass, principal: &Principal) -> Result<(), Failure> {
    let allowed = match (class, principal) {
        (AuthClass::Public | AuthClass::AnyKey, _) | (_, Principal::Operator { .. }) => true,
        (AuthClass::OperatorOrEnrol, Principal::Enrol { .. })
        | (AuthClass::OperatorOrDevice, Principal::Device { .. }) => true,
        (AuthClass::Operator | AuthClass::OperatorOrDevice, Principal::Enrol { .. })
        | (AuthClass::Operator | AuthClass::OperatorOrEnrol, Principal::Device { .. }) => false,
    };
    if allowed {
        return Ok(());
    }
    let detail = match principal {
        Principal::Enrol { .. } => {
            "an enrolment key only lets devices in: this needs an operator key"
        }
        Principal::Device { .. } | Principal::Operator { .. } => {
            "a device key only posts telemetry: this needs an operator key"
        }
    };
    Err(Failure::new(StatusCode::FORBIDDEN, detail))
}
