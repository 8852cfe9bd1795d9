//! A device's new key on the link.
//!
//! ```text
//! agent  → ToServer::NewKey          a new key, on its own disk by then; both keys sign
//! server → ToAgent::NewKeyNoted      from now on it takes either, or why it does not
//! agent  begins anew with the new key
//! ```
//!
//! The server lets the old key go when the device has come with the new one.

use bincode::{Decode, Encode};

use crate::identity::{PrivateKey, PublicKey};

/// A key that a device is to have from now on.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct NewKey {
    /// The command that asked for it.
    pub command: [u8; 16],
    /// The key.
    pub device_pub: [u8; 32],
    /// The signature of the key that it has.
    pub by_old: [u8; 64],
    /// The signature of the new one.
    pub by_new: [u8; 64],
}

impl NewKey {
    /// A new key, signed by itself and by the one before, for one device of one server.
    pub fn sign(
        command: [u8; 16],
        (uid, server): ([u8; 16], PublicKey),
        old: &PrivateKey,
        new: &PrivateKey,
    ) -> Self {
        let message = Self::message(command, (uid, server), old.public(), new.public());
        let (by_old, by_new) = (old.sign(&message), new.sign(&message));
        Self { command, device_pub: new.public().bytes(), by_old, by_new }
    }

    /// Whether both keys signed this for the device.
    pub fn is_signed(&self, uid: [u8; 16], server: PublicKey, old: PublicKey) -> bool {
        let new = PublicKey::from_bytes(self.device_pub);
        let message = Self::message(self.command, (uid, server), old, new);
        old.verify(&message, &self.by_old) && new.verify(&message, &self.by_new)
    }

    fn message(
        command: [u8; 16],
        (uid, server): ([u8; 16], PublicKey),
        old: PublicKey,
        new: PublicKey,
    ) -> Vec<u8> {
        let purpose = b"FleetD new key v1\0".as_slice();
        let keys = [server, old, new].map(PublicKey::bytes);
        [purpose, &command, &uid, keys.as_flattened()].concat()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_key_is_for_one_device_and_both_keys_say_so() {
        let [old, new, server] = [1, 2, 3].map(|seed| PrivateKey::from_seed(&[seed; 32]));
        let for_whom = ([9; 16], server.public());
        let offer = NewKey::sign([7; 16], for_whom, &old, &new);
        assert!(offer.is_signed([9; 16], server.public(), old.public()));
        assert!(!offer.is_signed([8; 16], server.public(), old.public()));
        assert!(!offer.is_signed([9; 16], old.public(), old.public()));
        assert!(!offer.is_signed([9; 16], server.public(), server.public()));
        for altered in [
            NewKey { command: [6; 16], ..offer.clone() },
            NewKey { device_pub: server.public().bytes(), ..offer.clone() },
            NewKey { by_old: offer.by_new, ..offer.clone() },
            NewKey { by_new: offer.by_old, ..offer.clone() },
        ] {
            assert!(!altered.is_signed([9; 16], server.public(), old.public()), "{altered:?}");
        }
    }
}
