//! What the language promises, by tables and over random filters.

mod fleet;
mod language;
mod measure;
mod roundtrip;
