//! Puts made-up devices into the database of a server that does not run, each with one report:
//! `fill_store DATABASE COUNT`. `cargo xtask bench` runs it to measure with a large fleet.

use std::path::Path;

use anyhow::Context as _;
use fleet_core::id::Uid;
use fleet_core::identity::PrivateKey;
use fleet_core::metric::Sample;
use fleet_core::time::{Clock as _, SystemClock, Timestamp};
use fleet_core::wire::Facts;
use fleet_server::store::{
    Admission, Device, DeviceStore as _, Incoming, OtherKeys, RedbStore, TelemetryStore as _,
};
use futures_util::future::try_join_all;

/// Devices that are stored together, so that they share commits.
const TOGETHER: usize = 500;
const INTERVAL_SECS: u32 = 60;

fn main() -> anyhow::Result<()> {
    let mut args = std::env::args_os().skip(1);
    let usage = "fill_store DATABASE COUNT";
    let database = args.next().context(usage)?;
    let count: u32 = args.next().context(usage)?.to_str().context(usage)?.parse()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(fill(Path::new(&database), count))
}

async fn fill(database: &Path, count: u32) -> anyhow::Result<()> {
    let store = RedbStore::open(database)?;
    let now = SystemClock.now();
    let devices: Vec<Device> = (0..count).map(|number| device(number, now)).collect();
    for some in devices.chunks(TOGETHER) {
        try_join_all(some.iter().map(|device| store.device_insert(device.clone()))).await?;
        let reports = some.iter().map(|device| report(device.uid, now));
        store.append(reports.collect()).await?;
    }
    Ok(())
}

fn device(number: u32, now: Timestamp) -> Device {
    let mut seed = [3; 32];
    seed[..4].copy_from_slice(&number.to_be_bytes());
    let (kind, model) = match number % 3 {
        0 => ("raspberrypi", "Raspberry Pi 4 Model B Rev 1.4"),
        1 => ("jetson", "NVIDIA Jetson Orin Nano Developer Kit"),
        _ => ("x86", "OptiPlex 3060"),
    };
    let name = format!("pump-eu-{number:05}");
    Device {
        uid: Uid::new(),
        id: name.parse().expect("letters, digits and hyphens are an id"),
        key: Some(PrivateKey::from_seed(&seed).public()),
        name: None,
        state: Admission::Active,
        state_reason: "accepted".to_owned(),
        state_at: now,
        facts: Facts {
            hostname: name,
            device_type: kind.to_owned(),
            model: model.to_owned(),
            os: "Debian GNU/Linux 12 (bookworm)".to_owned(),
            kernel: "6.6.51+rpt-rpi-v8".to_owned(),
            arch: "aarch64".to_owned(),
            version: fleet_core::VERSION.to_owned(),
            cores: 4,
            memory_bytes: Some(4 << 30),
            addresses: vec![format!("10.8.{}.{}", number / 250, number % 250 + 1)],
            interval_secs: INTERVAL_SECS,
            ..Facts::default()
        },
        metadata: [("tags".to_owned(), "[\"eu-west\",\"line-3\"]".to_owned())].into(),
        created_at: now,
        last_seen: Some(now),
        missed_reports: 0,
        other_keys: OtherKeys::default(),
        reported: None,
    }
}

fn report(device: Uid, at: Timestamp) -> Incoming {
    let value = |name: &str, value| Sample::new(name, value);
    Incoming {
        device,
        stream: None,
        at,
        samples: vec![
            value("cpu_usage", 37.0),
            value("memory_usage", 61.0),
            value("disk_usage", 48.0),
            value("temperature_celsius", 52.0),
        ],
    }
}
