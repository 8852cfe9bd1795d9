//! An export as a file of lines: those of the server without the first and the last, with nothing
//! in them that would act on a terminal.

use std::io::{self, Write};

use fleet_core::api::ExportRows;
use fleet_core::untrusted::escaped_json;

use super::read::{Rows, WriteError};

/// Writes rows. The writer buffers, and is flushed at the end.
pub(crate) fn write(mut out: impl Write, mut rows: Rows<'_>) -> Result<ExportRows, WriteError> {
    while let Some(row) = rows.next()? {
        write_line(&mut out, row.line)?;
    }
    out.flush()?;
    Ok(rows.into_counts())
}

fn write_line(out: &mut impl Write, line: &str) -> io::Result<()> {
    if line.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
        out.write_all(line.as_bytes())?;
    } else {
        out.write_all(escaped_json(line).as_bytes())?;
    }
    out.write_all(b"\n")
}
