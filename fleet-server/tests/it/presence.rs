//! What a device's silence means, as a stream shows it and as events tell it.

use std::time::{Duration, Instant};

use fleet_core::api::{DeviceStatus, EventKind};
use fleet_core::operator::client::Client;
use fleet_core::wire::{Outcome, Progress};

use crate::commands_kit::{becomes, done, ends, given, ordered, says};
use crate::server_kit::{Agent, BOUND, Rig};
use crate::stream_kit::{self, Screen, client};

#[tokio::test]
async fn silence_is_told_as_time_passes_and_once() {
    let rig = Rig::start().await;
    let agent = rig.enrolled("rpi4-001", 1).await;
    let client = client(&rig, &rig.admin());
    let mut screen = Screen::open(&client, None).await;
    screen.until_row("the device", |row| row.status == DeviceStatus::Online).await;
    drop(agent);
    for (passed, status, why) in [
        (80, DeviceStatus::Late, "no reports, expected every 60s"),
        (110, DeviceStatus::Offline, "no reports, expected every 60s"),
        (31 * 86_400, DeviceStatus::Lost, "no reports, expected every 60s"),
    ] {
        rig.clock.advance(Duration::from_secs(passed));
        let row = screen.until_row(status.word(), |row| row.status == status).await;
        assert_eq!(row.why.unwrap().raw(), why);
        let listed = rig.ask("GET", "/api/v1/devices/rpi4-001", None).await.expect(200);
        assert_eq!(listed["status"], status.word());
    }
    let _back = Agent::dial(&rig, "rpi4-001", 1, None).await;
    screen.until_row("its return", |row| row.status == DeviceStatus::Online).await;
    let events = wait_for_events(&client, 4).await;
    let texts: Vec<_> = events.iter().map(|(kind, text)| (*kind, text.as_str())).collect();
    assert_eq!(
        texts,
        [
            (EventKind::DeviceLate, "no report for 80s, expected every 60s"),
            (EventKind::DeviceOffline, "no report for 3m, expected every 60s"),
            (EventKind::DeviceLost, "no report for 31d, expected every 60s"),
            (EventKind::DeviceOnline, "heard again after 31d"),
        ]
    );
}

/// What happened to devices as time passed, oldest first, once there is so much of it.
async fn wait_for_events(client: &Client, count: usize) -> Vec<(EventKind, String)> {
    use fleet_core::operator::client::EventQuery;
    let presence = [
        EventKind::DeviceOnline,
        EventKind::DeviceLate,
        EventKind::DeviceOffline,
        EventKind::DeviceLost,
    ];
    let start = Instant::now();
    loop {
        let events = client.event_list(&EventQuery::default()).await.unwrap();
        let mut found: Vec<_> = events
            .into_iter()
            .filter(|event| presence.contains(&event.kind))
            .map(|event| (event.kind, event.text.into_raw()))
            .collect();
        found.reverse();
        if found.len() >= count {
            return found;
        }
        assert!(start.elapsed() < BOUND, "waited too long for {count} events: {found:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn a_restart_makes_nobody_late_and_no_news() {
    let mut rig = Rig::start().await;
    let agent = rig.enrolled("rpi4-001", 1).await;
    let gone = rig.enrolled("rpi4-002", 2).await;
    let client = client(&rig, &rig.admin());
    let mut screen = Screen::open(&client, None).await;
    screen.until_rows("both devices", |rows| rows.len() == 2).await;
    drop((agent, gone));
    rig.stop().await;
    rig.clock.advance(Duration::from_secs(3_600));
    rig.restart().await;

    let client = stream_kit::client(&rig, &rig.admin());
    let mut screen = Screen::open(&client, None).await;
    assert!(screen.rows.values().all(|row| row.status == DeviceStatus::Online));
    let _back = Agent::dial(&rig, "rpi4-001", 1, None).await;
    // The one that does not come back is late, then offline; told only once it had time to return.
    rig.clock.advance(Duration::from_secs(50));
    let _back = Agent::dial(&rig, "rpi4-001", 1, None).await;
    rig.clock.advance(Duration::from_secs(30));
    screen.until_row("silence", |row| row.status == DeviceStatus::Late).await;
    assert_eq!(screen.rows[&screen.slot("rpi4-001")].status, DeviceStatus::Online);
    assert!(wait_for_events(&client, 0).await.is_empty());
    rig.clock.advance(Duration::from_secs(260));
    let events = wait_for_events(&client, 2).await;
    let offline = events.iter().filter(|(kind, _)| *kind == EventKind::DeviceOffline).count();
    assert_eq!((events.len(), offline), (2, 2), "{events:?}");
}

#[tokio::test]
async fn a_device_that_begins_anew_as_it_was_told_is_no_news() {
    let rig = Rig::start().await;
    let mut agent = rig.enrolled("rpi4-001", 1).await;
    let client = client(&rig, &rig.admin());
    let mut screen = Screen::open(&client, None).await;
    let id = given(&rig, "rpi4-001", "reboot").await;
    let order = ordered(&mut agent).await;
    says(&mut agent, order.id, Progress::Running).await;
    becomes(&rig, &id, "running").await;
    drop(agent);
    rig.clock.advance(Duration::from_secs(200));
    let row = screen.until_row("its silence", |row| row.status == DeviceStatus::Late).await;
    assert_eq!(row.why.unwrap().raw(), "it begins anew, as it was told");
    let mut back = Agent::dial(&rig, "rpi4-001", 1, None).await;
    assert_eq!(ordered(&mut back).await.id, order.id);
    ends(&mut back, order.id, done(Outcome::Succeeded, "", b"")).await;
    screen.until_row("its return", |row| row.status == DeviceStatus::Online).await;
    assert!(wait_for_events(&client, 0).await.is_empty());

    let id = given(&rig, "rpi4-001", "reboot").await;
    let order = ordered(&mut back).await;
    says(&mut back, order.id, Progress::Running).await;
    becomes(&rig, &id, "running").await;
    drop(back);
    rig.clock.advance(Duration::from_secs(301));
    screen.until_row("its silence", |row| row.status == DeviceStatus::Offline).await;
    let events = wait_for_events(&client, 1).await;
    let expected = (EventKind::DeviceOffline, "no report for 5m, expected every 60s".to_owned());
    assert_eq!(events, [expected]);
}
