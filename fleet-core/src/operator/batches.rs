//! The same thing done to many devices, and how far each has come.

use super::client::{Ask, Client};
use super::error::ClientError;
use crate::api::{
    BatchMember, BatchPreview, BatchRequest, BatchRetry, BatchView, MemberState, Route,
};
use crate::id::{DeviceId, Uid};

/// Which devices of a batch to ask for.
#[derive(Clone, Debug, Default)]
pub struct MemberQuery {
    /// In these states; in all states if there is none.
    pub states: Vec<MemberState>,
    /// Whose id comes after this one, as that of the last one of the page before does.
    pub after: Option<DeviceId>,
    /// Devices at most; the server's default if absent.
    pub limit: Option<usize>,
}

impl Client {
    /// What a batch would be, without doing anything.
    pub async fn batch_preview(&self, request: &BatchRequest) -> Result<BatchPreview, ClientError> {
        self.call(Route::BatchPreview, Ask::body(request)?).await
    }

    /// Begins a batch. The same request under the same number is the same batch.
    pub async fn batch_create(&self, request: &BatchRequest) -> Result<BatchView, ClientError> {
        self.call(Route::BatchCreate, Ask::body(request)?).await
    }

    /// Batches older than one, newest first.
    pub async fn batch_list(
        &self,
        before: Option<Uid>,
        limit: Option<usize>,
    ) -> Result<Vec<BatchView>, ClientError> {
        let mut ask = Ask::default();
        ask.query_some("before", before);
        ask.query_some("limit", limit);
        self.call(Route::BatchList, ask).await
    }

    /// One batch.
    pub async fn batch_get(&self, id: Uid) -> Result<BatchView, ClientError> {
        self.call(Route::BatchGet(id), Ask::default()).await
    }

    /// Devices of a batch, by id.
    pub async fn batch_members(
        &self,
        id: Uid,
        query: &MemberQuery,
    ) -> Result<Vec<BatchMember>, ClientError> {
        let mut ask = Ask::default();
        if !query.states.is_empty() {
            let states: Vec<_> = query.states.iter().map(MemberState::word).collect();
            ask.query("state", &states.join(","));
        }
        ask.query_some("after", query.after.as_ref());
        ask.query_some("limit", query.limit);
        self.call(Route::BatchMembers(id), ask).await
    }

    /// Has no further device of a batch begin.
    pub async fn batch_pause(&self, id: Uid) -> Result<BatchView, ClientError> {
        self.call(Route::BatchPause(id), Ask::default()).await
    }

    /// Has a paused batch go on.
    pub async fn batch_continue(&self, id: Uid) -> Result<BatchView, ClientError> {
        self.call(Route::BatchContinue(id), Ask::default()).await
    }

    /// Calls off what has not begun of a batch.
    pub async fn batch_cancel(&self, id: Uid) -> Result<BatchView, ClientError> {
        self.call(Route::BatchCancel(id), Ask::default()).await
    }

    /// Does the same again to the devices of a batch that failed, only if there are as many as
    /// expected; the new batch.
    pub async fn batch_retry(
        &self,
        id: Uid,
        expect: Option<usize>,
    ) -> Result<BatchView, ClientError> {
        self.call(Route::BatchRetry(id), Ask::body(&BatchRetry { expect })?).await
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
        let id = Uid::from_bytes([3; 16]);
        let time = "2024-01-15T10:30:00Z";
        let view = json!({
            "id": id, "state": "running", "why": "", "state_at": time, "total": 1, "counts": {},
            "window": 1, "canary": 0, "max_fail": 1, "timeout_secs": 60, "offline": "queue",
            "expires_at": time, "author": "x", "created_at": time
        });
        let preview = json!({
            "devices": [], "by_status": {}, "by_type": {}, "offline": 0, "excluded": [],
            "window": 1, "canary": 0, "max_fail": 1, "expires_at": time
        });
        let pretend = Pretend::start(&key, move |asked| match asked.line.as_str() {
            "POST /api/v1/batches/preview" => (200, preview.to_string()),
            line if line.contains('?') => (200, "[]".to_owned()),
            _ => (200, view.to_string()),
        })
        .await;
        let key = ApiKey::generate(KeyKind::Operator, key.public().identity()).unwrap();
        let client = Client::new(pretend.url(), key).unwrap();
        let request = BatchRequest { filter: Some("a".to_owned()), ..BatchRequest::default() };
        client.batch_preview(&request).await.unwrap();
        assert_eq!(client.batch_create(&request).await.unwrap().id, id);
        assert_eq!(client.batch_list(Some(id), Some(3)).await.unwrap(), []);
        client.batch_get(id).await.unwrap();
        let query = MemberQuery {
            states: vec![MemberState::Failed, MemberState::Unknown],
            after: "a".parse().ok(),
            limit: Some(5),
        };
        assert_eq!(client.batch_members(id, &query).await.unwrap(), []);
        client.batch_pause(id).await.unwrap();
        client.batch_continue(id).await.unwrap();
        client.batch_cancel(id).await.unwrap();
        client.batch_retry(id, Some(3)).await.unwrap();
        let lines: Vec<_> = pretend.asked().iter().map(|asked| asked.line.clone()).collect();
        assert_eq!(
            lines,
            [
                "POST /api/v1/batches/preview".to_owned(),
                "POST /api/v1/batches".to_owned(),
                format!("GET /api/v1/batches?before={id}&limit=3"),
                format!("GET /api/v1/batches/{id}"),
                format!("GET /api/v1/batches/{id}/devices?state=failed%2Cunknown&after=a&limit=5"),
                format!("POST /api/v1/batches/{id}/pause"),
                format!("POST /api/v1/batches/{id}/continue"),
                format!("POST /api/v1/batches/{id}/cancel"),
                format!("POST /api/v1/batches/{id}/retry"),
            ]
        );
        // Who may only look may see what would be, and has nothing done.
        let client = client.read_only();
        assert!(client.batch_preview(&request).await.is_ok());
        assert!(client.batch_create(&request).await.is_err());
        assert!(client.batch_retry(id, None).await.is_err());
    }
}
