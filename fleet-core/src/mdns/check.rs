//! What must hold whatever comes from the network.

use std::net::IpAddr;
use std::time::Duration;

use tokio::time::Instant;

use super::cache::{CLAIMS_MAX, Cache, SOURCE_CLAIMS_MAX};
use super::claim::Source;
use super::instance::Event;
use super::packet::{self, MDNS_PORT};
use super::records;
use crate::beacon::{Heard, SERVICE_TYPE};

/// Addresses that packets come from.
const SOURCES: u8 = 3;

/// Packets from some neighbours: each is a byte that says who sends it and how much later, two bytes
/// with its length, and what it is.
pub(crate) fn packets_of_any_bytes(bytes: &[u8]) {
    let service = records::service_name(SERVICE_TYPE).expect("the service has a name");
    let mut cache = Cache::new(service);
    let mut now = Instant::now();
    let mut rest = bytes;
    while let [head, high, low, behind @ ..] = rest {
        let length = usize::from(u16::from_be_bytes([*high, *low])).min(behind.len());
        let (packet, behind) = behind.split_at(length);
        rest = behind;
        now += Duration::from_secs(u64::from(head / SOURCES));
        cache.expire(now);
        let ip = IpAddr::from([192, 0, 2, head % SOURCES]);
        if let Some(packet) = packet::parse(packet) {
            cache.on_packet(Source { ip, link: 1, loopback: false }, MDNS_PORT, &packet, now);
        }
        while let Some(event) = cache.next_event() {
            if let Event::Found(instance) | Event::Updated(instance) = event {
                let heard = Heard::read(&instance);
                assert!(heard.id.is_none_or(|id| !id.as_str().contains(char::is_control)));
                let shown = instance.name.to_string();
                assert!(!shown.contains(char::is_control), "{shown:?} acts on a terminal");
            }
        }
        assert!(cache.claims() <= CLAIMS_MAX.min(SOURCE_CLAIMS_MAX * usize::from(SOURCES)));
        cache.follow_up(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fuzz::write_seed;
    use crate::mdns::records::Names;

    #[test]
    #[ignore = "writes the seeds anew: cargo test -p fleet-core --features net --lib write_seeds -- --ignored"]
    fn write_seeds() {
        let mut conversation = Vec::new();
        for (head, fingerprint) in [(0, "ABCD-EFGH"), (1, "IJKL-MNOP"), (5, "ABCD-EFGH")] {
            let names = Names::new(SERVICE_TYPE, "fleetd-rpi4-001", "rpi4-001").unwrap();
            let said =
                [("id", "rpi4-001"), ("v", "0.1.0"), ("caps", "exec,logs"), ("fp", fingerprint)];
            let said = said.map(|(key, value)| (key.to_owned(), value.to_owned()));
            let txt = records::txt_data(&said).unwrap();
            let address = IpAddr::from([192, 0, 2, head % SOURCES]);
            let told = records::records(&names, 6789, &txt, std::iter::once(address));
            for packet in packet::responses(told, Vec::new()) {
                conversation.push(head);
                conversation.extend(u16::try_from(packet.len()).unwrap().to_be_bytes());
                conversation.extend(packet);
            }
        }
        write_seed("mdns", "conversation", &conversation).unwrap();
    }
}
