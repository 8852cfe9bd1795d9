//! What must hold of a log, whatever became of its files: for tests, and for the fuzzer.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use fleet_core::disk::Disk as _;
use fleet_core::disk::sim::{Dice, SimDisk, image};

use super::format::{FileStart, Group};
use super::*;
use crate::series::names::Names;
use crate::series::record;

/// Whose logs they are.
pub(super) const STORE: [u8; 16] = *b"a store of tests";
/// What the fuzzer does to a log at most.
const DAMAGES_MAX: usize = 6;

/// A file's name and contents.
type File = (String, Vec<u8>);

/// A record as it was shown.
pub(super) type Shown = (u64, Vec<u8>);

/// The door of the fuzz target `wal`: files of any bytes, in which frames have the checksums that
/// belong to them. See [`image`].
pub(crate) fn forged(image: &[u8]) {
    let disk = image::mended(image);
    let lengths: BTreeMap<String, u64> = disk
        .names()
        .expect("a disk without faults")
        .into_iter()
        .map(|name| (name.clone(), disk.contents(&name).map_or(0, |bytes| bytes.len() as u64)))
        .collect();
    let Some((recovered, shown)) = read(&disk) else { return };
    assert!(shown.is_sorted_by(|one, next| one.0 < next.0), "in order, and once");
    assert!(shown.last().is_none_or(|(last, _)| *last < recovered.next.0));
    for damage in recovered.damage.iter().chain(&recovered.torn) {
        let place = lengths.get(&damage.file).map(|length| damage.at + damage.bytes <= *length);
        assert_eq!(place, Some(true), "{damage:?} is no place in the log");
        let is_lost = |lsn: u64| damage.lost.as_ref().is_some_and(|lost| lost.contains(&Lsn(lsn)));
        assert!(!shown.iter().any(|(lsn, _)| is_lost(*lsn)), "shown and lost: {damage:?}");
    }
    // What was shown is sure from then on.
    let (again, shown_again) = read(&disk.power_cut()).expect("it was read before");
    let kept = |recovered: &Recovered| (recovered.next, recovered.damage.clone());
    assert_eq!((kept(&again), shown_again, again.torn), (kept(&recovered), shown, None));
}

/// The door of the fuzz target `wal-damage`: files as they were written, of which the bytes decide
/// how they are damaged.
pub(crate) fn damaged(bytes: &[u8]) {
    static WRITTEN: OnceLock<(Vec<File>, Vec<Shown>)> = OnceLock::new();
    let (files, appended) = WRITTEN.get_or_init(written);
    let disk = SimDisk::new(0);
    let mut dice = Dice::loaded(bytes);
    let mut files = files.clone();
    for _ in 0..DAMAGES_MAX {
        if dice.is_loaded() {
            damage(&mut files, &mut dice);
        }
    }
    for (name, contents) in files {
        let file = disk.create(&name).expect("each has its own name");
        file.write_at(&contents, 0).and_then(|()| file.sync()).expect("a disk without faults");
    }
    disk.sync().expect("a disk without faults");
    let (recovered, shown) = read(&disk).expect("no damage makes a log of another store");
    is_there_or_named(appended, &recovered, &shown);
}

/// Writes seeds: a log of some records, with room at its end and torn; and damages.
#[cfg(test)]
pub(in crate::series) fn write_seeds(records: &[Vec<u8>]) -> std::io::Result<()> {
    use fleet_core::fuzz::write_seed;

    let disk = SimDisk::new(0);
    let mut next = Lsn::FIRST;
    for file in 0..2 {
        let first = next;
        let mut bytes = FileStart { store: STORE, first, follows: first }.frame();
        for _ in 0..2 {
            let mut group = Group::new(next, Vec::new());
            for record in records {
                group.push(|out| out.extend(record)).expect("it is small");
                next = next.after(1);
            }
            bytes.extend(group.seal(file * 16));
        }
        let name = format::file_name(first);
        disk.create(&name)?.write_at(&bytes, 0)?;
    }
    let whole = image::of(&disk);
    write_seed("wal", "whole", &whole)?;
    write_seed("wal", "torn", &whole[..whole.len() - 60])?;
    for (seed, name) in [(1, "some"), (2, "other")] {
        let mut dice = Dice::new(seed);
        let bytes: Vec<u8> = (0..60).map(|_| dice.number() as u8).collect();
        write_seed("wal-damage", name, &bytes)?;
    }
    Ok(())
}

/// Each record is there as it was, or its place is named, or it is missing at the end; and there is
/// no other.
pub(super) fn is_there_or_named(appended: &[Shown], recovered: &Recovered, shown: &[Shown]) {
    let shown: BTreeMap<_, _> = shown.iter().cloned().collect();
    let unknown = recovered.torn.is_some() || recovered.damage.iter().any(|it| it.lost.is_none());
    for (lsn, bytes) in appended {
        let mut lost = recovered.damage.iter().filter_map(|damage| damage.lost.as_ref());
        match shown.get(lsn) {
            Some(shown) => assert_eq!(shown, bytes),
            None => assert!(
                unknown
                    || Lsn(*lsn) >= recovered.next
                    || lost.any(|lost| lost.contains(&Lsn(*lsn))),
                "{lsn} is gone"
            ),
        }
    }
    assert!(shown.keys().all(|lsn| *lsn <= appended.len() as u64), "nobody appended this");
}

/// Reads a log, and all records as its owner does. Nothing if it says that it is not ours.
fn read(disk: &SimDisk) -> Option<(Recovered, Vec<Shown>)> {
    let (mut shown, mut starts) = (Vec::new(), 0);
    let (mut reader, names) = (record::Reader::default(), Names::default());
    let recovered = recover::recover(disk, STORE, &mut |entry| match entry {
        Entry::FileStart => {
            starts += 1;
            reader = record::Reader::default();
        }
        Entry::Record { lsn, bytes } => {
            let _ = reader.read(bytes, &names, |logged| {
                assert_eq!(logged.shape.series().len(), logged.numbers.len());
            });
            shown.push((lsn.0, bytes.to_vec()));
        }
    });
    match recovered {
        Ok((_, recovered)) => {
            assert_eq!((starts, shown.len() as u64), (recovered.files, recovered.records));
            Some((recovered, shown))
        }
        Err(OpenError::OtherStore { .. } | OpenError::Newer { .. }) => None,
        Err(error) => panic!("a disk without faults: {error}"),
    }
}

/// A log of three files with four frames of two records each, and its records.
fn written() -> (Vec<File>, Vec<Shown>) {
    let (mut files, mut appended) = (Vec::new(), Vec::new());
    let mut next = Lsn::FIRST;
    for _ in 0..3 {
        let mut bytes = FileStart { store: STORE, first: next, follows: next }.frame();
        let name = format::file_name(next);
        for _ in 0..4 {
            let mut group = Group::new(next, Vec::new());
            for _ in 0..2 {
                let record = vec![next.0 as u8; 30];
                group.push(|out| out.extend(&record)).expect("it is small");
                appended.push((next.0, record));
                next = next.after(1);
            }
            bytes.extend(group.seal(0));
        }
        files.push((name, bytes));
    }
    (files, appended)
}

/// What media, cuts of the power and people do to files.
fn damage(files: &mut Vec<File>, dice: &mut Dice) {
    if files.is_empty() {
        return;
    }
    let which = dice.below(files.len());
    let how = dice.below(7);
    let (at, length) = (dice.below(1 << 12), dice.below(1 << 8));
    if how == 0 {
        // Without the first files, a log is one whose first files were released.
        if which > 0 {
            files.remove(which);
        }
        return;
    }
    let from = files[dice.below(files.len())].1.clone();
    let bytes = &mut files[which].1;
    let at = at.min(bytes.len());
    let end = bytes.len().min(at + length);
    match how {
        1 => bytes.truncate(at),
        2 => bytes[at..end].fill(0),
        3 => bytes.extend(vec![0; length]),
        4 => drop(bytes.drain(at..end)),
        // What was meant for another place.
        5 => {
            for (to, from) in bytes[at..end].iter_mut().zip(from) {
                *to = from;
            }
        }
        _ if at < bytes.len() => bytes[at] ^= 1 << (length % 8),
        _ => {}
    }
}
