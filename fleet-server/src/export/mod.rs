//! Exports: the rows that a store has, and the files that they become.
//!
//! ```text
//! store ─▶ pass ─▶ lines ─▶ (a server's reply, or straight on) ─▶ read ─▶ sqlite, csv, ndjson ─▶ place
//! ```
//!
//! [`mod@pass`] goes through a store and writes lines, as [`fleet_core::api::ExportTable`]'s module
//! describes them; a running server sends those to whoever asks, and from a database that no server has open the
//! command line takes them itself. So both ways give the same. [`read`] takes lines apart again,
//! and says whether they are whole. What is written from them is kept in a [`place`](crate::place) where
//! nobody takes it for finished before it is.

mod lines;
mod pass;
mod telemetry;

pub(crate) mod csv;
pub(crate) mod ndjson;
mod read;
pub(crate) mod sqlite;

use std::borrow::Cow;

pub(crate) use pass::{Stop, Taker, Wish, Within, pass};
pub(crate) use read::{Broken, Progress, Rows, WriteError};

/// What an export is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// A database.
    Sqlite,
    /// A file of lines.
    Ndjson,
    /// A folder of tables.
    Csv,
}

/// A value of a row.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Cell<'a> {
    Null,
    Integer(i64),
    Real(f64),
    Text(Cow<'a, str>),
}
