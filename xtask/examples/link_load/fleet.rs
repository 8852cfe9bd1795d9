//! A fleet on its links: it comes all at once, reports now and then, and does what it is told.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use fleet_core::api::{
    BatchRequest, BatchState, CommandRequest, CommandState, MemberState, WhenOffline,
};
use fleet_core::net::tls::Pin;
use fleet_core::time::{Clock as _, SystemClock};
use fleet_core::wire::{
    CommandNews, CommandOrder, CommandResult, Outcome, Progress, Samples, ToAgent, ToServer,
};
use futures_util::{StreamExt as _, stream};
use serde_json::{Value, json};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep, timeout};
use xtask::child::kib_of;

use crate::Server;
use crate::device::{Device, enrol_key};

/// Handshakes that are under way at once, with the server as with the broker: as many strangers as
/// the server lets in from one address, but for some room.
pub(crate) const AT_ONCE: usize = 48;
/// Between two reports of a device, so that 10,000 send 1,000 messages a second.
const INTERVAL: Duration = Duration::from_secs(10);
/// How long a storm is over when the server's memory is read.
const SETTLE: Duration = Duration::from_secs(5);
/// Commands whose way there and back is measured.
const ROUND_TRIPS: usize = 1_000;
/// Between the devices that get them; a prime, so that all have a turn.
const STRIDE: usize = 7919;
/// How long the end of a command, or of a batch, may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks at a batch.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// Makes the devices known to the server.
pub(crate) async fn enrol(server: &Server, links: u32) -> anyhow::Result<Value> {
    let key = enrol_key(&server.client).await?;
    let devices = connect(server, links, Some(&key)).await?;
    for device in devices {
        device.socket.close("the device leaves").await;
    }
    Ok(json!({ "devices": links }))
}

/// Connects all devices, some at a time.
async fn connect(server: &Server, links: u32, key: Option<&str>) -> anyhow::Result<Vec<Device>> {
    let pin = Pin::Server(server.client.server());
    let opened = stream::iter(0..links)
        .map(|number| Device::open(server.client.url(), pin, number, key))
        .buffer_unordered(AT_ONCE);
    opened.collect::<Vec<_>>().await.into_iter().collect()
}

pub(crate) async fn run(server: &Server, links: u32) -> anyhow::Result<Value> {
    let memory_before = kib_of(server.pid, "status", "VmRSS:")?;
    let started = Instant::now();
    let devices = connect(server, links, None).await?;
    let storm = started.elapsed();
    sleep(SETTLE).await;
    let memory = kib_of(server.pid, "status", "VmRSS:")? - memory_before;
    let leave = Arc::new(Notify::new());
    let mut fleet = JoinSet::new();
    for (place, device) in (0..).zip(devices) {
        fleet.spawn(serve(device, INTERVAL * place / links, leave.clone()));
    }
    // Each has reported.
    sleep(INTERVAL).await;
    let mut round_trips = Vec::new();
    for place in 0..ROUND_TRIPS {
        round_trips.push(round_trip(server, place * STRIDE % links as usize).await?);
    }
    round_trips.sort();
    let fan_out = fan_out(server, links).await?;
    leave.notify_waiters();
    while let Some(done) = fleet.join_next().await {
        done??;
    }
    Ok(json!({
        "storm_secs": storm.as_secs_f64(),
        "memory_kib": memory,
        "round_trip_p50_secs": round_trips[ROUND_TRIPS / 2].as_secs_f64(),
        "round_trip_p99_secs": round_trips[ROUND_TRIPS * 99 / 100].as_secs_f64(),
        "fan_out_secs": fan_out.as_secs_f64(),
    }))
}

/// From the moment somebody asks for a command until they know how it ended.
async fn round_trip(server: &Server, place: usize) -> anyhow::Result<Duration> {
    let request = CommandRequest {
        device_id: format!("link-{place:05}"),
        command: "collect".to_owned(),
        ..CommandRequest::default()
    };
    let asked = Instant::now();
    let mut command = server.client.command_create(&request).await?;
    while !command.state.is_over() {
        if asked.elapsed() > PATIENCE {
            bail!("the command for {} is still {}", request.device_id, command.state.word());
        }
        command = server.client.command_wait(command.id, command.state, PATIENCE).await?;
    }
    if command.state != CommandState::Succeeded {
        bail!("the command for {} is {}: {}", request.device_id, command.state.word(), command.why);
    }
    Ok(asked.elapsed())
}

/// From the moment somebody asks for a batch of all devices until all have done it.
async fn fan_out(server: &Server, links: u32) -> anyhow::Result<Duration> {
    let links = links as usize;
    let request = BatchRequest {
        filter: Some("status=online".to_owned()),
        expect: Some(links),
        command: Some("collect".to_owned()),
        window: Some(links),
        canary: Some(0),
        offline: WhenOffline::Fail,
        ..BatchRequest::default()
    };
    let asked = Instant::now();
    let mut batch = server.client.batch_create(&request).await?;
    while batch.state == BatchState::Running {
        if asked.elapsed() > PATIENCE {
            bail!("the batch is still running: {:?}", batch.counts);
        }
        sleep(LOOK_EVERY).await;
        batch = server.client.batch_get(batch.id).await?;
    }
    let took = asked.elapsed();
    if batch.counts.get(&MemberState::Succeeded) != Some(&links) {
        bail!("the batch is {}: {:?}", batch.state.word(), batch.counts);
    }
    Ok(took)
}

/// Reports at its time and does what it is told, until all leave.
async fn serve(mut device: Device, first: Duration, leave: Arc<Notify>) -> anyhow::Result<()> {
    let mut reports = interval_at(Instant::now() + first, INTERVAL);
    reports.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let leaving = leave.notified();
    tokio::pin!(leaving);
    loop {
        tokio::select! {
            () = &mut leaving => break,
            _ = reports.tick() => {
                let now = SystemClock.now();
                let samples = Samples { reports: vec![device.collect(now, now)], stream: device.stream };
                device.socket.send(&ToServer::Samples(samples)).await?;
            }
            frame = device.socket.receive_frame() => match frame.context("a device lost its link")? {
                ToAgent::Command(order) => obey(&mut device, &order).await?,
                ToAgent::Standing(_) | ToAgent::Ack { .. } | ToAgent::Config(_)
                | ToAgent::Watch { .. } | ToAgent::CommandNoted { .. } => {}
                other => bail!("the server said {other:?}"),
            }
        }
    }
    // The server may be the first to close.
    _ = timeout(PATIENCE, device.socket.close("the device leaves")).await;
    Ok(())
}

/// Accepts an order, begins, and is done at once.
async fn obey(device: &mut Device, order: &CommandOrder) -> anyhow::Result<()> {
    let done = CommandResult {
        outcome: Outcome::Succeeded,
        detail: "done".to_owned(),
        exit_code: None,
        output: Vec::new(),
        left_out_bytes: 0,
    };
    for progress in [Progress::Accepted, Progress::Running, Progress::Done(done)] {
        let news = CommandNews { id: order.id, progress };
        device.socket.send(&ToServer::Command(news)).await?;
    }
    Ok(())
}
