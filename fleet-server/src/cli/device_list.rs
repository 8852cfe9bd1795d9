//! `fleets devices list`: which devices, in which order, under which columns.
//!
//! The server chooses and sorts. A filter is read here too, so that a mistake in it is shown in its
//! place before anybody is asked.

use std::num::NonZeroUsize;

use fleet_core::cli::failure::Failure;
use fleet_core::cli::output::Output;
use fleet_core::field::{Field, SortKey};
use fleet_core::filter::{self, Filter};
use fleet_core::operator::client::{Client, ClientError};
use fleet_core::operator::exit::Exit;

use super::deleted;
use super::device_view::Columns;

/// Which devices, and how they are shown.
#[derive(Debug, clap::Args)]
pub(super) struct ListArgs {
    /// Only those, such as 'status=offline and type=raspberrypi', 'cpu>90' or 'tag:canary'
    #[arg(long, value_name = "FILTER")]
    filter: Option<String>,
    /// By this field, such as cpu, or -cpu for the highest first; problems first unless given
    #[arg(long, value_name = "FIELD", allow_hyphen_values = true)]
    sort: Option<SortKey>,
    /// The columns of the table or csv, such as device,status,cpu
    #[arg(long, value_delimiter = ',', value_name = "FIELD,…")]
    columns: Vec<Field>,
    /// Those that were deleted and can be had back instead
    #[arg(long, conflicts_with_all = ["filter", "sort", "columns", "count_max"])]
    deleted: bool,
    /// Devices at most
    #[arg(long = "limit", value_name = "N")]
    count_max: Option<NonZeroUsize>,
}

impl ListArgs {
    /// What stands behind `list`, or else before it.
    pub(super) fn or(self, other: Self) -> Self {
        Self {
            filter: self.filter.or(other.filter),
            sort: self.sort.or(other.sort),
            columns: if self.columns.is_empty() { other.columns } else { self.columns },
            deleted: self.deleted || other.deleted,
            count_max: self.count_max.or(other.count_max),
        }
    }

    /// Refuses what is no filter, and shows where.
    pub(super) fn check(&self) -> Result<(), Failure> {
        check_filter("--filter", self.filter.as_deref().unwrap_or_default())
    }
}

/// Refuses what is no filter, and shows where.
pub(super) fn check_filter(flag: &str, text: &str) -> Result<(), Failure> {
    let Err(error) = text.parse::<Filter>() else { return Ok(()) };
    let caret = error.caret(text);
    let mut lines = caret.lines();
    let message = lines.next().unwrap_or(&error.message);
    Err(Failure::usage(format!("{flag}: {message}")).picture(lines))
}

/// Lists devices. The filter has been checked.
pub(super) async fn list(
    client: &Client,
    args: &ListArgs,
    output: &mut Output<'_>,
) -> Result<Exit, Failure> {
    if args.deleted {
        return deleted::list(client, output).await;
    }
    let filter = args.filter.as_deref().unwrap_or_default();
    // Programs get the server's own order.
    let usual = output.format.is_table().then(SortKey::default);
    let count_max = args.count_max.map(NonZeroUsize::get);
    let mut devices = match args.sort.or(usual) {
        None if filter.is_empty() => client.device_list(count_max).await?,
        sort => client.device_select(filter, sort).await?,
    };
    devices.truncate(count_max.unwrap_or(usize::MAX));
    let columns = match args.columns.as_slice() {
        [] => Columns::usual(output.format),
        chosen => Columns::chosen(chosen),
    };
    columns.list(&devices, output)?;
    if devices.is_empty() {
        if !filter.is_empty() {
            return Err(nothing_matches(client, filter).await?);
        }
        output.note("No devices yet: `fleets configure` finds them and brings them in.")?;
    }
    Ok(Exit::Done)
}

/// That no device is so, and what may have been meant.
pub(super) async fn nothing_matches(client: &Client, filter: &str) -> Result<Failure, ClientError> {
    let devices = client.device_list(None).await?;
    let mut text = format!("no device matches {filter}");
    if let Some(missing) = filter::missing(filter, devices.iter()) {
        text.push_str(": none has ");
        text.push_str(&missing);
    }
    let failure = Failure::new(Exit::NothingFound, text);
    Ok(match filter::suggestion(filter, devices.iter()) {
        Some(suggestion) => failure.hint(format!("did you mean {}?", suggestion.filter)),
        None => failure,
    })
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(clap::Parser)]
    struct Call {
        #[command(flatten)]
        args: ListArgs,
    }

    fn args(call: &[&str]) -> Result<ListArgs, clap::Error> {
        Call::try_parse_from([&["list"], call].concat()).map(|call| call.args)
    }

    #[test]
    fn what_stands_behind_the_word_counts() {
        let before = args(&["--sort", "-cpu", "--columns", "device,cpu", "--limit", "5"]).unwrap();
        let merged = args(&["--sort", "name", "--filter", "cpu>1"]).unwrap().or(before);
        assert_eq!(merged.sort, "name".parse().ok());
        assert_eq!(merged.columns, [Field::Device, Field::Cpu]);
        assert_eq!(merged.filter.as_deref(), Some("cpu>1"));
        assert_eq!(merged.count_max, NonZeroUsize::new(5));
    }

    #[test]
    fn a_list_of_nothing_is_not_asked_for() {
        assert!(args(&["--limit", "0"]).is_err());
    }

    #[test]
    fn fields_are_those_of_the_registry() {
        for call in [["--sort", "-nothing"], ["--columns", "device,nothing"]] {
            let refusal = args(&call).map(|_| ()).unwrap_err().to_string();
            assert!(refusal.contains("known are status, device"), "{refusal}");
        }
    }
}
