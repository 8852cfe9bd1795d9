//! What the simulated disk does to files, seen over many power cuts.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

fn made(disk: &SimDisk, name: &str) -> Arc<dyn DiskFile> {
    let file = disk.create(name).unwrap();
    Disk::sync(disk).unwrap();
    file
}

/// What a file is after a power cut, over many of them.
fn outcomes(prepare: impl Fn(&SimDisk)) -> BTreeSet<Option<Vec<u8>>> {
    let outcome = |seed| {
        let disk = SimDisk::new(seed);
        prepare(&disk);
        disk.power_cut().contents("a")
    };
    (0..400).map(outcome).collect()
}

#[test]
fn without_faults_it_is_a_disk() {
    let disk = SimDisk::new(1);
    let file = disk.create("one").unwrap();
    assert_eq!(disk.create("one").err().unwrap().kind(), io::ErrorKind::AlreadyExists);
    file.write_at(b"hello", 2).unwrap();
    file.sync().unwrap();
    disk.rename("one", "two").unwrap();
    Disk::sync(&disk).unwrap();
    assert_eq!(disk.names().unwrap(), ["two"]);
    let file = disk.open("two").unwrap();
    assert_eq!(crate::disk::read_all(file.as_ref()).unwrap(), b"\0\0hello");
    file.truncate(3).unwrap();
    assert_eq!(crate::disk::read_all(file.as_ref()).unwrap(), b"\0\0h");
    assert!(file.read_at(&mut [0; 2], 2).is_err(), "past the end");
    disk.remove("two").unwrap();
    assert_eq!(file.bytes().unwrap(), 3, "whoever has it open keeps it");
    assert!(disk.open("two").is_err() && disk.names().unwrap().is_empty());
}

#[test]
fn what_was_synced_survives_and_nobody_from_before_goes_on() {
    for seed in 0..100 {
        let disk = SimDisk::new(seed);
        let file = made(&disk, "a");
        file.write_at(&[1; 3_000], 0).unwrap();
        file.sync().unwrap();
        let cut = disk.power_cut();
        assert_eq!(cut.contents("a").unwrap(), [1; 3_000]);
        assert!(file.bytes().is_err() && file.sync().is_err() && disk.names().is_err());
        drop(file);
        let file = cut.open("a").unwrap();
        file.write_at(&[2; 4], 3_000).unwrap();
        assert_eq!(file.bytes().unwrap(), 3_004);
    }
}

#[test]
fn what_was_not_synced_survives_in_any_part() {
    let seen = outcomes(|disk| {
        let file = made(disk, "a");
        file.write_at(&[1; 1_024], 0).unwrap();
        file.sync().unwrap();
        file.write_at(&[2; 1_024], 512).unwrap();
    });
    let has = |parts: [(u8, usize); 3]| {
        let bytes = parts.iter().flat_map(|(byte, count)| vec![*byte; *count]).collect();
        seen.contains(&Some(bytes))
    };
    assert!(has([(1, 1_024), (0, 0), (0, 0)]), "nothing of it");
    assert!(has([(1, 512), (2, 1_024), (0, 0)]), "all of it");
    assert!(has([(1, 512), (2, 512), (0, 0)]), "the bytes, not the length");
    assert!(has([(1, 1_024), (0, 512), (0, 0)]), "the length, not the bytes");
    assert!(has([(1, 1_024), (2, 512), (0, 0)]), "the second sector alone");
    let ends = seen.iter().flatten().filter_map(|bytes| bytes.iter().rposition(|byte| *byte == 2));
    assert!(ends.into_iter().any(|last| (last + 1) % 512 != 0), "torn within a sector");
    assert!(seen.iter().flatten().all(|bytes| bytes[..512] == [1; 512]));
}

#[test]
fn a_shorter_length_that_was_not_synced_may_not_hold() {
    let seen = outcomes(|disk| {
        let file = made(disk, "a");
        file.write_at(b"abcd", 0).unwrap();
        file.sync().unwrap();
        file.truncate(2).unwrap();
    });
    assert!([&b"abcd"[..], b"ab"].iter().all(|bytes| seen.contains(&Some(bytes.to_vec()))));
}

#[test]
fn names_hold_once_the_folder_is_synced() {
    let seen = outcomes(|disk| {
        let file = disk.create("a").unwrap();
        file.write_at(b"new", 0).unwrap();
        file.sync().unwrap();
    });
    assert_eq!(seen, [None, Some(b"new".to_vec())].into());
    let seen = outcomes(|disk| {
        made(disk, "a").write_at(b"old", 0).unwrap();
        disk.open("a").unwrap().sync().unwrap();
        let file = disk.create("b").unwrap();
        file.write_at(b"new", 0).unwrap();
        file.sync().unwrap();
        disk.rename("b", "a").unwrap();
    });
    assert_eq!(seen, [Some(b"old".to_vec()), Some(b"new".to_vec())].into());
    let seen = outcomes(|disk| {
        made(disk, "a");
        disk.remove("a").unwrap();
    });
    assert_eq!(seen, [None, Some(Vec::new())].into());
    let seen = outcomes(|disk| {
        made(disk, "a");
        disk.remove("a").unwrap();
        Disk::sync(disk).unwrap();
    });
    assert_eq!(seen, [None].into());
}

#[test]
fn a_failed_sync_proves_nothing_and_neither_does_the_next() {
    let seen = outcomes(|disk| {
        let file = made(disk, "a");
        file.write_at(b"lost", 0).unwrap();
        disk.fail(Fault::Sync, 0);
        assert_eq!(file.sync().unwrap_err().raw_os_error(), Some(EIO));
        file.sync().unwrap();
    });
    assert!(seen.contains(&Some(Vec::new())));
    let seen = outcomes(|disk| {
        let file = made(disk, "a");
        file.write_at(b"lost", 0).unwrap();
        disk.fail(Fault::Sync, 0);
        file.sync().unwrap_err();
        file.write_at(b"kept", 0).unwrap();
        file.sync().unwrap();
    });
    assert_eq!(seen, [Some(b"kept".to_vec())].into(), "written again it is sure");
}

#[test]
fn a_lying_sync_loses_what_it_said_was_safe() {
    let prepare = |lies| {
        move |disk: &SimDisk| {
            let file = made(disk, "a");
            disk.lie(lies);
            file.write_at(b"abc", 0).unwrap();
            file.sync().unwrap();
        }
    };
    assert_eq!(outcomes(prepare(false)), [Some(b"abc".to_vec())].into());
    assert!(outcomes(prepare(true)).contains(&Some(Vec::new())));
}

#[test]
fn a_full_disk_takes_a_part_and_has_room_again_when_files_go() {
    let disk = SimDisk::new(1);
    disk.limit(Some(10));
    let (one, two) = (disk.create("one").unwrap(), disk.create("two").unwrap());
    one.write_at(&[1; 6], 0).unwrap();
    assert_eq!(two.write_at(&[2; 6], 0).unwrap_err().kind(), io::ErrorKind::StorageFull);
    assert_eq!(disk.contents("two").unwrap(), [2; 4]);
    two.write_at(&[3; 4], 0).unwrap();
    assert!(two.truncate(5).is_err());
    disk.remove("one").unwrap();
    assert!(two.write_at(&[4], 4).is_err(), "it is still open");
    drop(one);
    two.write_at(&[4; 6], 4).unwrap();
    two.truncate(0).unwrap();
    two.write_at(&[5; 10], 0).unwrap();
}

#[test]
fn faults_happen_when_they_were_asked_for_and_once() {
    let disk = SimDisk::new(1);
    let file = made(&disk, "a");
    disk.fail(Fault::Write, 1);
    file.write_at(b"abc", 0).unwrap();
    assert!(file.write_at(b"xyz", 0).is_err());
    assert_eq!(disk.contents("a").unwrap(), b"abc");
    disk.fail(Fault::ShortWrite, 0);
    assert!(file.write_at(&[7; 100], 0).is_err());
    assert!(disk.contents("a").unwrap().len() < 100);
    disk.fail(Fault::Name, 0);
    assert!(disk.create("b").is_err() && disk.contents("b").is_none());
    disk.fail(Fault::Write, 0);
    disk.repair();
    file.truncate(0).unwrap();
    disk.fail(Fault::Power, 2);
    file.write_at(b"abc", 0).unwrap();
    file.sync().unwrap();
    assert!(file.write_at(b"xyz", 3).is_err() && disk.names().is_err());
    let left = disk.power_cut().contents("a").unwrap();
    assert!(left.starts_with(b"abc"), "{left:?}");
}

#[test]
fn rot_is_not_noticed_and_stays() {
    let disk = SimDisk::new(1);
    made(&disk, "a").write_at(b"abc", 0).unwrap();
    assert!(disk.rot("a", |bytes| bytes[1] ^= 1) && !disk.rot("b", Vec::clear));
    assert_eq!(disk.power_cut().contents("a").unwrap(), b"acc");
}

#[derive(Clone, Debug)]
enum Act {
    Write(usize, usize),
    Truncate(usize),
    Sync,
    FailedSync,
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        4 => (0_usize..3_000, 1_usize..1_500).prop_map(|(at, bytes)| Act::Write(at, bytes)),
        1 => (0_usize..3_000).prop_map(Act::Truncate),
        2 => Just(Act::Sync),
        1 => Just(Act::FailedSync),
    ]
}

proptest! {
    /// Each byte is what it was at the last good sync, or was written since by something unsure, or zero.
    #[test]
    fn a_power_cut_makes_nothing_up(acts in proptest::collection::vec(act(), 0..12), seed: u64) {
        let disk = SimDisk::new(seed);
        let file = made(&disk, "a");
        let mut now: Vec<u8> = Vec::new();
        let mut may_be: Vec<BTreeSet<u8>> = vec![BTreeSet::new(); 4_500];
        let mut lengths = BTreeSet::from([0]);
        let mut is_proven = true;
        for (number, act) in (1..).zip(&acts) {
            match *act {
                Act::Write(at, bytes) => {
                    let new = vec![number; bytes];
                    file.write_at(&new, at as u64).unwrap();
                    if now.len() < at + bytes {
                        now.resize(at + bytes, 0);
                    }
                    now[at..at + bytes].copy_from_slice(&new);
                    may_be[at..at + bytes].iter_mut().for_each(|bytes| {
                        bytes.insert(number);
                    });
                    lengths.insert(now.len());
                }
                Act::Truncate(bytes) => {
                    file.truncate(bytes as u64).unwrap();
                    now.resize(bytes, 0);
                    lengths.insert(bytes);
                }
                Act::Sync => {
                    file.sync().unwrap();
                    if is_proven {
                        lengths = [now.len()].into();
                        let byte = |at: usize| now.get(at).copied().into_iter().collect();
                        may_be = (0..may_be.len()).map(byte).collect();
                    }
                }
                Act::FailedSync => {
                    disk.fail(Fault::Sync, 0);
                    file.sync().unwrap_err();
                    is_proven = false;
                }
            }
            prop_assert_eq!(disk.contents("a").unwrap(), now.clone());
        }
        let left = disk.power_cut().contents("a").unwrap();
        prop_assert!(lengths.contains(&left.len()));
        for (at, byte) in left.iter().enumerate() {
            prop_assert!(*byte == 0 || may_be[at].contains(byte), "{} at {}", byte, at);
        }
        if let Some(Act::Sync) = acts.last() && is_proven {
            prop_assert_eq!(left, now);
        }
    }
}
