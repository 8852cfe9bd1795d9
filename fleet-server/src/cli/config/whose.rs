//! Whose configuration a command is about: a device's, or a layer's that several devices share.

use fleet_core::api::ConfigLayer;
use fleet_core::cli::failure::Failure;
use fleet_core::operator::client::Client;
use fleet_core::operator::configs::Whose;

/// A device, or a layer in its place.
#[derive(Debug, clap::Args)]
pub(super) struct WhoseArgs {
    /// The device, by id or uid
    #[arg(value_name = "ID", required_unless_present = "layer", conflicts_with = "layer")]
    id: Option<String>,
    #[command(flatten)]
    layer: LayerArg,
}

/// A layer in a device's place.
#[derive(Debug, clap::Args)]
pub(super) struct LayerArg {
    /// Instead of a device's: what holds for all devices (fleet), or for those with a tag (tag:NAME)
    #[arg(long, value_name = "LAYER")]
    layer: Option<ConfigLayer>,
}

/// A configuration as it is now.
pub(super) struct Current {
    /// What it is called.
    pub(super) name: String,
    pub(super) version: u64,
    /// All that it says.
    pub(super) document: String,
    /// The part of it that can be changed here.
    pub(super) own: String,
    /// The device would have none of it, so that the same is tried anew.
    pub(super) is_left: bool,
}

impl WhoseArgs {
    pub(super) fn read(self) -> Whose {
        match (self.id, self.layer.layer) {
            (_, Some(layer)) => Whose::Layer(layer),
            // One of the two is there.
            (id, None) => Whose::Device(id.unwrap_or_default()),
        }
    }
}

impl LayerArg {
    /// Whose it is, and the words that are about what. The first one is the device if no layer is
    /// named.
    pub(super) fn split(self, words: Vec<String>) -> Result<(Whose, Vec<String>), Failure> {
        if let Some(layer) = self.layer {
            return Ok((Whose::Layer(layer), words));
        }
        let mut words = words.into_iter();
        match words.next() {
            Some(id) => Ok((Whose::Device(id), words.collect())),
            None => Err(Failure::usage("name a device, or a layer with --layer")),
        }
    }
}

/// A configuration as it is now.
pub(super) async fn current(whose: &Whose, client: &Client) -> Result<Current, Failure> {
    match whose {
        Whose::Device(id) => {
            let view = client.config_get(id).await?;
            let reported = view.reported.as_ref();
            let is_left = reported.is_some_and(|reported| {
                reported.version == view.version && reported.error.is_some()
            });
            Ok(Current {
                is_left,
                name: view.device_id.to_string(),
                version: view.version,
                own: view.own.unwrap_or_else(|| view.config.clone()),
                document: view.config,
            })
        }
        Whose::Layer(layer) => {
            let view = client.layer_get(layer).await?;
            Ok(Current {
                is_left: false,
                name: format!("layer {layer}"),
                version: view.version,
                own: view.config.clone(),
                document: view.config,
            })
        }
    }
}
