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
        let (ledger, stored) = (agent.acknowledged(), server.stored(&agent.id));
        assert!(!ledger.is_empty(), "the log of {} has no acknowledgements", agent.id);
        assert_eq!(breach(&ledger, &stored), None, "{}", agent.id);
    }
}

#[test]
fn a_lost_and_a_doubled_report_would_be_noticed() {
    assert_eq!(breach(&[1, 2], &[3, 2, 1]), None);
    assert!(breach(&[1, 2], &[3, 1]).is_some_and(|breach| breach.contains("lost")));
    assert!(breach(&[1, 2], &[2, 2, 1]).is_some_and(|breach| breach.contains("twice")));
}

/// How what is stored breaks the promise that the ledger records.
pub(super) fn breach(ledger: &[i64], stored: &[i64]) -> Option<String> {
    let unique: BTreeSet<i64> = stored.iter().copied().collect();
    if unique.len() < stored.len() {
        return Some(format!("{} reports are there twice", stored.len() - unique.len()));
    }
    let lost: Vec<&i64> = ledger.iter().filter(|at| !unique.contains(at)).collect();
    (!lost.is_empty()).then(|| format!("lost {lost:?} of {} acknowledged reports", ledger.len()))
}
