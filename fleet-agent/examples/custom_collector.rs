//! A measurement of one's own: implement `Collector`, add it to the agent's `Sampler`.
//!
//! Run it with `cargo run -p fleet-agent --example custom_collector`.
#![expect(clippy::print_stdout, reason = "the example shows what was measured")]

use std::error::Error;
use std::fs;
use std::time::Instant;

use fleet_agent::collect::{Batch, CollectError, Collector, Sampler};
use fleet_agent::sys::SysRoot;

/// Counts the files that wait in a folder.
struct Waiting {
    folder: &'static str,
}

impl Collector for Waiting {
    fn name(&self) -> &'static str {
        "waiting"
    }

    fn metrics(&self) -> &'static [&'static str] {
        &["waiting_files"]
    }

    fn collect(&mut self, batch: &mut Batch<'_>) -> Result<(), CollectError> {
        let files =
            fs::read_dir(self.folder).map_err(|error| CollectError::Custom(error.into()))?;
        batch.push("waiting_files", files.count() as f64);
        Ok(())
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut sampler = Sampler::new(&SysRoot::real());
    sampler.add(Box::new(Waiting { folder: "/tmp" }))?;

    let selection = sampler.select(&["waiting_files".to_owned(), "load".to_owned()])?;
    for sample in sampler.collect(Instant::now(), &selection).samples {
        println!("{} {}", sample.name, sample.value);
    }
    Ok(())
}
