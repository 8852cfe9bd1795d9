//! The REST surface: the closed list of routes, and the JSON bodies by noun.
//!
//! What the reference shows keeps its path, method, fields and shape; we only add. Strings that a
//! device or a stranger chose are [`Untrusted`](crate::untrusted::Untrusted), so showing them is safe.

mod agent;
mod audit;
mod batch;
mod command;
mod config;
mod config_layer;
mod config_paths;
mod config_state;
mod db;
mod deleted;
mod device;
mod discovery;
mod event;
mod export;
mod grant;
mod identity;
mod key;
mod later;
mod log;
mod preauth;
mod problem;
pub mod role;
mod route;
mod series;
mod stream;
mod telemetry;

pub use agent::{AgentInfo, ClaimRefusal, Holes, LinkState, LinkView, QueueView};
pub use audit::{
    AuditAction, AuditActor, AuditBegin, AuditEntry, AuditHash, AuditKind, AuditLine, AuditPoint,
    AuditRecord, AuditSignature,
};
pub use batch::{
    BatchDevice, BatchMember, BatchPreview, BatchRequest, BatchRetry, BatchState, BatchView,
    Excluded, MemberState, WhenOffline,
};
pub use command::{CommandRequest, CommandState, CommandView};
pub use config::{
    ConfigDocument, ConfigError, ConfigUpdate, ConfigVersionView, ConfigView, ReportedView,
    SERVER_URL, TelemetryConfig,
};
pub use config_layer::{
    ConfigLayer, DEVICE_LAYER, LayerError, LayerPreview, LayerView, Layered, is_tag,
};
pub use config_paths::{Difference, config_of_paths, config_paths, diff};
pub use config_state::ConfigState;
pub use db::{Compacted, DbChecked, DbFile, DbTelemetry, DbTier, DbView, PruneRequest, Pruned};
pub use deleted::{DeletedDevice, DeviceDeleted};
pub use device::{
    Device, DeviceFacts, DeviceStatus, DeviceUpdate, DoubleSign, DoubleView, LatestReport,
    TagUpdate, Verdict,
};
pub use discovery::{
    ClaimMode, DeviceState, DiscoverOutcome, DiscoverReply, DiscoverRequest, DiscoverTarget,
    Discovered,
};
pub use event::{EventKind, EventView};
pub use export::{
    ColumnKind, EXPORT_FORMAT, ExportBegin, ExportColumn, ExportEnd, ExportRows, ExportTable,
    UnknownTable,
};
pub use grant::{GrantCreated, GrantRequest, GrantState, GrantView};
pub use identity::{Identity, IdentityProof, Nonce, NonceError};
pub use key::{
    ADMIN_LABEL, INSTALL_LIFE, InstallLink, KeyCreate, KeyCreated, KeyRotate, KeyState, KeyView,
    Me, OPERATOR_LIFE, OVERLAP_DEFAULT,
};
pub use later::LaterWord;
pub use log::{
    LOGS_DROPPED, LOGS_SEEN, LogEntries, LogEntry, LogHello, LogLink, LogMessage, LogOver,
    LogOverKind,
};
pub use preauth::{PreauthCreate, PreauthDevice, PreauthView};
pub use problem::{Done, Health, Problem};
pub use role::{Lacking, Might, Right, Rights, Role, UnknownRight, UnknownRole};
pub use route::{AuthClass, Route, RouteError, RouteSpec};
pub use series::{Series, SeriesPoint, SeriesReply};
pub use stream::{
    Hello, IndexPage, IndexRow, LiveReport, LiveSample, Ping, StreamMessage, StreamView, ValueRow,
    Values, Watch,
};
pub use telemetry::{GroupPoint, MetricPoint, StepPoint, TelemetryPost, TopDevice};

use serde::{Deserialize, Deserializer};
use serde_json::Value;

/// Reads a JSON value that may also come as a string holding JSON, as the reference sends it.
pub(crate) fn value_or_text<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Value>, D::Error> {
    match Option::<Value>::deserialize(deserializer)? {
        Some(Value::String(text)) if text.trim().is_empty() => Ok(None),
        Some(Value::String(text)) => serde_json::from_str(&text).map(Some).map_err(|error| {
            // A line and a column at its end would be taken for a place in the whole document.
            let (line, column, text) = (error.line(), error.column(), error.to_string());
            let what = text.split(" at line ").next().unwrap_or_default();
            let problem = format!("a string that holds no JSON: {what} ({line}:{column} in it)");
            serde::de::Error::custom(problem)
        }),
        other => Ok(other),
    }
}
