//! Backups that are older than a revocation: whoever was revoked stays out, as long as the list of
//! that is there.

use std::fs;
use std::path::{Path, PathBuf};

use fleet_core::identity::PrivateKey;
use fleet_core::wire::{NewKey, Standing, ToAgent, ToServer};
use serde_json::{Value, json};

use crate::cli_kit::Desk;
use crate::commands_kit::{given, ordered, uid};
use crate::server_kit::{Agent, key_id};

/// A server with a backup that is older than what was revoked after it.
struct Scene {
    desk: Desk,
    backup: String,
    /// A key of an operator, revoked.
    operator: String,
    /// One that has a successor, and has ended since.
    rotated: String,
    /// One for devices, revoked.
    enrol: String,
    /// One for devices that is still good.
    good: String,
}

impl Scene {
    fn data(&self) -> PathBuf {
        self.desk.path("data")
    }

    /// Where the data goes before something else comes in its place.
    fn old(&self) -> PathBuf {
        self.desk.path("old")
    }

    fn restore(&self, more: &[&str]) -> crate::cli_kit::Said {
        let database = self.data().join("fleet.db");
        let args = ["backup", "restore", &self.backup, "--database", database.to_str().unwrap()];
        self.desk.bare(&[&args[..], more].concat())
    }

    /// A server on what is there now.
    async fn start(&mut self) {
        fs::copy(self.old().join("secret.key"), self.data().join("secret.key")).unwrap();
        self.desk.restart(async |_| {}).await;
    }

    async fn status(&self, key: &str) -> u16 {
        let answer = self.desk.rig.ask_with("GET", "/api/v1/devices", Some(key), None).await;
        answer.status.as_u16()
    }

    async fn standing(&self, id: &str, seed: u8) -> Standing {
        Agent::dial(&self.desk.rig, id, seed, Some(&self.good)).await.standing
    }

    /// Fails unless all are out who were put out, and all others in.
    async fn is_settled(&self) {
        assert_eq!(self.status(&self.operator).await, 401);
        assert_eq!(self.status(&self.rotated).await, 401);
        assert_eq!(self.status(&self.enrol).await, 401);
        for (id, seed) in [("thief", 2), ("late", 4)] {
            let standing = self.standing(id, seed).await;
            assert!(matches!(standing, Standing::Revoked { .. }), "{id}: {standing:?}");
        }
        // Its old key is of no use, and its new one is known.
        let former = self.standing("rekeyed", 3).await;
        assert!(matches!(former, Standing::Revoked { .. }), "{former:?}");
        for (id, seed) in [("stays", 1), ("rekeyed", 13)] {
            let standing = self.standing(id, seed).await;
            assert!(matches!(standing, Standing::Active { .. }), "{id}: {standing:?}");
        }
    }
}

async fn revoke(desk: &Desk, key: &str) {
    let path = format!("/api/v1/keys/{}", key_id(key));
    desk.rig.ask("DELETE", &path, None).await.expect(200);
}

/// Gives a device the key of ten seeds further.
async fn rekey(desk: &Desk, id: &str, seed: u8) {
    let rig = &desk.rig;
    let mut agent = Agent::dial(rig, id, seed, None).await;
    given(rig, id, "rotate-key").await;
    let command = ordered(&mut agent).await.id;
    let identity = rig.ask("GET", "/api/v1/identity", None).await.json();
    let server = serde_json::from_value(identity["public_key"].clone()).unwrap();
    let key = |seed| PrivateKey::from_seed(&[seed; 32]);
    let offer = NewKey::sign(command, (uid(&agent), server), &key(seed), &key(seed + 10));
    agent.say(&ToServer::NewKey(Box::new(offer))).await;
    while !matches!(agent.next().await, ToAgent::NewKeyNoted { refused: None, .. }) {}
    let moved = Agent::dial(rig, id, seed + 10, None).await;
    assert!(matches!(moved.standing, Standing::Active { .. }), "{:?}", moved.standing);
}

async fn scene() -> Scene {
    let desk = Desk::new().await;
    for (id, seed) in [("stays", 1), ("thief", 2), ("rekeyed", 3)] {
        drop(desk.rig.enrolled(id, seed).await);
    }
    let operator = desk.rig.key(json!({"kind": "operator", "label": "ada"})).await;
    let rotated = desk.rig.key(json!({"kind": "operator", "label": "bob"})).await;
    let enrol = desk.rig.key(json!({"kind": "enrol", "label": "line 1"})).await;
    let good = desk.rig.key(json!({"kind": "enrol", "label": "line 2"})).await;
    let backup = desk.path("one.backup").to_str().unwrap().to_owned();
    desk.fleets(&["backup", "create", "--out", &backup]).ends(0);

    revoke(&desk, &operator).await;
    revoke(&desk, &enrol).await;
    let path = format!("/api/v1/keys/{}/rotate", key_id(&rotated));
    desk.rig.ask("POST", &path, Some(json!({"overlap_secs": 0}))).await.expect(201);
    drop(Agent::dial(&desk.rig, "late", 4, Some(&good)).await);
    for id in ["thief", "late"] {
        let path = format!("/api/v1/devices/{id}/revoke");
        desk.rig.ask("POST", &path, Some(json!({"reason": "stolen"}))).await.expect(200);
    }
    rekey(&desk, "rekeyed", 3).await;
    Scene { desk, backup, operator, rotated, enrol, good }
}

fn empty_but_for_the_list(folder: &Path) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            fs::remove_dir_all(path).unwrap();
        } else if path.file_name().unwrap() != "revoked.log" {
            fs::remove_file(path).unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t36_an_older_backup_brings_back_nobody_who_was_revoked_since() {
    let mut scene = scene().await;
    scene.is_settled().await;
    scene.desk.rig.stop().await;
    let (data, old) = (scene.data(), scene.old());
    fs::rename(&data, &old).unwrap();

    // Without the list all of them are in again: this is what it is for.
    let said = scene.restore(&[]).ends(0);
    assert!(said.err.contains("are good again"), "{said:#?}");
    scene.start().await;
    assert_eq!(scene.status(&scene.operator).await, 200);
    assert_eq!(scene.status(&scene.rotated).await, 200);
    for (id, seed) in [("thief", 2), ("late", 4), ("rekeyed", 3)] {
        let standing = scene.standing(id, seed).await;
        assert!(matches!(standing, Standing::Active { .. }), "{id}: {standing:?}");
    }
    scene.desk.rig.stop().await;
    fs::remove_dir_all(&data).unwrap();

    // The old data's list is taken over.
    let said = scene.restore(&["--old", old.to_str().unwrap()]).ends(0);
    assert!(said.err.contains("old/revoked.log names stays revoked"), "{said:#?}");
    scene.start().await;
    scene.is_settled().await;
    let told = scene.desk.rig.ask("GET", "/api/v1/events?kind=key.revoked", None).await;
    let by_the_list = |event: &&Value| event["text"].as_str().unwrap().contains("newer than the");
    let told = told.expect(200);
    assert_eq!(told.as_array().unwrap().iter().filter(by_the_list).count(), 3, "{told}");
    let devices = scene.desk.rig.ask("GET", "/api/v1/devices/thief", None).await.expect(200);
    assert_eq!(devices["status"], "revoked");
    scene.desk.fleets(&["audit", "verify"]).ends(0);
    // A backup of this one has the list in it, so whoever has only that loses nothing either.
    let next = scene.desk.path("two.backup").to_str().unwrap().to_owned();
    scene.desk.fleets(&["backup", "create", "--out", &next]).ends(0);
    scene.desk.rig.stop().await;

    // The same place, with the list alone in it.
    empty_but_for_the_list(&data);
    scene.restore(&[]).ends(0);
    scene.start().await;
    scene.is_settled().await;
    scene.desk.rig.stop().await;

    fs::remove_dir_all(&data).unwrap();
    scene.backup = next;
    scene.restore(&[]).ends(0);
    assert!(data.join("revoked.log").exists());
    scene.start().await;
    scene.is_settled().await;
}

/// Flips a bit in both places where the first thing on a list stands.
fn spoil(list: &Path) {
    let mut bytes = fs::read(list).unwrap();
    let frames: Vec<usize> = bytes
        .windows(4)
        .enumerate()
        .filter(|(_, it)| it == b"\xF1eD\n")
        .map(|(at, _)| at)
        .collect();
    // Before it are the list's head, and twice that nothing is on it.
    for frame in &frames[3..5] {
        bytes[frame + 20] ^= 1;
    }
    fs::write(list, bytes).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t36_a_damaged_list_is_relied_on_by_nobody_who_needs_it() {
    let mut scene = scene().await;
    scene.desk.rig.stop().await;
    let (data, old) = (scene.data(), scene.old());
    let list = data.join("revoked.log");
    let whole = fs::read(&list).unwrap();

    // The database knows all that: it is told, and mended.
    spoil(&list);
    scene.desk.restart(async |_| {}).await;
    let told = scene.desk.rig.ask("GET", "/api/v1/events?kind=db.damaged", None).await.expect(200);
    assert!(told[0]["text"].as_str().unwrap().contains("revoked.log was damaged"), "{told}");
    scene.is_settled().await;
    scene.desk.restart(async |_| {}).await;
    let told = scene.desk.rig.ask("GET", "/api/v1/events?kind=db.damaged", None).await.expect(200);
    assert_eq!(told.as_array().unwrap().len(), 1, "{told}");
    // What a power cut has left of the last one was promised to nobody.
    scene.desk.rig.stop().await;
    let torn = [whole.as_slice(), &whole[..7]].concat();
    fs::write(&list, torn).unwrap();
    scene.desk.restart(async |_| {}).await;
    scene.is_settled().await;
    scene.desk.rig.stop().await;

    // A database from before it does not.
    fs::rename(&data, &old).unwrap();
    fs::write(old.join("revoked.log"), &whole).unwrap();
    spoil(&old.join("revoked.log"));
    scene
        .restore(&["--old", old.to_str().unwrap()])
        .refuses(1, &["cannot take in", "revoked.log", "damaged at byte", "nothing was restored"]);
    assert!(!data.exists());
    scene.restore(&[]).ends(0);
    fs::copy(old.join("revoked.log"), &list).unwrap();
    fs::copy(old.join("secret.key"), data.join("secret.key")).unwrap();
    let refused = scene.desk.rig.launch(scene.desk.rig.config()).await.err().unwrap();
    let refused = fleet_core::Chain(&refused).to_string();
    assert!(refused.contains("cannot rely on revoked.log"), "{refused}");
    assert!(refused.contains("nobody knows who was revoked there"), "{refused}");
    // With a good copy it starts, and with another server's it does not.
    fs::write(&list, &whole).unwrap();
    scene.desk.restart(async |_| {}).await;
    scene.is_settled().await;
    scene.desk.rig.stop().await;
    let other = Desk::new().await;
    let key = other.rig.key(json!({"kind": "enrol"})).await;
    revoke(&other, &key).await;
    fs::copy(other.path("data/revoked.log"), &list).unwrap();
    let refused = scene.desk.rig.launch(scene.desk.rig.config()).await.err().unwrap();
    let refused = fleet_core::Chain(&refused).to_string();
    assert!(refused.contains("it is of another server"), "{refused}");
    let said = scene.restore(&["--old", other.path("data").to_str().unwrap()]);
    said.refuses(6, &["is not empty"]);
    fs::remove_dir_all(&data).unwrap();
    let said = scene.restore(&["--old", other.path("data").to_str().unwrap()]);
    said.refuses(1, &["it is of another server"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t36_a_list_is_for_its_owner_alone_and_is_written_before_it_is_answered() {
    use std::os::unix::fs::PermissionsExt as _;

    let desk = Desk::new().await;
    let list = desk.path("data/revoked.log");
    let key = desk.rig.key(json!({"kind": "enrol"})).await;
    // It is there before anything is on it, so that there is room for it when the disk is full.
    let empty = fs::read(&list).unwrap().len();
    revoke(&desk, &key).await;
    let bytes = fs::read(&list).unwrap();
    let id = key_id(&key);
    assert!(bytes[empty..].windows(id.len()).any(|found| found == id.as_bytes()));
    assert_eq!(fs::metadata(&list).unwrap().permissions().mode() & 0o777, 0o600);
}
