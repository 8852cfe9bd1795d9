//! What the terminal can show, told from the environment alone.
//!
//! Nothing is asked of the terminal: an answer that comes late lands in the shell, and one that
//! never comes is waited for.

use std::ffi::OsString;

use clap::ValueEnum;

/// How many colours there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Colour {
    /// None, or none are wanted.
    None,
    /// The terminal's own.
    #[default]
    Sixteen,
    /// The usual palette.
    TwoHundred56,
    /// All.
    True,
}

/// Which glyphs are safe.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum GlyphLevel {
    /// Signs and boxes.
    #[default]
    Unicode,
    /// ASCII only.
    Ascii,
}

/// What curves are drawn with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum GraphLevel {
    /// Eight dots in a cell.
    #[default]
    Braille,
    /// Four quarters of a cell, for fonts without braille.
    Block,
    /// One sign in a cell.
    Ascii,
}

/// What sits between this program and the terminal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Multiplexer {
    /// Nothing known.
    #[default]
    None,
    /// tmux.
    Tmux,
    /// GNU screen.
    Screen,
}

/// Whether colours are wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum ColourChoice {
    /// As the environment says.
    #[default]
    Auto,
    /// Even if the environment says no.
    Always,
    /// No.
    Never,
}

/// What a person asked for, against what the environment tells.
#[derive(Clone, Copy, Debug, Default)]
pub struct CapsOptions {
    /// ASCII only.
    pub ascii: bool,
    /// Colours.
    pub colour: ColourChoice,
    /// What curves are drawn with.
    pub graphs: Option<GraphLevel>,
}

/// What the terminal can show.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Caps {
    /// How many colours.
    pub colour: Colour,
    /// Which glyphs.
    pub glyphs: GlyphLevel,
    /// Which curves.
    pub graphs: GraphLevel,
    /// What sits in between.
    pub multiplexer: Multiplexer,
    /// Whether it is somewhere else, behind ssh.
    pub is_remote: bool,
    /// Whether it cannot move a cursor, as far as is known.
    pub is_dumb: bool,
    /// Whether its title can be set.
    pub has_title: bool,
}

impl Caps {
    /// What an environment tells. `env` is `std::env::var_os`, or a test's.
    pub fn from_env(env: &dyn Fn(&str) -> Option<OsString>, options: &CapsOptions) -> Self {
        let env = Environment(env);
        let term = env.text("TERM");
        let is_dumb = term.is_empty() || term == "dumb";
        let is_plain = options.ascii || is_dumb || term == "linux" || !env.is_utf8();
        let glyphs = if is_plain { GlyphLevel::Ascii } else { GlyphLevel::Unicode };
        let graphs = if is_plain { GraphLevel::Ascii } else { options.graphs.unwrap_or_default() };
        Self {
            colour: env.colour(&term, options.colour),
            glyphs,
            graphs,
            multiplexer: env.multiplexer(&term),
            is_remote: env.has("SSH_CONNECTION") || env.has("SSH_TTY"),
            is_dumb,
            has_title: !is_dumb && term != "linux" && !term.starts_with("vt"),
        }
    }

    /// Whether only ASCII is safe.
    pub fn is_ascii(&self) -> bool {
        self.glyphs == GlyphLevel::Ascii
    }

    /// A glyph as this terminal shows it.
    pub fn glyph(&self, glyph: fleet_core::glyph::Glyph) -> char {
        let spec = glyph.spec();
        if self.is_ascii() { spec.ascii } else { spec.unicode }
    }
}

struct Environment<'a>(&'a dyn Fn(&str) -> Option<OsString>);

impl Environment<'_> {
    fn text(&self, name: &str) -> String {
        (self.0)(name).and_then(|value| value.into_string().ok()).unwrap_or_default()
    }

    /// Whether it is there and not empty.
    fn has(&self, name: &str) -> bool {
        (self.0)(name).is_some_and(|value| !value.is_empty())
    }

    /// The first of these that is set decides, as in the C library.
    fn is_utf8(&self) -> bool {
        let locale = ["LC_ALL", "LC_CTYPE", "LANG"].map(|name| self.text(name));
        let locale = locale.iter().find(|text| !text.is_empty());
        let locale = locale.map(|text| text.to_ascii_lowercase()).unwrap_or_default();
        locale.contains("utf-8") || locale.contains("utf8")
    }

    fn colour(&self, term: &str, choice: ColourChoice) -> Colour {
        let is_unwanted = self.has("NO_COLOR") || self.has("FLEETD_NO_COLOR");
        match choice {
            ColourChoice::Never => Colour::None,
            ColourChoice::Auto if is_unwanted => Colour::None,
            ColourChoice::Auto => self.depth(term),
            ColourChoice::Always => self.depth(term).max(Colour::Sixteen),
        }
    }

    fn depth(&self, term: &str) -> Colour {
        let colourless = term.is_empty() || term == "dumb" || term.starts_with("vt");
        if colourless || term.ends_with("-mono") || term.ends_with("-m") {
            Colour::None
        } else if ["truecolor", "24bit"].contains(&self.text("COLORTERM").as_str())
            || term.ends_with("-direct")
        {
            Colour::True
        } else if term.contains("256color") {
            Colour::TwoHundred56
        } else {
            Colour::Sixteen
        }
    }

    fn multiplexer(&self, term: &str) -> Multiplexer {
        if self.has("TMUX") {
            Multiplexer::Tmux
        } else if self.has("STY") || term.starts_with("screen") {
            Multiplexer::Screen
        } else {
            Multiplexer::None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caps(env: &[(&str, &str)], options: CapsOptions) -> Caps {
        let find = |name: &str| env.iter().find(|(key, _)| *key == name).map(|(_, v)| v.into());
        Caps::from_env(&find, &options)
    }

    fn plain(env: &[(&str, &str)]) -> Caps {
        caps(env, CapsOptions::default())
    }

    #[test]
    fn colours_follow_the_terminal_and_the_wish() {
        let term = |term, colorterm| plain(&[("TERM", term), ("COLORTERM", colorterm)]).colour;
        for (name, colorterm, colour) in [
            ("xterm", "", Colour::Sixteen),
            ("xterm-256color", "", Colour::TwoHundred56),
            ("tmux-256color", "truecolor", Colour::True),
            ("xterm-direct", "", Colour::True),
            ("linux", "", Colour::Sixteen),
            ("xterm-mono", "truecolor", Colour::None),
            ("vt220", "", Colour::None),
            ("dumb", "truecolor", Colour::None),
            ("", "", Colour::None),
        ] {
            assert_eq!(term(name, colorterm), colour, "{name} {colorterm}");
        }
    }

    #[test]
    fn no_color_is_obeyed_when_it_says_something_and_nobody_insists() {
        let with = |name, value, choice| {
            let env = [("TERM", "xterm-256color"), (name, value)];
            caps(&env, CapsOptions { colour: choice, ..CapsOptions::default() }).colour
        };
        for name in ["NO_COLOR", "FLEETD_NO_COLOR"] {
            assert_eq!(with(name, "1", ColourChoice::Auto), Colour::None);
            assert_eq!(with(name, "", ColourChoice::Auto), Colour::TwoHundred56);
            assert_eq!(with(name, "1", ColourChoice::Always), Colour::TwoHundred56);
        }
        assert_eq!(with("X", "1", ColourChoice::Never), Colour::None);
        let mono = caps(
            &[("TERM", "xterm-mono")],
            CapsOptions { colour: ColourChoice::Always, ..CapsOptions::default() },
        );
        assert_eq!(mono.colour, Colour::Sixteen);
    }

    #[test]
    fn glyphs_follow_the_locale_that_counts() {
        let with = |env: &[(&str, &str)]| {
            plain(&[&[("TERM", "xterm")], env].concat()).glyphs == GlyphLevel::Unicode
        };
        assert!(with(&[("LANG", "de_DE.UTF-8")]));
        assert!(with(&[("LC_CTYPE", "C.utf8"), ("LANG", "C")]));
        assert!(!with(&[("LC_ALL", "C"), ("LANG", "de_DE.UTF-8")]));
        assert!(with(&[("LC_ALL", ""), ("LANG", "de_DE.UTF-8")]));
        assert!(!with(&[("LANG", "de_DE.ISO-8859-1")]));
        assert!(!with(&[]));
    }

    #[test]
    fn the_linux_console_and_the_wish_for_ascii_get_ascii() {
        let utf8 = ("LANG", "C.UTF-8");
        assert!(plain(&[("TERM", "linux"), utf8]).is_ascii());
        let options = CapsOptions {
            ascii: true,
            graphs: Some(GraphLevel::Braille),
            ..CapsOptions::default()
        };
        let caps = caps(&[("TERM", "xterm"), utf8], options);
        assert_eq!((caps.glyphs, caps.graphs), (GlyphLevel::Ascii, GraphLevel::Ascii));
        assert_eq!(caps.glyph(fleet_core::glyph::Glyph::Online), 'o');
    }

    #[test]
    fn curves_may_be_told_to_do_without_braille() {
        let env = [("TERM", "xterm"), ("LANG", "C.UTF-8")];
        assert_eq!(plain(&env).graphs, GraphLevel::Braille);
        let options = CapsOptions { graphs: Some(GraphLevel::Block), ..CapsOptions::default() };
        assert_eq!(caps(&env, options).graphs, GraphLevel::Block);
    }

    #[test]
    fn where_the_terminal_is_and_what_is_in_between() {
        let ssh = plain(&[("TERM", "xterm"), ("SSH_CONNECTION", "10.0.0.1 1 10.0.0.2 22")]);
        assert!(ssh.is_remote && !ssh.is_dumb && ssh.has_title);
        let tmux = plain(&[("TERM", "screen-256color"), ("TMUX", "/tmp/tmux-0/default,1,0")]);
        assert_eq!(tmux.multiplexer, Multiplexer::Tmux);
        assert_eq!(plain(&[("TERM", "screen")]).multiplexer, Multiplexer::Screen);
        assert!(plain(&[("TERM", "dumb")]).is_dumb && plain(&[]).is_dumb);
    }
}
