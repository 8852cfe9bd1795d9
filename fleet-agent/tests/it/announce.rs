//! What the network hears of an agent, by a browser on the same loopback.

use fleet_agent::app::App;
use fleet_core::api::{ClaimMode, DeviceState};
use fleet_core::beacon::{Heard, SERVICE_TYPE};
use fleet_core::id::DeviceId;
use fleet_core::mdns::{Browser, Event, Instance, Options, browse};
use fleet_core::wire::Standing;

use crate::agent::{claim, key, settings};
use crate::server::{Server, UID};
use crate::within::within;

/// The next news of one device.
async fn news(browser: &mut Browser, id: &DeviceId, what: &str) -> Option<(Instance, Heard)> {
    within(what, async {
        loop {
            let (instance, lost) = match browser.next().await.expect("the browser goes on") {
                Event::Found(instance) | Event::Updated(instance) => (instance, false),
                Event::Lost(instance) => (instance, true),
            };
            let heard = Heard::read(&instance);
            if heard.id.as_ref() == Some(id) {
                return (!lost).then_some((instance, heard));
            }
        }
    })
    .await
}

#[tokio::test]
async fn an_agent_is_heard_from_its_start_to_its_goodbye() {
    let folder = tempfile::tempdir().unwrap();
    // Other tests announce devices on the same loopback.
    let id: DeviceId = format!("heard-{}", std::process::id()).parse().unwrap();
    let mut settings = settings(folder.path());
    settings.device_id = Some(id.clone());
    let options = Options { interfaces: vec!["lo".to_owned()], address: None };
    let mut browser = browse(options, SERVICE_TYPE).unwrap();
    let app = App::start(settings).unwrap();
    let server = Server::start(7).await;

    let (instance, heard) = news(&mut browser, &id, "the device").await.unwrap();
    assert_eq!(instance.port, app.address().port());
    assert_eq!(instance.name.raw(), format!("fleetd-{id}"));
    assert_eq!(heard.fingerprint, Some(key(&app).fingerprint()));
    assert_eq!((heard.state, heard.server), (Some(DeviceState::Unclaimed), None));
    assert_eq!(heard.claim, Some(ClaimMode::Open));
    assert_eq!(heard.version.unwrap().raw(), fleet_core::VERSION);

    claim(&app, &server.grant(key(&app)).sign(&server.key).unwrap()).await;
    loop {
        let (_, heard) = news(&mut browser, &id, "the device's new state").await.unwrap();
        if heard.state == Some(DeviceState::Claimed) {
            assert_eq!(heard.server, Some(server.key.public().identity()));
            break;
        }
    }

    // Its server calls it otherwise: the old name goes, the new one comes.
    let given: DeviceId = format!("given-{}", std::process::id()).parse().unwrap();
    let mut link = server.link().await;
    link.stand(Standing::Active { uid: UID, device_id: given.to_string() }).await;
    while news(&mut browser, &id, "the old name's goodbye").await.is_some() {}
    let (instance, _) = news(&mut browser, &given, "the new name").await.unwrap();
    assert_eq!(instance.name.raw(), format!("fleetd-{given}"));

    // Its owner wants it free again.
    app.forget().unwrap();
    loop {
        let (_, heard) = news(&mut browser, &id, "the free device").await.unwrap();
        if heard.state == Some(DeviceState::Unclaimed) {
            assert_eq!(heard.server, None);
            break;
        }
    }
    drop(link);
    app.stop().await;
    while news(&mut browser, &id, "the device's goodbye").await.is_some() {}
}
