//! Markup that outside text cannot break out of.
//!
//! What is written in this program goes in by [`Html::raw`], which takes literals only. All else
//! goes in by [`Html::text`], inside an element or a quoted attribute: characters that mean
//! something to HTML become entities, and those that could hide or reorder text are spelled out.

use std::fmt::{self, Display, Write};

use fleet_core::untrusted::write_escaped;

use crate::http::query::encoded;

/// A piece of a page.
#[derive(Debug, Default)]
pub(super) struct Html(String);

impl Html {
    /// Adds markup of our own.
    pub(super) fn raw(&mut self, markup: &'static str) -> &mut Self {
        self.0.push_str(markup);
        self
    }

    /// Adds text, whoever wrote it.
    pub(super) fn text(&mut self, text: impl Display) -> &mut Self {
        write!(Escaping(&mut self.0), "{text}").expect("writing to a String cannot fail");
        self
    }

    /// Adds text as the value of a parameter in an attribute's URL.
    pub(super) fn parameter(&mut self, text: impl Display) -> &mut Self {
        let encoded = encoded(&text.to_string());
        self.text(encoded)
    }

    /// Adds another piece.
    pub(super) fn piece(&mut self, piece: &Html) -> &mut Self {
        self.0.push_str(&piece.0);
        self
    }

    /// The markup.
    pub(super) fn into_string(self) -> String {
        self.0
    }
}

/// Spells out what is dangerous anywhere, then what is dangerous in HTML.
struct Escaping<'a>(&'a mut String);

impl Write for Escaping<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        write_escaped(&mut Entities(self.0), text, usize::MAX)
    }
}

struct Entities<'a>(&'a mut String);

impl Write for Entities<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        text.chars().try_for_each(|c| self.write_char(c))
    }

    fn write_char(&mut self, c: char) -> fmt::Result {
        match c {
            '&' => self.0.push_str("&amp;"),
            '<' => self.0.push_str("&lt;"),
            '>' => self.0.push_str("&gt;"),
            '"' => self.0.push_str("&quot;"),
            '\'' => self.0.push_str("&#39;"),
            plain => self.0.push(plain),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use fleet_core::untrusted::Untrusted;
    use proptest::prelude::*;

    use super::*;

    fn shown(text: &str) -> String {
        let mut html = Html::default();
        html.text(text);
        html.into_string()
    }

    #[test]
    fn t19_outside_text_cannot_become_markup() {
        for (text, markup) in [
            ("rpi4-001", "rpi4-001"),
            ("<script>alert(1)</script>", "&lt;script&gt;alert(1)&lt;/script&gt;"),
            ("\" onload='x'", "&quot; onload=&#39;x&#39;"),
            ("&lt;", "&amp;lt;"),
            ("\u{202e}gnp", "\\u{202e}gnp"),
            ("a\0b\n\u{9b}", "a\\u{0}b\\u{a}\\u{9b}"),
        ] {
            assert_eq!(shown(text), markup);
            assert_eq!(shown(&Untrusted::from(text).to_string()), markup);
        }
        let mut link = Html::default();
        link.raw("<a href=\"?filter=").parameter("a=\"x\"&b <é").raw("\">");
        assert_eq!(link.into_string(), "<a href=\"?filter=a%3D%22x%22%26b%20%3C%C3%A9\">");
    }

    proptest! {
        #[test]
        fn nothing_that_means_something_comes_through(text in "\\PC*|[<>&\"'=\\x00-\\x1fa]*") {
            let markup = shown(&text);
            prop_assert!(!markup.contains(['<', '>', '"', '\'']));
            prop_assert!(!markup.contains(char::is_control));
            for (at, _) in markup.match_indices('&') {
                let entity = ["&amp;", "&lt;", "&gt;", "&quot;", "&#39;"];
                prop_assert!(entity.iter().any(|entity| markup[at..].starts_with(entity)));
            }
        }
    }
}
