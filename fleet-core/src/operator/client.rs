//! The server's client: one typed call for each route.
//!
//! Every request goes over a fresh TLS connection to the server that the key names (`proof`), also
//! for `http://` URLs, so a key is never shown to another server. Nothing is retried in secret:
//! what failed is the caller's to know.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::{Request, StatusCode, header};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::error::refused;
use crate::api::{
    DbView, DeletedDevice, Device, DeviceDeleted, DeviceUpdate, DiscoverReply, DiscoverRequest,
    Discovered, Done, EventView, GrantCreated, GrantRequest, GrantView, Health, Identity,
    MetricPoint, Route, SeriesReply, TelemetryPost, Verdict,
};
use crate::field::SortKey;
use crate::id::Uid;
use crate::identity::ServerIdentity;
use crate::limits::PAGE_ROWS_MAX;
use crate::net::authorities::Authorities;
use crate::net::http::{self, Answer};
use crate::net::url::ServerUrl;
use crate::secret::ApiKey;
use crate::time::Timestamp;
use crate::untrusted::Untrusted;

pub use super::error::ClientError;

/// Bytes of an answer: ten thousand devices with all their facts fit.
const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;

/// The header that says why something is changed.
const REASON: &str = "fleetd-reason";

/// One server, and the key to it.
#[derive(Clone, Debug)]
pub struct Client {
    url: ServerUrl,
    key: ApiKey,
    server: ServerIdentity,
    is_read_only: bool,
    reason: Option<String>,
    authorities: Authorities,
}

/// Which points to ask for.
#[derive(Clone, Debug, Default)]
pub struct MetricQuery {
    /// The device, by id or uid.
    pub device_id: String,
    /// The metric.
    pub metric: String,
    /// Points at most; the server's default if absent.
    pub limit: Option<usize>,
    /// Not before.
    pub from: Option<Timestamp>,
    /// Not after.
    pub to: Option<Timestamp>,
}

/// Which curves to ask for.
#[derive(Clone, Debug, Default)]
pub struct SeriesQuery {
    /// The device, by id or uid.
    pub device_id: String,
    /// The metrics.
    pub metrics: Vec<String>,
    /// Not before; five minutes before the end if absent.
    pub from: Option<Timestamp>,
    /// Not after; now if absent.
    pub to: Option<Timestamp>,
    /// The time of one step; the server's choice if absent.
    pub step: Option<Duration>,
}

/// Which events to ask for.
#[derive(Clone, Debug, Default)]
pub struct EventQuery {
    /// About one device, by id or uid.
    pub device_id: Option<String>,
    /// Kinds, separated by commas: each a kind's word, or its first part for all that share it.
    pub kind: Option<String>,
    /// Not before.
    pub since: Option<Timestamp>,
    /// Not after.
    pub until: Option<Timestamp>,
    /// With a number below this one, as the last event of the page before has it.
    pub before: Option<u64>,
    /// Events at most; the server's default if absent.
    pub limit: Option<usize>,
}

impl Client {
    /// A client for the server at `url`. The key must say which server it is for.
    pub fn new(url: ServerUrl, key: ApiKey) -> Result<Self, ClientError> {
        let server = key.server().ok_or(ClientError::KeyWithoutServer)?;
        let authorities = Authorities::default();
        Ok(Self { url, key, server, is_read_only: false, reason: None, authorities })
    }

    /// The same client, which changes nothing: what would is refused before anything is sent.
    #[must_use]
    pub fn read_only(self) -> Self {
        Self { is_read_only: true, ..self }
    }

    /// The same client, which says why it changes something, if there is a reason.
    #[must_use]
    pub fn because(self, reason: Option<String>) -> Self {
        Self { reason, ..self }
    }

    /// Why it changes something.
    pub fn reason(&self) -> Option<&str> {
        self.reason.as_deref()
    }

    /// The same client, which takes the word of others than the system's authorities for the name of
    /// a proxy in front of the server.
    #[must_use]
    pub fn trusting(self, authorities: Authorities) -> Self {
        Self { authorities, ..self }
    }

    /// Whose word it takes for the name of a proxy.
    pub(super) fn authorities(&self) -> &Authorities {
        &self.authorities
    }

    /// Refuses if this client changes nothing, for those who would rather know before they begin.
    pub fn may_change(&self) -> Result<(), ClientError> {
        if self.is_read_only { Err(ClientError::ReadOnly) } else { Ok(()) }
    }

    /// Where the server is.
    pub fn url(&self) -> &ServerUrl {
        &self.url
    }

    /// The server that the key is for, and no other is spoken to.
    pub fn server(&self) -> ServerIdentity {
        self.server
    }

    /// Asks whether the server takes the key for provisioning, without changing anything.
    pub async fn check_key(&self) -> Result<(), ClientError> {
        match self.grant_get(Uid::new()).await {
            Err(ClientError::Refused { status: StatusCode::NOT_FOUND, .. }) | Ok(_) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Whether the server lives.
    pub async fn health(&self) -> Result<Health, ClientError> {
        self.call(Route::Health, Ask::default()).await
    }

    /// Whether it is ready to serve.
    pub async fn health_ready(&self) -> Result<Health, ClientError> {
        self.call(Route::HealthReady, Ask::default()).await
    }

    /// Who the server is.
    pub async fn identity(&self) -> Result<Identity, ClientError> {
        self.call(Route::Identity, Ask::default()).await
    }

    /// The server's own description of its routes.
    pub async fn open_api(&self) -> Result<Value, ClientError> {
        self.call(Route::OpenApi, Ask::default()).await
    }

    /// The devices: all of them, or the first `limit`.
    pub async fn device_list(&self, limit: Option<usize>) -> Result<Vec<Device>, ClientError> {
        let mut ask = Ask::default();
        // A page is the least that serves; beyond it the whole list comes in one answer anyway.
        if let Some(limit) = limit.filter(|limit| *limit <= PAGE_ROWS_MAX) {
            ask.query("limit", &limit.to_string());
        }
        let mut devices: Vec<Device> = self.call(Route::DeviceList, ask).await?;
        devices.truncate(limit.unwrap_or(usize::MAX));
        Ok(devices)
    }

    /// The devices that a filter finds, in the order of a key; by id without one.
    pub async fn device_select(
        &self,
        filter: &str,
        sort: Option<SortKey>,
    ) -> Result<Vec<Device>, ClientError> {
        let mut ask = Ask::default();
        ask.query("filter", filter);
        if let Some(sort) = sort {
            ask.query("sort", &sort.to_string());
        }
        self.call(Route::DeviceList, ask).await
    }

    /// One device, by id or uid.
    pub async fn device_get(&self, id: &str) -> Result<Device, ClientError> {
        self.call(Route::DeviceGet(id.to_owned()), Ask::default()).await
    }

    /// Changes a device's name or metadata.
    pub async fn device_update(
        &self,
        id: &str,
        update: &DeviceUpdate,
    ) -> Result<Done, ClientError> {
        self.call(Route::DevicePut(id.to_owned()), Ask::body(update)?).await
    }

    /// Takes a device out of the fleet.
    pub async fn device_delete(&self, id: &str) -> Result<DeviceDeleted, ClientError> {
        self.call(Route::DeviceDelete(id.to_owned()), Ask::default()).await
    }

    /// The deleted devices that can be had back.
    pub async fn deleted_list(&self) -> Result<Vec<DeletedDevice>, ClientError> {
        self.call(Route::DeletedList, Ask::default()).await
    }

    /// Has a deleted device back.
    pub async fn device_restore(&self, id: &str) -> Result<Device, ClientError> {
        self.call(Route::DeviceRestore(id.to_owned()), Ask::default()).await
    }

    /// Lets a pending device in.
    pub async fn device_accept(&self, id: &str, verdict: &Verdict) -> Result<Done, ClientError> {
        self.call(Route::DeviceAccept(id.to_owned()), Ask::body(verdict)?).await
    }

    /// Turns a pending device away.
    pub async fn device_reject(&self, id: &str, verdict: &Verdict) -> Result<Done, ClientError> {
        self.call(Route::DeviceReject(id.to_owned()), Ask::body(verdict)?).await
    }

    /// Refuses a device for good.
    pub async fn device_revoke(&self, id: &str, verdict: &Verdict) -> Result<Done, ClientError> {
        self.call(Route::DeviceRevoke(id.to_owned()), Ask::body(verdict)?).await
    }

    /// Stores samples.
    pub async fn telemetry_post(&self, samples: &[TelemetryPost]) -> Result<Done, ClientError> {
        self.call(Route::TelemetryPost, Ask::body(samples)?).await
    }

    /// Stored points, newest first.
    pub async fn telemetry_query(
        &self,
        query: &MetricQuery,
    ) -> Result<Vec<MetricPoint>, ClientError> {
        let mut ask = Ask::default();
        ask.query("device_id", &query.device_id);
        ask.query("metric", &query.metric);
        ask.query_some("limit", query.limit);
        ask.query_some("from", query.from);
        ask.query_some("to", query.to);
        self.call(Route::TelemetryMetrics, ask).await
    }

    /// Curves of a device's metrics.
    pub async fn series(&self, query: &SeriesQuery) -> Result<SeriesReply, ClientError> {
        let mut ask = Ask::default();
        ask.query("device_id", &query.device_id);
        ask.query("metrics", &query.metrics.join(","));
        ask.query_some("from", query.from);
        ask.query_some("to", query.to);
        ask.query_some("step", query.step.map(|step| format!("{}ms", step.as_millis())));
        self.call(Route::TelemetrySeries, ask).await
    }

    /// What happened, newest first.
    pub async fn event_list(&self, query: &EventQuery) -> Result<Vec<EventView>, ClientError> {
        let mut ask = Ask::default();
        ask.query_some("device_id", query.device_id.as_ref());
        ask.query_some("kind", query.kind.as_ref());
        ask.query_some("since", query.since);
        ask.query_some("until", query.until);
        ask.query_some("before", query.before);
        ask.query_some("limit", query.limit);
        self.call(Route::EventList, ask).await
    }

    /// How much the server keeps.
    pub async fn db(&self) -> Result<DbView, ClientError> {
        self.call(Route::DbGet, Ask::default()).await
    }

    /// The devices that the server sees on its own networks.
    pub async fn discover_list(&self) -> Result<Vec<Discovered>, ClientError> {
        self.call(Route::DiscoverGet, Ask::default()).await
    }

    /// Has the server itself claim a device it sees.
    pub async fn discover_configure(
        &self,
        request: &DiscoverRequest,
    ) -> Result<DiscoverReply, ClientError> {
        self.call(Route::DiscoverPost, Ask::body(request)?).await
    }

    /// The server's signed word that one device key may join.
    pub async fn grant_create(&self, request: &GrantRequest) -> Result<GrantCreated, ClientError> {
        self.call(Route::GrantCreate, Ask::body(request)?).await
    }

    /// How far a grant has come.
    pub async fn grant_get(&self, uid: Uid) -> Result<GrantView, ClientError> {
        self.call(Route::GrantGet(uid), Ask::default()).await
    }

    pub(super) async fn call<T: DeserializeOwned>(
        &self,
        route: Route,
        ask: Ask,
    ) -> Result<T, ClientError> {
        let answer = self.exchange(&route, ask).await?;
        serde_json::from_slice(&answer.body)
            .map_err(|source| ClientError::Answer { route: Box::new(route), source })
    }

    /// An answer that is a yes.
    pub(super) async fn exchange(&self, route: &Route, ask: Ask) -> Result<Answer, ClientError> {
        let patience = ask.patience.unwrap_or(http::REQUEST);
        let request = self.request(route, ask)?;
        let answer = self.send(request, patience).await?;
        if answer.status.is_success() { Ok(answer) } else { Err(self.no(&answer)) }
    }

    /// What an answer that is no success means.
    pub(super) fn no(&self, answer: &Answer) -> ClientError {
        if answer.status == StatusCode::UNAUTHORIZED {
            let id = Untrusted::from(self.key.id());
            return ClientError::Key { id, url: self.url.clone() };
        }
        refused(answer)
    }

    pub(super) fn request(
        &self,
        route: &Route,
        ask: Ask,
    ) -> Result<Request<Full<Bytes>>, ClientError> {
        let spec = route.spec();
        if route.changes_something() {
            self.may_change()?;
        }
        let path = route.path();
        // A name with a slash in it would be a request for something else.
        if Route::parse(spec.method, &path).as_ref() != Ok(route) {
            return Err(ClientError::Name);
        }
        let bearer = zeroize::Zeroizing::new(format!("Bearer {}", self.key.reveal().as_str()));
        let mut builder = Request::builder()
            .method(spec.method)
            .uri(path + &ask.query)
            .header(header::AUTHORIZATION, bearer.as_str())
            .header(header::ACCEPT, "application/json");
        if let Some(version) = ask.if_match {
            builder = builder.header(header::IF_MATCH, format!("\"{version}\""));
        }
        if let Some(reason) = &self.reason {
            builder = builder.header(REASON, reason.as_bytes());
        }
        if ask.body.is_some() {
            builder = builder.header(header::CONTENT_TYPE, "application/json");
        }
        builder.body(Full::from(ask.body.unwrap_or_default())).map_err(|_| ClientError::Name)
    }

    async fn send(
        &self,
        request: Request<Full<Bytes>>,
        patience: Duration,
    ) -> Result<Answer, ClientError> {
        let mut exchange = self.connect().await?;
        let answer = exchange.ask(request, ANSWER_BYTES_MAX, patience).await;
        answer.map_err(|source| self.unanswered(source))
    }
}

/// What goes along with a request.
#[derive(Default)]
pub(super) struct Ask {
    query: String,
    body: Option<Vec<u8>>,
    pub(super) if_match: Option<u64>,
    patience: Option<Duration>,
}

impl Ask {
    pub(super) fn body<T: Serialize + ?Sized>(body: &T) -> Result<Self, ClientError> {
        let body = serde_json::to_vec(body).map_err(ClientError::Encode)?;
        Ok(Self { body: Some(body), ..Self::default() })
    }

    /// The same, whose answer may take so long.
    pub(super) fn patient(self, patience: Duration) -> Self {
        Self { patience: Some(patience), ..self }
    }

    pub(super) fn query(&mut self, name: &str, value: &str) {
        self.query.push(if self.query.is_empty() { '?' } else { '&' });
        self.query.push_str(name);
        self.query.push('=');
        push_encoded(&mut self.query, value);
    }

    pub(super) fn query_some(&mut self, name: &str, value: Option<impl ToString>) {
        if let Some(value) = value {
            self.query(name, &value.to_string());
        }
    }
}

fn push_encoded(out: &mut String, value: &str) {
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            const HEX: &[u8; 16] = b"0123456789ABCDEF";
            out.push('%');
            out.push(char::from(HEX[usize::from(byte >> 4)]));
            out.push(char::from(HEX[usize::from(byte & 15)]));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::ConfigUpdate;
    use crate::identity::PrivateKey;
    use crate::operator::exit::Exit;
    use crate::operator::pretend::Pretend;
    use crate::secret::KeyKind;

    fn server_key() -> PrivateKey {
        PrivateKey::from_seed(&[7; 32])
    }

    fn client(pretend: &Pretend) -> Client {
        let key = ApiKey::generate(KeyKind::Operator, server_key().public().identity()).unwrap();
        Client::new(pretend.url(), key).unwrap()
    }

    fn problem(status: u16, detail: &str) -> String {
        format!(
            r#"{{"type":"about:blank","title":"x","status":{status},"detail":"{detail}","request_id":"r1","current_version":4}}"#
        )
    }

    #[tokio::test]
    async fn calls_carry_the_key_the_query_and_the_expected_version() {
        let pretend = Pretend::start(&server_key(), |asked| match asked.line.as_str() {
            line if line.starts_with("GET") => (200, "[]".to_owned()),
            _ => (409, problem(409, "somebody was faster")),
        })
        .await;
        let client = client(&pretend);
        let query = MetricQuery {
            device_id: "rpi4-001".to_owned(),
            metric: "a b&c=ü".to_owned(),
            limit: Some(5),
            ..MetricQuery::default()
        };
        assert!(client.telemetry_query(&query).await.unwrap().is_empty());
        let sort = "-cpu".parse().ok();
        assert!(client.device_select("cpu>90 or tag:é", sort).await.unwrap().is_empty());
        let error = client.config_set("a", &ConfigUpdate::default(), Some(3)).await.unwrap_err();
        assert_eq!(error.exit(), Exit::Conflict);
        assert!(matches!(error, ClientError::Refused { current_version: Some(4), .. }));
        assert_eq!(error.request_id().map(Untrusted::raw), Some("r1"));

        let asked = pretend.asked();
        assert_eq!(
            asked[0].line,
            "GET /api/v1/telemetry/metrics?device_id=rpi4-001&metric=a%20b%26c%3D%C3%BC&limit=5"
        );
        assert_eq!(
            asked[1].line,
            "GET /api/v1/devices?filter=cpu%3E90%20or%20tag%3A%C3%A9&sort=-cpu"
        );
        assert_eq!(asked[2].line, "POST /api/v1/config?device_id=a");
        assert_eq!(asked[2].headers["if-match"], "\"3\"");
        let bearer = asked[2].headers["authorization"].to_str().unwrap();
        assert_eq!(bearer, format!("Bearer {}", client.key.reveal().as_str()));
    }

    #[tokio::test]
    async fn another_server_is_named_and_not_shown_the_key() {
        let other = PrivateKey::from_seed(&[8; 32]);
        let pretend = Pretend::start(&other, |_| (200, "[]".to_owned())).await;
        let error = client(&pretend).device_list(None).await.unwrap_err();
        assert_eq!(error.exit(), Exit::Unreachable);
        let text = error.to_string();
        assert!(text.contains(&server_key().public().identity().to_string()), "{text}");
        assert!(text.contains(&other.public().identity().to_string()), "{text}");
        assert!(pretend.asked().is_empty());
    }

    #[tokio::test]
    async fn a_client_that_changes_nothing_sends_nothing_that_would() {
        let pretend = Pretend::start(&server_key(), |_| (200, "[]".to_owned())).await;
        let client = client(&pretend).read_only();
        let error = client.device_delete("a").await.unwrap_err();
        assert!(matches!(error, ClientError::ReadOnly), "{error}");
        assert_eq!(error.exit(), Exit::NotAllowed);
        assert!(client.device_list(None).await.is_ok());
        assert_eq!(pretend.asked().len(), 1);
    }

    #[tokio::test]
    async fn each_refusal_has_its_exit_code() {
        for (status, exit) in [
            (401, Exit::NotAllowed),
            (403, Exit::NotAllowed),
            (404, Exit::NothingFound),
            (409, Exit::Conflict),
            (422, Exit::Usage),
            (429, Exit::Failed),
            (500, Exit::Failed),
        ] {
            let pretend =
                Pretend::start(&server_key(), move |_| (status, problem(status, "no"))).await;
            let error = client(&pretend).key_list().await.unwrap_err();
            assert_eq!(error.exit(), exit, "{status}");
        }
        let pretend =
            Pretend::start(&server_key(), |_| (502, "<html>bad gateway".to_owned())).await;
        let error = client(&pretend).key_list().await.unwrap_err();
        assert_eq!(error.to_string(), "the server refused: Bad Gateway");
        assert_eq!(error.exit(), Exit::Unreachable);
        let pretend = Pretend::start(&server_key(), |_| (200, "<html>".to_owned())).await;
        let error = client(&pretend).key_list().await.unwrap_err();
        assert!(matches!(error, ClientError::Answer { .. }));
    }

    #[tokio::test]
    async fn an_unknown_grant_shows_that_the_key_is_good() {
        let pretend = Pretend::start(&server_key(), |_| (404, problem(404, "no grant"))).await;
        assert!(client(&pretend).check_key().await.is_ok());
        let pretend = Pretend::start(&server_key(), |_| (401, problem(401, "revoked"))).await;
        let client = client(&pretend);
        let error = client.check_key().await.unwrap_err();
        assert_eq!(error.exit(), Exit::NotAllowed);
        let (id, url) = (client.key.id(), client.url());
        let told = format!("the key {id} is not, or no longer, good at the server {url}");
        assert_eq!(error.to_string(), told);
    }

    #[tokio::test]
    async fn t26_names_that_would_be_other_paths_are_not_sent() {
        let pretend = Pretend::start(&server_key(), |_| (200, "{}".to_owned())).await;
        for name in ["", "a/b", "../keys", "a?b", "a b", "a%2fb", "\u{1b}"] {
            let error = client(&pretend).device_get(name).await.unwrap_err();
            assert!(matches!(error, ClientError::Name), "{name:?}");
        }
        assert!(pretend.asked().is_empty());
    }

    #[test]
    fn a_key_that_names_no_server_is_refused() {
        let key = ApiKey::generate(KeyKind::Operator, server_key().public().identity()).unwrap();
        let bare: ApiKey = key.reveal().split('@').next().unwrap().parse().unwrap();
        let url: ServerUrl = "http://localhost:8080".parse().unwrap();
        assert!(matches!(Client::new(url, bare), Err(ClientError::KeyWithoutServer)));
    }
}
