//! What an operator has devices do, and what becomes of it.

use std::time::Duration;

use super::client::{Ask, Client};
use super::error::ClientError;
use crate::api::{CommandRequest, CommandState, CommandView, Route};
use crate::id::{Uid, UidEnding};
use crate::net::http;

/// Which commands to ask for.
#[derive(Clone, Debug, Default)]
pub struct CommandQuery {
    /// Of one device, by id or uid.
    pub device_id: Option<String>,
    /// In these states, separated by commas; `open` is every state that is not over.
    pub state: Option<String>,
    /// Whose ids end so.
    pub ending: Option<UidEnding>,
    /// Older than this one, as the last command of the page before is.
    pub before: Option<Uid>,
    /// Commands at most; the server's default if absent.
    pub limit: Option<usize>,
}

impl Client {
    /// Has a device do something. The same request under the same number is the same command.
    pub async fn command_create(
        &self,
        request: &CommandRequest,
    ) -> Result<CommandView, ClientError> {
        self.call(Route::CommandCreate, Ask::body(request)?).await
    }

    /// Commands, newest first, without what their programs wrote.
    pub async fn command_list(
        &self,
        query: &CommandQuery,
    ) -> Result<Vec<CommandView>, ClientError> {
        let mut ask = Ask::default();
        ask.query_some("device_id", query.device_id.as_ref());
        ask.query_some("state", query.state.as_ref());
        ask.query_some("ending", query.ending.as_ref());
        ask.query_some("before", query.before);
        ask.query_some("limit", query.limit);
        self.call(Route::CommandList, ask).await
    }

    /// One command.
    pub async fn command_get(&self, id: Uid) -> Result<CommandView, ClientError> {
        self.call(Route::CommandGet(id), Ask::default()).await
    }

    /// One command as soon as its state is another one than `after`, or when the time is up.
    pub async fn command_wait(
        &self,
        id: Uid,
        after: CommandState,
        wait: Duration,
    ) -> Result<CommandView, ClientError> {
        let mut ask = Ask::default();
        ask.query("wait", &wait.as_secs().to_string());
        ask.query("after", after.word());
        self.call(Route::CommandGet(id), ask.patient(wait.saturating_add(http::REQUEST))).await
    }

    /// Takes a command back, unless the device has begun.
    pub async fn command_cancel(&self, id: Uid) -> Result<CommandView, ClientError> {
        self.call(Route::CommandCancel(id), Ask::default()).await
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
        let view = json!({
            "id": id, "device_id": "a", "uid": id, "command": "restart", "args": [],
            "state": "queued", "why": "", "state_at": "2024-01-15T10:30:00Z", "author": "x",
            "created_at": "2024-01-15T10:30:00Z", "expires_at": "2024-01-15T10:40:00Z"
        });
        let pretend = Pretend::start(&key, move |asked| match asked.line.as_str() {
            line if line.starts_with("GET /api/v1/commands?") => (200, "[]".to_owned()),
            _ => (200, view.to_string()),
        })
        .await;
        let key = ApiKey::generate(KeyKind::Operator, key.public().identity()).unwrap();
        let client = Client::new(pretend.url(), key).unwrap();
        let request = CommandRequest {
            id: Some(id),
            device_id: "a".to_owned(),
            command: "restart".to_owned(),
            ..CommandRequest::default()
        };
        assert_eq!(client.command_create(&request).await.unwrap().id, id);
        let query = CommandQuery {
            device_id: Some("a".to_owned()),
            state: Some("open,failed".to_owned()),
            ending: Some(id.ending()),
            before: Some(id),
            limit: Some(3),
        };
        assert_eq!(client.command_list(&query).await.unwrap(), []);
        assert_eq!(client.command_get(id).await.unwrap().state, CommandState::Queued);
        let wait = Duration::from_secs(5);
        client.command_wait(id, CommandState::Sent, wait).await.unwrap();
        client.command_cancel(id).await.unwrap();
        let asked = pretend.asked();
        let lines: Vec<_> = asked.iter().map(|asked| asked.line.clone()).collect();
        let list = format!("device_id=a&state=open%2Cfailed&ending=03030303&before={id}&limit=3");
        assert_eq!(
            lines,
            [
                "POST /api/v1/commands".to_owned(),
                format!("GET /api/v1/commands?{list}"),
                format!("GET /api/v1/commands/{id}"),
                format!("GET /api/v1/commands/{id}?wait=5&after=sent"),
                format!("POST /api/v1/commands/{id}/cancel"),
            ]
        );
        let body = json!({"id": id, "device_id": "a", "command": "restart"});
        assert_eq!(asked[0].body.parse::<serde_json::Value>().unwrap(), body);
        // Who may only look has nothing done.
        let client = client.read_only();
        assert!(client.command_create(&request).await.is_err());
        assert!(client.command_cancel(id).await.is_err());
    }
}
