//! Which server is meant, the way to it, and whether it takes the key.

use fleet_core::Chain;
use fleet_core::api::{DbView, Me};
use fleet_core::cli::choice::{Chosen, ServerChoice};
use fleet_core::cli::failure::Failure;
use fleet_core::doctor::reach::{self, Wanted};
use fleet_core::doctor::{Check, STEP, WAY, bytes, in_time};
use fleet_core::net::tls::Pin;
use fleet_core::operator::client::{Client, ClientError};
use fleet_core::secret::ApiKey;
use tokio::time::timeout;

const CHOSEN: &str = "chosen";
const KEY: &str = "key";
/// For a key that is named, but not there or none.
const KEY_FIX: &str = "name another with --api-key @FILE or FLEETD_API_KEY_FILE, or have an admin \
                       make one: fleets keys create";
const ROLE: &str = "role";
const STORED: &str = "stored";

/// What came of it, and the client for what comes next, if the server takes the key.
pub(super) struct Examined {
    pub(super) checks: Vec<Check>,
    pub(super) client: Option<Client>,
}

/// Looks at the chosen server.
pub(super) async fn examine(choice: &ServerChoice) -> Examined {
    let chosen = match choice.settle() {
        Ok(chosen) => chosen,
        Err(failure) => {
            return Examined { checks: vec![told(CHOSEN, &failure)], client: None };
        }
    };
    let mut checks = vec![said(&chosen)];
    let (check, key) = key(&chosen);
    checks.push(check);
    let wanted = Wanted {
        url: &chosen.server,
        pin: key.as_ref().and_then(ApiKey::server).map_or(Pin::Unknown, Pin::Server),
        authorities: chosen.authorities(),
        other_fix: "fleets context set NAME --server URL --api-key-file FILE, with a key of that \
                    very server"
            .to_owned(),
    };
    let steps = in_time(WAY, reach::IDENTITY, reach::steps(&wanted)).await;
    let is_reached =
        !steps.iter().any(|step| step.has_failed() && reach::STEPS.contains(&step.check));
    checks.extend(steps);
    let Some(key) = key.filter(|_| is_reached) else {
        checks.push(Check::skipped(ROLE, "there is no key, or no server"));
        return Examined { checks, client: None };
    };
    let client = match Client::new(chosen.server.clone(), key) {
        Ok(client) => client.trusting(chosen.authorities()).read_only(),
        Err(error) => {
            checks.push(told(ROLE, &Failure::from(error)));
            return Examined { checks, client: None };
        }
    };
    match timeout(STEP, async { tokio::join!(client.me(), client.db()) }).await {
        Ok((me, db)) => {
            let is_taken = me.is_ok();
            checks.push(role(me));
            checks.push(stored(db));
            Examined { checks, client: is_taken.then_some(client) }
        }
        Err(_) => {
            checks.push(Check::failed(ROLE, "the server does not say in time"));
            Examined { checks, client: None }
        }
    }
}

fn said(chosen: &Chosen) -> Check {
    let context = match &chosen.context {
        Some((context, origin)) => format!(", context {} by {origin}", context.name),
        None => String::new(),
    };
    Check::ok(CHOSEN, format!("{}, {}{context}", chosen.server, chosen.server_origin))
}

fn key(chosen: &Chosen) -> (Check, Option<ApiKey>) {
    match chosen.key() {
        Ok(found) => {
            let text = format!("{} from {}", found.key.id(), found.origin);
            (Check::ok(KEY, text), Some(found.key))
        }
        Err(error) => {
            let failure = Failure::from(error);
            let fix = failure.proposal().unwrap_or(KEY_FIX);
            (Check::failed(KEY, failure.message()).fix(fix), None)
        }
    }
}

fn role(me: Result<Me, ClientError>) -> Check {
    let me = match me {
        Ok(me) => me,
        Err(error) => return told(ROLE, &Failure::from(error)),
    };
    let role = me.role.map_or_else(|| me.kind.to_string(), |role| role.word().to_owned());
    let scope = me.scope.map(|scope| format!(", for devices of {scope}")).unwrap_or_default();
    let ends = me.expires_at.map(|end| format!(", until {end}")).unwrap_or_default();
    Check::ok(ROLE, format!("the key is good: {role}{scope}{ends}"))
}

fn stored(db: Result<DbView, ClientError>) -> Check {
    match db {
        Ok(db) => {
            let telemetry = &db.telemetry;
            let kept: Vec<String> = telemetry
                .tiers
                .iter()
                .filter(|tier| tier.bytes > 0)
                .map(|tier| format!("{} {}", tier.resolution, bytes(tier.bytes)))
                .collect();
            let tiers =
                if kept.is_empty() { String::new() } else { format!(" ({})", kept.join(", ")) };
            let database = db.database.bytes.map(bytes).unwrap_or_default();
            Check::ok(
                STORED,
                format!(
                    "{}{}, database {database}, telemetry {}{tiers}, {} series",
                    db.devices,
                    if db.devices == 1 { " device" } else { " devices" },
                    bytes(telemetry.bytes),
                    telemetry.series
                ),
            )
        }
        Err(error) => Check::skipped(STORED, Chain(&error).to_string()),
    }
}

/// What failed, with what the failure itself proposes.
fn told(name: &'static str, failure: &Failure) -> Check {
    let check = Check::failed(name, failure.message());
    match failure.proposal() {
        Some(hint) => check.fix(hint),
        None => check,
    }
}
