//! What happened to a device, newest first, a page at a time.

use std::collections::VecDeque;

use fleet_core::api::EventView;
use fleet_core::id::Uid;

use super::fetched::Fetched;
use crate::effect::Request;
use crate::event::Failed;

/// Events that are kept; further back nothing is asked for.
const EVENTS_MAX: usize = 2_000;

/// What happened to a device.
#[derive(Debug, Default)]
pub struct History {
    events: Fetched<Vec<EventView>>,
    /// What happened while the newest ones were being asked for, newest first: the answer may have
    /// been made before.
    meanwhile: VecDeque<EventView>,
    /// Before which event older ones are asked for.
    older: Option<u64>,
    /// Whether there is nothing older, or no room for it.
    is_whole: bool,
}

impl History {
    /// The events, newest first; nothing before the first answer.
    pub fn events(&self) -> Option<&[EventView]> {
        self.events.value().map(Vec::as_slice)
    }

    /// Why there are none, or only old ones.
    pub fn error(&self) -> Option<&str> {
        self.events.error()
    }

    /// How many are known.
    pub fn len(&self) -> usize {
        self.events().map_or(0, <[_]>::len)
    }

    /// Whether none is known.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Notes that events were missed.
    pub fn lose(&mut self) {
        self.events.lose();
        self.older = None;
    }

    /// What is to be asked for now: the newest ones, or older ones once somebody looks at the last.
    pub fn question(&mut self, device: Uid, sees_last: bool) -> Option<Request> {
        if self.events.begin() {
            return Some(Request::Events { device: Some(device), before: None });
        }
        let last = self.events()?.last()?.seq;
        if !sees_last || self.is_whole || self.older.is_some() {
            return None;
        }
        self.older = Some(last);
        Some(Request::Events { device: Some(device), before: Some(last) })
    }

    /// Takes a new event.
    pub fn happened(&mut self, event: &EventView) {
        if !self.events.is_current() {
            self.meanwhile.truncate(EVENTS_MAX - 1);
            self.meanwhile.push_front(event.clone());
        }
        if let Some(events) = self.events.value_mut()
            && events.first().is_none_or(|newest| newest.seq < event.seq)
        {
            events.insert(0, event.clone());
            events.truncate(EVENTS_MAX);
        }
    }

    /// Takes an answer.
    pub fn answered(&mut self, before: Option<u64>, answer: Result<Vec<EventView>, Failed>) {
        let Some(before) = before else {
            self.older = None;
            self.is_whole = false;
            let is_news = answer.is_ok();
            self.events.take(answer);
            if is_news {
                for event in std::mem::take(&mut self.meanwhile).into_iter().rev() {
                    self.happened(&event);
                }
            }
            return;
        };
        if self.older.take_if(|older| *older == before).is_none() {
            return;
        }
        match (answer, self.events.value_mut()) {
            (Ok(page), Some(events)) => {
                let room = EVENTS_MAX.saturating_sub(events.len());
                self.is_whole = page.is_empty() || page.len() >= room;
                events.extend(page.into_iter().filter(|event| event.seq < before).take(room));
            }
            // The end stays where it is until the events are asked for anew.
            _ => self.is_whole = true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(seq: u64) -> EventView {
        let event = serde_json::json!({
            "seq": seq, "timestamp": "2026-01-01T00:00:00Z", "kind": "device.online",
            "actor": "device", "text": "is heard again",
        });
        serde_json::from_value(event).unwrap()
    }

    fn events(seqs: impl Iterator<Item = u64>) -> Vec<EventView> {
        seqs.map(event).collect()
    }

    fn seqs(history: &History) -> Vec<u64> {
        history.events().unwrap().iter().map(|event| event.seq).collect()
    }

    #[test]
    fn older_events_are_asked_for_once_somebody_looks_at_the_last() {
        let (mut history, device) = (History::default(), Uid::new());
        let request = |before| Some(Request::Events { device: Some(device), before });
        assert_eq!(history.question(device, true), request(None));
        assert_eq!(history.question(device, true), None);
        history.answered(None, Ok(events([9, 7].into_iter())));
        assert_eq!(history.question(device, false), None);
        assert_eq!(history.question(device, true), request(Some(7)));
        assert_eq!(history.question(device, true), None);
        history.answered(Some(7), Ok(events([5].into_iter())));
        assert_eq!(seqs(&history), [9, 7, 5]);
        assert_eq!(history.question(device, true), request(Some(5)));
        history.answered(Some(5), Ok(Vec::new()));
        assert_eq!(history.question(device, true), None);
    }

    #[test]
    fn new_events_come_first_and_once() {
        let (mut history, device) = (History::default(), Uid::new());
        history.happened(&event(3));
        assert!(history.events().is_none());
        history.question(device, false);
        history.answered(None, Ok(events([4].into_iter())));
        [4, 3, 8, 8].map(event).iter().for_each(|event| history.happened(event));
        assert_eq!(seqs(&history), [8, 4]);
    }

    #[test]
    fn what_happens_while_an_answer_is_on_its_way_is_not_lost() {
        let (mut history, device) = (History::default(), Uid::new());
        history.question(device, false);
        [6, 7].map(event).iter().for_each(|event| history.happened(event));
        history.answered(None, Ok(events([6, 5].into_iter())));
        assert_eq!(seqs(&history), [7, 6, 5]);
        // Also of one that was asked for anew.
        history.lose();
        history.question(device, false);
        history.happened(&event(8));
        history.answered(None, Ok(events([7, 6, 5].into_iter())));
        assert_eq!(seqs(&history), [8, 7, 6, 5]);
        assert!(history.meanwhile.is_empty());
    }

    #[test]
    fn an_answer_from_before_the_link_was_down_is_left_aside() {
        let (mut history, device) = (History::default(), Uid::new());
        history.question(device, true);
        history.answered(None, Ok(events([4].into_iter())));
        history.question(device, true);
        history.lose();
        history.answered(Some(4), Ok(events([3].into_iter())));
        assert_eq!(seqs(&history), [4]);
        assert!(history.question(device, true).is_some());
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let (mut history, device) = (History::default(), Uid::new());
        history.question(device, false);
        history.answered(None, Ok(events((9_000..10_000).rev())));
        history.question(device, true);
        history.answered(Some(9_000), Ok(events((0..9_000).rev())));
        assert_eq!(history.len(), EVENTS_MAX);
        assert_eq!(history.question(device, true), None);
        history.happened(&event(20_000));
        assert_eq!(history.len(), EVENTS_MAX);
    }
}
