//! Rows as lines of JSON. No secret gets through here: key texts lose theirs, wherever they stand.

use std::io::Write as _;

use fleet_core::api::ExportTable;
use fleet_core::secret::without_secrets;
use serde::Serialize;
use serde_json::Value;

use super::Cell;

/// Members of a configuration whose values nobody is shown. Devices know no such keys today, but a
/// document stays as it was stored.
const SECRET_MEMBERS: [&str; 5] = ["api_key", "password", "secret", "secret_key", "token"];

/// Appends a row's line. There is a cell for each column.
pub(super) fn push_row(out: &mut Vec<u8>, table: ExportTable, cells: &[Cell<'_>]) {
    debug_assert_eq!(cells.len(), table.columns().len(), "{table}");
    out.extend_from_slice(b"{\"table\":\"");
    out.extend_from_slice(table.name().as_bytes());
    out.push(b'"');
    for (column, cell) in table.columns().iter().zip(cells) {
        push_name(out, column.name);
        match cell {
            Cell::Text(text) => push_text(out, text),
            Cell::Integer(number) => write!(out, "{number}").expect("memory takes all"),
            Cell::Real(number) => push_number(out, *number),
            Cell::Null => out.extend_from_slice(b"null"),
        }
    }
    out.extend_from_slice(b"}\n");
}

/// Appends `,"name":`.
pub(super) fn push_name(out: &mut Vec<u8>, name: &str) {
    out.extend_from_slice(b",\"");
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\":");
}

/// Appends a text without what is secret in it.
pub(super) fn push_text(out: &mut Vec<u8>, text: &str) {
    push_json(out, &*without_secrets(text));
}

/// Appends a number with all its digits.
pub(super) fn push_number(out: &mut Vec<u8>, number: f64) {
    push_json(out, &number);
}

/// Appends a whole line.
pub(super) fn push_line(out: &mut Vec<u8>, line: &impl Serialize) {
    push_json(out, line);
    out.push(b'\n');
}

fn push_json<T: Serialize + ?Sized>(out: &mut Vec<u8>, value: &T) {
    serde_json::to_writer(out, value).expect("memory takes all, and the values are plain");
}

/// A configuration's document without what is secret in it.
pub(super) fn without_secret_members(document: String) -> String {
    // What is no JSON is no configuration; key texts are taken out of it all the same.
    let Ok(mut value) = serde_json::from_str::<Value>(&document) else { return document };
    if mask(&mut value) { value.to_string() } else { document }
}

/// Masks members in place; whether there were any.
fn mask(value: &mut Value) -> bool {
    match value {
        Value::Object(members) => {
            let mut is_masked = false;
            for (name, value) in members {
                if SECRET_MEMBERS.contains(&name.as_str()) && !value.is_null() {
                    *value = Value::from("(masked)");
                    is_masked = true;
                } else {
                    is_masked |= mask(value);
                }
            }
            is_masked
        }
        Value::Array(values) => values.iter_mut().fold(false, |is_masked, it| mask(it) | is_masked),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn secrets_of_configurations_are_masked_and_all_else_stays_as_it_was_stored() {
        let spaced = r#"{ "telemetry": {"interval": 30} }"#;
        for (document, shown) in [
            (spaced.to_owned(), spaced.to_owned()),
            ("no JSON".to_owned(), "no JSON".to_owned()),
            (
                json!({"a": [{"api_key": "x"}], "b": {"password": 7, "token": null}}).to_string(),
                json!({"a": [{"api_key": "(masked)"}], "b": {"password": "(masked)", "token": null}})
                    .to_string(),
            ),
        ] {
            assert_eq!(without_secret_members(document), shown);
        }
    }

    #[test]
    fn a_row_is_a_line_of_its_tables_columns() {
        let text = |text: &'static str| Cell::Text(text.into());
        let cells = [
            Cell::Integer(3),
            text("2024-01-15T10:30:00Z"),
            text("key.created"),
            text("operator:a"),
            Cell::Null,
            Cell::Null,
            text("a \"quote\"\n flt_op_abcdefghij_0123456789"),
        ];
        let mut out = Vec::new();
        push_row(&mut out, ExportTable::Events, &cells);
        let expected = "{\"table\":\"events\",\"seq\":3,\"timestamp\":\"2024-01-15T10:30:00Z\",\
             \"kind\":\"key.created\",\"actor\":\"operator:a\",\"device_id\":null,\"uid\":null,\
             \"text\":\"a \\\"quote\\\"\\n flt_op_abcdefghij_(masked)\"}\n";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }
}
