//! `GET /metrics`: the server itself, and with `?fleet=1` what its devices measured last, for
//! Prometheus.

use std::collections::HashSet;
use std::fs;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use fleet_core::api::{DeviceStatus, Route};
use hyper::header::{self, HeaderValue};
use hyper::{Response, StatusCode};
use nix::sys::resource::{UsageWho, getrusage};
use nix::unistd::{SysconfVar, sysconf};
use tokio::sync::mpsc;

use super::Http;
use super::query::Query;
use super::reply::{Failure, Reply, pieces};
use crate::exposition::{Fleet, Kind, Measured, Page, seconds};
use crate::meters::Subject;
use crate::ops::{Access, OpsError};
use crate::store::NamedValue;
use crate::store::StoreHealth;

/// Values that are older are not told: Prometheus takes nothing that is an hour behind.
const AGE_MAX: Duration = Duration::from_secs(50 * 60);
/// Nor does it take what is far ahead.
const AHEAD_MAX: Duration = Duration::from_secs(5 * 60);
const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What a request is about.
pub(super) fn subject(route: Option<&Route>) -> Subject {
    let Some(route) = route else { return Subject::Unknown };
    match route {
        Route::Health | Route::HealthReady | Route::InfluxPing => Subject::Health,
        Route::Metrics => Subject::Metrics,
        Route::Identity | Route::OpenApi => Subject::About,
        Route::Link => Subject::Link,
        Route::DeviceList
        | Route::DeviceGet(_)
        | Route::DevicePut(_)
        | Route::DeviceDelete(_)
        | Route::DeviceAccept(_)
        | Route::DeviceReject(_)
        | Route::DeviceRevoke(_)
        | Route::DeviceRestore(_)
        | Route::DeletedList
        | Route::DeviceLogs(_) => Subject::Devices,
        Route::TelemetryPost
        | Route::TelemetryMetrics
        | Route::TelemetrySeries
        | Route::TelemetryLatest
        | Route::TelemetryTop => Subject::Telemetry,
        Route::InfluxWrite | Route::InfluxWriteV2 | Route::InfluxQuery | Route::InfluxQueryPost => {
            Subject::Influx
        }
        Route::ExportGet
        | Route::DbGet
        | Route::DbPrune
        | Route::DbCompact
        | Route::DbCheck
        | Route::BackupGet => Subject::Database,
        Route::EventList | Route::AuditList | Route::AuditChain => Subject::Events,
        Route::ConfigGet
        | Route::ConfigPost
        | Route::ConfigHistory
        | Route::ConfigLayers
        | Route::ConfigPreview => Subject::Config,
        Route::CommandList
        | Route::CommandCreate
        | Route::CommandGet(_)
        | Route::CommandCancel(_) => Subject::Commands,
        Route::BatchList
        | Route::BatchCreate
        | Route::BatchPreview
        | Route::BatchGet(_)
        | Route::BatchMembers(_)
        | Route::BatchPause(_)
        | Route::BatchContinue(_)
        | Route::BatchCancel(_)
        | Route::BatchRetry(_) => Subject::Batches,
        Route::DiscoverGet
        | Route::DiscoverPost
        | Route::GrantCreate
        | Route::GrantGet(_)
        | Route::Install(_) => Subject::Discovery,
        Route::PreauthList
        | Route::PreauthCreate
        | Route::PreauthDelete(_)
        | Route::KeyList
        | Route::KeyCreate
        | Route::KeyRevoke(_)
        | Route::KeyRotate(_)
        | Route::Me => Subject::Keys,
        Route::PageOverview
        | Route::PageDevice(_)
        | Route::PageConfig(_)
        | Route::PageConfigPost(_)
        | Route::PageMetadata(_)
        | Route::PageMetadataPost(_)
        | Route::PageSignIn
        | Route::PageSignInPost
        | Route::PageSignOut
        | Route::PageAsset(_) => Subject::Page,
        Route::StreamOpen | Route::StreamView(_) => Subject::Stream,
    }
}

/// `GET /metrics`.
pub(super) async fn answer(
    http: &Arc<Http>,
    access: &Access,
    query: &Query,
) -> Result<Reply, Failure> {
    let with_fleet = match query.get("fleet") {
        None | Some("0") => false,
        Some("1") => true,
        Some(_) => return Err(Failure::invalid("fleet", "must be 0 or 1")),
    };
    let mut page = Page::default();
    tell_server(http, access, &mut page);
    tell_process(http, &mut page);
    let mut fleet = Fleet::new();
    // One at a time holds the whole fleet in memory, until it is sent.
    let turn = if with_fleet {
        let turn = http.scrapes.clone().try_acquire_owned().map_err(|_| busy())?;
        tell_devices(http, access, &mut page, &mut fleet).await?;
        Some(turn)
    } else {
        None
    };
    let (sender, receiver) = mpsc::channel(1);
    http.tasks.spawn("metrics", async move {
        let server = std::iter::once(Bytes::from(page.into_text()));
        for piece in server.chain(fleet.into_pieces()) {
            // Whoever asked may have gone.
            if sender.send(piece).await.is_err() {
                break;
            }
        }
        drop(turn);
    });
    let mut reply = Response::new(pieces(receiver));
    reply.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(TEXT));
    Ok(reply)
}

fn busy() -> Failure {
    let detail = "the fleet is being told to somebody else at this moment";
    Failure::new(StatusCode::SERVICE_UNAVAILABLE, detail).retry_after(1)
}

fn tell_server(http: &Http, access: &Access, page: &mut Page) {
    let identity = http.server.public().identity().to_string();
    let labels = [("version", fleet_core::VERSION), ("identity", &identity)];
    page.family("fleets_build_info", Kind::Gauge, "This server, always 1.").value(&labels, 1.0);
    let uptime = http.meters.started().elapsed().as_secs_f64();
    page.value("fleets_uptime_seconds", Kind::Gauge, "How long it has been running.", uptime);

    let help = "Requests that were answered, by what they are about and their status.";
    let mut family = page.family("fleets_http_requests_total", Kind::Counter, help);
    for (subject, status, count) in http.meters.requests() {
        family.value(&[("subject", subject), ("status", &status.to_string())], count as f64);
    }
    let help = "Devices that are connected.";
    let hub = &http.ops.devices.hub;
    let links = match access.members(http.ops.world.store.directory()) {
        None => hub.count(),
        Some(members) => members.iter().filter(|uid| hub.is_connected(**uid)).count(),
    };
    page.value("fleets_links", Kind::Gauge, help, links as f64);
    let counts = http.live.counts(access);
    let mut family = page.family("fleets_devices", Kind::Gauge, "Devices by status.");
    for status in DeviceStatus::ALL {
        let count = counts.get(&status).copied().unwrap_or_default();
        family.value(&[("status", status.word())], f64::from(count));
    }

    let doors: Vec<_> = http.meters.doors().collect();
    let help = "Reports that were stored, by how they came in.";
    let mut family = page.family("fleets_telemetry_reports_total", Kind::Counter, help);
    for (door, reports, _) in &doors {
        family.value(&[("door", door)], *reports as f64);
    }
    let help = "Samples that were stored, by how they came in.";
    let mut family = page.family("fleets_telemetry_samples_total", Kind::Counter, help);
    for (door, _, samples) in &doors {
        family.value(&[("door", door)], *samples as f64);
    }
    let help = "Samples of links that were left out because there are too many series.";
    let left_out = http.meters.left_out_count();
    page.value("fleets_telemetry_samples_left_out_total", Kind::Counter, help, left_out as f64);
    let (refused, strings) = http.meters.lines();
    let help = "Lines of Influx line protocol that were not stored.";
    page.value("fleets_influx_lines_refused_total", Kind::Counter, help, refused as f64);
    let help = "Fields of such lines that were left out because they are text.";
    page.value("fleets_influx_strings_skipped_total", Kind::Counter, help, strings as f64);

    let help = "What devices said of commands that are not theirs, and that was left alone.";
    let ignored = http.meters.news_ignored_count();
    page.value("fleets_command_news_ignored_total", Kind::Counter, help, ignored as f64);

    let help = "Commits of the database since the start.";
    page.value("fleets_store_commits_total", Kind::Counter, help, (http.commits)() as f64);
    let is_healthy = http.ops.world.health() == StoreHealth::Healthy;
    let help = "Whether the database works in all its parts.";
    page.value("fleets_store_healthy", Kind::Gauge, help, f64::from(u8::from(is_healthy)));
    if let Ok(file) = fs::metadata(&http.database.path) {
        let help = "Size of the database's file.";
        page.value("fleets_database_bytes", Kind::Gauge, help, file.len() as f64);
    }
    if let Some(certificate) = &http.certificate {
        let help = "When the certificate ends that browsers are shown, in Unix time.";
        page.value(
            "fleets_certificate_end_seconds",
            Kind::Gauge,
            help,
            seconds(certificate.ends()),
        );
    }
}

/// What every program tells of itself, under the names that are usual for it.
fn tell_process(http: &Http, page: &mut Page) {
    if let Some(bytes) = resident_bytes() {
        let help = "Memory of this process that is in use.";
        page.value("process_resident_memory_bytes", Kind::Gauge, help, bytes);
    }
    if let Ok(usage) = getrusage(UsageWho::RUSAGE_SELF) {
        let spent = |time: nix::sys::time::TimeVal| {
            time.tv_sec() as f64 + time.tv_usec() as f64 / 1_000_000.0
        };
        let help = "Processor time that this process has used.";
        let spent = spent(usage.user_time()) + spent(usage.system_time());
        page.value("process_cpu_seconds_total", Kind::Counter, help, spent);
    }
    let started = http.ops.world.now().minus(http.meters.started().elapsed());
    let help = "When this process began to serve, in seconds since 1970.";
    page.value("process_start_time_seconds", Kind::Gauge, help, seconds(started));
}

fn resident_bytes() -> Option<f64> {
    let statm = fs::read_to_string("/proc/self/statm").ok()?;
    let pages: f64 = statm.split_whitespace().nth(1)?.parse().ok()?;
    let page = sysconf(SysconfVar::PAGE_SIZE).ok()??;
    Some(pages * page as f64)
}

/// The devices that are heard, and what they measured last.
async fn tell_devices(
    http: &Http,
    access: &Access,
    page: &mut Page,
    fleet: &mut Fleet,
) -> Result<(), OpsError> {
    let now = http.ops.world.now();
    let fleet_now = http.ops.devices.heard(access).await?;
    let help = "Whether a device reports as often as it should, or misses a report or two.";
    let mut family = page.family("fleets_device_heard", Kind::Gauge, help);
    for (device, is_heard) in &fleet_now {
        let labels = [("device_id", device.id.as_str())];
        family.value(&labels, f64::from(u8::from(*is_heard)));
    }
    for (device, _) in fleet_now.iter().filter(|(_, is_heard)| *is_heard) {
        let mut seen = HashSet::new();
        for NamedValue { name, at, value } in http.ops.telemetry.newest(device.uid) {
            if at.since(now) > AHEAD_MAX || now.since(at) > AGE_MAX {
                continue;
            }
            let mut sample = name.sample(value);
            for (_, text) in &mut sample.labels {
                *text = crate::labels::plain(text).into_owned();
            }
            let samples = &[sample];
            fleet.add(&Measured { device: device.id.as_str(), at, samples }, &mut seen);
        }
    }
    let help = "Values of devices that are not told because there are too many.";
    page.value("fleets_fleet_left_out", Kind::Gauge, help, fleet.left_out() as f64);
    Ok(())
}
