//! A device's own server, gone bad, against a policy that allows it nothing but to listen (T12): it says
//! everything that the link knows, and nothing happens.

use std::fs;
use std::path::Path;

use fleet_core::wire::{
    ConfigPush, LogAsk, LogSource, Outcome, Severity, Standing, ToAgent, ToServer,
};

use crate::agent::key;
use crate::commands::Device;
use crate::server::UID;

/// Every word there is, each as it would do the most.
const ORDERS: [&[&str]; 7] = [
    &["exec", "/usr/bin/tool", "now"],
    &["reboot"],
    &["restart"],
    &["restart", "nginx"],
    &["collect"],
    &["logs", "-n", "100"],
    &["rotate-key"],
];

/// All files of the machine that the agent does not keep for itself.
fn machine(root: &Path) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
            let path = entry.path();
            if path == root.join("data") {
                continue;
            }
            if path.is_dir() {
                folders.push(path);
            } else {
                found.push((path.to_string_lossy().into_owned(), fs::read(&path).unwrap()));
            }
        }
    }
    found.sort();
    found
}

#[tokio::test]
async fn t12_a_server_gone_bad_has_nothing_done_that_the_policy_does_not_allow() {
    let device = Device::new("claim: open\ncommands: []\nexec: {allow: any}\n").await;
    for program in ["tool", "systemctl", "reboot", "shutdown", "journalctl", "sh"] {
        device.add(program, "");
    }
    let (before, key_before) = (machine(device.folder.path()), key(&device.app));
    let mut link = device.link().await;
    for (number, words) in (1..).zip(ORDERS) {
        link.order(&device.server, number, words).await;
        let result = link.result(number).await;
        assert_eq!(result.outcome, Outcome::Failed, "{words:?}: {result:?}");
        assert!(result.detail.contains("policy does not let its server use"), "{result:?}");
        assert!(result.output.is_empty(), "{result:?}");
        link.note(number).await;
    }
    for (ask, source) in [(1, LogSource::Agent), (2, LogSource::Unit("nginx".to_owned()))] {
        let wish = LogAsk {
            ask,
            source,
            level: Severity::Trace,
            grep: String::new(),
            since_millis: None,
            past: 1_000,
            follow: true,
        };
        link.send(ToAgent::Logs(Box::new(wish))).await;
        let news = loop {
            if let ToServer::Logs(news) = link.next().await.expect("the agent stays") {
                break news;
            }
        };
        assert!(news.lines.is_empty() && news.end.is_some(), "{news:?}");
        link.send(ToAgent::LogsNoted { ask }).await;
        link.send(ToAgent::LogsEnd { ask: 77 }).await;
    }
    // What it never asked for, and what concerns nothing that is.
    let nobodys = key(&device.app).bytes().map(|byte| !byte);
    for frame in [
        ToAgent::NewKeyNoted { device_pub: nobodys, refused: None },
        ToAgent::CancelCommand { id: [99; 16] },
        ToAgent::CommandNoted { id: [99; 16] },
        ToAgent::Ack { stream: [99; 16], seq: u64::MAX },
        ToAgent::Watch { secs: u16::MAX },
    ] {
        link.send(frame).await;
    }
    // A configuration may be had by policy; what it says is checked, and none of it runs anything.
    let document = r#"{"policy":{"commands":["exec"]},"exec":{"allow":"any"},"claim":"open"}"#;
    let push = ConfigPush::sign(UID, 1, document.to_owned(), &device.server.key);
    link.send(ToAgent::Config(push)).await;
    let (version, error) = link.config_reported().await;
    let (version, error) =
        if version == 0 { link.config_reported().await } else { (version, error) };
    assert_eq!(version, 1);
    assert!(error.is_some(), "a configuration has no such keys");
    link.stand(Standing::Active { uid: UID, device_id: "../../etc".to_owned() }).await;
    link.order(&device.server, 50, &["exec", "/usr/bin/tool"]).await;
    assert_eq!(link.result(50).await.outcome, Outcome::Failed);

    assert_eq!(device.ran(), [""; 0], "no program ran");
    assert_eq!(machine(device.folder.path()), before, "and no file is another");
    assert_eq!(key(&device.app), key_before);
    drop(link);
    device.app.stop().await;
}
