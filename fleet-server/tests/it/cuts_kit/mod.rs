//! Somebody who uses a store through power cuts and knows what must be in it: one disk holds the
//! database, the log and the chunks, so that a cut hits all of them at the same moment.

mod check;
mod commands;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::{fmt, io};

use fleet_core::api::EventKind;
use fleet_core::disk::sim::{Dice, Fault, SimDisk};
use fleet_core::disk::{Disk as _, DiskFile};
use fleet_core::id::Uid;
use fleet_server::store::{
    Device, DeviceStore as _, Event, EventStore as _, Incoming, Keep, KeyStore as _, OpenError,
    Outcome, RedbStore, StoreError, TelemetryStore as _, Tier,
};
use redb::StorageBackend;

use self::commands::Given;
use crate::store_kit::{device, key, report, time};

const MINUTE: i64 = 60_000;
const HOUR: i64 = 60 * MINUTE;
/// Time between two reports, so that a few hundred are hours.
const BETWEEN: i64 = 2 * MINUTE + 700;
/// The steps in which curves are compared.
const STEP: i64 = 2 * HOUR;
/// Devices at one time.
const DEVICES_MAX: usize = 6;
/// What is done between two cuts at most.
const DEEDS_MAX: usize = 60;
/// The latest change of the disk that the power fails in.
const MOMENT_MAX: usize = 260;
/// Reports of a device that are sealed without being asked to.
const SEALED_ALONE: usize = 365;
const DATABASE: &str = "fleet.redb";

/// What went on while somebody lived through cuts.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Seen {
    pub(crate) cuts: u64,
    /// Cuts while the store was being opened.
    pub(crate) cuts_of_openings: u64,
    /// Reports that were acknowledged.
    pub(crate) acknowledged: u64,
    /// Reports that a cut left unanswered: found afterwards, and lost.
    pub(crate) found: u64,
    pub(crate) unfound: u64,
    pub(crate) seals: u64,
    /// Times that one device was sealed because it had much.
    pub(crate) floods: u64,
    /// Reports that came again, while raw values of their hour were there.
    pub(crate) repeated: u64,
    /// Times that values were rolled up or pruned.
    pub(crate) kept: u64,
    pub(crate) compacted_bytes: u64,
    pub(crate) purged: u64,
    /// Commands that were given or came further.
    pub(crate) commands: u64,
}

impl Seen {
    pub(crate) fn add(&mut self, other: Self) {
        self.cuts += other.cuts;
        self.cuts_of_openings += other.cuts_of_openings;
        self.acknowledged += other.acknowledged;
        self.found += other.found;
        self.unfound += other.unfound;
        self.seals += other.seals;
        self.floods += other.floods;
        self.repeated += other.repeated;
        self.kept += other.kept;
        self.compacted_bytes += other.compacted_bytes;
        self.purged += other.purged;
        self.commands += other.commands;
    }
}

/// Which part of the disk only says that it syncs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lies {
    Nothing,
    Database,
    Everything,
}

/// The database's file on the disk.
pub(crate) struct DatabaseFile {
    file: io::Result<Arc<dyn DiskFile>>,
    lies: bool,
}

impl DatabaseFile {
    pub(crate) fn open(disk: &SimDisk, lies: bool) -> Self {
        let file = disk.open(DATABASE).or_else(|_| {
            let file = disk.create(DATABASE)?;
            disk.sync()?;
            Ok(file)
        });
        Self { file, lies }
    }

    fn file(&self) -> io::Result<&dyn DiskFile> {
        self.file.as_deref().map_err(|error| io::Error::new(error.kind(), error.to_string()))
    }
}

impl fmt::Debug for DatabaseFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(DATABASE)
    }
}

impl StorageBackend for DatabaseFile {
    fn len(&self) -> io::Result<u64> {
        self.file()?.bytes()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file()?.read_at(out, offset)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file()?.truncate(len)
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.file()?.write_at(data, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        let file = self.file()?;
        if self.lies { Ok(()) } else { file.sync() }
    }
}

/// What is known of a device.
struct Known {
    device: Device,
    stream: [u8; 16],
    /// The last number given out in its stream.
    seq: u64,
    /// What is stored, by time.
    stored: BTreeMap<i64, f64>,
    /// What was sent and not answered, in order.
    unsure: Vec<Incoming>,
    /// When it was last touched, and whether that is sure.
    touched: Option<i64>,
    touching: Option<i64>,
    stands: Stands,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stands {
    /// Its insertion was not answered.
    Coming,
    There,
    /// Its deletion was not answered.
    Going,
    Deleted,
}

/// Somebody who uses a store.
pub(crate) struct Owner {
    disk: SimDisk,
    lies: Lies,
    dice: Dice,
    /// Whether raw values are pruned without being rolled up.
    prunes: bool,
    /// Whether reports come while others are sealed. What follows from the seed alone is then
    /// what is done, not in which order the disk is written to.
    races: bool,
    devices: Vec<Known>,
    keys: BTreeMap<String, bool>,
    commands: BTreeMap<Uid, Given>,
    events: Vec<Event>,
    unsure_event: Option<Event>,
    names: u64,
    now: i64,
    /// Raw values before the first may be hidden, those before the second are.
    floor_asked: i64,
    floor: i64,
    purging: bool,
    /// Nothing but purges has removed rows.
    rows_are_known: bool,
    seen: Seen,
}

impl Owner {
    pub(crate) fn new(seed: u64, lies: Lies) -> Self {
        let disk = SimDisk::new(seed);
        disk.lie(lies == Lies::Everything);
        let mut dice = Dice::new(!seed);
        Self {
            disk,
            lies,
            prunes: dice.one_in(3),
            races: dice.one_in(3),
            dice,
            devices: Vec::new(),
            keys: BTreeMap::new(),
            commands: BTreeMap::new(),
            events: Vec::new(),
            unsure_event: None,
            names: 0,
            now: 1_000 * HOUR,
            floor_asked: i64::MIN,
            floor: i64::MIN,
            purging: false,
            rows_are_known: true,
            seen: Seen::default(),
        }
    }

    /// Uses the store until the power has been cut so often. An error says what was broken.
    pub(crate) async fn live_through(mut self, cuts: u64) -> Result<Seen, String> {
        // An operator who starts a server for the first time sees whether that works.
        drop(self.open().map_err(|error| format!("a new store does not open: {error:?}"))?);
        while self.seen.cuts < cuts {
            if self.dice.one_in(4) {
                self.disk.fail(Fault::Power, self.dice.below(30) as u64);
            }
            let store = match self.open() {
                Ok(store) => store,
                Err(error) => {
                    let failed = fleet_core::Chain(&error).to_string();
                    if !self.is_off() {
                        return Err(format!("the store does not open: {failed}"));
                    }
                    self.seen.cuts_of_openings += 1;
                    self.cut();
                    continue;
                }
            };
            // While it is looked at, a cut of the opening may still be to come.
            if let Err(fault) = self.check(&store).await {
                if !self.is_off() {
                    return Err(fault);
                }
                self.seen.cuts_of_openings += 1;
                self.cut();
                continue;
            }
            self.disk.repair();
            self.settle(&store).await?;
            let most = if self.dice.one_in(3) { 20 } else { MOMENT_MAX };
            self.disk.fail(Fault::Power, self.dice.below(most) as u64);
            for _ in 0..DEEDS_MAX {
                if let Err(error) = self.act(&store).await {
                    if self.is_off() {
                        break;
                    }
                    return Err(format!("with the power on: {error:?}"));
                }
            }
            self.cut();
            drop(store);
        }
        Ok(self.seen)
    }

    fn open(&self) -> Result<RedbStore, OpenError> {
        let (disk, lies) = (self.disk.clone(), self.lies == Lies::Database);
        let backend = move || DatabaseFile::open(&disk, lies);
        RedbStore::open_in(backend, Arc::new(self.disk.clone()))
    }

    fn is_off(&self) -> bool {
        self.disk.names().is_err()
    }

    fn cut(&mut self) {
        self.disk = self.disk.power_cut();
        self.seen.cuts += 1;
    }

    /// Does something. An error is the store's.
    async fn act(&mut self, store: &RedbStore) -> Result<(), StoreError> {
        if self.devices.iter().filter(|known| known.stands == Stands::There).count() < 2 {
            return self.insert(store).await;
        }
        match self.dice.below(40) {
            0 if self.devices.len() < DEVICES_MAX => self.insert(store).await,
            0 | 1 => self.touch(store).await,
            2 => self.add_key(store).await,
            3 => self.add_event(store).await,
            4..=8 => {
                self.seen.seals += 1;
                store.seal().await
            }
            9 | 10 => self.keep(store).await,
            11 => {
                self.seen.compacted_bytes += store.compact().await?;
                Ok(())
            }
            12 => self.remove(store).await,
            13..=16 if self.races => self.send_while_sealing(store).await,
            17 => self.flood(store).await,
            18..=20 => self.repeat(store).await,
            21..=24 => self.command(store).await,
            _ => self.send(store).await,
        }
    }

    async fn insert(&mut self, store: &RedbStore) -> Result<(), StoreError> {
        self.names += 1;
        let number = u8::try_from(self.names % 251).expect("less than a byte holds");
        let name = format!("device-{}", self.names);
        let mut new = device(&name, number);
        new.key = None;
        self.devices.push(Known {
            device: new.clone(),
            stream: [number; 16],
            seq: 0,
            stored: BTreeMap::new(),
            unsure: Vec::new(),
            touched: None,
            touching: None,
            stands: Stands::Coming,
        });
        store.device_insert(new).await?;
        self.devices.last_mut().expect("pushed above").stands = Stands::There;
        Ok(())
    }

    /// One of those that are there.
    fn pick(&mut self) -> usize {
        let there = (0..self.devices.len()).filter(|at| self.devices[*at].stands == Stands::There);
        let there: Vec<usize> = there.collect();
        there[self.dice.below(there.len())]
    }

    async fn touch(&mut self, store: &RedbStore) -> Result<(), StoreError> {
        let (at, now) = (self.pick(), self.now);
        let known = &mut self.devices[at];
        known.touching = Some(now);
        store.device_touch(vec![(known.device.uid, time(now))]).await?;
        known.touched = known.touching.take();
        Ok(())
    }

    async fn add_key(&mut self, store: &RedbStore) -> Result<(), StoreError> {
        self.names += 1;
        let id = format!("key-{}", self.names);
        self.keys.insert(id.clone(), false);
        store.key_insert(key(&id)).await?;
        self.keys.insert(id, true);
        Ok(())
    }

    async fn add_event(&mut self, store: &RedbStore) -> Result<(), StoreError> {
        let event = Event {
            at: time(self.now),
            kind: EventKind::KeyCreated,
            actor: "operator:ada".to_owned(),
            device: None,
            text: format!("at {}", self.now),
        };
        self.unsure_event = Some(event);
        store.event_append(self.unsure_event.clone().into_iter().collect()).await?;
        self.events.extend(self.unsure_event.take());
        Ok(())
    }

    /// Deletes a device and purges it, with what of others was not purged yet.
    async fn remove(&mut self, store: &RedbStore) -> Result<(), StoreError> {
        let (at, now) = (self.pick(), self.now);
        let known = &mut self.devices[at];
        known.stands = Stands::Going;
        store.device_delete(known.device.uid, time(now)).await?;
        known.stands = Stands::Deleted;
        self.purge(store).await
    }

    async fn purge(&mut self, store: &RedbStore) -> Result<(), StoreError> {
        self.purging = true;
        self.seen.purged += store.device_purge(time(self.now + 1)).await?;
        self.purging = false;
        self.devices.retain(|known| known.stands != Stands::Deleted);
        Ok(())
    }

    async fn keep(&mut self, store: &RedbStore) -> Result<(), StoreError> {
        self.rows_are_known = false;
        self.floor_asked = self.floor_asked.max(self.now - 6 * HOUR);
        if self.prunes {
            store.prune(Tier::Raw, time(self.now - 6 * HOUR)).await?;
        } else {
            let ages = [6, 100_000, 200_000, 300_000];
            let ages = ages.map(|hours| std::time::Duration::from_secs(hours * 3_600));
            let keep = Keep { ages, ..Keep::default() };
            store.keep(keep, time(self.now)).await?;
        }
        self.floor = self.floor_asked;
        self.seen.kept += 1;
        Ok(())
    }

    /// Makes reports of some devices, by link and by post.
    fn reports(&mut self) -> Vec<Incoming> {
        let mut reports = Vec::new();
        for _ in 0..=self.dice.below(8) {
            let (at, is_linked) = (self.pick(), !self.dice.one_in(3));
            reports.push(self.report_of(at, is_linked));
        }
        reports
    }

    fn report_of(&mut self, at: usize, is_linked: bool) -> Incoming {
        self.now += BETWEEN;
        let known = &mut self.devices[at];
        let mut new = report(known.device.uid, None, self.now, value_of(self.now));
        if is_linked {
            known.seq += 1;
            new.stream = Some((known.stream, known.seq));
        }
        known.unsure.push(new.clone());
        new
    }

    async fn send(&mut self, store: &RedbStore) -> Result<(), StoreError> {
        let reports = self.reports();
        let outcomes = store.append(reports.clone()).await?;
        self.note_stored(&reports, &outcomes);
        Ok(())
    }

    /// So many reports of one device that it is sealed alone, while the log has others' reports.
    async fn flood(&mut self, store: &RedbStore) -> Result<(), StoreError> {
        let at = self.pick();
        let reports: Vec<Incoming> = (0..SEALED_ALONE).map(|_| self.report_of(at, true)).collect();
        let outcomes = store.append(reports.clone()).await?;
        self.note_stored(&reports, &outcomes);
        self.seen.floods += 1;
        Ok(())
    }

    /// Sends again what was stored, as somebody who was not told so does.
    async fn repeat(&mut self, store: &RedbStore) -> Result<(), StoreError> {
        let (at, first) = (self.pick(), self.floor_asked.saturating_add(HOUR));
        let known = &self.devices[at];
        let stored: Vec<i64> = known.stored.range(first..).map(|(at, _)| *at).collect();
        if stored.is_empty() {
            return Ok(());
        }
        let uid = known.device.uid;
        let from = self.dice.below(stored.len());
        let again = stored[from..].iter().take(1 + self.dice.below(20));
        let again: Vec<_> = again.map(|at| report(uid, None, *at, value_of(*at))).collect();
        self.seen.repeated += again.len() as u64;
        store.append(again).await.map(drop)
    }

    async fn send_while_sealing(&mut self, store: &RedbStore) -> Result<(), StoreError> {
        let (first, second) = (self.reports(), self.reports());
        let (one, sealed, other) =
            tokio::join!(store.append(first.clone()), store.seal(), store.append(second.clone()));
        if let Ok(outcomes) = &one {
            self.note_stored(&first, outcomes);
        }
        if let Ok(outcomes) = &other {
            self.note_stored(&second, outcomes);
        }
        self.seen.seals += 1;
        one.and(other).map(drop).and(sealed)
    }

    fn note_stored(&mut self, reports: &[Incoming], outcomes: &[Outcome]) {
        assert!(outcomes.iter().all(|outcome| *outcome == Outcome::Stored), "{outcomes:?}");
        self.seen.acknowledged += reports.len() as u64;
        for report in reports {
            let of = |known: &&mut Known| known.device.uid == report.device;
            let known = self.devices.iter_mut().find(of).expect("reports are of known devices");
            known.unsure.retain(|unsure| unsure.at != report.at);
            known.stored.insert(report.at.millis(), value_of(report.at.millis()));
        }
    }
}

/// The value that a device measures at a time.
fn value_of(at: i64) -> f64 {
    (at / BETWEEN % 9_973) as f64 / 100.0
}

fn words(error: StoreError) -> String {
    fleet_core::Chain(&error).to_string()
}
