//! Bits that flip in the files of telemetry while nobody looks: what is read is right, or absent
//! and told of.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use fleet_core::disk::Disk as _;
use fleet_core::disk::sim::{Dice, SimDisk};
use fleet_core::id::Uid;
use fleet_server::store::{
    CurvesAsked, DeviceStore as _, Keep, MetaStore as _, Query, RedbStore, StoreHealth,
    TelemetryStore as _,
};

use crate::store_kit::{device, query, report, time};

/// Flips unless `FLEETD_TEST_FLIPS` says otherwise.
const FLIPS: u64 = 400;
const DEVICES: u8 = 3;
/// Reports of each device that are in the log alone, and those that are in chunks.
const LOGGED: i64 = 40;
const SEALED: i64 = 300;
const BETWEEN: i64 = 60_000;
