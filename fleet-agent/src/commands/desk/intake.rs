//! What the server says: orders, words that take one back, and that it has a result.

use std::io;
use std::time::Duration;

use fleet_core::command::Command;
use fleet_core::limits::COMMAND_EXPIRY_MAX;
use fleet_core::wire::{CommandOrder, CommandResult, Outcome};

use super::{Desk, about};
use crate::commands::outcome::result;
use crate::journal::{About, CommandId, ENTRIES_MAX, Journal, LIVE_MAX, LOST, Words};
use crate::spool::Moment;

impl Desk {
    /// Takes an order in, once. What the journal cannot keep stays with the server, which asks
    /// again.
    pub(in crate::commands) fn order(&mut self, order: CommandOrder, now: Moment) {
        let id = order.id;
        if self.waiting.contains(&id) {
            // So much is left of its time, whatever the clocks of this device say.
            self.late_at.insert(id, late_at(&order, now));
        }
        if !self.may_take(&id, now) {
            return;
        }
        if self.is_full(now) {
            let detail = format!(
                "this device remembers {ENTRIES_MAX} commands of the last weeks, and cannot take \
                 another one before it may forget some"
            );
            return self.news.refuse(id, result(Outcome::Failed, detail));
        }
        if let Err(error) = self.take(order, now) {
            return self.refused(&error);
        }
        self.is_refused = false;
        self.tell(id);
    }

    /// Takes an order back that never came. Of one that came, the answer is how far it is.
    pub(in crate::commands) fn cancel(&mut self, id: CommandId, now: Moment) {
        if !self.may_take(&id, now) {
            return;
        }
        if self.is_full(now) {
            return tracing::warn!("no room to remember a command that is taken back");
        }
        let (Some(server), Some(journal)) = (self.server, &mut self.journal) else { return };
        let wall_millis = now.wall.millis();
        let by_server = journal.server_millis().unwrap_or(wall_millis);
        let about = about(id, server, None, later(by_server, COMMAND_EXPIRY_MAX));
        let written = journal.may_have_had(&about, wall_millis).and_then(|may_have_had| {
            let result = if may_have_had {
                result(Outcome::Unknown, LOST)
            } else {
                result(Outcome::Cancelled, "it was taken back before the device had it")
            };
            journal.finish(about, result, wall_millis)
        });
        if let Err(error) = written {
            return self.refused(&error);
        }
        self.tell(id);
    }

    /// Takes note that the server has a result.
    pub(in crate::commands) fn noted(&mut self, id: CommandId, now: Moment) {
        let Some(journal) = self.ready(now) else { return };
        if let Err(error) = journal.note(id, now.wall.millis()) {
            // The server will say so again.
            self.refused(&error);
        }
    }

    /// Whether something is to be done about a command. What is known is answered.
    fn may_take(&mut self, id: &CommandId, now: Moment) -> bool {
        let Some(journal) = self.ready(now) else { return false };
        if journal.entry(id).is_some() {
            self.tell(*id);
            return false;
        }
        let has_room = journal.live() < LIVE_MAX;
        if !has_room {
            tracing::warn!("more than {LIVE_MAX} commands at once; the server must ask again");
        }
        has_room
    }

    fn is_full(&mut self, now: Moment) -> bool {
        self.journal.as_mut().is_some_and(|journal| !journal.has_room(now.wall.millis()))
    }

    fn take(&mut self, order: CommandOrder, now: Moment) -> io::Result<()> {
        let (Some(server), Some(journal)) = (self.server, &mut self.journal) else {
            return Err(io::ErrorKind::NotFound.into());
        };
        let late = late_at(&order, now);
        let CommandOrder { id, word, args, expires_millis, .. } = order;
        let wait = Duration::from_millis(order.expires_in_millis);
        let came = earlier(expires_millis, wait);
        let about = about(id, server, Some(came), expires_millis);
        let wall_millis = now.wall.millis();
        let objection = match Command::read(&word, &args) {
            Err(error) => Some(result(Outcome::Failed, format!("this agent: {error}"))),
            Ok(command) => objection(journal, &command, &about, wait, now)?.or_else(|| {
                self.policy.permits(&command).err().map(|why| result(Outcome::Failed, why))
            }),
        };
        if let Some(result) = objection {
            return journal.finish(about, result, wall_millis);
        }
        let timeout_millis = order.timeout_millis;
        let late_millis = later(wall_millis, wait);
        let words = Words { word, args, timeout_millis, taken_millis: wall_millis, late_millis };
        journal.accept(about, words)?;
        self.late_at.insert(id, late);
        self.waiting.push_back(id);
        Ok(())
    }
}

/// When it is too late to begin, in milliseconds since the boot.
fn late_at(order: &CommandOrder, now: Moment) -> u64 {
    now.up_millis.saturating_add(order.expires_in_millis)
}

/// Why a new order is not done, apart from what the device's owner says.
fn objection(
    journal: &mut Journal,
    command: &Command,
    about: &About,
    wait: Duration,
    now: Moment,
) -> io::Result<Option<CommandResult>> {
    // What the journal forgets, and what it takes for lost, goes by this.
    if wait > COMMAND_EXPIRY_MAX {
        let detail = "this agent: an order is good for seven days at most";
        return Ok(Some(result(Outcome::Failed, detail)));
    }
    // Looking twice does no harm.
    let is_harmless = matches!(command, Command::Collect | Command::Logs { .. });
    if !is_harmless && journal.may_have_had(about, now.wall.millis())? {
        return Ok(Some(result(Outcome::Unknown, format!("{LOST}; ask anew"))));
    }
    Ok(wait.is_zero().then(|| result(Outcome::Expired, "its time was over when it came")))
}

fn later(millis: i64, by: Duration) -> i64 {
    millis.saturating_add(i64::try_from(by.as_millis()).unwrap_or(i64::MAX))
}

fn earlier(millis: i64, by: Duration) -> i64 {
    millis.saturating_sub(i64::try_from(by.as_millis()).unwrap_or(i64::MAX))
}
