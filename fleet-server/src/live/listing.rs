//! The devices on the board with their newest numbers, as lists want them: many are looked at, few
//! are shown. Nothing is read from the store, so a long list costs little.

use std::borrow::Cow;
use std::collections::HashSet;
use std::ops::Range;
use std::sync::Arc;

use fleet_core::api::{DeviceStatus, IndexRow};
use fleet_core::field::{Field, SortKey};
use fleet_core::filter::{Filter, Subject, compare};
use fleet_core::id::Uid;
use fleet_core::time::Timestamp;
use serde_json::Value;

use super::board::Board;
use crate::ops::Presence;
use crate::ops::presence::Reading;
use crate::ops::vitals::Numbers;

/// A device, as it is at this moment.
#[derive(Clone, Debug)]
pub(crate) struct Listed {
    row: Arc<IndexRow>,
    reading: Option<Reading>,
}

/// Devices that a filter finds.
pub(crate) struct Listing {
    devices: Vec<Listed>,
    sort: SortKey,
}

impl Listing {
    /// The devices that a filter finds, of some or of all, to be shown in the order of a key.
    pub(super) fn new(
        board: &Board,
        members: Option<&HashSet<Uid>>,
        presence: &Presence,
        filter: &Filter,
        sort: SortKey,
        now: Timestamp,
    ) -> Self {
        let mut rows = board.rows();
        if let Some(members) = members {
            rows.retain(|row| members.contains(&row.uid));
        }
        let readings = presence.readings(rows.iter().map(|row| row.uid));
        let devices = rows.into_iter().zip(readings);
        let devices = devices.map(|(row, reading)| Listed { row, reading });
        let is_found = |device: &Listed| filter.is_empty() || filter.matches(device, now);
        Self { devices: devices.filter(is_found).collect(), sort }
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.devices.len()
    }

    /// All of them, in no order.
    pub(crate) fn devices(&self) -> &[Listed] {
        &self.devices
    }

    /// Those at some places of the order. The others are only kept apart, not sorted.
    pub(crate) fn part(mut self, range: Range<usize>) -> Vec<Listed> {
        let order = |a: &Listed, b: &Listed| compare(self.sort, a, b);
        let mut part = if range.start >= self.devices.len() {
            Vec::new()
        } else {
            self.devices.select_nth_unstable_by(range.start, order);
            self.devices.split_off(range.start)
        };
        if range.len() < part.len() {
            part.select_nth_unstable_by(range.len(), order);
            part.truncate(range.len());
        }
        part.sort_by(order);
        part
    }
}

impl Subject for Listed {
    fn text(&self, field: Field) -> Option<Cow<'_, str>> {
        self.row.text(field)
    }

    fn status(&self) -> DeviceStatus {
        self.row.status
    }

    fn number(&self, field: Field) -> Option<f64> {
        // What an absent device measured last is not how it is.
        let reading = self.reading.filter(|_| self.row.status.is_heard())?;
        let Numbers { cpu, memory, disk, temperature } = reading.numbers;
        match field {
            Field::Cpu => cpu.map(f64::from),
            Field::Memory => memory.map(f64::from),
            Field::Disk => disk.map(f64::from),
            Field::Temperature => temperature.map(f64::from),
            _ => None,
        }
    }

    fn time(&self, field: Field) -> Option<Timestamp> {
        match field {
            // The row tells when it was heard as it last changed.
            Field::Seen => {
                self.reading.and_then(|reading| reading.last_seen).max(self.row.last_seen)
            }
            _ => self.row.time(field),
        }
    }

    fn metadata(&self, name: &str) -> Option<&Value> {
        self.row.metadata(name)
    }

    fn entries(&self) -> Box<dyn Iterator<Item = &str> + '_> {
        self.row.entries()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use fleet_core::filter::Words;
    use fleet_core::id::Uid;
    use fleet_core::metric::Sample;
    use proptest::prelude::*;

    use super::super::board::tests::row;
    use super::*;

    fn now() -> Timestamp {
        Timestamp::from_millis(1_000_000)
    }

    /// A board of devices with these uses of their processors.
    fn fleet(cpus: &[u8]) -> (Board, Presence) {
        let (board, presence) = (Board::default(), Presence::default());
        for cpu in cpus {
            let uid = Uid::new();
            board.put(uid, |slot| row(slot, uid, DeviceStatus::Online)).unwrap();
            presence.heard(uid, now());
            let cpu = [Sample::new("cpu_usage", f64::from(*cpu))];
            presence.reported(uid, now(), Numbers::of(&cpu));
        }
        (board, presence)
    }

    fn ids(devices: &[Listed]) -> Vec<String> {
        devices.iter().map(|device| device.row.id.to_string()).collect()
    }

    #[test]
    fn a_device_has_its_newest_numbers_while_it_is_heard() {
        let (board, presence) = fleet(&[7]);
        let find = |text: &str| {
            let filter = Filter::parse(text, Words::Refused).unwrap();
            Listing::new(&board, None, &presence, &filter, SortKey::default(), now()).len()
        };
        assert_eq!((find("cpu=7"), find("last_seen<1s"), find("status=late")), (1, 1, 0));
        let uid = board.listed()[0];
        board.put(uid, |slot| row(slot, uid, DeviceStatus::Offline)).unwrap();
        assert_eq!((find("cpu=7"), find("last_seen<1s")), (0, 1));
    }

    #[test]
    #[ignore = "measures; cargo test --release -p fleet-server --lib -- --ignored --nocapture measure"]
    fn measure_a_page_of_ten_thousand_devices() {
        let (board, presence) = fleet(&(0..10_000).map(|n| (n % 100) as u8).collect::<Vec<_>>());
        for (text, key) in [("", "status"), ("", "-cpu"), ("cpu>50 device~1", "device")] {
            let filter = Filter::parse(text, Words::Refused).unwrap();
            let sort = key.parse().unwrap();
            let round = |_| {
                let begun = Instant::now();
                let listing = Listing::new(&board, None, &presence, &filter, sort, now());
                assert_eq!(listing.part(0..100).len(), 100);
                begun.elapsed()
            };
            println!("{:?}  {text:?} by {key}", (0..50).map(round).min().unwrap());
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn a_part_is_what_it_would_be_of_all_sorted(
            cpus in prop::collection::vec(0..100_u8, 0..40),
            (start, len) in (0..45_usize, 0..15_usize),
            key in prop::sample::select(vec!["status", "-cpu", "device", "-last_seen"]),
        ) {
            let (board, presence) = fleet(&cpus);
            let sort = key.parse().unwrap();
            let listing = || Listing::new(&board, None, &presence, &Filter::default(), sort, now());
            let mut all = listing().devices;
            all.sort_by(|a, b| compare(sort, a, b));
            let all = ids(&all);
            let range = start.min(all.len())..(start + len).min(all.len());
            prop_assert_eq!(ids(&listing().part(start..start + len)), &all[range]);
        }
    }
}
