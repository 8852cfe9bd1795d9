//! A made-up fleet's reports as Influx lines: twelve metrics a device, every ten seconds, all
//! devices of one moment together.
//!
//! They are the same in every run but for the moment they end at, so two servers can be given the
//! same. Making them must cost far less than storing them: the sender shares the processor with
//! the server that is measured.

use std::ops::Range;

/// What each device reports, as a server calls it: the lines' measurement, then the field.
pub(super) const METRICS: [&str; 12] = [
    "m_cpu_usage",
    "m_memory_usage",
    "m_disk_usage",
    "m_load1",
    "m_load5",
    "m_temperature_celsius",
    "m_memory_used_bytes",
    "m_disk_used_bytes",
    "m_network_receive_bytes_total",
    "m_network_transmit_bytes_total",
    "m_latency_ms",
    "m_uptime_seconds",
];

/// Between two reports of a device.
pub(super) const INTERVAL_MILLIS: i64 = 10_000;
/// How far a report is from its moment at most.
pub(super) const JITTER_MILLIS: i64 = 50;
/// What a report's line takes, generously.
pub(super) const LINE_BYTES: usize = 400;

const PAGE_BYTES: u64 = 4096;
/// Pages of a device's memory and of its disk.
const MEMORY_PAGES: f64 = 1_048_576.0;
const DISK_PAGES: f64 = 8_388_608.0;
/// What the temperature sensor counts in, in thousandths of a degree.
const SENSOR_STEP: u64 = 538;

/// How many devices report how often.
#[derive(Clone, Copy)]
pub(super) struct Set {
    pub(super) devices: u32,
    /// Reports of each.
    pub(super) reports: u32,
}

impl Set {
    pub(super) fn samples(self) -> u64 {
        u64::from(self.devices) * u64::from(self.reports) * METRICS.len() as u64
    }

    /// From the first moment to the last.
    pub(super) fn span_millis(self) -> i64 {
        i64::from(self.reports.saturating_sub(1)) * INTERVAL_MILLIS
    }
}

/// The name of a device.
pub(super) fn device_id(number: u32) -> String {
    format!("bench-{number:05}")
}

/// The reports of some devices, from the first moment to the last.
pub(super) struct Reports {
    devices: Vec<Device>,
    /// The device whose turn it is.
    next: usize,
    /// The moment whose turn it is.
    at: i64,
}

struct Device {
    line: Vec<u8>,
    random: Random,
    cpu_mean: f64,
    cpu: f64,
    memory_pages: f64,
    disk_pages: f64,
    load1: f64,
    load5: f64,
    sensor: u64,
    received: f64,
    transmitted: f64,
    booted: i64,
}

impl Reports {
    /// Reports of the devices of a set with these numbers; the last moment is `end`.
    pub(super) fn new(numbers: Range<u32>, set: Set, end: i64) -> Self {
        let start = end - set.span_millis();
        let devices = numbers.map(|number| Device::new(number, start)).collect();
        Self { devices, next: 0, at: start }
    }

    /// Adds up to `count` lines, up to the moment `until`; says how many. None means that this
    /// moment is over.
    pub(super) fn render(&mut self, count: usize, until: i64, out: &mut Vec<u8>) -> usize {
        for rendered in 0..count {
            if self.at > until || self.devices.is_empty() {
                return rendered;
            }
            self.devices[self.next].report(self.at, out);
            self.next += 1;
            if self.next == self.devices.len() {
                self.next = 0;
                self.at += INTERVAL_MILLIS;
            }
        }
        count
    }
}

impl Device {
    fn new(number: u32, start: i64) -> Self {
        let mut random = Random(u64::from(number) << 32);
        let cpu_mean = 5.0 + random.unit() * 60.0;
        Self {
            line: format!("m,device={} cpu_usage=", device_id(number)).into_bytes(),
            cpu_mean,
            cpu: cpu_mean,
            memory_pages: MEMORY_PAGES * (0.2 + random.unit() * 0.5),
            disk_pages: DISK_PAGES * (0.1 + random.unit() * 0.7),
            load1: cpu_mean / 25.0,
            load5: cpu_mean / 25.0,
            sensor: 60 + random.next() % 40,
            received: random.unit() * 1e11,
            transmitted: random.unit() * 1e10,
            booted: start - (random.next() % 10_000_000_000) as i64,
            random,
        }
    }

    fn report(&mut self, at: i64, out: &mut Vec<u8>) {
        self.live();
        let random = &mut self.random;
        let jitter = (random.next() % (2 * JITTER_MILLIS as u64 + 1)) as i64 - JITTER_MILLIS;
        let at = at + jitter;
        let latency = (2.5 + 0.4 * random.normal()).exp();
        out.reserve(LINE_BYTES);
        out.extend_from_slice(&self.line);
        decimal(hundredths(self.cpu), 2, out);
        out.extend_from_slice(b",memory_usage=");
        decimal(hundredths(self.memory_pages / MEMORY_PAGES * 100.0), 2, out);
        out.extend_from_slice(b",disk_usage=");
        decimal(hundredths(self.disk_pages / DISK_PAGES * 100.0), 2, out);
        out.extend_from_slice(b",load1=");
        decimal(hundredths(self.load1), 2, out);
        out.extend_from_slice(b",load5=");
        decimal(hundredths(self.load5), 2, out);
        out.extend_from_slice(b",temperature_celsius=");
        decimal(self.sensor * SENSOR_STEP, 3, out);
        out.extend_from_slice(b",memory_used_bytes=");
        whole(self.memory_pages as u64 * PAGE_BYTES, out);
        out.extend_from_slice(b"i,disk_used_bytes=");
        whole(self.disk_pages as u64 * PAGE_BYTES, out);
        out.extend_from_slice(b"i,network_receive_bytes_total=");
        whole(self.received as u64, out);
        out.extend_from_slice(b"i,network_transmit_bytes_total=");
        whole(self.transmitted as u64, out);
        out.extend_from_slice(b"i,latency_ms=");
        decimal(hundredths(latency), 2, out);
        out.extend_from_slice(b",uptime_seconds=");
        whole(((at - self.booted) / 1000).unsigned_abs(), out);
        out.extend_from_slice(b"i ");
        whole(at.unsigned_abs(), out);
        // Milliseconds, in the nanoseconds that lines are in.
        out.extend_from_slice(b"000000\n");
    }

    /// What happens in a device in ten seconds.
    fn live(&mut self) {
        let random = &mut self.random;
        let cpu = self.cpu + (self.cpu_mean - self.cpu) * 0.1 + random.normal() * 3.0;
        self.cpu = cpu.clamp(0.0, 100.0);
        let memory = self.memory_pages + random.normal() * 300.0;
        self.memory_pages = memory.clamp(MEMORY_PAGES * 0.05, MEMORY_PAGES * 0.95);
        let dice = random.next();
        if dice.is_multiple_of(4) {
            let grown = self.disk_pages + (1.5 + random.normal()).exp();
            self.disk_pages = grown.min(DISK_PAGES);
        }
        let load1 = self.load1 + (self.cpu / 25.0 - self.load1) * 0.15 + random.normal() * 0.08;
        self.load1 = load1.max(0.0);
        self.load5 += (self.load1 - self.load5) * 0.033;
        self.sensor = match (dice >> 8) % 8 {
            0 if self.sensor < 150 => self.sensor + 1,
            1 if self.sensor > 50 => self.sensor - 1,
            _ => self.sensor,
        };
        self.received += (10.0 + random.normal()).exp();
        self.transmitted += (9.0 + random.normal()).exp();
    }
}

fn hundredths(value: f64) -> u64 {
    (value * 100.0).round() as u64
}

/// SplitMix64: small, fast, and the same everywhere.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Between 0 and 1.
    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// About normal, with mean 0 and deviation 1: the sum of four numbers of 16 bits.
    fn normal(&mut self) -> f64 {
        const MEAN: f64 = 2.0 * 65_535.0;
        const DEVIATION: f64 = 37_837.227;
        let bits = self.next();
        let sum: u64 = (0..4).map(|part| (bits >> (16 * part)) & 0xffff).sum();
        (sum as f64 - MEAN) / DEVIATION
    }
}

/// A number of `digits` digits after the point, written as short as can be.
fn decimal(value: u64, digits: u32, out: &mut Vec<u8>) {
    let unit = 10_u64.pow(digits);
    let (mut rest, mut unit) = (value % unit, unit);
    whole(value / unit, out);
    if rest > 0 {
        out.push(b'.');
    }
    while rest > 0 {
        unit /= 10;
        out.push(b'0' + (rest / unit) as u8);
        rest %= unit;
    }
}

fn whole(mut value: u64, out: &mut Vec<u8>) {
    let mut text = [0; 20];
    let mut at = text.len();
    loop {
        at -= 1;
        text[at] = b'0' + (value % 10) as u8;
        value /= 10;
        if value == 0 {
            break;
        }
    }
    out.extend_from_slice(&text[at..]);
}

#[cfg(test)]
mod tests {
    use super::*;

    const END: i64 = 1_800_000_000_000;

    fn lines(set: Set, count: usize) -> Vec<String> {
        let mut reports = Reports::new(0..set.devices, set, END);
        let mut text = Vec::new();
        while reports.render(count, END, &mut text) > 0 {}
        String::from_utf8(text).unwrap().lines().map(str::to_owned).collect()
    }

    #[test]
    fn numbers_are_written_as_short_as_can_be() {
        for (value, digits, expected) in [
            (0, 2, "0"),
            (1234, 2, "12.34"),
            (1230, 2, "12.3"),
            (1200, 2, "12"),
            (5, 2, "0.05"),
            (48_958, 3, "48.958"),
            (u64::MAX, 2, "184467440737095516.15"),
        ] {
            let mut text = Vec::new();
            decimal(value, digits, &mut text);
            assert_eq!(String::from_utf8(text).unwrap(), expected);
        }
    }

    #[test]
    fn a_set_has_each_report_once_and_ends_at_its_end() {
        let set = Set { devices: 3, reports: 4 };
        let lines = lines(set, 5);
        assert_eq!(lines.len() as u64 * 12, set.samples());
        for (number, line) in lines.iter().enumerate() {
            let moment = END - INTERVAL_MILLIS * (3 - number as i64 / 3);
            let at: i64 = line.rsplit(' ').next().unwrap().parse().unwrap();
            assert!((at / 1_000_000 - moment).abs() <= JITTER_MILLIS, "{line}");
            assert!(line.starts_with(&format!("m,device={} ", device_id(number as u32 % 3))));
        }
    }

    #[test]
    fn a_line_has_every_metric_and_is_the_same_each_time() {
        let set = Set { devices: 2, reports: 50 };
        let lines = lines(set, 7);
        for line in &lines {
            assert!(line.len() < LINE_BYTES);
            let fields = line.split(' ').nth(1).unwrap();
            let names = fields.split(',').map(|field| field.split('=').next().unwrap());
            assert!(names.eq(METRICS.iter().map(|metric| &metric[2..])), "{line}");
        }
        assert_eq!(lines, self::lines(set, 100));
    }

    #[test]
    fn random_numbers_are_about_normal() {
        let mut random = Random(1);
        let values: Vec<f64> = (0..100_000).map(|_| random.normal()).collect();
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        let spread = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>();
        let deviation = (spread / values.len() as f64).sqrt();
        assert!(mean.abs() < 0.02 && (deviation - 1.0).abs() < 0.02, "{mean} {deviation}");
    }
}
