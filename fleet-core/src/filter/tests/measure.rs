//! How long filters and sort keys take, for people to read: no test depends on it.

use std::time::{Duration, Instant};

use super::fleet::{device, now};
use crate::api::Device;
use crate::field::SortKey;
use crate::filter::{Filter, Words, compare, suggestion};

const ROWS: usize = 10_000;
const ROUNDS: usize = 100;

#[test]
#[ignore = "measures; cargo test --release -p fleet-core --lib -- --ignored --nocapture measure"]
fn ten_thousand_devices() {
    let now = now();
    let fleet: Vec<Device> = (0..ROWS).map(one).collect();
    for text in [
        "status=offline",
        "status=offline type=raspberrypi",
        "type=raspberrypi and (site in (lyon,nice) or tag:canary) and not version<1.2 and last_seen>10m",
        "cpu>90",
        "version<1.4.2",
        "model~\"pi 4\"",
        "name~p*p$",
        "rack>50",
        "pump",
    ] {
        let filter = Filter::parse(text, Words::Fuzzy).unwrap();
        let count = || fleet.iter().filter(|device| filter.matches(device, now)).count();
        println!("{:?}  {} of {ROWS}  {text}", fastest(count), count());
    }
    for key in ["status", "-cpu", "device", "version"] {
        let key: SortKey = key.parse().unwrap();
        let sorted = || {
            let mut rows: Vec<&Device> = fleet.iter().collect();
            rows.sort_by(|a, b| compare(key, a, b));
            rows.len()
        };
        println!("{:?}  sort {key}", fastest(sorted));
    }
    let meant = || suggestion("tag:eu-wset", fleet.iter()).map_or(0, |meant| meant.term.len());
    println!("{:?}  suggestion", fastest(meant));
}

fn fastest(work: impl Fn() -> usize) -> Duration {
    let round = |_| {
        let start = Instant::now();
        std::hint::black_box(work());
        start.elapsed()
    };
    (0..ROUNDS).map(round).min().unwrap_or_default()
}

fn one(n: usize) -> Device {
    let status = ["online", "online", "online", "late", "offline"][n % 5];
    let (site, region) = (["lyon", "nice", "paris"][n % 3], ["eu-west", "us"][n % 2]);
    let device_type = ["raspberrypi", "jetson"][n % 2];
    let changes = serde_json::json!({
        "name": format!("Water pump {n}"), "version": format!("1.{}.0", n % 7),
        "type": device_type,
        "metadata": {"site": site, "tags": [region, "canary"], "rack": n % 100},
        "latest": {"timestamp": now(), "metrics": {"cpu_usage": n % 100, "memory_usage": 40,
            "disk_usage": 50, "load_1m": 1, "uptime_seconds": 5000}},
    });
    device(&format!("cam-{region}-{n:05}"), status, changes)
}
