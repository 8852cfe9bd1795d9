//! Backups of a server that goes on, and servers that are started on them.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use data_encoding::BASE64URL_NOPAD;
use fleet_core::metric::Sample;
use fleet_core::wire::{QueuedReport, Samples, Standing, ToAgent, ToServer};
use fleet_server::config::ServerConfig;
use serde_json::{Value, json};

use crate::cli_kit::Desk;
use crate::export_kit::fill;
use crate::page_kit::Browser;
use crate::server_kit::{Agent, Answer, wait_for};

/// Reports that [`report_on`] sends at most: their times must be believed, and differ.
const REPORTS_MAX: u64 = 9_000;

/// Sends reports until told to stop, and counts those that are acknowledged. The value of each is
/// its number.
async fn report_on(mut agent: Agent, acknowledged: &AtomicU64, stop: &AtomicBool) {
    for seq in 1..REPORTS_MAX {
        if stop.load(Ordering::SeqCst) {
            return;
        }
        let at_millis = 1_705_314_595_500 + i64::try_from(seq).unwrap();
        let samples = vec![Sample::new("cpu_usage", seq as f64)];
        let report = QueuedReport { seq, at_millis, age_millis: 0, samples };
        agent.say(&ToServer::Samples(Samples { stream: [1; 16], reports: vec![report] })).await;
        while !matches!(agent.next().await, ToAgent::Ack { seq: stored, .. } if stored == seq) {}
        acknowledged.store(seq, Ordering::SeqCst);
    }
}

/// A server on what was restored, which a request can be sent to.
async fn started(desk: &Desk, folder: &Path) -> Restored {
    let config = ServerConfig { database: folder.join("fleet.db"), ..desk.rig.config() };
    let server = desk.rig.launch(config).await.unwrap();
    let admin = fs::read_to_string(server.admin_path()).unwrap().trim().to_owned();
    Restored { server, admin }
}

struct Restored {
    server: fleet_server::app::Server,
    admin: String,
}

impl Restored {
    async fn ask(&self, path: &str) -> Answer {
        let headers = [("authorization", format!("Bearer {}", self.admin))];
        let here = std::net::Ipv4Addr::LOCALHOST.into();
        crate::server_kit::send(self.server.address(), here, "GET", path, &headers, Vec::new())
            .await
    }

    async fn values(&self, device: &str, metric: &str) -> Vec<u64> {
        let path =
            format!("/api/v1/telemetry/metrics?device_id={device}&metric={metric}&limit=10000");
        let points = self.ask(&path).await.expect(200);
        let value = |point: &Value| point["value"].as_f64().unwrap() as u64;
        points.as_array().unwrap().iter().rev().map(value).collect()
    }
}

/// What a server stores of a session's cookie.
fn session_hash(cookie: &str) -> Vec<u8> {
    let secret = BASE64URL_NOPAD.decode(cookie.as_bytes()).unwrap();
    let text = [b"fleetd page session", &secret[..]].concat();
    ring::digest::digest(&ring::digest::SHA256, &text).as_ref().to_vec()
}

fn holds(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

/// Whether a browser with this cookie sees the fleet.
async fn is_signed_in(desk: &Desk, cookie: &str) -> bool {
    let mut browser = Browser::signed_in(&desk.rig, &desk.rig.admin()).await;
    browser.put_cookie("session", cookie);
    browser.get("/").await.status == 200
}

/// Puts the one file that a backup does not hold where it is looked for.
fn bring_secret(desk: &Desk, folder: &Path) {
    let secret = desk.rig.database().with_file_name("secret.key");
    fs::copy(secret, folder.join("secret.key")).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_before_is_in_a_backup_of_a_server_that_takes_in_more() {
    let mut desk = Desk::new().await;
    desk.restart(async |database| fill(database, 2_000).await).await;
    let agent = desk.rig.enrolled("busy", 1).await;
    let (acknowledged, stop) = (AtomicU64::new(0), AtomicBool::new(false));
    let count = || acknowledged.load(Ordering::SeqCst);
    let backing_up = async {
        for round in 0..4 {
            // Enough that devices are sealed, and files of the log let go of, meanwhile.
            wait_for("more reports", async || count() > round * 400).await;
            let before = count();
            let file = desk.path(&format!("{round}.backup"));
            let folder = desk.path(&format!("restored-{round}"));
            let (file, folder_text) = (file.to_str().unwrap(), folder.join("fleet.db"));
            let mut command = desk.command(&["backup", "create", "--out", file, "--json"]);
            let output = tokio::task::spawn_blocking(move || command.output().unwrap());
            // What removes and moves chunks goes on beside it.
            let compact = desk.rig.ask("POST", "/api/v1/db/compact", None);
            let (output, compacted) = tokio::join!(output, compact);
            compacted.expect(200);
            let output = output.unwrap();
            assert!(output.status.success(), "{output:?}");
            let after = count();
            let mode = fs::metadata(file).unwrap().permissions().mode() & 0o777;
            assert_eq!(mode, 0o600);
            let verified = desk.bare(&["backup", "verify", file, "--json"]).ends(0);
            let verified: Value = serde_json::from_str(&verified.out).unwrap();
            let database = folder_text.to_str().unwrap();
            desk.bare(&["backup", "restore", file, "--database", database]).ends(0);
            bring_secret(&desk, &folder);
            let restored = started(&desk, &folder).await;
            let found = restored.values("busy", "cpu_usage").await;
            assert!(found.iter().copied().eq(1..=found.len() as u64), "each once: {found:?}");
            let all = before..=after + 1;
            assert!(all.contains(&(found.len() as u64)), "{} of {all:?}", found.len());
            assert!(restored.values("much", "metric_3").await.iter().copied().eq(0..2_000));
            let db = restored.ask("/api/v1/db").await.expect(200);
            assert_eq!(db["telemetry"]["reports"], verified["reports"]);
            restored.ask("/health/ready").await.expect(200);
            restored.server.stop().await;
        }
        stop.store(true, Ordering::SeqCst);
    };
    tokio::join!(report_on(agent, &acknowledged, &stop), backing_up);
}

/// A server with something of everything.
async fn quiet() -> Desk {
    let mut desk = Desk::new().await;
    desk.add("pump-1", 20.0, "eu-west canary").await;
    desk.add("pump-2", 0.5, "eu-west").await;
    for interval in [30, 40] {
        let config = json!({"config": {"telemetry": {"interval": interval}}, "comment": "c"});
        desk.rig.ask("POST", "/api/v1/config?device_id=pump-1", Some(config)).await.expect(200);
    }
    desk.rig.key(json!({"kind": "enrol", "label": "line 4"})).await;
    desk
}

/// All that a server tells of itself and has not forgotten.
const PATHS: [&str; 6] = [
    "/api/v1/devices",
    "/api/v1/keys",
    "/api/v1/config?device_id=pump-1",
    "/api/v1/identity",
    "/api/v1/telemetry/metrics?device_id=pump-1&metric=cpu_usage",
    "/api/v1/events?kind=device,config,key",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restored_server_is_the_same_server() {
    let mut desk = quiet().await;
    let file = desk.path("one.backup");
    let file = file.to_str().unwrap().to_owned();
    let session = Browser::signed_in(&desk.rig, &desk.rig.admin()).await;
    let session = session.cookie("session").unwrap().to_owned();
    let said = desk.fleets(&["backup", "create", "--out", &file]).ends(0);
    assert!(said.err.contains("secret.key") && said.out.contains("fleet.db"), "{said:#?}");
    let events = desk.rig.ask("GET", "/api/v1/events?kind=db.backed_up", None).await.expect(200);
    assert_eq!(events.as_array().unwrap().len(), 1, "{events}");
    let identity = desk.rig.server().identity();
    // As it is when it starts anew: nobody is connected.
    let hash = session_hash(&session);
    desk.restart(async |database| {
        let is_in = |file: &Path| holds(&fs::read(file).unwrap(), &hash);
        assert!(is_in(database) && !is_in(Path::new(&file)), "a session is not backed up");
    })
    .await;
    assert!(is_signed_in(&desk, &session).await, "here it goes on");
    let mut told = Vec::new();
    for path in PATHS {
        told.push(desk.rig.ask("GET", path, None).await.expect(200));
    }
    // The old server is gone for good, and so are its files; secret.key was kept elsewhere.
    let folder = desk.path("new/deep");
    let database = folder.join("fleet.db");
    desk.bare(&["backup", "restore", &file, "--database", database.to_str().unwrap()]).ends(0);
    let mut names: Vec<_> =
        fs::read_dir(&folder).unwrap().map(|it| it.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["fleet.db", "srv.key", "telemetry"]);
    assert_eq!(fs::metadata(&folder).unwrap().permissions().mode() & 0o777, 0o700);
    assert_eq!(fs::metadata(&database).unwrap().permissions().mode() & 0o777, 0o600);
    let config = ServerConfig { database: database.clone(), ..desk.rig.config() };
    let refused = desk.rig.launch(config.clone()).await.err().unwrap();
    assert!(refused.to_string().contains("secret.key is missing"), "{refused}");
    bring_secret(&desk, &folder);
    fs::copy(desk.key_file(), folder.join("admin.key")).unwrap();

    let restored = started(&desk, &folder).await;
    assert_eq!(restored.server.identity(), identity);
    for (path, told) in PATHS.iter().zip(&told) {
        assert_eq!(&restored.ask(path).await.expect(200), told, "{path}");
    }
    restored.server.stop().await;
    // A device finds its server again, by the server's key and its own.
    desk.rig.stop().await;
    fs::remove_dir_all(desk.rig.database().parent().unwrap()).unwrap();
    fs::rename(&folder, desk.rig.database().parent().unwrap()).unwrap();
    desk.restart(async |_| {}).await;
    let mut agent = Agent::dial(&desk.rig, "pump-1", 1, None).await;
    assert!(matches!(agent.standing, Standing::Active { .. }), "{:?}", agent.standing);
    assert!(matches!(agent.next().await, ToAgent::Config(push) if push.version == 2));
    // What it sent before the backup counts as sent.
    agent.report(1, &[1, 2], 21.0).await;
    let path = "/api/v1/telemetry/metrics?device_id=pump-1&metric=cpu_usage";
    let points = desk.rig.ask("GET", path, None).await.expect(200);
    assert_eq!(points.as_array().unwrap().len(), 2, "{points}");
    assert!(!is_signed_in(&desk, &session).await, "it was left out");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_closed_database_gives_the_same_backup() {
    let mut desk = quiet().await;
    desk.restart(async |database| fill(database, 1_000).await).await;
    let home = desk.path("");
    let path = |name: &str| home.join(name).to_str().unwrap().to_owned();
    let (on, off) = (path("on.backup"), path("off.backup"));
    desk.fleets(&["backup", "create", "--out", &on]).ends(0);
    let database = path("data/fleet.db");
    let offline = ["backup", "create", "--out", &off, "--database", &database, "--json"];
    desk.bare(&offline).refuses(6, &["in use by another fleets server", "leave --database out"]);
    desk.rig.stop().await;
    desk.bare(&offline).ends(0);
    let summary = |file: &str| -> Value {
        let said = desk.bare(&["backup", "verify", file, "--json"]).ends(0);
        serde_json::from_str(&said.out).unwrap()
    };
    let (on, off) = (summary(&on), summary(&off));
    for field in ["server", "database", "release", "reports"] {
        assert_eq!(on[field], off[field], "{field}: {on} {off}");
    }
    assert_eq!(on["reports"], 1_002);
    // Into a folder, under a name that says when.
    let folder = path("backups");
    fs::create_dir(&folder).unwrap();
    desk.bare(&["backup", "create", "--out", &folder, "--database", &database]).ends(0);
    let name = fs::read_dir(&folder).unwrap().next().unwrap().unwrap().file_name();
    let name = name.to_str().unwrap();
    assert!(name.starts_with("fleetd-20") && name.ends_with("Z.backup"), "{name}");
    let missing = desk.bare(&["backup", "create", "--database", "nowhere.db", "--out", &folder]);
    missing.refuses(5, &["there is no database"]);
}
