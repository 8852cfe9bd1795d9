//! What every store does with events, and with reports that are shown one by one; a part of the
//! contract.

use std::sync::{Arc, Mutex};

use fleet_core::api::EventKind;
use fleet_core::id::Uid;
use fleet_core::metric::Sample;
use fleet_server::store::{About, Device, Event, EventQuery, Refusal, Store};

use crate::store_kit::{device, id, report, time};

type Any = Arc<dyn Store>;

fn event(kind: EventKind, device: Option<&Device>, at: i64) -> Event {
    Event {
        at: time(at),
        kind,
        actor: "operator:ada".to_owned(),
        device: device.map(|device| (device.id.clone(), device.uid)),
        text: format!("at {at}"),
    }
}

fn everything() -> EventQuery {
    EventQuery {
        about: None,
        kinds: Vec::new(),
        since: time(0),
        until: time(i64::MAX),
        before: u64::MAX,
        limit: 1_000,
    }
}

pub(crate) async fn events_are_numbered_in_their_order(store: Any) {
    assert_eq!(store.event_newest().await.unwrap(), 0);
    assert_eq!(store.event_append(Vec::new()).await.unwrap(), 0);
    let one = device("one", 1);
    // Times may go back, numbers do not.
    let first = event(EventKind::DevicePending, Some(&one), 20);
    let second = event(EventKind::ServerStarted, None, 10);
    assert_eq!(store.event_append(vec![first.clone(), second.clone()]).await.unwrap(), 2);
    let third = event(EventKind::DeviceAccepted, Some(&one), 30);
    assert_eq!(store.event_append(vec![third.clone()]).await.unwrap(), 3);
    assert_eq!(store.event_newest().await.unwrap(), 3);
    let all = [(1, first), (2, second), (3, third)];
    assert_eq!(store.event_after(0, 9).await.unwrap(), all);
    assert_eq!(store.event_after(1, 1).await.unwrap(), all[1..2]);
    assert_eq!(store.event_after(3, 9).await.unwrap(), []);
    assert_eq!(store.event_after(u64::MAX, 9).await.unwrap(), []);
    let listed = store.event_list(everything()).await.unwrap();
    assert!(listed.iter().eq(all.iter().rev()), "{listed:?}");
}

pub(crate) async fn a_device_changes_with_what_tells_of_it_or_not_at_all(store: Any) {
    let one = device("one", 1);
    store.device_insert(one.clone()).await.unwrap();
    let tell = |device: &Device| vec![event(EventKind::DeviceRekeyed, Some(device), 5)];
    let refuse = |_: &mut Device| Err(Refusal("not this one".to_owned()));
    let refused = store.device_update_told(one.uid, Box::new(refuse), Box::new(tell)).await;
    assert!(refused.is_err());
    assert_eq!(store.event_newest().await.unwrap(), 0);
    let rename = |device: &mut Device| {
        device.id = id("two");
        Ok(())
    };
    let two = store.device_update_told(one.uid, Box::new(rename), Box::new(tell)).await.unwrap();
    let told = event(EventKind::DeviceRekeyed, Some(&two), 5);
    assert_eq!(store.event_after(0, 9).await.unwrap(), [(1, told)]);
}

pub(crate) async fn one_of_many_events_gets_each_number(store: Any) {
    let racing =
        (0..200).map(|at| store.event_append(vec![event(EventKind::KeyCreated, None, at)]));
    let done = futures_util::future::join_all(racing).await;
    let mut seqs: Vec<u64> = done.into_iter().map(Result::unwrap).collect();
    seqs.sort_unstable();
    assert!(seqs.into_iter().eq(1..=200));
}

pub(crate) async fn events_are_found_by_what_they_are_about(store: Any) {
    let (one, two) = (device("one", 1), device("two", 2));
    let renamed = Device { id: id("uno"), ..one.clone() };
    let heir = Device { id: id("one"), ..two.clone() };
    store
        .event_append(vec![
            event(EventKind::DevicePending, Some(&one), 10),
            event(EventKind::DeviceAccepted, Some(&renamed), 20),
            event(EventKind::ServerStarted, None, 30),
            event(EventKind::DevicePending, Some(&heir), 40),
        ])
        .await
        .unwrap();
    let about = |about| EventQuery { about: Some(about), ..everything() };
    let kinds = |kinds: &[EventKind]| EventQuery { kinds: kinds.to_vec(), ..everything() };
    for (query, found) in [
        (about(About::Device(one.uid)), &[2, 1][..]),
        (about(About::Device(two.uid)), &[4]),
        (about(About::Device(Uid::new())), &[]),
        (about(About::Called(id("one"))), &[4, 1]),
        (about(About::Called(id("uno"))), &[2]),
        (kinds(&[EventKind::DevicePending]), &[4, 1]),
        (kinds(&[EventKind::ServerStarted, EventKind::DeviceAccepted]), &[3, 2]),
        (kinds(&[EventKind::KeyRevoked]), &[]),
        (EventQuery { since: time(20), until: time(30), ..everything() }, &[3, 2]),
        (EventQuery { before: 3, limit: 1, ..everything() }, &[2]),
        (EventQuery { before: 1, ..everything() }, &[]),
        (EventQuery { before: 0, ..everything() }, &[]),
        (EventQuery { limit: 0, ..everything() }, &[]),
        (EventQuery { limit: 1, ..about(About::Device(one.uid)) }, &[2]),
    ] {
        let listed = store.event_list(query.clone()).await.unwrap();
        let seqs: Vec<u64> = listed.into_iter().map(|(seq, _)| seq).collect();
        assert_eq!(seqs, found, "{query:?}");
    }
}

pub(crate) async fn events_outlive_their_device(store: Any) {
    let one = device("one", 1);
    store.device_insert(one.clone()).await.unwrap();
    store.event_append(vec![event(EventKind::DeviceDeleted, Some(&one), 10)]).await.unwrap();
    store.device_delete(one.uid, time(10)).await.unwrap();
    assert_eq!(store.device_purge(time(20)).await.unwrap(), 1);
    let query = EventQuery { about: Some(About::Device(one.uid)), ..everything() };
    assert_eq!(store.event_list(query).await.unwrap().len(), 1);
}

pub(crate) async fn an_event_too_large_takes_its_whole_commit_along(store: Any) {
    let large = Event { text: "x".repeat(2 << 20), ..event(EventKind::KeyCreated, None, 1) };
    let small = event(EventKind::KeyCreated, None, 2);
    let refused = store.event_append(vec![small.clone(), large]).await.unwrap_err();
    assert_eq!(refused.to_string(), "the event is too large to store");
    assert_eq!(store.event_append(vec![small]).await.unwrap(), 1);
}

pub(crate) async fn reports_are_shown_oldest_first(store: Any) {
    let (one, two) = (device("one", 1), device("two", 2));
    for device in [&one, &two] {
        store.device_insert(device.clone()).await.unwrap();
    }
    for at in [30, 10, 40, 20] {
        store.append(vec![report(one.uid, None, at, at as f64)]).await.unwrap();
        store.append(vec![report(two.uid, None, at, -1.0)]).await.unwrap();
    }
    for (from, to, found) in [(10, 30, &[10, 20, 30][..]), (11, 19, &[]), (40, 10, &[])] {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let noted = seen.clone();
        let visit = move |at: fleet_core::time::Timestamp, samples: Vec<Sample>| {
            assert_eq!(samples.len(), 3);
            noted.lock().unwrap().push((at.millis(), samples[0].value));
        };
        store.scan(one.uid, time(from), time(to), Box::new(visit)).await.unwrap();
        let wanted: Vec<_> = found.iter().map(|at| (*at, *at as f64)).collect();
        assert_eq!(*seen.lock().unwrap(), wanted, "{from} to {to}");
    }
}
