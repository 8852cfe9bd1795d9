//! How a device is shown: as a row among others, and alone with all that is known of it.

use std::io;

use fleet_core::api::Device;
use fleet_core::cli::listed::{Format, Listed, Reader};
use fleet_core::cli::output::Output;
use fleet_core::cli::table::{Cell, Column};
use fleet_core::field::{Field, Kind};
use fleet_core::filter::{self, ConfigState, Subject as _};
use fleet_core::glyph::{self, Glyph, Tone};
use fleet_core::untrusted::Untrusted;
use serde::Serialize;
use serde_json::Value;

/// The columns of a list of devices.
pub(super) struct Columns(Vec<(Field, Column)>);

impl Columns {
    /// Those that somebody asked for, all of them, whatever the terminal's width.
    pub(super) fn chosen(fields: &[Field]) -> Self {
        Self(fields.iter().map(|field| (*field, Column::from(field.spec()).kept())).collect())
    }

    /// Those that a format has unless told otherwise.
    pub(super) fn usual(format: Format) -> Self {
        let fields = match format {
            Format::Table => Field::usual(),
            _ => Field::all().collect(),
        };
        Self(fields.into_iter().map(|field| (field, field.spec().into())).collect())
    }

    /// Lists devices under these columns.
    pub(super) fn list(&self, devices: &[Device], output: &mut Output<'_>) -> io::Result<()> {
        let columns: Vec<_> = self.0.iter().map(|(_, column)| *column).collect();
        let cells = |device: &Device, reader| {
            self.0.iter().map(|(field, _)| cell(*field, device, reader)).collect()
        };
        output.rows(&columns, devices, cells, |device| device.id.to_string())
    }
}

/// What a device has in a column.
fn cell(field: Field, device: &Device, reader: Reader) -> Cell {
    match (field, field.spec().kind) {
        (Field::Status, _) => status_cell(device),
        (Field::Config, _) => config_word_cell(device),
        (Field::Tags, _) => {
            let tags = filter::tags(device.metadata("tags")).map(Untrusted::from);
            Cell::new(tags.map(|tag| tag.to_string()).collect::<Vec<_>>().join(" "))
        }
        (Field::Metadata, _) => metadata_cell(device),
        (_, Kind::Percent) => number_cell(device.number(field), "%", glyph::level, reader),
        (_, Kind::Celsius) => number_cell(device.number(field), "°C", |_| Tone::Plain, reader),
        (_, Kind::Age) => reader.time(device.time(field)),
        (_, Kind::Text | Kind::Version | Kind::Status | Kind::Words) => {
            Cell::maybe(device.text(field))
        }
    }
}

fn number_cell(value: Option<f64>, unit: &str, tone: impl Fn(f64) -> Tone, reader: Reader) -> Cell {
    let Some(value) = value else { return Cell::default() };
    match reader {
        Reader::Person { .. } => Cell::new(format!("{value:.0} {unit}")).toned(tone(value)),
        Reader::Program => Cell::new(value),
    }
}

fn status_cell(device: &Device) -> Cell {
    Cell::new(device.status.word()).toned(Glyph::of(device.status).spec().tone)
}

fn config_word_cell(device: &Device) -> Cell {
    let error = device.config_error.as_ref();
    let state = device
        .config_state
        .unwrap_or_else(|| ConfigState::of(device.config_version, device.config_reported, error));
    Cell::new(state.word()).toned(match state {
        ConfigState::None => Tone::Muted,
        ConfigState::Waiting | ConfigState::Sent | ConfigState::Trying => Tone::Warn,
        ConfigState::Applied if device.config_drift => Tone::Warn,
        ConfigState::Applied => Tone::Plain,
        ConfigState::Refused | ConfigState::Reverted => Tone::Bad,
    })
}

/// One device with all that is known of it.
#[derive(Debug, Serialize)]
#[serde(transparent)]
pub(super) struct Details(pub(super) Device);

impl Listed for Details {
    const COLUMNS: &'static [Column] = &[
        Column::new("ID", 20),
        Column::new("NAME", 20),
        Column::new("STATUS", 8),
        Column::new("WHY", 30),
        Column::new("LAST SEEN", 9),
        Column::new("TYPE", 11),
        Column::new("MODEL", 20),
        Column::new("HOST NAME", 20),
        Column::new("OS", 20),
        Column::new("KERNEL", 20),
        Column::new("ARCHITECTURE", 12),
        Column::new("CORES", 5),
        Column::new("MEMORY SIZE", 11),
        Column::new("ADDRESSES", 20),
        Column::new("VERSION", 7),
        Column::new("FINGERPRINT", 16),
        Column::new("UID", 36),
        Column::new("ADDED", 9),
        Column::new("METADATA", 20),
        Column::new("CONFIG", 6),
        Column::new("CONFIG STATE", 12),
        Column::new("CONFIG ERROR", 20),
        Column::new("MISSED REPORTS", 14),
        Column::new("TWICE", 30),
        Column::new("CLOCK", 20),
        Column::new("LATEST", 40),
    ];

    fn cells(&self, reader: Reader) -> Vec<Cell> {
        let Self(device) = self;
        let facts = &device.facts;
        let addresses: Vec<_> = facts.addresses.iter().map(ToString::to_string).collect();
        let missed = Some(device.missed_reports).filter(|missed| *missed > 0);
        vec![
            Cell::new(&device.id),
            Cell::new(&device.name),
            status_cell(device),
            Cell::new(&device.why),
            reader.time(device.last_seen),
            Cell::new(&device.device_type),
            Cell::new(&facts.model),
            Cell::new(&facts.hostname),
            Cell::new(&facts.os),
            Cell::new(&facts.kernel),
            Cell::new(&facts.arch),
            Cell::maybe(Some(facts.cores).filter(|cores| *cores > 0)),
            Cell::maybe(facts.memory_bytes.map(|bytes| format!("{} MiB", bytes / 1024 / 1024))),
            Cell::new(addresses.join(" ")),
            Cell::new(&device.version),
            Cell::maybe(device.fingerprint),
            Cell::new(device.uid),
            reader.time(Some(device.created_at)),
            metadata_cell(device),
            config_cell(
                device.config_version,
                device.config_reported,
                device.config_error.as_ref(),
                device.config_state,
                reader,
            ),
            config_state_cell(device),
            Cell::maybe(device.config_error.as_ref()).toned(Tone::Bad),
            Cell::maybe(missed).toned(Tone::Warn),
            double_cell(device, reader),
            clock_cell(device, reader),
            latest_cell(device),
        ]
    }

    fn name(&self) -> String {
        self.0.id.to_string()
    }
}

/// Since when, and from where, two devices have its key.
fn double_cell(device: &Device, reader: Reader) -> Cell {
    let Some(double) = &device.double else { return Cell::default() };
    let [one, other] = double.addresses;
    match reader {
        Reader::Program => Cell::new(double.since),
        Reader::Person { .. } => Cell::new(format!(
            "perhaps, since {}, last at {}, from {one} and {other}",
            double.since, double.last
        )),
    }
    .toned(Tone::Bad)
}

/// How far its clock is off.
fn clock_cell(device: &Device, reader: Reader) -> Cell {
    let Some(secs) = device.clock_skew_secs else { return Cell::default() };
    match reader {
        Reader::Program => Cell::new(secs),
        Reader::Person { .. } => Cell::maybe(device.clock_words()),
    }
    .toned(Tone::Warn)
}

/// How far it is with its configuration, and whether it goes by something else.
fn config_state_cell(device: &Device) -> Cell {
    let Some(state) = device.config_state else { return Cell::default() };
    if device.config_drift && state == ConfigState::Applied {
        return Cell::new(format!("{}, goes by another interval", state.word())).toned(Tone::Warn);
    }
    config_word_cell(device)
}

fn latest_cell(device: &Device) -> Cell {
    let metrics = device.latest.iter().flat_map(|latest| &latest.metrics);
    let metrics: Vec<_> = metrics.map(|(name, value)| format!("{name}={value:.1}")).collect();
    Cell::new(metrics.join(" "))
}

/// The version that the device shall have, and what is between it and that.
fn config_cell(
    wanted: u64,
    reported: Option<u64>,
    error: Option<&Untrusted>,
    state: Option<ConfigState>,
    reader: Reader,
) -> Cell {
    match (reader, reported) {
        _ if wanted == 0 => Cell::default(),
        (Reader::Program, _) => Cell::new(wanted),
        (Reader::Person { .. }, _) if error.is_some() => {
            let word = state.unwrap_or(ConfigState::Refused).word();
            Cell::new(format!("{wanted} {word}")).toned(Tone::Bad)
        }
        (Reader::Person { .. }, Some(reported)) if reported == wanted => Cell::new(wanted),
        (Reader::Person { .. }, Some(reported)) if reported > 0 => {
            Cell::new(format!("{wanted} (has {reported})")).toned(Tone::Warn)
        }
        (Reader::Person { .. }, _) => Cell::new(format!("{wanted} (has none)")).toned(Tone::Warn),
    }
}

fn metadata_cell(device: &Device) -> Cell {
    let entries = device.metadata.iter().map(|(key, value)| match value {
        Value::String(text) => format!("{key}={text}"),
        other => format!("{key}={other}"),
    });
    Cell::new(entries.collect::<Vec<_>>().join(" "))
}

#[cfg(test)]
pub(super) mod tests {
    use clap::ValueEnum as _;
    use fleet_core::cli::listed::Format;
    use fleet_core::cli::output::Terminal;
    use fleet_core::cli::testing::{HOSTILE, assert_harmless, written};
    use serde_json::json;

    use super::*;

    pub(crate) fn device(id: &str, status: &str, text: &str) -> Device {
        serde_json::from_value(json!({
            "id": id, "name": text, "type": text, "version": text, "status": status,
            "last_seen": "2024-01-15T10:30:00Z", "why": text,
            "uid": "018d0000-0000-7000-8000-000000000000", "fingerprint": null,
            "metadata": {"site": text}, "created_at": "2024-01-15T10:30:00Z",
            "facts": {"hostname": text, "model": text, "os": text, "kernel": text, "arch": text,
                "cores": 4, "memory_bytes": null, "addresses": [text], "interval_secs": 60},
            "missed_reports": 0, "config_version": 3, "config_reported": 2,
            "latest": {"timestamp": "2024-01-15T10:30:00Z", "metrics": {"cpu_usage": 45.2}}
        }))
        .unwrap()
    }

    fn list(devices: &[Device], output: &mut Output<'_>) {
        Columns::usual(output.format).list(devices, output).unwrap();
    }

    #[test]
    fn a_device_shows_how_it_is_doing() {
        let terminal = Terminal { stdout: true, ..Terminal::default() };
        let (mut output, out, _) = written(Format::Table, terminal);
        list(&[device("rpi4-001", "late", "Raspberry Pi 4")], &mut output);
        let text = out.text();
        for shown in ["rpi4-001", "late", "Raspberry Pi 4", " 45 %", "ago"] {
            assert!(text.contains(shown), "{shown}: {text}");
        }
        let (mut output, out, _) = written(Format::Wide, Terminal::default());
        list(&[device("rpi4-001", "late", "x")], &mut output);
        assert!(out.text().contains("waiting") && out.text().contains("site=x"), "{}", out.text());
    }

    #[test]
    fn programs_get_every_field_or_those_that_they_name() {
        let devices = [device("rpi4-001", "late", "x")];
        let (mut output, out, _) = written(Format::Csv, Terminal::default());
        list(&devices, &mut output);
        let names: Vec<_> = Field::all().map(|field| field.spec().name).collect();
        let text = out.text();
        assert!(text.starts_with(&(names.join(",") + "\nlate,rpi4-001,x,45.2,")), "{text}");

        let (mut output, out, _) = written(Format::Csv, Terminal::default());
        let chosen = [Field::Device, Field::Seen, Field::Config];
        Columns::chosen(&chosen).list(&devices, &mut output).unwrap();
        let expected = "device,last_seen,config\nrpi4-001,2024-01-15T10:30:00Z,waiting\n";
        assert_eq!(out.text(), expected);
    }

    #[test]
    fn columns_that_were_asked_for_stay_on_a_narrow_terminal() {
        let terminal = Terminal { stdout: true, columns: Some(10), ..Terminal::default() };
        let devices = [device("rpi4-001", "late", "x")];
        let (mut output, out, _) = written(Format::Table, terminal);
        list(&devices, &mut output);
        assert!(!out.text().contains("TYPE"), "{}", out.text());
        let (mut output, out, _) = written(Format::Table, terminal);
        Columns::chosen(&[Field::Device, Field::Type]).list(&devices, &mut output).unwrap();
        assert_eq!(out.text(), "DEVICE    TYPE\nrpi4-001  x\n");
    }

    #[test]
    fn a_double_and_a_wrong_clock_are_told() {
        let mut odd = device("a", "online", "because");
        let at = "2024-01-15T10:30:00Z".parse().unwrap();
        let addresses = ["10.0.0.2", "10.0.0.3"].map(|address| address.parse().unwrap());
        let sign = fleet_core::api::DoubleSign::Links;
        odd.double = Some(fleet_core::api::DoubleView { since: at, last: at, addresses, sign });
        odd.clock_skew_secs = Some(-3_600);
        let (mut output, out, _) = written(Format::Table, Terminal::default());
        output.one(&Details(odd)).unwrap();
        assert!(out.text().contains("from 10.0.0.2 and 10.0.0.3"), "{}", out.text());
        assert!(out.text().contains("60 min behind"), "{}", out.text());
    }

    #[test]
    fn how_far_a_clock_is_off_is_said_to_the_nearest() {
        for (secs, words) in
            [(3_599, "60 min ahead"), (-3_631, "61 min behind"), (86_399, "24 h ahead")]
        {
            let clock_skew_secs = Some(secs);
            let device = Device { clock_skew_secs, ..device("a", "online", "because") };
            let told = device.clock_words().unwrap();
            assert!(told.starts_with(words), "{told}");
        }
    }

    #[test]
    fn what_is_as_it_should_be_is_not_explained() {
        let text = |status| {
            let (mut output, out, _) = written(Format::Table, Terminal::default());
            list(&[device("a", status, "because")], &mut output);
            out.text().matches("because").count()
        };
        assert_eq!(text("late"), text("online") + 1);
    }

    #[test]
    fn a_refused_configuration_is_marked() {
        let refused = Device {
            config_reported: Some(3),
            config_error: Some("no such metric".into()),
            ..device("a", "online", "")
        };
        let (mut output, out, _) = written(Format::Table, Terminal::default());
        list(std::slice::from_ref(&refused), &mut output);
        assert!(out.text().contains("refused: no such metric"), "{}", out.text());
        let (mut output, out, _) = written(Format::Table, Terminal::default());
        output.one(&Details(refused)).unwrap();
        assert!(out.text().contains("3 refused"), "{}", out.text());
        assert!(out.text().contains("no such metric"), "{}", out.text());
    }

    #[test]
    fn hostile_devices_do_no_harm() {
        for format in Format::value_variants() {
            let terminal = Terminal { stdout: true, colour: true, ..Terminal::default() };
            let (mut output, out, _) = written(*format, terminal);
            for text in HOSTILE {
                let hostile =
                    Device { config_error: Some((*text).into()), ..device("a", "online", text) };
                list(std::slice::from_ref(&hostile), &mut output);
                output.one(&Details(hostile)).unwrap();
            }
            assert_harmless(&out.text());
        }
    }
}
