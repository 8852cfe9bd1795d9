//! A file's contents: what its readers see, and what a power cut may make of them.

use std::mem;

use super::{Dice, Fate};

/// What a device writes as a whole or not at all.
const SECTOR_BYTES: usize = 512;

/// The contents of a file.
#[derive(Default)]
pub(super) struct Contents {
    now: Vec<u8>,
    /// What a power cut may undo, oldest first.
    changes: Vec<Change>,
}

struct Change {
    fate: Fate,
    at: usize,
    /// What it covered or cut away.
    old: Vec<u8>,
    /// What it wrote; nothing if it only changed the length.
    new: Vec<u8>,
    bytes_before: usize,
    bytes_after: usize,
}

impl Contents {
    /// What readers see.
    pub(super) fn now(&self) -> &[u8] {
        &self.now
    }

    pub(super) fn write(&mut self, at: usize, bytes: &[u8]) {
        let bytes_before = self.now.len();
        let end = at + bytes.len();
        let old = self.now[at.min(bytes_before)..end.min(bytes_before)].to_vec();
        put(&mut self.now, at, bytes);
        let bytes_after = self.now.len();
        let new = bytes.to_vec();
        self.changes.push(Change { fate: Fate::Unsure, at, old, new, bytes_before, bytes_after });
    }

    pub(super) fn truncate(&mut self, at: usize) {
        let bytes_before = self.now.len();
        let old = self.now[at.min(bytes_before)..].to_vec();
        self.now.resize(at, 0);
        let new = Vec::new();
        self.changes.push(Change {
            fate: Fate::Unsure,
            at,
            old,
            new,
            bytes_before,
            bytes_after: at,
        });
    }

    pub(super) fn sync(&mut self, succeeds: bool) {
        Fate::settle(&mut self.changes, |change| &mut change.fate, succeeds);
    }

    /// Alters what is on the medium, unnoticed by anybody.
    pub(super) fn rot(&mut self, alter: impl FnOnce(&mut Vec<u8>)) {
        self.changes.clear();
        alter(&mut self.now);
    }

    /// What is left after a power cut.
    pub(super) fn cut(&mut self, dice: &mut Dice) {
        let changes = mem::take(&mut self.changes);
        for change in changes.iter().rev() {
            change.undo(&mut self.now);
        }
        let mood = Mood::pick(dice);
        let mut lengths = vec![self.now.len()];
        for change in &changes {
            if change.fate == Fate::Sure {
                lengths.clear();
                change.redo(&mut self.now, Part::Whole, dice);
            } else {
                change.redo(&mut self.now, mood.part(change.new.len(), dice), dice);
            }
            lengths.push(change.bytes_after);
        }
        let length = match mood {
            Mood::Nothing => 0,
            Mood::Everything => lengths.len() - 1,
            Mood::Anything => dice.below(lengths.len()),
        };
        self.now.resize(lengths[length], 0);
    }
}

impl Change {
    fn undo(&self, now: &mut Vec<u8>) {
        now.resize(self.bytes_before, 0);
        put(now, self.at, &self.old);
        now.truncate(self.bytes_before);
    }

    /// Does a part of it again. Lengths are another matter: a device may know the new one without
    /// the bytes, or have the bytes and not know it.
    fn redo(&self, now: &mut Vec<u8>, part: Part, dice: &mut Dice) {
        if self.new.is_empty() {
            if part == Part::Whole {
                now.truncate(self.at);
            }
            return;
        }
        match part {
            Part::None => {}
            Part::Whole => put(now, self.at, &self.new),
            Part::Start(bytes) => put(now, self.at, &self.new[..bytes]),
            Part::Sectors => {
                let mut from = 0;
                while from < self.new.len() {
                    let room = SECTOR_BYTES - (self.at + from) % SECTOR_BYTES;
                    let to = self.new.len().min(from + room);
                    if dice.one_in(2) {
                        put(now, self.at + from, &self.new[from..to]);
                    }
                    from = to;
                }
            }
        }
    }
}

/// How a power cut treats a file.
#[derive(Clone, Copy)]
enum Mood {
    Nothing,
    Everything,
    Anything,
}

impl Mood {
    fn pick(dice: &mut Dice) -> Self {
        match dice.below(5) {
            0 => Self::Nothing,
            1 => Self::Everything,
            _ => Self::Anything,
        }
    }

    /// What survives of a change with so many bytes.
    fn part(self, bytes: usize, dice: &mut Dice) -> Part {
        match self {
            Self::Nothing => Part::None,
            Self::Everything => Part::Whole,
            Self::Anything => match dice.below(4) {
                0 => Part::None,
                1 => Part::Whole,
                2 => Part::Start(dice.below(bytes + 1)),
                _ => Part::Sectors,
            },
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    None,
    Whole,
    Start(usize),
    Sectors,
}

/// Puts bytes at a place, with zeros before them if the end is before it.
fn put(contents: &mut Vec<u8>, at: usize, bytes: &[u8]) {
    if bytes.is_empty() {
        return;
    }
    let end = at + bytes.len();
    if contents.len() < end {
        contents.resize(at.max(contents.len()), 0);
        let over = contents.len() - at;
        contents[at..].copy_from_slice(&bytes[..over]);
        contents.extend_from_slice(&bytes[over..]);
    } else {
        contents[at..end].copy_from_slice(bytes);
    }
}
