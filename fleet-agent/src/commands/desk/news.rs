//! What there is to say to the server. It lives as long as a link: a new one begins with all that
//! the server does not have, out of the journal, so that nothing is lost with the old one.

use std::collections::VecDeque;

use fleet_core::wire::{CommandNews, CommandResult, Progress};

use super::Desk;
use crate::journal::{CommandId, LIVE_MAX, Stage};

/// What waits to be said at most: three steps of each command, and answers. The link says all of it
/// before it listens again, so there is never that much.
const NEWS_MAX: usize = 4 * LIVE_MAX;

/// What waits to be said.
#[derive(Default)]
pub(super) struct News {
    waiting: VecDeque<Told>,
    /// Whether there is somebody to tell.
    is_heard: bool,
}

/// Something to say.
#[derive(Debug, PartialEq, Eq)]
enum Told {
    /// How far a command has come, as the journal has it.
    Accepted(CommandId),
    Running(CommandId),
    Done(CommandId),
    /// What became of an order that the journal has no room for.
    Refused(CommandId, CommandResult),
}

impl News {
    pub(super) fn clear(&mut self) {
        self.waiting.clear();
    }

    pub(super) fn refuse(&mut self, id: CommandId, result: CommandResult) {
        self.push(Told::Refused(id, result));
    }

    pub(super) fn is_heard(&self) -> bool {
        self.is_heard
    }

    fn push(&mut self, told: Told) {
        if self.is_heard && !self.waiting.contains(&told) {
            if self.waiting.len() >= NEWS_MAX {
                self.waiting.pop_front();
            }
            self.waiting.push_back(told);
        }
    }
}

impl Desk {
    /// Takes note that the server listens: it hears all that it may not have.
    pub(in crate::commands) fn connected(&mut self) {
        self.news.is_heard = true;
        self.news.clear();
        let Some(journal) = &self.journal else { return };
        let live = journal.entries().into_iter().filter(|entry| entry.is_live());
        let live: Vec<CommandId> = live.map(|entry| entry.about.id).collect();
        for id in live {
            self.tell(id);
        }
    }

    /// Takes note that it no longer does.
    pub(in crate::commands) fn disconnected(&mut self) {
        self.news.is_heard = false;
        self.news.clear();
    }

    /// Says how far a command has come.
    pub(super) fn tell(&mut self, id: CommandId) {
        let Some(entry) = self.journal.as_ref().and_then(|journal| journal.entry(&id)) else {
            return;
        };
        let told = match &entry.stage {
            Stage::Accepted => Told::Accepted(id),
            Stage::Running(_) => Told::Running(id),
            Stage::Done(_) => Told::Done(id),
        };
        self.news.push(told);
    }

    pub(in crate::commands) fn has_news(&self) -> bool {
        !self.news.waiting.is_empty()
    }

    /// The next thing to say.
    pub(in crate::commands) fn take_news(&mut self) -> Option<CommandNews> {
        while let Some(told) = self.news.waiting.pop_front() {
            let (id, progress) = match told {
                Told::Accepted(id) => (id, Some(Progress::Accepted)),
                Told::Running(id) => (id, Some(Progress::Running)),
                Told::Done(id) => (id, self.outcome(&id).map(Progress::Done)),
                Told::Refused(id, result) => (id, Some(Progress::Done(result))),
            };
            if let Some(progress) = progress {
                return Some(CommandNews { id, progress });
            }
        }
        None
    }

    fn outcome(&self, id: &CommandId) -> Option<CommandResult> {
        match &self.journal.as_ref()?.entry(id)?.stage {
            Stage::Done(over) => Some(over.result.clone()),
            Stage::Accepted | Stage::Running(_) => None,
        }
    }
}
