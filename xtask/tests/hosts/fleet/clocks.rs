//! Clocks that are years off, or are set while programs run: the server's clock counts, and how long
//! ago something was does not change by it.

use std::fs;
use std::path::Path;

use fleet_core::api::{DeviceStatus, EventView};

use super::{Agent, SOON, Server, now_millis, program};
use crate::lab::{Host, Lab, wait_for};

/// Where Debian has the library that fakes a clock, on any architecture.
fn library() -> String {
    let folders = fs::read_dir("/usr/lib").expect("a system").flatten();
    let found = folders.map(|folder| folder.path().join("faketime/libfaketime.so.1"));
    let found = found.into_iter().find(|path| path.is_file()).expect("faketime is installed");
    found.to_str().expect("a plain path").to_owned()
}

/// What fakes the wall clock of a program as a file says, while it runs.
fn wrapper(file: &Path) -> Vec<String> {
    let file = file.to_str().expect("a plain path");
    [
        "env".to_owned(),
        format!("LD_PRELOAD={}", library()),
        format!("FAKETIME_TIMESTAMP_FILE={file}"),
        "FAKETIME_DONT_FAKE_MONOTONIC=1".to_owned(),
        "FAKETIME_NO_CACHE=1".to_owned(),
    ]
    .into()
}

/// Sets such a clock: `+0`, `+1h`, `-3650d`.
fn set(host: &Host, offset: &str) {
    let (file, new) = (host.path("clock"), host.path("clock.new"));
    fs::write(&new, format!("{offset}\n")).expect("a file");
    fs::rename(new, file).expect("a file");
}

fn unwell(server: &Server<'_>) -> Vec<EventView> {
    let kinds = "device.late,device.offline,device.lost";
    // Of none it is said that there is nothing, by its exit code too.
    server.fleets(&["events", "--kind", kinds, "-o", "json"]).json()
}

#[test]
fn a_device_whose_clock_is_set_again_and_again_stays_linked_and_loses_nothing() {
    let mut lab = Lab::new();
    let lan = lab.lan();
    let [desk, cam] = ["desk", "cam"].map(|name| lab.host(name, &[&lan]));
    let server = Server::start(&desk);
    set(&cam, "+0");
    let mut agent = Agent::idle(&cam, "cam");
    agent.wrapper = wrapper(&cam.path("clock"));
    agent.wrapper.push(program("fleetd"));
    agent.start_again();
    server.configure(&["cam"]);
    for (offset, words) in [
        ("+1h", "60 min ahead"),
        ("-1h", "60 min behind"),
        ("-3650d", "days behind"),
        ("+3650d", "days ahead"),
        ("+0", ""),
    ] {
        set(&cam, offset);
        let before = now_millis();
        let newest = server.stores_after("cam", before);
        assert!((now_millis() - newest).abs() < CLOSE_MILLIS, "{offset}: {newest}");
        wait_for(&format!("{offset} to be shown"), SOON, || {
            let device = server.device("cam")?;
            let told = device.clock_words().unwrap_or_default();
            (told.is_empty() == words.is_empty() && told.contains(words)).then_some(())
        });
        assert_eq!(server.device("cam").map(|device| device.status), Some(DeviceStatus::Online));
    }
    assert!(unwell(&server).is_empty());
    let log = cam.log(&agent.log_name());
    assert_eq!(log.matches("no link to the server").count(), 0, "{log}");
    // Every second one report, under its own time: none took another's place.
    let stored = server.stored("cam");
    let missed = server.device("cam").map(|device| device.missed_reports);
    assert_eq!(missed, Some(0), "{stored:?}");
}

#[test]
fn t32_a_server_whose_clock_is_set_calls_nobody_offline_and_lets_everybody_in() {
    let mut lab = Lab::new();
    let lan = lab.lan();
    let [desk, cam, quiet] = ["desk", "cam", "quiet"].map(|name| lab.host(name, &[&lan]));
    set(&desk, "+0");
    let server = Server::start_wrapped(&desk, wrapper(&desk.path("clock")));
    let agents = [Agent::start(&cam), Agent::start(&quiet)];
    server.configure(&["cam", "quiet"]);
    for offset in ["+1h", "-1h", "+0"] {
        set(&desk, offset);
        for id in ["cam", "quiet"] {
            // By a count, for the times are others.
            let before = server.stored(id).len();
            wait_for(&format!("reports of {id} at {offset}"), SOON, || {
                (server.stored(id).len() > before + 2).then_some(())
            });
            assert_eq!(
                server.device(id).map(|it| it.status),
                Some(DeviceStatus::Online),
                "{offset}"
            );
        }
        // A link that begins anew is let in.
        agents[0].kill();
        agents[0].start_again();
        server.shows_online(&["cam"]);
    }
    let unwell = unwell(&server);
    assert!(
        unwell.iter().all(|event| event.device_id.as_ref().is_none_or(|id| id.as_str() == "cam")),
        "{unwell:?}"
    );
    let quiet: Vec<_> = unwell.iter().filter(|event| event.kind.word() != "device.late").collect();
    assert!(quiet.is_empty(), "{quiet:?}");
}

/// How far a stored time may be from now.
const CLOSE_MILLIS: i64 = 60_000;

#[test]
fn t32_a_device_that_lives_in_another_year_reports_in_this_one() {
    let mut lab = Lab::new();
    let lan = lab.lan();
    let [desk, past, future] = ["desk", "past", "future"].map(|name| lab.host(name, &[&lan]));
    let server = Server::start(&desk);
    let agents = [(&past, "1999-12-31 23:59:50"), (&future, "2061-01-01 00:00:00")];
    let _agents = agents.map(|(host, year)| {
        let mut agent = Agent::idle(host, host.name());
        // The monotonic clock of a machine knows no years.
        let words = ["env", "FAKETIME_DONT_FAKE_MONOTONIC=1", "faketime", year];
        agent.wrapper = words.map(str::to_owned).into();
        agent.wrapper.push(program("fleetd"));
        agent.start_again();
        agent
    });
    server.configure(&["past", "future"]);

    for id in ["past", "future"] {
        let newest = server.stores_after(id, 0);
        assert!((now_millis() - newest).abs() < CLOSE_MILLIS, "{id} reported at {newest}");
        let seen = server.device(id).and_then(|device| device.last_seen).expect("it was seen");
        assert!((now_millis() - seen.millis()).abs() < CLOSE_MILLIS, "{id} was seen at {seen}");
    }
}
