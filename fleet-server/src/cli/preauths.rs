//! `fleets devices preauthorize` and `preauthorized`: letting devices in before they have come.

use std::path::{Path, PathBuf};
use std::time::Duration;

use fleet_core::api::{PreauthCreate, PreauthDevice, PreauthView, is_tag};
use fleet_core::cli::args;
use fleet_core::cli::csv::{self, CsvError, Row, Title};
use fleet_core::cli::each::for_each;
use fleet_core::cli::failure::Failure;
use fleet_core::cli::listed::{Listed, Reader};
use fleet_core::cli::output::Output;
use fleet_core::cli::table::{Cell, Column};
use fleet_core::id::DeviceId;
use fleet_core::identity::Fingerprint;
use fleet_core::limits::TAG_BYTES_MAX;
use fleet_core::operator::client::Client;
use fleet_core::operator::exit::Exit;
use serde::Serialize;

const TITLES: [Title; 4] = [
    Title { name: "fingerprint", is_needed: true },
    Title { name: "device_id", is_needed: false },
    Title { name: "name", is_needed: false },
    Title { name: "tags", is_needed: false },
];

/// Which devices, and as what.
#[derive(Debug, clap::Args)]
pub(super) struct PreauthorizeArgs {
    /// The device's key, as `fleetd info` shows it there
    #[arg(
        long,
        value_name = "FINGERPRINT",
        required_unless_present = "csv",
        conflicts_with = "csv"
    )]
    fingerprint: Option<Fingerprint>,
    /// The id that it is to have; the one that it asks for unless given
    #[arg(long, value_name = "ID", requires = "fingerprint")]
    id: Option<DeviceId>,
    /// A longer name
    #[arg(long, value_name = "TEXT", requires = "fingerprint")]
    name: Option<String>,
    /// Its tags
    #[arg(long, value_name = "TAG,…", value_delimiter = ',', requires = "fingerprint")]
    tags: Vec<String>,
    /// Many devices: a CSV file with the titles fingerprint,device_id,name,tags, of which the first
    /// alone is needed; all of them are noted, or none
    #[arg(long, value_name = "FILE", conflicts_with_all = ["id", "name", "tags"])]
    csv: Option<PathBuf>,
    /// When that counts no more; after 90 days unless given
    #[arg(long, value_parser = args::duration, value_name = "DURATION")]
    expires: Option<Duration>,
}

/// Which of them to show.
#[derive(Debug, clap::Args)]
pub(super) struct PreauthorizedArgs {
    /// Take it back for these keys
    #[arg(long, value_name = "FINGERPRINT,…", value_delimiter = ',')]
    remove: Vec<Fingerprint>,
}

/// Lets devices in before they have come.
pub(super) async fn create(
    args: PreauthorizeArgs,
    client: &Client,
    output: &mut Output<'_>,
) -> Result<Exit, Failure> {
    let expires_in_secs = args.expires.map(|expires| expires.as_secs());
    let devices = match (args.fingerprint, &args.csv) {
        (_, Some(path)) => read(path)?,
        (Some(fingerprint), None) => {
            let (device_id, name, tags) = (args.id, args.name, args.tags);
            vec![PreauthDevice { fingerprint, device_id, name, tags }]
        }
        (None, None) => return Err(Failure::usage("give --fingerprint or --csv")),
    };
    if devices.is_empty() {
        return Err(Failure::usage("the file names no device"));
    }
    let made = client.preauth_create(&PreauthCreate { devices, expires_in_secs }).await?;
    let made: Vec<_> = made.into_iter().map(Preauth).collect();
    output.list(&made)?;
    Ok(Exit::Done)
}

/// Lists those that have not come, or takes some back.
pub(super) async fn list(
    args: PreauthorizedArgs,
    client: &Client,
    output: &mut Output<'_>,
) -> Result<Exit, Failure> {
    if !args.remove.is_empty() {
        let keys: Vec<_> = args.remove.iter().map(ToString::to_string).collect();
        let remove = async |key: &str| client.preauth_delete(key).await;
        return for_each(&keys, "removed", remove, output).await;
    }
    let list: Vec<_> = client.preauth_list().await?.into_iter().map(Preauth).collect();
    output.list(&list)?;
    if list.is_empty() {
        output.note("No preauthorised devices that have not come.")?;
    }
    Ok(Exit::Done)
}

fn read(path: &Path) -> Result<Vec<PreauthDevice>, Failure> {
    let rows = csv::read(path, &TITLES)?;
    rows.into_iter().map(|row| device(row).map_err(|error| error.told(path))).collect()
}

fn device(row: Row) -> Result<PreauthDevice, CsvError> {
    let line = row.line;
    let wrong = |title: usize, problem: String| {
        let column = Some(TITLES[title].name.to_owned());
        CsvError { line, column, problem }
    };
    let [fingerprint, id, name, tags] = row.values.as_slice() else {
        return Err(wrong(0, "a value is missing".to_owned()));
    };
    let some = |text: &String| Some(text.clone()).filter(|text| !text.is_empty());
    let is_gap = |c: char| c == ',' || c.is_whitespace();
    let tags: Vec<String> =
        tags.split(is_gap).filter(|tag| !tag.is_empty()).map(str::to_owned).collect();
    if tags.iter().any(|tag| !is_tag(tag)) {
        return Err(wrong(3, format!("a tag has {TAG_BYTES_MAX} bytes at most")));
    }
    Ok(PreauthDevice {
        fingerprint: fingerprint.parse().map_err(|error| wrong(0, format!("{error}")))?,
        device_id: some(id)
            .map(|id| id.parse().map_err(|error| wrong(1, format!("{error}"))))
            .transpose()?,
        name: some(name),
        tags,
    })
}

/// A preauthorised device as a row.
#[derive(Debug, Serialize)]
#[serde(transparent)]
struct Preauth(PreauthView);

impl Listed for Preauth {
    const COLUMNS: &'static [Column] = &[
        Column::new("FINGERPRINT", 16),
        Column::new("DEVICE ID", 20),
        Column::new("NAME", 20),
        Column::new("TAGS", 20),
        Column::new("EXPIRES", 10),
        Column::spare("BY", 20, 1),
    ];

    fn cells(&self, reader: Reader) -> Vec<Cell> {
        let Self(device) = self;
        let tags: Vec<_> = device.tags.iter().map(ToString::to_string).collect();
        vec![
            Cell::new(device.fingerprint),
            Cell::maybe(device.device_id.as_ref()),
            Cell::maybe(device.name.as_ref()),
            Cell::new(tags.join(" ")),
            reader.time(Some(device.expires_at)),
            Cell::new(&device.created_by),
        ]
    }

    fn name(&self) -> String {
        self.0.fingerprint.to_string()
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_table_is_read_and_its_mistakes_are_placed() {
        let folder = tempfile::tempdir().unwrap();
        let read = |text: &str| {
            let path = folder.path().join("devices.csv");
            std::fs::write(&path, text).unwrap();
            super::read(&path).map_err(|failure| failure.message().to_owned())
        };
        let text = "device_id,fingerprint,tags,name\n\
            cam-1,k3xq2mzz7abcd2ef,\"eu, door\",Front\n,aaaaaaaaaaaaaaaa,,\n";
        let devices = read(text).unwrap();
        assert_eq!(devices[0].tags, ["eu", "door"]);
        assert_eq!(devices[0].device_id.as_ref().map(super::DeviceId::as_str), Some("cam-1"));
        assert_eq!((&devices[1].device_id, &devices[1].name), (&None, &None));
        for (text, told) in [
            ("fingerprint\nx\n", "line 2, column fingerprint: not a device fingerprint"),
            ("fingerprint,device_id\naaaaaaaaaaaaaaaa,../x\n", "line 2, column device_id"),
            ("device_id\na\n", "line 1: no column is called fingerprint"),
        ] {
            let wrong = read(text).unwrap_err();
            assert!(wrong.contains(told), "{wrong}");
        }
    }
}
