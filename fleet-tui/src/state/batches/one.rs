//! One batch and its devices. The cursor is a device, not a row.

use std::time::Duration;

use fleet_core::api::{BatchMember, BatchView, MemberState};
use fleet_core::id::{DeviceId, Uid};

use super::goes_on;
use super::members::Members;
use crate::effect::Request;
use crate::event::{Answer, Failed};
use crate::keys::Action;
use crate::layout;
use crate::state::popup::{Command, Menu, MenuItem};
use crate::state::{Desk, list};

/// Between two looks at a batch that is not over.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// The same after a look that failed, and at one that is over: it may be tried anew.
const SELDOM_INTERVAL: Duration = Duration::from_secs(5);
/// Between two looks at devices of which nothing was heard to have changed: what they wait for may.
const WHY_INTERVAL: Duration = Duration::from_secs(5);

/// One batch.
#[derive(Debug)]
pub struct OneBatch {
    /// Which.
    pub id: Uid,
    /// Its devices.
    pub members: Members,
    /// The device at the cursor; the first if none was chosen.
    cursor: Option<Uid>,
    place: usize,
    /// The first row in sight.
    pub top: usize,
    /// Why nothing newer is known.
    pub error: Option<String>,
    /// What the devices were counted by.
    counted: Option<BatchView>,
    is_asked: bool,
    looked_at: Option<Duration>,
    outdated_at: Duration,
}

impl OneBatch {
    pub(super) fn new(id: Uid) -> Self {
        Self {
            id,
            members: Members::new(id),
            cursor: None,
            place: 0,
            top: 0,
            error: None,
            counted: None,
            is_asked: false,
            looked_at: None,
            outdated_at: Duration::ZERO,
        }
    }

    /// The device at the cursor.
    pub fn at_cursor(&self) -> Option<&BatchMember> {
        self.members.rows().nth(self.place)
    }

    /// The row of the cursor.
    pub fn place(&self) -> usize {
        self.place
    }

    /// Brings the rows up to date, and asks for what is missing.
    pub(super) fn settle(&mut self, view: Option<&BatchView>, desk: &mut Desk) {
        if let Some(view) = view.filter(|view| self.counted.as_ref() != Some(*view)) {
            self.members.count(view);
            self.outdate(desk);
            self.counted = Some(view.clone());
        }
        let len = self.members.len();
        if let Some(uid) = self.cursor
            && let Some(place) = self.members.rows().position(|row| row.uid == uid)
        {
            self.place = place;
        }
        self.place = self.place.min(len.saturating_sub(1));
        let height = usize::from(layout::batch(desk.size).rows.height);
        self.top = list::follow(self.top, self.place, len, height);
        if !desk.link.is_live() {
            return;
        }
        let is_open = view.is_some_and(goes_on);
        let now = desk.now.since_start;
        if is_open && now.saturating_sub(self.outdated_at) >= WHY_INTERVAL {
            self.outdate(desk);
        }
        let is_often = self.error.is_none() && (is_open || view.is_none());
        let pause = if is_often { LOOK_INTERVAL } else { SELDOM_INTERVAL };
        let is_due = self.looked_at.is_none_or(|at| now.saturating_sub(at) >= pause);
        if is_due && !self.is_asked {
            self.is_asked = true;
            self.looked_at = Some(now);
            desk.ask(Request::Batch(self.id));
        }
        if view.is_some() {
            for question in self.members.questions(self.top, height) {
                desk.ask(question);
            }
        }
    }

    fn outdate(&mut self, desk: &Desk) {
        self.members.outdate();
        self.outdated_at = desk.now.since_start;
    }

    /// Notes that answers on their way may never come.
    pub(super) fn lose(&mut self) {
        self.members.lose();
        self.is_asked = false;
        self.looked_at = None;
    }

    /// Takes note of how a look at the batch went.
    pub(super) fn looked(&mut self, answer: &Result<Answer, Failed>) {
        self.is_asked = false;
        self.error = answer.as_ref().err().map(|failed| failed.text.clone());
    }

    /// Takes devices.
    pub(super) fn answered(
        &mut self,
        states: &[MemberState],
        after: Option<&DeviceId>,
        answer: Result<Answer, Failed>,
    ) {
        let page = match answer {
            Ok(Answer::Members(page)) => Some(page),
            Ok(_) => None,
            Err(failed) => {
                self.error = Some(failed.text);
                None
            }
        };
        self.members.answered(states, after, page);
    }

    /// Moves the cursor; false if the key does something else.
    pub(super) fn moves(&mut self, action: Action, desk: &Desk) -> bool {
        let height = usize::from(layout::batch(desk.size).rows.height);
        let Some(place) = list::moved(action, self.place, self.members.len(), height) else {
            return false;
        };
        self.put_cursor(place);
        true
    }

    fn put_cursor(&mut self, place: usize) {
        self.place = place;
        // At the top one stays with what wants somebody first, whichever device that will be.
        self.cursor = self.members.rows().nth(place).filter(|_| place > 0).map(|row| row.uid);
    }

    /// Shows the devices in some states, or all.
    pub fn show(&mut self, only: Option<usize>) {
        self.members.show(only);
        (self.place, self.top, self.cursor) = (0, 0, None);
    }

    /// What is shown is all.
    pub fn shows_all(&self) -> bool {
        self.members.shown().is_none()
    }

    /// The kinds of states that can be shown alone.
    pub(super) fn views_menu(&self) -> Menu {
        let all = self.members.kinds().iter().map(|kind| kind.count).sum::<usize>();
        let item = |key, text: String, count: usize, only| MenuItem {
            key,
            text,
            detail: count.to_string(),
            command: Some(Command::ShowMembers(only)),
        };
        let mut items = vec![item('a', "all".to_owned(), all, None)];
        for kind in self.members.kinds() {
            // Two begin alike, and one ends well.
            let letters = kind.words.strip_prefix('s').filter(|rest| rest.starts_with('k'));
            let letters = letters.unwrap_or(&kind.words).chars().chain('b'..='z');
            let mut free = letters.filter(|letter| items.iter().all(|item| item.key != *letter));
            let letter = free.find(char::is_ascii_lowercase).unwrap_or(' ');
            items.push(item(letter, kind.words, kind.count, Some(kind.section)));
        }
        Menu::new("Devices that are", items)
    }
}
