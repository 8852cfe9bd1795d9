//! Where in a document something is wrong: the line itself, and a mark below it where it is known.

use fleet_core::api::{ConfigDocument, ConfigError};
use serde_json::Value;

use super::html::Html;

/// Characters of a line that are shown around the place.
const SHOWN_CHARS_MAX: usize = 80;

/// What is wrong with a document, and where.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Mistake {
    problem: String,
    /// The line, from 1, and the character in it, from 0.
    place: Option<(usize, Option<usize>)>,
}

/// Reads a document that somebody typed.
pub(super) fn read(text: &str) -> Result<Value, Mistake> {
    let value = parse(text)?;
    ConfigDocument::from_json(&value).map_err(|error| misfit(text, &error))?;
    Ok(value)
}

fn parse(text: &str) -> Result<Value, Mistake> {
    serde_json::from_str(text).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        let told = error.to_string();
        let what = told.split(" at line ").next().unwrap_or_default();
        let bytes = text.split('\n').nth(line.saturating_sub(1)).unwrap_or_default().as_bytes();
        let before = bytes.get(..column.saturating_sub(1)).unwrap_or(bytes);
        let character = String::from_utf8_lossy(before).chars().count();
        Mistake {
            problem: format!("this is no JSON: {what}"),
            place: Some((line, Some(character))),
        }
    })
}

/// A document that devices do not know; its path leads to a line.
fn misfit(text: &str, error: &ConfigError) -> Mistake {
    let path = error.path.raw();
    let mut rest = 0;
    let mut found = None;
    for key in path.split('.').skip(1) {
        let name = format!("\"{}\"", key.split('[').next().unwrap_or(key));
        let Some(at) = text.get(rest..).and_then(|text| text.find(&name)) else { break };
        found = Some(rest + at);
        rest += at + name.len();
    }
    let line = |at: usize| text.get(..at).map_or(0, |before| before.matches('\n').count()) + 1;
    Mistake { problem: error.to_string(), place: found.map(|at| (line(at), None)) }
}

impl Mistake {
    /// Shows it, with the line of the text that it is about.
    pub(super) fn show(&self, html: &mut Html, text: &str) {
        html.raw("<div class=\"problem\" role=\"alert\" id=\"problem\">").text(&self.problem);
        let line = self.place.and_then(|(line, character)| {
            Some((line, character, text.split('\n').nth(line.checked_sub(1)?)?.trim_end()))
        });
        if let Some((number, character, line)) = line {
            let begin = character.unwrap_or(0).saturating_sub(SHOWN_CHARS_MAX / 2);
            let shown: String = line.chars().skip(begin).take(SHOWN_CHARS_MAX).collect();
            let label = format!("line {number}: ");
            html.raw("<pre>").text(&label).text(shown.replace('\t', " "));
            if let Some(character) = character {
                let spaces = label.chars().count() + character - begin;
                html.raw("\n").text(" ".repeat(spaces)).raw("^");
            }
            html.raw("</pre>");
        }
        html.raw("</div>");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> String {
        let mut html = Html::default();
        read(text).unwrap_err().show(&mut html, text);
        html.into_string()
    }

    #[test]
    fn a_mistake_is_shown_in_its_place() {
        let markup = shown("{\n  \"telemetry\": {\n    \"interval\" 30\n  }\n}");
        assert!(markup.contains("this is no JSON: expected `:`"), "{markup}");
        assert!(markup.contains("line 3:     &quot;interval&quot; 30\n"), "{markup}");
        let mark = markup.lines().find(|line| line.contains('^')).unwrap();
        assert_eq!(mark.find('^'), Some("line 3:     \"interval\" ".len()), "{markup}");
        let markup = shown("{\n  \"telemetry\": {\n    \"intervall\": 30}}");
        assert!(markup.contains("config.telemetry.intervall: is not a key"), "{markup}");
        assert!(markup.contains("line 3:     &quot;intervall&quot;: 30}}</pre>"), "{markup}");
        let markup = shown("{\"telemetry\": {\"metrics\": [\"a b\"]}}");
        assert!(markup.contains("metrics[0]: is not a metric name") && markup.contains("line 1"));
    }

    #[test]
    fn whatever_is_typed_is_answered() {
        let deep = "[".repeat(100_000);
        let long = format!("{{\"{}\": ü x", "ü".repeat(10_000));
        for text in ["", "\n\n", "[]", "{\"<b>\": 1}", "{\"\u{202e}\" 1", &deep, &long, "\u{0}"] {
            let markup = shown(text);
            assert!(markup.len() < 2_000 && !markup.contains("<b>"), "{markup}");
            assert!(!markup.contains('\u{202e}'));
        }
        assert!(read("{}").is_ok());
    }
}
