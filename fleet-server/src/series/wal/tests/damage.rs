//! What the log makes of files that are not what was written.

use fleet_core::disk::Disk as _;
use fleet_core::disk::sim::{Dice, SimDisk};

use super::super::check::{Shown, is_there_or_named};
use super::super::*;
use super::kit::{append, names, open, open_at};

/// A log of three files with four frames of two records each: 1 to 8, 9 to 16, 17 to 24.
fn log() -> (SimDisk, Vec<Shown>) {
    let disk = SimDisk::new(1);
    let (wal, ..) = open(&disk).unwrap();
    let mut appended = Vec::new();
    for record in 1..=24_u8 {
        appended.push(append(&wal, &[record; 30]));
        if record % 2 == 0 {
            // Records of one frame lie in it by themselves only if the thread takes both at once.
            wal.durable_blocking(wal.next().before()).unwrap();
        }
        if record % 8 == 0 {
            wal.begin_file();
        }
    }
    drop(wal);
    (disk, appended)
}

fn file(number: usize) -> String {
    format::file_name(Lsn(1 + 8 * number as u64))
}

/// Where the frames of a file begin, and its length.
fn frames(disk: &SimDisk, name: &str) -> Vec<usize> {
    let bytes = disk.contents(name).unwrap();
    let mut frames: Vec<_> = fleet_core::frames::read(&bytes)
        .map(|found| match found {
            fleet_core::frames::Found::Frame { at, .. } => at,
            other => panic!("{other:?}"),
        })
        .collect();
    frames.push(bytes.len());
    frames
}

fn numbers(shown: &[Shown]) -> Vec<u64> {
    shown.iter().map(|(lsn, _)| *lsn).collect()
}

fn damage(file: &str, range: std::ops::Range<usize>, lost: Option<std::ops::Range<u64>>) -> Damage {
    let lost = lost.map(|lost| Lsn(lost.start)..Lsn(lost.end));
    Damage { file: file.to_owned(), at: range.start as u64, bytes: range.len() as u64, lost }
}

#[test]
fn a_destroyed_frame_costs_its_records_and_is_named() {
    let (disk, appended) = log();
    let frames = frames(&disk, &file(0));
    let frame = frames[1]..frames[2];
    disk.rot(&file(0), |bytes| bytes[frame.start + 20] ^= 1);
    let (wal, recovered, shown) = open(&disk).unwrap();
    let lost = shown[0].0;
    assert!(lost == 2 || lost == 3, "the first frame has one record or two");
    assert_eq!(recovered.damage, [damage(&file(0), frame, Some(1..lost))]);
    assert_eq!(shown, appended[lost as usize - 1..]);
    drop(wal);
    let (_wal, again, _) = open(&disk.power_cut()).unwrap();
    assert_eq!(again.damage, recovered.damage, "it stays, and so does the rest of its file");
}

#[test]
fn a_torn_end_is_damage_unless_it_is_the_end_of_all() {
    let (disk, appended) = log();
    let (end, start) = (frames(&disk, &file(2)), file(2));
    let last = end[end.len() - 2];
    disk.rot(&start, |bytes| bytes.truncate(last + 15));
    let (wal, recovered, shown) = open(&disk).unwrap();
    assert_eq!(recovered.torn, Some(damage(&start, last..last + 15, None)));
    assert!(recovered.damage.is_empty() && appended.starts_with(&shown));
    assert_eq!(disk.contents(&start).unwrap().len(), last);
    assert_eq!(recovered.next, Lsn(shown.len() as u64 + 1));
    drop(wal);

    let end = frames(&disk, &file(1));
    let last = end[end.len() - 2];
    disk.rot(&file(1), |bytes| bytes.truncate(last + 15));
    let (_wal, recovered, shown) = open(&disk).unwrap();
    let before: Vec<_> = numbers(&shown).into_iter().filter(|lsn| *lsn < 17).collect();
    let next = before.last().unwrap() + 1;
    assert_eq!(recovered.damage, [damage(&file(1), last..last + 15, Some(next..17))]);
    assert_eq!(recovered.torn, None);
    assert_eq!(disk.contents(&file(1)).unwrap().len(), last + 15, "it is left as it is");
}

#[test]
fn room_at_the_end_hides_nothing() {
    let (disk, appended) = log();
    disk.rot(&file(1), |bytes| bytes.extend([0; 10_000]));
    let (wal, recovered, shown) = open(&disk).unwrap();
    assert_eq!((recovered.damage, recovered.torn, shown), (vec![], None, appended));
    drop(wal);
    let end = frames(&disk, &file(0));
    let last = end[end.len() - 2];
    disk.rot(&file(0), |bytes| bytes[last..].fill(0));
    let (_wal, recovered, shown) = open(&disk).unwrap();
    let next = numbers(&shown).into_iter().rfind(|lsn| *lsn < 9).unwrap() + 1;
    assert_eq!(recovered.damage, [damage(&file(1), 0..0, Some(next..9))]);
}

#[test]
fn missing_files_are_named() {
    let (disk, appended) = log();
    disk.remove(&file(1)).unwrap();
    let (_wal, recovered, shown) = open(&disk).unwrap();
    assert_eq!(recovered.damage, [damage(&file(2), 0..0, Some(9..17))]);
    assert_eq!(shown, [&appended[..8], &appended[16..]].concat());
}

#[test]
fn a_file_without_its_start_is_read_all_the_same() {
    for cut in [0..1, 0..format::FILE_START_BYTES] {
        let (disk, appended) = log();
        disk.rot(&file(1), |bytes| drop(bytes.drain(cut.clone())));
        let (_wal, recovered, shown) = open(&disk).unwrap();
        let bytes = format::FILE_START_BYTES - cut.len();
        assert_eq!(recovered.damage, [damage(&file(1), 0..bytes, Some(9..9))]);
        assert_eq!(shown, appended);
    }
}

#[test]
fn an_empty_file_is_damage() {
    let (disk, appended) = log();
    disk.rot(&file(1), Vec::clear);
    let (wal, recovered, shown) = open(&disk).unwrap();
    assert_eq!(recovered.damage, [damage(&file(1), 0..0, Some(9..17))]);
    assert_eq!(shown, [&appended[..8], &appended[16..]].concat());
    drop(wal);
    disk.rot(&file(2), Vec::clear);
    let (wal, recovered, shown) = open_at(&disk, Lsn(25)).unwrap();
    let damages = [damage(&file(1), 0..0, Some(9..17)), damage(&file(2), 0..0, None)];
    assert_eq!((&recovered.damage[..], shown.as_slice()), (&damages[..], &appended[..8]));
    assert_eq!(wal.next(), Lsn(25));
    append(&wal, b"record");
    drop(wal);
    let (_wal, recovered, _) = open(&disk).unwrap();
    assert_eq!(recovered.damage.last(), damages.last(), "nobody knows what was in it");
}

#[test]
fn a_file_under_another_ones_name_shows_nothing_twice() {
    let (disk, appended) = log();
    let first = disk.contents(&file(0)).unwrap();
    disk.rot(&file(1), |bytes| *bytes = first);
    let (_wal, recovered, shown) = open(&disk).unwrap();
    assert_eq!(shown, [&appended[..8], &appended[16..]].concat());
    assert!(recovered.damage.iter().all(|damage| damage.lost.is_some()));
    let lost: u64 = recovered
        .damage
        .iter()
        .filter_map(|damage| damage.lost.as_ref())
        .map(|lost| lost.end.0 - lost.start.0)
        .sum();
    assert_eq!(lost, 8);
}

#[test]
fn a_frame_that_is_not_what_it_says_is_damage() {
    let put = |payload: &[u8]| {
        let (disk, appended) = log();
        let mut frame = Vec::new();
        fleet_core::frames::put(&mut frame, |out| out.extend(payload));
        disk.rot(&file(2), |bytes| bytes.extend(frame));
        let (_wal, recovered, shown) = open(&disk).unwrap();
        assert_eq!(recovered.damage.len(), 1, "{:?}", recovered.damage);
        assert!(shown.starts_with(&appended));
        (recovered.damage[0].lost.clone(), numbers(&shown[24..]))
    };
    let group = |first: u8, count: u8, records: &[u8]| {
        [&[1, first, 0, 0, 0, 0, 0, 0, 0, count, 0, 0, 0][..], records].concat()
    };
    let range = |lost: std::ops::Range<u64>| Some(Lsn(lost.start)..Lsn(lost.end));
    assert_eq!(put(&[]), (None, vec![]));
    assert_eq!(put(&[7, 7, 7]), (None, vec![]));
    assert_eq!(put(&group(25, 2, &[1, 0])), (range(26..27), vec![25]), "too few records");
    assert_eq!(put(&group(25, 1, &[1, 0, 1, 0])), (range(26..26), vec![25]), "too many");
    assert_eq!(put(&group(25, 1, &[9, 0])), (range(25..26), vec![]), "a record without its end");
    assert_eq!(put(&group(25, 1, &[0xFF; 12])), (range(25..26), vec![]), "no length");
    assert_eq!(put(&group(24, 2, &[0, 0])), (range(26..26), vec![25]), "one that came before");
    assert_eq!(put(&group(27, 1, &[0])), (range(25..27), vec![27]), "numbers are missing");
    let endless = [&[1][..], &[0xFF; 8], &[2, 0, 0, 0, 0, 0]].concat();
    assert_eq!(put(&endless), (None, vec![]), "numbers that no log comes to");
}

#[test]
fn damaged_files_are_kept_when_they_are_released_but_not_all() {
    let disk = SimDisk::new(1);
    for _ in 0..8 {
        let (wal, ..) = open(&disk).unwrap();
        append(&wal, &[1; 30]);
    }
    let all = names(&disk);
    for name in &all[..7] {
        disk.rot(name, |bytes| bytes.push(1));
    }
    let contents: Vec<_> = all.iter().map(|name| disk.contents(name).unwrap()).collect();
    let (wal, recovered, shown) = open(&disk).unwrap();
    assert_eq!((recovered.damage.len(), shown.len()), (7, 8));
    assert_eq!(names(&disk), all, "they are needed");
    wal.release(Lsn(8)).unwrap();
    let kept: Vec<_> = all[3..7].iter().map(|name| format!("{name}.damaged")).collect();
    assert_eq!(names(&disk), [&kept, &all[7..]].concat());
    for (name, contents) in kept.iter().zip(&contents[3..]) {
        assert_eq!(disk.contents(name).as_ref(), Some(contents));
    }
}

#[test]
fn a_damaged_file_makes_way_for_one_of_its_name() {
    let (disk, appended) = log();
    disk.rot(&file(2), |bytes| bytes.fill(7));
    let (wal, recovered, shown) = open(&disk).unwrap();
    assert_eq!((recovered.next, recovered.damage.len(), shown.len()), (Lsn(17), 1, 16));
    let new = append(&wal, b"new");
    drop(wal);
    let (wal, recovered, shown) = open(&disk.power_cut()).unwrap();
    assert_eq!((recovered.damage, &shown[..16], &shown[16]), (vec![], &appended[..16], &new));
    assert_eq!((wal.files(), names(&disk.power_cut()).len()), (3, 4));
}

#[test]
fn flipped_bits_are_noticed_and_never_make_a_record() {
    let mut dice = Dice::new(1);
    for _ in 0..400 {
        let (disk, appended) = log();
        let name = file(dice.below(3));
        for _ in 0..=dice.below(3) {
            disk.rot(&name, |bytes| {
                let at = dice.below(bytes.len());
                bytes[at] ^= 1 << dice.below(8);
            });
        }
        let (wal, recovered, shown) = open(&disk).unwrap();
        let unknown =
            recovered.torn.is_some() || recovered.damage.iter().any(|it| it.lost.is_none());
        assert!(unknown || !recovered.damage.is_empty(), "it is noticed");
        is_there_or_named(&appended, &recovered, &shown);
        // The log goes on with what is left.
        let mut expected = shown;
        expected.push(append(&wal, b"one more"));
        drop(wal);
        let (wal, again, shown) = open(&disk.power_cut()).unwrap();
        assert_eq!(shown, expected);
        assert!(again.damage.len() >= recovered.damage.len());
        wal.release(Lsn(100)).unwrap();
        assert!(wal.files() == 1);
    }
}
