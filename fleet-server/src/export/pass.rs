//! One pass through a store, table by table, as the lines of an export.
//!
//! Rows come from many short looks, not from one long one: what was stored before the pass
//! began is in it, each row once, and of what is stored meanwhile some may be. Little of it is
//! ever in memory, and while whoever takes it is slow, the store is not used at all.

use std::collections::HashSet;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use fleet_core::Chain;
use fleet_core::api::{EXPORT_FORMAT, ExportBegin, ExportEnd, ExportRows, ExportTable};
use fleet_core::id::{DeviceId, Uid};
use fleet_core::identity::PublicKey;
use fleet_core::limits::PAGE_ROWS_MAX;
use fleet_core::time::Timestamp;
use fleet_core::untrusted::Untrusted;
use serde_json::{Map, Value};

use super::Cell;
use super::lines::{push_line, push_row, without_secret_members};
use super::telemetry::Slices;
use crate::store::{
    Admission, CommandQuery, CommandRecord, ConfigVersion, Device, Event, Store, StoreError,
};

/// Bytes that are gathered before they are passed on.
const PIECE_BYTES: usize = 256 * 1024;
/// Commands that are looked at together; each may have many words.
const COMMANDS_PAGE: usize = 100;

/// What to export.
#[derive(Clone, Debug)]
pub(crate) struct Wish {
    /// These tables.
    pub(crate) tables: Vec<ExportTable>,
    /// Of tables with a timestamp, rows not before.
    pub(crate) from: Option<Timestamp>,
    /// And not after.
    pub(crate) to: Option<Timestamp>,
    /// Only what whoever asks may see, if that is not everything.
    pub(crate) within: Option<Within>,
}

/// What somebody may see who may not see everything.
#[derive(Clone, Debug)]
pub(crate) struct Within {
    /// What is about these devices.
    pub(crate) devices: Arc<HashSet<Uid>>,
    /// And what they did themselves, as records call them.
    pub(crate) actor: String,
}

/// Takes an export's lines.
#[async_trait]
pub(crate) trait Taker: Send {
    /// Takes some, as soon as there is room for them.
    async fn take(&mut self, lines: Bytes) -> Result<(), Stop>;
}

/// Why nothing more is taken.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum Stop {
    /// Nobody is there any more.
    #[error("its reader has left")]
    Gone,
    /// Whoever is there has not taken anything for long.
    #[error("its reader takes nothing any more")]
    Slow,
    /// The server stops.
    #[error("the server stops")]
    Server,
    /// The key or session that asked for it has ended.
    #[error("its key or session is no longer good")]
    Access,
}

/// Exports a store, and says how many rows that were. If the store fails, the last line says so.
pub(crate) async fn pass(
    store: &dyn Store,
    wish: Wish,
    now: Timestamp,
    taker: &mut dyn Taker,
) -> Result<ExportRows, Stop> {
    let mut pass = Pass { store, wish, taker, lines: Vec::new(), rows: ExportRows::default() };
    let error = match pass.all(now).await {
        Ok(()) => None,
        Err(End::Stop(stop)) => return Err(stop),
        Err(End::Store(error)) => {
            tracing::error!(error = %Chain(&error), "an export could not be finished");
            Some(Untrusted::new(error.to_string()))
        }
    };
    let rows = pass.rows.clone();
    let damage = store.damage().map(Untrusted::new);
    push_line(&mut pass.lines, &ExportEnd { error, damage, rows });
    pass.flush().await?;
    Ok(pass.rows)
}

struct Pass<'a> {
    store: &'a dyn Store,
    wish: Wish,
    taker: &'a mut dyn Taker,
    lines: Vec<u8>,
    rows: ExportRows,
}

/// Why a pass does not go on.
enum End {
    Stop(Stop),
    Store(StoreError),
}

impl From<Stop> for End {
    fn from(stop: Stop) -> Self {
        Self::Stop(stop)
    }
}

impl From<StoreError> for End {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl Pass<'_> {
    async fn all(&mut self, now: Timestamp) -> Result<(), End> {
        let reports = expected(self.store, &self.wish).await?;
        let version = Untrusted::from(fleet_core::VERSION);
        let begin = ExportBegin { format: EXPORT_FORMAT, version, timestamp: now, reports };
        push_line(&mut self.lines, &begin);
        self.flush().await?;
        // An event that comes later is not waited for.
        let newest = self.store.event_newest().await?;
        let mut devices = self.store.device_list().await?;
        devices.retain(|device| self.wish.wants_device(device.uid));
        let names: Vec<_> = devices.iter().map(|device| (device.uid, device.id.clone())).collect();
        self.devices(devices).await?;
        self.config_versions(&names).await?;
        self.commands(&names).await?;
        self.events(newest).await?;
        self.telemetry(&names).await
    }

    async fn devices(&mut self, devices: Vec<Device>) -> Result<(), End> {
        if self.wish.wants(ExportTable::Devices) {
            for device in devices {
                self.row(ExportTable::Devices, &device_cells(device)).await?;
            }
        }
        Ok(())
    }

    async fn config_versions(&mut self, devices: &[(Uid, DeviceId)]) -> Result<(), End> {
        if !self.wish.wants(ExportTable::ConfigVersions) {
            return Ok(());
        }
        for (uid, id) in devices {
            let newest = self.store.config_list(*uid, None, 1).await?;
            let latest = newest.first().map_or(0, |newest| newest.version);
            for version in 1..=latest {
                match self.store.config_get(*uid, version).await {
                    Ok(Some(config)) if self.wish.wants_time(config.config.at) => {
                        let cells = config_cells(id, config);
                        self.row(ExportTable::ConfigVersions, &cells).await?;
                    }
                    // Left out as in every list; the store's health says so.
                    Ok(_) | Err(StoreError::Damaged { .. }) => {}
                    Err(error) => return Err(error.into()),
                }
            }
        }
        Ok(())
    }

    /// The commands of each device, newest first: what is added meanwhile is not met.
    async fn commands(&mut self, devices: &[(Uid, DeviceId)]) -> Result<(), End> {
        if !self.wish.wants(ExportTable::Commands) {
            return Ok(());
        }
        for (uid, id) in devices {
            let mut query = CommandQuery {
                device: Some(*uid),
                limit: COMMANDS_PAGE,
                ..CommandQuery::default()
            };
            loop {
                let commands = self.store.command_list(query.clone()).await?;
                let is_last = commands.len() < query.limit;
                query.before = commands.last().map(|command| command.id);
                for command in commands {
                    if self.wish.wants_time(command.created_at) {
                        self.row(ExportTable::Commands, &command_cells(id, command)).await?;
                    }
                }
                if is_last {
                    break;
                }
            }
        }
        Ok(())
    }

    async fn events(&mut self, newest: u64) -> Result<(), End> {
        let mut last = 0;
        while self.wish.wants(ExportTable::Events) && last < newest {
            let events = self.store.event_after(last, PAGE_ROWS_MAX).await?;
            let Some((newest_seen, _)) = events.last() else { break };
            last = *newest_seen;
            for (seq, event) in events {
                let is_wanted = self.wish.wants_event(&event);
                if seq <= newest && is_wanted && self.wish.wants_time(event.at) {
                    self.row(ExportTable::Events, &event_cells(seq, event)).await?;
                }
            }
        }
        Ok(())
    }

    async fn telemetry(&mut self, devices: &[(Uid, DeviceId)]) -> Result<(), End> {
        if !self.wish.wants(ExportTable::Telemetry) {
            return Ok(());
        }
        let from = self.wish.from.unwrap_or(Timestamp::from_millis(0));
        let to = self.wish.to.unwrap_or(Timestamp::from_millis(i64::MAX));
        for (uid, id) in devices {
            let mut slices = Slices::new(*uid, id, from, to);
            while let Some(slice) = slices.next(self.store).await? {
                self.rows.add(ExportTable::Telemetry, slice.rows);
                if self.lines.is_empty() {
                    self.lines = slice.lines;
                } else {
                    self.lines.extend_from_slice(&slice.lines);
                }
                self.flush_if_full().await?;
            }
        }
        Ok(())
    }

    async fn row(&mut self, table: ExportTable, cells: &[Cell<'_>]) -> Result<(), Stop> {
        push_row(&mut self.lines, table, cells);
        self.rows.add(table, 1);
        self.flush_if_full().await
    }

    async fn flush_if_full(&mut self) -> Result<(), Stop> {
        if self.lines.len() >= PIECE_BYTES { self.flush().await } else { Ok(()) }
    }

    async fn flush(&mut self) -> Result<(), Stop> {
        self.taker.take(std::mem::take(&mut self.lines).into()).await
    }
}

impl Wish {
    /// Whether there is a time between its ends.
    pub(crate) fn has_time(&self) -> bool {
        self.from.is_none_or(|from| self.to.is_none_or(|to| from <= to))
    }

    fn wants(&self, table: ExportTable) -> bool {
        self.tables.contains(&table)
    }

    fn wants_device(&self, uid: Uid) -> bool {
        self.within.as_ref().is_none_or(|within| within.devices.contains(&uid))
    }

    fn wants_event(&self, event: &Event) -> bool {
        let Some(within) = &self.within else { return true };
        match &event.device {
            Some((_, uid)) => within.devices.contains(uid),
            None => event.actor == within.actor,
        }
    }

    fn wants_time(&self, at: Timestamp) -> bool {
        self.from.is_none_or(|from| from <= at) && self.to.is_none_or(|to| at <= to)
    }
}

/// Reports that will come, as far as that can be told beforehand.
async fn expected(store: &dyn Store, wish: &Wish) -> Result<Option<u64>, StoreError> {
    let is_cut = wish.from.or(wish.to).is_some();
    if is_cut || wish.within.is_some() || !wish.wants(ExportTable::Telemetry) {
        return Ok(None);
    }
    Ok(Some(store.stats().await?.raw_rows()))
}

fn device_cells(device: Device) -> Vec<Cell<'static>> {
    let state = match device.state {
        Admission::Pending => "pending",
        Admission::Active => "active",
        Admission::Rejected => "rejected",
        Admission::Revoked | Admission::Deleted => "revoked",
    };
    let facts = device.facts;
    let id = device.id.to_string();
    let name = device.name.or(facts.name).unwrap_or_else(|| id.clone());
    let or_other = |kind: String| if kind.is_empty() { "other".to_owned() } else { kind };
    let reported = device.reported;
    vec![
        text(id),
        text(device.uid.to_string()),
        text(name),
        text(or_other(facts.device_type)),
        text(facts.version),
        text(state.to_owned()),
        text(device.state_reason),
        time(device.state_at),
        maybe(device.key.map(PublicKey::fingerprint).map(|it| text(it.to_string()))),
        time(device.created_at),
        maybe(device.last_seen.map(time)),
        integer(device.missed_reports),
        text(metadata(device.metadata)),
        text(facts.hostname),
        text(facts.model),
        text(facts.os),
        text(facts.kernel),
        text(facts.arch),
        integer(facts.cores.into()),
        maybe(facts.memory_bytes.map(integer)),
        text(Value::from(facts.addresses).to_string()),
        integer(facts.interval_secs.into()),
        maybe(reported.as_ref().map(|reported| integer(reported.version))),
        maybe(reported.and_then(|reported| reported.error).map(text)),
    ]
}

fn config_cells(device: &DeviceId, version: ConfigVersion) -> Vec<Cell<'static>> {
    let config = version.config;
    vec![
        text(device.to_string()),
        integer(version.version),
        time(config.at),
        text(config.author),
        maybe(config.comment.map(text)),
        text(without_secret_members(config.document)),
        maybe(config.server_url.map(text)),
    ]
}

fn command_cells(device: &DeviceId, command: CommandRecord) -> Vec<Cell<'static>> {
    vec![
        text(command.id.to_string()),
        text(device.to_string()),
        time(command.created_at),
        text(command.author),
        text(command.command.word().to_owned()),
        text(Value::from(command.command.args()).to_string()),
        text(command.state.word().to_owned()),
        text(command.why),
        time(command.state_at),
        time(command.expires_at),
        maybe(command.exit_code.map(|code| Cell::Integer(code.into()))),
    ]
}

fn event_cells(seq: u64, event: Event) -> Vec<Cell<'static>> {
    let (id, uid) = event.device.unzip();
    vec![
        integer(seq),
        time(event.at),
        text(event.kind.word().to_owned()),
        text(event.actor),
        maybe(id.map(|id| text(id.to_string()))),
        maybe(uid.map(|uid| text(uid.to_string()))),
        text(event.text),
    ]
}

/// What operators noted, as an object: the store has each value as JSON text.
fn metadata(entries: impl IntoIterator<Item = (String, String)>) -> String {
    let read = |(name, value): (String, String)| {
        (name, serde_json::from_str(&value).unwrap_or(Value::String(value)))
    };
    Value::Object(entries.into_iter().map(read).collect::<Map<_, _>>()).to_string()
}

fn text(text: String) -> Cell<'static> {
    Cell::Text(text.into())
}

fn time(time: Timestamp) -> Cell<'static> {
    text(time.to_string())
}

fn integer(number: u64) -> Cell<'static> {
    Cell::Integer(i64::try_from(number).unwrap_or(i64::MAX))
}

fn maybe(cell: Option<Cell<'static>>) -> Cell<'static> {
    cell.unwrap_or(Cell::Null)
}
