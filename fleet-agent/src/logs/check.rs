//! What must hold of lines of logs, whatever `journalctl` writes: for tests, and for the fuzzer.

use fleet_core::limits::LOG_LINE_BYTES_MAX;
use fleet_core::wire::CUT_MARK;

use super::entry::{ENTRY_BYTES_MAX, Entry, Lines};

/// The door of the fuzz target `journald`: the first byte says into what pieces the rest is cut. Lines
/// are the same wherever they are cut; each is an entry or none, and an entry's lines have an end.
pub(crate) fn any_bytes(bytes: &[u8]) {
    let [cut, rest @ ..] = bytes else { return };
    let mut lines = Lines::default();
    let mut found = Vec::new();
    for piece in rest.chunks(usize::from(*cut) + 1) {
        lines.feed(piece, |line| found.push(line.map(<[u8]>::to_vec)));
    }
    let whole = rest.split(|byte| *byte == b'\n').map(<[u8]>::to_vec);
    let mut whole: Vec<_> =
        whole.map(|line| Some(line).filter(|line| line.len() <= ENTRY_BYTES_MAX)).collect();
    // What comes behind the last end of a line is not whole yet.
    whole.pop();
    assert_eq!(found, whole, "lines as they are");
    let unit = "nginx".parse().expect("a name");
    for entry in found.iter().flatten().filter_map(|line| Entry::read(line)) {
        let (lines, _) = entry.lines(&unit);
        assert!(!lines.is_empty(), "an entry is a line at least");
        for line in lines {
            assert!(line.text.len() <= LOG_LINE_BYTES_MAX + CUT_MARK.len(), "it has an end");
            assert!(!line.text.contains('\n') && !line.unit.is_empty(), "it is one line of a unit");
        }
    }
}
