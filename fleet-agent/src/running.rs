//! The agent that is running here: where it listens, left in `agent.json` for `fleetd status`, and
//! what it says about itself.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use fleet_core::api::AgentInfo;
use fleet_core::identity::Fingerprint;
use fleet_core::net::http::{self, HttpError};
use fleet_core::net::tls::Pin;
use http_body_util::Full;
use hyper::{Request, StatusCode};
use serde::{Deserialize, Serialize};

use crate::state::folder::{Folder, StateError};

/// The file's name.
pub(crate) const FILE: &str = "agent.json";
/// Bytes of an answer.
const INFO_BYTES_MAX: usize = 64 * 1024;
/// How long an agent on the same machine may take.
const ANSWER: Duration = Duration::from_secs(5);

/// A running agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Running {
    /// Its process.
    pub pid: u32,
    /// An address by which this machine reaches it.
    pub address: IpAddr,
    /// Its port.
    pub port: u16,
    /// Its key, so that nobody else can answer in its place.
    pub fingerprint: Fingerprint,
}

/// Why a running agent does not say how it is.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// It does not answer.
    #[error("the agent (process {pid}) does not answer")]
    Http {
        /// Its process.
        pid: u32,
        /// Why.
        source: HttpError,
    },
    /// It answers something else.
    #[error("the agent (process {pid}) answered {status} and nothing that can be read")]
    Answer {
        /// Its process.
        pid: u32,
        /// What it answered.
        status: StatusCode,
    },
}

impl Running {
    /// Leaves the note.
    pub fn note(&self, folder: &Folder) -> Result<(), StateError> {
        let text = serde_json::to_string(self).expect("a note has no part that JSON lacks");
        folder.publish(FILE, &text)
    }

    /// Takes the note away.
    pub fn forget(folder: &Folder) -> Result<(), StateError> {
        folder.remove(FILE).map(drop)
    }

    /// The agent that runs on a folder, by its note. A note may have outlived its agent, and its
    /// process number may be somebody else's by now; whoever asks will notice.
    pub fn find(folder: &Folder) -> Result<Option<Self>, StateError> {
        let text = folder.read(FILE)?;
        Ok(text.and_then(|text| serde_json::from_slice(&text).ok()))
    }

    /// Asks how it is.
    pub async fn ask(&self) -> Result<AgentInfo, AskError> {
        let failed = |source| AskError::Http { pid: self.pid, source };
        let address = SocketAddr::new(self.address, self.port);
        let peer = address.to_string();
        let pin = Pin::Device(self.fingerprint);
        let stream = http::connect_address(address, &peer, pin).await.map_err(failed)?;
        let request = Request::get("/info").body(Full::<Bytes>::default());
        let request = request.expect("a fixed path makes a request");
        let answer = Box::pin(http::send(stream, &peer, request, INFO_BYTES_MAX, ANSWER));
        let answer = answer.await.map_err(failed)?;
        serde_json::from_slice(&answer.body)
            .map_err(|_| AskError::Answer { pid: self.pid, status: answer.status })
    }
}
