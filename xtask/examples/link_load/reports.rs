//! Devices that report as fast as the server takes it.

use std::time::Duration;

use anyhow::bail;
use fleet_core::net::tls::Pin;
use fleet_core::time::{Clock as _, SystemClock, Timestamp};
use fleet_core::wire::{Samples, Standing, ToAgent, ToServer};
use futures_util::future::try_join_all;
use serde_json::json;
use tokio::time::{Instant, sleep};
use xtask::child::cpu_secs;

use crate::Server;
use crate::device::{Device, enrol_key};

/// Reports of a frame at most: what has come together while the last frame was under way.
const FRAME_REPORTS: u64 = 32;
/// Between two reports of a device, by its own clock.
const INTERVAL_MILLIS: i64 = 1000;
/// How long ago each device's first report was made: it has been away.
const AWAY: Duration = Duration::from_secs(24 * 3600);
/// How long a server's work counts after the last answer: what it has put off is part of it.
const AFTERWARDS: Duration = Duration::from_secs(5);

pub(crate) async fn run(
    server: &Server,
    links: u32,
    time: Duration,
) -> anyhow::Result<serde_json::Value> {
    let key = enrol_key(&server.client).await?;
    let pin = Pin::Server(server.client.server());
    let mut devices = Vec::new();
    for number in 0..links {
        devices.push(Device::open(server.client.url(), pin, number, Some(&key)).await?);
    }
    let before = cpu_secs(server.pid)?;
    let own_before = cpu_secs(std::process::id())?;
    let started = Instant::now();
    let until = started + time;
    let reports = try_join_all(devices.into_iter().map(|device| report(device, until))).await?;
    let (reports, took) = (reports.iter().sum::<u64>(), started.elapsed());
    let own = cpu_secs(std::process::id())? - own_before;
    sleep(AFTERWARDS).await;
    let used = cpu_secs(server.pid)? - before;
    Ok(json!({
        "reports": reports,
        "secs": took.as_secs_f64(),
        "server_cpu_secs": used,
        "own_cpu_secs": own,
    }))
}

/// Reports, one frame after the other, until the time is up; says how many reports the server has
/// acknowledged.
async fn report(mut device: Device, until: Instant) -> anyhow::Result<u64> {
    let mut at = SystemClock.now().minus(AWAY);
    while Instant::now() < until {
        // Mixed by a multiplication, so that frames of all sizes come.
        let count = 1 + (device.seq.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) % FRAME_REPORTS;
        let now = SystemClock.now();
        let reports = (0..count).map(|_| {
            at = Timestamp::from_millis(at.millis() + INTERVAL_MILLIS);
            device.collect(at, now)
        });
        let samples = Samples { reports: reports.collect(), stream: device.stream };
        device.socket.send(&ToServer::Samples(samples)).await?;
        acknowledged(&mut device).await?;
    }
    device.socket.close("the device leaves").await;
    Ok(device.seq)
}

async fn acknowledged(device: &mut Device) -> anyhow::Result<()> {
    loop {
        match device.socket.receive_frame().await? {
            ToAgent::Ack { stream, seq } if stream == device.stream && seq == device.seq => {
                return Ok(());
            }
            ToAgent::Standing(Standing::Active { .. })
            | ToAgent::Config(_)
            | ToAgent::Watch { .. } => {}
            other => bail!("the server said {other:?} instead of an acknowledgement"),
        }
    }
}
