//! What a chunk holds: the reports of one device, one after the other.

use crate::series::number::Number;

/// Reports in a chunk at most.
pub const ROWS_MAX: usize = 1 << 16;
/// Columns of a chunk at most.
pub const COLUMNS_MAX: usize = 8192;
/// Numbers in all columns of a chunk at most, so that a whole one can always be held in memory.
pub const NUMBERS_MAX: usize = 1 << 22;

/// Reports, and what was measured in each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// When each report was made, in milliseconds, ascending; equal ones are allowed. At least
    /// one.
    pub times: Vec<i64>,
    /// What was measured: each key once. A chunk has them in the order of their keys.
    pub columns: Vec<Column>,
}

/// One series in the reports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    /// Which.
    pub key: ColumnKey,
    /// The reports that have a value.
    pub rows: Rows,
    /// One for each of those.
    pub numbers: Vec<Number>,
}

/// Names a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ColumnKey {
    /// The series.
    pub series: u32,
    /// What of it.
    pub part: Part,
}

/// What a column says about its series. All but the first are for rollups.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Part {
    /// What was measured.
    Value,
    /// The least in a step of time.
    Min,
    /// The largest in a step of time.
    Max,
    /// All in a step of time added up.
    Sum,
    /// How many there were in a step of time.
    Count,
}

/// Which rows of a table have a value. The others are gaps, never zeros.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rows {
    /// All.
    All,
    /// These, ascending.
    Some(Vec<u32>),
}

impl Table {
    /// Whether all that is said above is so, and the bounds are kept.
    pub fn is_sound(&self) -> bool {
        let rows = self.times.len();
        let numbers: usize = self.columns.iter().map(|column| column.numbers.len()).sum();
        let mut keys: Vec<ColumnKey> = self.columns.iter().map(|column| column.key).collect();
        keys.sort_unstable();
        (1..=ROWS_MAX).contains(&rows)
            && self.times.is_sorted()
            && self.columns.len() <= COLUMNS_MAX
            && numbers <= NUMBERS_MAX
            && keys.is_sorted_by(|a, b| a < b)
            && self.columns.iter().all(|column| column.is_sound(rows))
    }
}

impl Column {
    fn is_sound(&self, rows: usize) -> bool {
        match &self.rows {
            Rows::All => self.numbers.len() == rows,
            Rows::Some(some) => self.numbers.len() == some.len() && are_rows(some, rows),
        }
    }
}

impl Part {
    /// By the number that stands for each in a chunk.
    pub(super) const ALL: [Self; 5] = [Self::Value, Self::Min, Self::Max, Self::Sum, Self::Count];
}

/// Whether these are ascending numbers of rows.
pub(super) fn are_rows(some: &[u32], rows: usize) -> bool {
    some.is_sorted_by(|a, b| a < b) && some.last().is_none_or(|last| (*last as usize) < rows)
}
