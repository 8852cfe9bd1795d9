//! A stranger that fills the server's disk to the last byte: what operators change is still stored.

use std::fs;
use std::path::PathBuf;

use fleet_core::api::{DeviceStatus, KeyCreated, KeyView};

use super::small_disk::SmallDisk;
use super::{Agent, SOON, Said, Server};
use crate::lab::{Host, Lab, wait_for};

/// Bytes of the server's disk: as much as a ballast of two mebibytes needs.
const DISK: u64 = 40 * 1024 * 1024;
/// Keys that are made and revoked on the full disk.
const CHANGES: usize = 30;
/// The same, after the stranger has taken what was given as well.
const CHANGES_AFTER: usize = 15;

fn ballast(desk: &Host) -> PathBuf {
    desk.path("server/ballast")
}

fn readiness(server: &Server<'_>) -> String {
    let url = "http://localhost:8080/health/ready";
    Said::of(server.host.command("curl").args(["-s", "-m5", url])).stdout
}

/// Makes a key and revokes it; the key's id, or what went wrong.
fn change(server: &Server<'_>) -> Result<String, String> {
    let done = |said: Said| if said.code == Some(0) { Ok(said) } else { Err(said.stderr) };
    let made = done(server.fleets(&["keys", "create", "--enrol", "-o", "json"]))?;
    let id = made.json::<KeyCreated>().id;
    done(server.fleets(&["keys", "revoke", &id])).map(|_| id)
}

/// A server and a device that waits to be let in, on a disk that is about to be filled.
fn waiting<'a>(server: &'a Server<'a>, cam: &'a Host) -> Agent<'a> {
    let agent = Agent { endpoint: Some(server.url()), ..Agent::idle(cam, "cam") };
    agent.start_again();
    wait_for("a device that waits", SOON, || {
        server.device("cam").filter(|device| device.status == DeviceStatus::Pending)
    });
    agent
}

#[test]
fn f05_what_operators_change_is_stored_on_a_disk_that_a_stranger_has_filled() {
    let mut lab = Lab::new();
    let lan = lab.lan();
    let desk = lab.host("desk", &[&lan]);
    let cam = lab.host("cam", &[&lan]);
    let disk = SmallDisk::mount(desk.path("server"), DISK);
    let server = Server::start(&desk);
    let _agent = waiting(&server, &cam);
    let is_held = || fs::metadata(ballast(&desk)).is_ok_and(|file| file.len() == DISK / 20);
    wait_for("the ballast", SOON, || is_held().then_some(()));

    // Nothing was revoked so far, and the stranger does not stop.
    let filling = disk.keep_filling();
    wait_for("the ballast to be given", SOON, || (!ballast(&desk).exists()).then_some(()));
    wait_for("the server to say so", SOON, || {
        readiness(&server).contains("were held back went to").then_some(())
    });
    server.fleets(&["devices", "accept", "cam"]).exits(0);
    let mut revoked = Vec::new();
    for number in 0..CHANGES {
        revoked.push(change(&server).unwrap_or_else(|error| panic!("change {number}: {error}")));
    }
    assert!(filling.end() > DISK / 2);
    disk.fill();
    for number in 0..CHANGES_AFTER {
        let changed = change(&server);
        revoked.push(changed.unwrap_or_else(|error| panic!("late change {number}: {error}")));
    }
    server.kill();
    server.start_again();
    let keys: Vec<KeyView> = server.fleets(&["keys", "list", "-o", "json"]).exits(0).json();
    for id in &revoked {
        let key = keys.iter().find(|key| key.id == *id);
        assert!(key.is_some_and(|key| key.revoked_at.is_some()), "{id}: {key:?}");
    }
    let cam = server.device("cam").expect("it is there");
    assert!(!matches!(cam.status, DeviceStatus::Pending), "{cam:?}");
    let list = fs::read(desk.path("server/revoked.log")).expect("the list of what was revoked");
    for id in &revoked {
        assert!(list.windows(id.len()).any(|found| found == id.as_bytes()), "{id}");
    }

    disk.empty();
    wait_for("the ballast again", SOON, || is_held().then_some(()));
    wait_for("a server that is well", SOON, || readiness(&server).contains("\"ok\"").then_some(()));
    let events = server.fleets(&["events", "-o", "json"]).exits(0).stdout;
    assert!(events.contains("db.disk_full"), "{events}");
}

/// What the test above shows is owed to the ballast: without one the same disk takes fewer changes.
#[test]
fn f05_without_a_ballast_a_stranger_keeps_operators_from_changing_anything() {
    let mut lab = Lab::new();
    let lan = lab.lan();
    let desk = lab.host("desk", &[&lan]);
    let cam = lab.host("cam", &[&lan]);
    let disk = SmallDisk::mount(desk.path("server"), DISK);
    // Where a folder is, no file can be made.
    fs::create_dir(ballast(&desk)).expect("a folder");
    let server = Server::start(&desk);
    let _agent = waiting(&server, &cam);
    wait_for("the server to say that it holds nothing back", SOON, || {
        desk.log("server-1").contains("no room is held back").then_some(())
    });
    disk.fill();
    let failed = (0..CHANGES).find_map(|number| Some((number, change(&server).err()?)));
    let (number, error) = failed.expect("a disk without room");
    println!("change {number} failed: {error}");
    assert!(error.contains("503") || error.contains("not available"), "{error}");
    disk.empty();
    wait_for("changes to be stored again", SOON, || change(&server).ok());
}
