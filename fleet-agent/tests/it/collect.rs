//! Collectors and host facts on whole machines: exact values over two snapshots, then every file
//! missing, every file full of garbage, and this machine.

use std::time::{Duration, Instant};

use fleet_agent::collect::{CollectError, Collected, Sampler, Selection};
use fleet_agent::sys::SysRoot;
use fleet_agent::sys::host::{DeviceType, HostFacts};
use fleet_core::metric::Sample;
use proptest::prelude::*;

use crate::machine::Machine;

const INTERVAL: Duration = Duration::from_secs(10);

/// Files, and the metrics that are gone without them.
const SOURCES: [(&str, &[&str]); 7] = [
    ("proc/stat", &["cpu_"]),
    ("proc/meminfo", &["memory_", "swap_"]),
    ("proc/loadavg", &["load_"]),
    ("proc/uptime", &["uptime_"]),
    ("proc/diskstats", &["disk_read", "disk_write", "disk_io"]),
    ("proc/net/dev", &["network_"]),
    ("sys/class/thermal/thermal_zone2/temp", &["temperature_celsius{zone=x86_pkg_temp}"]),
];

/// What two collections gave.
struct Seen {
    first: Collected,
    second: Collected,
}

fn collect_twice(machine: &Machine) -> Seen {
    let mut sampler = Sampler::new(&machine.root());
    let start = Instant::now();
    let first = sampler.collect(start, &Selection::Everything);
    machine.go_on();
    let second = sampler.collect(start + INTERVAL, &Selection::Everything);
    Seen { first, second }
}

/// `name{label=value} number`, as the tables below have it.
fn shown(sample: &Sample) -> String {
    let labels: Vec<String> =
        sample.labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let labels =
        if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
    format!("{}{labels} {}", sample.name, sample.value)
}

/// All lines but those whose values are this machine's own disk's.
fn table(collected: &Collected) -> Vec<String> {
    let own =
        ["disk_usage", "disk_mount_", "disk_inode_", "disk_total_", "disk_used_", "disk_avail"];
    let lines = collected.samples.iter().map(shown);
    lines.filter(|line| !own.iter().any(|prefix| line.starts_with(prefix))).collect()
}

fn mounts(collected: &Collected) -> Vec<&str> {
    let usage = collected.samples.iter().filter(|sample| sample.name == "disk_mount_usage");
    usage.map(|sample| sample.labels[0].1.as_str()).collect()
}

fn lines(table: &str) -> Vec<&str> {
    table.lines().map(str::trim).filter(|line| !line.is_empty()).collect()
}

#[test]
fn x86_server() {
    let seen = collect_twice(&Machine::new("x86-server"));
    assert!(seen.first.failures.is_empty() && seen.second.failures.is_empty());
    let gauges = "
        memory_usage 25
        memory_total_bytes 16777216000
        memory_available_bytes 12582912000
        swap_usage 25
        swap_total_bytes 2147483648
        swap_used_bytes 536870912
        load_1 0.52
        load_5 0.31
        load_15 0.25
        temperature_celsius{zone=acpitz-0} 27.8
        temperature_celsius{zone=acpitz-1} 29.8
        temperature_celsius{zone=x86_pkg_temp} 45
        uptime_seconds 123456.78";
    assert_eq!(table(&seen.first), lines(gauges));

    // Core 2 is offline; core 3 and nvme0n1 were reset; wg0 is new.
    let rates = "
        cpu_usage 35
        cpu_user_usage 20
        cpu_system_usage 12
        cpu_iowait_usage 5
        cpu_steal_usage 3
        cpu_core_usage{core=0} 50
        cpu_core_usage{core=1} 25
        disk_read_bytes_per_second{device=sda} 1048576
        disk_write_bytes_per_second{device=sda} 209715.2
        disk_reads_per_second{device=sda} 10
        disk_writes_per_second{device=sda} 5
        disk_io_usage{device=sda} 25
        disk_io_wait_milliseconds{device=sda} 3
        network_receive_bytes_per_second{interface=eth0} 250000
        network_transmit_bytes_per_second{interface=eth0} 10000
        network_receive_errors_per_second{interface=eth0} 0
        network_transmit_errors_per_second{interface=eth0} 0.1
        network_receive_drops_per_second{interface=eth0} 0.5
        network_transmit_drops_per_second{interface=eth0} 0";
    let mut expected = lines(gauges);
    expected.extend(lines(rates));
    expected.sort_unstable();
    let mut table = table(&seen.second);
    table.sort_unstable();
    assert_eq!(table, expected);
    assert_eq!(mounts(&seen.second), ["/", "/boot/efi"]);
}

#[test]
fn raspberry_pi() {
    let machine = Machine::new("rpi4");
    let seen = collect_twice(&machine);
    assert!(seen.first.failures.is_empty() && seen.second.failures.is_empty());
    // The radio's counters wrapped; the firmware's mount point is not in the fixture.
    let expected = "
        cpu_usage 10
        cpu_user_usage 7.5
        cpu_system_usage 2.5
        cpu_iowait_usage 2.5
        cpu_steal_usage 0
        cpu_core_usage{core=0} 10
        cpu_core_usage{core=1} 0
        cpu_core_usage{core=2} 0
        cpu_core_usage{core=3} 100
        memory_usage 25
        memory_total_bytes 3977551872
        memory_available_bytes 2983163904
        swap_total_bytes 0
        swap_used_bytes 0
        disk_read_bytes_per_second{device=mmcblk0} 0
        disk_write_bytes_per_second{device=mmcblk0} 0
        disk_reads_per_second{device=mmcblk0} 0
        disk_writes_per_second{device=mmcblk0} 0
        disk_io_usage{device=mmcblk0} 0
        load_1 0.08
        load_5 0.03
        load_15 0.01
        temperature_celsius{zone=cpu-thermal} 48.312
        uptime_seconds 3600.25";
    assert_eq!(table(&seen.second), lines(expected));
    assert_eq!(mounts(&seen.second), ["/"]);
}

#[test]
fn bare_container() {
    let seen = collect_twice(&Machine::new("container"));
    assert!(seen.first.failures.is_empty() && seen.second.failures.is_empty());
    // Its processor time stands still, so there is no share of it.
    let expected = "
        memory_usage 25
        memory_total_bytes 2147483648
        memory_available_bytes 1610612736
        load_1 0
        load_5 0
        load_15 0
        uptime_seconds 12.5";
    assert_eq!(table(&seen.second), lines(expected));
    assert_eq!(mounts(&seen.second), ["/"]);
}

#[test]
fn facts() {
    for (name, device_type, hostname, model, os, arch, cores, memory_bytes) in [
        (
            "x86-server",
            DeviceType::X86,
            "rack7-node2",
            Some("Supermicro SYS-5019D-FN8TP"),
            "Debian GNU/Linux 13 (trixie)",
            "x86_64",
            3,
            16_777_216_000,
        ),
        (
            "rpi4",
            DeviceType::RaspberryPi,
            "rpi4-001",
            Some("Raspberry Pi 4 Model B Rev 1.4"),
            "Debian GNU/Linux 12 (bookworm)",
            "aarch64",
            4,
            3_977_551_872,
        ),
        (
            "container",
            DeviceType::Container,
            "3f2a9c41d7be",
            None,
            "Alpine Linux v3.22",
            "x86_64",
            1,
            2_147_483_648,
        ),
    ] {
        let facts = HostFacts::read(&Machine::new(name).root(), None);
        assert_eq!(facts.device_type, device_type);
        assert_eq!(facts.hostname, hostname);
        assert_eq!(facts.model.as_deref(), model);
        assert_eq!(facts.os.as_deref(), Some(os));
        assert_eq!(facts.arch, arch);
        assert_eq!(facts.cores, cores);
        assert_eq!(facts.memory_bytes, Some(memory_bytes));
        assert!(facts.addresses.is_empty(), "a fixture has no network");
    }
}

#[test]
fn a_missing_file_costs_its_own_metrics_only() {
    let whole = table(&collect_twice(&Machine::new("x86-server")).second);
    for (file, metrics) in SOURCES {
        let machine = Machine::new("x86-server");
        let mut sampler = Sampler::new(&machine.root());
        let start = Instant::now();
        sampler.collect(start, &Selection::Everything);
        machine.go_on();
        machine.remove(file);
        let second = sampler.collect(start + INTERVAL, &Selection::Everything);

        let kept = whole.iter().filter(|line| !metrics.iter().any(|m| line.starts_with(m)));
        assert_eq!(table(&second), kept.cloned().collect::<Vec<_>>(), "without {file}");
        assert!(second.failures.len() <= 1, "{file}: {:?}", second.failures);
        let third = sampler.collect(start + 2 * INTERVAL, &Selection::Everything);
        assert!(third.failures.is_empty(), "{file} is news only once");
    }
}

#[test]
fn garbage_is_a_failure_that_names_the_file() {
    for (file, metrics) in &SOURCES[..6] {
        let machine = Machine::new("x86-server");
        machine.write(file, b"\xffcpu NaN -1 \xc3\xa9\n\n \0 inf\neth0 : 1");
        let collected =
            Sampler::new(&machine.root()).collect(Instant::now(), &Selection::Everything);
        assert_eq!(collected.failures.len(), 1, "{file}: {:?}", collected.failures);
        let error = &collected.failures[0].error;
        assert!(matches!(error, CollectError::Form { path } if path.ends_with(file)), "{error:?}");
        let left = table(&collected);
        assert!(!left.iter().any(|line| metrics.iter().any(|m| line.starts_with(m))), "{left:?}");
    }
}

#[test]
fn numbers_that_cannot_be_are_no_samples() {
    for (file, text, metric) in [
        ("proc/uptime", "-5.0 1.0\n", "uptime_"),
        ("proc/uptime", "NaN 1.0\n", "uptime_"),
        ("proc/uptime", "inf 1.0\n", "uptime_"),
        ("proc/loadavg", "-0.5 0.0 0.0 1/2 3\n", "load_1 "),
        ("proc/loadavg", "0.5 nan 0.0 1/2 3\n", "load_5 "),
        ("proc/meminfo", "MemTotal: 0 kB\nMemAvailable: 0 kB\n", "memory_usage"),
        ("proc/meminfo", "MemTotal: 9 kB\nMemAvailable: -1 kB\n", "memory_usage"),
        ("sys/class/thermal/thermal_zone2/temp", "2147483647\n", "temperature_celsius{zone=x86"),
    ] {
        let machine = Machine::new("x86-server");
        machine.write(file, text.as_bytes());
        let collected =
            Sampler::new(&machine.root()).collect(Instant::now(), &Selection::Everything);
        let table = table(&collected);
        assert!(!table.iter().any(|line| line.starts_with(metric)), "{text:?}: {table:?}");
        let only_form = |error: &CollectError| matches!(error, CollectError::Form { .. });
        assert!(collected.failures.iter().all(|failure| only_form(&failure.error)), "{text:?}");
    }
}

#[test]
fn a_machine_that_is_not_there_has_no_samples() {
    let root = SysRoot::at("/nonexistent/machine");
    let collected = Sampler::new(&root).collect(Instant::now(), &Selection::Everything);
    assert_eq!(collected.samples, []);
    assert!(!HostFacts::read(&root, None).kernel.is_empty());
}

#[test]
fn this_machine() {
    let mut sampler = Sampler::new(&SysRoot::real());
    let start = Instant::now();
    sampler.collect(start, &Selection::Everything);
    // Processor time moves in ticks; wait until one has passed.
    let deadline = start + Duration::from_secs(10);
    let collected = loop {
        let collected = sampler.collect(Instant::now(), &Selection::Everything);
        assert!(collected.failures.is_empty(), "{:?}", collected.failures);
        if collected.samples.iter().any(|sample| sample.name == "cpu_usage") {
            break collected;
        }
        assert!(Instant::now() < deadline, "no tick of processor time within ten seconds");
        std::thread::yield_now();
    };
    let value = |name: &str| {
        let sample = collected.samples.iter().find(|sample| sample.name == name);
        sample.unwrap_or_else(|| panic!("{name} is measured")).value
    };
    for percent in ["cpu_usage", "memory_usage", "disk_usage"] {
        assert!((0.0..=100.0).contains(&value(percent)), "{percent} {}", value(percent));
    }
    for positive in ["memory_total_bytes", "disk_total_bytes", "uptime_seconds"] {
        assert!(value(positive) > 0.0, "{positive}");
    }
    assert!(value("load_1") >= 0.0);
    if SysRoot::real().has("sys/class/net/eth0") {
        assert!(value("network_receive_bytes_per_second") >= 0.0);
    }
}

/// What a file may hold instead: bytes, or its own text with some words replaced.
#[derive(Clone, Debug)]
enum Garbage {
    Bytes(Vec<u8>),
    Words(Vec<(prop::sample::Index, &'static str)>),
}

/// Words that numbers, names and escapes must not become.
const WORDS: [&str; 12] = [
    "18446744073709551615",
    "-1",
    "NaN",
    "inf",
    "1e308",
    "",
    "\u{e9}",
    "99999999999999999999",
    "0",
    ":",
    "cpu9999999999",
    "\\777",
];

fn garbage() -> impl Strategy<Value = Garbage> {
    let replacement = (any::<prop::sample::Index>(), prop::sample::select(&WORDS[..]));
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..300).prop_map(Garbage::Bytes),
        prop::collection::vec(replacement, 1..8).prop_map(Garbage::Words),
    ]
}

fn spoiled(text: &str, garbage: &Garbage) -> Vec<u8> {
    match garbage {
        Garbage::Bytes(bytes) => bytes.clone(),
        Garbage::Words(replacements) => {
            let mut words: Vec<String> =
                text.split_inclusive([' ', '\n']).map(str::to_owned).collect();
            for (index, word) in replacements {
                let spoiled = index.get_mut(&mut words);
                let separator = spoiled.pop().into_iter();
                *spoiled = word.chars().chain(separator).collect();
            }
            words.concat().into_bytes()
        }
    }
}

#[test]
fn garbage_never_panics_and_never_gives_a_bad_number() {
    let machine = Machine::new("x86-server");
    let sources = SOURCES.iter().map(|(file, _)| *file).chain(["proc/self/mountinfo"]);
    let files: Vec<(&str, String)> = sources.map(|file| (file, machine.text(file))).collect();

    proptest!(|(source in any::<prop::sample::Index>(), before in garbage(), after in garbage())| {
        for (file, text) in &files {
            machine.write(file, text.as_bytes());
        }
        let (file, text) = source.get(&files);
        let mut sampler = Sampler::new(&machine.root());
        let mut at = Instant::now();
        for garbage in [before, after] {
            machine.write(file, &spoiled(text, &garbage));
            check(&sampler.collect(at, &Selection::Everything))?;
            at += INTERVAL;
        }
        prop_assert_eq!(HostFacts::read(&machine.root(), None).hostname, "rack7-node2");
    });
}

fn check(collected: &Collected) -> Result<(), TestCaseError> {
    for failure in &collected.failures {
        prop_assert!(matches!(failure.error, CollectError::Form { .. }), "{failure:?}");
    }
    for sample in &collected.samples {
        prop_assert!(sample.validate().is_ok(), "{sample:?}");
        prop_assert!(sample.value >= 0.0 || sample.name == "temperature_celsius", "{sample:?}");
        prop_assert!(sample.value <= 100.0 || !sample.name.ends_with("_usage"), "{sample:?}");
    }
    Ok(())
}
