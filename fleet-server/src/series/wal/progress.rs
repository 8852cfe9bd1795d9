//! How far the log is durable, and who waits for that.
//!
//! Waiting is a future that is woken once, when its record is durable or the log has failed:
//! however many wait for later records, they sleep on.

use std::collections::BTreeMap;
use std::mem;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};

use super::format::Lsn;
use super::{Failure, WalError};

/// How far the log is durable.
pub(super) struct Progress {
    /// Changed under the lock, read without it.
    durable: AtomicU64,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// By the record that is waited for, and which of those who wait for it.
    waiters: BTreeMap<Ticket, Waker>,
    tickets: u64,
    failure: Option<Arc<Failure>>,
}

type Ticket = (Lsn, u64);

impl Progress {
    pub(super) fn new(durable: Lsn) -> Self {
        Self { durable: AtomicU64::new(durable.0), state: Mutex::default() }
    }

    /// The last record that is durable.
    pub(super) fn reached(&self) -> Lsn {
        Lsn(self.durable.load(Ordering::Acquire))
    }

    pub(super) fn failure(&self) -> Option<Arc<Failure>> {
        self.lock().failure.clone()
    }

    /// Waits until a record is durable.
    pub(super) fn reach(&self, lsn: Lsn) -> impl Future<Output = Result<(), WalError>> + Send {
        Reach { progress: self, lsn, ticket: None }
    }

    /// The same, for threads that may block.
    pub(super) fn reach_blocking(&self, lsn: Lsn) -> Result<(), WalError> {
        let waker = Waker::from(Arc::new(Unpark(thread::current())));
        let mut reach = pin!(self.reach(lsn));
        loop {
            match reach.as_mut().poll(&mut Context::from_waker(&waker)) {
                Poll::Ready(outcome) => return outcome,
                Poll::Pending => thread::park(),
            }
        }
    }

    /// All records up to one are durable now.
    pub(super) fn publish(&self, lsn: Lsn) {
        let mut state = self.lock();
        self.durable.store(lsn.0, Ordering::Release);
        let later = state.waiters.split_off(&(lsn.after(1), 0));
        let reached = mem::replace(&mut state.waiters, later);
        drop(state);
        reached.into_values().for_each(Waker::wake);
    }

    /// Nothing more will become durable.
    pub(super) fn fail(&self, failure: &Arc<Failure>) {
        let mut state = self.lock();
        state.failure.get_or_insert_with(|| Arc::clone(failure));
        let waiters = mem::take(&mut state.waiters);
        drop(state);
        waiters.into_values().for_each(Waker::wake);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Somebody who waits.
struct Reach<'a> {
    progress: &'a Progress,
    lsn: Lsn,
    ticket: Option<Ticket>,
}

impl Future for Reach<'_> {
    type Output = Result<(), WalError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if self.progress.reached() >= self.lsn {
            // Whoever published it takes this one off the list.
            self.ticket = None;
            return Poll::Ready(Ok(()));
        }
        let mut state = self.progress.lock();
        // Under the lock nothing is published, so whoever gets into the list now is woken.
        if self.progress.reached() >= self.lsn {
            return Poll::Ready(Ok(()));
        }
        if let Some(failure) = &state.failure {
            return Poll::Ready(Err(WalError::Failed(Arc::clone(failure))));
        }
        let ticket = self.ticket.unwrap_or_else(|| {
            state.tickets += 1;
            (self.lsn, state.tickets)
        });
        match state.waiters.get_mut(&ticket) {
            Some(waker) => waker.clone_from(context.waker()),
            None => {
                state.waiters.insert(ticket, context.waker().clone());
            }
        }
        drop(state);
        self.ticket = Some(ticket);
        Poll::Pending
    }
}

impl Drop for Reach<'_> {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket {
            self.progress.lock().waiters.remove(&ticket);
        }
    }
}

/// Wakes a thread that waits.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn poll(
        reach: Pin<&mut impl Future<Output = Result<(), WalError>>>,
        count: &Arc<Count>,
    ) -> bool {
        let waker = Waker::from(Arc::clone(count));
        reach.poll(&mut Context::from_waker(&waker)).is_ready()
    }

    #[test]
    fn only_those_are_woken_whose_record_is_durable_and_once() {
        let progress = Progress::new(Lsn(4));
        let (early, late) = (Arc::<Count>::default(), Arc::<Count>::default());
        let mut five = pin!(progress.reach(Lsn(5)));
        let mut six = pin!(progress.reach(Lsn(6)));
        assert!(poll(pin!(progress.reach(Lsn(4))), &early), "it is durable already");
        assert!(!poll(five.as_mut(), &early) && !poll(five.as_mut(), &early));
        assert!(!poll(six.as_mut(), &late));
        progress.publish(Lsn(5));
        assert_eq!((early.0.load(Ordering::Relaxed), late.0.load(Ordering::Relaxed)), (1, 0));
        assert!(poll(five.as_mut(), &early) && !poll(six.as_mut(), &late));
        progress.fail(&Arc::new(Failure::Ended));
        assert!(poll(six.as_mut(), &late) && late.0.load(Ordering::Relaxed) == 1);
        assert!(
            progress.reach_blocking(Lsn(5)).is_ok() && progress.reach_blocking(Lsn(6)).is_err()
        );
    }

    #[test]
    fn who_stops_waiting_is_forgotten() {
        let progress = Progress::new(Lsn(0));
        {
            let mut reach = pin!(progress.reach(Lsn(1)));
            assert!(!poll(reach.as_mut(), &Arc::default()));
            assert_eq!(progress.lock().waiters.len(), 1);
        }
        assert!(progress.lock().waiters.is_empty());
    }

    #[test]
    fn nobody_sleeps_through_it() {
        let progress = Progress::new(Lsn(0));
        thread::scope(|scope| {
            for waiter in 0..4 {
                let progress = &progress;
                scope.spawn(move || {
                    (1..=5_000).for_each(|n| progress.reach_blocking(Lsn(n)).unwrap());
                    assert!(progress.reached() >= Lsn(5_000), "{waiter}");
                });
            }
            (1..=5_000).for_each(|n| progress.publish(Lsn(n)));
        });
    }
}
