//! What every store does with batches; a part of the contract.

use std::sync::Arc;
use std::time::Duration;

use fleet_core::api::{BatchState, MemberState, WhenOffline};
use fleet_core::id::Uid;
use fleet_core::limits::BATCHES_OPEN_MAX;
use fleet_server::store::{
    Action, BatchRecord, Begun, Conflict, Counts, Device, MemberChange, MemberQuery, MemberRecord,
    Place, Step, Store, StoreError,
};

use crate::store_commands::command;
use crate::store_kit::{config, device, id, silent, time};

type Any = Arc<dyn Store>;

fn batch(at: i64) -> BatchRecord {
    BatchRecord {
        id: Uid::new(),
        action: Action::Command("restart nginx".parse().unwrap()),
        state: BatchState::Running,
        why: "begun".to_owned(),
        state_at: time(at),
        filter: Some("type=raspberrypi".to_owned()),
        total: 0,
        counts: Counts::default(),
        forgiven: 0,
        window: 2,
        canary: 1,
        max_fail: 3,
        timeout: Duration::from_secs(60),
        offline: WhenOffline::Queue,
        expires_at: time(at + 1_000),
        author: "operator:ada".to_owned(),
        created_at: time(at),
        reason: Some("ticket".to_owned()),
        retry_of: None,
    }
}

fn member(device: &Device, state: MemberState) -> MemberRecord {
    MemberRecord {
        device: device.uid,
        device_id: device.id.clone(),
        state,
        why: "its turn has not come".to_owned(),
        state_at: time(1),
        begun_at: None,
        command: None,
        version: None,
    }
}

async fn devices(store: &Any, count: u8) -> Vec<Device> {
    let mut devices = Vec::new();
    for number in 0..count {
        let device = device(&format!("d{number}"), number + 1);
        store.device_insert(device.clone()).await.unwrap();
        devices.push(device);
    }
    devices
}

/// A batch of devices that all wait.
async fn begun(store: &Any, devices: &[Device]) -> BatchRecord {
    let members = devices.iter().map(|device| member(device, MemberState::Waiting)).collect();
    store.batch_insert(batch(10), members).await.unwrap()
}

fn all(batch: &BatchRecord) -> MemberQuery {
    MemberQuery { batch: batch.id, states: Vec::new(), after: None, limit: 100 }
}

async fn states(store: &Any, batch: &BatchRecord) -> Vec<MemberState> {
    let members = store.batch_members(all(batch)).await.unwrap();
    members.into_iter().map(|(_, member)| member.state).collect()
}

fn place(batch: &BatchRecord, ordinal: u32) -> Place {
    Place { batch: batch.id, ordinal }
}

async fn becomes(store: &Any, place: Place, state: MemberState) -> BatchRecord {
    let change = move |member: &mut MemberRecord| member.state = state;
    let changes: Vec<(u32, MemberChange)> = vec![(place.ordinal, Box::new(change))];
    let changed = store.batch_members_change(place.batch, changes).await.unwrap();
    assert_eq!(changed.members[0].1.as_ref().unwrap().state, state);
    changed.batch
}

/// What becomes of a member that is to begin.
async fn begins(store: &Any, place: Place, at: i64, step: Step) -> Result<Begun, StoreError> {
    let steps = vec![(place.ordinal, step)];
    let begun = store.batch_begin(place.batch, time(at), steps, silent()).await?;
    begun.members.into_iter().next().unwrap().1
}

pub(crate) async fn a_batch_comes_with_all_its_members(store: Any) {
    let devices = devices(&store, 3).await;
    let first = begun(&store, &devices).await;
    assert_eq!((first.total, first.counts.get(MemberState::Waiting)), (3, 3));
    assert_eq!(store.batch_get(first.id).await.unwrap(), Some(first.clone()));
    assert_eq!(store.batch_get(Uid::new()).await.unwrap(), None);
    let members = store.batch_members(all(&first)).await.unwrap();
    let expected: Vec<_> =
        (0..).zip(devices.iter().map(|device| member(device, MemberState::Waiting))).collect();
    assert_eq!(members, expected);
    let query = MemberQuery { after: Some(id("d0")), limit: 1, ..all(&first) };
    assert_eq!(store.batch_members(query).await.unwrap(), expected[1..2]);
    becomes(&store, place(&first, 1), MemberState::Failed).await;
    let query = MemberQuery { states: vec![MemberState::Failed], ..all(&first) };
    assert_eq!(store.batch_members(query).await.unwrap()[0].0, 1);

    let again = store.batch_insert(BatchRecord { id: first.id, ..batch(20) }, Vec::new()).await;
    assert!(matches!(again, Err(StoreError::Conflict(Conflict::Exists("batch")))), "{again:?}");
    let second = begun(&store, &devices[..1]).await;
    let ids = async |before| {
        let found = store.batch_list(before, 9).await.unwrap();
        found.into_iter().map(|batch| batch.id).collect::<Vec<_>>()
    };
    assert_eq!(ids(None).await, [second.id, first.id]);
    assert_eq!(ids(Some(second.id)).await, [first.id]);
    for _ in 2..BATCHES_OPEN_MAX {
        begun(&store, &devices[..1]).await;
    }
    let full = store.batch_insert(batch(20), Vec::new()).await;
    assert!(matches!(full, Err(StoreError::Conflict(Conflict::BatchesOpen(50)))), "{full:?}");
}

pub(crate) async fn a_member_begins_with_what_it_is_to_do(store: Any) {
    let devices = devices(&store, 2).await;
    let batch = begun(&store, &devices).await;
    let order = command(&devices[0], "restart nginx", 20);
    let step = || Step::Command(Box::new(order.clone()));
    let begun = begins(&store, place(&batch, 0), 30, step()).await.unwrap();
    assert!(begun.command.unwrap().is_new);
    assert_eq!((begun.member.state, begun.member.begun_at), (MemberState::Running, Some(time(30))));
    let counts = store.batch_get(batch.id).await.unwrap().unwrap().counts;
    assert_eq!(counts.get(MemberState::Running), 1);
    assert_eq!(store.command_get(order.id).await.unwrap(), Some(order.clone()));
    let found = store.batch_commands(vec![Uid::new(), order.id]).await.unwrap();
    assert_eq!(found, [(place(&batch, 0), order)]);

    // Once, and by nobody while the batch is not running.
    let other = command(&devices[0], "collect", 21);
    let twice = begins(&store, place(&batch, 0), 31, Step::Command(other.clone().into()));
    assert!(matches!(twice.await, Err(StoreError::Refused(_))));
    let pause = |batch: &mut BatchRecord| {
        batch.state = BatchState::Paused;
        Ok(())
    };
    store.batch_change(batch.id, Box::new(pause)).await.unwrap();
    let late = begins(&store, place(&batch, 1), 31, Step::Command(other.clone().into()));
    assert!(matches!(late.await, Err(StoreError::Refused(_))));
    assert_eq!(store.command_get(other.id).await.unwrap(), None, "nothing is left behind");
    assert_eq!(states(&store, &batch).await, [MemberState::Running, MemberState::Waiting]);
}

pub(crate) async fn a_member_begins_with_the_next_configuration(store: Any) {
    let devices = devices(&store, 3).await;
    let batch = begun(&store, &devices).await;
    store.config_append(devices[0].uid, None, config("{}")).await.unwrap();
    let step = |expected, config| Step::Config { expected, config };
    let stale = begins(&store, place(&batch, 0), 30, step(0, Some(config("{}")))).await;
    assert!(
        matches!(stale, Err(StoreError::Conflict(Conflict::Config { current: 1, .. }))),
        "{stale:?}"
    );
    assert_eq!(states(&store, &batch).await, [MemberState::Waiting; 3]);
    let next = begins(&store, place(&batch, 0), 30, step(1, Some(config("{}")))).await;
    let next = next.unwrap();
    assert_eq!((next.member.version, next.config.unwrap().version), (Some(2), 2));
    assert_eq!(store.config_latest(devices[0].uid).await.unwrap().unwrap().version, 2);
    let stale = begins(&store, place(&batch, 1), 30, step(1, None)).await;
    assert!(matches!(stale, Err(StoreError::Conflict(Conflict::Config { current: 0, .. }))));
    let same = begins(&store, place(&batch, 1), 30, step(0, None)).await.unwrap();
    assert_eq!((same.member.version, same.config), (Some(0), None));
    let of = |device: &Device, version| store.batch_of_config(device.uid, version, 9);
    assert_eq!(of(&devices[0], 1).await.unwrap(), []);
    assert_eq!(of(&devices[0], 7).await.unwrap(), [place(&batch, 0)]);
    assert_eq!(of(&devices[2], 7).await.unwrap(), []);
    store.device_delete(devices[2].uid, time(40)).await.unwrap();
    let gone = begins(&store, place(&batch, 2), 50, step(0, Some(config("{}")))).await;
    assert!(matches!(gone, Err(StoreError::Missing("device"))));
}

pub(crate) async fn a_batchs_counts_are_those_of_its_members(store: Any) {
    let devices = devices(&store, 2).await;
    let batch = begun(&store, &devices).await;
    let open = async || {
        let open = store.batch_open().await.unwrap();
        open.into_iter().map(|batch| batch.id).collect::<Vec<_>>()
    };
    assert_eq!(open().await, [batch.id]);
    let after = becomes(&store, place(&batch, 0), MemberState::Unknown).await;
    assert_eq!((after.counts.failures(), after.counts.left()), (1, 1));
    // Whoever changes the batch itself has no say in them.
    let cancel = |batch: &mut BatchRecord| {
        batch.state = BatchState::Cancelled;
        batch.counts = Counts::default();
        batch.total = 9;
        Ok(())
    };
    let after = store.batch_change(batch.id, Box::new(cancel)).await.unwrap();
    assert_eq!((after.total, after.counts.left()), (2, 1));
    assert_eq!(open().await, [batch.id], "one of them is not over");
    becomes(&store, place(&batch, 1), MemberState::Cancelled).await;
    assert!(open().await.is_empty());
    // What is learnt later is noted all the same.
    let after = becomes(&store, place(&batch, 0), MemberState::Succeeded).await;
    assert_eq!(after.counts.get(MemberState::Succeeded), 1);
    assert_eq!(after.counts.failures(), 0);
    assert_eq!(store.batch_get(batch.id).await.unwrap(), Some(after));
    let missing = store.batch_change(Uid::new(), Box::new(|_| Ok(()))).await;
    assert!(matches!(missing, Err(StoreError::Missing("batch"))));
    assert!(!store.batch_trim().await.unwrap(), "there is room for more");
}
