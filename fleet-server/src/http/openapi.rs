//! The description of this interface for programs (OpenAPI 3.1), as it lies in `assets/`.

use bytes::Bytes;

const DOCUMENT: &[u8] = include_bytes!("../../assets/openapi.json");

/// The document.
pub(super) fn document() -> Bytes {
    Bytes::from_static(DOCUMENT)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use fleet_core::api::{AuthClass, EventKind, Route};
    use serde_json::Value;

    use super::*;

    /// Every route, once, with its method, its path and whether it needs a key.
    fn described(document: &Value) -> BTreeSet<(String, String, bool)> {
        let mut routes = BTreeSet::new();
        for (path, methods) in document["paths"].as_object().unwrap() {
            for (method, operation) in methods.as_object().unwrap() {
                if method == "parameters" {
                    continue;
                }
                let is_public = operation["security"].as_array().is_some_and(Vec::is_empty);
                let template: Vec<&str> = path
                    .split('/')
                    .map(|segment| if segment.starts_with('{') { "{}" } else { segment })
                    .collect();
                routes.insert((method.to_uppercase(), template.join("/"), is_public));
            }
        }
        routes
    }

    #[test]
    fn the_document_names_every_kind_of_event() {
        let document: Value = serde_json::from_slice(DOCUMENT).unwrap();
        let named = &document["components"]["schemas"]["EventView"]["properties"]["kind"]["enum"];
        let known: Vec<_> = EventKind::ALL.iter().map(EventKind::word).collect();
        assert_eq!(named, &Value::from(known));
    }

    #[test]
    fn the_document_describes_exactly_the_routes() {
        let document: Value = serde_json::from_slice(DOCUMENT).unwrap();
        assert_eq!(document["openapi"], "3.1.0");
        let routes: BTreeSet<_> = Route::all()
            .iter()
            .map(Route::spec)
            .filter(|spec| spec.auth != AuthClass::Page)
            .map(|spec| {
                let is_public = spec.auth == AuthClass::Public;
                (spec.method.to_owned(), spec.path.to_owned(), is_public)
            })
            .collect();
        assert_eq!(described(&document), routes);
    }
}
