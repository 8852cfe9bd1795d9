//! What every store does with keys; a part of the contract.

use std::sync::Arc;

use fleet_server::store::{Conflict, KeyOrigin, KeyRecord, KeyRefusal, Store, StoreError};

use crate::store_contract::{conflict, missing};
use crate::store_kit::{key, time};

type Any = Arc<dyn Store>;

pub(crate) async fn keys_are_used_up_revoked_and_expire(store: Any) {
    for record in [
        key("a"),
        KeyRecord { uses_left: Some(1), ..key("b") },
        KeyRecord { expires_at: Some(time(100)), ..key("c") },
    ] {
        store.key_insert(record).await.unwrap();
    }
    conflict(store.key_insert(key("a")).await, Conflict::Exists("key"));
    let ids: Vec<_> = store.key_list().await.unwrap().into_iter().map(|key| key.id).collect();
    assert_eq!(ids, ["a", "b", "c"]);

    assert_eq!(store.key_use("a", time(50), None).await.unwrap().last_used, Some(time(50)));
    assert_eq!(store.key_use("b", time(50), None).await.unwrap().uses_left, Some(0));
    unusable(store.key_use("b", time(50), None).await, KeyRefusal::Spent);
    store.key_use("c", time(99), None).await.unwrap();
    unusable(store.key_use("c", time(100), None).await, KeyRefusal::Expired);
    assert_eq!(store.key_revoke("a", time(60)).await.unwrap().revoked_at, None);
    assert_eq!(store.key_revoke("a", time(70)).await.unwrap().revoked_at, Some(time(60)));
    unusable(store.key_use("a", time(50), None).await, KeyRefusal::Revoked);
    missing(store.key_use("d", time(50), None).await, "key");
    missing(store.key_revoke("d", time(50)).await, "key");
    assert_eq!(store.key_get("d").await.unwrap(), None);
    assert_eq!(store.key_get("c").await.unwrap().unwrap().last_used, Some(time(99)));
}

pub(crate) async fn where_keys_come_from_is_kept_beside_them(store: Any) {
    let origin = |succeeds: Option<&str>| {
        Some(KeyOrigin { author: "ada".to_owned(), succeeds: succeeds.map(str::to_owned) })
    };
    let first = KeyRecord { origin: origin(None), ..key("a") };
    let second = KeyRecord { origin: origin(Some("a")), ..key("b") };
    store.key_insert(first.clone()).await.unwrap();
    store.key_insert(key("older")).await.unwrap();
    store.key_succeed("a", second.clone(), time(5), time(9)).await.unwrap();
    store.key_use("a", time(6), None).await.unwrap();
    store.key_revoke("b", time(7)).await.unwrap();
    let (first, second) = (first.origin, second.origin);
    for (id, expected) in [("a", &first), ("b", &second), ("older", &None)] {
        assert_eq!(store.key_get(id).await.unwrap().unwrap().origin, *expected, "{id}");
    }
    let listed: Vec<_> =
        store.key_list().await.unwrap().into_iter().map(|key| key.origin).collect();
    assert_eq!(listed, [first, second, None]);
}

pub(crate) async fn keys_that_ended_long_ago_go(store: Any) {
    let origin = Some(KeyOrigin { author: "ada".to_owned(), succeeds: None });
    for record in [
        KeyRecord { origin: origin.clone(), ..key("good") },
        KeyRecord { expires_at: Some(time(100)), ..key("later") },
        KeyRecord { expires_at: Some(time(99)), origin, ..key("expired") },
        KeyRecord { revoked_at: Some(time(5)), expires_at: Some(time(200)), ..key("revoked") },
        KeyRecord { uses_left: Some(1), ..key("spent") },
    ] {
        store.key_insert(record).await.unwrap();
    }
    store.key_use("spent", time(50), None).await.unwrap();
    assert_eq!(store.key_purge(time(5)).await.unwrap(), 0);
    assert_eq!(store.key_purge(time(100)).await.unwrap(), 3);
    assert_eq!(store.key_purge(time(100)).await.unwrap(), 0);
    let ids: Vec<_> = store.key_list().await.unwrap().into_iter().map(|key| key.id).collect();
    assert_eq!(ids, ["good", "later"]);
    // Nothing of where it came from is left for another of its name.
    store.key_insert(key("expired")).await.unwrap();
    assert_eq!(store.key_get("expired").await.unwrap().unwrap().origin, None);
}

pub(crate) async fn one_use_goes_to_one_of_many(store: Any) {
    let record = KeyRecord { uses_left: Some(3), ..key("k") };
    store.key_insert(record).await.unwrap();
    let uses = (0..20).map(|_| store.key_use("k", time(1), None));
    let done = futures_util::future::join_all(uses).await;
    assert_eq!(done.iter().filter(|done| done.is_ok()).count(), 3);
}

#[track_caller]
fn unusable<T>(done: Result<T, StoreError>, expected: KeyRefusal) {
    match done {
        Err(StoreError::KeyRefused(found)) => assert_eq!(found, expected),
        Err(error) => panic!("expected {expected:?}, not {error:?}"),
        Ok(_) => panic!("expected {expected:?}"),
    }
}
