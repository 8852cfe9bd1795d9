//! Devices' new keys. A device offers one because an operator has it do so, and from then on it may
//! come with either key. When it comes with the new one, that is its key, and the old one is of no
//! use to anybody.

use std::net::IpAddr;

use fleet_core::Chain;
use fleet_core::api::{AuditAction, EventKind};
use fleet_core::command::Command;
use fleet_core::id::Uid;
use fleet_core::identity::PublicKey;
use fleet_core::wire::NewKey;

use super::audit::Upshot;
use super::events::NewEvent;
use super::{Actor, Enrolment, OpsError, audit};
use crate::store::{
    CommandRecord, Conflict, Device, FORMER_KEYS_MAX, NextKey, Refusal, StoreError,
};

impl Enrolment {
    /// Takes a new key of a device beside the one that it has, if one of its open commands asks for
    /// it. A command has one key: what was taken is not exchanged for that of somebody else who has a
    /// copy of the old one, which would lock the device out. The inner error says to the device why not.
    pub(crate) async fn offered(
        &self,
        uid: Uid,
        offer: &NewKey,
        open: &[CommandRecord],
    ) -> Result<Result<(), String>, OpsError> {
        let device = self.world.store.device_get(uid).await?;
        let Some(old) = device.and_then(|device| device.key) else {
            return Ok(Err("the device has no key".to_owned()));
        };
        let asks = |command: &CommandRecord| {
            command.id.bytes() == offer.command && command.command == Command::RotateKey
        };
        if !open.iter().any(asks) {
            return Ok(Err("nobody asked for a new key".to_owned()));
        }
        if !offer.is_signed(uid.bytes(), self.server, old) {
            return Ok(Err("the new key is not signed by both keys".to_owned()));
        }
        let new = PublicKey::from_bytes(offer.device_pub);
        let command = Uid::from_bytes(offer.command);
        let change = move |device: &mut Device| {
            if device.key != Some(old) {
                return Err(Refusal("the device has another key by now".to_owned()));
            }
            if device.other_keys.next_key() != Some(new) {
                if device.has_key(new) {
                    return Err(Refusal("the device has or had that key already".to_owned()));
                }
                if device.other_keys.next.is_some_and(|next| next.command == Some(command)) {
                    let why = "another new key was taken for the same command already";
                    return Err(Refusal(why.to_owned()));
                }
            }
            device.other_keys.next = Some(NextKey { key: new, command: Some(command) });
            Ok(())
        };
        match self.world.store.device_update(uid, Box::new(change)).await {
            Ok(_) => Ok(Ok(())),
            Err(StoreError::Refused(refusal)) => Ok(Err(refusal.to_string())),
            Err(StoreError::Conflict(Conflict::DeviceKey)) => {
                Ok(Err("another device has that key".to_owned()))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// What a key makes of the device that has, or had, or shall have it: one that comes with its new
    /// key has no other from then on. What had its time is refused.
    pub(super) async fn by_one_of_its_keys(
        &self,
        device: Device,
        key: PublicKey,
        peer: IpAddr,
    ) -> Result<Device, OpsError> {
        if device.key == Some(key) {
            return Ok(device);
        }
        if device.other_keys.next_key() != Some(key) {
            tracing::warn!(device_id = %device.id, fingerprint = %key.fingerprint(), "a former key was tried");
            let reason =
                format!("this key was replaced by a newer one of the device {}", device.id);
            let action = AuditAction::DeviceEnrol;
            let deed = audit::by_device(&device, Some(key), peer, action, reason.clone());
            self.audit.refused(deed, None).await;
            return Err(OpsError::Forbidden(reason));
        }
        let before = device.key;
        let fingerprint = |key: PublicKey| key.fingerprint().to_string();
        let words = before.map_or_else(|| "none".to_owned(), fingerprint);
        let text = format!("key {words} → {}", fingerprint(key));
        let change = move |device: &mut Device| {
            if device.key != before || device.other_keys.next_key() != Some(key) {
                return Err(Refusal("the device has another key by now".to_owned()));
            }
            device.key = Some(key);
            device.other_keys.next = None;
            let former = &mut device.other_keys.former;
            former.extend(before);
            let too_many = former.len().saturating_sub(FORMER_KEYS_MAX);
            former.drain(..too_many);
            Ok(())
        };
        let action = AuditAction::DeviceRekey;
        let deed = audit::by_device(&device, Some(key), peer, action, text.clone());
        let begun = self.audit.begin(deed).await?;
        let at = self.world.now();
        let tell = move |device: &Device| {
            let kind = EventKind::DeviceRekeyed;
            vec![NewEvent::about(device, kind, Actor::Device, text.clone()).at(at)]
        };
        let update =
            self.world.store.device_update_told(device.uid, Box::new(change), Box::new(tell));
        let changed = update.await;
        let text =
            changed.as_ref().map_or_else(|error| Chain(error).to_string(), |_| String::new());
        begun.end(Upshot { text, ..Upshot::default() }).await;
        let device = changed?;
        self.hub.wake(device.uid);
        Ok(device)
    }
}
