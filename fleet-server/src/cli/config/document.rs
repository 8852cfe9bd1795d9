//! Documents on the command line: from a file, from standard input, as JSON, or as single changes to
//! what is there.

use std::io::Read as _;
use std::path::Path;

use fleet_core::cli::args::Assignment;
use fleet_core::cli::failure::Failure;
use fleet_core::operator::exit::Exit;
use fleet_core::yaml;
use serde_json::{Map, Value};

/// Bytes of a file with a configuration.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// A whole document: the JSON itself, a file's name, or - for standard input.
pub(in crate::cli) fn read(text: &str) -> Result<Value, Failure> {
    if text.trim_start().starts_with('{') {
        return serde_json::from_str(text)
            .map_err(|error| Failure::usage(format!("--config is no JSON: {error}")));
    }
    read_file(Path::new(text))
}

/// A document from a YAML or JSON file; - for standard input.
fn read_file(path: &Path) -> Result<Value, Failure> {
    let is_stdin = path.as_os_str() == "-";
    let name = if is_stdin { "standard input".into() } else { path.to_string_lossy() };
    let mut text = String::new();
    let read = if is_stdin {
        std::io::stdin().lock().take(FILE_BYTES_MAX + 1).read_to_string(&mut text)
    } else {
        std::fs::File::open(path)
            .and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text))
    };
    read.map_err(|error| Failure::usage(format!("cannot read {name}: {error}")))?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(Failure::usage(format!("{name} is larger than {FILE_BYTES_MAX} bytes")));
    }
    // JSON is YAML too.
    yaml::value(&name, &text).map_err(|error| Failure::usage(error.to_string()))
}

/// The current document with the changes put into it.
pub(super) fn merged(current: &str, changes: Vec<Assignment>) -> Result<Value, Failure> {
    let mut document: Value = serde_json::from_str(current).map_err(|error| {
        Failure::new(Exit::Failed, format!("the current configuration cannot be read: {error}"))
    })?;
    for Assignment { key, value } in changes {
        put(&mut document, &key, value)?;
    }
    Ok(document)
}

/// Puts a value where `telemetry.interval` points, or takes away what is there.
fn put(document: &mut Value, path: &str, value: Option<Value>) -> Result<(), Failure> {
    let (parents, last) = path.rsplit_once('.').unwrap_or(("", path));
    let mut place = document;
    for name in parents.split('.').filter(|name| !name.is_empty()) {
        let object = object(place, path)?;
        place = object.entry(name).or_insert_with(|| Value::Object(Map::new()));
    }
    let object = object(place, path)?;
    match value {
        Some(value) => object.insert(last.to_owned(), list_or_text(last, value)),
        None => object.remove(last),
    };
    Ok(())
}

fn object<'a>(place: &'a mut Value, path: &str) -> Result<&'a mut Map<String, Value>, Failure> {
    place.as_object_mut().ok_or_else(|| Failure::usage(format!("{path}: nothing can be in there")))
}

/// `metrics` is the one key that takes a list: `cpu_usage,memory_usage`.
fn list_or_text(key: &str, value: Value) -> Value {
    match value {
        Value::String(text) if key == "metrics" => {
            let names = text.split(',').map(str::trim).filter(|name| !name.is_empty());
            names.map(Value::from).collect()
        }
        Value::String(text) if text.parse::<u64>().is_ok() => {
            text.parse::<u64>().map_or(Value::Null, Value::from)
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn changed(current: &Value, changes: &[&str]) -> Result<Value, String> {
        let changes = changes.iter().map(|change| change.parse().unwrap()).collect();
        merged(&current.to_string(), changes).map_err(|failure| failure.message().to_owned())
    }

    #[test]
    fn changes_are_merged_into_what_is_there() {
        let current = json!({"telemetry": {"interval": 60, "metrics": ["cpu_usage"]}});
        assert_eq!(
            changed(&current, &["telemetry.interval=30s"]).unwrap(),
            json!({"telemetry": {"interval": "30s", "metrics": ["cpu_usage"]}})
        );
        assert_eq!(
            changed(&current, &["telemetry.metrics=a, b", "telemetry.interval-"]).unwrap(),
            json!({"telemetry": {"metrics": ["a", "b"]}})
        );
        assert_eq!(
            changed(&json!({}), &["telemetry_interval=30"]).unwrap(),
            json!({"telemetry_interval": 30})
        );
        assert!(changed(&current, &["telemetry.interval.x=1"]).is_err());
    }

    #[test]
    fn a_whole_document_is_json_or_a_file() {
        assert_eq!(read(" {\"a\": 1}").unwrap(), json!({"a": 1}));
        let told = read("{\"a\": ").unwrap_err();
        assert!(told.message().starts_with("--config is no JSON"), "{}", told.message());
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("update.yaml");
        std::fs::write(&file, "telemetry:\n  interval: 30s\n").unwrap();
        let file = file.to_str().unwrap();
        assert_eq!(read(file).unwrap(), json!({"telemetry": {"interval": "30s"}}));
        assert!(read("nowhere.json").is_err());
        for (text, told) in [
            (
                "telemetry:\n  interval: 1\n  interval: 2\n",
                "line 3, column 3: \"interval\" is said twice",
            ),
            ("{\"a\": ", "not valid YAML here"),
            ("a: [1\nb: 2", "not valid YAML here"),
        ] {
            std::fs::write(file, text).unwrap();
            let failure = read(file).unwrap_err();
            let said = failure.message();
            assert!(said.contains("update.yaml") && said.contains(told), "{said}");
        }
        std::fs::write(file, "#".repeat(FILE_BYTES_MAX as usize + 1)).unwrap();
        assert!(read(file).unwrap_err().message().ends_with("is larger than 1048576 bytes"));
    }
}
