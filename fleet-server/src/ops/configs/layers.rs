//! The layers that configurations are made of, as they are now, and which devices are to be settled
//! because of a change.
//!
//! Layers are few and looked at for every device, so they are held in memory. They are changed in the
//! store first, by one at a time, and read anew before the change is answered.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use fleet_core::api::{ConfigDocument, ConfigLayer, DEVICE_LAYER, Layered, SERVER_URL};
use fleet_core::filter;
use fleet_core::id::Uid;
use serde_json::Value;
use tokio::sync::Notify;

use super::EMPTY_DOCUMENT;
use crate::ops::{OpsError, World};
use crate::store::{ConfigVersion, Device, NewConfig};

/// The metadata entry whose words are a device's tags.
pub(crate) const TAGS_ENTRY: &str = "tags";

/// The layers, and what is to be settled.
pub(crate) struct Layers {
    world: World,
    known: Mutex<Option<Arc<Stack>>>,
    /// Held by the one who changes a layer or reads them anew.
    turn: tokio::sync::Mutex<()>,
    unsettled: Mutex<Unsettled>,
    rung: Notify,
}

/// All layers at one moment.
#[derive(Clone, Default)]
pub(crate) struct Stack(BTreeMap<ConfigLayer, Layer>);

/// A layer's latest version.
#[derive(Clone)]
pub(super) struct Layer {
    pub(super) stored: ConfigVersion,
    document: Value,
}

/// What a device shall be, made of its layers.
pub(crate) struct Effective {
    /// The document.
    pub(crate) document: String,
    /// Which layer each path is from.
    pub(crate) provenance: BTreeMap<String, String>,
}

/// Why devices may have to be something else, for the record.
#[derive(Clone, Debug)]
pub(crate) struct Cause {
    pub(crate) author: String,
    pub(crate) comment: String,
}

/// What is to be looked at, and why where that is known.
#[derive(Clone, Default)]
pub(super) struct Unsettled {
    pub(super) is_all: bool,
    pub(super) why_all: Option<Cause>,
    pub(super) some: HashMap<Uid, Option<Cause>>,
}

impl Layers {
    /// After a start nobody knows what was settled before it.
    pub(crate) fn new(world: World) -> Self {
        let unsettled = Unsettled { is_all: true, ..Unsettled::default() };
        Self {
            world,
            known: Mutex::default(),
            turn: tokio::sync::Mutex::default(),
            unsettled: Mutex::new(unsettled),
            rung: Notify::new(),
        }
    }

    /// The layers as they are now.
    pub(crate) async fn stack(&self) -> Result<Arc<Stack>, OpsError> {
        if let Some(stack) = self.known().clone() {
            return Ok(stack);
        }
        let _turn = self.turn.lock().await;
        // Somebody may have read them meanwhile.
        let known = self.known().clone();
        match known {
            Some(stack) => Ok(stack),
            None => self.read().await,
        }
    }

    /// Adds a layer's next version, if `expected` is its latest or not said.
    pub(super) async fn append(
        &self,
        layer: &ConfigLayer,
        expected: Option<u64>,
        config: NewConfig,
    ) -> Result<ConfigVersion, OpsError> {
        let _turn = self.turn.lock().await;
        // Whatever becomes of it, what is known is not so any more.
        *self.known() = None;
        let stored = self.world.store.layer_append(&layer.to_string(), expected, config).await?;
        self.read().await?;
        Ok(stored)
    }

    /// Has a device looked at.
    pub(crate) fn look_at(&self, uid: Uid, cause: Option<Cause>) {
        self.unsettled().some.insert(uid, cause);
        self.rung.notify_one();
    }

    /// Has all devices looked at.
    pub(super) fn look_at_all(&self, cause: Option<Cause>) {
        let mut unsettled = self.unsettled();
        // Of two that come together nobody can tell which of them a device's change is from.
        unsettled.why_all = cause.filter(|_| !unsettled.is_all);
        unsettled.is_all = true;
        drop(unsettled);
        self.rung.notify_one();
    }

    /// Waits until something is to be looked at, and takes it.
    pub(super) async fn wanted(&self) -> Unsettled {
        loop {
            let wanted = std::mem::take(&mut *self.unsettled());
            if wanted.is_all || !wanted.some.is_empty() {
                return wanted;
            }
            self.rung.notified().await;
        }
    }

    async fn read(&self) -> Result<Arc<Stack>, OpsError> {
        let mut stack = BTreeMap::new();
        for (name, stored) in self.world.store.layer_list().await? {
            let layer: ConfigLayer = name.parse().map_err(|_| OpsError::Defect)?;
            stack.insert(layer, Layer::read(stored)?);
        }
        let stack = Arc::new(Stack(stack));
        *self.known() = Some(stack.clone());
        Ok(stack)
    }

    fn known(&self) -> MutexGuard<'_, Option<Arc<Stack>>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn unsettled(&self) -> MutexGuard<'_, Unsettled> {
        self.unsettled.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Layer {
    fn read(stored: ConfigVersion) -> Result<Self, OpsError> {
        let document = parsed(&stored.config.document)?;
        Ok(Self { stored, document })
    }
}

impl Stack {
    /// Whether no layer says anything.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn get(&self, layer: &ConfigLayer) -> Option<&ConfigVersion> {
        self.0.get(layer).map(|layer| &layer.stored)
    }

    pub(super) fn all(&self) -> impl Iterator<Item = (&ConfigLayer, &ConfigVersion)> {
        self.0.iter().map(|(layer, known)| (layer, &known.stored))
    }

    /// The same with another version of a layer.
    pub(super) fn with(
        &self,
        layer: &ConfigLayer,
        stored: ConfigVersion,
    ) -> Result<Self, OpsError> {
        let mut stack = self.clone();
        stack.0.insert(layer.clone(), Layer::read(stored)?);
        Ok(stack)
    }

    /// What a device with these tags shall be, whose own part is this.
    pub(crate) fn effective(
        &self,
        tags: &BTreeSet<String>,
        own: &str,
    ) -> Result<Effective, OpsError> {
        let mut layered = Layered::default();
        // They come in their order: the fleet's first, then tags by the alphabet.
        for (layer, known) in self.of(tags) {
            layered.add(&layer.to_string(), &known.document);
        }
        layered.add(DEVICE_LAYER, &parsed(own)?);
        let document = canonical(&layered.document())?;
        Ok(Effective { document, provenance: layered.provenance })
    }

    /// The layer of a device that changed last, if there is one.
    pub(super) fn newest(&self, tags: &BTreeSet<String>) -> Option<(&ConfigLayer, &ConfigVersion)> {
        let newest = self.of(tags).max_by_key(|(_, known)| known.stored.config.at);
        newest.map(|(layer, known)| (layer, &known.stored))
    }

    fn of(&self, tags: &BTreeSet<String>) -> impl Iterator<Item = (&ConfigLayer, &Layer)> {
        self.0.iter().filter(|(layer, _)| has_layer(tags, layer))
    }
}

/// Whether a device with these tags has a layer.
pub(super) fn has_layer(tags: &BTreeSet<String>, layer: &ConfigLayer) -> bool {
    match layer {
        ConfigLayer::Fleet => true,
        ConfigLayer::Tag(tag) => tags.contains(tag),
    }
}

/// A device's tags.
pub(crate) fn tags_of(device: &Device) -> BTreeSet<String> {
    let entry = device.metadata.get(TAGS_ENTRY);
    let entry: Option<Value> = entry.and_then(|text| serde_json::from_str(text).ok());
    filter::tags(entry.as_ref()).map(str::to_owned).collect()
}

/// What of a device's latest version is its own.
pub(crate) fn own_of(latest: Option<&ConfigVersion>) -> &str {
    latest.map_or(EMPTY_DOCUMENT, |latest| own_part(&latest.config))
}

/// What of a version is the device's own.
pub(super) fn own_part(config: &NewConfig) -> &str {
    config.own.as_deref().unwrap_or(&config.document)
}

/// A document as it is stored, or where it is wrong.
pub(super) fn canonical(value: &Value) -> Result<String, OpsError> {
    let document = ConfigDocument::from_json(value)
        .map_err(|error| OpsError::invalid(error.path.to_string(), error.problem))?;
    Ok(document.to_json().to_string())
}

/// Where a document says that the server is.
pub(crate) fn server_url(document: &str) -> Result<Option<String>, OpsError> {
    Ok(parsed(document)?.get(SERVER_URL).and_then(Value::as_str).map(str::to_owned))
}

/// A document that was stored.
pub(super) fn parsed(document: &str) -> Result<Value, OpsError> {
    serde_json::from_str(document).map_err(|_| OpsError::Defect)
}
