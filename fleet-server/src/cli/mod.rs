//! The command line: what `fleets` can be asked, and who answers.
//!
//! One file per command. Each takes its own arguments, builds the runtime it needs, writes results
//! to stdout and everything else to stderr, and ends with an exit code of its own.

mod audit;
mod backup;
mod batch;
mod batch_begin;
mod batch_retry;
mod batch_watch;
mod command;
mod command_run;
mod config;
mod context;
mod db;
mod deleted;
mod device_list;
mod device_view;
mod devices;
mod doctor;
mod events;
mod export;
mod health;
mod keys;
mod log_follow;
mod logs;
mod named;
mod newest;
mod preauths;
mod server;
mod telemetry;
mod version;

use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{CommandFactory as _, Parser, Subcommand};
use fleet_core::cli::{JUMP_BOX, configure, discover};
use fleet_core::net::logging::{self, LogLevel};
use fleet_core::release;

/// FleetD: manage a fleet of Linux devices.
#[derive(Parser)]
#[command(name = "fleets", version = release::text(), about)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    verb: Verb,
}

/// What every command understands.
#[derive(clap::Args)]
struct Global {
    /// Log in detail
    #[arg(long, global = true)]
    debug: bool,
    /// How much to log: error, warn, info, debug or trace
    #[arg(long, global = true, env = "FLEETD_LOG_LEVEL", value_name = "LEVEL", hide = true)]
    log_level: Option<LogLevel>,
}

impl Global {
    /// How much to log: `usual`, unless told otherwise.
    fn level(&self, usual: LogLevel) -> LogLevel {
        if self.debug { LogLevel::DEBUG } else { self.log_level.unwrap_or(usual) }
    }
}

#[derive(Subcommand)]
enum Verb {
    /// Run the server
    Server(server::ServeArgs),
    /// Find devices on the local network
    Discover(discover::DiscoverArgs),
    /// Find devices and bring them into the fleet
    Configure(configure::ConfigureArgs),
    /// List, name, accept and remove devices
    Devices(devices::DevicesArgs),
    /// Query and store telemetry
    Telemetry(telemetry::TelemetryArgs),
    /// Show what happened
    Events(events::EventsArgs),
    /// Show what was asked for, by whom and why, and verify that record
    Audit(audit::AuditArgs),
    /// Show the last lines of a device's log, and follow it
    Logs(logs::LogsArgs),
    /// Show and change a device's configuration
    Config(config::ConfigArgs),
    /// Have devices do something: restart, reboot, collect, logs, rotate-key, exec
    Command(command::CommandArgs),
    /// Have many devices do something, after a look at which
    BatchCommand(batch_begin::BatchCommandArgs),
    /// Change many devices' configurations, after a look at which
    BatchUpdate(batch_begin::BatchUpdateArgs),
    /// Look at batches, pause, continue, cancel and retry them
    Batch(batch::BatchArgs),
    /// Write the fleet's data to files: devices, telemetry, configurations, commands, events
    Export(export::ExportArgs),
    /// Take backups of a server, look at them, and restore one
    Backup(backup::BackupArgs),
    /// Look at the server's database, and keep less in it
    Db(db::DbArgs),
    /// Make, list and revoke keys
    Keys(keys::KeysArgs),
    /// Name the servers you work with, and choose among them
    Context(context::ContextArgs),
    /// Find out what is wrong between this machine, the server and the devices
    Doctor(doctor::DoctorArgs),
    /// Ask whether the server is well
    Health(health::HealthArgs),
    /// Show which release this is
    Version(version::VersionArgs),
}

/// The whole command line, for manuals and completions.
pub fn command() -> clap::Command {
    Cli::command()
}

/// Runs the command that this process was started with.
pub fn run() -> ExitCode {
    let Cli { global, verb } = Cli::parse();
    if matches!(verb, Verb::Server(_)) && std::env::var_os(JUMP_BOX).is_some() {
        Cli::command().error(ErrorKind::InvalidSubcommand, "no server is started from here").exit();
    }
    // A server knows where its log goes.
    if !matches!(verb, Verb::Server(_)) {
        logging::start(global.level(LogLevel::WARN));
    }
    match verb {
        Verb::Server(args) => server::run(args, global.level(LogLevel::INFO)),
        Verb::Discover(args) => discover::run(args),
        Verb::Configure(args) => configure::run(args),
        Verb::Devices(args) => devices::run(args),
        Verb::Telemetry(args) => telemetry::run(args),
        Verb::Events(args) => events::run(args),
        Verb::Audit(args) => audit::run(args),
        Verb::Logs(args) => logs::run(args),
        Verb::Config(args) => config::run(args),
        Verb::Command(args) => command::run(args),
        Verb::BatchCommand(args) => batch_begin::run_command(args),
        Verb::BatchUpdate(args) => batch_begin::run_update(args),
        Verb::Batch(args) => batch::run(args),
        Verb::Export(args) => export::run(args),
        Verb::Backup(args) => backup::run(args),
        Verb::Db(args) => db::run(args),
        Verb::Keys(args) => keys::run(args),
        Verb::Context(args) => context::run(args),
        Verb::Doctor(args) => doctor::run(args),
        Verb::Health(args) => health::run(args),
        Verb::Version(args) => version::run(args),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn calls_of_the_documentation_are_understood() {
        for call in [
            "fleets discover",
            "fleets configure --server http://your-server:8080",
            "fleets configure --server http://your-server:8080 --auto --api-key your-api-key",
            "fleets configure --server http://server:8080 --debug",
            "fleets devices -o json",
            "fleets devices list --filter cpu>90 --sort -cpu --columns device,cpu --no-headers -o csv",
            "fleets devices --filter tag:canary -o wide",
            "fleets --debug devices list --limit 5 --json",
            "fleets keys create --enrol --uses 3 --expires 30d",
            "fleets config get rpi4-001 --version 3 -o json",
            "fleets config set rpi4-001 telemetry_interval=30 --comment why --expected-version 3",
            "fleets config set rpi4-001 --config {} --no-wait",
            "fleets config set rpi4-001 --file - --expect 3",
            "fleets config history rpi4-001 --limit 5",
            "fleets config diff rpi4-001",
            "fleets config diff rpi4-001 2 3 --json",
            "fleets config rollback rpi4-001 --to 2 --yes --comment why",
            "fleets config unset rpi4-001 telemetry.interval",
            "fleets config layers -o json",
            "fleets config set --layer fleet telemetry.interval=60s --dry-run",
            "fleets config set rpi4-001 telemetry.interval=60s --dry-run",
            "fleets config set --layer tag:canary --config {} --yes --expect 3",
            "fleets config get --layer tag:canary --version 2",
            "fleets config history --layer fleet",
            "fleets config diff --layer fleet 1 2",
            "fleets config rollback --layer fleet --to 1 --yes --expect 3",
            "fleets config unset --layer fleet telemetry.metrics",
            "fleets devices tag rpi4-001 +canary -old",
            "fleets context set prod --server https://fleet.example --api-key-file prod.key",
            "fleets events --device rpi4-001 --kind device.offline,config --since 1h --limit 20",
            "fleets audit --device rpi4-001 --action device --actor ci --since 1h --limit 20 -o wide",
            "fleets audit verify -o json",
            "fleets audit verify --database /var/lib/fleetd/fleet.db",
            "fleets devices delete rpi4-001 --yes --reason stolen",
            "fleets devices revoke rpi4-001 --reason stolen",
            "fleets logs rpi4-001",
            "fleets logs rpi4-001 -u nginx -f --since 10m --grep timeout --level warn -n 50 -o jsonl",
            "fleets command run rpi4-001 restart nginx --yes",
            "fleets command run rpi4-001 reboot --expires 1h --timeout 5m --no-wait",
            "fleets command run rpi4-001 logs -u nginx -n 50 -o json",
            "fleets command run rpi4-001 --yes exec -- df -h /",
            "fleets command list --device rpi4-001 --state open,failed --limit 5",
            "fleets command show 018d0d0a-0000-7000-8000-000000000001 --timeout 5s",
            "fleets command cancel 018d0d0a-0000-7000-8000-000000000001 --wait 1s --json",
            "fleets batch-command --filter status=offline --command restart",
            "fleets batch-command --filter tag:canary --command exec --yes --expect 3 -- df -h /",
            "fleets batch-command --filter cpu>90 --command collect --window 20 --canary 5 --dry-run",
            "fleets batch-update --filter type=raspberrypi --config update.json",
            "fleets batch-update --filter type=raspberrypi --config - --max-fail 3 --no-wait --json",
            "fleets batch list --limit 5",
            "fleets batch show 018d0d0a-0000-7000-8000-000000000001 --failed -o json",
            "fleets batch pause 018d0d0a-0000-7000-8000-000000000001",
            "fleets batch continue 018d0d0a-0000-7000-8000-000000000001 --timeout 5s",
            "fleets batch cancel 018d0d0a-0000-7000-8000-000000000001",
            "fleets batch retry 018d0d0a-0000-7000-8000-000000000001 --no-wait",
            "fleets batch retry 00000001 --yes --expect 2",
            "fleets batch-command --all --command collect --dry-run",
            "fleets batch-update --all --config {} --dry-run",
            "fleets export sqlite --out export.sqlite",
            "fleets export csv --out folder --from 7d --server http://your-server:8080",
            "fleets export csv --table telemetry --out -",
            "fleets export ndjson --out - --table devices,events --timeout 1h",
            "fleets export sqlite --out export.sqlite --force --database /var/lib/fleetd/fleet.db",
            "fleets db stats -o json",
            "fleets db prune --before 90d --yes",
            "fleets db compact --json",
            "fleets backup create",
            "fleets backup create --out /backups --server http://your-server:8080 --timeout 1h",
            "fleets backup create --out fleet.backup --database /var/lib/fleetd/fleet.db",
            "fleets backup verify fleet.backup --json",
            "fleets backup restore fleet.backup --database /var/lib/fleetd/fleet.db",
            "fleets context show --origin",
            "fleets doctor",
            "fleets doctor rpi4-001 --server http://your-server:8080 -o json",
            "fleets health --server http://your-server:8080 -o json",
            "fleets server --user fleet-server",
            "fleets server --user 1000:1000",
            "fleets context use prod",
            "fleets devices --context prod",
        ] {
            let parsed = Cli::try_parse_from(call.split(' '));
            assert!(
                parsed.is_ok(),
                "{call}: {}",
                parsed.err().map_or_else(String::new, |e| e.to_string())
            );
        }
        let help = Cli::try_parse_from(["fleets", "help"]).map(|_| ()).unwrap_err();
        assert_eq!(help.kind(), clap::error::ErrorKind::DisplayHelp);
        for call in [
            "fleets",
            "fleets devices --json -o csv",
            "fleets configure --auto --select 1",
            "fleets command run rpi4-001",
            "fleets command show 1",
            "fleets batch-command --command restart",
            "fleets batch-command --all --filter cpu>90 --command restart",
            "fleets batch-update --filter status=offline",
            "fleets batch show",
            "fleets config get",
            "fleets config get rpi4-001 --layer fleet",
            "fleets config get --layer tag:",
            "fleets config set --layer fleet a=1 --no-wait",
            "fleets config rollback rpi4-001",
            "fleets export sqlite",
            "fleets export sqlite --out x --database y --server z",
            "fleets export csv --out x --table keys",
            "fleets backup restore x",
            "fleets backup create --database y --server z",
            "fleets server --user a/b",
        ] {
            assert!(Cli::try_parse_from(call.split(' ')).is_err(), "{call}");
        }
    }
}
