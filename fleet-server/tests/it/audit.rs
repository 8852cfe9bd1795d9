//! The audit record of a real server: every change is in it before and after, with who, why and what
//! came of it; no secret is; and whoever changes it is found out.

use std::collections::BTreeMap;
use std::path::Path;

use fleet_core::api::{AuditAction, AuditActor, AuditKind, AuditLine, AuditRecord, Route};
use fleet_core::id::Uid;
use fleet_core::identity::PrivateKey;
use fleet_core::untrusted::Untrusted;
use fleet_core::wire::Standing;
use redb::{ReadableDatabase as _, ReadableTable as _, TableDefinition};
use serde_json::{Value, json};

use crate::cli_kit::Desk;
use crate::page_kit::Browser;
use crate::server_kit::{Agent, Answer, Rig, key_id, wait_for};

const AUDIT: &str = "/api/v1/audit";
const TABLE: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("audit");

/// All records, oldest first, as the chain tells them.
async fn records(rig: &Rig) -> Vec<AuditRecord> {
    let lines = rig.ask("GET", "/api/v1/audit/chain", None).await;
    assert_eq!(lines.status, 200, "{lines:?}");
    let lines = String::from_utf8(lines.body.to_vec()).unwrap();
    let lines: Vec<AuditLine> =
        lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(matches!(lines.first(), Some(AuditLine::Begin(_))), "{lines:?}");
    assert!(matches!(lines.last(), Some(AuditLine::End(_))), "{lines:?}");
    let record = |line| match line {
        AuditLine::Record(record) => Some(*record),
        AuditLine::Begin(_) | AuditLine::End(_) => None,
    };
    lines.into_iter().filter_map(record).collect()
}

/// The records of one request.
async fn of(rig: &Rig, answer: &Answer) -> Vec<AuditRecord> {
    let id = answer.headers["x-request-id"].to_str().unwrap();
    let mut found = records(rig).await;
    found.retain(|record| record.entry.request_id.raw() == id);
    found
}

/// The intent and the outcome of a request, which are all that is recorded of it.
async fn pair(rig: &Rig, answer: &Answer) -> [AuditRecord; 2] {
    // What is sent piece by piece ends a moment after its last piece.
    wait_for("the outcome", async || of(rig, answer).await.len() != 1).await;
    let found: [AuditRecord; 2] = of(rig, answer).await.try_into().unwrap();
    let [intent, outcome] = &found;
    assert_eq!((intent.entry.kind, outcome.entry.kind), (AuditKind::Intent, AuditKind::Outcome));
    assert_eq!(outcome.entry.intent, Some(intent.seq));
    assert_eq!(outcome.entry.status, Some(answer.status.as_u16()));
    assert_eq!((&intent.entry.status, &intent.entry.action), (&None, &outcome.entry.action));
    found
}

fn targets(record: &AuditRecord) -> Vec<&str> {
    record.entry.targets.iter().map(Untrusted::raw).collect()
}

/// A fleet in which every route has something to do, and the requests that do it.
struct Stage {
    rig: Rig,
    agents: Vec<Agent>,
    made: BTreeMap<&'static str, String>,
}

impl Stage {
    async fn set() -> Self {
        let rig = Rig::start().await;
        let mut agents = Vec::new();
        for (id, seed) in [("a", 1), ("gone", 2), ("out", 3), ("back", 4)] {
            agents.push(rig.enrolled(id, seed).await);
        }
        for (id, seed) in [("in", 5), ("no", 6)] {
            agents.push(Agent::dial(&rig, id, seed, None).await);
        }
        let mut made = BTreeMap::new();
        let id = |answer: &Value| answer["id"].as_str().unwrap().to_owned();
        let key = rig.ask("POST", "/api/v1/keys", Some(json!({"kind": "enrol"}))).await;
        made.insert("key", id(&key.expect(201)));
        let wish = json!({"kind": "operator", "role": "viewer"});
        made.insert("old", id(&rig.ask("POST", "/api/v1/keys", Some(wish)).await.expect(201)));
        let command = json!({"device_id": "a", "command": "collect"});
        let command = rig.ask("POST", "/api/v1/commands", Some(command)).await;
        made.insert("command", id(&command.expect(201)));
        for name in ["pause", "cancel", "retry"] {
            let wish = json!({"devices": [Uid::new()], "command": "collect"});
            let batch = rig.ask("POST", "/api/v1/batches", Some(wish)).await;
            made.insert(name, batch.json()["id"].as_str().unwrap_or_default().to_owned());
        }
        rig.ask("DELETE", "/api/v1/devices/back", None).await.expect(200);
        Self { rig, agents, made }
    }

    fn made(&self, what: &str) -> Uid {
        self.made[what].parse().unwrap_or_else(|_| Uid::new())
    }

    /// The request that shows a route, with its body; what a page's route needs is shown elsewhere.
    fn request(&self, route: &Route) -> Option<(Route, Option<Value>)> {
        let name = str::to_owned;
        let device_key = PrivateKey::from_seed(&[9; 32]).public();
        Some(match route {
            Route::DevicePut(_) => (Route::DevicePut(name("a")), Some(json!({"name": "A"}))),
            Route::DeviceDelete(_) => (Route::DeviceDelete(name("gone")), None),
            Route::DeviceAccept(_) => {
                (Route::DeviceAccept(name("in")), Some(json!({"reason": "mine"})))
            }
            Route::DeviceReject(_) => (Route::DeviceReject(name("no")), None),
            Route::DeviceRevoke(_) => (Route::DeviceRevoke(name("out")), None),
            Route::DeviceRestore(_) => (Route::DeviceRestore(name("back")), None),
            Route::ConfigPost => (Route::ConfigPost, Some(json!({"config": {}, "comment": "c"}))),
            Route::CommandCreate => {
                let body =
                    json!({"device_id": "a", "command": "exec", "args": ["x", "s3cret-arg"]});
                (Route::CommandCreate, Some(body))
            }
            Route::CommandCancel(_) => (Route::CommandCancel(self.made("command")), None),
            Route::BatchCreate => {
                (Route::BatchCreate, Some(json!({"filter": "", "command": "collect"})))
            }
            Route::BatchPause(_) => (Route::BatchPause(self.made("pause")), None),
            Route::BatchContinue(_) => (Route::BatchContinue(self.made("pause")), None),
            Route::BatchCancel(_) => (Route::BatchCancel(self.made("cancel")), None),
            Route::BatchRetry(_) => (Route::BatchRetry(self.made("retry")), None),
            Route::DiscoverPost => (Route::DiscoverPost, Some(json!({"device_id": "nobody-1"}))),
            Route::GrantCreate => {
                let body = json!({"device_id": "new", "device_key": device_key,
                    "device_address": "127.0.0.1"});
                (Route::GrantCreate, Some(body))
            }
            Route::KeyCreate => {
                (Route::KeyCreate, Some(json!({"kind": "operator", "label": "anna"})))
            }
            Route::KeyRevoke(_) => (Route::KeyRevoke(self.made["key"].clone()), None),
            Route::KeyRotate(_) => (Route::KeyRotate(self.made["old"].clone()), None),
            Route::PreauthCreate => {
                let device = json!({"fingerprint": device_key.fingerprint()});
                (Route::PreauthCreate, Some(json!({"devices": [device]})))
            }
            Route::PreauthDelete(_) => {
                (Route::PreauthDelete(device_key.fingerprint().to_string()), None)
            }
            Route::DbPrune => (Route::DbPrune, None),
            Route::DbCompact => (Route::DbCompact, None),
            Route::ExportGet => (Route::ExportGet, None),
            Route::BackupGet => (Route::BackupGet, None),
            _ => return None,
        })
    }
}

#[tokio::test]
async fn every_route_that_changes_something_is_recorded_before_and_after() {
    let stage = Stage::set().await;
    let mut done = 0;
    for route in Route::all() {
        let is_page = !route.spec().path.starts_with("/api/");
        let Some(action) = AuditAction::of(&route).filter(|_| !is_page) else { continue };
        let (asked, body) =
            stage.request(&route).unwrap_or_else(|| panic!("no request shows {route}"));
        let query = if asked == Route::ConfigPost { "?device_id=a" } else { "" };
        let path = asked.path() + query;
        let answer = stage.rig.ask(asked.spec().method, &path, body.clone()).await;
        done += usize::from(answer.status.is_success());
        let [intent, outcome] = pair(&stage.rig, &answer).await;
        assert_eq!(intent.entry.action.raw(), action.word(), "{route}");
        let wanted = AuditActor {
            kind: "operator".into(),
            key_id: Some(key_id(&stage.rig.admin()).into()),
            label: Some("admin.key".into()),
            role: Some("admin".into()),
        };
        assert_eq!(intent.entry.actor, wanted, "{route}");
        assert_eq!((intent.entry.via.raw(), outcome.entry.via.raw()), ("key", "key"));
        assert_eq!(intent.entry.peer, Some("127.0.0.1".into()));
        assert_eq!(intent.entry.body_sha256.is_some(), body.is_some(), "{route}");
        assert!(!answer.status.is_server_error(), "{route}: {answer:?}");
    }
    assert!(done >= 17, "only {done} of the requests did something");
    drop(stage.agents);
}

#[tokio::test]
async fn a_record_says_who_what_why_and_what_came_of_it() {
    let rig = Rig::start().await;
    let _agent = rig.enrolled("a", 1).await;
    let uid = rig.ask("GET", "/api/v1/devices/a", None).await.expect(200)["uid"].clone();
    let uid = uid.as_str().unwrap();
    let admin = format!("Bearer {}", rig.admin());
    let ask = async |method: &str, path: &str, reason: &str, body: Value| {
        let headers = [
            ("authorization", admin.clone()),
            ("content-type", "application/json".to_owned()),
            ("fleetd-reason", reason.to_owned()),
        ];
        let here = std::net::Ipv4Addr::LOCALHOST.into();
        let body = body.to_string().into_bytes();
        crate::server_kit::send(rig.address(), here, method, path, &headers, body).await
    };
    let answer = ask("PUT", "/api/v1/devices/a", " ticket 4411 ", json!({"name": "A"})).await;
    let [intent, outcome] = pair(&rig, &answer).await;
    assert_eq!(targets(&intent), ["a", uid]);
    assert_eq!(intent.entry.reason, Some("ticket 4411".into()));
    assert_eq!(outcome.entry.text.raw(), "updated");
    let long = ask("PUT", "/api/v1/devices/a", &"x".repeat(201), json!({"name": "B"})).await;
    assert!(long.problem(422).contains("FleetD-Reason"));
    assert_eq!(of(&rig, &long).await, [], "nothing was done");
    let name = rig.ask("GET", "/api/v1/devices/a", None).await.expect(200)["name"].clone();
    assert_eq!(name, "A");
    // What fails is told with its detail; what is no JSON as well.
    let answer = ask("PUT", "/api/v1/devices/b", "", json!({"name": "B"})).await;
    let [_, outcome] = pair(&rig, &answer).await;
    assert_eq!(outcome.entry.text.raw(), answer.problem(404));
    // Of a command its word, and of a key its id.
    let words = json!({"device_id": "a", "command": "exec", "args": ["sh", "s3cret"]});
    let answer = ask("POST", "/api/v1/commands", "", words).await;
    let [intent, outcome] = pair(&rig, &answer).await;
    let id = answer.expect(201)["id"].as_str().unwrap().to_owned();
    assert_eq!((intent.entry.text.raw(), targets(&outcome)), ("exec", vec!["a", uid, &id]));
    let answer = rig.ask("POST", "/api/v1/keys", Some(json!({"kind": "enrol"}))).await;
    let [intent, outcome] = pair(&rig, &answer).await;
    assert_eq!(intent.entry.text.raw(), "enrol");
    assert_eq!(targets(&outcome), [answer.expect(201)["id"].as_str().unwrap()]);
    let wish = json!({
        "kind": "operator", "label": "anna", "role": "operator", "rights": ["exec"],
        "scope": "type=raspberrypi", "expires_in_secs": 3600,
    });
    let answer = rig.ask("POST", "/api/v1/keys", Some(wish)).await;
    let [intent, _] = pair(&rig, &answer).await;
    let might = "as operator with exec for type=raspberrypi ends after 3600 s";
    assert_eq!(intent.entry.text.raw(), format!("operator anna {might}"));
    let made = answer.expect(201);
    assert_eq!((&made["role"], &made["scope"]), (&json!("operator"), &json!("type=raspberrypi")));
    let wish = json!({"filter": "type=raspberrypi", "command": "collect", "reason": "weekly"});
    let answer = rig.ask("POST", "/api/v1/batches", Some(wish)).await;
    let [intent, outcome] = pair(&rig, &answer).await;
    assert_eq!(intent.entry.text.raw(), "collect, for devices with: type=raspberrypi");
    assert_eq!(intent.entry.reason, Some("weekly".into()));
    assert!(targets(&outcome).contains(&answer.expect(201)["id"].as_str().unwrap()));
    // What a request with a body in it asked for can be shown by whoever kept the body.
    let body = json!({"name": "C"});
    let answer = ask("PUT", "/api/v1/devices/a", "", body.clone()).await;
    let [intent, _] = pair(&rig, &answer).await;
    let digest = fleet_core::audit::digest(body.to_string().as_bytes());
    assert_eq!(intent.entry.body_sha256, Some(digest));
}

#[tokio::test]
async fn records_are_found_by_device_actor_action_and_time() {
    let rig = Rig::start().await;
    let _agent = rig.enrolled("a", 1).await;
    rig.ask("PUT", "/api/v1/devices/a", Some(json!({"name": "A"}))).await.expect(200);
    let anna = rig.key(json!({"kind": "operator", "label": "anna", "rights": ["delete"]})).await;
    rig.ask_with("DELETE", "/api/v1/devices/b", Some(&anna), None).await.problem(404);
    let list = async |query: &str| {
        let found = rig.ask("GET", &format!("{AUDIT}{query}"), None).await.expect(200);
        let seqs = found.as_array().unwrap().iter().map(|record| record["seq"].as_u64().unwrap());
        seqs.collect::<Vec<_>>()
    };
    let all = list("?limit=500").await;
    assert_eq!(all, (1..=all.len() as u64).rev().collect::<Vec<_>>());
    let last = all[0];
    assert_eq!(list("?actor=anna").await, [last, last - 1]);
    assert_eq!(list(&format!("?actor={}", key_id(&anna))).await, [last, last - 1]);
    assert_eq!(list("?action=device.delete").await, [last, last - 1]);
    assert_eq!(list("?action=key&actor=operator").await, [last - 2, last - 3]);
    assert_eq!(list("?action=key&actor=server").await, [1], "its admin.key");
    assert_eq!(list("?device_id=a&action=device.update").await.len(), 2);
    assert_eq!(list("?device_id=b").await, [last, last - 1]);
    assert_eq!(list(&format!("?before={last}&limit=1")).await, [last - 1]);
    assert_eq!(list("?since=2025-01-01T00:00:00Z").await, [0; 0]);
    assert_eq!(list("?until=2023-01-01T00:00:00Z").await, [0; 0]);
    let wrong = rig.ask("GET", "/api/v1/audit?action=devices", None).await.problem(422);
    assert!(wrong.contains("device.delete"), "{wrong}");
    let later = rig.ask("GET", &format!("/api/v1/audit/chain?after={}", last - 1), None).await;
    assert_eq!(String::from_utf8_lossy(&later.body).lines().count(), 3);
    rig.ask("GET", "/api/v1/audit/chain?after=99999", None).await.problem(404);
}

#[tokio::test]
async fn what_is_refused_is_recorded_up_to_a_bound() {
    let rig = Rig::start().await;
    let enrol = rig.key(json!({"kind": "enrol", "label": "line 3"})).await;
    let refused = rig.ask_with("DELETE", "/api/v1/devices/a", Some(&enrol), None).await;
    let record = of(&rig, &refused).await.remove(0);
    assert_eq!((record.entry.kind, record.entry.status), (AuditKind::Single, Some(403)));
    assert_eq!(record.entry.action.raw(), "device.delete");
    assert_eq!(record.entry.actor.to_string(), "enrol:line 3");
    assert!(record.entry.text.raw().starts_with("DELETE /api/v1/devices/a: "), "{record:?}");
    let refused = rig.ask_with("GET", "/api/v1/keys", Some(&enrol), None).await;
    assert_eq!(of(&rig, &refused).await[0].entry.action.raw(), "access.refused");
    // A key that is not known, and one that has ended; but not whoever has none.
    let strange = rig.ask_with("GET", "/api/v1/keys", Some("flt_op_x"), None).await;
    assert_eq!(of(&rig, &strange).await[0].entry.actor.kind.raw(), "nobody");
    let ended = rig.key(json!({"kind": "operator"})).await;
    let path = format!("/api/v1/keys/{}", key_id(&ended));
    rig.ask("DELETE", &path, None).await.expect(200);
    let refused = rig.ask_with("PUT", "/api/v1/devices/a", Some(&ended), None).await;
    let record = of(&rig, &refused).await.remove(0);
    assert_eq!(record.entry.actor.key_id, Some(key_id(&ended).into()));
    assert!(record.entry.text.raw().contains("the key was revoked"), "{record:?}");
    let nobody = rig.ask_with("PUT", "/api/v1/devices/a", None, None).await;
    assert_eq!((nobody.status.as_u16(), of(&rig, &nobody).await), (401, Vec::new()));
    for _ in 0..30 {
        rig.ask_with("DELETE", "/api/v1/devices/a", Some(&enrol), None).await.problem(403);
    }
    let singles = records(&rig).await.into_iter().filter(|it| it.entry.kind == AuditKind::Single);
    let by_enrol = singles.filter(|it| it.entry.actor.kind.raw() == "enrol").count();
    assert_eq!(by_enrol, 10);
}

#[tokio::test]
async fn devices_that_come_are_recorded() {
    let rig = Rig::start().await;
    let enrol = rig.key(json!({"kind": "enrol"})).await;
    let agents = [
        Agent::dial(&rig, "a", 1, Some(&enrol)).await,
        Agent::dial(&rig, "b", 2, None).await,
        Agent::dial(&rig, "a", 3, Some(&enrol)).await,
        Agent::dial(&rig, "b", 2, None).await,
    ];
    assert!(matches!(agents[0].standing, Standing::Active { .. }));
    let mut told = records(&rig).await;
    told.retain(|record| record.entry.action.raw() == "device.enrol");
    let texts: Vec<_> = told.iter().map(|record| record.entry.text.raw()).collect();
    assert_eq!(texts.len(), 4, "{texts:?}");
    for (text, part) in texts.iter().zip([
        "enrolled with the key",
        "device.enrolled: enrolled with the key",
        "device.pending: waits for an operator: nobody has vouched",
        "device.pending: waits for an operator: another device is called a",
    ]) {
        assert!(text.starts_with(part), "{text}");
    }
    let fingerprint = PrivateKey::from_seed(&[3; 32]).public().fingerprint().to_string();
    assert_eq!(told[3].entry.actor.key_id, Some(fingerprint.into()));
    let [intent, outcome] = &told[..2] else { panic!("{told:?}") };
    assert_eq!((intent.entry.kind, outcome.entry.intent), (AuditKind::Intent, Some(intent.seq)));
    assert_eq!((targets(intent).len(), targets(outcome).len()), (1, 2));
    assert_eq!((told[3].entry.via.raw(), told[3].entry.actor.kind.raw()), ("link", "device"));
}

#[tokio::test]
async fn the_pages_forms_are_recorded_where_they_change_something() {
    let rig = Rig::start().await;
    let _agent = rig.enrolled("pump-1", 1).await;
    let mut browser = Browser::new(&rig);
    let wrong = rig.admin().replace("flt_op_", "flt_op_x");
    let refused = browser.sign_in(&wrong, "/").await;
    let record = of(&rig, &refused).await.remove(0);
    assert_eq!((record.entry.action.raw(), record.entry.status), ("session.begin", Some(401)));
    let signed_in = browser.sign_in(&rig.admin(), "/").await;
    let [intent, _] = pair(&rig, &signed_in).await;
    assert_eq!((intent.entry.action.raw(), intent.entry.via.raw()), ("session.begin", "key"));
    assert_eq!(intent.entry.body_sha256, None, "a form with a key in it leaves nothing");

    const NOTES: &str = "/devices/pump-1/metadata";
    let token = browser.token(NOTES).await;
    let fields = [("token", token.as_str()), ("name", "Pump"), ("had-name", "")];
    let stored = browser.post(NOTES, &fields).await;
    assert_eq!(stored.status, 303, "{stored:?}");
    let [intent, outcome] = pair(&rig, &stored).await;
    assert_eq!((intent.entry.action.raw(), intent.entry.via.raw()), ("device.update", "session"));
    assert_eq!(targets(&intent)[0], "pump-1");
    assert!(intent.entry.body_sha256.is_some());
    assert_eq!(outcome.entry.text.raw(), "done");

    const CONFIG: &str = "/devices/pump-1/config";
    let page = crate::page_kit::text(&browser.get(CONFIG).await);
    let field = |page: &str, name: &str| {
        crate::page_kit::between(page, &format!("name=\"{name}\" value=\""), "\"").to_owned()
    };
    let (token, seen) = (field(&page, "token"), field(&page, "seen"));
    let document = "{\"telemetry\":{\"interval\":30}}";
    let draft = [
        ("token", token.as_str()),
        ("seen", seen.as_str()),
        ("document", document),
        ("comment", "quieter"),
    ];
    let look = browser.post(CONFIG, &[&draft[..], &[("action", "look")]].concat()).await;
    assert_eq!(of(&rig, &look).await, [], "a look changes nothing");
    let shown = field(&crate::page_kit::text(&look), "shown");
    let save = [&draft[..], &[("action", "save"), ("shown", &shown)]].concat();
    let saved = browser.post(CONFIG, &save).await;
    assert_eq!(saved.status, 303, "{saved:?}");
    let [intent, _] = pair(&rig, &saved).await;
    assert_eq!(intent.entry.action.raw(), "config.set");
    assert_eq!(intent.entry.reason, Some("quieter".into()));

    let token = browser.token("/devices/pump-1").await;
    let out = browser.post("/sign-out", &[("token", &token)]).await;
    let [intent, _] = pair(&rig, &out).await;
    assert_eq!((intent.entry.action.raw(), intent.entry.via.raw()), ("session.end", "session"));
    let again = browser.post("/sign-out", &[("token", &token)]).await;
    assert_eq!(of(&rig, &again).await, []);
}

/// All that the database's file holds.
fn holds(path: &Path, text: &str) -> bool {
    let bytes = std::fs::read(path).unwrap();
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

#[tokio::test]
async fn no_secret_is_in_it() {
    let mut stage = Stage::set().await;
    let rig = &stage.rig;
    let made = rig.key(json!({"kind": "operator", "label": "canary"})).await;
    let mut browser = Browser::signed_in(rig, &made).await;
    let reason = format!("look, my key is {made}");
    let verdict = json!({"reason": reason});
    rig.ask("POST", "/api/v1/devices/in/accept", Some(verdict)).await.expect(200);
    let config = json!({"config": {"telemetry": {"interval": "s3cret-value"}}});
    rig.ask("POST", "/api/v1/config?device_id=a", Some(config)).await;
    let exec = json!({"device_id": "a", "command": "exec s3cret-arg"});
    rig.ask("POST", "/api/v1/commands", Some(exec)).await.expect(201);
    let odd = json!({"device_id": "a", "command": "s3cret-word"});
    rig.ask("POST", "/api/v1/commands", Some(odd)).await;
    rig.ask_with("GET", "/api/v1/keys", Some(&made.replace("@FD1", "x@FD1")), None).await;
    browser.get("/").await;
    let told = rig.ask("GET", "/api/v1/audit/chain", None).await;
    let told = String::from_utf8(told.body.to_vec()).unwrap();
    let secret = |key: &str| {
        let bare = key.split('@').next().unwrap();
        bare.splitn(4, '_').last().unwrap().to_owned()
    };
    let cookie = browser.cookie("session").unwrap().to_owned();
    let (made, admin) = (secret(&made), secret(&rig.admin()));
    let texts = ["s3cret-value", "s3cret-arg", "s3cret-word"];
    for text in [&*made, &*admin, &*cookie].iter().chain(&texts) {
        assert!(text.len() > 8 && !told.contains(text), "{text} is in the record");
    }
    // What is wrong is told by its place alone.
    assert!(told.contains("\"command is not right\""), "{told}");
    assert!(told.contains("look, my key is "), "what else was said is there");
    stage.rig.stop().await;
    assert!(holds(&stage.rig.database(), "(no command)"), "records are found in the file");
    for text in [&admin, &cookie] {
        assert!(!holds(&stage.rig.database(), text), "{text} is in the file");
    }
}

/// Does something to the records in a database that no server has open.
fn tamper(database: &Path, work: impl FnOnce(&mut redb::Table<'_, &[u8], &[u8]>)) {
    let database = redb::Database::create(database).unwrap();
    let txn = database.begin_write().unwrap();
    work(&mut txn.open_table(TABLE).unwrap());
    txn.commit().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t35_whoever_changes_the_record_is_found_out() {
    let mut desk = Desk::new().await;
    desk.rig.enrolled("a", 1).await;
    desk.fleets(&["devices", "set", "a", "site=lyon", "--reason", "ticket 1"]).ends(0);
    let mut command = desk.command(&["devices", "set", "a", "site=nice"]);
    let set = command.env("FLEETD_REASON", "ticket 2").output().unwrap();
    crate::cli_kit::Said::of(&set).ends(0);
    let listed = desk.fleets(&["audit", "--action", "device.update", "-o", "json"]).ends(0).out;
    let listed: Vec<AuditRecord> = serde_json::from_str(&listed).unwrap();
    let reasons: Vec<_> = listed.iter().filter_map(|it| it.entry.reason.clone()).collect();
    assert_eq!(reasons, ["ticket 2".into(), "ticket 1".into()]);
    desk.fleets(&["audit", "--actor", "no-such-key"]).ends(5);
    let whole = desk.fleets(&["audit", "verify", "-o", "json"]).ends(0).out;
    let whole: Value = serde_json::from_str(&whole).unwrap();
    let last = whole["last"].as_u64().unwrap();
    assert_eq!((&whole["first"], &whole["open"]), (&json!(1), &json!(0)));
    assert_eq!(whole["signed_seq"], last);
    let enrol = desk.rig.key(json!({"kind": "enrol"})).await;
    let args = ["audit", "verify", "--server", &desk.url, "--api-key", &enrol];
    desk.bare(&args).refuses(4, &["enrolment key"]);

    let database = desk.rig.database();
    desk.rig.stop().await;
    let file = database.to_str().unwrap();
    let offline = ["audit", "verify", "--database", file];
    let said = desk.bare(&offline).ends(0);
    let last_of_all = said.out.lines().find_map(|line| line.strip_prefix("Last:"));
    let last_of_all = last_of_all.and_then(|text| text.trim().parse::<u64>().ok());
    assert!(last_of_all > Some(last) && !said.err.contains("not signed"), "{said:?}");
    let kept = std::fs::read(&database).unwrap();
    for (name, gone) in [("one in the midst", 4_u64), ("the first", 1)] {
        std::fs::write(&database, &kept).unwrap();
        tamper(&database, |table| {
            table.remove(gone.to_be_bytes().as_slice()).unwrap();
        });
        desk.bare(&offline).refuses(1, &[&format!("record {gone} is missing")]);
        desk.restart(async |_| {}).await;
        let said = desk.fleets(&["audit", "verify"]);
        said.refuses(1, &[&format!("record {gone} is missing")]);
        assert_eq!(desk.fleets(&["audit"]).ends(0).err, "", "{name}: the rest is listed");
        desk.rig.stop().await;
    }
    // Cut off at the end: what the server adds then is not what it signed.
    std::fs::write(&database, &kept).unwrap();
    tamper(&database, |table| {
        let newest = table.last().unwrap().unwrap().0.value().to_vec();
        table.remove(newest.as_slice()).unwrap();
    });
    desk.bare(&offline).refuses(1, &["is missing"]);
    desk.restart(async |_| {}).await;
    desk.fleets(&["devices", "delete", "a", "--yes"]).ends(0);
    desk.fleets(&["audit", "verify"]).refuses(1, &["not the one that the server signed"]);
    // Another server's word counts for nothing.
    desk.rig.stop().await;
    std::fs::write(&database, &kept).unwrap();
    let other = Rig::start().await;
    std::fs::copy(other.server().admin_path(), database.with_file_name("admin.key")).unwrap();
    desk.bare(&offline).refuses(1, &["not by the server"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restored_backup_has_the_record_and_one_that_was_changed_is_told() {
    let mut desk = Desk::new().await;
    desk.rig.enrolled("a", 1).await;
    let (good, bad) = (desk.path("good.backup"), desk.path("bad.backup"));
    desk.fleets(&["backup", "create", "--out", good.to_str().unwrap()]).ends(0);
    desk.bare(&["backup", "verify", good.to_str().unwrap()]).ends(0);
    let restored = desk.path("restored/fleet.db");
    let restored = restored.to_str().unwrap();
    desk.bare(&["backup", "restore", good.to_str().unwrap(), "--database", restored]).ends(0);
    desk.bare(&["audit", "verify", "--database", restored]).ends(0);
    let database = desk.rig.database();
    desk.rig.stop().await;
    tamper(&database, |table| {
        table.remove(2_u64.to_be_bytes().as_slice()).unwrap();
    });
    let args = ["backup", "create", "--out", bad.to_str().unwrap(), "--database"];
    desk.bare(&[&args[..], &[database.to_str().unwrap()]].concat()).ends(0);
    let said = desk.bare(&["backup", "verify", bad.to_str().unwrap()]).ends(1);
    assert!(said.err.contains("record 2 is missing"), "{said:?}");
}

/// How many records there are in a file.
fn count(path: &Path) -> usize {
    let database = redb::Database::create(path).unwrap();
    database.begin_read().unwrap().open_table(TABLE).unwrap().iter().unwrap().count()
}

#[tokio::test]
async fn an_orderly_stop_signs_the_record_and_reading_writes_nothing_more() {
    let mut rig = Rig::start().await;
    rig.ask("GET", "/api/v1/devices", None).await.expect(200);
    rig.key(json!({"kind": "enrol"})).await;
    wait_for("an answer", async || rig.ask("GET", "/health", None).await.status == 200).await;
    rig.stop().await;
    assert_eq!(count(&rig.database()), 3, "the server's own key, and one pair");
    rig.restart().await;
    let newest = records(&rig).await;
    assert_eq!(newest.len(), 3);
}
