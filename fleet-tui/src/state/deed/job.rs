//! Doing what was agreed to: some devices at a time, until all are done or nothing can be done any
//! more. How far it is stands in the line above the keys; what failed can be read again there.

use std::collections::{BTreeSet, VecDeque};

use fleet_core::api::{CommandState, CommandView};
use fleet_core::id::{DeviceId, Uid};

use super::{Back, Deed, Last, Plan, Step, follow, view_words};
use crate::cells;
use crate::effect::{Change, Request};
use crate::event::{Answer, Failed, Notice};
use crate::state::Desk;
use crate::state::popup::{Outcome, Popup};

/// Devices that the server is asked about at one time.
const AT_ONCE_MAX: usize = 8;
/// Failures that are told one by one; the others are counted.
const FAILURES_TOLD_MAX: usize = 100;

/// Something under way.
#[derive(Debug)]
pub struct Job {
    deed: Deed,
    total: usize,
    waiting: VecDeque<Step>,
    under_way: Vec<Step>,
    done: usize,
    failed: usize,
    first_failure: Option<String>,
    /// The device, if there is only one.
    only: Option<DeviceId>,
    /// The command, if that is what is given or taken back.
    command: Option<Given>,
    /// Why the rest was given up.
    given_up: Option<&'static str>,
    /// What takes it back.
    back: Option<Back>,
}

/// A command that is given.
#[derive(Debug)]
struct Given {
    /// Its words.
    words: String,
    /// What there is to say of it, once the server has it.
    told: Option<String>,
    /// Whether its end is told already.
    is_over: bool,
}

impl Job {
    /// How far it is: `accepted 37 of 214`.
    pub fn progress(&self) -> String {
        let failed =
            if self.failed > 0 { format!(", {} failed", self.failed) } else { String::new() };
        format!("{} {} of {}{failed}", self.past(), self.done, self.total)
    }

    /// What was done: `accepted`, `restart given to`.
    fn past(&self) -> String {
        match &self.command {
            Some(given) if self.deed == Deed::TakeBack => format!("{} taken back on", given.words),
            Some(given) => format!("{} given to", given.words),
            None => self.deed.past().to_owned(),
        }
    }

    /// Whose answers are waited for.
    fn is_over(&self) -> bool {
        self.waiting.is_empty() && self.under_way.is_empty()
    }
}

/// Does what somebody agreed to.
pub fn carry_out(plan: Plan, desk: &mut Desk) {
    if let Some(reason) = desk.why_not_change() {
        desk.warn(format!("not done: {reason}"));
        return;
    }
    if let Some(job) = &desk.job {
        let progress = job.progress();
        desk.warn(format!(
            "not done: something else is still under way ({progress}); try again after that"
        ));
        return;
    }
    let back = Back::of(&plan, desk);
    let Plan { deed, steps, typed } = plan;
    let mut seen = BTreeSet::new();
    let waiting: VecDeque<_> = steps.into_iter().filter(|step| seen.insert(step.uid)).collect();
    let only = waiting.front().filter(|_| waiting.len() == 1).map(|step| step.id.clone());
    let first = waiting.front();
    let words = match first.and_then(Step::command) {
        Some((command, _)) => Some(command.to_string()),
        None => (deed == Deed::TakeBack).then_some(typed),
    };
    if let Some(step) = first.filter(|_| only.is_some() && deed.is_read()) {
        let title = format!("{} on {}", words.as_deref().unwrap_or_default(), step.id);
        desk.popup = Some(Popup::Outcome(Outcome::awaited(title, step)));
    }
    let command = words.map(|words| Given { words, told: None, is_over: false });
    desk.job = Some(Job {
        deed,
        total: waiting.len(),
        waiting,
        under_way: Vec::new(),
        done: 0,
        failed: 0,
        first_failure: None,
        only,
        command,
        given_up: None,
        back,
    });
    go_on(desk);
}

/// Takes what came of one change.
pub fn answered(uid: Uid, change: &Change, answer: Result<Answer, Failed>, desk: &mut Desk) {
    let is_it = |step: &Step| step.uid == uid && step.change == *change;
    let place = desk.job.as_ref().and_then(|job| job.under_way.iter().position(is_it));
    let Some((job, place)) = desk.job.as_mut().zip(place) else {
        // Some other screen's.
        if let Err(failed) = answer {
            desk.warn(failed.text);
        }
        return;
    };
    let step = job.under_way.swap_remove(place);
    match answer {
        Ok(answer) => {
            job.done += 1;
            if let Answer::Command(view) = answer {
                given(&view, desk);
            }
        }
        Err(failed) => {
            job.failed += 1;
            if let Some(back) = &mut job.back {
                back.leave_out(step.uid);
            }
            let text = told(&step, &failed);
            job.first_failure.get_or_insert_with(|| text.clone());
            if job.failed <= FAILURES_TOLD_MAX {
                desk.note(Notice { text, is_error: true });
            }
        }
    }
    go_on(desk);
}

/// Notes that the server has a command, or has taken it back.
fn given(view: &CommandView, desk: &mut Desk) {
    let row = desk.data.device(view.uid);
    let is_away = row.is_some_and(|row| !row.index.status.is_heard());
    let Some(job) = &mut desk.job else { return };
    let is_taken_back = job.deed == Deed::TakeBack;
    let Some(given) = &mut job.command else { return };
    let (words, device) = (view_words(view), &view.device_id);
    given.told = Some(match view.state {
        CommandState::Cancelled if is_taken_back => format!("{words} on {device} is taken back"),
        _ if is_taken_back => format!("{device} is told to leave {words}, if it has not begun"),
        CommandState::Queued if is_away => {
            let until = cells::second(view.expires_at);
            format!("{words} waits for {device}, which is away, until {until}")
        }
        _ => format!("{words} given to {device}"),
    });
    if is_taken_back && view.state.is_over() {
        desk.followed.forget(view.id);
        return;
    }
    desk.last = Last::Given(Box::new(view.clone()));
    // Whoever was faster than the answer has its end told with it.
    let is_over = follow::taken(view, desk);
    if let Some(given) = desk.job.as_mut().and_then(|job| job.command.as_mut()) {
        given.is_over = is_over;
    }
}

fn told(step: &Step, failed: &Failed) -> String {
    match &failed.request_id {
        Some(request) => format!("{}: {} (request {request})", step.id, failed.text),
        None => format!("{}: {}", step.id, failed.text),
    }
}

/// Asks for the next ones, or ends.
fn go_on(desk: &mut Desk) {
    let why_not = desk.why_not_change();
    let Some(job) = &mut desk.job else { return };
    if why_not.is_some() && !job.waiting.is_empty() {
        job.given_up = why_not;
    }
    if job.given_up.is_none() {
        let room = AT_ONCE_MAX.saturating_sub(job.under_way.len()).min(job.waiting.len());
        let next: Vec<Step> = job.waiting.drain(..room).collect();
        job.under_way.extend(next.iter().cloned());
        let progress = Notice { text: job.progress(), is_error: false };
        let is_over = job.is_over();
        for step in next {
            desk.ask(Request::Change(step.uid, step.change));
        }
        if !is_over {
            desk.notice = Some((progress, desk.now.since_start));
            return;
        }
    } else if !job.under_way.is_empty() {
        return;
    }
    let Some(job) = desk.job.take() else { return };
    if job.done > 0 {
        match &job.back {
            // A command is noted when it is given.
            _ if job.deed.command_given() => {}
            Some(back) => desk.last = Last::Changed(back.clone()),
            None => desk.last = Last::Final(job.deed.no_undo().to_owned()),
        }
    }
    if !job.command.as_ref().is_some_and(|given| given.is_over) {
        desk.tell(outcome(&job));
    }
    follow::all_given(desk);
}

/// What came of all.
fn outcome(job: &Job) -> Notice {
    let told = job.command.as_ref().and_then(|given| given.told.clone());
    let done = match &job.only {
        Some(_) if told.is_some() => told.unwrap_or_default(),
        Some(_) if job.command.is_some() && job.done == 0 => {
            let words = job.command.as_ref().map(|given| given.words.as_str());
            format!("{} not {}", words.unwrap_or_default(), job.deed.past())
        }
        Some(id) if job.done == 1 => format!("{id} {}", job.deed.past()),
        _ => format!("{} {}", job.done, job.deed.past()),
    };
    let failed = (job.failed > 0).then(|| format!("{} failed", job.failed));
    let given_up = job.given_up.map(|reason| format!("{} not tried: {reason}", job.waiting.len()));
    let counts: Vec<String> = [Some(done), failed, given_up].into_iter().flatten().collect();
    let counts = counts.join(", ");
    let text = match &job.first_failure {
        None => counts,
        Some(failure) if job.failed == 1 => format!("{counts}: {failure}"),
        Some(failure) => format!("{counts}: {failure}; all of them in :messages"),
    };
    let undo = if job.back.is_some() && job.done > 0 { " (u undoes)" } else { "" };
    let is_error = job.failed > 0 || job.given_up.is_some();
    Notice { text: format!("{text}{undo}"), is_error }
}
