//! How a doctor's report is written, and how a program ends by it.

use super::failure::Failure;
use super::listed::{Format, Listed, Reader};
use super::output::Output;
use super::table::{Cell, Column};
use crate::doctor::{Check, Report};
use crate::operator::exit::Exit;

/// Writes it in the chosen format.
pub fn write(report: &Report, output: &mut Output<'_>) -> Result<Exit, Failure> {
    match output.format {
        Format::Table | Format::Wide => {
            for line in report.text().lines() {
                output.line(line)?;
            }
        }
        Format::Json | Format::Jsonl | Format::Csv | Format::Name => {
            output.list(report.checks())?;
        }
    }
    Ok(match (report.has_failed(), report.is_unreachable()) {
        (false, _) => Exit::Done,
        (true, true) => Exit::Unreachable,
        (true, false) => Exit::Failed,
    })
}

impl Listed for Check {
    const COLUMNS: &'static [Column] = &[
        Column::new("GROUP", 12),
        Column::new("CHECK", 12),
        Column::new("OUTCOME", 10),
        Column::new("DETAIL", 40),
        Column::new("FIX", 40),
    ];

    fn cells(&self, _reader: Reader) -> Vec<Cell> {
        vec![
            Cell::new(&self.group),
            Cell::new(self.check),
            Cell::new(self.outcome.word()),
            Cell::new(&self.detail),
            Cell::maybe(self.fix.as_ref()),
        ]
    }

    fn name(&self) -> String {
        self.check.to_owned()
    }
}
