//! What operators do with layers.

use std::sync::Arc;

use fleet_core::api::{
    ConfigLayer, ConfigUpdate, ConfigVersionView, EventKind, LayerPreview, LayerView, Role, diff,
};
use fleet_core::untrusted::Untrusted;

use super::layers::{Stack, canonical, has_layer, parsed, server_url, tags_of};
use super::settle::by_layer;
use super::view::{hash, set, version_view};
use super::{Configs, EMPTY_DOCUMENT, check_comment, require_place};
use crate::ops::commands::require_able;
use crate::ops::events::NewEvent;
use crate::ops::{Access, Actor, OpsError};
use crate::store::{ConfigVersion, NewConfig};

/// What somebody with a scope is told.
const SHARED: &str = "a layer";
/// Devices that a preview names.
const SAMPLE_MAX: usize = 8;

/// A change of a layer that was read.
struct Wish {
    stack: Arc<Stack>,
    /// What the layer is now.
    latest: Option<ConfigVersion>,
    new: NewConfig,
}

impl Configs {
    /// All layers; to somebody with a scope those of devices in it.
    pub(crate) async fn layer_list(&self, access: &Access) -> Result<Vec<LayerView>, OpsError> {
        let stack = self.layers.stack().await?;
        let devices = self.world.store.device_list().await?;
        let able = devices.iter();
        let able = able.filter(|device| require_able(device).is_ok() && access.has(device));
        let tags: Vec<_> = able.map(tags_of).collect();
        let view = |(layer, stored): (&ConfigLayer, &ConfigVersion)| {
            let devices = tags.iter().filter(|tags| has_layer(tags, layer)).count();
            layer_view(layer, Some(stored.clone()), devices)
        };
        let mut views: Vec<_> = stack.all().map(view).collect();
        views.retain(|view| is_shown(access, &view.layer, view.devices));
        Ok(views)
    }

    /// One layer.
    pub(crate) async fn layer_get(
        &self,
        access: &Access,
        layer: &ConfigLayer,
    ) -> Result<LayerView, OpsError> {
        let latest = self.layers.stack().await?.get(layer).cloned();
        let view = self.layer_view(access, layer, latest).await?;
        if is_shown(access, layer, view.devices) { Ok(view) } else { Err(none_such(layer)) }
    }

    /// Versions of a layer, newest first; only those below `before`, if that is said.
    pub(crate) async fn layer_history(
        &self,
        access: &Access,
        layer: &ConfigLayer,
        before: Option<u64>,
        limit: usize,
    ) -> Result<Vec<ConfigVersionView>, OpsError> {
        self.layer_get(access, layer).await?;
        let versions = self.world.store.layer_history(&layer.to_string(), before, limit).await?;
        Ok(versions.into_iter().map(version_view).collect())
    }

    /// What a change of a layer would be, without doing anything.
    pub(crate) async fn layer_preview(
        &self,
        access: &Access,
        layer: &ConfigLayer,
        update: ConfigUpdate,
        author: &Actor,
    ) -> Result<LayerPreview, OpsError> {
        access.require_whole_fleet(SHARED)?;
        let wish = self.wish(layer, update, author).await?;
        let (changed, devices) = self.changed_by(&wish.after(layer)?, layer).await?;
        let before = wish.before();
        Ok(LayerPreview {
            layer: layer.clone(),
            version: wish.latest.as_ref().map_or(0, |latest| latest.version),
            devices,
            changes: changed.len(),
            sample: changed.iter().take(SAMPLE_MAX).map(|device| device.id.clone()).collect(),
            differences: diff(&parsed(before)?, &parsed(&wish.new.document)?),
        })
    }

    /// Gives a layer its next version, if `expected` is its version or not said. One that says what
    /// the current one says is no new version. Devices are settled afterwards.
    pub(crate) async fn layer_update(
        &self,
        access: &Access,
        layer: &ConfigLayer,
        expected: Option<u64>,
        update: ConfigUpdate,
        author: &Actor,
    ) -> Result<LayerView, OpsError> {
        access.require_whole_fleet(SHARED)?;
        if *layer == ConfigLayer::Fleet {
            access.require_role(Role::Admin)?;
        }
        let wanted = update.expect;
        let wish = self.wish(layer, update, author).await?;
        require_place(access, wish.before(), &wish.new.document)?;
        let current = wish.latest.as_ref().map_or(0, |latest| latest.version);
        if let Some(expected) = expected.filter(|expected| *expected != current) {
            return Err(OpsError::Stale { expected, current });
        }
        if let Some(wanted) = wanted {
            let changes = self.changed_by(&wish.after(layer)?, layer).await?.0.len();
            if changes != wanted {
                let found = if changes == 1 { "device" } else { "devices" };
                return Err(OpsError::Conflict(format!(
                    "{changes} {found} would get a new version, and {wanted} were expected"
                )));
            }
        }
        let stored = if wish.before() == wish.new.document {
            wish.latest
        } else {
            // What was counted was counted for this version.
            let expected = expected.or(wanted.map(|_| current));
            let stored = self.layers.append(layer, expected, wish.new).await;
            // A store that fails over a commit may have made it all the same.
            let stored = stored.inspect_err(|_| self.layers.look_at_all(None))?;
            self.layers.look_at_all(Some(by_layer(layer, &stored)));
            let text = format!("layer {layer}, {}", set(&stored));
            let (kind, actor) = (EventKind::ConfigLayerSet, author.to_string());
            self.events.record(NewEvent { kind, actor, device: None, text }).await;
            Some(stored)
        };
        let view = self.layer_view(access, layer, stored).await?;
        Ok(LayerView { status: Some("updated".to_owned()), ..view })
    }

    async fn wish(
        &self,
        layer: &ConfigLayer,
        update: ConfigUpdate,
        author: &Actor,
    ) -> Result<Wish, OpsError> {
        if update.api_key.is_some() {
            return Err(OpsError::invalid("api_key", "goes with a device, not with a layer"));
        }
        if update.server_url.is_some() {
            return Err(OpsError::invalid("server_url", "of a layer is said in its config"));
        }
        check_comment(update.comment.as_deref())?;
        let mut comment = update.comment;
        let document = match (update.config, update.rollback_to) {
            (Some(_), Some(_)) => {
                return Err(OpsError::invalid("rollback_to", "goes without config"));
            }
            (None, None) => return Err(OpsError::invalid("config", "is missing")),
            (Some(value), None) => canonical(&value)?,
            (None, Some(version)) => {
                let name = layer.to_string();
                let before = version.checked_add(1);
                let found = self.world.store.layer_history(&name, before, 1).await?;
                let found = found.into_iter().find(|found| found.version == version);
                let missing = || OpsError::NotFound(format!("version {version} to go back to"));
                comment.get_or_insert_with(|| format!("as version {version}"));
                found.ok_or_else(missing)?.config.document
            }
        };
        let stack = self.layers.stack().await?;
        let latest = stack.get(layer).cloned();
        let author = author.to_string();
        let at = self.world.now();
        let server_url = server_url(&document)?;
        let new = NewConfig { document, own: None, author, at, comment, server_url };
        Ok(Wish { stack, latest, new })
    }

    async fn layer_view(
        &self,
        access: &Access,
        layer: &ConfigLayer,
        latest: Option<ConfigVersion>,
    ) -> Result<LayerView, OpsError> {
        let devices = self.having(layer).await?;
        let devices = devices.iter().filter(|device| access.has(device)).count();
        Ok(layer_view(layer, latest, devices))
    }
}

/// Whether somebody may read a layer that so many devices have which they see. The fleet's is in the
/// configuration of every device.
fn is_shown(access: &Access, layer: &ConfigLayer, devices: usize) -> bool {
    access.scope().is_none() || *layer == ConfigLayer::Fleet || devices > 0
}

fn none_such(layer: &ConfigLayer) -> OpsError {
    OpsError::NotFound(format!("layer {layer}"))
}

fn layer_view(layer: &ConfigLayer, latest: Option<ConfigVersion>, devices: usize) -> LayerView {
    let version = latest.as_ref().map_or(0, |latest| latest.version);
    let config = latest.map(|latest| latest.config);
    let document = config.as_ref().map_or(EMPTY_DOCUMENT, |config| &config.document);
    LayerView {
        status: None,
        layer: layer.clone(),
        hash: hash(document),
        config: document.to_owned(),
        version,
        author: config.as_ref().map(|config| config.author.as_str().into()),
        at: config.as_ref().map(|config| config.at),
        comment: config.and_then(|config| config.comment).map(Untrusted::new),
        devices,
    }
}

impl Wish {
    fn before(&self) -> &str {
        self.latest.as_ref().map_or(EMPTY_DOCUMENT, |latest| &latest.config.document)
    }

    /// The layers as they would be.
    fn after(&self, layer: &ConfigLayer) -> Result<Stack, OpsError> {
        let version = self.latest.as_ref().map_or(0, |latest| latest.version) + 1;
        self.stack.with(layer, ConfigVersion { version, config: self.new.clone() })
    }
}
