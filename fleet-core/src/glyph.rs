//! Glyphs and what they mean: the one list for the console, the command line's tables and the page.
//!
//! A glyph never stands alone: the word beside it says the same, and colour only repeats it.

use crate::api::DeviceStatus;

/// How something is to be taken; what colour it may have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Tone {
    /// Nothing to say.
    #[default]
    Plain,
    /// As it should be.
    Good,
    /// Worth a look.
    Warn,
    /// Broken.
    Bad,
    /// Under way.
    Busy,
    /// Of less weight.
    Muted,
}

/// A glyph.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "each is its line in the list below")]
pub enum Glyph {
    Online,
    Late,
    Offline,
    Lost,
    Pending,
    Rejected,
    Revoked,
    Later,
    Busy,
    Marked,
    Done,
    Failed,
    Differs,
    Same,
    Inward,
    Outward,
    Dot,
    Cursor,
    Live,
    Down,
    None,
    Ellipsis,
    SortUp,
    SortDown,
}

/// One line of the list.
#[derive(Clone, Copy, Debug)]
pub struct GlyphSpec {
    /// The glyph.
    pub glyph: Glyph,
    /// Where fonts are good; one cell wide.
    pub unicode: char,
    /// Where only ASCII is safe.
    pub ascii: char,
    /// Its colour, where there is colour.
    pub tone: Tone,
    /// What it means, for help; empty for mere decoration.
    pub meaning: &'static str,
}

#[rustfmt::skip]
const GLYPHS: [GlyphSpec; 24] = {
    use Tone::{Bad, Busy, Good, Muted, Plain, Warn};
    const fn spec(glyph: Glyph, unicode: char, ascii: char, tone: Tone, meaning: &'static str) -> GlyphSpec {
        GlyphSpec { glyph, unicode, ascii, tone, meaning }
    }
    [
        spec(Glyph::Online, '●', 'o', Good, "online"),
        spec(Glyph::Late, '◐', '~', Warn, "late"),
        spec(Glyph::Offline, '○', 'x', Bad, "offline"),
        spec(Glyph::Lost, '◌', 'X', Bad, "lost"),
        spec(Glyph::Pending, '!', '!', Warn, "pending"),
        spec(Glyph::Rejected, '⊘', '/', Muted, "rejected"),
        spec(Glyph::Revoked, '⊗', '#', Muted, "revoked"),
        spec(Glyph::Later, '◇', '?', Warn, "of a later release"),
        spec(Glyph::Busy, '⟳', '>', Busy, "under way"),
        spec(Glyph::Marked, '✓', '*', Busy, "marked"),
        spec(Glyph::Done, '✓', '+', Good, "done"),
        spec(Glyph::Failed, '✗', 'X', Bad, "failed"),
        spec(Glyph::Differs, '≠', '%', Warn, "differs"),
        spec(Glyph::Same, '=', '=', Plain, ""),
        spec(Glyph::Inward, '↓', 'v', Plain, ""),
        spec(Glyph::Outward, '↑', '^', Plain, ""),
        spec(Glyph::Dot, '·', '-', Muted, ""),
        spec(Glyph::Cursor, '›', '>', Plain, ""),
        spec(Glyph::Live, '●', 'o', Good, "live"),
        spec(Glyph::Down, '○', 'x', Bad, "server away"),
        spec(Glyph::None, '—', '-', Muted, ""),
        spec(Glyph::Ellipsis, '…', '.', Plain, ""),
        spec(Glyph::SortUp, '▲', '^', Plain, ""),
        spec(Glyph::SortDown, '▼', 'v', Plain, ""),
    ]
};

impl Glyph {
    /// Every glyph.
    pub fn all() -> impl Iterator<Item = &'static GlyphSpec> {
        GLYPHS.iter()
    }

    /// Its line in the list.
    pub fn spec(self) -> &'static GlyphSpec {
        GLYPHS.iter().find(|spec| spec.glyph == self).expect("every glyph has a line")
    }

    /// How a device that is doing so is marked.
    pub fn of(status: DeviceStatus) -> Self {
        match status {
            DeviceStatus::Online => Self::Online,
            DeviceStatus::Late => Self::Late,
            DeviceStatus::Offline => Self::Offline,
            DeviceStatus::Lost => Self::Lost,
            DeviceStatus::Pending => Self::Pending,
            DeviceStatus::Rejected => Self::Rejected,
            DeviceStatus::Revoked => Self::Revoked,
            DeviceStatus::Later(_) => Self::Later,
        }
    }
}

/// The tone of a use in percent.
pub fn level(percent: f64) -> Tone {
    if percent >= 90.0 {
        Tone::Bad
    } else if percent >= 75.0 {
        Tone::Warn
    } else {
        Tone::Plain
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_glyph_has_an_ascii_twin() {
        for spec in &GLYPHS {
            assert_eq!(spec.glyph.spec().unicode, spec.unicode);
            assert!(spec.ascii.is_ascii_graphic());
        }
    }
}
