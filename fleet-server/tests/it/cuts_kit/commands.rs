//! Commands through power cuts: each is as it was left, or as it was about to be left, and is found
//! where it belongs.

use std::collections::BTreeSet;

use fleet_core::api::CommandState;
use fleet_core::id::Uid;
use fleet_server::store::{CommandRecord, CommandStore as _, RedbStore, StoreError};

use super::{Owner, Stands, words};
use crate::store_commands::command;
use crate::store_kit::{silent, time};

/// What is known of a command.
#[derive(Debug)]
pub(super) struct Given {
    device: Uid,
    /// As it was acknowledged; none if it was not yet.
    sure: Option<CommandRecord>,
    /// As it was asked to be, unanswered.
    unsure: Option<CommandRecord>,
}

impl Owner {
    /// Gives a command, or has one come further.
    pub(super) async fn command(&mut self, store: &RedbStore) -> Result<(), StoreError> {
        let is_open = |given: &&Given| {
            let open = given.sure.as_ref().filter(|command| !command.state.is_over());
            open.is_some() && self.stands(given.device) == Some(Stands::There)
        };
        let open = self.commands.values().filter(is_open).filter_map(|given| given.sure.clone());
        let mut open: Vec<CommandRecord> = open.collect();
        let next = if open.is_empty() || self.dice.one_in(3) {
            self.names += 1;
            let at = self.pick();
            command(&self.devices[at].device, &format!("exec {}", self.names), self.now)
        } else {
            further(open.swap_remove(self.dice.below(open.len())), self.now)
        };
        let given = self.commands.entry(next.id);
        let given = given.or_insert(Given { device: next.device, sure: None, unsure: None });
        let is_new = given.sure.is_none();
        given.unsure = Some(next.clone());
        if is_new {
            store.command_insert(vec![next.clone()], silent()).await?;
        } else {
            let changed = next.clone();
            let change = move |command: &mut CommandRecord| {
                *command = changed;
                Ok(None)
            };
            store.command_change(next.id, Box::new(change)).await?;
        }
        given.sure = given.unsure.take();
        self.seen.commands += 1;
        Ok(())
    }

    fn stands(&self, device: Uid) -> Option<Stands> {
        let known = self.devices.iter().find(|known| known.device.uid == device);
        known.map(|known| known.stands)
    }

    pub(super) async fn check_commands(&mut self, store: &RedbStore) -> Result<(), String> {
        let ids: Vec<Uid> = self.commands.keys().copied().collect();
        for id in ids {
            let found = store.command_get(id).await.map_err(words)?;
            let stands = self.stands(self.commands[&id].device);
            let may_be_gone = match stands {
                None => true,
                Some(Stands::Deleted) => self.purging,
                Some(Stands::Coming | Stands::There | Stands::Going) => false,
            };
            if found.is_some() && stands.is_none() {
                return Err(format!("the command {id} outlives its device"));
            }
            let given = self.commands.get_mut(&id).expect("its id is one of theirs");
            if found != given.sure && found != given.unsure && !(may_be_gone && found.is_none()) {
                return Err(format!("lost a change of a command: {found:?} is not {given:?}"));
            }
            (given.sure, given.unsure) = (found, None);
        }
        self.commands.retain(|_, given| given.sure.is_some());
        self.check_indexes(store).await
    }

    /// Each is in its device's lists, and due, as long as it is not over.
    async fn check_indexes(&self, store: &RedbStore) -> Result<(), String> {
        let due = store.command_due(time(i64::MAX), usize::MAX).await.map_err(words)?;
        let due: BTreeSet<Uid> = due.iter().map(|command| command.id).collect();
        let open = self.commands.values().filter_map(|given| given.sure.as_ref());
        let open: BTreeSet<Uid> =
            open.filter(|command| !command.state.is_over()).map(|command| command.id).collect();
        if due != open {
            return Err(format!("{due:?} are due, and {open:?} are open"));
        }
        for known in self.devices.iter().filter(|known| known.stands == Stands::There) {
            let uid = known.device.uid;
            let found = store.command_open(uid).await.map_err(words)?;
            let of_it = self.commands.iter().filter(|(_, given)| given.device == uid);
            let wanted = of_it.map(|(id, _)| id).filter(|id| open.contains(*id));
            if !found.iter().map(|command| &command.id).eq(wanted) {
                return Err(format!("other commands of {} are open: {found:?}", known.device.id));
            }
        }
        Ok(())
    }
}

/// A command one step further.
fn further(command: CommandRecord, now: i64) -> CommandRecord {
    let state = match command.state {
        CommandState::Queued => CommandState::Sent,
        CommandState::Sent => CommandState::Accepted,
        CommandState::Accepted => CommandState::Running,
        _ => CommandState::Succeeded,
    };
    let output = state.is_over().then(|| now.to_string().into_bytes());
    CommandRecord { state, state_at: time(now), output, ..command }
}
