//! What the log does when nothing fails.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use fleet_core::disk::sim::SimDisk;
use fleet_core::disk::{Disk as _, Folder};

use super::super::*;
use super::kit::{Gate, GateState, STORE, append, names, open, open_at, wait_for};

#[test]
fn what_was_appended_is_found_again_in_order() {
    let disk = SimDisk::new(1);
    let (wal, recovered, shown) = open(&disk).unwrap();
    assert_eq!((recovered.next, shown.len(), names(&disk).len()), (Lsn(1), 0, 0));
    let lengths = [0, 1, 0x7F, 0x80, 0x3FFF, 0x4000, 100_000];
    let appended: Vec<_> = lengths.map(|length| append(&wal, &vec![length as u8; length])).into();
    assert_eq!((appended[0].0, wal.next()), (1, Lsn(8)));
    wal.durable_blocking(Lsn(7)).unwrap();
    assert_eq!(wal.durable_to(), Lsn(7));
    assert!(wal.files() == 1 && wal.bytes() >= wal.file_bytes());
    drop(wal);
    let (_wal, recovered, shown) = open(&disk).unwrap();
    assert_eq!(shown, appended);
    let bytes = disk.contents("wal-0000000000000001").unwrap().len() as u64;
    let expected = Recovered { files: 1, bytes, records: 7, next: Lsn(8), ..Recovered::default() };
    assert_eq!(recovered, expected);
}

#[test]
fn a_folder_of_the_machine_will_do() {
    let place = tempfile::tempdir().unwrap();
    let open = |visit: &mut dyn FnMut(Entry<'_>)| {
        let folder = Folder::open(place.path()).unwrap();
        Wal::open(Arc::new(folder), STORE, Lsn(0), visit).unwrap().0
    };
    for round in 0..3_u64 {
        let mut records = 0;
        let wal = open(&mut |entry| records += u64::from(entry != Entry::FileStart));
        assert_eq!(records, round.min(1), "the one before is not needed any more");
        wal.durable_blocking(wal.append(|out| out.push(1)).unwrap()).unwrap();
        wal.release(wal.next().before()).unwrap();
    }
}

#[test]
fn dropping_writes_what_waits() {
    let disk = SimDisk::new(1);
    let (wal, ..) = open(&disk).unwrap();
    let appended: Vec<_> = (0..1_000_u32).map(|n| append(&wal, &n.to_le_bytes())).collect();
    drop(wal);
    assert_eq!(open(&disk.power_cut()).unwrap().2, appended);
}

#[test]
fn files_begin_when_they_are_asked_for_and_go_when_they_are_released() {
    let disk = SimDisk::new(1);
    let (wal, ..) = open(&disk).unwrap();
    assert_eq!(wal.file_bytes(), 0);
    for record in 1..=6 {
        append(&wal, b"record");
        assert_ne!(wal.file_bytes(), 0);
        if record % 2 == 0 {
            wal.begin_file();
            wal.begin_file();
            assert_eq!(wal.file_bytes(), 0);
        }
    }
    wal.durable_blocking(Lsn(6)).unwrap();
    let all = ["wal-0000000000000001", "wal-0000000000000003", "wal-0000000000000005"];
    assert_eq!((names(&disk), wal.files()), (all.map(str::to_owned).into(), 3));
    wal.release(Lsn(4)).unwrap();
    assert_eq!(names(&disk), all[1..]);
    wal.release(Lsn(5)).unwrap();
    assert_eq!(names(&disk), all[2..]);
    wal.release(Lsn(100)).unwrap();
    assert_eq!(names(&disk), all[2..], "the newest stays, for its numbers");
    drop(wal);
    let (wal, recovered, shown) = open(&disk).unwrap();
    assert_eq!((shown[0].0, shown.len(), recovered.next), (5, 2, Lsn(7)));
    wal.release(Lsn(100)).unwrap();
    assert_eq!(wal.files(), 1);
    wal.durable_blocking(Lsn(append(&wal, b"record").0)).unwrap();
    assert_eq!(wal.files(), 2, "a log that was opened begins a file");
}

#[test]
fn numbers_that_are_done_elsewhere_are_passed_over() {
    let disk = SimDisk::new(1);
    let mut expected = Vec::new();
    for at_least in [5, 3, 20, 20, 0] {
        let (wal, recovered, shown) = open_at(&disk, Lsn(at_least)).unwrap();
        assert_eq!((&shown, &recovered.damage), (&expected, &Vec::new()));
        let next = expected.last().map_or(1, |(last, _)| last + 1).max(at_least);
        assert_eq!((wal.next(), recovered.next), (Lsn(next), Lsn(next)));
        expected.push(append(&wal, b"record"));
    }
    assert_eq!(expected.iter().map(|(lsn, _)| *lsn).collect::<Vec<_>>(), [5, 6, 20, 21, 22]);
}

#[test]
fn only_so_much_may_wait() {
    let gate = Gate::new(SimDisk::new(1));
    let (wal, _) = Wal::open(Arc::new(gate.clone()), STORE, Lsn(0), &mut |_| {}).unwrap();
    gate.set(GateState::Closed);
    let record = vec![7; 1024 * 1024];
    let mut records = 0;
    while wal.has_room(record.len()) {
        append(&wal, &record);
        records += 1;
    }
    assert_eq!((records, wal.waiting_bytes()), (64, WAITING_BYTES_MAX));
    assert!(wal.has_room(0) && !wal.has_room(1));
    append(&wal, b"1");
    assert!(matches!(wal.append(|out| out.push(1)), Err(WalError::Busy)));
    gate.set(GateState::Open);
    wal.durable_blocking(Lsn(65)).unwrap();
    wait_for("room", || wal.waiting_bytes() == 0);
    assert!(wal.has_room(WAITING_BYTES_MAX) && !wal.has_room(WAITING_BYTES_MAX + 1));
    drop(wal);
    let (_, recovered, shown) = open(&gate.disk).unwrap();
    assert!(shown.len() == 65 && recovered.damage.is_empty());
}

#[test]
fn a_record_that_is_refused_leaves_nothing() {
    let disk = SimDisk::new(1);
    let (wal, ..) = open(&disk).unwrap();
    let large = |out: &mut Vec<u8>| out.resize(out.len() + RECORD_BYTES_MAX + 1, 0);
    let panics = |out: &mut Vec<u8>| {
        out.extend(b"half of a rec");
        panic!("on purpose");
    };
    let mut appended = Vec::new();
    for _ in 0..3 {
        assert!(matches!(wal.append(large), Err(WalError::TooLarge(_))));
        assert!(catch_unwind(AssertUnwindSafe(|| wal.append(panics))).is_err());
        appended.push(append(&wal, b"good"));
    }
    let largest = vec![1; RECORD_BYTES_MAX];
    appended.push(append(&wal, &largest));
    drop(wal);
    assert!(open(&disk).unwrap().2 == appended);
}

#[test]
fn other_stores_and_later_formats_are_refused() {
    let disk = SimDisk::new(1);
    let (wal, ..) = open(&disk).unwrap();
    append(&wal, b"record");
    drop(wal);
    let other = Wal::open(Arc::new(disk.clone()), [0; 16], Lsn(0), &mut |_| {});
    assert!(matches!(other, Err(OpenError::OtherStore { file }) if file.ends_with("001")));
    disk.rot("wal-0000000000000001", |bytes| {
        let mut frame = bytes[..format::FILE_START_BYTES].to_vec();
        frame[fleet_core::frames::HEADER_BYTES + 1] = 2;
        fleet_core::frames::seal(&mut frame);
        bytes[..format::FILE_START_BYTES].copy_from_slice(&frame);
    });
    let before = disk.contents("wal-0000000000000001");
    assert!(matches!(open(&disk), Err(OpenError::Newer { version: 2, known: 1, .. })));
    assert_eq!(disk.contents("wal-0000000000000001"), before);
}

#[test]
fn files_of_others_are_left_alone() {
    let disk = SimDisk::new(1);
    let others =
        ["segment-1", "wal-", "wal-00000000000000001", "wal-000000000000000A", "wal-x.new"];
    for name in others {
        disk.create(name).unwrap();
    }
    disk.create("wal-0000000000000007.new").unwrap();
    let (_wal, recovered, _) = open(&disk).unwrap();
    assert_eq!((recovered.files, names(&disk).len()), (0, others.len()));
}

#[test]
fn bytes_of_a_file_are_these() {
    let disk = SimDisk::new(1);
    let gate = Gate::new(disk.clone());
    gate.set(GateState::Closed);
    let (wal, _) = Wal::open(Arc::new(gate.clone()), STORE, Lsn(0), &mut |_| {}).unwrap();
    append(&wal, b"one");
    wait_for("the thread to take the first", || disk.steps() > 0);
    append(&wal, b"");
    append(&wal, &[9; 0x80]);
    gate.set(GateState::Open);
    drop(wal);
    let mut start = vec![0, 1];
    start.extend(STORE);
    start.extend([1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0]);
    let mut expected = Vec::new();
    let one = [1, 1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 3, b'o', b'n', b'e'];
    let mut two = vec![1, 2, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0x80, 0x01];
    two.extend([9; 0x80]);
    for payload in [&start[..], &one, &two] {
        fleet_core::frames::put(&mut expected, |out| out.extend(payload));
    }
    assert_eq!(disk.contents("wal-0000000000000001").unwrap(), expected);
}

#[test]
fn a_thousand_wait_at_once() {
    let disk = SimDisk::new(1);
    let wal = Arc::new(open(&disk).unwrap().0);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
    let tasks: Vec<_> = (0..1_000)
        .map(|_| {
            let wal = Arc::clone(&wal);
            runtime.spawn(async move {
                for _ in 0..20 {
                    let lsn = wal.append(|out| out.extend([1; 60])).unwrap();
                    wal.durable(lsn).await.unwrap();
                    assert!(wal.durable_to() >= lsn);
                }
            })
        })
        .collect();
    runtime.block_on(async {
        for task in tasks {
            task.await.unwrap();
        }
    });
    assert_eq!(wal.durable_to(), Lsn(20_000));
}
