//! The bytes of every link frame in version 1.
//!
//! Devices in the field speak these. If a test here fails, do not change the test: a new layout
//! is a new version, beside this one.

use data_encoding::HEXLOWER;
use fleet_core::codec::{self, Coded};
use fleet_core::metric::Sample;
use fleet_core::wire::*;
use proptest::prelude::*;

fn check<T: Coded + PartialEq + std::fmt::Debug>(value: &T, hex: &str) {
    let bytes = codec::encode(value).unwrap();
    assert_eq!(HEXLOWER.encode(&bytes), hex.replace(char::is_whitespace, ""), "{value:?}");
    assert_eq!(&codec::decode::<T>(&bytes).unwrap(), value);
}

fn facts() -> Facts {
    Facts {
        hostname: "h".to_owned(),
        device_type: "x86".to_owned(),
        model: "m".to_owned(),
        os: "o".to_owned(),
        kernel: "k".to_owned(),
        arch: "a".to_owned(),
        version: "1".to_owned(),
        boot_id: "b".to_owned(),
        name: Some("n".to_owned()),
        cores: 4,
        memory_bytes: Some(1024),
        addresses: vec!["::1".to_owned()],
        interval_secs: 60,
    }
}

const FACTS: &str = "0168 03783836 016d 016f 016b 0161 0131 0162 01016e 04 01fb0004 01033a3a31 3c";

#[test]
fn hello() {
    let hello = Hello { versions: vec![1], device_pub: [0xaa; 32], nonce: [0xbb; 32] };
    check(&hello, &format!("0101 0101 {} {}", "aa".repeat(32), "bb".repeat(32)));
}

#[test]
fn greeting() {
    let welcome = Greeting::Welcome {
        version: 1,
        nonce: [0xaa; 32],
        server_pub: [0xbb; 32],
        signature: [0xcc; 64],
    };
    let parts = ["aa".repeat(32), "bb".repeat(32), "cc".repeat(64)].concat();
    check(&welcome, &format!("0201 00 01 {parts}"));
    let refused = Greeting::Refused { reason: RefusedReason::Version, detail: "no".to_owned() };
    check(&refused, "0201 01 00 026e6f");
    let busy = Greeting::Refused { reason: RefusedReason::Busy, detail: String::new() };
    check(&busy, "0201 01 01 00");
}

#[test]
fn proof() {
    let proof =
        Proof { signature: [0xcc; 64], device_id: "d".to_owned(), enrol_key: None, facts: facts() };
    check(&proof, &format!("0301 {} 0164 00 {FACTS}", "cc".repeat(64)));
    let with_key = Proof { enrol_key: Some("key".to_owned()), ..proof };
    check(&with_key, &format!("0301 {} 0164 01036b6579 {FACTS}", "cc".repeat(64)));
}

#[test]
fn what_an_agent_says() {
    check(&ToServer::Facts(Box::new(facts())), &format!("0401 00 {FACTS}"));
    let report = QueuedReport {
        seq: 1,
        at_millis: 1_705_314_600_000,
        age_millis: 5,
        samples: vec![Sample::labelled("t", "zone", "0", 1.5)],
    };
    let samples = ToServer::Samples(Samples { stream: [0xdd; 16], reports: vec![report] });
    let stream = "dd".repeat(16);
    check(
        &samples,
        &format!(
            "0401 01 {stream} 01 01 fd808857191a030000 05 01 0174 01 047a6f6e65 0130 000000000000f83f"
        ),
    );
    let reported = ConfigReported { version: 7, at_millis: 1, error: Some("e".to_owned()) };
    check(&ToServer::ConfigReported(reported), "0401 02 07 02 010165");
    let trial = |state| ToServer::ConfigTrial(ConfigTrial { version: 7, at_millis: 1, state });
    check(&trial(TrialState::Trying), "0401 05 07 02 00");
    let reverted = TrialState::Reverted { holds: 6, why: "w".to_owned() };
    check(&trial(reverted), "0401 05 07 02 01 06 0177");
}

#[test]
fn what_a_server_says() {
    let standing = |standing| ToAgent::Standing(standing);
    let uid = "ee".repeat(16);
    let active = Standing::Active { uid: [0xee; 16], device_id: "d".to_owned() };
    check(&standing(active), &format!("0501 00 00 {uid} 0164"));
    let reason = || "r".to_owned();
    check(&standing(Standing::Pending { reason: reason() }), "0501 00 01 0172");
    check(&standing(Standing::Rejected { reason: reason() }), "0501 00 02 0172");
    check(&standing(Standing::Revoked { reason: reason() }), "0501 00 03 0172");
    check(&ToAgent::Ack { stream: [0xee; 16], seq: 300 }, &format!("0501 01 {uid} fb2c01"));
    let push = ConfigPush { version: 2, document: "{}".to_owned(), signature: [0xcc; 64] };
    check(&ToAgent::Config(push), &format!("0501 02 02 027b7d {}", "cc".repeat(64)));
    check(&ToAgent::Watch { secs: 15 }, "0501 03 0f");
    check(&ToAgent::Watch { secs: 300 }, "0501 03 fb2c01");
}

#[test]
fn what_a_server_says_of_commands() {
    let order = CommandOrder {
        id: [0x11; 16],
        word: "w".to_owned(),
        args: vec!["a".to_owned(), "b".to_owned()],
        expires_millis: 3,
        expires_in_millis: 4,
        timeout_millis: 5,
        signature: [0xcc; 64],
    };
    let (id, signature) = ("11".repeat(16), "cc".repeat(64));
    let frozen = format!("0501 04 {id} 0177 02 0161 0162 06 04 05 {signature}");
    check(&ToAgent::Command(Box::new(order)), &frozen);
    check(&ToAgent::CancelCommand { id: [0x11; 16] }, &format!("0501 05 {id}"));
    check(&ToAgent::CommandNoted { id: [0x11; 16] }, &format!("0501 06 {id}"));
}

#[test]
fn what_an_agent_says_of_commands() {
    let news = |progress| ToServer::Command(CommandNews { id: [0x11; 16], progress });
    let id = "11".repeat(16);
    check(&news(Progress::Accepted), &format!("0401 03 {id} 00"));
    check(&news(Progress::Running), &format!("0401 03 {id} 01"));
    for (outcome, number) in [
        (Outcome::Succeeded, "00"),
        (Outcome::Failed, "01"),
        (Outcome::Expired, "02"),
        (Outcome::Cancelled, "03"),
        (Outcome::Unknown, "04"),
    ] {
        let result = CommandResult {
            outcome,
            detail: "d".to_owned(),
            exit_code: Some(-1),
            output: b"o".to_vec(),
            left_out_bytes: 5,
        };
        let frozen = format!("0401 03 {id} 02 {number} 0164 01 01 016f 05");
        check(&news(Progress::Done(result)), &frozen);
    }
}

#[test]
fn what_is_said_of_new_keys() {
    let key = NewKey {
        command: [0x11; 16],
        device_pub: [0x22; 32],
        by_old: [0x33; 64],
        by_new: [0x44; 64],
    };
    let [command, device_pub] = ["11".repeat(16), "22".repeat(32)];
    let [by_old, by_new] = ["33".repeat(64), "44".repeat(64)];
    let frozen = format!("0401 06 {command} {device_pub} {by_old} {by_new}");
    check(&ToServer::NewKey(Box::new(key)), &frozen);
    let noted = |refused| ToAgent::NewKeyNoted { device_pub: [0x22; 32], refused };
    check(&noted(None), &format!("0501 0a {device_pub} 00"));
    check(&noted(Some("r".to_owned())), &format!("0501 0a {device_pub} 01 0172"));
}

#[test]
fn what_is_said_of_logs() {
    let ask = LogAsk {
        ask: 7,
        source: LogSource::Unit("u".to_owned()),
        level: Severity::Warn,
        grep: "g".to_owned(),
        since_millis: Some(1),
        past: 9,
        follow: true,
    };
    check(&ToAgent::Logs(Box::new(ask.clone())), "0501 07 07 01 0175 03 0167 0102 09 01");
    let own = LogAsk { source: LogSource::Agent, level: Severity::Trace, ..ask };
    let own = LogAsk { grep: String::new(), since_millis: None, follow: false, ..own };
    check(&ToAgent::Logs(Box::new(own)), "0501 07 07 00 00 00 00 09 00");
    check(&ToAgent::LogsEnd { ask: 7 }, "0501 08 07");
    check(&ToAgent::LogsNoted { ask: 7 }, "0501 09 07");
    let line = LogLine {
        at_millis: 1,
        unit: "u".to_owned(),
        level: Severity::Error,
        text: "t".to_owned(),
    };
    let news = |end| ToServer::Logs(LogNews { ask: 7, dropped: 5, lines: vec![line.clone()], end });
    let lines = "0401 04 07 05 01 02 0175 04 0174";
    check(&news(None), &format!("{lines} 00"));
    check(&news(Some(LogEnd::Complete)), &format!("{lines} 01 00"));
    check(&news(Some(LogEnd::Refused("r".to_owned()))), &format!("{lines} 01 01 0172"));
    check(&news(Some(LogEnd::Failed("f".to_owned()))), &format!("{lines} 01 02 0166"));
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(kind in 1_u8..6, bytes: Vec<u8>) {
        let frame = [&[kind, 1], &bytes[..]].concat();
        let _ = codec::decode::<Hello>(&frame);
        let _ = codec::decode::<Greeting>(&frame);
        let _ = codec::decode::<Proof>(&frame);
        let _ = codec::decode::<ToServer>(&frame);
        let _ = codec::decode::<ToAgent>(&frame);
    }
}
