//! What things look like: every colour of the console, by what it means.
//!
//! A colour only repeats what a glyph and a word say. The usual theme takes the terminal's own
//! sixteen colours and no backgrounds, so that it reads on dark and on light ones. Without colour
//! ([`Colour::None`]) every theme is [`ThemeName::Mono`]: then no colour is ever set, because a
//! terminal told to show none may take the attempt for a reset.

use clap::ValueEnum;
use fleet_core::glyph::Tone;
use ratatui::style::{Color, Modifier, Style};

use crate::terminal::caps::{Caps, Colour};

/// What a piece of the screen is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Role {
    /// Nothing special.
    #[default]
    Plain,
    /// As it should be.
    Ok,
    /// Worth a look.
    Warn,
    /// Broken.
    Crit,
    /// Under way.
    Busy,
    /// Of less weight.
    Muted,
    /// A key to press, a mark.
    Accent,
    /// A heading.
    Head,
    /// Where the cursor is.
    Select,
    /// Known, but old.
    Stale,
    /// Which fleet this is.
    Context,
}

impl Role {
    /// Every role.
    pub const ALL: [Self; 11] = [
        Self::Plain,
        Self::Ok,
        Self::Warn,
        Self::Crit,
        Self::Busy,
        Self::Muted,
        Self::Accent,
        Self::Head,
        Self::Select,
        Self::Stale,
        Self::Context,
    ];
}

impl From<Tone> for Role {
    fn from(tone: Tone) -> Self {
        match tone {
            Tone::Plain => Self::Plain,
            Tone::Good => Self::Ok,
            Tone::Warn => Self::Warn,
            Tone::Bad => Self::Crit,
            Tone::Busy => Self::Busy,
            Tone::Muted => Self::Muted,
        }
    }
}

/// A theme's name, as options and settings spell it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, ValueEnum)]
pub enum ThemeName {
    /// The terminal's own sixteen colours, no backgrounds.
    #[default]
    Default,
    /// For dark backgrounds.
    Dark,
    /// For light backgrounds.
    Light,
    /// Nothing faint.
    HighContrast,
    /// No colours: bold, underlined and reversed.
    Mono,
}

impl ThemeName {
    /// Every theme, in the order in which a key goes through them.
    pub const ALL: [Self; 5] =
        [Self::Default, Self::Dark, Self::Light, Self::HighContrast, Self::Mono];

    /// Its name.
    pub fn word(self) -> &'static str {
        match self {
            Self::Default => "default",
            Self::Dark => "dark",
            Self::Light => "light",
            Self::HighContrast => "high-contrast",
            Self::Mono => "mono",
        }
    }

    /// The one after it; after the last the first.
    #[must_use]
    pub fn next(self) -> Self {
        let at = Self::ALL.iter().position(|name| *name == self).unwrap_or_default();
        Self::ALL[(at + 1) % Self::ALL.len()]
    }
}

/// What each role looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Theme {
    name: ThemeName,
    colour: Colour,
    context: Option<Color>,
}

impl Theme {
    /// A theme as far as the terminal can show it.
    pub fn new(name: ThemeName, caps: &Caps) -> Self {
        let name = if caps.colour == Colour::None { ThemeName::Mono } else { name };
        Self { name, colour: caps.colour, context: None }
    }

    /// The theme with the colour that the fleet in use was given.
    #[must_use]
    pub fn with_context(self, context: Option<Color>) -> Self {
        Self { context, ..self }
    }

    /// Its name, which is `mono` whenever there are no colours.
    pub fn name(&self) -> ThemeName {
        self.name
    }

    /// How a role looks.
    pub fn style(&self, role: Role) -> Style {
        let style = match self.name {
            ThemeName::Default => sixteen(role),
            ThemeName::Dark => self.rich(role, &DARK),
            ThemeName::Light => self.rich(role, &LIGHT),
            ThemeName::HighContrast => contrast(role),
            ThemeName::Mono => return mono(role),
        };
        match (role, self.context) {
            (Role::Context, Some(colour)) => style.fg(colour),
            _ => style,
        }
    }

    /// A theme of many colours; with sixteen only the usual one.
    fn rich(self, role: Role, palette: &Palette) -> Style {
        if self.colour == Colour::Sixteen {
            return sixteen(role);
        }
        let colour = |index| Style::new().fg(Color::Indexed(index));
        match role {
            Role::Plain | Role::Head | Role::Select => sixteen(role),
            Role::Ok => colour(palette.ok),
            Role::Warn => colour(palette.warn),
            Role::Crit => colour(palette.crit).add_modifier(Modifier::BOLD),
            Role::Busy | Role::Accent => colour(palette.accent),
            Role::Muted | Role::Stale => colour(palette.muted),
            Role::Context => colour(palette.context).add_modifier(Modifier::BOLD),
        }
    }
}

/// Colours out of the 256 that are the same in nearly every terminal.
struct Palette {
    ok: u8,
    warn: u8,
    crit: u8,
    accent: u8,
    muted: u8,
    context: u8,
}

const DARK: Palette =
    Palette { ok: 114, warn: 221, crit: 203, accent: 80, muted: 245, context: 111 };
const LIGHT: Palette =
    Palette { ok: 28, warn: 130, crit: 160, accent: 25, muted: 242, context: 19 };

fn sixteen(role: Role) -> Style {
    let style = Style::new();
    match role {
        Role::Plain => style,
        Role::Ok => style.fg(Color::Green),
        Role::Warn => style.fg(Color::Yellow),
        Role::Crit => style.fg(Color::Red).add_modifier(Modifier::BOLD),
        Role::Busy | Role::Accent => style.fg(Color::Cyan),
        Role::Muted => style.fg(Color::DarkGray),
        Role::Head => style.add_modifier(Modifier::BOLD),
        Role::Select => style.add_modifier(Modifier::REVERSED),
        Role::Stale => style.add_modifier(Modifier::DIM),
        Role::Context => style.fg(Color::Blue).add_modifier(Modifier::BOLD),
    }
}

fn contrast(role: Role) -> Style {
    let bold = Style::new().add_modifier(Modifier::BOLD);
    match role {
        Role::Plain | Role::Muted | Role::Stale => Style::new(),
        Role::Ok => bold.fg(Color::Green),
        Role::Warn => bold.fg(Color::Yellow),
        Role::Crit => bold.fg(Color::Red).add_modifier(Modifier::UNDERLINED),
        Role::Busy | Role::Accent => bold.fg(Color::Cyan),
        Role::Head | Role::Context => bold.add_modifier(Modifier::UNDERLINED),
        Role::Select => bold.add_modifier(Modifier::REVERSED),
    }
}

fn mono(role: Role) -> Style {
    let style = Style::new();
    match role {
        Role::Plain | Role::Ok | Role::Busy => style,
        Role::Warn | Role::Accent | Role::Head => style.add_modifier(Modifier::BOLD),
        Role::Crit => style.add_modifier(Modifier::BOLD | Modifier::UNDERLINED),
        Role::Select => style.add_modifier(Modifier::REVERSED),
        Role::Muted | Role::Stale => style.add_modifier(Modifier::DIM),
        Role::Context => style.add_modifier(Modifier::BOLD | Modifier::REVERSED),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn theme(name: ThemeName, colour: Colour) -> Theme {
        Theme::new(name, &Caps { colour, ..Caps::default() })
    }

    #[test]
    fn no_theme_sets_a_colour_where_there_is_none() {
        for name in ThemeName::ALL {
            let theme = theme(name, Colour::None).with_context(Some(Color::Red));
            assert_eq!(theme.name(), ThemeName::Mono);
            for role in Role::ALL {
                let style = theme.style(role);
                assert_eq!((style.fg, style.bg), (None, None), "{name:?} {role:?}");
            }
        }
    }

    #[test]
    fn no_theme_paints_a_background_and_each_reverses_the_cursor() {
        for name in ThemeName::ALL {
            for colour in [Colour::None, Colour::Sixteen, Colour::TwoHundred56, Colour::True] {
                let theme = theme(name, colour);
                assert!(Role::ALL.iter().all(|role| theme.style(*role).bg.is_none()));
                let select = theme.style(Role::Select);
                assert!(select.add_modifier.contains(Modifier::REVERSED), "{name:?}");
            }
        }
    }

    #[test]
    fn sixteen_colours_are_enough_for_every_theme() {
        for name in ThemeName::ALL {
            let theme = theme(name, Colour::Sixteen);
            for role in Role::ALL {
                assert!(!matches!(theme.style(role).fg, Some(Color::Indexed(_) | Color::Rgb(..))));
            }
        }
    }

    #[test]
    fn what_is_broken_looks_unlike_what_is_well() {
        for name in ThemeName::ALL {
            let theme = theme(name, Colour::True);
            assert_ne!(theme.style(Role::Crit), theme.style(Role::Ok));
            assert_ne!(theme.style(Role::Crit), theme.style(Role::Warn));
        }
    }

    #[test]
    fn a_fleet_may_have_its_own_colour() {
        let theme = theme(ThemeName::Default, Colour::Sixteen).with_context(Some(Color::Red));
        assert_eq!(theme.style(Role::Context).fg, Some(Color::Red));
        assert_eq!(theme.style(Role::Ok).fg, Some(Color::Green));
    }

    #[test]
    fn names_are_those_of_the_options() {
        let mut name = ThemeName::Default;
        for expected in ThemeName::ALL {
            assert_eq!(name, expected);
            let value = name.to_possible_value().unwrap();
            assert_eq!(value.get_name(), name.word());
            name = name.next();
        }
        assert_eq!(name, ThemeName::Default);
    }
}
