//! New keys against a disk that loses, tears and fails at every step, and an agent that is killed.

use std::collections::BTreeSet;

use fleet_core::disk::sim::{Dice, Fault, SimDisk};
use futures_util::FutureExt as _;

use super::*;

const UID: [u8; 16] = [9; 16];
const ID: CommandId = [7; 16];
/// What a disk may do wrong once.
const FAULTS: [Fault; 5] =
    [Fault::Write, Fault::ShortWrite, Fault::Sync, Fault::Name, Fault::Power];
/// More operations of the disk than a change of keys has.
const STEPS_MAX: u64 = 24;
/// Changes of keys unless `FLEETD_TEST_KEYS` says otherwise.
const LIVES_OF_A_SEED: u64 = FAULTS.len() as u64 * STEPS_MAX;
/// Runs of the agent in which a change must be over.
const RUNS_MAX: usize = 12;

/// The keys of one device, as its server knows them.
struct Server {
    key: PrivateKey,
    current: PublicKey,
    next: Option<PublicKey>,
    swaps: u32,
}

impl Server {
    fn new(current: PublicKey) -> Self {
        Self { key: PrivateKey::from_seed(&[7; 32]), current, next: None, swaps: 0 }
    }

    fn lets_in(&mut self, key: PublicKey) -> bool {
        if self.next == Some(key) {
            self.next = None;
            self.swaps += 1;
            self.current = key;
        }
        self.current == key
    }

    fn takes(&mut self, offer: &NewKey) {
        assert!(offer.is_signed(UID, self.key.public(), self.current));
        self.next = Some(PublicKey::from_bytes(offer.device_pub));
    }
}

fn keys(disk: &SimDisk) -> NewKeys {
    let disk = disk.clone();
    NewKeys::at(Box::new(move || Ok(Arc::new(disk.clone()))))
}

/// One command, through one error of the disk, answers that are lost, kills and power cuts. Says which
/// promise was broken, or how many runs of the agent it took.
fn life(seed: u64, fault: Fault, after: u64) -> Result<usize, String> {
    let mut disk = SimDisk::new(seed);
    let mut dice = Dice::new(seed ^ after);
    let old = PrivateKey::from_seed(&[1; 32]);
    identity::replace_key(&disk, &old).map_err(|error| error.to_string())?;
    let mut server = Server::new(old.public());
    disk.fail(fault, after);
    for run in 1..=RUNS_MAX {
        // What fails here is noted in the log and tried again at the next start.
        drop(take_over_on(&disk));
        match identity::stored_key(&disk) {
            Ok(key) if !server.lets_in(key.public()) => return Err(format!("out in run {run}")),
            Ok(key) => {
                if let Ok(Begun::Used(fingerprint)) = one_run(&disk, &key, &mut server, &mut dice) {
                    let is_its = fingerprint == server.current.fingerprint();
                    let has_it = key.public() == server.current && server.swaps == 1;
                    return if is_its && has_it { Ok(run) } else { Err("another key".to_owned()) };
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(format!("without a key in run {run}"));
            }
            // The power went.
            Err(_) => {}
        }
        if dice.one_in(2) || disk.names().is_err() {
            disk = disk.power_cut();
        }
    }
    Err("it is never over".to_owned())
}

fn one_run(
    disk: &SimDisk,
    key: &PrivateKey,
    server: &mut Server,
    dice: &mut Dice,
) -> io::Result<Begun> {
    let keys = keys(disk);
    let begun = keys.begin(ID)?;
    if let Some(offer) = keys.offer(UID, server.key.public(), key)
        && !dice.one_in(4)
    {
        server.takes(&offer);
        if !dice.one_in(4) {
            keys.noted(offer.device_pub, None);
            keys.settle()?;
        }
    }
    Ok(begun)
}

#[test]
fn an_error_or_the_end_at_any_step_locks_nobody_out() {
    let mut runs = BTreeSet::new();
    let lives = std::env::var("FLEETD_TEST_KEYS")
        .map_or(LIVES_OF_A_SEED, |text| text.parse().expect("FLEETD_TEST_KEYS is a number"));
    for seed in 0..lives.div_ceil(LIVES_OF_A_SEED) {
        for fault in FAULTS {
            for after in 0..STEPS_MAX {
                let ended = life(seed, fault, after);
                runs.insert(ended.unwrap_or_else(|why| panic!("{seed} {fault:?} {after}: {why}")));
            }
        }
    }
    assert!(runs.contains(&2) && runs.len() > 2, "{runs:?}");
}

#[test]
fn a_disk_that_lies_is_found_out() {
    let mut disk = SimDisk::new(1);
    disk.lie(true);
    let old = PrivateKey::from_seed(&[1; 32]);
    identity::replace_key(&disk, &old).unwrap();
    disk = disk.power_cut();
    assert!(identity::stored_key(&disk).is_err(), "what was not synced is gone");
}

#[test]
fn a_key_is_offered_until_there_is_an_answer_and_for_one_command() {
    let disk = SimDisk::new(1);
    let old = PrivateKey::from_seed(&[1; 32]);
    identity::replace_key(&disk, &old).unwrap();
    let server = PrivateKey::from_seed(&[7; 32]).public();
    let keys = keys(&disk);
    assert!(keys.offer(UID, server, &old).is_none());
    assert_eq!(keys.begin(ID).unwrap(), Begun::Offered);
    let offer = keys.offer(UID, server, &old).unwrap();
    keys.noted([0; 32], None);
    assert_eq!(keys.answer().now_or_never(), None, "that was not offered");
    keys.noted(offer.device_pub, Some("no\u{1b}".to_owned()));
    let refused = Answer::Refused("no\\u{1b}".to_owned());
    assert_eq!(keys.answer().now_or_never(), Some(refused));
    assert!(keys.offer(UID, server, &old).is_none());
    assert_eq!(keys.let_go(), LetGo::Gone);
    // Another time it is another key.
    assert_eq!(keys.begin(ID).unwrap(), Begun::Offered);
    let again = keys.offer(UID, server, &old).unwrap();
    assert_ne!(again.device_pub, offer.device_pub);
    keys.noted(again.device_pub, None);
    assert_eq!(keys.answer().now_or_never(), Some(Answer::Taken));
    assert_eq!(keys.begin(ID).unwrap(), Begun::Taken);
    take_over_on(&disk).unwrap();
    let fingerprint = PublicKey::from_bytes(again.device_pub).fingerprint();
    assert_eq!(keys.begin(ID).unwrap(), Begun::Used(fingerprint));
    assert_eq!(keys.begin([8; 16]).unwrap(), Begun::Offered);
    keys.forget();
    assert_eq!(disk.names().unwrap(), ["device.key"]);
}

#[test]
fn a_file_that_went_bad_costs_no_key() {
    let disk = SimDisk::new(1);
    let old = PrivateKey::from_seed(&[1; 32]);
    identity::replace_key(&disk, &old).unwrap();
    assert_eq!(keys(&disk).begin(ID).unwrap(), Begun::Offered);
    assert!(disk.rot(FILE, |bytes| bytes[9] ^= 1));
    take_over_on(&disk).unwrap();
    assert_eq!(identity::stored_key(&disk).unwrap().public(), old.public());
    assert_eq!(keys(&disk).begin(ID).unwrap(), Begun::Offered);
}
