//! The hello: each side proves its key over both nonces and this TLS connection's own secret, so
//! frames that were recorded or relayed prove nothing. Which binding the signatures have is decided
//! by the way the link came, never by what the agent says.

use std::time::Duration;

use fleet_core::codec::Coded;
use fleet_core::identity::PublicKey;
use fleet_core::wire::{Binding, Greeting, Hello, LinkContext, Proof, RefusedReason, VERSION};
use tokio::time::timeout;

use super::{LinkError, Links, Socket};

/// Goes through the hello; returns the key that the device proved to have, and its words.
pub(super) async fn greet(
    links: &Links,
    socket: &mut Socket,
    binding: Binding,
) -> Result<(PublicKey, Proof), LinkError> {
    let hello: Hello = frame(socket, links.patience).await?;
    if !hello.versions.contains(&VERSION) {
        let detail = format!("this server speaks version {VERSION} of the link");
        socket.send(&Greeting::Refused { reason: RefusedReason::Version, detail }).await?;
        return Err(LinkError::Version);
    }
    let mut nonce = [0; 32];
    getrandom::fill(&mut nonce)?;
    let context = LinkContext {
        device_pub: hello.device_pub,
        device_nonce: hello.nonce,
        server_pub: links.server.public().bytes(),
        server_nonce: nonce,
        binding,
    };
    let welcome = Greeting::Welcome {
        version: VERSION,
        nonce,
        server_pub: context.server_pub,
        signature: context.sign_as_server(&links.server),
    };
    socket.send(&welcome).await?;
    let proof: Proof = frame(socket, links.patience).await?;
    if context.device_signed(&proof.signature) {
        Ok((PublicKey::from_bytes(hello.device_pub), proof))
    } else {
        Err(LinkError::Signature)
    }
}

async fn frame<T: Coded>(socket: &mut Socket, patience: Duration) -> Result<T, LinkError> {
    Ok(timeout(patience, socket.receive_frame()).await.map_err(|_| LinkError::Silent)??)
}
