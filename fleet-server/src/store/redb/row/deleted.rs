//! How a deleted device stood before, beside its row.

use bincode::{Decode, Encode};
use fleet_core::time::Timestamp;

use super::device::AdmissionRow;
use crate::store::Device;

#[derive(Debug, PartialEq, Encode, Decode)]
pub(in crate::store::redb) struct DeletedRow {
    state: AdmissionRow,
    reason: String,
    since_millis: i64,
}

impl DeletedRow {
    /// How a device stands.
    pub(in crate::store::redb) fn of(device: &Device) -> Self {
        Self {
            state: device.state.into(),
            reason: device.state_reason.clone(),
            since_millis: device.state_at.millis(),
        }
    }

    /// The device, standing so again.
    pub(in crate::store::redb) fn restore(self, device: Device) -> Device {
        Device {
            state: self.state.into(),
            state_reason: self.reason,
            state_at: Timestamp::from_millis(self.since_millis),
            ..device
        }
    }
}
