//! Simulates devices on links of their own, and prints as JSON what came of it. `cargo xtask bench`
//! runs it:
//!
//! ```text
//! link_load reports URL KEYFILE PID LINKS SECONDS   reports as fast as the server takes them
//! link_load enrol   URL KEYFILE PID LINKS           makes the devices known, and leaves
//! link_load fleet   URL KEYFILE PID LINKS           a fleet that comes, is commanded, and leaves
//! link_load mqtt    ADDRESS CERTIFICATE LINKS       as many clients that come to an MQTT broker
//! ```
//!
//! Each device does what the agent does, with its journal in memory. They are ordinary devices that
//! an enrolment key lets in.

mod device;
mod fleet;
mod mqtt;
mod reports;

use std::io::{self, Write as _};
use std::time::Duration;

use anyhow::{Context as _, bail};
use fleet_core::operator::client::Client;

/// The server that the devices belong to.
struct Server {
    client: Client,
    pid: u32,
}

impl Server {
    fn new(url: &str, key: &str, pid: &str) -> anyhow::Result<Self> {
        let key = std::fs::read_to_string(key).with_context(|| format!("cannot read {key}"))?;
        let client = Client::new(url.parse()?, key.trim().parse()?)?;
        Ok(Self { client, pid: pid.parse()? })
    }
}

fn main() -> anyhow::Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let figures = runtime.block_on(async {
        match args.as_slice() {
            ["reports", url, key, pid, links, secs] => {
                let server = Server::new(url, key, pid)?;
                reports::run(&server, links.parse()?, Duration::from_secs(secs.parse()?)).await
            }
            ["enrol", url, key, pid, links] => {
                fleet::enrol(&Server::new(url, key, pid)?, links.parse()?).await
            }
            ["fleet", url, key, pid, links] => {
                fleet::run(&Server::new(url, key, pid)?, links.parse()?).await
            }
            ["mqtt", address, certificate, links] => {
                mqtt::run(address.parse()?, certificate.as_ref(), links.parse()?).await
            }
            _ => bail!("link_load reports|enrol|fleet|mqtt …, as its source says"),
        }
    })?;
    writeln!(io::stdout(), "{figures}")?;
    Ok(())
}
