//! Somebody who uses a log and knows what must be in it.

use std::collections::BTreeMap;
use std::ops::Range;

use fleet_core::disk::Disk as _;
use fleet_core::disk::sim::{Dice, Fault, SimDisk};

use super::super::*;
use super::kit::{self, Shown};

/// The owner of a log.
pub(super) struct Owner {
    disk: SimDisk,
    dice: Dice,
    /// What may be in the log, by number.
    appended: BTreeMap<u64, Vec<u8>>,
    /// Records before this one may be missing: they were released.
    released: u64,
    /// Up to here everything is acknowledged.
    sure: u64,
    /// The disk also fails otherwise.
    fails: bool,
    seen: Seen,
}

/// What happened to an owner.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Seen {
    /// Times that the power failed while the log was opened.
    pub(super) cuts_of_openings: u64,
    /// Times that the log failed with the power on.
    pub(super) failures: u64,
    /// Times that a frame was torn.
    pub(super) torn: u64,
}

impl Owner {
    pub(super) fn new(disk: SimDisk, seed: u64) -> Self {
        let dice = Dice::new(!seed);
        let (appended, seen) = (BTreeMap::new(), Seen::default());
        Self { disk, dice, appended, released: 0, sure: 0, fails: false, seen }
    }

    /// The same on a disk that also fails otherwise.
    pub(super) fn with_failures(self) -> Self {
        Self { fails: true, ..self }
    }

    /// Uses the log until the power was cut so often, and says what was wrong with it, if anything.
    pub(super) fn live_through(&mut self, cuts: u64) -> Result<Seen, String> {
        for _ in 0..cuts {
            let steps = if self.dice.one_in(3) { 8 } else { 60 };
            self.disk.fail(Fault::Power, self.dice.below(steps) as u64);
            while self.disk.names().is_ok() {
                if self.fails {
                    self.ask_for_failures();
                }
                let failed = match self.open()? {
                    // A shutdown between two power cuts loses nothing.
                    Some(wal) => self.use_it(&wal).is_err(),
                    None => true,
                };
                let has_power = self.disk.names().is_ok();
                self.seen.failures += u64::from(failed && has_power);
                if failed && has_power && !self.fails {
                    return Err("it failed for no reason".to_owned());
                }
            }
            self.disk = self.disk.power_cut();
            self.disk.limit(None);
        }
        self.open()?.ok_or("it does not open")?;
        Ok(self.seen)
    }

    fn ask_for_failures(&mut self) {
        let faults = [Fault::Write, Fault::ShortWrite, Fault::Sync, Fault::Name];
        let fault = faults[self.dice.below(faults.len())];
        self.disk.fail(fault, self.dice.below(25) as u64);
        let files = kit::names(&self.disk);
        let bytes = files.iter().filter_map(|name| self.disk.contents(name)).map(|it| it.len());
        let room = bytes.sum::<usize>() + self.dice.below(10_000);
        self.disk.limit(self.dice.one_in(3).then_some(room));
    }

    /// Opens the log; nothing if the power fails meanwhile.
    fn open(&mut self) -> Result<Option<Wal>, String> {
        let passes_over = self.dice.one_in(8);
        let at_least = if passes_over { self.sure + self.dice.below(5) as u64 } else { 0 };
        match kit::open_at(&self.disk, Lsn(at_least)) {
            Ok((wal, recovered, shown)) => {
                self.check(&recovered, &shown)?;
                Ok(Some(wal))
            }
            Err(OpenError::Disk(_)) => {
                self.seen.cuts_of_openings += u64::from(self.disk.names().is_err());
                Ok(None)
            }
            Err(error) => Err(error.to_string()),
        }
    }

    fn check(&mut self, recovered: &Recovered, shown: &[Shown]) -> Result<(), String> {
        // If the folder's sync failed, released files may be back with gaps between them.
        let lost: Vec<_> = recovered.damage.iter().map(|damage| damage.lost.clone()).collect();
        let is_released = |lost: &Option<Range<Lsn>>| {
            lost.as_ref().is_some_and(|lost| self.fails && lost.end <= Lsn(self.released))
        };
        if !lost.iter().all(is_released) {
            return Err(format!("damage where there is none: {:?}", recovered.damage));
        }
        if recovered.next <= Lsn(self.sure) {
            return Err(format!("{} comes next, {} are sure", recovered.next, self.sure));
        }
        self.seen.torn += u64::from(recovered.torn.is_some());
        // If nothing is there, only what was released and what nobody was promised is missing.
        let first = shown.first().map_or(self.sure + 1, |(lsn, _)| *lsn);
        let last = shown.last().map_or(self.sure, |(lsn, _)| *lsn);
        let is_missing = |lsn: &u64| (self.released..first).contains(lsn);
        if last < self.sure || self.appended.keys().any(is_missing) {
            let Self { released, sure, .. } = self;
            return Err(format!("{first} to {last} are there, {released} to {sure} should be"));
        }
        let is_lost = |lsn: u64| lost.iter().flatten().any(|lost| lost.contains(&Lsn(lsn)));
        let expected = self.appended.iter();
        let expected = expected.filter(|(lsn, _)| (first..=last).contains(lsn) && !is_lost(**lsn));
        if !expected.eq(shown.iter().map(|(lsn, bytes)| (lsn, bytes))) {
            return Err(format!("{first} to {last} are not what was appended"));
        }
        // What was shown stays, and the numbers of what was not are free.
        self.sure = last;
        self.appended.retain(|lsn, _| *lsn <= last);
        Ok(())
    }

    fn use_it(&mut self, wal: &Wal) -> Result<(), WalError> {
        for _ in 0..self.dice.below(30) {
            match self.dice.below(10) {
                0..6 => self.append(wal)?,
                6 => wal.begin_file(),
                7 => {
                    let lsn = self.sure + self.dice.below(3) as u64;
                    self.wait(wal, lsn.min(wal.next().before().0))?;
                }
                8 => self.wait(wal, wal.next().before().0)?,
                _ => {
                    let below = self.sure + 1 - self.dice.below(10).min(self.sure as usize) as u64;
                    self.released = self.released.max(below);
                    wal.release(Lsn(below)).map_err(WalError::Failed)?;
                }
            }
        }
        self.wait(wal, wal.next().before().0)
    }

    fn append(&mut self, wal: &Wal) -> Result<(), WalError> {
        let bytes = match self.dice.below(8) {
            0 => self.dice.below(3),
            1 => self.dice.below(3_000),
            _ => self.dice.below(100),
        };
        let record: Vec<u8> = (0..bytes).map(|_| self.dice.number() as u8).collect();
        let lsn = wal.append(|out| out.extend(&record))?;
        self.appended.insert(lsn.0, record);
        Ok(())
    }

    fn wait(&mut self, wal: &Wal, lsn: u64) -> Result<(), WalError> {
        wal.durable_blocking(Lsn(lsn))?;
        // Numbers that were passed over are no records.
        let last = self.appended.range(..=lsn).next_back().map_or(0, |(lsn, _)| *lsn);
        self.sure = self.sure.max(last);
        Ok(())
    }
}
