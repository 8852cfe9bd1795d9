//! `fleet-tui` without a screen: `--auto` is `fleets configure --auto`, word for word.

use std::process::Command;

use fleet_core::secret::{ApiKey, KeyKind};

use super::super::Agent;
use super::{Said, Server, ours};
use crate::lab::{Host, Lab};

const USAGE: i32 = 2;
const NOT_DONE: i32 = 3;
const NOT_ALLOWED: i32 = 4;
const NOTHING_FOUND: i32 = 5;
const UNREACHABLE: i32 = 7;

/// The same call of both programs. Fails unless they end so, with the same words.
#[track_caller]
fn both(host: &Host, args: &[&str], code: i32) -> Said {
    let call = |program: &str, first: &[&str]| {
        let mut command: Command = ours(host, program);
        Said::of(command.args(first).args(args)).exits(code)
    };
    let fleets = call("fleets", &["configure", "--auto"]);
    let console = call("fleet-tui", &["--auto"]);
    assert_eq!(console.stdout, fleets.stdout, "{args:?}");
    assert_eq!(console.stderr, fleets.stderr, "{args:?}");
    console
}

#[test]
fn auto_is_the_same_in_both_programs() {
    let mut lab = Lab::new();
    let lan = lab.lan();
    let [desk, device] = ["desk", "device"].map(|name| lab.host(name, &[&lan]));
    let server = Server::start(&desk);
    let url = server.url();
    let key = format!("@{}", server.key_file().display());
    let known = ["--server", url.as_str(), "--api-key", key.as_str()];
    let identity = server.identity().parse().expect("the server's identity");
    let wrong = ApiKey::generate(KeyKind::Operator, identity).expect("random numbers");
    let wrong = wrong.reveal();

    // Refusals, for people and for programs.
    for format in ["table", "json"] {
        let with = |args: &[&'static str]| [&known[..], args, &["-o", format]].concat();
        both(&desk, &with(&["--timeout", "1s"]), NOTHING_FOUND).explains(&["no device"]);
        let no_server = ["--server", "http://127.0.0.1:9", "--api-key", &key, "-o", format];
        both(&desk, &no_server, UNREACHABLE).explains(&["127.0.0.1:9"]);
        let wrong_key = ["--server", &url, "--api-key", &wrong, "-o", format];
        both(&desk, &wrong_key, NOT_ALLOWED).explains(&["no longer, good at the server"]);
        both(&desk, &["--server", &url, "-o", format], NOT_ALLOWED).explains(&["no key"]);
    }

    // A device that is there.
    let agent = Agent::start(&device);
    server.sees_devices(&["device"]);
    for format in ["table", "json"] {
        let with = |args: &[&'static str]| [&known[..], args, &["-o", format]].concat();
        both(&desk, &with(&["--device", "device", "--dry-run"]), 0);
        both(&desk, &with(&["--device", "device,nobody", "--dry-run", "--timeout", "1s"]), 0);
        both(&desk, &with(&["--device", "nobody", "--timeout", "1s"]), NOTHING_FOUND);
    }
    let said =
        Said::of(ours(&desk, "fleet-tui").args(["--auto", "--device", "device"]).args(known));
    assert!(said.exits(0).stdout.contains("✅ Successfully configured"));
    server.shows_online(&["device"]);
    // Both say that there is nothing left to do, and that the other one is not there.
    both(&desk, &[&known[..], &["--device", "device"]].concat(), 0);
    both(
        &desk,
        &[&known[..], &["--device", "device,nobody", "--timeout", "1s"]].concat(),
        NOT_DONE,
    );
    assert!(agent.is_running());
}

#[test]
fn without_a_terminal_there_is_no_console() {
    let mut lab = Lab::new();
    let host = lab.host("desk", &[]);
    let said = Said::of(&mut ours(&host, "fleet-tui")).exits(USAGE);
    assert_eq!(said.stderr.lines().count(), 1, "{said:#?}");
    said.explains(&["--auto", "terminal"]);
    let said = Said::of(ours(&host, "fleet-tui").arg("--dry-run")).exits(USAGE);
    said.explains(&["--dry-run goes with --auto only"]);
}
