//! What the fuzz target `revoked` and tests check of a list.

use super::{Contents, List};

/// The door of the fuzz target `revoked`: any bytes are no list, or one that is read as itself again.
pub(crate) fn list_of_any_bytes(bytes: &[u8]) {
    let Ok(Contents { list, end, damage, .. }) = List::read(bytes) else { return };
    assert!(end <= bytes.len() && damage.is_none_or(|damage| damage.at < bytes.len()));
    // A first frame that is damaged is none, and so whose the list is is not known.
    if list.server.is_some() && list.group < u64::MAX / 2 {
        let (written, group) = list.encode().expect("what was read is small enough");
        let again = List::read(&written).expect("what was written is read");
        assert_eq!((again.end, again.damage), (written.len(), None));
        assert_eq!(again.list, List { group, ..list });
    }
}
