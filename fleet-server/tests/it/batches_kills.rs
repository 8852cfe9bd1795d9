//! A batch of two hundred devices of which some fail, and a server that is killed in its midst
//! without a word: it goes on, and no device is given anything twice.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use fleet_core::identity::ServerIdentity;
use fleet_core::secret::ApiKey;
use fleet_core::wire::Outcome;
use serde_json::{Value, json};
use tokio::net::TcpStream;

use crate::batches_kit::{Deeds, deeds, lives};
use crate::server_kit::{Agent, send, wait_for};

const DEVICES: u8 = 200;
const KILLS: usize = 2;
/// Devices that have done it between two kills.
const BETWEEN: usize = 50;

/// The program itself, on a port that it keeps.
pub(crate) struct Program<'a> {
    folder: &'a Path,
    pub(crate) address: SocketAddr,
    child: Child,
}

impl<'a> Program<'a> {
    pub(crate) async fn start(folder: &'a Path, address: SocketAddr) -> Self {
        let child = Command::new(env!("CARGO_BIN_EXE_fleets"))
            .args(["server", "--bind", "127.0.0.1", "--port", &address.port().to_string()])
            .args(["--interface", "lo", "--database"])
            .arg(folder.join("data/fleet.db"))
            .env_remove("FLEETD_SERVER_CONFIG")
            .env_remove("FLEETD_LOG_LEVEL")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        wait_for("a server that answers", async || {
            folder.join("data/admin.key").exists() && TcpStream::connect(address).await.is_ok()
        })
        .await;
        Self { folder, address, child }
    }

    pub(crate) fn key(&self) -> ApiKey {
        let text = std::fs::read_to_string(self.folder.join("data/admin.key")).unwrap();
        text.trim().parse().unwrap()
    }

    fn whereabouts(&self) -> (SocketAddr, ServerIdentity) {
        (self.address, self.key().server().unwrap())
    }

    async fn ask(&self, method: &str, path: &str, body: Option<Value>) -> Value {
        let key = std::fs::read_to_string(self.folder.join("data/admin.key")).unwrap();
        let headers = [
            ("authorization", format!("Bearer {}", key.trim())),
            ("content-type", "application/json".to_owned()),
        ];
        let body = body.map(|body| body.to_string().into_bytes()).unwrap_or_default();
        let from = Ipv4Addr::LOCALHOST.into();
        let answer = send(self.address, from, method, path, &headers, body).await;
        assert!(answer.status.is_success(), "{answer:?}");
        answer.json()
    }

    /// What it answers, as text.
    pub(crate) async fn text(&self, path: &str) -> String {
        let headers = [("authorization", format!("Bearer {}", self.key().reveal().as_str()))];
        let from = Ipv4Addr::LOCALHOST.into();
        let answer = send(self.address, from, "GET", path, &headers, Vec::new()).await;
        assert!(answer.status.is_success(), "{answer:?}");
        String::from_utf8(answer.body.to_vec()).unwrap()
    }

    /// `fleets` at this server.
    pub(crate) fn fleets(&self, args: &[&str]) -> Output {
        let key = format!("@{}", self.folder.join("data/admin.key").display());
        Command::new(env!("CARGO_BIN_EXE_fleets"))
            .args(args)
            .args(["--server", &format!("http://{}", self.address), "--api-key", &key])
            .env_remove("FLEETD_LOG_LEVEL")
            .env("HOME", self.folder)
            .stdin(Stdio::null())
            .output()
            .unwrap()
    }

    /// Ends it at once.
    pub(crate) fn kill(&self) {
        let pid = nix::unistd::Pid::from_raw(i32::try_from(self.child.id()).unwrap());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
    }
}

impl Drop for Program<'_> {
    fn drop(&mut self) {
        // Both fail only when it has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// All devices come; every tenth fails at what it is told.
async fn dial_all(program: &Program<'_>, enrol: &str, did: &Deeds) {
    for number in 0..DEVICES {
        let id = format!("link-{number:03}");
        let agent = Agent::dial_at(program.whereabouts(), &id, number + 1, Some(enrol)).await;
        let fails = number % 10 == 0;
        lives(agent, if fails { Outcome::Failed } else { Outcome::Succeeded }, did);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_of_many_survives_kills_of_the_server() {
    let folder = tempfile::tempdir().unwrap();
    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
    let did = Deeds::default();
    let mut program = Program::start(folder.path(), port).await;
    let enrol = program.ask("POST", "/api/v1/keys", Some(json!({"kind": "enrol"}))).await;
    let enrol = enrol["key"].as_str().unwrap().to_owned();
    dial_all(&program, &enrol, &did).await;
    let wish = json!({"filter": "", "expect": DEVICES, "command": "restart", "window": 20,
        "max_fail": DEVICES, "timeout": "10m"});
    let batch = program.ask("POST", "/api/v1/batches", Some(wish)).await;
    let path = format!("/api/v1/batches/{}", batch["id"].as_str().unwrap());
    for kill in 1..=KILLS {
        wait_for("a part of it", async || deeds(&did).len() >= kill * BETWEEN).await;
        drop(program);
        assert!(deeds(&did).len() < usize::from(DEVICES), "it was killed in its midst");
        program = Program::start(folder.path(), port).await;
        dial_all(&program, &enrol, &did).await;
    }
    wait_for("the end of the batch", async || {
        program.ask("GET", &path, None).await["state"] == "done"
    })
    .await;
    let counts = program.ask("GET", &path, None).await["counts"].clone();
    assert_eq!(counts, json!({"succeeded": 180, "failed": 20}));
    assert_eq!(deeds(&did).len(), usize::from(DEVICES));
    let twice: Vec<_> = deeds(&did).into_iter().filter(|(_, count)| *count != 1).collect();
    assert_eq!(twice, []);
}
