//! The journal against a disk that loses, tears, fails and rots.

use fleet_core::disk::sim::{Dice, Fault, SimDisk};

use super::*;

const DAY: i64 = 24 * 3600 * 1000;
const NOW: i64 = 1_800_000_000_000;
/// What a disk may do wrong once.
const FAULTS: [Fault; 5] =
    [Fault::Write, Fault::ShortWrite, Fault::Sync, Fault::Name, Fault::Power];

fn opened(disk: &SimDisk) -> io::Result<Journal> {
    Journal::open(Arc::new(disk.clone()), NOW)
}

/// A number as servers give them, of this time.
fn id(number: u64, made: i64) -> CommandId {
    let mut id = [0; 16];
    id[..6].copy_from_slice(&made.to_be_bytes()[2..]);
    id[6] = 0x70;
    id[8..].copy_from_slice(&number.to_be_bytes());
    id
}

fn about(number: u64) -> About {
    let server = "FD1-AAAA-AAAA-AAAA-AAAA".to_owned();
    About { id: id(number, NOW), server, came_millis: Some(NOW), expires_millis: NOW + DAY }
}

fn words() -> Words {
    let args = vec!["x".to_owned(); 3];
    Words {
        word: "exec".to_owned(),
        args,
        timeout_millis: 9,
        taken_millis: NOW,
        late_millis: NOW + DAY,
    }
}

fn begun() -> Begun {
    Begun { run: [3; 16], boot: Some([4; 16]), up_millis: 5, attempt: 1 }
}

fn result(output: usize) -> CommandResult {
    CommandResult {
        outcome: Outcome::Succeeded,
        detail: "ended with code 0".to_owned(),
        exit_code: Some(0),
        output: vec![b'x'; output],
        left_out_bytes: 0,
    }
}

/// How far a command has come: 0 for one that is not known, then by each step.
fn step(journal: &Journal, number: u64) -> u8 {
    match journal.entry(&id(number, NOW)).map(|entry| &entry.stage) {
        None => 0,
        Some(Stage::Accepted) => 1,
        Some(Stage::Running(_)) => 2,
        Some(Stage::Done(over)) => 3 + u8::from(over.noted),
    }
}

/// Whether nobody knows what became of a command, since rows were lost.
fn is_unknown(journal: &Journal, number: u64) -> bool {
    let stage = journal.entry(&id(number, NOW)).map(|entry| &entry.stage);
    matches!(stage, Some(Stage::Done(over)) if over.result.detail == LOST)
}

fn advance(journal: &mut Journal, number: u64) -> io::Result<()> {
    let about = about(number);
    match step(journal, number) {
        0 => journal.accept(about, words()),
        1 => journal.begin(about, begun(), NOW),
        2 => journal.finish(about, result(10), NOW),
        _ => journal.note(about.id, NOW),
    }
}

/// Takes commands through all of their steps and through errors of the disk, one of which cuts the
/// power. Says which of what was promised is not there afterwards.
fn live(seed: u64, fault: Fault, after: u64, lies: bool) -> Option<String> {
    let mut dice = Dice::new(seed);
    let mut disk = SimDisk::new(seed);
    disk.lie(lies);
    let mut promised = [0; 4];
    for life in 0..3 {
        let mut journal = opened(&disk).ok()?;
        for (number, promised) in promised.iter_mut().enumerate() {
            let found = step(&journal, number as u64);
            if found < *promised || found > *promised + 1 && !is_unknown(&journal, number as u64) {
                return Some(format!("life {life}: {number} was at {promised}, is at {found}"));
            }
            *promised = found;
        }
        let fault = if life == 0 { fault } else { FAULTS[dice.below(FAULTS.len())] };
        disk.fail(fault, if life == 0 { after } else { dice.below(20) as u64 });
        for _ in 0..10 {
            let number = dice.below(promised.len());
            let before = step(&journal, number as u64);
            if before == 4 {
                continue;
            }
            match advance(&mut journal, number as u64) {
                Ok(()) => promised[number] = before + 1,
                // What failed was not done, as far as anybody is told.
                Err(_) => assert_eq!(step(&journal, number as u64), before),
            }
        }
        disk = disk.power_cut();
    }
    None
}

#[test]
fn what_was_promised_is_there_after_power_cuts_and_errors() {
    for seed in 0..60 {
        for fault in FAULTS {
            for after in 0..24 {
                assert_eq!(live(seed, fault, after, false), None, "{seed} {fault:?} {after}");
            }
        }
    }
}

#[test]
fn a_disk_that_lies_about_syncing_is_found_out() {
    let lost = (0..60).find_map(|seed| live(seed, Fault::Write, 1_000, true));
    assert!(lost.is_some());
}

#[test]
fn what_was_being_written_when_the_power_went_is_dropped() {
    for cut in 1..40 {
        let disk = SimDisk::new(1);
        let mut journal = opened(&disk).unwrap();
        advance(&mut journal, 1).unwrap();
        let whole = disk.contents(FILE).unwrap().len();
        advance(&mut journal, 1).unwrap();
        disk.rot(FILE, |bytes| bytes.truncate(whole + cut));
        let mut journal = opened(&disk).unwrap();
        assert_eq!(step(&journal, 1), 1, "what was not relied on did not happen");
        assert_eq!(disk.contents(FILE).unwrap().len(), whole);
        assert!(!journal.may_have_had(&about(2), NOW).unwrap());
        advance(&mut journal, 1).unwrap();
        assert_eq!(step(&opened(&disk).unwrap(), 1), 2);
    }
}

#[test]
fn no_flipped_bit_makes_a_command_look_as_if_it_were_not_begun() {
    for steps in [&[1, 1, 2, 3, 3, 3][..], &[2, 1, 1], &[1, 2]] {
        let disk = SimDisk::new(1);
        let mut journal = opened(&disk).unwrap();
        for number in steps {
            advance(&mut journal, *number).unwrap();
        }
        let bytes = disk.contents(FILE).unwrap();
        for bit in 0..bytes.len() * 8 {
            disk.rot(FILE, |file| {
                file.clone_from(&bytes);
                file[bit / 8] ^= 1 << (bit % 8);
            });
            let mut after = opened(&disk).unwrap();
            for number in [1, 2, 3] {
                let (was, is) = (step(&journal, number), step(&after, number));
                // What nobody knows any more is not taken for new either.
                let is_safe = match is {
                    0 => was == 0 || after.may_have_had(&about(number), NOW).unwrap(),
                    1 => was == 1,
                    _ => true,
                };
                assert!(is_safe, "{steps:?}, bit {bit}: {number} was at {was}, is at {is}");
            }
        }
    }
}

#[test]
fn after_a_loss_only_what_was_made_later_is_new() {
    let disk = SimDisk::new(1);
    let mut journal = opened(&disk).unwrap();
    advance(&mut journal, 1).unwrap();
    advance(&mut journal, 2).unwrap();
    disk.rot(FILE, |bytes| bytes[20] ^= 1);
    let mut journal = opened(&disk).unwrap();
    let Some(Stage::Done(over)) = journal.entry(&id(2, NOW)).map(|e| e.stage.clone()) else {
        panic!("it might be done a second time")
    };
    assert_eq!((over.result.outcome, over.result.detail.as_str()), (Outcome::Unknown, LOST));

    let order = |made: i64, came: i64, expires: i64| About {
        id: id(9, made),
        came_millis: Some(came),
        expires_millis: expires,
        ..about(0)
    };
    let taken_back = About { came_millis: None, ..about(9) };
    assert!(journal.may_have_had(&taken_back, NOW).unwrap());
    assert!(journal.may_have_had(&order(NOW + 5, NOW + 10, NOW + DAY), NOW).unwrap());
    // From here on it is known what the time was, also after a restart.
    let mut journal = opened(&disk).unwrap();
    for (order, may_be_lost) in [
        (order(NOW + 10, NOW + 11, NOW + DAY), true),
        (order(NOW + 11, NOW + 12, NOW + DAY), false),
        (order(0, NOW + 12, NOW + DAY), true),
        (order(0, NOW + 12, NOW + 7 * DAY + 11), false),
        (order(0, NOW + 7 * DAY + 11, NOW + 7 * DAY + 20), false),
        // By now there is nothing that could come again.
        (order(0, NOW + 12, NOW + DAY), false),
    ] {
        let found = journal.may_have_had(&order, NOW).unwrap();
        assert_eq!(found, may_be_lost, "{order:?}");
    }
}

#[test]
fn the_file_stays_small_and_keeps_what_the_server_does_not_have() {
    let disk = SimDisk::new(1);
    let mut journal = opened(&disk).unwrap();
    let mut largest = 0;
    for number in 0..200 {
        journal.accept(about(number), words()).unwrap();
        journal.begin(about(number), begun(), NOW).unwrap();
        journal.finish(about(number), result(64 * 1024), NOW).unwrap();
        if number % 100 != 7 {
            journal.note(id(number, NOW), NOW).unwrap();
        }
        largest = largest.max(disk.contents(FILE).unwrap().len());
    }
    assert!(largest < 1024 * 1024, "{largest}");
    let journal = opened(&disk).unwrap();
    let bytes = disk.contents(FILE).unwrap().len();
    assert!(bytes < 200 * 1024, "{bytes}");
    assert_eq!((journal.entries().len(), journal.live()), (200, 2));
    for (number, output, left_out) in [(7, 64 * 1024, 0), (8, 0, 64 * 1024)] {
        let Stage::Done(over) = &journal.entry(&id(number, NOW)).unwrap().stage else { panic!() };
        assert_eq!((over.result.output.len(), over.result.left_out_bytes), (output, left_out));
        assert_eq!(over.result.detail, "ended with code 0");
    }
}

/// Whether a command that was over at `NOW` is remembered at a time of each clock.
fn is_kept(is_noted: bool, wall: i64, server: i64) -> bool {
    let disk = SimDisk::new(1);
    let mut journal = opened(&disk).unwrap();
    for _ in 0..3 + u8::from(is_noted) {
        advance(&mut journal, 1).unwrap();
    }
    let newest = About { came_millis: Some(server), ..about(2) };
    journal.accept(newest, words()).unwrap();
    let journal = Journal::open(Arc::new(disk), wall).unwrap();
    step(&journal, 1) > 0
}

#[test]
fn no_clock_alone_makes_it_forget() {
    let long = NOW + 17 * DAY;
    assert!(!is_kept(true, long, long));
    for (is_noted, wall, server) in [
        // Not long enough.
        (true, NOW + 13 * DAY, long),
        (true, long, NOW + 15 * DAY),
        // The device's clock was set forwards, or the server's.
        (true, NOW + 9_000 * DAY, NOW),
        (true, NOW + 1, NOW + 9_000 * DAY),
        // Both were set back.
        (true, 0, NOW - DAY),
        // The server does not have the result.
        (false, long, long),
    ] {
        assert!(is_kept(is_noted, wall, server), "{is_noted} {wall} {server}");
    }
    // A clock that was wrong when the command ended does not keep it for ever.
    assert!(!is_kept(true, 0, long));
}

#[test]
fn when_it_is_full_nothing_is_forgotten_early() {
    let disk = SimDisk::new(1);
    let mut journal = opened(&disk).unwrap();
    for number in 0..ENTRIES_MAX as u64 {
        assert!(journal.has_room(NOW));
        // As the rows of a file, whose syncing would take a test too long.
        journal.book.take(Row::Accepted { about: about(number), words: words() });
        let over = Over { at_millis: NOW, result: result(0), noted: true };
        journal.book.take(Row::Done { about: about(number), over });
    }
    assert!(!journal.has_room(NOW + 13 * DAY));
    assert_eq!(journal.entries().len(), ENTRIES_MAX);
    let newest = About { came_millis: Some(NOW + 17 * DAY), ..about(ENTRIES_MAX as u64) };
    journal.accept(newest, Words { taken_millis: NOW + 17 * DAY, ..words() }).unwrap();
    assert!(journal.has_room(NOW + 17 * DAY));
    let journal = Journal::open(Arc::new(disk), NOW + 17 * DAY).unwrap();
    assert_eq!(journal.entries().len(), 1);
}

#[test]
fn a_disk_without_room_takes_no_step_until_it_has_some() {
    let disk = SimDisk::new(1);
    let mut journal = opened(&disk).unwrap();
    advance(&mut journal, 1).unwrap();
    disk.limit(Some(disk.contents(FILE).unwrap().len() + 10));
    for _ in 0..3 {
        assert!(advance(&mut journal, 1).is_err());
        assert_eq!(step(&journal, 1), 1);
    }
    disk.limit(None);
    advance(&mut journal, 1).unwrap();
    let disk = disk.power_cut();
    assert_eq!(step(&opened(&disk).unwrap(), 1), 2);
}

#[test]
fn what_was_for_another_server_is_gone_for_good() {
    let disk = SimDisk::new(1);
    disk.create("notes.txt").unwrap();
    disk.sync().unwrap();
    let mut journal = opened(&disk).unwrap();
    advance(&mut journal, 1).unwrap();
    journal.clear().unwrap();
    assert_eq!(journal.entries().len(), 0);
    let disk = disk.power_cut();
    assert_eq!(disk.names().unwrap(), ["notes.txt"]);
    let mut journal = opened(&disk).unwrap();
    advance(&mut journal, 2).unwrap();
    assert_eq!((step(&journal, 1), step(&journal, 2)), (0, 1));

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(FOLDER);
    assert!(!erase(&path).unwrap());
    let mut journal = Journal::open(Arc::new(Folder::open(&path).unwrap()), NOW).unwrap();
    advance(&mut journal, 1).unwrap();
    assert!(erase(&path).unwrap() && !erase(&path).unwrap());
}
