//! Doors for a fuzzer: functions that take any bytes at all and check what must hold of them.
//!
//! Each package lists its own; `fuzz/` runs them, and so does a test of each package with the
//! seeds in `fuzz/corpus/`. A door panics where something does not hold.

use std::path::PathBuf;
use std::{fs, io};

use crate::claim::{ClaimCode, ClaimKey};
use crate::filter::{Filter, Words};
use crate::grant::Grant;
#[cfg(feature = "net")]
use crate::mdns;
use crate::secret::{self, ApiKey};
use crate::wire::{Greeting, Hello, Proof, ToAgent, ToServer};
#[cfg(feature = "net")]
use crate::yaml;
use crate::{codec, frames};

/// A door, by the name under which `cargo xtask fuzz` knows it.
pub type Target = (&'static str, fn(&[u8]));

/// Those of this package.
pub const TARGETS: &[Target] = &[
    ("link", link),
    ("frames", frames),
    ("filter", filter),
    ("keys", keys),
    #[cfg(feature = "net")]
    ("settings", settings),
    #[cfg(feature = "net")]
    ("mdns", mdns::check::packets_of_any_bytes),
];

/// What travels on the link, and grants: refused, or read as itself again.
fn link(bytes: &[u8]) {
    codec::check::<Hello>(bytes);
    codec::check::<Greeting>(bytes);
    codec::check::<Proof>(bytes);
    codec::check::<ToServer>(bytes);
    codec::check::<ToAgent>(bytes);
    codec::check::<Grant>(bytes);
}

/// Frames in a file: each byte is in one place, and what is whole stays whole behind any damage.
fn frames(bytes: &[u8]) {
    let mut file = bytes.to_vec();
    frames::mend(&mut file);
    let mut at = 0;
    let mut whole = Vec::new();
    for found in frames::read(&file) {
        let (begin, length) = match found {
            frames::Found::Frame { at, payload } => {
                frames::put(&mut whole, |out| out.extend(payload));
                (at, frames::HEADER_BYTES + payload.len())
            }
            frames::Found::Damage { at, bytes } => (at, bytes),
            frames::Found::Torn { at } => (at, file.len() - at),
        };
        assert!(begin == at && length > 0, "a gap, or bytes read twice");
        at += length;
    }
    assert_eq!(at, file.len(), "read to the end");
    let again = frames::read(&whole);
    assert!(again.into_iter().all(|found| matches!(found, frames::Found::Frame { .. })));
}

/// What an operator asks for: refused with words that are safe to show, or one spelling that reads back
/// as the same.
fn filter(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    for words in [Words::Fuzzy, Words::Refused] {
        match Filter::parse(&text, words) {
            Ok(filter) => {
                let spelling = filter.to_string();
                assert!(!spelling.contains(char::is_control), "{spelling:?} acts on a terminal");
                assert_eq!(Filter::parse(&spelling, words), Ok(filter), "{spelling:?}");
            }
            Err(error) => {
                let shown = error.to_string();
                assert!(!shown.contains(char::is_control), "{shown:?} acts on a terminal");
            }
        }
    }
}

/// What lets people in: a key reads back as it was, and none is left in a text that is to be shown.
fn keys(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    if let Ok(key) = text.parse::<ApiKey>() {
        // Dashes of the server's identity may have stood elsewhere.
        let again = key.reveal().parse::<ApiKey>().expect("a key reads back");
        assert!(again.hash().matches(key.hash()) && again.server() == key.server());
        let shown = secret::without_secrets(&text);
        assert!(shown.parse::<ApiKey>().is_err(), "a key is shown");
    }
    let shown = secret::without_secrets(&text);
    assert_eq!(secret::without_secrets(&shown), shown, "what is hidden stays hidden");
    if let Ok(code) = text.parse::<ClaimCode>() {
        assert_eq!(code.reveal().parse(), Ok(code));
    }
    // Whether it is one is all there is to see.
    let _ = text.parse::<ClaimKey>();
}

/// Files of settings: read, or refused in one line that is safe to show.
#[cfg(feature = "net")]
fn settings(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    if let Err(error) = yaml::value("the text", &text) {
        let shown = error.to_string();
        assert!(!shown.contains(char::is_control), "{shown:?} acts on a terminal");
    }
}

/// Tries the seeds of some doors. How many there were.
pub fn try_seeds(targets: &[Target]) -> io::Result<usize> {
    let mut tried = 0;
    for (name, check) in targets {
        let before = tried;
        for seed in fs::read_dir(folder(name))? {
            check(&fs::read(seed?.path())?);
            tried += 1;
        }
        assert!(tried > before, "{name} has no seed");
    }
    Ok(tried)
}

/// Puts a seed where [`try_seeds`] and the fuzzer find it.
pub fn write_seed(target: &str, name: &str, bytes: &[u8]) -> io::Result<()> {
    fs::create_dir_all(folder(target))?;
    fs::write(folder(target).join(name), bytes)
}

fn folder(target: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(target)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metric::Sample;
    use crate::wire::{
        Facts, LogAsk, LogEnd, LogLine, LogNews, LogSource, QueuedReport, Samples, Severity,
        Standing,
    };

    #[test]
    fn seeds_hold() {
        try_seeds(TARGETS).unwrap();
    }

    #[test]
    #[ignore = "writes the seeds anew: cargo test -p fleet-core --lib write_seeds -- --ignored"]
    fn write_seeds() {
        let facts = Facts {
            hostname: "rpi4-001".to_owned(),
            device_type: "raspberrypi".to_owned(),
            name: Some("pump".to_owned()),
            memory_bytes: Some(4 << 30),
            addresses: vec!["10.0.0.2".to_owned()],
            ..Facts::default()
        };
        let samples = vec![Sample::new("cpu", 41.25), Sample::labelled("disk", "mount", "/", -0.5)];
        let report = |seq| QueuedReport {
            seq,
            at_millis: 1_705_314_600_000,
            age_millis: 300,
            samples: samples.clone(),
        };
        let reports = vec![report(1), report(2)];
        let (device_pub, nonce, signature) = ([1; 32], [2; 32], [3; 64]);
        let device_id = "rpi4-001".to_owned();
        let proof = Proof {
            signature,
            device_id: device_id.clone(),
            enrol_key: None,
            facts: facts.clone(),
        };
        let grant = Grant {
            uid: [4; 16],
            device_pub,
            device_id: device_id.clone(),
            urls: vec!["https://10.0.0.1:8080".to_owned()],
            server_pub: nonce,
            expires_millis: 1_705_314_600_000,
        };
        let ask = LogAsk {
            ask: 7,
            source: LogSource::Unit("nginx.service".to_owned()),
            level: Severity::Warn,
            grep: "disk".to_owned(),
            since_millis: Some(1_705_314_600_000),
            past: 200,
            follow: true,
        };
        let line = LogLine {
            at_millis: 1_705_314_600_000,
            unit: "nginx.service".to_owned(),
            level: Severity::Error,
            text: "the disk is full".to_owned(),
        };
        let end = Some(LogEnd::Failed("no".to_owned()));
        let news = LogNews { ask: 7, dropped: 300, lines: vec![line.clone(), line], end };
        let welcome = Greeting::Welcome { version: 1, nonce, server_pub: device_pub, signature };
        for (name, bytes) in [
            ("hello", codec::encode(&Hello { versions: vec![2, 1], device_pub, nonce })),
            ("welcome", codec::encode(&welcome)),
            ("proof", codec::encode(&proof)),
            ("facts", codec::encode(&ToServer::Facts(Box::new(facts)))),
            ("samples", codec::encode(&ToServer::Samples(Samples { stream: [5; 16], reports }))),
            (
                "standing",
                codec::encode(&ToAgent::Standing(Standing::Active { uid: [4; 16], device_id })),
            ),
            ("ack", codec::encode(&ToAgent::Ack { stream: [5; 16], seq: 70_000 })),
            ("grant", codec::encode(&grant)),
            ("logs", codec::encode(&ToServer::Logs(news))),
            ("log-ask", codec::encode(&ToAgent::Logs(Box::new(ask)))),
        ] {
            write_seed("link", name, &bytes.unwrap()).unwrap();
        }
        let mut file = Vec::new();
        for payload in [&b"one"[..], b"", b"a third one"] {
            frames::put(&mut file, |out| out.extend(payload));
        }
        write_seed("frames", "whole", &file).unwrap();
        file[16] ^= 1;
        file.extend([0; 40]);
        write_seed("frames", "damaged", &file).unwrap();
    }
}
