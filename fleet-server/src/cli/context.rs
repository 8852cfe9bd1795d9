//! `fleets context`: the servers that an operator works with, by name; and what is in effect now,
//! with who said so.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Subcommand;
use fleet_core::cli::choice::{Chosen, Origin, ServerChoice, server_url};
use fleet_core::cli::failure::Failure;
use fleet_core::cli::listed::{FormatArgs, Listed, Reader};
use fleet_core::cli::output::Output;
use fleet_core::cli::session::{self, TimeLimit};
use fleet_core::cli::table::{Cell, Column};
use fleet_core::net::url::ServerUrl;
use fleet_core::operator::contexts::{Context, ContextColour, ContextUpdate, Contexts};
use fleet_core::operator::exit::Exit;
use serde::Serialize;

/// What to do with which context.
#[derive(Debug, clap::Args)]
pub(super) struct ContextArgs {
    #[command(subcommand)]
    action: Action,
    #[command(flatten)]
    limit: TimeLimit,
    #[command(flatten)]
    format: FormatArgs,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List the contexts
    List,
    /// Work in this context from now on
    Use {
        /// Its name
        name: String,
    },
    /// Show what is in effect: server, key, context
    Show {
        /// Of each, who said so
        #[arg(long)]
        origin: bool,
        #[command(flatten)]
        server: ServerChoice,
    },
    /// Make a context, or change one
    Set(SetArgs),
    /// Forget a context; its key's file stays
    Remove {
        /// Its name
        name: String,
    },
    /// Ask a context's server whether it takes the key
    Test {
        /// Its name; the one in effect unless given
        name: Option<String>,
        #[command(flatten)]
        server: ServerChoice,
    },
}

#[derive(Debug, clap::Args)]
struct SetArgs {
    /// Its name
    name: String,
    /// Where its server is
    #[arg(long, value_parser = server_url, value_name = "URL")]
    server: Option<ServerUrl>,
    /// The file with the key to that server
    #[arg(long, value_name = "FILE")]
    api_key_file: Option<PathBuf>,
    /// What tells it from others at a glance: red, yellow, green, cyan, blue or magenta
    #[arg(long, visible_alias = "color")]
    colour: Option<ContextColour>,
    /// Whether nothing may be changed there
    #[arg(long, value_name = "true|false", num_args = 0..=1, default_missing_value = "true")]
    read_only: Option<bool>,
}

/// Runs the command.
pub(super) fn run(args: ContextArgs) -> ExitCode {
    let (format, limit) = (args.format, args.limit);
    session::run(format, Some(limit), async |output| context(args.action, output).await)
}

async fn context(action: Action, output: &mut Output<'_>) -> Result<Exit, Failure> {
    match action {
        Action::List => list(&Contexts::load()?, output)?,
        Action::Use { name } => {
            Contexts::load()?.choose(&name)?;
            output.line(&format!("{name} is the context from now on"))?;
        }
        Action::Show { origin, server } => show(&server.settle()?, origin, output)?,
        Action::Set(args) => set(args, output)?,
        Action::Remove { name } => {
            Contexts::load()?.remove(&name)?;
            output.line(&format!("removed {name}"))?;
        }
        Action::Test { name, server } => {
            let server = name.map_or(server, ServerChoice::of_context);
            let client = server.client(output)?;
            client.me().await?;
            output.line(&format!("✅ {} answers, and takes the key", client.url()))?;
        }
    }
    Ok(Exit::Done)
}

fn list(contexts: &Contexts, output: &mut Output<'_>) -> Result<(), Failure> {
    let current = contexts.current().map(|context| context.name.as_str());
    let rows: Vec<_> = contexts
        .names()
        .filter_map(|name| contexts.get(name).ok())
        .map(|context| Row::new(context, current == Some(&context.name)))
        .collect();
    output.list(&rows)?;
    if rows.is_empty() {
        output.note("No contexts yet: `fleets context set NAME --server URL` makes one.")?;
    }
    Ok(())
}

fn set(args: SetArgs, output: &mut Output<'_>) -> Result<(), Failure> {
    let SetArgs { name, server, api_key_file, colour, read_only } = args;
    let api_key_file = api_key_file.as_deref().map(absolute).transpose()?;
    let mut contexts = Contexts::load()?;
    contexts
        .set(&name, &ContextUpdate { server, api_key_file, colour, is_read_only: read_only })?;
    output.line(&format!("set {name}"))?;
    output
        .note(&format!("`fleets context test {name}` tries it, `use {name}` makes it the usual"))?;
    Ok(())
}

/// The same file for whoever reads it from another folder.
fn absolute(path: &Path) -> Result<PathBuf, Failure> {
    let absolute = std::path::absolute(path)
        .map_err(|error| Failure::usage(format!("--api-key-file: {error}")))?;
    match absolute.to_str() {
        Some(_) => Ok(absolute),
        None => Err(Failure::usage("--api-key-file: must be UTF-8")),
    }
}

/// What is in effect, line by line.
fn show(chosen: &Chosen, origin: bool, output: &mut Output<'_>) -> Result<(), Failure> {
    let mut settings = Vec::new();
    let mut add = |name, value: String, origin: &dyn ToString| {
        settings.push(Setting { name, value, origin: origin.to_string() });
    };
    if let Some((context, origin)) = &chosen.context {
        add("context", context.name.clone(), origin);
    }
    add("server", chosen.server.to_string(), &chosen.server_origin);
    match chosen.key() {
        // Its Debug shows the kind and the id, not the secret.
        Ok(found) => add("key", format!("{:?}", found.key), &found.origin),
        Err(error) => add("key", String::new(), &fleet_core::Chain(&error)),
    }
    if let Some((context, _)) = &chosen.context {
        let origin = Origin::Context(context.name.clone());
        if let Some(colour) = context.colour {
            add("colour", colour.word().to_owned(), &origin);
        }
        add("read only", context.is_read_only.to_string(), &origin);
    }
    let columns = [Column::new("NAME", 9), Column::new("VALUE", 30), Column::new("FROM", 30)];
    let columns = if origin { &columns[..] } else { &columns[..2] };
    output.rows(columns, &settings, |setting, _| setting.cells(origin), |it| it.value.clone())?;
    Ok(())
}

/// One setting that is in effect.
#[derive(Debug, Serialize)]
struct Setting {
    name: &'static str,
    value: String,
    origin: String,
}

impl Setting {
    fn cells(&self, origin: bool) -> Vec<Cell> {
        let mut cells = vec![Cell::new(self.name), Cell::new(&self.value)];
        cells.extend(origin.then(|| Cell::new(&self.origin)));
        cells
    }
}

/// A context in a list.
#[derive(Debug, Serialize)]
struct Row {
    name: String,
    current: bool,
    server: ServerUrl,
    api_key_file: Option<PathBuf>,
    colour: Option<&'static str>,
    read_only: bool,
}

impl Row {
    fn new(context: &Context, current: bool) -> Self {
        Self {
            name: context.name.clone(),
            current,
            server: context.server.clone(),
            api_key_file: context.api_key_file.clone(),
            colour: context.colour.map(ContextColour::word),
            read_only: context.is_read_only,
        }
    }
}

impl Listed for Row {
    const COLUMNS: &'static [Column] = &[
        Column::new("NAME", 12),
        Column::new("CURRENT", 7),
        Column::new("SERVER", 30),
        Column::spare("API KEY FILE", 30, 2),
        Column::spare("COLOUR", 7, 1),
        Column::new("READ ONLY", 9),
    ];

    fn cells(&self, reader: Reader) -> Vec<Cell> {
        let truth = |truth: bool| match reader {
            Reader::Person { .. } => Cell::new(if truth { "yes" } else { "" }),
            Reader::Program => Cell::new(truth),
        };
        vec![
            Cell::new(&self.name),
            truth(self.current),
            Cell::new(&self.server),
            Cell::maybe(self.api_key_file.as_ref().map(|path| path.display())),
            Cell::maybe(self.colour),
            truth(self.read_only),
        ]
    }

    fn name(&self) -> String {
        self.name.clone()
    }
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum as _;
    use fleet_core::cli::listed::Format;
    use fleet_core::cli::output::Terminal;
    use fleet_core::cli::testing::{HOSTILE, assert_harmless, written};

    use super::*;

    #[test]
    fn a_context_comes_out_in_every_format() {
        for format in Format::value_variants() {
            let (mut output, out, _) = written(*format, Terminal::default());
            for text in HOSTILE {
                let context = Context {
                    name: "prod".to_owned(),
                    server: "https://fleet.example:8080".parse().unwrap(),
                    api_key_file: Some((*text).into()),
                    colour: Some(ContextColour::Red),
                    is_read_only: true,
                };
                output.list(&[Row::new(&context, true)]).unwrap();
            }
            assert_harmless(&out.text());
            assert!(out.text().contains("prod"), "{format:?}: {}", out.text());
        }
    }

    #[test]
    fn a_keys_file_is_named_so_that_it_is_found_from_everywhere() {
        let found = absolute(Path::new("keys/prod.key")).unwrap();
        assert!(found.is_absolute() && found.ends_with("keys/prod.key"), "{}", found.display());
        assert_eq!(absolute(Path::new("/a.key")).unwrap(), Path::new("/a.key"));
    }
}
