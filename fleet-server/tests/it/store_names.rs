//! What every store does with names of series that are too long: a part of the suite of all stores.

use std::sync::Arc;

use fleet_core::metric::Sample;
use fleet_server::series::batch::Batch;
use fleet_server::store::{Incoming, Outcome, Store};

use crate::store_kit::{device, query, report};

pub(crate) async fn a_sample_with_a_name_too_long_is_left_out(store: Arc<dyn Store>) {
    let one = device("one", 1);
    store.device_insert(one.clone()).await.unwrap();
    let huge = Sample::labelled("m", "label", &"x".repeat(2 << 20), 1.0);
    let alone = Incoming { samples: vec![huge.clone()], ..report(one.uid, Some((1, 1)), 20, 1.0) };
    let mut among = report(one.uid, Some((1, 2)), 30, 2.0);
    among.samples.insert(1, huge);
    let after = report(one.uid, Some((1, 3)), 40, 3.0);
    let batch = vec![alone, among, after];
    assert_eq!(store.append(batch.clone()).await.unwrap(), [Outcome::Stored; 3]);
    assert_eq!(store.append(batch).await.unwrap(), [Outcome::Duplicate; 3]);
    for _ in 0..2 {
        let values = |metric| {
            let points = store.query(query(one.uid, metric));
            async { points.await.unwrap().iter().map(|point| point.value).collect::<Vec<_>>() }
        };
        assert_eq!(values("cpu_usage").await, [3.0, 2.0]);
        assert_eq!(values("core_usage").await.len(), 4);
        assert_eq!(values("m").await, [0.0; 0]);
        store.seal().await.unwrap();
    }
}

pub(crate) async fn names_too_long_together_are_refused_and_leave_nothing_behind(
    store: Arc<dyn Store>,
) {
    let one = device("one", 1);
    store.device_insert(one.clone()).await.unwrap();
    let long = |number: usize| (format!("{number:0256}"), "x".repeat(256));
    let labels: Vec<_> = (0..16).map(long).collect();
    let sample = |number: usize| Sample {
        name: format!("{number:0128}"),
        labels: labels.clone(),
        value: number as f64,
    };
    let samples: Vec<Sample> = (0..2_000).map(sample).collect();
    // As an operator posts them; a device may not bring so many.
    let batch = |at: i64, samples: &[Sample]| {
        let mut batch = Batch::default();
        batch.push(store.names(), one.uid, None, at, samples).unwrap();
        batch
    };
    for _ in 0..2 {
        let refused = store.store(batch(20, &samples)).await.unwrap_err();
        let told = "the text that names a report's series is too large to store";
        assert_eq!(refused.to_string(), told);
    }
    // Fewer of them are stored, and there after whatever comes.
    for (at, samples) in samples.chunks(1_000).enumerate() {
        let stored = store.store(batch(at as i64, samples)).await.unwrap();
        assert_eq!(stored, [Outcome::Stored]);
    }
    store.seal().await.unwrap();
    let points = store.query(query(one.uid, &samples[1_999].name)).await.unwrap();
    assert_eq!(points.iter().map(|point| point.value).collect::<Vec<_>>(), [1_999.0]);
}
