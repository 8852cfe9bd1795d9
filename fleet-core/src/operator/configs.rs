//! Configurations: what a device shall be, was told before, and says it is.

use super::client::{Ask, Client};
use super::error::ClientError;
use crate::api::{ConfigUpdate, ConfigVersionView, ConfigView, Route};

/// Which versions to ask for.
#[derive(Clone, Debug, Default)]
pub struct HistoryQuery {
    /// Older than this one, as the last version of the page before is.
    pub before: Option<u64>,
    /// Versions at most; the server's default if absent.
    pub limit: Option<usize>,
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

    /// A device's versions, newest first.
    pub async fn config_history(
        &self,
        id: &str,
        query: &HistoryQuery,
    ) -> Result<Vec<ConfigVersionView>, ClientError> {
        let mut ask = Ask::default();
        ask.query("device_id", id);
        ask.query_some("before", query.before);
        ask.query_some("limit", query.limit);
        self.call(Route::ConfigHistory, ask).await
    }

    /// One version of a device's configuration, if there is or was one.
    pub async fn config_version(
        &self,
        id: &str,
        version: u64,
    ) -> Result<Option<ConfigVersionView>, ClientError> {
        let query = HistoryQuery { before: version.checked_add(1), limit: Some(1) };
        let found = self.config_history(id, &query).await?;
        Ok(found.into_iter().find(|found| found.version == version))
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
        assert_eq!(client.config_history("a", &query).await.unwrap()[0].version, 3);
        assert!(client.config_version("a", 3).await.unwrap().is_some());
        assert!(client.config_version("a", 4).await.unwrap().is_none(), "an older one is not it");
        let lines: Vec<_> = pretend.asked().iter().map(|asked| asked.line.clone()).collect();
        assert_eq!(
            lines,
            [
                "GET /api/v1/config/history?device_id=a&before=9&limit=2",
                "GET /api/v1/config/history?device_id=a&before=4&limit=1",
                "GET /api/v1/config/history?device_id=a&before=5&limit=1",
            ]
        );
        assert!(client.config_set("a", &ConfigUpdate::default(), None).await.is_err());
    }
}
