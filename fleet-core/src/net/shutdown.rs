//! The one way to start a task: named, told to stop, waited for.

use std::collections::BTreeMap;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::thread;
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// The tasks of a program, or of a part of it.
#[derive(Clone, Default)]
pub struct Tasks {
    token: CancellationToken,
    tracker: TaskTracker,
    running: Arc<Mutex<BTreeMap<&'static str, usize>>>,
}

impl Tasks {
    /// Starts a task. It should end soon after [`Tasks::stopping`] does.
    #[expect(clippy::disallowed_methods, reason = "this is the door")]
    pub fn spawn<F>(&self, name: &'static str, task: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let entry = Entry::new(&self.running, name);
        // An async block would hold the task twice, and there are thousands of them.
        tokio::spawn(self.tracker.track_future(task.inspect(move |_| drop(entry))))
    }

    /// Does something here, and in any case to its end: if whoever waits for it goes away, it goes
    /// on as a task of this name. A panic is what came of it.
    pub fn see_through<F>(&self, name: &'static str, work: F) -> SeenThrough<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send,
    {
        let work = Box::pin(AssertUnwindSafe(work).catch_unwind());
        SeenThrough { tasks: self.clone(), name, work: Some(work) }
    }

    /// Waits until the program is told to stop.
    pub async fn stopping(&self) {
        self.token.cancelled().await;
    }

    /// Whether the program was told to stop.
    pub fn is_stopping(&self) -> bool {
        self.token.is_cancelled()
    }

    /// Tells all tasks to stop.
    pub fn stop(&self) {
        self.token.cancel();
    }

    /// Tells all tasks to stop and waits for them; names those that did not in time.
    pub async fn finish(&self, deadline: Duration) -> Result<(), Vec<&'static str>> {
        self.stop();
        self.tracker.close();
        tokio::time::timeout(deadline, self.tracker.wait()).await.map_err(|_| self.running())
    }

    fn running(&self) -> Vec<&'static str> {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        running.keys().copied().collect()
    }
}

/// What is done to its end, whoever waits for it.
pub struct SeenThrough<T: Send + 'static> {
    tasks: Tasks,
    name: &'static str,
    /// None when it is done.
    work: Option<Work<T>>,
}

type Work<T> = Pin<Box<dyn Future<Output = thread::Result<T>> + Send>>;

impl<T: Send> Future for SeenThrough<T> {
    type Output = thread::Result<T>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(work) = &mut self.work else { return Poll::Pending };
        let outcome = ready!(work.as_mut().poll(context));
        self.work = None;
        Poll::Ready(outcome)
    }
}

impl<T: Send> Drop for SeenThrough<T> {
    fn drop(&mut self) {
        // Without a runtime, as when it has just ended, there is nothing that could go on.
        if let Some(work) = self.work.take()
            && Handle::try_current().is_ok()
        {
            let name = self.name;
            self.tasks.spawn(name, async move {
                if work.await.is_err() {
                    tracing::error!(task = name, "a task panicked, and nobody waited for it");
                }
            });
        }
    }
}

/// Counts a task among the running until it ends, in whichever way.
struct Entry {
    running: Arc<Mutex<BTreeMap<&'static str, usize>>>,
    name: &'static str,
}

impl Entry {
    fn new(running: &Arc<Mutex<BTreeMap<&'static str, usize>>>, name: &'static str) -> Self {
        *running.lock().unwrap_or_else(PoisonError::into_inner).entry(name).or_default() += 1;
        Self { running: running.clone(), name }
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        if std::thread::panicking() {
            tracing::error!(task = self.name, "a task panicked");
        }
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = running.get_mut(self.name) {
            *count -= 1;
            if *count == 0 {
                running.remove(self.name);
            }
        }
    }
}

/// Waits for SIGTERM or SIGINT, and says which.
pub async fn signal() -> std::io::Result<&'static str> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(tokio::select! {
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
    })
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn what_is_begun_is_done_though_nobody_waits() {
        let tasks = Tasks::default();
        let (go, gone) = oneshot::channel();
        let (tell, told) = oneshot::channel();
        let mut work = tasks.see_through("work", async {
            gone.await.unwrap();
            tell.send(()).unwrap();
        });
        assert!(futures_util::poll!(&mut work).is_pending());
        assert_eq!(tasks.running(), Vec::<&str>::new());
        drop(work);
        go.send(()).unwrap();
        told.await.unwrap();
        assert_eq!(tasks.finish(Duration::from_secs(10)).await, Ok(()));
    }

    #[tokio::test]
    async fn a_panic_is_an_outcome() {
        let tasks = Tasks::default();
        assert_eq!(tasks.see_through("work", async { 1 }).await.unwrap(), 1);
        let refused = tasks.see_through("work", async { panic!("as it must") }).await;
        assert!(refused.is_err());
    }
}
