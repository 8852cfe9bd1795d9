//! Lines of logs on their way to the server: the whole agent in this process, its own lines, and a
//! `journalctl` that writes what a test wants.

use std::fs;

use fleet_core::limits::{LOG_ASKS_MAX, LOG_LINE_BYTES_MAX};
use fleet_core::time::Timestamp;
use fleet_core::wire::{LogAsk, LogEnd, LogLine, LogNews, LogSource, Severity, ToAgent, ToServer};

use crate::commands::Device;
use crate::process::is_gone;
use crate::server::AgentEnd;
use crate::within::until;

fn own(ask: u64) -> LogAsk {
    LogAsk {
        ask,
        source: LogSource::Agent,
        level: Severity::Trace,
        grep: String::new(),
        since_millis: None,
        past: 10,
        follow: false,
    }
}

fn of_unit(ask: u64) -> LogAsk {
    LogAsk { source: LogSource::Unit("nginx".to_owned()), ..own(ask) }
}

async fn ask(link: &mut AgentEnd, ask: LogAsk) {
    link.send(ToAgent::Logs(Box::new(ask))).await;
}

/// What comes of asks next; whoever has it lets more come.
async fn news(link: &mut AgentEnd) -> LogNews {
    let news = unnoted(link).await;
    link.send(ToAgent::LogsNoted { ask: news.ask }).await;
    news
}

async fn unnoted(link: &mut AgentEnd) -> LogNews {
    loop {
        match link.next().await.expect("the agent stays") {
            ToServer::Logs(news) => return news,
            ToServer::Samples(samples) => link.acknowledge(&samples).await,
            ToServer::Facts(_)
            | ToServer::ConfigReported(_)
            | ToServer::ConfigTrial(_)
            | ToServer::Command(_)
            | ToServer::NewKey(_) => {}
        }
    }
}

/// All lines of an ask up to its end, and how many were left out.
async fn all(link: &mut AgentEnd, number: u64) -> (Vec<LogLine>, u64, LogEnd) {
    let (mut lines, mut dropped) = (Vec::new(), 0);
    loop {
        let news = news(link).await;
        assert_eq!(news.ask, number);
        lines.extend(news.lines);
        dropped += news.dropped;
        if let Some(end) = news.end {
            return (lines, dropped, end);
        }
    }
}

fn texts(lines: &[LogLine]) -> Vec<&str> {
    lines.iter().map(|line| line.text.as_str()).collect()
}

/// Adds a `journalctl` whose past and future are these lines of a script.
fn journal(device: &Device, past: &str, follow: &str) {
    let stay = "echo $$ > journalctl.pid; exec /bin/sleep 600";
    let script = format!("case \"$*\" in *--no-tail*) {follow}\n{stay};; *) {past}\n;; esac");
    device.add("journalctl", &script);
}

/// A line of a script that writes an entry.
fn entry(number: u32, priority: u8, text: &str) -> String {
    let entry = serde_json::json!({
        "__CURSOR": format!("c{number}"),
        "__REALTIME_TIMESTAMP": format!("{}000", 1_705_314_600_000_u64 + u64::from(number)),
        "PRIORITY": priority.to_string(),
        "_SYSTEMD_UNIT": "nginx.service",
        "MESSAGE": text,
    });
    format!("printf '%s\\n' '{entry}'\n")
}

#[tokio::test]
async fn the_agents_own_lines_come_once_or_as_they_are_logged() {
    let device = Device::new("").await;
    let mut link = device.link().await;
    let log = |millis, level, text: &str| {
        let word = level_word(level);
        device.log.push(Timestamp::from_millis(millis), level, &format!("T {word} {text}\n"));
    };
    for number in 0..20 {
        log(number, Severity::Debug, &format!("step {number}"));
    }
    log(20, Severity::Warn, "the disk is nearly full");
    log(21, Severity::Error, "the disk is full");
    let wish = LogAsk { level: Severity::Warn, grep: "disk".to_owned(), ..own(1) };
    ask(&mut link, wish.clone()).await;
    let (lines, dropped, end) = all(&mut link, 1).await;
    assert_eq!(texts(&lines), ["the disk is nearly full", "the disk is full"]);
    assert_eq!((lines[0].at_millis, lines[0].unit.as_str()), (20, "agent"));
    assert_eq!((dropped, end), (0, LogEnd::Complete));
    ask(&mut link, LogAsk { past: 2, since_millis: Some(20), ..own(2) }).await;
    assert_eq!(all(&mut link, 2).await.0, lines);

    ask(&mut link, LogAsk { ask: 3, past: 1, follow: true, ..wish }).await;
    assert_eq!(texts(&news(&mut link).await.lines), ["the disk is full"]);
    log(22, Severity::Info, "disk, but it does not matter");
    log(23, Severity::Warn, "disk, and it does");
    assert_eq!(texts(&news(&mut link).await.lines), ["disk, and it does"]);
    link.send(ToAgent::LogsEnd { ask: 3 }).await;
    log(24, Severity::Warn, "disk, and nobody asks");
    ask(&mut link, LogAsk { past: 1, ..own(4) }).await;
    assert_eq!(texts(&all(&mut link, 4).await.0), ["disk, and nobody asks"]);
    drop(link);
    device.app.stop().await;
}

fn level_word(level: Severity) -> String {
    level.word().to_ascii_uppercase()
}

#[tokio::test]
async fn a_units_lines_come_from_the_journal_and_end_with_their_ask() {
    let device = Device::new("").await;
    let past = entry(1, 6, "one") + &entry(2, 3, "two") + &entry(3, 7, "three");
    journal(&device, &past, &entry(4, 4, "four"));
    let mut link = device.link().await;
    let wish = LogAsk { past: 2, since_millis: Some(1_705_314_600_002), ..of_unit(1) };
    ask(&mut link, LogAsk { level: Severity::Info, ..wish.clone() }).await;
    let (lines, dropped, end) = all(&mut link, 1).await;
    let two = LogLine {
        at_millis: 1_705_314_600_002,
        unit: "nginx.service".to_owned(),
        level: Severity::Error,
        text: "two".to_owned(),
    };
    assert_eq!((lines, dropped, end), (vec![two], 0, LogEnd::Complete));

    ask(&mut link, LogAsk { ask: 2, follow: true, grep: "o".to_owned(), ..wish }).await;
    let mut lines = news(&mut link).await.lines;
    // What follows may come along.
    if lines.len() < 2 {
        lines.extend(news(&mut link).await.lines);
    }
    assert_eq!(texts(&lines), ["two", "four"]);
    let usual = "journalctl --no-pager --quiet --all -o json -u nginx.service";
    let fields = "--output-fields=MESSAGE,PRIORITY,UNIT,_SYSTEMD_UNIT";
    assert_eq!(
        device.ran(),
        [
            format!("{usual} -n 2 {fields} --priority=6"),
            format!("{usual} -n 10000 {fields}"),
            format!("{usual} -f --no-tail --after-cursor=c3 {fields}"),
        ]
    );
    let note = device.folder.path().join("journalctl.pid");
    let pid = || fs::read_to_string(&note).unwrap_or_default();
    until("journalctl to stay", || pid().ends_with('\n')).await;
    link.send(ToAgent::LogsEnd { ask: 2 }).await;
    is_gone(&note).await;

    ask(&mut link, LogAsk { ask: 3, follow: true, ..of_unit(3) }).await;
    let before = pid();
    until("journalctl to stay again", || pid().ends_with('\n') && pid() != before).await;
    drop(link);
    is_gone(&note).await;
    device.app.stop().await;
}

#[tokio::test]
async fn what_cannot_be_read_is_told_why() {
    let device = Device::new("").await;
    let mut link = device.link().await;
    ask(&mut link, of_unit(1)).await;
    let (_, _, end) = all(&mut link, 1).await;
    let LogEnd::Failed(why) = end else { panic!("{end:?}") };
    assert!(why.starts_with("there is no journalctl on this device"), "{why}");
    for (number, name) in [(2, "-H"), (3, "a b"), (4, "a/../b"), (5, "")] {
        ask(&mut link, LogAsk { source: LogSource::Unit(name.to_owned()), ..own(number) }).await;
        let LogEnd::Failed(why) = all(&mut link, number).await.2 else { panic!("{name}") };
        assert!(why.contains("is not the name of a systemd unit"), "{why}");
    }
    journal(&device, "echo No journal files were opened. >&2; exit 3", "");
    ask(&mut link, of_unit(6)).await;
    let why = "journalctl ended with code 3: No journal files were opened.";
    assert_eq!(all(&mut link, 6).await.2, LogEnd::Failed(why.to_owned()));
    // One that ends while it is followed.
    device.add("journalctl", "");
    ask(&mut link, LogAsk { follow: true, ..of_unit(7) }).await;
    let why = "journalctl ended by itself";
    assert_eq!(all(&mut link, 7).await.2, LogEnd::Failed(why.to_owned()));

    for number in 8..8 + LOG_ASKS_MAX as u64 {
        ask(&mut link, LogAsk { past: 0, follow: true, ..own(number) }).await;
    }
    ask(&mut link, own(20)).await;
    let LogEnd::Failed(why) = all(&mut link, 20).await.2 else { panic!() };
    assert!(why.contains("4 asks for lines at one time"), "{why}");
    link.send(ToAgent::LogsEnd { ask: 9 }).await;
    ask(&mut link, own(21)).await;
    assert_eq!(all(&mut link, 21).await.2, LogEnd::Complete);
    drop(link);
    device.app.stop().await;
}

#[tokio::test]
async fn what_the_policy_does_not_let_the_server_read_is_not_read() {
    let device = Device::new("commands: [restart]\n").await;
    journal(&device, &entry(1, 6, "secret"), "");
    device.log.push(Timestamp::from_millis(0), Severity::Info, "T INFO secret\n");
    let mut link = device.link().await;
    for wish in [own(1), of_unit(2)] {
        let number = wish.ask;
        ask(&mut link, wish).await;
        let (lines, _, end) = all(&mut link, number).await;
        let LogEnd::Refused(why) = end else { panic!("{end:?}") };
        assert!(why.contains("does not let its server use logs"), "{why}");
        assert_eq!(lines, []);
    }
    assert_eq!(device.ran(), [""; 0]);
    drop(link);
    device.app.stop().await;
}

#[tokio::test]
async fn hostile_lines_do_no_harm_and_what_is_left_out_is_counted() {
    let device = Device::new("").await;
    // A message of a megabyte, an entry of a megabyte without an end, bytes that are no text, what
    // acts on terminals, what is no entry.
    let zeros = "i=0; z=0000000000000000; while [ $i -lt 16 ]; do z=$z$z; i=$((i+1)); done";
    let past = [
        &format!("{zeros}; printf '{{\"MESSAGE\":\"%.300000s\"}}\\n' \"$z\""),
        "printf '{\"MESSAGE\":\"%s\"}\\n' \"$z\"",
        "printf '{\"MESSAGE\":[104,255,105]}\\n'",
        "printf '{\"MESSAGE\":\"\\\\u001b[2J\\\\u009b\\\\r\"}\\n'",
        "printf 'no entry\\n{\"MESSAGE\":\"last\"}'; printf '\\n%s' \"$z\"",
    ];
    journal(&device, &past.join("\n"), "");
    let mut link = device.link().await;
    ask(&mut link, of_unit(1)).await;
    let (lines, dropped, end) = all(&mut link, 1).await;
    assert_eq!(end, LogEnd::Complete);
    assert_eq!(lines[0].text.len(), LOG_LINE_BYTES_MAX);
    assert_eq!(texts(&lines[1..]), ["h\u{fffd}i", "\u{1b}[2J\u{9b}\r", "last"]);
    assert_eq!(dropped, 2, "the entry that is too long, and what is none");

    // A hundred thousand lines as fast as they come.
    let flood =
        "i=0; while [ $i -lt 100000 ]; do echo \"{\\\"MESSAGE\\\":\\\"$i\\\"}\"; i=$((i+1)); done";
    journal(&device, "", flood);
    ask(&mut link, LogAsk { follow: true, ..of_unit(2) }).await;
    let (mut seen, mut dropped, mut last) = (0, 0, None);
    while last != Some(99_999) {
        let news = news(&mut link).await;
        dropped += news.dropped;
        seen += news.lines.len() as u64;
        for line in &news.lines {
            let number: u64 = line.text.parse().unwrap();
            assert!(Some(number) > last, "lines keep their order");
            last = Some(number);
        }
    }
    assert_eq!(seen + dropped, 100_000);
    assert!(dropped > 0, "so many are not sent");
    drop(link);
    device.app.stop().await;
}

#[tokio::test]
async fn lines_wait_for_a_server_that_is_slow_and_reports_do_not() {
    let device = Device::new("").await;
    let mut link = device.link().await;
    ask(&mut link, LogAsk { past: 0, follow: true, ..own(1) }).await;
    ask(&mut link, LogAsk { past: 0, ..own(2) }).await;
    assert_eq!(all(&mut link, 2).await.2, LogEnd::Complete);
    let log = |text: &str| {
        device.log.push(Timestamp::from_millis(0), Severity::Info, &format!("T INFO {text}\n"));
    };
    log("first");
    assert_eq!(texts(&unnoted(&mut link).await.lines), ["first"]);
    log("second");
    for _ in 0..3 {
        let samples = link.next().await.unwrap();
        let ToServer::Samples(samples) = samples else { panic!("{samples:?}") };
        link.acknowledge(&samples).await;
    }
    link.send(ToAgent::LogsNoted { ask: 1 }).await;
    assert_eq!(texts(&news(&mut link).await.lines), ["second"]);
    drop(link);
    device.app.stop().await;
}
