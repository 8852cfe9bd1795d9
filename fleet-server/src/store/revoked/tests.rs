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

fn add(revoked: &Revoked, ended: Vec<Ended>) -> io::Result<u64> {
    revoked.add(Some(server()), 0, ended)
}

fn listed(disk: &SimDisk) -> Vec<Ended> {
    open(disk).unwrap().list().entries().cloned().collect()
}

#[test]
fn what_is_added_is_there_again_and_the_last_word_counts() {
    let disk = SimDisk::new(1);
    let revoked = open(&disk).unwrap();
    add(&revoked, vec![key(1)]).unwrap();
    add(&revoked, vec![device(1), key(2)]).unwrap();
    let Ended::Device { uid, id, keys, at_millis, reason, .. } = device(1) else { panic!() };
    let gone = Ended::Device { uid, id, keys, at_millis, reason, is_deleted: true };
    let steps = disk.steps();
    add(&revoked, vec![key(1), device(1)]).unwrap();
    assert_eq!(disk.steps(), steps, "nothing new");
    add(&revoked, vec![gone.clone()]).unwrap();
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
    for round in 0..SPARE_ENTRIES_MAX {
        let Ended::Key { id, .. } = key(1) else { panic!() };
        add(&revoked, vec![Ended::Key { id, at_millis: round as i64 }]).unwrap();
    }
    // Each is there twice.
    assert!(bytes() < (SPARE_ENTRIES_MAX / 2 + 3) * 64, "{} bytes", bytes());
    let many = (0..ENTRIES_MAX + 10).map(key).collect();
    add(&revoked, many).unwrap();
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
                // Of one sector, or of several.
                let some = 1 + number % 3 * 20;
                let ended: Vec<_> =
                    (0..some).map(|one| key(life * 600 + number * 100 + one)).collect();
                match add(&revoked, ended.clone()) {
                    Ok(_) => sure.extend(ended),
                    Err(_) => failures += 1,
                }
            }
            drop(revoked);
            disk = disk.power_cut();
            cuts += 1;
            let found = listed(&disk);
            assert_eq!(open(&disk).unwrap().damage(), None, "round {round}");
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
        add(&revoked, vec![key(1)]).unwrap();
        disk.lie(true);
        add(&revoked, vec![key(2)]).unwrap();
        let left = disk.power_cut();
        open(&left).unwrap().key_ended("key-2").is_none()
    });
    assert!(lost.count() > 0, "the test above would not notice a loss");
}

/// Where the frames of a file begin.
fn starts(file: &[u8]) -> Vec<usize> {
    frames::read(file)
        .map(|found| if let Found::Frame { at, .. } = found { at } else { panic!("{found:?}") })
        .collect()
}

#[test]
fn what_is_torn_is_left_out_and_what_is_damaged_is_told() {
    let disk = SimDisk::new(1);
    let revoked = open(&disk).unwrap();
    for number in 1..5 {
        add(&revoked, vec![key(number)]).unwrap();
    }
    drop(revoked);
    let whole = disk.contents(REVOKED_FILE).unwrap();
    let at = starts(&whole);
    // Its head, and four groups: the first, with which it was made, and the newest are there twice.
    assert_eq!(at.len(), 1 + 4 + 2);
    let spoil = |frames: &[usize]| {
        let mut bytes = whole.clone();
        for frame in frames {
            bytes[at[*frame] + 15] ^= 1;
        }
        disk.rot(REVOKED_FILE, |file| *file = bytes);
        open(&disk).unwrap()
    };
    // A power cut in the middle of the last one, and what is added after it.
    disk.rot(REVOKED_FILE, |bytes| bytes.truncate(at[5] + 20));
    let revoked = open(&disk).unwrap();
    assert_eq!((revoked.damage(), listed(&disk)), (None, vec![key(1), key(2), key(3)]));
    add(&revoked, vec![key(5)]).unwrap();
    assert_eq!(listed(&disk), [key(1), key(2), key(3), key(5)]);
    // What one frame has, another has, too; where two are bad, a group is missing, and it has a number.
    for (frames, missing, left) in [
        (&[3][..], Some((3, 0)), &[1, 2, 3, 4][..]),
        (&[5], Some((5, 0)), &[1, 2, 3, 4]),
        (&[1, 2], Some((1, 0)), &[1, 2, 3, 4]),
        (&[3, 4], Some((5, 2)), &[1, 3, 4]),
        (&[1, 2, 3], Some((4, 1)), &[2, 3, 4]),
    ] {
        let found = spoil(frames);
        let damage = missing.map(|(frame, group)| Damage { at: at[frame], group });
        let left: Vec<_> = left.iter().map(|number| key(*number)).collect();
        assert_eq!((found.damage(), listed(&disk)), (damage, left), "{frames:?}");
        let read = List::read_in(&disk);
        assert_eq!(read.is_err(), missing.is_some_and(|(_, group)| group > 0), "{read:?}");
    }
    // With the next change it is whole.
    let damaged = spoil(&[3, 4]);
    add(&damaged, vec![key(6)]).unwrap();
    assert_eq!(damaged.damage(), None);
    assert_eq!(listed(&disk).len(), 4);
    starts(&disk.contents(REVOKED_FILE).unwrap());
    for junk in [&b""[..], b"flt_op_x\n", &whole[..9], &[0; 4_000]] {
        disk.rot(REVOKED_FILE, |bytes| *bytes = junk.to_vec());
        assert!(matches!(open(&disk), Err(RevokedError::Foreign)));
    }
    let mut later = Vec::new();
    frames::put(&mut later, |out| out.extend([Head::TAG, Head::VERSION + 1, 0]));
    disk.rot(REVOKED_FILE, |bytes| *bytes = later);
    assert!(matches!(open(&disk), Err(RevokedError::Newer)));
}

#[test]
fn groups_go_on_where_the_database_or_the_file_was() {
    let disk = SimDisk::new(1);
    let revoked = open(&disk).unwrap();
    assert_eq!(revoked.add(Some(server()), 7, vec![key(1)]).unwrap(), 8);
    assert_eq!(add(&revoked, vec![key(2)]).unwrap(), 9);
    assert_eq!(add(&revoked, vec![key(2)]).unwrap(), 9, "nothing new");
    drop(revoked);
    let many = (0..=GROUP_MAX * 3).map(key).collect();
    let revoked = open(&disk).unwrap();
    assert_eq!(add(&revoked, many).unwrap(), 9 + 4);
    assert_eq!(open(&disk).unwrap().list().group, 13);
    // The first of those groups is bad, and there is nothing of it elsewhere.
    let at = starts(&disk.contents(REVOKED_FILE).unwrap());
    disk.rot(REVOKED_FILE, |bytes| bytes[at[1] + 15] ^= 1);
    assert_eq!(open(&disk).unwrap().damage(), Some(Damage { at: at[2], group: 10 }));
    // The database has groups that the end of the file had.
    let revoked = open(&disk).unwrap();
    let next = revoked.add(Some(server()), 0, vec![key(500)]).unwrap();
    revoked.add(Some(server()), next + 5, vec![key(501)]).unwrap();
    let found = open(&disk).unwrap();
    assert_eq!(found.damage(), None);
    assert!(found.list().group > next + 5 && found.key_ended("key-501").is_some());
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
    let written = include_bytes!("../../../../fuzz/corpus/revoked/groups");
    let found = List::read(written).unwrap();
    let list = List { group: 1, ..everything() };
    assert_eq!((found.list, found.end, found.damage), (list, written.len(), None));
    assert_eq!(everything().encode().unwrap(), (written.to_vec(), 1));
    // Without numbers, as it was before, and with its newest entry twice or once.
    for (before, frames) in [
        (&include_bytes!("../../../../fuzz/corpus/revoked/all")[..], 5),
        (include_bytes!("../../../../fuzz/corpus/revoked/once"), 4),
    ] {
        let found = List::read(before).unwrap();
        let list = List { group: frames, ..everything() };
        assert_eq!((found.list, found.end, found.damage), (list, before.len(), None));
        let mut bad = before.to_vec();
        bad[starts(before)[2] + 15] ^= 1;
        let damage = List::read(&bad).unwrap().damage.unwrap();
        assert_eq!(damage.group, u64::MAX - 1, "no database has it for certain");
    }
}

#[test]
fn a_newest_entry_that_goes_bad_is_known_all_the_same() {
    for from_the_end in 0..60 {
        let disk = SimDisk::new(1);
        let revoked = open(&disk).unwrap();
        add(&revoked, vec![key(1)]).unwrap();
        add(&revoked, vec![key(2)]).unwrap();
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
        add(&revoked, Vec::new()).unwrap();
        let head = disk.contents(REVOKED_FILE).unwrap();
        assert_eq!(List::read_in(&disk).unwrap().unwrap().len(), 0);
        // No file can be made any more.
        disk.fail(Fault::Name, 0);
        add(&revoked, vec![device(1)]).unwrap();
        disk.fail(fault, 0);
        add(&revoked, vec![key(1), key(2)]).unwrap_err();
        add(&revoked, Vec::new()).unwrap();
        assert_eq!(listed(&disk), [device(1), key(1), key(2)], "{fault:?}");
        disk.fail(fault, 0);
        add(&revoked, vec![key(3)]).unwrap_err();
        add(&revoked, vec![key(4)]).unwrap();
        let all = [device(1), key(1), key(2), key(3), key(4)];
        assert_eq!(listed(&disk), all, "{fault:?}");
        assert!(disk.contents(REVOKED_FILE).unwrap().starts_with(&head));
        assert_eq!(listed(&disk.power_cut()), all, "{fault:?}");
    }
}

#[test]
fn a_list_with_nothing_on_it_is_anybodys() {
    let disk = SimDisk::new(1);
    add(&open(&disk).unwrap(), Vec::new()).unwrap();
    let revoked = open(&disk).unwrap();
    assert_eq!(revoked.owner(), None);
    let other = PublicKey::from_bytes([8; 32]);
    revoked.add(Some(other), 0, vec![key(1)]).unwrap();
    add(&revoked, vec![key(2)]).unwrap();
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
        for expected in [key(1), key(2), life(5), gone(false), rekeyed(4)] {
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
    assert!(bytes <= ENTRY_BYTES_MAX, "{bytes}");
}

#[test]
#[ignore = "writes the seeds anew: cargo test -p fleet-server --lib write_seeds -- --ignored"]
fn write_seeds() {
    fleet_core::fuzz::write_seed("revoked", "groups", &everything().encode().unwrap().0).unwrap();
}
