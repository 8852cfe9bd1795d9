//! The versions that a device's configuration had, newest first, each with what it changed.

use fleet_core::api::{ConfigVersionView, ConfigView, Difference, config_paths, diff};
use fleet_core::id::Uid;
use fleet_core::time::Timestamp;
use fleet_core::untrusted::escaped;
use serde_json::Value;

use super::fetched::Fetched;
use crate::cells;
use crate::event::Failed;
use crate::state::popup::{Command, Menu, MenuItem};

/// Versions that are asked for; the server has all.
pub(super) const PAGE: usize = 50;
/// Differences that are told of one version.
const DIFFERENCES_MAX: usize = 8;
/// Versions that a menu offers, a letter for each.
const OFFERED_MAX: usize = 26;

/// The versions of a configuration.
#[derive(Debug, Default)]
pub struct Versions {
    list: Fetched<Vec<ConfigVersionView>>,
    rows: Vec<Version>,
}

/// One of them, safe to show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// Its number.
    pub number: u64,
    /// When it was set.
    pub at: Timestamp,
    /// By whom.
    pub author: String,
    /// What it changed, and why.
    pub what: String,
}

impl Versions {
    /// The newest versions; nothing before the first answer.
    pub fn rows(&self) -> &[Version] {
        &self.rows
    }

    /// Why there are none, or only old ones.
    pub fn error(&self) -> Option<&str> {
        self.list.error()
    }

    /// Whether there are older ones than those.
    pub fn has_more(&self) -> bool {
        self.rows.len() >= PAGE
    }

    /// What a version said, if it is known.
    pub fn document(&self, number: u64) -> Option<&Value> {
        let list = self.list.value()?;
        list.iter().find(|version| version.version == number).map(|version| &version.document)
    }

    pub(super) fn lose(&mut self) {
        self.list.lose();
    }

    /// Whether to ask for them now; then the question counts as asked.
    pub(super) fn begin(&mut self, view: Option<&ConfigView>) -> bool {
        let Some(view) = view.filter(|view| view.version > 0) else { return false };
        let newest = self.rows.first().map(|row| row.number);
        if newest.is_some_and(|newest| newest < view.version) && self.list.error().is_none() {
            self.list.outdate();
        }
        self.list.begin()
    }

    pub(super) fn take(&mut self, answer: Result<Vec<ConfigVersionView>, Failed>) {
        self.list.take(answer);
        let list = self.list.value().map(Vec::as_slice).unwrap_or_default();
        let row = |(place, version): (usize, &ConfigVersionView)| {
            let before = list.get(place + 1).map(|before| &before.document);
            let is_first = before.is_none() && version.version == 1;
            let empty = Value::Object(serde_json::Map::new());
            let changed = before.or(is_first.then_some(&empty));
            let changed = changed.map(|before| told(before, &version.document));
            let comment = version.comment.as_ref().map(ToString::to_string);
            let words: Vec<String> = [changed, comment].into_iter().flatten().collect();
            Version {
                number: version.version,
                at: version.at,
                author: author(&version.author.to_string()),
                what: words.join(": "),
            }
        };
        self.rows = list.iter().enumerate().map(row).collect();
    }

    /// The versions to go back to, with what that would change.
    pub(super) fn menu(&self, device: Uid, view: &ConfigView, now: Timestamp) -> Option<Menu> {
        let list = self.list.value()?;
        let item = |(key, version): (char, &ConfigVersionView)| {
            let age = cells::age(now.since(version.at));
            let is_now = version.version == view.version;
            let what = if is_now {
                "this is how it shall be now".to_owned()
            } else {
                told_back(view, &version.document).unwrap_or_default()
            };
            let command = Command::GoBack { device, to: version.version };
            MenuItem {
                key,
                text: format!("r{} {age}", version.version),
                detail: what,
                command: (!is_now).then_some(command),
            }
        };
        let items: Vec<_> = ('a'..='z').zip(list.iter().take(OFFERED_MAX)).map(item).collect();
        let mut menu = Menu::new(format!("Versions of {}, back to", view.device_id), items);
        menu.cursor = 1.min(menu.items.len().saturating_sub(1));
        Some(menu)
    }
}

/// That it was an operator goes without saying.
fn author(author: &str) -> String {
    author.strip_prefix("operator:").unwrap_or(author).to_owned()
}

/// What would be different if a device were as a document says, in words that are safe to show;
/// nothing if what it has cannot be read.
pub fn told_back(view: &ConfigView, document: &Value) -> Option<String> {
    let current: Value = serde_json::from_str(&view.config).ok()?;
    let own = match &view.own {
        Some(own) => config_paths(&serde_json::from_str(own).ok()?),
        None => config_paths(&current),
    };
    Some(spelled(&diff(&current, document), |difference| difference.when_set_back(&own)))
}

/// What is different in the second of two documents, in words that are safe to show.
fn told(before: &Value, after: &Value) -> String {
    spelled(&diff(before, after), Difference::to_string)
}

fn spelled(differences: &[Difference], word: impl Fn(&Difference) -> String) -> String {
    let mut words: Vec<String> = differences.iter().take(DIFFERENCES_MAX).map(word).collect();
    let more = differences.len() - words.len();
    if more > 0 {
        words.push(format!("{more} more"));
    }
    if words.is_empty() { "says the same".to_owned() } else { escaped(&words.join("; ")) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn version(number: u64, document: Value) -> ConfigVersionView {
        let view = json!({"version": number, "hash": "h", "document": document,
            "author": "operator:ada", "at": "2026-01-01T00:00:00Z", "comment": null});
        serde_json::from_value(view).unwrap()
    }

    #[test]
    fn each_version_tells_what_it_changed() {
        let mut versions = Versions::default();
        versions.take(Ok(vec![
            version(3, json!({"telemetry": {"interval": 30}})),
            version(2, json!({"telemetry": {"interval": 30, "metrics": ["\u{1b}[31m"]}})),
            version(1, json!({"telemetry": {"interval": 60}})),
        ]));
        let told: Vec<&str> = versions.rows().iter().map(|row| row.what.as_str()).collect();
        assert_eq!(told[0], "telemetry.metrics [\"\\u001b[31m\"] → unset");
        assert!(told[1].starts_with("telemetry.interval 60 → 30; telemetry.metrics unset → "));
        assert_eq!(told[2], "telemetry.interval unset → 60");
        assert!(told.iter().all(|words| !words.contains('\u{1b}')));
        assert_eq!(versions.rows()[0].author, "ada");
    }

    #[test]
    fn going_back_says_what_layers_keep() {
        let config = json!({"telemetry": {"interval": 30, "metrics": ["cpu"]}}).to_string();
        let view: ConfigView = serde_json::from_value(json!({
            "device_id": "a", "server_url": null, "api_key": "(masked)", "config": config,
            "own": "{\"telemetry\": {\"interval\": 30}}", "version": 3, "hash": "",
            "reported": null
        }))
        .unwrap();
        assert_eq!(
            told_back(&view, &json!({})).unwrap(),
            "telemetry.interval 30 → unset, or what its layers say; telemetry.metrics stays: a \
             layer says it"
        );
    }

    #[test]
    fn what_the_oldest_known_one_changed_is_not_known() {
        let mut versions = Versions::default();
        versions.take(Ok(vec![version(9, json!({"telemetry": {"interval": 30}}))]));
        assert_eq!(versions.rows()[0].what, "");
    }
}
