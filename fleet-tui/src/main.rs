//! `fleet-tui`: the operator's console.

use std::process::ExitCode;

use fleet_core::mdns;
use fleet_core::operator::client::Client;
use fleet_core::operator::keyfile;
use fleet_core::untrusted::Untrusted;
use fleet_tui::console;
use fleet_tui::state::Settings;
use fleet_tui::terminal::caps::Caps;
use fleet_tui::theme::ThemeName;

fn main() -> ExitCode {
    let env = |name: &str| std::env::var_os(name);
    let url = std::env::var("FLEETD_SERVER").expect("a server");
    let found = keyfile::find(None, &env, None, &mut std::io::stdin().lock()).expect("a key");
    let client = Client::new(url.parse().expect("a url"), found.key).expect("a client");
    let options = console::Options {
        client,
        contexts: Box::new(|_| Err("no contexts".to_owned())),
        settings: Settings {
            server: url,
            user: Untrusted::from("alice@jump1"),
            ..Settings::default()
        },
        filter: None,
        interfaces: mdns::Options { interfaces: vec!["lo".to_owned()], address: None },
        caps: Caps::from_env(&env, &Default::default()),
        theme: ThemeName::Default,
        refresh: None,
        report_folder: std::env::temp_dir(),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    match runtime.block_on(console::run(options)) {
        Ok(code) => code.into(),
        Err(error) => panic!("{error}"),
    }
}
