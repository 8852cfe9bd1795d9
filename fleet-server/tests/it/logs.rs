//! Lines of devices' logs on their way to those who read them, with devices that say what a test
//! wants.

use std::net::Ipv4Addr;

use fleet_core::api::{LogEntries, LogMessage, LogOverKind};
use fleet_core::limits::{LOG_ASKS_MAX, LOG_LINE_BYTES_MAX, LOG_LINES_MAX};
use fleet_core::operator::logs::{LogQuery, LogStream};
use fleet_core::wire::{LogAsk, LogEnd, LogLine, LogNews, LogSource, Severity, ToAgent, ToServer};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpSocket;

use crate::page_kit::{Browser, between, text};
use crate::server_kit::{Agent, BOUND, Rig, key_id, wait_for};
use crate::stream_kit::Raw;
use crate::stream_kit::client;

const LOGS: &str = "/api/v1/devices/a/logs";

/// A device whose link has its place: what it reports is taken.
pub(crate) async fn connected(rig: &Rig) -> Agent {
    let mut agent = rig.enrolled("a", 1).await;
    agent.report(1, &[1], 1.0).await;
    agent
}

/// The next ask.
pub(crate) async fn asked(agent: &mut Agent) -> LogAsk {
    match agent.next().await {
        ToAgent::Logs(ask) => *ask,
        other => panic!("not an ask: {other:?}"),
    }
}

pub(crate) fn line(at_millis: i64, text: &str) -> LogLine {
    let (unit, level) = ("nginx.service".to_owned(), Severity::Warn);
    LogLine { at_millis, unit, level, text: text.to_owned() }
}

/// Says lines, and waits until the server has them.
pub(crate) async fn says(agent: &mut Agent, ask: u64, lines: Vec<LogLine>, end: Option<LogEnd>) {
    agent.say(&ToServer::Logs(LogNews { ask, dropped: 0, lines, end })).await;
    assert_eq!(agent.next().await, ToAgent::LogsNoted { ask });
}

async fn follow(rig: &Rig, limit: usize) -> LogStream {
    let query = LogQuery { limit: Some(limit), ..LogQuery::default() };
    client(rig, &rig.admin()).logs_follow("a", &query).await.unwrap()
}

async fn next(stream: &mut LogStream) -> LogMessage {
    loop {
        let message = tokio::time::timeout(BOUND, stream.next()).await.expect("a message in time");
        match message.unwrap().expect("the stream goes on") {
            LogMessage::Ping(_) => {}
            message => return message,
        }
    }
}

/// The texts of the next lines, as many as there are to be, and how many are lost before them.
async fn texts(stream: &mut LogStream, count: usize) -> (Vec<String>, u64) {
    let (mut texts, mut dropped) = (Vec::new(), 0);
    while texts.len() < count {
        match next(stream).await {
            LogMessage::Lines(lines) => {
                dropped += lines.dropped;
                texts.extend(lines.lines.into_iter().map(|line| line.text.into_raw()));
            }
            LogMessage::Hello(_) => {}
            other => panic!("not lines: {other:?}"),
        }
    }
    (texts, dropped)
}

#[tokio::test]
async fn the_last_lines_are_asked_of_the_device_and_remembered() {
    let rig = Rig::start_patient().await;
    let mut agent = connected(&rig).await;
    let path =
        format!("{LOGS}?unit=nginx&since=2024-01-15T10:00:00Z&level=warn&grep=a%20b&limit=2");
    let answer = async {
        let ask = asked(&mut agent).await;
        let expected = LogAsk {
            ask: ask.ask,
            source: LogSource::Unit("nginx.service".to_owned()),
            level: Severity::Warn,
            grep: "a b".to_owned(),
            since_millis: Some(1_705_312_800_000),
            past: 2,
            follow: false,
        };
        assert_eq!(ask, expected);
        let lines = vec![line(1_705_314_600_000, "a b 1"), line(1_705_314_600_001, "\u{1b}a b 2")];
        let news = LogNews { ask: ask.ask, dropped: 3, lines, end: Some(LogEnd::Complete) };
        agent.say(&ToServer::Logs(news)).await;
        assert_eq!(agent.next().await, ToAgent::LogsNoted { ask: ask.ask });
    };
    let (answered, ()) = tokio::join!(rig.ask("GET", &path, None), answer);
    assert_eq!(answered.headers["fleetd-dropped"], "3");
    assert!(!answered.headers.contains_key("fleetd-seen"));
    let expected = json!([
        {"timestamp": "2024-01-15T10:30:00Z", "unit": "nginx.service", "level": "warn",
         "text": "a b 1"},
        {"timestamp": "2024-01-15T10:30:00.001Z", "unit": "nginx.service", "level": "warn",
         "text": "\u{1b}a b 2"},
    ]);
    assert_eq!(answered.expect(200), expected);

    // While it is away, what was seen is shown, and is said to be old.
    drop(agent);
    let old = || async {
        let answer = rig.ask("GET", &format!("{LOGS}?unit=nginx&limit=1"), None).await;
        let seen = answer.headers.get("fleetd-seen").map(|seen| seen.to_str().unwrap().to_owned());
        seen.map(|seen| (seen, answer.expect(200)))
    };
    wait_for("remembered lines", async || old().await.is_some()).await;
    let (seen, lines) = old().await.unwrap();
    assert_eq!(seen, "2024-01-15T10:30:00Z");
    assert_eq!(lines, json!([expected[1]]));
    let refusal = rig.ask("GET", LOGS, None).await.problem(409);
    assert!(refusal.starts_with("a: it is not connected"), "{refusal}");
    rig.ask("POST", "/api/v1/devices/a/revoke", None).await.expect(200);
    rig.ask("GET", &format!("{LOGS}?unit=nginx"), None).await.problem(409);
}

#[tokio::test]
async fn what_the_device_cannot_or_will_not_say_is_told() {
    let rig = Rig::start_patient().await;
    let mut agent = connected(&rig).await;
    for end in [LogEnd::Refused("the policy says no".to_owned()), LogEnd::Failed("no".to_owned())] {
        let answer = async {
            let ask = asked(&mut agent).await;
            says(&mut agent, ask.ask, Vec::new(), Some(end.clone())).await;
        };
        let (answered, ()) = tokio::join!(rig.ask("GET", LOGS, None), answer);
        let why = answered.problem(502);
        assert!(["a: the policy says no", "a: no"].contains(&why.as_str()), "{why}");
        let mut stream = follow(&rig, 5).await;
        let ask = asked(&mut agent).await;
        says(&mut agent, ask.ask, Vec::new(), Some(end.clone())).await;
        assert!(matches!(next(&mut stream).await, LogMessage::Hello(_)));
        let LogMessage::Over(over) = next(&mut stream).await else { panic!("it is over") };
        let is_refused = matches!(end, LogEnd::Refused(_));
        assert_eq!(over.kind == LogOverKind::Refused, is_refused);
        assert_eq!(stream.next().await.unwrap(), None);
    }
    // The device is asked while it is there, and goes without a word.
    let gone = async {
        asked(&mut agent).await;
        drop(agent);
    };
    let (answered, ()) = tokio::join!(rig.ask("GET", LOGS, None), gone);
    answered.problem(409);
    for (query, told) in [
        ("unit=-H", "unit: -H is not the name"),
        ("level=fatal", "level: must be error"),
        ("limit=1001", "limit: must be a number from 1 to 1000"),
        ("follow=maybe", "follow: is true or false"),
        ("since=now", "since:"),
        ("lines=3", "unknown parameter"),
    ] {
        let problem = rig.ask("GET", &format!("{LOGS}?{query}"), None).await.problem(422);
        assert!(problem.contains(told), "{problem}");
    }
    rig.ask("GET", "/api/v1/devices/nobody/logs", None).await.problem(404);
    rig.ask("HEAD", LOGS, None).await.expect(405);
}

#[tokio::test]
async fn a_device_that_says_nothing_is_not_waited_for_without_end() {
    let rig = Rig::start().await;
    let mut agent = connected(&rig).await;
    let problem = rig.ask("GET", LOGS, None).await.problem(504);
    assert_eq!(problem, "a: it did not answer in time");
    let ask = asked(&mut agent).await;
    assert_eq!(agent.next().await, ToAgent::LogsEnd { ask: ask.ask });
}

#[tokio::test]
async fn many_who_follow_share_one_ask_until_the_last_leaves() {
    let rig = Rig::start_patient().await;
    let mut agent = connected(&rig).await;
    let mut one = follow(&rig, 2).await;
    let ask = asked(&mut agent).await;
    assert_eq!((ask.past, ask.follow, &ask.source), (2, true, &LogSource::Agent));
    says(&mut agent, ask.ask, vec![line(1, "past"), line(2, "last")], None).await;
    assert_eq!(texts(&mut one, 2).await.0, ["past", "last"]);
    let mut other = follow(&rig, 2).await;
    assert_eq!(texts(&mut other, 2).await.0, ["past", "last"]);
    says(&mut agent, ask.ask, vec![line(3, "new")], None).await;
    for stream in [&mut one, &mut other] {
        assert_eq!(texts(stream, 1).await, (vec!["new".to_owned()], 0));
    }
    drop(one);
    says(&mut agent, ask.ask, vec![line(4, "for one")], None).await;
    assert_eq!(texts(&mut other, 1).await.0, ["for one"]);
    drop(other);
    // Nobody has told the device anything else before.
    assert_eq!(agent.next().await, ToAgent::LogsEnd { ask: ask.ask });

    // Different wishes are different asks, and there is an end to how many.
    let mut streams = Vec::new();
    for limit in 1..=LOG_ASKS_MAX {
        streams.push(follow(&rig, limit).await);
        asked(&mut agent).await;
    }
    let refusal = rig.ask("GET", LOGS, None).await;
    assert!(refusal.headers.contains_key("retry-after"));
    assert!(refusal.problem(503).contains("under way already"));
}

#[tokio::test]
async fn who_follows_waits_for_the_device_and_goes_on_where_it_was() {
    let rig = Rig::start_patient().await;
    let mut agent = connected(&rig).await;
    let mut stream = follow(&rig, 5).await;
    let ask = asked(&mut agent).await;
    says(&mut agent, ask.ask, vec![line(1, "one"), line(2, "two")], None).await;
    assert_eq!(texts(&mut stream, 2).await.0, ["one", "two"]);
    drop(agent);
    let LogMessage::Link(link) = next(&mut stream).await else { panic!("it is gone") };
    assert!(!link.connected);
    let mut late = follow(&rig, 3).await;
    let LogMessage::Hello(hello) = next(&mut late).await else { panic!("hello") };
    assert!(!hello.connected && hello.device_id.as_str() == "a");

    let mut agent = Agent::dial(&rig, "a", 1, None).await;
    let LogMessage::Link(link) = next(&mut stream).await else { panic!("it is back") };
    assert!(link.connected);
    let again = asked(&mut agent).await;
    assert_eq!((again.since_millis, again.past), (Some(2), LOG_LINES_MAX as u32));
    let other = asked(&mut agent).await;
    assert_eq!((other.since_millis, other.past), (None, 3));
    says(&mut agent, again.ask, vec![line(2, "two"), line(2, "too"), line(3, "three")], None).await;
    assert_eq!(texts(&mut stream, 2).await.0, ["too", "three"]);
    // It is put out of the fleet.
    rig.ask("POST", "/api/v1/devices/a/revoke", None).await.expect(200);
    loop {
        match next(&mut stream).await {
            LogMessage::Link(_) => {}
            LogMessage::Over(over) => break assert_eq!(over.kind, LogOverKind::Gone),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn who_follows_is_told_that_lines_may_be_missing() {
    let rig = Rig::start_patient().await;
    let mut agent = connected(&rig).await;
    let mut stream = follow(&rig, 5).await;
    let ask = asked(&mut agent).await.ask;
    says(&mut agent, ask, vec![line(1, "one")], None).await;
    assert_eq!(texts(&mut stream, 1).await.0, ["one"]);
    drop(agent);
    let mut agent = Agent::dial(&rig, "a", 1, None).await;
    let ask = asked(&mut agent).await.ask;
    // So many were written meanwhile that the last one is not among those that are told.
    says(&mut agent, ask, vec![line(5_000, "5000")], None).await;
    let gap = loop {
        match next(&mut stream).await {
            LogMessage::Link(_) => {}
            LogMessage::Lines(lines) => break lines,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(gap, LogEntries::default());
    assert_eq!(texts(&mut stream, 1).await, (vec!["5000".to_owned()], 0));
}

#[tokio::test]
async fn a_slow_reader_loses_the_oldest_lines_and_holds_up_nobody() {
    let rig = Rig::start_patient().await;
    let mut agent = connected(&rig).await;
    let mut quick = follow(&rig, 5).await;
    let ask = asked(&mut agent).await;
    // One who takes almost nothing, as far as the system lets them.
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let mut slow = socket.connect(rig.address()).await.unwrap();
    let key = rig.admin();
    let head = format!(
        "GET {LOGS}?limit=5&follow=true HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\n\r\n"
    );
    slow.write_all(head.as_bytes()).await.unwrap();
    let mut text = Vec::new();
    read_until(&mut slow, &mut text, "event: hello").await;
    let filling = "x".repeat(LOG_LINE_BYTES_MAX - 20);
    let lines = 6_000;
    let quick_reads = async {
        let (mut seen, mut dropped) = (0, 0);
        while seen + dropped < lines {
            let LogMessage::Lines(found) = next(&mut quick).await else { continue };
            seen += found.lines.len() as u64;
            dropped += found.dropped;
        }
        dropped
    };
    let speaks = async {
        for at in (0..lines).step_by(50) {
            let some = (at..at + 50).map(|at| line(at as i64, &format!("{at:09} {filling}")));
            says(&mut agent, ask.ask, some.collect(), None).await;
        }
    };
    tokio::join!(quick_reads, speaks);
    read_until(&mut slow, &mut text, &format!("{:09} ", lines - 1)).await;
    let text = String::from_utf8(text).unwrap();
    let dropped: u64 = messages(&text).filter_map(|lines| lines["dropped"].as_u64()).sum();
    let seen: usize = messages(&text).map(|lines| lines["lines"].as_array().unwrap().len()).sum();
    assert!(dropped > 0, "it lost none");
    assert_eq!(dropped + seen as u64, lines);
}

/// Reads until the text has a part like this near its end.
async fn read_until(stream: &mut tokio::net::TcpStream, text: &mut Vec<u8>, part: &str) {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let from = text.len().saturating_sub(buffer.len() * 4);
        let recent = String::from_utf8_lossy(&text[from..]);
        if recent.find(part).is_some_and(|at| recent[at..].contains("\n\n")) {
            return;
        }
        let read = tokio::time::timeout(BOUND, stream.read(&mut buffer)).await;
        let count = read.unwrap_or_else(|_| panic!("waited for {part}")).unwrap();
        assert!(count > 0, "it ended");
        text.extend_from_slice(&buffer[..count]);
    }
}

/// The messages with lines of what came over the wire, in chunks or not.
fn messages(text: &str) -> impl Iterator<Item = Value> {
    let found = text.split("event: lines\ndata: ").skip(1);
    found.filter_map(|rest| {
        // Sizes of chunks may stand in between; what is left is JSON.
        let rest = rest.split("\n\n").next()?;
        let whole: String = rest.split("\r\n").step_by(2).collect();
        serde_json::from_str(&whole).ok()
    })
}

#[tokio::test]
async fn hostile_devices_do_no_harm() {
    let rig = Rig::start_patient().await;
    let mut agent = connected(&rig).await;
    let mut raw = Raw::open(&rig, &format!("{LOGS}?follow=true")).await;
    let ask = asked(&mut agent).await;
    // Of what nobody asked for.
    says(&mut agent, ask.ask + 1, vec![line(1, "unasked")], Some(LogEnd::Complete)).await;
    let huge = LogLine { unit: "u".repeat(100_000), ..line(i64::MAX, &"é".repeat(100_000)) };
    let forged = line(i64::MIN, "\n\nevent: over\ndata: {}\n\n\u{1b}[2J\0");
    says(&mut agent, ask.ask, vec![huge, forged], None).await;
    let text = raw.read_until("[2J").await;
    assert!(!text.contains("unasked") && text.contains("… [cut]"), "{text}");
    assert_eq!(text.matches("event: over").count(), 1, "inside of a line's text");
    assert!(!text.contains("\nevent: over"), "{text}");
    assert!(text.contains("9999-12-30") && text.contains("1970-01-01"), "{text}");
    assert!(text.len() < 4 * LOG_LINE_BYTES_MAX, "{}", text.len());
}

#[tokio::test]
async fn counts_that_no_number_holds_do_no_harm() {
    let rig = Rig::start_patient().await;
    let mut agent = connected(&rig).await;
    let mut stream = follow(&rig, 5).await;
    let ask = asked(&mut agent).await.ask;
    for (at, told) in [(1, u64::MAX), (2, 0)] {
        let news = LogNews { ask, dropped: u64::MAX, lines: vec![line(at, "x")], end: None };
        agent.say(&ToServer::Logs(news)).await;
        assert_eq!(agent.next().await, ToAgent::LogsNoted { ask });
        assert_eq!(texts(&mut stream, 1).await, (vec!["x".to_owned()], told));
    }
}

#[tokio::test]
async fn a_stream_ends_with_its_key() {
    let rig = Rig::start_patient().await;
    let mut agent = connected(&rig).await;
    let key = rig.key(json!({"kind": "operator"})).await;
    let client = client(&rig, &key);
    let mut stream = client.logs_follow("a", &LogQuery::default()).await.unwrap();
    let ask = asked(&mut agent).await;
    assert!(matches!(next(&mut stream).await, LogMessage::Hello(_)));
    rig.ask("DELETE", &format!("/api/v1/keys/{}", key_id(&key)), None).await.expect(200);
    let LogMessage::Over(over) = next(&mut stream).await else { panic!("it is over") };
    assert_eq!((over.kind, over.reason.raw()), (LogOverKind::Access, "the key is no longer good"));
    assert_eq!(agent.next().await, ToAgent::LogsEnd { ask: ask.ask });
    let from = Ipv4Addr::LOCALHOST.into();
    let path = format!("{LOGS}?follow=true");
    crate::server_kit::send(rig.address(), from, "GET", &path, &[], Vec::new()).await.problem(401);
}

#[tokio::test]
async fn a_devices_page_shows_the_last_lines_and_harms_nobody() {
    let rig = Rig::start_patient().await;
    let mut agent = connected(&rig).await;
    let mut browser = Browser::signed_in(&rig, &rig.admin()).await;
    let answer = async {
        let ask = asked(&mut agent).await;
        assert_eq!((ask.past, ask.follow, ask.source), (50, false, LogSource::Agent));
        let lines = vec![line(1, "<script>alert(1)</script>\u{1b}[2J"), line(2, "a\tb")];
        says(&mut agent, ask.ask, lines, Some(LogEnd::Complete)).await;
    };
    let (page, ()) = tokio::join!(browser.get("/devices/a"), answer);
    let page = text(&page);
    let log = between(&page, "<section id=\"log\"", "</section>");
    assert!(log.starts_with(" data-device=\"a\" data-lines=\"50\""), "{log}");
    let shown = "&lt;script&gt;alert(1)&lt;/script&gt;\\u{1b}[2J</li>";
    assert!(log.contains(shown) && log.contains("a    b</li>"), "{log}");
    assert!(log.contains("1970-01-01T00:00:00.001Z</span> <i class=\"warn\">warn</i>"), "{log}");
    // The script loads the page again without.
    assert!(!text(&browser.get("/devices/a?log=none").await).contains("id=\"log\""));
    assert_eq!(browser.get("/devices/a?log=some").await.status, 422);
    drop(agent);
    wait_for("what was seen", async || !rig_is_connected(&rig).await).await;
    let page = text(&browser.get("/devices/a").await);
    assert!(page.contains("Not from the device now") && page.contains("a    b</li>"), "{page}");
}

/// Whether the server asks the device, rather than its memory.
async fn rig_is_connected(rig: &Rig) -> bool {
    let answer = rig.ask("GET", &format!("{LOGS}?unit=nobody"), None).await;
    answer.status != 409
}
