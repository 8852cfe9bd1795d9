//! The newest values of some metrics of all devices. They are in memory, and a large fleet can be
//! looked at in parts, side by side.

use std::ops::Range;
use std::sync::Arc;

use fleet_core::id::Uid;
use fleet_core::time::Timestamp;

use super::engine::{Device, Engine};
use super::head::Finder;
use super::names::SeriesId;
use super::points::Wanted;
use super::query::live;

/// The newest value of a series of a device.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct NewestValue {
    /// Which of the metrics asked for.
    pub metric: usize,
    /// The series.
    pub series: SeriesId,
    /// Its place among all series of those metrics.
    pub place: usize,
    /// When.
    pub at: Timestamp,
    /// The value.
    pub value: f64,
}

/// A look at some metrics of all devices that there were when it began.
pub struct Overview {
    /// The series with the places of their metrics.
    asked: Vec<(usize, SeriesId)>,
    wanted: Wanted,
    devices: Vec<Arc<Device>>,
}

impl Engine {
    /// Begins to look at the newest values of some metrics.
    pub(crate) fn overview(&self, metrics: &[String]) -> Overview {
        let names = &self.shared.names;
        let of = |(place, metric): (usize, &String)| {
            names.series_of(metric).into_iter().map(move |id| (place, id))
        };
        let asked: Vec<_> = metrics.iter().enumerate().flat_map(of).collect();
        let wanted = Wanted::new(asked.iter().map(|(_, id)| *id));
        Overview { asked, wanted, devices: live(&self.shared) }
    }
}

impl Overview {
    /// How many devices there are.
    pub fn devices(&self) -> usize {
        self.devices.len()
    }

    /// Shows the newest values of each of some devices that has any, as they are now.
    pub fn show(&self, devices: Range<usize>, visit: &mut dyn FnMut(Uid, &[NewestValue])) {
        let mut finder = Finder::new(&self.wanted);
        let (mut found, mut values) = (Vec::new(), Vec::new());
        for device in self.devices.get(devices).unwrap_or_default() {
            device.head().newest(&mut finder, &mut found);
            if found.is_empty() {
                continue;
            }
            found.sort_unstable_by_key(|(place, _)| *place);
            values.clear();
            values.extend(found.iter().map(|(place, newest)| NewestValue {
                metric: self.asked[*place].0,
                series: newest.series,
                place: *place,
                at: Timestamp::from_millis(newest.at),
                value: newest.number.get(),
            }));
            visit(device.uid, &values);
        }
    }
}
