//! Where things are unless a flag says otherwise. A root process uses the system's places, an
//! ordinary user's their own.

use std::env;
use std::path::PathBuf;

use crate::config;
use crate::sys::SysRoot;

/// The data folder of an agent that runs as a service.
const SYSTEM_DATA: &str = "/var/lib/fleetd-agent";

/// The data folder of this user's agent.
pub fn data_dir() -> PathBuf {
    if nix::unistd::geteuid().is_root() { PathBuf::from(SYSTEM_DATA) } else { user_data_dir() }
}

/// Where an agent of this machine may be running: this user's, then the service's.
pub fn data_dirs() -> Vec<PathBuf> {
    let mut dirs = vec![data_dir()];
    let system = PathBuf::from(SYSTEM_DATA);
    if !dirs.contains(&system) {
        dirs.push(system);
    }
    dirs
}

/// The configuration file: an ordinary user's own, if there is one, else the machine's.
pub fn config_file(root: &SysRoot) -> PathBuf {
    let own = home_folder("XDG_CONFIG_HOME", ".config").map(|dir| dir.join("fleetd/config.yaml"));
    let own =
        own.filter(|file| root.is_real() && !nix::unistd::geteuid().is_root() && file.exists());
    own.unwrap_or_else(|| root.path(config::PATH_DEFAULT))
}

/// The policy file. There is one on a machine, its owner's; a user cannot choose another.
pub fn policy_file(root: &SysRoot) -> PathBuf {
    root.path(config::policy::PATH_DEFAULT)
}

/// The key that claimers must know, if the policy asks for it; as the policy, the owner's.
pub fn claim_key_file(root: &SysRoot) -> PathBuf {
    root.path(config::claim_key::PATH)
}

fn user_data_dir() -> PathBuf {
    let state = home_folder("XDG_STATE_HOME", ".local/state");
    state.map_or_else(|| PathBuf::from(SYSTEM_DATA), |dir| dir.join("fleetd/agent"))
}

/// A folder of the XDG base directories; a relative one in the environment does not count.
fn home_folder(variable: &str, below_home: &str) -> Option<PathBuf> {
    let named = env::var_os(variable).map(PathBuf::from).filter(|path| path.is_absolute());
    named.or_else(|| {
        let home = env::var_os("HOME").map(PathBuf::from).filter(|path| path.is_absolute());
        home.map(|home| home.join(below_home))
    })
}
