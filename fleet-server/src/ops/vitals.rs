//! What a device's newest report says in a few whole numbers, for lists that many look at.

use std::collections::VecDeque;

use fleet_core::metric::Sample;

/// The temperature of each sensor, in degrees Celsius.
pub(super) const TEMPERATURE: &str = "temperature_celsius";
/// CPU values that are kept of each device.
const PAST_MAX: usize = 10;

/// Whole percents and degrees; nothing where nothing was measured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Numbers {
    pub(crate) cpu: Option<u8>,
    pub(crate) memory: Option<u8>,
    pub(crate) disk: Option<u8>,
    /// Of the hottest sensor.
    pub(crate) temperature: Option<i16>,
}

/// The numbers, and the last CPU values.
#[derive(Debug, Default)]
pub(crate) struct Vitals {
    pub(crate) numbers: Numbers,
    past: VecDeque<u8>,
}

impl Vitals {
    /// From a report of before the server's start, which tells nothing of the values before it.
    pub(crate) fn restored(samples: &[Sample]) -> Self {
        Self { numbers: Numbers::of(samples), past: VecDeque::new() }
    }

    /// Takes the device's next report.
    pub(crate) fn report(&mut self, numbers: Numbers) {
        self.numbers = numbers;
        let Some(cpu) = self.numbers.cpu else { return };
        if self.past.len() == PAST_MAX {
            self.past.pop_front();
        }
        self.past.push_back(cpu);
    }

    /// Takes what somebody else says of the device. What they do not say stays.
    pub(crate) fn join(&mut self, new: Numbers) {
        let known = self.numbers;
        self.numbers = Numbers {
            cpu: new.cpu.or(known.cpu),
            memory: new.memory.or(known.memory),
            disk: new.disk.or(known.disk),
            temperature: new.temperature.or(known.temperature),
        };
    }

    /// The last CPU values, oldest first.
    pub(crate) fn past(&self) -> Vec<u8> {
        self.past.iter().copied().collect()
    }
}

/// What a number is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Vital {
    Cpu,
    Memory,
    Disk,
    Temperature,
}

impl Vital {
    /// What a series says, if it is one of these.
    pub(crate) fn of(metric: &str, has_labels: bool) -> Option<Self> {
        match metric {
            "cpu_usage" if !has_labels => Some(Self::Cpu),
            "memory_usage" if !has_labels => Some(Self::Memory),
            "disk_usage" if !has_labels => Some(Self::Disk),
            TEMPERATURE => Some(Self::Temperature),
            _ => None,
        }
    }
}

impl Numbers {
    /// Of a report.
    pub(crate) fn of(samples: &[Sample]) -> Self {
        let mut numbers = Self::default();
        for sample in samples {
            if let Some(vital) = Vital::of(&sample.name, !sample.labels.is_empty()) {
                numbers.note(vital, sample.value);
            }
        }
        numbers
    }

    /// Takes a value of a report.
    pub(crate) fn note(&mut self, vital: Vital, value: f64) {
        let percent = || Some(value.round().clamp(0.0, 100.0) as u8);
        match vital {
            Vital::Cpu => self.cpu = percent(),
            Vital::Memory => self.memory = percent(),
            Vital::Disk => self.disk = percent(),
            // The hottest counts. Out of range, `as` gives the nearest number that there is.
            Vital::Temperature => {
                self.temperature = self.temperature.max(Some(value.round() as i16));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_whole_and_what_was_not_measured_is_absent() {
        let mut vitals = Vitals::default();
        vitals.report(Numbers::of(&[
            Sample::new("cpu_usage", 41.5),
            Sample::new("memory_usage", 250.0),
            Sample::labelled("disk_usage", "mount", "/", 3.0),
            Sample::labelled("temperature_celsius", "zone", "cpu", 48.6),
            Sample::labelled("temperature_celsius", "zone", "gpu", -3.0),
        ]));
        let expected =
            Numbers { cpu: Some(42), memory: Some(100), disk: None, temperature: Some(49) };
        assert_eq!(vitals.numbers, expected);
        vitals.join(Numbers::of(&[Sample::new("temperature_celsius", 50.0)]));
        assert_eq!(vitals.numbers, Numbers { temperature: Some(50), ..expected });
        vitals.report(Numbers::of(&[Sample::new("temperature_celsius", 1e9)]));
        let expected = Numbers { temperature: Some(i16::MAX), ..Numbers::default() };
        assert_eq!(vitals.numbers, expected);
        assert_eq!(vitals.past(), [42]);
    }

    #[test]
    fn the_past_is_ten_values_long() {
        let mut vitals = Vitals::restored(&[Sample::new("cpu_usage", 99.0)]);
        assert!(vitals.past().is_empty());
        for value in 0..12 {
            vitals.report(Numbers::of(&[Sample::new("cpu_usage", f64::from(value))]));
        }
        assert_eq!(vitals.past(), [2, 3, 4, 5, 6, 7, 8, 9, 10, 11]);
    }
}
