//! The devices of one batch, by state: those that failed first. Only what somebody has gone down to
//! is known, page by page, and only what is in sight is looked at again.

use fleet_core::api::{BatchMember, BatchView, MemberState};
use fleet_core::id::{DeviceId, Uid};
use fleet_core::limits::BATCH_DEVICES_MAX;

use crate::effect::Request;

/// Devices that are asked for at one time.
pub(super) const PAGE: usize = 200;
/// What is looked at again begins at a multiple of so many rows.
const STEP: usize = 50;
/// Further devices are asked for when no more than so many rows are left below those in sight.
const ROWS_LEFT: usize = 50;
/// Kinds of states that are told apart; a server of a later release may have some of its own.
const SECTIONS_MAX: usize = 16;

/// The order in which states stand: what wants somebody first, what is well last.
const ORDER: [&[MemberState]; 7] = [
    &[MemberState::Failed, MemberState::Unknown],
    &[MemberState::Expired],
    &[MemberState::Running],
    &[MemberState::Waiting],
    &[MemberState::Cancelled],
    &[MemberState::Skipped],
    &[MemberState::Succeeded],
];

/// The devices of one batch.
#[derive(Debug)]
pub struct Members {
    batch: Uid,
    sections: Vec<Section>,
    /// The only section that is shown, if not all are.
    only: Option<usize>,
    /// Grows when what is known may be old.
    version: u64,
}

/// Where a page begins: behind this id, or with the first device.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Behind(Option<DeviceId>);

/// The devices in some states, from the first id on.
#[derive(Debug)]
struct Section {
    states: Vec<MemberState>,
    /// How many there are.
    count: usize,
    rows: Vec<BatchMember>,
    /// Whether the last one is here.
    is_whole: bool,
    /// The page that is on its way.
    asked: Option<Behind>,
    /// The page that was looked at again last, and how old what was known was then.
    looked: Option<(Behind, u64)>,
    /// The same of the page behind all that is known.
    went_on: Option<(Behind, u64)>,
}

impl Section {
    fn new(states: &[MemberState]) -> Self {
        Self {
            states: states.to_vec(),
            count: 0,
            rows: Vec::new(),
            is_whole: false,
            asked: None,
            looked: None,
            went_on: None,
        }
    }

    /// Puts a page in the place of what was known of its part.
    fn merge(&mut self, after: Option<&DeviceId>, page: Vec<BatchMember>) {
        let place = |id: &DeviceId| self.rows.partition_point(|row| row.device_id <= *id);
        let start = after.map_or(0, place);
        let last = page.last().filter(|_| page.len() >= PAGE);
        let end = last.map_or(self.rows.len(), |last| place(&last.device_id)).max(start);
        self.is_whole |= last.is_none();
        self.rows.splice(start..end, page);
        self.rows.truncate(BATCH_DEVICES_MAX);
    }

    /// Behind which id to ask for a page now, if at all: what is in sight is looked at again when it
    /// is old, and more is wanted when its end is near.
    fn page_after(
        &mut self,
        is_in_sight: bool,
        is_near_end: bool,
        first: usize,
        version: u64,
    ) -> Option<Behind> {
        if self.asked.is_some() {
            return None;
        }
        if is_in_sight {
            let before = (first / STEP * STEP).checked_sub(1);
            let before = before.and_then(|place| self.rows.get(place));
            let page = (Behind(before.map(|row| row.device_id.clone())), version);
            if self.looked.as_ref() != Some(&page) {
                self.looked = Some(page.clone());
                if self.rows.is_empty() {
                    self.went_on = Some(page.clone());
                }
                return Some(page.0);
            }
        }
        if is_near_end {
            let last = self.rows.last().map(|row| row.device_id.clone());
            let page = (Behind(last), version);
            if self.went_on.as_ref() != Some(&page) {
                self.went_on = Some(page.clone());
                return Some(page.0);
            }
        }
        None
    }

    fn forget(&mut self, member: &BatchMember) {
        if let Ok(place) = self.rows.binary_search_by(|row| row.device_id.cmp(&member.device_id)) {
            self.rows.remove(place);
        }
    }
}

/// A kind of states, for a menu.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kind {
    /// Which section that is.
    pub section: usize,
    /// Its words.
    pub words: String,
    /// How many devices are in it.
    pub count: usize,
}

impl Members {
    pub(super) fn new(batch: Uid) -> Self {
        let sections = ORDER.iter().map(|states| Section::new(states)).collect();
        Self { batch, sections, only: None, version: 0 }
    }

    /// Notes how many devices are in which state by now.
    pub(super) fn count(&mut self, view: &BatchView) {
        for state in view.counts.keys() {
            let is_known = self.sections.iter().any(|section| section.states.contains(state));
            if !is_known && self.sections.len() < SECTIONS_MAX {
                self.sections.push(Section::new(&[*state]));
            }
        }
        for section in &mut self.sections {
            let counts = section.states.iter().filter_map(|state| view.counts.get(state));
            section.count = counts.sum();
            if section.count == 0 {
                section.rows.clear();
                section.is_whole = true;
            } else if section.rows.is_empty() {
                section.is_whole = false;
            }
        }
    }

    /// Notes that what is known may be old.
    pub(super) fn outdate(&mut self) {
        self.version += 1;
    }

    /// Notes that pages on their way may never come.
    pub(super) fn lose(&mut self) {
        self.outdate();
        for section in &mut self.sections {
            section.asked = None;
        }
    }

    /// Shows one section, or all.
    pub(super) fn show(&mut self, only: Option<usize>) {
        self.only = only.filter(|section| *section < self.sections.len());
    }

    /// The words of what is shown, unless everything is.
    pub fn shown(&self) -> Option<String> {
        self.sections.get(self.only?).map(words)
    }

    /// Every kind of states that somebody might want to see alone.
    pub fn kinds(&self) -> Vec<Kind> {
        let kind =
            |(section, it): (usize, &Section)| Kind { section, words: words(it), count: it.count };
        self.sections.iter().enumerate().map(kind).collect()
    }

    /// How many devices are in what is shown, known or not.
    pub fn total(&self) -> usize {
        self.in_order().map(|(_, section)| section.count).sum()
    }

    fn in_order(&self) -> impl Iterator<Item = (usize, &Section)> {
        let is_shown = |(place, _): &(usize, &Section)| self.only.is_none_or(|only| only == *place);
        self.sections.iter().enumerate().filter(is_shown)
    }

    /// The sections that are known as far as that is without a gap.
    fn known(&self) -> impl Iterator<Item = (usize, &Section)> {
        let gap = self.in_order().position(|(_, section)| !section.is_whole);
        self.in_order().take(gap.map_or(usize::MAX, |gap| gap + 1))
    }

    /// The devices that are known, in order, without a gap.
    pub fn rows(&self) -> impl Iterator<Item = &BatchMember> {
        self.known().flat_map(|(_, section)| &section.rows)
    }

    /// How many that are.
    pub fn len(&self) -> usize {
        self.known().map(|(_, section)| section.rows.len()).sum()
    }

    /// Whether none is known.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether there are more below.
    pub fn has_more(&self) -> bool {
        self.in_order().any(|(_, section)| !section.is_whole)
    }

    /// Whether a page is on its way.
    pub fn is_loading(&self) -> bool {
        self.in_order().any(|(_, section)| section.asked.is_some())
    }

    /// What to ask for, when these rows are in sight.
    pub(super) fn questions(&mut self, top: usize, height: usize) -> Vec<Request> {
        let (mut begin, version) = (0, self.version);
        let places: Vec<usize> = self.known().map(|(place, _)| place).collect();
        let mut questions = Vec::new();
        for place in places {
            let Some(section) = self.sections.get_mut(place) else { continue };
            let end = begin + section.rows.len();
            let is_in_sight = begin <= top + height && end >= top && section.count > 0;
            let is_near_end = !section.is_whole && end <= top + height + ROWS_LEFT;
            let behind =
                section.page_after(is_in_sight, is_near_end, top - begin.min(top), version);
            if let Some(behind) = behind {
                section.asked = Some(behind.clone());
                let (states, limit) = (section.states.clone(), PAGE);
                let Behind(after) = behind;
                questions.push(Request::Members { batch: self.batch, states, after, limit });
            }
            begin = end;
        }
        questions
    }

    /// Takes a page, or notes that it does not come.
    pub(super) fn answered(
        &mut self,
        states: &[MemberState],
        after: Option<&DeviceId>,
        page: Option<Vec<BatchMember>>,
    ) {
        let Some(place) = self.sections.iter().position(|section| section.states == states) else {
            return;
        };
        if self.sections[place].asked.as_ref().is_none_or(|asked| asked.0.as_ref() != after) {
            return;
        }
        self.sections[place].asked = None;
        let Some(page) = page else { return };
        // A device is in one state at a time.
        for (other, section) in self.sections.iter_mut().enumerate() {
            if other != place {
                for member in &page {
                    section.forget(member);
                }
            }
        }
        self.sections[place].merge(after, page);
    }
}

fn words(section: &Section) -> String {
    let words: Vec<&str> = section.states.iter().map(MemberState::word).collect();
    words.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample;
    use crate::testing::{batch, member};

    fn ids(members: &Members) -> Vec<String> {
        members.rows().map(|row| row.device_id.to_string()).collect()
    }

    fn page(numbers: std::ops::Range<u32>, state: MemberState) -> Vec<BatchMember> {
        numbers.map(|number| member(number, state)).collect()
    }

    /// Answers all questions from a fleet in which each device of a number is in a state.
    fn answer(
        members: &mut Members,
        questions: Vec<Request>,
        state: impl Fn(u32) -> MemberState,
        total: u32,
    ) -> usize {
        let count = questions.len();
        for question in questions {
            let Request::Members { states, after, limit, .. } = question else { panic!() };
            let all = (0..total).map(|number| member(number, state(number)));
            let fits = |member: &BatchMember| {
                states.contains(&member.state)
                    && after.as_ref().is_none_or(|after| member.device_id > *after)
            };
            let page = all.filter(fits).take(limit).collect();
            members.answered(&states, after.as_ref(), Some(page));
        }
        count
    }

    #[test]
    fn those_that_failed_come_first_and_pages_come_as_they_are_needed() {
        let state = |number| match number {
            7 => MemberState::Failed,
            3 => MemberState::Unknown,
            number if number % 2 == 0 => MemberState::Succeeded,
            _ => MemberState::Waiting,
        };
        let mut members = Members::new(sample::uid(1));
        members.count(&batch(
            1,
            &[
                (MemberState::Failed, 1),
                (MemberState::Unknown, 1),
                (MemberState::Waiting, 498),
                (MemberState::Succeeded, 500),
            ],
        ));
        let mut asked = 0;
        loop {
            let questions = members.questions(0, 20);
            if questions.is_empty() {
                break;
            }
            asked += answer(&mut members, questions, state, 1_000);
        }
        assert_eq!(asked, 2, "what failed, and the first page of those that wait");
        assert_eq!(members.len(), 2 + PAGE);
        assert_eq!(ids(&members)[..3], ["d-00003", "d-00007", "d-00001"]);
        assert!(members.has_more());
        // Down to the end of what is known, and further.
        for _ in 0..8 {
            let questions = members.questions(members.len().saturating_sub(20), 20);
            answer(&mut members, questions, state, 1_000);
        }
        assert_eq!((members.len(), members.has_more()), (1_000, false));
        assert_eq!(ids(&members)[500], "d-00000", "those that are well come last");
    }

    #[test]
    fn what_is_in_sight_is_looked_at_again_when_it_is_old_and_not_besides() {
        let mut members = Members::new(sample::uid(1));
        let counts = [(MemberState::Running, 2), (MemberState::Waiting, 10)];
        members.count(&batch(1, &counts));
        let before = |number| match number {
            0..2 => MemberState::Running,
            _ => MemberState::Waiting,
        };
        let questions = members.questions(0, 20);
        answer(&mut members, questions, before, 12);
        let questions = members.questions(0, 20);
        answer(&mut members, questions, before, 12);
        assert!(members.questions(0, 20).is_empty());
        // One failed, another one began.
        let after = |number| match number {
            1 => MemberState::Failed,
            0 | 2 => MemberState::Running,
            _ => MemberState::Waiting,
        };
        members.count(&batch(
            1,
            &[(MemberState::Failed, 1), (MemberState::Running, 2), (MemberState::Waiting, 9)],
        ));
        members.outdate();
        loop {
            let questions = members.questions(0, 20);
            if questions.is_empty() {
                break;
            }
            answer(&mut members, questions, after, 12);
        }
        assert_eq!(members.len(), 12);
        assert_eq!(ids(&members)[..4], ["d-00001", "d-00000", "d-00002", "d-00003"]);
    }

    #[test]
    fn a_page_takes_the_place_of_its_part() {
        let mut section = Section::new(&[MemberState::Succeeded]);
        section.merge(None, page(0..200, MemberState::Succeeded));
        assert!(!section.is_whole);
        let last = section.rows[199].device_id.clone();
        section.merge(Some(&last), page(200..210, MemberState::Succeeded));
        assert!(section.is_whole && section.rows.len() == 210);
        let after = section.rows[49].device_id.clone();
        section.merge(Some(&after), page(60..260, MemberState::Succeeded));
        let numbers: Vec<_> = section.rows.iter().map(|row| row.device_id.to_string()).collect();
        assert_eq!(numbers.len(), 250);
        assert_eq!(numbers[48..52], ["d-00048", "d-00049", "d-00060", "d-00061"]);
        assert!(numbers.is_sorted());
    }

    #[test]
    fn a_page_that_did_not_come_is_asked_for_again_when_there_is_a_reason() {
        let mut members = Members::new(sample::uid(1));
        members.count(&batch(1, &[(MemberState::Waiting, 3)]));
        assert_eq!(members.questions(0, 9).len(), 1);
        assert!(members.questions(0, 9).is_empty(), "it is on its way");
        members.answered(&[MemberState::Waiting], None, None);
        assert!(members.questions(0, 9).is_empty());
        members.outdate();
        assert_eq!(members.questions(0, 9).len(), 1);
        members.lose();
        assert_eq!(members.questions(0, 9).len(), 1);
    }
}
