//! Influx line protocol, read where it lies.
//!
//! ```text
//! measurement,tag=value,tag=value field=1.5,field=2i,field="text" 1705314600000000000
//! ```
//!
//! [`lines`] takes a body apart without knowing what anything in it is for. Names, tags and fields
//! borrow from the body; only a [`Text`] with an escape in it is ever copied. Any bytes at all give
//! lines or errors, each line is looked at a bounded number of times, and a line that is wrong does
//! not touch the next one.

mod error;
mod field;
mod precision;
#[cfg(test)]
mod tests;
mod text;

use memchr::{memchr, memchr_iter, memchr2, memrchr};

pub(crate) use error::LineError;
pub(crate) use field::Fields;
pub(crate) use precision::Precision;
pub(crate) use text::{Tags, Text};

use text::find_plain;

/// The lines of a body, each with its number from 1. Blank lines and comments are passed over.
pub(crate) fn lines(body: &[u8]) -> Lines<'_> {
    Lines { rest: body, number: 0 }
}

/// See [`lines`].
#[derive(Clone, Debug)]
pub(crate) struct Lines<'a> {
    rest: &'a [u8],
    /// Of lines that are behind us.
    number: usize,
}

impl<'a> Iterator for Lines<'a> {
    type Item = (usize, Result<Line<'a>, LineError>);

    fn next(&mut self) -> Option<Self::Item> {
        while !self.rest.is_empty() {
            let number = self.number + 1;
            let line = self.take_line();
            let line = line.trim_ascii();
            if !line.is_empty() && line[0] != b'#' {
                return Some((number, Line::parse(line)));
            }
        }
        None
    }
}

impl<'a> Lines<'a> {
    /// The next line, of whatever kind. A string of a field may span several.
    fn take_line(&mut self) -> &'a [u8] {
        let (end, breaks) = match memchr2(b'\n', b'"', self.rest) {
            Some(at) if self.rest[at] == b'\n' => (at, 1),
            None => (self.rest.len(), 1),
            Some(_) => end_with_strings(self.rest),
        };
        let line = &self.rest[..end];
        self.rest = self.rest.get(end + 1..).unwrap_or_default();
        self.number += breaks;
        line
    }
}

/// Where a line ends that has quotes in it, and how many lines of text that is. A quote opens a
/// string where a field's value begins, and nowhere else. A string that never ends takes the rest.
fn end_with_strings(body: &[u8]) -> (usize, usize) {
    let first_break = memchr(b'\n', body).unwrap_or(body.len());
    let indent = body.len() - body.trim_ascii_start().len();
    let head = field::head_end(&body[indent..first_break]);
    let Some(head) = head.filter(|_| body[indent] != b'#') else { return (first_break, 1) };
    let mut at = indent + head;
    let mut breaks = 1;
    loop {
        // Between strings, a line ends at its first break.
        match memchr2(b'\n', b'"', &body[at..]).map(|found| at + found) {
            None => return (body.len(), breaks),
            Some(end) if body[end] == b'\n' => return (end, breaks),
            Some(quote) if body[quote - 1] != b'=' || is_escaped(body, quote - 1) => at = quote + 1,
            Some(quote) => match field::string_end(&body[quote + 1..]) {
                None => return (body.len(), breaks),
                Some(length) => {
                    at = quote + 1 + length + 1;
                    breaks += memchr_iter(b'\n', &body[quote..at]).count();
                }
            },
        }
    }
}

/// Whether a byte is taken for itself because a backslash is before it.
fn is_escaped(text: &[u8], at: usize) -> bool {
    at > 0 && text[at - 1] == b'\\'
}

/// One line, taken apart but for its tags and fields.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Line<'a> {
    head: &'a str,
    measurement: Text<'a>,
    /// Nothing if not even a comma is there.
    tags: Option<&'a str>,
    fields: &'a str,
    time: Option<i64>,
}

impl<'a> Line<'a> {
    fn parse(line: &'a [u8]) -> Result<Self, LineError> {
        let line = std::str::from_utf8(line).map_err(|_| LineError::NotText)?;
        let head = field::head_end(line.as_bytes()).ok_or(LineError::NoFields)?;
        let (head, rest) = line.split_at(head);
        let (measurement, tags) = match find_plain(head, [b',']) {
            Some(comma) => (&head[..comma], Some(&head[comma + 1..])),
            None => (head, None),
        };
        if measurement.is_empty() {
            return Err(LineError::NoMeasurement);
        }
        let (fields, time) = split_time(rest.trim_ascii_start())?;
        Ok(Self { head, measurement: Text::new(measurement), tags, fields, time })
    }

    /// Measurement and tags, as they are written.
    pub(crate) fn head(&self) -> &'a str {
        self.head
    }

    /// What was measured.
    pub(crate) fn measurement(&self) -> Text<'a> {
        self.measurement
    }

    /// The tags, in the order in which they are written.
    pub(crate) fn tags(&self) -> Tags<'a> {
        Tags::new(self.tags)
    }

    /// The fields, of which there is at least one, or an error.
    pub(crate) fn fields(&self) -> Fields<'a> {
        Fields::new(self.fields)
    }

    /// The time, in units of the request's precision.
    pub(crate) fn time(&self) -> Option<i64> {
        self.time
    }
}

/// Takes the time off the end of fields, if one is there. Fields never end in a space and a whole
/// number, except inside a string, which ends in a quote.
fn split_time(rest: &str) -> Result<(&str, Option<i64>), LineError> {
    let Some(space) = memrchr(b' ', rest.as_bytes()) else { return Ok((rest, None)) };
    let (fields, time) = (&rest[..space], &rest[space + 1..]);
    let digits = time.strip_prefix('-').unwrap_or(time);
    let is_time = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    if !is_time || is_escaped(rest.as_bytes(), space) {
        return Ok((rest, None));
    }
    let time = time.parse().map_err(|_| LineError::Time)?;
    Ok((fields.trim_ascii_end(), Some(time)))
}
