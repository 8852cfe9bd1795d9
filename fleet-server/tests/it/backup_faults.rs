//! Backups that cannot be taken or are no good: nothing is left of them, and nothing is changed.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::Instant;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

use crate::cli_kit::{Desk, Said};
use crate::export_kit::{Bridge, Fate, fill};
use crate::server_kit::{BOUND, wait_for};

/// Reports of a device, of ten samples each.
const REPORTS: i64 = 4_000;

async fn desk() -> Desk {
    let mut desk = Desk::new().await;
    desk.restart(async |database| fill(database, REPORTS).await).await;
    desk
}

/// Everything in a folder, with what is in the folders in it.
fn contents(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(contents(&path));
        } else {
            found.insert(path.clone(), fs::read(&path).unwrap());
        }
    }
    found
}

fn names(folder: &Path) -> Vec<String> {
    contents(folder).keys().map(|path| path.display().to_string()).collect()
}

/// `fleets backup create` over a bridge, into a folder of its own.
fn create_over(desk: &Desk, bridge: &Bridge) -> Child {
    let (url, key) = (format!("http://{}", bridge.address), format!("@{}", desk.key_file()));
    let out = desk.path("out/backup");
    let args =
        ["backup", "create", "--out", out.to_str().unwrap(), "--server", &url, "--api-key", &key];
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

/// How many bytes of a backup come over a bridge.
async fn whole(desk: &Desk) -> u64 {
    let bridge = Bridge::to(desk.rig.address(), u64::MAX, Fate::Closes).await;
    finished(create_over(desk, &bridge)).await.ends(0);
    fs::remove_file(desk.path("out/backup")).unwrap();
    bridge.passed()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_that_breaks_off_leaves_nothing() {
    let mut desk = desk().await;
    fs::create_dir(desk.path("out")).unwrap();
    let all = whole(&desk).await;
    for bytes in [0, 2_000, all / 2, all * 3 / 4] {
        let bridge = Bridge::to(desk.rig.address(), bytes, Fate::Closes).await;
        let said = finished(create_over(&desk, &bridge)).await;
        assert_eq!(said.code, Some(7), "{bytes}: {said:#?}");
        assert_eq!(names(&desk.path("out")), [""; 0], "{bytes}");
    }
    // One that is killed leaves what nobody takes for a backup, and the next one clears.
    let bridge = Bridge::to(desk.rig.address(), all / 2, Fate::Stalls).await;
    let child = create_over(&desk, &bridge);
    wait_for("the midst of the backup", async || bridge.passed() == all / 2).await;
    signal(&child, Signal::SIGKILL);
    finished(child).await;
    drop(bridge);
    assert!(!desk.path("out/backup").exists() && desk.path("out/backup.part").exists());
    // And one that is asked to stop leaves nothing.
    let start = Instant::now();
    loop {
        let bridge = Bridge::to(desk.rig.address(), all / 2, Fate::Stalls).await;
        let mut child = create_over(&desk, &bridge);
        let is_under_way = async || bridge.passed() == all / 2;
        let mut has_ended = false;
        while !has_ended && !is_under_way().await {
            assert!(start.elapsed() < BOUND, "waited too long for the midst of a backup");
            has_ended = child.try_wait().unwrap().is_some();
            tokio::task::yield_now().await;
        }
        if !has_ended {
            signal(&child, Signal::SIGINT);
            finished(child).await.ends(130);
            break;
        }
        // The server has not noticed yet that the one before has ended.
        finished(child).await.refuses(1, &["a backup is being taken"]);
    }
    assert_eq!(names(&desk.path("out")), [""; 0]);
    // The server is none the worse.
    wait_for("the place", async || {
        let bridge = Bridge::to(desk.rig.address(), u64::MAX, Fate::Closes).await;
        finished(create_over(&desk, &bridge)).await.code == Some(0)
    })
    .await;
    let there = fs::read(desk.path("out/backup")).unwrap();
    let again =
        desk.fleets(&["backup", "create", "--out", desk.path("out/backup").to_str().unwrap()]);
    again.refuses(6, &["exists already"]);
    assert!(fs::read(desk.path("out/backup")).unwrap() == there);
    desk.rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_backup_is_refused_and_makes_nothing() {
    let desk = desk().await;
    let path = |name: &str| desk.path(name).to_str().unwrap().to_owned();
    let (good, bad) = (path("good.backup"), path("bad.backup"));
    desk.fleets(&["backup", "create", "--out", &good]).ends(0);
    let bytes = fs::read(&good).unwrap();
    fs::create_dir(desk.path("tmp")).unwrap();
    let check = |contents: &[u8], word: &str| {
        fs::write(&bad, contents).unwrap();
        let mut verify = desk.bare_command(&["backup", "verify", &bad]);
        verify.env("TMPDIR", desk.path("tmp"));
        Said::of(&verify.output().unwrap()).refuses(1, &["bad.backup", word]);
        assert_eq!(fs::read_dir(desk.path("tmp")).unwrap().count(), 0);
        let target = path("target/fleet.db");
        desk.bare(&["backup", "restore", &bad, "--database", &target])
            .refuses(1, &["bad.backup", word, "nothing was restored"]);
        assert!(!desk.path("target").exists() && !desk.path("target.restoring").exists());
    };
    for cut in [20, bytes.len() / 2, bytes.len() - 1] {
        let word = if cut < 100 { "is not a backup" } else { "breaks off at byte" };
        check(&bytes[..cut], word);
    }
    for place in [200, bytes.len() / 3, bytes.len() - 30] {
        let mut flipped = bytes.clone();
        flipped[place] ^= 0x10;
        check(&flipped, "is damaged at byte");
    }
    check(b"redb\x1a\n and nothing else", "is not a backup");
    check(b"", "is not a backup");
    desk.bare(&["backup", "verify", &path("none")]).refuses(5, &["there is no file"]);
    // The good one still is.
    let mut verify = desk.bare_command(&["backup", "verify", &good, "--json"]);
    verify.env("TMPDIR", desk.path("tmp"));
    let said = Said::of(&verify.output().unwrap()).ends(0);
    assert!(said.out.contains(&format!("\"reports\": {REPORTS}")), "{said:#?}");
    assert_eq!(fs::read_dir(desk.path("tmp")).unwrap().count(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_restore_replaces_nothing() {
    let desk = desk().await;
    let path = |name: &str| desk.path(name).to_str().unwrap().to_owned();
    let good = path("good.backup");
    desk.fleets(&["backup", "create", "--out", &good]).ends(0);
    for there in ["fleet.db", "srv.key", "secret.key", "admin.key", "telemetry/chunks-1", "notes"] {
        let folder = desk.path(&format!("to/{there}"));
        fs::create_dir_all(folder.parent().unwrap()).unwrap();
        fs::write(&folder, "somebody's own").unwrap();
        let before = contents(&desk.path("to"));
        let refused = desk.bare(&["backup", "restore", &good, "--database", &path("to/fleet.db")]);
        refused.refuses(6, &["is not empty", "nothing was changed"]);
        assert_eq!(contents(&desk.path("to")), before, "{there}");
        fs::remove_dir_all(desk.path("to")).unwrap();
    }
    let refused = desk.bare(&["backup", "restore", &good, "--database", &path("to/other.db")]);
    refused.refuses(2, &["called fleet.db", "ends with fleet.db"]);
    fs::write(desk.path("to"), "a file").unwrap();
    let refused = desk.bare(&["backup", "restore", &good, "--database", &path("to/fleet.db")]);
    refused.refuses(6, &["is not a folder"]);
    fs::remove_file(desk.path("to")).unwrap();
    // What a restore that was killed has left is cleared, and nothing else that has its name.
    fs::create_dir(desk.path("to.restoring")).unwrap();
    fs::write(desk.path("to.restoring/notes"), "somebody's own").unwrap();
    let refused = desk.bare(&["backup", "restore", &good, "--database", &path("to/fleet.db")]);
    refused.refuses(6, &["to.restoring is not empty"]);
    fs::write(desk.path("to.restoring/restoring"), "").unwrap();
    // An empty folder is as good as none.
    fs::create_dir(desk.path("to")).unwrap();
    desk.bare(&["backup", "restore", &good, "--database", &path("to/fleet.db")]).ends(0);
    assert!(desk.path("to/fleet.db").exists() && !desk.path("to.restoring").exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_an_operator_may_take_one() {
    let desk = desk().await;
    let enrol = desk.rig.key(json!({"kind": "enrol"})).await;
    let refused = desk.rig.ask_with("GET", "/api/v1/backup", Some(&enrol), None).await;
    refused.problem(403);
    desk.rig.ask_with("GET", "/api/v1/backup", None, None).await.problem(401);
    let told = desk.rig.ask("GET", "/api/v1/backup?all=1", None).await.problem(422);
    assert!(told.starts_with("all: "), "{told}");
    let head = desk.rig.ask("HEAD", "/api/v1/backup", None).await;
    assert_eq!(head.status, 405);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restore_that_is_killed_has_made_nothing_or_all() {
    let desk = desk().await;
    let path = |name: &str| desk.path(name).to_str().unwrap().to_owned();
    let good = path("good.backup");
    desk.fleets(&["backup", "create", "--out", &good]).ends(0);
    let restore = ["backup", "restore", &good, "--database", &path("to/fleet.db")];
    let draft = desk.path("to.restoring");
    // At each of these it is killed as soon as it is there.
    for midst in ["restoring", "fleet.db", "srv.key", "telemetry"] {
        let mut command = desk.bare_command(&restore);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        wait_for("the midst of the restore", async || {
            draft.join(midst).exists() || child_ended(&desk, &draft)
        })
        .await;
        child.kill().unwrap();
        child.wait().unwrap();
        if desk.path("to").exists() {
            let mut names = names(&desk.path("to"));
            names.retain(|name| ["fleet.db", "srv.key"].iter().any(|file| name.ends_with(file)));
            assert_eq!(names.len(), 2, "{names:?}");
            fs::remove_dir_all(desk.path("to")).unwrap();
        }
        // What it left is in nobody's way.
        desk.bare(&restore).ends(0);
        assert!(!draft.exists());
        fs::remove_dir_all(desk.path("to")).unwrap();
    }
}

/// Whether a restore was faster than whoever looked.
fn child_ended(desk: &Desk, draft: &Path) -> bool {
    desk.path("to").exists() && !draft.exists()
}
