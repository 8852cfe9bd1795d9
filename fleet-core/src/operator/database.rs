//! What an operator has done to a server's database: less kept, room given back, all of it copied.

use std::time::Duration;

use hyper::header::{self, HeaderValue};

use super::client::{Ask, Client};
use super::error::ClientError;
use super::export::ExportStream;
use crate::api::{Compacted, DbChecked, PruneRequest, Pruned, Route};

/// How long the server may work before it answers: it reads and writes all there is.
const WORK_MAX: Duration = Duration::from_secs(60 * 60);

impl Client {
    /// Removes old telemetry.
    pub async fn db_prune(&self, wish: &PruneRequest) -> Result<Pruned, ClientError> {
        self.call(Route::DbPrune, Ask::body(wish)?.patient(WORK_MAX)).await
    }

    /// Gives back the room of what was pruned.
    pub async fn db_compact(&self) -> Result<Compacted, ClientError> {
        self.call(Route::DbCompact, Ask::default().patient(WORK_MAX)).await
    }

    /// Reads all that is stored, to find out whether it can be read.
    pub async fn db_check(&self) -> Result<DbChecked, ClientError> {
        self.call(Route::DbCheck, Ask::default().patient(WORK_MAX)).await
    }

    /// Begins a backup. Its pieces together are the file.
    pub async fn backup(&self) -> Result<ExportStream, ClientError> {
        let mut request = self.request(&Route::BackupGet, Ask::default())?;
        let kind = HeaderValue::from_static("application/octet-stream");
        request.headers_mut().insert(header::ACCEPT, kind);
        Ok(ExportStream::of(self.url().clone(), self.open(request).await?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::PrivateKey;
    use crate::operator::pretend::Pretend;
    use crate::secret::{ApiKey, KeyKind};

    #[tokio::test]
    async fn each_goes_where_it_belongs() {
        let key = PrivateKey::from_seed(&[7; 32]);
        let answer = r#"{"rows":3,"bytes_before":20,"bytes_after":10}"#;
        let pretend = Pretend::start(&key, move |_| (200, answer.to_owned())).await;
        let key = ApiKey::generate(KeyKind::Operator, key.public().identity()).unwrap();
        let client = Client::new(pretend.url(), key).unwrap();
        let before = "2024-01-15T10:30:00Z".parse().ok();
        let pruned = client.db_prune(&PruneRequest { before }).await.unwrap();
        assert_eq!(pruned, Pruned { rows: 3, bytes_before: 20, bytes_after: 10 });
        assert_eq!(client.db_compact().await.unwrap().bytes_after, 10);
        let mut stream = client.backup().await.unwrap();
        assert_eq!(stream.next().await.unwrap().unwrap(), answer.as_bytes());
        let lines: Vec<_> = pretend.asked().iter().map(|asked| asked.line.clone()).collect();
        let expected = ["POST /api/v1/db/prune", "POST /api/v1/db/compact", "GET /api/v1/backup"];
        assert_eq!(lines, expected);
        // Who may only look may take a backup, and prune nothing.
        let client = client.read_only();
        assert!(client.db_prune(&PruneRequest::default()).await.is_err());
        assert!(client.backup().await.is_ok());
    }
}
