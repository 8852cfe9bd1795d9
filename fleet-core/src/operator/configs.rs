//! Configurations: what a device shall be, was told before, and says it is.

use super::client::{Ask, Client};
use super::error::ClientError;
use crate::api::{
    ConfigLayer, ConfigUpdate, ConfigVersionView, ConfigView, LayerPreview, LayerView, Route,
};

/// Which versions to ask for.
#[derive(Clone, Debug, Default)]
pub struct HistoryQuery {
    /// Older than this one, as the last version of the page before is.
    pub before: Option<u64>,
    /// Versions at most; the server's default if absent.
    pub limit: Option<usize>,
}

/// Whose configuration is meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Whose {
    /// A device's, by id or uid.
    Device(String),
    /// A layer's, which several devices share.
    Layer(ConfigLayer),
}

impl Whose {
    fn ask(&self, ask: &mut Ask) {
        match self {
            Self::Device(id) => ask.query("device_id", id),
            Self::Layer(layer) => ask.query("layer", &layer.to_string()),
        }
    }
}

impl Client {
    /// A device's configuration, wanted and reported.
    pub async fn config_get(&self, id: &str) -> Result<ConfigView, ClientError> {
        let mut ask = Ask::default();
        ask.query("device_id", id);
        self.call(Route::ConfigGet, ask).await
    }

    /// Configures a device; with `expect`, only if that is still the current version.
    pub async fn config_set(
        &self,
        id: &str,
        update: &ConfigUpdate,
        expect: Option<u64>,
    ) -> Result<ConfigView, ClientError> {
        let mut ask = Ask::body(update)?;
        ask.query("device_id", id);
        ask.if_match = expect;
        self.call(Route::ConfigPost, ask).await
    }

    /// Versions of a configuration, newest first.
    pub async fn config_history(
        &self,
        whose: &Whose,
        query: &HistoryQuery,
    ) -> Result<Vec<ConfigVersionView>, ClientError> {
        let mut ask = Ask::default();
        whose.ask(&mut ask);
        ask.query_some("before", query.before);
        ask.query_some("limit", query.limit);
        self.call(Route::ConfigHistory, ask).await
    }

    /// One version of a configuration, if there is or was one.
    pub async fn config_version(
        &self,
        whose: &Whose,
        version: u64,
    ) -> Result<Option<ConfigVersionView>, ClientError> {
        let query = HistoryQuery { before: version.checked_add(1), limit: Some(1) };
        let found = self.config_history(whose, &query).await?;
        Ok(found.into_iter().find(|found| found.version == version))
    }

    /// All layers that say something or said something once.
    pub async fn layer_list(&self) -> Result<Vec<LayerView>, ClientError> {
        self.call(Route::ConfigLayers, Ask::default()).await
    }

    /// A layer.
    pub async fn layer_get(&self, layer: &ConfigLayer) -> Result<LayerView, ClientError> {
        let mut ask = Ask::default();
        ask.query("layer", &layer.to_string());
        self.call(Route::ConfigGet, ask).await
    }

    /// What a change of a layer would be, without doing anything.
    pub async fn layer_preview(
        &self,
        layer: &ConfigLayer,
        update: &ConfigUpdate,
    ) -> Result<LayerPreview, ClientError> {
        let mut ask = Ask::body(update)?;
        ask.query("layer", &layer.to_string());
        self.call(Route::ConfigPreview, ask).await
    }

    /// Changes a layer; with `expect`, only if that is still its version.
    pub async fn layer_set(
        &self,
        layer: &ConfigLayer,
        update: &ConfigUpdate,
        expect: Option<u64>,
    ) -> Result<LayerView, ClientError> {
        let mut ask = Ask::body(update)?;
        ask.query("layer", &layer.to_string());
        ask.if_match = expect;
        self.call(Route::ConfigPost, ask).await
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::identity::PrivateKey;
    use crate::operator::pretend::Pretend;
    use crate::secret::{ApiKey, KeyKind};

    #[tokio::test]
    async fn each_goes_where_it_belongs() {
        let key = PrivateKey::from_seed(&[7; 32]);
        let version = json!({
            "version": 3, "hash": "h", "document": {}, "author": "a", "at": "2024-01-15T10:30:00Z"
        });
        let pretend = Pretend::start(&key, move |_| (200, json!([version]).to_string())).await;
        let key = ApiKey::generate(KeyKind::Operator, key.public().identity()).unwrap();
        let client = Client::new(pretend.url(), key).unwrap().read_only();
        let query = HistoryQuery { before: Some(9), limit: Some(2) };
        let device = Whose::Device("a".to_owned());
        let layer = Whose::Layer("tag:é".parse().unwrap());
        assert_eq!(client.config_history(&device, &query).await.unwrap()[0].version, 3);
        assert!(client.config_version(&device, 3).await.unwrap().is_some());
        assert!(
            client.config_version(&layer, 4).await.unwrap().is_none(),
            "an older one is not it"
        );
        let lines: Vec<_> = pretend.asked().iter().map(|asked| asked.line.clone()).collect();
        assert_eq!(
            lines,
            [
                "GET /api/v1/config/history?device_id=a&before=9&limit=2",
                "GET /api/v1/config/history?device_id=a&before=4&limit=1",
                "GET /api/v1/config/history?layer=tag%3A%C3%A9&before=5&limit=1",
            ]
        );
        let (fleet, update) = (ConfigLayer::Fleet, ConfigUpdate::default());
        assert!(client.config_set("a", &update, None).await.is_err());
        assert!(client.layer_set(&fleet, &update, None).await.is_err());
        assert_eq!(pretend.asked().len(), 3, "who may only look changes nothing");
    }
}
