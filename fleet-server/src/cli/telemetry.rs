//! `fleets telemetry`: stored points of one metric, and storing one by hand.

use std::process::ExitCode;
use std::time::Duration;

use clap::Subcommand;
use fleet_core::api::{MetricPoint, TelemetryPost};
use fleet_core::operator::client::MetricQuery;
use fleet_core::operator::exit::Exit;
use fleet_core::time::{Clock as _, SystemClock, Timestamp};
use serde_json::{Map, Value};

use super::each::for_each;
use super::failure::Failure;
use super::listed::{FormatArgs, Listed, Reader};
use super::output::Output;
use super::session::{self, Assignment, ServerChoice, TimeLimit};
use super::table::{Cell, Column};

/// What to ask or store.
#[derive(Debug, clap::Args)]
pub(super) struct TelemetryArgs {
    #[command(subcommand)]
    action: Action,
    #[command(flatten)]
    server: ServerChoice,
    #[command(flatten)]
    limit: TimeLimit,
    #[command(flatten)]
    format: FormatArgs,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Show stored points, newest first
    Query(QueryArgs),
    /// Store one point
    Send(SendArgs),
}

#[derive(Debug, clap::Args)]
struct QueryArgs {
    /// The device, by id or uid
    #[arg(long, value_name = "ID")]
    device: String,
    /// The metric, such as cpu_usage
    #[arg(long, value_name = "NAME")]
    metric: String,
    /// Points at most; 100 unless given
    #[arg(long = "limit", value_name = "N")]
    count_max: Option<usize>,
    /// Not before this time, or this long ago: 2024-01-15T10:30:00Z or 2h
    #[arg(long, value_name = "TIME")]
    from: Option<Moment>,
    /// Not after this time, or this long ago
    #[arg(long, value_name = "TIME")]
    to: Option<Moment>,
}

#[derive(Debug, clap::Args)]
struct SendArgs {
    /// The device, by id or uid
    #[arg(long, value_name = "ID")]
    device: String,
    /// The metric
    #[arg(long, value_name = "NAME")]
    metric: String,
    /// The value
    #[arg(long, allow_negative_numbers = true)]
    value: f64,
    /// When; now unless given
    #[arg(long, value_name = "TIME")]
    at: Option<Moment>,
    /// A label; may be given several times
    #[arg(long, value_name = "KEY=VALUE")]
    label: Vec<Assignment>,
}

/// A time, or how long ago.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Moment {
    At(Timestamp),
    Ago(Duration),
}

impl Moment {
    fn resolve(self, now: Timestamp) -> Timestamp {
        match self {
            Self::At(time) => time,
            Self::Ago(duration) => now.minus(duration),
        }
    }
}

impl std::str::FromStr for Moment {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let ago = || session::duration(text).map(Self::Ago);
        text.parse()
            .map(Self::At)
            .or_else(|_| ago())
            .map_err(|_| "must be a time like 2024-01-15T10:30:00Z, or a duration like 2h")
    }
}

/// Runs the command.
pub(super) fn run(args: TelemetryArgs) -> ExitCode {
    let (format, limit) = (args.format.format(), args.limit);
    session::run(format, Some(limit), async |output| telemetry(args, output).await)
}

async fn telemetry(args: TelemetryArgs, output: &mut Output<'_>) -> Result<Exit, Failure> {
    let client = args.server.client(output)?;
    let now = SystemClock.now();
    match args.action {
        Action::Query(args) => {
            let query = MetricQuery {
                device_id: args.device,
                metric: args.metric,
                limit: args.count_max,
                from: args.from.map(|moment| moment.resolve(now)),
                to: args.to.map(|moment| moment.resolve(now)),
            };
            let points = client.telemetry_query(&query).await?;
            output.list(&points)?;
            if points.is_empty() {
                return Err(no_points(&query));
            }
        }
        Action::Send(args) => {
            let sample = [args.sample(now)];
            let ids = [sample[0].device_id.clone()];
            let send = async |_: &str| client.telemetry_post(&sample).await;
            return for_each(&ids, "stored", send, output).await;
        }
    }
    Ok(Exit::Done)
}

fn no_points(query: &MetricQuery) -> Failure {
    let MetricQuery { device_id, metric, .. } = query;
    let when = if query.from.or(query.to).is_some() { " in that time" } else { "" };
    Failure::new(Exit::NothingFound, format!("no points of {metric} from {device_id}{when}"))
        .hint(format!("`fleets devices get {device_id}` shows which metrics it reports"))
}

impl SendArgs {
    fn sample(self, now: Timestamp) -> TelemetryPost {
        let labels: Map<String, Value> = self
            .label
            .into_iter()
            .filter_map(|Assignment { key, value }| Some((key, value?)))
            .collect();
        TelemetryPost {
            device_id: self.device,
            timestamp: Some(self.at.map_or(now, |moment| moment.resolve(now))),
            metric_name: self.metric,
            value: self.value,
            metadata: (!labels.is_empty()).then_some(Value::Object(labels)),
        }
    }
}

impl Listed for MetricPoint {
    const COLUMNS: &'static [Column] = &[
        Column::new("TIMESTAMP", 24),
        Column::new("VALUE", 12),
        Column::new("LABELS", 20),
        Column::spare("METRIC", 20, 1),
        Column::spare("DEVICE ID", 20, 2),
    ];

    fn cells(&self, reader: Reader) -> Vec<Cell> {
        let (timestamp, value) = match reader {
            Reader::Person { .. } => (to_the_second(self.timestamp), rounded(self.value)),
            Reader::Program => (self.timestamp, self.value.to_string()),
        };
        vec![
            Cell::new(timestamp),
            Cell::new(value),
            Cell::new(if self.metadata.raw() == "{}" { "" } else { self.metadata.raw() }),
            Cell::new(&self.metric_name),
            Cell::new(&self.device_id),
        ]
    }

    fn name(&self) -> String {
        self.metric_name.clone()
    }
}

fn to_the_second(time: Timestamp) -> Timestamp {
    Timestamp::from_millis(time.millis() - time.millis().rem_euclid(1000))
}

/// Three decimals at most; what they would not show has an exponent.
fn rounded(value: f64) -> String {
    if value == 0.0 {
        return "0".to_owned();
    }
    if !(0.001..1e15).contains(&value.abs()) {
        return format!("{value:.3e}");
    }
    let text = format!("{value:.3}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum as _;

    use super::*;
    use crate::cli::listed::Format;
    use crate::cli::output::Terminal;
    use crate::cli::output::tests::{HOSTILE, assert_harmless, written};

    #[test]
    fn moments_are_times_or_ages() {
        let now = Timestamp::from_millis(1_705_314_600_000);
        let resolve = |text: &str| text.parse::<Moment>().unwrap().resolve(now).to_string();
        assert_eq!(resolve("2024-01-15T09:00:00Z"), "2024-01-15T09:00:00Z");
        assert_eq!(resolve("2h"), "2024-01-15T08:30:00Z");
        assert_eq!(resolve("1d"), "2024-01-14T10:30:00Z");
        assert!("yesterday".parse::<Moment>().is_err());
    }

    fn point(value: f64) -> MetricPoint {
        MetricPoint {
            device_id: "a".to_owned(),
            timestamp: Timestamp::from_millis(1_705_314_600_123),
            metric_name: "cpu_usage".to_owned(),
            value,
            metadata: "{}".into(),
        }
    }

    #[test]
    fn people_see_rounded_points_and_programs_exact_ones() {
        for (value, shown) in [
            (45.213_579, "45.214"),
            (60.0, "60"),
            (-0.5, "-0.5"),
            (0.0, "0"),
            (1_234_567_890_123.0, "1234567890123"),
            (0.000_012_34, "1.234e-5"),
        ] {
            assert_eq!(rounded(value), shown);
        }
        let (mut output, out, _) = written(Format::Table, Terminal::default());
        output.list(&[point(45.213_579)]).unwrap();
        assert!(out.text().contains("2024-01-15T10:30:00Z  45.214 "), "{}", out.text());
        let (mut output, out, _) = written(Format::Csv, Terminal::default());
        output.list(&[point(45.213_579)]).unwrap();
        assert!(out.text().contains("2024-01-15T10:30:00.123Z,45.213579,"), "{}", out.text());
    }

    #[test]
    fn no_points_is_nothing_found() {
        let query = MetricQuery {
            device_id: "a".to_owned(),
            metric: "cpu".to_owned(),
            ..MetricQuery::default()
        };
        let failure = no_points(&query);
        assert_eq!(
            (failure.exit(), failure.message()),
            (Exit::NothingFound, "no points of cpu from a")
        );
    }

    #[test]
    fn hostile_points_do_no_harm() {
        for format in Format::value_variants() {
            let (mut output, out, _) = written(*format, Terminal::default());
            for text in HOSTILE {
                let point = MetricPoint {
                    device_id: (*text).to_owned(),
                    metric_name: (*text).to_owned(),
                    metadata: (*text).into(),
                    ..point(f64::MAX)
                };
                output.list(&[point]).unwrap();
            }
            assert_harmless(&out.text());
        }
    }
}
