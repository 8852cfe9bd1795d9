//! What several devices are to do, or how they shall be configured: the server does it, as a batch.
//! It says first what that would be, and what it said is what is agreed to.

use std::collections::{BTreeMap, VecDeque};

use fleet_core::api::{BatchPreview, BatchRequest, WhenOffline};
use fleet_core::command::Command as DeviceCommand;
use fleet_core::id::Uid;
use fleet_core::untrusted::{Untrusted, escaped};
use serde_json::json;

use super::command::spelled;
use super::{Chosen, Deed, GRAVE_COUNT, Plan, SAMPLE_LEN, Step, rows, step, words};
use crate::cells;
use crate::effect::{Change, Request};
use crate::event::{Answer, Failed};
use crate::state::Desk;
use crate::state::batches::{devices, pace};
use crate::state::popup::{Command, Confirm, Lock, Popup};

/// Devices that cannot take part and are named.
const EXCLUDED_SHOWN_MAX: usize = 3;

/// The batch that a plan is, if it is one: for more than one device, and not just something that
/// the server notes.
pub(super) fn request(plan: &Plan) -> Option<BatchRequest> {
    (plan.steps.len() > 1).then(|| asked_for(plan))?
}

/// A batch that was written out: `canary=5 window=20 restart nginx`.
pub fn written(text: &str, chosen: &Chosen, desk: &mut Desk) -> Result<Command, String> {
    let mut words: VecDeque<&str> = text.split_whitespace().collect();
    let mut limits = BatchRequest::default();
    while let Some((name, value)) = words.front().and_then(|word| word.split_once('=')) {
        limit(name, value, &mut limits)?;
        words.pop_front();
    }
    let command: Vec<&str> = words.into();
    if command.is_empty() {
        return Err("say what: restart nginx".to_owned());
    }
    let command: DeviceCommand = command.join(" ").parse().map_err(|error| format!("{error}"))?;
    let deed = match &command {
        DeviceCommand::Restart => Deed::Restart,
        DeviceCommand::RestartService(_) => Deed::Service,
        DeviceCommand::Reboot => Deed::Reboot,
        DeviceCommand::Collect => Deed::Collect,
        DeviceCommand::RotateKey => Deed::RotateKey,
        DeviceCommand::Exec(_) => Deed::Exec,
        DeviceCommand::Logs { .. } => {
            return Err("logs are shown of one device at a time".to_owned());
        }
    };
    if let Some(reason) = desk.why_not_change().or_else(|| deed.why_not(chosen, desk)) {
        return Err(reason.to_owned());
    }
    let change = deed.given(command);
    let steps = rows(deed, chosen, desk).map(|row| step(row, change.clone())).collect();
    let plan = Plan { deed, typed: String::new(), steps };
    let asked = asked_for(&plan).ok_or("there is no device to do it")?;
    let BatchRequest { window, canary, max_fail, offline, .. } = limits;
    let request = BatchRequest { window, canary, max_fail, offline, ..asked };
    let question = question(plan, request, chosen, desk);
    Ok(Command::Popup(Box::new(Popup::Confirm(question))))
}

/// Reads one of the limits.
fn limit(name: &str, value: &str, limits: &mut BatchRequest) -> Result<(), String> {
    let number = || {
        let problem = |_| format!("{name} is a number, not {}", escaped(value));
        value.parse::<usize>().map_err(problem)
    };
    match name {
        "canary" => limits.canary = Some(number()?),
        "window" => limits.window = Some(number()?),
        "max-fail" => limits.max_fail = Some(number()?),
        "offline" => {
            let way = WhenOffline::ALL.iter().find(|(word, _)| *word == value);
            let words: Vec<&str> = WhenOffline::ALL.iter().map(|(word, _)| *word).collect();
            let problem = || format!("offline is one of {}", words.join(", "));
            limits.offline = way.ok_or_else(problem)?.1;
        }
        _ => {
            let name = escaped(name);
            return Err(format!(
                "there is no {name}; there are canary, window, max-fail and offline"
            ));
        }
    }
    Ok(())
}

/// The batch of a plan's devices.
fn asked_for(plan: &Plan) -> Option<BatchRequest> {
    let first = plan.steps.first()?;
    let devices: Vec<Uid> = plan.steps.iter().map(|step| step.uid).collect();
    let request = BatchRequest { devices: Some(devices), ..BatchRequest::default() };
    match &first.change {
        Change::Command { command, expires_in } => Some(BatchRequest {
            command: Some(command.word().to_owned()),
            args: Some(command.args()),
            expires_in: Some(format!("{}ms", expires_in.as_millis())),
            ..request
        }),
        Change::Interval(interval) => Some(BatchRequest {
            config: Some(json!({ "telemetry": { "interval": interval.as_secs() } })),
            ..request
        }),
        _ => None,
    }
}

/// The question whether to begin it, which waits for what the server says of it.
pub(super) fn question(
    plan: Plan,
    request: BatchRequest,
    chosen: &Chosen,
    desk: &mut Desk,
) -> Confirm {
    let ids = plan.steps.iter().take(SAMPLE_LEN).map(|step| step.id.to_string());
    let facts = facts(&plan, chosen, desk);
    let mut waiting = empty(plan.deed, plan.steps.len(), Command::Back);
    waiting.lines = facts;
    let preview = Request::Preview(Box::new(request));
    desk.ask(preview.clone());
    waiting.line("devices", sample(ids.collect(), plan.steps.len())).awaiting(preview)
}

/// A question about so many devices.
fn empty(deed: Deed, count: usize, command: Command) -> Confirm {
    let title = format!("{} {}", words::capital(deed.verb()), devices(count));
    let verb = format!("{} {}", deed.verb(), devices(count));
    let lock = Lock::Typed { text: count.to_string(), name: "the number of devices" };
    let mut confirm = Confirm::new(title, verb, lock, command).changing();
    confirm.deed = Some(deed);
    confirm
}

/// What is known before the server is asked.
fn facts(plan: &Plan, chosen: &Chosen, desk: &Desk) -> Vec<(&'static str, String)> {
    let mut lines = vec![("server", words::server(desk))];
    if let Some((command, _)) = plan.steps.first().and_then(Step::command) {
        lines.push(("command", spelled(command)));
    }
    lines.push(("effect", words::effect(plan)));
    if chosen.are_marked {
        let hidden = match chosen.hidden {
            0 => String::new(),
            hidden => format!(", {hidden} of them hidden by the filter: included"),
        };
        lines.push(("marks", format!("{} marked{hidden}", chosen.devices.len())));
    }
    let left_out = chosen.devices.len().saturating_sub(plan.steps.len());
    if left_out > 0 {
        lines.push(("left out", format!("{left_out} that it does not apply to")));
    }
    lines
}

fn sample(mut ids: Vec<String>, count: usize) -> String {
    ids.truncate(SAMPLE_LEN);
    let more = count - ids.len().min(count);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{}{more}", ids.join(" "))
}

/// Takes what the server says a batch would be. If nobody waits for that any more it is nothing.
pub fn previewed(request: &BatchRequest, answer: Result<Answer, Failed>, desk: &mut Desk) {
    let asked = Request::Preview(Box::new(request.clone()));
    let Some(Popup::Confirm(confirm)) = desk
        .popup
        .as_mut()
        .filter(|popup| matches!(popup, Popup::Confirm(confirm) if confirm.awaits(&asked)))
    else {
        return;
    };
    let problem = match answer {
        Ok(Answer::Preview(preview)) if preview.devices.is_empty() => {
            let excluded = excluded(&preview).unwrap_or_else(|| "no device was found".to_owned());
            format!("no device can take part: {excluded}")
        }
        Ok(Answer::Preview(preview)) => {
            let agreed = agreed(request, &preview, confirm);
            confirm.answer(agreed);
            return;
        }
        Ok(_) => return,
        Err(failed) => failed.text,
    };
    confirm.fail(problem.clone());
    // There it may have no room.
    desk.warn(problem);
}

/// The question with all that the server said.
fn agreed(request: &BatchRequest, preview: &BatchPreview, before: &Confirm) -> Confirm {
    let count = preview.devices.len();
    let uids = preview.devices.iter().map(|device| device.uid).collect();
    // Those that were shown, and no others.
    let way = request.offline;
    let request = BatchRequest { devices: Some(uids), expect: Some(count), ..request.clone() };
    let deed = before.deed.unwrap_or(Deed::Collect);
    let mut confirm = empty(deed, count, Command::BeginBatch(Box::new(request)));
    confirm.lines.clone_from(&before.lines);
    confirm.lines.retain(|(label, _)| *label != "devices");
    let ids = preview.devices.iter().take(SAMPLE_LEN).map(|it| it.device_id.to_string()).collect();
    confirm = confirm
        .line("devices", sample(ids, count))
        .line("", counted(&preview.by_type))
        .line("", counted(&preview.by_status));
    if let Some(excluded) = excluded(preview) {
        confirm = confirm.line("left out", excluded);
    }
    let how = pace(preview.canary, preview.window, preview.max_fail);
    let how = format!("{how}; needs no console");
    let until = cells::second(preview.expires_at);
    let until = match preview.offline {
        0 => format!("{until}; then it is too late to begin"),
        away => {
            let fate = match way {
                WhenOffline::Queue => "have their turn if they come before",
                WhenOffline::Skip => "are left out",
                WhenOffline::Fail => "count as failed",
            };
            format!("{until}: {away} are away, and {fate}")
        }
    };
    confirm = confirm.line("how", how).line("until", until).line("undo", undo(deed));
    if count > GRAVE_COUNT {
        confirm = confirm.line("", format!("More than {GRAVE_COUNT} devices: look twice."));
    }
    confirm
}

fn undo(deed: Deed) -> String {
    match deed {
        Deed::Interval => "set it back; 4, then P pauses and K calls off the rest".to_owned(),
        _ => "none once begun; 4, then P pauses and K calls off the rest".to_owned(),
    }
}

fn counted(counts: &BTreeMap<String, usize>) -> String {
    let counts: Vec<String> = counts
        .iter()
        .map(|(word, count)| format!("{count} {}", Untrusted::from(word.as_str())))
        .collect();
    counts.join(", ")
}

/// The devices that cannot take part, and why.
fn excluded(preview: &BatchPreview) -> Option<String> {
    let shown = preview.excluded.iter().take(EXCLUDED_SHOWN_MAX);
    let named: Vec<String> =
        shown.map(|excluded| format!("{} ({})", excluded.device_id, excluded.why)).collect();
    let more = preview.excluded.len().saturating_sub(named.len());
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    (!named.is_empty()).then(|| format!("{}{more}", named.join(" ")))
}
