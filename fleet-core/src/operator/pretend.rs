//! A pretend server or agent for tests: a real TLS listener with a real key, answering each request
//! by a function and remembering what it was asked.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use rustls::ServerConfig;
use tokio::net::TcpListener;

use crate::identity::PrivateKey;
use crate::net::accept;
use crate::net::shutdown::Tasks;
use crate::net::tls;
use crate::net::url::ServerUrl;

/// One request, as it came.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) line: String,
    pub(crate) headers: hyper::HeaderMap,
    pub(crate) body: String,
}

type Reply = dyn Fn(&Asked) -> (u16, String) + Send + Sync;

pub(crate) struct Pretend {
    pub(crate) address: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
    tasks: Tasks,
}

impl Pretend {
    pub(crate) async fn start(
        key: &PrivateKey,
        reply: impl Fn(&Asked) -> (u16, String) + Send + Sync + 'static,
    ) -> Self {
        Self::start_with(tls::server_config(key).unwrap(), reply).await
    }

    /// One that shows a certificate of its own, as a proxy does.
    pub(crate) async fn start_with(
        config: Arc<ServerConfig>,
        reply: impl Fn(&Asked) -> (u16, String) + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let reply: Arc<Reply> = Arc::new(reply);
        let tasks = Tasks::default();
        let (within, seen) = (tasks.clone(), asked.clone());
        tasks.spawn("pretend", async move {
            loop {
                let (stream, _) = tokio::select! {
                    accepted = listener.accept() => accepted.unwrap(),
                    () = within.stopping() => return,
                };
                let (config, seen, reply) = (config.clone(), seen.clone(), reply.clone());
                within.spawn("pretend connection", async move {
                    // A client that insists on another key hangs up here.
                    let Ok(accepted) = accept::negotiate(stream, config).await else { return };
                    let service = service_fn(|request| answer(request, &seen, &*reply));
                    let connection = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(accepted), service);
                    drop(connection.await);
                });
            }
        });
        Self { address, asked, tasks }
    }

    pub(crate) fn url(&self) -> ServerUrl {
        ServerUrl::from_address(self.address.ip(), self.address.port())
    }

    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Pretend {
    fn drop(&mut self) {
        self.tasks.stop();
    }
}

async fn answer(
    request: Request<Incoming>,
    seen: &Mutex<Vec<Asked>>,
    reply: &Reply,
) -> Result<Response<Full<Bytes>>, hyper::Error> {
    let (head, body) = request.into_parts();
    let body = body.collect().await?.to_bytes();
    let asked = Asked {
        line: format!("{} {}", head.method, head.uri),
        headers: head.headers,
        body: String::from_utf8_lossy(&body).into_owned(),
    };
    let (status, body) = reply(&asked);
    seen.lock().unwrap_or_else(PoisonError::into_inner).push(asked);
    let mut response = Response::new(Full::from(body));
    *response.status_mut() = StatusCode::from_u16(status).unwrap();
    Ok(response)
}
