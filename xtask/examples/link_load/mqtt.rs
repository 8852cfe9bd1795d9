//! As many clients that come to an MQTT broker over TLS: what links are compared with.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use futures_util::{StreamExt as _, stream};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto::ring};

use crate::fleet::AT_ONCE;

pub(crate) async fn run(
    address: SocketAddr,
    certificate: &Path,
    links: u32,
) -> anyhow::Result<Value> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(certificate)?)?;
    let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.resumption = tokio_rustls::rustls::client::Resumption::disabled();
    let connector = TlsConnector::from(Arc::new(config));
    let started = Instant::now();
    let opened = stream::iter(0..links)
        .map(|number| open(&connector, address, number))
        .buffer_unordered(AT_ONCE);
    let clients: Vec<_> = opened.collect::<Vec<_>>().await.into_iter().collect::<Result<_, _>>()?;
    let storm = started.elapsed();
    drop(clients);
    Ok(json!({ "storm_secs": storm.as_secs_f64() }))
}

/// Connects a client and has it listen to a topic of its own (MQTT 3.1.1).
async fn open(
    connector: &TlsConnector,
    address: SocketAddr,
    number: u32,
) -> anyhow::Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(address).await.context("cannot reach the broker")?;
    stream.set_nodelay(true)?;
    let mut stream = connector.connect(ServerName::IpAddress(address.ip().into()), stream).await?;
    let id = format!("link-{number:05}");
    let topic = format!("devices/{id}");
    // Protocol and level, a clean session, 60 s of silence at most.
    let connect = [&[0, 4, b'M', b'Q', b'T', b'T', 4, 2, 0, 60], text(&id).as_slice()].concat();
    stream.write_all(&packet(0x10, &connect)).await?;
    let mut accepted = [0; 4];
    stream.read_exact(&mut accepted).await?;
    if accepted != [0x20, 2, 0, 0] {
        bail!("the broker answered {accepted:?} to a client that connects");
    }
    let subscribe = [&[0, 1], text(&topic).as_slice(), &[0]].concat();
    stream.write_all(&packet(0x82, &subscribe)).await?;
    let mut accepted = [0; 5];
    stream.read_exact(&mut accepted).await?;
    if accepted != [0x90, 3, 0, 1, 0] {
        bail!("the broker answered {accepted:?} to a client that subscribes");
    }
    Ok(stream)
}

/// A packet; it is short.
fn packet(kind: u8, body: &[u8]) -> Vec<u8> {
    [&[kind, body.len() as u8], body].concat()
}

fn text(text: &str) -> Vec<u8> {
    [&[0, text.len() as u8], text.as_bytes()].concat()
}
