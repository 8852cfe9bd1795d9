//! A server that is killed without a word while it is asked for changes: of whatever it answered,
//! both halves are in the audit record; what it left open is closed as unknown.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, TcpListener};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use fleet_core::api::{AuditKind, AuditLine, AuditRecord};
use serde_json::json;

use crate::batches_kills::Program;
use crate::server_kit::{try_send, wait_for};

const KILLS: usize = 6;
const CLIENTS: usize = 8;
/// Changes that are answered between two kills, at least.
const BETWEEN: usize = 20;

/// Asks for changes until the server is gone. Notes those that were answered.
async fn ask_on(program: &Program<'_>, stop: &AtomicBool, answered: &Mutex<Vec<String>>) {
    let headers = [
        ("authorization", format!("Bearer {}", program.key().reveal().as_str())),
        ("content-type", "application/json".to_owned()),
    ];
    while !stop.load(Ordering::SeqCst) {
        let body = json!({"kind": "enrol", "expires_in_secs": 3600}).to_string().into_bytes();
        let here = Ipv4Addr::LOCALHOST.into();
        let asked = try_send(program.address, here, "POST", "/api/v1/keys", &headers, body);
        let Some(answer) = asked.await else { return };
        assert_eq!(answer.status, 201, "{answer:?}");
        let id = answer.headers["x-request-id"].to_str().unwrap().to_owned();
        answered.lock().unwrap().push(id);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t35_what_was_answered_has_both_halves_and_what_was_open_is_unknown() {
    let folder = tempfile::tempdir().unwrap();
    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
    let answered = Mutex::new(Vec::new());
    let mut program = Program::start(folder.path(), port).await;
    for _ in 0..KILLS {
        let stop = AtomicBool::new(false);
        let before = answered.lock().unwrap().len();
        let asking = futures_util::future::join_all(
            (0..CLIENTS).map(|_| ask_on(&program, &stop, &answered)),
        );
        let killing = async {
            wait_for("some answers", async || answered.lock().unwrap().len() >= before + BETWEEN)
                .await;
            program.kill();
            stop.store(true, Ordering::SeqCst);
        };
        tokio::join!(asking, killing);
        drop(program);
        program = Program::start(folder.path(), port).await;
    }
    let lines = program.text("/api/v1/audit/chain").await;
    let mut pairs: BTreeMap<String, Vec<AuditRecord>> = BTreeMap::new();
    let mut unknown = 0;
    for line in lines.lines() {
        let AuditLine::Record(record) = serde_json::from_str(line).unwrap() else { continue };
        if record.entry.kind == AuditKind::Single {
            continue;
        }
        unknown += usize::from(record.entry.text.raw().starts_with("unknown"));
        pairs.entry(record.entry.request_id.raw().to_owned()).or_default().push(*record);
    }
    for id in answered.lock().unwrap().iter() {
        let kinds: Vec<_> = pairs[id].iter().map(|record| record.entry.kind).collect();
        assert_eq!(kinds, [AuditKind::Intent, AuditKind::Outcome], "{id}");
        assert_eq!(pairs[id][1].entry.status, Some(201));
    }
    for (id, records) in &pairs {
        let intents = records.iter().filter(|it| it.entry.kind == AuditKind::Intent).count();
        let outcomes = records.iter().filter(|it| it.entry.kind == AuditKind::Outcome).count();
        assert_eq!((intents, outcomes), (1, 1), "{id}: {records:?}");
    }
    println!("{} answers, {unknown} closed as unknown", answered.lock().unwrap().len());
    let verified = program.fleets(&["audit", "verify", "-o", "json"]);
    assert!(verified.status.success(), "{verified:?}");
    let whole: serde_json::Value = serde_json::from_slice(&verified.stdout).unwrap();
    assert_eq!(whole["open"], 0);
}
