//! An export, as an operator's program fetches it: one long answer, taken piece by piece, as fast
//! as whoever reads it gets on.

use std::time::Duration;

use bytes::Bytes;
use hyper::header::{self, HeaderValue};
use tokio::time::timeout;

use super::client::{Ask, Client};
use super::error::ClientError;
use crate::api::{ExportTable, Route};
use crate::net::http::Arriving;
use crate::net::url::ServerUrl;
use crate::time::Timestamp;

/// Without another piece for so long, the server counts as gone.
const SILENCE_MAX: Duration = Duration::from_secs(60);

/// What to export.
#[derive(Clone, Debug, Default)]
pub struct ExportQuery {
    /// These tables; all if there is none.
    pub tables: Vec<ExportTable>,
    /// Of tables with a timestamp, rows not before.
    pub from: Option<Timestamp>,
    /// And not after.
    pub to: Option<Timestamp>,
}

/// An export that is on its way. Its lines are those of [`crate::api::ExportBegin`]'s module.
pub struct ExportStream {
    url: ServerUrl,
    arriving: Arriving,
}

impl Client {
    /// Begins an export.
    pub async fn export(&self, query: &ExportQuery) -> Result<ExportStream, ClientError> {
        let mut ask = Ask::default();
        if !query.tables.is_empty() {
            ask.query(
                "tables",
                &query.tables.iter().map(|it| it.name()).collect::<Vec<_>>().join(","),
            );
        }
        ask.query_some("from", query.from);
        ask.query_some("to", query.to);
        let mut request = self.request(&Route::ExportGet, ask)?;
        let kind = HeaderValue::from_static("application/x-ndjson");
        request.headers_mut().insert(header::ACCEPT, kind);
        Ok(ExportStream::of(self.url().clone(), self.open(request).await?))
    }
}

impl ExportStream {
    pub(super) fn of(url: ServerUrl, arriving: Arriving) -> Self {
        Self { url, arriving }
    }

    /// The next piece, whose ends need not be those of lines; nothing once the server has closed.
    pub async fn next(&mut self) -> Result<Option<Bytes>, ClientError> {
        let url = || self.url.clone();
        match timeout(SILENCE_MAX, self.arriving.next()).await {
            Ok(piece) => piece.map_err(|source| ClientError::Exchange { url: url(), source }),
            Err(_) => Err(ClientError::Silent { url: url(), secs: SILENCE_MAX.as_secs() }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::PrivateKey;
    use crate::operator::exit::Exit;
    use crate::operator::pretend::Pretend;
    use crate::secret::{ApiKey, KeyKind};

    async fn pretend(status: u16, body: &'static str) -> (Pretend, Client) {
        let key = PrivateKey::from_seed(&[7; 32]);
        let pretend = Pretend::start(&key, move |_| (status, body.to_owned())).await;
        let key = ApiKey::generate(KeyKind::Operator, key.public().identity()).unwrap();
        let client = Client::new(pretend.url(), key).unwrap();
        (pretend, client)
    }

    #[tokio::test]
    async fn it_comes_in_pieces_to_its_end() {
        let (pretend, client) = pretend(200, "{}\n{}\n").await;
        let query = ExportQuery {
            tables: vec![ExportTable::Devices, ExportTable::Telemetry],
            from: Some(Timestamp::from_millis(1_705_314_600_000)),
            to: None,
        };
        let mut stream = client.export(&query).await.unwrap();
        let mut all = Vec::new();
        while let Some(piece) = stream.next().await.unwrap() {
            all.extend_from_slice(&piece);
        }
        assert_eq!(all, b"{}\n{}\n");
        let asked = &pretend.asked()[0];
        let line = "GET /api/v1/export?tables=devices%2Ctelemetry&from=2024-01-15T10%3A30%3A00Z";
        assert_eq!(asked.line, line);
        assert_eq!(asked.headers["accept"], "application/x-ndjson");
    }

    #[tokio::test]
    async fn a_no_is_told_like_any_other() {
        for (status, exit) in [(503, Exit::Failed), (401, Exit::NotAllowed), (422, Exit::Usage)] {
            let (_pretend, client) = pretend(status, "").await;
            let error = client.export(&ExportQuery::default()).await.err().unwrap();
            assert_eq!(error.exit(), exit, "{status}: {error:?}");
        }
    }
}
