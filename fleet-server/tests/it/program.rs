//! The program itself: what it prints, how it ends.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

fn command(folder: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fleets"));
    command
        .arg("server")
        .args(args)
        .env("FLEETD_PORT", "0")
        .env("FLEETD_BIND", "127.0.0.1")
        .env("FLEETD_DATABASE", folder.join("data/fleet.db"))
        .env_remove("FLEETD_SERVER_CONFIG")
        .env_remove("FLEETD_LOG_LEVEL")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

fn run(folder: &Path, args: &[&str]) -> Output {
    command(folder, args).output().unwrap()
}

/// A running server and what it said at its start.
fn start(folder: &Path, args: &[&str]) -> (Child, Vec<String>) {
    let mut child = command(folder, args).spawn().unwrap();
    let lines = BufReader::new(child.stdout.as_mut().unwrap()).lines();
    let mut said = Vec::new();
    for line in lines {
        said.push(line.unwrap());
        if said.last().unwrap().contains("admin key") {
            break;
        }
    }
    (child, said)
}

fn signal(child: &Child, signal: Signal) {
    kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), signal).unwrap();
}

fn end(child: &mut Child) -> Option<i32> {
    let start = Instant::now();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status.code();
        }
        if start.elapsed() > Duration::from_secs(20) {
            child.kill().unwrap();
            panic!("the server did not end");
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn it_says_where_it_is_and_stops_when_told() {
    let folder = tempfile::tempdir().unwrap();
    let (mut child, said) =
        start(folder.path(), &["--secret-key", "hush-hush-hush-hush", "--debug"]);
    let text = said.join("\n");
    for part in ["http://127.0.0.1:", "/api/v1/", "FD1-", "data/fleet.db", "data/admin.key"] {
        assert!(text.contains(part), "{part} in {text}");
    }
    signal(&child, Signal::SIGTERM);
    assert_eq!(end(&mut child), Some(0));
    let mut log = String::new();
    child.stderr.take().unwrap().read_to_string(&mut log).unwrap();
    assert!(!log.contains("hush-hush") && log.contains("stopping"), "{log}");
}

#[test]
fn it_can_be_stopped_before_it_was_heard() {
    let folder = tempfile::tempdir().unwrap();
    // A full pipe: the server cannot get rid of what it has to say.
    let (reader, mut full) = std::io::pipe().unwrap();
    fcntl(&full, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).unwrap();
    while full.write(&[b'.'; 4096]).is_ok() {}
    fcntl(&full, FcntlArg::F_SETFL(OFlag::empty())).unwrap();
    let mut child = command(folder.path(), &[]).stdout(full).spawn().unwrap();
    let start = Instant::now();
    while !folder.path().join("data/admin.key").exists() {
        assert!(start.elapsed() < Duration::from_secs(20), "the server does not start");
        std::thread::sleep(Duration::from_millis(10));
    }
    signal(&child, Signal::SIGTERM);
    drop(reader);
    assert_eq!(end(&mut child), Some(0));
}

#[test]
fn what_it_cannot_do_is_one_sentence_and_an_exit_code() {
    let folder = tempfile::tempdir().unwrap();
    let yaml = folder.path().join("server.yaml");
    let config = yaml.to_str().unwrap();
    for (contents, args, code, part) in [
        (
            "prot: 1\n",
            vec!["--config", config],
            78,
            "line 1, column 1: unknown key \"prot\"; did you mean port?",
        ),
        (
            "",
            vec!["--config", "/nonexistent/server.yaml"],
            78,
            "/nonexistent/server.yaml does not exist",
        ),
        ("", vec!["--database", "postgres://u:p@h/fleetd"], 78, "names PostgreSQL"),
        ("", vec!["--public-url", "fleet"], 78, "not a server URL"),
        ("", vec!["--port", "99999"], 2, "99999"),
    ] {
        std::fs::write(&yaml, contents).unwrap();
        let output = run(folder.path(), &args);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{args:?}: {said}");
        assert!(said.contains(part), "{said}");
        assert!(output.stdout.is_empty(), "stdout is for results");
        assert!(code == 2 || said.lines().count() == 1, "{said}");
    }
    assert!(!folder.path().join("data").exists(), "nothing was written");
}

#[test]
fn a_database_has_one_server() {
    let folder = tempfile::tempdir().unwrap();
    let (mut child, _) = start(folder.path(), &[]);
    let second = run(folder.path(), &[]);
    let said = String::from_utf8(second.stderr).unwrap();
    assert_eq!(second.status.code(), Some(1), "{said}");
    assert!(said.contains("in use by another fleets server"), "{said}");
    signal(&child, Signal::SIGINT);
    assert_eq!(end(&mut child), Some(0));
}

#[test]
fn a_log_that_cannot_be_written_stops_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let mut child = command(folder.path(), &[]).stderr(full).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.as_mut().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().contains("admin key")));
    signal(&child, Signal::SIGTERM);
    assert_eq!(end(&mut child), Some(0));
}
