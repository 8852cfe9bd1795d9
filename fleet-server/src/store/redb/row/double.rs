//! The row of a device that seems to be there twice.

use std::net::{IpAddr, Ipv6Addr};

use bincode::{Decode, Encode};
use fleet_core::api::DoubleSign;
use fleet_core::identity::PublicKey;
use fleet_core::time::Timestamp;

use crate::store::DoubleRecord;

#[derive(Debug, PartialEq, Encode, Decode)]
pub(in crate::store::redb) struct DoubleRow {
    key: [u8; 32],
    since_millis: i64,
    last_millis: i64,
    /// As IPv6 has them.
    addresses: [[u8; 16]; 2],
    sign: SignRow,
}

#[derive(Debug, PartialEq, Encode, Decode)]
enum SignRow {
    Links,
    Reports,
}

impl From<DoubleRecord> for DoubleRow {
    fn from(double: DoubleRecord) -> Self {
        let octets = |address| match address {
            IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
            IpAddr::V6(v6) => v6.octets(),
        };
        Self {
            key: double.key.bytes(),
            since_millis: double.since.millis(),
            last_millis: double.last.millis(),
            addresses: double.addresses.map(octets),
            sign: match double.sign {
                DoubleSign::Links => SignRow::Links,
                DoubleSign::Reports => SignRow::Reports,
            },
        }
    }
}

impl DoubleRow {
    pub(in crate::store::redb) fn into_double(self) -> DoubleRecord {
        DoubleRecord {
            key: PublicKey::from_bytes(self.key),
            since: Timestamp::from_millis(self.since_millis),
            last: Timestamp::from_millis(self.last_millis),
            addresses: self
                .addresses
                .map(|octets| IpAddr::V6(Ipv6Addr::from(octets)).to_canonical()),
            sign: match self.sign {
                SignRow::Links => DoubleSign::Links,
                SignRow::Reports => DoubleSign::Reports,
            },
        }
    }
}
