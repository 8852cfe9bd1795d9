//! Who knows the addresses of names.

use std::io;
use std::net::{IpAddr, ToSocketAddrs as _};
use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;

/// Names that are looked up at one time. The system's lookup has a thread to itself until it ends by
/// itself, however soon nobody waits for it any more; the server has threads for more important things.
const LOOKUPS_MAX: usize = 8;

/// What finds the addresses of names.
#[async_trait]
pub trait Resolver: Send + Sync {
    /// All addresses of a name.
    async fn addresses(&self, name: &str) -> io::Result<Vec<IpAddr>>;
}

/// The system's, with its `/etc/hosts`.
#[derive(Clone, Debug)]
pub struct SystemResolver {
    turns: Arc<Semaphore>,
}

impl Default for SystemResolver {
    fn default() -> Self {
        Self { turns: Arc::new(Semaphore::new(LOOKUPS_MAX)) }
    }
}

#[async_trait]
impl Resolver for SystemResolver {
    async fn addresses(&self, name: &str) -> io::Result<Vec<IpAddr>> {
        let name = name.to_owned();
        let look_up = move || Ok((name.as_str(), 0).to_socket_addrs()?.map(|at| at.ip()).collect());
        self.in_turn(look_up).await
    }
}

impl SystemResolver {
    async fn in_turn<T: Send + 'static>(
        &self,
        look_up: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let turn = self.turns.clone().acquire_owned().await.map_err(io::Error::other)?;
        let look_up = move || {
            let found = look_up();
            drop(turn);
            found
        };
        spawn_blocking(look_up).await.map_err(io::Error::other)?
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    #[tokio::test]
    async fn t15_names_that_take_long_do_not_take_all_threads() {
        let resolver = SystemResolver::default();
        let (begun, beginnings) = mpsc::channel();
        let mut ends = Vec::new();
        for number in 0..3 * LOOKUPS_MAX {
            let (end, ended) = mpsc::channel::<()>();
            ends.push(end);
            let begun = begun.clone();
            let look_up = move || {
                begun.send(number).map_err(io::Error::other)?;
                // Until the other end is dropped.
                ended.recv().expect_err("nobody sends anything");
                Ok(())
            };
            // Whoever asks gives up long before.
            let asked = timeout(Duration::from_millis(20), resolver.in_turn(look_up)).await;
            asked.expect_err("it takes long");
        }
        let begun: Vec<usize> = beginnings.try_iter().collect();
        assert!(begun.len() <= LOOKUPS_MAX, "{begun:?} at one time");
        drop(ends);
        let found = timeout(Duration::from_secs(20), resolver.in_turn(|| Ok(7))).await;
        assert_eq!(found.expect("a turn").expect("an answer"), 7);
    }
}
