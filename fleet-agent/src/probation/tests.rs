//! Trials against a disk that loses, tears and fails at every step.

use std::collections::BTreeSet;

use fleet_core::disk::Disk;
use fleet_core::disk::sim::{Fault, SimDisk};
use fleet_core::identity::PrivateKey;
use fleet_core::time::SystemClock;
use fleet_core::url::ServerUrl;
use tempfile::TempDir;

use super::*;
use crate::collect::Sampler;
use crate::config;
use crate::spool::SpoolSettings;
use crate::sys::SysRoot;

const DEVICE: [u8; 16] = [9; 16];
/// What a disk may do wrong once.
const FAULTS: [Fault; 5] =
    [Fault::Write, Fault::ShortWrite, Fault::Sync, Fault::Name, Fault::Power];
/// Trials unless `FLEETD_TEST_TRIALS` says otherwise; each seed goes through all faults at all steps, to
/// either end.
const TRIALS: u64 = 2 * TRIALS_OF_A_SEED;
const TRIALS_OF_A_SEED: u64 = 2 * FAULTS.len() as u64 * STEPS_MAX;
/// More steps than a trial has.
const STEPS_MAX: u64 = 21;
/// Between reports by the device's own file, and by the versions that are tried, in seconds.
const FLOOR: u64 = 60;
const OLD: u64 = 11;
const NEW: u64 = 12;
/// Another place of the server.
const PLACE: &str = "http://b:1";

fn server() -> PrivateKey {
    PrivateKey::from_seed(&[7; 32])
}

/// An agent's configuration on a disk, with what it works on.
struct Rig {
    probation: Probation,
    telemetry: Arc<Telemetry>,
    _folder: TempDir,
    now: Instant,
}

impl Rig {
    fn open(disk: &SimDisk) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let root = SysRoot::real();
        let file = config::Telemetry {
            interval: Duration::from_secs(FLOOR),
            metrics: Some(vec!["memory_usage".to_owned()]),
        };
        let telemetry = Arc::new(Telemetry::new(Sampler::new(&root), &file).unwrap());
        let clock = Arc::new(SystemClock);
        let spool = folder.path().join("spool");
        let queue = Queue::open(spool, SpoolSettings::default(), &root, clock.clone());
        let disk = disk.clone();
        let ground: Ground = Box::new(move || Ok(Arc::new(disk.clone()) as Arc<dyn Disk>));
        let queue = Arc::new(queue.unwrap());
        let probation = Probation::at(ground, telemetry.clone(), queue, clock);
        let now = Instant::now();
        probation.begin(Some(server().public()), now);
        probation.linked(Some(Linked::Elsewhere));
        Self { probation, telemetry, _folder: folder, now }
    }

    fn push(&self, version: u64, secs: u64) -> Option<ToServer> {
        let document = format!("{{\"telemetry\":{{\"interval\":{secs}}}}}");
        let push = ConfigPush::sign(DEVICE, version, document, &server());
        self.probation.take(push, DEVICE, server().public(), self.now)
    }

    /// The same with another place of the server.
    fn push_place(&self, version: u64, secs: u64) -> Option<ToServer> {
        self.push_url(version, secs, PLACE)
    }

    fn push_url(&self, version: u64, secs: u64, url: &str) -> Option<ToServer> {
        let document =
            format!("{{\"server_url\":\"{url}\",\"telemetry\":{{\"interval\":{secs}}}}}");
        let push = ConfigPush::sign(DEVICE, version, document, &server());
        self.probation.take(push, DEVICE, server().public(), self.now)
    }

    /// A device that is good at another place.
    fn moved(disk: &SimDisk) -> Self {
        let rig = Self::open(disk);
        rig.push_place(1, OLD);
        rig.reach();
        rig.prove();
        assert_eq!(short(&rig.word()), (1, "good"));
        rig
    }

    /// All places that were good.
    fn good(&self) -> Vec<String> {
        self.probation.places().borrow().good.iter().map(ToString::to_string).collect()
    }

    /// Where the server is by what is good, and by what is tried.
    fn places(&self) -> (Option<String>, Option<String>) {
        let places = self.probation.places().borrow().clone();
        let shown = |url: ServerUrl| url.to_string();
        let good = places.good.into_iter().next();
        (good.map(shown), places.tried.map(|tried| tried.to_string()))
    }

    /// There is a link to the place that is tried.
    fn reach(&self) {
        self.probation.linked(Some(Linked::There));
    }

    /// A report under what is tried is with the server.
    fn prove(&self) {
        self.probation.tick(self.now);
        let place = self.probation.lock().trial.as_ref().and_then(|it| it.proofs.last().copied());
        if let Some(Placed { stream, seq }) = place {
            self.probation.acknowledged(server().public(), stream, seq);
        }
        self.look();
    }

    /// None ever is.
    fn let_it_pass(&self) {
        self.probation.tick(self.now + PROBATION);
        self.look();
    }

    /// What failed once is done at the next look.
    fn look(&self) {
        self.probation.tick(self.now + LOOK);
    }

    fn interval(&self) -> u64 {
        self.telemetry.interval().as_secs()
    }

    fn word(&self) -> ToServer {
        self.probation.word(server().public())
    }
}

/// A word in short.
fn short(word: &ToServer) -> (u64, &'static str) {
    match word {
        ToServer::ConfigReported(ConfigReported { version, error: None, .. }) => (*version, "good"),
        ToServer::ConfigReported(ConfigReported { version, .. }) => (*version, "refused"),
        ToServer::ConfigTrial(ConfigTrial { version, state, .. }) => match state {
            TrialState::Trying => (*version, "trying"),
            TrialState::Reverted { .. } => (*version, "reverted"),
        },
        other => panic!("{other:?} says nothing of a configuration"),
    }
}

#[test]
fn what_works_is_kept_and_what_does_not_is_left() {
    let disk = SimDisk::new(1);
    let rig = Rig::open(&disk);
    assert_eq!((rig.interval(), short(&rig.word())), (FLOOR, (0, "good")));
    assert_eq!(rig.push(1, OLD).map(|word| short(&word)), Some((1, "trying")));
    assert_eq!((rig.interval(), short(&rig.word())), (OLD, (1, "trying")));
    // What others sent or what was collected before shows nothing.
    rig.probation.acknowledged(server().public(), [0; 16], u64::MAX);
    assert_eq!(short(&rig.word()), (1, "trying"));
    rig.prove();
    assert_eq!(short(&rig.word()), (1, "good"));

    rig.push(2, NEW);
    assert_eq!(rig.interval(), NEW);
    rig.probation.tick(rig.now);
    rig.probation.tick(rig.now + Duration::from_secs(59));
    assert_eq!(short(&rig.word()), (2, "trying"));
    rig.let_it_pass();
    let ToServer::ConfigTrial(trial) = rig.word() else { panic!("{:?}", rig.word()) };
    let why = "no report reached the server within 60 s".to_owned();
    assert_eq!((trial.version, trial.state), (2, TrialState::Reverted { holds: 1, why }));
    assert_eq!(rig.interval(), OLD);
    // It comes again and is not tried again; a newer one is.
    assert_eq!(rig.push(2, NEW).map(|word| short(&word)), Some((2, "reverted")));
    assert_eq!(rig.push(1, NEW), None);
    assert_eq!(rig.push(3, NEW).map(|word| short(&word)), Some((3, "trying")));
    // Where nothing was collected under it meanwhile, that is said.
    rig.let_it_pass();
    let ToServer::ConfigTrial(trial) = rig.word() else { panic!("{:?}", rig.word()) };
    let why = "nothing could be measured under it within 60 s".to_owned();
    assert_eq!(trial.state, TrialState::Reverted { holds: 1, why });
    // One that makes way for another one was never good.
    assert_eq!(rig.push(4, NEW).map(|word| short(&word)), Some((4, "trying")));
    assert_eq!(rig.push(5, 13).map(|word| short(&word)), Some((5, "trying")));
    rig.let_it_pass();
    assert_eq!((rig.interval(), short(&rig.word())), (OLD, (5, "reverted")));
    drop(rig);
    let rig = Rig::open(&disk.power_cut());
    assert_eq!((rig.interval(), short(&rig.word())), (OLD, (5, "reverted")));
    rig.probation.forget();
    assert_eq!((rig.interval(), short(&rig.word())), (FLOOR, (0, "good")));
}

#[test]
fn a_place_is_good_once_a_report_went_there() {
    let disk = SimDisk::new(1);
    let rig = Rig::open(&disk);
    rig.push(1, OLD);
    rig.prove();
    rig.push_place(2, NEW);
    let place = Some(PLACE.to_owned());
    assert_eq!(rig.places(), (None, place.clone()));
    // What the old place has shows nothing of the new one, and nothing is collected to show it.
    rig.prove();
    assert_eq!(short(&rig.word()), (2, "trying"));
    assert!(rig.probation.lock().trial.as_ref().unwrap().proofs.is_empty());
    rig.reach();
    rig.probation.tick(rig.now);
    let proof = rig.probation.lock().trial.as_ref().unwrap().proofs[0];
    // A report that waits when the link is lost may go to the old place.
    rig.probation.linked(None);
    rig.probation.linked(Some(Linked::Elsewhere));
    rig.probation.acknowledged(server().public(), proof.stream, proof.seq);
    assert_eq!(short(&rig.word()), (2, "trying"));
    rig.reach();
    rig.prove();
    assert_eq!((short(&rig.word()), rig.places()), ((2, "good"), (place.clone(), None)));
    let rig = Rig::open(&disk.power_cut());
    assert_eq!(rig.places(), (place.clone(), None));
    // One that says nothing of it leads back, and has to be reached too.
    rig.push(3, OLD);
    let back = Some("the place where it was before".to_owned());
    assert_eq!(rig.places(), (place, back));
    rig.reach();
    rig.prove();
    assert_eq!((short(&rig.word()), rig.places()), ((3, "good"), (None, None)));
}

#[test]
fn a_place_that_is_not_reached_is_given_up_and_says_why() {
    let disk = SimDisk::new(1);
    let rig = Rig::open(&disk);
    rig.push(1, OLD);
    rig.prove();
    rig.push_place(2, NEW);
    rig.probation.not_reached("connection refused".to_owned());
    // Its time passes without any link too: it may be this place that is to blame.
    rig.probation.linked(None);
    rig.let_it_pass();
    let ToServer::ConfigTrial(trial) = rig.word() else { panic!("{:?}", rig.word()) };
    let why = "the server was not reached at http://b:1 within 60 s: connection refused".to_owned();
    assert_eq!((trial.version, trial.state), (2, TrialState::Reverted { holds: 1, why }));
    assert_eq!((rig.interval(), rig.places()), (OLD, (None, None)));
}

#[test]
fn a_server_that_is_away_is_not_the_versions_fault() {
    let disk = SimDisk::new(1);
    let rig = Rig::open(&disk);
    rig.push(1, OLD);
    rig.probation.linked(None);
    let mut now = rig.now;
    for _ in 0..600 {
        now += LOOK;
        rig.probation.tick(now);
    }
    assert_eq!(short(&rig.word()), (1, "trying"));
    rig.probation.linked(Some(Linked::Elsewhere));
    for _ in 0..=PROBATION.as_secs() {
        now += LOOK;
        rig.probation.tick(now);
    }
    assert_eq!(short(&rig.word()), (1, "reverted"));
}

#[test]
fn ends_that_were_asked_for_count_for_nothing() {
    let mut disk = SimDisk::new(1);
    let rig = Rig::open(&disk);
    rig.push(1, NEW);
    rig.probation.stop();
    for _ in 0..5 {
        let rig = Rig::open(&disk);
        assert_eq!(short(&rig.word()), (1, "trying"));
        rig.probation.stop();
        disk = disk.power_cut();
    }
    drop(Rig::open(&disk));
    let disk = disk.power_cut();
    assert_eq!(short(&Rig::open(&disk).word()), (1, "trying"), "once it ended by itself");
    assert_eq!(short(&Rig::open(&disk.power_cut()).word()), (1, "reverted"));
}

#[test]
fn what_ends_the_agent_twice_is_given_up() {
    let ended_once = || {
        let disk = SimDisk::new(1);
        let rig = Rig::open(&disk);
        rig.push(1, OLD);
        rig.prove();
        rig.push(2, NEW);
        disk.power_cut()
    };
    // Once is no proof of anything: it may still show that it works.
    let rig = Rig::open(&ended_once());
    assert_eq!((rig.interval(), short(&rig.word())), (NEW, (2, "trying")));
    rig.prove();
    assert_eq!(short(&rig.word()), (2, "good"));
    let disk = ended_once();
    drop(Rig::open(&disk));
    let rig = Rig::open(&disk.power_cut());
    let ToServer::ConfigTrial(trial) = rig.word() else { panic!("{:?}", rig.word()) };
    let why = "the agent ended twice while it was tried".to_owned();
    assert_eq!((trial.version, trial.state), (2, TrialState::Reverted { holds: 1, why }));
    assert_eq!(rig.interval(), OLD);
}

#[test]
fn a_configuration_of_another_server_has_no_effect() {
    let disk = SimDisk::new(1);
    let rig = Rig::open(&disk);
    rig.push(1, OLD);
    rig.prove();
    let elsewhere = PrivateKey::from_seed(&[8; 32]);
    assert_eq!(short(&rig.probation.word(elsewhere.public())), (0, "good"));
    let push = ConfigPush::sign(DEVICE, 1, "{}".to_owned(), &elsewhere);
    assert!(rig.probation.take(push, DEVICE, server().public(), rig.now).is_none());
}

/// A trial that ends so or so, through one error of the disk, and the device after a power cut. Says
/// what is not as it was promised, and which document it has.
fn life(seed: u64, fault: Fault, after: u64, works: bool) -> Result<u64, String> {
    let disk = SimDisk::new(seed);
    let rig = Rig::open(&disk);
    rig.push(1, OLD);
    rig.prove();
    assert_eq!(short(&rig.word()), (1, "good"));
    disk.fail(fault, after);
    let mut told = rig.push_place(2, NEW).map(|word| short(&word)).ok_or("it says nothing")?;
    rig.reach();
    if told == (2, "trying") {
        if works {
            rig.prove();
        } else {
            rig.let_it_pass();
        }
        told = short(&rig.word());
    }
    let follows = rig.interval();
    let is_right = match told.1 {
        "good" => follows == NEW,
        "refused" => follows == OLD,
        // What became of it may not be on the disk yet, and so is not told.
        _ => [OLD, NEW].contains(&follows),
    };
    if !is_right {
        return Err(format!("it says {told:?} and follows {follows}"));
    }
    let disk = disk.power_cut();
    let rig = Rig::open(&disk);
    let (has, says) = (rig.interval(), short(&rig.word()));
    let place = Some(PLACE.to_owned());
    let leads = match says {
        (1, "good") | (2, "reverted") => (None, None),
        (2, "good") => (place, None),
        _ => (None, place),
    };
    if rig.places() != leads {
        return Err(format!("{says:?} leads to {:?}", rig.places()));
    }
    // The way to a place that is good is not lost with the record, and no other is taken for one.
    drop(rig);
    disk.rot("record", |bytes| bytes[9] ^= 1);
    let known = Rig::open(&disk).good();
    let is_known = known == [PLACE];
    if (says == (2, "good") && !is_known) || (!works && !known.is_empty()) {
        return Err(format!("{says:?} and, without the record, {known:?}"));
    }
    let is_whole = match says {
        (1, "good") | (2, "reverted") => has == OLD,
        (2, "good" | "trying") => has == NEW,
        _ => false,
    };
    // What was told holds. When the power went, nobody heard what was said last.
    let is_kept = match told {
        (2, "good") => has == NEW,
        (2, "reverted") => has == OLD,
        (2, "refused") => fault == Fault::Power || has == OLD,
        _ => true,
    };
    if is_whole && is_kept {
        Ok(has)
    } else {
        Err(format!("told {told:?}, then {says:?} and {has}"))
    }
}

#[test]
fn a_power_cut_or_error_at_any_step_leaves_the_old_or_the_new() {
    let mut found = BTreeSet::new();
    let trials = std::env::var("FLEETD_TEST_TRIALS")
        .map_or(TRIALS, |text| text.parse().expect("FLEETD_TEST_TRIALS is a number"));
    let seeds = trials.div_ceil(TRIALS_OF_A_SEED);
    for seed in 0..seeds {
        for fault in FAULTS {
            for after in 0..STEPS_MAX {
                for works in [true, false] {
                    let has = life(seed, fault, after, works);
                    let has =
                        has.unwrap_or_else(|why| panic!("{seed} {fault:?} {after} {works}: {why}"));
                    found.insert((works, has));
                }
            }
        }
    }
    assert_eq!(found, BTreeSet::from([(true, OLD), (true, NEW), (false, OLD), (false, NEW)]));
}

#[test]
fn the_places_that_were_good_stay_behind_the_new_one() {
    let disk = SimDisk::new(1);
    let rig = Rig::moved(&disk);
    for (version, url) in
        (2..).zip(["http://c:1", "http://d:1", "http://c:1", "http://e:1", "http://f:1"])
    {
        rig.push_url(version, OLD, url);
        rig.reach();
        rig.prove();
        assert_eq!(short(&rig.word()), (version, "good"));
    }
    let places = ["http://f:1", "http://e:1", "http://c:1", "http://d:1"];
    assert_eq!(rig.good(), places);
    let disk = disk.power_cut();
    assert_eq!(Rig::open(&disk).good(), places);
    // A damaged file is made anew out of the record.
    assert!(disk.rot("places", |bytes| bytes[9] ^= 1));
    assert_eq!(Rig::open(&disk).good(), places[..1]);
    assert!(disk.rot("record", |bytes| bytes[9] ^= 1));
    assert_eq!(Rig::open(&disk).good(), places[..1]);
}

#[test]
fn a_place_is_known_without_the_record_that_named_it() {
    let disk = SimDisk::new(1);
    drop(Rig::moved(&disk));
    assert!(disk.rot("record", |bytes| bytes[9] ^= 1));
    let rig = Rig::open(&disk);
    assert_eq!((short(&rig.word()), rig.places().0), ((0, "good"), Some(PLACE.to_owned())));
    // The same configuration again is no move, and one without a place is one.
    rig.push_place(1, OLD);
    assert_eq!(rig.places(), (Some(PLACE.to_owned()), None));
    rig.push(2, OLD);
    rig.prove();
    assert_eq!(short(&rig.word()), (2, "trying"));
    rig.reach();
    rig.prove();
    assert_eq!((short(&rig.word()), rig.places()), ((2, "good"), (None, None)));
    // Nothing of it is left to a server that is another one.
    let disk = SimDisk::new(2);
    Rig::moved(&disk).probation.forget();
    assert!(Rig::open(&disk.power_cut()).good().is_empty());
}

#[test]
fn a_place_is_read_out_of_a_document_that_is_not_understood() {
    let document = format!("{{\"server_url\":\"{PLACE}\",\"not yet\":{{}}}}");
    let version = Version { number: 1, document, at_millis: 0 };
    assert_eq!(version.read().server_url, None);
    assert_eq!(places::of(&version).map(|url| url.to_string()), Some(PLACE.to_owned()));
}

#[test]
fn a_damaged_record_costs_a_line_in_the_log() {
    let disk = SimDisk::new(1);
    let rig = Rig::open(&disk);
    rig.push(1, OLD);
    rig.prove();
    assert!(disk.rot("record", |bytes| bytes[9] ^= 1));
    let rig = Rig::open(&disk);
    assert_eq!((rig.interval(), short(&rig.word())), (FLOOR, (0, "good")));
}
