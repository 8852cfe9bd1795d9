//! `fleetd health`: whether the agent works, whatever its device stands like. For whatever has to know
//! that and nothing else.

use super::{FAILED, Failure, Place, local, print};

pub(super) fn run(place: &Place) -> Result<u8, Failure> {
    match local::ask(&local::folders(place))? {
        Some(_) => print("ok\n"),
        None => Err(Failure { code: FAILED, error: anyhow::anyhow!("the agent is not running") }),
    }
}
