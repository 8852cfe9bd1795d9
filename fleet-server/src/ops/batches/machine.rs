//! What a batch does next: a decision from what is known, without doing anything.
//!
//! What must hold, whatever happens: never more than the window are at it at once, the first ones go
//! alone, nobody begins while the batch is not running, and it pauses at so many failures.

use std::time::Duration;

use fleet_core::api::{BatchState, MemberState};
use fleet_core::time::Timestamp;

/// How long after its time is over a device may still answer.
pub(super) const GRACE: Duration = Duration::from_secs(30);
/// Members that one step is about, so that no batch keeps the others waiting.
const STEP_MAX: usize = 250;

/// What a batch goes by.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plan {
    pub(super) state: BatchState,
    pub(super) window: usize,
    pub(super) canary: usize,
    pub(super) max_fail: usize,
    /// Failures that count no more.
    pub(super) forgiven: usize,
    pub(super) timeout: Duration,
    pub(super) expires_at: Timestamp,
}

/// How far a device of it is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Member {
    pub(super) state: MemberState,
    pub(super) begun_at: Option<Timestamp>,
}

/// What to do next; members by their places.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// These begin.
    Begin(Vec<usize>),
    /// For these it is too late.
    Expire(Vec<usize>),
    /// These have not answered in time.
    GiveUp(Vec<usize>),
    /// These need not begin any more.
    CallOff(Vec<usize>),
    /// It pauses: so many have failed since it last went on, and at so many it does.
    Pause { failures: usize, at: usize },
    /// Nothing is to come any more.
    Done,
    /// Nothing at this moment.
    Wait,
}

/// What to do next. `may_begin` says of a place whether its device is connected.
pub(super) fn next(
    plan: &Plan,
    members: &[Member],
    may_begin: impl Fn(usize) -> bool,
    now: Timestamp,
) -> Next {
    let in_state = |state| members.iter().filter(move |member| member.state == state).count();
    let (waiting, running) = (in_state(MemberState::Waiting), in_state(MemberState::Running));
    let first = |is_one: &dyn Fn(usize, &Member) -> bool, max: usize| -> Vec<usize> {
        let ones = members.iter().enumerate().filter(|(place, member)| is_one(*place, member));
        ones.map(|(place, _)| place).take(max.min(STEP_MAX)).collect()
    };
    let waits = |member: &Member| member.state == MemberState::Waiting;
    let patience = plan.timeout.saturating_add(GRACE);
    let is_late = |_: usize, member: &Member| {
        member.state == MemberState::Running
            && member.begun_at.is_none_or(|begun| begun.plus(patience) <= now)
    };
    let late = first(&is_late, usize::MAX);
    if !late.is_empty() {
        return Next::GiveUp(late);
    }
    if plan.state == BatchState::Cancelled && waiting > 0 {
        return Next::CallOff(first(&|_, member| waits(member), usize::MAX));
    }
    let goes_on = matches!(plan.state, BatchState::Running | BatchState::Paused);
    if goes_on && waiting > 0 && plan.expires_at <= now {
        return Next::Expire(first(&|_, member| waits(member), usize::MAX));
    }
    if goes_on && waiting + running == 0 {
        return Next::Done;
    }
    if plan.state != BatchState::Running || waiting == 0 {
        return Next::Wait;
    }
    let failures = in_state(MemberState::Failed) + in_state(MemberState::Unknown);
    let failures = failures.saturating_sub(plan.forgiven);
    let begun = members.iter().filter(|member| member.begun_at.is_some()).count();
    // Of those who go first each one counts.
    let are_first = plan.canary > 0 && begun <= plan.canary;
    let at = if are_first { 1 } else { plan.max_fail };
    if failures >= at {
        return Next::Pause { failures, at };
    }
    let wanted = match begun {
        begun if begun < plan.canary => plan.canary - begun,
        // All of those who go first must be over.
        begun if begun == plan.canary && running > 0 => 0,
        _ => usize::MAX,
    };
    let room = wanted.min(plan.window.saturating_sub(running));
    let begin = first(&|place, member| waits(member) && may_begin(place), room);
    if begin.is_empty() { Next::Wait } else { Next::Begin(begin) }
}

#[cfg(test)]
mod tests {
    use MemberState::{Cancelled, Expired, Failed, Running, Succeeded, Unknown, Waiting};
    use proptest::prelude::*;

    use super::*;

    fn time(secs: i64) -> Timestamp {
        Timestamp::from_millis(secs * 1_000)
    }

    fn plan() -> Plan {
        Plan {
            state: BatchState::Running,
            window: 2,
            canary: 0,
            max_fail: 2,
            forgiven: 0,
            timeout: Duration::from_secs(60),
            expires_at: time(1_000),
        }
    }

    /// Members in states; whoever is not waiting began at the tenth second.
    fn members(states: &[MemberState]) -> Vec<Member> {
        let member = |state: &MemberState| Member {
            state: *state,
            begun_at: (*state != Waiting).then(|| time(10)),
        };
        states.iter().map(member).collect()
    }

    fn at(plan: Plan, states: &[MemberState], secs: i64) -> Next {
        next(&plan, &members(states), |_| true, time(secs))
    }

    #[test]
    fn the_window_is_filled_in_order_with_those_who_are_connected() {
        assert_eq!(at(plan(), &[Waiting; 3], 0), Next::Begin(vec![0, 1]));
        assert_eq!(at(plan(), &[Succeeded, Running, Waiting], 11), Next::Begin(vec![2]));
        assert_eq!(at(plan(), &[Running, Running, Waiting], 11), Next::Wait);
        let found = next(&plan(), &members(&[Waiting; 3]), |place| place == 2, time(0));
        assert_eq!(found, Next::Begin(vec![2]));
        assert_eq!(next(&plan(), &members(&[Waiting; 3]), |_| false, time(0)), Next::Wait);
        let wide = Plan { window: 20_000, ..plan() };
        assert!(
            matches!(at(wide, &[Waiting; 300], 0), Next::Begin(begin) if begin.len() == STEP_MAX)
        );
    }

    #[test]
    fn those_who_go_first_go_alone() {
        let canary = Plan { canary: 2, window: 5, max_fail: 1, ..plan() };
        assert_eq!(at(canary, &[Waiting; 4], 0), Next::Begin(vec![0, 1]));
        let found = next(&canary, &members(&[Waiting; 4]), |place| place == 3, time(0));
        assert_eq!(found, Next::Begin(vec![3]), "the first that are connected");
        assert_eq!(at(canary, &[Running, Waiting, Waiting], 11), Next::Begin(vec![1]));
        assert_eq!(at(canary, &[Succeeded, Running, Waiting], 11), Next::Wait);
        assert_eq!(
            at(canary, &[Succeeded, Succeeded, Waiting, Waiting], 11),
            Next::Begin(vec![2, 3])
        );
        assert_eq!(
            at(canary, &[Succeeded, Failed, Waiting], 11),
            Next::Pause { failures: 1, at: 1 }
        );
    }

    #[test]
    fn it_pauses_at_so_many_failures_that_are_not_forgiven() {
        assert_eq!(at(plan(), &[Failed, Waiting], 11), Next::Begin(vec![1]));
        assert_eq!(
            at(plan(), &[Failed, Unknown, Running, Waiting], 11),
            Next::Pause { failures: 2, at: 2 }
        );
        let forgiving = Plan { forgiven: 2, ..plan() };
        assert_eq!(at(forgiving, &[Failed, Failed, Waiting], 11), Next::Begin(vec![2]));
        assert_eq!(
            at(forgiving, &[Failed, Failed, Failed, Failed, Waiting], 11),
            Next::Pause { failures: 2, at: 2 }
        );
        assert_eq!(at(plan(), &[Failed, Failed, Running], 11), Next::Wait, "nobody is kept back");
        assert_eq!(at(plan(), &[Failed, Failed], 11), Next::Done);
    }

    #[test]
    fn whatever_takes_too_long_has_an_end() {
        assert_eq!(at(plan(), &[Running, Waiting], 99), Next::Begin(vec![1]));
        assert_eq!(at(plan(), &[Running, Waiting], 100), Next::GiveUp(vec![0]));
        assert_eq!(at(plan(), &[Succeeded, Waiting], 1_000), Next::Expire(vec![1]));
        assert_eq!(at(plan(), &[Succeeded, Expired, Cancelled], 1_000), Next::Done);
        let paused = Plan { state: BatchState::Paused, ..plan() };
        assert_eq!(at(paused, &[Succeeded, Waiting], 999), Next::Wait);
        assert_eq!(at(paused, &[Succeeded, Waiting], 1_000), Next::Expire(vec![1]));
        assert_eq!(at(paused, &[Succeeded], 11), Next::Done);
        let cancelled = Plan { state: BatchState::Cancelled, ..plan() };
        assert_eq!(at(cancelled, &[Running, Waiting, Waiting], 11), Next::CallOff(vec![1, 2]));
        assert_eq!(at(cancelled, &[Running, Cancelled], 11), Next::Wait);
        assert_eq!(at(cancelled, &[Running, Cancelled], 100), Next::GiveUp(vec![0]));
        assert_eq!(at(cancelled, &[Unknown, Cancelled], 100), Next::Wait);
    }

    /// What happens around a batch.
    #[derive(Clone, Copy, Debug)]
    enum Happens {
        Ends(usize, bool),
        Comes(usize, bool),
        Pauses,
        GoesOn,
        Cancelled,
        Passes(u16),
    }

    fn happens() -> impl Strategy<Value = Happens> {
        prop_oneof![
            5 => (0..8usize, any::<bool>()).prop_map(|(which, well)| Happens::Ends(which, well)),
            4 => (0..8usize, any::<bool>()).prop_map(|(which, is)| Happens::Comes(which, is)),
            1 => Just(Happens::Pauses),
            2 => Just(Happens::GoesOn),
            1 => Just(Happens::Cancelled),
            1 => (0..80u16).prop_map(Happens::Passes),
        ]
    }

    /// A batch in a fleet that does what it likes.
    struct Life {
        plan: Plan,
        members: Vec<Member>,
        connected: Vec<bool>,
        now: i64,
    }

    impl Life {
        fn count(&self, is_one: impl Fn(&Member) -> bool) -> usize {
            self.members.iter().filter(|member| is_one(member)).count()
        }

        fn failures(&self) -> usize {
            self.count(|member| member.state.is_failure()).saturating_sub(self.plan.forgiven)
        }

        fn happens(&mut self, what: Happens) {
            let open = matches!(self.plan.state, BatchState::Running | BatchState::Paused);
            match what {
                Happens::Ends(which, well) if self.members[which].state == Running => {
                    self.members[which].state = if well { Succeeded } else { Failed };
                }
                Happens::Comes(which, is) => self.connected[which] = is,
                Happens::Pauses if open => self.plan.state = BatchState::Paused,
                Happens::GoesOn if self.plan.state == BatchState::Paused => {
                    self.plan.state = BatchState::Running;
                    self.plan.forgiven = self.count(|member| member.state.is_failure());
                }
                Happens::Cancelled if open => self.plan.state = BatchState::Cancelled,
                Happens::Passes(secs) => self.now += i64::from(secs),
                _ => {}
            }
        }

        /// Does all that is to be done now.
        fn settle(&mut self) -> Result<(), TestCaseError> {
            for _ in 0..100 {
                let (plan, connected) = (self.plan, &self.connected);
                let next = next(&plan, &self.members, |place| connected[place], time(self.now));
                match next {
                    Next::Wait => return Ok(()),
                    Next::Begin(places) => {
                        prop_assert_eq!(plan.state, BatchState::Running);
                        prop_assert!(self.failures() < plan.max_fail);
                        let before = self.count(|member| member.begun_at.is_some());
                        let running = self.count(|member| member.state == Running);
                        if before < plan.canary {
                            prop_assert!(before + places.len() <= plan.canary);
                        } else if before == plan.canary {
                            prop_assert!(running == 0 || plan.canary == 0);
                        }
                        for place in places {
                            prop_assert_eq!(self.members[place].state, Waiting);
                            prop_assert!(connected[place]);
                            let begun_at = Some(time(self.now));
                            self.members[place] = Member { state: Running, begun_at };
                        }
                        prop_assert!(self.count(|member| member.state == Running) <= plan.window);
                    }
                    Next::Expire(places) => self.all(&places, Waiting, Expired)?,
                    Next::GiveUp(places) => self.all(&places, Running, Unknown)?,
                    Next::CallOff(places) => self.all(&places, Waiting, Cancelled)?,
                    Next::Pause { failures, at } => {
                        prop_assert_eq!(failures, self.failures());
                        prop_assert!(failures >= at);
                        prop_assert!(at == plan.max_fail || (at == 1 && plan.canary > 0));
                        self.plan.state = BatchState::Paused;
                    }
                    Next::Done => {
                        prop_assert_eq!(self.count(|member| !member.state.is_over()), 0);
                        self.plan.state = BatchState::Done;
                    }
                }
            }
            Err(TestCaseError::fail("it does not come to rest"))
        }

        fn all(
            &mut self,
            places: &[usize],
            from: MemberState,
            to: MemberState,
        ) -> Result<(), TestCaseError> {
            prop_assert!(!places.is_empty());
            for place in places {
                prop_assert_eq!(self.members[*place].state, from);
                self.members[*place].state = to;
            }
            Ok(())
        }
    }

    proptest! {
        #[test]
        fn what_must_hold_holds_and_it_comes_to_an_end(
            window in 1..5usize,
            canary in 0..4usize,
            max_fail in 1..5usize,
            story in prop::collection::vec(happens(), 0..80),
        ) {
            let plan = Plan { window, canary, max_fail, ..plan() };
            let members = members(&[Waiting; 8]);
            let mut life = Life { plan, members, connected: vec![false; 8], now: 0 };
            life.settle()?;
            for what in story {
                life.happens(what);
                life.settle()?;
            }
            life.now += 5_000;
            life.settle()?;
            prop_assert_eq!(life.count(|member| !member.state.is_over()), 0);
            prop_assert!(matches!(life.plan.state, BatchState::Done | BatchState::Cancelled));
        }
    }
}
