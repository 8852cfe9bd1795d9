//! An operator at a desk: `fleets`, a server of one's own, and a home without anything in it.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use crate::server_kit::{Agent, Rig};

/// A server with its devices, and an operator with a home of their own.
pub(crate) struct Desk {
    pub(crate) rig: Rig,
    pub(crate) agents: Vec<Agent>,
    pub(crate) url: String,
}

/// What a call printed, and how it ended.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Desk {
    pub(crate) async fn new() -> Self {
        let rig = Rig::start_patient().await;
        let url = format!("http://{}", rig.address());
        Self { rig, agents: Vec::new(), url }
    }

    /// The server again, after something was done to its database.
    pub(crate) async fn restart(&mut self, meanwhile: impl AsyncFnOnce(&Path)) {
        self.agents.clear();
        self.rig.restart_patient(meanwhile).await;
        self.url = format!("http://{}", self.rig.address());
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.rig.folder.path().join(name)
    }

    pub(crate) fn key_file(&self) -> String {
        self.rig.server().admin_path().to_str().unwrap().to_owned()
    }

    /// `fleets` with no word about the server but what the contexts say.
    pub(crate) fn bare(&self, args: &[&str]) -> Said {
        Said::of(&self.bare_command(args).output().unwrap())
    }

    pub(crate) fn bare_command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_fleets"));
        for (variable, _) in std::env::vars_os() {
            if variable.to_string_lossy().starts_with("FLEETD_") {
                command.env_remove(variable);
            }
        }
        let home = self.path("home");
        command.env("HOME", &home).env_remove("XDG_CONFIG_HOME").env_remove("XDG_STATE_HOME");
        command.args(args).stdin(Stdio::null());
        command
    }

    /// `fleets` with this server and its key.
    pub(crate) fn fleets(&self, args: &[&str]) -> Said {
        Said::of(&self.command(args).output().unwrap())
    }

    /// The same, not yet started.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let key = format!("@{}", self.key_file());
        self.bare_command(&[args, &["--server", &self.url, "--api-key", &key]].concat())
    }

    /// A device of the fleet that has reported.
    pub(crate) async fn add(&mut self, id: &str, cpu: f64, tags: &str) {
        let seed = u8::try_from(self.agents.len() + 1).unwrap();
        let mut agent = self.rig.enrolled(id, seed).await;
        agent.report(1, &[1], cpu).await;
        self.agents.push(agent);
        self.fleets(&["devices", "set", id, &format!("tags={tags}")]).ends(0);
    }
}

impl Said {
    pub(crate) fn of(output: &Output) -> Self {
        Self {
            code: output.status.code(),
            out: String::from_utf8(output.stdout.clone()).unwrap(),
            err: String::from_utf8(output.stderr.clone()).unwrap(),
        }
    }

    #[track_caller]
    pub(crate) fn ends(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{self:#?}");
        self
    }

    /// Fails unless it failed so, saying this, with nothing on stdout.
    #[track_caller]
    pub(crate) fn refuses(self, code: i32, words: &[&str]) {
        let said = self.ends(code);
        for word in words {
            assert!(said.err.contains(word), "not said: {word:?} in {said:#?}");
        }
        assert_eq!(said.out, "", "a failure has no result");
    }
}
