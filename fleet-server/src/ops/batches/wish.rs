//! What somebody wants of many devices, read.

use std::time::Duration;

use fleet_core::api::{BatchRequest, WhenOffline};
use fleet_core::command::{COMMAND_TIMEOUT_DEFAULT, COMMAND_TIMEOUT_MAX, Command};
use fleet_core::filter::{Filter, Words};
use fleet_core::id::Uid;
use fleet_core::limits::{BATCH_DEVICES_MAX, COMMAND_EXPIRY_DEFAULT, COMMAND_EXPIRY_MAX};

use super::patch;
use crate::ops::OpsError;
use crate::ops::commands::{duration, is_in_order};
use crate::store::Action;

/// At it at once, unless told otherwise, are at most so many.
const WINDOW_USUAL_MAX: usize = 10;
/// Bytes of a reason.
const REASON_BYTES_MAX: usize = 1_000;

/// What is wished for.
pub(super) struct Wish {
    pub(super) id: Option<Uid>,
    pub(super) chosen: Chosen,
    /// The filter as it was written.
    pub(super) filter: Option<String>,
    pub(super) expect: Option<usize>,
    pub(super) action: Action,
    window: Option<usize>,
    canary: Option<usize>,
    max_fail: Option<usize>,
    pub(super) timeout: Duration,
    pub(super) expires_in: Duration,
    pub(super) offline: WhenOffline,
    pub(super) reason: Option<String>,
}

/// How the devices are named.
pub(super) enum Chosen {
    /// All that fit.
    Filter(Filter),
    /// These.
    Devices(Vec<Uid>),
}

/// How many devices at once, first, and at how many failures it pauses.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Bounds {
    pub(super) window: usize,
    pub(super) canary: usize,
    pub(super) max_fail: usize,
}

impl Wish {
    pub(super) fn read(request: BatchRequest) -> Result<Self, OpsError> {
        if request.id.is_some_and(|id| !is_in_order(id)) {
            let problem = "must be a UUID of version 7, so that batches are in their order";
            return Err(OpsError::invalid("id", problem));
        }
        let action = action(&request)?;
        let filter = match &request.filter {
            Some(text) => Some(
                Filter::parse(text, Words::Refused)
                    .map_err(|error| OpsError::invalid("filter", error.caret(text)))?,
            ),
            None => None,
        };
        let chosen = match (request.devices, filter) {
            (Some(devices), _) if devices.len() > BATCH_DEVICES_MAX => {
                let problem = format!("must not name more than {BATCH_DEVICES_MAX}");
                return Err(OpsError::invalid("devices", problem));
            }
            (Some(devices), _) => Chosen::Devices(devices),
            (None, Some(filter)) => Chosen::Filter(filter),
            (None, None) => {
                let problem = "name the devices by a filter, or one by one in devices";
                return Err(OpsError::invalid("filter", problem));
            }
        };
        if request.reason.as_ref().is_some_and(|reason| reason.len() > REASON_BYTES_MAX) {
            let problem = format!("must not be longer than {REASON_BYTES_MAX} bytes");
            return Err(OpsError::invalid("reason", problem));
        }
        Ok(Self {
            id: request.id,
            chosen,
            filter: request.filter,
            expect: request.expect,
            action,
            window: number("window", 1, request.window)?,
            canary: number("canary", 0, request.canary)?,
            max_fail: number("max_fail", 1, request.max_fail)?,
            timeout: duration(
                "timeout",
                request.timeout.as_deref(),
                COMMAND_TIMEOUT_DEFAULT,
                COMMAND_TIMEOUT_MAX,
            )?,
            expires_in: duration(
                "expires_in",
                request.expires_in.as_deref(),
                COMMAND_EXPIRY_DEFAULT,
                COMMAND_EXPIRY_MAX,
            )?,
            offline: request.offline,
            reason: request.reason.filter(|reason| !reason.is_empty()),
        })
    }

    /// The bounds for so many devices.
    pub(super) fn bounds(&self, total: usize) -> Bounds {
        let usual_window = WINDOW_USUAL_MAX.min(total / 4);
        Bounds {
            window: self.window.unwrap_or(usual_window).min(total).max(1),
            canary: self.canary.unwrap_or(0).min(total),
            max_fail: self.max_fail.unwrap_or(total / 10).min(total).max(1),
        }
    }
}

fn action(request: &BatchRequest) -> Result<Action, OpsError> {
    match (&request.command, &request.config) {
        (Some(word), None) => {
            let command = match &request.args {
                Some(args) => Command::read(word, args),
                None => word.parse(),
            };
            Ok(Action::Command(command.map_err(|error| OpsError::invalid("command", error))?))
        }
        (None, Some(_)) if request.args.is_some() => {
            Err(OpsError::invalid("args", "goes with command"))
        }
        (None, Some(patch)) => Ok(Action::Config(patch::read(patch)?)),
        (Some(_), Some(_)) => Err(OpsError::invalid("config", "goes without command")),
        (None, None) => Err(OpsError::invalid("command", "give a command or a config")),
    }
}

fn number(field: &str, least: usize, number: Option<usize>) -> Result<Option<usize>, OpsError> {
    if number.is_some_and(|number| !(least..=BATCH_DEVICES_MAX).contains(&number)) {
        let problem = format!("must be from {least} to {BATCH_DEVICES_MAX}");
        return Err(OpsError::invalid(field, problem));
    }
    Ok(number)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn read(body: Value) -> Result<Wish, String> {
        Wish::read(serde_json::from_value(body).unwrap()).map_err(|error| error.to_string())
    }

    #[test]
    fn bounds_go_with_the_number_of_devices_unless_given() {
        let usual = read(json!({"filter": "", "command": "restart"})).unwrap();
        for (total, window, max_fail) in
            [(1, 1, 1), (4, 1, 1), (8, 2, 1), (40, 10, 4), (214, 10, 21), (20_000, 10, 2_000)]
        {
            assert_eq!(usual.bounds(total), Bounds { window, canary: 0, max_fail }, "{total}");
        }
        let given = json!({"filter": "", "command": "restart", "window": 20, "canary": 5,
            "max_fail": 3});
        let given = read(given).unwrap();
        assert_eq!(given.bounds(100), Bounds { window: 20, canary: 5, max_fail: 3 });
        assert_eq!(given.bounds(2), Bounds { window: 2, canary: 2, max_fail: 2 });
    }

    #[test]
    fn what_is_wrong_is_named_with_its_place() {
        for (body, told) in [
            (json!({"command": "restart"}), "filter: name the devices"),
            (json!({"filter": "cpu>", "command": "restart"}), "filter: "),
            (json!({"filter": ""}), "command: give a command or a config"),
            (json!({"filter": "", "command": "restrat"}), "command: there is no command restrat"),
            (json!({"filter": "", "command": "restart", "config": {}}), "config: goes without"),
            (json!({"filter": "", "config": {"telemetry_interval": 5}, "args": []}), "args: goes"),
            (
                json!({"filter": "", "config": {"telemetry": {"intervall": 5}}}),
                "config.telemetry.intervall: is not a key",
            ),
            (json!({"filter": "", "command": "restart", "window": 0}), "window: must be from 1"),
            (json!({"filter": "", "command": "restart", "canary": 20_001}), "canary: must be"),
            (json!({"filter": "", "command": "restart", "max_fail": 0}), "max_fail: must be"),
            (json!({"filter": "", "command": "restart", "timeout": "2h"}), "timeout: must be"),
            (json!({"filter": "", "command": "restart", "expires_in": "0"}), "expires_in: must"),
            (
                json!({"filter": "", "command": "restart", "reason": "x".repeat(1_001)}),
                "reason: must not be longer",
            ),
            (
                json!({"devices": vec![Uid::new(); 20_001], "command": "restart"}),
                "devices: must not name more than 20000",
            ),
            (
                json!({"filter": "", "command": "restart",
                    "id": "00000000-0000-4000-8000-000000000000"}),
                "id: must be a UUID of version 7",
            ),
        ] {
            let refused = read(body.clone()).map(drop).unwrap_err();
            assert!(refused.starts_with(told), "{body}: {refused}");
        }
    }
}
