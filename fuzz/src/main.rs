//! The fuzzer. Which door it tries says `FLEETD_FUZZ_TARGET`; the doors are in the packages, each
//! in a file `fuzz.rs`, and `cargo xtask fuzz` knows how to build and run this.
#![no_main]

use std::panic::{catch_unwind, set_hook};
use std::sync::{Mutex, OnceLock, PoisonError};

use libfuzzer_sys::fuzz_target;

static CHECK: OnceLock<fn(&[u8])> = OnceLock::new();
/// What the last panic said. Some are caught on purpose, so none is shown before it gets here.
static LAST_WORDS: Mutex<String> = Mutex::new(String::new());

fuzz_target!(init: choose(), |bytes: &[u8]| try_bytes(bytes));

fn choose() {
    let name = std::env::var("FLEETD_FUZZ_TARGET").expect("FLEETD_FUZZ_TARGET names a target");
    let targets =
        [fleet_core::fuzz::TARGETS, fleet_server::fuzz::TARGETS, fleet_agent::fuzz::TARGETS];
    let target = targets.concat().into_iter().find(|(known, _)| *known == name);
    let (_, check) = target.expect("there is a target of this name");
    CHECK.get_or_init(|| check);
    // In place of libFuzzer's, which would end the process at panics that are caught.
    set_hook(Box::new(|panic| {
        *LAST_WORDS.lock().unwrap_or_else(PoisonError::into_inner) = panic.to_string();
    }));
}

fn try_bytes(bytes: &[u8]) {
    let check = CHECK.get().expect("chosen at the start");
    if catch_unwind(|| check(bytes)).is_err() {
        eprintln!("{}", LAST_WORDS.lock().unwrap_or_else(PoisonError::into_inner));
        std::process::abort();
    }
}
