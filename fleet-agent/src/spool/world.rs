//! A device with a disk that can fail and a server that keeps a ledger: all that happened, and how
//! it breaks what the spool promises.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::sync::Arc;

use fleet_core::disk::Disk;
use fleet_core::disk::sim::{Dice, SimDisk};
use fleet_core::identity::{PrivateKey, ServerIdentity};
use fleet_core::metric::Sample;
use fleet_core::time::Timestamp;
use fleet_core::wire::Samples;

use super::segment::{Name, StreamId};
use super::{Ground, Lane, Moment, SYNC_EVERY, Spool, SpoolSettings};

/// When the first boot began, by a clock that is right.
pub(super) const EPOCH: i64 = 1_800_000_000_000;
/// Streams that a server remembers.
const REMEMBERED: usize = 16;

/// How the spool broke a promise.
pub(super) type Breach = String;

/// The ground of a simulated device.
pub(super) struct SimGround {
    pub(super) disk: SimDisk,
    pub(super) dice: Dice,
    pub(super) free: u64,
}

impl Ground for SimGround {
    fn disk(&mut self) -> io::Result<Arc<dyn Disk>> {
        self.disk.names()?;
        Ok(Arc::new(self.disk.clone()))
    }

    fn free(&mut self) -> io::Result<u64> {
        Ok(self.free)
    }

    fn stream(&mut self) -> Result<[u8; 16], getrandom::Error> {
        let half = self.dice.number().to_be_bytes();
        Ok([half, self.dice.number().to_be_bytes()].concat().try_into().expect("16 bytes"))
    }
}

/// A server, which stores numbers of a stream in growing order.
#[derive(Default)]
pub(super) struct Server {
    cursors: Vec<(StreamId, u64)>,
    stored: BTreeMap<u64, (StreamId, u64)>,
    seen: HashMap<(StreamId, u64), u64>,
    pub(super) missed: u64,
}

impl Server {
    /// Takes a frame in, as the real one does, and compares it with all that came before.
    pub(super) fn store(&mut self, samples: &Samples) -> Result<(), Breach> {
        let stream = samples.stream;
        let mut last = 0;
        for report in &samples.reports {
            let (seq, value) = (report.seq, report.samples[0].value as u64);
            if seq <= last {
                return Err(format!("number {seq} after {last} in a frame"));
            }
            last = seq;
            let seen = *self.seen.entry((stream, seq)).or_insert(value);
            if seen != value {
                return Err(format!("number {seq} stood for {seen}, and now for {value}"));
            }
            let known = self.cursors.iter().position(|(known, _)| *known == stream);
            let position = known.unwrap_or_else(|| {
                if self.cursors.len() == REMEMBERED {
                    self.cursors.remove(0);
                }
                self.cursors.push((stream, 0));
                self.cursors.len() - 1
            });
            let cursor = &mut self.cursors[position].1;
            if seq <= *cursor {
                if self.stored.get(&value) != Some(&(stream, seq)) {
                    return Err(format!("{value} came too late to be stored"));
                }
                continue;
            }
            self.missed += seq - *cursor - 1;
            *cursor = seq;
            if self.stored.insert(value, (stream, seq)).is_some() {
                return Err(format!("{value} is stored twice"));
            }
        }
        Ok(())
    }

    pub(super) fn has(&self, value: u64) -> bool {
        self.stored.contains_key(&value)
    }
}

/// What was collected.
#[derive(Clone, Copy)]
pub(super) struct Collected {
    pub(super) value: u64,
    /// When, by a clock that is right.
    at: i64,
    up: u64,
    /// By which run of the agent.
    run: u64,
    /// Whether the spool has promised to keep it.
    pub(super) promised: bool,
}

/// The device and its server.
pub(super) struct World {
    pub(super) disk: SimDisk,
    pub(super) spool: Spool,
    pub(super) server: Server,
    pub(super) settings: SpoolSettings,
    pub(super) dice: Dice,
    pub(super) collected: Vec<Collected>,
    pub(super) free: u64,
    identity: ServerIdentity,
    /// Values that are no business of the server that there is now.
    of_others: u64,
    under_way: Vec<Samples>,
    is_connected: bool,
    /// A clock that is right, …
    pub(super) time: i64,
    /// … and what the device's is off by.
    pub(super) clock_error: i64,
    boot: u64,
    up: u64,
    /// Runs of the agent so far.
    run: u64,
    next_value: u64,
}

pub(super) fn identity(seed: u8) -> ServerIdentity {
    PrivateKey::from_seed(&[seed; 32]).public().identity()
}

impl World {
    pub(super) fn new(mut dice: Dice, settings: SpoolSettings) -> Self {
        let disk = SimDisk::new(dice.number());
        let free = u64::MAX / 4;
        let ground = SimGround { disk: disk.clone(), dice: Dice::new(0), free };
        let now = Moment { wall: Timestamp::from_millis(EPOCH), up_millis: 0 };
        let spool = Spool::open(Box::new(ground), settings, [0; 16], now).expect("dice name it");
        let mut world = Self {
            disk,
            spool,
            server: Server::default(),
            settings,
            dice,
            collected: Vec::new(),
            free,
            identity: identity(1),
            of_others: 0,
            under_way: Vec::new(),
            is_connected: false,
            time: EPOCH,
            clock_error: 0,
            boot: 0,
            up: 0,
            run: 0,
            next_value: 1,
        };
        world.spool.serve(world.identity, now);
        world
    }

    pub(super) fn now(&self) -> Moment {
        Moment { wall: Timestamp::from_millis(self.time + self.clock_error), up_millis: self.up }
    }

    /// Collects something, and gives its value.
    pub(super) fn push(&mut self, bytes: usize) -> u64 {
        let value = self.next_value;
        self.next_value += 1;
        let now = self.now();
        // A name as long as needed stands for many samples.
        let samples = vec![Sample::new(&"x".repeat(bytes), value as f64)];
        self.spool.serve(self.identity, now);
        self.spool.push(now.wall, self.up, samples, now).expect("it is small");
        let (at, up) = (self.time, self.up);
        let run = self.run;
        self.collected.push(Collected { value, at, up, run, promised: false });
        self.look();
        value
    }

    /// Lets time pass, and the spool do what is due.
    pub(super) fn pass(&mut self, millis: u64) {
        self.time += i64::try_from(millis).expect("nobody waits so long");
        self.up += millis;
        self.spool.tick(self.now());
        self.look();
    }

    /// Takes note of what is promised now: what was collected long enough ago in this boot, unless
    /// the disk is said to fail.
    fn look(&mut self) {
        if self.spool.trouble.is_some() || self.is_off() {
            return;
        }
        let wait = if self.settings.strict { 0 } else { SYNC_EVERY };
        let (up, run) = (self.up, self.run);
        for collected in self.collected.iter_mut().rev().take_while(|one| one.run == run) {
            collected.promised |= collected.up + wait <= up;
        }
    }

    pub(super) fn is_off(&self) -> bool {
        self.disk.names().is_err()
    }

    pub(super) fn connect(&mut self) {
        if !self.is_connected {
            self.is_connected = true;
            self.spool.serve(self.identity, self.now());
            self.spool.connected(self.now());
        }
    }

    pub(super) fn disconnect(&mut self) {
        self.under_way.clear();
        self.is_connected = false;
        self.spool.disconnected(self.now());
    }

    /// Sends what there is on a lane, and perhaps loses the acknowledgement.
    pub(super) fn send(&mut self, lane: Lane, is_acknowledged: bool) -> Result<bool, Breach> {
        if !self.is_connected {
            return Ok(false);
        }
        let Some(samples) = self.spool.take(lane, self.now()) else { return Ok(false) };
        self.check_ages(&samples)?;
        self.server.store(&samples)?;
        if is_acknowledged {
            let last = samples.reports.last().ok_or("an empty frame")?.seq;
            self.spool.acknowledge(samples.stream, last, self.now());
            self.look();
        }
        Ok(true)
    }

    /// No report seems older than it is. One whose clock and whose device's were always right
    /// seems exactly as old as it is.
    fn check_ages(&self, samples: &Samples) -> Result<(), Breach> {
        for report in &samples.reports {
            let value = report.samples[0].value as u64;
            if value <= self.of_others {
                return Err(format!("{value} was collected for another server"));
            }
            let place = self.collected.binary_search_by_key(&value, |one| one.value);
            let collected = place.ok().map(|place| self.collected[place]);
            let age = self.time - collected.ok_or("nobody collected this")?.at;
            let told = i64::try_from(report.age_millis).map_err(|_| "an absurd age")?;
            if told > age {
                return Err(format!("{value} is {age} ms old and said to be {told}"));
            }
        }
        Ok(())
    }

    /// The agent is killed and starts again.
    pub(super) fn kill(&mut self) {
        self.restart(true);
    }

    /// The agent ends as it should and starts again.
    pub(super) fn restart_cleanly(&mut self) {
        self.spool.close(self.now());
        if self.spool.trouble.is_none() && !self.is_off() {
            let run = self.run;
            for collected in self.collected.iter_mut().rev().take_while(|one| one.run == run) {
                collected.promised = true;
            }
        }
        self.restart(false);
    }

    /// The power goes and comes back, after a while.
    pub(super) fn power_cut(&mut self, clock_is_lost: bool) {
        self.disk = self.disk.power_cut();
        self.boot += 1;
        self.time += 600_000;
        self.up = 0;
        self.clock_error = if clock_is_lost { -self.time } else { 0 };
        self.restart(true);
    }

    fn restart(&mut self, unclean: bool) {
        self.run += 1;
        self.under_way.clear();
        self.is_connected = false;
        let (disk, free) = (self.disk.clone(), self.free);
        // Names of streams are never the same, whatever the dice say.
        let ground = SimGround { disk, dice: Dice::new(self.run), free };
        let mut boot = [0; 16];
        boot[..8].copy_from_slice(&self.boot.to_be_bytes());
        let now = self.now();
        let spool = Spool::open(Box::new(ground), self.settings, boot, now);
        self.spool = spool.expect("dice name it");
        if unclean {
            self.spool.unclean_end(now);
        }
        self.spool.serve(self.identity, now);
    }

    /// The device gets another server, and its agent is not told.
    #[cfg(test)]
    pub(super) fn change_server_unnoticed(&mut self, seed: u8) {
        self.identity = identity(seed);
    }

    /// The device gets another server.
    pub(super) fn move_away(&mut self, seed: u8) {
        // The link may hear of it later.
        if self.dice.one_in(2) {
            self.disconnect();
        }
        self.spool.begin_anew(self.now());
        self.disconnect();
        self.identity = identity(seed);
        self.of_others = self.next_value - 1;
        self.collected.clear();
        self.server = Server::default();
    }

    /// A bit of a file with reports flips; each file has that once.
    pub(super) fn rot(&mut self, rotten: &mut BTreeSet<String>) {
        let names = self.disk.names().unwrap_or_default();
        let mut names = names.into_iter().filter_map(|name| Name::parse(&name));
        let Some(name) = names.next() else { return };
        let dice = &mut self.dice;
        if rotten.insert(name.to_string()) {
            self.disk.rot(&name.to_string(), |bytes| {
                if !bytes.is_empty() {
                    let bit = dice.below(bytes.len() * 8);
                    bytes[bit / 8] ^= 1 << (bit % 8);
                }
            });
        }
    }

    /// Hands everything over, with a disk that works and a clock that is right.
    pub(super) fn drain(&mut self) -> Result<(), Breach> {
        self.disk.repair();
        self.disk.limit(None);
        self.clock_error = 0;
        for _ in 0..2_000 {
            self.pass(SYNC_EVERY);
            self.connect();
            let live = self.send(Lane::Live, true)?;
            let backlog = self.send(Lane::Backlog, true)?;
            let view = self.spool.view(self.now());
            if !live && !backlog && view.waiting == 0 && view.disk_error.is_none() {
                return Ok(());
            }
        }
        Err(format!("this does not end: {:?}", self.spool.view(self.now())))
    }

    /// What became of promises, once all is drained.
    pub(super) fn judge(&self) -> Result<(), Breach> {
        let holes = self.spool.view(self.now()).holes;
        let counted = holes.quota + holes.damaged + holes.power_cut;
        let is_lost = |one: &&Collected| one.promised && !self.server.has(one.value);
        let lost: Vec<u64> = self.collected.iter().filter(is_lost).map(|one| one.value).collect();
        if lost.len() as u64 > counted {
            return Err(format!("lost {lost:?}, and {holes:?} are counted"));
        }
        if self.server.missed > counted {
            return Err(format!("the server misses {}, and {holes:?}", self.server.missed));
        }
        Ok(())
    }
}
