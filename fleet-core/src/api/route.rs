//! The routes, as one closed list: each with its method, path and who may call it.
//!
//! The server parses a request into a [`Route`] and matches on it; clients build their URLs from
//! the same values, so that a path is spelled once. A path is matched segment by segment, exactly
//! as it came: an encoded, doubled or trailing slash matches nothing.

use std::fmt;
use std::sync::LazyLock;

use super::role::{Right, Role};
use crate::id::Uid;

/// Who may call a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AuthClass {
    /// Anybody.
    Public,
    /// An operator key, of whatever role.
    Viewer,
    /// An operator key of the role operator or admin.
    Operator,
    /// An operator key of the role admin.
    Admin,
    /// An operator key of at least this role that has this right.
    With(Role, Right),
    /// An operator key of the role operator or admin, or an enrolment key.
    OperatorOrEnrol,
    /// An operator key of the role operator or admin, or a device key for its own device.
    OperatorOrDevice,
    /// Any valid key.
    AnyKey,
    /// A browser. The page itself asks who it is, and answers strangers in its own way.
    Page,
}

impl AuthClass {
    /// The least role of an operator key that may call it; none if nobody is asked for one.
    pub fn role(self) -> Option<Role> {
        match self {
            Self::Public | Self::AnyKey | Self::Page => None,
            Self::Viewer => Some(Role::Viewer),
            Self::Operator | Self::OperatorOrEnrol | Self::OperatorOrDevice => Some(Role::Operator),
            Self::Admin => Some(Role::Admin),
            Self::With(role, _) => Some(role),
        }
    }

    /// The right that an operator key needs besides.
    pub fn right(self) -> Option<Right> {
        match self {
            Self::With(_, right) => Some(right),
            _ => None,
        }
    }
}

/// One line of the list.
#[derive(Clone, Copy, Debug)]
pub struct RouteSpec {
    /// The method.
    pub method: &'static str,
    /// The path; `{}` stands for one segment.
    pub path: &'static str,
    /// Who may call it.
    pub auth: AuthClass,
}

/// A request's destination.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "each is its line in the list below")]
pub enum Route {
    Health,
    HealthReady,
    Identity,
    OpenApi,
    Link,
    Install(String),
    DeviceList,
    DeviceGet(String),
    DevicePut(String),
    DeviceDelete(String),
    DeviceAccept(String),
    DeviceReject(String),
    DeviceRevoke(String),
    DeviceRestore(String),
    DeletedList,
    DeviceLogs(String),
    TelemetryPost,
    TelemetryMetrics,
    TelemetrySeries,
    TelemetryLatest,
    TelemetryTop,
    EventList,
    AuditList,
    AuditChain,
    ExportGet,
    DbGet,
    DbPrune,
    DbCompact,
    DbCheck,
    BackupGet,
    ConfigGet,
    ConfigPost,
    ConfigHistory,
    ConfigLayers,
    ConfigPreview,
    BatchList,
    BatchCreate,
    BatchPreview,
    BatchGet(Uid),
    BatchMembers(Uid),
    BatchPause(Uid),
    BatchContinue(Uid),
    BatchCancel(Uid),
    BatchRetry(Uid),
    CommandList,
    CommandCreate,
    CommandGet(Uid),
    CommandCancel(Uid),
    DiscoverGet,
    DiscoverPost,
    GrantCreate,
    GrantGet(Uid),
    PreauthList,
    PreauthCreate,
    PreauthDelete(String),
    KeyList,
    KeyCreate,
    KeyRevoke(String),
    KeyRotate(String),
    Me,
    PageOverview,
    PageDevice(String),
    PageConfig(String),
    PageConfigPost(String),
    PageMetadata(String),
    PageMetadataPost(String),
    PageSignIn,
    PageSignInPost,
    PageSignOut,
    PageAsset(String),
    StreamOpen,
    StreamView(Uid),
    InfluxWrite,
    InfluxWriteV2,
    InfluxQuery,
    InfluxQueryPost,
    InfluxPing,
    Metrics,
}

/// Why a request has no route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RouteError {
    /// Nothing has this path.
    NotFound,
    /// The path is known, for these methods.
    Method(Vec<&'static str>),
}

const fn spec(method: &'static str, path: &'static str, auth: AuthClass) -> RouteSpec {
    RouteSpec { method, path, auth }
}

impl Route {
    /// Every route, once, with a stand-in where a path has a name in it.
    pub fn all() -> Vec<Self> {
        let name = || "{}".to_owned();
        vec![
            Self::Health,
            Self::HealthReady,
            Self::Identity,
            Self::OpenApi,
            Self::Link,
            Self::Install(name()),
            Self::DeviceList,
            Self::DeviceGet(name()),
            Self::DevicePut(name()),
            Self::DeviceDelete(name()),
            Self::DeviceAccept(name()),
            Self::DeviceReject(name()),
            Self::DeviceRevoke(name()),
            Self::DeviceRestore(name()),
            Self::DeletedList,
            Self::DeviceLogs(name()),
            Self::TelemetryPost,
            Self::TelemetryMetrics,
            Self::TelemetrySeries,
            Self::TelemetryLatest,
            Self::TelemetryTop,
            Self::EventList,
            Self::AuditList,
            Self::AuditChain,
            Self::ExportGet,
            Self::DbGet,
            Self::DbPrune,
            Self::DbCompact,
            Self::DbCheck,
            Self::BackupGet,
            Self::ConfigGet,
            Self::ConfigPost,
            Self::ConfigHistory,
            Self::ConfigLayers,
            Self::ConfigPreview,
            Self::BatchList,
            Self::BatchCreate,
            Self::BatchPreview,
            Self::BatchGet(Uid::from_bytes([0; 16])),
            Self::BatchMembers(Uid::from_bytes([0; 16])),
            Self::BatchPause(Uid::from_bytes([0; 16])),
            Self::BatchContinue(Uid::from_bytes([0; 16])),
            Self::BatchCancel(Uid::from_bytes([0; 16])),
            Self::BatchRetry(Uid::from_bytes([0; 16])),
            Self::CommandList,
            Self::CommandCreate,
            Self::CommandGet(Uid::from_bytes([0; 16])),
            Self::CommandCancel(Uid::from_bytes([0; 16])),
            Self::DiscoverGet,
            Self::DiscoverPost,
            Self::GrantCreate,
            Self::GrantGet(Uid::from_bytes([0; 16])),
            Self::PreauthList,
            Self::PreauthCreate,
            Self::PreauthDelete(name()),
            Self::KeyList,
            Self::KeyCreate,
            Self::KeyRevoke(name()),
            Self::KeyRotate(name()),
            Self::Me,
            Self::PageOverview,
            Self::PageDevice(name()),
            Self::PageConfig(name()),
            Self::PageConfigPost(name()),
            Self::PageMetadata(name()),
            Self::PageMetadataPost(name()),
            Self::PageSignIn,
            Self::PageSignInPost,
            Self::PageSignOut,
            Self::PageAsset(name()),
            Self::StreamOpen,
            Self::StreamView(Uid::from_bytes([0; 16])),
            Self::InfluxWrite,
            Self::InfluxWriteV2,
            Self::InfluxQuery,
            Self::InfluxQueryPost,
            Self::InfluxPing,
            Self::Metrics,
        ]
    }

    /// The route's line in the list.
    pub fn spec(&self) -> RouteSpec {
        use AuthClass::{
            Admin, AnyKey, Operator, OperatorOrDevice, OperatorOrEnrol, Page, Public, Viewer, With,
        };
        const DELETER: AuthClass = With(Role::Operator, Right::Delete);
        const EXPORTER: AuthClass = With(Role::Viewer, Right::Export);
        match self {
            Self::Health => spec("GET", "/health", Public),
            Self::HealthReady => spec("GET", "/health/ready", Public),
            Self::Identity => spec("GET", "/api/v1/identity", Public),
            Self::OpenApi => spec("GET", "/api/v1/openapi.json", AnyKey),
            Self::Link => spec("GET", "/api/v1/link", Public),
            Self::Install(_) => spec("GET", "/install/{}", Public),
            Self::DeviceList => spec("GET", "/api/v1/devices", Viewer),
            Self::DeviceGet(_) => spec("GET", "/api/v1/devices/{}", Viewer),
            Self::DevicePut(_) => spec("PUT", "/api/v1/devices/{}", Operator),
            Self::DeviceDelete(_) => spec("DELETE", "/api/v1/devices/{}", DELETER),
            Self::DeviceAccept(_) => spec("POST", "/api/v1/devices/{}/accept", Operator),
            Self::DeviceReject(_) => spec("POST", "/api/v1/devices/{}/reject", Operator),
            Self::DeviceRevoke(_) => spec("POST", "/api/v1/devices/{}/revoke", Operator),
            Self::DeviceRestore(_) => spec("POST", "/api/v1/devices/{}/restore", DELETER),
            Self::DeletedList => spec("GET", "/api/v1/deleted-devices", Viewer),
            Self::DeviceLogs(_) => spec("GET", "/api/v1/devices/{}/logs", Viewer),
            Self::TelemetryPost => spec("POST", "/api/v1/telemetry", OperatorOrDevice),
            Self::TelemetryMetrics => spec("GET", "/api/v1/telemetry/metrics", Viewer),
            Self::TelemetrySeries => spec("GET", "/api/v1/telemetry/series", Viewer),
            Self::TelemetryLatest => spec("GET", "/api/v1/telemetry/latest", Viewer),
            Self::TelemetryTop => spec("GET", "/api/v1/telemetry/top", Viewer),
            Self::EventList => spec("GET", "/api/v1/events", Viewer),
            Self::AuditList => spec("GET", "/api/v1/audit", Admin),
            Self::AuditChain => spec("GET", "/api/v1/audit/chain", Admin),
            Self::ExportGet => spec("GET", "/api/v1/export", EXPORTER),
            Self::DbGet => spec("GET", "/api/v1/db", Viewer),
            Self::DbPrune => spec("POST", "/api/v1/db/prune", Admin),
            Self::DbCompact => spec("POST", "/api/v1/db/compact", Admin),
            Self::DbCheck => spec("POST", "/api/v1/db/check", Admin),
            Self::BackupGet => spec("GET", "/api/v1/backup", Admin),
            Self::ConfigGet => spec("GET", "/api/v1/config", Viewer),
            Self::ConfigPost => spec("POST", "/api/v1/config", Operator),
            Self::ConfigHistory => spec("GET", "/api/v1/config/history", Viewer),
            Self::ConfigLayers => spec("GET", "/api/v1/config/layers", Viewer),
            Self::ConfigPreview => spec("POST", "/api/v1/config/preview", Operator),
            Self::BatchList => spec("GET", "/api/v1/batches", Viewer),
            Self::BatchCreate => spec("POST", "/api/v1/batches", Operator),
            Self::BatchPreview => spec("POST", "/api/v1/batches/preview", Operator),
            Self::BatchGet(_) => spec("GET", "/api/v1/batches/{}", Viewer),
            Self::BatchMembers(_) => spec("GET", "/api/v1/batches/{}/devices", Viewer),
            Self::BatchPause(_) => spec("POST", "/api/v1/batches/{}/pause", Operator),
            Self::BatchContinue(_) => spec("POST", "/api/v1/batches/{}/continue", Operator),
            Self::BatchCancel(_) => spec("POST", "/api/v1/batches/{}/cancel", Operator),
            Self::BatchRetry(_) => spec("POST", "/api/v1/batches/{}/retry", Operator),
            Self::CommandList => spec("GET", "/api/v1/commands", Viewer),
            Self::CommandCreate => spec("POST", "/api/v1/commands", Operator),
            Self::CommandGet(_) => spec("GET", "/api/v1/commands/{}", Viewer),
            Self::CommandCancel(_) => spec("POST", "/api/v1/commands/{}/cancel", Operator),
            Self::DiscoverGet => spec("GET", "/api/v1/discover", Viewer),
            Self::DiscoverPost => spec("POST", "/api/v1/discover", Operator),
            Self::GrantCreate => spec("POST", "/api/v1/grants", OperatorOrEnrol),
            Self::GrantGet(_) => spec("GET", "/api/v1/grants/{}", OperatorOrEnrol),
            Self::KeyList => spec("GET", "/api/v1/keys", Admin),
            Self::KeyCreate => spec("POST", "/api/v1/keys", Admin),
            Self::KeyRotate(_) => spec("POST", "/api/v1/keys/{}/rotate", Admin),
            Self::Me => spec("GET", "/api/v1/me", AnyKey),
            Self::KeyRevoke(_) => spec("DELETE", "/api/v1/keys/{}", Admin),
            Self::PreauthList => spec("GET", "/api/v1/preauthorized", Operator),
            Self::PreauthCreate => spec("POST", "/api/v1/preauthorized", Operator),
            Self::PreauthDelete(_) => spec("DELETE", "/api/v1/preauthorized/{}", Operator),
            Self::PageOverview => spec("GET", "/", Page),
            Self::PageDevice(_) => spec("GET", "/devices/{}", Page),
            Self::PageConfig(_) => spec("GET", "/devices/{}/config", Page),
            Self::PageConfigPost(_) => spec("POST", "/devices/{}/config", Page),
            Self::PageMetadata(_) => spec("GET", "/devices/{}/metadata", Page),
            Self::PageMetadataPost(_) => spec("POST", "/devices/{}/metadata", Page),
            Self::PageSignIn => spec("GET", "/sign-in", Page),
            Self::PageSignInPost => spec("POST", "/sign-in", Page),
            Self::PageSignOut => spec("POST", "/sign-out", Page),
            Self::PageAsset(_) => spec("GET", "/assets/{}", Page),
            Self::StreamOpen => spec("GET", "/api/v1/stream", Viewer),
            Self::StreamView(_) => spec("PUT", "/api/v1/stream/{}/view", Viewer),
            // Senders of Influx line protocol, and Prometheus, look for these where they are.
            Self::InfluxWrite => spec("POST", "/write", OperatorOrDevice),
            Self::InfluxWriteV2 => spec("POST", "/api/v2/write", OperatorOrDevice),
            Self::InfluxQuery => spec("GET", "/query", OperatorOrDevice),
            Self::InfluxQueryPost => spec("POST", "/query", OperatorOrDevice),
            Self::InfluxPing => spec("GET", "/ping", Public),
            Self::Metrics => spec("GET", "/metrics", Viewer),
        }
    }

    /// What it is about, if a key that is for some devices only is of no use for it.
    pub fn beyond_scopes(&self) -> Option<&'static str> {
        match self {
            Self::DbGet | Self::DbPrune | Self::DbCompact | Self::DbCheck => Some("the database"),
            Self::AuditList | Self::AuditChain => Some("the audit record"),
            Self::BackupGet => Some("a backup"),
            Self::DeviceAccept(_)
            | Self::DiscoverGet
            | Self::DiscoverPost
            | Self::GrantCreate
            | Self::GrantGet(_)
            | Self::PreauthList
            | Self::PreauthCreate
            | Self::PreauthDelete(_) => Some("bringing in devices"),
            _ => None,
        }
    }

    /// Whether it changes anything of the fleet. What a stream shows does not, nor what a batch or
    /// another layer would be, nor reading all that is stored.
    pub fn changes_something(&self) -> bool {
        let spec = self.spec();
        let asks_only = ["GET", "HEAD"].contains(&spec.method)
            || matches!(self, Self::BatchPreview | Self::ConfigPreview | Self::DbCheck);
        !asks_only && !spec.path.starts_with("/api/v1/stream/")
    }

    /// The path of this very route, name filled in.
    pub fn path(&self) -> String {
        let template = self.spec().path;
        match self.name() {
            Some(name) => template.replacen("{}", &name, 1),
            None => template.to_owned(),
        }
    }

    /// The route of a request.
    pub fn parse(method: &str, path: &str) -> Result<Self, RouteError> {
        static ALL: LazyLock<Vec<Route>> = LazyLock::new(Route::all);
        let mut allowed = Vec::new();
        for route in &*ALL {
            let spec = route.spec();
            let Some(name) = match_path(spec.path, path) else { continue };
            let Some(route) = route.clone().with_name(name) else { continue };
            if spec.method == method {
                return Ok(route);
            }
            allowed.push(spec.method);
        }
        Err(if allowed.is_empty() { RouteError::NotFound } else { RouteError::Method(allowed) })
    }

    fn name(&self) -> Option<String> {
        match self {
            Self::Install(name)
            | Self::DeviceGet(name)
            | Self::DevicePut(name)
            | Self::DeviceDelete(name)
            | Self::DeviceAccept(name)
            | Self::DeviceReject(name)
            | Self::DeviceRevoke(name)
            | Self::DeviceRestore(name)
            | Self::DeviceLogs(name)
            | Self::PreauthDelete(name)
            | Self::KeyRevoke(name)
            | Self::KeyRotate(name)
            | Self::PageDevice(name)
            | Self::PageConfig(name)
            | Self::PageConfigPost(name)
            | Self::PageMetadata(name)
            | Self::PageMetadataPost(name)
            | Self::PageAsset(name) => Some(name.clone()),
            Self::BatchGet(uid)
            | Self::BatchMembers(uid)
            | Self::BatchPause(uid)
            | Self::BatchContinue(uid)
            | Self::BatchCancel(uid)
            | Self::BatchRetry(uid)
            | Self::CommandGet(uid)
            | Self::CommandCancel(uid)
            | Self::GrantGet(uid)
            | Self::StreamView(uid) => Some(uid.to_string()),
            _ => None,
        }
    }

    fn with_name(self, name: &str) -> Option<Self> {
        let text = || name.to_owned();
        Some(match self {
            Self::Install(_) => Self::Install(text()),
            Self::DeviceGet(_) => Self::DeviceGet(text()),
            Self::DevicePut(_) => Self::DevicePut(text()),
            Self::DeviceDelete(_) => Self::DeviceDelete(text()),
            Self::DeviceAccept(_) => Self::DeviceAccept(text()),
            Self::DeviceReject(_) => Self::DeviceReject(text()),
            Self::DeviceRevoke(_) => Self::DeviceRevoke(text()),
            Self::DeviceRestore(_) => Self::DeviceRestore(text()),
            Self::DeviceLogs(_) => Self::DeviceLogs(text()),
            Self::PreauthDelete(_) => Self::PreauthDelete(text()),
            Self::KeyRevoke(_) => Self::KeyRevoke(text()),
            Self::KeyRotate(_) => Self::KeyRotate(text()),
            Self::PageDevice(_) => Self::PageDevice(text()),
            Self::PageConfig(_) => Self::PageConfig(text()),
            Self::PageConfigPost(_) => Self::PageConfigPost(text()),
            Self::PageMetadata(_) => Self::PageMetadata(text()),
            Self::PageMetadataPost(_) => Self::PageMetadataPost(text()),
            Self::PageAsset(_) => Self::PageAsset(text()),
            Self::BatchGet(_) => Self::BatchGet(name.parse().ok()?),
            Self::BatchMembers(_) => Self::BatchMembers(name.parse().ok()?),
            Self::BatchPause(_) => Self::BatchPause(name.parse().ok()?),
            Self::BatchContinue(_) => Self::BatchContinue(name.parse().ok()?),
            Self::BatchCancel(_) => Self::BatchCancel(name.parse().ok()?),
            Self::BatchRetry(_) => Self::BatchRetry(name.parse().ok()?),
            Self::CommandGet(_) => Self::CommandGet(name.parse().ok()?),
            Self::CommandCancel(_) => Self::CommandCancel(name.parse().ok()?),
            Self::GrantGet(_) => Self::GrantGet(name.parse().ok()?),
            Self::StreamView(_) => Self::StreamView(name.parse().ok()?),
            other => other,
        })
    }
}

/// The segment that a path has in a template's `{}`, or nothing between the quotes if the template
/// has none; `None` if the path does not fit. Names are plain words (device ids, uids, key ids), so
/// nothing needs decoding.
fn match_path<'a>(template: &str, path: &'a str) -> Option<&'a str> {
    let Some((before, after)) = template.split_once('{') else {
        return (path == template).then_some("");
    };
    let name = path.strip_prefix(before)?.strip_suffix(after.strip_prefix('}')?)?;
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.~".contains(&b);
    (!name.is_empty() && name.bytes().all(plain)).then_some(name)
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let spec = self.spec();
        write!(f, "{} {}", spec.method, spec.path)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_route_parses_back_to_itself() {
        for route in Route::all() {
            // A name serves as one segment and a uid as another.
            let uid = Uid::from_bytes([3; 16]).to_string();
            let named = route.clone().with_name("rpi4-001~k3xq2m");
            let route = named.or_else(|| route.with_name(&uid)).unwrap();
            assert_eq!(Route::parse(route.spec().method, &route.path()), Ok(route));
        }
    }

    #[test]
    fn a_path_matches_exactly_or_not_at_all() {
        for path in [
            "",
            "//",
            "/api/v1/devices/",
            "//api/v1/devices",
            "/api/v1//devices",
            "/api/v1/./devices",
            "/api/v1/%64evices",
            "/API/v1/devices",
            "/api/v1/devices/a%2fb",
            "/api/v1/devices/a/b",
            "/api/v1/grants/none",
            "/health/",
        ] {
            assert_eq!(Route::parse("GET", path), Err(RouteError::NotFound), "{path}");
        }
        assert_eq!(Route::parse("GET", "/"), Ok(Route::PageOverview));
        assert_eq!(
            Route::parse("PATCH", "/api/v1/devices/a"),
            Err(RouteError::Method(vec!["GET", "PUT", "DELETE"]))
        );
    }

    proptest! {
        #[test]
        fn names_come_back_as_they_went(name in "[a-z0-9][a-z0-9._~-]{0,40}") {
            let route = Route::DeviceGet(name);
            prop_assert_eq!(Route::parse("GET", &route.path()), Ok(route));
        }

        #[test]
        fn any_path_is_answered(method in "\\PC*", path in "\\PC*") {
            let _ = Route::parse(&method, &path);
        }
    }
}
