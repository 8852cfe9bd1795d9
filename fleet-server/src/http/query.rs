//! Query strings: every parameter known, none twice.

use std::fmt::Write as _;

use fleet_core::untrusted::Untrusted;

use super::reply::Failure;

/// Parameters of one request.
pub(crate) struct Query(Vec<(String, String)>);

impl Query {
    /// Reads a query string that may hold the parameters in `known`.
    pub(crate) fn parse(text: Option<&str>, known: &[&str]) -> Result<Self, Failure> {
        let mut parameters: Vec<(String, String)> = Vec::new();
        for part in text.unwrap_or_default().split('&').filter(|part| !part.is_empty()) {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            let shown = Untrusted::from(name).to_string();
            if !known.contains(&name) {
                let problem = if known.is_empty() {
                    "this takes no parameters".to_owned()
                } else {
                    format!("unknown parameter; known are {}", known.join(", "))
                };
                return Err(Failure::invalid(&shown, &problem));
            }
            if parameters.iter().any(|(known, _)| known == name) {
                return Err(Failure::invalid(&shown, "given twice"));
            }
            let value =
                decoded(value).ok_or_else(|| Failure::invalid(&shown, "is not encoded text"))?;
            parameters.push((name.to_owned(), value));
        }
        Ok(Self(parameters))
    }

    /// A parameter's text.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        let found = self.0.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str())
    }

    /// The same without parameters that say nothing, as forms send them.
    pub(crate) fn filled(self) -> Self {
        Self(self.0.into_iter().filter(|(_, value)| !value.trim().is_empty()).collect())
    }

    /// A parameter that must be there.
    pub(crate) fn need(&self, name: &str) -> Result<&str, Failure> {
        let found = self.get(name).filter(|value| !value.is_empty());
        found.ok_or_else(|| Failure::invalid(name, "is missing from the query"))
    }

    /// A parameter of some type.
    pub(crate) fn parsed<T: std::str::FromStr<Err: ToString>>(
        &self,
        name: &str,
    ) -> Result<Option<T>, Failure> {
        let parse = |text: &str| {
            text.parse().map_err(|error: T::Err| Failure::invalid(name, &error.to_string()))
        };
        self.get(name).map(parse).transpose()
    }

    /// A number from 1 to `max`.
    pub(crate) fn count(&self, name: &str, max: usize) -> Result<Option<usize>, Failure> {
        let problem = || Failure::invalid(name, &format!("must be a number from 1 to {max}"));
        let parse = |text: &str| {
            let count = text.parse().ok().filter(|count| (1..=max).contains(count));
            count.ok_or_else(problem)
        };
        self.get(name).map(parse).transpose()
    }
}

/// Percent-decoded text; `+` is a space.
fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let digit = |byte: u8| char::from(byte).to_digit(16);
                let (high, low) = (digit(rest.next()?)?, digit(rest.next()?)?);
                u8::try_from(high * 16 + low).ok()?
            }
            plain => plain,
        });
    }
    String::from_utf8(bytes).ok()
}

/// A text as a parameter's value.
pub(crate) fn encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            write!(out, "%{byte:02X}").expect("writing to a String cannot fail");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn parameters_are_known_and_decoded() {
        let known = ["from", "limit"];
        let query = Query::parse(Some("from=2024-01-15T10%3A30%3a00%2B01:00&limit=3"), &known);
        let query = query.unwrap_or_else(|failure| panic!("{failure:?}"));
        assert_eq!(query.get("from"), Some("2024-01-15T10:30:00+01:00"));
        assert_eq!(query.count("limit", 10).ok(), Some(Some(3)));
        assert!(query.count("limit", 2).is_err());
        assert!(query.need("limit").is_ok());
        for bad in ["x=1", "from=1&from=2", "from=%", "from=%zz", "from=%ff", "from=%+1"] {
            assert!(Query::parse(Some(bad), &known).is_err(), "{bad}");
        }
    }
    proptest! {
        #[test]
        fn what_is_encoded_is_decoded_again(text in "\\PC*") {
            prop_assert_eq!(decoded(&encoded(&text)), Some(text));
        }
    }
}
