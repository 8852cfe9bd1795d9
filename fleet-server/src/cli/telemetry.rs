//! `fleets telemetry`: stored points of one metric, and storing one by hand.

use std::process::ExitCode;

use clap::Subcommand;
use fleet_core::api::{MetricPoint, TelemetryPost};
use fleet_core::cli::args::{Assignment, Moment};
use fleet_core::cli::choice::ServerChoice;
use fleet_core::cli::each::for_each;
use fleet_core::cli::failure::Failure;
use fleet_core::cli::listed::{FormatArgs, Listed, Reader};
use fleet_core::cli::output::Output;
use fleet_core::cli::session::{self, TimeLimit};
use fleet_core::cli::table::{Cell, Column};
use fleet_core::operator::client::MetricQuery;
use fleet_core::operator::exit::Exit;
use fleet_core::time::{Clock as _, SystemClock, Timestamp};
use serde::Serialize;
use serde_json::{Map, Value};

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
    #[arg(long, allow_negative_numbers = true, value_parser = finite)]
    value: f64,
    /// When; now unless given
    #[arg(long, value_name = "TIME")]
    at: Option<Moment>,
    /// A label; may be given several times
    #[arg(long, value_name = "KEY=VALUE")]
    label: Vec<Assignment>,
}

/// Runs the command.
pub(super) fn run(args: TelemetryArgs) -> ExitCode {
    let (format, limit) = (args.format, args.limit);
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
            let points: Vec<_> = points.into_iter().map(Point).collect();
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

/// A stored point in a list.
#[derive(Serialize)]
#[serde(transparent)]
struct Point(MetricPoint);

impl Listed for Point {
    const COLUMNS: &'static [Column] = &[
        Column::new("TIMESTAMP", 24),
        Column::new("VALUE", 12).of_numbers(),
        Column::new("LABELS", 20),
        Column::spare("METRIC", 20, 1),
        Column::spare("DEVICE ID", 20, 2),
    ];

    fn cells(&self, reader: Reader) -> Vec<Cell> {
        let Self(point) = self;
        let value = match reader {
            Reader::Person { .. } => rounded(point.value),
            Reader::Program => point.value.to_string(),
        };
        vec![
            reader.moment(point.timestamp),
            Cell::new(value),
            Cell::new(if point.metadata.raw() == "{}" { "" } else { point.metadata.raw() }),
            Cell::new(&point.metric_name),
            Cell::new(&point.device_id),
        ]
    }

    fn name(&self) -> String {
        self.0.metric_name.clone()
    }
}

/// Three decimals at most; what they would not show has an exponent.
fn finite(text: &str) -> Result<f64, String> {
    let value: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    if value.is_finite() { Ok(value) } else { Err("not a finite number".to_owned()) }
}

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
    use fleet_core::cli::listed::Format;
    use fleet_core::cli::output::Terminal;
    use fleet_core::cli::testing::{HOSTILE, assert_harmless, written};

    use super::*;

    fn point(value: f64) -> Point {
        Point(MetricPoint {
            device_id: "a".to_owned(),
            timestamp: Timestamp::from_millis(1_705_314_600_123),
            metric_name: "cpu_usage".to_owned(),
            value,
            metadata: "{}".into(),
        })
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
                    ..point(f64::MAX).0
                };
                output.list(&[Point(point)]).unwrap();
            }
            assert_harmless(&out.text());
        }
    }
}
