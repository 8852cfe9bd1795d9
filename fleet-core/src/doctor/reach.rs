//! The way to a server, step by step: its name, its port, who it is, its clock, whether it is well.

use std::net::{IpAddr, SocketAddr};

use bytes::Bytes;
use http_body_util::Full;
use hyper::{Request, header};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::{Check, STEP};
use crate::Chain;
use crate::api::{Health, Identity, Route};
use crate::net::authorities::Authorities;
use crate::net::http::{self, Answer, Exchange, HttpError};
use crate::net::tls::{Pin, Voucher};
use crate::net::url::ServerUrl;
use crate::time::{Clock as _, SystemClock, Timestamp};

/// Those without which a server is not reached.
pub const STEPS: [&str; 3] = [ADDRESS, PORT, IDENTITY];
const ADDRESS: &str = "address";
const PORT: &str = "port";
/// The step that tells whether it is the server.
pub const IDENTITY: &str = "identity";
const CLOCK: &str = "clock";
/// The step that tells whether it is well.
pub const HEALTH: &str = "health";
const RELEASE: &str = "release";
/// Bytes of an answer.
const ANSWER_BYTES_MAX: usize = 64 * 1024;
/// Clocks that differ by more than this are told, and by more than that are wrong: grants, keys that
/// expire and what is too old to keep go by them. A server's time comes in whole seconds.
const CLOCK_TOLD_SECS: u64 = 5;
const CLOCK_WRONG_SECS: u64 = 60;

/// A server, as whoever looks for it knows it.
#[derive(Clone, Debug)]
pub struct Wanted<'a> {
    /// Where it is said to be.
    pub url: &'a ServerUrl,
    /// Who it must be.
    pub pin: Pin,
    /// Whose word counts for a proxy's name.
    pub authorities: Authorities,
    /// What to do where another one answers.
    pub other_fix: String,
}

/// Goes all the way, or as far as it leads.
pub async fn steps(wanted: &Wanted<'_>) -> Vec<Check> {
    tracing::debug!(url = %wanted.url, pin = ?wanted.pin, "going to the server");
    let mut checks = Vec::new();
    let skip = |checks: &mut Vec<Check>, names: &[&'static str], why: &str| {
        checks.extend(names.iter().map(|name| Check::skipped(name, why)));
    };
    let (check, addresses) = address(wanted.url).await;
    checks.push(check);
    if addresses.is_empty() {
        skip(&mut checks, &[PORT, IDENTITY, CLOCK, HEALTH, RELEASE], "there is no address");
        return checks;
    }
    let check = port(wanted.url, &addresses).await;
    let is_open = !check.has_failed();
    checks.push(check);
    if !is_open {
        skip(&mut checks, &[IDENTITY, CLOCK, HEALTH, RELEASE], "nobody answers");
        return checks;
    }
    match identity(wanted).await {
        Ok((check, mut exchange)) => {
            checks.push(check);
            checks.extend(word(wanted.url, &mut exchange).await);
        }
        Err(check) => {
            checks.push(check);
            skip(&mut checks, &[CLOCK, HEALTH, RELEASE], "it is not the server");
        }
    }
    checks
}

/// Looks the name up.
async fn address(url: &ServerUrl) -> (Check, Vec<SocketAddr>) {
    let (host, port) = (url.host(), url.port());
    let looked = timeout(STEP, tokio::net::lookup_host((host, port))).await;
    let failed = |why: String| {
        let fix = format!("getent ahosts {host}; put the name into DNS or /etc/hosts");
        (Check::failed(ADDRESS, why).fix(fix), Vec::new())
    };
    match looked {
        Err(_) => failed(format!("{host} was not found within {} s", STEP.as_secs())),
        Ok(Err(error)) => failed(format!("{host} has no address: {error}")),
        Ok(Ok(addresses)) => {
            let addresses: Vec<SocketAddr> = addresses.collect();
            if addresses.is_empty() {
                return failed(format!("{host} has no address"));
            }
            let shown: Vec<String> =
                addresses.iter().map(|address| address.ip().to_string()).collect();
            let is_literal = url.host_name().parse::<IpAddr>().is_ok();
            let text = if is_literal {
                host.to_owned()
            } else {
                format!("{host} is {}", shown.join(", "))
            };
            (Check::ok(ADDRESS, text), addresses)
        }
    }
}

/// Knocks at the port.
async fn port(url: &ServerUrl, addresses: &[SocketAddr]) -> Check {
    let mut last = "no address".to_owned();
    let each = STEP / u32::try_from(addresses.len()).unwrap_or(u32::MAX).max(1);
    for address in addresses {
        match timeout(each, TcpStream::connect(address)).await {
            Ok(Ok(_)) => return Check::ok(PORT, format!("{address} answers")),
            Ok(Err(error)) => last = format!("{address}: {error}"),
            Err(_) => last = format!("{address}: no answer; a firewall may be in the way"),
        }
    }
    let (port, is_here) = (url.port(), addresses.iter().any(|address| address.ip().is_loopback()));
    let fix = if is_here {
        format!("sudo systemctl start fleet-server, or: fleets server --port {port}")
    } else {
        format!("on the server: sudo systemctl start fleet-server; sudo ufw allow {port}/tcp")
    };
    Check::failed(PORT, format!("nobody answers at {last}")).fix(fix)
}

/// Asks who is there.
async fn identity(wanted: &Wanted<'_>) -> Result<(Check, Exchange), Check> {
    let url = wanted.url;
    let other = |text: String| Check::failed(IDENTITY, text).fix(wanted.other_fix.clone());
    let connected = timeout(STEP, http::connect(url, wanted.pin, &wanted.authorities)).await;
    let reached = match connected {
        Ok(Ok(reached)) => reached,
        Ok(Err(HttpError::WrongKey { shown, .. })) => {
            return Err(other(format!("another server answers at {url}: {shown}")));
        }
        Ok(Err(error)) => return Err(other(Chain(&error).to_string())),
        Err(_) => return Err(other(format!("{url} did not show who it is in time"))),
    };
    let says = match (&reached.voucher, wanted.pin) {
        (Voucher::Key(key), Pin::Unknown) => {
            let text = format!("{} answers; nothing here says whether it should", key.identity());
            Check::warning(IDENTITY, text)
        }
        (Voucher::Key(key), _) => Check::ok(IDENTITY, format!("it is {}", key.identity())),
        (Voucher::Name, _) => Check::ok(
            IDENTITY,
            format!("a proxy answers whose certificate for {} is good", url.host_name()),
        ),
    };
    let exchange = Exchange::over(reached.stream, &url.authority()).await;
    exchange.map(|exchange| (says, exchange)).map_err(|error| other(Chain(&error).to_string()))
}

/// Asks how it is, what time it is, and which release.
async fn word(url: &ServerUrl, exchange: &mut Exchange) -> Vec<Check> {
    let asked_at = SystemClock.now();
    let answer = match ask(exchange, &Route::HealthReady).await {
        Ok(answer) => answer,
        Err(error) => {
            let text = format!("{url} does not say: {}", Chain(&error));
            return vec![
                Check::skipped(CLOCK, "it does not say"),
                Check::failed(HEALTH, text).fix("on the server: journalctl -u fleet-server -n 50"),
                Check::skipped(RELEASE, "it does not say"),
            ];
        }
    };
    let time = answer.headers.get(header::DATE).and_then(|date| date.to_str().ok());
    let clock = clock(time.and_then(Timestamp::from_http), asked_at);
    let health = health(&answer);
    let release = match ask(exchange, &Route::Identity).await {
        Ok(answer) => release(&answer),
        Err(error) => Check::warning(RELEASE, format!("it does not say: {}", Chain(&error))),
    };
    vec![clock, health, release]
}

async fn ask(exchange: &mut Exchange, route: &Route) -> Result<Answer, HttpError> {
    let request = Request::get(route.path()).body(Full::<Bytes>::default());
    let request = request.expect("a fixed path makes a request");
    exchange.ask(request, ANSWER_BYTES_MAX, STEP).await
}

fn clock(theirs: Option<Timestamp>, ours: Timestamp) -> Check {
    let Some(theirs) = theirs else { return Check::skipped(CLOCK, "it does not say the time") };
    let (ahead, behind) = (ours.since(theirs).as_secs(), theirs.since(ours).as_secs());
    let text = match (ahead, behind) {
        (0, 0) => "both clocks agree".to_owned(),
        (ahead, 0) => format!("this machine's clock is {ahead} s ahead of the server's"),
        (_, behind) => format!("this machine's clock is {behind} s behind the server's"),
    };
    match ahead.max(behind) {
        off if off > CLOCK_WRONG_SECS => Check::failed(CLOCK, text)
            .fix("sudo timedatectl set-ntp true, on the machine that is wrong"),
        off if off > CLOCK_TOLD_SECS => {
            Check::warning(CLOCK, text).fix("timedatectl timesync-status")
        }
        _ => Check::ok(CLOCK, text),
    }
}

fn health(answer: &Answer) -> Check {
    let fix = "on the server: df -h, fleets db stats, journalctl -u fleet-server -n 50";
    match serde_json::from_slice::<Health>(&answer.body) {
        Ok(health) if answer.status.is_success() => Check::ok(HEALTH, health.status),
        Ok(Health { status, reason }) => {
            let reason = reason.map(|reason| format!(": {reason}")).unwrap_or_default();
            Check::failed(HEALTH, format!("{status}{reason}")).fix(fix)
        }
        Err(_) => Check::failed(HEALTH, format!("it answered {}", answer.status)).fix(fix),
    }
}

fn release(answer: &Answer) -> Check {
    let ours = crate::VERSION;
    match serde_json::from_slice::<Identity>(&answer.body) {
        Ok(identity) if identity.version == ours => Check::ok(RELEASE, format!("{ours}, as here")),
        Ok(identity) => Check::warning(RELEASE, format!("{} there, {ours} here", identity.version)),
        Err(_) => Check::warning(RELEASE, format!("it answered {}", answer.status)),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Outcome;
    use super::*;

    #[test]
    fn clocks_may_differ_a_little() {
        let now = Timestamp::from_http("Mon, 15 Jan 2024 10:30:00 GMT").unwrap();
        assert_eq!(now, Timestamp::from_millis(1_705_314_600_000));
        for (millis, outcome, words) in [
            (900, Outcome::Ok, "agree"),
            (-4_000, Outcome::Ok, "4 s behind"),
            (30_000, Outcome::Warning, "30 s ahead"),
            (-90_000, Outcome::Failed, "90 s behind"),
        ] {
            let ours = Timestamp::from_millis(now.millis() + millis);
            let check = clock(Some(now), ours);
            assert_eq!(check.outcome, outcome, "{check:?}");
            assert!(check.detail.contains(words), "{check:?}");
            assert_eq!(check.fix.is_some(), outcome != Outcome::Ok);
        }
        assert_eq!(clock(None, now).outcome, Outcome::NotApplicable);
        assert_eq!(Timestamp::from_http("yesterday"), None);
    }

    #[tokio::test]
    async fn a_port_that_nobody_listens_at_and_a_name_that_nobody_has() {
        let free = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = free.local_addr().unwrap().port();
        drop(free);
        for (host, failed) in [("127.0.0.1", PORT), ("nobody.invalid", ADDRESS)] {
            let url: ServerUrl = format!("http://{host}:{port}").parse().unwrap();
            let checks = steps(&Wanted {
                url: &url,
                pin: Pin::Unknown,
                authorities: Authorities::default(),
                other_fix: String::new(),
            })
            .await;
            let broken: Vec<_> = checks.iter().filter(|check| check.has_failed()).collect();
            assert_eq!(broken.len(), 1, "{checks:?}");
            assert_eq!(broken[0].check, failed);
            assert!(broken[0].fix.is_some());
            assert_eq!(checks.len(), 6);
        }
    }
}
