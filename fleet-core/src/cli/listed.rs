//! What can be listed: one description of its columns serves every format.

use clap::ValueEnum;
use serde::Serialize;

use super::table::{Cell, Column};
use crate::id::Uid;
use crate::time::Timestamp;

/// How results are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Aligned columns, for people
    #[default]
    Table,
    /// The same with every column, however narrow the terminal
    Wide,
    /// One JSON document
    Json,
    /// One JSON document a line
    Jsonl,
    /// Comma-separated values
    Csv,
    /// The names only, one a line
    Name,
}

/// The choice of a format.
#[derive(Clone, Copy, Debug, Default, clap::Args)]
pub struct FormatArgs {
    /// How to write results; on a narrow terminal a table leaves columns out, the others never do
    #[arg(short = 'o', long, value_enum, default_value_t, global = true, value_name = "FORMAT")]
    output: Format,
    /// The same as --output json
    #[arg(long, global = true, conflicts_with = "output")]
    json: bool,
    /// No titles above the columns of a table or of csv
    #[arg(long, global = true)]
    no_headers: bool,
}

impl Format {
    /// Whether people are to read it.
    pub fn is_table(self) -> bool {
        matches!(self, Self::Table | Self::Wide)
    }
}

impl FormatArgs {
    /// The chosen format.
    pub fn format(self) -> Format {
        if self.json { Format::Json } else { self.output }
    }

    /// Whether columns have titles.
    pub(super) fn has_titles(self) -> bool {
        !self.no_headers
    }
}

impl From<Format> for FormatArgs {
    fn from(output: Format) -> Self {
        Self { output, json: false, no_headers: false }
    }
}

/// Something that is listed.
pub trait Listed: Serialize {
    /// The columns.
    const COLUMNS: &'static [Column];

    /// A cell for each column.
    fn cells(&self, reader: Reader) -> Vec<Cell>;

    /// What `-o name` shows.
    fn name(&self) -> String;
}

/// The place of a column, by the name that programs have for it.
pub fn column<T: Listed>(name: &str) -> Result<usize, String> {
    let place = T::COLUMNS.iter().position(|column| column.key() == name);
    place.ok_or_else(|| {
        let known: Vec<_> = T::COLUMNS.iter().map(Column::key).collect();
        format!("must be one of {}", known.join(", "))
    })
}

/// For whom cells are written.
#[derive(Clone, Copy, Debug)]
pub enum Reader {
    /// A person: rounded, and ages instead of times.
    Person {
        /// The time now.
        now: Timestamp,
        /// Whether the line should stay short.
        narrow: bool,
    },
    /// A program.
    Program,
}

impl Reader {
    /// A cell for the id of something that is found by its last characters too.
    pub fn uid(self, uid: Uid) -> Cell {
        match self {
            Self::Person { narrow: true, .. } => Cell::new(uid.ending()),
            Self::Person { .. } | Self::Program => Cell::new(uid),
        }
    }

    /// A cell for when something was recorded.
    pub fn moment(self, time: Timestamp) -> Cell {
        Cell::new(match self {
            Self::Person { .. } => to_the_second(time),
            Self::Program => time,
        })
    }

    /// A cell for a point in time, as people see it from now.
    pub fn time(self, time: Option<Timestamp>) -> Cell {
        match (self, time) {
            (_, None) => Cell::default(),
            (Self::Program, Some(time)) => Cell::new(time),
            (Self::Person { now, .. }, Some(time)) if time > now => {
                Cell::new(format!("in {}", age(time.since(now).as_secs())))
            }
            (Self::Person { now, .. }, Some(time)) => {
                Cell::new(format!("{} ago", age(now.since(time).as_secs())))
            }
        }
    }
}

fn to_the_second(time: Timestamp) -> Timestamp {
    Timestamp::from_millis(time.millis() - time.millis().rem_euclid(1000))
}

/// `42s`, `5m`, `3h`, `12d`.
fn age(secs: u64) -> String {
    match secs {
        0..120 => format!("{secs}s"),
        120..7_200 => format!("{}m", secs / 60),
        7_200..172_800 => format!("{}h", secs / 3600),
        _ => format!("{}d", secs / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_short() {
        let shown: Vec<_> = [0, 119, 120, 7_199, 7_200, 172_800].map(age).to_vec();
        assert_eq!(shown, ["0s", "119s", "2m", "119m", "2h", "2d"]);
    }

    #[test]
    fn people_see_ages_and_programs_times() {
        let time = Timestamp::from_millis(1_705_314_600_000);
        let person = |now| {
            Reader::Person { now: Timestamp::from_millis(now), narrow: false }.time(Some(time))
        };
        assert_eq!(person(1_705_314_605_000), Cell::new("5s ago"));
        assert_eq!(person(1_705_314_540_000), Cell::new("in 60s"));
        assert_eq!(Reader::Program.time(Some(time)), Cell::new("2024-01-15T10:30:00Z"));
        assert_eq!(Reader::Program.time(None), Cell::default());
    }
}
