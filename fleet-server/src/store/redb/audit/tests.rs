//! Tests of the audit record in redb: what is done to it behind the server's back is found out.

use std::sync::Arc;

use fleet_core::api::AuditActor;
use fleet_core::audit::sign;
use fleet_core::identity::PrivateKey;
use fleet_core::untrusted::Untrusted;

use super::*;
use crate::store::{MetaStore as _, StoreHealth};

fn key() -> PrivateKey {
    PrivateKey::from_seed(&[7; 32])
}

fn sealer() -> Sealer {
    Arc::new(|kind, seq, hash| sign(&key(), kind, seq, hash, Timestamp::from_millis(1)))
}

fn entry(kind: AuditKind, text: &str, millis: i64) -> AuditEntry {
    AuditEntry {
        timestamp: Timestamp::from_millis(millis),
        kind,
        intent: None,
        request_id: "r".into(),
        actor: AuditActor::bare("operator"),
        via: "key".into(),
        peer: None,
        action: "device.delete".into(),
        targets: vec!["a".into()],
        target_count: 1,
        body_sha256: None,
        reason: None,
        status: None,
        text: text.into(),
    }
}

fn outcome(intent: u64) -> AuditEntry {
    AuditEntry { intent: Some(intent), ..entry(AuditKind::Outcome, "done", 1) }
}

fn singles(count: usize) -> Vec<AuditEntry> {
    vec![entry(AuditKind::Single, "x", 1); count]
}

async fn verify(store: &RedbStore) -> Result<Verified, Broken> {
    let head = store.audit_seal(sealer()).await.unwrap();
    verify_until(store, head).await
}

async fn verify_until(store: &RedbStore, head: AuditPoint) -> Result<Verified, Broken> {
    let AuditStretch { after, after_hash, start, records } =
        store.audit_chain(0, usize::MAX).await.unwrap();
    let signed = store.audit_signed().await.unwrap();
    let server_key = key().public();
    let begin = AuditBegin { server_key, after, after_hash, start, signed };
    let mut verifier = Verifier::begin(begin, server_key.identity())?;
    for record in &records {
        verifier.take(record)?;
    }
    verifier.end(head)
}

/// Ten records of which the tenth is signed, as somebody finds them who can write to the file.
async fn ten() -> (RedbStore, AuditPoint) {
    let store = RedbStore::in_memory();
    store.audit_append(singles(10), sealer()).await.unwrap();
    let head = store.audit_seal(sealer()).await.unwrap();
    (store, head)
}

async fn tamper(
    store: &RedbStore,
    work: impl FnOnce(&mut Records<'_>) -> Result<(), Fault> + Send + 'static,
) {
    store.write(move |txn| work(&mut txn.open(&AUDIT)?)).await.unwrap();
}

fn load(table: &Records<'_>, seq: u64) -> Result<AuditRecord, Fault> {
    let record = sound(table, &seq.to_be_bytes())?;
    Ok(record.ok_or(StoreError::Missing("audit record"))?)
}

fn put(table: &mut Records<'_>, key: u64, record: &AuditRecord) -> Result<(), Fault> {
    let row = AuditRow::of(record).map_err(|_| StoreError::TooLarge("audit record"))?;
    table.put(&key.to_be_bytes(), &row)
}

#[tokio::test]
async fn records_follow_on_each_other_and_an_intent_has_one_outcome() {
    let store = RedbStore::in_memory();
    assert_eq!(verify(&store).await.unwrap().records, 0);
    let add = |entries| store.audit_append(entries, sealer());
    let intents = vec![entry(AuditKind::Intent, "a", 1), entry(AuditKind::Intent, "b", 1)];
    assert_eq!(add(intents).await.unwrap(), [1, 2]);
    assert_eq!(verify(&store).await.unwrap().open, 2);
    assert_eq!(add(vec![outcome(1), outcome(1)]).await.unwrap(), [3, 0]);
    assert_eq!(add(vec![outcome(1), outcome(9)]).await.unwrap(), [0, 0]);
    let open = store.audit_unfinished(9).await.unwrap();
    assert_eq!(open.iter().map(|record| record.seq).collect::<Vec<_>>(), [2]);
    let verified = verify(&store).await.unwrap();
    assert_eq!((verified.records, verified.open), (3, 1));
    let one = store.audit_seal(sealer()).await.unwrap();
    let commits = store.commits();
    assert_eq!(store.audit_seal(sealer()).await.unwrap(), one, "it was signed already");
    assert_eq!(store.audit_signed().await.unwrap().len(), 3);
    assert!(store.commits() <= commits + 1);
}

#[tokio::test]
async fn what_is_asked_for_is_listed_newest_first() {
    let store = RedbStore::in_memory();
    let mut entries = singles(3);
    entries[1].action = "key.revoke".into();
    entries[1].targets = vec!["k".into()];
    entries[2].timestamp = Timestamp::from_millis(9);
    entries[2].actor = AuditActor { label: Some("anna".into()), ..entries[2].actor.clone() };
    store.audit_append(entries, sealer()).await.unwrap();
    let all = AuditQuery {
        actor: None,
        action: None,
        targets: Vec::new(),
        since: Timestamp::default(),
        until: Timestamp::from_millis(i64::MAX),
        before: u64::MAX,
        limit: 9,
    };
    let seqs = async |query: AuditQuery| {
        let found = store.audit_list(query).await.unwrap();
        found.iter().map(|record| record.seq).collect::<Vec<_>>()
    };
    assert_eq!(seqs(all.clone()).await, [3, 2, 1]);
    assert_eq!(seqs(AuditQuery { limit: 1, before: 3, ..all.clone() }).await, [2]);
    let some = |text: &str| Some(text.to_owned());
    assert_eq!(seqs(AuditQuery { action: some("key"), ..all.clone() }).await, [2]);
    assert_eq!(seqs(AuditQuery { action: some("key.revoke"), ..all.clone() }).await, [2]);
    assert_eq!(seqs(AuditQuery { targets: vec!["k".to_owned()], ..all.clone() }).await, [2]);
    assert_eq!(seqs(AuditQuery { actor: some("anna"), ..all.clone() }).await, [3]);
    assert_eq!(seqs(AuditQuery { since: Timestamp::from_millis(2), ..all.clone() }).await, [3]);
    assert_eq!(seqs(AuditQuery { until: Timestamp::from_millis(2), ..all }).await, [2, 1]);
}

#[tokio::test]
async fn t35_a_removed_record_is_missed() {
    for gone in [1, 4, 10] {
        let (store, head) = ten().await;
        tamper(&store, move |table| table.remove(&u64::to_be_bytes(gone))).await;
        assert_eq!(verify_until(&store, head).await, Err(Broken::Missing(gone)));
    }
    // A server that goes on without having noticed still has what it signed.
    let (store, _) = ten().await;
    tamper(&store, |table| table.remove_range(&8_u64.to_be_bytes(), &LAST, 99).map(drop)).await;
    store.audit_append(vec![entry(AuditKind::Single, "y", 1); 5], sealer()).await.unwrap();
    assert_eq!(verify(&store).await, Err(Broken::NotSigned(10)));
}

#[tokio::test]
async fn t35_a_changed_record_is_named() {
    for is_hash_right in [false, true] {
        let (store, head) = ten().await;
        tamper(&store, move |table| {
            let mut record = load(table, 4)?;
            record.entry.actor = AuditActor::bare("device");
            if is_hash_right {
                record = audit::follow(4, record.entry, record.prev_hash)
                    .map_err(|_| StoreError::TooLarge("audit record"))?;
            }
            put(table, 4, &record)
        })
        .await;
        assert_eq!(verify_until(&store, head).await, Err(Broken::Changed(4)));
    }
    // Bytes that make no record, and a chain that is made anew from there on.
    let (store, head) = ten().await;
    tamper(&store, |table| table.put_sealed(&7_u64.to_be_bytes(), b"junk")).await;
    assert_eq!(verify_until(&store, head).await, Err(Broken::Missing(7)));
    let health = "1 stored value in audit is damaged";
    assert_eq!(store.health(), StoreHealth::Degraded(health.to_owned()));
    let (store, head) = ten().await;
    tamper(&store, |table| {
        let mut prev = load(table, 3)?.hash;
        for seq in 4..=10 {
            let entry = AuditEntry { text: Untrusted::from("y"), ..load(table, seq)?.entry };
            let record = audit::follow(seq, entry, prev)
                .map_err(|_| StoreError::TooLarge("audit record"))?;
            put(table, seq, &record)?;
            prev = record.hash;
        }
        Ok(())
    })
    .await;
    assert_eq!(verify_until(&store, head).await, Err(Broken::NotSigned(10)));
}

#[tokio::test]
async fn t35_records_that_changed_places_are_named() {
    let (store, head) = ten().await;
    tamper(&store, |table| {
        let (four, eight) = (load(table, 4)?, load(table, 8)?);
        put(table, 8, &four)?;
        put(table, 4, &eight)
    })
    .await;
    assert_eq!(verify_until(&store, head).await, Err(Broken::Missing(4)));
    let (store, head) = ten().await;
    tamper(&store, |table| {
        let four = load(table, 4)?;
        put(table, 6, &four)
    })
    .await;
    let broken = verify_until(&store, head).await;
    assert_eq!(broken, Err(Broken::OutOfOrder { wanted: 6, found: 4 }));
}

#[tokio::test]
async fn the_oldest_give_way_and_the_rest_is_whole() {
    let store = RedbStore::in_memory();
    let add = |count, kept| {
        let entries = singles(count);
        store.write(move |txn| append(txn, entries, &sealer(), kept))
    };
    let slack = SLACK as usize;
    store.audit_append(vec![entry(AuditKind::Intent, "a", 1)], sealer()).await.unwrap();
    add(slack + 19, 20).await.unwrap();
    assert_eq!(verify(&store).await.unwrap().records, SLACK + 20);
    add(1, 20).await.unwrap();
    let verified = verify(&store).await.unwrap();
    assert_eq!((verified.first, verified.records), (SLACK + 2, 20));
    assert!(store.audit_unfinished(9).await.unwrap().is_empty(), "nobody waits for what is gone");
    assert_eq!(store.audit_append(vec![outcome(1)], sealer()).await.unwrap(), [0]);
    // What was removed without the server's word is missed.
    tamper(&store, |table| table.remove_range(&[], &(SLACK + 5).to_be_bytes(), 99).map(drop)).await;
    assert_eq!(verify(&store).await, Err(Broken::Missing(SLACK + 2)));
}

#[tokio::test]
async fn what_is_too_old_goes_but_not_the_newest() {
    let store = RedbStore::in_memory();
    let at = |millis| entry(AuditKind::Single, "x", millis);
    store.audit_append([1, 2, 3, 9, 4].map(at).to_vec(), sealer()).await.unwrap();
    let purge = |millis| store.audit_purge(Timestamp::from_millis(millis), sealer());
    assert_eq!(purge(1).await.unwrap(), 0);
    assert_eq!(purge(3).await.unwrap(), 2);
    let verified = verify(&store).await.unwrap();
    assert_eq!((verified.first, verified.records), (3, 3));
    assert_eq!(purge(99).await.unwrap(), 2);
    let verified = verify(&store).await.unwrap();
    assert_eq!((verified.first, verified.records), (5, 1));
    assert_eq!(store.audit_append(singles(1), sealer()).await.unwrap(), [6]);
    assert_eq!(verify(&store).await.unwrap().records, 2);
    let later = store.audit_chain(5, 9).await.unwrap();
    assert_eq!((later.after, later.start), (5, None));
    assert!(store.audit_chain(7, 9).await.is_err());
}

#[tokio::test]
async fn records_that_cannot_be_read_hold_up_nobody_who_removes_old_ones() {
    let store = RedbStore::in_memory();
    let many = TRIM_ROWS_MAX + 10;
    store.audit_append(singles(many), sealer()).await.unwrap();
    let (first, second) = (TRIM_ROWS_MAX as u64, TRIM_ROWS_MAX as u64 + 1);
    tamper(&store, move |table| {
        table.put_sealed(&first.to_be_bytes(), b"junk")?;
        table.put_sealed(&second.to_be_bytes(), b"junk")
    })
    .await;
    // What goes in the first commit would end between the two, and nobody knows the hash there.
    let purge = || store.audit_purge(Timestamp::from_millis(9), sealer());
    assert_eq!(purge().await.unwrap(), first - 1);
    assert_eq!(purge().await.unwrap(), many as u64 - first);
    let verified = verify(&store).await.unwrap();
    assert_eq!((verified.first, verified.records), (many as u64, 1));
    // Where nothing at all can be read nothing goes.
    tamper(&store, move |table| table.put_sealed(&u64::to_be_bytes(many as u64), b"junk")).await;
    assert_eq!(purge().await.unwrap(), 0);
}
