//! The server on this very machine, if it keeps its data here.

use std::fs;
use std::path::Path;

use clap::Parser;
use fleet_core::Chain;
use fleet_core::doctor::{Check, bytes, host};

use crate::config::{ServerArgs, ServerConfig};
use crate::keyring;
use crate::store::{BALLAST_FILE, TELEMETRY_FOLDER};

const CONFIG: &str = "settings";
const DATABASE: &str = "database";
const SECRETS: &str = "key files";
/// The unit of the packages.
const UNIT: &str = "fleet-server";
/// The secret, where systemd has it.
const CREDENTIAL: &str = "/etc/credstore/fleetd-secret-key";
/// Whoever is neither the server's user nor of its group.
const OTHERS: u32 = 0o007;
/// Files of telemetry that are counted.
const FILES_MAX: usize = 200_000;

/// What a server here would be told.
#[derive(Parser)]
struct Told {
    #[command(flatten)]
    args: ServerArgs,
}

/// Looks at the server's settings, its data, its unit and its log.
pub(super) async fn checks() -> Vec<Check> {
    let told = Told::try_parse_from(["fleets"]);
    let config = match told.map(|told| ServerConfig::resolve(told.args)) {
        Ok(Ok(config)) => config,
        Ok(Err(error)) => {
            let check = Check::failed(CONFIG, Chain(&error).to_string());
            return vec![check.fix("sudoedit /etc/fleetd/server.yaml")];
        }
        Err(error) => {
            let text = error.to_string();
            let first = text.lines().next().unwrap_or_default().to_owned();
            return vec![Check::failed(CONFIG, first).fix("env | grep FLEETD_")];
        }
    };
    let folder = config.database.parent().unwrap_or(Path::new("/"));
    if !folder.exists() {
        let text = format!("no server keeps its data in {}", folder.display());
        return vec![Check::skipped("server here", text)];
    }
    let mut checks = vec![
        Check::ok(CONFIG, format!("port {}, data {}", config.port, config.database.display())),
        host::folder(folder, OTHERS, "sudo fleets doctor"),
        secrets(folder, config.secret_key.is_some() || Path::new(CREDENTIAL).exists()),
        database(&config.database),
        host::room(folder, "df -h; fleets db prune --before 30d; fleets db compact"),
    ];
    let (unit, journal) = tokio::join!(host::unit(UNIT), host::journal(UNIT));
    checks.extend([unit, host::log_file("server.log", "fleets server"), journal]);
    checks
}

/// Looks at the key files, of a server that was told its secret or has it there.
fn secrets(folder: &Path, has_secret: bool) -> Check {
    let open = keyring::open_to_others(folder);
    let open: Vec<_> = open.iter().map(|path| path.display().to_string()).collect();
    if !open.is_empty() {
        let open = open.join(" ");
        return Check::failed(SECRETS, format!("others can read {open}"))
            .fix(format!("sudo chmod 600 {open}"));
    }
    let strange = keyring::of_other_owners(folder);
    let strange: Vec<_> = strange.iter().map(|path| path.display().to_string()).collect();
    if !strange.is_empty() {
        let strange = strange.join(" ");
        let fix = format!("sudo chown --reference={} {strange}", folder.display());
        return Check::failed(SECRETS, format!("the folder's owner does not own {strange}"))
            .fix(fix);
    }
    match keyring::lacks_secret(folder) {
        Some(missing) if !has_secret => {
            let text = format!("{} is missing, and opens srv.key", missing.display());
            Check::warning(SECRETS, text).fix("put it back, or give the server --secret-key")
        }
        _ => Check::ok(SECRETS, "closed to others"),
    }
}

/// How large it is, and what takes the room.
fn database(path: &Path) -> Check {
    let file = match fs::metadata(path) {
        Ok(found) => found.len(),
        Err(error) => {
            return Check::skipped(DATABASE, format!("{}: {error}", path.display()));
        }
    };
    let telemetry = size_of(&path.with_file_name(TELEMETRY_FOLDER));
    let ballast = fs::metadata(path.with_file_name(BALLAST_FILE)).map_or(0, |found| found.len());
    Check::ok(
        DATABASE,
        format!(
            "{}: devices, events and the like {}, telemetry {}, held back for a full disk {}",
            bytes(file + telemetry + ballast),
            bytes(file),
            bytes(telemetry),
            bytes(ballast)
        ),
    )
}

fn size_of(folder: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(folder) else { return 0 };
    let files = entries.flatten().take(FILES_MAX);
    files.filter_map(|entry| entry.metadata().ok()).map(|found| found.len()).sum()
}
