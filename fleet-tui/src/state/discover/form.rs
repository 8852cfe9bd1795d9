//! What devices are configured with: where they shall find the server, their tags, and the claim code
//! of one that asks for it.

use crossterm::event::{KeyCode, KeyEvent};
use fleet_core::identity::Fingerprint;
use fleet_core::limits::URL_BYTES_MAX;
use fleet_core::net::url::{ServerUrl, ServerUrlError};

use crate::widgets::field::{Field, FieldOutcome};

/// Characters of tags that can be typed.
const TAGS_CHARS_MAX: usize = 200;
/// Characters of a claim code that can be typed, with dashes wherever somebody likes them.
const CODE_CHARS_MAX: usize = 48;

/// The form.
#[derive(Debug)]
pub struct Form {
    /// Where devices shall find the server.
    pub url: Field,
    /// Words that devices are tagged with once they are in the fleet.
    pub tags: Field,
    /// The claim code of the device that asks for it.
    pub code: Field,
    /// That device; without one there is no such field.
    asking: Option<Fingerprint>,
    /// Where keys go.
    pub place: FormPlace,
    /// The URL by which the console itself finds the server.
    own_url: String,
}

/// A part of the form.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FormPlace {
    /// The URL.
    #[default]
    Url,
    /// The tags.
    Tags,
    /// The claim code.
    Code,
    /// The button.
    Button,
}

/// What the form made of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FormOutcome {
    /// It is done with it.
    Taken,
    /// It has no use for it.
    Ignored,
    /// The button was pressed.
    Pressed,
    /// It is left.
    Left,
}

impl FormPlace {
    fn next(self, has_code: bool) -> Option<Self> {
        match self {
            Self::Url => Some(Self::Tags),
            Self::Tags if has_code => Some(Self::Code),
            Self::Tags | Self::Code => Some(Self::Button),
            Self::Button => None,
        }
    }

    fn previous(self, has_code: bool) -> Option<Self> {
        match self {
            Self::Url => None,
            Self::Tags => Some(Self::Url),
            Self::Button if has_code => Some(Self::Code),
            Self::Button | Self::Code => Some(Self::Tags),
        }
    }
}

impl Default for Form {
    fn default() -> Self {
        Self {
            url: Field::new(URL_BYTES_MAX),
            tags: Field::new(TAGS_CHARS_MAX),
            code: Field::new(CODE_CHARS_MAX),
            asking: None,
            place: FormPlace::default(),
            own_url: String::new(),
        }
    }
}

impl Form {
    /// Fills in the URL of the server that the console speaks with, unless another one was typed.
    pub fn prefill(&mut self, server: &str) {
        if self.own_url != server {
            if self.url.text() == self.own_url {
                self.url.set(server);
            }
            server.clone_into(&mut self.own_url);
        }
    }

    /// Has a field for the code of this device, or none. What was typed was for one device.
    pub fn ask_for_code(&mut self, device: Option<Fingerprint>) {
        if self.asking != device {
            self.asking = device;
            self.code.clear();
        }
        if device.is_none() && self.place == FormPlace::Code {
            self.place = FormPlace::Button;
        }
    }

    /// Whether there is a field for a claim code.
    pub fn has_code(&self) -> bool {
        self.asking.is_some()
    }

    /// The URL that devices are told; none if that is the one by which the console finds the server.
    pub fn server_url(&self) -> Result<Option<ServerUrl>, ServerUrlError> {
        let url: ServerUrl = self.url.text().parse()?;
        Ok((self.own_url.parse().as_ref() != Ok(&url)).then_some(url))
    }

    /// Whether the URL leads to the host of whoever follows it.
    pub fn is_loopback(&self) -> bool {
        self.url.text().parse::<ServerUrl>().is_ok_and(|url| url.is_loopback())
    }

    /// The tags, each once.
    pub fn tags(&self) -> Vec<String> {
        let mut tags: Vec<String> = Vec::new();
        let is_gap = |c: char| c == ',' || c.is_whitespace();
        for tag in self.tags.text().split(is_gap).filter(|tag| !tag.is_empty()) {
            if !tags.iter().any(|other| other == tag) {
                tags.push(tag.to_owned());
            }
        }
        tags
    }

    /// Takes a key.
    pub fn press(&mut self, key: &KeyEvent) -> FormOutcome {
        let has_code = self.has_code();
        let step = match key.code {
            KeyCode::Esc => return FormOutcome::Left,
            KeyCode::Enter if self.place == FormPlace::Button => return FormOutcome::Pressed,
            KeyCode::Tab => match self.place.next(has_code) {
                Some(place) => Some(place),
                None => return FormOutcome::Ignored,
            },
            KeyCode::BackTab => match self.place.previous(has_code) {
                Some(place) => Some(place),
                None => return FormOutcome::Ignored,
            },
            KeyCode::Enter | KeyCode::Down => self.place.next(has_code),
            KeyCode::Up => self.place.previous(has_code),
            _ => return self.typed(key),
        };
        self.place = step.unwrap_or(self.place);
        FormOutcome::Taken
    }

    /// Takes pasted text, if there is a place for it.
    pub fn paste(&mut self, text: &str) -> bool {
        match self.field() {
            Some(field) => {
                field.insert(text);
                true
            }
            None => false,
        }
    }

    fn typed(&mut self, key: &KeyEvent) -> FormOutcome {
        match self.field().map(|field| field.key(*key)) {
            Some(FieldOutcome::Edited | FieldOutcome::Moved) => FormOutcome::Taken,
            Some(FieldOutcome::Ignored) | None => FormOutcome::Ignored,
        }
    }

    fn field(&mut self) -> Option<&mut Field> {
        match self.place {
            FormPlace::Url => Some(&mut self.url),
            FormPlace::Tags => Some(&mut self.tags),
            FormPlace::Code => Some(&mut self.code),
            FormPlace::Button => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_usual_url_is_the_consoles_own_and_only_another_one_is_told() {
        let mut form = Form::default();
        form.prefill("https://fleet.example.com:8443");
        assert_eq!(form.url.text(), "https://fleet.example.com:8443");
        assert_eq!(form.server_url(), Ok(None));
        form.url.set("https://fleet.lan");
        form.prefill("https://fleet.example.com:8443");
        assert_eq!(form.server_url(), Ok("https://fleet.lan".parse().ok()));
        form.url.set("fleet.lan");
        assert!(form.server_url().is_err());
    }

    #[test]
    fn tags_are_words() {
        let mut form = Form::default();
        form.tags.set(" lab-a, line-3  lab-a,");
        assert_eq!(form.tags(), ["lab-a", "line-3"]);
    }
}
