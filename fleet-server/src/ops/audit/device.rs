//! What devices ask for by their keys, as the record has it.

use std::net::IpAddr;

use fleet_core::api::{AuditAction, AuditActor};
use fleet_core::id::DeviceId;
use fleet_core::identity::PublicKey;
use fleet_core::untrusted::Untrusted;

use super::{Deed, bare};
use crate::store::Device;

/// Something that a device asks for by its key.
pub(in crate::ops) fn by_device(
    device: &Device,
    key: Option<PublicKey>,
    peer: IpAddr,
    action: AuditAction,
    text: String,
) -> Deed {
    let targets = vec![device.id.to_string(), device.uid.to_string()];
    by_key(key, targets, peer, action, text)
}

/// The same of a device that is none yet.
pub(in crate::ops) fn by_newcomer(
    said: &DeviceId,
    key: PublicKey,
    peer: IpAddr,
    action: AuditAction,
    text: String,
) -> Deed {
    by_key(Some(key), vec![said.to_string()], peer, action, text)
}

fn by_key(
    key: Option<PublicKey>,
    targets: Vec<String>,
    peer: IpAddr,
    action: AuditAction,
    text: String,
) -> Deed {
    let key_id = key.map(|key| Untrusted::new(key.fingerprint().to_string()));
    let actor = AuditActor { key_id, ..AuditActor::bare("device") };
    Deed { peer: Some(peer), targets, text, ..bare(actor, "link", action) }
}
