//! What `contexts.toml` says, with the place of whatever cannot be obeyed.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

use toml_edit::{Document, Item, TableLike, TomlError};

use super::{Context, is_name, shown};
use crate::net::url::ServerUrl;
use crate::yaml::{ConfigError, Place, suggestion};

const KEYS: [&str; 2] = ["current", "contexts"];
const CONTEXT_KEYS: [&str; 4] = ["server", "api_key_file", "colour", "read_only"];
/// A key itself, which has no place in this file.
const KEY_ITSELF: &str = "api_key";

/// The name of the current context, and all contexts.
pub(super) fn contexts(
    path: &Path,
    home: Option<&Path>,
    text: &str,
) -> Result<(Option<String>, BTreeMap<String, Context>), ConfigError> {
    let document = Document::parse(text).map_err(|it| error(path, text, &it))?;
    let reader = Reader { path, home, text };
    let root = document.as_table();
    reader.knows(root, &KEYS)?;
    let mut contexts = BTreeMap::new();
    if let Some(item) = root.get("contexts") {
        let table = reader.table(item)?;
        for (name, item) in table.iter() {
            if !is_name(name) {
                return Err(reader.key_error(table, name, "cannot be a context's name"));
            }
            let place = || table.key(name).and_then(toml_edit::Key::span);
            contexts.insert(name.to_owned(), reader.context(name, item, &place)?);
        }
    }
    let current = match root.get("current") {
        Some(item) => {
            let name = reader.string(item)?;
            if !contexts.contains_key(name) {
                let hint = suggestion(name, contexts.keys().map(String::as_str));
                return Err(reader.error(item.span(), format!("there is no such context{hint}")));
            }
            Some(name.to_owned())
        }
        None => None,
    };
    Ok((current, contexts))
}

/// What the parser complains about, at its place.
pub(super) fn error(path: &Path, text: &str, error: &TomlError) -> ConfigError {
    Reader { path, home: None, text }.error(error.span(), error.message().to_owned())
}

struct Reader<'a> {
    path: &'a Path,
    home: Option<&'a Path>,
    text: &'a str,
}

impl Reader<'_> {
    fn context(
        &self,
        name: &str,
        item: &Item,
        place: &dyn Fn() -> Option<Range<usize>>,
    ) -> Result<Context, ConfigError> {
        let table = self.table(item)?;
        self.knows(table, &CONTEXT_KEYS)?;
        let server = table.get("server").map(|item| self.parsed::<ServerUrl>(item)).transpose()?;
        let file = table.get("api_key_file").map(|item| self.file(item)).transpose()?;
        let colour = table.get("colour").map(|item| self.parsed(item)).transpose()?;
        let is_read_only = table.get("read_only").map(|item| self.truth(item)).transpose()?;
        Ok(Context {
            name: name.to_owned(),
            server: server.ok_or_else(|| self.error(place(), "must have a server"))?,
            api_key_file: file,
            colour,
            is_read_only: is_read_only.unwrap_or_default(),
        })
    }

    /// A path: from the home folder where it begins with `~/`, else beside the file.
    fn file(&self, item: &Item) -> Result<PathBuf, ConfigError> {
        let text = self.string(item)?;
        let beside = self.path.parent().unwrap_or(Path::new("/"));
        Ok(match (text.strip_prefix("~/"), self.home) {
            (Some(rest), Some(home)) => home.join(rest),
            _ => beside.join(text),
        })
    }

    fn parsed<T: std::str::FromStr<Err: ToString>>(&self, item: &Item) -> Result<T, ConfigError> {
        let text = self.string(item)?;
        text.parse().map_err(|error: T::Err| self.error(item.span(), error.to_string()))
    }

    fn string<'a>(&self, item: &'a Item) -> Result<&'a str, ConfigError> {
        item.as_str().ok_or_else(|| self.error(item.span(), "must be a text in quotes"))
    }

    fn truth(&self, item: &Item) -> Result<bool, ConfigError> {
        item.as_bool().ok_or_else(|| self.error(item.span(), "must be true or false"))
    }

    fn table<'a>(&self, item: &'a Item) -> Result<&'a dyn TableLike, ConfigError> {
        let wrong = || self.error(item.span(), "must be a table, such as [contexts.prod]");
        item.as_table_like().ok_or_else(wrong)
    }

    /// That there is no key that nobody reads.
    fn knows(&self, table: &dyn TableLike, known: &[&str]) -> Result<(), ConfigError> {
        match table.iter().map(|(key, _)| key).find(|key| !known.contains(key)) {
            None => Ok(()),
            Some(KEY_ITSELF) if known.contains(&"api_key_file") => {
                let problem = "a key has no place here; put it into a file that only you can read, \
                               and name that with api_key_file";
                Err(self.key_error(table, KEY_ITSELF, problem))
            }
            Some(key) => {
                let hint = suggestion(key, known.iter().copied());
                let problem = format!("unknown key{hint}; known are {}", known.join(", "));
                Err(self.key_error(table, key, problem))
            }
        }
    }

    fn key_error(
        &self,
        table: &dyn TableLike,
        key: &str,
        problem: impl Into<String>,
    ) -> ConfigError {
        self.error(table.key(key).and_then(toml_edit::Key::span), problem)
    }

    fn error(&self, span: Option<Range<usize>>, problem: impl Into<String>) -> ConfigError {
        let mut place = Place { path: shown(self.path), line: 0, column: 0 };
        if let Some(before) = span.and_then(|span| self.text.get(..span.start)) {
            let line_start = before.rfind('\n').map_or(0, |at| at + 1);
            place.line = before.matches('\n').count() as u64 + 1;
            place.column = before[line_start..].chars().count() as u64 + 1;
        }
        place.error(problem)
    }
}
