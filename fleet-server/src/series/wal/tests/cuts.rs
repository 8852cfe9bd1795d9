//! Power cuts at any moment, also while the log is read after one.

use std::collections::BTreeMap;

use fleet_core::disk::sim::{Dice, Fault, SimDisk};

use super::super::*;
use super::kit::{self, Shown};

/// Power cuts unless `FLEETD_TEST_CUTS` says otherwise.
const CUTS: u64 = 500;
/// Power cuts that one disk goes through.
const CUTS_OF_A_DISK: u64 = 10;

#[test]
fn what_was_acknowledged_survives_any_power_cut() {
    let cuts = std::env::var("FLEETD_TEST_CUTS")
        .map_or(CUTS, |text| text.parse().expect("FLEETD_TEST_CUTS is a number"));
    for seed in 0..cuts.div_ceil(CUTS_OF_A_DISK) {
        let disk = SimDisk::new(seed);
        if let Err(fault) = Owner::new(disk, seed).live_through(CUTS_OF_A_DISK) {
            panic!("seed {seed}: {fault}");
        }
    }
}

#[test]
fn a_disk_that_lies_is_found_out() {
    let is_found_out = |seed| {
        let disk = SimDisk::new(seed);
        disk.lie(true);
        Owner::new(disk, seed).live_through(CUTS_OF_A_DISK).is_err()
    };
    assert!((0..20).filter(|seed| is_found_out(*seed)).count() >= 15);
}

/// Somebody who uses a log and knows what must be in it.
struct Owner {
    disk: SimDisk,
    dice: Dice,
    /// What may be in the log, by number.
    appended: BTreeMap<u64, Vec<u8>>,
    /// Records before this one may be missing: they were released.
    released: u64,
    /// Up to here everything is acknowledged.
    sure: u64,
}

impl Owner {
    fn new(disk: SimDisk, seed: u64) -> Self {
        let dice = Dice::new(!seed);
        Self { disk, dice, appended: BTreeMap::new(), released: 0, sure: 0 }
    }

    fn live_through(&mut self, cuts: u64) -> Result<(), String> {
        for _ in 0..cuts {
            let steps = if self.dice.one_in(3) { 8 } else { 60 };
            self.disk.fail(Fault::Power, self.dice.below(steps) as u64);
            // Opening fails if the power does; the next one reads what that has left.
            while let Some(wal) = self.open()? {
                if self.use_it(&wal).is_err() {
                    break;
                }
                // A shutdown without a power cut loses nothing.
                drop(wal);
            }
            self.disk = self.disk.power_cut();
        }
        self.open().map(drop)
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
            Err(OpenError::Disk(_)) => Ok(None),
            Err(error) => Err(error.to_string()),
        }
    }

    fn check(&mut self, recovered: &Recovered, shown: &[Shown]) -> Result<(), String> {
        if !recovered.damage.is_empty() {
            return Err(format!("damage where there is none: {:?}", recovered.damage));
        }
        if recovered.next <= Lsn(self.sure) {
            return Err(format!("{} comes next, {} are sure", recovered.next, self.sure));
        }
        // If nothing is there, only what was released and what nobody was promised is missing.
        let first = shown.first().map_or(self.sure + 1, |(lsn, _)| *lsn);
        let last = shown.last().map_or(self.sure, |(lsn, _)| *lsn);
        let is_missing = |lsn: &u64| (self.released..first).contains(lsn);
        if last < self.sure || self.appended.keys().any(is_missing) {
            let Self { released, sure, .. } = self;
            return Err(format!("{first} to {last} are there, {released} to {sure} should be"));
        }
        let expected = self.appended.iter().filter(|(lsn, _)| (first..=last).contains(lsn));
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
