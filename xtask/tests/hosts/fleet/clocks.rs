//! Devices whose clock is years off: the server's clock counts.

use super::{Agent, Server, now_millis, program};
use crate::lab::Lab;

/// How far a stored time may be from now.
const CLOSE_MILLIS: i64 = 60_000;

#[test]
fn a_device_that_lives_in_another_year_reports_in_this_one() {
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
