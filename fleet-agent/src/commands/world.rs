//! A device with a disk that can fail, effects that are counted, and a server that says everything
//! again until it knows: all that may happen to commands.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use fleet_core::command::Command;
use fleet_core::disk::Disk;
use fleet_core::disk::sim::{Dice, SimDisk};
use fleet_core::identity::{PrivateKey, ServerIdentity};
use fleet_core::time::Timestamp;
use fleet_core::wire::{CommandOrder, CommandResult, Outcome, Progress};
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tokio::sync::watch;

use super::desk::{Desk, Here};
use super::effects::Effects;
use super::outcome::{Performed, result};
use super::{Commands, Job};
use crate::config::CommandPolicy;
use crate::journal::CommandId;
use crate::spool::Moment;

/// When the first boot began, by clocks that are right.
pub(super) const EPOCH: i64 = 1_800_000_000_000;
/// Steps in which a device comes to rest.
const STEPS_MAX: usize = 10_000;

/// The world around the agent, as its effects see it.
#[derive(Default)]
pub(super) struct Outside {
    pub(super) wall: i64,
    pub(super) up: u64,
    /// How often each command had its effect.
    pub(super) effects: HashMap<String, u32>,
    /// Whether the next effect does not end.
    pub(super) is_endless: bool,
}

/// Where a device comes to rest.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Rest {
    /// There is nothing to do for so long.
    For(Option<Duration>),
    /// It is in the middle of an effect.
    InEffect,
}

pub(super) struct World {
    pub(super) disk: SimDisk,
    pub(super) dice: Dice,
    pub(super) outside: Arc<Mutex<Outside>>,
    pub(super) commands: Commands,
    /// What the server knows.
    pub(super) outcomes: HashMap<CommandId, CommandResult>,
    /// All that it heard, in order.
    pub(super) heard: Vec<(CommandId, Progress)>,
    pub(super) server: ServerIdentity,
    /// A promise that was broken.
    pub(super) breach: Option<String>,
    policy: CommandPolicy,
    forgotten: watch::Receiver<u64>,
    boot: u8,
    run: u64,
}

struct Counted(Arc<Mutex<Outside>>);

impl Effects for Counted {
    fn perform<'a>(&'a self, job: &'a Job) -> BoxFuture<'a, Performed> {
        let command = &job.command;
        let mut outside = lock(&self.0);
        *outside.effects.entry(command.to_string()).or_default() += 1;
        let is_endless = outside.is_endless;
        Box::pin(async move {
            if is_endless {
                std::future::pending::<()>().await;
            }
            match command {
                Command::Restart | Command::Reboot => Performed::Asked,
                Command::RestartService(_)
                | Command::Collect
                | Command::Logs { .. }
                | Command::RotateKey
                | Command::Exec(_) => Performed::Over(result(Outcome::Succeeded, "done")),
            }
        })
    }
}

/// An order, good for a day.
pub(super) fn order(id: CommandId, text: &str) -> CommandOrder {
    let mut words = text.split(' ').map(str::to_owned);
    CommandOrder {
        id,
        word: words.next().unwrap_or_default(),
        args: words.collect(),
        expires_millis: EPOCH + 24 * 3600 * 1000,
        expires_in_millis: 24 * 3600 * 1000,
        timeout_millis: 60_000,
        signature: [0; 64],
    }
}

impl World {
    pub(super) fn new(dice: Dice, disk: SimDisk, policy: CommandPolicy) -> Self {
        let server = PrivateKey::from_seed(&[1; 32]).public().identity();
        let outside = Outside { wall: EPOCH, ..Outside::default() };
        let outside = Arc::new(Mutex::new(outside));
        let commands = agent(&disk, &outside, &policy, (0, 0));
        commands.serve(server);
        let forgotten = commands.forgotten.subscribe();
        Self {
            disk,
            dice,
            outside,
            commands,
            outcomes: HashMap::new(),
            heard: Vec::new(),
            server,
            breach: None,
            policy,
            forgotten,
            boot: 0,
            run: 0,
        }
    }

    pub(super) fn outside(&self) -> MutexGuard<'_, Outside> {
        lock(&self.outside)
    }

    pub(super) fn effects(&self, command: &str) -> u32 {
        self.outside().effects.get(command).copied().unwrap_or(0)
    }

    /// Lets time pass, by clocks that are right.
    pub(super) fn pass(&self, time: Duration) {
        let millis = u64::try_from(time.as_millis()).expect("nobody waits so long");
        let mut outside = self.outside();
        outside.up += millis;
        outside.wall += i64::try_from(millis).expect("nobody waits so long");
    }

    pub(super) fn is_off(&self) -> bool {
        self.disk.names().is_err()
    }

    /// Lets the agent do what there is to do now.
    pub(super) fn settle(&mut self) -> Rest {
        for _ in 0..STEPS_MAX {
            match self.commands.turn(&mut self.forgotten).now_or_never() {
                None => return Rest::InEffect,
                Some(Some(rest)) => return Rest::For(rest),
                Some(None) => {}
            }
        }
        panic!("it does not come to rest");
    }

    /// The server hears all that there is to say, and perhaps does not get to answer.
    pub(super) fn hear(&mut self, answers: bool) {
        while let Some(news) = self.commands.news() {
            self.heard.push((news.id, news.progress.clone()));
            if let Progress::Done(result) = news.progress {
                let known = self.outcomes.entry(news.id).or_insert_with(|| result.clone());
                let same = (known.outcome, &known.detail) == (result.outcome, &result.detail);
                if !same {
                    self.breach = Some(format!("it was {known:?}, and is {result:?}"));
                }
                if answers {
                    self.commands.noted(news.id);
                }
            }
        }
    }

    /// The agent is killed and starts again.
    pub(super) fn kill(&mut self) {
        self.run += 1;
        self.commands = agent(&self.disk, &self.outside, &self.policy, (self.boot, self.run));
        self.commands.serve(self.server);
        self.forgotten = self.commands.forgotten.subscribe();
    }

    /// The power goes and comes back, after a while.
    pub(super) fn power_cut(&mut self) {
        self.disk = self.disk.power_cut();
        self.boot += 1;
        {
            let mut outside = self.outside();
            outside.up = 0;
            outside.wall += 60_000;
        }
        self.kill();
    }
}

fn agent(
    disk: &SimDisk,
    outside: &Arc<Mutex<Outside>>,
    policy: &CommandPolicy,
    (boot, run): (u8, u64),
) -> Commands {
    let mut name = [0; 16];
    name[..8].copy_from_slice(&run.to_be_bytes());
    let here = Here { run: name, boot: Some([boot; 16]) };
    let disk = disk.clone();
    let ground = Box::new(move || -> io::Result<Arc<dyn Disk>> { Ok(Arc::new(disk.clone())) });
    let clocks = outside.clone();
    let now = Box::new(move || {
        let outside = lock(&clocks);
        Moment { wall: Timestamp::from_millis(outside.wall), up_millis: outside.up }
    });
    let desk = Desk::new(ground, here, policy.clone());
    Commands::at(desk, Box::new(Counted(outside.clone())), now)
}

fn lock(outside: &Mutex<Outside>) -> MutexGuard<'_, Outside> {
    outside.lock().unwrap_or_else(PoisonError::into_inner)
}
