//! `fleets doctor`: what is wrong between this machine, the server and the devices, and what would
//! mend it.

mod device;
mod host;
mod server;

use std::process::ExitCode;

use fleet_core::cli::choice::ServerChoice;
use fleet_core::cli::doctor::write;
use fleet_core::cli::failure::Failure;
use fleet_core::cli::listed::FormatArgs;
use fleet_core::cli::output::Output;
use fleet_core::cli::session;
use fleet_core::doctor::{AFTER, Report, environment, firewall, in_time, mdns};
use fleet_core::mdns::Options;
use fleet_core::operator::exit::Exit;

/// Where to look.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Exits with 0 if all is well, 1 if something failed, 7 if the server cannot \
    be reached or is another one."
)]
pub(super) struct DoctorArgs {
    /// A device, by id; all that are seen unless one is named
    device: Option<String>,
    /// Look for devices on this network interface only; may be repeated
    #[arg(long, value_name = "NAME")]
    interface: Vec<String>,
    #[command(flatten)]
    server: ServerChoice,
    #[command(flatten)]
    format: FormatArgs,
}

/// Runs the command.
pub(super) fn run(args: DoctorArgs) -> ExitCode {
    let format = args.format;
    let told = environment::enter();
    session::run(format, None, async |output| {
        told?;
        Box::pin(doctor(args, output)).await
    })
}

async fn doctor(args: DoctorArgs, output: &mut Output<'_>) -> Result<Exit, Failure> {
    output.progress("looking, for some seconds")?;
    let options = Options { interfaces: args.interface, ..Options::default() };
    let (server, found, walls, host) = tokio::join!(
        server::examine(&args.server),
        mdns::search(options),
        in_time(AFTER, "firewall", firewall::checks(&[firewall::MDNS])),
        in_time(AFTER, "server here", host::checks()),
    );
    let mut report = Report::default();
    let client = server.client;
    report.add("Server", server.checks);
    report.add("Discovery", [found.checks, walls].concat());
    for (id, checks) in device::checks(args.device.as_deref(), &found.instances, client).await {
        report.add(&format!("Device {id}"), checks);
    }
    report.add("This machine", host);
    output.progress("")?;
    write(&report, output)
}
