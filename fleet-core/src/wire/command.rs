//! Commands on the link.
//!
//! ```text
//! server → ToAgent::Command          an order, signed
//! agent  → ToServer::Command         accepted, which is on its disk; running; done
//! server → ToAgent::CommandNoted     what is done is on its own
//! ```
//!
//! Until it hears the last, the agent says what is done again at every connection.

use bincode::{Decode, Encode};

use crate::identity::{PrivateKey, PublicKey};

/// An order to a device, signed by the server because the device keeps it.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct CommandOrder {
    /// Its number, given once.
    pub id: [u8; 16],
    /// The command's word.
    pub word: String,
    /// Its arguments.
    pub args: Vec<String>,
    /// When it is too late to begin, by the server's clock, in milliseconds since 1970.
    pub expires_millis: i64,
    /// How long from now until then. A device's clock may be wrong, and this is what it goes by.
    pub expires_in_millis: u64,
    /// How long it may run.
    pub timeout_millis: u64,
    /// The server's signature over all but `expires_in_millis`, and over the device.
    pub signature: [u8; 64],
}

impl CommandOrder {
    /// The order with the server's signature for one device.
    #[must_use]
    pub fn signed(mut self, uid: [u8; 16], server: &PrivateKey) -> Self {
        self.signature = server.sign(&self.message(uid));
        self
    }

    /// Whether the server signed it for this device.
    pub fn is_signed(&self, uid: [u8; 16], server: PublicKey) -> bool {
        server.verify(&self.message(uid), &self.signature)
    }

    fn message(&self, uid: [u8; 16]) -> Vec<u8> {
        let Self { id, word, args, expires_millis, timeout_millis, .. } = self;
        let mut message = b"FleetD command v1\0".to_vec();
        message.extend(uid);
        message.extend(id);
        message.extend(expires_millis.to_le_bytes());
        message.extend(timeout_millis.to_le_bytes());
        for text in std::iter::once(word).chain(args) {
            message.extend((text.len() as u64).to_le_bytes());
            message.extend(text.as_bytes());
        }
        message
    }
}

/// How far a command has come on the device.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct CommandNews {
    /// Which.
    pub id: [u8; 16],
    /// How far.
    pub progress: Progress,
}

/// How far a command has come.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Progress {
    /// The device will do it.
    Accepted,
    /// It is at it.
    Running,
    /// That is over.
    Done(CommandResult),
}

/// What became of a command.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct CommandResult {
    /// How it ended.
    pub outcome: Outcome,
    /// Why, or what was done, in words.
    pub detail: String,
    /// The code that its program ended with.
    pub exit_code: Option<i32>,
    /// What its program wrote, as far as it is kept.
    pub output: Vec<u8>,
    /// How many bytes of that were not kept.
    pub left_out_bytes: u64,
}

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Outcome {
    /// It was done.
    Succeeded,
    /// It was not, or not well.
    Failed,
    /// It came too late.
    Expired,
    /// It was taken back before the device began.
    Cancelled,
    /// The device was interrupted and cannot tell.
    Unknown,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_is_for_one_device_and_what_it_says() {
        let server = PrivateKey::from_seed(&[7; 32]);
        let order = CommandOrder {
            id: [1; 16],
            word: "exec".to_owned(),
            args: vec!["a".to_owned(), "bc".to_owned()],
            expires_millis: 5,
            expires_in_millis: 3,
            timeout_millis: 9,
            signature: [0; 64],
        };
        let order = order.signed([2; 16], &server);
        assert!(order.is_signed([2; 16], server.public()));
        // What is left of the time is different each time that the order is sent.
        assert!(
            CommandOrder { expires_in_millis: 2, ..order.clone() }
                .is_signed([2; 16], server.public())
        );
        assert!(!order.is_signed([3; 16], server.public()));
        for altered in [
            CommandOrder { id: [3; 16], ..order.clone() },
            CommandOrder { word: "exe".to_owned(), ..order.clone() },
            CommandOrder { args: vec!["ab".to_owned(), "c".to_owned()], ..order.clone() },
            CommandOrder { args: vec!["a".to_owned()], ..order.clone() },
            CommandOrder { expires_millis: 6, ..order.clone() },
            CommandOrder { timeout_millis: 8, ..order.clone() },
        ] {
            assert!(!altered.is_signed([2; 16], server.public()), "{altered:?}");
        }
    }
}
