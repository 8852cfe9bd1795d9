//! How many devices there are of each status, and the one sentence that this comes to.

use std::collections::BTreeMap;

use fleet_core::api::DeviceStatus;
use fleet_core::glyph::Glyph;
use serde::Serialize;

use super::words::{count, counted};

/// What needs somebody, the most urgent first.
const TROUBLES: [DeviceStatus; 4] =
    [DeviceStatus::Offline, DeviceStatus::Lost, DeviceStatus::Late, DeviceStatus::Pending];
/// All there is, in the order in which counts are shown.
const SHOWN: [DeviceStatus; 7] = [
    DeviceStatus::Online,
    DeviceStatus::Late,
    DeviceStatus::Offline,
    DeviceStatus::Lost,
    DeviceStatus::Pending,
    DeviceStatus::Rejected,
    DeviceStatus::Revoked,
];

/// How many devices there are of each status.
#[derive(Clone, Debug, Default)]
pub(super) struct Counts(BTreeMap<DeviceStatus, usize>);

/// What `/` answers to programs.
#[derive(Debug, Serialize)]
pub(super) struct Summary {
    sentence: String,
    devices: usize,
    counts: BTreeMap<DeviceStatus, usize>,
}

/// A part of the sentence.
#[derive(Debug, PartialEq)]
pub(super) struct Part {
    pub(super) glyph: Option<Glyph>,
    pub(super) words: String,
}

impl Counts {
    /// Counts that are kept already.
    pub(super) fn kept(counts: &BTreeMap<DeviceStatus, u32>) -> Self {
        Self(counts.iter().map(|(status, number)| (*status, *number as usize)).collect())
    }

    /// How many have a status.
    pub(super) fn of_status(&self, status: DeviceStatus) -> usize {
        self.0.get(&status).copied().unwrap_or_default()
    }

    /// How many there are.
    pub(super) fn total(&self) -> usize {
        self.0.values().sum()
    }

    /// The statuses that there are, with how many have them.
    pub(super) fn shown(&self) -> impl Iterator<Item = (DeviceStatus, usize)> {
        SHOWN.into_iter().map(|status| (status, self.of_status(status))).filter(|(_, n)| *n > 0)
    }

    /// How the fleet is doing: the troubles, or that there are none.
    pub(super) fn parts(&self) -> Vec<Part> {
        let troubles: Vec<Part> = TROUBLES.into_iter().filter_map(|s| self.trouble(s)).collect();
        // Who waits at the door is no trouble of those inside.
        let inside = self.of_status(DeviceStatus::Online);
        let is_calm = troubles.len() == usize::from(self.of_status(DeviceStatus::Pending) > 0);
        let calm = match inside {
            0 if self.total() == 0 => Some(Part { glyph: None, words: "No devices yet".into() }),
            0 if troubles.is_empty() => {
                Some(Part { glyph: None, words: "No devices in the fleet".into() })
            }
            0 => None,
            1 => {
                Some(Part { glyph: Some(Glyph::Online), words: "The one device is online".into() })
            }
            _ => {
                let words = format!("All {} devices online", count(inside));
                Some(Part { glyph: Some(Glyph::Online), words })
            }
        };
        calm.filter(|_| is_calm).into_iter().chain(troubles).collect()
    }

    /// The state in a browser's tab: `○57 !3 · FleetD`.
    pub(super) fn title(&self) -> String {
        let glyph = |status| Glyph::of(status).spec().unicode;
        let troubles = TROUBLES.into_iter().filter(|status| self.of_status(*status) > 0);
        let mut marks: Vec<String> = troubles
            .map(|status| format!("{}{}", glyph(status), count(self.of_status(status))))
            .collect();
        if marks.is_empty() && self.of_status(DeviceStatus::Online) > 0 {
            marks.push(glyph(DeviceStatus::Online).to_string());
        }
        if marks.is_empty() {
            "FleetD".to_owned()
        } else {
            format!("{} · FleetD", marks.join(" "))
        }
    }

    /// The same for programs.
    pub(super) fn summary(&self) -> Summary {
        let part = |part: Part| match part.glyph {
            Some(glyph) => format!("{} {}", glyph.spec().unicode, part.words),
            None => part.words,
        };
        let parts: Vec<String> = self.parts().into_iter().map(part).collect();
        let counts = SHOWN.into_iter().map(|status| (status, self.of_status(status))).collect();
        Summary { sentence: parts.join(", "), devices: self.total(), counts }
    }

    fn trouble(&self, status: DeviceStatus) -> Option<Part> {
        let number = self.of_status(status);
        let words = match status {
            DeviceStatus::Pending => format!("{} pending", count(number)),
            _ => format!("{} {}", counted(number, "device", "devices"), status.word()),
        };
        (number > 0).then(|| Part { glyph: Some(Glyph::of(status)), words })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(counts: &[(DeviceStatus, usize)]) -> (String, String) {
        let counts = Counts(counts.iter().copied().collect());
        (counts.summary().sentence, counts.title())
    }

    #[test]
    fn one_sentence_says_how_the_fleet_is() {
        use DeviceStatus::{Late, Lost, Offline, Online, Pending, Revoked};
        for (counts, sentence, title) in [
            (&[][..], "No devices yet", "FleetD"),
            (&[(Online, 10_000)], "● All 10\u{202f}000 devices online", "● · FleetD"),
            (&[(Online, 1), (Revoked, 4)], "● The one device is online", "● · FleetD"),
            (&[(Online, 9), (Pending, 2)], "● All 9 devices online, ! 2 pending", "!2 · FleetD"),
            (
                &[(Online, 9), (Offline, 57), (Pending, 3)],
                "○ 57 devices offline, ! 3 pending",
                "○57 !3 · FleetD",
            ),
            (
                &[(Late, 1), (Lost, 2), (Offline, 1)],
                "○ 1 device offline, ◌ 2 devices lost, ◐ 1 device late",
                "○1 ◌2 ◐1 · FleetD",
            ),
            (&[(Pending, 1)], "! 1 pending", "!1 · FleetD"),
            (&[(Revoked, 1)], "No devices in the fleet", "FleetD"),
        ] {
            assert_eq!(said(counts), (sentence.to_owned(), title.to_owned()), "{counts:?}");
        }
    }
}
