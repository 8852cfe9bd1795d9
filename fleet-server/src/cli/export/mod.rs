//! `fleets export`: the fleet's data as a database, as tables, or as lines.
//!
//! A running server is asked; a database that no server has open can be read itself. Rows go
//! straight on to a thread that writes them. The file has its name only once it is whole.

mod telling;

use std::fs::OpenOptions;
use std::io::{self, BufWriter};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use clap::Subcommand;
use fleet_core::Chain;
use fleet_core::api::{ExportRows, ExportTable};
use fleet_core::cli::args::Moment;
use fleet_core::cli::choice::ServerChoice;
use fleet_core::cli::failure::Failure;
use fleet_core::cli::listed::FormatArgs;
use fleet_core::cli::output::Output;
use fleet_core::cli::session::{self, TimeLimit};
use fleet_core::operator::client::ClientError;
use fleet_core::operator::exit::Exit;
use fleet_core::operator::export::{ExportQuery, ExportStream};
use fleet_core::time::{Clock as _, SystemClock};
use fleet_core::untrusted::escaped;
use tokio::sync::mpsc;
use tokio::time::interval;

use crate::export::{Format, Progress, Rows, Stop, Taker, Wish, WriteError};
use crate::export::{csv, ndjson, pass, sqlite};
use crate::place::{Kind, Place, PlaceError};
use crate::store::{OpenError, RedbStore};

/// What to do if the name of an export is taken.
const IF_TAKEN: &str = "give another name, or --force to replace an earlier export";
/// Pieces that wait for the writing thread.
const PIECES_WAITING: usize = 4;
/// Between two looks at how far it is.
const LOOK_INTERVAL: Duration = Duration::from_millis(200);
/// Bytes that are gathered before they are written.
const BUFFER_BYTES: usize = 256 * 1024;

/// Into what.
#[derive(Debug, clap::Args)]
pub(super) struct ExportArgs {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Write an SQLite database, for any program that reads one
    ///
    /// Its tables are devices, config_versions, commands, alerts, events and telemetry; what their
    /// columns mean is said by `.schema` in the program sqlite3. Times are text in UTC, such as
    /// 2024-01-15 10:30:00.123, which compare rightly with datetime('now', '-30 days').
    Sqlite(Options),
    /// Write a folder with a CSV file for each table, for spreadsheets
    ///
    /// A text that a spreadsheet would take for a formula gets a ' in front. With --out - one
    /// table goes to standard output.
    Csv(Options),
    /// Write a JSON object for each row, one a line, each with its table
    Ndjson(Options),
}

#[derive(Debug, clap::Args)]
struct Options {
    /// Where to: a file, for csv a folder, or - for standard output (not for sqlite)
    #[arg(long, value_name = "PATH")]
    out: PathBuf,
    /// Replace an earlier export; nothing else is ever replaced
    #[arg(long)]
    force: bool,
    /// Only these tables; may be given several times
    #[arg(long = "table", value_delimiter = ',', value_name = "TABLE,…")]
    tables: Vec<ExportTable>,
    /// Rows not before this time, or this long ago: 2024-01-15T10:30:00Z or 2h; devices all the same
    #[arg(long, value_name = "TIME")]
    from: Option<Moment>,
    /// Rows not after this time, or this long ago
    #[arg(long, value_name = "TIME")]
    to: Option<Moment>,
    /// Read this database, which no server has open, rather than ask a server
    #[arg(long, value_name = "FILE", conflicts_with_all = ["server", "api_key", "context"])]
    database: Option<PathBuf>,
    #[command(flatten)]
    server: ServerChoice,
    #[command(flatten)]
    limit: TimeLimit,
}

/// Runs the command.
pub(super) fn run(args: ExportArgs) -> ExitCode {
    let (format, options) = match args.action {
        Action::Sqlite(options) => (Format::Sqlite, options),
        Action::Csv(options) => (Format::Csv, options),
        Action::Ndjson(options) => (Format::Ndjson, options),
    };
    let limit = options.limit;
    session::run(FormatArgs::default(), Some(limit), async |output| {
        export(format, options, output).await
    })
}

async fn export(
    format: Format,
    options: Options,
    output: &mut Output<'_>,
) -> Result<Exit, Failure> {
    let began = Instant::now();
    let wish = options.wish();
    if !wish.has_time() {
        return Err(Failure::usage("--from is after --to"));
    }
    let sink = Sink::open(format, &options, &wish.tables)?;
    // Two writers on one terminal would only disturb each other.
    let is_told = !(sink.is_stdout() && output.terminal.stdout);
    let (sender, receiver) = mpsc::channel(PIECES_WAITING);
    let progress = Arc::new(Progress::default());
    let writing = {
        let (write, tables, progress) = (sink.writer()?, wish.tables.clone(), progress.clone());
        move || write(Rows::new(receiver, tables, &progress))
    };
    let source = Source::open(&options, &wish, output).await?;
    let feeding = source.feed(wish.clone(), sender);
    tokio::pin!(feeding);
    let mut writing = tokio::task::spawn_blocking(writing);
    let mut ticks = interval(LOOK_INTERVAL);
    let mut is_fed = false;
    let written = loop {
        tokio::select! {
            fed = &mut feeding, if !is_fed => {
                fed?;
                is_fed = true;
            }
            written = &mut writing => break written,
            _ = ticks.tick() => if is_told {
                output.progress(&telling::progress(&progress, began.elapsed(), is_fed))?;
            },
        }
    };
    let written = written.map_err(|error| Failure::new(Exit::Failed, error.to_string()))?;
    let rows = written.map_err(|error| failure(error, &options.out))?;
    // A database that was read is closed before anybody is told that it is done.
    if !is_fed {
        feeding.await?;
    }
    let bytes = sink.publish()?;
    let took = began.elapsed();
    output.note(&telling::summary(&options.out, &wish.tables, &rows, bytes, took))?;
    match progress.damage.get() {
        None => Ok(Exit::Done),
        Some(damage) => {
            let text = format!("what is damaged was left out: {}", escaped(damage.raw()));
            Err(Failure::new(Exit::Failed, text).hint("all else is there"))
        }
    }
}

impl Options {
    fn wish(&self) -> Wish {
        let now = SystemClock.now();
        let is_wanted = |table: &ExportTable| self.tables.is_empty() || self.tables.contains(table);
        Wish {
            tables: ExportTable::ALL.into_iter().filter(is_wanted).collect(),
            within: None,
            from: self.from.map(|moment| moment.resolve(now)),
            to: self.to.map(|moment| moment.resolve(now)),
        }
    }
}

fn is_stdout(out: &Path) -> bool {
    out.as_os_str() == "-"
}

/// Where the rows go.
struct Sink {
    format: Format,
    /// None for standard output.
    place: Option<Place>,
    tables: Vec<ExportTable>,
}

type Write = Box<dyn FnOnce(Rows<'_>) -> Result<ExportRows, WriteError> + Send>;

impl Sink {
    fn open(format: Format, options: &Options, tables: &[ExportTable]) -> Result<Self, Failure> {
        let is_stdout = is_stdout(&options.out);
        match (format, is_stdout) {
            (Format::Sqlite, true) => {
                return Err(Failure::usage("a database cannot be written to standard output"));
            }
            (Format::Csv, true) if tables.len() != 1 => {
                return Err(Failure::usage("standard output takes one table of csv")
                    .hint("name it, such as --table telemetry, or give --out a folder"));
            }
            _ => {}
        }
        let place =
            (!is_stdout).then(|| Place::take(&options.out, Kind::Export(format), options.force));
        let place = place.transpose().map_err(|error| no_place(error, IF_TAKEN))?;
        Ok(Self { format, place, tables: tables.to_vec() })
    }

    fn is_stdout(&self) -> bool {
        self.place.is_none()
    }

    /// What writes the rows, on a thread of its own.
    fn writer(&self) -> Result<Write, Failure> {
        let tables = self.tables.clone();
        let Some(place) = &self.place else {
            let table = tables.first().copied().unwrap_or(ExportTable::Telemetry);
            let out = BufWriter::with_capacity(BUFFER_BYTES, io::stdout());
            return Ok(match self.format {
                Format::Csv => Box::new(move |rows| csv::write(out, table, rows)),
                Format::Sqlite | Format::Ndjson => Box::new(move |rows| ndjson::write(out, rows)),
            });
        };
        let part = place.part().to_owned();
        Ok(match self.format {
            Format::Sqlite => Box::new(move |rows| sqlite::write(&part, &tables, rows)),
            Format::Csv => {
                // All files are there from the beginning, so that all can be removed.
                let folder = csv::Folder::create(&part, &tables)
                    .map_err(|error| failure(error.into(), &part))?;
                Box::new(move |rows| folder.write(&part, rows))
            }
            Format::Ndjson => Box::new(move |rows| {
                let file = OpenOptions::new().write(true).open(part)?;
                let mut out = BufWriter::with_capacity(BUFFER_BYTES, file);
                let rows = ndjson::write(&mut out, rows)?;
                out.get_ref().sync_all()?;
                Ok(rows)
            }),
        })
    }

    /// Gives the file its name; how large it is.
    fn publish(self) -> Result<Option<u64>, Failure> {
        let Some(place) = self.place else { return Ok(None) };
        let path = place.publish().map_err(|error| no_place(error, IF_TAKEN))?;
        Ok(telling::bytes(&path).ok())
    }
}

/// Where the rows come from.
enum Source {
    Server(Box<ExportStream>),
    Database(Box<RedbStore>),
}

impl Source {
    async fn open(
        options: &Options,
        wish: &Wish,
        output: &mut Output<'_>,
    ) -> Result<Self, Failure> {
        if let Some(path) = &options.database {
            let opened = RedbStore::open_existing(path);
            return opened.map(Box::new).map(Self::Database).map_err(|error| closed(error, path));
        }
        let query = ExportQuery { tables: wish.tables.clone(), from: wish.from, to: wish.to };
        let client = options.server.client(output)?;
        match client.export(&query).await {
            Ok(stream) => Ok(Self::Server(Box::new(stream))),
            Err(error @ ClientError::Connect { .. }) => Err(Failure::from(error).hint(
                "start it with `fleets server`, name another with --server, or read the database \
                 of one that does not run with --database FILE",
            )),
            Err(error) => Err(error.into()),
        }
    }

    /// Passes on all that there is, or as much as is taken.
    async fn feed(self, wish: Wish, sender: mpsc::Sender<Bytes>) -> Result<(), Failure> {
        match self {
            Self::Server(mut stream) => {
                while let Some(piece) = stream.next().await.map_err(broken_off)? {
                    if sender.send(piece).await.is_err() {
                        break;
                    }
                }
            }
            Self::Database(store) => {
                // Whoever takes nothing more says why himself.
                let _stopped = pass(&*store, wish, SystemClock.now(), &mut Direct(sender)).await;
            }
        }
        Ok(())
    }
}

/// Straight to the writing thread.
struct Direct(mpsc::Sender<Bytes>);

#[async_trait]
impl Taker for Direct {
    async fn take(&mut self, lines: Bytes) -> Result<(), Stop> {
        self.0.send(lines).await.map_err(|_| Stop::Gone)
    }
}

fn broken_off(error: ClientError) -> Failure {
    Failure::new(error.exit(), format!("the export broke off: {}", Chain(&error)))
        .hint("nothing of it was kept; try again")
}

/// Why a database that no server should have open was not read.
pub(super) fn closed(error: OpenError, path: &Path) -> Failure {
    let told = |exit| Failure::new(exit, Chain(&error).to_string());
    match &error {
        OpenError::InUse(_) => told(Exit::Conflict)
            .hint("leave --database out, and the server that has it open is asked"),
        OpenError::Permission { .. } => told(Exit::NotAllowed),
        OpenError::Io { source, .. } if source.kind() == io::ErrorKind::NotFound => {
            Failure::new(Exit::NothingFound, format!("there is no database {}", path.display()))
        }
        _ => told(Exit::Failed),
    }
}

/// Why something cannot be where it should; the hint is for a name that is taken.
pub(super) fn no_place(error: PlaceError, hint: &'static str) -> Failure {
    let told = |exit| Failure::new(exit, Chain(&error).to_string());
    match &error {
        PlaceError::NoName(_) => told(Exit::Usage),
        PlaceError::Exists(_) => told(Exit::Conflict).hint(hint),
        PlaceError::Foreign { .. } | PlaceError::Busy { .. } => told(Exit::Conflict),
        PlaceError::Io { .. } => told(Exit::Failed),
    }
}

/// Why an export was not written.
fn failure(error: WriteError, out: &Path) -> Failure {
    match error {
        WriteError::Io(error) if error.kind() == io::ErrorKind::BrokenPipe => Failure::NoReader,
        WriteError::Broken(broken) => telling::broken(&broken),
        WriteError::Time => Failure::new(Exit::Failed, error.to_string()),
        WriteError::Io(_) | WriteError::Sqlite(_) => {
            let why = telling::why_not_written(&error);
            if is_stdout(out) {
                return Failure::new(Exit::Failed, format!("cannot write the output: {why}"));
            }
            Failure::new(Exit::Failed, format!("cannot write {}: {why}", out.display()))
                .hint("nothing of it was kept")
        }
    }
}
