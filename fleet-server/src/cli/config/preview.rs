//! What a change of a device's configuration would be, before it is made. Of a layer the server says
//! that, since it knows whom it concerns.

use std::collections::BTreeMap;

use fleet_core::api::{Difference, config_of_paths, config_paths, diff};
use fleet_core::cli::failure::Failure;
use fleet_core::cli::output::Output;
use fleet_core::operator::exit::Exit;
use serde_json::Value;

use super::look::read;
use super::show::ShownDifference;
use super::whose::Current;

/// What would be otherwise.
pub(super) struct Preview {
    differences: Vec<Difference>,
    /// What the device says itself, by path; the rest is its layers'.
    own: BTreeMap<String, Value>,
    /// See [`Current::is_left`].
    is_left: bool,
}

impl Preview {
    /// If this took the place of what the device says itself.
    pub(super) fn of_own(current: &Current, wanted: &Value) -> Result<Self, Failure> {
        let (document, own) = (read(&current.document)?, config_paths(&read(&current.own)?));
        let mut paths = config_paths(&document);
        paths.retain(|path, _| !own.contains_key(path));
        paths.extend(config_paths(wanted));
        let differences = diff(&document, &config_of_paths(&paths));
        Ok(Self { differences, own, is_left: current.is_left })
    }

    /// If the device were as it was.
    pub(super) fn of_earlier(current: &Current, earlier: &Value) -> Result<Self, Failure> {
        let (document, own) = (read(&current.document)?, config_paths(&read(&current.own)?));
        Ok(Self { differences: diff(&document, earlier), own, is_left: current.is_left })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.differences.is_empty()
    }

    /// What would be otherwise, in words; what goes comes last.
    pub(super) fn lines(&self) -> Vec<String> {
        let (unset, set): (Vec<_>, Vec<_>) =
            self.differences.iter().partition(|difference| difference.after.is_none());
        let all = set.into_iter().chain(unset);
        all.map(|difference| format!("  {}", difference.when_set_back(&self.own))).collect()
    }

    /// Shows it in place of doing it.
    pub(super) fn tell(self, current: &str, output: &mut Output<'_>) -> Result<Exit, Failure> {
        if !output.format.is_table() {
            let differences = self.differences.into_iter().map(ShownDifference);
            output.list(&differences.collect::<Vec<_>>())?;
        } else if self.is_empty() && self.is_left {
            let again = "the device left it: a new version would be tried";
            output.line(&format!("{current} says so already, but {again}"))?;
        } else if self.is_empty() {
            output.line(&format!("{current} says so already"))?;
        } else {
            output.line(&format!("{current} would get a new version:"))?;
            for line in self.lines() {
                output.line(&line)?;
            }
        }
        Ok(Exit::Done)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_layers_say_is_told_apart_from_what_goes() {
        let current = Current {
            is_left: false,
            name: "a".to_owned(),
            version: 3,
            document: json!({"telemetry": {"interval": 60, "metrics": ["cpu"]}}).to_string(),
            own: json!({"telemetry": {"metrics": ["cpu"]}}).to_string(),
        };
        let told = |wanted: Value| Preview::of_own(&current, &wanted).unwrap().lines();
        assert_eq!(
            told(json!({"telemetry": {"interval": 10}})),
            [
                "  telemetry.interval 60 → 10",
                "  telemetry.metrics [\"cpu\"] → unset, or what its layers say",
            ]
        );
        assert!(told(json!({"telemetry": {"metrics": ["cpu"]}})).is_empty());
        let earlier = Preview::of_earlier(&current, &json!({})).unwrap();
        assert!(
            earlier.lines().contains(&"  telemetry.interval stays: a layer says it".to_owned())
        );
    }
}
