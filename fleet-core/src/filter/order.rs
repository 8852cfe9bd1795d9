//! Which device comes first.

use std::cmp::Ordering;

use super::{Subject, pattern, tags, version};
use crate::api::DeviceStatus;
use crate::field::{Field, Kind, SortKey};

/// Which of two devices comes first under a sort key. Those without a value come last whatever the
/// direction; those that are equal are sorted by id.
///
/// `status` has problems first; an age has the most recent first, and `-last_seen` who was silent
/// for the longest time.
pub fn compare(key: SortKey, a: &dyn Subject, b: &dyn Subject) -> Ordering {
    let field = key.field;
    let by_text = |order: fn(&str, &str) -> Ordering| {
        placed(key, a.text(field), b.text(field), |a, b| order(a, b))
    };
    let order = match field.spec().kind {
        Kind::Status => placed(key, Some(urgency(a.status())), Some(urgency(b.status())), Ord::cmp),
        Kind::Percent | Kind::Celsius => {
            placed(key, a.number(field), b.number(field), f64::total_cmp)
        }
        // What is longer ago is more.
        Kind::Age => placed(key, a.time(field), b.time(field), |a, b| b.cmp(a)),
        Kind::Version => by_text(version::order),
        Kind::Words => by_tags(key, a, b),
        Kind::Text => by_text(pattern::order),
    };
    order.then_with(|| a.text(Field::Device).cmp(&b.text(Field::Device)))
}

/// How soon somebody should look at a device: the least first.
pub fn urgency(status: DeviceStatus) -> u8 {
    match status {
        DeviceStatus::Lost => 0,
        DeviceStatus::Offline => 1,
        DeviceStatus::Late => 2,
        DeviceStatus::Pending => 3,
        // Whatever it is, it is not simply online.
        DeviceStatus::Later(_) => 4,
        DeviceStatus::Online => 5,
        DeviceStatus::Rejected => 6,
        DeviceStatus::Revoked => 7,
    }
}

/// Tags one after the other. Metadata as a whole has no order.
fn by_tags(key: SortKey, a: &dyn Subject, b: &dyn Subject) -> Ordering {
    if key.field != Field::Tags {
        return Ordering::Equal;
    }
    let (a, b) = (tags(a.metadata("tags")), tags(b.metadata("tags")));
    let is_there = |first: Option<&str>| first.map(|_| ());
    let (has_a, has_b) = (is_there(a.clone().next()), is_there(b.clone().next()));
    placed(key, has_a, has_b, |(), ()| each(a, b))
}

fn each<'a>(
    mut a: impl Iterator<Item = &'a str>,
    mut b: impl Iterator<Item = &'a str>,
) -> Ordering {
    loop {
        match (a.next(), b.next()) {
            (None, None) => return Ordering::Equal,
            (None, Some(_)) => return Ordering::Less,
            (Some(_), None) => return Ordering::Greater,
            (Some(a), Some(b)) => match pattern::order(a, b) {
                Ordering::Equal => {}
                decided => return decided,
            },
        }
    }
}

/// What is there before what is not, and among the former as the key says.
fn placed<T>(
    key: SortKey,
    a: Option<T>,
    b: Option<T>,
    order: impl FnOnce(&T, &T) -> Ordering,
) -> Ordering {
    match (a, b) {
        (Some(a), Some(b)) if key.is_descending => order(&a, &b).reverse(),
        (Some(a), Some(b)) => order(&a, &b),
        (Some(_), None) => Ordering::Less,
        (None, Some(_)) => Ordering::Greater,
        (None, None) => Ordering::Equal,
    }
}
