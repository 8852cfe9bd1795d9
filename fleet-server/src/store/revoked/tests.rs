//! The list keeps what it was told, and knows when it does not.

use fleet_core::disk::sim::{Dice, Fault, SimDisk};

use super::*;

const SERVER: [u8; 32] = [7; 32];

fn key(number: usize) -> Ended {
    Ended::Key { id: format!("key-{number}"), at_millis: number as i64 }
}

fn device(number: u8) -> Ended {
    Ended::Device {
        uid: [number; 16],
        id: format!("cam-{number}"),
        keys: vec![[number; 32]],
        at_millis: 5,
        reason: "stolen".to_owned(),
        is_deleted: false,
    }
}

fn server() -> PublicKey {
    PublicKey::from_bytes(SERVER)
}

fn open(disk: &SimDisk) -> Result<Revoked, RevokedError> {
    Revoked::open(Arc::new(disk.clone()))
}

fn listed(disk: &SimDisk) -> Vec<Ended> {
    open(disk).unwrap().list().entries().cloned().collect()
}

#[test]
fn what_is_added_is_there_again_and_the_last_word_counts() {
    let disk = SimDisk::new(1);
    let revoked = open(&disk).unwrap();
    revoked.add(Some(server()), vec![key(1)]).unwrap();
    revoked.add(Some(server()), vec![device(1), key(2)]).unwrap();
    let Ended::Device { uid, id, keys, at_millis, reason, .. } = device(1) else { panic!() };
    let gone = Ended::Device { uid, id, keys, at_millis, reason, is_deleted: true };
    let steps = disk.steps();
    revoked.add(Some(server()), vec![key(1), device(1)]).unwrap();
    assert_eq!(disk.steps(), steps, "nothing new");
    revoked.add(Some(server()), vec![gone.clone()]).unwrap();
    let expected = [key(1), key(2), gone];
    assert_eq!(listed(&disk), expected);
    let list = List::read_in(&disk).unwrap().unwrap();
    assert_eq!(list.owner(), Some(server()));
    assert_eq!(open(&disk).unwrap().key_ended("key-2"), Some(2));
    assert_eq!(open(&disk).unwrap().key_ended("key-3"), None);
}

#[test]
fn it_stays_small() {
    let disk = SimDisk::new(1);
    let revoked = open(&disk).unwrap();
    let bytes = || disk.contents(REVOKED_FILE).unwrap().len();
    for round in 0..3 * SPARE_FRAMES_MAX {
        let Ended::Key { id, .. } = key(1) else { panic!() };
        revoked.add(Some(server()), vec![Ended::Key { id, at_millis: round as i64 }]).unwrap();
    }
    assert!(bytes() < (SPARE_FRAMES_MAX + 3) * 64, "{} bytes", bytes());
    let many = (0..ENTRIES_MAX + 10).map(key).collect();
    revoked.add(Some(server()), many).unwrap();
    let kept = listed(&disk);
    assert_eq!((kept.len(), kept.first()), (ENTRIES_MAX, Some(&key(10))));
}

#[test]
fn what_was_added_survives_power_cuts_and_failing_syncs() {
    let mut dice = Dice::new(3);
    let (mut cuts, mut failures) = (0, 0);
    for round in 0..400 {
        let mut disk = SimDisk::new(round);
        let mut sure = Vec::new();
        for life in 0..3 {
            let revoked = open(&disk).unwrap();
            let fault = [Fault::Power, Fault::Sync, Fault::ShortWrite, Fault::Write, Fault::Name];
            disk.fail(fault[dice.below(5)], dice.below(8) as u64);
            for number in 0..6 {
                let ended = key(life * 6 + number);
                match revoked.add(Some(server()), vec![ended.clone()]) {
                    Ok(()) => sure.push(ended),
                    Err(_) => failures += 1,
                }
            }
            drop(revoked);
            disk = disk.power_cut();
            cuts += 1;
            let found = listed(&disk);
            let lost: Vec<_> = sure.iter().filter(|ended| !found.contains(ended)).collect();
            assert!(lost.is_empty(), "round {round}: {lost:?} of {sure:?}");
        }
    }
    assert!(cuts == 1_200 && failures > 200, "{failures} failures");
}

#[test]
fn a_disk_that_lies_about_syncing_is_caught() {
    let lost = (0..20).filter(|seed| {
        let disk = SimDisk::new(*seed);
        let revoked = open(&disk).unwrap();
        revoked.add(Some(server()), vec![key(1)]).unwrap();
        disk.lie(true);
        revoked.add(Some(server()), vec![key(2)]).unwrap();
        let left = disk.power_cut();
        open(&left).unwrap().key_ended("key-2").is_none()
    });
    assert!(lost.count() > 0, "the test above would not notice a loss");
}

#[test]
fn what_is_torn_is_left_out_and_what_is_damaged_is_told() {
    let disk = SimDisk::new(1);
    let revoked = open(&disk).unwrap();
    for number in 1..4 {
        revoked.add(Some(server()), vec![key(number)]).unwrap();
    }
    drop(revoked);
    let whole = disk.contents(REVOKED_FILE).unwrap();
    let starts: Vec<usize> = frames::read(&whole)
        .map(|found| if let Found::Frame { at, .. } = found { at } else { panic!("{found:?}") })
        .collect();
    // Its head, three keys, each once more behind itself.
    assert_eq!(starts.len(), 1 + 3 + 3);
    let newest = whole.len() - starts[6];
    // A power cut in the middle of the last one, and what is added after it.
    disk.rot(REVOKED_FILE, |bytes| bytes.truncate(bytes.len() - newest - 3));
    let revoked = open(&disk).unwrap();
    assert_eq!((revoked.damage(), listed(&disk)), (None, vec![key(1), key(2)]));
    revoked.add(Some(server()), vec![key(4)]).unwrap();
    assert_eq!(listed(&disk), [key(1), key(2), key(4)]);
    // A flipped bit hides one, and what stands behind it says how new that was.
    disk.rot(REVOKED_FILE, |bytes| {
        bytes[starts[1] + 15] ^= 1;
        bytes[starts[2] + 15] ^= 1;
    });
    let damaged = open(&disk).unwrap();
    let behind = vec![key(2), key(2), key(2), key(4), key(4)];
    let damage = Damage { at: starts[1], behind };
    assert_eq!((damaged.damage(), listed(&disk)), (Some(damage), vec![key(2), key(4)]));
    let refused = List::read_in(&disk).unwrap_err();
    assert!(matches!(refused, RevokedError::Damaged(at) if at == starts[1]), "{refused:?}");
    damaged.add(Some(server()), vec![key(1)]).unwrap();
    assert_eq!((open(&disk).unwrap().damage(), listed(&disk).len()), (None, 3));
    for junk in [&b""[..], b"flt_op_x\n", &whole[..9], &[0; 4_000]] {
        disk.rot(REVOKED_FILE, |bytes| *bytes = junk.to_vec());
        assert!(matches!(open(&disk), Err(RevokedError::Foreign)));
    }
    let mut later = Vec::new();
    frames::put(&mut later, |out| out.extend([Head::TAG, Head::VERSION + 1, 0]));
    disk.rot(REVOKED_FILE, |bytes| *bytes = later);
    assert!(matches!(open(&disk), Err(RevokedError::Newer)));
}

/// One of everything that can be on a list.
fn everything() -> List {
    let keys = Ended::DeviceKeys { uid: [2; 16], key: [4; 32], former: vec![[2; 32]] };
    let life = Ended::KeyLife { id: "key-1".to_owned(), at_millis: 9 };
    let mut list = List { server: Some(SERVER), ..List::default() };
    for ended in [key(1), life, device(1), keys] {
        list.put(ended);
    }
    list
}

#[test]
fn what_was_written_once_is_read_for_ever() {
    let written = include_bytes!("../../../../fuzz/corpus/revoked/all");
    let (read, frames, last, damage) = List::read(written).unwrap();
    assert_eq!((read, frames, last.end, damage), (everything(), 6, written.len(), None));
    assert_eq!(everything().encode().unwrap(), written);
    // Without its newest entry twice, as it was before.
    let before = include_bytes!("../../../../fuzz/corpus/revoked/once");
    let (read, frames, last, damage) = List::read(before).unwrap();
    assert_eq!((read, frames, last.end, damage), (everything(), 5, before.len(), None));
}

#[test]
fn a_newest_entry_that_goes_bad_is_known_all_the_same() {
    for from_the_end in 0..60 {
        let disk = SimDisk::new(1);
        let revoked = open(&disk).unwrap();
        revoked.add(Some(server()), vec![key(1)]).unwrap();
        revoked.add(Some(server()), vec![key(2)]).unwrap();
        drop(revoked);
        disk.rot(REVOKED_FILE, |bytes| {
            let at = bytes.len() - 1 - from_the_end;
            bytes[at] ^= 1;
        });
        assert_eq!(listed(&disk).last(), Some(&key(2)), "{from_the_end}");
    }
}

#[test]
fn what_could_not_be_written_is_written_to_the_same_place() {
    for fault in [Fault::Write, Fault::ShortWrite, Fault::Sync] {
        let disk = SimDisk::new(1);
        let revoked = open(&disk).unwrap();
        revoked.add(Some(server()), Vec::new()).unwrap();
        let head = disk.contents(REVOKED_FILE).unwrap();
        assert_eq!(List::read_in(&disk).unwrap().unwrap().len(), 0);
        // No file can be made any more.
        disk.fail(Fault::Name, 0);
        revoked.add(Some(server()), vec![device(1)]).unwrap();
        disk.fail(fault, 0);
        revoked.add(Some(server()), vec![key(1), key(2)]).unwrap_err();
        revoked.add(Some(server()), Vec::new()).unwrap();
        assert_eq!(listed(&disk), [device(1), key(1), key(2)], "{fault:?}");
        disk.fail(fault, 0);
        revoked.add(Some(server()), vec![key(3)]).unwrap_err();
        revoked.add(Some(server()), vec![key(4)]).unwrap();
        let all = [device(1), key(1), key(2), key(3), key(4)];
        assert_eq!(listed(&disk), all, "{fault:?}");
        assert!(disk.contents(REVOKED_FILE).unwrap().starts_with(&head));
        assert_eq!(listed(&disk.power_cut()), all, "{fault:?}");
    }
}

#[test]
fn a_list_with_nothing_on_it_is_anybodys() {
    let disk = SimDisk::new(1);
    open(&disk).unwrap().add(Some(server()), Vec::new()).unwrap();
    let revoked = open(&disk).unwrap();
    assert_eq!(revoked.owner(), None);
    let other = PublicKey::from_bytes([8; 32]);
    revoked.add(Some(other), vec![key(1)]).unwrap();
    revoked.add(Some(server()), vec![key(2)]).unwrap();
    assert_eq!(open(&disk).unwrap().owner(), Some(other));
}

#[test]
fn of_two_lists_whoever_is_out_stays_out() {
    let gone = |is_gone| {
        let Ended::Device { uid, id, keys, at_millis, reason, .. } = device(1) else { panic!() };
        Ended::Device { uid, id, keys, at_millis, reason, is_deleted: is_gone }
    };
    let life = |at_millis| Ended::KeyLife { id: "key-1".to_owned(), at_millis };
    let rekeyed = |key: u8| {
        let former = (1..key).map(|key| [key; 32]).collect();
        Ended::DeviceKeys { uid: [2; 16], key: [key; 32], former }
    };
    let list = |entries: &[Ended]| {
        let mut list = List { server: Some(SERVER), ..List::default() };
        for ended in entries {
            list.put(ended.clone());
        }
        list
    };
    let newer = list(&[key(1), life(5), gone(true), rekeyed(4)]);
    let older = list(&[key(2), life(9), gone(false), rekeyed(3)]);
    for (mut one, other) in [(newer.clone(), older.clone()), (older, newer)] {
        one.merge(other);
        assert_eq!(one.len(), 5);
        for expected in [key(1), key(2), life(5), gone(true), rekeyed(4)] {
            assert_eq!(one.get(&expected.subject()), Some(&expected));
        }
    }
}

#[test]
fn the_largest_entry_fits_where_all_of_them_are_to_fit() {
    let largest = Ended::Device {
        uid: [255; 16],
        id: "x".repeat(64),
        keys: vec![[255; 32]; 2 + crate::store::FORMER_KEYS_MAX],
        at_millis: i64::MAX,
        reason: Ended::reason(&"\u{1f6f0}".repeat(REASON_CHARS_MAX + 1)),
        is_deleted: true,
    };
    let bytes = frame(&largest).unwrap().len();
    assert!(bytes <= FRAME_BYTES_MAX, "{bytes}");
}

#[test]
#[ignore = "writes the seeds anew: cargo test -p fleet-server --lib write_seeds -- --ignored"]
fn write_seeds() {
    fleet_core::fuzz::write_seed("revoked", "all", &everything().encode().unwrap()).unwrap();
}
