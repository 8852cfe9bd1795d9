//! What every store does, whatever it is made of: one suite, run in memory and on disk.

use std::sync::Arc;

use fleet_core::id::Uid;
use fleet_core::identity::PublicKey;
use fleet_core::metric::Sample;
use fleet_server::store::{
    Admission, Conflict, Device, Incoming, Outcome, Point, Query, RedbStore, Refusal,
    ReportedConfig, ReportedPhase, STREAMS_PER_DEVICE_MAX, SessionRecord, Store, StoreError,
    StoreHealth, Tier,
};

use crate::store_batches::{
    a_batch_comes_with_all_its_members, a_batchs_counts_are_those_of_its_members,
    a_member_begins_with_the_next_configuration, a_member_begins_with_what_it_is_to_do,
};
use crate::store_commands::{
    a_command_is_changed_in_one_piece, a_command_is_given_once,
    a_device_has_so_many_commands_to_do, a_newer_command_takes_the_place_of_its_like,
    commands_are_due_in_their_order, commands_are_found_by_id_device_and_state,
    commands_go_with_their_device, what_is_told_of_a_command_comes_with_its_change,
};
use crate::store_deleted::{
    a_deleted_device_is_had_back_as_it_was, a_device_is_had_back_with_all_its_keys,
    nobody_is_had_back_into_anothers_place, what_goes_is_not_had_back,
    who_waits_with_the_same_key_gives_way,
};
use crate::store_disk::Disk;
use crate::store_events::{
    a_device_changes_with_what_tells_of_it_or_not_at_all,
    an_event_too_large_takes_its_whole_commit_along, events_are_found_by_what_they_are_about,
    events_are_numbered_in_their_order, events_outlive_their_device,
    one_of_many_events_gets_each_number, reports_are_shown_oldest_first,
};
use crate::store_keys::{
    keys_are_used_up_revoked_and_expire, keys_that_ended_long_ago_go, one_use_goes_to_one_of_many,
    where_keys_come_from_is_kept_beside_them,
};
use crate::store_kit::{config, device, grant, id, query, report, time};
use crate::store_names::{
    a_sample_with_a_name_too_long_is_left_out,
    names_too_long_together_are_refused_and_leave_nothing_behind,
};

macro_rules! contract {
    ($($name:ident),* $(,)?) => {
        mod in_memory {
            $(#[tokio::test]
            async fn $name() {
                super::$name(std::sync::Arc::new(super::Disk::new().store())).await;
            })*
        }

        mod on_disk {
            $(#[tokio::test]
            async fn $name() {
                let folder = tempfile::tempdir().unwrap();
                let store = super::RedbStore::open(&folder.path().join("fleet.redb")).unwrap();
                super::$name(std::sync::Arc::new(store)).await;
            })*
        }
    };
}

contract! {
    a_store_belongs_to_one_server,
    devices_are_found_by_uid_id_and_key,
    ids_and_keys_belong_to_one_device,
    a_change_is_one_piece,
    a_change_moves_id_and_key,
    a_deleted_device_frees_its_names_and_goes_later,
    a_forgotten_device_leaves_nothing,
    a_deleted_device_is_had_back_as_it_was,
    a_device_is_had_back_with_all_its_keys,
    nobody_is_had_back_into_anothers_place,
    who_waits_with_the_same_key_gives_way,
    what_goes_is_not_had_back,
    touching_notes_the_last_word,
    keys_are_used_up_revoked_and_expire,
    keys_that_ended_long_ago_go,
    where_keys_come_from_is_kept_beside_them,
    one_use_goes_to_one_of_many,
    grants_let_in_until_they_expire_or_are_used,
    expired_grants_are_purged,
    sessions_are_used_ended_and_give_way,
    configurations_count_up,
    one_of_many_writers_gets_the_version,
    a_stream_is_stored_exactly_once,
    holes_are_counted,
    old_streams_give_way,
    of_one_millisecond_the_last_value_holds,
    points_are_newest_first_and_filtered,
    the_newest_report_is_at_hand,
    pruning_takes_what_is_older,
    a_sample_with_a_name_too_long_is_left_out,
    names_too_long_together_are_refused_and_leave_nothing_behind,
    a_value_too_large_is_refused,
    events_are_numbered_in_their_order,
    a_device_changes_with_what_tells_of_it_or_not_at_all,
    one_of_many_events_gets_each_number,
    events_are_found_by_what_they_are_about,
    events_outlive_their_device,
    an_event_too_large_takes_its_whole_commit_along,
    reports_are_shown_oldest_first,
    commands_are_found_by_id_device_and_state,
    a_command_is_changed_in_one_piece,
    a_command_is_given_once,
    what_is_told_of_a_command_comes_with_its_change,
    a_newer_command_takes_the_place_of_its_like,
    a_device_has_so_many_commands_to_do,
    commands_are_due_in_their_order,
    commands_go_with_their_device,
    a_batch_comes_with_all_its_members,
    a_member_begins_with_what_it_is_to_do,
    a_member_begins_with_the_next_configuration,
    a_batchs_counts_are_those_of_its_members,
}

type Any = Arc<dyn Store>;

async fn a_store_belongs_to_one_server(store: Any) {
    let (ours, other) = (PublicKey::from_bytes([1; 32]), PublicKey::from_bytes([2; 32]));
    assert_eq!(store.server_key().await.unwrap(), None);
    store.claim_server_key(ours).await.unwrap();
    store.claim_server_key(ours).await.unwrap();
    conflict(store.claim_server_key(other).await, Conflict::ServerKey);
    assert_eq!(store.server_key().await.unwrap(), Some(ours));
    assert_eq!(store.health(), StoreHealth::Healthy);
}

async fn devices_are_found_by_uid_id_and_key(store: Any) {
    let one = device("one", 1);
    let two = Device {
        key: None,
        state: Admission::Pending,
        last_seen: Some(time(7)),
        missed_reports: 3,
        reported: Some(ReportedConfig {
            phase: ReportedPhase::Said,
            version: 4,
            hash: "abc".to_owned(),
            at: time(6),
            error: Some("no".to_owned()),
        }),
        ..device("two", 2)
    };
    store.device_insert(one.clone()).await.unwrap();
    store.device_insert(two.clone()).await.unwrap();
    assert_eq!(store.device_get(one.uid).await.unwrap(), Some(one.clone()));
    assert_eq!(store.device_find(&two.id).await.unwrap(), Some(two.clone()));
    assert_eq!(store.device_by_key(one.key.unwrap()).await.unwrap(), Some(one.clone()));
    assert_eq!(store.device_list().await.unwrap(), [one, two]);
    assert_eq!(store.device_get(Uid::new()).await.unwrap(), None);
    assert_eq!(store.device_find(&id("three")).await.unwrap(), None);
}

async fn ids_and_keys_belong_to_one_device(store: Any) {
    let one = device("one", 1);
    store.device_insert(one.clone()).await.unwrap();
    conflict(store.device_insert(device("one", 2)).await, Conflict::DeviceId(id("one")));
    conflict(store.device_insert(device("two", 1)).await, Conflict::DeviceKey);
    let again = Device { id: id("two"), key: None, ..one.clone() };
    conflict(store.device_insert(again).await, Conflict::Exists("device"));
    assert_eq!(store.device_list().await.unwrap(), std::slice::from_ref(&one));

    let two = device("two", 2);
    store.device_insert(two.clone()).await.unwrap();
    let rename = store.device_update(
        two.uid,
        Box::new(|device| {
            device.id = id("one");
            Ok(())
        }),
    );
    conflict(rename.await, Conflict::DeviceId(id("one")));
    assert_eq!(store.device_get(two.uid).await.unwrap(), Some(two));
}

async fn a_change_is_one_piece(store: Any) {
    let one = device("one", 1);
    store.device_insert(one.clone()).await.unwrap();
    let add = || {
        let (store, uid) = (Arc::clone(&store), one.uid);
        async move {
            let add = |device: &mut Device| {
                device.facts.cores += 1;
                Ok(())
            };
            store.device_update(uid, Box::new(add)).await.unwrap();
        }
    };
    futures_util::future::join_all((0..50).map(|_| add())).await;
    let now = store.device_get(one.uid).await.unwrap().unwrap();
    assert_eq!(now.facts.cores, one.facts.cores + 50);

    let no = store.device_update(
        one.uid,
        Box::new(|device| {
            device.facts.cores = 0;
            Err(Refusal("not today".to_owned()))
        }),
    );
    let refused = no.await.unwrap_err();
    assert!(matches!(&refused, StoreError::Refused(_)));
    assert_eq!(refused.to_string(), "not today");
    assert_eq!(store.device_get(one.uid).await.unwrap(), Some(now));
    missing(store.device_update(Uid::new(), Box::new(|_| Ok(()))).await, "device");
}

async fn a_change_moves_id_and_key(store: Any) {
    let one = device("one", 1);
    store.device_insert(one.clone()).await.unwrap();
    let changed = store.device_update(
        one.uid,
        Box::new(|device| {
            device.uid = Uid::new();
            device.id = id("uno");
            device.key = Some(PublicKey::from_bytes([9; 32]));
            Ok(())
        }),
    );
    let changed = changed.await.unwrap();
    assert_eq!(changed.uid, one.uid);
    assert_eq!(store.device_find(&one.id).await.unwrap(), None);
    assert_eq!(store.device_by_key(one.key.unwrap()).await.unwrap(), None);
    assert_eq!(store.device_find(&id("uno")).await.unwrap(), Some(changed.clone()));
    assert_eq!(store.device_by_key(changed.key.unwrap()).await.unwrap(), Some(changed));
    store.device_insert(device("one", 1)).await.unwrap();
}

async fn a_forgotten_device_leaves_nothing(store: Any) {
    let (one, two) = (device("one", 1), device("two", 2));
    store.device_insert(one.clone()).await.unwrap();
    store.device_insert(two.clone()).await.unwrap();
    store.append(vec![report(one.uid, Some((1, 1)), 10, 1.0)]).await.unwrap();
    store.device_forget(one.uid).await.unwrap();

    assert_eq!(store.device_get(one.uid).await.unwrap(), None);
    assert_eq!(store.device_list().await.unwrap(), [two]);
    assert_eq!(store.stats().await.unwrap().raw_rows(), 0);
    missing(store.device_forget(one.uid).await, "device");
    store.device_insert(device("one", 1)).await.unwrap();
}

async fn a_deleted_device_frees_its_names_and_goes_later(store: Any) {
    let one = device("one", 1);
    store.device_insert(one.clone()).await.unwrap();
    store.append(vec![report(one.uid, Some((1, 1)), 10, 1.0)]).await.unwrap();
    store.config_append(one.uid, None, config("{}")).await.unwrap();
    store.device_delete(one.uid, time(100)).await.unwrap();

    assert_eq!(store.device_list().await.unwrap(), []);
    assert_eq!(store.device_find(&one.id).await.unwrap(), None);
    let deleted = store.device_get(one.uid).await.unwrap().unwrap();
    assert_eq!((deleted.state, deleted.state_at), (Admission::Deleted, time(100)));
    missing(store.device_delete(one.uid, time(200)).await, "device");
    missing(store.device_update(one.uid, Box::new(|_| Ok(()))).await, "device");
    missing(store.config_append(one.uid, None, config("{}")).await, "device");
    let late = store.append(vec![report(one.uid, Some((1, 2)), 20, 1.0)]).await.unwrap();
    assert_eq!(late, [Outcome::NoDevice]);
    let heir = device("one", 1);
    store.device_insert(heir.clone()).await.unwrap();
    store.append(vec![report(heir.uid, Some((1, 1)), 10, 1.0)]).await.unwrap();

    assert_eq!(store.device_purge(time(100)).await.unwrap(), 0);
    assert!(store.latest(one.uid).await.unwrap().is_some());
    assert_eq!(store.device_purge(time(101)).await.unwrap(), 1);
    assert_eq!(store.device_get(one.uid).await.unwrap(), None);
    assert_eq!(store.latest(one.uid).await.unwrap(), None);
    assert_eq!(store.config_latest(one.uid).await.unwrap(), None);
    assert_eq!(store.device_find(&one.id).await.unwrap().unwrap().uid, heir.uid);
    let stats = store.stats().await.unwrap();
    assert_eq!(stats.raw_rows(), 1);
}

async fn touching_notes_the_last_word(store: Any) {
    let (one, two) = (device("one", 1), device("two", 2));
    store.device_insert(one.clone()).await.unwrap();
    store.device_insert(two.clone()).await.unwrap();
    let seen = vec![(one.uid, time(50)), (Uid::new(), time(50)), (one.uid, time(40))];
    store.device_touch(seen).await.unwrap();
    let seen = |uid| {
        let store = Arc::clone(&store);
        async move { store.device_get(uid).await.unwrap().unwrap().last_seen }
    };
    assert_eq!(seen(one.uid).await, Some(time(40)));
    assert_eq!(seen(two.uid).await, None);
}

async fn grants_let_in_until_they_expire_or_are_used(store: Any) {
    let (short, long, other) = (grant(1, 100), grant(1, 200), grant(2, 300));
    for grant in [&long, &short, &other] {
        store.grant_insert(grant.clone()).await.unwrap();
    }
    conflict(store.grant_insert(long.clone()).await, Conflict::Exists("grant"));
    assert_eq!(store.grant_get(short.uid).await.unwrap(), Some(short.clone()));
    let live = |now| {
        let (store, key) = (Arc::clone(&store), long.device_key);
        async move { store.grant_live(key, time(now)).await.unwrap().map(|grant| grant.uid) }
    };
    assert_eq!(live(50).await, Some(long.uid));
    assert_eq!(live(199).await, Some(long.uid));
    assert_eq!(live(200).await, None);

    let (one, two) = (Uid::new(), Uid::new());
    store.grant_fulfil(long.uid, one).await.unwrap();
    store.grant_fulfil(long.uid, one).await.unwrap();
    conflict(store.grant_fulfil(long.uid, two).await, Conflict::GrantUsed);
    missing(store.grant_fulfil(Uid::new(), two).await, "grant");
    assert_eq!(store.grant_get(long.uid).await.unwrap().unwrap().device, Some(one));
    assert_eq!(live(50).await, Some(short.uid));
    assert_eq!(live(150).await, None);
}

async fn expired_grants_are_purged(store: Any) {
    let (old, young) = (grant(1, 100), grant(1, 200));
    store.grant_insert(old.clone()).await.unwrap();
    store.grant_insert(young.clone()).await.unwrap();
    assert_eq!(store.grant_purge(time(150)).await.unwrap(), 1);
    assert_eq!(store.grant_get(old.uid).await.unwrap(), None);
    let live = store.grant_live(young.device_key, time(0)).await.unwrap();
    assert_eq!(live, Some(young));
}

async fn sessions_are_used_ended_and_give_way(store: Arc<dyn Store>) {
    let session = |hash: u8, begun: i64, used: i64| SessionRecord {
        hash: [hash; 32],
        key: "ada".to_owned(),
        begun_at: time(begun),
        used_at: time(used),
    };
    for hash in [1, 2, 3] {
        let at = i64::from(hash);
        store.session_insert(session(hash, at, at), 3).await.unwrap();
    }
    store.session_use([1; 32], time(9)).await.unwrap();
    store.session_use([8; 32], time(9)).await.unwrap();
    assert_eq!(store.session_get([1; 32]).await.unwrap(), Some(session(1, 1, 9)));
    assert_eq!(store.session_get([8; 32]).await.unwrap(), None);

    // The one used longest ago makes room.
    store.session_insert(session(4, 4, 4), 3).await.unwrap();
    assert_eq!(store.session_get([2; 32]).await.unwrap(), None);
    store.session_end([3; 32]).await.unwrap();
    store.session_end([3; 32]).await.unwrap();
    assert_eq!(store.session_get([3; 32]).await.unwrap(), None);

    assert_eq!(store.session_purge(time(4), time(1)).await.unwrap(), 0);
    assert_eq!(store.session_purge(time(5), time(1)).await.unwrap(), 1);
    assert_eq!(store.session_purge(time(5), time(2)).await.unwrap(), 1);
    assert_eq!(store.session_get([1; 32]).await.unwrap(), None);
}

async fn configurations_count_up(store: Any) {
    let one = device("one", 1);
    store.device_insert(one.clone()).await.unwrap();
    assert_eq!(store.config_latest(one.uid).await.unwrap(), None);
    let first = store.config_append(one.uid, Some(0), config("{}")).await.unwrap();
    assert_eq!((first.version, &first.config), (1, &config("{}")));
    let second = store.config_append(one.uid, None, config("[]")).await.unwrap();
    assert_eq!(second.version, 2);
    let late = store.config_append(one.uid, Some(1), config("late")).await;
    conflict(late, Conflict::Config { expected: 1, current: 2 });
    assert_eq!(store.config_latest(one.uid).await.unwrap(), Some(second.clone()));
    assert_eq!(store.config_get(one.uid, 1).await.unwrap(), Some(first.clone()));
    assert_eq!(store.config_get(one.uid, 3).await.unwrap(), None);
    assert_eq!(store.config_list(one.uid, None, 9).await.unwrap(), [second.clone(), first.clone()]);
    assert_eq!(store.config_list(one.uid, Some(2), 9).await.unwrap(), [first]);
    assert_eq!(store.config_list(one.uid, Some(1), 9).await.unwrap(), []);
    assert_eq!(store.config_list(one.uid, Some(0), 9).await.unwrap(), []);
    assert_eq!(store.config_list(one.uid, None, 1).await.unwrap(), [second]);
    missing(store.config_append(Uid::new(), None, config("{}")).await, "device");
}

async fn one_of_many_writers_gets_the_version(store: Any) {
    let one = device("one", 1);
    store.device_insert(one.clone()).await.unwrap();
    for current in 0..5 {
        let racing =
            (0..10).map(|n| store.config_append(one.uid, Some(current), config(&n.to_string())));
        let done = futures_util::future::join_all(racing).await;
        assert_eq!(done.iter().filter(|done| done.is_ok()).count(), 1);
    }
    assert_eq!(store.config_latest(one.uid).await.unwrap().unwrap().version, 5);
}

async fn a_stream_is_stored_exactly_once(store: Any) {
    let one = device("one", 1);
    store.device_insert(one.clone()).await.unwrap();
    let first = report(one.uid, Some((1, 1)), 10, 1.0);
    let second = report(one.uid, Some((1, 2)), 20, 2.0);
    let batch = vec![first.clone(), first.clone(), second.clone()];
    let done = store.append(batch.clone()).await.unwrap();
    assert_eq!(done, [Outcome::Stored, Outcome::Duplicate, Outcome::Stored]);
    assert_eq!(store.append(batch).await.unwrap(), [Outcome::Duplicate; 3]);
    // The same number in another stream, and of another device, is another report.
    let two = device("two", 2);
    store.device_insert(two.clone()).await.unwrap();
    let others =
        vec![report(one.uid, Some((2, 1)), 10, 1.0), report(two.uid, Some((1, 1)), 10, 1.0)];
    assert_eq!(store.append(others).await.unwrap(), [Outcome::Stored; 2]);
    assert_eq!(store.stats().await.unwrap().raw_rows(), 4);
    assert_eq!(store.append(Vec::new()).await.unwrap(), []);
}

async fn holes_are_counted(store: Any) {
    let one = device("one", 1);
    store.device_insert(one.clone()).await.unwrap();
    for seq in [2, 3, 7, 5] {
        store.append(vec![report(one.uid, Some((1, seq)), 10, 1.0)]).await.unwrap();
    }
    let missed = store.device_get(one.uid).await.unwrap().unwrap().missed_reports;
    assert_eq!(missed, 1 + 3);
    store.append(vec![report(one.uid, Some((1, u64::MAX)), 10, 1.0)]).await.unwrap();
    store.append(vec![report(one.uid, Some((2, u64::MAX)), 10, 1.0)]).await.unwrap();
    let missed = store.device_get(one.uid).await.unwrap().unwrap().missed_reports;
    assert_eq!(missed, u64::MAX);
}

async fn old_streams_give_way(store: Any) {
    let one = device("one", 1);
    store.device_insert(one.clone()).await.unwrap();
    let streams = u8::try_from(STREAMS_PER_DEVICE_MAX).unwrap();
    for stream in 0..streams * 2 {
        store.append(vec![report(one.uid, Some((stream, 1)), 10, 1.0)]).await.unwrap();
    }
    for stream in streams..streams * 2 {
        let again = store.append(vec![report(one.uid, Some((stream, 1)), 10, 1.0)]).await.unwrap();
        assert_eq!(again, [Outcome::Duplicate], "{stream}");
    }
}

async fn of_one_millisecond_the_last_value_holds(store: Any) {
    let one = device("one", 1);
    store.device_insert(one.clone()).await.unwrap();
    let other = Incoming {
        samples: vec![Sample::new("fan_speed", 7.0)],
        ..report(one.uid, Some((1, 1)), 10, 0.0)
    };
    let batch = vec![
        report(one.uid, None, 10, 1.0),
        report(one.uid, Some((0, 1)), 10, 2.0),
        report(one.uid, None, 11, 3.0),
        other,
    ];
    assert_eq!(store.append(batch).await.unwrap(), [Outcome::Stored; 4]);
    // Whoever sends again what was stored changes nothing.
    for _ in 0..2 {
        store.append(vec![report(one.uid, None, 10, 4.0)]).await.unwrap();
        let cpu = store.query(query(one.uid, "cpu_usage")).await.unwrap();
        assert_eq!(cpu.iter().map(|point| point.value).collect::<Vec<_>>(), [3.0, 4.0]);
        let fan = store.query(query(one.uid, "fan_speed")).await.unwrap();
        assert_eq!((fan.len(), fan[0].value), (1, 7.0), "other series are not touched");
        store.seal().await.unwrap();
    }
}

async fn points_are_newest_first_and_filtered(store: Any) {
    let (one, two) = (device("one", 1), device("two", 2));
    store.device_insert(one.clone()).await.unwrap();
    store.device_insert(two.clone()).await.unwrap();
    for n in [2_u8, 1, 3] {
        let value = f64::from(n);
        let at = i64::from(n) * 10;
        store.append(vec![report(one.uid, None, at, value)]).await.unwrap();
        store.append(vec![report(two.uid, None, at, -value)]).await.unwrap();
    }
    let values = |points: Vec<Point>| points.iter().map(|p| p.value).collect::<Vec<_>>();
    let all = store.query(query(one.uid, "cpu_usage")).await.unwrap();
    assert_eq!(values(all), [3.0, 2.0, 1.0]);
    let some = Query { from: time(20), to: time(30), ..query(one.uid, "cpu_usage") };
    assert_eq!(values(store.query(some.clone()).await.unwrap()), [3.0, 2.0]);
    let few = Query { limit: 1, ..some.clone() };
    assert_eq!(values(store.query(few).await.unwrap()), [3.0]);
    let none = Query { limit: 0, ..some.clone() };
    assert_eq!(values(store.query(none).await.unwrap()), [0.0; 0]);
    let backwards = Query { from: time(30), to: time(20), ..some };
    assert_eq!(values(store.query(backwards).await.unwrap()), [0.0; 0]);

    let core =
        Query { labels: vec![("core".to_owned(), "1".to_owned())], ..query(one.uid, "core_usage") };
    let points = store.query(core).await.unwrap();
    let name = store.names().name(points[0].series).unwrap();
    assert_eq!(name.labels, [("core".to_owned(), "1".to_owned())]);
    assert_eq!(values(points), [4.0, 3.0, 2.0]);
    assert_eq!(store.query(query(one.uid, "fan_speed")).await.unwrap(), []);
}

async fn the_newest_report_is_at_hand(store: Any) {
    let (one, two, three) = (device("one", 1), device("two", 2), device("three", 3));
    for device in [&one, &two, &three] {
        store.device_insert(device.clone()).await.unwrap();
    }
    for (device, at) in [(&one, 20), (&one, 30), (&one, 10), (&three, 5)] {
        store.append(vec![report(device.uid, None, at, 1.0)]).await.unwrap();
    }
    assert_eq!(store.latest(one.uid).await.unwrap().unwrap().at_millis, 30);
    assert_eq!(store.latest(two.uid).await.unwrap(), None);
    let all = store.latest_all().await.unwrap();
    let all: Vec<_> = all.iter().map(|(uid, report)| (*uid, report.at_millis)).collect();
    assert_eq!(all, [(one.uid, 30), (three.uid, 5)]);
}

async fn pruning_takes_what_is_older(store: Any) {
    let (one, two) = (device("one", 1), device("two", 2));
    for device in [&one, &two] {
        store.device_insert(device.clone()).await.unwrap();
        let reports = (0..10).map(|n| report(device.uid, Some((1, n + 1)), n as i64, 1.0));
        store.append(reports.collect()).await.unwrap();
    }
    store.seal().await.unwrap();
    assert_eq!(store.prune(Tier::Raw, time(0)).await.unwrap(), 0);
    // What is older is hidden at once; its room is freed when all of a chunk is older.
    assert_eq!(store.prune(Tier::Raw, time(4)).await.unwrap(), 0);
    let left = store.query(query(two.uid, "cpu_usage")).await.unwrap();
    assert_eq!((left.len(), left.last().unwrap().at), (6, time(4)));
    assert_eq!(store.prune(Tier::Raw, time(10)).await.unwrap(), 20);
    assert_eq!(store.stats().await.unwrap().raw_rows(), 0);
    assert_eq!(store.query(query(two.uid, "cpu_usage")).await.unwrap(), []);
    // What was pruned does not come back.
    let again = store.append(vec![report(one.uid, Some((1, 1)), 0, 1.0)]).await.unwrap();
    assert_eq!(again, [Outcome::Duplicate]);
}

async fn a_value_too_large_is_refused(store: Any) {
    let one = device("one", 1);
    store.device_insert(one.clone()).await.unwrap();
    let large = "x".repeat(2 << 20);
    let refused = store.config_append(one.uid, None, config(&large)).await.unwrap_err();
    assert_eq!(refused.to_string(), "the configuration is too large to store");
    let grow = store.device_update(
        one.uid,
        Box::new(move |device| {
            device.id = id("uno");
            device.state_reason = large;
            Ok(())
        }),
    );
    assert!(matches!(grow.await, Err(StoreError::TooLarge("device"))));
    assert_eq!(store.device_find(&one.id).await.unwrap(), Some(one));
}

#[track_caller]
pub(crate) fn conflict<T>(done: Result<T, StoreError>, expected: Conflict) {
    match done {
        Err(StoreError::Conflict(found)) => assert_eq!(found, expected),
        Err(error) => panic!("expected {expected:?}, not {error:?}"),
        Ok(_) => panic!("expected {expected:?}"),
    }
}

#[track_caller]
pub(crate) fn missing<T>(done: Result<T, StoreError>, noun: &str) {
    match done {
        Err(StoreError::Missing(found)) => assert_eq!(found, noun),
        Err(error) => panic!("expected a missing {noun}, not {error:?}"),
        Ok(_) => panic!("expected a missing {noun}"),
    }
}
