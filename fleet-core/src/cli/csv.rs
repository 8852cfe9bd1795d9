//! Tables that people write: CSV with a line of titles, from a spreadsheet or by hand. What cannot be
//! read is told with its line and column.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use super::failure::Failure;
use crate::untrusted::{Untrusted, escaped};

/// Bytes of a table.
const BYTES_MAX: u64 = 4 * 1024 * 1024;
/// Rows of a table.
pub const ROWS_MAX: usize = 10_000;

/// A title, and whether a table may do without it.
#[derive(Clone, Copy, Debug)]
pub struct Title {
    /// The word in the first line.
    pub name: &'static str,
    /// Whether its column, and each value in it, must be there.
    pub is_needed: bool,
}

/// One row: a value for each of the titles that were asked for.
#[derive(Debug, PartialEq, Eq)]
pub struct Row {
    /// Its line, from 1.
    pub line: usize,
    /// In the order of the titles; empty where the table has none.
    pub values: Vec<String>,
}

/// What is wrong with a table, and where.
#[derive(Debug, PartialEq, Eq)]
pub struct CsvError {
    /// The line, from 1.
    pub line: usize,
    /// The column, if it is one's fault.
    pub column: Option<String>,
    /// What is wrong.
    pub problem: String,
}

impl CsvError {
    /// What a failure says of it.
    pub fn told(&self, path: &Path) -> Failure {
        let path = escaped(&path.to_string_lossy());
        let line = self.line;
        let place = match &self.column {
            Some(column) => format!("{path}, line {line}, column {}", escaped(column)),
            None => format!("{path}, line {line}"),
        };
        Failure::usage(format!("{place}: {}", self.problem))
    }
}

/// Reads a file's rows.
pub fn read(path: &Path, titles: &[Title]) -> Result<Vec<Row>, Failure> {
    let text = bounded(path).map_err(|error| {
        Failure::usage(format!("cannot read {}: {error}", escaped(&path.to_string_lossy())))
    })?;
    parse(&text, titles).map_err(|error| error.told(path))
}

fn bounded(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(BYTES_MAX + 1).read_to_string(&mut text)?;
    if text.len() as u64 > BYTES_MAX {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    Ok(text)
}

/// Reads the rows of a text.
pub fn parse(text: &str, titles: &[Title]) -> Result<Vec<Row>, CsvError> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut lines = Lines { rest: text, line: 1 };
    let names: Vec<&str> = titles.iter().map(|title| title.name).collect();
    let whole = |line, problem| CsvError { line, column: None, problem };
    let Some((line, head)) = lines.next()? else {
        return Err(whole(1, format!("a line with titles must come first: {}", names.join(","))));
    };
    let mut places = vec![None; titles.len()];
    for (column, name) in head.iter().enumerate() {
        let name = name.trim();
        let Some(title) = names.iter().position(|known| known.eq_ignore_ascii_case(name)) else {
            let problem =
                format!("{:?} is none of the titles {}", Untrusted::from(name), names.join(", "));
            return Err(CsvError { line, column: Some((column + 1).to_string()), problem });
        };
        if places[title].replace(column).is_some() {
            return Err(whole(line, format!("two columns are called {}", names[title])));
        }
    }
    for (title, place) in titles.iter().zip(&places) {
        if title.is_needed && place.is_none() {
            return Err(whole(line, format!("no column is called {}", title.name)));
        }
    }
    let mut rows = Vec::new();
    while let Some((line, cells)) = lines.next()? {
        if cells.len() != head.len() {
            let problem = format!("{} values for {} columns", cells.len(), head.len());
            return Err(whole(line, problem));
        }
        let mut values = Vec::with_capacity(titles.len());
        for (title, place) in titles.iter().zip(&places) {
            let value = place.map(|place| cells[place].trim().to_owned()).unwrap_or_default();
            if value.is_empty() && title.is_needed {
                let column = Some(title.name.to_owned());
                return Err(CsvError { line, column, problem: "nothing is there".to_owned() });
            }
            values.push(value);
        }
        if rows.len() == ROWS_MAX {
            return Err(whole(line, format!("more than {ROWS_MAX} rows")));
        }
        rows.push(Row { line, values });
    }
    Ok(rows)
}

/// What is left of a text, and its line.
struct Lines<'a> {
    rest: &'a str,
    line: usize,
}

impl Lines<'_> {
    /// The next row with something in it. A value in quotes may contain commas, line ends, and quotes
    /// twice over.
    fn next(&mut self) -> Result<Option<(usize, Vec<String>)>, CsvError> {
        loop {
            if self.rest.is_empty() {
                return Ok(None);
            }
            let line = self.line;
            let cells = self.row(line)?;
            if cells.iter().any(|cell| !cell.trim().is_empty()) {
                return Ok(Some((line, cells)));
            }
        }
    }

    fn row(&mut self, line: usize) -> Result<Vec<String>, CsvError> {
        let (mut cells, mut cell) = (Vec::new(), String::new());
        let mut is_quoted = false;
        let mut chars = self.rest.char_indices().peekable();
        while let Some((_, char)) = chars.next() {
            self.line += usize::from(char == '\n');
            match char {
                '"' if is_quoted && chars.next_if(|(_, next)| *next == '"').is_some() => {
                    cell.push('"');
                }
                '"' if is_quoted => is_quoted = false,
                '"' if cell.trim().is_empty() => {
                    cell.clear();
                    is_quoted = true;
                }
                ',' if !is_quoted => cells.push(std::mem::take(&mut cell)),
                '\n' if !is_quoted => break,
                _ => cell.push(char),
            }
        }
        let end = chars.peek().map_or(self.rest.len(), |(place, _)| *place);
        self.rest = &self.rest[end..];
        cells.push(cell);
        if is_quoted {
            let column = Some(cells.len().to_string());
            return Err(CsvError { line, column, problem: "a quote does not end".to_owned() });
        }
        Ok(cells)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TITLES: [Title; 3] = [
        Title { name: "device_id", is_needed: true },
        Title { name: "code", is_needed: true },
        Title { name: "tags", is_needed: false },
    ];

    fn values(text: &str) -> Result<Vec<Vec<String>>, String> {
        let told = |error: CsvError| match error.told(Path::new("t.csv")) {
            Failure::Told(told) => told.message,
            Failure::NoReader => String::new(),
        };
        let rows = parse(text, &TITLES).map_err(told)?;
        Ok(rows.into_iter().map(|row| row.values).collect())
    }

    #[test]
    fn columns_may_stand_in_any_order_and_quotes_hold_commas() {
        assert_eq!(values("device_id,code\n").unwrap(), Vec::<Vec<String>>::new());
        let text = "\u{feff}Code,DEVICE_ID\r\n\r\nabc , a-1\r\n,\r\n\"x \"\"y\"\", z\",b\n";
        assert_eq!(values(text).unwrap(), [["a-1", "abc", ""], ["b", "x \"y\", z", ""]]);
        let text = "device_id,code,tags\na,b,\"c,\nd\"\ne,f,g";
        assert_eq!(values(text).unwrap(), [["a", "b", "c,\nd"], ["e", "f", "g"]]);
        assert_eq!(parse(text, &TITLES).unwrap()[1].line, 4);
    }

    #[test]
    fn what_is_wrong_is_told_with_its_place() {
        for (text, told) in [
            ("", "t.csv, line 1: a line with titles must come first: device_id,code,tags"),
            ("device_id,cod\n", "t.csv, line 1, column 2: \"cod\" is none of the titles"),
            ("device_id,\u{1b}[2J\n", "column 2: \"\\u{1b}[2J\" is none"),
            ("device_id,code,code\n", "line 1: two columns are called code"),
            ("device_id,tags\n", "line 1: no column is called code"),
            ("device_id,code\na\n", "line 2: 1 values for 2 columns"),
            ("device_id,code\n\na,\n", "line 3, column code: nothing is there"),
            ("device_id,code\na,\"b\n\n", "line 2, column 2: a quote does not end"),
        ] {
            let wrong = values(text).unwrap_err();
            assert!(wrong.contains(told), "{text:?}: {wrong}");
        }
        let many = format!("device_id,code\n{}", "a,b\n".repeat(ROWS_MAX + 1));
        assert!(values(&many).unwrap_err().ends_with("more than 10000 rows"));
    }
}
