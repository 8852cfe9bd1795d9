//! Exports that cannot be finished: nothing is left of them, and nobody else suffers.

use std::fs;
use std::io::Read as _;
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};

use crate::cli_kit::{Desk, Said};
use crate::export_kit::{Bridge, Fate, fill, value};
use crate::server_kit::{BOUND, Rig, key_id, wait_for};

/// Reports of a device, of ten samples each: several megabytes on the wire.
const REPORTS: i64 = 4_000;
/// What has come by when an export is interrupted.
const MIDST_BYTES: u64 = 1_000_000;

async fn desk() -> Desk {
    let mut desk = Desk::new().await;
    desk.restart(async |database| fill(database, REPORTS).await).await;
    desk
}

/// Everything in a folder, with what is in the folders in it.
fn names(folder: &Path) -> Vec<String> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        names.push(entry.file_name().into_string().unwrap());
        if entry.file_type().unwrap().is_dir() {
            names.extend(self::names(&entry.path()));
        }
    }
    names.sort();
    names
}

/// `fleets export` over a bridge, into a folder of its own.
fn export_over(desk: &Desk, bridge: &Bridge, form: &str) -> Child {
    let (url, key) = (format!("http://{}", bridge.address), format!("@{}", desk.key_file()));
    let out = desk.path("out/export");
    let args =
        ["export", form, "--out", out.to_str().unwrap(), "--server", &url, "--api-key", &key];
    let mut command = desk.bare_command(&args);
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

async fn finished(child: Child) -> Said {
    let output = tokio::task::spawn_blocking(move || child.wait_with_output().unwrap());
    Said::of(&tokio::time::timeout(BOUND, output).await.expect("it ends in time").unwrap())
}

fn signal(child: &Child, signal: Signal) {
    kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), signal).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_export_that_breaks_off_leaves_nothing() {
    let desk = desk().await;
    fs::create_dir(desk.path("out")).unwrap();
    for form in ["sqlite", "csv", "ndjson"] {
        for bytes in [0, 3_000, MIDST_BYTES] {
            let bridge = Bridge::to(desk.rig.address(), bytes, Fate::Closes).await;
            let said = finished(export_over(&desk, &bridge, form)).await;
            assert_eq!(said.code, Some(7), "{form} {bytes}: {said:#?}");
            assert_eq!(names(&desk.path("out")), [""; 0], "{form} {bytes}");
        }
        // Without the fault it is there.
        let bridge = Bridge::to(desk.rig.address(), u64::MAX, Fate::Closes).await;
        finished(export_over(&desk, &bridge, form)).await.ends(0);
        assert!(bridge.passed() > MIDST_BYTES * 2, "{}", bridge.passed());
        let out = desk.path("out/export");
        assert!(out.exists() && !desk.path("out/export.part").exists());
        if form == "csv" { fs::remove_dir_all(out).unwrap() } else { fs::remove_file(out).unwrap() }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_stops_ends_its_exports() {
    let mut desk = desk().await;
    fs::create_dir(desk.path("out")).unwrap();
    let bridge = Bridge::to(desk.rig.address(), MIDST_BYTES, Fate::Stalls).await;
    let child = export_over(&desk, &bridge, "sqlite");
    wait_for("the midst of the export", async || bridge.passed() == MIDST_BYTES).await;
    let stopping = Instant::now();
    desk.rig.stop().await;
    assert!(stopping.elapsed() < Duration::from_secs(15), "{:?}", stopping.elapsed());
    drop(bridge);
    let said = finished(child).await.ends(7);
    assert!(said.err.contains("broke off"), "{said:#?}");
    assert_eq!(names(&desk.path("out")), [""; 0]);
}

/// An export, tried until the server has noticed that those before it have ended.
async fn once_there_is_a_place(desk: &Desk, bridge: &Bridge, form: &str) -> Said {
    let start = Instant::now();
    loop {
        let said = finished(export_over(desk, bridge, form)).await;
        if !said.err.contains("exports are being made") {
            return said;
        }
        assert!(start.elapsed() < BOUND, "waited too long for a place: {said:#?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_person_may_interrupt_it_and_what_a_killed_one_leaves_is_no_obstacle() {
    let desk = desk().await;
    fs::create_dir(desk.path("out")).unwrap();
    for (form, left) in [("sqlite", 1), ("csv", 7), ("ndjson", 1)] {
        let bridge = Bridge::to(desk.rig.address(), MIDST_BYTES, Fate::Stalls).await;
        let child = export_over(&desk, &bridge, form);
        wait_for("the midst of the export", async || bridge.passed() == MIDST_BYTES).await;
        assert_eq!(names(&desk.path("out")).len(), left, "{form}");
        signal(&child, Signal::SIGINT);
        let said = finished(child).await.ends(130);
        assert_eq!(said.err, "error: interrupted\n");
        assert_eq!(names(&desk.path("out")), [""; 0], "{form}");

        drop(bridge);
        let bridge = Bridge::to(desk.rig.address(), MIDST_BYTES, Fate::Stalls).await;
        let mut child = export_over(&desk, &bridge, form);
        wait_for("the midst of the export", async || bridge.passed() == MIDST_BYTES).await;
        // It is in the making, so nobody else may make it.
        let second = Bridge::to(desk.rig.address(), u64::MAX, Fate::Closes).await;
        let said = once_there_is_a_place(&desk, &second, form).await.ends(6);
        assert!(said.err.contains("another export is being made"), "{said:#?}");
        signal(&child, Signal::SIGKILL);
        child.wait().unwrap();
        drop(bridge);
        assert!(desk.path("out/export.part").exists() && !desk.path("out/export").exists());
        once_there_is_a_place(&desk, &second, form).await.ends(0);
        assert!(!desk.path("out/export.part").exists());
        let out = desk.path("out/export");
        if form == "csv" { fs::remove_dir_all(out).unwrap() } else { fs::remove_file(out).unwrap() }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_replaced_but_an_export_and_that_only_when_wanted() {
    let desk = desk().await;
    let path = desk.path("a.sqlite");
    let export = |args: &[&str]| {
        desk.fleets(&[&["export", "sqlite", "--out", path.to_str().unwrap()], args].concat())
    };
    export(&["--table", "devices"]).ends(0);
    let before = fs::read(&path).unwrap();
    export(&[]).refuses(6, &["exists already", "--force"]);
    assert_eq!(fs::read(&path).unwrap(), before);
    export(&["--force"]).ends(0);
    assert_eq!(value::<i64>(&path, "SELECT COUNT(*) FROM telemetry"), REPORTS * 10);
    let database = desk.rig.database();
    for precious in [database.clone(), database.with_file_name("admin.key")] {
        let before = fs::read(&precious).unwrap();
        for form in ["sqlite", "csv", "ndjson"] {
            let out = precious.to_str().unwrap();
            let said = desk.fleets(&["export", form, "--force", "--out", out]);
            said.refuses(6, &["is not an export"]);
        }
        assert_eq!(fs::read(&precious).unwrap().len(), before.len());
    }
    let folder = database.parent().unwrap().to_str().unwrap();
    desk.fleets(&["export", "csv", "--force", "--out", folder]).refuses(6, &["is not an export"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_damaged_is_left_out_and_told() {
    let mut desk = Desk::new().await;
    desk.restart(async |database| {
        fill(database, REPORTS).await;
        let folder = database.with_file_name("telemetry");
        let chunks = names(&folder).into_iter().find(|name| name.starts_with("chunks-")).unwrap();
        let mut bytes = fs::read(folder.join(&chunks)).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(folder.join(&chunks), bytes).unwrap();
    })
    .await;
    let path = desk.path("a.sqlite");
    let said = desk.fleets(&["export", "sqlite", "--out", path.to_str().unwrap()]).ends(1);
    assert!(said.err.contains("what is damaged was left out: telemetry is damaged"), "{said:#?}");
    let rows = value::<i64>(&path, "SELECT COUNT(*) FROM telemetry");
    assert!(0 < rows && rows < REPORTS * 10, "{rows}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_output_that_takes_nothing_is_told_and_one_that_has_enough_is_not() {
    let desk = desk().await;
    let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    for form in [&["ndjson", "--out", "-"][..], &["csv", "--out", "-", "--table", "telemetry"]] {
        let mut command = desk.command(&[&["export"], form].concat());
        command.stdout(full.try_clone().unwrap());
        let said = Said::of(&command.output().unwrap()).ends(1);
        assert!(said.err.contains("cannot write the output: No space left"), "{said:#?}");

        let mut command = desk.command(&[&["export"], form].concat());
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut stdout = child.stdout.take().unwrap();
        stdout.read_exact(&mut [0; 1_000]).unwrap();
        drop(stdout);
        let said = finished(child).await.ends(0);
        assert_eq!(said.err, "");
    }
}

/// An export over plain HTTP whose reader takes little at a time.
struct Lazy(TcpStream);

impl Lazy {
    /// Asks, and reads no more than that it was answered so.
    async fn ask(rig: &Rig, key: &str, status: u16) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(64 * 1024).unwrap();
        socket.bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        let mut stream = socket.connect(rig.address()).await.unwrap();
        let head = format!(
            "GET /api/v1/export HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\n\
             Connection: close\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut begun = [0; 12];
        stream.read_exact(&mut begun).await.unwrap();
        assert_eq!(String::from_utf8_lossy(&begun), format!("HTTP/1.1 {status}"));
        Self(stream)
    }

    /// Reads to the end, with a pause after each hundred thousand bytes; whether the export was
    /// whole.
    async fn ends_whole(mut self, pause: Duration) -> bool {
        let mut end = Vec::new();
        let mut buffer = vec![0; 64 * 1024];
        let mut bytes = 0;
        let reading = async {
            // A reset is as good an end as any.
            while let Ok(read) = self.0.read(&mut buffer).await
                && read > 0
            {
                end.extend_from_slice(&buffer[..read]);
                end.drain(..end.len().saturating_sub(1_000));
                bytes += read;
                if bytes > 100_000 {
                    bytes = 0;
                    tokio::time::sleep(pause).await;
                }
            }
        };
        tokio::time::timeout(BOUND, reading).await.expect("the export ends in time");
        String::from_utf8_lossy(&end).contains("{\"table\":\"end\",\"error\":null")
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_that_take_little_hold_up_nobody_and_are_few() {
    let mut rig = Rig::start_patient().await;
    rig.restart_patient(async |database| fill(database, 3 * REPORTS).await).await;
    let admin = rig.admin();
    let first = Lazy::ask(&rig, &admin, 200).await;
    let second = Lazy::ask(&rig, &admin, 200).await;
    let refused = rig.ask("GET", "/api/v1/export", None).await;
    let detail = refused.problem(503);
    assert!(detail.contains("2 exports are being made"), "{detail}");
    assert_eq!(refused.headers["retry-after"], "10");
    // What is not taken does not lie in the way of what comes in.
    let sample = json!({"device_id": "much", "metric_name": "new", "value": 1});
    rig.ask("POST", "/api/v1/telemetry", Some(sample)).await.expect(201);
    rig.ask("GET", "/api/v1/devices", None).await.expect(200);
    assert!(first.ends_whole(Duration::ZERO).await);
    drop(second);
    wait_for("a place", async || {
        rig.ask("GET", "/api/v1/export?tables=devices", None).await.status == 200
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_takes_nothing_is_shown_out() {
    let mut rig = Rig::start().await;
    rig.restart_patient(async |database| fill(database, 3 * REPORTS).await).await;
    rig.restart().await;
    let lazy = [Lazy::ask(&rig, &rig.admin(), 200).await, Lazy::ask(&rig, &rig.admin(), 200).await];
    wait_for("a place", async || {
        rig.ask("GET", "/api/v1/export?tables=devices", None).await.status == 200
    })
    .await;
    let [first, second] = lazy.map(|lazy| lazy.ends_whole(Duration::ZERO));
    assert!(!(first.await && second.await));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_export_ends_with_its_key() {
    let mut rig = Rig::start_patient().await;
    rig.restart_patient(async |database| fill(database, 5 * REPORTS).await).await;
    let key = rig.key(json!({"kind": "operator", "rights": ["export"]})).await;
    let lazy = Lazy::ask(&rig, &key, 200).await;
    rig.ask("DELETE", &format!("/api/v1/keys/{}", key_id(&key)), None).await.expect(200);
    // Slow enough that the end would come long after the next look at the key.
    assert!(!lazy.ends_whole(Duration::from_millis(50)).await);
    let lazy = Lazy::ask(&rig, &rig.admin(), 200).await;
    assert!(lazy.ends_whole(Duration::ZERO).await);
}
