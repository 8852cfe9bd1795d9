//! Fleets that are made up, for tests, snapshots and benches: the same ones at every run.

use std::collections::BTreeMap;
use std::time::Duration;

use fleet_core::api::{DeviceStatus, Hello, IndexPage, IndexRow, StreamMessage, ValueRow, Values};
use fleet_core::id::Uid;
use fleet_core::identity::{Fingerprint, PrivateKey, ServerIdentity};
use fleet_core::time::Timestamp;
use fleet_core::untrusted::Untrusted;
use ratatui::layout::Size;
use serde_json::json;

use crate::event::{Event, LinkEvent, Moment};
use crate::state::{App, Settings};

/// When the samples take place: 2026-08-23T14:03:22Z.
pub const NOW: i64 = 1_787_493_802_000;

/// A moment so long after the console's start, with the wall's clock going on as well.
pub fn moment(since_start: Duration) -> Moment {
    Moment { wall: Timestamp::from_millis(NOW).plus(since_start), since_start }
}

/// What a sample console was started with.
pub fn settings() -> Settings {
    Settings {
        server: "https://fleet.example.com:8443".to_owned(),
        context: Some(Untrusted::from("prod")),
        contexts: vec![Untrusted::from("prod"), Untrusted::from("staging")],
        is_read_only: false,
        identity: Some(identity()),
        user: Untrusted::from("alice@jump1"),
    }
}

/// The identity of the sample server.
pub fn identity() -> ServerIdentity {
    PrivateKey::from_seed(&[3; 32]).public().identity()
}

/// A console that is connected to a fleet of so many devices.
pub fn app(devices: u32, size: Size) -> App {
    let mut app = App::new(settings(), size);
    connect(&mut app, devices);
    app
}

/// Connects a console to a fleet of so many devices.
pub fn connect(app: &mut App, devices: u32) {
    for message in messages(devices) {
        say(app, message);
    }
}

/// Hands a console something that the server says.
pub fn say(app: &mut App, message: StreamMessage) {
    let now = app.desk.now.since_start;
    app.apply(moment(now), Event::Link(LinkEvent::Message(Box::new(message))));
}

/// Everything that a server says to a new stream, with values for all.
pub fn messages(devices: u32) -> Vec<StreamMessage> {
    let rows: Vec<_> = (0..devices).map(row).collect();
    let values = Values {
        rows: (0..devices).map(values).collect(),
        past: (0..devices).map(|slot| (slot, past(slot))).collect(),
    };
    vec![
        StreamMessage::Hello(hello(devices)),
        StreamMessage::Index(IndexPage { rows, gone: Vec::new(), complete: true }),
        StreamMessage::Values(values),
    ]
}

/// The beginning of a stream.
pub fn hello(devices: u32) -> Hello {
    Hello {
        stream: Uid::from_bytes([1; 16]),
        instance: Uid::from_bytes([2; 16]),
        version: fleet_core::VERSION.to_owned(),
        time: Timestamp::from_millis(NOW),
        key: Untrusted::from("k3xq2m7a"),
        devices,
        resumed: false,
    }
}

/// The uid of a sample device.
pub fn uid(slot: u32) -> Uid {
    let mut bytes = [7; 16];
    bytes[12..].copy_from_slice(&slot.to_be_bytes());
    Uid::from_bytes(bytes)
}

/// The key of a sample device.
pub fn fingerprint(slot: u32) -> Fingerprint {
    let mut seed = [9; 32];
    seed[..4].copy_from_slice(&slot.to_be_bytes());
    PrivateKey::from_seed(&seed).public().fingerprint()
}

/// A sample device. Of every hundred a few are late, offline or pending.
pub fn row(slot: u32) -> IndexRow {
    let (kind, board, model, arch) = match slot % 4 {
        0 => ("pump-eu", "raspberrypi", "Raspberry Pi 4 Model B Rev 1.4", "aarch64"),
        1 => ("cam-us", "jetson", "NVIDIA Jetson Orin Nano", "aarch64"),
        2 => ("kiosk-ap", "x86", "OptiPlex 3060", "x86_64"),
        _ => ("meter-eu", "raspberrypi", "Raspberry Pi 3 Model B Plus Rev 1.3", "armv7l"),
    };
    let (status, why, silence) = match slot % 100 {
        7 => (DeviceStatus::Offline, Some("no report for 14m, expected every 60s"), 840),
        23 => (DeviceStatus::Late, Some("no report for 95s, expected every 60s"), 95),
        41 => (DeviceStatus::Late, Some("no report for 2m, expected every 60s"), 130),
        66 => (DeviceStatus::Pending, Some("asks to be let in"), 20),
        83 if slot > 100 => {
            (DeviceStatus::Lost, Some("no report for 41d, expected every 60s"), 3_542_400)
        }
        _ => (DeviceStatus::Online, None, 3),
    };
    let seen = Timestamp::from_millis(NOW).minus(Duration::from_secs(silence));
    let region = ["eu-west", "us", "ap"][slot as usize % 3];
    let refused = slot % 100 == 12;
    IndexRow {
        slot,
        uid: uid(slot),
        id: format!("{kind}-{slot:04}").parse().expect("a device id"),
        name: None,
        device_type: board.into(),
        version: if slot % 10 == 3 { "0.0.9".into() } else { fleet_core::VERSION.into() },
        status,
        why: why.map(Untrusted::from),
        last_seen: Some(seen),
        created_at: Timestamp::from_millis(NOW).minus(Duration::from_secs(86_400 * 41)),
        fingerprint: Some(if slot < 200 { fingerprint(slot) } else { fingerprint(0) }),
        config_version: u64::from(refused) * 18,
        config_reported: refused.then_some(18),
        config_error: refused
            .then(|| Untrusted::from("telemetry.metrics: this device has no gpu_usage")),
        config_state: None,
        config_drift: false,
        interval_secs: 60,
        hostname: format!("{kind}-{slot:04}.lan").into(),
        model: model.into(),
        os: "Debian GNU/Linux 12 (bookworm)".into(),
        arch: arch.into(),
        address: Some(format!("10.8.{}.{}", slot / 250, slot % 250 + 1).into()),
        metadata: BTreeMap::from([
            ("site".to_owned(), json!(["lyon", "nice", "oslo"][slot as usize % 3])),
            ("tags".to_owned(), json!([region, kind.split('-').next()])),
        ]),
    }
}

/// What a sample device measured last.
pub fn values(slot: u32) -> ValueRow {
    let cpu = u8::try_from(slot.wrapping_mul(37) % 98).unwrap_or_default();
    let memory = u8::try_from(20 + slot.wrapping_mul(13) % 75).unwrap_or_default();
    let disk = u8::try_from(15 + slot.wrapping_mul(7) % 80).unwrap_or_default();
    let seen = NOW - 3_000;
    ValueRow(slot, Some(seen), Some(cpu), Some(memory), Some(disk), Some(48))
}

/// The last CPU values of a sample device.
fn past(slot: u32) -> Vec<u8> {
    let value =
        |step: u32| u8::try_from((slot.wrapping_mul(37) + step * 9) % 98).unwrap_or_default();
    (0..10).map(value).collect()
}
