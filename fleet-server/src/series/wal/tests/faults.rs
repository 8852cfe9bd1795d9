//! What the log says when the disk fails.

use std::sync::Arc;
use std::{io, thread};

use fleet_core::disk::sim::{Fault, SimDisk};

use super::super::*;
use super::kit::{Gate, GateState, STORE, append, open, wait_for};

fn failed(outcome: Result<impl Sized, WalError>) -> Arc<Failure> {
    match outcome {
        Err(WalError::Failed(failure)) => failure,
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("it did not fail"),
    }
}

#[test]
fn after_a_failure_everybody_is_told_and_nothing_is_taken_on() {
    for fault in [Fault::Write, Fault::ShortWrite, Fault::Sync] {
        let gate = Gate::new(SimDisk::new(1));
        let (wal, _) = Wal::open(Arc::new(gate.clone()), STORE, Lsn(0), &mut |_| {}).unwrap();
        let sure = append(&wal, b"sure");
        wal.durable_blocking(Lsn(1)).unwrap();
        gate.set(GateState::Closed);
        gate.disk.fail(fault, 0);
        let steps = gate.disk.steps();
        append(&wal, b"fails");
        thread::scope(|scope| {
            let waiters = [2, 3, 3].map(|lsn| {
                let wal = &wal;
                scope.spawn(move || failed(wal.durable_blocking(Lsn(lsn))))
            });
            wait_for("the thread to write", || {
                gate.disk.steps() > steps || wal.failure().is_some()
            });
            // Refused if the write failed already; else it waits in vain.
            drop(wal.append(|out| out.extend(b"waits")));
            gate.set(GateState::Open);
            for waiter in waiters {
                let message = Chain(&waiter.join().unwrap()).to_string();
                let doing = if fault == Fault::Sync { "syncing" } else { "writing" };
                assert!(message.starts_with(&format!("{doing} wal-0000000000000001 failed: ")));
            }
        });
        failed(wal.append(|out| out.push(1)));
        assert!(!wal.has_room(0) && wal.failure().is_some());
        wal.durable_blocking(Lsn(1)).unwrap();
        drop(wal);
        let (wal, recovered, shown) = open(&gate.disk).unwrap();
        assert_eq!((&shown[0], recovered.damage), (&sure, vec![]));
        assert!(shown.len() <= 2, "what the thread had not begun to write is not there");
        append(&wal, b"goes on");
        wal.durable_blocking(wal.next().before()).unwrap();
    }
}

#[test]
fn what_is_shown_after_a_failed_sync_is_durable() {
    for seed in 0..200 {
        let disk = SimDisk::new(seed);
        let (wal, ..) = open(&disk).unwrap();
        append(&wal, b"sure");
        wal.durable_blocking(Lsn(1)).unwrap();
        disk.fail(Fault::Sync, 0);
        append(&wal, &[7; 3_000]);
        failed(wal.durable_blocking(Lsn(2)));
        drop(wal);
        // The system's cache shows it, though the disk may not have it.
        let (wal, _, shown) = open(&disk).unwrap();
        assert_eq!(shown.len(), 2);
        drop(wal);
        assert_eq!(open(&disk.power_cut()).unwrap().2, shown);
    }
}

#[test]
fn a_full_disk_is_said_and_gone_on_with_once_there_is_room() {
    let disk = SimDisk::new(1);
    disk.limit(Some(2_000_000));
    let (mut wal, ..) = open(&disk).unwrap();
    let mut sure = 0;
    for _ in 0..5 {
        let failure = loop {
            let lsn = Lsn(append(&wal, &vec![1; 100_000]).0);
            wal.begin_file();
            match wal.durable_blocking(lsn) {
                Ok(()) => sure = lsn.0,
                outcome => break failed(outcome),
            }
        };
        let Failure::Disk { source, .. } = failure.as_ref() else { panic!("{failure}") };
        assert_eq!(source.kind(), io::ErrorKind::StorageFull);
        drop(wal);
        let shown;
        (wal, _, shown) = open(&disk).unwrap();
        assert!(shown.last().unwrap().0 >= sure);
        wal.release(Lsn(sure)).unwrap();
        assert!(wal.files() <= 2);
    }
}

#[test]
fn a_file_that_cannot_be_removed_is_tried_again() {
    let disk = SimDisk::new(1);
    let (wal, ..) = open(&disk).unwrap();
    for _ in 0..3 {
        append(&wal, b"record");
        wal.begin_file();
    }
    wal.durable_blocking(Lsn(3)).unwrap();
    disk.fail(Fault::Name, 0);
    let failure = wal.release(Lsn(3)).unwrap_err();
    assert!(Chain(&failure).to_string().starts_with("removing wal-0000000000000001 failed: "));
    assert!(wal.files() == 3 && wal.failure().is_none());
    wal.release(Lsn(3)).unwrap();
    assert_eq!(wal.files(), 1);
}

#[test]
fn opening_fails_if_the_disk_does_and_works_again_after() {
    let disk = SimDisk::new(1);
    let (wal, ..) = open(&disk).unwrap();
    let appended = append(&wal, b"record");
    drop(wal);
    for fault in [Fault::Write, Fault::ShortWrite, Fault::Sync] {
        disk.fail(fault, 0);
        assert!(matches!(open(&disk), Err(OpenError::Disk(_))));
        assert_eq!(open(&disk).unwrap().2, std::slice::from_ref(&appended));
    }
}

#[test]
fn nobody_waits_for_a_thread_that_panicked() {
    let gate = Gate::new(SimDisk::new(1));
    let (wal, _) = Wal::open(Arc::new(gate.clone()), STORE, Lsn(0), &mut |_| {}).unwrap();
    gate.set(GateState::Broken);
    append(&wal, b"record");
    let failure = failed(wal.durable_blocking(Lsn(1)));
    assert!(matches!(*failure, Failure::Ended));
    failed(wal.append(|out| out.push(1)));
}
