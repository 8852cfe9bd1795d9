//! What every store does with deleted devices that are had back; a part of the contract.

use std::sync::Arc;

use fleet_core::identity::PublicKey;
use fleet_server::store::{
    Admission, Conflict, Deleted, Device, NextKey, OtherKeys, Outcome, Restored, Store, StoreError,
};

use crate::store_kit::{config, device, query, report, time};

type Any = Arc<dyn Store>;

fn conflict<T: std::fmt::Debug>(result: Result<T, StoreError>, wanted: &Conflict) {
    assert!(matches!(&result, Err(StoreError::Conflict(found)) if found == wanted), "{result:?}");
}

fn missing<T: std::fmt::Debug>(result: Result<T, StoreError>) {
    assert!(matches!(result, Err(StoreError::Missing("deleted device"))), "{result:?}");
}

pub(crate) async fn a_deleted_device_is_had_back_as_it_was(store: Any) {
    for (state, seed) in [
        (Admission::Active, 1),
        (Admission::Pending, 2),
        (Admission::Rejected, 3),
        (Admission::Revoked, 4),
    ] {
        let one = Device { state, ..device(&format!("one-{seed}"), seed) };
        store.device_insert(one.clone()).await.unwrap();
        store.append(vec![report(one.uid, Some((1, 1)), 10, 1.0)]).await.unwrap();
        store.config_append(one.uid, None, config("{}")).await.unwrap();
        missing(store.deleted_restore(one.uid).await);
        store.device_delete(one.uid, time(100)).await.unwrap();
        let listed = Deleted { device: one.clone(), at: time(100) };
        assert_eq!(store.deleted_list().await.unwrap(), [listed]);

        let restored = store.deleted_restore(one.uid).await.unwrap();
        assert_eq!(restored, Restored { device: one.clone(), gave_way: Vec::new() });
        assert_eq!(store.deleted_list().await.unwrap(), []);
        missing(store.deleted_restore(one.uid).await);
        assert_eq!(store.device_find(&one.id).await.unwrap(), Some(one.clone()));
        assert_eq!(store.device_by_key(one.key.unwrap()).await.unwrap(), Some(one.clone()));
        assert_eq!(store.directory().state(one.uid), Some(state));
        assert_eq!(store.config_latest(one.uid).await.unwrap().unwrap().version, 1);
        // Its telemetry goes on where it was, and what came before is known to have come.
        let again = vec![report(one.uid, Some((1, 1)), 10, 1.0)];
        assert_eq!(store.append(again).await.unwrap(), [Outcome::Duplicate]);
        let next = vec![report(one.uid, Some((1, 2)), 20, 2.0)];
        assert_eq!(store.append(next).await.unwrap(), [Outcome::Stored]);
        assert_eq!(store.query(query(one.uid, "cpu_usage")).await.unwrap().len(), 2);
    }
    assert_eq!(store.device_purge(time(i64::MAX)).await.unwrap(), 0);
}

pub(crate) async fn nobody_is_had_back_into_anothers_place(store: Any) {
    let one = device("one", 1);
    store.device_insert(one.clone()).await.unwrap();
    store.device_delete(one.uid, time(100)).await.unwrap();

    let namesake = device("one", 2);
    store.device_insert(namesake.clone()).await.unwrap();
    conflict(store.deleted_restore(one.uid).await, &Conflict::DeviceId(one.id.clone()));
    store.device_delete(namesake.uid, time(101)).await.unwrap();
    let other = device("uno", 1);
    store.device_insert(other.clone()).await.unwrap();
    conflict(store.deleted_restore(one.uid).await, &Conflict::DeviceKey);
    // What was refused changed nothing.
    assert_eq!(store.deleted_list().await.unwrap().len(), 2);
    assert_eq!(store.device_list().await.unwrap(), std::slice::from_ref(&other));
    store.device_delete(other.uid, time(102)).await.unwrap();
    assert_eq!(store.deleted_restore(one.uid).await.unwrap().device, one);
    conflict(store.deleted_restore(namesake.uid).await, &Conflict::DeviceId(one.id.clone()));
}

pub(crate) async fn who_waits_with_the_same_key_gives_way(store: Any) {
    let one = device("one", 1);
    store.device_insert(one.clone()).await.unwrap();
    store.device_delete(one.uid, time(100)).await.unwrap();
    let stranger = Device { state: Admission::Pending, ..device("one", 1) };
    store.device_insert(stranger.clone()).await.unwrap();
    let other = Device { state: Admission::Pending, ..device("two", 2) };
    store.device_insert(other.clone()).await.unwrap();

    let restored = store.deleted_restore(one.uid).await.unwrap();
    assert_eq!(restored.device, one);
    let gave_way: Vec<_> = restored.gave_way.iter().map(|gone| (gone.uid, gone.key)).collect();
    assert_eq!(gave_way, [(stranger.uid, one.key)]);
    assert_eq!(store.device_list().await.unwrap(), [one, other]);
    assert_eq!(store.directory().state(stranger.uid), None);
    assert_eq!(store.deleted_list().await.unwrap(), [], "a stranger is not had back");
    assert_eq!(store.device_purge(time(1)).await.unwrap(), 1);
    assert_eq!(store.device_get(stranger.uid).await.unwrap(), None);
}

pub(crate) async fn a_device_is_had_back_with_all_its_keys(store: Any) {
    let key = |seed| PublicKey::from_bytes([seed; 32]);
    let next = Some(NextKey { key: key(2), command: None });
    let other_keys = OtherKeys { next, former: vec![key(3), key(4)] };
    let one = Device { other_keys, ..device("one", 1) };
    store.device_insert(one.clone()).await.unwrap();
    for seed in [2, 3, 4] {
        store.device_delete(one.uid, time(100)).await.unwrap();
        // Whoever is in the fleet with one of them stays; whoever waits with one gives way.
        let other = device("other", seed);
        store.device_insert(other.clone()).await.unwrap();
        conflict(store.deleted_restore(one.uid).await, &Conflict::DeviceKey);
        assert_eq!(store.device_list().await.unwrap(), std::slice::from_ref(&other));
        store.device_forget(other.uid).await.unwrap();
        let stranger = Device { state: Admission::Pending, ..device("one", seed) };
        store.device_insert(stranger.clone()).await.unwrap();
        let restored = store.deleted_restore(one.uid).await.unwrap();
        assert_eq!(restored.device, one);
        let gave_way: Vec<_> = restored.gave_way.iter().map(|gone| (gone.uid, gone.key)).collect();
        assert_eq!(gave_way, [(stranger.uid, Some(key(seed)))]);
        for seed in 1..=4 {
            assert_eq!(store.device_by_key(key(seed)).await.unwrap(), Some(one.clone()));
        }
        assert_eq!(store.device_list().await.unwrap(), std::slice::from_ref(&one));
    }
}

pub(crate) async fn what_goes_is_not_had_back(store: Any) {
    let (one, two, three) = (device("one", 1), device("two", 2), device("three", 3));
    for device in [&one, &two, &three] {
        store.device_insert(device.clone()).await.unwrap();
    }
    store.device_delete(one.uid, time(100)).await.unwrap();
    store.device_delete(two.uid, time(200)).await.unwrap();
    store.device_forget(three.uid).await.unwrap();
    assert_eq!(store.device_purge(time(101)).await.unwrap(), 1);
    missing(store.deleted_restore(one.uid).await);
    missing(store.deleted_restore(three.uid).await);
    let left: Vec<_> = store.deleted_list().await.unwrap();
    assert_eq!(left.into_iter().map(|left| left.device).collect::<Vec<_>>(), [two]);
}
