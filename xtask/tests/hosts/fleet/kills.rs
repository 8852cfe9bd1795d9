//! The promise about data: what the server acknowledged is stored, once, however often either
//! side is killed without a word.
//!
//! The ledger is the agents' own log: each line `acknowledged … at=…` is a report that must be
//! found in the store afterwards.

use std::collections::BTreeSet;
use std::thread;
use std::time::Duration;

use super::{Agent, COME_BACK, Server, now_millis};
use crate::lab::{Lab, wait_for};

/// Kills unless `FLEETD_TEST_KILLS` says otherwise.
const KILLS: u32 = 50;
/// The latest moment of a kill after something was acknowledged.
const MOMENT_MILLIS_MAX: u64 = 400;

#[test]
fn acknowledged_reports_survive_kills_of_both_sides() {
    let kills = std::env::var("FLEETD_TEST_KILLS")
        .map_or(KILLS, |text| text.parse().expect("FLEETD_TEST_KILLS is a number"));
    let mut lab = Lab::new();
    let lan = lab.lan();
    let desk = lab.host("desk", &[&lan]);
    let hosts = ["cam-1", "cam-2", "cam-3"].map(|name| lab.host(name, &[&lan]));
    let server = Server::start(&desk);
    let agents: Vec<Agent<'_>> = hosts.iter().map(Agent::start).collect();
    server.configure(&["cam-1", "cam-2", "cam-3"]);

    let mut moment = 7_u64;
    for round in 0..kills {
        let agent = &agents[round as usize % agents.len()];
        let before = agent.acknowledged().len();
        wait_for("one more acknowledged report", COME_BACK, || {
            (agent.acknowledged().len() > before).then_some(())
        });
        // Not a wait: this chooses where in its work the victim is hit.
        moment = moment.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        thread::sleep(Duration::from_millis((moment >> 33) % MOMENT_MILLIS_MAX));
        if round % 5 == 4 {
            server.kill();
            server.start_again();
        } else {
            agent.kill();
            agent.start_again();
        }
    }

    let end = now_millis();
    for agent in &agents {
        server.stores_after(&agent.id, end);
        assert_ledger_holds(agent, &server.stored(&agent.id));
    }
}

#[track_caller]
fn assert_ledger_holds(agent: &Agent<'_>, stored: &[i64]) {
    let unique: BTreeSet<i64> = stored.iter().copied().collect();
    assert_eq!(unique.len(), stored.len(), "{} has reports twice", agent.id);
    let ledger = agent.acknowledged();
    assert!(!ledger.is_empty(), "the agent's log has no acknowledgements");
    let lost: Vec<&i64> = ledger.iter().filter(|at| !unique.contains(at)).collect();
    assert!(lost.is_empty(), "{} lost {lost:?} of {} acknowledged", agent.id, ledger.len());
}
