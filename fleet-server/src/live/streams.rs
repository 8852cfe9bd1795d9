//! The open streams: how many there may be, whose they are, and what each looks at.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use fleet_core::api::StreamView;
use fleet_core::id::Uid;
use tokio::sync::watch;

/// Streams of one key.
pub(crate) const STREAMS_PER_KEY_MAX: usize = 64;
/// Streams of all keys.
pub(crate) const STREAMS_MAX: usize = 512;

/// The open streams.
#[derive(Default)]
pub(crate) struct Streams {
    open: Mutex<HashMap<Uid, Entry>>,
}

struct Entry {
    key: String,
    view: watch::Sender<StreamView>,
}

/// A stream's place, given up when it is dropped.
pub(crate) struct Place {
    streams: Arc<Streams>,
    pub(crate) stream: Uid,
    pub(crate) key: String,
    pub(crate) view: watch::Receiver<StreamView>,
}

/// There are as many streams as there may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} streams are open, and there may be no more")]
pub(crate) struct Full(usize);

/// Why a view was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoView {
    /// There is no such stream, or no more.
    Unknown,
    /// Another key opened it.
    Foreign,
}

impl Streams {
    /// Takes a place for a stream.
    pub(crate) fn open(self: &Arc<Self>, key: &str) -> Result<Place, Full> {
        let mut open = self.lock();
        if open.len() >= STREAMS_MAX {
            return Err(Full(open.len()));
        }
        let of_key = open.values().filter(|entry| entry.key == key).count();
        if of_key >= STREAMS_PER_KEY_MAX {
            return Err(Full(of_key));
        }
        let stream = Uid::new();
        let (sender, view) = watch::channel(StreamView::default());
        open.insert(stream, Entry { key: key.to_owned(), view: sender });
        Ok(Place { streams: self.clone(), stream, key: key.to_owned(), view })
    }

    /// Takes what a stream's reader looks at now.
    pub(crate) fn look(&self, stream: Uid, key: &str, view: StreamView) -> Result<(), NoView> {
        let open = self.lock();
        let entry = open.get(&stream).ok_or(NoView::Unknown)?;
        if entry.key != key {
            return Err(NoView::Foreign);
        }
        entry.view.send_replace(view);
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Uid, Entry>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.streams.lock().remove(&self.stream);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_are_bounded_for_each_key_and_for_all() {
        let streams = Arc::new(Streams::default());
        let mut places = Vec::new();
        for key in 0..STREAMS_MAX / STREAMS_PER_KEY_MAX {
            let key = format!("key{key}");
            for _ in 0..STREAMS_PER_KEY_MAX {
                places.push(streams.open(&key).unwrap_or_else(|full| panic!("{full}")));
            }
            assert_eq!(
                streams.open(&key).err(),
                Some(Full(places.len().min(if places.len() == STREAMS_MAX {
                    STREAMS_MAX
                } else {
                    STREAMS_PER_KEY_MAX
                })))
            );
        }
        assert_eq!(streams.open("another").err(), Some(Full(STREAMS_MAX)));
        places.pop();
        assert!(streams.open("another").is_ok());
    }

    #[test]
    fn a_view_is_for_a_stream_of_the_same_key() {
        let streams = Arc::new(Streams::default());
        let place = streams.open("a").unwrap_or_else(|full| panic!("{full}"));
        let view = StreamView { rows: vec![1], ..StreamView::default() };
        assert_eq!(streams.look(place.stream, "b", view.clone()), Err(NoView::Foreign));
        assert_eq!(streams.look(Uid::new(), "a", view.clone()), Err(NoView::Unknown));
        assert_eq!(streams.look(place.stream, "a", view.clone()), Ok(()));
        assert_eq!(*place.view.borrow(), view);
        let stream = place.stream;
        drop(place);
        assert_eq!(streams.look(stream, "a", view), Err(NoView::Unknown));
    }
}
