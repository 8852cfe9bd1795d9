//! A new key from the server's word to the device's next run, against a server that does what each
//! test tells it to.

use fleet_core::identity::PublicKey;
use fleet_core::wire::{NewKey, Outcome, Progress, ToAgent, ToServer};

use crate::agent::key;
use crate::commands::Device;
use crate::server::{AgentEnd, UID};
use crate::within::within;

/// The key that the agent offers next.
async fn offered(link: &mut AgentEnd) -> NewKey {
    loop {
        if let ToServer::NewKey(offer) = link.next().await.expect("the agent stays") {
            return *offer;
        }
    }
}

async fn note(link: &mut AgentEnd, device_pub: [u8; 32], refused: Option<&str>) {
    let refused = refused.map(str::to_owned);
    link.send(ToAgent::NewKeyNoted { device_pub, refused }).await;
}

#[tokio::test]
async fn a_new_key_takes_the_place_of_the_old_one_once() {
    let device = Device::new("").await;
    let old = key(&device.app);
    let mut link = device.link().await;
    link.order(&device.server, 1, &["rotate-key"]).await;
    let offer = offered(&mut link).await;
    assert!(offer.is_signed(UID, device.server.key.public(), old));
    assert_eq!((offer.command, link.device), ([1; 16], old));

    // An answer that did not come is asked for again, by another run of the agent too.
    drop(link);
    let mut link = device.link().await;
    assert_eq!(offered(&mut link).await.device_pub, offer.device_pub);
    drop(link);
    let device = device.restart().await;
    let mut link = device.link().await;
    assert_eq!(offered(&mut link).await.device_pub, offer.device_pub);
    assert_eq!(link.device, old);

    let restarts = device.app.restarts();
    note(&mut link, [0; 32], None).await;
    note(&mut link, offer.device_pub, None).await;
    within("the agent to begin anew", restarts.notified()).await;
    drop(link);
    let device = device.restart().await;
    let new = PublicKey::from_bytes(offer.device_pub);
    assert_eq!(key(&device.app), new);
    let mut link = device.link().await;
    assert_eq!(link.device, new);
    let done = link.result(1).await;
    let detail = format!("the device's key is {} now", new.fingerprint());
    assert_eq!((done.outcome, done.detail), (Outcome::Succeeded, detail));

    // The same order again changes nothing, and another one makes another key.
    link.order(&device.server, 1, &["rotate-key"]).await;
    assert!(matches!(link.news().await, (1, Progress::Done(_))));
    link.note(1).await;
    link.order(&device.server, 2, &["rotate-key"]).await;
    assert_ne!(offered(&mut link).await.device_pub, offer.device_pub);
    drop(link);
    device.app.stop().await;
}

#[tokio::test]
async fn a_key_that_the_server_does_not_take_is_let_go_of() {
    let device = Device::new("").await;
    let old = key(&device.app);
    let mut link = device.link().await;
    link.order(&device.server, 1, &["rotate-key"]).await;
    let offer = offered(&mut link).await;
    note(&mut link, offer.device_pub, Some("no\u{1b}[2J")).await;
    let done = link.result(1).await;
    assert_eq!(done.outcome, Outcome::Failed);
    assert_eq!(done.detail, "the server does not take the new key: no\\u{1b}[2J");
    // A word that comes late is none.
    note(&mut link, offer.device_pub, None).await;
    drop(link);
    let device = device.restart().await;
    assert_eq!(key(&device.app), old);
    assert!(!device.folder.path().join("data/new-key").exists());
    device.app.stop().await;
}

#[tokio::test]
async fn a_device_that_is_forgotten_offers_no_key_to_the_next_server() {
    let device = Device::new("").await;
    let mut link = device.link().await;
    link.order(&device.server, 1, &["rotate-key"]).await;
    offered(&mut link).await;
    device.app.forget().unwrap();
    while link.next().await.is_some() {}
    crate::within::until("the key to be gone", || {
        !device.folder.path().join("data/new-key").exists()
    })
    .await;
    device.app.stop().await;
}
