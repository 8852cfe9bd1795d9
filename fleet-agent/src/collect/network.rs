//! What the network interfaces received and sent since the last collection. See proc_pid_net(5).

use std::collections::BTreeMap;

use procfs::FromBufRead as _;
use procfs::net::InterfaceDeviceStatus;

use super::rates::Rates;
use super::{Batch, CollectError, Collector, text_if_any};
use crate::sys::SysRoot;

/// The agent's own view of the network; a container has its own interfaces.
const FILE: &str = "proc/net/dev";
/// Interfaces that are reported.
const INTERFACES_MAX: usize = 64;
/// The kernel's or a container engine's own plumbing: what goes through these goes through a real
/// interface too, or never leaves the machine.
const PLUMBING: [&str; 10] =
    ["veth", "docker", "br-", "cni", "cali", "flannel", "virbr", "ifb", "dummy", "sit"];

/// The metrics, in the order of the counters.
const METRICS: [&str; 6] = [
    "network_receive_bytes_per_second",
    "network_transmit_bytes_per_second",
    "network_receive_errors_per_second",
    "network_transmit_errors_per_second",
    "network_receive_drops_per_second",
    "network_transmit_drops_per_second",
];

/// The traffic of each interface.
pub(super) struct Network {
    root: SysRoot,
    rates: Rates<{ METRICS.len() }>,
}

impl Network {
    pub(super) fn new(root: SysRoot) -> Self {
        Self { root, rates: Rates::new() }
    }
}

impl Collector for Network {
    fn name(&self) -> &'static str {
        "network"
    }

    fn metrics(&self) -> &'static [&'static str] {
        &METRICS
    }

    fn collect(&mut self, batch: &mut Batch<'_>) -> Result<(), CollectError> {
        let Some(text) = text_if_any(&self.root, FILE)? else { return Ok(()) };
        let now = counters(&text).ok_or_else(|| CollectError::form(&self.root, FILE))?;
        for moved in self.rates.advance(batch.at(), now) {
            for (counter, metric) in METRICS.iter().enumerate() {
                batch.push_labelled(metric, "interface", &moved.thing, moved.per_second(counter));
            }
        }
        Ok(())
    }
}

fn counters(text: &str) -> Option<BTreeMap<String, [u64; METRICS.len()]>> {
    let InterfaceDeviceStatus(interfaces) =
        InterfaceDeviceStatus::from_buf_read(text.as_bytes()).ok()?;
    // Sorted before it is cut, so that the same interfaces are kept each time.
    let interfaces: BTreeMap<_, _> = interfaces.into_iter().collect();
    let real = interfaces.into_iter().filter(|(name, _)| !is_plumbing(name));
    let counted = real.map(|(name, status)| {
        let counters = [
            status.recv_bytes,
            status.sent_bytes,
            status.recv_errs,
            status.sent_errs,
            status.recv_drop,
            status.sent_drop,
        ];
        (name, counters)
    });
    Some(counted.take(INTERFACES_MAX).collect())
}

fn is_plumbing(interface: &str) -> bool {
    interface == "lo" || PLUMBING.iter().any(|prefix| interface.starts_with(prefix))
}
