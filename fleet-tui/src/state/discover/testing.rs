//! Devices on a made-up network.

use std::net::SocketAddr;
use std::time::Duration;

use fleet_core::api::{ClaimMode, DeviceState, DiscoverOutcome, Discovered};
use fleet_core::identity::{Fingerprint, PrivateKey};
use fleet_core::mdns::Interface;
use fleet_core::operator::browse::Sighting;
use fleet_core::operator::claim::Target;
use fleet_core::operator::provision::{Outcome, Progress, Step};
use ratatui::layout::Size;

use crate::effect::Effect;
use crate::event::{Event, Provisioning};
use crate::sample;
use crate::state::App;
use crate::testing::press;

/// A key; those of sample devices are others.
pub(crate) fn fingerprint(number: u32) -> Fingerprint {
    let mut seed = [11; 32];
    seed[..4].copy_from_slice(&number.to_be_bytes());
    PrivateKey::from_seed(&seed).public().fingerprint()
}

/// A device that nobody has claimed, at `192.168.1.(100 + number)`.
pub(crate) fn sighting(number: u32, id: &str) -> Sighting {
    let address: SocketAddr =
        format!("192.168.1.{}:6789", 100 + number % 100).parse().expect("an address");
    let device_id = id.parse().expect("a device id");
    let fingerprint = fingerprint(number);
    Sighting {
        device: Discovered {
            name: format!("fleetd-{id}._fleetd._tcp.local.").into(),
            host: format!("{id}.local").into(),
            ipv4: vec![address.ip()],
            ipv6: Vec::new(),
            port: 6789,
            device_id: Some(device_id),
            version: Some(fleet_core::VERSION.into()),
            state: Some(DeviceState::Unclaimed),
            claim: Some(ClaimMode::Open),
            fingerprint: Some(fingerprint),
            server: None,
            conflict: false,
        },
        target: Some(Target {
            device_id: id.parse().expect("a device id"),
            addresses: vec![address],
            fingerprint,
            claim: Some(ClaimMode::Open),
        }),
    }
}

/// The same device as one that has a server.
pub(crate) fn claimed(sighting: Sighting, server: u8) -> Sighting {
    let mut sighting = sighting;
    sighting.device.state = Some(DeviceState::Claimed);
    sighting.device.server = Some(PrivateKey::from_seed(&[server; 32]).public().identity());
    sighting
}

/// A network with a bit of everything. The first of the sample fleet is on it too.
pub(crate) fn network() -> Vec<Sighting> {
    let mut far = sighting(4, "x86-kiosk-7");
    if let Some(target) = &mut far.target {
        target.addresses = vec!["[fe80::1c2a%2]:6789".parse().expect("an address")];
    }
    let mut closed = sighting(5, "rpi3-lab-9");
    closed.device.state = Some(DeviceState::Closed);
    let mut ours = claimed(sighting(6, "pump-eu-0000"), 3);
    ours.device.fingerprint = Some(sample::fingerprint(0));
    let mut conflict = sighting(9, "cam-22");
    conflict.device.conflict = true;
    conflict.target = None;
    let mut keyless = sighting(10, "old-1");
    keyless.device.fingerprint = None;
    keyless.target = None;
    vec![
        sighting(1, "rpi4-001"),
        sighting(2, "jetson-002"),
        sighting(3, "rpi4-003"),
        far,
        closed,
        ours,
        claimed(sighting(7, "rpi4-014"), 3),
        claimed(sighting(8, "rpi4-015"), 4),
        conflict,
        keyless,
    ]
}

/// Hands a console an event.
pub(crate) fn give(app: &mut App, event: Event) -> Vec<Effect> {
    let now = sample::moment(app.desk.now.since_start);
    app.apply(now, event)
}

/// A console of some size that is connected, and looks for devices on two interfaces.
pub(crate) fn looking(size: Size) -> App {
    let mut app = sample::app(3, size);
    press(&mut app, "5");
    let interface = |(index, name): (u32, &str)| Interface { index, name: name.to_owned() };
    let interfaces = [(2, "eth0"), (3, "wlan0")].map(interface).to_vec();
    give(&mut app, Event::Searching(interfaces));
    app
}

/// The same with that network.
pub(crate) fn found(size: Size) -> App {
    let mut app = looking(size);
    give(&mut app, Event::Sightings(network()));
    app
}

/// A step of a device's provisioning.
pub(crate) fn step(app: &mut App, number: u32, step: Step) {
    let progress = Progress::Step(step);
    give(app, Event::Provisioning(Provisioning { fingerprint: fingerprint(number), progress }));
}

/// The end of a device's provisioning.
pub(crate) fn end(app: &mut App, number: u32, status: DiscoverOutcome, reason: &str, hint: &str) {
    let some = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
    let device_id = (status == DiscoverOutcome::Configured)
        .then(|| network()[number as usize - 1].device.device_id.clone())
        .flatten();
    let outcome = Outcome { status, device_id, reason: some(reason), hint: some(hint) };
    let progress = Progress::Done(outcome);
    give(app, Event::Provisioning(Provisioning { fingerprint: fingerprint(number), progress }));
}

/// A console after a run of four: two are in, one waits, one was not reached.
pub(crate) fn after_a_run(size: Size) -> App {
    let mut app = found(size);
    press(&mut app, "a x c y");
    for number in 1..=4 {
        step(&mut app, number, Step::Met);
    }
    crate::testing::wait(&mut app, Duration::from_millis(3_100));
    for number in 1..=3 {
        step(&mut app, number, Step::Granted);
        step(&mut app, number, Step::Delivered);
    }
    end(&mut app, 1, DiscoverOutcome::Configured, "", "");
    let reason = "claimed, not yet connected to the server";
    let hint = "check that the device can reach https://fleet.example.com:8443";
    end(&mut app, 2, DiscoverOutcome::Pending, reason, hint);
    let reason = "unreachable: connection refused";
    let hint = "check that TCP port 6789 of the device is open to this host";
    end(&mut app, 4, DiscoverOutcome::Unreachable, reason, hint);
    crate::testing::wait(&mut app, Duration::from_secs(2));
    app
}
