//! How configurations are shown and told.

use data_encoding::HEXLOWER;
use fleet_core::api::{ConfigUpdate, ConfigVersionView, ConfigView, ReportedView, config_paths};
use fleet_core::untrusted::Untrusted;
use ring::digest;
use serde_json::Value;

use super::EMPTY_DOCUMENT;
use super::layers::{Effective, own_of, parsed};
use crate::store::{ConfigVersion, Device};

/// Characters of a document's hash.
const HASH_CHARS: usize = 16;

/// A device's configuration.
pub(super) fn view(
    device: &Device,
    latest: Option<ConfigVersion>,
    effective: Effective,
) -> ConfigView {
    let reported = device.reported.clone().map(|reported| ReportedView {
        holds: reported.holds(),
        version: reported.version,
        hash: reported.hash,
        applied_at: reported.at,
        error: reported.error.map(Untrusted::new),
    });
    let version = latest.as_ref().map_or(0, |latest| latest.version);
    let own = own_of(latest.as_ref()).to_owned();
    // What a layer says that changed a moment ago is not in the document yet.
    let Effective { mut provenance, document: to_be } = effective;
    let document = latest.as_ref().map_or(EMPTY_DOCUMENT, |latest| &latest.config.document);
    provenance.retain(|path, _| says_alike(document, &to_be, path));
    let config = latest.map(|latest| latest.config);
    let document = config.as_ref().map_or(EMPTY_DOCUMENT, |config| &config.document).to_owned();
    ConfigView {
        status: None,
        device_id: device.id.clone(),
        server_url: config.as_ref().and_then(|c| c.server_url.clone()).map(Untrusted::new),
        api_key: "(masked)".to_owned(),
        hash: hash(&document),
        config: document,
        version,
        author: config.as_ref().map(|config| config.author.clone()),
        at: config.as_ref().map(|config| config.at),
        comment: config.and_then(|config| config.comment).map(Untrusted::new),
        state: None,
        drift: Vec::new(),
        reported,
        own: Some(own),
        provenance,
        not_applied: None,
    }
}

/// Whether two documents say the same at a path.
fn says_alike(one: &str, other: &str, path: &str) -> bool {
    let at = |document: &str| {
        let document = parsed(document).ok()?;
        config_paths(&document).remove(path)
    };
    one == other || at(one) == at(other)
}

/// One version of a configuration.
pub(super) fn version_view(stored: ConfigVersion) -> ConfigVersionView {
    let ConfigVersion { version, config } = stored;
    ConfigVersionView {
        version,
        hash: hash(&config.document),
        // What the server stored it wrote itself; anything else still shows, as text.
        document: serde_json::from_str(&config.document).unwrap_or(Value::String(config.document)),
        author: config.author.into(),
        at: config.at,
        comment: config.comment.map(Untrusted::new),
    }
}

/// What is told of a new version.
pub(in crate::ops) fn set(stored: &ConfigVersion) -> String {
    let (version, config) = (stored.version, &stored.config);
    match config.comment.as_deref() {
        Some(comment) if !comment.is_empty() => {
            format!("version {version}: {} ({comment})", config.document)
        }
        Some(_) | None => format!("version {version}: {}", config.document),
    }
}

/// What of an update has no effect.
pub(super) fn not_applied(update: &ConfigUpdate) -> Option<String> {
    let why = "api_key is not kept: a device shows who it is by its own key";
    update.api_key.as_ref().map(|_| why.to_owned())
}

/// What a document is recognised by.
pub(super) fn hash(document: &str) -> String {
    let digest = digest::digest(&digest::SHA256, document.as_bytes());
    HEXLOWER.encode(digest.as_ref()).chars().take(HASH_CHARS).collect()
}
