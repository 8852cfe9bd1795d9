//! Temperatures of the thermal zones that the kernel names. See
//! Documentation/driver-api/thermal/sysfs-api.rst in the kernel's sources.

use std::collections::BTreeMap;
use std::io;

use super::{Batch, CollectError, Collector};
use crate::sys::SysRoot;

const FOLDER: &str = "sys/class/thermal";
/// Zones that are read.
const ZONES_MAX: usize = 64;
/// What a sensor can mean; drivers without a reading give numbers far outside.
const CELSIUS: std::ops::RangeInclusive<f64> = -100.0..=300.0;

/// The thermal zones.
pub(super) struct Temperature {
    root: SysRoot,
}

impl Temperature {
    pub(super) fn new(root: SysRoot) -> Self {
        Self { root }
    }
}

impl Collector for Temperature {
    fn name(&self) -> &'static str {
        "temperature"
    }

    fn metrics(&self) -> &'static [&'static str] {
        &["temperature_celsius"]
    }

    /// A sensor that is asleep refuses to be read; its sample is absent then.
    fn collect(&mut self, batch: &mut Batch<'_>) -> Result<(), CollectError> {
        let folders = match self.root.names(FOLDER) {
            Ok(folders) => folders,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(source) => {
                return Err(CollectError::Read { path: self.root.path(FOLDER), source });
            }
        };
        for (zone, celsius) in self.readings(&folders) {
            batch.push_labelled("temperature_celsius", "zone", &zone, celsius);
        }
        Ok(())
    }
}

impl Temperature {
    /// Zones go by their type, such as `cpu-thermal`; those that share one by type and number.
    fn readings(&self, folders: &[String]) -> Vec<(String, f64)> {
        let mut by_type: BTreeMap<String, Vec<(&str, f64)>> = BTreeMap::new();
        let zones = folders.iter().filter_map(|folder| folder.strip_prefix("thermal_zone"));
        for number in zones.take(ZONES_MAX) {
            let folder = format!("{FOLDER}/thermal_zone{number}");
            let kind = self.root.line(format!("{folder}/type"));
            let kind = kind.unwrap_or_else(|| "zone".to_owned());
            if let Some(celsius) = self.celsius(&folder) {
                by_type.entry(kind).or_default().push((number, celsius));
            }
        }
        let mut readings = Vec::new();
        for (kind, zones) in by_type {
            match zones.as_slice() {
                [(_, celsius)] => readings.push((kind, *celsius)),
                several => readings.extend(
                    several.iter().map(|(number, celsius)| (format!("{kind}-{number}"), *celsius)),
                ),
            }
        }
        readings
    }

    fn celsius(&self, folder: &str) -> Option<f64> {
        let millidegrees: i32 = self.root.line(format!("{folder}/temp"))?.parse().ok()?;
        Some(f64::from(millidegrees) / 1000.0).filter(|celsius| CELSIUS.contains(celsius))
    }
}
