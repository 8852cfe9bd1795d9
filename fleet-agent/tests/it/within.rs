//! Waiting in tests: for a condition, with a bound, and saying what for.

use std::time::Duration;

use tokio::time::{sleep, timeout};

/// Far longer than anything here takes; a busy machine must not fail a test.
const PATIENCE: Duration = Duration::from_secs(30);

/// The future's outcome, or a failure that says what did not come.
pub(crate) async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("waited in vain for {what}"))
}

/// Waits until a condition holds.
pub(crate) async fn until(what: &str, condition: impl Fn() -> bool) {
    let wait = async {
        while !condition() {
            sleep(Duration::from_millis(5)).await;
        }
    };
    within(what, wait).await;
}
