//! A device of the sample fleet, looked at: keys, and a server that answers what is asked.

use std::collections::BTreeMap;
use std::time::Duration;

use fleet_core::api::{
    CommandState, CommandView, ConfigVersionView, ConfigView, Device, EventView, LiveReport,
    LiveSample, Series, SeriesPoint, SeriesReply, StreamMessage,
};
use fleet_core::id::Uid;
use fleet_core::time::Timestamp;
use fleet_core::untrusted::Untrusted;
use ratatui::layout::Size;
use serde_json::json;

use super::DeviceScreen;
use super::graphs::Window;
use super::metric::Metric;
use crate::effect::{Effect, Request};
use crate::event::{Answer, Event, Failed};
use crate::sample;
use crate::state::App;

/// A device of which there is something to say: it refused its configuration.
pub(crate) const SLOT: u32 = 12;

/// A console that is connected to a fleet, with one device open and nothing answered yet.
pub(crate) fn opened(slot: u32, size: Size) -> (App, Vec<Effect>) {
    let mut app = sample::app(20, size);
    app.open(sample::uid(slot));
    let effects = app.apply(sample::moment(Duration::ZERO), Event::Tick);
    (app, effects)
}

/// The same, with everything answered.
pub(crate) fn answered(slot: u32, size: Size) -> App {
    let (mut app, effects) = opened(slot, size);
    answer_all(&mut app, effects);
    app
}

/// Answers what is asked, and what is asked then.
pub(crate) fn answer_all(app: &mut App, mut effects: Vec<Effect>) {
    while let Some(effect) = effects.pop() {
        if let Effect::Ask(request) = effect {
            let answer = answer(&request);
            effects.extend(tell(app, Event::Answer(request, Ok(answer))));
        }
    }
}

/// Answers what is asked, of a device of which there is nothing to say.
pub(crate) fn answer_empty(app: &mut App, effects: Vec<Effect>) {
    for effect in effects {
        let Effect::Ask(request) = effect else { continue };
        let answer = match &request {
            Request::Series { from, .. } => {
                Answer::Series(SeriesReply { from: *from, ..SeriesReply::default() })
            }
            Request::Events { .. } => Answer::Events(Vec::new()),
            Request::Commands(_) => Answer::Commands(Vec::new()),
            Request::Config(_) => {
                let view = json!({"device_id": "a", "server_url": null, "api_key": "(masked)",
                    "config": "{}", "version": 0, "hash": "", "reported": null});
                Answer::Config(Box::new(serde_json::from_value(view).unwrap()))
            }
            other => answer(other),
        };
        tell(app, Event::Answer(request, Ok(answer)));
    }
}

/// Fails what is asked.
pub(crate) fn fail_all(app: &mut App, effects: Vec<Effect>) {
    for effect in effects {
        if let Effect::Ask(request) = effect {
            let failed =
                Failed { text: "the server is busy".to_owned(), request_id: None, field: None };
            tell(app, Event::Answer(request, Err(failed)));
        }
    }
}

/// Lets something happen now.
pub(crate) fn tell(app: &mut App, event: Event) -> Vec<Effect> {
    let now = app.desk.now;
    app.apply(now, event)
}

/// The device that is open.
pub(crate) fn screen(app: &App) -> &DeviceScreen {
    app.device.as_ref().unwrap()
}

/// The requests among effects.
pub(crate) fn asked(effects: &[Effect]) -> Vec<&Request> {
    let mut requests = Vec::new();
    for effect in effects {
        if let Effect::Ask(request) = effect {
            requests.push(request);
        }
    }
    requests
}

/// The window that curves are asked for, if they are.
pub(crate) fn window_asked(effects: &[Effect]) -> Option<Window> {
    asked(effects).into_iter().find_map(|request| match request {
        Request::Series { from, to, step, .. } => {
            Some(Window { from: *from, to: *to, step: *step })
        }
        _ => None,
    })
}

/// A live report of the device, so long after the sample's time.
pub(crate) fn report(app: &mut App, slot: u32, secs: u64, cpu: f64) -> Vec<Effect> {
    let sample = |metric: &str, value| LiveSample {
        metric: metric.to_owned(),
        labels: BTreeMap::new(),
        value,
    };
    let report = LiveReport {
        slot,
        timestamp: time(0).plus(Duration::from_secs(secs)),
        samples: vec![sample("cpu_usage", cpu), sample("memory_usage", 41.0)],
    };
    let message = StreamMessage::Report(report);
    tell(app, Event::Link(crate::event::LinkEvent::Message(Box::new(message))))
}

/// So many seconds before the sample's time.
pub(crate) fn time(secs_ago: u64) -> Timestamp {
    Timestamp::from_millis(sample::NOW).minus(Duration::from_secs(secs_ago))
}

/// What the server of the sample fleet would answer.
pub(crate) fn answer(request: &Request) -> Answer {
    match request {
        Request::Series { from, to, step, .. } => {
            Answer::Series(series(&Window { from: *from, to: *to, step: *step }))
        }
        Request::Config(_) => Answer::Config(Box::new(config())),
        Request::Versions { .. } => Answer::Versions(versions()),
        Request::Device(_) => Answer::Device(Box::new(device())),
        Request::Events { before: None, .. } => Answer::Events(events()),
        Request::Events { .. } => Answer::Events(Vec::new()),
        Request::Commands(_) => Answer::Commands(commands()),
        Request::Command(id) => {
            let view = commands().into_iter().find(|view| view.id == *id);
            Answer::Command(Box::new(with_output(view.expect("a command of the sample"))))
        }
        Request::Me
        | Request::Change(..)
        | Request::Batches { .. }
        | Request::Batch(_)
        | Request::Members { .. }
        | Request::Preview(_)
        | Request::BeginBatch(_)
        | Request::ChangeBatch(..)
        | Request::RetryBatch(..)
        | Request::Keys
        | Request::MakeKey(_)
        | Request::RotateKey { .. }
        | Request::RevokeKey(_) => Answer::Done,
    }
}

/// Curves with a gap in their middle.
fn series(window: &Window) -> SeriesReply {
    let step_millis = window.step.as_millis() as i64;
    let first = window.from.millis() / step_millis;
    let steps = (window.to.millis() / step_millis - first + 1) as u32;
    let wave = |middle: f64, height: f64, length: f64| {
        let highest = if middle < 100.0 { 100.0 } else { f64::MAX };
        let is_there = |step: &u32| !(steps * 5 / 12..steps / 2).contains(step);
        let point = move |step: u32| {
            let mean = middle + height * (f64::from(step) / f64::from(steps) * length).sin();
            let spread = if step < steps / 3 { height / 3.0 } else { 0.0 };
            SeriesPoint(step, mean, (mean - spread).max(0.0), (mean + spread).min(highest))
        };
        (0..steps).filter(is_there).map(point).collect::<Vec<_>>()
    };
    let curve = |metric: Metric, label: Option<(&str, &str)>, points| Series {
        metric: metric.name().to_owned(),
        labels: label
            .map(|(name, value)| (name.to_owned(), Untrusted::from(value)))
            .into_iter()
            .collect(),
        points,
    };
    let eth = Some(("interface", "eth0"));
    let disk = Some(("device", "mmcblk0"));
    SeriesReply {
        from: Timestamp::from_millis(first * step_millis),
        step_millis: step_millis.unsigned_abs(),
        steps,
        series: vec![
            curve(Metric::Cpu, None, wave(70.0, 25.0, 9.0)),
            curve(Metric::Memory, None, wave(62.0, 3.0, 4.0)),
            curve(Metric::Disk, None, wave(64.0, 0.1, 1.0)),
            curve(Metric::Receive, eth, wave(3.1e6, 2.0e6, 12.0)),
            curve(Metric::Receive, Some(("interface", "lo")), wave(9e9, 1e9, 5.0)),
            curve(Metric::Transmit, eth, wave(1.0e6, 0.4e6, 7.0)),
            curve(Metric::Read, disk, wave(2.0e6, 1.9e6, 20.0)),
            curve(Metric::Write, disk, wave(0.5e6, 0.3e6, 15.0)),
            curve(
                Metric::Uptime,
                None,
                vec![SeriesPoint(steps - 1, 3_542_400.0, 0.0, 3_542_400.0)],
            ),
        ],
        ..SeriesReply::default()
    }
}

fn config() -> ConfigView {
    let view = json!({
        "device_id": "pump-eu-0012", "server_url": null, "api_key": "(masked)",
        "config": "{\"telemetry\":{\"interval\":30,\"metrics\":[\"cpu_usage\",\"gpu_usage\"]}}",
        "version": 18, "hash": "3f9a77c2d01b8e54", "author": "operator:k3xq2m7a",
        "at": time(7_300), "comment": "twice as often while line 3 is watched",
        "provenance": {"telemetry.interval": "device", "telemetry.metrics": "tag:eu-west"},
        "reported": {"version": 18, "hash": "3f9a77c2d01b8e54", "applied_at": time(7_200),
            "error": "telemetry.metrics: this device has no gpu_usage"},
    });
    serde_json::from_value(view).unwrap()
}

fn versions() -> Vec<ConfigVersionView> {
    let version = |number: u64, secs_ago, comment, document: serde_json::Value| {
        let view = json!({"version": number, "hash": "h", "document": document,
            "author": "operator:k3xq2m7a", "at": time(secs_ago), "comment": comment});
        serde_json::from_value(view).unwrap()
    };
    let telemetry = |telemetry| json!({ "telemetry": telemetry });
    vec![
        version(
            18,
            7_300,
            Some("twice as often while line 3 is watched"),
            telemetry(json!({"interval": 30, "metrics": ["cpu_usage", "gpu_usage"]})),
        ),
        version(17, 90_000, None, telemetry(json!({"interval": 60, "metrics": ["cpu_usage"]}))),
        version(16, 400_000, Some("\u{1b}[31mred"), telemetry(json!({"interval": 60}))),
    ]
}

fn device() -> Device {
    let row = sample::row(SLOT);
    let device = json!({
        "id": row.id, "name": "Pump \u{1b}[31m 12", "type": row.device_type, "version": row.version,
        "status": "online", "last_seen": row.last_seen, "why": "", "uid": row.uid,
        "fingerprint": row.fingerprint, "metadata": row.metadata, "created_at": row.created_at,
        "missed_reports": 3, "config_version": 18, "config_reported": 18, "latest": null,
        "facts": {"hostname": row.hostname, "model": row.model, "os": row.os,
            "kernel": "6.6.31+rpt-rpi-v8", "arch": row.arch, "cores": 4, "memory_bytes": 8_160_437_862_u64,
            "addresses": ["10.8.0.13", "fe80::dea6:32ff:fe01:2"], "interval_secs": 60},
    });
    serde_json::from_value(device).unwrap()
}

fn events() -> Vec<EventView> {
    let event = |seq: u64, secs_ago, kind: &str, actor: &str, text: &str| -> EventView {
        let event = json!({
            "seq": seq, "timestamp": time(secs_ago), "kind": kind, "actor": actor,
            "device_id": "pump-eu-0012", "uid": sample::uid(SLOT), "text": text,
        });
        serde_json::from_value(event).unwrap()
    };
    let operator = "operator:k3xq2m7a";
    vec![
        event(91, 7_200, "config.refused", "device", "refused r18: this device has no gpu_usage"),
        event(90, 7_300, "config.set", operator, "set r18"),
        event(77, 30_000, "device.online", "server", "is heard again after 14m"),
        event(71, 31_000, "device.offline", "server", "no report for 3m, expected every 60s"),
        event(70, 31_100, "device.late", "server", "no report for 2m, expected every 60s"),
        event(20, 90_000, "device.updated", operator, "metadata \u{202e} site=lyon"),
        event(12, 3_542_000, "config.applied", "device", "applied r17"),
        event(3, 3_542_400, "device.accepted", operator, "let in"),
        event(2, 3_542_460, "device.pending", "device", "asks to be let in"),
    ]
}

/// The number of a sample command.
pub(crate) fn command_id(number: u8) -> Uid {
    Uid::from_bytes([number; 16])
}

/// A command of the device, so many seconds old.
pub(crate) fn command(
    number: u8,
    secs_ago: u64,
    state: CommandState,
    words: &[&str],
) -> CommandView {
    let (word, args) = words.split_first().expect("a command has a word");
    CommandView {
        id: command_id(number),
        device_id: sample::row(SLOT).id,
        uid: sample::uid(SLOT),
        command: (*word).into(),
        args: args.iter().map(|arg| (*arg).into()).collect(),
        state,
        why: why(state).into(),
        state_at: time(secs_ago.saturating_sub(2)),
        author: "operator:k3xq2m7a".into(),
        created_at: time(secs_ago),
        expires_at: time(secs_ago).plus(Duration::from_secs(86_400)),
        exit_code: None,
        output: None,
        output_left_out: 0,
    }
}

fn why(state: CommandState) -> &'static str {
    match state {
        CommandState::Queued => "waits for the device",
        CommandState::Sent => "sent to the device",
        CommandState::Accepted => "the device will do it",
        CommandState::Running => "the device is at it",
        CommandState::Succeeded => "exit code 0",
        CommandState::Failed => "exit code 1: \u{1b}[31mno such unit\u{202e}",
        CommandState::Expired => "the device did not begin in time",
        CommandState::Cancelled => "taken back by operator:k3xq2m7a",
        CommandState::Unknown => "the device was interrupted",
        CommandState::Later(_) => "paused",
    }
}

/// What the device was to do.
fn commands() -> Vec<CommandView> {
    use CommandState::{Cancelled, Expired, Failed, Queued, Running, Sent, Succeeded, Unknown};
    vec![
        command(9, 3, Queued, &["reboot"]),
        command(8, 12, Sent, &["restart", "nginx.service"]),
        command(7, 40, Running, &["exec", "sleep", "30"]),
        command(6, 300, Succeeded, &["logs", "-u", "nginx.service"]),
        command(5, 4_000, Failed, &["restart", "ghost.service"]),
        command(4, 9_000, Unknown, &["reboot"]),
        command(3, 90_000, Expired, &["restart"]),
        command(2, 180_000, Cancelled, &["exec", "echo", "a b", "\u{1b}[2J"]),
        command(1, 900_000, Succeeded, &["collect"]),
    ]
}

/// The same with what its program wrote.
fn with_output(view: CommandView) -> CommandView {
    if view.state != CommandState::Succeeded {
        return view;
    }
    let log = (0..60).map(|line| {
        let path = "x".repeat(line);
        format!("Aug 23 14:03:{line:02} nginx[812]: GET /api/v1/devices 200 {path}\n")
    });
    let log: String = log.collect();
    let text = format!("\u{1b}]0;owned\u{7}first\tcolumn\n  indented \u{4e16}\u{754c}\n{log}");
    CommandView { output: Some(text.into()), output_left_out: 1_234, exit_code: Some(0), ..view }
}

/// The link is down.
pub(crate) fn go_down(app: &mut App) {
    let down = crate::event::LinkEvent::Down {
        reason: "gone".to_owned(),
        retry_in: None,
        is_denied: false,
    };
    tell(app, Event::Link(down));
}

/// The link is there again.
pub(crate) fn come_back(app: &mut App, is_resumed: bool) -> Vec<Effect> {
    let mut hello = sample::hello(20);
    hello.resumed = is_resumed;
    hello.time = app.desk.now.wall;
    tell(app, Event::Link(crate::event::LinkEvent::Message(Box::new(StreamMessage::Hello(hello)))))
}
