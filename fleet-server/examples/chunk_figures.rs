//! What chunks cost, in bytes and processor time, on made-up reports: `chunk_figures [DEVICES]`.
//!
//! Twelve metrics every ten seconds for a day, the same in every run.

use std::hint::black_box;
use std::io::{self, Write as _};

use fleet_server::series::chunk::{Chunk, Column, ColumnKey, Effort, Part, Rows, Table, encode};
use fleet_server::series::number::Number;
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike as _;

const DEVICES: u64 = 100;
const REPORTS: usize = 8640;
const INTERVAL_MILLIS: i64 = 10_000;
const JITTER_MILLIS: i64 = 50;
/// How often what takes little is measured.
const REPEATS: usize = 300;
const START: i64 = 1_800_000_000_000;
const METRICS: [&str; 12] = [
    "cpu_usage",
    "memory_usage",
    "disk_usage",
    "load1",
    "load5",
    "temperature_celsius",
    "memory_used_bytes",
    "disk_used_bytes",
    "network_receive_bytes_total",
    "network_transmit_bytes_total",
    "latency_ms",
    "uptime_seconds",
];

fn main() -> anyhow::Result<()> {
    let devices: u64 = std::env::args().nth(1).map_or(Ok(DEVICES), |count| count.parse())?;
    anyhow::ensure!(devices > 0, "chunk_figures [DEVICES]");
    let out = &mut io::stdout().lock();
    let days: Vec<Table> = (0..devices).map(|number| Device::new(number).day()).collect();
    writeln!(out, "{devices} devices, {REPORTS} reports of {} metrics", METRICS.len())?;
    writeln!(
        out,
        "{:>22} {:>9} {:>9} {:>9} {:>9}  ns per sample",
        "", "bytes", "encode", "decode", "floats"
    )?;
    for (effort, rows) in [
        (Effort::Quick, 40),
        (Effort::Quick, 60),
        (Effort::Quick, 360),
        (Effort::Best, 60),
        (Effort::Best, 120),
        (Effort::Best, 360),
        (Effort::Best, 1440),
    ] {
        let tables: Vec<Table> = days.iter().flat_map(|day| parts(day, rows)).collect();
        let cost = Cost::of(&tables, effort);
        let name = format!("{effort:?} of {rows} rows");
        writeln!(out, "{name:>22} {cost}")?;
    }
    for (at, name) in METRICS.iter().enumerate() {
        let bytes = column_bytes(&days, at);
        writeln!(out, "{name:>30} {bytes:9.3} bytes")?;
    }
    numbers(&days, out)
}

/// What a sample costs on average.
struct Cost {
    bytes: f64,
    encode: f64,
    decode: f64,
    floats: f64,
}

impl Cost {
    fn of(tables: &[Table], effort: Effort) -> Self {
        let samples: usize =
            tables.iter().flat_map(|table| &table.columns).map(|column| column.numbers.len()).sum();
        let nanos = |work: &mut dyn FnMut()| nanos(work) / samples as f64;
        let mut chunks: Vec<Vec<u8>> = Vec::with_capacity(tables.len());
        let encode = nanos(&mut || chunks.extend(tables.iter().map(|table| encode(table, effort))));
        let decode = nanos(&mut || {
            for chunk in &chunks {
                black_box(open(chunk).table().expect("it has just been made"));
            }
        });
        let mut out = Vec::new();
        let floats = nanos(&mut || {
            for chunk in &chunks {
                let chunk = open(chunk);
                for key in chunk.keys() {
                    out.clear();
                    black_box(chunk.values(key, &mut out).expect("it has just been made"));
                }
            }
        });
        let bytes: usize = chunks.iter().map(Vec::len).sum();
        Self { bytes: bytes as f64 / samples as f64, encode, decode, floats }
    }
}

impl std::fmt::Display for Cost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { bytes, encode, decode, floats } = self;
        write!(f, "{bytes:9.3} {encode:9.1} {decode:9.1} {floats:9.1}")
    }
}

fn open(chunk: &[u8]) -> Chunk<'_> {
    Chunk::open(chunk).expect("it has just been made")
}

/// Processor time that work takes.
fn nanos(work: &mut dyn FnMut()) -> f64 {
    let spent = || {
        let usage = getrusage(UsageWho::RUSAGE_THREAD).expect("every thread has a usage");
        (usage.user_time() + usage.system_time()).num_microseconds()
    };
    let before = spent();
    work();
    (spent() - before) as f64 * 1000.
}

/// What numbers themselves cost.
fn numbers(days: &[Table], out: &mut impl io::Write) -> anyhow::Result<()> {
    let texts: Vec<String> =
        days[0].columns[0].numbers.iter().map(|number| number.get().to_string()).collect();
    let numbers: Vec<Number> =
        texts.iter().filter_map(|text| Number::parse(text.as_bytes())).collect();
    let floats: Vec<f64> = numbers.iter().map(|number| number.get()).collect();
    let mut bytes = Vec::new();
    let mut each = |name: &str, work: &mut dyn FnMut()| {
        let nanos = nanos(&mut || (0..REPEATS).for_each(|_| work()));
        writeln!(out, "{name:>22} {:9.1} ns", nanos / (REPEATS * texts.len()) as f64)
    };
    each("parse", &mut || {
        for text in &texts {
            black_box(Number::parse(black_box(text.as_bytes())));
        }
    })?;
    each("near", &mut || {
        for float in &floats {
            black_box(Number::near(black_box(*float), 2));
        }
    })?;
    each("new", &mut || {
        for float in &floats {
            black_box(Number::new(black_box(*float)));
        }
    })?;
    each("put", &mut || {
        bytes.clear();
        for number in &numbers {
            number.put(black_box(&mut bytes));
        }
    })?;
    each("take", &mut || {
        let mut rest = bytes.as_slice();
        while let Some(number) = Number::take(&mut rest) {
            black_box(number);
        }
    })?;
    Ok(())
}

/// A day in tables of so many rows.
fn parts(day: &Table, rows: usize) -> impl Iterator<Item = Table> {
    (0..day.times.len()).step_by(rows).map(move |start| {
        let some = start..(start + rows).min(day.times.len());
        let column = |column: &Column| Column {
            key: column.key,
            rows: Rows::All,
            numbers: column.numbers[some.clone()].to_vec(),
        };
        Table {
            times: day.times[some.clone()].to_vec(),
            columns: day.columns.iter().map(column).collect(),
        }
    })
}

/// What a sample of one column adds to a chunk on average.
fn column_bytes(days: &[Table], at: usize) -> f64 {
    let (mut bytes, mut samples) = (0, 0);
    for mut table in days.iter().flat_map(|day| parts(day, 360)) {
        table.columns = vec![table.columns.swap_remove(at)];
        bytes += encode(&table, Effort::Best).len();
        table.columns.clear();
        bytes -= encode(&table, Effort::Best).len();
        samples += table.times.len();
    }
    bytes as f64 / samples as f64
}

struct Device {
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

const PAGE_BYTES: f64 = 4096.;
const MEMORY_PAGES: f64 = 1_048_576.;
const DISK_PAGES: f64 = 8_388_608.;
const SENSOR_STEP: u64 = 538;

impl Device {
    fn new(number: u64) -> Self {
        let mut random = Random(number << 32);
        let cpu_mean = 5. + random.unit() * 60.;
        Self {
            cpu_mean,
            cpu: cpu_mean,
            memory_pages: MEMORY_PAGES * (0.2 + random.unit() * 0.5),
            disk_pages: DISK_PAGES * (0.1 + random.unit() * 0.7),
            load1: cpu_mean / 25.,
            load5: cpu_mean / 25.,
            sensor: 60 + random.next() % 40,
            received: random.unit() * 1e11,
            transmitted: random.unit() * 1e10,
            booted: START - (random.next() % 10_000_000_000) as i64,
            random,
        }
    }

    fn day(mut self) -> Table {
        let mut times = Vec::with_capacity(REPORTS);
        let mut columns = vec![Vec::with_capacity(REPORTS); METRICS.len()];
        for report in 0..REPORTS as i64 {
            let jitter =
                (self.random.next() % (2 * JITTER_MILLIS as u64 + 1)) as i64 - JITTER_MILLIS;
            let time = START + report * INTERVAL_MILLIS + jitter;
            times.push(time);
            for (column, value) in columns.iter_mut().zip(self.report(time)) {
                column.push(Number::new(value));
            }
        }
        let column = |(series, numbers)| Column {
            key: ColumnKey { series, part: Part::Value },
            rows: Rows::All,
            numbers,
        };
        Table { times, columns: (1..).zip(columns).map(column).collect() }
    }

    fn report(&mut self, time: i64) -> [f64; METRICS.len()] {
        self.live();
        let hundredths = |value: f64| (value * 100.).round() / 100.;
        let latency = (2.5 + 0.4 * self.random.normal()).exp();
        [
            hundredths(self.cpu),
            hundredths(self.memory_pages / MEMORY_PAGES * 100.),
            hundredths(self.disk_pages / DISK_PAGES * 100.),
            hundredths(self.load1),
            hundredths(self.load5),
            (self.sensor * SENSOR_STEP) as f64 / 1000.,
            self.memory_pages.floor() * PAGE_BYTES,
            self.disk_pages.floor() * PAGE_BYTES,
            self.received.floor(),
            self.transmitted.floor(),
            hundredths(latency),
            ((time - self.booted) / 1000) as f64,
        ]
    }

    /// What happens in a device in ten seconds.
    fn live(&mut self) {
        let random = &mut self.random;
        let cpu = self.cpu + (self.cpu_mean - self.cpu) * 0.1 + random.normal() * 3.;
        self.cpu = cpu.clamp(0., 100.);
        let memory = self.memory_pages + random.normal() * 300.;
        self.memory_pages = memory.clamp(MEMORY_PAGES * 0.05, MEMORY_PAGES * 0.95);
        let dice = random.next();
        if dice.is_multiple_of(4) {
            let grown = self.disk_pages + (1.5 + random.normal()).exp();
            self.disk_pages = grown.min(DISK_PAGES);
        }
        let load1 = self.load1 + (self.cpu / 25. - self.load1) * 0.15 + random.normal() * 0.08;
        self.load1 = load1.max(0.);
        self.load5 += (self.load1 - self.load5) * 0.033;
        self.sensor = match (dice >> 8) % 8 {
            0 if self.sensor < 150 => self.sensor + 1,
            1 if self.sensor > 50 => self.sensor - 1,
            _ => self.sensor,
        };
        self.received += (10. + random.normal()).exp();
        self.transmitted += (9. + random.normal()).exp();
    }
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

    /// Normal, with mean 0 and deviation 1.
    fn normal(&mut self) -> f64 {
        (-2. * (1. - self.unit()).ln()).sqrt() * (self.unit() * std::f64::consts::TAU).cos()
    }
}
