//! What a server keeps in the order in which it happened: of which time, and page by page from the
//! newest on.

use fleet_core::cli::args::Moment;
use fleet_core::limits::PAGE_ROWS_MAX;
use fleet_core::operator::client::ClientError;
use fleet_core::time::{Clock as _, SystemClock, Timestamp};

/// Of which time.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(super) struct Period {
    /// Not before this time, or this long ago: 2024-01-15T10:30:00Z or 1h
    #[arg(long, value_name = "TIME")]
    since: Option<Moment>,
    /// Not after this time, or this long ago
    #[arg(long, value_name = "TIME")]
    until: Option<Moment>,
}

impl Period {
    /// Its ends, as of now.
    pub(super) fn ends(self) -> (Option<Timestamp>, Option<Timestamp>) {
        let now = SystemClock.now();
        (self.since.map(|moment| moment.resolve(now)), self.until.map(|moment| moment.resolve(now)))
    }
}

/// Asks for pages, each of so many and with numbers below one, until there are enough, or no more.
pub(super) async fn newest<T>(
    count_max: usize,
    seq: impl Fn(&T) -> u64,
    page: impl AsyncFn(usize, Option<u64>) -> Result<Vec<T>, ClientError>,
) -> Result<Vec<T>, ClientError> {
    let mut all: Vec<T> = Vec::new();
    while all.len() < count_max {
        let wanted = PAGE_ROWS_MAX.min(count_max - all.len());
        let found = page(wanted, all.last().map(&seq)).await?;
        let is_last = found.len() < wanted;
        all.extend(found);
        if is_last {
            break;
        }
    }
    Ok(all)
}
