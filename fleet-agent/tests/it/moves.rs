//! A server that says that it is somewhere else: both places are real ports.

use fleet_core::net::url::ServerUrl;
use fleet_core::wire::{ConfigReported, ConfigTrial, Standing, ToServer, TrialState};

use crate::link::{Rig, push_config};
use crate::server::{AgentEnd, Server};
use crate::within::until;

/// Goes on until the agent says what is asked for. Its reports are stored if so wished.
async fn hears<T>(link: &mut AgentEnd, stores: bool, wanted: impl Fn(&ToServer) -> Option<T>) -> T {
    loop {
        let frame = link.next().await.expect("the agent stays");
        if let Some(found) = wanted(&frame) {
            return found;
        }
        if let ToServer::Samples(samples) = &frame
            && stores
        {
            link.acknowledge(samples).await;
        }
    }
}

fn is_good(version: u64) -> impl Fn(&ToServer) -> Option<()> {
    move |frame| match frame {
        ToServer::ConfigReported(ConfigReported { version: said, error: None, .. }) => {
            (*said == version).then_some(())
        }
        _ => None,
    }
}

fn is_tried(version: u64) -> impl Fn(&ToServer) -> Option<()> {
    move |frame| match frame {
        ToServer::ConfigTrial(ConfigTrial { version: said, state: TrialState::Trying, .. }) => {
            (*said == version).then_some(())
        }
        _ => None,
    }
}

fn moved_to(server: &Server) -> String {
    format!("{{\"server_url\":\"{}\"}}", server.url())
}

fn urls(rig: &Rig) -> Vec<ServerUrl> {
    rig.device.membership.target().unwrap().urls.clone()
}

#[tokio::test]
async fn a_device_leaves_its_place_when_the_other_one_has_its_report() {
    let (old, new) = (Server::start(7).await, Server::start(7).await);
    let rig = Rig::claimed(&old);
    let mut link = old.link().await;
    link.activate().await;
    push_config(&mut link, 1, &moved_to(&new), &old.key).await;
    hears(&mut link, true, is_tried(1)).await;

    // A place that does not let it in is none; what it has it keeps.
    let mut there = new.link().await;
    there.stand(Standing::Pending { reason: "nobody knows it".to_owned() }).await;
    assert_eq!(there.next().await, None);
    rig.push(1);
    link.samples().await;

    let mut there = new.link().await;
    there.activate().await;
    hears(&mut there, false, is_tried(1)).await;
    while link.next().await.is_some() {}
    assert_eq!(urls(&rig), [old.url()], "nothing is shown yet");

    // The new place goes before it has a report: the old one is still there, and the search goes on.
    drop(there);
    let new = new.restart().await;
    let mut link = old.link().await;
    link.activate().await;
    hears(&mut link, true, is_tried(1)).await;
    let mut there = new.link().await;
    there.activate().await;
    hears(&mut there, true, is_good(1)).await;
    until("the new place to be first", || urls(&rig) == [new.url(), old.url()]).await;

    // It holds after a restart, and what says nothing of a place leads back.
    drop(there);
    let rig = Rig::new(rig.stop().await, None);
    let mut there = new.link().await;
    there.activate().await;
    hears(&mut there, true, is_good(1)).await;
    push_config(&mut there, 2, "{}", &old.key).await;
    let mut back = old.link().await;
    back.activate().await;
    hears(&mut back, true, is_good(2)).await;
    until("the old place alone", || urls(&rig) == [old.url()]).await;
    drop((back, there));
    rig.stop().await;
}

#[tokio::test]
async fn a_place_that_lets_go_of_the_device_is_not_dialled_at_once() {
    let (old, new) = (Server::start(7).await, Server::start(7).await);
    let rig = Rig::claimed(&old);
    let mut link = old.link().await;
    link.activate().await;
    push_config(&mut link, 1, &moved_to(&new), &old.key).await;
    for _ in 0..2 {
        let mut there = new.link().await;
        there.activate().await;
        drop((link, there));
        link = tokio::select! {
            biased;
            _ = new.link() => panic!("it comes back without a pause"),
            link = old.link() => link,
        };
        link.activate().await;
    }
    let mut there = new.link().await;
    there.activate().await;
    hears(&mut there, true, is_good(1)).await;
    drop((link, there));
    rig.stop().await;
}

#[tokio::test]
async fn a_device_without_its_record_finds_the_place_that_was_good() {
    let (old, new) = (Server::start(7).await, Server::start(7).await);
    let rig = Rig::claimed(&old);
    let mut link = old.link().await;
    link.activate().await;
    push_config(&mut link, 1, &moved_to(&new), &old.key).await;
    let mut there = new.link().await;
    there.activate().await;
    hears(&mut there, true, is_good(1)).await;
    drop((link, there));
    let folder = rig.stop().await;
    let old_url = old.url();
    drop(old);

    std::fs::write(folder.path().join("configuration/record"), "no record").unwrap();
    let rig = Rig::new(folder, None);
    let mut there = new.link().await;
    there.activate().await;
    hears(&mut there, true, is_good(0)).await;
    assert_eq!(urls(&rig), [new.url(), old_url]);
    push_config(&mut there, 1, &moved_to(&new), &new.key).await;
    hears(&mut there, true, is_good(1)).await;
    drop(there);
    rig.stop().await;
}

#[tokio::test]
async fn a_restart_in_the_middle_of_a_move_reaches_either() {
    let (old, new) = (Server::start(7).await, Server::start(7).await);
    let rig = Rig::claimed(&old);
    let mut link = old.link().await;
    link.activate().await;
    push_config(&mut link, 1, &moved_to(&new), &old.key).await;
    hears(&mut link, true, is_tried(1)).await;
    drop(link);
    let folder = rig.stop().await;
    let old = old.stop();

    // The old one is gone for good meanwhile.
    let rig = Rig::new(folder, None);
    let mut there = new.link().await;
    there.activate().await;
    hears(&mut there, true, is_good(1)).await;
    drop(there);
    let folder = rig.stop().await;

    // And the new one, later on.
    drop(new);
    let old = old.start_again().await;
    let rig = Rig::new(folder, None);
    let mut link = old.link().await;
    link.activate().await;
    hears(&mut link, true, is_good(1)).await;
    drop(link);
    rig.stop().await;
}
