//! Contexts: servers that an operator works with, by name, in `contexts.toml` of their own
//! configuration folder.
//!
//! ```toml
//! current = "prod"
//!
//! [contexts.prod]
//! server = "https://fleet.example:8080"
//! api_key_file = "~/keys/prod.key"
//! colour = "red"
//! read_only = true
//! ```
//!
//! The file never holds a key, only where one is. What it says is refused as a whole if any of it is
//! wrong. It is replaced as a whole too, and what people wrote beside the settings stays.

mod file;
mod read;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use toml_edit::{DocumentMut, Item, Table, TableLike, Value};

use crate::net::url::ServerUrl;
use crate::untrusted::Untrusted;
use crate::yaml::{self, ConfigError};

/// Characters of a context's name.
const NAME_CHARS_MAX: usize = 63;

/// Looks up a variable of the environment.
pub type Environment<'a> = &'a dyn Fn(&str) -> Option<OsString>;

/// All that the file says.
#[derive(Clone, Debug)]
pub struct Contexts {
    path: PathBuf,
    home: Option<PathBuf>,
    text: String,
    current: Option<String>,
    all: BTreeMap<String, Context>,
}

/// One server that an operator works with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Context {
    /// What the operator calls it.
    pub name: String,
    /// Where it is.
    pub server: ServerUrl,
    /// Where the key to this server is; to no other server is it shown.
    pub api_key_file: Option<PathBuf>,
    /// What tells it from others at a glance.
    pub colour: Option<ContextColour>,
    /// Whether nothing is changed there.
    pub is_read_only: bool,
}

/// What is to be changed in a context; what is absent stays.
#[derive(Clone, Debug, Default)]
pub struct ContextUpdate {
    /// Where it is. A new context needs it.
    pub server: Option<ServerUrl>,
    /// Where the key is.
    pub api_key_file: Option<PathBuf>,
    /// What tells it from others.
    pub colour: Option<ContextColour>,
    /// Whether nothing is changed there.
    pub is_read_only: Option<bool>,
}

macro_rules! colours {
    ($($name:ident $word:literal,)*) => {
        /// The colours that a context can have.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[expect(missing_docs, reason = "each is the colour that it is called")]
        pub enum ContextColour { $($name,)* }

        impl ContextColour {
            /// Every colour.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// The word in the file and on the command line.
            pub fn word(self) -> &'static str {
                match self { $(Self::$name => $word,)* }
            }
        }
    };
}

colours! {
    Red "red",
    Yellow "yellow",
    Green "green",
    Cyan "cyan",
    Blue "blue",
    Magenta "magenta",
}

impl FromStr for ContextColour {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let known = || Self::ALL.iter().map(|colour| colour.word()).collect::<Vec<_>>().join(", ");
        let found = Self::ALL.iter().find(|colour| colour.word() == text).copied();
        found.ok_or_else(|| format!("must be one of {}", known()))
    }
}

/// Why contexts cannot be used or changed.
#[derive(Debug, thiserror::Error)]
pub enum ContextsError {
    /// Nobody says where the file would be.
    #[error("neither XDG_CONFIG_HOME nor HOME says where contexts.toml is")]
    NoFolder,
    /// What is in the file cannot be obeyed.
    #[error(transparent)]
    File(#[from] ConfigError),
    /// The file cannot be written.
    #[error("cannot write {path}")]
    Write {
        /// Which.
        path: Untrusted,
        /// Why.
        source: io::Error,
    },
    /// There is no context of that name.
    #[error("there is no context {name}{hint}")]
    Unknown {
        /// The name.
        name: Untrusted,
        /// Which was meant, or which there are.
        hint: String,
    },
    /// A new context has to say where its server is.
    #[error("the context {name} is new and needs its server")]
    NoServer {
        /// The name.
        name: Untrusted,
    },
    /// A word that cannot be a context's name.
    #[error("{name:?} cannot be a context's name: up to {NAME_CHARS_MAX} of a-z A-Z 0-9 . _ -")]
    Name {
        /// The word.
        name: Untrusted,
    },
}

impl Contexts {
    /// The contexts of whoever runs this program; none if there is no file.
    pub fn load() -> Result<Self, ContextsError> {
        Self::load_in(&|name| std::env::var_os(name))
    }

    /// The same in another environment.
    pub fn load_in(environment: Environment<'_>) -> Result<Self, ContextsError> {
        let folder = |name: &str| {
            let path = PathBuf::from(environment(name).filter(|value| !value.is_empty())?);
            path.is_absolute().then_some(path)
        };
        let home = folder("HOME");
        let config = folder("XDG_CONFIG_HOME").or_else(|| Some(home.as_ref()?.join(".config")));
        let path = config.ok_or(ContextsError::NoFolder)?.join("fleetd/contexts.toml");
        let text = file::read(&path)?;
        Self::parse(path, home, text)
    }

    /// Where the file is, or would be.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The names, in their order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.all.keys().map(String::as_str)
    }

    /// The context of a name.
    pub fn get(&self, name: &str) -> Result<&Context, ContextsError> {
        self.all.get(name).ok_or_else(|| self.unknown(name))
    }

    /// The one that is meant where none is named.
    pub fn current(&self) -> Option<&Context> {
        self.all.get(self.current.as_deref()?)
    }

    /// Makes a context the one that is meant where none is named.
    pub fn choose(&mut self, name: &str) -> Result<(), ContextsError> {
        self.get(name)?;
        self.edit(|document| put(document, "current", name))
    }

    /// Changes a context, or makes a new one.
    pub fn set(&mut self, name: &str, update: &ContextUpdate) -> Result<(), ContextsError> {
        if !is_name(name) {
            return Err(ContextsError::Name { name: name.into() });
        }
        if !self.all.contains_key(name) && update.server.is_none() {
            return Err(ContextsError::NoServer { name: name.into() });
        }
        self.edit(|document| update.put(context_of(document, name)))
    }

    /// Forgets a context. The key's file stays.
    pub fn remove(&mut self, name: &str) -> Result<(), ContextsError> {
        self.get(name)?;
        let was_current = self.current.as_deref() == Some(name);
        self.edit(|document| {
            if let Some(contexts) = table(document, "contexts") {
                contexts.remove(name);
            }
            if was_current {
                document.remove("current");
            }
        })
    }

    /// Changes the text, reads it again as anybody would, and only then writes it.
    fn edit(&mut self, change: impl FnOnce(&mut Table)) -> Result<(), ContextsError> {
        let mut document: DocumentMut =
            self.text.parse().map_err(|error| read::error(&self.path, &self.text, &error))?;
        change(document.as_table_mut());
        let edited = Self::parse(self.path.clone(), self.home.clone(), document.to_string())?;
        file::write(&edited.path, &edited.text)
            .map_err(|source| ContextsError::Write { path: shown(&edited.path), source })?;
        *self = edited;
        Ok(())
    }

    fn parse(path: PathBuf, home: Option<PathBuf>, text: String) -> Result<Self, ContextsError> {
        let (current, all) = read::contexts(&path, home.as_deref(), &text)?;
        Ok(Self { path, home, text, current, all })
    }

    fn unknown(&self, name: &str) -> ContextsError {
        let hint = match yaml::suggestion(name, self.names()) {
            near if !near.is_empty() => near,
            _ if self.all.is_empty() => format!("; {} has none", shown(&self.path)),
            _ => format!("; known are {}", self.names().collect::<Vec<_>>().join(", ")),
        };
        ContextsError::Unknown { name: name.into(), hint }
    }
}

impl ContextUpdate {
    fn put(&self, context: &mut dyn TableLike) {
        if let Some(server) = &self.server {
            put(context, "server", server.to_string());
        }
        if let Some(path) = &self.api_key_file {
            put(context, "api_key_file", path.to_string_lossy().into_owned());
        }
        if let Some(colour) = self.colour {
            put(context, "colour", colour.word());
        }
        if let Some(is_read_only) = self.is_read_only {
            put(context, "read_only", is_read_only);
        }
    }
}

/// Sets a value; what was written around it stays.
fn put(table: &mut dyn TableLike, key: &str, value: impl Into<Value>) {
    let mut value = value.into();
    match table.get_mut(key).and_then(Item::as_value_mut) {
        Some(old) => {
            *value.decor_mut() = old.decor().clone();
            *old = value;
        }
        None => {
            table.insert(key, Item::Value(value));
        }
    }
}

/// The table of a context, made if it is not there.
fn context_of<'a>(document: &'a mut Table, name: &str) -> &'a mut dyn TableLike {
    let contexts = document.entry("contexts").or_insert_with(|| {
        let mut contexts = Table::new();
        // `[contexts.prod]` says it already.
        contexts.set_implicit(true);
        Item::Table(contexts)
    });
    let contexts = contexts.as_table_like_mut().expect("a file that was read has tables there");
    let context = contexts.entry(name).or_insert_with(toml_edit::table);
    context.as_table_like_mut().expect("a file that was read has tables there")
}

fn table<'a>(document: &'a mut Table, key: &str) -> Option<&'a mut dyn TableLike> {
    document.get_mut(key)?.as_table_like_mut()
}

fn is_name(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    !name.is_empty() && name.len() <= NAME_CHARS_MAX && name.chars().all(plain)
}

fn shown(path: &Path) -> Untrusted {
    Untrusted::from(path.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests;
