//! How many connections each address has, so that one neighbour cannot take all the room.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Connections of one address at one time.
pub(super) const PER_ADDRESS_MAX: usize = 8;

/// Who is connected. Holds no more addresses than there are connections.
#[derive(Default)]
pub(super) struct Visitors(Mutex<HashMap<IpAddr, usize>>);

/// One connection's place, given back when dropped.
pub(super) struct Visit {
    visitors: Arc<Visitors>,
    address: IpAddr,
}

impl Visitors {
    /// A place for a connection of this address, unless it has its share.
    pub(super) fn enter(self: &Arc<Self>, address: IpAddr) -> Option<Visit> {
        let mut counts = self.counts();
        let count = counts.entry(address).or_default();
        if *count >= PER_ADDRESS_MAX {
            return None;
        }
        *count += 1;
        drop(counts);
        Some(Visit { visitors: self.clone(), address })
    }

    fn counts(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        let mut counts = self.visitors.counts();
        if let Some(count) = counts.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn one_address_has_its_share_and_others_theirs() {
        let visitors = Arc::new(Visitors::default());
        let address = |last| IpAddr::V4(Ipv4Addr::new(10, 0, 0, last));
        let mut visits: Vec<Visit> =
            (0..PER_ADDRESS_MAX).map(|_| visitors.enter(address(1)).unwrap()).collect();
        assert!(visitors.enter(address(1)).is_none());
        assert!(visitors.enter(address(2)).is_some());
        visits.pop();
        assert!(visitors.enter(address(1)).is_some());
        visits.clear();
        assert!(visitors.counts().is_empty());
    }
}
